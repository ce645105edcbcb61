-- Entries whose time is up are removed, if the tenant has it so. Their leaves stay,
-- and an entry of the same transaction says, signed with the key of the log, which
-- leaves they were. Whoever removes any other is refused, the owner too: what no
-- such entry names, what is younger than six years, and those entries themselves.
ALTER TABLE {{schema}}.audit ADD COLUMN tombstone text;
CREATE INDEX audit_tombstone ON {{schema}}.audit (tenant_id, seq) WHERE tombstone IS NOT NULL;
COMMENT ON COLUMN {{schema}}.audit.tombstone IS 'Of which leaves entries were removed, as a signed note whose third line is a multirange.';

CREATE FUNCTION {{schema}}.retained() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_WHEN = 'BEFORE' THEN -- also of nothing
        IF EXISTS (SELECT FROM {{schema}}.audit t WHERE t.tombstone IS NOT NULL AND t.tx = pg_current_xact_id()::text::bigint) THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'the audit trail is append only' USING ERRCODE = '42501';
    END IF;
    IF EXISTS (
        WITH named AS MATERIALIZED (
            SELECT t.tenant_id, split_part(t.tombstone, E'\n', 3)::int8multirange AS leaves
            FROM   {{schema}}.audit t
            WHERE  t.tenant_id IN (SELECT g.tenant_id FROM gone g)
            AND    t.tx = pg_current_xact_id()::text::bigint
            AND    t.tombstone IS NOT NULL
        )
        SELECT FROM gone g
        WHERE  g.tombstone IS NOT NULL
        OR     g.recorded >= now() - interval '6 years'
        OR     NOT EXISTS (
            SELECT FROM {{schema}}.audit_leaf l
            JOIN   named n ON n.tenant_id = l.tenant_id AND n.leaves @> l.leaf
            WHERE  l.tenant_id = g.tenant_id AND l.seq = g.seq)
    ) THEN
        RAISE EXCEPTION 'the audit trail is append only' USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.retained() FROM PUBLIC;

DROP TRIGGER append_only ON {{schema}}.audit;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON {{schema}}.audit
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();
CREATE TRIGGER retained_first BEFORE DELETE ON {{schema}}.audit
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.retained();
CREATE TRIGGER retained AFTER DELETE ON {{schema}}.audit
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.retained();

CREATE POLICY audit_tell ON {{schema}}.audit FOR INSERT TO {{log}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY audit_remove ON {{schema}}.audit FOR DELETE TO {{log}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT INSERT, DELETE ON {{schema}}.audit TO {{log}};
