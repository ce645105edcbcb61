-- The audit trail as a Merkle log. A role of its own numbers the entries once
-- they are committed, tenant by tenant, and keeps the hashes. What it adds to is
-- append only, as the trail is; its place in the trail is the one thing that it
-- changes.
--
-- tx is the transaction that added an entry. Which transactions had ended tells
-- exactly which entries were seen: none that commits late is missed.
ALTER TABLE {{schema}}.audit ADD COLUMN tx bigint NOT NULL DEFAULT 0;
ALTER TABLE {{schema}}.audit ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX audit_tx ON {{schema}}.audit (tenant_id, tx, seq);
COMMENT ON COLUMN {{schema}}.audit.tx IS 'The transaction that added the entry, in this cluster; 0: before there was a log.';

CREATE TABLE {{schema}}.audit_leaf (
    leaf      bigint  NOT NULL CHECK (leaf >= 0),
    seq       bigint  NOT NULL,
    tenant_id integer NOT NULL,
    hash      bytea   NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, leaf),
    UNIQUE (tenant_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
COMMENT ON TABLE  {{schema}}.audit_leaf      IS 'The entries of the trail in the order of the log. Append only.';
COMMENT ON COLUMN {{schema}}.audit_leaf.leaf IS 'Counted from 0, without gaps.';
COMMENT ON COLUMN {{schema}}.audit_leaf.seq  IS 'The entry.';
COMMENT ON COLUMN {{schema}}.audit_leaf.hash IS 'SHA-256 of 0 and the record of the entry.';

CREATE TABLE {{schema}}.audit_node (
    n         bigint   NOT NULL CHECK (n >= 0),
    tenant_id integer  NOT NULL,
    level     smallint NOT NULL CHECK (level > 0 AND level % 8 = 0),
    hash      bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, level, n)
);
COMMENT ON TABLE {{schema}}.audit_node IS 'Hashes of the log above the leaves: those of levels 8, 16 and so on. Append only.';

CREATE TABLE {{schema}}.audit_log (
    tenant_id  integer  NOT NULL PRIMARY KEY,
    size       bigint   NOT NULL DEFAULT 0,
    tx         bigint   NOT NULL DEFAULT -1,
    seq        bigint   NOT NULL DEFAULT 0,
    pending    bigint[] NOT NULL DEFAULT '{}',
    checkpoint text     NOT NULL DEFAULT ''
);
COMMENT ON TABLE  {{schema}}.audit_log            IS 'How far the log of each tenant has come.';
COMMENT ON COLUMN {{schema}}.audit_log.size       IS 'The number of leaves.';
COMMENT ON COLUMN {{schema}}.audit_log.tx         IS 'Entries of transactions before it have been seen, but for those of pending; of it, those up to seq.';
COMMENT ON COLUMN {{schema}}.audit_log.pending    IS 'Transactions up to tx that had not ended.';
COMMENT ON COLUMN {{schema}}.audit_log.checkpoint IS 'The last one that was signed; empty: none.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit_node
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON {{schema}}.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();

GRANT USAGE ON SCHEMA {{schema}} TO {{log}};
GRANT EXECUTE ON FUNCTION {{schema}}.tenant() TO {{log}};

CREATE POLICY audit_number ON {{schema}}.audit FOR SELECT TO {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT ON {{schema}}.audit TO {{log}};

ALTER TABLE {{schema}}.audit_leaf ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.audit_leaf FORCE  ROW LEVEL SECURITY;
CREATE POLICY audit_leaf_select ON {{schema}}.audit_leaf FOR SELECT TO {{app}}, {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_leaf_insert ON {{schema}}.audit_leaf FOR INSERT TO {{log}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT ON {{schema}}.audit_leaf TO {{app}};
GRANT SELECT, INSERT ON {{schema}}.audit_leaf TO {{log}};

ALTER TABLE {{schema}}.audit_node ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.audit_node FORCE  ROW LEVEL SECURITY;
CREATE POLICY audit_node_select ON {{schema}}.audit_node FOR SELECT TO {{app}}, {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_node_insert ON {{schema}}.audit_node FOR INSERT TO {{log}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT ON {{schema}}.audit_node TO {{app}};
GRANT SELECT, INSERT ON {{schema}}.audit_node TO {{log}};

ALTER TABLE {{schema}}.audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.audit_log FORCE  ROW LEVEL SECURITY;
CREATE POLICY audit_log_select ON {{schema}}.audit_log FOR SELECT TO {{app}}, {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_log_insert ON {{schema}}.audit_log FOR INSERT TO {{log}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_log_update ON {{schema}}.audit_log FOR UPDATE TO {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()))
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT ON {{schema}}.audit_log TO {{app}};
GRANT SELECT, INSERT, UPDATE ON {{schema}}.audit_log TO {{log}};
