ALTER TABLE {{schema}}.deferred
    DROP COLUMN at,
    DROP COLUMN export;
DROP TABLE {{schema}}.export_file;
DROP TABLE {{schema}}.export_slice;
