-- What is asked for later is kept until it is answered, so that another process
-- can take it up when the one that works on it stops or dies: its lease runs out.
ALTER TABLE {{schema}}.deferred
    ADD COLUMN request bytea       NOT NULL DEFAULT '',
    ADD COLUMN turn    integer     NOT NULL DEFAULT 0,
    ADD COLUMN holder  uuid,
    ADD COLUMN lease   timestamptz;

COMMENT ON COLUMN {{schema}}.deferred.until   IS 'When it is given up.';
COMMENT ON COLUMN {{schema}}.deferred.request IS 'What is asked, and the name of the grant; sealed. Empty once it is done.';
COMMENT ON COLUMN {{schema}}.deferred.turn    IS 'How often the work on it was begun.';
COMMENT ON COLUMN {{schema}}.deferred.holder  IS 'The work on it that may answer; NULL if there is none.';
COMMENT ON COLUMN {{schema}}.deferred.lease   IS 'When that work is taken for dead, unless it says before that it goes on.';
