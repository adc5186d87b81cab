//! What is kept of a run? Everything that its verdict rests on, and what it takes to run it again.

mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::{Audit, Counters, Truth};
use crate::bug::Check;
use crate::contract::Limit;
use crate::fault::Planned;
use crate::invariant::{Checked, Finding};
use crate::metrics::{Counts, Percentiles, Tick, Timing};
use crate::outcome::OutcomeClass;
use crate::pace::Ramp;
use crate::pg::admin::Loaded;
use crate::pg::load::Between;
use crate::plan::{FOREVER, OF_COUNTERS, Plan};
use crate::probe::{Sessions, Watched};
use crate::threshold::Judgement;
use crate::verdict::{Decision, Verdict};
use crate::{Error, Result};

pub use pool::{Band, PoolRecord, PoolSecond};

/// Version of the shape of [`RunRecord`].
pub const SCHEMA_VERSION: u32 = 4;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this shape.
    pub schema_version: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// What that means for whoever has to decide.
    pub decision: Decision,
    /// What decided it, most important first.
    pub reasons: Vec<String>,
    /// What is claimed, in words; nothing more. Of a run that did not pass: nothing.
    pub claim: String,
    /// Its name; the folder of its histories has the same.
    pub id: String,
    /// Version of dbstress.
    pub dbstress: String,
    /// The command that runs it again.
    pub command: String,
    /// The command that shows the rows it left; empty if there is none.
    pub verify: String,
    /// When it began, UTC.
    pub began: String,
    /// How long it took, everything included.
    pub seconds: f64,
    /// The user stopped it.
    pub interrupted: bool,
    /// What was run.
    pub plan: Plan,
    /// On which server.
    pub server: Server,
    /// On which data; a schema of the user's own is none that is known.
    pub dataset: Option<Dataset>,
    /// The invariants before anything was done.
    pub before: Vec<Checked>,
    /// The twins that must be caught, before and after.
    pub controls: Vec<Control>,
    /// What was tested: each strategy has its turn; operations of the user's own have one.
    pub turns: Vec<TurnRecord>,
    /// What had no turn, and why.
    pub not_run: Vec<NotRun>,
}

/// The server, as far as it bears on the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it is; never a password.
    pub address: String,
    /// What it says it is.
    pub version: String,
    /// Settings in force for a session of the same role in the same database, as the load's are.
    pub settings: BTreeMap<String, String>,
    /// What the load went through, if it was not told to go there directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The API that did what the virtual users asked for, if they did not do it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
}

/// The reference server that was asked, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Where it is; never a token.
    pub address: String,
    /// Of the program.
    pub version: String,
    /// How it says that rows are protected.
    pub strategy: String,
    /// Sessions of the database that it has at most.
    pub pool_size: u32,
    /// What they call themselves.
    pub sessions: String,
    /// What it lets through at most.
    pub limits: Vec<Limit>,
}

/// What the load went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// Where it is.
    pub address: String,
    /// What it was found to be.
    pub between: Between,
}

/// The data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The number it was made from.
    pub rng_seed: i64,
    /// How many times the base size.
    pub scale: i32,
    /// Hash of the generated rows.
    pub data_hash: String,
    /// The clock of the domain, UTC.
    pub as_of: String,
    /// Tells this load of it from every other one; empty in records from before it was kept.
    #[serde(default)]
    pub load: String,
}

impl From<&Loaded> for Dataset {
    fn from(loaded: &Loaded) -> Self {
        Self {
            name: loaded.dataset.clone(),
            rng_seed: loaded.rng_seed,
            scale: loaded.scale,
            data_hash: loaded.data_hash.clone(),
            as_of: loaded.as_of.clone(),
            load: loaded.load.clone(),
        }
    }
}

/// Where in the run a control was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Before the first strategy.
    Before,
    /// After the last.
    After,
}

/// One run of a twin that must be caught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The twin: a strategy, or a scenario of the user's own.
    #[serde(alias = "strategy")]
    pub name: String,
    /// When.
    pub moment: Moment,
    /// What it must do to count.
    pub expected: String,
    /// Whether both the audit and an invariant saw it do that.
    pub fired: bool,
    /// What they saw, or why not.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
    /// Iterations it took.
    pub iterations: u64,
}

/// What had no turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// Which strategy.
    #[serde(alias = "strategy")]
    pub name: String,
    /// Why.
    pub why: String,
}

/// A condition without which a pass would rest on nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it asks for.
    pub name: String,
    /// Whether it is met.
    pub met: bool,
    /// What was measured.
    pub measured: String,
    /// What to change if it is not met.
    pub cure: String,
}

/// Invariants checked while the load ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Snapshots in which every check was made.
    pub samples: u64,
    /// Snapshots in which one could not be made in time: gaps.
    pub missed: u64,
    /// Share of the time for which a snapshot was held; holding one slows a hot row down.
    pub duty_cycle: f64,
    /// The first breach: after how many seconds, and which invariant.
    pub first_breach: Option<(f64, String)>,
    /// Its rows, which may be gone when the load is over.
    #[serde(default)]
    pub broken: Option<Checked>,
    /// Which check could not be made first, and why.
    #[serde(default)]
    pub hindrance: Option<String>,
}

/// What came of one planned fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// As it was planned: `terminate@5s..25s/500ms`.
    pub fault: Planned,
    /// How often it was to strike.
    pub planned: u64,
    /// How often it struck.
    pub struck: u64,
    /// Why it did not, and how often.
    pub missed: BTreeMap<String, u64>,
    /// One by one.
    pub strikes: Vec<StrikeRecord>,
}

/// One time that something went wrong on purpose. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrikeRecord {
    /// Since the load began.
    pub at_ms: f64,
    /// How long it took: until it was healed, or the server was back.
    pub lasted_ms: f64,
    /// What it was done to.
    pub target: String,
    /// From then to the first success of an attempt that began later; `None` if there was none, or no history to see it in.
    pub recovery_ms: Option<f64>,
    /// What is known of the COMMIT that it met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
}

/// What a clean-up of expired keys beside the load came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleanup {
    /// Expired keys that were to be deleted.
    pub expired: u64,
    /// Keys that were alive, and were to stay.
    pub alive: u64,
    /// Of the expired ones, those that are still there.
    pub expired_left: u64,
    /// Of the others, those that are still there.
    pub alive_left: u64,
    /// Batches that deleted anything.
    pub batches: u64,
    /// Those of them beside the load.
    pub batches_beside: u64,
    /// How long they took together.
    pub seconds: f64,
}

impl Cleanup {
    /// What is wrong about it.
    pub fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        if self.expired_left > 0 {
            wrongs.push(format!("the clean-up left {} of {} expired keys", self.expired_left, self.expired));
        }
        if self.alive_left != self.alive {
            wrongs.push(format!("of {} keys that were alive {} are left after the clean-up", self.alive, self.alive_left));
        }
        wrongs
    }
}

/// What one operation came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its name.
    pub name: String,
    /// Iterations by outcome.
    pub outcomes: BTreeMap<OutcomeClass, u64>,
    /// Response and service time by outcome.
    pub timing: BTreeMap<OutcomeClass, Timing>,
    /// Committed iterations that changed something: as far as the statements' answers tell, and not more than rows that the server counts.
    #[serde(default)]
    pub changed: u64,
}

/// What the rules came to while the load ran: how often they were checked, and the first that was broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Snapshots in which every check was made.
    pub checked: u64,
    /// The invariant that was broken first.
    pub broken: Option<String>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// The strategy, or the scenario of the user's own.
    #[serde(alias = "strategy")]
    pub name: String,
    /// The levels that BEGIN named and the server confirmed.
    pub isolation: String,
    /// Its number in the ledger.
    pub run: i32,
    /// How it ended.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<String>,
    /// From the beginning, or the end of the warm-up, to the last answer.
    pub seconds: f64,
    /// Committed iterations per second.
    pub committed_per_second: f64,
    /// Rounds, or authorisations used one by one.
    pub used: u64,
    /// Everything counted.
    pub counts: Counts,
    /// Response and service time by outcome.
    pub timing: BTreeMap<OutcomeClass, Timing>,
    /// The same by operation.
    #[serde(default)]
    pub operations: Vec<OperationRecord>,
    /// Second by second.
    #[serde(default)]
    pub ticks: Vec<Tick>,
    /// How much later than it should have the generator came to what it did.
    #[serde(default)]
    pub lag: Option<Percentiles>,
    /// How long virtual users waited for a connection of the pool; none without a pool.
    #[serde(default)]
    pub wait: Option<Percentiles>,
    /// How long it took to connect to the API; none where nobody does.
    #[serde(default)]
    pub connect: Option<Percentiles>,
    /// What the pool did; none without one.
    #[serde(default)]
    pub pool: Option<PoolRecord>,
    /// What the server counted beside what our connections made, while the load ran.
    #[serde(default)]
    pub counters: Option<Counters>,
    /// Why the generator was the limit, if it was.
    #[serde(default)]
    pub generator_limited: Option<String>,
    /// What was not answered of a user's own operations, so that it is unknown what became of it.
    #[serde(default)]
    pub not_answered: Option<String>,
    /// Processor time of the load threads, seconds.
    #[serde(default)]
    pub client_cpu_seconds: f64,
    /// What went wrong on purpose.
    #[serde(default)]
    pub faults: Vec<FaultRecord>,
    /// Settings in force in a session of the load that bear on what an acknowledgement is worth.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// What became of the thresholds.
    #[serde(default)]
    pub thresholds: Vec<Judgement>,
    /// What the sessions did, seen from the server.
    pub sessions: Sessions,
    /// What the server did meanwhile.
    #[serde(default)]
    pub watched: Watched,
    /// Invariants during the load.
    pub live: Live,
    /// History against ledger.
    pub audit: Audit,
    /// The clean-up of expired keys; none where requests carry no keys, or the server was lost before the end of it.
    #[serde(default)]
    pub cleanup: Option<Cleanup>,
    /// Invariants after it.
    pub invariants: Vec<Checked>,
    /// What the pass rests on.
    pub gates: Vec<Gate>,
    /// At most this share of blocks has the fault that was looked for, at 95 % confidence; only with a pass.
    pub bound: Option<f64>,
    /// History files.
    pub histories: Vec<String>,
}

impl TurnRecord {
    /// The checks that found something, while the load ran or after it.
    pub fn fired(&self) -> BTreeSet<Check> {
        let broken = self.invariants.iter().filter(|checked| matches!(checked.finding, Finding::Violated { .. }));
        let live = self.live.first_breach.iter().map(|(_, name)| name);
        let names = broken.map(|checked| &checked.name).chain(live);
        names
            .map(|name| Check::Invariant(name.clone().into()))
            .chain(self.audit.breaches.keys().copied().map(Check::Audit))
            .collect()
    }
}

/// What one scenario of a suite came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuiteEntry {
    /// The scenario.
    pub name: String,
    /// Whether it was run; one that was not blocks GO.
    pub was_run: bool,
    /// How it ended.
    pub verdict: Verdict,
    /// What that means.
    pub decision: Decision,
    /// Why.
    pub reasons: Vec<String>,
    /// Committed iterations per second.
    pub committed_per_second: Option<f64>,
    /// 95 % of committed iterations were answered within this, milliseconds.
    pub p95_ms: Option<f64>,
    /// Refused iterations.
    pub refused: Option<u64>,
    /// The command that runs it again.
    pub command: String,
    /// Where its record is.
    pub record: Option<String>,
}

impl SuiteEntry {
    /// Of one that was run.
    pub fn of(name: String, record: &RunRecord, kept: Option<String>) -> Self {
        let turn = record.turns.first();
        Self {
            name,
            was_run: turn.is_some(),
            verdict: record.verdict,
            decision: record.decision,
            reasons: record.reasons.clone(),
            committed_per_second: turn.map(|t| t.committed_per_second),
            p95_ms: turn.and_then(|t| t.timing.get(&OutcomeClass::Committed)?.response.p95),
            refused: turn.map(|t| t.counts.of(OutcomeClass::Refused)),
            command: record.command.clone(),
            record: kept,
        }
    }

    /// Of one that was not.
    pub fn not_run(name: String, command: String, why: String) -> Self {
        Self {
            name,
            was_run: false,
            verdict: Verdict::Inconclusive,
            decision: Decision::Inconclusive,
            reasons: vec![format!("not run: {why}")],
            committed_per_second: None,
            p95_ms: None,
            refused: None,
            command,
            record: None,
        }
    }
}

/// Version of the shape of [`CapacityRecord`].
pub const CAPACITY_SCHEMA_VERSION: u32 = 1;

/// How much load it took until a promise broke: a ladder of loads, each tried once, those at its edge three times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapacityRecord {
    /// Version of this shape.
    pub schema_version: u32,
    /// Version of dbstress.
    pub dbstress: String,
    /// What came of it.
    pub finding: Capacity,
    /// The largest load that kept the SLO, in `unit`.
    pub knee: Option<f64>,
    /// The smallest that missed it.
    pub missed_at: Option<f64>,
    /// The load from which on throughput grew by no more than 5 % per doubling.
    pub saturated_at: Option<f64>,
    /// Why it ended before the SLO broke and the ladder was over: the generator was the limit, a step could not be run.
    pub cut_short: Option<String>,
    /// The user stopped it.
    pub interrupted: bool,
    /// What loads are counted in.
    pub unit: LoadUnit,
    /// How long each step lasted, its warm-up included.
    #[serde(rename = "step_ms", with = "crate::milliseconds")]
    pub step: Duration,
    /// What had to be kept.
    pub slo: Vec<String>,
    /// Thresholds of the scenario that ask for an amount of load, which is the question here.
    pub left_out: Vec<String>,
    /// The scenario.
    pub scenario: String,
    /// The command that does it again.
    pub command: String,
    /// The command that shows the rows it left.
    pub verify: String,
    /// On which server.
    pub server: Option<Server>,
    /// From the smallest load up; those that were not tried have no trials.
    pub steps: Vec<CapacityStep>,
    /// Where the steps are sizes of a pool: at which load, and which of them is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// Sizes of a pool, tried at one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The load, in `unit`.
    pub load: f64,
    /// Virtual users or arrivals per second.
    pub unit: LoadUnit,
    /// Processors of the machine, if the server runs on it as well, as far as its address says.
    pub cores: Option<u32>,
    /// Connections that the server lets in, the reserved ones not counted; `None` if nobody saw.
    #[serde(default)]
    pub allowed: Option<f64>,
    /// Which size is enough, if that could be said.
    pub advice: Option<Advice>,
    /// The sizes that may as well be, since the ranges of their trials overlap with those of that one.
    #[serde(default)]
    pub rivals: Vec<f64>,
}

/// The size of a pool that is enough, and what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The smallest size that comes near both.
    pub size: f64,
    /// The size with the highest throughput.
    pub most: f64,
    /// The size with the shortest response times.
    pub fastest: f64,
}

/// What came of a ladder, or of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capacity {
    /// A step kept the SLO, and a larger one missed it.
    Knee,
    /// All of the ladder kept it, as far as it went.
    WholeLadder,
    /// A step kept it; whether larger ones do could not be judged.
    AtLeast,
    /// No step kept it.
    Missed,
    /// No step could be judged.
    Open,
    /// A size of the pool is enough.
    Recommended,
    /// A rule of integrity was broken: nothing else matters.
    Violated,
}

/// What loads are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadUnit {
    /// Virtual users of a closed loop.
    #[serde(rename = "VUs")]
    Vus,
    /// Arrivals per second of an open loop.
    #[serde(rename = "arrivals/s")]
    Arrivals,
    /// Connections of the pool, at one load.
    #[serde(rename = "connections")]
    Connections,
}

/// One load of a ladder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapacityStep {
    /// Virtual users, arrivals per second, or connections.
    pub load: f64,
    /// What most of its trials came to: pass is an SLO kept. `None` if there were none.
    pub verdict: Option<Verdict>,
    /// The first, and the repetitions.
    pub trials: Vec<CapacityTrial>,
}

impl CapacityStep {
    /// The middle of what is picked of each trial; `None` if there is none, or one of them does not have it.
    pub fn median(&self, pick: impl Fn(&CapacityTrial) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<f64> = self.trials.iter().map(pick).collect::<Option<_>>()?;
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Committed iterations per second, the middle of the trials.
    pub fn throughput(&self) -> Option<f64> {
        self.median(|trial| Some(trial.committed_per_second))
    }

    /// 95 % of the committed iterations took at most so many milliseconds, the middle of the trials.
    pub fn p95(&self) -> Option<f64> {
        self.median(|trial| trial.response.as_ref()?.p95)
    }
}

/// Shares of a pool that were lent, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PoolShare {
    /// Over the whole time.
    pub average: f64,
    /// At once.
    pub maximum: f64,
}

/// One run of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapacityTrial {
    /// How it ended: pass is an SLO kept.
    pub verdict: Verdict,
    /// Why, if it was not kept.
    pub reasons: Vec<String>,
    /// Committed iterations per second.
    pub committed_per_second: f64,
    /// Response times of committed iterations.
    pub response: Option<Percentiles>,
    /// Refused iterations.
    pub refused: u64,
    /// Aborted iterations.
    pub aborted: u64,
    /// How long virtual users waited for a connection of the pool.
    #[serde(default)]
    pub wait: Option<Percentiles>,
    /// How much of the pool was used. `None` without a pool, or if too little was seen of it.
    #[serde(default)]
    pub pool: Option<PoolShare>,
    /// Where its record is.
    pub record: Option<String>,
}

impl CapacityTrial {
    /// Of a run with one turn.
    pub fn of(record: &RunRecord, kept: Option<String>) -> Self {
        let turn = record.turns.first();
        let count = |class| turn.map_or(0, |t| t.counts.of(class));
        Self {
            verdict: record.verdict,
            reasons: record.reasons.clone(),
            committed_per_second: turn.map_or(0.0, |t| t.committed_per_second),
            response: turn.and_then(|t| Some(t.timing.get(&OutcomeClass::Committed)?.response.clone())),
            refused: count(OutcomeClass::Refused),
            aborted: count(OutcomeClass::Aborted),
            wait: turn.and_then(|t| t.wait.clone()),
            pool: turn
                .and_then(|t| t.pool.as_ref()?.usage().ok())
                .map(|usage| PoolShare { average: usage.average, maximum: usage.maximum }),
            record: kept,
        }
    }
}

impl RunRecord {
    /// As JSON, for people and programs.
    ///
    /// # Errors
    /// Does not fail for what a run puts in.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::inconclusive("the record cannot be written as JSON").because(e))
    }

    /// From JSON.
    ///
    /// # Errors
    /// Usage, when it is not a record, or one of a newer shape.
    pub fn from_json(text: &str) -> Result<Self> {
        let broken = |e: serde_json::Error| Error::usage("this is not a record of dbstress").because(e);
        let value: serde_json::Value = serde_json::from_str(text).map_err(broken)?;
        match value.get("schema_version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(SCHEMA_VERSION) => {
                Err(Error::usage(format!("the record has shape {version}, this dbstress reads up to {SCHEMA_VERSION}"))
                    .cure("read it with the dbstress that wrote it"))
            }
            Some(1) => serde_json::from_value(second(value)).map_err(broken),
            _ => serde_json::from_value(value).map_err(broken),
        }
    }
}

/// A record of the first shape in the second: its plan knew two modes of contention and nothing else, and there was no decision.
fn second(mut value: serde_json::Value) -> serde_json::Value {
    use serde_json::{Value, json};
    let old = value["plan"].take();
    let is_contest = old["mode"] == "contest";
    let number = |name: &str| old[name].as_u64().unwrap_or_default();
    let operations: Vec<Value> = match is_contest {
        true => vec![json!({ "name": "reserve", "kind": "reserve", "units": old["units"], "weight": 100.0 })],
        false => [("reserve", 55.0), ("release", 33.0), ("consume", 12.0)]
            .map(|(name, weight)| json!({ "name": name, "kind": name, "units": old["units"], "weight": weight }))
            .into(),
    };
    let mut claims = OF_COUNTERS.to_vec();
    claims.extend(["organisation-of-parent", "constraints-in-place", "no-orphans"]);
    // Strangers tried in churn alone.
    claims.extend((!is_contest).then_some("organisation-of-actor"));
    let duration = old["limit"]["duration_ms"].as_u64().map_or(FOREVER, Duration::from_millis);
    let load = match is_contest {
        true => json!({ "rounds": { "vus": old["vus"], "limit": old["limit"] } }),
        false => json!({ "closed": {
            "vus": Ramp::constant(number("vus") as f64, duration),
            "iterations": old["limit"]["rounds"].as_u64().map(|n| n * number("vus")),
            "think": "0s",
        } }),
    };
    value["plan"] = json!({
        "scenario": if is_contest { "contention" } else { "churn" },
        "workload": { "booking": {
            "dataset": value["dataset"]["name"],
            "strategies": old["strategies"],
            "targets": if is_contest { "rounds" } else { "one-by-one" },
            "total": old["total"],
            "strangers": if is_contest { 0.0 } else { 0.02 },
            "hold_ms": old["think_ms"],
            "operations": operations,
        } },
        "load": load,
        "warm_up_ms": 0,
        "graceful_stop_ms": 0,
        "pool_size": null,
        "retry": old["retry"],
        "threads": old["threads"],
        "rng_seed": old["rng_seed"],
        "claims": claims,
        "thresholds": [],
        "evidence": { "contested": 20, "mechanism": true, "refused": 1, "committed": {}, "live": true },
        "tags": {},
    });
    // So that it can be written and read again.
    value["schema_version"] = json!(SCHEMA_VERSION);
    value["decision"] = json!(match value["verdict"].as_str() {
        Some("pass") => "GO",
        Some("violated") => "NO-GO",
        _ => "INCONCLUSIVE",
    });
    value
}
