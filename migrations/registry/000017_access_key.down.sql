DROP TABLE {{schema}}.access_key;
