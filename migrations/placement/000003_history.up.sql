-- Past versions of resources, deletions too; the newest is in resource. Nothing
-- changes or removes one.
CREATE TABLE {{schema}}.history (
    rid       bigint      NOT NULL,
    updated   timestamptz NOT NULL,
    tenant_id integer     NOT NULL,
    version   integer     NOT NULL,
    type      smallint    NOT NULL,
    deleted   boolean     NOT NULL,
    id        text        COLLATE "C" NOT NULL,
    body      bytea       NOT NULL,
    PRIMARY KEY (tenant_id, rid, version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
ALTER TABLE {{schema}}.history ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX history_updated ON {{schema}}.history (tenant_id, type, updated, rid, version);

COMMENT ON TABLE  {{schema}}.history      IS 'Each past version of each resource, kept as it was.';
COMMENT ON COLUMN {{schema}}.history.body IS 'As in resource; empty for a deletion.';

ALTER TABLE {{schema}}.history ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.history FORCE  ROW LEVEL SECURITY;
CREATE POLICY history_select ON {{schema}}.history FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY history_insert ON {{schema}}.history FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT ON {{schema}}.history TO {{app}};
