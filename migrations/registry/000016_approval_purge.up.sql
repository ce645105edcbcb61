-- Approvals of which no token can come any more are removed, a day later.
CREATE INDEX approval_code_expires ON {{schema}}.approval (code_expires);
GRANT DELETE ON {{schema}}.approval TO {{app}};
