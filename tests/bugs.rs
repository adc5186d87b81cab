//! Is every known mistake caught by the check that is meant for it, and by none that has no reason to? On a real PostgreSQL.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::{Bench, Place, iterations, rounds, run_on_own, run_plan};
use dbstress::bug::{Bug, Check};
use dbstress::plan::{Load, Plan};
use dbstress::record::RunRecord;
use dbstress::scenario::{Scenario, Workload};
use dbstress::strategy::Strategy;
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
        Load::Rounds { vus, .. } => rounds(vus, 12),
        _ => iterations(plan.load.vus(), 500),
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

/// The scenario of a bug, under one of the strategies that it goes with.
fn under(bug: Bug, strategy: Strategy) -> Scenario {
    let mut scenario = Scenario::of_bug(bug).unwrap();
    if let Workload::Booking(booking) = &mut scenario.workload {
        booking.strategies = vec![strategy];
    }
    assert!(scenario.mistakes().is_empty(), "{bug}, {}: {:?}", strategy.name(), scenario.mistakes());
    scenario
}

/// What is wrong with how a bug was caught.
fn fault(bug: Bug, record: &RunRecord) -> Option<String> {
    let (entry, fired) = (bug.entry().unwrap(), fired(record));
    let (missed, by_accident) = (entry.missed(&fired), entry.by_accident(&fired));
    let is_right = record.verdict == Verdict::Violated && missed.is_empty() && by_accident.is_empty();
    let strategies: Vec<&str> = record.turns.iter().map(|turn| &*turn.name).collect();
    (!is_right).then(|| {
        format!("{bug}, {strategies:?}: {:?}, missed {missed:?}, by accident {by_accident:?}: {:?}", record.verdict, record.reasons)
    })
}

/// Tries the bugs that are run in `scenario`, under every strategy that they go with.
async fn try_all(scenario: &str) {
    let mut faults = Vec::new();
    for bug in known() {
        let entry = bug.entry().unwrap();
        for strategy in entry.strategies.iter().filter(|_| entry.alone.scenario == scenario) {
            faults.extend(fault(bug, &run(&under(bug, *strategy)).await));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn what_breaks_in_rounds_is_caught_by_the_checks_that_are_meant_for_it() {
    try_all("contention").await;
}

#[tokio::test]
async fn what_breaks_in_churn_is_caught_by_the_checks_that_are_meant_for_it() {
    try_all("churn").await;
}

#[tokio::test]
async fn what_is_acknowledged_before_it_is_durable_is_missed_after_a_crash() {
    let place = Place::new();
    let server = Arc::new(place.start().await);
    let options = server.ensure_database("bugs").await.unwrap();
    common::seed(&options).await;
    let scenario = Scenario::of_bug(Bug::AsyncCommit).unwrap();
    let mut plan = Plan::of(&scenario, BTreeMap::new());
    plan.threads = 1;
    plan.retry.deadline = Duration::from_secs(120);
    let record = run_on_own(server, &options, &place, plan).await;
    assert_eq!(fault(Bug::AsyncCommit, &record), None);
    let [turn] = &record.turns[..] else { panic!("{:?}", record.not_run) };
    assert_eq!(turn.settings["synchronous_commit"], "off");
    let lost = turn.audit.lost.as_ref().unwrap();
    assert_eq!(lost.operations, turn.audit.classes.acknowledged_lost);
    // A log that ends early loses an end of every history, and nothing before it.
    assert_eq!((lost.unexplained, lost.survivors), (0, 0), "{lost:?}");
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
