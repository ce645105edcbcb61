DROP FUNCTION {{schema}}.hold_generation(bigint);
DROP TABLE {{schema}}.index_job;
DROP TABLE {{schema}}.index_generation;
