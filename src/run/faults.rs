//! What came of the faults, how long did it take to recover, and what must be seen of them for a pass to mean anything?

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::drive::{Driven, Everyone};
use crate::audit::{Audit, Outage, Recovery, Truth, Truths};
use crate::fault::{self, Fault, Planned, Reach, Strike};
use crate::history::{Mark, Reader, Writer};
use crate::outcome::Outcome;
use crate::pg::ConnectOptions;
use crate::pg::admin::Session;
use crate::plan::Plan;
use crate::record::{FaultRecord, Gate, StrikeRecord};
use crate::{Error, Result};

/// Settings that say what an acknowledgement is worth.
pub(super) const DURABILITY: [&str; 3] = ["synchronous_commit", "fsync", "full_page_writes"];

/// Nobody else may be hurt: whoever is connected to the private server besides us would lose its session.
///
/// # Errors
/// Usage, naming who is connected.
pub(super) async fn check_alone(session: &mut Session, faults: &[Planned], options: &ConnectOptions) -> Result<()> {
    if !faults.iter().any(|planned| planned.fault.reach() == Reach::Server) {
        return Ok(());
    }
    match session.text(&fault::others(&options.database)).await? {
        None => Ok(()),
        Some(who) => Err(Error::usage(format!("others are connected to the private server, and would lose their sessions: {who}"))
            .cure("close them; or use a server of your own for this: --state-dir DIR")),
    }
}

/// A strike on the run's clock.
pub(super) fn mark(everyone: &Everyone, strike: &Strike) -> Mark {
    let planned = everyone.turn.plan.faults.get(strike.planned);
    Mark {
        name: planned.map_or("fault", |planned| planned.fault.name()).to_owned(),
        planned: strike.planned as u32,
        at: everyone.nanos(strike.at),
        effective: everyone.nanos(strike.effective),
        healed: everyone.nanos(strike.healed),
        struck: strike.what.is_ok(),
    }
}

/// Faults stand in the same history as operations; in a file of their own, since they belong to no load thread.
pub(super) fn write_marks(everyone: &Everyone, marks: &[(Mark, Strike)]) -> Option<(PathBuf, Result<()>)> {
    let path = everyone.turn.history_of("faults").filter(|_| !marks.is_empty())?;
    let write = || -> std::io::Result<()> {
        let mut writer = Writer::create(&path)?;
        marks.iter().try_for_each(|(mark, _)| writer.mark(mark))?;
        writer.finish(&[]).map(|_| ())
    };
    let written = write()
        .map_err(|e| Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory"));
    Some((path, written))
}

/// One record for each planned fault, with what the histories show of the time after each strike.
///
/// # Errors
/// When a history cannot be read.
pub(super) fn records(plan: &Plan, driven: &Driven) -> Result<Vec<FaultRecord>> {
    let struck: Vec<&Mark> = driven.marks.iter().map(|(mark, _)| mark).filter(|mark| mark.struck).collect();
    let recovery = match struck.is_empty() {
        true => Recovery::after(Vec::new()),
        false => recovery(struck.iter().map(|mark| mark.effective).collect(), &driven.histories)
            .map_err(|e| Error::inconclusive("a history cannot be read").because(e))?,
    };
    let began = driven.began;
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let record = |(number, planned): (usize, &Planned)| {
        let mut record = FaultRecord {
            fault: *planned,
            planned: planned.occasions().count() as u64,
            struck: 0,
            missed: BTreeMap::new(),
            strikes: Vec::new(),
        };
        for (mark, strike) in driven.marks.iter().filter(|(mark, _)| mark.planned as usize == number) {
            match &strike.what {
                Ok(target) => {
                    record.struck += 1;
                    record.strikes.push(StrikeRecord {
                        at_ms: ms(mark.at.saturating_sub(began)),
                        lasted_ms: ms(mark.healed.saturating_sub(mark.at)),
                        target: target.clone(),
                        recovery_ms: recovery.time(mark.effective).map(|time| ms(time + mark.effective.saturating_sub(mark.at))),
                        truth: strike.truth,
                    });
                }
                Err(why) => *record.missed.entry(why.clone()).or_default() += 1,
            }
        }
        record
    };
    Ok(plan.faults.iter().enumerate().map(record).collect())
}

/// What the proxy saw of COMMITs, by the virtual user whose session it was; sessions of a pool are nobody's.
pub(super) fn truths(driven: &Driven) -> Truths {
    let mut truths = Truths::default();
    for (mark, strike) in &driven.marks {
        let (Ok(session), Some(truth)) = (&strike.what, strike.truth) else { continue };
        if let Some(vu) = session.rsplit_once("/vu").and_then(|(_, vu)| vu.parse().ok()) {
            truths.add(vu, mark.at, truth);
        }
    }
    truths
}

/// When the server was down and came back with whatever was durable.
pub(super) fn outages(plan: &Plan, driven: &Driven) -> Vec<Outage> {
    let is_outage =
        |mark: &&Mark| mark.struck && plan.faults.get(mark.planned as usize).is_some_and(|p| p.fault.ends_all_sessions());
    let marks = driven.marks.iter().map(|(mark, _)| mark).filter(is_outage);
    let mut outages: Vec<Outage> = marks.map(|mark| Outage { from: mark.at, until: mark.healed }).collect();
    outages.sort_unstable_by_key(|outage| outage.from);
    outages
}

fn recovery(moments: Vec<u64>, histories: &[PathBuf]) -> std::io::Result<Recovery> {
    let mut recovery = Recovery::after(moments);
    for path in histories {
        for record in Reader::open(path)?.operations() {
            let record = record?;
            if matches!(record.outcome, Outcome::Committed | Outcome::Replayed) {
                recovery.success(record.last_attempt, record.finished);
            }
        }
    }
    Ok(recovery)
}

/// Each fault that was planned must have struck; and where COMMITs were to be lost, what became of them must have been found out.
pub(super) fn gates(plan: &Plan, faults: &[FaultRecord], audit: &Audit, settings: &BTreeMap<String, String>) -> Vec<Gate> {
    // Who has a ledger and no key to ask again with looks up what was never answered.
    let is_looked_up = plan.keeps_ledger() && plan.keys().is_none();
    let is_pooled = plan.pool_size.is_some();
    let mut gates = Vec::new();
    for record in faults {
        let missed: Vec<String> = record.missed.iter().map(|(why, n)| format!("{n}: {why}")).collect();
        let missed = if missed.is_empty() { String::new() } else { format!(" ({})", missed.join("; ")) };
        let seen = record.strikes.iter().filter(|strike| strike.recovery_ms.is_some()).count() as u64;
        // After an outage nobody can go on unless somebody does; of many small ones the last may be too late to tell.
        let enough = if record.fault.fault.ends_all_sessions() { record.struck } else { 1 };
        gates.push(Gate {
            name: format!("{} struck, and something succeeded afterwards", record.fault),
            met: record.struck > 0 && seen >= enough.max(1),
            measured: format!("struck {} of {} times{missed}, followed by success {seen} times", record.struck, record.planned),
            cure: "let it strike while more goes on, and early enough to see what follows: sooner, more often (NAME@FROM..UNTIL/EVERY), \
                   with a longer --duration, with more VUs or --hold 5ms"
                .into(),
        });
        gates.extend(resolved(record, audit, is_looked_up));
    }
    let known = faults.iter().flat_map(|record| &record.strikes).filter(|strike| strike.truth.is_some()).count();
    if known > 0 && plan.keeps_ledger() && !is_pooled {
        gates.push(Gate {
            name: "what the wire knew of lost COMMITs was found in the database".into(),
            met: audit.truths_met > 0,
            measured: format!("of {} of {known}", audit.truths_met),
            cure: "let it strike more often".into(),
        });
    }
    let is_crash = faults.iter().any(|record| record.fault.fault.ends_all_sessions() && record.struck > 0);
    if is_crash && settings.get("synchronous_commit").is_some_and(|value| value == "off") {
        gates.push(Gate {
            name: "what is acknowledged is durable".into(),
            met: false,
            measured: "synchronous_commit = off in the sessions of the load: that no acknowledged commit was lost proves nothing"
                .into(),
            cure: "set synchronous_commit = on".into(),
        });
    }
    gates
}

/// Lost COMMITs must have ended as they end by this fault. What is looked up must have been found so; where nothing is, since it is asked for
/// again with its key or there is no ledger, what the wire saw says how it had ended.
fn resolved(record: &FaultRecord, audit: &Audit, is_looked_up: bool) -> Option<Gate> {
    let seen = |truth| record.strikes.iter().filter(|strike| strike.truth == Some(truth)).count() as u64;
    let (looked_up, seen, lost, found) = match record.fault.fault {
        Fault::RequestLost => (audit.classes.unknown_absent, seen(Truth::NeverSent), "that never arrived", "absent"),
        Fault::ResponseLost => (audit.classes.unknown_committed, seen(Truth::Committed), "whose answer was lost", "present"),
        _ => return None,
    };
    let (count, name, measured) = match is_looked_up {
        true => (looked_up, format!("a COMMIT {lost} was found {found}"), "of the operations that were never answered"),
        false => (seen, format!("a COMMIT {lost} was seen on the wire"), "strikes"),
    };
    Some(Gate {
        name,
        met: count > 0,
        measured: format!("{count} {measured}"),
        cure: format!("let it strike more often: {}@FROM..UNTIL/100ms", record.fault.fault.name()),
    })
}
