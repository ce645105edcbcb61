-- The search index. A key is a keyed hash of resource type, parameter and, where
-- the value is matched whole, value: the index holds no name and no code. What
-- orders a result is part of the primary key, so that a page is one range scan.
-- Only btree on integers, floats and timestamps: these operators are leakproof,
-- and under row-level security no other reaches an index.
CREATE TABLE {{schema}}.idx_token (
    key       bigint      NOT NULL,
    ts        timestamptz NOT NULL,
    rid       bigint      NOT NULL,
    tenant_id integer     NOT NULL,
    PRIMARY KEY (tenant_id, key, ts, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE TABLE {{schema}}.idx_ref (
    key       bigint      NOT NULL,
    target    bigint      NOT NULL,
    ts        timestamptz NOT NULL,
    rid       bigint      NOT NULL,
    tenant_id integer     NOT NULL,
    PRIMARY KEY (tenant_id, key, target, ts, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE TABLE {{schema}}.idx_num (
    key       bigint           NOT NULL,
    lo        double precision NOT NULL,
    hi        double precision NOT NULL,
    rid       bigint           NOT NULL,
    tenant_id integer          NOT NULL,
    PRIMARY KEY (tenant_id, key, lo, hi, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE TABLE {{schema}}.idx_date (
    key       bigint      NOT NULL,
    lo        timestamptz NOT NULL,
    hi        timestamptz NOT NULL,
    rid       bigint      NOT NULL,
    tenant_id integer     NOT NULL,
    PRIMARY KEY (tenant_id, key, lo, hi, rid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

COMMENT ON TABLE  {{schema}}.idx_token     IS 'Tokens, strings, URIs, references and hot pairs: all that is found by an equal hash.';
COMMENT ON COLUMN {{schema}}.idx_token.key IS 'Keyed hash of type, parameter and value.';
COMMENT ON COLUMN {{schema}}.idx_token.ts  IS 'The main date of the resource, by which results are sorted.';
COMMENT ON TABLE  {{schema}}.idx_ref       IS 'References, for chains, _has, _include and _revinclude.';
COMMENT ON COLUMN {{schema}}.idx_ref.key   IS 'Keyed hash of type and parameter.';
COMMENT ON COLUMN {{schema}}.idx_ref.target IS 'resource.rid of what is referred to.';
COMMENT ON TABLE  {{schema}}.idx_num       IS 'Numbers and quantities, each as the range that its precision means.';
COMMENT ON COLUMN {{schema}}.idx_num.key   IS 'Keyed hash of type and parameter; for quantities also of unit, for composites of code.';
COMMENT ON TABLE  {{schema}}.idx_date      IS 'Dates and periods, each as the range that its precision means.';
COMMENT ON COLUMN {{schema}}.idx_date.key  IS 'Keyed hash of type and parameter.';

ALTER TABLE {{schema}}.idx_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.idx_token FORCE  ROW LEVEL SECURITY;
CREATE POLICY idx_token_select ON {{schema}}.idx_token FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_token_insert ON {{schema}}.idx_token FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_token_delete ON {{schema}}.idx_token FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.idx_token TO {{app}};

ALTER TABLE {{schema}}.idx_ref ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.idx_ref FORCE  ROW LEVEL SECURITY;
CREATE POLICY idx_ref_select ON {{schema}}.idx_ref FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_ref_insert ON {{schema}}.idx_ref FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_ref_delete ON {{schema}}.idx_ref FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.idx_ref TO {{app}};

ALTER TABLE {{schema}}.idx_num ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.idx_num FORCE  ROW LEVEL SECURITY;
CREATE POLICY idx_num_select ON {{schema}}.idx_num FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_num_insert ON {{schema}}.idx_num FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_num_delete ON {{schema}}.idx_num FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.idx_num TO {{app}};

ALTER TABLE {{schema}}.idx_date ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.idx_date FORCE  ROW LEVEL SECURITY;
CREATE POLICY idx_date_select ON {{schema}}.idx_date FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_date_insert ON {{schema}}.idx_date FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY idx_date_delete ON {{schema}}.idx_date FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.idx_date TO {{app}};
