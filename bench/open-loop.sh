#!/usr/bin/env bash
# Does an open loop of 5,000 arrivals per second keep its own schedule? Exits 0 if the schedule lag stays within 5 ms at the 99th percentile
# and nothing is dropped.
#
#   bench/open-loop.sh        RATE=5000 SECONDS_EACH=20 DBSTRESS=target/release/dbstress
set -euo pipefail
cd "$(dirname "$0")/.."
dbstress=${DBSTRESS:-target/release/dbstress}
# Debian's pgbench on the PATH is a Perl script around this one, which would be charged to pgbench.
pgbench=$(ls /usr/lib/postgresql/*/bin/pgbench 2>/dev/null | tail -1); pgbench=${pgbench:-$(command -v pgbench)} || { echo "pgbench is not installed" >&2; exit 2; }
"$dbstress" db start >/dev/null
url=$("$dbstress" db url)
"$pgbench" -n -t 1 -f bench/pgbench/setup.sql "$url" >/dev/null 2>&1
"$dbstress" run -f bench/pgbench/select.sql --rate "${RATE:-5000}" --vus 50 --duration "${SECONDS_EACH:-20}s" --warm-up 2s --arrival poisson \
  --threshold 'lag:p(99)<=5ms;dropped.count==0' --accept-uncontrolled --disposable "${url##*/}" --database-url "$url"
