-- The outbox: one row for each stored version, in the commit that stores it.
-- Who follows it in order of seq must stop below the oldest running
-- transaction, for which xid is kept: a lower seq may still commit.
CREATE TABLE {{schema}}.change (
    seq       bigint      NOT NULL,
    rid       bigint      NOT NULL,
    xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
    updated   timestamptz NOT NULL,
    tenant_id integer     NOT NULL,
    version   integer     NOT NULL,
    type      smallint    NOT NULL,
    op        "char"      NOT NULL,
    PRIMARY KEY (tenant_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

COMMENT ON TABLE  {{schema}}.change     IS 'What changed, in order, for the history of the system, subscriptions and incremental export.';
COMMENT ON COLUMN {{schema}}.change.xid IS 'The transaction that made the change.';
COMMENT ON COLUMN {{schema}}.change.op  IS 'c create, u update, d delete.';

ALTER TABLE {{schema}}.change ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.change FORCE  ROW LEVEL SECURITY;
CREATE POLICY change_select ON {{schema}}.change FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY change_insert ON {{schema}}.change FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT ON {{schema}}.change TO {{app}};
