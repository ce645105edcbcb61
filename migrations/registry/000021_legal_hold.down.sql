DROP TABLE {{schema}}.legal_hold;
DROP FUNCTION {{schema}}.hold_kept();
