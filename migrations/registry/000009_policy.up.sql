-- The access policies of the tenants: what was proposed, by whom, and which of it
-- somebody else approved. An approved change is a version of the policy, and
-- kept as it is. Both texts are sealed: a row that was tampered with, or moved to
-- another version, does not open.
CREATE TABLE {{schema}}.policy (
    tenant_id   integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    number      bigint      NOT NULL CHECK (number > 0),
    base        bigint      NOT NULL,
    note        text        NOT NULL,
    kek         text        NOT NULL,
    proposal    bytea       NOT NULL,
    proposed_by text        COLLATE "C" NOT NULL,
    proposed    timestamptz NOT NULL DEFAULT now(),
    version     bigint,
    text        bytea,
    approved_by text        COLLATE "C",
    approved    timestamptz,
    PRIMARY KEY (tenant_id, number),
    UNIQUE (tenant_id, version),
    CHECK (num_nulls(version, text, approved_by, approved) IN (0, 4)),
    CHECK (approved_by <> proposed_by),
    CHECK (version = base + 1)
);
COMMENT ON TABLE  {{schema}}.policy          IS 'Proposed changes of the access policies of tenants, and versions in which they came into force. Rows are never removed.';
COMMENT ON COLUMN {{schema}}.policy.number   IS 'Counts the proposals of the tenant.';
COMMENT ON COLUMN {{schema}}.policy.base     IS 'The version that was in force when it was proposed; it can be approved as long as that is.';
COMMENT ON COLUMN {{schema}}.policy.kek      IS 'The URI of the key that seals proposal and text.';
COMMENT ON COLUMN {{schema}}.policy.proposal IS 'The text as proposed. Sealed for its number.';
COMMENT ON COLUMN {{schema}}.policy.version  IS 'Null: it was not approved. See tenant.policy_version; version 1 has no row.';
COMMENT ON COLUMN {{schema}}.policy.text     IS 'The text in force. Sealed for its version.';

CREATE FUNCTION {{schema}}.policy_kept() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF OLD.version IS NOT NULL OR (OLD.tenant_id, OLD.number, OLD.base, OLD.note, OLD.kek, OLD.proposal, OLD.proposed_by, OLD.proposed)
       IS DISTINCT FROM (NEW.tenant_id, NEW.number, NEW.base, NEW.note, NEW.kek, NEW.proposal, NEW.proposed_by, NEW.proposed) THEN
        RAISE EXCEPTION 'a policy can be approved once, and not changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION {{schema}}.policy_kept() FROM PUBLIC;
CREATE TRIGGER policy_kept BEFORE UPDATE ON {{schema}}.policy
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.policy_kept();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON {{schema}}.policy
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.kept();

GRANT SELECT ON {{schema}}.policy TO {{app}};

-- A client carries what a login would tell of its user.
ALTER TABLE {{schema}}.client
    ADD COLUMN person    jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN encounter text  NOT NULL DEFAULT '';
COMMENT ON COLUMN {{schema}}.client.person    IS 'Roles, places and shift of whom it acts for, or of itself; empty: none.';
COMMENT ON COLUMN {{schema}}.client.encounter IS 'The logical id of the encounter it is bound to; empty: none.';
