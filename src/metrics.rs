//! How long did it take, how often, and how many samples stand behind the figure?
//!
//! One recorder per load thread; nothing here is shared while the load runs. Recorders are merged at the end: histograms exactly,
//! percentiles never averaged.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::history::{OperationKind, Record};
use crate::outcome::{Abort, Outcome, OutcomeClass, Refusal, Sqlstate};

/// Nanoseconds below which latencies are not told apart.
const LOWEST: u64 = 1_000;
/// Nanoseconds at which latencies saturate: one hour.
const HIGHEST: u64 = 3_600_000_000_000;

fn histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts.
    Histogram::new_with_bounds(LOWEST, HIGHEST, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// Response and service time of one operation with one class of outcome, in nanoseconds.
#[derive(Debug, Clone)]
struct Latency {
    /// From the scheduled start.
    response: Histogram<u64>,
    /// From the actual start.
    service: Histogram<u64>,
}

/// Everything that one load thread measures.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    latency: BTreeMap<(OperationKind, OutcomeClass), Latency>,
    counts: Counts,
}

/// Everything that is counted. Merged field by field: a forgotten field does not compile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Iterations by outcome.
    pub outcomes: BTreeMap<OutcomeClass, u64>,
    /// Refused iterations by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Aborted iterations by the reason of their last attempt.
    pub aborted: BTreeMap<Abort, u64>,
    /// Failed attempts by reason, those that a later attempt made good included.
    pub failed_attempts: BTreeMap<Abort, u64>,
    /// Errors of the server: `SQLSTATE routine` → how often. The routine tells first-updater-wins from SSI.
    pub sqlstates: BTreeMap<String, u64>,
    /// Attempts per iteration → iterations.
    pub attempts: BTreeMap<u16, u64>,
    /// Operations proposed by an actor of another organisation.
    pub attacks: u64,
}

impl Counts {
    /// Iterations in all.
    pub fn iterations(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Iterations with one class of outcome.
    pub fn of(&self, class: OutcomeClass) -> u64 {
        self.outcomes.get(&class).copied().unwrap_or(0)
    }

    /// Failed attempts with one reason.
    pub fn failed(&self, abort: Abort) -> u64 {
        self.failed_attempts.get(&abort).copied().unwrap_or(0)
    }

    /// BEGIN…COMMIT tries in all.
    pub fn attempts_made(&self) -> u64 {
        self.attempts.iter().map(|(attempts, n)| u64::from(*attempts) * n).sum()
    }

    fn merge(&mut self, other: Self) {
        let Self { outcomes, refused, aborted, failed_attempts, sqlstates, attempts, attacks } = other;
        add(&mut self.outcomes, outcomes);
        add(&mut self.refused, refused);
        add(&mut self.aborted, aborted);
        add(&mut self.failed_attempts, failed_attempts);
        add(&mut self.sqlstates, sqlstates);
        add(&mut self.attempts, attempts);
        self.attacks += attacks;
    }
}

fn add<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, n) in from {
        *into.entry(key).or_default() += n;
    }
}

impl Recorder {
    /// Counts and times one finished iteration.
    pub fn record(&mut self, record: &Record) {
        let class = record.outcome.class();
        let latency =
            self.latency.entry((record.kind, class)).or_insert_with(|| Latency { response: histogram(), service: histogram() });
        latency.response.saturating_record(record.finished.saturating_sub(record.scheduled));
        latency.service.saturating_record(record.finished.saturating_sub(record.started));
        let counts = &mut self.counts;
        *counts.outcomes.entry(class).or_default() += 1;
        *counts.attempts.entry(record.attempts).or_default() += 1;
        counts.attacks += u64::from(record.is_attack);
        match record.outcome {
            Outcome::Refused(reason) => *counts.refused.entry(reason).or_default() += 1,
            Outcome::Aborted(reason) => *counts.aborted.entry(reason).or_default() += 1,
            Outcome::Committed | Outcome::Unknown => {}
        }
    }

    /// Counts one attempt that failed, with the server's code and reporting routine if it was the server that said no.
    pub fn failed_attempt(&mut self, abort: Abort, server: Option<(Sqlstate, &str)>) {
        *self.counts.failed_attempts.entry(abort).or_default() += 1;
        let Some((code, routine)) = server else { return };
        // Only the first of its kind allocates.
        let found = self
            .counts
            .sqlstates
            .iter_mut()
            .find(|(key, _)| key.split_once(' ').is_some_and(|(c, r)| c == code.as_str() && r == routine));
        match found {
            Some((_, n)) => *n += 1,
            None => {
                self.counts.sqlstates.insert(format!("{} {routine}", code.as_str()), 1);
            }
        }
    }

    /// Takes another thread's measurements in.
    pub fn merge(&mut self, other: Self) {
        let Self { latency, counts } = other;
        for (key, from) in latency {
            match self.latency.entry(key) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(from);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let into = entry.get_mut();
                    // Equal bounds: adding cannot fail.
                    let _ = into.response.add(&from.response);
                    let _ = into.service.add(&from.service);
                }
            }
        }
        self.counts.merge(counts);
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Percentiles of one class of outcome over all operations: response and service time.
    pub fn percentiles(&self, class: OutcomeClass) -> Timing {
        let mut response = histogram();
        let mut service = histogram();
        for ((_, of), latency) in &self.latency {
            if *of == class {
                let _ = response.add(&latency.response);
                let _ = service.add(&latency.service);
            }
        }
        Timing { response: Percentiles::of(&response), service: Percentiles::of(&service) }
    }
}

/// Response time (from the scheduled start) and service time (from the actual start).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From the scheduled start.
    pub response: Percentiles,
    /// From the actual start.
    pub service: Percentiles,
}

/// Percentiles in milliseconds. One that too few samples stand behind is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many samples there are.
    pub samples: u64,
    /// Half were at most this.
    #[serde(rename = "p50_ms")]
    pub p50: Option<f64>,
    /// 95 % were at most this.
    #[serde(rename = "p95_ms")]
    pub p95: Option<f64>,
    /// 99 % were at most this.
    #[serde(rename = "p99_ms")]
    pub p99: Option<f64>,
    /// The largest.
    #[serde(rename = "max_ms")]
    pub max: Option<f64>,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let samples = histogram.len();
        // At least three samples above the percentile, or it is only a name for the maximum.
        let at = |q: f64| (samples as f64 * (1.0 - q) >= 3.0).then(|| histogram.value_at_quantile(q) as f64 / 1e6);
        Self { samples, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: (samples > 0).then(|| histogram.max() as f64 / 1e6) }
    }
}

/// A share as a percentage with two significant digits.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 {
        format!("{percent:.0} %")
    } else if percent >= 1.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.2} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Applied;

    fn record(outcome: Outcome, response_ms: u64) -> Record {
        Record {
            n: 0,
            vu: 0,
            kind: OperationKind::Reserve,
            outcome,
            attempts: 2,
            conflicts: 0,
            is_attack: false,
            authorisation: 1,
            units: 1,
            scheduled: 0,
            started: response_ms * 500_000,
            last_attempt: 0,
            commit_sent: 0,
            finished: response_ms * 1_000_000,
            applied: Applied::default(),
        }
    }

    #[test]
    fn percentiles_keep_outcomes_apart_and_need_samples() {
        let mut recorder = Recorder::default();
        for ms in 1..=100 {
            recorder.record(&record(Outcome::Committed, ms));
        }
        recorder.record(&record(Outcome::Unknown, 5_000));
        let timing = recorder.percentiles(OutcomeClass::Committed);
        assert_eq!(timing.response.samples, 100);
        let near = |value: Option<f64>, want: f64| value.is_some_and(|v| (v - want).abs() / want < 0.01);
        assert!(near(timing.response.p50, 50.0) && near(timing.response.p95, 95.0), "{timing:?}");
        assert_eq!(timing.response.p99, None, "one sample above the 99th percentile is not enough");
        assert!(near(timing.service.max, 50.0), "service runs from the actual start");
    }

    #[test]
    fn merging_loses_nothing() {
        let mut one = Recorder::default();
        one.record(&record(Outcome::Committed, 1));
        one.failed_attempt(Abort::SerializationFailure, Some((Sqlstate::new("40001"), "ExecUpdate")));
        let mut both = one.clone();
        both.merge(one.clone());
        assert_eq!(both.counts().iterations(), 2);
        assert_eq!(both.counts().attempts_made(), 4);
        assert_eq!(both.counts().sqlstates["40001 ExecUpdate"], 2);
        assert_eq!(both.percentiles(OutcomeClass::Committed).response.samples, 2);
    }
}
