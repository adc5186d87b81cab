//! Do the values go together? These rules hold for a file, and again when flags have changed it.

use std::time::Duration;

use super::place::Mistake;
use super::{
    Booking, BookingOperation, Contest, Control, Extent, Http, Keys, Load, Meaning, Scenario, Scheduling, SqlOperation, Targets,
    Workload,
};
use crate::Result;
use crate::bug::Bug;
use crate::demand::{Demand, Known, Share, Unreachable, unreachable};
use crate::error::nearest;
use crate::fault::{Fault, Planned};
use crate::history::{Asking, OpId, OperationKind};
use crate::http::Address;
use crate::outcome::OutcomeClass;
use crate::pace::duration_text;
use crate::pg::load::Protocol;
use crate::pg::pool::Recycle;
use crate::probe;
use crate::program::Else;
use crate::request::{Counted, Sum};
use crate::strategy::{Hazard, Strategy};
use crate::threshold::Counter;

impl Scenario {
    /// What cannot be run, by key.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Mistakes(Vec::new());
        mistakes.load(&self.load);
        mistakes.planned(&self.faults, &self.load);
        mistakes.probe_interval(self.evidence.probe_interval);
        if self.evidence.check_timeout.is_zero() {
            mistakes.add("evidence.check_timeout", "0s leaves no time for a check", "5m, or what the slowest rule takes");
        }
        mistakes.share("evidence.unknown", self.evidence.unknown);
        if let Workload::Scheduling(scheduling) = &self.workload {
            mistakes.scheduling(scheduling, self);
        } else if let Workload::Booking(booking) = &self.workload {
            mistakes.booking(booking, &self.load);
            if let Some(bug) = booking.bug {
                mistakes.bug(bug, booking, &self.faults);
            }
            if mistakes.0.is_empty() {
                mistakes.demand(self, booking);
            }
        } else if let Workload::Http(http) = &self.workload {
            mistakes.http(http, self);
        }
        if matches!(self.workload, Workload::Sql(_) | Workload::Http(_)) && matches!(self.load.extent, Extent::Rounds(_)) {
            mistakes.add(
                "load.rounds",
                "there are rounds only where everybody meets at one authorisation",
                "duration or iterations instead",
            );
        }
        mistakes.names(self);
        mistakes.0
    }

    /// Checks that its scripts, if they are sent with parameters, have variables only where PostgreSQL takes one.
    ///
    /// # Errors
    /// Usage, with the script, the line and the column.
    pub fn validate_parameters(&self) -> Result<()> {
        let Workload::Sql(sql) = &self.workload else { return Ok(()) };
        if self.load.protocol == Protocol::Simple {
            return Ok(());
        }
        let theirs = match &sql.control {
            Some(Control::Twin(twin)) => match &twin.workload {
                Workload::Sql(theirs) => &theirs.operations[..],
                _ => &[],
            },
            _ => &[],
        };
        sql.operations.iter().chain(theirs).try_for_each(|operation| operation.program.validate_parameters())
    }
}

/// Authorisations end half a year after the dataset's date; a request after the lifetime of its key must find them in force.
const MOST_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
const LEAST_LIFETIME: Duration = Duration::from_secs(60);

struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, at: impl Into<String>, message: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Mistake::new(at, message, cure));
    }

    /// What is planned must be able to happen.
    fn planned(&mut self, faults: &[Planned], load: &Load) {
        let lasts = match &load.extent {
            Extent::Constant { duration, .. } => *duration,
            Extent::Stages(_) => load.ramp().map(|ramp| ramp.duration()),
            Extent::Rounds(_) => None,
        };
        for (n, fault) in faults.iter().enumerate() {
            let ends = fault.ends();
            if let Some(lasts) = lasts.filter(|lasts| ends >= *lasts) {
                self.add(
                    format!("faults.{n}"),
                    format!("{fault} goes on until {}, the load until {}", duration_text(ends), duration_text(lasts)),
                    "let faults end before the load, so that what comes after them is seen",
                );
            }
        }
    }

    fn probe_interval(&mut self, interval: Duration) {
        let [shortest, longest] = probe::INTERVALS;
        if !interval.is_zero() && !(shortest..=longest).contains(&interval) {
            let why = if interval < shortest { "the questions would be part of the load" } else { "too little would be seen" };
            self.add(
                "evidence.probe_interval",
                format!("{} is no interval to look at the server: {why}", duration_text(interval)),
                format!("from {} to {}, or 0 for not at all", duration_text(shortest), duration_text(longest)),
            );
        }
    }

    fn share(&mut self, at: &str, share: f64) {
        if !(0.0..=1.0).contains(&share) {
            self.add(at, format!("{share} is no share"), "from 0 to 1");
        }
    }

    fn load(&mut self, load: &Load) {
        let nothing = "nothing would happen";
        let has_stages = matches!(load.extent, Extent::Stages(_));
        let ramps_vus = has_stages && load.rate.is_none();
        if load.vus == 0 && !ramps_vus {
            self.add("load.vus", "0 VUs: nobody would do anything", "2 is the least that can contend");
        }
        if load.peak() > OpId::MAX_VUS {
            let at = if ramps_vus { "load.stages" } else { "load.vus" };
            self.add(at, format!("{} VUs are too many", load.peak()), format!("at most {}", OpId::MAX_VUS));
        }
        match &load.extent {
            Extent::Constant { duration, iterations } => {
                if duration.is_some_and(|d| d.is_zero()) {
                    self.add("load.duration", nothing, "more than no time, such as 30s");
                }
                if *iterations == Some(0) {
                    self.add("load.iterations", nothing, "1 or more");
                }
            }
            Extent::Rounds(0) => self.add("load.rounds", nothing, "1 or more"),
            Extent::Rounds(_) => {}
            Extent::Stages(stages) => {
                let ramp = load.ramp().filter(|ramp| !ramp.duration().is_zero() && ramp.peak() > 0.0);
                if stages.is_empty() || ramp.is_none() {
                    self.add("load.stages", nothing, "stages = [\"30s:50\", \"1m:50\"]");
                }
            }
        }
        if let Some(rate) = load.rate
            && !(rate.is_finite() && (rate > 0.0 || rate == 0.0 && has_stages))
        {
            self.add("load.rate", format!("nothing can arrive at a rate of {rate}"), "more than 0 arrivals per second");
        }
        if let Some(ramp) = load.ramp()
            && !ramp.duration().is_zero()
            && load.warm_up >= ramp.duration()
        {
            self.add("load.warm_up", "it is as long as the load: no figure would count", "make it shorter than the load");
        }
        if load.threads == Some(0) {
            self.add("load.threads", "somebody must make the load", "1 or more");
        }
        if load.pool_size == Some(0) {
            self.add("load.pool_size", "a pool without connections", "1 or more, or leave it out");
        }
        if load.pool_size.is_none() && load.pool_timeout.is_some() {
            self.add("load.pool_timeout", "there is no pool to wait for", "add pool_size (--pool-size), or leave it out");
        }
        if load.pool_size.is_none() && load.pool_recycle != Recycle::Fast {
            self.add(
                "load.pool_recycle",
                "there is no pool that lends connections",
                "add pool_size (--pool-size), or leave it out",
            );
        }
        if load.retry.attempts == Some(0) {
            self.add("load.retry.attempts", "the first attempt counts", "1 means no retry");
        }
        if load.retry.deadline.is_zero() {
            self.add("load.retry.deadline", "no attempt could begin", "10s is usual");
        }
    }

    /// There is one at least, and all of them can be tried where this can go wrong.
    fn strategies(&mut self, strategies: &[Strategy], hazard: Hazard) {
        if strategies.is_empty() {
            self.add("strategy", "no strategy", "name one, or \"all\"");
        }
        let usable: Vec<&str> =
            Strategy::ALL.into_iter().filter(|s| s.inexpressible(hazard).is_none()).map(Strategy::name).collect();
        for strategy in strategies {
            if let Some(why) = strategy.inexpressible(hazard) {
                let message = format!("{} cannot be tried here: {why}", strategy.name());
                self.add("strategy", message, format!("one of: {}", usable.join(", ")));
            }
        }
    }

    fn hold(&mut self, at: &str, hold: Duration, load: &Load) {
        if hold >= load.retry.deadline {
            self.add(at, "it is longer than the deadline of an iteration: every one would be given up", "make it shorter");
        }
    }

    /// In rounds everybody begins at once; `instead` says how it would be otherwise.
    fn rounds(&mut self, load: &Load, why: &str, instead: &str) {
        match &load.extent {
            Extent::Stages(_) => {
                self.add("load.stages", "a round has as many VUs as the last", "duration or rounds instead");
            }
            Extent::Constant { iterations: Some(_), .. } => {
                self.add("load.iterations", format!("{why} it is rounds that are counted, not iterations"), "rounds instead");
            }
            Extent::Constant { .. } | Extent::Rounds(_) => {}
        }
        if !load.think.is_zero() {
            let cure = "hold is the pause between reading and writing";
            self.add("load.think", "in rounds nobody pauses: a round begins when the last is over", cure);
        }
        if load.rate.is_some() {
            let cure = format!("leave the rate out{instead}");
            self.add("load.rate", "in rounds everybody begins at once: nothing arrives at a rate", cure);
        }
    }

    fn scheduling(&mut self, scheduling: &Scheduling, scenario: &Scenario) {
        let Scheduling { strategies, hold, contests } = scheduling;
        self.strategies(strategies, scheduling.hazard());
        self.hold("scheduling.hold", *hold, &scenario.load);
        self.rounds(&scenario.load, "in scheduling", "");
        for (contest, weight) in contests.iter().filter(|(_, weight)| !weight.is_finite() || **weight < 0.0) {
            let at = format!("scheduling.contests.{}", contest.name());
            self.add(at, format!("a weight cannot be {weight}"), "0 or more; 0 is never chosen");
        }
        if scheduling.contested().next().is_none() {
            let names = Contest::ALL.map(Contest::name).join(", ");
            self.add("scheduling.contests", "nothing is contended for", format!("give one of them a weight above 0: {names}"));
        }
        // What is claimed of a rule rests on a control that breaks it.
        for (n, claim) in scenario.claims.iter().enumerate() {
            let mut breaking = Contest::ALL.into_iter().filter(|contest| contest.invariants().contains(&claim.as_str()));
            if breaking.any(|contest| scheduling.contested().any(|contested| contested == contest)) {
                continue;
            }
            let message = format!("nothing here could break {claim}, so that nothing would be shown by its being kept");
            let able = Contest::ALL.into_iter().find(|contest| contest.invariants().contains(&claim.as_str()));
            let cure = match able {
                Some(contest) => format!("leave it out, or give {} a weight above 0", contest.name()),
                None => {
                    let able: Vec<&str> = scheduling.contested().flat_map(|contest| contest.invariants()).copied().collect();
                    format!("leave it out: it is examined all the same; what can be claimed is {}", able.join(", "))
                }
            };
            self.add(format!("claims.{n}"), message, cure);
        }
    }

    fn booking(&mut self, booking: &Booking, load: &Load) {
        let Booking { dataset: _, strategies, targets, total, strangers, hold, bug, keys, operations } = booking;
        self.strategies(strategies, Hazard::LostUpdate);
        if *total < 1 {
            self.add("booking.total", format!("an authorisation of {total} units"), "1 or more");
        }
        self.share("booking.strangers", *strangers);
        self.hold("booking.hold", *hold, load);
        match keys {
            Some(keys) => self.keys(*keys, booking),
            None => {
                if let Some(bug) = bug.filter(|bug| bug.is_about_keys()) {
                    let message = format!("`{bug}` is a mistake with keys, and no request here carries one");
                    self.add("booking.bug", message, "dbstress idempotency --bug NAME, or a bug of bookings");
                }
            }
        }
        let mut smallest = *total;
        match targets {
            Targets::Rounds => {
                if keys.is_some() {
                    // What is asked for with keys has rules of its own.
                } else if !matches!(&**operations, [only] if only.kind == OperationKind::Reserve) {
                    self.add("operation", "in rounds everybody reserves, and nothing else", "one operation, of kind = \"reserve\"");
                }
                if *strangers > 0.0 {
                    self.add("booking.strangers", "in rounds there are no strangers", "leave it out, or change the targets");
                }
                self.rounds(load, "with targets = \"rounds\"", ", or change the targets");
            }
            Targets::OneByOne | Targets::Spread { .. } => {
                if matches!(load.extent, Extent::Rounds(_)) {
                    self.add("load.rounds", "there are rounds only with targets = \"rounds\"", "iterations or duration instead");
                }
            }
        }
        if let Targets::Spread { authorisations, hot } = targets {
            if *authorisations == 0 {
                self.add("booking.authorisations", "no authorisations", "1 or more");
            }
            if let Some(hot) = hot {
                if hot.authorisations == 0 {
                    self.add("booking.hot", "no hot authorisations", "1 or more, or leave it out");
                }
                if hot.total < 1 {
                    self.add("booking.hot_total", format!("an authorisation of {} units", hot.total), "1 or more");
                }
                self.share("booking.hot_share", hot.share);
                smallest = smallest.min(hot.total);
            }
        }
        for (n, operation) in operations.iter().enumerate().filter(|(_, o)| o.kind != OperationKind::Browse) {
            let at = format!("operation.{n}.units");
            if operation.units < 1 {
                self.add(at, format!("`{}` of {} units", operation.name, operation.units), "an operation takes at least 1");
            } else if operation.units > smallest && smallest >= 1 {
                let message = format!("`{}` of {} units, of an authorisation of {smallest}", operation.name, operation.units);
                self.add(at, message, "ask for fewer, or raise the total");
            }
        }
    }

    /// What an API can be asked, and what cannot be known of it.
    fn http(&mut self, http: &Http, scenario: &Scenario) {
        if let Some((whose, call)) = http.first_write().filter(|_| http.read_only) {
            let message = format!("`{whose}` sends {}, and this is to be read only", call.method);
            self.add("http.read_only", message, "leave the operation out, or do not ask for it to be read only");
        }
        if let Some(Err(error)) = http.target.as_deref().map(Address::parse) {
            self.0.push(Mistake { at: "http.target".into(), error });
        }
        if http.timeout.is_zero() {
            self.add("http.timeout", "nothing could ever be answered", "10s is usual");
        }
        for (n, fault) in scenario.faults.iter().enumerate() {
            let message = format!("{fault} happens to a database, and here it is an API that is asked");
            self.add(format!("faults.{n}"), message, "leave it out");
        }
        if scenario.evidence.contested > 0 {
            let message = "whether requests met, an API does not tell";
            self.add(
                "evidence.contested",
                message,
                "refused = 1: somebody came too late; and a control, which is caught if they met",
            );
        }
        if scenario.load.pool_size.is_some() {
            self.add("load.pool_size", "each virtual user has a connection of its own to the API", "leave it out");
        }
        for (n, rule) in http.rules.iter().enumerate() {
            let counted: Vec<Counted> = Sum::parse(&rule.with).iter().flat_map(|sum| sum.counted().cloned()).collect();
            for Counted { operation, call } in counted {
                let at = format!("invariant.{n}");
                match http.operations.iter().find(|o| o.name == operation) {
                    None => {
                        let known: Vec<&str> = http.operations.iter().map(|o| &*o.name).collect();
                        let near = nearest(&operation, known.iter().copied())
                            .map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
                        self.add(at, format!("there is no operation `{operation}`"), format!("{near}one of: {}", known.join(", ")));
                    }
                    Some(found) if found.requests.call(call.as_deref()).is_none() => {
                        let call = call.unwrap_or_default();
                        let message = format!("`{operation}` has no step `{call}`");
                        self.add(at, message, format!("name = \"{call}\" in the step that is meant"));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// A mistake can be made only where there is something to do wrong, and is seen only where it matters.
    fn bug(&mut self, bug: Bug, booking: &Booking, faults: &[Planned]) {
        let at = "booking.bug";
        let entry = bug.entry();
        // Said already, where keys are asked about.
        if bug.is_about_keys() != booking.keys.is_some() {
            return;
        }
        if let Some(strategy) = booking.strategies.iter().find(|strategy| !entry.strategies.contains(strategy)) {
            let names: Vec<&str> = entry.strategies.iter().map(|strategy| strategy.name()).collect();
            let message = format!("{bug} is no mistake that can be made with the strategy {}", strategy.name());
            self.add(at, message, format!("strategy = \"{}\", or --strategy; it goes with {}", names[0], names.join(", ")));
        }
        if !booking.operations.iter().any(|operation| operation.kind == entry.operation) {
            let word = entry.operation.word();
            let message = format!("{bug} is a mistake of who wants to {word}, and nobody does here");
            self.add(at, message, format!("an operation of kind = \"{word}\", or the scenario {}", entry.alone.scenario));
        }
        if entry.needs_hold && booking.hold.is_zero() {
            let cure = format!("hold = \"{}\", or --hold", duration_text(entry.alone.hold));
            self.add(at, format!("{bug} shows only where the application pauses before it commits"), cure);
        }
        let crashes = |planned: &Planned| matches!(planned.fault, Fault::KillBackend | Fault::Crash | Fault::Kill);
        if entry.needs_crash && !faults.iter().any(crashes) {
            let cure = format!("faults = {:?}, or --fault", entry.alone.faults);
            self.add(at, format!("{bug} shows only when the server crashes"), cure);
        }
    }

    /// What goes with keys, and what does not.
    fn keys(&mut self, keys: Keys, booking: &Booking) {
        let Booking { targets, bug, total, operations, .. } = booking;
        if *targets != Targets::Rounds {
            self.add(
                "idempotency",
                "keys are asked with in rounds, in which everybody has the same",
                "targets = \"rounds\" in [booking]",
            );
        }
        if let Some(bug) = bug.filter(|bug| !bug.is_about_keys()) {
            let known: Vec<&str> = Bug::ALL.into_iter().filter(|bug| bug.is_about_keys()).map(Bug::name).collect();
            let message = format!("`{bug}` is a mistake with bookings, and here one with keys is looked for");
            self.add("booking.bug", message, format!("one of: {}", known.join(", ")));
        }
        if keys.lifetime.subsec_nanos() > 0 || keys.lifetime < LEAST_LIFETIME || keys.lifetime > MOST_LIFETIME {
            let message = format!("a key that lives for {}", duration_text(keys.lifetime));
            self.add("idempotency.lifetime", message, "whole seconds, from 1m to 90 days (2160h)");
        }
        if operations.iter().any(|o| o.kind != OperationKind::Reserve) {
            self.add("operation", "with keys everybody reserves, and nothing else", "kind = \"reserve\"");
        }
        let is_other = |o: &&BookingOperation| o.request == Some(Asking::OtherBody);
        let Some(body) = operations.iter().find(|o| !is_other(o)).map(|o| o.units) else {
            self.add("operation", "everybody has another body", "an operation that has not request = \"other-body\"");
            return;
        };
        for (n, operation) in operations.iter().enumerate() {
            let at = format!("operation.{n}.units");
            if is_other(&operation) && operation.units == body {
                self.add(at, format!("another body, and it asks for {body} units as all do"), "another number of units");
            } else if !is_other(&operation) && operation.units != body {
                let message = format!("the same body, and it asks for {} units, not {body}", operation.units);
                self.add(at, message, "as many units as the others; or request = \"other-body\"");
            }
        }
        // An effect in each of two lifetimes.
        let most = operations.iter().map(|o| i64::from(o.units)).max().unwrap_or_default();
        if i64::from(*total) < 2 * most {
            let message = format!("an authorisation of {total} units has no room for two effects of {most}");
            self.add("booking.total", message, format!("{} or more: nobody is to be refused for lack of units", 2 * most));
        }
    }

    /// What no correct server can meet is refused, with the arithmetic.
    fn demand(&mut self, scenario: &Scenario, booking: &Booking) {
        let Targets::Spread { authorisations, hot } = booking.targets else { return };
        let units = |n: u32, total: i32| i64::from(n) * i64::from(total);
        let shares: Vec<Share> = booking
            .operations
            .iter()
            .map(|operation| Share {
                operation: operation.name.clone(),
                weight: operation.weight,
                units: match operation.kind {
                    OperationKind::Reserve => operation.units.into(),
                    OperationKind::Release => -i64::from(operation.units),
                    _ => 0,
                },
            })
            .collect();
        let ramp = scenario.load.ramp();
        let seconds = ramp.as_ref().map_or(0.0, |ramp| ramp.duration().as_secs_f64());
        let iterations = match (&scenario.load.extent, scenario.load.rate, &ramp) {
            (Extent::Constant { duration: None, iterations: Some(n) }, ..) => Known::Exactly(*n),
            (Extent::Constant { iterations: None, .. } | Extent::Stages(_), Some(_), Some(ramp)) => {
                Known::Exactly(ramp.integral(ramp.duration()).floor() as u64)
            }
            _ => Known::Unknown,
        };
        let spread = units(authorisations, booking.total);
        let whole = Demand {
            shares: &shares,
            iterations,
            seconds,
            capacity: spread + hot.map_or(0, |h| units(h.authorisations, h.total)),
            thresholds: &scenario.thresholds,
        };
        let mut found = unreachable(&whole);
        if let Some(hot) = hot.filter(|hot| (0.0..=1.0).contains(&hot.share)) {
            // The hot ones run out first: what goes elsewhere neither takes their units nor gives them back. Of one operation only a part is
            // here, so that nothing can be said of all of it.
            let elsewhere: f64 = shares.iter().map(|share| share.weight).sum::<f64>() * (1.0 - hot.share);
            let mut shares: Vec<Share> =
                shares.iter().map(|share| Share { weight: share.weight * hot.share, ..share.clone() }).collect();
            shares.push(Share { operation: String::new(), weight: elsewhere, units: 0 });
            let thresholds: Vec<_> = scenario.thresholds.iter().filter(|t| t.operation().is_none()).cloned().collect();
            let capacity = units(hot.authorisations, hot.total);
            let of_hot = unreachable(&Demand { shares: &shares, capacity, thresholds: &thresholds, ..whole });
            found.extend(
                of_hot
                    .into_iter()
                    .map(|found| Unreachable { arithmetic: format!("of the hot ones, {}", found.arithmetic), ..found }),
            );
        }
        found.dedup_by(|b, a| a.threshold == b.threshold);
        for Unreachable { threshold, arithmetic } in found {
            let at = scenario.thresholds.iter().position(|t| t.to_string() == threshold).unwrap_or_default();
            let cure = "make more authorisations, or larger ones; or let the threshold allow what must be refused";
            self.add(format!("thresholds.{at}"), format!("no correct server can meet {threshold}: {arithmetic}"), cure);
        }
    }

    /// Thresholds and evidence are about operations that there are.
    fn names(&mut self, scenario: &Scenario) {
        for (n, threshold) in scenario.thresholds.iter().enumerate() {
            if let Some(message) = threshold.counter().and_then(|counter| is_always_zero(counter, &scenario.workload)) {
                let cure = "a figure of what can happen here: committed, aborted, unknown, failed; or leave the threshold out";
                self.add(format!("thresholds.{n}"), message, cure);
            }
        }
        let known = scenario.operations();
        let named = scenario.thresholds.iter().enumerate().map(|(n, t)| (format!("thresholds.{n}"), t.operation()));
        let evidence = scenario.evidence.committed.keys().map(|name| (format!("evidence.committed.{name}"), Some(&**name)));
        for (at, name) in named.chain(evidence) {
            if let Some(name) = name.filter(|name| !known.contains(name)) {
                let hint = nearest(name, known.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
                self.add(at, format!("there is no operation `{name}`"), format!("{hint}one of: {}", known.join(", ")));
            }
        }
    }
}

/// Why there is nothing to count, whatever is done: a limit for it would be kept by itself.
fn is_always_zero(counter: Counter, workload: &Workload) -> Option<&'static str> {
    let sql = |can: fn(&SqlOperation) -> bool| matches!(workload, Workload::Sql(sql) if sql.operations.iter().any(can));
    match counter {
        Counter::Checks if !matches!(workload, Workload::Http(_)) => {
            Some("there are no checks here: only answers of an API are looked at, and invariants are always proved")
        }
        Counter::Class(OutcomeClass::Replayed) if !matches!(workload, Workload::Booking(Booking { keys: Some(_), .. })) => {
            Some("nothing is replayed here: only requests of bookings that carry keys are")
        }
        Counter::Class(OutcomeClass::RolledBack) if !sql(|operation| operation.program.begins_transaction()) => {
            Some("nothing is rolled back here: only a script of your own that begins a transaction can end in ROLLBACK")
        }
        Counter::Class(OutcomeClass::Refused) if matches!(workload, Workload::Sql(_)) && !sql(can_be_refused) => {
            Some("nothing is refused here: no statement says `refused`, and no SQLSTATE is said to mean it (outcomes)")
        }
        _ => None,
    }
}

/// Whether an operation of the user's own names a rule that may say no.
fn can_be_refused(operation: &SqlOperation) -> bool {
    let is_guarded = operation.program.statements().flat_map(|statement| &statement.guards).any(|guard| guard.or == Else::Refuse);
    is_guarded || operation.outcomes.values().any(|meaning| *meaning == Meaning::Refused)
}
