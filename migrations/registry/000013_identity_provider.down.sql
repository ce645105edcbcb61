ALTER TABLE {{schema}}.approval DROP COLUMN acr, DROP COLUMN amr;
ALTER TABLE {{schema}}.session  DROP COLUMN acr, DROP COLUMN amr;
DROP TABLE {{schema}}.identity_request;
DROP TABLE {{schema}}.identity_user;
DROP TABLE {{schema}}.identity_provider;
