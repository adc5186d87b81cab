//! What happened when? One axis of time for the rate, response times, locks, the pool and what went wrong on purpose.

use std::collections::BTreeSet;
use std::time::Duration;

use super::run::milliseconds;
use super::text::grouped;
use crate::pace::duration_text;
use crate::record::{RunRecord, TurnRecord};

/// Turns that are shorter have no history worth a picture.
const SHORTEST: f64 = 3.0;
/// Lines are no longer than this, however wide the screen.
const WIDEST: u16 = 80;
/// Columns of the name of a line, and of its largest value at the end.
const NAME: usize = 16;
const LARGEST: usize = 14;
/// A last part of a second that is shorter says nothing of a rate.
const LEAST_PART: f64 = 0.5;

/// From nothing to the largest.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The strips of all turns that were long enough; empty if none was.
pub fn timeline(record: &RunRecord, width: u16) -> String {
    let strips = record.turns.iter().filter_map(|turn| {
        let name = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        strip(turn, &name, width)
    });
    strips.collect::<Vec<_>>().join("\n\n")
}

/// A line: what it is, its value at each second, how several become one, and how its largest value is written.
struct Row {
    name: &'static str,
    values: Vec<Option<f64>>,
    merge: fn(&[f64]) -> f64,
    unit: fn(f64) -> String,
}

fn strip(turn: &TurnRecord, prefix: &str, width: u16) -> Option<String> {
    let seconds = turn.ticks.last().map(|tick| tick.second).filter(|seconds| *seconds >= SHORTEST)?;
    let seconds = seconds.ceil() as usize;
    let room = usize::from(width.min(WIDEST)).saturating_sub(2 + NAME + LARGEST).max(8);
    let each = seconds.div_ceil(room);
    let text = |seconds: usize| duration_text(Duration::from_secs(seconds as u64));
    let mut lines = vec![format!("{prefix}timeline of {}, {} a column", text(seconds), text(each))];
    for row in rows(turn, seconds) {
        let columns: Vec<Option<f64>> = row
            .values
            .chunks(each)
            .map(|chunk| {
                let values: Vec<f64> = chunk.iter().flatten().copied().collect();
                (!values.is_empty()).then(|| (row.merge)(&values))
            })
            .collect();
        let largest = row.values.iter().flatten().copied().fold(0.0, f64::max);
        // What is put together is drawn by what it is put together to.
        let top = columns.iter().flatten().copied().fold(0.0, f64::max);
        if largest > 0.0 {
            let strip: String = columns.iter().map(|value| value.map_or(' ', |value| level(value, top))).collect();
            lines.push(format!("  {:<NAME$}{strip:<room$}  {}", row.name, (row.unit)(largest)).trim_end().to_owned());
        }
    }
    lines.extend(faults(turn, each, room));
    Some(lines.join("\n"))
}

/// How high a value stands below the top.
fn level(value: f64, top: f64) -> char {
    let height = if top > 0.0 { (value / top * LEVELS.len() as f64).ceil() as usize } else { 0 };
    LEVELS[height.clamp(1, LEVELS.len()) - 1]
}

fn rows(turn: &TurnRecord, seconds: usize) -> Vec<Row> {
    let mut rate = vec![None; seconds];
    let (mut p95, mut wait) = (rate.clone(), rate.clone());
    let mut before = 0.0;
    for tick in &turn.ticks {
        let lasted = tick.second - before;
        before = tick.second;
        let Some(at) = second(tick.second, seconds) else { continue };
        if lasted >= LEAST_PART {
            rate[at] = Some(tick.committed as f64 / lasted);
        }
        p95[at] = tick.response.p95;
        wait[at] = tick.wait.as_ref().and_then(|wait| wait.p95);
    }
    let mut in_use = vec![None; seconds];
    for pool in turn.pool.iter().flat_map(|pool| &pool.seconds) {
        if let Some(at) = second(pool.second, seconds) {
            in_use[at] = Some(pool.in_use);
        }
    }
    let ms: fn(f64) -> String = |value| format!("{} ms", milliseconds(value));
    let number: fn(f64) -> String = |value| if value < 10.0 { format!("{value:.1}") } else { grouped(value.round() as u64) };
    let row = |name, values, merge, unit| Row { name, values, merge, unit };
    vec![
        row("commits/s", rate, mean, |value| format!("{}/s", grouped(value.round() as u64))),
        row("response p95", p95, most, ms),
        row("lock waits", watched(turn, "sessions.waiting_for_locks", seconds), most, number),
        row("pool wait p95", wait, most, ms),
        row("pool in use", in_use, most, number),
    ]
}

/// Which second a time at its end belongs to.
fn second(end: f64, seconds: usize) -> Option<usize> {
    let at = (end.ceil() as usize).saturating_sub(1);
    (at < seconds).then_some(at)
}

/// A gauge of the server, second by second; each of a longer interval has its mean.
fn watched(turn: &TurnRecord, name: &str, seconds: usize) -> Vec<Option<f64>> {
    let series = &turn.watched.series;
    let column = series.columns.get(name);
    let every = series.every_s.max(1) as usize;
    (0..seconds).map(|at| *column?.mean.get(at / every)?).collect()
}

/// When something was done on purpose, and how often in all.
fn faults(turn: &TurnRecord, each: usize, room: usize) -> Option<String> {
    let strikes: Vec<f64> = turn.faults.iter().flat_map(|fault| &fault.strikes).map(|strike| strike.at_ms / 1e3).collect();
    if strikes.is_empty() {
        return None;
    }
    let columns: BTreeSet<usize> = strikes.iter().map(|second| *second as usize / each).collect();
    let strip: String = (0..room).map(|at| if columns.contains(&at) { '▲' } else { ' ' }).collect();
    Some(format!("  {:<NAME$}{strip}  {} in all", "faults", grouped(strikes.len() as u64)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Percentiles, Tick};
    use crate::probe::series::{Column, Series};
    use crate::record::{FaultRecord, PoolRecord, PoolSecond, StrikeRecord};

    fn percentiles(p95: Option<f64>) -> Percentiles {
        Percentiles { samples: 1, p50: None, p95, p99: None, max: None }
    }

    fn tick(second: f64, committed: u64, p95: Option<f64>) -> Tick {
        let response = percentiles(p95);
        let (lag, wait) = (percentiles(None), None);
        Tick {
            second,
            vus: 5,
            committed,
            replayed: 0,
            refused: 0,
            aborted: 0,
            unknown: 0,
            rolled_back: 0,
            dropped: 0,
            response,
            lag,
            wait,
        }
    }

    /// A turn that was recorded once, with other seconds.
    fn turn(ticks: Vec<Tick>) -> TurnRecord {
        let record = RunRecord::from_json(include_str!("../../tests/fixtures/record-1.json")).unwrap();
        TurnRecord { ticks, ..record.turns[0].clone() }
    }

    fn eight_seconds() -> TurnRecord {
        let ticks = [800, 400, 0, 0, 100, 800, 800, 800].into_iter().enumerate();
        let mut ticks: Vec<Tick> = ticks.map(|(at, n)| tick(at as f64 + 1.0, n, (n > 0).then_some(8000.0 / n as f64))).collect();
        // The beginning of a ninth second is no rate.
        ticks.push(tick(8.2, 300, None));
        turn(ticks)
    }

    #[test]
    fn a_strip_has_a_line_for_what_there_was() {
        let text = strip(&eight_seconds(), "", 80).unwrap();
        assert_eq!(
            text,
            "\
timeline of 9s, 1s a column
  commits/s       █▄▁▁▁███                                          800/s
  response p95    ▁▂  █▁▁▁                                          80 ms"
        );
    }

    #[test]
    fn the_server_the_pool_and_faults_stand_on_the_same_axis() {
        let mut turn = eight_seconds();
        for (tick, wait) in turn.ticks.iter_mut().zip([0.5, 1.0, 200.0]) {
            tick.wait = Some(percentiles(Some(wait)));
        }
        let seconds = (1..=4).map(|n| PoolSecond { second: f64::from(n), in_use: 2.5 * f64::from(n), ..PoolSecond::default() });
        turn.pool = Some(PoolRecord { seconds: seconds.collect(), ..PoolRecord::default() });
        // Intervals of two seconds, one of which nobody looked at.
        let mean = vec![Some(1.0), Some(49.0), None, Some(3.0), Some(0.0)];
        let columns = [("sessions.waiting_for_locks".to_owned(), Column { mean, max: Vec::new() })].into();
        turn.watched.series = Series { every_s: 2, columns };
        let strike = |at_ms| StrikeRecord { at_ms, lasted_ms: 1.0, target: String::new(), recovery_ms: None, truth: None };
        turn.faults = vec![FaultRecord {
            fault: "crash@2s".parse().unwrap(),
            planned: 3,
            struck: 3,
            missed: Default::default(),
            strikes: [2001.0, 2900.0, 5500.0].map(strike).into(),
        }];
        let text = strip(&turn, "for-update: ", 80).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            &lines[2..],
            [
                "  response p95    ▁▂  █▁▁▁                                          80 ms",
                "  lock waits      ▁▁██  ▁▁▁                                         49",
                "  pool wait p95   ▁▁█                                               200 ms",
                "  pool in use     ▂▄▆█                                              10",
                "  faults            ▲  ▲                                            3 in all"
            ]
        );
        assert!(lines[0].starts_with("for-update: timeline of 9s"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_long_turn_fits_and_a_short_one_has_no_strip() {
        let long = turn((1..=3600_u32).map(|n| tick(f64::from(n), u64::from(n) / 36, Some(1.0))).collect());
        for width in [40, 80, 200] {
            let text = strip(&long, "", width).unwrap();
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width.min(80))), "{text}");
            assert!(text.contains("▁") && text.contains("█") && text.contains(" 100/s"), "{text}");
        }
        assert_eq!(strip(&turn((1..3_u32).map(|n| tick(f64::from(n), 5, None)).collect()), "", 80), None);
        assert_eq!(strip(&turn(Vec::new()), "", 80), None);
    }
}
