ALTER TABLE {{schema}}.audit DROP COLUMN purpose;
