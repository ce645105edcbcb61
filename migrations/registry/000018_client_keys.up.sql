-- Where clients publish their keys, and what lets those that registered
-- themselves change and remove their registration.
ALTER TABLE {{schema}}.client
    ADD COLUMN jwks_uri     text        NOT NULL DEFAULT '',
    ADD COLUMN registration bytea,
    ADD COLUMN removed      timestamptz;
COMMENT ON COLUMN {{schema}}.client.jwks_uri     IS 'Where it publishes its keys; empty: they are in jwks.';
COMMENT ON COLUMN {{schema}}.client.registration IS 'SHA-256 of its registration access token; NULL: an operator registered it.';
COMMENT ON COLUMN {{schema}}.client.removed      IS 'When it removed itself. Its id stays, for the audit trail.';
