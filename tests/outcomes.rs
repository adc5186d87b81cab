//! Is what a client is told about the end of a transaction what the database holds, even if the session is ended in the middle of it?

mod common;

use std::time::{Duration, Instant};

use common::Place;
use dbstress::outcome::{Abort, Certainty, Signal, Sqlstate, Stage, certainty};
use dbstress::pg::admin::Session;
use dbstress::pg::cluster::{self, Settings};
use dbstress::pg::load::{Connection, Ending, Isolation};

/// How long the endings are looked for, and how many of each.
const PATIENCE: Duration = Duration::from_secs(300);
const ENOUGH: usize = 5;

/// Sessions are terminated while they commit, until both endings were seen: nothing was heard of the COMMIT but that the session is over; and
/// the COMMIT was acknowledged in the last words of a session that is over. Whoever does not read the tag takes the second for the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_terminated_at_commit_leaves_an_unknown_and_never_a_lie() {
    if common::not_applicable("the server is started with other settings for it") {
        return;
    }
    // A COMMIT that is really written takes a while, in which it can be met.
    let place = Place::new();
    let settings = Settings { server: Vec::new(), ..place.settings() };
    let server = cluster::start(&settings, &|_| {}).await.unwrap();
    let mut admin = Session::connect(&server.options, "test").await.unwrap();
    admin.execute("CREATE TABLE marker (id bigint PRIMARY KEY)").await.unwrap();
    let (mut acknowledged, mut refused, mut unknown, mut last_words) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    let mut id = 0_i64;
    while unknown.len() < ENOUGH || last_words < ENOUGH {
        let seen = format!("{} never answered, {last_words} in last words, of {id}", unknown.len());
        assert!(began.elapsed() < PATIENCE, "{seen}");
        id += 1;
        let mut connection = Connection::open(&server.options, "race", &[Isolation::ReadCommitted]).await.unwrap();
        let insert = connection.prepare("INSERT INTO marker VALUES ($1)").await.unwrap();
        let pid = connection.ask("SELECT pg_backend_pid()").await.unwrap().unwrap();
        connection.begin(Isolation::ReadCommitted).await.unwrap();
        connection.execute(&insert, |p| p.integer(id)).await.unwrap();
        let committing = tokio::spawn(async move { (connection.commit().await, connection.is_open()) });
        // How far the COMMIT has come by then differs from time to time.
        let head_start = Duration::from_micros(u64::try_from(id % 20).unwrap() * 100);
        let sent = Instant::now();
        while sent.elapsed() < head_start {
            tokio::task::yield_now().await;
        }
        admin.text(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
        let (ending, is_open) = committing.await.unwrap();
        match ending {
            Ending::Committed => {
                acknowledged.push(id);
                last_words += usize::from(!is_open);
            }
            Ending::NotCommitted(failure) => refused.push((id, failure)),
            Ending::Unknown => unknown.push(id),
        }
    }
    let present = async |admin: &mut Session, id: i64| {
        admin.integer(&format!("SELECT count(*) FROM marker WHERE id = {id}")).await.unwrap() == 1
    };
    for id in acknowledged {
        assert!(present(&mut admin, id).await, "{id} was acknowledged and is lost");
    }
    for (id, failure) in refused {
        assert!(!present(&mut admin, id).await, "{id} was called a definite failure ({failure:?}) and is there");
    }
    drop(admin);
}

#[tokio::test]
async fn what_the_server_answers_to_commit_is_taken_at_its_word() {
    let database = common::database().await;
    let mut admin = database.session().await;
    admin
        .execute("CREATE TABLE marker (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO marker VALUES (1)")
        .await
        .unwrap();
    let mut connection = Connection::open(&database.options, "test", &[Isolation::ReadCommitted]).await.unwrap();
    let insert = connection.prepare("INSERT INTO marker VALUES ($1)").await.unwrap();
    let divide = connection.prepare("SELECT 1 / $1::integer").await.unwrap();

    // A transaction in which a statement failed: the server calls its COMMIT done, with the tag ROLLBACK and no error.
    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(2)).await.unwrap();
    connection.execute(&divide, |p| p.integer(0)).await.unwrap_err();
    assert!(matches!(connection.commit().await, Ending::NotCommitted(_)));

    // A deferred constraint speaks up at COMMIT: an error, and the session goes on.
    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(1)).await.unwrap();
    match connection.commit().await {
        Ending::NotCommitted(failure) => assert_eq!(failure.abort, Abort::UniqueViolation),
        other => panic!("{other:?}"),
    }

    // A statement that is its own COMMIT: CommandComplete comes first, the deferred error after it.
    match connection.execute_alone(&insert, |p| p.integer(1)).await {
        Err(Ending::NotCommitted(failure)) => assert_eq!(failure.abort, Abort::UniqueViolation),
        other => panic!("{other:?}"),
    }
    assert!(connection.execute_alone(&insert, |p| p.integer(3)).await.is_ok());

    connection.begin(Isolation::ReadCommitted).await.unwrap();
    connection.execute(&insert, |p| p.integer(4)).await.unwrap();
    assert_eq!(connection.commit().await, Ending::Committed);
    let there = admin.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker").await.unwrap();
    assert_eq!(there.as_deref(), Some("1,3,4"));
    assert_eq!(certainty(Stage::Commit, Signal::Error(Sqlstate::new("08007"))), Certainty::Unknown);
}
