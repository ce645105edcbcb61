-- What operators ask of the search index of a tenant, and how far the servers
-- say that the work on it is. Neither plane reaches into the other's tables: the
-- control plane sees no index, and the servers take no orders but these.
CREATE TABLE {{schema}}.index_work (
    tenant_id   integer     PRIMARY KEY REFERENCES {{schema}}.tenant (id),
    request     bigint      NOT NULL DEFAULT 0,
    types       text[]      NOT NULL DEFAULT '{}',
    reported    jsonb,
    reported_at timestamptz
);
COMMENT ON TABLE  {{schema}}.index_work          IS 'Requests to make the search index again, and reports of the work on it.';
COMMENT ON COLUMN {{schema}}.index_work.request  IS 'Counts the requests; 0: none.';
COMMENT ON COLUMN {{schema}}.index_work.types    IS 'The types that the last request is about; empty: all.';
COMMENT ON COLUMN {{schema}}.index_work.reported IS 'How far the work is: search parameters of the tenant, and the last request.';

GRANT SELECT, INSERT (tenant_id, reported, reported_at), UPDATE (reported, reported_at) ON {{schema}}.index_work TO {{app}};
