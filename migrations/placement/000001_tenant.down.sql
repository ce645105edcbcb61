REVOKE USAGE ON SCHEMA {{schema}} FROM {{app}}, {{audit}};
DROP FUNCTION {{schema}}.tenant();
DROP TABLE {{schema}}.signer;
