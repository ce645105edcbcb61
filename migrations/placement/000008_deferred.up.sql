-- Requests that are answered later, and their answers, for an hour. Only who
-- asked finds a row, by the keyed hash of their name and rights, and only with
-- them can it be opened.
CREATE TABLE {{schema}}.deferred (
    id        uuid        NOT NULL,
    owner     bigint      NOT NULL,
    until     timestamptz NOT NULL,
    expires   timestamptz NOT NULL,
    tenant_id integer     NOT NULL,
    done      boolean     NOT NULL,
    answer    bytea       NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

COMMENT ON TABLE  {{schema}}.deferred         IS 'Requests that are answered later, and their answers.';
COMMENT ON COLUMN {{schema}}.deferred.owner   IS 'Keyed hash of the principal.';
COMMENT ON COLUMN {{schema}}.deferred.until   IS 'When whoever works on it has given up.';
COMMENT ON COLUMN {{schema}}.deferred.answer  IS 'Sealed; empty until it is done.';

ALTER TABLE {{schema}}.deferred ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.deferred FORCE  ROW LEVEL SECURITY;
CREATE POLICY deferred_select ON {{schema}}.deferred FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY deferred_insert ON {{schema}}.deferred FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY deferred_update ON {{schema}}.deferred FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY deferred_delete ON {{schema}}.deferred FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.deferred TO {{app}};
