-- What a tenant has of a patient is removed, every version of it, when two operators
-- have agreed on that. A row in removed says so of each resource, in the same
-- transaction, and stays. Whoever removes any other is refused, the owner too.
CREATE TABLE {{schema}}.removed (
    rid       bigint      NOT NULL,
    tx        bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    at        timestamptz NOT NULL,
    tenant_id integer     NOT NULL,
    versions  integer     NOT NULL,
    whole     boolean     NOT NULL,
    purge     text        COLLATE "C" NOT NULL,
    hash      bytea       NOT NULL,
    PRIMARY KEY (tenant_id, rid, tx)
);
CREATE INDEX removed_purge ON {{schema}}.removed (tenant_id, purge);
COMMENT ON TABLE  {{schema}}.removed          IS 'Of which resources versions were removed for good, and how many. Rows are never removed.';
COMMENT ON COLUMN {{schema}}.removed.tx       IS 'The transaction that removed them.';
COMMENT ON COLUMN {{schema}}.removed.whole    IS 'Whether nothing of the resource is left.';
COMMENT ON COLUMN {{schema}}.removed.purge    IS 'For which purge of the registry.';
COMMENT ON COLUMN {{schema}}.removed.hash     IS 'SHA-256 of what was stored of them, sealed as it was, in order of version.';

ALTER TABLE {{schema}}.removed ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.removed FORCE  ROW LEVEL SECURITY;
CREATE POLICY removed_select ON {{schema}}.removed FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY removed_insert ON {{schema}}.removed FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT ON {{schema}}.removed TO {{app}};
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.removed
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();

CREATE FUNCTION {{schema}}.purged() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM gone g
        WHERE  NOT EXISTS (
            SELECT FROM {{schema}}.removed r
            WHERE  r.tenant_id = g.tenant_id AND r.rid = g.rid AND r.tx = pg_current_xact_id()::text::bigint)
    ) THEN
        RAISE EXCEPTION 'versions of resources are not removed' USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.purged() FROM PUBLIC;

CREATE TRIGGER purged AFTER DELETE ON {{schema}}.resource
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.purged();
CREATE TRIGGER purged AFTER DELETE ON {{schema}}.history
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.purged();
CREATE POLICY resource_delete ON {{schema}}.resource FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY history_delete ON {{schema}}.history FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT DELETE ON {{schema}}.resource, {{schema}}.history TO {{app}};
