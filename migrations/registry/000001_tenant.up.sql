-- The tenants: which there are, where each one's rows lie, and the secrets that
-- open the place, sealed by the key management service. No clinical data.
CREATE TABLE {{schema}}.tenant (
    id             integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug           text        COLLATE "C" NOT NULL UNIQUE,
    name           text        NOT NULL,
    mode           text        NOT NULL CHECK (mode IN ('shared', 'schema', 'database')),
    status         text        NOT NULL CHECK (status IN ('provisioning', 'active', 'suspended')),
    region         text        NOT NULL,
    policy_version bigint      NOT NULL DEFAULT 1,
    schema         text        NOT NULL DEFAULT '',
    role           text        NOT NULL DEFAULT '',
    kek            text        NOT NULL,
    dsn            bytea,
    audit_dsn      bytea,
    signer         bytea,
    schema_version integer     NOT NULL DEFAULT 0,
    schema_error   text        NOT NULL DEFAULT '',
    created        timestamptz NOT NULL DEFAULT now(),
    updated        timestamptz NOT NULL DEFAULT now(),
    CHECK (status = 'provisioning' OR (schema <> '' AND signer IS NOT NULL)),
    CHECK (status = 'provisioning' OR mode <> 'database' OR (dsn IS NOT NULL AND audit_dsn IS NOT NULL))
);
COMMENT ON TABLE  {{schema}}.tenant                IS 'The tenants. A row is never removed, so no id and no slug is given twice.';
COMMENT ON COLUMN {{schema}}.tenant.slug           IS 'Its name in URLs. Never changes.';
COMMENT ON COLUMN {{schema}}.tenant.name           IS 'Its name for people.';
COMMENT ON COLUMN {{schema}}.tenant.region         IS 'Where its data may be processed.';
COMMENT ON COLUMN {{schema}}.tenant.policy_version IS 'Counts the changes of its access policy.';
COMMENT ON COLUMN {{schema}}.tenant.schema         IS 'The schema of its tables.';
COMMENT ON COLUMN {{schema}}.tenant.role           IS 'What a transaction becomes before it touches the tables; empty: the login role stays.';
COMMENT ON COLUMN {{schema}}.tenant.kek            IS 'The URI of the key that seals dsn, audit_dsn and signer.';
COMMENT ON COLUMN {{schema}}.tenant.dsn            IS 'Mode database: where its database is and the credentials for it. Sealed.';
COMMENT ON COLUMN {{schema}}.tenant.audit_dsn      IS 'The same for the role that only adds to the audit trail. Sealed.';
COMMENT ON COLUMN {{schema}}.tenant.signer         IS 'The secret that signs its number for the database. Sealed.';
COMMENT ON COLUMN {{schema}}.tenant.schema_version IS 'The migration that its tables are at.';
COMMENT ON COLUMN {{schema}}.tenant.schema_error   IS 'Why the last migration of its tables failed; empty: it did not.';

CREATE FUNCTION {{schema}}.kept() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are kept', TG_TABLE_NAME USING ERRCODE = '42501';
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.kept() FROM PUBLIC;
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.tenant
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();

GRANT USAGE ON SCHEMA {{schema}} TO {{app}};
GRANT SELECT ON {{schema}}.tenant TO {{app}};
