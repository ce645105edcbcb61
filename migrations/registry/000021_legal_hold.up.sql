-- Legal holds: what a tenant's audit trail has, or what it has of a patient, is not
-- removed while one is in force. One operator places it; to lift it takes two. The
-- owner writes, servers read: none can lift one.
CREATE TABLE {{schema}}.legal_hold (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id        text        COLLATE "C" NOT NULL,
    kek       text,
    patient   bytea,
    why       text        NOT NULL,
    placed    timestamptz NOT NULL DEFAULT now(),
    placed_by text        COLLATE "C" NOT NULL,
    asked     timestamptz,
    asked_by  text        COLLATE "C",
    asked_why text,
    lifted    timestamptz,
    lifted_by text        COLLATE "C",
    PRIMARY KEY (tenant_id, id),
    CHECK (num_nulls(kek, patient) IN (0, 2)),
    CHECK (num_nulls(asked, asked_by, asked_why) IN (0, 3)),
    CHECK (num_nulls(lifted, lifted_by) IN (0, 2)),
    CHECK (lifted IS NULL OR asked IS NOT NULL AND lifted_by <> asked_by)
);
COMMENT ON TABLE  {{schema}}.legal_hold           IS 'What must not be removed, whatever its age. Rows are never removed.';
COMMENT ON COLUMN {{schema}}.legal_hold.patient   IS 'The patient, sealed under kek; null: all that the tenant has.';
COMMENT ON COLUMN {{schema}}.legal_hold.placed_by IS 'The operator.';
COMMENT ON COLUMN {{schema}}.legal_hold.asked_by  IS 'The operator who asked to lift it.';
COMMENT ON COLUMN {{schema}}.legal_hold.lifted_by IS 'The operator who lifted it; never who asked.';

CREATE FUNCTION {{schema}}.hold_kept() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (OLD.tenant_id, OLD.id, OLD.kek, OLD.patient, OLD.why, OLD.placed, OLD.placed_by)
       IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.kek, NEW.patient, NEW.why, NEW.placed, NEW.placed_by)
    OR OLD.asked  IS NOT NULL AND (OLD.asked, OLD.asked_by, OLD.asked_why) IS DISTINCT FROM (NEW.asked, NEW.asked_by, NEW.asked_why)
    OR OLD.lifted IS NOT NULL AND (OLD.lifted, OLD.lifted_by) IS DISTINCT FROM (NEW.lifted, NEW.lifted_by) THEN
        RAISE EXCEPTION 'what was said of a legal hold is not changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.hold_kept() FROM PUBLIC;
CREATE TRIGGER hold_kept BEFORE UPDATE ON {{schema}}.legal_hold
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.hold_kept();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.legal_hold
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();
GRANT SELECT ON {{schema}}.legal_hold TO {{app}};
