//! Was the promise kept? In doubt the question stays open: nothing measured is never a promise kept.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Counter, Figure, Limited, Operator, Peak, Statistic, Threshold, Time, Timed, Usage, class_name};
use crate::metrics::{grouped, percent};
use crate::outcome::OutcomeClass;

/// Samples that must lie beyond a percentile, or it is only a name for the maximum (of a low one: for the minimum).
const BEYOND: f64 = 3.0;

/// With fewer samples, nothing is said of how much is used of what is limited.
const FEW: u64 = 10;

/// Where the figures come from: a finished run, or one so far.
pub trait Source {
    /// Whether there is an operation of that name.
    fn knows(&self, operation: &str) -> bool;
    /// Times of iterations with one class of outcome, in nanoseconds; of all operations if none is named.
    fn times(&self, operation: Option<&str>, class: OutcomeClass, time: Time) -> Histogram<u64>;
    /// Iterations, of one class of outcome if one is named.
    fn iterations(&self, operation: Option<&str>, class: Option<OutcomeClass>) -> u64;
    /// Scheduled arrivals that found nobody free.
    fn dropped(&self) -> u64;
    /// Looks at answers of an API at which what must be so was so, and all of them.
    fn checks(&self, operation: Option<&str>) -> (u64, u64);
    /// How much later than scheduled iterations began, in nanoseconds; `None` where nothing was scheduled.
    fn lag(&self) -> Option<Histogram<u64>>;
    /// Waiting for a connection of the pool, in nanoseconds; `None` where there is no pool.
    fn wait(&self) -> Option<Histogram<u64>>;
    /// How much is used of what is limited; an error says why that is not known.
    fn usage(&self, limited: Limited) -> Result<Usage, String>;
    /// The measured time.
    fn seconds(&self) -> f64;
    /// Why the generator, and not the server, was the limit, if it was.
    fn generator_limited(&self) -> Option<String>;
}

/// What became of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The figure kept its limit.
    Met,
    /// It did not.
    Missed,
    /// It cannot be judged: no samples or too few, or load that was not the one asked for.
    Open,
}

/// A threshold, what was measured, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The promise in its one spelling.
    pub threshold: String,
    /// What became of it.
    pub state: State,
    /// Milliseconds, a number, per second, or a share (0 to 1), as the figure is; `None` if nothing was measured. A time is the
    /// unfavourable end of its histogram bucket, so that rounding never makes a promise kept.
    pub measured: Option<f64>,
    /// The same for people; empty if nothing was measured.
    pub measured_text: String,
    /// How many samples stand behind it: timed iterations, or the iterations that a share is of.
    pub samples: u64,
    /// If it was missed: by which share of the limit; 0.2 is 20 %. `None` for `==` and `!=`, and for a limit of 0.
    pub excess: Option<f64>,
    /// If it is open: why. Otherwise what the figure leaves out: the times of iterations that were given up are in no percentile of those that
    /// committed.
    pub why: Option<String>,
}

/// A figure that was measured.
struct Measured {
    /// In the unit of the limit.
    value: f64,
    text: String,
    samples: u64,
    /// Why that is too little to judge by.
    too_little: Option<String>,
    /// What it leaves out.
    left_out: Option<String>,
}

impl Threshold {
    /// Judges the threshold by what was measured.
    ///
    /// Without samples it is open, and so is a percentile with fewer than three samples beyond it. Arrivals were dropped: what looks met
    /// is open, because the load was less than asked for; what was missed could only have been worse. The generator was the limit: open
    /// either way. Three things are judged all the same: what was dropped, the lag (both are the generator's own), and a number or rate
    /// above its floor, reached with less.
    pub fn evaluate(&self, source: &impl Source) -> Judgement {
        let open = |why: String| Judgement {
            threshold: self.to_string(),
            state: State::Open,
            measured: None,
            measured_text: String::new(),
            samples: 0,
            excess: None,
            why: Some(why),
        };
        if let Some(operation) = self.operation().filter(|operation| !source.knows(operation)) {
            return open(format!("there is no operation `{operation}`"));
        }
        let measured = match self.measure(source) {
            Ok(measured) => measured,
            Err(why) => return open(why),
        };
        let (state, why) = self.state(&measured, source);
        let why = why.into_iter().chain(measured.left_out).reduce(|why, left_out| format!("{why}; {left_out}"));
        Judgement {
            threshold: self.to_string(),
            state,
            measured: Some(if matches!(self.figure, Figure::Time(..)) { measured.value / 1e6 } else { measured.value }),
            measured_text: measured.text,
            samples: measured.samples,
            excess: self.excess(measured.value).filter(|_| state == State::Missed),
            why,
        }
    }

    /// [`Threshold::evaluate`] of a run that still goes on, if the threshold is missed and stays so: a number that has to be reached may be
    /// reached later.
    pub fn missed_for_good(&self, source: &impl Source) -> Option<Judgement> {
        let judgement = self.evaluate(source);
        let is_for_good = match (self.figure, self.operator) {
            (Figure::Count(_), Operator::Greater | Operator::AtLeast | Operator::NotEqual) => false,
            (Figure::Count(_), Operator::Equal) => judgement.measured.is_some_and(|count| count > self.limit),
            _ => true,
        };
        (judgement.state == State::Missed && is_for_good).then_some(judgement)
    }

    fn state(&self, measured: &Measured, source: &impl Source) -> (State, Option<String>) {
        if let Some(why) = &measured.too_little {
            return (State::Open, Some(why.clone()));
        }
        let met = self.operator.holds(measured.value, self.limit);
        let state = if met { State::Met } else { State::Missed };
        let reached_with_less = met && self.operator.is_floor() && matches!(self.figure, Figure::Count(_) | Figure::PerSecond(_));
        if self.is_of_generator() || reached_with_less {
            return (state, None);
        }
        // A late generator distorts how fast things are, not which share of them went wrong.
        let is_speed = matches!(self.figure, Figure::Time(..) | Figure::PerSecond(_));
        if let Some(why) = source.generator_limited().filter(|_| is_speed) {
            return (State::Open, Some(why));
        }
        let dropped = source.dropped();
        if met && dropped > 0 {
            let were = if dropped == 1 { "arrival was" } else { "arrivals were" };
            return (State::Open, Some(format!("{} {were} dropped: the load was less than asked for", grouped(dropped))));
        }
        (state, None)
    }

    /// By which share of the limit a value lies beyond it.
    fn excess(&self, value: f64) -> Option<f64> {
        let beyond = match self.operator {
            Operator::Less | Operator::AtMost => value - self.limit,
            Operator::Greater | Operator::AtLeast => self.limit - value,
            Operator::Equal | Operator::NotEqual => return None,
        };
        (self.limit > 0.0).then(|| beyond / self.limit)
    }

    /// The figure; an error says why there is none.
    fn measure(&self, source: &impl Source) -> Result<Measured, String> {
        match self.figure {
            Figure::Time(timed, statistic) => self.measure_time(timed, statistic, source),
            Figure::Use(limited, peak) => {
                let usage = source.usage(limited)?;
                let value = if peak == Peak::Average { usage.average } else { usage.maximum };
                let too_little = (usage.samples < FEW).then(|| format!("only {} samples", usage.samples));
                Ok(Measured { value, text: percent(value), samples: usage.samples, too_little, left_out: None })
            }
            Figure::Count(counter) => {
                let (count, of) = self.count(counter, source)?;
                Ok(Measured { value: count as f64, text: grouped(count), samples: of, too_little: None, left_out: None })
            }
            Figure::Share(counter) => {
                let (count, of) = self.count(counter, source)?;
                let share = count as f64 / of as f64;
                let text = format!("{} ({} of {})", percent(share), grouped(count), grouped(of));
                Ok(Measured { value: share, text, samples: of, too_little: None, left_out: None })
            }
            Figure::PerSecond(counter) => {
                let (count, of) = self.count(counter, source)?;
                let seconds = source.seconds();
                if seconds <= 0.0 {
                    return Err("no time has passed".into());
                }
                let rate = count as f64 / seconds;
                Ok(Measured { value: rate, text: format!("{rate:.1}/s"), samples: of, too_little: None, left_out: None })
            }
        }
    }

    /// How many, and out of how many; an error if that is out of none.
    fn count(&self, counter: Counter, source: &impl Source) -> Result<(u64, u64), String> {
        let operation = self.operation();
        let iterations = source.iterations(operation, None);
        let of = |class| source.iterations(operation, Some(class));
        let (count, all) = match counter {
            Counter::Class(class) => (of(class), iterations),
            Counter::Failed => (of(OutcomeClass::Aborted) + of(OutcomeClass::Unknown), iterations),
            Counter::Iterations => (iterations, iterations),
            Counter::Dropped => (source.dropped(), iterations + source.dropped()),
            Counter::Checks => source.checks(operation),
        };
        if counter == Counter::Checks && all == 0 {
            return Err("nothing was looked at in answers".into());
        }
        if all > 0 { Ok((count, all)) } else { Err("there were no iterations".into()) }
    }

    fn measure_time(&self, timed: Timed, statistic: Statistic, source: &impl Source) -> Result<Measured, String> {
        let times = match timed {
            Timed::Iteration(class, time) => source.times(self.operation(), class, time),
            Timed::Wait => source.wait().ok_or("there is no pool to wait for")?,
            Timed::Lag => source.lag().ok_or("nothing was scheduled")?,
        };
        let samples = times.len();
        if samples == 0 {
            return Err(match timed {
                Timed::Iteration(class, _) => format!("there were no {} iterations", class_name(class)),
                Timed::Wait => "nobody waited for a connection".into(),
                Timed::Lag => "nothing was scheduled".into(),
            });
        }
        let mut too_little = None;
        let value = match statistic {
            Statistic::Percentile(percent) => {
                let needed = samples_needed(percent);
                if samples < needed {
                    let (samples, needed) = (grouped(samples), grouped(needed));
                    too_little =
                        Some(format!("p({percent}) needs {needed} samples, so that three lie beyond it; there are {samples}"));
                }
                // The library gives the upper end of the bucket.
                times.value_at_quantile(percent / 100.0)
            }
            Statistic::Minimum => times.min(),
            Statistic::Maximum => times.max(),
            Statistic::Average => times.mean().round() as u64,
        };
        let value = if self.operator.is_floor() { times.lowest_equivalent(value) } else { times.highest_equivalent(value) } as f64;
        let left_out = match timed {
            Timed::Iteration(OutcomeClass::Committed, _) => left_out(self.operation(), source),
            _ => None,
        };
        Ok(Measured { value, text: time_text(value), samples, too_little, left_out })
    }
}

/// The iterations that took time and came to nothing, or nobody knows to what.
fn left_out(operation: Option<&str>, source: &impl Source) -> Option<String> {
    let [unknown, aborted] = [OutcomeClass::Unknown, OutcomeClass::Aborted].map(|class| source.iterations(operation, Some(class)));
    let counts = [(unknown, "unknown"), (aborted, "aborted")];
    let said: Vec<String> = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", grouped(n))).collect();
    (!said.is_empty()).then(|| format!("without the iterations that did not commit: {}", said.join(", ")))
}

/// Samples needed for three to lie beyond a percentile, on the side where there are fewer.
fn samples_needed(percent: f64) -> u64 {
    let needed = BEYOND * 100.0 / percent.min(100.0 - percent);
    // 100 − 99.9 is not exactly a tenth in binary; nobody shall need a sample more for it.
    (needed * (1.0 - 1e-9)).ceil() as u64
}

/// Nanoseconds as people read them, with at least three digits: `187.12 ms`.
fn time_text(nanos: f64) -> String {
    match nanos {
        ns if ns >= 1e9 => format!("{:.3} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.1} µs", ns / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Iterations of one operation, `reserve`, with times in milliseconds.
    #[derive(Default)]
    struct Run {
        committed_ms: Vec<u64>,
        refused: u64,
        aborted: u64,
        unknown: u64,
        dropped: u64,
        seconds: f64,
        limited: Option<String>,
        pool: Option<Usage>,
        checks: (u64, u64),
        lag_ms: Vec<u64>,
    }

    fn times(ms: &[u64]) -> Histogram<u64> {
        let mut times = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).unwrap();
        ms.iter().for_each(|ms| times.record(ms * 1_000_000).unwrap());
        times
    }

    impl Source for Run {
        fn knows(&self, operation: &str) -> bool {
            operation == "reserve"
        }
        fn times(&self, _: Option<&str>, class: OutcomeClass, _: Time) -> Histogram<u64> {
            match class {
                OutcomeClass::Committed => times(&self.committed_ms),
                OutcomeClass::Refused => times(&vec![1; self.refused as usize]),
                _ => times(&[]),
            }
        }
        fn iterations(&self, _: Option<&str>, class: Option<OutcomeClass>) -> u64 {
            match class {
                Some(OutcomeClass::Committed) => self.committed_ms.len() as u64,
                Some(OutcomeClass::Replayed) => 0,
                Some(OutcomeClass::Refused) => self.refused,
                Some(OutcomeClass::Aborted) => self.aborted,
                Some(OutcomeClass::Unknown) => self.unknown,
                Some(OutcomeClass::RolledBack) => 0,
                None => self.committed_ms.len() as u64 + self.refused + self.aborted + self.unknown,
            }
        }
        fn dropped(&self) -> u64 {
            self.dropped
        }
        fn checks(&self, _: Option<&str>) -> (u64, u64) {
            self.checks
        }
        fn lag(&self) -> Option<Histogram<u64>> {
            Some(times(&self.lag_ms))
        }
        fn wait(&self) -> Option<Histogram<u64>> {
            None
        }
        fn usage(&self, limited: Limited) -> Result<Usage, String> {
            self.pool.filter(|_| limited == Limited::Pool).ok_or("not known".into())
        }
        fn seconds(&self) -> f64 {
            self.seconds
        }
        fn generator_limited(&self) -> Option<String> {
            self.limited.clone()
        }
    }

    fn judge(run: &Run, threshold: &str) -> Judgement {
        threshold.parse::<Threshold>().unwrap().evaluate(run)
    }

    fn state(run: &Run, threshold: &str) -> State {
        judge(run, threshold).state
    }

    #[test]
    fn what_is_limited_is_used_on_average_and_at_most() {
        let run = Run { pool: Some(Usage { average: 0.6, maximum: 1.0, samples: 90 }), ..Run::default() };
        assert_eq!(state(&run, "pool_use:avg<70%"), State::Met);
        assert_eq!(state(&run, "pool_use:max<0.9"), State::Missed);
        assert_eq!(judge(&run, "pool_use:max<0.9").measured_text, "100 %");
        assert_eq!(state(&run, "server_use:max<0.9"), State::Open, "what is not known is not kept");
        let short = Run { pool: Some(Usage { average: 0.1, maximum: 0.1, samples: 9 }), ..Run::default() };
        assert_eq!(judge(&short, "pool_use:max<0.9").why.unwrap(), "only 9 samples");
    }

    #[test]
    fn nothing_measured_is_nothing_met() {
        let nothing = Run { seconds: 10.0, ..Run::default() };
        for threshold in [
            "response:p(95)<200ms",
            "response:max<200ms",
            "response:avg<200ms",
            "aborted:rate<1%",
            "aborted:count==0",
            "unknown:rate<1/s",
            "failed:rate<1%",
            "committed:rate>=100/s",
            "iterations:rate>1/s",
            "dropped:count==0",
            "dropped:rate<1%",
            "lag:p(99)<5ms",
            "wait:max<5ms",
        ] {
            let judgement = judge(&nothing, threshold);
            assert_eq!((judgement.state, judgement.measured, judgement.samples), (State::Open, None, 0), "{threshold}");
            assert!(judgement.why.is_some());
        }
        let refusals = Run { refused: 1000, seconds: 10.0, ..Run::default() };
        let judgement = judge(&refusals, "response:p(95)<200ms");
        assert_eq!(judgement.state, State::Open, "fast refusals are no fast service");
        assert_eq!(judgement.why.as_deref(), Some("there were no committed iterations"));
        assert_eq!(state(&refusals, "refused.response:p(95)<200ms"), State::Met);
        assert_eq!(judge(&refusals, "cancel.aborted:count==0").why.as_deref(), Some("there is no operation `cancel`"));
        assert_eq!(
            state(&Run { committed_ms: vec![1], ..Run::default() }, "committed:rate>=1/s"),
            State::Open,
            "no time has passed"
        );
    }

    #[test]
    fn a_percentile_needs_three_samples_beyond_it() {
        for (percent, needed) in
            [(50.0, 6), (90.0, 30), (95.0, 60), (99.0, 300), (99.9, 3000), (99.99, 30_000), (10.0, 30), (1.0, 300)]
        {
            assert_eq!(samples_needed(percent), needed, "{percent}");
        }
        let run = |samples: u64| Run { committed_ms: (1..=samples).collect(), ..Run::default() };
        assert_eq!(state(&run(29), "response:p(90)<1s"), State::Open);
        assert_eq!(state(&run(30), "response:p(90)<1s"), State::Met);
        let judgement = judge(&run(29), "response:p(99)<1s");
        assert_eq!(judgement.state, State::Open);
        assert_eq!(judgement.why.as_deref(), Some("p(99) needs 300 samples, so that three lie beyond it; there are 29"));
        assert_eq!(judge(&run(300), "response:p(99)<1s").state, State::Met);
        assert_eq!(judge(&run(300), "response:p(99)<100ms").state, State::Missed);
        assert_eq!(state(&run(1), "response:max<1s"), State::Met, "one sample is a maximum");
    }

    #[test]
    fn times_are_compared_at_the_unfavourable_end_of_their_bucket() {
        let run = Run { committed_ms: vec![200; 100], ..Run::default() };
        for threshold in ["response:p(95)<200ms", "response:max<=200ms", "response:avg>200ms", "response:min>=200.001"] {
            assert_eq!(state(&run, threshold), State::Missed, "{threshold}");
        }
        for threshold in ["response:p(95)<201ms", "response:max<=201ms", "response:avg>199ms", "response:min>=199ms"] {
            assert_eq!(state(&run, threshold), State::Met, "{threshold}");
        }
        let judgement = judge(&run, "reserve.response:p(95)<100");
        assert_eq!((judgement.threshold.as_str(), judgement.samples), ("reserve.response:p(95)<100ms", 100));
        assert!(judgement.measured.is_some_and(|ms| (200.0..200.2).contains(&ms)), "{judgement:?}");
        assert!(judgement.excess.is_some_and(|share| (1.0..1.002).contains(&share)), "{judgement:?}");
        assert!(judgement.measured_text.starts_with("200.") && judgement.measured_text.ends_with(" ms"), "{judgement:?}");
    }

    #[test]
    fn counts_shares_and_rates_are_exact_at_their_limits() {
        let run = Run { committed_ms: vec![1; 98], refused: 1, aborted: 1, seconds: 2.0, ..Run::default() };
        for (threshold, expected) in [
            ("aborted:rate<=1%", State::Met),
            ("aborted:rate<1%", State::Missed),
            ("aborted:rate<0.011", State::Met),
            ("failed:rate<=0.01", State::Met),
            ("committed:count>=98", State::Met),
            ("committed:count>98", State::Missed),
            ("committed:count==98", State::Met),
            ("committed:count!=98", State::Missed),
            ("committed:rate>=49/s", State::Met),
            ("committed:rate>49/s", State::Missed),
            ("iterations:rate<=50/s", State::Met),
            ("unknown:count==0", State::Met),
            ("dropped:count==0", State::Met),
        ] {
            assert_eq!(state(&run, threshold), expected, "{threshold}");
        }
        let judgement = judge(&run, "aborted:rate<0.8%");
        assert_eq!((judgement.measured, judgement.samples), (Some(0.01), 100));
        assert_eq!(judgement.measured_text, "1.0 % (1 of 100)");
        assert!(judgement.excess.is_some_and(|share| (share - 0.25).abs() < 1e-9));
        assert_eq!(judge(&run, "committed:rate>=98/s").excess, Some(0.5));
        assert_eq!(judge(&run, "committed:rate>=98/s").measured_text, "49.0/s");
        assert_eq!(judge(&run, "aborted:count<=0").excess, None, "no share of nothing");
        assert_eq!(judge(&run, "committed:count>=98").excess, None, "nothing was exceeded");
    }

    #[test]
    fn less_load_than_asked_for_meets_nothing() {
        let dropped = Run { committed_ms: vec![100; 100], dropped: 1, seconds: 1.0, lag_ms: vec![1; 300], ..Run::default() };
        for (threshold, expected) in [
            ("response:p(95)<200ms", State::Open),
            ("response:p(95)<50ms", State::Missed),
            ("aborted:rate<1%", State::Open),
            ("committed:rate>=100/s", State::Met),
            ("committed:rate>=101/s", State::Missed),
            ("dropped:count==0", State::Missed),
            ("dropped:rate<1%", State::Met),
            ("lag:p(99)<5ms", State::Met),
        ] {
            assert_eq!(state(&dropped, threshold), expected, "{threshold}");
        }
        let why = judge(&dropped, "response:p(95)<200ms").why.unwrap();
        assert_eq!(why, "1 arrival was dropped: the load was less than asked for");
        let limited = Run { limited: Some("CPU at 97 %".into()), dropped: 0, ..dropped };
        for (threshold, expected) in [
            ("response:p(95)<200ms", State::Open),
            ("response:p(95)<50ms", State::Open),
            ("aborted:rate<1%", State::Met),
            ("committed:rate>=100/s", State::Met),
            ("committed:rate>=101/s", State::Open),
            ("dropped:count==0", State::Met),
            ("lag:p(99)<1us", State::Missed),
        ] {
            assert_eq!(state(&limited, threshold), expected, "{threshold}");
        }
        let judgement = judge(&limited, "response:p(95)<50ms");
        assert_eq!(judgement.why.as_deref(), Some("CPU at 97 %"));
        assert!(judgement.excess.is_none() && judgement.measured.is_some(), "{judgement:?}");
    }

    #[test]
    fn a_judgement_can_be_kept() {
        let judgement = judge(&Run { committed_ms: vec![100; 100], ..Run::default() }, "response:max<1s");
        let json = serde_json::to_string(&judgement).unwrap();
        assert!(json.contains(r#""state":"met""#), "{json}");
        assert_eq!(serde_json::from_str::<Judgement>(&json).unwrap(), judgement);
    }

    #[test]
    fn a_percentile_says_which_iterations_are_not_in_it() {
        let why = |threshold: &str, run: &Run| {
            let judged = threshold.parse::<Threshold>().unwrap().evaluate(run);
            (judged.state, judged.why.unwrap_or_default())
        };
        let given_up = Run { committed_ms: vec![10; 100], unknown: 76, aborted: 2, seconds: 1.0, ..Run::default() };
        let said = "without the iterations that did not commit: 76 unknown, 2 aborted".to_owned();
        assert_eq!(why("response:p(95)<200ms", &given_up), (State::Met, said.clone()));
        assert_eq!(why("service:max<5ms", &given_up), (State::Missed, said));
        // What counts them speaks of them already.
        assert_eq!(why("unknown.rate<1", &given_up), (State::Met, String::new()));
        let all = Run { committed_ms: vec![10; 100], refused: 50, seconds: 1.0, ..Run::default() };
        assert_eq!(why("response:p(95)<200ms", &all), (State::Met, String::new()));
    }
}
