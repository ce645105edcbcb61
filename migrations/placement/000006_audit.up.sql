-- The audit trail. Entries are added by the server's role, in the commit that
-- they are about, and by a role that adds those of many tenants at once and
-- can read none. Nobody changes or removes one: not the owner either, unless
-- the trigger is dropped first, which is what an event trigger or the
-- statement log shows.
CREATE TABLE {{schema}}.audit (
    seq         bigint      NOT NULL,
    recorded    timestamptz NOT NULL,
    parent      bigint,
    agent       bigint,
    patient     bigint,
    entity      bigint,
    tenant_id   integer     NOT NULL,
    version     integer,
    interaction smallint    NOT NULL,
    outcome     smallint    NOT NULL,
    type        smallint,
    sealed      bytea       NOT NULL,
    PRIMARY KEY (tenant_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
ALTER TABLE {{schema}}.audit ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX audit_agent   ON {{schema}}.audit (tenant_id, agent, seq)   WHERE agent   IS NOT NULL;
CREATE INDEX audit_patient ON {{schema}}.audit (tenant_id, patient, seq) WHERE patient IS NOT NULL;
CREATE INDEX audit_entity  ON {{schema}}.audit (tenant_id, entity, seq)  WHERE entity  IS NOT NULL;

COMMENT ON TABLE  {{schema}}.audit             IS 'Who did what, when, and with what outcome. Append only.';
COMMENT ON COLUMN {{schema}}.audit.seq         IS 'Names the entry: the id of its AuditEvent.';
COMMENT ON COLUMN {{schema}}.audit.parent      IS 'seq of the entry of the request that this one is a part of.';
COMMENT ON COLUMN {{schema}}.audit.agent       IS 'Keyed hash of who asked.';
COMMENT ON COLUMN {{schema}}.audit.patient     IS 'Keyed hash of the patient whose record it was.';
COMMENT ON COLUMN {{schema}}.audit.entity      IS 'Keyed hash of what was read or written.';
COMMENT ON COLUMN {{schema}}.audit.version     IS 'The version of the entity.';
COMMENT ON COLUMN {{schema}}.audit.interaction IS 'The number of the interaction.';
COMMENT ON COLUMN {{schema}}.audit.outcome     IS 'AuditEvent.outcome: 0, 4, 8 or 12.';
COMMENT ON COLUMN {{schema}}.audit.sealed      IS 'The rest of the entry, sealed under the tenant''s key for its audit trail.';

CREATE FUNCTION {{schema}}.append_only() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append only' USING ERRCODE = '42501';
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.append_only() FROM PUBLIC;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();

ALTER TABLE {{schema}}.audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.audit FORCE  ROW LEVEL SECURITY;
CREATE POLICY audit_select ON {{schema}}.audit FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_insert ON {{schema}}.audit FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_append ON {{schema}}.audit FOR INSERT TO {{audit}}
    WITH CHECK (true);
GRANT SELECT, INSERT ON {{schema}}.audit TO {{app}};
GRANT INSERT ON {{schema}}.audit TO {{audit}};
