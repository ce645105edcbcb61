-- What operators ask of records: why somebody may see something, and what they
-- would see. The control plane, which sees no record, writes down the question;
-- a server that serves the tenant answers it. Both are sealed, and removed
-- within minutes.
CREATE TABLE {{schema}}.inquiry (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    kek       text        NOT NULL,
    question  bytea       NOT NULL,
    answer    bytea,
    asked     timestamptz NOT NULL DEFAULT now(),
    taken     timestamptz
);
CREATE INDEX inquiry_waiting ON {{schema}}.inquiry (tenant_id, id) WHERE taken IS NULL;
COMMENT ON TABLE  {{schema}}.inquiry          IS 'Questions of operators about access to records, on their way to a server and back.';
COMMENT ON COLUMN {{schema}}.inquiry.question IS 'Sealed under kek, for this tenant.';
COMMENT ON COLUMN {{schema}}.inquiry.answer   IS 'Sealed under kek, for this id. Null: there is none yet.';
COMMENT ON COLUMN {{schema}}.inquiry.taken    IS 'When a server took it up. None is taken up twice: who asks asks again.';

GRANT SELECT, UPDATE (answer, taken), DELETE ON {{schema}}.inquiry TO {{app}};
