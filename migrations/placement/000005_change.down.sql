DROP TABLE {{schema}}.change;
