-- The binding of a transaction to a tenant. The setting cordon.tenant is
-- 'n.signature'. Whoever can run SQL as the server's role can change the
-- setting, but not sign another number: only the owner reads the secret.
CREATE TABLE {{schema}}.signer (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea   NOT NULL CHECK (length(secret) = 32)
);
COMMENT ON TABLE {{schema}}.signer IS 'The secret that signs tenant numbers. One row; no role but the owner may read it.';

-- The owner is held by row-level security as everyone is; this one function
-- runs as the owner because it has to read the secret. It returns a number and
-- nothing else, and its message holds no value.
CREATE FUNCTION {{schema}}.tenant() RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound  text := current_setting('cordon.tenant', true);
    number text := split_part(bound, '.', 1);
    key    bytea;
BEGIN
    SELECT s.secret INTO STRICT key FROM {{schema}}.signer s;
    IF bound IS NULL OR bound <> number || '.'
       || encode(sha256(key || sha256(key || convert_to(number, 'UTF8'))), 'hex')
    THEN
        RAISE EXCEPTION 'the transaction is not bound to a tenant' USING ERRCODE = '28000';
    END IF;
    RETURN number::integer;
END
$$;
COMMENT ON FUNCTION {{schema}}.tenant() IS 'The tenant that the transaction is bound to. Raises 28000 if there is none, or if its signature is wrong.';

REVOKE ALL ON FUNCTION {{schema}}.tenant() FROM PUBLIC;
-- Statements are prepared by the role that logs in, before it becomes the
-- tenant's: it has to find the tables, and has no right to read them.
GRANT USAGE ON SCHEMA {{schema}} TO {{app}}, {{login}}, {{audit}};
GRANT EXECUTE ON FUNCTION {{schema}}.tenant() TO {{app}};
