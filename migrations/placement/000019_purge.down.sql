REVOKE DELETE ON {{schema}}.resource, {{schema}}.history FROM {{app}};
DROP POLICY history_delete ON {{schema}}.history;
DROP POLICY resource_delete ON {{schema}}.resource;
DROP TRIGGER purged ON {{schema}}.history;
DROP TRIGGER purged ON {{schema}}.resource;
DROP FUNCTION {{schema}}.purged();
DROP TABLE {{schema}}.removed;
