-- To look the setting up costs half of what it costs to verify its signature,
-- and every table that a statement names asks once. So the settings of the
-- tenants of this place are kept as they are signed, and what is not among them
-- binds nobody. Only the owner reads them: whoever can run SQL as the server's
-- role would have to guess 256 bits.
CREATE TABLE {{schema}}.binding (
    setting text    COLLATE "C" PRIMARY KEY,
    number  integer NOT NULL UNIQUE
);
COMMENT ON TABLE  {{schema}}.binding         IS 'The tenants of this place, each with the setting cordon.tenant that binds a transaction to it. No role but the owner may read it.';
COMMENT ON COLUMN {{schema}}.binding.setting IS 'The number, a point and its signature by the secret in signer.';

CREATE OR REPLACE FUNCTION {{schema}}.tenant() RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound integer;
BEGIN
    SELECT b.number INTO bound FROM {{schema}}.binding b WHERE b.setting = current_setting('cordon.tenant', true);
    IF bound IS NULL THEN
        RAISE EXCEPTION 'the transaction is not bound to a tenant' USING ERRCODE = '28000';
    END IF;
    RETURN bound;
END
$$;
COMMENT ON FUNCTION {{schema}}.tenant() IS 'The tenant that the transaction is bound to. Raises 28000 if there is none, or if its setting is not the one of a tenant of this place.';
