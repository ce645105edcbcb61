DROP TABLE {{schema}}.idx_date;
DROP TABLE {{schema}}.idx_num;
DROP TABLE {{schema}}.idx_ref;
DROP TABLE {{schema}}.idx_token;
