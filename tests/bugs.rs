//! Is every known mistake caught by the check that is meant for it, and by none that has no reason to? On a real PostgreSQL.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::{Bench, Place, iterations, rounds, run_on_own, run_plan};
use dbstress::bug::{Bug, Check};
use dbstress::pg::cluster::State;
use dbstress::plan::{Load, Plan};
use dbstress::record::RunRecord;
use dbstress::scenario::{Scenario, Workload, typed_for_bug};
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;

fn known() -> impl Iterator<Item = Bug> {
    Bug::ALL.into_iter().filter(|bug| !bug.entry().needs_crash)
}

/// As much of its load as is enough, counted and not timed; nobody gives up, however busy the machine is with other things.
fn plan(scenario: &Scenario) -> Plan {
    let mut plan = Plan::of(scenario, BTreeMap::new());
    plan.threads = 1;
    plan.retry.deadline = Duration::from_secs(120);
    plan.graceful_stop = Duration::from_secs(120);
    // A key that is claimed and never done keeps everybody else waiting until then.
    if plan.keys().is_some() {
        plan.retry.deadline = Duration::from_millis(200);
    }
    plan.load = match plan.load {
        Load::Rounds { vus, .. } if plan.keys().is_some() => rounds(vus, 80),
        Load::Rounds { vus, .. } => rounds(vus, 12),
        _ => iterations(plan.load.vus(), 1_500),
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
    let (entry, fired) = (bug.entry(), fired(record));
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
        let entry = bug.entry();
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
async fn what_breaks_with_keys_is_caught_by_the_checks_that_are_meant_for_it() {
    try_all("idempotency").await;
}

#[tokio::test]
async fn what_is_acknowledged_before_it_is_durable_is_missed_after_a_crash() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
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
async fn what_is_made_on_purpose_and_not_caught_is_no_pass() {
    let bench = Bench::new().await;
    // In rounds nobody releases anything: the mistake has no occasion.
    let plan = common::plan("contention", |plan, booking| {
        plan.load = rounds(20, 20);
        plan.claims.clear();
        plan.thresholds = vec!["aborted.rate<0.5".parse().unwrap()];
        booking.bug = Some(Bug::NoShow);
    });
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
    assert!(record.reasons.iter().any(|why| why.contains("the bug was not caught: no-show")), "{:?}", record.reasons);
    assert!(record.claim.contains("a known mistake is made on purpose (no-show)"), "{}", record.claim);
}

#[test]
fn a_bug_is_shown_as_any_breach_is_and_its_controls_are_right() {
    if common::not_applicable("it is about the private server") {
        return;
    }
    let place = Place::new();
    let typed = typed_for_bug(Bug::LockAndRead);
    let arguments: Vec<&str> = typed.split(' ').skip(1).collect();
    let (code, out, err) = common::run(&mut place.dbstress(&arguments));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("VIOLATED") && out.contains("a known mistake was made on purpose: lock-and-read"), "{out}{err}");
    // The controls are the unsafe strategies, without the mistake.
    for line in ["control: naive (overbooked) before: caught", "control: naive-set (lost update) before: caught"] {
        assert!(out.contains(line), "`{line}`: {out}{err}");
    }
    assert!(out.contains("--bug lock-and-read"), "what is typed again has it: {out}");

    let (code, out, err) = common::run(&mut place.dbstress(&["contention", "--bug", "lock-and-read", "--strategy", "atomic"]));
    assert_eq!((code, &*out), (2, ""), "{err}");
    assert!(err.contains("--bug: lock-and-read is no mistake that can be made with the strategy atomic"), "{err}");
}

#[test]
fn the_catalogue_is_run_on_the_private_server_and_leaves_nothing() {
    if common::not_applicable("it is about the private server") {
        return;
    }
    let place = Place::new();
    let mut bugs = place.dbstress(&["bugs", "run", "lock-and-read", "spurious-refusal"]);
    // A catalogue has no business in the user's database, not even in one that is not there.
    bugs.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere");
    let (code, out, err) = common::run(&mut bugs);
    assert_eq!(code, 0, "{out}{err}");
    let last = out.lines().last().unwrap();
    assert_eq!(last, "2 of 2 bugs caught by what is meant for them; nothing found without them", "{out}{err}");
    assert!(out.lines().any(|line| line.starts_with("lock-and-read") && line.contains('●')), "{out}");
    assert!(err.contains("4/4 spurious-refusal: caught by refused although there was room"), "{err}");
    assert_eq!(place.state(), Some(State::Stopped), "{err}");
    common::assert_no_panic(&out, &err);

    let (code, out, _) = common::run(&mut place.dbstress(&["bugs", "list"]));
    assert_eq!(code, 0);
    assert!(out.lines().any(|line| line.starts_with("ignored-row-count") && line.contains("acknowledged, but lost")), "{out}");
    let (code, _, err) = common::run(&mut place.dbstress(&["bugs", "run", "lock-and-raed"]));
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `lock-and-read`?"), "{err}");
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
