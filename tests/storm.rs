//! Is a client stack caught that gives a connection back inside a transaction, and are those left in peace that do not?

mod common;

use common::{Place, Started, TestDatabase};
use dbstress::storm::{Client, LEAST_CANCELLED, StormRecord};
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

/// Runs `dbstress cancel-storm ARGUMENTS` on an empty database: exit code, stdout, the record. Nothing of it is left.
async fn storm(arguments: &str) -> (i32, String, StormRecord) {
    let (database, place) = (common::database().await, Place::new());
    let file = place.0.join("storm.json");
    let arguments = format!("cancel-storm --summary-export {} {arguments}", file.display());
    let (code, out, err) = common::run(&mut common::on(&place, &database.options, arguments.trim()));
    common::assert_no_panic(&out, &err);
    let json = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{e}\n{out}{err}"));
    assert_swept(&database).await;
    (code, out, serde_json::from_str(&json).unwrap())
}

async fn assert_swept(database: &TestDatabase) {
    let mut session = database.session().await;
    assert_eq!(session.text("SELECT to_regnamespace('dbstress_storm')::text").await.unwrap(), None);
    let left =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/storm/%'";
    assert_eq!(session.integer(left).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_that_are_given_back_inside_a_transaction_are_found_and_so_are_the_writes_that_vanish_with_them() {
    let (code, out, record) = storm("--client sqlx").await;
    assert_eq!((code, record.verdict), (1, Verdict::Violated), "{out}");
    for client in [&record.control, &record.clients[0]] {
        let tally = &client.tally;
        assert_eq!(client.verdict, Verdict::Violated, "{client:?}");
        assert!(tally.cancelled_in_begin >= LEAST_CANCELLED && tally.left_open > 0 && tally.locks > 0, "{client:?}");
        assert!(!tally.lost.is_empty() && tally.lost.len() as u64 <= tally.acknowledged, "{client:?}");
        assert_eq!((tally.errors.len(), tally.open.len()), (0, 0), "{client:?}");
    }
    assert_eq!((record.control.client, record.clients[0].client), (Client::Unguarded, Client::Sqlx));
    let example = record.clients[0].example.as_ref().expect("two requests are enough");
    assert!(example.lost > example.cancelled && example.pid > 0, "{example:?}");
    assert!(out.contains(&format!("sqlx {} gives connections back", Client::Sqlx.version())), "{out}");
    assert!(out.contains(&format!("request {} was cancelled", example.cancelled)), "{out}");
}

#[tokio::test]
async fn clients_that_roll_back_what_nobody_waits_for_hold() {
    let (code, out, record) = storm("--client tokio-postgres,deadpool-postgres").await;
    assert_eq!((code, record.verdict), (0, Verdict::Pass), "{out}\n{record:#?}");
    assert!(record.is_controlled());
    for client in &record.clients {
        let tally = &client.tally;
        assert!(tally.cancelled_in_begin >= LEAST_CANCELLED && tally.committed > 0, "{client:?}");
        assert_eq!((tally.lost.len(), tally.left_open, tally.errors.len()), (0, 0, 0), "{client:?}");
        assert!(client.example.is_none());
    }
}

#[tokio::test]
async fn nothing_is_shown_by_a_storm_that_cancels_nobody() {
    let (code, out, record) = storm("--client tokio-postgres --requests 1").await;
    assert_eq!((code, record.verdict), (3, Verdict::Inconclusive), "{out}");
    assert_eq!(record.clients[0].tally.cancelled_in_begin, 0);
    assert!(out.contains("only 0 requests were cancelled while BEGIN was under way; 20 are needed"), "{out}");
    assert!(out.contains("the control was not caught"), "{out}");
}

#[tokio::test]
async fn a_client_that_there_is_not_and_a_database_of_somebody_else_are_refused() {
    let (database, place) = (common::database().await, Place::new());
    let (code, _, err) = common::run(&mut common::on(&place, &database.options, "cancel-storm --client sqlxx"));
    assert_eq!(code, 2);
    assert!(err.contains("there is no client `sqlxx`") && err.contains("did you mean `sqlx`?"), "{err}");
    database.session().await.execute("CREATE TABLE theirs ()").await.unwrap();
    let (code, _, err) = common::run(&mut common::on(&place, &database.options, "cancel-storm"));
    assert_eq!(code, 2);
    assert!(err.contains("--disposable"), "{err}");
    assert_swept(&database).await;
}

#[tokio::test]
async fn a_storm_that_is_given_up_leaves_nothing_behind() {
    let (database, place) = (common::database().await, Place::new());
    let started = Started::new(common::on(&place, &database.options, "cancel-storm --requests 10000"));
    let mut session = database.session().await;
    let begun =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/storm/%'";
    common::at_least(&mut session, 2, begun).await;
    started.signal(Signal::SIGINT);
    let (code, out, err) = started.ended().await;
    common::assert_no_panic(&out, &err);
    assert_eq!(code, 130, "{out}{err}");
    assert_swept(&database).await;
}

#[tokio::test]
async fn a_database_that_nothing_can_be_written_to_is_told_with_what_cures_it() {
    let (database, place) = (common::database().await, Place::new());
    let mut session = database.session().await;
    let name = &database.options.database;
    session.execute(&format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on")).await.unwrap();
    let (code, _, err) = common::run(&mut common::on(&place, &database.options, "cancel-storm"));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("RESET default_transaction_read_only") && !err.contains("seed --reset"), "{err}");
}
