//! Do the server's counts agree with what our connections made, and does a pool tell what became of its connections?

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Bench, Place, iterations, run, run_plan};
use dbstress::outcome::Abort;
use dbstress::pg::admin::Session;
use dbstress::record::{RunRecord, TurnRecord};
use dbstress::threshold::State;
use serde_json::Value;

fn turn(record: &RunRecord) -> &TurnRecord {
    record.turns.first().unwrap_or_else(|| panic!("{:?}", record.reasons))
}

#[tokio::test]
async fn the_server_counts_what_our_connections_made() {
    let bench = Bench::new().await;
    let plan = common::plan("churn", |plan, _| plan.load = iterations(10, 500));
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    let counters = turn(&record).counters.clone().unwrap_or_default();
    assert_eq!(counters.differences(), Vec::<String>::new(), "{counters:?}");
    assert!(counters.client.commits > 500 && counters.client.sessions > 10, "{counters:?}");
    assert_eq!((counters.client.rollbacks, counters.uncertain), (counters.server.rollbacks, 0), "{counters:?}");
    // A vacuum may have come by.
    assert!(counters.server.commits >= counters.client.commits, "{counters:?}");
}

#[tokio::test]
async fn what_somebody_else_does_meanwhile_is_told_apart() {
    let bench = Bench::new().await;
    let options = bench.database.options.clone();
    // It has been there all the time: only what it does gives it away.
    let mut guest = Session::connect(&options, "guest").await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let disturbing = tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            guest.rows("SELECT 1 / 0").await.unwrap_err();
            // What a session has done it tells when it likes; from PostgreSQL 15 on when it is asked to, if it has read a table since.
            let _ = guest.rows("SELECT count(*), pg_stat_force_next_flush() FROM dbstress.organisation").await;
        }
        guest.close().await;
    });
    let plan = common::plan("churn", |plan, _| plan.load = iterations(4, 200));
    let record = run_plan(&options, &bench.place, plan).await;
    over.store(true, Ordering::Relaxed);
    disturbing.await.unwrap();
    let counters = turn(&record).counters.clone().unwrap_or_default();
    let said = counters.differences();
    assert!(said.iter().any(|line| line.contains("rollbacks more than dbstress made")), "{said:?} {counters:?}");
}

const DEADLOCKS: &str = r#"
summary = "two rows, in either order"
workload = "sql"
setup = "pair.sql"

[control]
none = true

[load]
vus = 2
iterations = 20

[[operation]]
name = "up"

[[operation.statements]]
sql = "UPDATE pair SET n = n + 1 WHERE id = 1"

[[operation.statements]]
sql = "SELECT pg_sleep(0.02)"

[[operation.statements]]
sql = "UPDATE pair SET n = n + 1 WHERE id = 2"

[[operation]]
name = "down"

[[operation.statements]]
sql = "UPDATE pair SET n = n + 1 WHERE id = 2"

[[operation.statements]]
sql = "SELECT pg_sleep(0.02)"

[[operation.statements]]
sql = "UPDATE pair SET n = n + 1 WHERE id = 1"
"#;

#[tokio::test]
async fn the_server_counts_the_deadlocks_that_clients_were_told_of() {
    let database = common::database().await;
    let place = Place::new();
    let name = &database.options.database;
    database.superuser().await.execute(&format!("ALTER DATABASE {name} SET deadlock_timeout = '20ms'")).await.unwrap();
    let (scenario, exported) = (place.0.join("opposite.toml"), place.0.join("record.json"));
    std::fs::write(&scenario, DEADLOCKS).unwrap();
    let setup = "CREATE TABLE pair (id int PRIMARY KEY, n int NOT NULL); INSERT INTO pair VALUES (1, 0), (2, 0);";
    std::fs::write(place.0.join("pair.sql"), setup).unwrap();
    let mut command = place.dbstress(&["run", scenario.to_str().unwrap(), "--accept-uncontrolled"]);
    command.args(["--database-url", &database.url(), "--summary-export", exported.to_str().unwrap()]);
    let (_, said, errors) = run(&mut command);
    let record: Value = serde_json::from_slice(&std::fs::read(&exported).unwrap_or_default()).unwrap_or_default();
    let counters = &record["turns"][0]["counters"];
    let deadlocks = counters["client"]["deadlocks"].as_u64().unwrap_or_default();
    assert!(deadlocks > 0, "no deadlock came about:\n{said}{errors}");
    assert_eq!(counters["server"]["deadlocks"].as_u64(), Some(deadlocks), "{counters}");
    assert!(said.contains(&format!("{deadlocks} deadlocks")), "{said}");
}

#[tokio::test]
async fn whoever_waits_too_long_for_the_pool_is_given_up_and_told_of() {
    let bench = Bench::new().await;
    let plan = common::plan("churn", |plan, booking| {
        plan.load = iterations(20, 4_000);
        plan.pool_size = Some(2);
        plan.pool_timeout = Some(Duration::from_millis(5));
        plan.thresholds = ["pool_use:max<0.5", "pool_use:avg>0", "server_use:max<1"].map(|text| text.parse().unwrap()).into();
        booking.hold = Duration::from_millis(20);
    });
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    let turn = turn(&record);
    let pool = turn.pool.as_ref().unwrap();
    assert!(pool.books.timeouts > 0, "{pool:?}");
    assert_eq!(turn.counts.aborted.get(&Abort::PoolTimeout), Some(&pool.books.timeouts), "{pool:?}");
    // Nobody held one and waited for another: that is an ordinary shortage.
    assert_eq!((pool.books.in_use(), pool.books.deadlocks, pool.size), (0, 0, 2), "{pool:?}");
    assert_eq!(turn.wait.as_ref().unwrap().samples, pool.books.checkouts + pool.books.timeouts, "{pool:?}");
    let states: Vec<State> = turn.thresholds.iter().map(|judged| judged.state).collect();
    assert_eq!(states, [State::Missed, State::Met, State::Met], "{:?}", turn.thresholds);
}
