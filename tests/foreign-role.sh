#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server that was started by hand, and stops the server afterwards, whatever became of the command:
#
#   tests/foreign-role.sh cargo test --test seed
#
# Tests that the command runs are run there, as people run dbstress: as a role of another name than `dbstress`, which is no superuser, may
# make neither roles nor databases and sees no statistics of others, in databases that a superuser has made for it. Its settings are odd.
# At the end it says which tests could not be run there, and why.
set -euo pipefail

# The newest server that is there.
initdb=$(command -v initdb || ls -v /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/libexec/postgresql*/initdb \
  /opt/homebrew/opt/postgresql@*/bin/initdb /usr/local/opt/postgresql@*/bin/initdb 2>/dev/null | tail -n 1 || true)
if [[ -z $initdb ]]; then
  echo "no PostgreSQL was found: install it with the system's package manager" >&2
  exit 2
fi
bin=$(dirname "$(readlink -f "$initdb")")

directory=$(mktemp -d "${TMPDIR:-/tmp}/dbstress-by-hand.XXXXXX")
chmod 755 "$directory"
# PostgreSQL refuses to run as root.
as=()
if ((EUID == 0)); then
  user=postgres
  id -u "$user" >/dev/null 2>&1 || user=nobody
  chown "$user" "$directory"
  as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
fi

command=
stop() {
  local code=$?
  trap - EXIT INT TERM HUP
  if [[ -n $command ]]; then
    # All that it has started, too.
    kill -TERM -- "-$command" 2>/dev/null || true
    wait "$command" || true
  fi
  if [[ -e $directory/data/postmaster.pid ]]; then
    "${as[@]}" "$bin/pg_ctl" stop -D "$directory/data" -m immediate -w >/dev/null 2>&1 || true
  fi
  rm -rf "$directory"
  exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

cd "$directory"
password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
printf '%s\n' "$password" >password
chmod 644 password
"${as[@]}" "$initdb" -D data -U postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync >log 2>&1 ||
  { cat log >&2; exit 1; }
# As the administrator of a server does it. What a session does not ask for itself is what its role says: names are found nowhere, dates and
# intervals are written unlike anything that programs expect, and backslashes mean something. The level of transactions is the server's, since
# some tests give their database another.
printf '%s\n' "default_transaction_isolation = 'repeatable read'" 'max_connections = 300' >>data/postgresql.conf
"${as[@]}" "$bin/postgres" --single -D data postgres >>log 2>&1 <<SQL
CREATE ROLE "Load Tester" LOGIN PASSWORD '$password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
ALTER ROLE "Load Tester" SET search_path = "no such schema", pg_catalog
ALTER ROLE "Load Tester" SET DateStyle = 'German, DMY'
ALTER ROLE "Load Tester" SET IntervalStyle = 'sql_standard'
ALTER ROLE "Load Tester" SET TimeZone = 'Asia/Kathmandu'
ALTER ROLE "Load Tester" SET bytea_output = 'escape'
ALTER ROLE "Load Tester" SET standard_conforming_strings = off
ALTER ROLE "Load Tester" SET escape_string_warning = off
ALTER ROLE "Load Tester" SET quote_all_identifiers = on
ALTER ROLE "Load Tester" SET client_min_messages = debug1
SQL
if grep -q ERROR log; then
  cat log >&2
  exit 1
fi

# Another one may take the port before the server does: then another port is tried.
for attempt in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 12000))
  if "${as[@]}" "$bin/pg_ctl" start -D data -w -l data/log -o "-F -p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" >/dev/null 2>&1; then
    break
  fi
  if ((attempt == 5)); then
    cat data/log >&2
    exit 1
  fi
done

export DBSTRESS_TEST_DATABASE_URL="postgres://Load%20Tester:$password@127.0.0.1:$port/postgres"
export DBSTRESS_TEST_SUPERUSER_URL="postgres://postgres:$password@127.0.0.1:$port/postgres"
export DBSTRESS_TEST_NOT_APPLICABLE="$directory/not-applicable"
cd "$OLDPWD"
# In a process group of its own, so that all of it can be ended.
set -m
"$@" </dev/null &
command=$!
set +m
code=0
wait "$command" || code=$?
command=
if [[ -s $DBSTRESS_TEST_NOT_APPLICABLE ]]; then
  echo "not run as another role on another server:" >&2
  sort "$DBSTRESS_TEST_NOT_APPLICABLE" | sed 's/^/  /' >&2
fi
exit "$code"
