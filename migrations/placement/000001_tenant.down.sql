REVOKE USAGE ON SCHEMA {{schema}} FROM {{app}}, {{login}}, {{audit}};
DROP FUNCTION {{schema}}.tenant();
DROP TABLE {{schema}}.signer;
