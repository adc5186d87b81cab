//! What are the figures that thresholds speak of?

use std::time::Duration;

use hdrhistogram::Histogram;

use super::drive::LAG_LIMIT;
use crate::metrics::{Recorder, Time, grouped};
use crate::outcome::OutcomeClass;
use crate::plan::Plan;
use crate::probe::Watched;
use crate::record::PoolRecord;
use crate::threshold::{Limited, Source, Usage};

/// Before this much has been measured, no threshold ends a run: the first second of any is not like the rest.
const GRACE: Duration = Duration::from_secs(2);

/// The measurements of a turn, by the names of its plan.
pub(super) struct Figures<'a> {
    plan: &'a Plan,
    recorder: &'a Recorder,
    seconds: f64,
    pool: Option<&'a PoolRecord>,
    watched: Option<&'a Watched>,
    rows: Option<u64>,
}

impl<'a> Figures<'a> {
    /// `seconds` is the time measured, without the warm-up.
    pub fn new(plan: &'a Plan, recorder: &'a Recorder, seconds: f64) -> Self {
        Self { plan, recorder, seconds, pool: None, watched: None, rows: None }
    }

    /// What the pool and the server did, now that it is known.
    #[must_use]
    pub fn with_connections(self, pool: Option<&'a PoolRecord>, watched: &'a Watched) -> Self {
        Self { pool, watched: Some(watched), ..self }
    }

    /// How many rows the server says were changed, if it does.
    #[must_use]
    pub fn with_rows(self, rows: Option<u64>) -> Self {
        Self { rows, ..self }
    }

    /// Rows that the server counts as changed; `None` if that is not known.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn number(&self, operation: &str) -> Option<usize> {
        self.plan.operations().iter().position(|name| *name == operation)
    }

    /// Which operation is meant: inner `None` is all of them, outer `None` one that there is not.
    fn find(&self, operation: Option<&str>) -> Option<Option<usize>> {
        operation.map_or(Some(None), |name| self.number(name).map(Some))
    }

    /// Committed iterations of one operation that changed something.
    pub fn changed(&self, operation: &str) -> u64 {
        self.number(operation).map_or(0, |operation| self.recorder.changed(operation))
    }

    /// Iterations of one operation that ended in a ROLLBACK of their own.
    pub fn rolled_back(&self, operation: &str) -> u64 {
        self.iterations(Some(operation), Some(OutcomeClass::RolledBack))
    }

    /// Committed iterations of one operation.
    pub fn committed(&self, operation: &str) -> u64 {
        self.iterations(Some(operation), Some(OutcomeClass::Committed))
    }

    /// The operations that were tried, and neither done nor answered nor refused a single time. One that rolls back what it did has done it.
    pub fn never_done(&self) -> Vec<&'a str> {
        let is_never = |name: &&str| {
            let count = |class| self.iterations(Some(name), class);
            let answers = [OutcomeClass::Committed, OutcomeClass::Replayed, OutcomeClass::Refused, OutcomeClass::RolledBack];
            let answers = answers.map(|class| count(Some(class)));
            count(None) > 0 && answers.iter().sum::<u64>() == 0
        };
        self.plan.operations().into_iter().filter(is_never).collect()
    }

    /// Why the generator was the limit: more than once in a hundred times it came later to something than it should have.
    pub fn limited(&self) -> Option<String> {
        let lag = self.recorder.lags();
        let p99 = Duration::from_nanos(lag.value_at_quantile(0.99));
        (!lag.is_empty() && p99 > LAG_LIMIT).then(|| {
            format!(
                "generator-limited: dbstress itself was {:.1} ms late at the 99th percentile of {} occasions; up to {} ms is part of the measurement",
                p99.as_secs_f64() * 1e3,
                grouped(lag.len()),
                LAG_LIMIT.as_millis()
            )
        })
    }

    /// The first threshold that is missed although the run should be given up for it.
    pub fn give_up(&self) -> Option<String> {
        if self.seconds < GRACE.as_secs_f64() {
            return None;
        }
        self.plan.thresholds.iter().filter(|t| t.abort_on_fail).find_map(|threshold| {
            let judgement = threshold.missed_for_good(self)?;
            Some(format!("stopped after {:.0} s: {threshold} was missed, {} measured", self.seconds, judgement.measured_text))
        })
    }
}

impl Source for Figures<'_> {
    fn knows(&self, operation: &str) -> bool {
        self.number(operation).is_some()
    }

    fn times(&self, operation: Option<&str>, class: OutcomeClass, time: Time) -> Histogram<u64> {
        match self.find(operation) {
            Some(operation) => self.recorder.times(operation, class, time),
            None => crate::metrics::histogram(),
        }
    }

    fn iterations(&self, operation: Option<&str>, class: Option<OutcomeClass>) -> u64 {
        self.find(operation).map_or(0, |operation| self.recorder.iterations(operation, class))
    }

    fn dropped(&self) -> u64 {
        self.recorder.counts().dropped
    }

    fn checks(&self, operation: Option<&str>) -> (u64, u64) {
        let held = self.recorder.counts().checked(operation);
        (held.held, held.held + held.failed)
    }

    fn lag(&self) -> Option<Histogram<u64>> {
        Some(self.recorder.lags().clone())
    }

    fn wait(&self) -> Option<Histogram<u64>> {
        self.recorder.waits().cloned()
    }

    fn usage(&self, limited: Limited) -> Result<Usage, String> {
        match (limited, self.pool) {
            (Limited::Pool, Some(pool)) => pool.usage(),
            (Limited::Pool, None) => Err("there is no pool".into()),
            (Limited::Server, _) => self.watched.ok_or("known only at the end")?.server_use(),
        }
    }

    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn generator_limited(&self) -> Option<String> {
        self.limited()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Iteration;
    use crate::outcome::Outcome;
    use crate::scenario::Scenario;
    use crate::threshold::State;

    #[test]
    fn a_generator_that_is_late_is_told_and_passes_no_threshold_on_time() {
        let mut scenario = Scenario::built_in("throughput").unwrap();
        scenario.thresholds = vec!["response:p(95)<150ms".parse().unwrap(), "response:p(95)<1ms".parse().unwrap()];
        let plan = Plan::of(&scenario, Default::default());
        let mut recorder = Recorder::new(1, false);
        let iteration = Iteration {
            outcome: Outcome::Committed,
            attempts: 1,
            is_attack: false,
            has_changed: true,
            scheduled: 0,
            started: 0,
            finished: 5_000_000,
        };
        for _ in 0..1_000 {
            recorder.record(0, iteration);
            recorder.lag(1_000_000);
        }
        let states = |recorder: &Recorder| -> Vec<State> {
            let figures = Figures::new(&plan, recorder, 10.0);
            plan.thresholds.iter().map(|t| t.evaluate(&figures).state).collect()
        };
        assert_eq!(Figures::new(&plan, &recorder, 10.0).limited(), None);
        assert_eq!(states(&recorder), [State::Met, State::Missed]);
        for _ in 0..11 {
            recorder.lag(LAG_LIMIT.as_nanos() as u64 + 5_000_000);
        }
        let why = Figures::new(&plan, &recorder, 10.0).limited().unwrap();
        assert!(why.starts_with("generator-limited") && why.contains("1,011 occasions"), "{why}");
        assert_eq!(states(&recorder), [State::Open, State::Open]);
    }
}
