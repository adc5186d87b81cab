//! What is to be run, as its author wrote it? A file in TOML: dataset, workload, load, thresholds, and what a pass must rest on.
//!
//! [`mod@file`] has the keys, `place` says where in the file something is wrong, `check` makes a [`Scenario`] of it, `rules` says whether its
//! values go together, `alone` how a known mistake is run, `origin` which value each setting has. The scenarios that come with the program are files like any other.

mod alone;
mod check;
pub mod file;
pub mod http;
mod http_file;
mod origin;
mod place;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bug::Bug;
use crate::error::nearest;
use crate::fault::Planned;
use crate::history::{Asking, OperationKind};
use crate::invariant::{CHECK_TIMEOUT, Invariant};
use crate::outcome::Sqlstate;
use crate::pace::{Arrival, Ramp, Stage, Think};
use crate::pg::load::{Isolation, Protocol};
use crate::pg::pool::Recycle;
use crate::pg::retry::Retry;
use crate::probe::{self, Probe};
use crate::program::{self, Program};
use crate::strategy::{Hazard, Strategy};
use crate::threshold::{Figure, Threshold};
use crate::{Error, Result, text_file};

pub use alone::typed as typed_for_bug;
pub use check::strategies;
pub use file::{Kind, Meaning};
pub use http::{Auth, Credentials, Http, HttpOperation, Relation, Rule};
pub use origin::{Origin, Source};
pub use place::{Mistake, together};

pub use crate::workload::contest::Contest;
pub use crate::workload::keyed::{InFlight, Keys};

/// A scenario, complete and checked.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name: the stem of its file.
    pub name: String,
    /// What it shows, in one line.
    pub summary: String,
    /// Words by which scenarios are chosen.
    pub tags: Vec<String>,
    /// How hard, how long, in which shape.
    pub load: Load,
    /// What the virtual users do.
    pub workload: Workload,
    /// Names of the invariants that the run claims to keep.
    pub claims: Vec<String>,
    /// What the figures must keep to.
    pub thresholds: Vec<Threshold>,
    /// What goes wrong while the load runs.
    pub faults: Vec<Planned>,
    /// What a pass must rest on.
    pub evidence: Evidence,
    /// The paths of the keys that its file has: all others have their defaults.
    written: BTreeSet<String>,
}

/// How hard, how long, in which shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Virtual users; of an open loop, the most that work at once; of a closed one with stages, the number they start from.
    pub vus: u32,
    /// When it is over, or how it goes up and down.
    pub extent: Extent,
    /// Arrivals per second of an open loop, with stages the rate at the start; `None` = a closed loop.
    pub rate: Option<f64>,
    /// How arrivals are spaced.
    pub arrival: Arrival,
    /// Arrivals that may wait for a free virtual user; more are dropped, and counted.
    pub backlog: u32,
    /// The pause between two iterations.
    pub think: Think,
    /// What is excluded from the figures.
    pub warm_up: Duration,
    /// How long iterations under way may go on after the end.
    pub graceful_stop: Duration,
    /// Load threads; `None` = half of the processors.
    pub threads: Option<u16>,
    /// Connections of the one pool; `None` = a connection for each virtual user.
    pub pool_size: Option<u32>,
    /// How long the pool lets anybody wait; `None` = as long as the iteration has.
    pub pool_timeout: Option<Duration>,
    /// What the pool does with a connection before it lends it again.
    pub pool_recycle: Recycle,
    /// How statements are sent.
    pub protocol: Protocol,
    /// What random choices are made from.
    pub rng_seed: u64,
    /// How failed attempts are tried again.
    pub retry: Retry,
}

impl Load {
    /// The most virtual users at once.
    pub fn peak(&self) -> u32 {
        match &self.extent {
            Extent::Stages(stages) if self.rate.is_none() => {
                Ramp { start: self.vus.into(), stages: stages.clone() }.peak().round() as u32
            }
            _ => self.vus,
        }
    }

    /// The curve of virtual users, or of arrivals per second if there is a rate; `None` if a count alone says when a closed loop is over.
    pub fn ramp(&self) -> Option<Ramp> {
        let start = self.rate.unwrap_or(self.vus.into());
        match &self.extent {
            Extent::Stages(stages) => Some(Ramp { start, stages: stages.clone() }),
            Extent::Constant { duration: Some(duration), .. } => Some(Ramp::constant(start, *duration)),
            // Arrivals come one after the other: the last of them is the end.
            Extent::Constant { iterations: Some(n), .. } => {
                self.rate.map(|rate| Ramp::constant(rate, Duration::try_from_secs_f64(*n as f64 / rate).unwrap_or(Duration::MAX)))
            }
            Extent::Constant { .. } | Extent::Rounds(_) => None,
        }
    }
}

/// When the load is over.
#[derive(Debug, Clone, PartialEq)]
pub enum Extent {
    /// After this time, or after so many iterations in all, whichever is first; at least one of them is given.
    Constant {
        /// How long.
        duration: Option<Duration>,
        /// Iterations in all, shared by the virtual users.
        iterations: Option<u64>,
    },
    /// After so many rounds.
    Rounds(u64),
    /// After the last of these: of virtual users, or of arrivals per second if there is a rate.
    Stages(Vec<Stage>),
}

/// What the virtual users do.
#[derive(Debug, Clone)]
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

/// Schedules are changed, in rounds: everybody wants another change of the same small programme, and there is not room for all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduling {
    /// How rows are protected; each has its turn.
    pub strategies: Vec<Strategy>,
    /// The application's pause between reading and writing.
    #[serde(rename = "hold_ms", with = "crate::milliseconds")]
    pub hold: Duration,
    /// What is contended for, and how often, relative to the others.
    pub contests: BTreeMap<Contest, f64>,
}

impl Scheduling {
    /// The dataset that must be there.
    pub const DATASET: &str = "residency";

    /// What is contended for now and then.
    pub fn contested(&self) -> impl Iterator<Item = Contest> {
        self.contests.iter().filter(|(_, weight)| **weight > 0.0).map(|(contest, _)| *contest)
    }

    /// What can go wrong.
    pub fn hazard(&self) -> Hazard {
        if self.contested().eq([Contest::Double]) { Hazard::DoubleBooking } else { Hazard::WriteSkew }
    }
}

/// Units of authorisations are booked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// The dataset that must be there.
    pub dataset: String,
    /// How rows are protected; each has its turn.
    pub strategies: Vec<Strategy>,
    /// How the virtual users meet.
    pub targets: Targets,
    /// Units that each authorisation has, the hot ones aside.
    pub total: i32,
    /// Share of the operations by an actor of another organisation.
    pub strangers: f64,
    /// The application's pause between reading and writing.
    #[serde(rename = "hold_ms", with = "crate::milliseconds")]
    pub hold: Duration,
    /// A mistake that the operations make on purpose.
    #[serde(default)]
    pub bug: Option<Bug>,
    /// What becomes of the keys that requests carry; `None` = they carry none.
    #[serde(default)]
    pub keys: Option<Keys>,
    /// What is chosen from, by weight.
    pub operations: Vec<BookingOperation>,
}

impl Booking {
    /// Authorisations that are fresh in each round: with keys also the one that another organisation asks for with the same key.
    pub fn per_round(&self) -> u64 {
        if self.keys.is_some() { 2 } else { 1 }
    }
}

/// How the virtual users meet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// All at once on a fresh authorisation, again and again.
    Rounds,
    /// All on one authorisation until it is used up, then on the next.
    OneByOne,
    /// Each operation on one of many.
    Spread {
        /// How many are made for the run.
        authorisations: u32,
        /// Those that many want.
        hot: Option<Hot>,
    },
}

/// Authorisations that many want.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hot {
    /// How many there are.
    pub authorisations: u32,
    /// Units that each has.
    pub total: i32,
    /// Share of the operations that go to one of them.
    pub share: f64,
}

/// One thing that virtual users do with an authorisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookingOperation {
    /// Its name in figures and thresholds.
    pub name: String,
    /// What is done.
    pub kind: OperationKind,
    /// Units that it asks for; 0 for browse.
    pub units: i32,
    /// How it asks, where requests carry keys.
    #[serde(default)]
    pub request: Option<Asking>,
    /// How often it is chosen, relative to the others.
    pub weight: f64,
}

/// Statements of the user's own, on a schema of the user's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sql {
    /// The `search_path` of every session; empty to leave it as the server has it.
    pub schema: String,
    /// Whether the author named it. If not, it is the one to which the `search_path` of the connection leads, found when the run begins.
    #[serde(default)]
    pub names_schema: bool,
    /// Makes the schema and its rows.
    #[serde(skip)]
    pub setup: Option<Script>,
    /// Removes it all.
    #[serde(skip)]
    pub teardown: Option<Script>,
    /// The rules that the data must keep.
    #[serde(skip)]
    pub invariants: Vec<Invariant>,
    /// What must be caught; `None` if the file says nothing about it.
    #[serde(skip)]
    pub control: Option<Control>,
    /// What is chosen from, by weight.
    pub operations: Vec<SqlOperation>,
}

impl Sql {
    /// Where the tables are if neither the author nor the connection says it.
    pub const SCHEMA: &str = "public";
}

/// A file of SQL, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// What is to show that the invariants can fail.
#[derive(Debug, Clone)]
pub enum Control {
    /// A scenario that breaks one of them.
    Twin(Box<Scenario>),
    /// Nothing: the author renounced it.
    Renounced,
}

/// One thing that virtual users do with statements of the user's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SqlOperation {
    /// Its name in figures and thresholds.
    pub name: String,
    /// How often it is chosen, relative to the others.
    pub weight: f64,
    /// The level of its transaction.
    pub isolation: Isolation,
    /// What one iteration does; it is in the file, not in the record.
    #[serde(skip)]
    pub program: Arc<Program>,
    /// Whether it is one transaction, which it does not begin itself; a script begins its own, or lets each statement be one.
    pub is_one_transaction: bool,
    /// Whether an attempt that failed is tried again.
    pub retry: bool,
    /// What an SQLSTATE means here, where that is not the usual.
    #[serde(skip)]
    pub outcomes: BTreeMap<Sqlstate, Meaning>,
}

/// What a pass must rest on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Contested blocks at least.
    pub contested: u64,
    /// The strategy's mechanism was seen at work.
    pub mechanism: bool,
    /// Refusals for lack of units at least.
    pub refused: u64,
    /// Iterations at least that committed a change, by name of the operation.
    pub committed: BTreeMap<String, u64>,
    /// The share of iterations, 0 to 1, of which it may stay unknown what became of them.
    #[serde(default)]
    pub unknown: f64,
    /// Invariants were checked while the load ran.
    pub live: bool,
    /// How often the server is asked what it does; zero = never.
    #[serde(rename = "probe_interval_ms", with = "crate::milliseconds", default = "once_usual")]
    pub probe_interval: Duration,
    /// What it is asked besides.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// How long the check of a rule may take, before and after the load.
    #[serde(rename = "check_timeout_ms", with = "crate::milliseconds", default = "usual_check_timeout")]
    pub check_timeout: Duration,
}

impl Evidence {
    /// Contested blocks that a claim needs unless its scenario says otherwise: with fewer, a fault in 15 % of them could have been missed.
    pub const USUAL_CONTESTED: u64 = 20;
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            contested: 0,
            mechanism: false,
            refused: 0,
            committed: BTreeMap::new(),
            unknown: 0.0,
            live: false,
            probe_interval: probe::INTERVAL,
            probes: Vec::new(),
            check_timeout: CHECK_TIMEOUT,
        }
    }
}

fn usual_check_timeout() -> Duration {
    CHECK_TIMEOUT
}

/// How often the server was asked when nobody could say how often.
fn once_usual() -> Duration {
    Duration::from_millis(50)
}

/// The files that come with the program: name and text. A test keeps the list equal to the directory.
pub const BUILT_IN: [(&str, &str); 12] = [
    ("contention", include_str!("../../scenarios/contention.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("throughput", include_str!("../../scenarios/throughput.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("flash-sale", include_str!("../../scenarios/flash-sale.toml")),
    ("database-stress", include_str!("../../scenarios/database-stress.toml")),
    ("idempotency", include_str!("../../scenarios/idempotency.toml")),
    ("scheduling", include_str!("../../scenarios/scheduling.toml")),
    ("double-booking", include_str!("../../scenarios/double-booking.toml")),
    ("baseline", include_str!("../../scenarios/baseline.toml")),
    ("concurrent-users", include_str!("../../scenarios/concurrent-users.toml")),
    ("behaviour-mix", include_str!("../../scenarios/behaviour-mix.toml")),
];

/// The text of the built-in scenario called `name`.
///
/// # Errors
/// Usage, with the nearest name.
pub fn built_in_text(name: &str) -> Result<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        let hint = nearest(name, BUILT_IN.iter().map(|(n, _)| *n)).map_or(String::new(), |n| format!("did you mean `{n}`?\n"));
        Error::usage(format!("there is no scenario `{name}`"))
            .cure(format!("{hint}`dbstress scenarios list` shows them; a file of your own is named with its ending .toml"))
    })
}

impl Scenario {
    /// Reads and checks a scenario. `label` is what errors call the text; files that it names are looked for in `base`, and refused if
    /// there is none.
    ///
    /// # Errors
    /// Usage, with line and column of everything that cannot be used.
    pub fn from_toml(label: &str, text: &str, base: Option<&Path>) -> Result<Self> {
        check::read(label, text, base, check::Role::Test)
    }

    /// The built-in scenario called `name`.
    ///
    /// # Errors
    /// Usage, with the nearest name.
    pub fn built_in(name: &str) -> Result<Self> {
        Self::from_toml(&format!("{name}.toml"), built_in_text(name)?, None)
    }

    /// The scenario that `what` means: a file if it ends in `.toml` or has a separator, `-` for the text that `stdin` reads, else a
    /// built-in name.
    ///
    /// # Errors
    /// Usage: no such scenario, a file that cannot be read, whatever is wrong in it.
    pub fn load(what: &str, stdin: impl FnOnce() -> std::io::Result<String>) -> Result<Self> {
        if what == "-" {
            let text = stdin().map_err(|e| Error::usage("the scenario cannot be read from standard input").because(e))?;
            return Self::from_toml("stdin", &text, Some(Path::new(".")));
        }
        if !what.ends_with(".toml") && !what.contains(std::path::MAIN_SEPARATOR) {
            return Self::built_in(what);
        }
        if what.ends_with(".sql") {
            return Err(Error::usage(format!("{what} is no scenario: its name ends in .sql"))
                .cure(format!("dbstress run -f {what} runs it as a pgbench script; a scenario is a file that ends in .toml")));
        }
        let path = Path::new(what);
        let text = text_file::read(path).map_err(|e| {
            Error::usage(format!("the scenario {what} cannot be read"))
                .because(e)
                .cure("name a file; or a built-in scenario without an ending: `dbstress scenarios list`")
        })?;
        Self::from_toml(what, &text, Some(path.parent().unwrap_or(Path::new("."))))
    }

    /// Whether units of authorisations are booked.
    pub fn booking(&self) -> Option<&Booking> {
        match &self.workload {
            Workload::Booking(booking) => Some(booking),
            Workload::Scheduling(_) | Workload::Sql(_) | Workload::Http(_) => None,
        }
    }

    /// Whether everybody begins together, again and again.
    pub fn is_in_rounds(&self) -> bool {
        match &self.workload {
            Workload::Booking(booking) => booking.targets == Targets::Rounds,
            Workload::Scheduling(_) => true,
            Workload::Sql(_) | Workload::Http(_) => false,
        }
    }

    /// Drops the thresholds on times: a load too small for figures still shows whether things work.
    pub fn without_speed_thresholds(&mut self) {
        self.thresholds.retain(|threshold| !threshold.is_latency() && !matches!(threshold.figure(), Figure::PerSecond(_)));
    }

    /// One whose operations are pgbench scripts: paths, and how often each is chosen. `defines` are the variables of `-D`.
    ///
    /// # Errors
    /// Usage: a script that cannot be read, with the line and column of what cannot be run.
    pub fn of_scripts(scripts: &[(PathBuf, f64)], defines: &BTreeMap<String, String>) -> Result<Self> {
        let mut scenario = Self::from_toml("script", "summary = \"pgbench scripts\"\nworkload = \"booking\"", None)?;
        let mut operations: Vec<SqlOperation> = Vec::new();
        for (path, weight) in scripts {
            let text = text_file::read(path).map_err(|e| {
                Error::usage(format!("the script {} cannot be read", path.display()))
                    .because(e)
                    .cure("name a file, as in -f transfer.sql")
            })?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
            let is_usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let mut name: String = stem.chars().map(|c| if is_usual(c) { c } else { '_' }).collect();
            if operations.iter().any(|o| o.name == name) {
                name = format!("{name}-{}", operations.len() + 1);
            }
            let program = program::script(&path.display().to_string(), &text, defines)?;
            program.validate_blocks()?;
            operations.push(SqlOperation {
                name,
                weight: *weight,
                isolation: Isolation::ReadCommitted,
                program: Arc::new(program),
                is_one_transaction: false,
                retry: true,
                outcomes: BTreeMap::new(),
            });
        }
        if !operations.iter().any(|o| o.weight > 0.0) {
            return Err(
                Error::usage("nothing would ever be chosen").cure("give one script a weight above 0, as in -f transfer.sql@1")
            );
        }
        scenario.name = operations[0].name.clone();
        scenario.workload = Workload::Sql(Sql {
            schema: String::new(),
            names_schema: true,
            setup: None,
            teardown: None,
            invariants: Vec::new(),
            control: None,
            operations,
        });
        Ok(scenario)
    }

    /// Names of the operations, in the order of the file.
    pub fn operations(&self) -> Vec<&str> {
        match &self.workload {
            Workload::Booking(booking) => booking.operations.iter().map(|o| &*o.name).collect(),
            Workload::Scheduling(scheduling) => scheduling.contested().map(Contest::name).collect(),
            Workload::Sql(sql) => sql.operations.iter().map(|o| &*o.name).collect(),
            Workload::Http(http) => http.operations.iter().map(|o| &*o.name).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
