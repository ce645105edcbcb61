DROP TABLE {{schema}}.log_succession;
