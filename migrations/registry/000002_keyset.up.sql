-- The keys of the tenants, wrapped by the key management service. The unique
-- fingerprint refuses a key that another tenant or class already has.
CREATE TABLE {{schema}}.keyset (
    tenant_id   integer NOT NULL REFERENCES {{schema}}.tenant (id),
    class       text    NOT NULL,
    kek         text    NOT NULL,
    data        bytea   NOT NULL,
    fingerprint bytea   NOT NULL UNIQUE,
    PRIMARY KEY (tenant_id, class)
);
COMMENT ON TABLE  {{schema}}.keyset             IS 'The keys of each tenant, by class of data.';
COMMENT ON COLUMN {{schema}}.keyset.kek         IS 'The URI of the key that wraps data.';
COMMENT ON COLUMN {{schema}}.keyset.data        IS 'The wrapped key; opens only for this tenant and class.';
COMMENT ON COLUMN {{schema}}.keyset.fingerprint IS 'Tells equal keys, and nothing else about them.';

GRANT SELECT ON {{schema}}.keyset TO {{app}};
