-- A role for each program, with what it needs of the database. As the owner of the tables, after each `manage.py migrate`:
--     psql -d console -f deploy/postgresql-roles.sql
-- Once before, as a superuser: CREATE ROLE … LOGIN PASSWORD '…' for each of the four, and
-- REVOKE ALL ON DATABASE console FROM PUBLIC; GRANT CONNECT ON DATABASE console TO … for all of them.

BEGIN;

-- Nobody but the owner makes tables or functions (the default since PostgreSQL 15).
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- The console, and the commands of manage.py other than `migrate`. The ledger is only ever added to.
GRANT USAGE ON SCHEMA public TO api_key_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO api_key_console;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO api_key_console;
REVOKE UPDATE, DELETE, TRUNCATE ON console_entry, console_installationentry FROM api_key_console;
REVOKE DELETE ON apikeys_apikey, apikeys_usage, console_user, console_budget FROM api_key_console;
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM api_key_console;

-- The gate: the columns of its index, and with which digest keys they were made.
GRANT USAGE ON SCHEMA public TO api_key_gate;
GRANT SELECT (digest, id, account_id, deleted_at, disabled_at, account_disabled, expires_at) ON apikeys_apikey TO api_key_gate;
GRANT SELECT (name, version, fingerprint) ON console_vaultkey TO api_key_gate;

-- `manage.py meter`; of the keys, which are deleted
GRANT USAGE ON SCHEMA public TO api_key_meter;
GRANT SELECT (id, digest, deleted_at, expires_at) ON apikeys_apikey TO api_key_meter;
GRANT SELECT, INSERT, UPDATE ON apikeys_usage TO api_key_meter;
GRANT SELECT, INSERT, DELETE ON apikeys_foldedfile TO api_key_meter;

-- `manage.py housekeep`: email that waits, sessions that have expired, rate limits whose period has ended; the ledger's heads,
-- and its rows about log-ons without a code and about events that were only counted. Users without their passwords; a row is
-- locked with the right to update a column of it.
GRANT USAGE ON SCHEMA public TO api_key_housekeep;
GRANT SELECT, INSERT, UPDATE, DELETE ON console_email TO api_key_housekeep;
GRANT SELECT, DELETE ON console_session TO api_key_housekeep;
GRANT SELECT (since), DELETE ON console_tally TO api_key_housekeep;
GRANT SELECT, INSERT, UPDATE ON console_budget TO api_key_housekeep;
GRANT SELECT, INSERT ON console_entry TO api_key_housekeep;
GRANT SELECT ON console_installationentry TO api_key_housekeep;
GRANT SELECT (id, user_id, confirmed) ON console_authenticator TO api_key_housekeep;
GRANT SELECT (id, username, folded_name, email, is_active, is_staff, is_superuser, last_login, date_joined, account_id,
    must_change_password, invited_at, max_active_keys, max_keys_a_day, show_once), UPDATE (date_joined)
    ON console_user TO api_key_housekeep;

COMMIT;
