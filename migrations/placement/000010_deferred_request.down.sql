ALTER TABLE {{schema}}.deferred
    DROP COLUMN request,
    DROP COLUMN turn,
    DROP COLUMN holder,
    DROP COLUMN lease;
