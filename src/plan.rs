//! What exactly will be run? Complete, validated, printable; everything that decides a result is in here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bug::Bug;
use crate::fault::Planned;
use crate::history::Asking;
use crate::pace::{Arrival, Ramp, Stage, Think, duration_text};
use crate::pg::load::Protocol;
use crate::pg::pool::{PoolSettings, Recycle};
use crate::pg::retry::Retry;
use crate::scenario::{self, Booking, Contest, Evidence, Extent, Http, Keys, Scenario, Scheduling, Sql, Targets};
use crate::strategy::{Hazard, Strategy};
use crate::threshold::Threshold;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario that it follows.
    pub scenario: String,
    /// What the virtual users do.
    pub workload: Workload,
    /// How hard and how long.
    pub load: Load,
    /// What is excluded from the figures, at the beginning.
    #[serde(rename = "warm_up_ms", with = "crate::milliseconds")]
    pub warm_up: Duration,
    /// How long iterations under way may go on after the end.
    #[serde(rename = "graceful_stop_ms", with = "crate::milliseconds")]
    pub graceful_stop: Duration,
    /// Connections of the one pool; `None` = a connection for each virtual user.
    pub pool_size: Option<u32>,
    /// How long the pool lets anybody wait; `None` = as long as the iteration may go on.
    #[serde(default, rename = "pool_timeout_ms", with = "crate::milliseconds::maybe")]
    pub pool_timeout: Option<Duration>,
    /// What the pool does with a connection before it lends it again.
    #[serde(default)]
    pub pool_recycle: Recycle,
    /// How statements are sent.
    #[serde(default)]
    pub protocol: Protocol,
    /// How failed attempts are tried again.
    pub retry: Retry,
    /// Load threads.
    pub threads: usize,
    /// What random choices are made from.
    pub rng_seed: u64,
    /// Names of the invariants that the run claims to keep.
    pub claims: Vec<String>,
    /// What the figures must keep to.
    pub thresholds: Vec<Threshold>,
    /// What goes wrong while the load runs.
    #[serde(default)]
    pub faults: Vec<Planned>,
    /// What a pass must rest on.
    pub evidence: Evidence,
    /// What the user calls it.
    pub tags: BTreeMap<String, String>,
}

/// What the virtual users do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Book units of authorisations.
    Booking(Booking),
    /// Change the schedules of residents.
    Scheduling(Scheduling),
    /// Statements of the user's own.
    Sql(Sql),
    /// Requests to an API.
    Http(Box<Http>),
}

/// How hard and how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// All virtual users begin an iteration together, again and again.
    Rounds {
        /// Virtual users.
        vus: u32,
        /// When a turn is over.
        limit: Limit,
    },
    /// Each virtual user begins its next iteration when the last is over.
    Closed {
        /// How many are at work.
        vus: Ramp,
        /// Iterations in all, if that is the end.
        iterations: Option<u64>,
        /// The pause between two iterations.
        think: Think,
    },
    /// Iterations arrive by schedule, whether or not earlier ones are over.
    Open {
        /// Arrivals per second.
        rate: Ramp,
        /// How they are spaced.
        arrival: Arrival,
        /// Arrivals in all, if that is the end.
        iterations: Option<u64>,
        /// Virtual users that take them up.
        vus: u32,
        /// How many may wait for one; more are dropped, and counted.
        backlog: u32,
    },
}

/// When a turn of rounds is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// After this time, at the end of the round.
    #[serde(rename = "duration_ms")]
    Duration(#[serde(with = "crate::milliseconds")] Duration),
    /// After so many rounds.
    Rounds(u64),
}

impl Load {
    /// Virtual users at the most.
    pub fn vus(&self) -> u32 {
        match self {
            Self::Rounds { vus, .. } | Self::Open { vus, .. } => *vus,
            Self::Closed { vus, .. } => vus.peak().ceil() as u32,
        }
    }

    /// How long it takes, if time is what ends it.
    pub fn duration(&self) -> Option<Duration> {
        let duration = match self {
            Self::Rounds { limit: Limit::Duration(duration), .. } => *duration,
            Self::Rounds { .. } => return None,
            Self::Closed { vus: ramp, .. } | Self::Open { rate: ramp, .. } => ramp.duration(),
        };
        (duration < FOREVER).then_some(duration)
    }

    /// Iterations in all, if that is what ends it.
    pub fn iterations(&self) -> Option<u64> {
        match self {
            Self::Rounds { vus, limit: Limit::Rounds(n) } => Some(n * u64::from(*vus)),
            Self::Rounds { .. } => None,
            Self::Closed { iterations, .. } | Self::Open { iterations, .. } => *iterations,
        }
    }

    /// The same load for a shorter time: what a control gets.
    #[must_use]
    pub fn cut(&self, to: Duration) -> Self {
        // The same shape in less time: its beginning alone might be a few virtual users.
        let cut = |ramp: &Ramp| {
            let factor = (to.as_secs_f64() / ramp.duration().as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0);
            let shorter = |stage: &Stage| Stage { duration: stage.duration.mul_f64(factor), ..*stage };
            Ramp { start: ramp.start, stages: ramp.stages.iter().map(shorter).collect() }
        };
        let vus = self.vus();
        let mut load = self.clone();
        match &mut load {
            Self::Rounds { limit: Limit::Duration(duration), .. } => *duration = to,
            // Few rounds may be too few to be caught in.
            Self::Rounds { limit: Limit::Rounds(n), .. } => *n = (*n).max(20),
            Self::Closed { vus: ramp, iterations, .. } => {
                let least = 20 * u64::from(vus);
                *iterations = iterations.map(|n| n.max(least));
                *ramp = cut(ramp);
            }
            Self::Open { rate: ramp, .. } => *ramp = cut(ramp),
        }
        load
    }

    /// In words: `50 VUs for 30s`.
    pub fn words(&self) -> String {
        let ramp = |ramp: &Ramp, unit: &str| match &ramp.stages[..] {
            [stage] if stage.target == ramp.start && stage.duration >= FOREVER => format!("{} {unit}", ramp.start),
            [stage] if stage.target == ramp.start => format!("{} {unit} for {}", ramp.start, duration_text(stage.duration)),
            stages => {
                let stages: Vec<String> = stages.iter().map(ToString::to_string).collect();
                format!("{unit} in stages from {}: {}", ramp.start, stages.join(", "))
            }
        };
        let iterations = |n: &Option<u64>| n.map_or(String::new(), |n| format!(", {n} iterations"));
        match self {
            Self::Rounds { vus, limit: Limit::Duration(d) } => format!("{vus} VUs in rounds for {}", duration_text(*d)),
            Self::Rounds { vus, limit: Limit::Rounds(n) } => format!("{vus} VUs, {n} round{}", if *n == 1 { "" } else { "s" }),
            Self::Closed { vus, iterations: n, think } => {
                let think = if think.is_zero() { String::new() } else { format!(", {think} apart") };
                format!("{}{}{think}", ramp(vus, "VUs"), iterations(n))
            }
            Self::Open { rate, arrival, iterations: n, vus, .. } => {
                let spacing = if *arrival == Arrival::Poisson { " at random" } else { "" };
                format!("{}{spacing}{}, {vus} VUs at the most", ramp(rate, "arrivals/s"), iterations(n))
            }
        }
    }
}

/// A load that iterations end, not time.
pub const FOREVER: Duration = Duration::from_secs(100 * 24 * 3600);

/// The control stops at its first breach, or after this.
pub const CONTROL_LIMIT: Duration = Duration::from_secs(10);
/// Invariants about counters and ledger alone: they make sense on any copy of the two tables, the controls' among them.
pub const OF_COUNTERS: [&str; 6] = [
    "units-within-total",
    "counters-in-range",
    "counters-match-ledger",
    "ledger-replays",
    "status-matches-counters",
    "applied-once",
];
/// What contention can do to a booking.
pub const HAZARD: Hazard = Hazard::LostUpdate;

impl Plan {
    /// The plan of a scenario, which has been checked.
    pub fn of(scenario: &Scenario, tags: BTreeMap<String, String>) -> Self {
        let scenario::Load { vus, rate, arrival, backlog, think, .. } = scenario.load;
        let workload = match &scenario.workload {
            scenario::Workload::Booking(booking) => Workload::Booking(booking.clone()),
            scenario::Workload::Scheduling(scheduling) => Workload::Scheduling(scheduling.clone()),
            scenario::Workload::Sql(sql) => Workload::Sql(sql.clone()),
            scenario::Workload::Http(http) => Workload::Http(http.clone()),
        };
        let in_rounds = scenario.is_in_rounds();
        let (duration, iterations) = match &scenario.load.extent {
            Extent::Constant { duration, iterations } => (*duration, *iterations),
            Extent::Rounds(_) | Extent::Stages(_) => (None, None),
        };
        let ramp = scenario.load.ramp().unwrap_or_else(|| Ramp::constant(vus.into(), FOREVER));
        let load = match (&scenario.load.extent, rate) {
            (Extent::Rounds(n), _) => Load::Rounds { vus, limit: Limit::Rounds(*n) },
            (_, None) if in_rounds => Load::Rounds { vus, limit: Limit::Duration(duration.unwrap_or(FOREVER)) },
            (_, None) => Load::Closed { vus: ramp, iterations, think },
            (_, Some(_)) => Load::Open { rate: ramp, arrival, iterations, vus, backlog },
        };
        Self {
            scenario: scenario.name.clone(),
            workload,
            load,
            warm_up: scenario.load.warm_up,
            graceful_stop: scenario.load.graceful_stop,
            pool_size: scenario.load.pool_size,
            pool_timeout: scenario.load.pool_timeout,
            pool_recycle: scenario.load.pool_recycle,
            protocol: scenario.load.protocol,
            retry: scenario.load.retry,
            threads: scenario.load.threads.map_or_else(default_threads, usize::from),
            rng_seed: scenario.load.rng_seed,
            claims: scenario.claims.clone(),
            thresholds: scenario.thresholds.clone(),
            faults: scenario.faults.clone(),
            evidence: scenario.evidence.clone(),
            tags,
        }
    }

    /// The pool that the virtual users share, if they do.
    pub fn pool(&self) -> Option<PoolSettings> {
        self.pool_size.map(|size| PoolSettings { size, timeout: self.pool_timeout, recycle: self.pool_recycle })
    }

    /// What is booked, if units are.
    pub fn booking(&self) -> Option<&Booking> {
        match &self.workload {
            Workload::Booking(booking) => Some(booking),
            Workload::Scheduling(_) | Workload::Sql(_) | Workload::Http(_) => None,
        }
    }

    /// What is contended for, if schedules are changed.
    pub fn scheduling(&self) -> Option<&Scheduling> {
        match &self.workload {
            Workload::Scheduling(scheduling) => Some(scheduling),
            Workload::Booking(_) | Workload::Sql(_) | Workload::Http(_) => None,
        }
    }

    /// Whether every operation leaves a line in a ledger of ours, by which its history can be judged.
    pub fn keeps_ledger(&self) -> bool {
        matches!(self.workload, Workload::Booking(_) | Workload::Scheduling(_))
    }

    /// What is asked of an API, if one is asked by a scenario of its own.
    pub fn http(&self) -> Option<&Http> {
        match &self.workload {
            Workload::Http(http) => Some(http),
            Workload::Booking(_) | Workload::Scheduling(_) | Workload::Sql(_) => None,
        }
    }

    /// What becomes of the keys that requests carry, if they carry any.
    pub fn keys(&self) -> Option<Keys> {
        self.booking()?.keys
    }

    /// The strategies that have a turn; a workload of the user's own has none.
    pub fn strategies(&self) -> &[Strategy] {
        match &self.workload {
            Workload::Booking(booking) => &booking.strategies,
            Workload::Scheduling(scheduling) => &scheduling.strategies,
            Workload::Sql(_) | Workload::Http(_) => &[],
        }
    }

    /// Names of the operations, by their numbers.
    pub fn operations(&self) -> Vec<&str> {
        match &self.workload {
            Workload::Booking(booking) => booking.operations.iter().map(|o| &*o.name).collect(),
            Workload::Scheduling(scheduling) => scheduling.contested().map(Contest::name).collect(),
            Workload::Sql(sql) => sql.operations.iter().map(|o| &*o.name).collect(),
            Workload::Http(http) => http.operations.iter().map(|o| &*o.name).collect(),
        }
    }

    /// What operations are done to.
    pub fn subject(&self) -> &'static str {
        if self.scheduling().is_some() { "programme" } else { "authorisation" }
    }

    /// What exposure is counted in, in the plural.
    pub fn blocks(&self) -> &'static str {
        match self.load {
            Load::Rounds { .. } if self.keys().is_some() => "keys",
            Load::Rounds { .. } => "rounds",
            Load::Closed { .. } | Load::Open { .. } => "seconds of an authorisation",
        }
    }

    /// Units that everybody asks for in a round, and room for this many winners: those who have room in an authorisation, or with a key the
    /// one that has it done. `None` without rounds.
    pub fn round(&self) -> Option<(i32, u32)> {
        let (Load::Rounds { .. }, Some(booking)) = (&self.load, self.booking()) else { return None };
        let units = booking.operations.first()?.units;
        if booking.keys.is_some() {
            return Some((units, 1));
        }
        Some((units, (booking.total / units.max(1)).max(0).unsigned_abs()))
    }

    /// Why this plan cannot contend although it claims to, whatever the machine, and what would cure it; `None` if it can. A pass of such a plan
    /// would rest on nothing.
    pub fn cannot_contend(&self) -> Option<(String, String)> {
        if self.claims.is_empty() {
            return None;
        }
        let vus = self.load.vus();
        if vus < 2 {
            return Some((format!("{vus} VU meets nobody"), "--vus 50".into()));
        }
        if self.pool_size == Some(1) {
            return Some(("with one connection nobody meets anybody".into(), "--pool-size 20".into()));
        }
        if let Some(scheduling) = self.scheduling() {
            let roomy = scheduling.contested().max_by_key(|contest| contest.rooms()[1])?;
            let [_, most] = roomy.rooms();
            let why = || {
                format!(
                    "each of {vus} VUs wants something different, and in a contest of {} there is room for up to {most} of them",
                    roomy.name()
                )
            };
            return (vus <= most).then(|| (why(), format!("raise --vus above {most}")));
        }
        let (units, winners) = self.round()?;
        (vus <= winners).then(|| {
            let total = self.booking().map_or(0, |b| b.total);
            let why = format!(
                "{vus} VUs ask for {units} units each, and {winners} have room in {total} units, so nobody is ever refused"
            );
            (why, format!("raise --vus above {winners}, or lower --total"))
        })
    }

    /// The known mistake that is made on purpose, if one is.
    pub fn bug(&self) -> Option<Bug> {
        self.booking()?.bug
    }

    /// What a pass of this plan would mean, in words, and no more than that: only what a control has shown that the run could have found.
    pub fn claim(&self) -> String {
        match self.bug() {
            Some(bug) => format!("nothing: a known mistake is made on purpose ({bug})"),
            None if self.faults.is_empty() => self.claim_of_the_right_thing(),
            None => {
                let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
                format!("{}; meanwhile {}", self.claim_of_the_right_thing(), faults.join(", "))
            }
        }
    }

    fn claim_of_the_right_thing(&self) -> String {
        let load = self.load.words();
        let kept = match self.thresholds.len() {
            0 => String::new(),
            1 => "the threshold was kept".to_owned(),
            2 => "both thresholds were kept".to_owned(),
            n => format!("all {n} thresholds were kept"),
        };
        if let Some(scheduling) = self.scheduling() {
            return self.claim_of_schedules(scheduling, kept);
        }
        let Some(booking) = self.booking() else {
            let rules = match self.claims.len() {
                0 => String::new(),
                1 => format!("{} held", self.claims[0]),
                n => format!("{n} rules held ({})", self.claims.join(", ")),
            };
            let said: Vec<String> = [rules, kept].into_iter().filter(|s| !s.is_empty()).collect();
            return if said.is_empty() {
                format!("nothing: measured only, under {load}")
            } else {
                format!("{}, under {load}", said.join("; "))
            };
        };
        if self.claims.is_empty() {
            let kept = if kept.is_empty() { "the operations were done".to_owned() } else { kept };
            return format!(
                "{kept}, under {load}; integrity was examined, not claimed: at this load nothing shows that it could have failed"
            );
        }
        if booking.keys.is_some() {
            let mut how: Vec<&str> =
                booking.operations.iter().filter(|o| o.weight > 0.0).filter_map(|o| asked(o.request?)).collect();
            how.sort_unstable();
            how.dedup();
            let how = if how.is_empty() { String::new() } else { format!("; some {}", how.join(", some ")) };
            let kept = if kept.is_empty() { kept } else { format!("; {kept}") };
            return format!(
                "what was asked for with a key was done once in each lifetime of the key, and whoever asked within it was told what it came to; under {} VUs \
                 released together, all with the same key{how}{kept}",
                self.load.vus()
            );
        }
        let pressure = match booking.targets {
            Targets::Rounds => {
                let units = booking.operations.first().map_or(0, |o| o.units);
                format!("{} VUs released together, each reserving {units} of {} units", self.load.vus(), booking.total)
            }
            Targets::OneByOne => format!("{load}, all on one authorisation of {} units after the other", booking.total),
            Targets::Spread { authorisations, hot } => {
                let hot = hot.map_or(String::new(), |h| {
                    format!(", {} % of it on {} hot", (h.share * 100.0).round(), plural(h.authorisations, "authorisation"))
                });
                format!("{load}, on {}{hot}", plural(authorisations, "authorisation"))
            }
        };
        let kept = if kept.is_empty() { kept } else { format!("; {kept}") };
        let what = match self.faults.is_empty() {
            true => "no overbooking and no lost update",
            false => "no overbooking, no lost update, nothing acknowledged that was lost, nothing done twice",
        };
        format!("{what}, under {pressure}{kept}")
    }
}

impl Plan {
    /// What a pass of schedules would mean. That it was serializable can be said only where nothing but that level kept the rules, and where the
    /// level below it, which runs as the control, did not.
    fn claim_of_schedules(&self, scheduling: &Scheduling, kept: String) -> String {
        let contests: Vec<&str> = scheduling.contested().map(Contest::name).collect();
        let load = format!("{}, in contests of {}", self.load.words(), contests.join(", "));
        let kept = if kept.is_empty() { kept } else { format!("; {kept}") };
        if self.claims.is_empty() {
            return format!(
                "the operations were done{kept}, under {load}; integrity was examined, not claimed: nothing shows that it could have failed"
            );
        }
        let what = match (scheduling.hazard(), &scheduling.strategies[..]) {
            (Hazard::DoubleBooking, _) => "nobody was in two places",
            _ if scheduling.contested().all(Contest::is_about_one_row) => "no lost update",
            (_, [Strategy::Serializable]) => {
                "serializable: no write skew, where repeatable read, which is the same without it, has one"
            }
            _ if scheduling.contested().any(Contest::is_about_one_row) => "no write skew and no lost update",
            _ => "no write skew",
        };
        let rules = self.claims.join(", ");
        format!("{what} (kept: {rules}), under {load}{kept}")
    }
}

/// How some ask who do not ask as everybody does.
fn asked(asking: Asking) -> Option<&'static str> {
    match asking {
        Asking::First => None,
        Asking::Again => Some("asked again after the answer"),
        Asking::HangUp => Some("hung up after COMMIT and asked again"),
        Asking::OtherBody => Some("had another body"),
        Asking::OtherTenant => Some("were of another organisation"),
        Asking::Late => Some("asked again after the lifetime of the key"),
    }
}

fn plural(n: u32, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The server runs on the same machine and needs the other half.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Plan {
        Plan::of(&Scenario::built_in("contention").unwrap(), BTreeMap::new())
    }

    fn with(change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
        let mut plan = example();
        let mut booking = plan.booking().unwrap().clone();
        change(&mut plan, &mut booking);
        plan.workload = Workload::Booking(booking);
        plan
    }

    #[test]
    fn a_plan_in_which_nobody_can_be_refused_cannot_contend() {
        let vus = |vus| with(|plan, _| plan.load = Load::Rounds { vus, limit: Limit::Rounds(1) });
        assert!(example().cannot_contend().is_none());
        assert!(vus(1).cannot_contend().unwrap().0.contains("meets nobody"));
        assert!(vus(5).cannot_contend().unwrap().1.contains("--vus above 5"));
        assert!(vus(6).cannot_contend().is_none());
        assert!(with(|plan, _| plan.pool_size = Some(1)).cannot_contend().unwrap().0.contains("one connection"));
    }

    #[test]
    fn what_is_claimed_are_invariants() {
        let known = crate::invariant::built_in().unwrap();
        for (name, _) in scenario::BUILT_IN {
            let plan = Plan::of(&Scenario::built_in(name).unwrap(), BTreeMap::new());
            for claim in &plan.claims {
                assert!(known.iter().any(|i| i.name == *claim), "{name}: {claim} is an invariant");
            }
        }
    }

    #[test]
    fn a_load_that_is_cut_keeps_its_shape() {
        let stage = |seconds, target| Stage { duration: Duration::from_secs(seconds), target };
        let ramp = Ramp { start: 0.0, stages: vec![stage(10, 100.0), stage(10, 100.0)] };
        let load = Load::Closed { vus: ramp, iterations: None, think: Think::default() };
        let Load::Closed { vus, .. } = load.cut(Duration::from_secs(5)) else { panic!() };
        let shorter = Stage { duration: Duration::from_millis(2_500), target: 100.0 };
        assert_eq!((vus.start, vus.stages), (0.0, vec![shorter, shorter]));
        assert_eq!(load.cut(Duration::from_secs(60)), load);
        let few = Load::Closed { vus: Ramp::constant(5.0, Duration::from_secs(9)), iterations: Some(3), think: Think::default() };
        assert_eq!(few.cut(Duration::from_secs(9)).iterations(), Some(100), "enough to be caught in");
    }
}
