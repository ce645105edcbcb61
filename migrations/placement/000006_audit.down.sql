DROP TABLE {{schema}}.audit;
DROP FUNCTION {{schema}}.append_only();
