DROP TABLE {{schema}}.deferred;
