DELETE FROM {{schema}}.client WHERE removed IS NOT NULL;
ALTER TABLE {{schema}}.client DROP COLUMN jwks_uri, DROP COLUMN registration, DROP COLUMN removed;
