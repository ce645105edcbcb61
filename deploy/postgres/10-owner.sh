#!/bin/sh
# Runs once, when the database cluster is made: makes the role that will own
# Cordon's databases, and closes what PostgreSQL leaves open to everyone. The
# owner is no superuser, so row-level security holds it too.
set -eu

for database in template1 postgres; do
	psql -v ON_ERROR_STOP=1 --username=postgres --dbname="$database" --quiet <<-'SQL'
		REVOKE ALL ON SCHEMA public FROM PUBLIC;
	SQL
done

psql -v ON_ERROR_STOP=1 --username=postgres --dbname=postgres --quiet <<-'SQL'
	\getenv owner_password CORDON_OWNER_PASSWORD
	CREATE ROLE cordon_owner LOGIN CREATEDB CREATEROLE NOSUPERUSER NOBYPASSRLS NOREPLICATION
		PASSWORD :'owner_password';
	REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
	GRANT CONNECT ON DATABASE postgres TO cordon_owner;

	-- Large objects know no row-level security.
	UPDATE pg_database SET datallowconn = true WHERE datname = 'template0';
	\connect template0
	REVOKE ALL ON SCHEMA public FROM PUBLIC;
	DO $$
	DECLARE f regprocedure;
	BEGIN
		FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
		         AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
		LOOP
			EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
		END LOOP;
	END
	$$;
	\connect postgres
	UPDATE pg_database SET datallowconn = false WHERE datname = 'template0';
SQL
