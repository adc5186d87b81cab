//! How long did it take, how often, and how many samples stand behind the figure?
//!
//! One recorder per load thread; nothing here is shared while the load runs. Recorders are handed over at every tick and merged:
//! histograms exactly, percentiles never averaged.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::outcome::{Abort, Outcome, OutcomeClass, Refusal, Sqlstate};

/// Nanoseconds below which times are not told apart.
const LOWEST: u64 = 1_000;
/// Nanoseconds at which times saturate: one hour.
const HIGHEST: u64 = 3_600_000_000_000;

/// An empty histogram of times in nanoseconds, from a microsecond to an hour, three digits exact.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts.
    Histogram::new_with_bounds(LOWEST, HIGHEST, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// Adds `from` to `into`; histograms of [`histogram`] have equal bounds, so that it cannot fail.
pub fn merge_times(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    let _ = into.add(from);
}

/// What the present thread has used of a processor.
pub fn cpu_of_this_thread() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Response and service time of one operation with one class of outcome, in nanoseconds.
#[derive(Debug, Clone)]
struct Latency {
    /// From the scheduled start.
    response: Histogram<u64>,
    /// From the actual start.
    service: Histogram<u64>,
}

/// One finished iteration, as far as figures go. Times are nanoseconds on the run's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iteration {
    /// How it ended.
    pub outcome: Outcome,
    /// BEGIN…COMMIT tries, at least 1.
    pub attempts: u16,
    /// The actor belonged to another organisation.
    pub is_attack: bool,
    /// It committed, and what it committed changed something.
    pub has_changed: bool,
    /// When it should have started.
    pub scheduled: u64,
    /// When it did.
    pub started: u64,
    /// When its outcome was known.
    pub finished: u64,
}

/// What happened in one second of the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Its end, seconds since the load began.
    pub second: f64,
    /// Virtual users at work.
    pub vus: u32,
    /// Iterations that committed.
    pub committed: u64,
    /// Iterations that were answered with a stored response.
    #[serde(default)]
    pub replayed: u64,
    /// Iterations that were refused.
    pub refused: u64,
    /// Iterations that were given up.
    pub aborted: u64,
    /// Iterations that were never answered.
    pub unknown: u64,
    /// Iterations that ended in a ROLLBACK of their own.
    #[serde(default)]
    pub rolled_back: u64,
    /// Arrivals that nobody took up.
    pub dropped: u64,
    /// Response time of committed iterations.
    pub response: Percentiles,
    /// How late the generator was.
    pub lag: Percentiles,
    /// How long virtual users waited for a connection of the pool; none without a pool.
    #[serde(default)]
    pub wait: Option<Percentiles>,
}

impl Tick {
    /// What a second's recorder says.
    pub fn of(second: f64, vus: u32, recorder: &Recorder) -> Self {
        let counts = recorder.counts();
        Self {
            second,
            vus,
            committed: counts.of(OutcomeClass::Committed),
            replayed: counts.of(OutcomeClass::Replayed),
            refused: counts.of(OutcomeClass::Refused),
            aborted: counts.of(OutcomeClass::Aborted),
            unknown: counts.of(OutcomeClass::Unknown),
            rolled_back: counts.of(OutcomeClass::RolledBack),
            dropped: counts.dropped,
            response: Percentiles::of(&recorder.times(None, OutcomeClass::Committed, Time::Response)),
            lag: Percentiles::of(recorder.lags()),
            wait: recorder.waits().map(Percentiles::of),
        }
    }
}

/// Iterations so far, by how they ended, and what went wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Committed.
    pub committed: u64,
    /// Answered with a stored response.
    pub replayed: u64,
    /// Refused.
    pub refused: u64,
    /// Given up, or never answered.
    pub failed: u64,
    /// Ended in a ROLLBACK of their own.
    pub rolled_back: u64,
    /// Faults that struck.
    pub faults: u64,
}

impl SoFar {
    /// What has been counted.
    pub fn of(counts: &Counts, faults: u64) -> Self {
        Self {
            faults,
            committed: counts.of(OutcomeClass::Committed),
            replayed: counts.of(OutcomeClass::Replayed),
            refused: counts.of(OutcomeClass::Refused),
            failed: counts.of(OutcomeClass::Aborted) + counts.of(OutcomeClass::Unknown),
            rolled_back: counts.of(OutcomeClass::RolledBack),
        }
    }
}

/// Which of the two times of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From when it should have started: response time.
    Response,
    /// From when it did: service time.
    Service,
}

/// Everything that one load thread measures. Operations are known by their number in the plan.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// By operation, then by class of outcome.
    latency: Vec<[Option<Box<Latency>>; OutcomeClass::ALL.len()]>,
    /// By operation: committed iterations that changed something.
    changed: Vec<u64>,
    counts: Counts,
    lag: Histogram<u64>,
    wait: Option<Histogram<u64>>,
    /// Made with the first connection.
    connect: Option<Box<Histogram<u64>>>,
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
    /// The first message of each kind of failure: what a person needs to read.
    #[serde(default)]
    pub messages: BTreeMap<String, String>,
    /// Attempts per iteration → iterations.
    pub attempts: BTreeMap<u16, u64>,
    /// Attempts whose COMMIT was not answered, and that were tried again with the same key.
    #[serde(default)]
    pub unanswered: u64,
    /// Committed iterations that changed something: as far as the statements' answers tell, and not more than rows that the server counts.
    #[serde(default)]
    pub changed: u64,
    /// Iterations that were cut off at their deadline, of which it is unknown what became of them.
    #[serde(default)]
    pub cut_off: u64,
    /// Operations proposed by an actor of another organisation.
    pub attacks: u64,
    /// Arrivals of an open loop that nobody took up: the backlog was full.
    #[serde(default)]
    pub dropped: u64,
    /// Iterations of the warm-up and arrivals dropped in it, which nothing else here counts.
    #[serde(default)]
    pub warm_up: u64,
    /// What was looked at in the answers of an API: by operation, then by what must be so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, BTreeMap<String, Held>>,
}

/// How often something that must be so was so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// It was.
    pub held: u64,
    /// It was not.
    pub failed: u64,
}

impl Held {
    /// Together with another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { held: self.held + other.held, failed: self.failed + other.failed }
    }
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

    /// Failed attempts that only a concurrent transaction can have caused.
    pub fn conflicts(&self) -> u64 {
        self.failed_attempts.iter().filter(|(abort, _)| abort.is_conflict()).map(|(_, n)| n).sum()
    }

    /// How often what must be so in answers was so, of one operation or of all.
    pub fn checked(&self, operation: Option<&str>) -> Held {
        let of = self.checks.iter().filter(|(name, _)| operation.is_none_or(|operation| operation == *name));
        of.flat_map(|(_, checks)| checks.values()).fold(Held::default(), |sum, held| sum.and(*held))
    }

    /// BEGIN…COMMIT tries in all.
    pub fn attempts_made(&self) -> u64 {
        self.attempts.iter().map(|(attempts, n)| u64::from(*attempts) * n).sum()
    }

    fn merge(&mut self, other: &Self) {
        let Self {
            outcomes,
            refused,
            aborted,
            failed_attempts,
            sqlstates,
            messages,
            attempts,
            unanswered,
            changed,
            cut_off,
            attacks,
            dropped,
            warm_up,
            checks,
        } = other;
        add(&mut self.outcomes, outcomes);
        add(&mut self.refused, refused);
        add(&mut self.aborted, aborted);
        add(&mut self.failed_attempts, failed_attempts);
        add(&mut self.sqlstates, sqlstates);
        add(&mut self.attempts, attempts);
        for (kind, message) in messages {
            self.messages.entry(kind.clone()).or_insert_with(|| message.clone());
        }
        self.unanswered += unanswered;
        self.changed += changed;
        self.cut_off += cut_off;
        self.attacks += attacks;
        self.dropped += dropped;
        self.warm_up += warm_up;
        for (operation, checks) in checks {
            let into = self.checks.entry(operation.clone()).or_default();
            for (check, held) in checks {
                let entry = into.entry(check.clone()).or_default();
                *entry = entry.and(*held);
            }
        }
    }
}

fn add<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, n) in from {
        *into.entry(key.clone()).or_default() += n;
    }
}

impl Recorder {
    /// An empty one for so many operations; `waits` if virtual users wait for connections of a pool.
    pub fn new(operations: usize, waits: bool) -> Self {
        Self {
            latency: (0..operations).map(|_| [const { None }; OutcomeClass::ALL.len()]).collect(),
            changed: vec![0; operations],
            counts: Counts::default(),
            lag: histogram(),
            wait: waits.then(histogram),
            connect: None,
        }
    }

    /// Counts and times one finished iteration.
    pub fn record(&mut self, operation: usize, record: Iteration) {
        let class = record.outcome.class();
        if let Some(classes) = self.latency.get_mut(operation) {
            let latency =
                classes[class as usize].get_or_insert_with(|| Box::new(Latency { response: histogram(), service: histogram() }));
            latency.response.saturating_record(record.finished.saturating_sub(record.scheduled));
            latency.service.saturating_record(record.finished.saturating_sub(record.started));
        }
        if let Some(changed) = self.changed.get_mut(operation) {
            *changed += u64::from(record.has_changed);
        }
        let counts = &mut self.counts;
        counts.changed += u64::from(record.has_changed);
        *counts.outcomes.entry(class).or_default() += 1;
        *counts.attempts.entry(record.attempts).or_default() += 1;
        counts.attacks += u64::from(record.is_attack);
        match record.outcome {
            Outcome::Refused(reason) => *counts.refused.entry(reason).or_default() += 1,
            Outcome::Aborted(reason) => *counts.aborted.entry(reason).or_default() += 1,
            Outcome::Committed | Outcome::Replayed | Outcome::Unknown | Outcome::RolledBack => {}
        }
    }

    /// Counts one iteration, or one dropped arrival, of the warm-up.
    pub fn warm_up(&mut self) {
        self.counts.warm_up += 1;
    }

    /// Counts one arrival that nobody took up.
    pub fn dropped(&mut self) {
        self.counts.dropped += 1;
    }

    /// Counts one iteration that was cut off at its deadline, and of which it is unknown what became of it.
    pub fn cut_off(&mut self) {
        self.counts.cut_off += 1;
    }

    /// Counts one attempt whose COMMIT was not answered and that is tried again.
    pub fn unanswered(&mut self) {
        self.counts.unanswered += 1;
    }

    /// How much later than it should have the generator came to something, in nanoseconds.
    pub fn lag(&mut self, nanoseconds: u64) {
        self.lag.saturating_record(nanoseconds);
    }

    /// How long a virtual user waited for a connection of the pool, in nanoseconds.
    pub fn wait(&mut self, nanoseconds: u64) {
        if let Some(wait) = &mut self.wait {
            wait.saturating_record(nanoseconds);
        }
    }

    /// How long it took to connect to an API, in nanoseconds.
    pub fn connected(&mut self, nanoseconds: u64) {
        self.connect.get_or_insert_with(|| Box::new(histogram())).saturating_record(nanoseconds);
    }

    /// Counts one attempt that failed, with the server's code, reporting routine and message if it was the server that said no.
    pub fn failed_attempt(&mut self, abort: Abort, server: Option<(Sqlstate, &str, &str)>) {
        *self.counts.failed_attempts.entry(abort).or_default() += 1;
        let Some((code, routine, message)) = server else { return };
        // Only the first of its kind allocates.
        let found = self
            .counts
            .sqlstates
            .iter_mut()
            .find(|(key, _)| key.split_once(' ').is_some_and(|(c, r)| c == code.as_str() && r == routine));
        match found {
            Some((_, n)) => *n += 1,
            None => {
                let key = format!("{} {routine}", code.as_str());
                self.counts.messages.insert(key.clone(), message.to_owned());
                self.counts.sqlstates.insert(key, 1);
            }
        }
    }

    /// Counts one look at what must be so in the answer to an operation.
    pub fn checked(&mut self, operation: &str, check: &str, held: bool) {
        // Only the first of its kind allocates.
        if !self.counts.checks.get(operation).is_some_and(|checks| checks.contains_key(check)) {
            self.counts.checks.entry(operation.to_owned()).or_default().insert(check.to_owned(), Held::default());
        }
        let found = self.counts.checks.get_mut(operation).and_then(|checks| checks.get_mut(check));
        if let Some(entry) = found {
            *entry = entry.and(Held { held: held.into(), failed: (!held).into() });
        }
    }

    /// Keeps what a script itself had to say about a failure, the first time it says so.
    pub fn remark(&mut self, kind: &str, message: impl FnOnce() -> String) {
        if !self.counts.messages.contains_key(kind) {
            self.counts.messages.insert(kind.to_owned(), message());
        }
    }

    /// Takes another thread's measurements in.
    pub fn merge(&mut self, other: &Self) {
        let Self { latency, changed, counts, lag, wait, connect } = other;
        for (into, from) in self.changed.iter_mut().zip(changed) {
            *into += from;
        }
        for (into, from) in self.latency.iter_mut().zip(latency) {
            for (into, from) in into.iter_mut().zip(from) {
                match (into, from) {
                    (_, None) => {}
                    (Some(into), Some(from)) => {
                        merge_times(&mut into.response, &from.response);
                        merge_times(&mut into.service, &from.service);
                    }
                    (into, Some(from)) => *into = Some(from.clone()),
                }
            }
        }
        self.counts.merge(counts);
        merge_times(&mut self.lag, lag);
        if let (Some(into), Some(from)) = (&mut self.wait, wait) {
            merge_times(into, from);
        }
        match (&mut self.connect, connect) {
            (_, None) => {}
            (Some(into), Some(from)) => merge_times(into, from),
            (into, Some(from)) => *into = Some(from.clone()),
        }
    }

    /// An empty one of the same kind.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.latency.len(), self.wait.is_some())
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Iterations of one operation, or of all, with one class of outcome, or with any.
    pub fn iterations(&self, operation: Option<usize>, class: Option<OutcomeClass>) -> u64 {
        self.select(operation, class).map(|latency| latency.response.len()).sum()
    }

    /// The server has counted so many rows that were changed: no more iterations can have changed any, whatever their statements' answers say.
    pub fn changed_at_most(&mut self, rows: u64) {
        for changed in self.changed.iter_mut().chain([&mut self.counts.changed]) {
            *changed = rows.min(*changed);
        }
    }

    /// Committed iterations of one operation that changed something.
    pub fn changed(&self, operation: usize) -> u64 {
        self.changed.get(operation).copied().unwrap_or(0)
    }

    /// Times of one operation, or of all, with one class of outcome.
    pub fn times(&self, operation: Option<usize>, class: OutcomeClass, time: Time) -> Histogram<u64> {
        let mut times = histogram();
        for latency in self.select(operation, Some(class)) {
            merge_times(&mut times, if time == Time::Response { &latency.response } else { &latency.service });
        }
        times
    }

    fn select(&self, operation: Option<usize>, class: Option<OutcomeClass>) -> impl Iterator<Item = &Latency> {
        self.latency.iter().enumerate().filter(move |(i, _)| operation.is_none_or(|o| o == *i)).flat_map(move |(_, classes)| {
            OutcomeClass::ALL
                .iter()
                .zip(classes)
                .filter(move |(of, _)| class.is_none_or(|c| c == **of))
                .filter_map(|(_, l)| l.as_deref())
        })
    }

    /// Percentiles of one class of outcome: response and service time.
    pub fn percentiles(&self, operation: Option<usize>, class: OutcomeClass) -> Timing {
        Timing {
            response: Percentiles::of(&self.times(operation, class, Time::Response)),
            service: Percentiles::of(&self.times(operation, class, Time::Service)),
        }
    }

    /// How late the generator was.
    pub fn lags(&self) -> &Histogram<u64> {
        &self.lag
    }

    /// How long it took to connect to an API; `None` if nobody did.
    pub fn connects(&self) -> Option<&Histogram<u64>> {
        self.connect.as_deref()
    }

    /// How long connections of the pool were waited for; `None` without a pool.
    pub fn waits(&self) -> Option<&Histogram<u64>> {
        self.wait.as_ref()
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
    /// Of times in nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
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

/// 1234567 as 1,234,567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let shown: Vec<String> = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped).into();
        assert_eq!(shown, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    fn record(outcome: Outcome, response_ms: u64) -> Iteration {
        Iteration {
            outcome,
            attempts: 2,
            is_attack: false,
            has_changed: outcome == Outcome::Committed,
            scheduled: 0,
            started: response_ms * 500_000,
            finished: response_ms * 1_000_000,
        }
    }

    #[test]
    fn percentiles_keep_outcomes_and_operations_apart_and_need_samples() {
        let mut recorder = Recorder::new(2, false);
        for ms in 1..=100 {
            recorder.record(0, record(Outcome::Committed, ms));
        }
        recorder.record(0, record(Outcome::Unknown, 5_000));
        recorder.record(1, record(Outcome::Committed, 7_000));
        let timing = recorder.percentiles(Some(0), OutcomeClass::Committed);
        assert_eq!(timing.response.samples, 100);
        let near = |value: Option<f64>, want: f64| value.is_some_and(|v| (v - want).abs() / want < 0.01);
        assert!(near(timing.response.p50, 50.0) && near(timing.response.p95, 95.0), "{timing:?}");
        assert_eq!(timing.response.p99, None, "one sample above the 99th percentile is not enough");
        assert!(near(timing.service.max, 50.0), "service runs from the actual start");
        assert!(near(recorder.percentiles(None, OutcomeClass::Committed).response.max, 7_000.0));
        assert_eq!(recorder.iterations(Some(0), None), 101);
        assert_eq!(recorder.iterations(None, Some(OutcomeClass::Committed)), 101);
    }

    #[test]
    fn merging_loses_nothing() {
        let mut one = Recorder::new(1, true);
        one.record(0, record(Outcome::Committed, 1));
        one.failed_attempt(Abort::SerializationFailure, Some((Sqlstate::new("40001"), "ExecUpdate", "could not serialize")));
        one.lag(2_000_000);
        one.wait(3_000_000);
        one.connected(4_000_000);
        one.dropped();
        one.unanswered();
        let mut both = one.clone();
        both.merge(&one);
        assert_eq!(both.counts().iterations(), 2);
        assert_eq!(both.counts().attempts_made(), 4);
        assert_eq!(both.counts().sqlstates["40001 ExecUpdate"], 2);
        assert_eq!(both.counts().messages["40001 ExecUpdate"], "could not serialize");
        assert_eq!(both.counts().unanswered, 2);
        assert_eq!((both.counts().dropped, both.lags().len(), both.waits().unwrap().len()), (2, 2, 2));
        assert_eq!((both.connects().unwrap().len(), one.connects().unwrap().len()), (2, 1));
        assert_eq!(both.percentiles(None, OutcomeClass::Committed).response.samples, 2);
        let mut into_empty = both.fresh();
        assert_eq!((into_empty.counts(), into_empty.iterations(None, None)), (&Counts::default(), 0));
        into_empty.merge(&one);
        assert_eq!(into_empty.iterations(None, None), 1);
    }
}
