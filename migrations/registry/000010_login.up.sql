-- Who logs in, what they let applications do, and what was taken back.
-- https://hl7.org/fhir/smart-app-launch/app-launch.html
ALTER TABLE {{schema}}.client
    ADD COLUMN method        text   NOT NULL DEFAULT 'private_key_jwt',
    ADD COLUMN secret        bytea,
    ADD COLUMN redirect_uris text[] NOT NULL DEFAULT '{}',
    ADD COLUMN launch_url    text   NOT NULL DEFAULT '';
COMMENT ON COLUMN {{schema}}.client.method        IS 'How it proves who it is: private_key_jwt, client_secret or none.';
COMMENT ON COLUMN {{schema}}.client.secret        IS 'SHA-256 of its secret, which is random.';
COMMENT ON COLUMN {{schema}}.client.redirect_uris IS 'Where a user may be sent back to.';
COMMENT ON COLUMN {{schema}}.client.launch_url    IS 'Where an EHR opens it; empty: nowhere.';

CREATE TABLE {{schema}}.account (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    login     text        COLLATE "C" NOT NULL,
    hash      text        NOT NULL,
    totp      bytea,
    totp_step bigint      NOT NULL DEFAULT 0,
    fhir_user text        NOT NULL,
    person    jsonb       NOT NULL,
    disabled  boolean     NOT NULL,
    created   timestamptz NOT NULL DEFAULT now(),
    updated   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, login)
);
COMMENT ON TABLE  {{schema}}.account           IS 'The users whom a tenant lets log in here.';
COMMENT ON COLUMN {{schema}}.account.hash      IS 'Argon2id of the password.';
COMMENT ON COLUMN {{schema}}.account.totp      IS 'The secret of the one-time codes, wrapped by the key management service; NULL: none.';
COMMENT ON COLUMN {{schema}}.account.totp_step IS 'The last step whose code was used: none is accepted twice.';
COMMENT ON COLUMN {{schema}}.account.person    IS 'What tokens say of the user beside fhir_user.';

CREATE TABLE {{schema}}.login_attempt (
    tenant_id integer     NOT NULL,
    subject   bytea       NOT NULL,
    count     integer     NOT NULL,
    last      timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subject)
);
CREATE INDEX login_attempt_last ON {{schema}}.login_attempt (last);
COMMENT ON TABLE  {{schema}}.login_attempt         IS 'Logins that have not succeeded, by who was named and by whence they came.';
COMMENT ON COLUMN {{schema}}.login_attempt.subject IS 'SHA-256 of the login or the address.';
COMMENT ON COLUMN {{schema}}.login_attempt.until   IS 'Before then no further attempt is looked at.';

CREATE TABLE {{schema}}.session (
    tenant_id     integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id            text        COLLATE "C" NOT NULL,
    secret        bytea       NOT NULL,
    source        text        NOT NULL,
    subject       text        NOT NULL,
    fhir_user     text        NOT NULL,
    person        jsonb       NOT NULL,
    authenticated timestamptz NOT NULL DEFAULT now(),
    seen          timestamptz NOT NULL DEFAULT now(),
    expires       timestamptz NOT NULL,
    ended         timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, secret)
);
CREATE INDEX session_subject ON {{schema}}.session (tenant_id, source, subject);
CREATE INDEX session_expires ON {{schema}}.session (expires);
COMMENT ON TABLE  {{schema}}.session         IS 'Users who have logged in with a browser.';
COMMENT ON COLUMN {{schema}}.session.secret  IS 'SHA-256 of the cookie.';
COMMENT ON COLUMN {{schema}}.session.source  IS 'What the login was by; local: an account here.';

CREATE TABLE {{schema}}.launch (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    handle    bytea       NOT NULL,
    opener    text        NOT NULL,
    app       text        NOT NULL,
    subject   text        NOT NULL,
    context   jsonb       NOT NULL,
    expires   timestamptz NOT NULL,
    used      timestamptz,
    PRIMARY KEY (tenant_id, handle)
);
CREATE INDEX launch_expires ON {{schema}}.launch (expires);
COMMENT ON TABLE  {{schema}}.launch         IS 'Launches that an EHR has opened and an app has yet to take up.';
COMMENT ON COLUMN {{schema}}.launch.handle  IS 'SHA-256 of the launch parameter.';
COMMENT ON COLUMN {{schema}}.launch.subject IS 'The login that it is for; empty: whoever takes it up.';
COMMENT ON COLUMN {{schema}}.launch.context IS 'Names of resources, no content of any.';

CREATE TABLE {{schema}}.approval (
    tenant_id     integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    id            text        COLLATE "C" NOT NULL,
    client        text        COLLATE "C" NOT NULL,
    session       text        COLLATE "C" NOT NULL,
    source        text        NOT NULL,
    subject       text        NOT NULL,
    fhir_user     text        NOT NULL,
    person        jsonb       NOT NULL,
    authenticated timestamptz NOT NULL,
    scope         text        NOT NULL,
    offline       boolean     NOT NULL,
    context       jsonb       NOT NULL,
    nonce         text        NOT NULL,
    code          bytea       NOT NULL,
    code_expires  timestamptz NOT NULL,
    code_used     timestamptz,
    redirect_uri  text        NOT NULL,
    challenge     text        NOT NULL,
    created       timestamptz NOT NULL DEFAULT now(),
    revoked       timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
CREATE INDEX approval_session ON {{schema}}.approval (tenant_id, session);
CREATE INDEX approval_subject ON {{schema}}.approval (tenant_id, source, subject);
COMMENT ON TABLE  {{schema}}.approval         IS 'What users have let applications do: every token of a user comes from one.';
COMMENT ON COLUMN {{schema}}.approval.code    IS 'SHA-256 of the authorization code.';
COMMENT ON COLUMN {{schema}}.approval.offline IS 'It outlives the session.';

CREATE TABLE {{schema}}.refresh_token (
    tenant_id integer     NOT NULL,
    hash      bytea       NOT NULL,
    approval  text        COLLATE "C" NOT NULL,
    expires   timestamptz NOT NULL,
    used      timestamptz,
    PRIMARY KEY (tenant_id, hash),
    FOREIGN KEY (tenant_id, approval) REFERENCES {{schema}}.approval (tenant_id, id)
);
CREATE INDEX refresh_token_approval ON {{schema}}.refresh_token (tenant_id, approval);
COMMENT ON TABLE  {{schema}}.refresh_token      IS 'Refresh tokens, also those that were used: who brings one again has stolen it, or was stolen from.';
COMMENT ON COLUMN {{schema}}.refresh_token.hash IS 'SHA-256 of the token.';

CREATE TABLE {{schema}}.revocation (
    tenant_id integer     NOT NULL,
    id        text        COLLATE "C" NOT NULL,
    expires   timestamptz NOT NULL,
    xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX revocation_xid     ON {{schema}}.revocation (xid);
CREATE INDEX revocation_expires ON {{schema}}.revocation (expires);
COMMENT ON TABLE  {{schema}}.revocation     IS 'Approvals and tokens that are void although they have not expired. Every server reads what was added.';
COMMENT ON COLUMN {{schema}}.revocation.xid IS 'The transaction that added it, so that a reader misses none that was still running.';

CREATE TABLE {{schema}}.signing_key (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    kid       text        COLLATE "C" NOT NULL,
    kek       text        NOT NULL,
    data      bytea       NOT NULL,
    created   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kid)
);
COMMENT ON TABLE  {{schema}}.signing_key      IS 'RSA keys that sign ID tokens, RS256. The youngest signs.';
COMMENT ON COLUMN {{schema}}.signing_key.data IS 'The private key, wrapped; opens only for this tenant.';

GRANT SELECT, INSERT, UPDATE         ON {{schema}}.account, {{schema}}.approval TO {{app}};
GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.login_attempt, {{schema}}.session, {{schema}}.launch, {{schema}}.refresh_token TO {{app}};
GRANT SELECT, INSERT, DELETE         ON {{schema}}.revocation, {{schema}}.signing_key TO {{app}};
