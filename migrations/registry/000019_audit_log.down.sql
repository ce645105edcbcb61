ALTER TABLE {{schema}}.tenant DROP COLUMN log_dsn;
DROP TABLE {{schema}}.log_key, {{schema}}.audit_log, {{schema}}.audit_node, {{schema}}.audit_leaf;
REVOKE ALL ON {{schema}}.platform_audit FROM {{log}};
REVOKE ALL ON SCHEMA {{schema}} FROM {{log}};
DROP INDEX {{schema}}.platform_audit_tx;
ALTER TABLE {{schema}}.platform_audit DROP COLUMN tx;
