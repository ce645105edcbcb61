-- The work on a bulk export, which is a deferred request, and the files that it
-- wrote. A slice is a range of the resources of one type in order of their last
-- change; what is before from_updated, from_rid is in files. A file has its row
-- before it is written, so that none is left that nobody knows of.
CREATE TABLE {{schema}}.export_slice (
    job          uuid        NOT NULL,
    from_updated timestamptz NOT NULL,
    from_rid     bigint      NOT NULL,
    to_updated   timestamptz NOT NULL,
    tenant_id    integer     NOT NULL,
    n            integer     NOT NULL,
    type         smallint    NOT NULL,
    deletions    boolean     NOT NULL,
    done         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, job, n)
);
CREATE TABLE {{schema}}.export_file (
    job       uuid        NOT NULL,
    id        uuid        NOT NULL,
    made      timestamptz NOT NULL,
    lines     bigint      NOT NULL DEFAULT 0,
    plain     bigint      NOT NULL DEFAULT 0,
    size      bigint      NOT NULL DEFAULT 0,
    tenant_id integer     NOT NULL,
    n         integer     NOT NULL,
    type      smallint    NOT NULL,
    kind      "char"      NOT NULL,
    ready     boolean     NOT NULL DEFAULT false,
    hash      bytea       NOT NULL DEFAULT '',
    about     bytea       NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, job, id)
);
ALTER TABLE {{schema}}.deferred
    ADD COLUMN export boolean NOT NULL DEFAULT false,
    ADD COLUMN at     timestamptz;

COMMENT ON TABLE  {{schema}}.export_slice              IS 'What a bulk export has yet to write. Without its deferred request a slice is to be removed.';
COMMENT ON COLUMN {{schema}}.export_slice.from_updated IS 'With from_rid: after which resource it goes on.';
COMMENT ON COLUMN {{schema}}.export_slice.to_updated   IS 'The last change that is in it.';
COMMENT ON COLUMN {{schema}}.export_slice.deletions    IS 'Whether it is of what was deleted.';
COMMENT ON TABLE  {{schema}}.export_file               IS 'Files of bulk exports. Without its deferred request a file is to be removed.';
COMMENT ON COLUMN {{schema}}.export_file.made          IS 'When it was begun, then when what is in it was last looked at.';
COMMENT ON COLUMN {{schema}}.export_file.kind          IS 'o is of resources, d of deletions, e of errors.';
COMMENT ON COLUMN {{schema}}.export_file.plain         IS 'Bytes, as they are read.';
COMMENT ON COLUMN {{schema}}.export_file.size          IS 'Bytes of them in gzip.';
COMMENT ON COLUMN {{schema}}.export_file.hash          IS 'SHA-256 of what the object store has: those bytes, sealed.';
COMMENT ON COLUMN {{schema}}.export_file.about         IS 'Keyed hashes of the patients whose records are in it, 8 bytes each.';
COMMENT ON COLUMN {{schema}}.deferred.export           IS 'Whether it is a bulk export.';
COMMENT ON COLUMN {{schema}}.deferred.at               IS 'Of a bulk export that was planned, the time that it shows the resources of.';

ALTER TABLE {{schema}}.export_slice ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.export_slice FORCE  ROW LEVEL SECURITY;
CREATE POLICY export_slice_select ON {{schema}}.export_slice FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_slice_insert ON {{schema}}.export_slice FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_slice_update ON {{schema}}.export_slice FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_slice_delete ON {{schema}}.export_slice FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.export_slice TO {{app}};

ALTER TABLE {{schema}}.export_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.export_file FORCE  ROW LEVEL SECURITY;
CREATE POLICY export_file_select ON {{schema}}.export_file FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_file_insert ON {{schema}}.export_file FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_file_update ON {{schema}}.export_file FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY export_file_delete ON {{schema}}.export_file FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.export_file TO {{app}};
