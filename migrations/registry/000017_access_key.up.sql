-- Keys that sign access tokens after the one that each tenant is made with.
CREATE TABLE {{schema}}.access_key (
    tenant_id   integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    fingerprint bytea       NOT NULL UNIQUE,
    kek         text        NOT NULL,
    data        bytea       NOT NULL,
    alone       boolean     NOT NULL,
    created     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, fingerprint)
);
COMMENT ON TABLE  {{schema}}.access_key             IS 'ECDSA keys that sign access tokens, ES256. The youngest that all servers know signs.';
COMMENT ON COLUMN {{schema}}.access_key.fingerprint IS 'Tells equal keys, and nothing else about them.';
COMMENT ON COLUMN {{schema}}.access_key.data        IS 'The private key, wrapped; opens only for this tenant.';
COMMENT ON COLUMN {{schema}}.access_key.alone       IS 'The keys before it are believed no more.';

GRANT SELECT, INSERT, DELETE ON {{schema}}.access_key TO {{app}};
