-- The platform's audit trail as a Merkle log: as that of a tenant is, in tables
-- of the same shape, whose tenant has the number 0.
ALTER TABLE {{schema}}.platform_audit ADD COLUMN tx bigint NOT NULL DEFAULT 0;
ALTER TABLE {{schema}}.platform_audit ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX platform_audit_tx ON {{schema}}.platform_audit (tx, seq);
COMMENT ON COLUMN {{schema}}.platform_audit.tx IS 'The transaction that added the entry, in this cluster; 0: before there was a log.';

CREATE TABLE {{schema}}.audit_leaf (
    leaf      bigint  NOT NULL CHECK (leaf >= 0),
    seq       bigint  NOT NULL,
    tenant_id integer NOT NULL CHECK (tenant_id = 0),
    hash      bytea   NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, leaf),
    UNIQUE (tenant_id, seq)
);
CREATE TABLE {{schema}}.audit_node (
    n         bigint   NOT NULL CHECK (n >= 0),
    tenant_id integer  NOT NULL CHECK (tenant_id = 0),
    level     smallint NOT NULL CHECK (level > 0 AND level % 8 = 0),
    hash      bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, level, n)
);
CREATE TABLE {{schema}}.audit_log (
    tenant_id  integer  NOT NULL PRIMARY KEY CHECK (tenant_id = 0),
    size       bigint   NOT NULL DEFAULT 0,
    tx         bigint   NOT NULL DEFAULT -1,
    seq        bigint   NOT NULL DEFAULT 0,
    pending    bigint[] NOT NULL DEFAULT '{}',
    checkpoint text     NOT NULL DEFAULT ''
);
COMMENT ON TABLE {{schema}}.audit_leaf IS 'The entries of platform_audit in the order of the log. Append only.';
COMMENT ON TABLE {{schema}}.audit_node IS 'Hashes of the log above the leaves. Append only.';
COMMENT ON TABLE {{schema}}.audit_log  IS 'How far the log has come; the columns are those of a tenant''s.';

CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit_node
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();

GRANT USAGE ON SCHEMA {{schema}} TO {{log}};
GRANT SELECT                 ON {{schema}}.platform_audit TO {{log}};
GRANT SELECT, INSERT         ON {{schema}}.audit_leaf     TO {{log}};
GRANT SELECT, INSERT         ON {{schema}}.audit_node     TO {{log}};
GRANT SELECT, INSERT, UPDATE ON {{schema}}.audit_log      TO {{log}};

-- The keys that sign the checkpoints. Only the owner makes one: who can write to
-- the registry as a server cannot sign for a key of its own.
CREATE TABLE {{schema}}.log_key (
    tenant_id integer     NOT NULL PRIMARY KEY,
    verifier  text        NOT NULL,
    kek       text        NOT NULL,
    data      bytea       NOT NULL,
    created   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  {{schema}}.log_key           IS 'The keys that sign the checkpoints of the audit trails; of 0, that of the platform.';
COMMENT ON COLUMN {{schema}}.log_key.verifier  IS 'The public key, as in https://pkg.go.dev/golang.org/x/mod/sumdb/note.';
COMMENT ON COLUMN {{schema}}.log_key.kek       IS 'The URI of the key that wraps data.';
COMMENT ON COLUMN {{schema}}.log_key.data      IS 'The private key, wrapped.';
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.log_key
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
GRANT SELECT ON {{schema}}.log_key TO {{app}};

ALTER TABLE {{schema}}.tenant ADD COLUMN log_dsn bytea;
COMMENT ON COLUMN {{schema}}.tenant.log_dsn IS 'Mode database: the same as dsn, for the role that makes a log of the audit trail. Sealed.';
