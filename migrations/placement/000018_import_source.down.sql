ALTER TABLE {{schema}}.import_input DROP COLUMN fetched;
