ALTER TABLE {{schema}}.resource
    DROP COLUMN about,
    DROP COLUMN encounter;
