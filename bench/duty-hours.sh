#!/usr/bin/env bash
# What does it cost to validate a schedule? Residents by days, one validation after the other without writers: milliseconds on the clock and of
# our processor, the rules alone, the same asked as SQL, and the largest resident set. In a database of its own on the private server, made anew
# for each row.
#
#   bench/duty-hours.sh            DBSTRESS=target/release/dbstress TIMES=20 RULES=cpr
#   bench/duty-hours.sh large      also a hundred programmes of a hundred residents for a year, which is read in portions
set -euo pipefail
cd "$(dirname "$0")/.."
dbstress=${DBSTRESS:-target/release/dbstress}
out=$(mktemp); trap 'rm -f "$out"' EXIT

printf '%-34s %10s %11s %9s %9s %9s %9s %9s\n' schedule residents assignments 'clock ms' 'CPU ms' 'rules ms' 'SQL ms' 'RSS MiB'
row() {
  local name=$1 times=$2; shift 2
  "$dbstress" --managed --database duty_hours --quiet seed --reset --dataset residency "$@" >/dev/null
  "$dbstress" --managed --database duty_hours --quiet acgme --rules "${RULES:-cpr}" --measure "$times" --json >"$out" &
  local pid=$! most=0 now
  # Without anything planted it says that nothing is shown: 3. What it measured is right all the same.
  while now=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do most=$now; sleep 0.02; done
  local code=0; wait "$pid" || code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || { echo "$name: exit code $code" >&2; exit "$code"; }
  jq -r --arg name "$name" --argjson rss "$most" '.phases[0] as $p | [$name, .schedule.residents, .schedule.assignments,
    ($p.cost.wall.p50_ms // $p.cost.wall.max_ms), $p.cost.cpu_ms, $p.cost.rules_cpu_ms, $p.sql_ms, $rss / 1024] | @tsv' "$out" |
    awk -F'\t' '{ printf "%-34s %10d %11d %9.2f %9.2f %9.2f %9.1f %9.1f\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
}
times=${TIMES:-20}
row '10 residents, nothing scheduled' "$times" --residents 10 --fill empty
row '100 residents, 28 days, sparse' "$times" --fill sparse
row '24 residents, 14 days' "$times" --residents 24 --days 14
row '51 residents, 28 days' "$times" --residents 51
row '100 residents, 28 days' "$times"
row '100 residents, 84 days' "$times" --days 84
[ "${1:-}" != large ] || row '10,000 residents, 365 days' 1 --scale 100 --days 365
