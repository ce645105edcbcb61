DROP TABLE {{schema}}.inquiry;
