REVOKE INSERT, DELETE ON {{schema}}.audit FROM {{log}};
DROP POLICY audit_remove ON {{schema}}.audit;
DROP POLICY audit_tell ON {{schema}}.audit;
DROP TRIGGER retained_first ON {{schema}}.audit;
DROP TRIGGER retained ON {{schema}}.audit;
DROP TRIGGER append_only ON {{schema}}.audit;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {{schema}}.audit
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.append_only();
DROP FUNCTION {{schema}}.retained();
DROP INDEX {{schema}}.audit_tombstone;
ALTER TABLE {{schema}}.audit DROP COLUMN tombstone;
