-- The work on a bulk import, which is a deferred request. What it is given lies in
-- files of whole lines, each in export_file under the kind i and in the order of
-- part. How many lines of an input were taken is written in the transaction that
-- stores what is on them, and so are the faults: each line is taken once.
CREATE TABLE {{schema}}.import_input (
    job       uuid    NOT NULL,
    whole     uuid,
    lines     bigint  NOT NULL DEFAULT 0,
    stored    bigint  NOT NULL DEFAULT 0,
    faulty    bigint  NOT NULL DEFAULT 0,
    tenant_id integer NOT NULL,
    n         integer NOT NULL,
    type      smallint NOT NULL,
    done      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, job, n)
);
CREATE TABLE {{schema}}.import_fault (
    job       uuid    NOT NULL,
    line      bigint  NOT NULL,
    tenant_id integer NOT NULL,
    n         integer NOT NULL,
    faults    integer NOT NULL,
    outcomes  bytea   NOT NULL,
    PRIMARY KEY (tenant_id, job, n, line)
);
ALTER TABLE {{schema}}.export_file
    ADD COLUMN part   integer NOT NULL DEFAULT 0,
    ADD COLUMN upload uuid;
ALTER TABLE {{schema}}.deferred
    ADD COLUMN import boolean NOT NULL DEFAULT false;

COMMENT ON TABLE  {{schema}}.import_input          IS 'How far a bulk import has come. Without its deferred request an input is to be removed.';
COMMENT ON COLUMN {{schema}}.import_input.whole    IS 'The upload that has all of it; NULL until there is one.';
COMMENT ON COLUMN {{schema}}.import_input.lines    IS 'How many lines were taken, blank ones too.';
COMMENT ON TABLE  {{schema}}.import_fault          IS 'Why lines of a bulk import were refused, until a file has it.';
COMMENT ON COLUMN {{schema}}.import_fault.line     IS 'How many lines were taken before those that it tells of.';
COMMENT ON COLUMN {{schema}}.import_fault.outcomes IS 'OperationOutcomes, in gzip and sealed.';
COMMENT ON COLUMN {{schema}}.export_file.kind      IS 'o is of resources, d of deletions, e of errors, i of what is to be imported.';
COMMENT ON COLUMN {{schema}}.export_file.part      IS 'Of what is to be imported, which part of the input it is.';
COMMENT ON COLUMN {{schema}}.export_file.upload    IS 'Of what is to be imported, with which other parts it came.';
COMMENT ON COLUMN {{schema}}.deferred.import       IS 'Whether it is a bulk import.';

ALTER TABLE {{schema}}.import_input ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.import_input FORCE  ROW LEVEL SECURITY;
CREATE POLICY import_input_select ON {{schema}}.import_input FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY import_input_insert ON {{schema}}.import_input FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY import_input_update ON {{schema}}.import_input FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY import_input_delete ON {{schema}}.import_input FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.import_input TO {{app}};

ALTER TABLE {{schema}}.import_fault ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.import_fault FORCE  ROW LEVEL SECURITY;
CREATE POLICY import_fault_select ON {{schema}}.import_fault FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY import_fault_insert ON {{schema}}.import_fault FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY import_fault_delete ON {{schema}}.import_fault FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.import_fault TO {{app}};
