#!/usr/bin/env bash
# Measures nothing but rightness, on the plainest contest there is: 50 virtual users, one unit each, 20 units. Exactly 20 of them must win,
# in each of 1,000 rounds, whichever safe strategy protects the row. Prints the report: winners, refusals, contested rounds, and the share
# of rounds that might still hide a breach. Speed is shown beside it and is not compared with anything.
#
# In a database of its own on the private server, made anew each time. What is given on the command line is passed on, as in
#   bench/contest-1000.sh --summary-export contest.json
# ROUNDS=100 plays fewer. Exit code: that of `dbstress contention`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dbstress() { cargo run --quiet --release --locked -- --managed --database contest_1000 "$@"; }

dbstress --quiet seed --reset >/dev/null
dbstress contention --strategy all --vus 50 --units 1 --total 20 --rounds "${ROUNDS:-1000}" "$@"
