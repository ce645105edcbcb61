ALTER TABLE {{schema}}.tenant
    DROP COLUMN settings,
    DROP COLUMN settings_version;
