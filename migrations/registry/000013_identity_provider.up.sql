-- Identity providers that tenants let their users log in with.
-- https://openid.net/specs/openid-connect-core-1_0.html
CREATE TABLE {{schema}}.identity_provider (
    tenant_id integer     NOT NULL REFERENCES {{schema}}.tenant (id),
    name      text        COLLATE "C" NOT NULL,
    issuer    text        COLLATE "C" NOT NULL,
    config    jsonb       NOT NULL,
    secret    bytea,
    created   timestamptz NOT NULL DEFAULT now(),
    updated   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE  {{schema}}.identity_provider        IS 'OpenID Connect providers whose users a tenant lets log in.';
COMMENT ON COLUMN {{schema}}.identity_provider.issuer IS 'Never changes: a subject is another person at another issuer.';
COMMENT ON COLUMN {{schema}}.identity_provider.config IS 'Label, client_id, scopes and what its claims mean.';
COMMENT ON COLUMN {{schema}}.identity_provider.secret IS 'The client secret, wrapped by the key management service; NULL: none.';

CREATE TABLE {{schema}}.identity_user (
    tenant_id integer     NOT NULL,
    provider  text        COLLATE "C" NOT NULL,
    subject   text        COLLATE "C" NOT NULL,
    disabled  boolean     NOT NULL DEFAULT false,
    created   timestamptz NOT NULL DEFAULT now(),
    updated   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, provider, subject),
    FOREIGN KEY (tenant_id, provider) REFERENCES {{schema}}.identity_provider (tenant_id, name) ON DELETE CASCADE
);
COMMENT ON TABLE  {{schema}}.identity_user         IS 'Users of a provider whom an operator has let in, or shut out, or who came to a provider that is open.';
COMMENT ON COLUMN {{schema}}.identity_user.subject IS 'The sub of the provider.';

CREATE TABLE {{schema}}.identity_request (
    tenant_id integer     NOT NULL,
    state     bytea       NOT NULL,
    browser   bytea       NOT NULL,
    data      bytea       NOT NULL,
    expires   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, state)
);
CREATE INDEX identity_request_expires ON {{schema}}.identity_request (expires);
COMMENT ON TABLE  {{schema}}.identity_request         IS 'Logins that are under way at a provider. Each is taken up once, by the browser that began it.';
COMMENT ON COLUMN {{schema}}.identity_request.state   IS 'SHA-256 of the state parameter.';
COMMENT ON COLUMN {{schema}}.identity_request.browser IS 'SHA-256 of the cookie.';
COMMENT ON COLUMN {{schema}}.identity_request.data    IS 'What the app asks, the nonce and the verifier, sealed with the tenant''s key.';

ALTER TABLE {{schema}}.session  ADD COLUMN acr text NOT NULL DEFAULT '', ADD COLUMN amr text[] NOT NULL DEFAULT '{}';
ALTER TABLE {{schema}}.approval ADD COLUMN acr text NOT NULL DEFAULT '', ADD COLUMN amr text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN {{schema}}.session.acr  IS 'How the user proved to be who they are, in the words of the provider.';
COMMENT ON COLUMN {{schema}}.approval.acr IS 'As in the session that it was given in.';

GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.identity_provider, {{schema}}.identity_user, {{schema}}.identity_request TO {{app}};
