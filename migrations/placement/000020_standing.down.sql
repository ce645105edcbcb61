DROP TABLE {{schema}}.index_due;
DROP TABLE {{schema}}.idx_standing;
