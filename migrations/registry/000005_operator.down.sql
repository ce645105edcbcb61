DROP TABLE {{schema}}.operator_token;
DROP TABLE {{schema}}.operator;
