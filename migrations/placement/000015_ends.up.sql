-- What an access policy asks of a resource is mostly about its patient or its
-- Encounter. With these beside the resource, one statement reads it and asks.
-- They only say what to ask early: what decides is the resource itself. Those of
-- resources that were there before come with the next version, or when the index
-- is made again; until then a read asks in a second statement.
ALTER TABLE {{schema}}.resource
    ADD COLUMN about     bigint,
    ADD COLUMN encounter bigint;

COMMENT ON COLUMN {{schema}}.resource.about     IS 'The rid of the patient that the resource is about; of several the first. NULL: of nobody, or not known.';
COMMENT ON COLUMN {{schema}}.resource.encounter IS 'The rid of the Encounter that the resource belongs to; NULL as for about.';
