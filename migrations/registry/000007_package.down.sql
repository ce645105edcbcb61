ALTER TABLE {{schema}}.tenant DROP COLUMN packages;
DROP TABLE {{schema}}.tenant_package;
DROP TABLE {{schema}}.package;
