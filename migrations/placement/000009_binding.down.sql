CREATE OR REPLACE FUNCTION {{schema}}.tenant() RETURNS integer
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
DROP TABLE {{schema}}.binding;
