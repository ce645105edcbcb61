-- Who is on a patient's care team, who sees to them and where they are is what
-- access policies ask of every resource. Of the rows that CareTeams and Encounters
-- have in the other tables it takes five look-ups to tell; here it is one.
CREATE TABLE {{schema}}.idx_standing (
    key       bigint      NOT NULL,
    target    bigint      NOT NULL,
    lo        timestamptz NOT NULL,
    hi        timestamptz NOT NULL,
    rid       bigint      NOT NULL,
    tenant_id integer     NOT NULL,
    PRIMARY KEY (tenant_id, key, target, lo, hi, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

COMMENT ON TABLE  {{schema}}.idx_standing        IS 'Who is named by resources in force about a patient, and when.';
COMMENT ON COLUMN {{schema}}.idx_standing.key    IS 'Keyed hash of the element that names them, and of whom it names.';
COMMENT ON COLUMN {{schema}}.idx_standing.target IS 'resource.rid of the patient.';
COMMENT ON COLUMN {{schema}}.idx_standing.lo     IS 'From when they are named and the resource is in force.';
COMMENT ON COLUMN {{schema}}.idx_standing.hi     IS 'Until when; that moment is not part of it.';

ALTER TABLE {{schema}}.idx_standing ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.idx_standing FORCE  ROW LEVEL SECURITY;
CREATE POLICY idx_standing_select ON {{schema}}.idx_standing FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_standing_insert ON {{schema}}.idx_standing FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_standing_delete ON {{schema}}.idx_standing FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.idx_standing TO {{app}};

-- Resources that were there before have none yet. Until the server has taken them in
-- it asks the other tables. A tenant that comes later is not named here. (The rows are
-- written before the policies hold, which bind the owner too.)
CREATE TABLE {{schema}}.index_due (
    tenant_id integer NOT NULL PRIMARY KEY
);
COMMENT ON TABLE {{schema}}.index_due IS 'Tenants of whom the index lacks standings.';
INSERT INTO {{schema}}.index_due (tenant_id) SELECT number FROM {{schema}}.binding;

ALTER TABLE {{schema}}.index_due ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.index_due FORCE  ROW LEVEL SECURITY;
CREATE POLICY index_due_select ON {{schema}}.index_due FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY index_due_delete ON {{schema}}.index_due FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, DELETE ON {{schema}}.index_due TO {{app}};
