-- Authorization servers that tenants trust instead of the one they have here.
-- https://www.rfc-editor.org/rfc/rfc9068
CREATE SEQUENCE {{schema}}.outside_issuer_version;
CREATE TABLE {{schema}}.outside_issuer (
    tenant_id integer     PRIMARY KEY REFERENCES {{schema}}.tenant (id),
    version   bigint      NOT NULL,
    issuer    text        COLLATE "C" NOT NULL,
    audience  text        COLLATE "C",
    config    jsonb       NOT NULL,
    secret    bytea,
    created   timestamptz NOT NULL DEFAULT now(),
    updated   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (issuer, audience)
);
COMMENT ON TABLE  {{schema}}.outside_issuer          IS 'The authorization server outside of Cordon that a tenant trusts instead of its own.';
COMMENT ON COLUMN {{schema}}.outside_issuer.version  IS 'Another one after each change, also after it was removed: what was believed before is looked at anew.';
COMMENT ON COLUMN {{schema}}.outside_issuer.audience IS 'What its tokens are for; NULL: the FHIR base of the tenant. No two tenants share one, so that no token is good at both.';
COMMENT ON COLUMN {{schema}}.outside_issuer.config   IS 'Algorithms, clients and what its claims mean.';
COMMENT ON COLUMN {{schema}}.outside_issuer.secret   IS 'What proves us at its introspection endpoint, wrapped by the key management service; NULL: it is not asked.';

GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.outside_issuer TO {{app}};
GRANT USAGE ON SEQUENCE {{schema}}.outside_issuer_version TO {{app}};
