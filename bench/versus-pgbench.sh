#!/usr/bin/env bash
# Is dbstress as fast as pgbench, and as cheap? Both run the same scripts, on the same server, one after the other in alternation.
#
#   bench/versus-pgbench.sh [script ...]        all four scripts unless some are named: select reserve-spread reserve-hot serializable
#
# Each line is a cell: the median of the ratios dbstress / pgbench over all pairs, and in brackets the smallest and the largest, which
# enclose the true median with a probability of 98 % at seven pairs. Throughput should reach 1.00 or more, client CPU per transaction
# (user and system time of the whole process, start and end included) 1.00 or less.
# Both sides prepare their statements, use as many threads, and try 40001 and 40P01 again at once and without limit.
#
# PAIRS=7 SECONDS_EACH=5 THREADS=1 CLIENTS="8 50" DBSTRESS=target/release/dbstress
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-7} seconds=${SECONDS_EACH:-5} threads=${THREADS:-1} clients=${CLIENTS:-8 50}
dbstress=${DBSTRESS:-target/release/dbstress}
[ -x "$dbstress" ] || { echo "build first: cargo build --release" >&2; exit 2; }
# Debian's pgbench on the PATH is a Perl script around this one, which would be charged to pgbench.
pgbench=$(ls /usr/lib/postgresql/*/bin/pgbench 2>/dev/null | tail -1); pgbench=${pgbench:-$(command -v pgbench)} || { echo "pgbench is not installed" >&2; exit 2; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

"$dbstress" db start >/dev/null
url=$("$dbstress" db url)
"$pgbench" -n -t 1 -f bench/pgbench/setup.sql "$url" >/dev/null 2>"$work/setup" || { cat "$work/setup" >&2; exit 1; }
TIMEFORMAT='%U %S'
cpu() { awk '{ sum += $1 + $2 } END { print sum }' "$1"; }

# transactions, transactions per second, CPU seconds
run_pgbench() {
  { time "$pgbench" -n -M prepared -f "bench/pgbench/$1.sql" -c "$2" -j "$threads" -T "$seconds" --max-tries=0 "$url" >"$work/out" 2>"$work/err"; } 2>"$work/time"
  local n tps
  n=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$work/out")
  tps=$(sed -n 's/^tps = \([0-9.]*\) (without.*/\1/p' "$work/out")
  echo "$n $tps $(cpu "$work/time")"
}
run_dbstress() {
  { time "$dbstress" run -f "bench/pgbench/$1.sql" --vus "$2" --threads "$threads" --duration "${seconds}s" --retry-backoff none \
      --retry-deadline 1h --accept-uncontrolled --disposable "${url##*/}" --database-url "$url" --quiet \
      --summary-export "$work/record" >"$work/out" 2>"$work/err"; } 2>"$work/time" || { cat "$work/out" "$work/err" >&2; exit 1; }
  local n tps
  n=$(sed -n 's/.*"committed": \([0-9][0-9]*\).*/\1/p' "$work/record" | head -1)
  tps=$(sed -n 's/.*"committed_per_second": \([0-9.]*\).*/\1/p' "$work/record" | head -1)
  echo "$n $tps $(cpu "$work/time")"
}

printf '%-16s %7s  %10s %10s  %-22s %8s %8s  %-22s\n' script clients pgbench/s dbstress/s 'throughput ratio' 'us/tx' 'us/tx' 'CPU ratio'
for script in ${@:-select reserve-spread reserve-hot serializable}; do
  for c in $clients; do
    : >"$work/cell"
    for pair in $(seq "$pairs"); do
      # Whoever goes second finds the caches warm: they take turns.
      if [ $((pair % 2)) -eq 0 ]; then a=$(run_pgbench "$script" "$c"); b=$(run_dbstress "$script" "$c")
      else b=$(run_dbstress "$script" "$c"); a=$(run_pgbench "$script" "$c"); fi
      echo "$a $b" >>"$work/cell"
    done
    awk -v script="$script" -v clients="$c" '
      function sorted(from, to,   i, j, t) { for (i = 1; i <= NR; i++) to[i] = from[i]; for (i = 2; i <= NR; i++) for (j = i; j > 1 && to[j] < to[j-1]; j--) { t = to[j]; to[j] = to[j-1]; to[j-1] = t } }
      function median(of) { return NR % 2 ? of[(NR + 1) / 2] : (of[NR / 2] + of[NR / 2 + 1]) / 2 }
      { tps[NR] = $5 / $2; pt[NR] = $2; dt[NR] = $5; pc[NR] = $3 / $1 * 1e6; dc[NR] = $6 / $4 * 1e6; cpu[NR] = dc[NR] / pc[NR] }
      END {
        sorted(tps, t); sorted(cpu, c); sorted(pt, a); sorted(dt, b); sorted(pc, d); sorted(dc, e)
        printf "%-16s %7d  %10.0f %10.0f  %.2f [%.2f, %.2f]%7s %8.1f %8.1f  %.2f [%.2f, %.2f]\n", script, clients, median(a), median(b), median(t), t[1], t[NR], "", median(d), median(e), median(c), c[1], c[NR]
      }' "$work/cell"
  done
done
