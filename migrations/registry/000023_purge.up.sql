-- Purges: what a tenant has of a patient is removed for good. One operator asks for
-- it, another approves it. The owner writes that; servers say what came of it.
CREATE TABLE {{schema}}.purge (
    tenant_id   integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id          text        COLLATE "C" NOT NULL,
    kek         text        NOT NULL,
    patient     bytea       NOT NULL,
    why         text        NOT NULL,
    asked       timestamptz NOT NULL DEFAULT now(),
    asked_by    text        COLLATE "C" NOT NULL,
    approved    timestamptz,
    approved_by text        COLLATE "C",
    held        timestamptz,
    done        timestamptz,
    resources   bigint,
    versions    bigint,
    shared      bigint,
    PRIMARY KEY (tenant_id, id),
    CHECK (num_nulls(approved, approved_by) IN (0, 2)),
    CHECK (num_nulls(done, resources, versions, shared) IN (0, 4)),
    CHECK (approved_by <> asked_by),
    CHECK (done IS NULL OR approved IS NOT NULL)
);
COMMENT ON TABLE  {{schema}}.purge             IS 'What is to be removed for good, or was. Rows are never removed.';
COMMENT ON COLUMN {{schema}}.purge.patient     IS 'The patient, sealed under kek.';
COMMENT ON COLUMN {{schema}}.purge.asked_by    IS 'The operator.';
COMMENT ON COLUMN {{schema}}.purge.approved_by IS 'The operator who approved it; never who asked.';
COMMENT ON COLUMN {{schema}}.purge.held        IS 'When a server last saw that a legal hold keeps it.';
COMMENT ON COLUMN {{schema}}.purge.resources   IS 'Of which something was removed.';
COMMENT ON COLUMN {{schema}}.purge.shared      IS 'Resources that were left, for they tell of others too.';

CREATE FUNCTION {{schema}}.purge_kept() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (OLD.tenant_id, OLD.id, OLD.kek, OLD.patient, OLD.why, OLD.asked, OLD.asked_by)
       IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.kek, NEW.patient, NEW.why, NEW.asked, NEW.asked_by)
    OR OLD.approved IS NOT NULL AND (OLD.approved, OLD.approved_by) IS DISTINCT FROM (NEW.approved, NEW.approved_by)
    OR OLD.done IS NOT NULL THEN
        RAISE EXCEPTION 'what was said of a purge is not changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.purge_kept() FROM PUBLIC;
CREATE TRIGGER purge_kept BEFORE UPDATE ON {{schema}}.purge
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.purge_kept();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.purge
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
GRANT SELECT, UPDATE (held, done, resources, versions, shared) ON {{schema}}.purge TO {{app}};
