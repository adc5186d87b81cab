//! Can a record be read that an earlier dbstress wrote?

use std::time::Duration;

use dbstress::metrics::Counts;
use dbstress::outcome::OutcomeClass;
use dbstress::pg::retry::{Backoff, Retry};
use dbstress::plan::{Limit, Load, OF_COUNTERS};
use dbstress::probe::Watched;
use dbstress::record::{Moment, RunRecord, SCHEMA_VERSION};
use dbstress::scenario::Targets;
use dbstress::strategy::Strategy;
use dbstress::verdict::{Decision, Verdict};
use serde_json::{Value, json};

/// As the first version wrote it.
const FIRST: &str = include_str!("fixtures/record-1.json");

/// The first version's record with another plan or verdict, read today.
fn changed(change: impl FnOnce(&mut Value)) -> RunRecord {
    let mut record: Value = serde_json::from_str(FIRST).unwrap();
    change(&mut record);
    RunRecord::from_json(&record.to_string()).unwrap()
}

#[test]
fn a_record_of_the_first_shape_still_says_everything_that_it_said() {
    let old: Value = serde_json::from_str(FIRST).unwrap();
    let record = RunRecord::from_json(FIRST).unwrap();
    assert_eq!((record.schema_version, record.verdict, record.decision), (SCHEMA_VERSION, Verdict::Pass, Decision::Go));
    let again = record.to_json().unwrap();
    assert_eq!(RunRecord::from_json(&again).unwrap().to_json().unwrap(), again);
    assert_eq!(json!(record.reasons), old["reasons"]);
    let plan = &record.plan;
    assert_eq!(plan.scenario, "contention");
    assert_eq!(plan.load, Load::Rounds { vus: 50, limit: Limit::Duration(Duration::from_secs(5)) });
    assert_eq!((plan.round(), plan.threads, plan.rng_seed), (Some((10, 5)), 1, 42));
    assert_eq!(plan.retry, Retry { deadline: Duration::from_secs(10), attempts: None, backoff: Backoff::Jitter });
    assert_eq!(plan.strategies(), [Strategy::Serializable]);
    let booking = plan.booking().unwrap();
    assert_eq!((booking.targets, booking.total, booking.strangers, booking.hold), (Targets::Rounds, 50, 0.0, Duration::ZERO));
    assert_eq!(plan.claims.len(), OF_COUNTERS.len() + 3, "{:?}", plan.claims);
    assert_eq!(json!(record.claim), old["claim"]);
    assert_eq!(plan.claim(), record.claim, "the same words today");

    assert_eq!(record.controls.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["naive", "naive-set", "naive", "naive-set"]);
    assert!(record.controls.iter().all(|c| c.fired) && record.controls[3].moment == Moment::After);
    let [turn] = &record.turns[..] else { panic!("{:?}", record.turns) };
    let counts: Counts = serde_json::from_value(old["turns"][0]["counts"].clone()).unwrap();
    assert_eq!((&*turn.name, &turn.counts), ("serializable", &counts));
    assert!(turn.counts.of(OutcomeClass::Committed) > 0 && turn.audit.breaches.is_empty() && turn.bound.is_some());
    assert_eq!((&turn.watched, plan.evidence.probe_interval), (&Watched::default(), Duration::from_millis(50)));
    assert!(turn.operations.is_empty() && turn.ticks.is_empty() && turn.thresholds.is_empty() && turn.lag.is_none());
    assert_eq!(json!(turn.timing), old["turns"][0]["timing"]);
}

#[test]
fn one_of_churn_had_strangers_in_it_and_three_kinds_of_operations() {
    let of = |limit: Value| {
        changed(|record| {
            record["plan"]["mode"] = "churn".into();
            record["plan"]["limit"] = limit;
        })
    };
    let record = of(json!({ "duration_ms": 1500 }));
    let plan = &record.plan;
    assert_eq!((&*plan.scenario, plan.operations()), ("churn", vec!["reserve", "release", "consume"]));
    assert!(plan.claims.iter().any(|name| name == "organisation-of-actor"), "{:?}", plan.claims);
    assert_eq!((plan.load.vus(), plan.load.duration(), plan.load.iterations()), (50, Some(Duration::from_millis(1500)), None));
    let plan = of(json!({ "rounds": 20 })).plan;
    assert_eq!((plan.load.duration(), plan.load.iterations()), (None, Some(1000)), "20 of each virtual user");
}

#[test]
fn what_was_found_decides_although_nobody_wrote_the_decision_down() {
    let decision = |verdict: &str| changed(|record| record["verdict"] = verdict.into()).decision;
    assert_eq!(["violated", "inconclusive"].map(decision), [Decision::NoGo, Decision::Inconclusive]);
}

#[test]
fn a_record_of_a_shape_to_come_is_left_to_whoever_wrote_it() {
    let mut record: Value = serde_json::from_str(FIRST).unwrap();
    record["schema_version"] = (SCHEMA_VERSION + 1).into();
    let error = RunRecord::from_json(&record.to_string()).unwrap_err();
    assert!(error.to_string().contains("reads up to") && error.to_string().contains("that wrote it"), "{error}");
}
