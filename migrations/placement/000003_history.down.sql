DROP TABLE {{schema}}.history;
