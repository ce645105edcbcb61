DROP TABLE {{schema}}.alert;
