-- An input of an import that lies at a source is fetched by who works on the import;
-- the others are uploaded before anybody does.
ALTER TABLE {{schema}}.import_input ADD COLUMN fetched boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN {{schema}}.import_input.fetched IS 'Whether it is fetched from a source.';
