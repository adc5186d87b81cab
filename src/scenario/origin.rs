//! Which value does each setting have, and who said so?

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Booking, Control, Evidence, Extent, Http, Load, Scenario, Scheduling, Sql, Targets, Workload};
use crate::pace::duration_text;

/// Who said so; the first of them that says anything is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A flag on the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The scenario's file.
    File,
    /// Nobody.
    Default,
}

impl Source {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// A setting, its value, and who said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its path in the file: `load.vus`.
    pub key: String,
    /// Its value as one writes it; `-` where there is none.
    pub value: String,
    /// Who said so.
    pub source: Source,
}

impl Scenario {
    /// Every setting in the order of the file; `changed` has those that something else than the file and the default decided.
    pub fn origins(&self, changed: &BTreeMap<String, Source>) -> Vec<Origin> {
        let origin = |(key, value): (String, String)| {
            let written = || if self.written.contains(&key) { Source::File } else { Source::Default };
            let source = changed.get(&key).copied().unwrap_or_else(written);
            Origin { key, value, source }
        };
        self.values().into_iter().map(origin).collect()
    }

    fn values(&self) -> Vec<(String, String)> {
        let mut values = Values(Vec::new());
        let Self { name: _, summary, tags, load, workload, claims, thresholds, faults, evidence, written: _ } = self;
        values.put("summary", summary);
        values.put("tags", list(tags));
        match workload {
            Workload::Booking(booking) => values.booking(booking),
            Workload::Scheduling(scheduling) => values.scheduling(scheduling),
            Workload::Sql(sql) => values.sql(sql),
            Workload::Http(http) => values.http(http),
        }
        values.put("claims", list(claims));
        values.put("thresholds", list(thresholds));
        values.put("faults", list(faults));
        values.load(load);
        values.evidence(evidence);
        values.0
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".into() } else { items.join(", ") }
}

struct Values(Vec<(String, String)>);

impl Values {
    fn put(&mut self, key: impl Into<String>, value: impl ToString) {
        self.0.push((key.into(), value.to_string()));
    }

    /// A setting that may have no value.
    fn maybe(&mut self, key: &str, value: Option<impl ToString>) {
        self.put(key, value.map_or_else(|| "-".into(), |value| value.to_string()));
    }

    fn booking(&mut self, booking: &Booking) {
        let Booking { dataset, strategies, targets, total, strangers, hold, bug, keys, operations } = booking;
        self.put("workload", "booking");
        self.put("dataset", dataset);
        self.put("strategy", list(strategies.iter().map(|s| s.name())));
        match targets {
            Targets::Rounds => self.put("booking.targets", "rounds"),
            Targets::OneByOne => self.put("booking.targets", "one-by-one"),
            Targets::Spread { authorisations, .. } => {
                self.put("booking.targets", "spread");
                self.put("booking.authorisations", authorisations);
            }
        }
        self.put("booking.total", total);
        if let Targets::Spread { hot: Some(hot), .. } = targets {
            self.put("booking.hot", hot.authorisations);
            self.put("booking.hot_total", hot.total);
            self.put("booking.hot_share", hot.share);
        }
        self.put("booking.strangers", strangers);
        self.put("booking.hold", duration_text(*hold));
        self.maybe("booking.bug", *bug);
        if let Some(keys) = keys {
            self.put("idempotency.in_flight", keys.in_flight.word());
            self.put("idempotency.lifetime", duration_text(keys.lifetime));
            self.put("idempotency.cleanup", keys.cleanup);
        }
        for (n, operation) in operations.iter().enumerate() {
            self.put(format!("operation.{n}.name"), &operation.name);
            self.put(format!("operation.{n}.kind"), operation.kind.word());
            self.put(format!("operation.{n}.units"), operation.units);
            if let Some(request) = operation.request {
                self.put(format!("operation.{n}.request"), request.word());
            }
            self.put(format!("operation.{n}.weight"), operation.weight);
        }
    }

    fn scheduling(&mut self, scheduling: &Scheduling) {
        let Scheduling { strategies, hold, contests } = scheduling;
        self.put("workload", "scheduling");
        self.put("dataset", Scheduling::DATASET);
        self.put("strategy", list(strategies.iter().map(|s| s.name())));
        self.put("scheduling.hold", duration_text(*hold));
        for (contest, weight) in contests {
            self.put(format!("scheduling.contests.{}", contest.name()), weight);
        }
    }

    fn sql(&mut self, sql: &Sql) {
        let Sql { schema, names_schema: _, setup, teardown, invariants, control, operations } = sql;
        self.put("workload", "sql");
        self.put("schema", schema);
        self.maybe("setup", setup.as_ref().map(|s| s.path.display()));
        self.maybe("teardown", teardown.as_ref().map(|s| s.path.display()));
        self.put("invariants", list(invariants.iter().map(|i| &i.name)));
        self.control(control.as_ref());
        for (n, operation) in operations.iter().enumerate() {
            self.put(format!("operation.{n}.name"), &operation.name);
            self.put(format!("operation.{n}.weight"), operation.weight);
            self.put(format!("operation.{n}.isolation"), operation.isolation.setting());
            self.put(format!("operation.{n}.retry"), operation.retry);
        }
    }

    fn control(&mut self, control: Option<&Control>) {
        match control {
            Some(Control::Twin(twin)) => self.put("control.file", &twin.name),
            Some(Control::Renounced) => self.put("control.none", true),
            None => self.put("control", "-"),
        }
    }

    fn http(&mut self, http: &Http) {
        self.put("workload", "http");
        self.put("http.target", http.target.as_deref().unwrap_or("the reference server"));
        self.maybe("dataset", http.dataset.as_ref());
        self.put("http.timeout", duration_text(http.timeout));
        self.put("http.read_only", http.read_only);
        if let Some(sql) = &http.database {
            self.put("schema", &sql.schema);
            self.maybe("setup", sql.setup.as_ref().map(|s| s.path.display()));
            self.maybe("teardown", sql.teardown.as_ref().map(|s| s.path.display()));
            self.put("invariants", list(sql.invariants.iter().map(|i| &i.name)));
        }
        for (n, rule) in http.rules.iter().enumerate() {
            self.put(format!("invariant.{n}.name"), &rule.name);
        }
        self.control(http.control.as_ref());
        for (n, operation) in http.operations.iter().enumerate() {
            self.put(format!("operation.{n}.name"), &operation.name);
            self.put(format!("operation.{n}.weight"), operation.weight);
            self.put(format!("operation.{n}.roles"), list(&operation.roles));
            self.put(format!("operation.{n}.retry"), operation.retry);
        }
    }

    fn load(&mut self, load: &Load) {
        self.put("load.vus", load.vus);
        match &load.extent {
            Extent::Constant { duration, iterations } => {
                if let Some(duration) = duration {
                    self.put("load.duration", duration_text(*duration));
                }
                if let Some(iterations) = iterations {
                    self.put("load.iterations", iterations);
                }
            }
            Extent::Rounds(rounds) => self.put("load.rounds", rounds),
            Extent::Stages(stages) => self.put("load.stages", list(stages)),
        }
        if let Some(rate) = load.rate {
            self.put("load.rate", rate);
            self.maybe("load.arrival", load.arrival.to_possible_value().map(|v| v.get_name().to_owned()));
            self.put("load.backlog", load.backlog);
        }
        self.put("load.think", load.think);
        self.put("load.warm_up", duration_text(load.warm_up));
        self.put("load.graceful_stop", duration_text(load.graceful_stop));
        self.maybe("load.threads", load.threads);
        self.maybe("load.pool_size", load.pool_size);
        self.maybe("load.pool_timeout", load.pool_timeout.map(duration_text));
        self.maybe("load.pool_recycle", load.pool_size.map(|_| load.pool_recycle.name()));
        self.put("load.protocol", load.protocol.word());
        self.put("load.rng_seed", load.rng_seed);
        self.put("load.retry.deadline", duration_text(load.retry.deadline));
        self.maybe("load.retry.attempts", load.retry.attempts);
        self.put("load.retry.backoff", load.retry.backoff.word());
    }

    fn evidence(&mut self, evidence: &Evidence) {
        self.put("evidence.contested", evidence.contested);
        self.put("evidence.mechanism", evidence.mechanism);
        self.put("evidence.refused", evidence.refused);
        self.put("evidence.committed", list(evidence.committed.iter().map(|(name, n)| format!("{name} {n}"))));
        if evidence.unknown > 0.0 {
            self.put("evidence.unknown", evidence.unknown);
        }
        self.put("evidence.live", evidence.live);
        self.put("evidence.probe_interval", duration_text(evidence.probe_interval));
        self.put("evidence.check_timeout", duration_text(evidence.check_timeout));
        self.put("evidence.probes", list(evidence.probes.iter().map(|probe| &probe.name)));
    }
}
