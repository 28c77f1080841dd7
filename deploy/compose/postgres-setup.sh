#!/usr/bin/env bash
# Gives each service a role and a database of its name that no other service may enter. A job: it may run any number of
# times, and mends what an interrupted run left. The services are those whose password is mounted here:
# /run/secrets/<service>_password. CONNECTIONS is how many connections each of them may have.
set -euo pipefail

export PGHOST=postgres PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5
PGPASSWORD=$(cat /run/secrets/postgres_superuser_password)
export PGPASSWORD

run() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "$@"; }

run <<'SQL'
-- Nobody but the administrator has a reason to be there.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL

for file in /run/secrets/*_password; do
    service=$(basename "$file" _password)
    [ "$service" != postgres_superuser ] || continue
    # Everybody on the host can read the arguments of a process, so psql reads the password by itself.
    run --set service="$service" --set file="$file" --set connections="$CONNECTIONS" <<'SQL'
\set password `cat :'file'`
-- A statement that fails is logged, and these hold passwords.
SET log_min_error_statement = panic;
SELECT format('CREATE ROLE %I LOGIN', :'service')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service') \gexec
ALTER ROLE :"service" LOGIN PASSWORD :'password' CONNECTION LIMIT :connections;
SELECT format('CREATE DATABASE %I OWNER %I', :'service', :'service')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
    echo "$service: role and database are there"
done
