-- The OAuth clients of each tenant, and the assertions that they have used.
-- https://datatracker.ietf.org/doc/html/rfc7523
CREATE TABLE {{schema}}.client (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id        text        COLLATE "C" NOT NULL,
    name      text        NOT NULL,
    jwks      bytea       NOT NULL,
    scopes    text[]      NOT NULL,
    fhir_user text        NOT NULL,
    patient   text        NOT NULL,
    purpose   text        NOT NULL,
    disabled  boolean     NOT NULL,
    created   timestamptz NOT NULL DEFAULT now(),
    updated   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE  {{schema}}.client           IS 'Who may ask for access tokens of a tenant.';
COMMENT ON COLUMN {{schema}}.client.jwks      IS 'Its public keys.';
COMMENT ON COLUMN {{schema}}.client.scopes    IS 'The SMART scopes that it may be granted.';
COMMENT ON COLUMN {{schema}}.client.fhir_user IS 'The user it acts for; empty: none.';
COMMENT ON COLUMN {{schema}}.client.patient   IS 'The logical id of the patient it is bound to; empty: none.';
COMMENT ON COLUMN {{schema}}.client.purpose   IS 'The purpose of use that its tokens state.';

CREATE TABLE {{schema}}.assertion (
    tenant_id integer     NOT NULL,
    client    text        COLLATE "C" NOT NULL,
    jti       bytea       NOT NULL,
    expires   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, client, jti)
);
CREATE INDEX assertion_expires ON {{schema}}.assertion (expires);
COMMENT ON TABLE  {{schema}}.assertion     IS 'The client assertions that were used, until they expire: none is accepted twice.';
COMMENT ON COLUMN {{schema}}.assertion.jti IS 'SHA-256 of the jti.';

GRANT SELECT, INSERT, UPDATE ON {{schema}}.client    TO {{app}};
GRANT SELECT, INSERT, DELETE ON {{schema}}.assertion TO {{app}};
