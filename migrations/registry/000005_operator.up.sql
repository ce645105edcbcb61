-- Who may use the control API. An operator proves who it is with a signature;
-- nothing here opens anything.
CREATE TABLE {{schema}}.operator (
    id       text        COLLATE "C" PRIMARY KEY,
    name     text        NOT NULL,
    jwk      bytea       NOT NULL,
    disabled boolean     NOT NULL,
    created  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  {{schema}}.operator     IS 'The operators of the control plane. Only the owner adds one.';
COMMENT ON COLUMN {{schema}}.operator.jwk IS 'The public key.';

CREATE TABLE {{schema}}.operator_token (
    operator text        COLLATE "C" NOT NULL,
    jti      bytea       NOT NULL,
    expires  timestamptz NOT NULL,
    PRIMARY KEY (operator, jti)
);
CREATE INDEX operator_token_expires ON {{schema}}.operator_token (expires);
COMMENT ON TABLE  {{schema}}.operator_token     IS 'The tokens that operators have used, until they expire: none is accepted twice.';
COMMENT ON COLUMN {{schema}}.operator_token.jti IS 'SHA-256 of the jti.';

GRANT SELECT                 ON {{schema}}.operator       TO {{app}};
GRANT SELECT, INSERT, DELETE ON {{schema}}.operator_token TO {{app}};
