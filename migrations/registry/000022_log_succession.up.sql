-- The keys of audit logs after their first, which stays in log_key: each is named by
-- the one before it, which signs that. A server of a release that does not know the
-- table signs with the first; those that do refuse to go on from that.
CREATE TABLE {{schema}}.log_succession (
    tenant_id integer     NOT NULL,
    number    integer     NOT NULL CHECK (number > 0),
    said      text        NOT NULL,
    kek       text        NOT NULL,
    data      bytea       NOT NULL,
    made      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, number)
);
COMMENT ON TABLE  {{schema}}.log_succession        IS 'The keys that sign the checkpoints of the audit trails after the first; of 0, that of the platform.';
COMMENT ON COLUMN {{schema}}.log_succession.number IS 'How many keys were before.';
COMMENT ON COLUMN {{schema}}.log_succession.said   IS 'That it is the next one, since when, and until when the one before counts: signed by that.';
COMMENT ON COLUMN {{schema}}.log_succession.kek    IS 'The URI of the key that wraps data.';
COMMENT ON COLUMN {{schema}}.log_succession.data   IS 'The private key, wrapped.';
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.log_succession
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
GRANT SELECT ON {{schema}}.log_succession TO {{app}};
