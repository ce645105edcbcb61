-- What a tenant's own search parameters add to the index, and the work on the
-- index that goes on beside the writes. A generation says what writes put into
-- the index: a write that goes by an old one is run again.
CREATE TABLE {{schema}}.index_generation (
    tenant_id  integer NOT NULL PRIMARY KEY,
    generation bigint  NOT NULL
);
CREATE TABLE {{schema}}.index_job (
    tenant_id integer NOT NULL,
    name      text    COLLATE "C" NOT NULL,
    state     "char"  NOT NULL,
    from_rid  bigint  NOT NULL DEFAULT -9223372036854775808,
    done      bigint  NOT NULL DEFAULT 0,
    of        bigint  NOT NULL DEFAULT 0,
    sealed    bytea   NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

COMMENT ON TABLE  {{schema}}.index_generation IS 'Which set of search parameters the index of a tenant is written by. Without a row it is 0.';
COMMENT ON TABLE  {{schema}}.index_job           IS 'Search parameters of the tenant in the index, and the index made again.';
COMMENT ON COLUMN {{schema}}.index_job.name      IS 'The print of the search parameter, or "all" for the index made again.';
COMMENT ON COLUMN {{schema}}.index_job.state     IS 'b is being built, r is ready, d is being removed.';
COMMENT ON COLUMN {{schema}}.index_job.from_rid  IS 'Resources before it are done.';
COMMENT ON COLUMN {{schema}}.index_job.done      IS 'How many are.';
COMMENT ON COLUMN {{schema}}.index_job.of        IS 'How many there were at the beginning.';
COMMENT ON COLUMN {{schema}}.index_job.sealed    IS 'The definition, sealed under the tenant''s key.';

ALTER TABLE {{schema}}.index_generation ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.index_generation FORCE  ROW LEVEL SECURITY;
CREATE POLICY index_generation_select ON {{schema}}.index_generation FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_generation_insert ON {{schema}}.index_generation FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_generation_update ON {{schema}}.index_generation FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()))
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE ON {{schema}}.index_generation TO {{app}};

ALTER TABLE {{schema}}.index_job ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.index_job FORCE  ROW LEVEL SECURITY;
CREATE POLICY index_job_select ON {{schema}}.index_job FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_job_insert ON {{schema}}.index_job FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_job_update ON {{schema}}.index_job FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()))
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_job_delete ON {{schema}}.index_job FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.index_job TO {{app}};

-- Volatile: it sees what committed before the statement that calls it, so that
-- a transaction whose check passed is known to have begun before the next
-- generation was there. Who makes the next one waits for those.
CREATE FUNCTION {{schema}}.hold_generation(expected bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce((SELECT g.generation FROM {{schema}}.index_generation g WHERE g.tenant_id = {{schema}}.tenant()), 0) <> expected
    THEN
        RAISE EXCEPTION 'the search parameters of the tenant have changed' USING ERRCODE = '40001';
    END IF;
    RETURN expected;
END
$$;
COMMENT ON FUNCTION {{schema}}.hold_generation(bigint) IS 'Raises 40001, which asks for the transaction to be run again, unless the index of the tenant is of the generation.';
REVOKE ALL ON FUNCTION {{schema}}.hold_generation(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {{schema}}.hold_generation(bigint) TO {{app}};
