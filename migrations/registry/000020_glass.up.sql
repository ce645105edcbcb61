-- Who asked to break the glass of a patient, what another person said to that,
-- when it ended, and what was found in review. Each of these is written once.
-- What names the patient, or says why, is sealed under the tenant's key, and signed:
-- a row that was made or changed by somebody else opens nothing.
CREATE TABLE {{schema}}.glass (
    tenant_id   integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id          text        COLLATE "C" NOT NULL,
    fhir_user   text        COLLATE "C" NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    client      text        COLLATE "C" NOT NULL,
    session     text        COLLATE "C" NOT NULL,
    patient     bigint      NOT NULL,
    alone       boolean     NOT NULL,
    request     bytea       NOT NULL,
    requested   timestamptz NOT NULL DEFAULT now(),
    decided     timestamptz,
    decided_by  text        COLLATE "C",
    decider     text        COLLATE "C",
    begins      timestamptz,
    until       timestamptz,
    signed      bytea,
    ended       timestamptz,
    ended_by    text        COLLATE "C",
    told        bigint,
    told_at     timestamptz,
    reviewed    timestamptz,
    reviewed_by text        COLLATE "C",
    reviewer    text        COLLATE "C",
    review      bytea,
    PRIMARY KEY (tenant_id, id),
    CHECK (num_nulls(decided, decided_by, decider) IN (0, 3)),
    CHECK (num_nulls(begins, until, signed) IN (0, 3)),
    CHECK (alone OR begins IS NULL OR decided IS NOT NULL),
    CHECK (decided_by <> fhir_user AND decider <> subject),
    CHECK (until > begins AND until <= begins + interval '4 hours'),
    CHECK (num_nulls(ended, ended_by) IN (0, 2)),
    CHECK (ended IS NULL OR begins IS NOT NULL),
    CHECK (num_nulls(reviewed, reviewed_by, reviewer, review) IN (0, 4)),
    CHECK (reviewed IS NULL OR ended IS NOT NULL),
    CHECK (reviewed_by <> fhir_user AND reviewer <> subject)
);
CREATE INDEX glass_user     ON {{schema}}.glass (tenant_id, fhir_user, requested DESC);
CREATE INDEX glass_list     ON {{schema}}.glass (tenant_id, requested DESC, id);
CREATE INDEX glass_in_force ON {{schema}}.glass (tenant_id, id) WHERE begins IS NOT NULL AND told_at IS NULL;

COMMENT ON TABLE  {{schema}}.glass            IS 'Access in an emergency: requests, approvals, ends and reviews. Rows are never removed.';
COMMENT ON COLUMN {{schema}}.glass.fhir_user  IS 'Who asked, with subject as the name at the login.';
COMMENT ON COLUMN {{schema}}.glass.session    IS 'What the user let the client do: tokens that came of it see the record.';
COMMENT ON COLUMN {{schema}}.glass.patient    IS 'Keyed hash of the patient.';
COMMENT ON COLUMN {{schema}}.glass.alone      IS 'It began without an approval, as the tenant allows.';
COMMENT ON COLUMN {{schema}}.glass.request    IS 'Patient, purpose and reason. Signed and sealed.';
COMMENT ON COLUMN {{schema}}.glass.decided_by IS 'Who approved or refused, with decider as the name at the login; never who asked.';
COMMENT ON COLUMN {{schema}}.glass.begins     IS 'Null: it was not approved.';
COMMENT ON COLUMN {{schema}}.glass.signed     IS 'What servers go by. Signed and sealed.';
COMMENT ON COLUMN {{schema}}.glass.ended_by   IS 'Who ended it; empty: its time.';
COMMENT ON COLUMN {{schema}}.glass.told       IS 'The number of the audit entry of its end; with told_at that is written.';
COMMENT ON COLUMN {{schema}}.glass.review     IS 'Outcome and note. Signed and sealed.';

CREATE FUNCTION {{schema}}.glass_kept() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (OLD.tenant_id, OLD.id, OLD.fhir_user, OLD.subject, OLD.client, OLD.session, OLD.patient, OLD.alone, OLD.request, OLD.requested)
       IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.fhir_user, NEW.subject, NEW.client, NEW.session, NEW.patient, NEW.alone, NEW.request, NEW.requested)
    OR num_nonnulls(OLD.decided, OLD.begins) > 0
       AND (OLD.decided, OLD.decided_by, OLD.decider, OLD.begins, OLD.until, OLD.signed)
       IS DISTINCT FROM (NEW.decided, NEW.decided_by, NEW.decider, NEW.begins, NEW.until, NEW.signed)
    OR OLD.ended    IS NOT NULL AND (OLD.ended, OLD.ended_by) IS DISTINCT FROM (NEW.ended, NEW.ended_by)
    OR OLD.told     IS NOT NULL AND  OLD.told                 IS DISTINCT FROM NEW.told
    OR OLD.told_at  IS NOT NULL AND  OLD.told_at              IS DISTINCT FROM NEW.told_at
    OR OLD.reviewed IS NOT NULL AND (OLD.reviewed, OLD.reviewed_by, OLD.reviewer, OLD.review)
       IS DISTINCT FROM (NEW.reviewed, NEW.reviewed_by, NEW.reviewer, NEW.review) THEN
        RAISE EXCEPTION 'what was said of a broken glass is not changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.glass_kept() FROM PUBLIC;
CREATE TRIGGER glass_kept BEFORE UPDATE ON {{schema}}.glass
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.glass_kept();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.glass
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();

GRANT SELECT, INSERT ON {{schema}}.glass TO {{app}};
GRANT UPDATE (decided, decided_by, decider, begins, until, signed, ended, ended_by, told, told_at, reviewed, reviewed_by, reviewer, review)
    ON {{schema}}.glass TO {{app}};
