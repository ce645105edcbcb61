REVOKE USAGE ON SCHEMA {{schema}} FROM {{app}};
DROP TABLE {{schema}}.tenant;
DROP FUNCTION {{schema}}.kept();
