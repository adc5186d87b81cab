#!/usr/bin/env bash
# What do the probes cost? The same load with them and without, one after the other in alternation.
#
#   bench/probe-overhead.sh [load ...]        both loads unless some are named: contention throughput
#
# Each line is a cell: the median of the ratios with / without over all pairs, and in brackets the smallest and the largest, which
# enclose the true median with a probability of 98 % at seven pairs. 1.00 means that watching costs nothing that can be seen.
# The last column is the share of the time that the questions took, as the record says.
#
# PAIRS=7 SECONDS_EACH=10 INTERVAL=100ms VUS=50 DBSTRESS=target/release/dbstress
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-7} seconds=${SECONDS_EACH:-10} interval=${INTERVAL:-100ms} vus=${VUS:-50}
dbstress=${DBSTRESS:-target/release/dbstress}
[ -x "$dbstress" ] || { echo "build first: cargo build --release" >&2; exit 2; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# A database of its own: runs of others would be in the way, and these in theirs.
export DBSTRESS_DATABASE=probe_overhead
"$dbstress" db start >/dev/null

# commits per second of the tested turn, share of the time that was spent asking
run() {
  local code=0
  "$dbstress" seed --reset --quiet >/dev/null
  "$dbstress" "$1" --strategy for-update --vus "$vus" --duration "${seconds}s" --no-thresholds --probe-interval "$2" --quiet \
    --managed --summary-export "$work/record" >"$work/out" 2>&1 || code=$?
  # Without probes nobody sees the locks at work, so that the run is inconclusive: its rate is none the worse.
  case $code in 0|3) ;; *) cat "$work/out" >&2; exit 1 ;; esac
  awk '
    /"committed_per_second":/ && !rate { gsub(/[^0-9.]/, ""); rate = $0 }
    /"watched": / { inside = 1 }
    inside && /"seconds":/ && !lasted { gsub(/[^0-9.]/, ""); lasted = $0 }
    inside && /"cost_ms":/ && !cost { gsub(/[^0-9.]/, ""); cost = $0 }
    END { print rate, (lasted > 0 ? cost / 1000 / lasted : 0) }' "$work/record"
}

printf '%-12s %10s %10s  %-22s %s\n' load without/s with/s 'throughput ratio' 'asking'
for load in ${@:-contention throughput}; do
  : >"$work/cell"
  for pair in $(seq "$pairs"); do
    # Whoever goes second finds the caches warm: they take turns.
    if [ $((pair % 2)) -eq 0 ]; then a=$(run "$load" 0); b=$(run "$load" "$interval")
    else b=$(run "$load" "$interval"); a=$(run "$load" 0); fi
    echo "$a $b" >>"$work/cell"
  done
  awk -v load="$load" '
    function sorted(from, to,   i, j, t) { for (i = 1; i <= NR; i++) to[i] = from[i]; for (i = 2; i <= NR; i++) for (j = i; j > 1 && to[j] < to[j-1]; j--) { t = to[j]; to[j] = to[j-1]; to[j-1] = t } }
    function median(of) { return NR % 2 ? of[(NR + 1) / 2] : (of[NR / 2] + of[NR / 2 + 1]) / 2 }
    { without[NR] = $1; with[NR] = $3; ratio[NR] = $3 / $1; share[NR] = $4 * 100 }
    END {
      sorted(without, a); sorted(with, b); sorted(ratio, r); sorted(share, s)
      printf "%-12s %10.0f %10.0f  %.2f [%.2f, %.2f]%7s %.1f %%\n", load, median(a), median(b), median(r), r[1], r[NR], "", median(s)
    }' "$work/cell"
done
