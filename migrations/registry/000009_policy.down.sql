ALTER TABLE {{schema}}.client DROP COLUMN encounter, DROP COLUMN person;
DROP TABLE {{schema}}.policy;
DROP FUNCTION {{schema}}.policy_kept();
