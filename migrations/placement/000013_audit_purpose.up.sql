-- What something was done for is how an access in an emergency is found.
ALTER TABLE {{schema}}.audit ADD COLUMN purpose bigint;
CREATE INDEX audit_purpose ON {{schema}}.audit (tenant_id, purpose, seq) WHERE purpose IS NOT NULL;
COMMENT ON COLUMN {{schema}}.audit.purpose IS 'Keyed hash of the purpose of use.';
