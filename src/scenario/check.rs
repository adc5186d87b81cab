//! Can it be run as it is written? Keys become values here, and every fault is told, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::file::{
    BookingFile, ControlFile, DistributionFile, EvidenceFile, File, IdempotencyFile, IsolationName, LoadFile, Names, OperationFile,
    RetryFile, Scalar, SchedulingFile, StatementFile, TargetsName, WorkloadName,
};
use super::http::Parts;
use super::place::{Document, Mistake};
use super::{
    Booking, BookingOperation, Contest, Control, Evidence, Extent, Hot, Keys, Kind, Load, Scenario, Scheduling, Script, Sql,
    SqlOperation, Targets, Workload,
};
use crate::error::nearest;
use crate::history::{Asking, OperationKind};
use crate::invariant::{self, CHECK_TIMEOUT, Invariant};
use crate::outcome::Sqlstate;
use crate::pace::{Arrival, Think, parse_duration};
use crate::pg::load::Isolation;
use crate::pg::retry::Retry;
use crate::probe::{self, Probe};
use crate::program::{self, Distribution, Program, StatementKind, StatementSpec, Value};
use crate::seed::Dataset;
use crate::strategy::{Hazard, Strategy};
use crate::threshold::Threshold;
use crate::{Error, Result, text_file};

/// How long a key lives unless the file says otherwise.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a scenario is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To be run.
    Test,
    /// As the control of another, which has none of its own.
    Control,
}

/// Reads and checks a scenario.
///
/// # Errors
/// Usage, with the place of every fault.
pub fn read(label: &str, text: &str, base: Option<&Path>, role: Role) -> Result<Scenario> {
    let document = Document::parse(label, text)?;
    let mut reader = Reader { base, role, mistakes: Vec::new() };
    let (file, unread) = document.file();
    let Some(file) = file else { return Err(document.error(unread, Vec::new())) };
    let scenario = Scenario { written: document.written(), ..reader.scenario(label, file) };
    if reader.mistakes.is_empty() {
        reader.mistakes = scenario.mistakes();
    }
    if unread.is_empty() && reader.mistakes.is_empty() { Ok(scenario) } else { Err(document.error(unread, reader.mistakes)) }
}

/// The strategies that the names mean, each once; `all` are those that claim to be safe from `hazard`. And which of the names mean nothing,
/// with why.
pub fn strategies<'n>(names: impl IntoIterator<Item = &'n str>, hazard: Hazard) -> (Vec<Strategy>, Vec<(usize, Error)>) {
    let (mut strategies, mut mistakes) = (Vec::new(), Vec::new());
    for (n, name) in names.into_iter().enumerate() {
        let named = match Strategy::from_name(name) {
            Some(strategy) => vec![strategy],
            None if name == "all" => Strategy::safe(hazard).collect(),
            None => {
                let known = Strategy::ALL.map(Strategy::name);
                let near = nearest(name, known.into_iter().chain(["all"]));
                let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
                let cure = format!("{hint}one of: {}, or all", known.join(", "));
                mistakes.push((n, Error::usage(format!("there is no strategy `{name}`")).cure(cure)));
                continue;
            }
        };
        for strategy in named {
            if !strategies.contains(&strategy) {
                strategies.push(strategy);
            }
        }
    }
    (strategies, mistakes)
}

/// Makes values of keys. What cannot be used is noted, and something usable goes on in its place until all has been looked at.
pub(super) struct Reader<'b> {
    base: Option<&'b Path>,
    role: Role,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    pub(super) fn wrong(&mut self, at: impl Into<String>, message: impl Into<String>, cure: impl Into<String>) {
        self.mistakes.push(Mistake::new(at, message, cure));
    }

    /// `value`, unless it is an error, which is noted.
    pub(super) fn good<T>(&mut self, at: impl Into<String>, value: Result<T>) -> Option<T> {
        value.map_err(|error| self.mistakes.push(Mistake { at: at.into(), error })).ok()
    }

    pub(super) fn parsed<T: FromStr<Err = Error>>(&mut self, at: impl Into<String>, text: &str) -> Option<T> {
        self.good(at, text.parse())
    }

    pub(super) fn duration(&mut self, at: &str, text: Option<&str>) -> Option<Duration> {
        text.and_then(|text| self.good(at, parse_duration(text)))
    }

    /// Notes each of `keys` that is there although `why`.
    pub(super) fn refuse(&mut self, keys: &[(&str, bool)], prefix: &str, why: &str, cure: &str) {
        for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
            self.wrong(format!("{prefix}{key}"), format!("`{key}` cannot be used: {why}"), cure);
        }
    }

    fn scenario(&mut self, label: &str, file: File) -> Scenario {
        let File {
            summary,
            tags,
            workload,
            dataset,
            strategy,
            claims,
            thresholds,
            schema,
            setup,
            teardown,
            invariants,
            faults,
            load,
            booking,
            scheduling,
            idempotency,
            operation,
            parameters,
            evidence,
            control,
            http,
            data,
            invariant,
        } = file;
        if workload != WorkloadName::Http {
            let of_http = [("http", http.is_some()), ("data", !data.is_empty()), ("invariant", !invariant.is_empty())];
            self.refuse(&of_http, "", "it belongs to workload = \"http\"", "leave it out, or change the workload");
        }
        if summary.trim().is_empty() {
            self.wrong("summary", "the summary is empty", "say in one line what the scenario shows");
        }
        let known;
        let workload = match workload {
            WorkloadName::Booking => {
                let foreign = [
                    ("schema", schema.is_some()),
                    ("setup", setup.is_some()),
                    ("teardown", teardown.is_some()),
                    ("invariants", invariants.is_some()),
                    ("parameters", !parameters.is_empty()),
                    ("control", control.is_some()),
                ];
                self.refuse(&foreign, "", "it belongs to workload = \"sql\"", "leave it out, or change the workload");
                let foreign = [("scheduling", scheduling.is_some())];
                self.refuse(&foreign, "", "it belongs to workload = \"scheduling\"", "leave it out, or change the workload");
                known = self.good("", invariant::built_in()).unwrap_or_default();
                Workload::Booking(self.booking(dataset, strategy, booking.unwrap_or_default(), idempotency, operation))
            }
            WorkloadName::Scheduling => {
                let foreign = [
                    ("schema", schema.is_some()),
                    ("setup", setup.is_some()),
                    ("teardown", teardown.is_some()),
                    ("invariants", invariants.is_some()),
                    ("parameters", !parameters.is_empty()),
                    ("control", control.is_some()),
                    ("booking", booking.is_some()),
                    ("idempotency", idempotency.is_some()),
                    ("operation", !operation.is_empty()),
                ];
                self.refuse(&foreign, "", "it belongs to another workload", "leave it out, or change the workload");
                known = self.good("", invariant::built_in()).unwrap_or_default();
                Workload::Scheduling(self.scheduling(dataset, strategy, scheduling.unwrap_or_default()))
            }
            WorkloadName::Sql => {
                let foreign = [("scheduling", scheduling.is_some())];
                self.refuse(&foreign, "", "it belongs to workload = \"scheduling\"", "leave it out, or change the workload");
                let foreign = [
                    ("dataset", dataset.is_some()),
                    ("strategy", strategy.is_some()),
                    ("booking", booking.is_some()),
                    ("idempotency", idempotency.is_some()),
                ];
                self.refuse(&foreign, "", "it belongs to workload = \"booking\"", "leave it out, or change the workload");
                known = invariants.map(|directory| self.invariants(&directory)).unwrap_or_default();
                let parameters = self.parameters(parameters);
                Workload::Sql(Sql {
                    names_schema: schema.is_some(),
                    schema: schema.unwrap_or_else(|| Sql::SCHEMA.into()),
                    setup: setup.and_then(|name| self.script("setup", &name)),
                    teardown: teardown.and_then(|name| self.script("teardown", &name)),
                    invariants: known.clone(),
                    control: control.and_then(|control| self.control(control, WorkloadName::Sql)),
                    operations: self.sql_operations(operation, &parameters),
                })
            }
            WorkloadName::Http => {
                let foreign = [
                    ("strategy", strategy.is_some()),
                    ("booking", booking.is_some()),
                    ("scheduling", scheduling.is_some()),
                    ("idempotency", idempotency.is_some()),
                ];
                self.refuse(&foreign, "", "it belongs to another workload", "leave it out, or change the workload");
                let has_database = schema.is_some() || setup.is_some() || teardown.is_some() || invariants.is_some();
                known = invariants.map(|directory| self.invariants(&directory)).unwrap_or_default();
                let database = has_database.then(|| Sql {
                    names_schema: schema.is_some(),
                    schema: schema.unwrap_or_else(|| Sql::SCHEMA.into()),
                    setup: setup.and_then(|name| self.script("setup", &name)),
                    teardown: teardown.and_then(|name| self.script("teardown", &name)),
                    invariants: known.clone(),
                    control: None,
                    operations: Vec::new(),
                });
                let control = control.and_then(|control| self.control(control, WorkloadName::Http));
                let parameters = self.parameters(parameters);
                let parts = Parts {
                    dataset,
                    http: http.unwrap_or_default(),
                    data,
                    rules: invariant,
                    operations: operation,
                    parameters,
                    database,
                    control,
                };
                Workload::Http(Box::new(self.http(parts)))
            }
        };
        let claims = match (claims, &workload) {
            (Some(names), Workload::Http(http)) => self.http_claims(names, &http.rule_names()),
            (None, Workload::Http(http)) => http.rule_names(),
            (claims, _) => match claims {
                Some(names) => self.claims(&names, &known, matches!(workload, Workload::Sql(_))),
                None if !matches!(workload, Workload::Sql(_)) => Vec::new(),
                None => known.iter().map(|i| i.name.clone()).collect(),
            },
        };
        let thresholds = thresholds.iter().enumerate().filter_map(|(n, entry)| {
            let mut threshold: Threshold = self.parsed(format!("thresholds.{n}.threshold"), &entry.threshold)?;
            threshold.abort_on_fail = entry.abort_on_fail;
            Some(threshold)
        });
        let thresholds = thresholds.collect();
        let faults = faults.iter().enumerate().filter_map(|(n, text)| self.parsed(format!("faults.{n}"), text)).collect();
        let EvidenceFile { contested, mechanism, refused, committed, unknown, live, probe_interval, probes, check_timeout } =
            evidence;
        if !matches!(workload, Workload::Sql(_)) {
            let why = "what is unknown is looked up in the ledger, or reckoned with";
            self.refuse(&[("unknown", unknown.is_some())], "evidence.", why, "leave it out; it is for workload = \"sql\"");
        }
        let probe_interval = self.duration("evidence.probe_interval", probe_interval.as_deref()).unwrap_or(probe::INTERVAL);
        let check_timeout = self.duration("evidence.check_timeout", check_timeout.as_deref()).unwrap_or(CHECK_TIMEOUT);
        let probes = probes.map(|directory| self.probes(&directory)).unwrap_or_default();
        // Whoever claims that rules hold when operations meet must have seen them meet: as often as the scenarios want it that come with the program,
        // where a ledger tells how often that was; of tables of one's own only samples are seen.
        // Whether requests met, an API does not tell; that they did is shown by the control, which is asked in the same way.
        let (usual_contested, usual_mechanism) = match &workload {
            _ if claims.is_empty() => (0, false),
            // Requests that meet the same key need not wait for each other: some are told that it is in flight.
            Workload::Booking(booking) => (Evidence::USUAL_CONTESTED, contested.is_none() && booking.keys.is_none()),
            Workload::Scheduling(_) => (Evidence::USUAL_CONTESTED, contested.is_none()),
            Workload::Sql(_) => (1, false),
            Workload::Http(_) => (0, false),
        };
        Scenario {
            name: Path::new(label).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            summary,
            tags,
            load: self.load(load),
            workload,
            claims,
            thresholds,
            faults,
            evidence: Evidence {
                contested: contested.unwrap_or(usual_contested),
                mechanism: mechanism.unwrap_or(usual_mechanism),
                refused: refused.unwrap_or(0),
                committed,
                unknown: unknown.unwrap_or(0.0),
                live: live.unwrap_or(false),
                probe_interval,
                probes,
                check_timeout,
            },
            written: BTreeSet::new(),
        }
    }

    fn load(&mut self, load: LoadFile) -> Load {
        let LoadFile {
            vus,
            duration,
            iterations,
            rounds,
            stages,
            rate,
            arrival,
            backlog,
            think,
            warm_up,
            graceful_stop,
            threads,
            pool_size,
            pool_timeout,
            pool_recycle,
            protocol,
            rng_seed,
            retry,
        } = load;
        let length = [("duration", duration.is_some()), ("iterations", iterations.is_some()), ("rounds", rounds.is_some())];
        let duration = self.duration("load.duration", duration.as_deref());
        let extent = match (stages, rounds) {
            (Some(stages), _) => {
                self.refuse(&length, "load.", "the stages say how long it is", "leave it out, or leave the stages out");
                let at = |n| format!("load.stages.{n}");
                Extent::Stages(stages.iter().enumerate().filter_map(|(n, text)| self.parsed(at(n), text)).collect())
            }
            (None, Some(rounds)) => {
                self.refuse(&length[..2], "load.", "the rounds say how long it is", "leave it out, or leave the rounds out");
                Extent::Rounds(rounds)
            }
            (None, None) if length.iter().any(|(_, is_there)| *is_there) => Extent::Constant { duration, iterations },
            (None, None) => Extent::Constant { duration: Some(Duration::from_secs(30)), iterations: None },
        };
        if rate.is_none() {
            let open = [("arrival", arrival.is_some()), ("backlog", backlog.is_some())];
            self.refuse(&open, "load.", "nothing arrives without a rate", "add rate = 100.0, or leave it out");
        }
        let ramps_vus = matches!(extent, Extent::Stages(_)) && rate.is_none();
        let RetryFile { deadline, attempts, backoff } = retry.unwrap_or_default();
        Load {
            vus: vus.unwrap_or(if ramps_vus { 0 } else { 50 }),
            extent,
            rate,
            arrival: arrival.unwrap_or(Arrival::Even),
            backlog: backlog.unwrap_or(10_000),
            think: think.and_then(|text| self.parsed("load.think", &text)).unwrap_or_else(Think::default),
            warm_up: self.duration("load.warm_up", warm_up.as_deref()).unwrap_or_default(),
            graceful_stop: self.duration("load.graceful_stop", graceful_stop.as_deref()).unwrap_or(Duration::from_secs(30)),
            threads,
            pool_size,
            pool_timeout: self.duration("load.pool_timeout", pool_timeout.as_deref()),
            pool_recycle: pool_recycle.unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            rng_seed: rng_seed.unwrap_or(42),
            retry: Retry {
                deadline: self.duration("load.retry.deadline", deadline.as_deref()).unwrap_or(Retry::default().deadline),
                attempts,
                backoff: backoff.unwrap_or_default(),
            },
        }
    }

    fn strategies(&mut self, names: Option<Names>, hazard: Hazard) -> Vec<Strategy> {
        let names = names.map_or_else(|| vec!["serializable".into()], |names| names.0);
        let (strategies, unknown) = strategies(names.iter().map(|name| &**name), hazard);
        self.mistakes.extend(unknown.into_iter().map(|(n, error)| Mistake { at: format!("strategy.{n}"), error }));
        strategies
    }

    fn scheduling(&mut self, dataset: Option<String>, strategy: Option<Names>, file: SchedulingFile) -> Scheduling {
        if let Some(dataset) = dataset.filter(|dataset| dataset != Scheduling::DATASET) {
            let message = format!("there are no schedules in the dataset `{dataset}`");
            self.wrong("dataset", message, format!("dataset = \"{}\"", Scheduling::DATASET));
        }
        let SchedulingFile { hold, contests } = file;
        let mut scheduling = Scheduling {
            strategies: Vec::new(),
            hold: self.duration("scheduling.hold", hold.as_deref()).unwrap_or_default(),
            contests: contests.unwrap_or_else(|| Contest::ALL.map(|contest| (contest, 1.0)).into()),
        };
        scheduling.strategies = self.strategies(strategy, scheduling.hazard());
        scheduling
    }

    fn booking(
        &mut self,
        dataset: Option<String>,
        strategy: Option<Names>,
        booking: BookingFile,
        idempotency: Option<IdempotencyFile>,
        operations: Vec<OperationFile>,
    ) -> Booking {
        let dataset = dataset.unwrap_or_else(|| "clinic".into());
        if dataset == Scheduling::DATASET {
            self.wrong(
                "dataset",
                format!("there is nothing to book in the dataset `{dataset}`"),
                "dataset = \"clinic\", or another workload",
            );
        } else {
            self.good("dataset", Dataset::named(&dataset));
        }
        let strategies = self.strategies(strategy, Hazard::LostUpdate);
        let BookingFile { targets, authorisations, total, hot, hot_total, hot_share, strangers, hold, bug } = booking;
        let targets_name = targets.unwrap_or(TargetsName::Spread);
        let of_hot = [("hot_total", hot_total.is_some()), ("hot_share", hot_share.is_some())];
        let targets = match targets_name {
            TargetsName::Spread => {
                if hot.is_none() {
                    self.refuse(&of_hot, "booking.", "there are no hot authorisations", "add hot = 10, or leave it out");
                }
                let hot = hot.map(|authorisations| Hot {
                    authorisations,
                    total: hot_total.unwrap_or(50),
                    share: hot_share.unwrap_or(0.2),
                });
                Targets::Spread { authorisations: authorisations.unwrap_or(200), hot }
            }
            TargetsName::Rounds | TargetsName::OneByOne => {
                let of_spread = [("authorisations", authorisations.is_some()), ("hot", hot.is_some())];
                for keys in [of_spread, of_hot] {
                    let why = "it belongs to targets = \"spread\"";
                    self.refuse(&keys, "booking.", why, "leave it out, or change the targets");
                }
                if targets_name == TargetsName::Rounds { Targets::Rounds } else { Targets::OneByOne }
            }
        };
        Booking {
            dataset,
            strategies,
            targets,
            total: total.unwrap_or(if targets == Targets::Rounds { 50 } else { 1_000 }),
            strangers: strangers.unwrap_or(0.0),
            hold: self.duration("booking.hold", hold.as_deref()).unwrap_or_default(),
            bug: bug.and_then(|name| self.parsed("booking.bug", &name)),
            operations: self.booking_operations(operations, idempotency.is_some()),
            keys: idempotency.map(|IdempotencyFile { in_flight, lifetime, cleanup }| Keys {
                in_flight,
                lifetime: self.duration("idempotency.lifetime", lifetime.as_deref()).unwrap_or(DAY),
                cleanup: cleanup.unwrap_or(10_000),
            }),
        }
    }

    fn booking_operations(&mut self, operations: Vec<OperationFile>, have_keys: bool) -> Vec<BookingOperation> {
        if operations.is_empty() {
            let request = have_keys.then_some(Asking::First);
            let name = "reserve".into();
            return vec![BookingOperation { name, kind: OperationKind::Reserve, units: 10, request, weight: 1.0 }];
        }
        self.weights(&operations);
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let at = format!("operation.{n}");
            let OperationFile {
                name,
                weight,
                kind,
                units,
                request,
                isolation,
                sql,
                statements,
                script,
                expect,
                refused,
                retry,
                outcomes,
                steps,
                roles,
            } = operation;
            let of_http = [("steps", steps.is_some()), ("roles", roles.is_some())];
            self.refuse(&of_http, &format!("{at}."), "it belongs to workload = \"http\"", "leave it out, or change the workload");
            let foreign = [
                ("isolation", isolation.is_some()),
                ("sql", sql.is_some()),
                ("statements", statements.is_some()),
                ("script", script.is_some()),
                ("expect", expect.is_some()),
                ("refused", refused.is_some()),
                ("retry", retry.is_some()),
                ("outcomes", outcomes.is_some()),
            ];
            self.refuse(&foreign, &format!("{at}."), "it belongs to workload = \"sql\"", "leave it out, or change the workload");
            let Some(kind) = kind else {
                self.wrong(&at, "the key `kind` is missing", "kind = \"reserve\", \"release\", \"consume\" or \"browse\"");
                continue;
            };
            if kind == Kind::Browse {
                let why = "browse only looks";
                self.refuse(&[("units", units.is_some())], &format!("{at}."), why, "leave it out");
            }
            if !have_keys {
                let why = "requests carry no key";
                let cure = "add the table [idempotency], or leave it out";
                self.refuse(&[("request", request.is_some())], &format!("{at}."), why, cure);
            }
            let request: Option<Asking> = have_keys.then(|| request.map_or(Asking::First, Into::into));
            let name = name.unwrap_or_else(|| request.map_or(kind.word(), Asking::word).into());
            self.name(&at, &name, &mut names);
            let units = if kind == Kind::Browse { 0 } else { units.unwrap_or(10) };
            read.push(BookingOperation { name, kind: kind.into(), units, request, weight: weight.unwrap_or(1.0) });
        }
        read
    }

    /// Weights can be chosen by if none is negative and one is not zero.
    pub(super) fn weights(&mut self, operations: &[OperationFile]) {
        let weights: Vec<f64> = operations.iter().map(|o| o.weight.unwrap_or(1.0)).collect();
        let is_usable = |weight: f64| weight.is_finite() && weight >= 0.0;
        for (n, weight) in weights.iter().enumerate().filter(|(_, weight)| !is_usable(**weight)) {
            self.wrong(format!("operation.{n}.weight"), format!("a weight cannot be {weight}"), "0 or more; 0 is never chosen");
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            self.wrong(
                "operation.0.weight",
                "all weights are 0: nothing would ever be chosen",
                "give one operation a weight above 0",
            );
        }
    }

    /// Names stand in thresholds, and mean one operation.
    pub(super) fn name(&mut self, operation: &str, name: &str, names: &mut BTreeSet<String>) {
        let at = format!("{operation}.name");
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if !is_name {
            let cure = "a small letter, then small letters, digits, - and _";
            self.wrong(at, format!("`{name}` cannot be the name of an operation"), cure);
        } else if !names.insert(name.to_owned()) {
            self.wrong(at, format!("there already is an operation `{name}`"), "give each a `name` of its own");
        }
    }

    fn claims(&mut self, names: &[String], known: &[Invariant], is_sql: bool) -> Vec<String> {
        let mut claims: Vec<String> = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let at = format!("claims.{n}");
            if is_sql && known.is_empty() {
                self.wrong(at, format!("there is no invariant `{name}`"), "invariants = \"DIRECTORY\" says where the rules are");
            } else if let Some(found) = self.good(at, invariant::find(known, name))
                && !claims.contains(&found.name)
            {
                claims.push(found.name.clone());
            }
        }
        claims
    }

    fn http_claims(&mut self, names: Vec<String>, known: &[String]) -> Vec<String> {
        let mut claims: Vec<String> = Vec::new();
        for (n, name) in names.into_iter().enumerate() {
            if !known.contains(&name) {
                let near = nearest(&name, known.iter().map(String::as_str))
                    .map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
                let cure = format!("{near}invariants = \"DIRECTORY\", or [[invariant]], says what must hold");
                self.wrong(format!("claims.{n}"), format!("there is no invariant `{name}`"), cure);
            } else if !claims.contains(&name) {
                claims.push(name);
            }
        }
        claims
    }

    /// Where a file named beside the scenario is.
    fn beside(&mut self, at: &str, name: &str) -> Option<std::path::PathBuf> {
        if self.base.is_none() {
            let cure = "write the scenario to a file of your own, beside the one it names";
            self.wrong(at, format!("{name}: there is no directory to look for it in"), cure);
        }
        Some(self.base?.join(name))
    }

    pub(super) fn script(&mut self, at: &str, name: &str) -> Option<Script> {
        let path = self.beside(at, name)?;
        let text = text_file::read(&path).map_err(|e| {
            Error::usage(format!("{} cannot be read", path.display())).because(e).cure("name a file relative to this one")
        });
        self.good(at, text).map(|text| Script { path, text })
    }

    fn invariants(&mut self, directory: &str) -> Vec<Invariant> {
        let mut known = Vec::new();
        if let Some(path) = self.beside("invariants", directory) {
            self.good("invariants", invariant::parse::load_directory(&path, &mut known));
        }
        known
    }

    fn probes(&mut self, directory: &str) -> Vec<Probe> {
        let path = self.beside("evidence.probes", directory);
        path.and_then(|path| self.good("evidence.probes", probe::parse::load_directory(&path))).unwrap_or_default()
    }

    fn control(&mut self, control: ControlFile, workload: WorkloadName) -> Option<Control> {
        match (control.file, control.none) {
            (Some(_), _) if self.role == Role::Control => {
                self.wrong("control.file", "a control has no control of its own", "none = true");
                None
            }
            (Some(name), None | Some(false)) => {
                let script = self.script("control.file", &name)?;
                let label = script.path.display().to_string();
                let twin = self.good("control.file", read(&label, &script.text, self.base, Role::Control))?;
                let (is_same, word) = match workload {
                    WorkloadName::Http => (matches!(twin.workload, Workload::Http(_)), "http"),
                    _ => (matches!(twin.workload, Workload::Sql(_)), "sql"),
                };
                if !is_same {
                    let cure = format!("its workload must be \"{word}\" too");
                    self.wrong("control.file", format!("{label} is of another workload"), cure);
                }
                Some(Control::Twin(Box::new(twin)))
            }
            (None, Some(true)) => Some(Control::Renounced),
            _ => {
                self.wrong("control", "name a control, or say that there is none", "file = \"racy.toml\", or none = true");
                None
            }
        }
    }

    fn parameters(&mut self, parameters: BTreeMap<String, DistributionFile>) -> BTreeMap<String, Distribution> {
        let mut read = BTreeMap::new();
        for (name, file) in parameters {
            let at = format!("parameters.{name}");
            let DistributionFile { uniform, zipf, sequence, choice, hot } = file;
            let drawn: Vec<(&str, Result<Distribution>)> = [
                uniform.map(|[from, to]| ("uniform", Distribution::uniform(from, to))),
                zipf.map(|z| ("zipf", Distribution::zipf(z.from, z.to, z.exponent))),
                sequence.map(|s| ("sequence", Distribution::sequence(s.start, s.step.unwrap_or(1)))),
                choice.map(|c| ("choice", Distribution::choice(c.into_iter().map(|c| (value(c.value), c.weight)).collect()))),
                hot.map(|h| {
                    // A negative number is as wrong as 0, and told in the same words.
                    ("hot", Distribution::hot(h.from, h.to, h.hot.try_into().unwrap_or(0), h.share))
                }),
            ]
            .into_iter()
            .flatten()
            .collect();
            let count = drawn.len();
            for (kind, distribution) in drawn {
                if let Some(distribution) = self.good(format!("{at}.{kind}"), distribution) {
                    read.insert(name.clone(), distribution);
                }
            }
            if count != 1 {
                self.wrong(at, format!("{count} distributions"), "exactly one of: uniform, zipf, sequence, choice, hot");
            }
        }
        read
    }

    fn sql_operations(&mut self, operations: Vec<OperationFile>, parameters: &BTreeMap<String, Distribution>) -> Vec<SqlOperation> {
        if operations.is_empty() {
            self.wrong("operation", "there is nothing to do", "add an [[operation]] with a name and sql, statements or a script");
            return Vec::new();
        }
        self.weights(&operations);
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let at = format!("operation.{n}");
            let foreign = [("kind", operation.kind.is_some()), ("units", operation.units.is_some())];
            let why = "it belongs to workload = \"booking\"";
            self.refuse(&foreign, &format!("{at}."), why, "leave it out, or change the workload");
            let foreign = [("steps", operation.steps.is_some()), ("roles", operation.roles.is_some())];
            let why = "it belongs to workload = \"http\"";
            self.refuse(&foreign, &format!("{at}."), why, "leave it out, or change the workload");
            match &operation.name {
                Some(name) => self.name(&at, name, &mut names),
                None => self.wrong(&at, "the key `name` is missing", "name = \"book\": what figures and thresholds call it"),
            }
            let isolation = match operation.isolation {
                None | Some(IsolationName::ReadCommitted) => Isolation::ReadCommitted,
                Some(IsolationName::RepeatableRead) => Isolation::RepeatableRead,
                Some(IsolationName::Serializable) => Isolation::Serializable,
            };
            let mut outcomes = BTreeMap::new();
            for (code, meaning) in operation.outcomes.iter().flatten() {
                if code.len() == 5 && code.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()) {
                    outcomes.insert(Sqlstate::new(code), *meaning);
                } else {
                    let cure = "five digits or capital letters, as in PostgreSQL's appendix of error codes";
                    self.wrong(format!("{at}.outcomes.{code}"), format!("`{code}` is no SQLSTATE"), cure);
                }
            }
            let (weight, retry) = (operation.weight.unwrap_or(1.0), operation.retry.unwrap_or(true));
            let name = operation.name.clone().unwrap_or_default();
            let is_one_transaction = operation.script.is_none();
            if let Some(program) = self.program(&at, operation, parameters) {
                let program = Arc::new(program);
                read.push(SqlOperation { name, weight, isolation, program, is_one_transaction, retry, outcomes });
            }
        }
        read
    }

    fn program(&mut self, at: &str, operation: OperationFile, parameters: &BTreeMap<String, Distribution>) -> Option<Program> {
        let OperationFile { name, sql, statements, script, expect, refused, .. } = operation;
        let name = name.unwrap_or_default();
        if sql.is_none() {
            let guards = [("expect", expect.is_some()), ("refused", refused.is_some())];
            self.refuse(
                &guards,
                &format!("{at}."),
                "it is about the one statement of `sql`",
                "put it beside the statement that it is about",
            );
        }
        let spec = |s: StatementFile| StatementSpec { sql: s.sql, expect: s.expect, refused: s.refused, capture: s.capture };
        let (at, specs) = match (sql, statements, script) {
            (Some(sql), None, None) => (format!("{at}.sql"), vec![StatementSpec { sql, expect, refused, capture: Vec::new() }]),
            (None, Some(statements), None) => (format!("{at}.statements"), statements.into_iter().map(spec).collect()),
            (None, None, Some(script)) => {
                let at = format!("{at}.script");
                let Script { text, .. } = self.script(&at, &script)?;
                let program = program::script(&script, &text, &BTreeMap::new());
                return self.good(at, program.and_then(|program| program.validate_blocks().map(|()| program)));
            }
            _ => {
                let message = format!("operation `{name}` does not say what it does, or says it twice");
                self.wrong(at, message, "exactly one of: sql, statements, script");
                return None;
            }
        };
        let program = self.good(&at, program::statements(&name, &specs, parameters))?;
        let is_end = |kind| matches!(kind, StatementKind::Begin | StatementKind::Commit | StatementKind::Rollback);
        if let Some(statement) = program.statements().find(|s| is_end(s.kind)) {
            let message = format!("`{}`: the statements are one transaction already", statement.label);
            self.wrong(at, message, "leave it out; a script may have transactions of its own");
        }
        Some(program)
    }
}

fn value(scalar: Scalar) -> Value {
    match scalar {
        Scalar::Boolean(value) => Value::Boolean(value),
        Scalar::Integer(value) => Value::Integer(value),
        Scalar::Double(value) => Value::Double(value),
        Scalar::Text(value) => Value::Text(value.into()),
    }
}
