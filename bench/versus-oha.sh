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

"$dbstress" db start >/dev/null
url=$("$dbstress" db url)
"$dbstress" seed --quiet >/dev/null
psql=$(ls /usr/lib/postgresql/*/bin/psql 2>/dev/null | tail -1); psql=${psql:-$(command -v psql)} || { echo "psql is not installed" >&2; exit 2; }
# Whoever waits for the disk measures the disk: here a COMMIT is acknowledged before it is on it.
"$psql" -XAtq "$url" -c "DO \$\$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END \$\$"
# An authorisation that nobody can use up.
authorisation=$("$psql" -XAtq "$url" -c "UPDATE dbstress.authorisation SET total = 2000000000 WHERE id = (SELECT min(id) FROM dbstress.authorisation WHERE status = 'ACTIVE') RETURNING id")
organisation=$("$psql" -XAtq "$url" -c "SELECT organisation_id FROM dbstress.authorisation WHERE id = $authorisation")
serve() {
  "$dbstress" serve --listen "127.0.0.1:$port" --threads 1 --strategy atomic --token-lifetime 24h --quiet --for 2h >"$work/serve" 2>&1 & server=$!
  for _ in $(seq 300); do curl -s -o "$work/health" "http://127.0.0.1:$port/v1/health" && return; sleep 0.1; done
  cat "$work/serve" >&2; exit 1
}
serve
token=$("$dbstress" token --login "admin@org-$organisation.example.com" --lifetime 24h)
body='{"units":1}'
declare -A path=([health]=/v1/health [reserve]="/v1/authorisations/$authorisation/reserve")
cat >"$work/health.toml" <<TOML
workload = "http"
summary = "the health route, which asks no database"
[control]
none = true
[[operation]]
name = "health"
steps = [{ path = "${path[health]}" }]
TOML
cat >"$work/reserve.toml" <<TOML
workload = "http"
summary = "one unit of an authorisation that nobody can use up"
[control]
none = true
[[operation]]
name = "reserve"
steps = [{ method = "POST", path = "${path[reserve]}", headers = { authorization = "Bearer $token", content-type = "application/json" }, body = '$body' }]
TOML
cat >"$work/reserve.lua" <<LUA
wrk.method = "POST"
wrk.body = '$body'
wrk.headers["authorization"] = "Bearer $token"
wrk.headers["content-type"] = "application/json"
LUA
TIMEFORMAT='%U %S'
cpu() { awk '{ sum += $1 + $2 } END { print sum }' "$1"; }

# requests, requests per second, CPU seconds
run_dbstress() {
  { time "$dbstress" run "$work/$1.toml" --target "http://127.0.0.1:$port" --vus "$connections" --threads 1 --duration "${seconds}s" \
      --accept-uncontrolled --quiet --summary-export "$work/record" >"$work/out" 2>"$work/err"; } 2>"$work/time" || { cat "$work/out" "$work/err" >&2; exit 1; }
  local n tps
  n=$(sed -n 's/.*"committed": \([0-9][0-9]*\).*/\1/p' "$work/record" | head -1)
  tps=$(sed -n 's/.*"committed_per_second": \([0-9.]*\).*/\1/p' "$work/record" | head -1)
  echo "$n $tps $(cpu "$work/time")"
}
run_oha() {
  local more=()
  [ "$1" = health ] || more=(-m POST -d "$body" -H "authorization: Bearer $token" -H "content-type: application/json")
  { time "$oha" --no-tui --output-format json -c "$connections" -z "${seconds}s" --worker-threads 1 "${more[@]}" "http://127.0.0.1:$port${path[$1]}" >"$work/out" 2>"$work/err"; } 2>"$work/time" || { cat "$work/err" >&2; exit 1; }
  # Only what was answered as it should be.
  local n
  n=$(sed -n 's/.*"20[01]": *\([0-9]*\).*/\1/p' "$work/out" | head -1)
  awk -v n="$n" -v seconds="$seconds" -v cpu="$(cpu "$work/time")" 'BEGIN { print n, n / seconds, cpu }'
}
run_wrk() {
  local more=()
  [ "$1" = health ] || more=(-s "$work/reserve.lua")
  { time "$wrk" -t1 -c"$connections" -d"${seconds}s" "${more[@]}" "http://127.0.0.1:$port${path[$1]}" >"$work/out" 2>"$work/err"; } 2>"$work/time" || { cat "$work/err" >&2; exit 1; }
  ! grep -q 'Non-2xx' "$work/out" || { cat "$work/out" >&2; exit 1; }
  local n
  n=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' "$work/out")
  echo "$n $(sed -n 's/^Requests\/sec: *\([0-9.]*\).*/\1/p' "$work/out") $(cpu "$work/time")"
}

cell() { # route other file: lines of n tps cpu (other) n tps cpu (dbstress)
  awk -v route="$1" -v other="$2" '
    function sorted(from, to,   i, j, t) { for (i = 1; i <= NR; i++) to[i] = from[i]; for (i = 2; i <= NR; i++) for (j = i; j > 1 && to[j] < to[j-1]; j--) { t = to[j]; to[j] = to[j-1]; to[j-1] = t } }
    function median(of) { return NR % 2 ? of[(NR + 1) / 2] : (of[NR / 2] + of[NR / 2 + 1]) / 2 }
    { tps[NR] = $5 / $2; pt[NR] = $2; dt[NR] = $5; pc[NR] = $3 / $1 * 1e6; dc[NR] = $6 / $4 * 1e6; cpu[NR] = dc[NR] / pc[NR] }
    END {
      sorted(tps, t); sorted(cpu, c); sorted(pt, a); sorted(dt, b); sorted(pc, d); sorted(dc, e)
      printf "%-8s %-4s  %9.0f %10.0f  %.2f [%.2f, %.2f]%5s %7.1f %7.1f  %.2f [%.2f, %.2f]\n", route, other, median(a), median(b), median(t), t[1], t[NR], "", median(d), median(e), median(c), c[1], c[NR]
    }' "$3"
}
printf '%-8s %-4s  %9s %10s  %-22s %7s %7s  %-22s\n' route than 'its/s' 'dbstress/s' 'throughput ratio' 'us/req' 'us/req' 'CPU ratio'
for route in ${@:-health reserve}; do
  : >"$work/oha"; : >"$work/wrk"
  for round in $(seq "$rounds"); do
    # Whoever goes first finds the server colder: they take turns.
    case $((round % 3)) in
      0) a=$(run_oha "$route"); b=$(run_dbstress "$route"); c=$(run_wrk "$route") ;;
      1) b=$(run_dbstress "$route"); c=$(run_wrk "$route"); a=$(run_oha "$route") ;;
      *) c=$(run_wrk "$route"); a=$(run_oha "$route"); b=$(run_dbstress "$route") ;;
    esac
    echo "$a $b" >>"$work/oha"; echo "$c $b" >>"$work/wrk"
  done
  cell "$route" oha "$work/oha"; cell "$route" wrk "$work/wrk"
done

# What the server costs: the same bookings, spread over many authorisations, through it and without it.
booked() { "$dbstress" throughput --vus "$connections" --duration "${seconds}s" --think 0s --threads 1 --quiet --summary-export "$work/record" "$@" >"$work/out" 2>"$work/err" || case $? in 3 | 99) ;; *) false ;; esac || { cat "$work/out" "$work/err" >&2; exit 1; }
  sed -n 's/.*"committed_per_second": \([0-9.]*\).*/\1/p' "$work/record" | head -1; }
: >"$work/overhead"
for round in $(seq "$rounds"); do
  if [ $((round % 2)) -eq 0 ]; then a=$(booked --strategy atomic --pool-size 20); b=$(booked --target "http://127.0.0.1:$port"); else b=$(booked --target "http://127.0.0.1:$port"); a=$(booked --strategy atomic --pool-size 20); fi
  echo "$a $b" >>"$work/overhead"
done
awk '{ r[NR] = $2 / $1; a[NR] = $1; b[NR] = $2 } END { n = NR; for (i = 2; i <= n; i++) for (j = i; j > 1 && r[j] < r[j-1]; j--) { t = r[j]; r[j] = r[j-1]; r[j-1] = t; t = a[j]; a[j] = a[j-1]; a[j-1] = t; t = b[j]; b[j] = b[j-1]; b[j-1] = t } m = int((n + 1) / 2); printf "bookings/s through the server %.0f, in SQL %.0f (20 sessions each): %.2f [%.2f, %.2f]\n", b[m], a[m], r[m], r[1], r[n] }' "$work/overhead"
