#!/usr/bin/env bash
# Is dbstress as fast as oha over HTTP, and as cheap, and how far is it from wrk? All three send the same requests to the same server, one after
# the other in alternation: to the reference server's health route, which asks no database, and to its reserve route, which books a unit.
#
#   bench/versus-oha.sh [route ...]        both routes unless one is named: health reserve
#
# Each line is a cell: the median of the ratios dbstress / other over all rounds, and in brackets the smallest and the largest, which enclose the
# true median with a probability of 98 % at seven rounds. Against oha, throughput should reach 1.00 or more, client CPU per request (user and
# system time of the whole process, start and end included) 1.00 or less. wrk is C, keeps no history and judges nothing: it is shown.
# At the end, what the server costs over SQL: the same bookings through it and without it.
# Every client keeps its connections and has one thread; the server has the other processor.
#
# ROUNDS=7 SECONDS_EACH=5 CONNECTIONS=50 PORT=8979 DBSTRESS=target/release/dbstress OHA=oha WRK=wrk
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-7} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-50} port=${PORT:-8979}
dbstress=${DBSTRESS:-target/release/dbstress} oha=${OHA:-oha} wrk=${WRK:-wrk}
[ -x "$dbstress" ] || { echo "build first: cargo build --release" >&2; exit 2; }
command -v "$oha" >/dev/null || { echo "oha is not installed: cargo install oha" >&2; exit 2; }
command -v "$wrk" >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 2; }
work=$(mktemp -d)
export DBSTRESS_STATE_DIR="$work/state"
mkdir "$DBSTRESS_STATE_DIR" && chmod 711 "$work"
server=
finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" || true; }
  "$dbstress" db stop >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
