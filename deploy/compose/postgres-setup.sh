#!/usr/bin/env bash
# Gives each service a role and a database of its name, which no other service can open. The job can run any number of
# times and completes what an interrupted run left. The services are those whose passwords are mounted as
# /run/secrets/<service>_password. CONNECTIONS is how many connections each of them may have.
set -euo pipefail

export PGHOST=postgres PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5
PGPASSWORD=$(cat /run/secrets/postgres_superuser_password)
export PGPASSWORD

run() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "$@"; }

run <<'SQL'
-- Only the administrator needs these databases.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL

for file in /run/secrets/*_password; do
    service=$(basename "$file" _password)
    [ "$service" != postgres_superuser ] || continue
    # Every user of the host can read the arguments of a process, so psql reads the password from the file.
    run --set service="$service" --set file="$file" --set connections="$CONNECTIONS" <<'SQL'
\set password `cat :'file'`
-- A failed statement is logged, and the next ones contain a password.
SET log_min_error_statement = panic;
SELECT format('CREATE ROLE %I LOGIN', :'service')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service') \gexec
ALTER ROLE :"service" LOGIN PASSWORD :'password' CONNECTION LIMIT :connections;
SELECT format('CREATE DATABASE %I OWNER %I', :'service', :'service')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
    echo "$service: role and database are ready"
done
