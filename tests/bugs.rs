//! Is every known mistake caught by the check that is meant for it, and by none that has no reason to? On a real PostgreSQL.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Bench, iterations, rounds, run_plan};
use dbstress::bug::{Bug, Check};
use dbstress::plan::{Load, Plan};
use dbstress::record::RunRecord;
use dbstress::scenario::Scenario;
use dbstress::verdict::Verdict;

fn known() -> impl Iterator<Item = Bug> {
    Bug::ALL.into_iter().filter(|bug| bug.entry().is_some_and(|entry| !entry.needs_crash))
}

/// As much of its load as is enough, counted and not timed; nobody gives up, however busy the machine is with other things.
fn plan(scenario: &Scenario) -> Plan {
    let mut plan = Plan::of(scenario, BTreeMap::new());
    plan.threads = 1;
    plan.retry.deadline = Duration::from_secs(120);
    plan.graceful_stop = Duration::from_secs(120);
    plan.load = match plan.load {
        Load::Rounds { vus, .. } => rounds(vus, 30),
        _ => iterations(plan.load.vus(), 2_000),
    };
    plan
}

async fn run(scenario: &Scenario) -> RunRecord {
    let bench = Bench::new().await;
    run_plan(&bench.database.options, &bench.place, plan(scenario)).await
}

fn fired(record: &RunRecord) -> BTreeSet<Check> {
    record.turns.iter().flat_map(|turn| turn.fired()).collect()
}

#[tokio::test]
async fn every_bug_is_caught_under_every_strategy_that_it_goes_with() {
    for bug in known() {
        let entry = bug.entry().unwrap();
        for strategy in entry.strategies {
            let mut scenario = Scenario::of_bug(bug).unwrap();
            if let dbstress::scenario::Workload::Booking(booking) = &mut scenario.workload {
                booking.strategies = vec![*strategy];
            }
            let began = std::time::Instant::now();
            let record = run(&scenario).await;
            let fired = fired(&record);
            let (missed, by_accident) = (entry.missed(&fired), entry.by_accident(&fired));
            eprintln!(
                "{bug} {} {:?} {missed:?} {by_accident:?} {:?}",
                strategy.name(),
                began.elapsed(),
                record.turns.iter().map(|t| &t.audit.breaches).collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test]
async fn every_bug_is_caught_by_the_checks_that_are_meant_for_it() {
    let mut faults = Vec::new();
    for bug in known() {
        let record = run(&Scenario::of_bug(bug).unwrap()).await;
        let (entry, fired) = (bug.entry().unwrap(), fired(&record));
        let (missed, by_accident) = (entry.missed(&fired), entry.by_accident(&fired));
        eprintln!(
            "{bug}: {:?} {:?} {:?}",
            record.verdict,
            record.turns.iter().map(|t| &t.audit.breaches).collect::<Vec<_>>(),
            fired
        );
        if record.verdict != Verdict::Violated || !missed.is_empty() || !by_accident.is_empty() {
            faults
                .push(format!("{bug}: {:?}, missed {missed:?}, by accident {by_accident:?}: {:?}", record.verdict, record.reasons));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn the_same_plans_without_the_bugs_are_clean() {
    let bugs: Vec<Bug> = known().collect();
    for scenario in Scenario::without_bugs(&bugs).unwrap() {
        let record = run(&scenario).await;
        assert_eq!(fired(&record), BTreeSet::new(), "{}", scenario.name);
        assert_eq!(record.turns.len(), scenario.booking().unwrap().strategies.len(), "{:?}", record.not_run);
        for turn in &record.turns {
            assert_eq!(turn.audit.incomplete, [""; 0], "{}", turn.name);
        }
    }
}
