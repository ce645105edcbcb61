-- The current version of every resource. Eight-byte columns come first, so
-- that no tuple is padded; tenant_id leads every key all the same.
CREATE TABLE {{schema}}.resource (
    rid       bigint      NOT NULL,
    present   bigint      NOT NULL,
    updated   timestamptz NOT NULL,
    ts        timestamptz NOT NULL DEFAULT '-infinity',
    te        timestamptz,
    tenant_id integer     NOT NULL,
    version   integer     NOT NULL,
    type      smallint    NOT NULL,
    deleted   boolean     NOT NULL,
    id        text        COLLATE "C" NOT NULL,
    body      bytea       NOT NULL,
    PRIMARY KEY (tenant_id, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE {{schema}}.resource ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX resource_ts      ON {{schema}}.resource (tenant_id, type, ts, rid) WHERE NOT deleted;
CREATE INDEX resource_updated ON {{schema}}.resource (tenant_id, type, updated, rid);

COMMENT ON TABLE  {{schema}}.resource         IS 'The current version of each resource, also of deleted ones.';
COMMENT ON COLUMN {{schema}}.resource.rid     IS 'Keyed hash of Type/id: what the index tables call the resource, also as the target of references. Never shown outside.';
COMMENT ON COLUMN {{schema}}.resource.present IS 'A set of bits: what the resource has, for :missing.';
COMMENT ON COLUMN {{schema}}.resource.type    IS 'The number of the resource type.';
COMMENT ON COLUMN {{schema}}.resource.updated IS 'meta.lastUpdated.';
COMMENT ON COLUMN {{schema}}.resource.ts      IS 'When the main clinical date begins, by which results are sorted; -infinity if there is none.';
COMMENT ON COLUMN {{schema}}.resource.te      IS 'When it ends; null if the resource has no value of the first of the elements that date its type. Not in idx_date, since it is here.';
COMMENT ON COLUMN {{schema}}.resource.version IS 'meta.versionId.';
COMMENT ON COLUMN {{schema}}.resource.body    IS 'JSON, compressed, then sealed under the tenant''s key; so PostgreSQL need not try to compress it.';

ALTER TABLE {{schema}}.resource ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.resource FORCE  ROW LEVEL SECURITY;
CREATE POLICY resource_select ON {{schema}}.resource FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY resource_insert ON {{schema}}.resource FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY resource_update ON {{schema}}.resource FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()))
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE ON {{schema}}.resource TO {{app}};
