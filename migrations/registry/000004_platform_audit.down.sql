DROP TABLE {{schema}}.platform_audit;
