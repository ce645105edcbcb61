DROP TABLE {{schema}}.alert_delivery;
DROP TABLE {{schema}}.alert_sink;
