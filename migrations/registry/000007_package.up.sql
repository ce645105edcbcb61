-- Packages of definitions, and which tenants have which. They are published
-- documents without clinical data. The content is kept once, however many
-- tenants have it, and no tenant learns of another's.
-- https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
CREATE TABLE {{schema}}.package (
    hash         bytea       PRIMARY KEY CHECK (length(hash) = 32),
    name         text        COLLATE "C" NOT NULL,
    version      text        COLLATE "C" NOT NULL,
    canonical    text        NOT NULL,
    dependencies jsonb       NOT NULL,
    contents     jsonb       NOT NULL,
    packed       bytea       NOT NULL,
    packed_hash  bytea       NOT NULL CHECK (length(packed_hash) = 32),
    created      timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE {{schema}}.package ALTER COLUMN packed SET STORAGE EXTERNAL;
COMMENT ON TABLE  {{schema}}.package              IS 'The content of the packages that some tenant has.';
COMMENT ON COLUMN {{schema}}.package.hash         IS 'SHA-256 of the file that was installed.';
COMMENT ON COLUMN {{schema}}.package.canonical    IS 'The URL of its implementation guide; empty: it has none.';
COMMENT ON COLUMN {{schema}}.package.dependencies IS 'The versions of the packages that it needs, by name.';
COMMENT ON COLUMN {{schema}}.package.contents     IS 'How many definitions of each type it has.';
COMMENT ON COLUMN {{schema}}.package.packed       IS 'Its definitions without their prose, compressed.';
COMMENT ON COLUMN {{schema}}.package.packed_hash  IS 'SHA-256 of packed.';

CREATE TABLE {{schema}}.tenant_package (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    name      text        COLLATE "C" NOT NULL,
    version   text        COLLATE "C" NOT NULL,
    hash      bytea       NOT NULL REFERENCES {{schema}}.package (hash),
    installed timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name, version)
);
CREATE INDEX tenant_package_hash ON {{schema}}.tenant_package (hash);
COMMENT ON TABLE {{schema}}.tenant_package IS 'Which packages each tenant has.';

ALTER TABLE {{schema}}.tenant ADD COLUMN packages bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN {{schema}}.tenant.packages IS 'Counts the changes of which packages it has.';

-- Servers read; operators change, as the owner.
GRANT SELECT ON {{schema}}.package, {{schema}}.tenant_package TO {{app}};
