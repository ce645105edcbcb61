DROP TABLE {{schema}}.audit_log, {{schema}}.audit_node, {{schema}}.audit_leaf;
DROP POLICY audit_number ON {{schema}}.audit;
REVOKE ALL ON {{schema}}.audit FROM {{log}};
REVOKE ALL ON FUNCTION {{schema}}.tenant() FROM {{log}};
REVOKE ALL ON SCHEMA {{schema}} FROM {{log}};
DROP INDEX {{schema}}.audit_tx;
ALTER TABLE {{schema}}.audit DROP COLUMN tx;
