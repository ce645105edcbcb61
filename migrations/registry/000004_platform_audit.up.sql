-- What happened outside any tenant: acts of operators, and requests that no
-- tenant's trail can hold, such as those without a valid token.
CREATE TABLE {{schema}}.platform_audit (
    seq         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded    timestamptz NOT NULL,
    interaction text        NOT NULL,
    outcome     smallint    NOT NULL,
    status      integer     NOT NULL,
    reason      text        NOT NULL,
    request_id  text        NOT NULL,
    address     text        NOT NULL,
    method      text        NOT NULL,
    server      text        NOT NULL,
    client      text        NOT NULL,
    fhir_user   text        NOT NULL,
    issuer      text        NOT NULL,
    token_id    text        NOT NULL
);
COMMENT ON TABLE  {{schema}}.platform_audit         IS 'The audit trail of what belongs to no tenant. Append only; the columns are those of a tenant''s trail.';
COMMENT ON COLUMN {{schema}}.platform_audit.reason  IS 'What was done or why it was refused, in words that hold no patient.';
COMMENT ON COLUMN {{schema}}.platform_audit.client  IS 'The operator or client, if known.';
COMMENT ON COLUMN {{schema}}.platform_audit.outcome IS 'AuditEvent.outcome: 0, 4, 8 or 12.';

CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.platform_audit
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
GRANT INSERT ON {{schema}}.platform_audit TO {{app}};
