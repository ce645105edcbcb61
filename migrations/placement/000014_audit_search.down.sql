DROP INDEX {{schema}}.audit_interaction, {{schema}}.audit_outcome;
ALTER TABLE {{schema}}.audit DROP COLUMN client, DROP COLUMN site;
