DROP TABLE {{schema}}.purge;
DROP FUNCTION {{schema}}.purge_kept();
