#!/usr/bin/env bash
# How much memory does a virtual user take beyond its connection? The largest resident set with few and with many virtual users on one and the
# same small pool, so that nothing but the virtual users differs. At most 32 KiB each is the goal.
#
#   bench/memory.sh        DBSTRESS=target/release/dbstress
set -euo pipefail
cd "$(dirname "$0")/.."
dbstress=${DBSTRESS:-target/release/dbstress}
"$dbstress" db start >/dev/null
url=$("$dbstress" db url)
script=$(mktemp --suffix .sql); trap 'rm -f "$script"' EXIT
echo 'SELECT 1;' >"$script"
resident() {
  "$dbstress" run -f "$script" --vus "$1" --pool-size 4 --think 1s --duration 6s --accept-uncontrolled --disposable "${url##*/}" \
    --database-url "$url" --quiet >/dev/null 2>&1 &
  local pid=$! most=0
  for _ in $(seq 50); do
    sleep 0.1
    now=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null || true)
    most=${now:-$most}
  done
  wait "$pid" || true
  echo "$most"
}
few=$(resident 100); many=$(resident 10100)
echo "100 virtual users: $few KiB; 10,100: $many KiB; $(awk -v a="$few" -v b="$many" 'BEGIN { printf "%.1f", (b - a) / 10000 }') KiB each"
