-- Topic-based subscriptions: who is told of what, and what they have yet to be told.
-- subscription has what a Subscription asks for and the name of its subscriber's
-- Grant, sealed; the Grant itself is earned again each time. An event names a
-- version that the subscriber could see when it was matched, and nothing in it.
--
-- The feed says up to where the changes have been matched. Who follows them goes
-- by the transactions that made them, for which change gets an index: one that is
-- below every running transaction can have none before it that is yet to come.
-- The index reads change once, and nothing is stored meanwhile.
CREATE INDEX change_xid ON {{schema}}.change (tenant_id, xid, seq);

CREATE TABLE {{schema}}.subscription_feed (
    xid        bigint  NOT NULL DEFAULT 0,
    seq        bigint  NOT NULL DEFAULT 0,
    generation bigint  NOT NULL DEFAULT 0,
    tenant_id  integer NOT NULL,
    PRIMARY KEY (tenant_id)
);
CREATE TABLE {{schema}}.subscription (
    rid       bigint      NOT NULL,
    owner     bigint      NOT NULL,
    since     bigint      NOT NULL DEFAULT 0,
    events    bigint      NOT NULL DEFAULT 0,
    told      bigint      NOT NULL DEFAULT 0,
    turn      bigint      NOT NULL DEFAULT 0,
    due       timestamptz NOT NULL,
    beat      timestamptz,
    lease     timestamptz,
    holder    uuid,
    tenant_id integer     NOT NULL,
    attempts  integer     NOT NULL DEFAULT 0,
    state     "char"      NOT NULL,
    id        text        COLLATE "C" NOT NULL,
    sealed    bytea       NOT NULL,
    PRIMARY KEY (tenant_id, rid)
);
CREATE TABLE {{schema}}.subscription_event (
    rid       bigint      NOT NULL,
    n         bigint      NOT NULL,
    focus     bigint      NOT NULL,
    at        timestamptz NOT NULL,
    tenant_id integer     NOT NULL,
    version   integer     NOT NULL,
    type      smallint    NOT NULL,
    op        "char"      NOT NULL,
    PRIMARY KEY (tenant_id, rid, n)
);

COMMENT ON TABLE  {{schema}}.subscription_feed            IS 'Up to where the changes of a tenant have been matched with its subscriptions.';
COMMENT ON COLUMN {{schema}}.subscription_feed.xid        IS 'With seq: the last change that was matched.';
COMMENT ON COLUMN {{schema}}.subscription_feed.generation IS 'Counts the changes of which subscriptions there are.';
COMMENT ON TABLE  {{schema}}.subscription                 IS 'What Subscriptions that are not off ask for.';
COMMENT ON COLUMN {{schema}}.subscription.owner           IS 'Keyed hash of the subscriber.';
COMMENT ON COLUMN {{schema}}.subscription.since           IS 'The first transaction of which it is told.';
COMMENT ON COLUMN {{schema}}.subscription.events          IS 'How many events it has had: the number of the last.';
COMMENT ON COLUMN {{schema}}.subscription.told            IS 'The number of the last that was delivered.';
COMMENT ON COLUMN {{schema}}.subscription.turn            IS 'Counts its edits: what was begun before one is not written after it.';
COMMENT ON COLUMN {{schema}}.subscription.due             IS 'When what waits is next delivered.';
COMMENT ON COLUMN {{schema}}.subscription.beat            IS 'When it is next told that all is well; NULL is never.';
COMMENT ON COLUMN {{schema}}.subscription.state           IS 'r requested, a active, e error.';
COMMENT ON COLUMN {{schema}}.subscription.sealed          IS 'The name of the Grant, the channel with its secrets, and the filters.';
COMMENT ON TABLE  {{schema}}.subscription_event           IS 'Events of subscriptions, by number.';
COMMENT ON COLUMN {{schema}}.subscription_event.op        IS 'c create, u update, d delete.';

ALTER TABLE {{schema}}.subscription_feed ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.subscription_feed FORCE  ROW LEVEL SECURITY;
CREATE POLICY subscription_feed_select ON {{schema}}.subscription_feed FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_feed_insert ON {{schema}}.subscription_feed FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_feed_update ON {{schema}}.subscription_feed FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE ON {{schema}}.subscription_feed TO {{app}};

ALTER TABLE {{schema}}.subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.subscription FORCE  ROW LEVEL SECURITY;
CREATE POLICY subscription_select ON {{schema}}.subscription FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_insert ON {{schema}}.subscription FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_update ON {{schema}}.subscription FOR UPDATE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant())) WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_delete ON {{schema}}.subscription FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.subscription TO {{app}};

ALTER TABLE {{schema}}.subscription_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{schema}}.subscription_event FORCE  ROW LEVEL SECURITY;
CREATE POLICY subscription_event_select ON {{schema}}.subscription_event FOR SELECT TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_event_insert ON {{schema}}.subscription_event FOR INSERT TO {{app}}
    WITH CHECK (tenant_id = (SELECT {{schema}}.tenant()));
CREATE POLICY subscription_event_delete ON {{schema}}.subscription_event FOR DELETE TO {{app}}
    USING (tenant_id = (SELECT {{schema}}.tenant()));
GRANT SELECT, INSERT, DELETE ON {{schema}}.subscription_event TO {{app}};
