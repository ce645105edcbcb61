DROP TABLE {{schema}}.glass;
DROP FUNCTION {{schema}}.glass_kept();
