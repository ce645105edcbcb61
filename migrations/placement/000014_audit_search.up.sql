-- More ways to find entries: by the app of a user, the place the user was at, by
-- rare interactions and by failures. An index is for what few entries have;
-- what most have is found by going through the trail itself.
--
-- The indexes of entries that were there before are made here, so this step
-- reads the trail once for each, and nothing is added to it meanwhile.
ALTER TABLE {{schema}}.audit
    ADD COLUMN client integer,
    ADD COLUMN site   integer;
CREATE INDEX audit_client      ON {{schema}}.audit (tenant_id, client, seq)      WHERE client IS NOT NULL;
CREATE INDEX audit_site        ON {{schema}}.audit (tenant_id, site, seq)        WHERE site <> 0;
CREATE INDEX audit_outcome     ON {{schema}}.audit (tenant_id, outcome, seq)     WHERE outcome <> 0;
CREATE INDEX audit_interaction ON {{schema}}.audit (tenant_id, interaction, seq) WHERE interaction <> 1 AND interaction <> 10;
CREATE INDEX audit_older       ON {{schema}}.audit (tenant_id, seq)              WHERE site IS NULL;

COMMENT ON COLUMN {{schema}}.audit.client IS 'Keyed hash of the app, where agent is its user. Other apps may have the same: the sealed part decides.';
COMMENT ON COLUMN {{schema}}.audit.site   IS 'Keyed hash of the place that the user was at, as client is one. 0: none is known; NULL: of a release that did not keep client and site here, nor maybe purpose.';
