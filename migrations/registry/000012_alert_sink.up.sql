-- Where people are told of alerts, and who is yet to be told of which.
CREATE TABLE {{schema}}.alert_sink (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer     UNIQUE NULLS NOT DISTINCT REFERENCES {{schema}}.tenant (id),
    url       text        NOT NULL,
    kek       text        NOT NULL,
    secret    bytea       NOT NULL,
    created   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  {{schema}}.alert_sink           IS 'Webhooks for alerts. Only the owner sets one.';
COMMENT ON COLUMN {{schema}}.alert_sink.tenant_id IS 'Whose alerts it is told; NULL: all.';
COMMENT ON COLUMN {{schema}}.alert_sink.secret    IS 'Signs what is sent. Sealed under kek, for this tenant and URL.';

CREATE TABLE {{schema}}.alert_delivery (
    alert_id  bigint      NOT NULL REFERENCES {{schema}}.alert (id) ON DELETE CASCADE,
    sink_id   bigint      NOT NULL REFERENCES {{schema}}.alert_sink (id) ON DELETE CASCADE,
    attempts  integer     NOT NULL DEFAULT 0,
    due       timestamptz NOT NULL DEFAULT now(),
    delivered timestamptz,
    PRIMARY KEY (alert_id, sink_id)
);
CREATE INDEX alert_delivery_due ON {{schema}}.alert_delivery (due) WHERE delivered IS NULL;
COMMENT ON TABLE  {{schema}}.alert_delivery     IS 'Which sink is to be told of which alert. Made in one commit with the alert.';
COMMENT ON COLUMN {{schema}}.alert_delivery.due IS 'When it is tried next. A server that tries it puts this off, lest it dies.';

GRANT SELECT                                                ON {{schema}}.alert_sink     TO {{app}};
GRANT SELECT, INSERT, UPDATE (attempts, due, delivered)     ON {{schema}}.alert_delivery TO {{app}};
