DROP TABLE {{schema}}.outside_issuer;
DROP SEQUENCE {{schema}}.outside_issuer_version;
