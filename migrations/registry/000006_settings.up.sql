-- What operators choose for a tenant, such as how strictly it validates.
ALTER TABLE {{schema}}.tenant
    ADD COLUMN settings         jsonb  NOT NULL DEFAULT '{}',
    ADD COLUMN settings_version bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN {{schema}}.tenant.settings         IS 'What operators chose for it; empty: the defaults.';
COMMENT ON COLUMN {{schema}}.tenant.settings_version IS 'Counts the changes of settings.';
