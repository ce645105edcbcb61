DROP TABLE {{schema}}.resource;
