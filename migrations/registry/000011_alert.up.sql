-- What looked like an attack, for people to look into. Servers open alerts and
-- count; operators say what became of them.
CREATE TABLE {{schema}}.alert (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id        integer     REFERENCES {{schema}}.tenant (id),
    rule             text        COLLATE "C" NOT NULL,
    client           text        COLLATE "C" NOT NULL,
    fhir_user        text        COLLATE "C" NOT NULL,
    address          text        COLLATE "C" NOT NULL,
    addressed        text[]      NOT NULL,
    first_seen       timestamptz NOT NULL,
    last_seen        timestamptz NOT NULL,
    count            bigint      NOT NULL,
    requests         text[]      NOT NULL,
    state            text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'closed')),
    acknowledged_by  text,
    acknowledged_at  timestamptz,
    acknowledged_why text,
    closed_by        text,
    closed_at        timestamptz,
    closed_why       text
);
CREATE INDEX alert_of   ON {{schema}}.alert (rule, client, fhir_user, last_seen) WHERE state <> 'closed';
CREATE INDEX alert_list ON {{schema}}.alert ((state = 'closed'), last_seen DESC, id DESC);
COMMENT ON TABLE  {{schema}}.alert           IS 'Signs of attacks. Nothing of a record, and no patient.';
COMMENT ON COLUMN {{schema}}.alert.tenant_id IS 'Whose token or client it was; NULL: none was proven.';
COMMENT ON COLUMN {{schema}}.alert.client    IS 'With fhir_user, who it was; all empty with address: many.';
COMMENT ON COLUMN {{schema}}.alert.addressed IS 'Slugs of other tenants that were meant.';
COMMENT ON COLUMN {{schema}}.alert.requests  IS 'X-Request-Id of some of the requests.';

GRANT SELECT, INSERT ON {{schema}}.alert TO {{app}};
GRANT UPDATE (addressed, last_seen, count, requests, state, acknowledged_by, acknowledged_at, acknowledged_why,
              closed_by, closed_at, closed_why) ON {{schema}}.alert TO {{app}};
