COMMENT ON COLUMN {{schema}}.export_file.kind IS 'o is of resources, d of deletions, e of errors.';
ALTER TABLE {{schema}}.deferred DROP COLUMN import;
ALTER TABLE {{schema}}.export_file
    DROP COLUMN part,
    DROP COLUMN upload;
DROP TABLE {{schema}}.import_fault;
DROP TABLE {{schema}}.import_input;
