#!/usr/bin/env bash
# How long does each rule take on a big ledger? A million lines in it, all of them right: a rule that holds has to look at all of them.
#
#   bench/rules.sh [dataset ...]        both datasets unless some are named: clinic residency
#
# Each line is a rule: its name and the seconds that its check took, the slowest first; then what `verify` took in all.
#
# LINES=1000000 DBSTRESS=target/release/dbstress
set -euo pipefail
cd "$(dirname "$0")/.."
lines=${LINES:-1000000}
dbstress=${DBSTRESS:-target/release/dbstress}
[ -x "$dbstress" ] || { echo "build first: cargo build --release" >&2; exit 2; }
psql=$(ls /usr/lib/postgresql/*/bin/psql 2>/dev/null | tail -1); psql=${psql:-$(command -v psql)} || { echo "psql is not installed" >&2; exit 2; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# A database of its own: runs of others would be in the way.
export DBSTRESS_DATABASE=rules
"$dbstress" db start >/dev/null
for dataset in ${@:-clinic residency}; do
  "$dbstress" seed --reset --quiet --managed --dataset "$dataset" >/dev/null
  "$psql" -qX -v ON_ERROR_STOP=1 -v lines="$lines" -f "bench/rules/$dataset.sql" "$("$dbstress" db url)"
  began=$(date +%s.%N)
  code=0
  "$dbstress" verify --managed --quiet --json >"$work/verify" || code=$?
  awk -v dataset="$dataset" -v lines="$lines" 'BEGIN { printf "%s, %d lines\n", dataset, lines }' </dev/null
  awk -F'[":, ]+' '/^ *"elapsed_ms":/ { took = $3 / 1000 } /^ *"name":/ && took != "" { printf "  %-30s %8.2f\n", $3, took; took = "" }' "$work/verify" | sort -k2 -nr
  awk -v began="$began" -v ended="$(date +%s.%N)" -v code="$code" 'BEGIN { printf "  %-30s %8.2f (exit %d)\n", "verify, in all", ended - began, code }' </dev/null
done
