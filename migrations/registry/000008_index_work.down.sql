DROP TABLE {{schema}}.index_work;
