REVOKE DELETE ON {{schema}}.approval FROM {{app}};
DROP INDEX {{schema}}.approval_code_expires;
