DROP TABLE {{schema}}.assertion;
DROP TABLE {{schema}}.client;
