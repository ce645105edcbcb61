DROP TABLE {{schema}}.keyset;
