//! Does the server's side of a run show what happened there: who stood in whose way, who waited for each other, what it cost, and what nobody saw?

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, Place, TestDatabase, iterations, run, run_plan};
use dbstress::pg::ConnectOptions;
use dbstress::pg::admin::Session;
use dbstress::pg::load::{Connection, Isolation};
use dbstress::probe::parse::parse;
use dbstress::probe::{self, Probe, Sessions, Watch, Watched};
use dbstress::strategy::Strategy;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const INTERVAL: Duration = Duration::from_millis(50);

/// Probes at work, on a load that begins now and ends when it is told to.
struct Looking {
    began: watch::Sender<Option<Instant>>,
    task: JoinHandle<(Sessions, Watched)>,
}

impl Looking {
    fn at(options: &ConnectOptions, more: Vec<Probe>) -> Self {
        let (began, beginning) = watch::channel(Some(Instant::now()));
        let probes = probe::built_in().unwrap().into_iter().chain(more).collect();
        let prefix = "dbstress/run77/".to_owned();
        let watch = Watch { options: options.clone(), prefix, interval: INTERVAL, probes, stay: false, began: beginning };
        Self { began, task: tokio::spawn(probe::watch(watch)) }
    }

    async fn end(self) -> (Sessions, Watched) {
        drop(self.began);
        self.task.await.unwrap()
    }
}

/// Waits until the locks have been looked at several times from now on: a look ends with the question, or with a COMMIT.
async fn looked(session: &mut Session) {
    let now = session.text("SELECT clock_timestamp()::text").await.unwrap().unwrap();
    let last = format!(
        "SELECT query_start::text FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'dbstress/probe' AND state = 'idle' \
         AND (query = 'COMMIT' OR query LIKE 'EXECUTE \"chains\"%') AND query_start > '{now}'"
    );
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 4 {
        assert!(Instant::now() < deadline, "the locks are not looked at");
        seen.extend(session.text(&last).await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A session of the run, as the load would open one.
async fn vu(database: &TestDatabase, number: u32) -> Session {
    Session::connect(&database.options, &format!("run77/vu{number}")).await.unwrap()
}

/// Sends `sql` beside the test, and waits until it waits for a lock.
async fn blocked(session: &mut Session, database: &TestDatabase, number: u32, sql: &'static str) -> JoinHandle<Session> {
    let mut vu = vu(database, number).await;
    let task = tokio::spawn(async move {
        vu.execute("BEGIN").await.unwrap();
        let _ = vu.execute(sql).await;
        let _ = vu.execute("ROLLBACK").await;
        vu
    });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbstress/run77/vu{number}' AND wait_event_type = 'Lock' AND datname = current_database()"
    );
    common::at_least(session, 1, &waits).await;
    task
}

fn probe(name: &str, text: &str) -> Probe {
    parse(name, text, Some(Path::new("/mine.sql"))).unwrap()
}

#[tokio::test]
async fn the_holder_of_a_hot_row_is_the_root_of_a_chain_and_the_row_has_a_name() {
    let database = common::database().await;
    let mut session = database.session().await;
    session
        .execute("CREATE TABLE hot (id integer PRIMARY KEY, n integer); INSERT INTO hot VALUES (1234, 0), (1235, 0)")
        .await
        .unwrap();
    let mut holder = vu(&database, 1).await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT n FROM hot WHERE id = 1234 FOR UPDATE").await.unwrap();
    let mut waiting = Vec::new();
    for number in 2..6 {
        waiting.push(blocked(&mut session, &database, number, "UPDATE hot SET n = n + 1 WHERE id = 1234").await);
    }
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let (sessions, watched) = looking.end().await;
    holder.execute("ROLLBACK").await.unwrap();
    for task in waiting {
        task.await.unwrap();
    }

    assert_eq!((sessions.most_waiting, sessions.most_in_transaction), (4, 5), "{sessions:?}");
    assert!(sessions.with_lock_waits == sessions.samples && sessions.lock_waits["tuple"] > 0, "{sessions:?}");
    assert!(
        watched.keyed["waits"]["Lock:transactionid"] > 0.0 && watched.keyed["waits"]["Lock:tuple"] > 0.0,
        "{:?}",
        watched.keyed
    );
    let [blocker] = &watched.blockers[..] else { panic!("{:?}", watched.blockers) };
    assert_eq!((&*blocker.session, &*blocker.state, blocker.most_behind), ("dbstress/run77/vu1", "idle in transaction", 4));
    assert_eq!(blocker.statement, "SELECT n FROM hot WHERE id = 1234 FOR UPDATE");
    assert_eq!(blocker.row, "hot 1234", "{blocker:?}");
    let [chain] = &watched.worst.chains[..] else { panic!("{:?}", watched.worst) };
    let way: Vec<&str> = chain.way.iter().map(|m| &*m.session).collect();
    assert_eq!((chain.behind, way.len(), way[0]), (4, 3, "dbstress/run77/vu1"), "{chain:?}");
    let next = &chain.way[1];
    assert_eq!((&*next.waits_for, &*next.table), ("transactionid", "hot"), "{chain:?}");
    assert!(next.statement.starts_with("UPDATE hot") && next.waited_ms > 0.0, "{chain:?}");
    assert!(watched.deadlocks.is_empty(), "a queue is no deadlock: {:?}", watched.deadlocks);
}

#[tokio::test]
async fn a_deadlock_is_seen_forming_and_counted_and_so_are_commits() {
    let database = common::database().await;
    let mut session = database.session().await;
    session.execute("CREATE TABLE two (id integer PRIMARY KEY, n integer); INSERT INTO two VALUES (1, 0), (2, 0)").await.unwrap();
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let mut first = vu(&database, 1).await;
    for _ in 0..20 {
        first.execute("UPDATE two SET n = n + 1").await.unwrap();
    }
    if let Err(error) = first.execute("SET deadlock_timeout = '60s'").await {
        eprintln!("not tested: this role may not say how long a deadlock lasts: {error}");
        return;
    }
    first.execute("BEGIN; UPDATE two SET n = 10 WHERE id = 1").await.unwrap();
    let mut second = vu(&database, 2).await;
    second.execute("SET deadlock_timeout = '5s'; BEGIN; UPDATE two SET n = 20 WHERE id = 2").await.unwrap();
    let first = tokio::spawn(async move {
        first.execute("UPDATE two SET n = 11 WHERE id = 2").await.unwrap();
        first.execute("COMMIT").await.unwrap();
        first.close().await;
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    common::at_least(&mut session, 1, waits).await;
    // Longer in the circle than the probes need to see it; the server ends it.
    let victim = second.execute("UPDATE two SET n = 21 WHERE id = 1").await.unwrap_err();
    assert_eq!(victim.code.as_deref(), Some("40P01"), "{victim}");
    second.close().await;
    first.await.unwrap();
    let (_, watched) = looking.end().await;

    let [deadlock] = &watched.deadlocks[..] else { panic!("{:?}", watched.deadlocks) };
    assert!(watched.deadlocks_seen == 1 && deadlock.samples > 1, "{deadlock:?}");
    let mut members: Vec<(&str, &str)> = deadlock.members.iter().map(|m| (&*m.session, &*m.statement)).collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            ("dbstress/run77/vu1", "UPDATE two SET n = 11 WHERE id = 2"),
            ("dbstress/run77/vu2", "UPDATE two SET n = 21 WHERE id = 1")
        ]
    );
    assert_eq!(watched.grown("database", "deadlocks"), Some(1.0), "{:?}", watched.counters);
    assert!(watched.grown("database", "commits").unwrap() >= 21.0, "{:?}", watched.counters);
    assert!(watched.grown("wal", "records").unwrap() > 0.0, "{:?}", watched.counters);
    assert!(
        watched.counters.contains_key("checkpoints") != watched.counters.contains_key("checkpointer"),
        "{:?}",
        watched.counters
    );
}

#[tokio::test]
async fn a_stranger_that_holds_a_transaction_open_shows_with_its_age() {
    let database = common::database().await;
    let mut session = database.session().await;
    let most = |watched: &Watched, name: &str| {
        let column = watched.series.columns.get(&format!("sessions.{name}")).unwrap_or_else(|| panic!("{name}: {watched:?}"));
        column.max.iter().flatten().copied().fold(0.0, f64::max)
    };
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let (_, before) = looking.end().await;
    assert_eq!((most(&before, "others"), most(&before, "oldest_idle_in_transaction_ms")), (0.0, 0.0));

    let mut stranger = Connection::open(&database.options, "psql", &[Isolation::ReadCommitted]).await.unwrap();
    stranger.begin(Isolation::ReadCommitted).await.unwrap();
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let (_, watched) = looking.end().await;
    assert_eq!((most(&watched, "others"), most(&watched, "idle_in_transaction")), (1.0, 0.0), "it is not the run's");
    let (idle, oldest) = (most(&watched, "oldest_idle_in_transaction_ms"), most(&watched, "oldest_transaction_ms"));
    assert!(idle > 0.0 && oldest >= idle, "{idle} {oldest}");
    let (connections, allowed) = (most(&watched, "connections"), most(&watched, "connections_allowed"));
    assert!(connections >= 3.0 && allowed >= connections, "{connections} of {allowed}");
    assert_eq!(watched.gap(), None, "{watched:?}");
    assert!(watched.cost_ms > 0.0 && watched.longest_gap_ms > 0.0 && watched.duty_cycle() < 1.0, "{watched:?}");
}

#[tokio::test]
async fn a_question_that_is_stuck_wrong_or_writes_is_told_and_the_others_go_on() {
    let database = common::database().await;
    let mut session = database.session().await;
    session.execute("CREATE TABLE t (n integer)").await.unwrap();
    let mine = vec![
        probe("stuck", "-- kind: gauge\n--\n-- Takes for ever.\nSELECT 1 AS one FROM pg_sleep(600)"),
        probe("wrong", "-- kind: gauge\n--\n-- Asks for what is not there.\nSELECT nothing FROM nowhere"),
        probe("shapeless", "-- kind: keyed\n--\n-- Has no key.\nSELECT 1 AS value"),
        probe("writes", "-- kind: gauge\n--\n-- Takes a number.\nSELECT nextval('numbers') AS n"),
        probe("absent", "-- kind: gauge\n-- needs: nowhere\n--\n-- Needs something.\nSELECT 1 AS one"),
        probe("later", "-- kind: gauge\n-- since: 1000\n--\n-- For a server to come.\nSELECT 1 AS one"),
        probe("names", "-- kind: keyed\n--\n-- Whose sessions are these?\nSELECT :'run' || 'x' AS key, 2 AS value"),
    ];
    session.execute("CREATE SEQUENCE numbers").await.unwrap();
    let looking = Looking::at(&database.options, mine);
    // Not before the stuck one has been ended, which then is set aside.
    looked(&mut session).await;
    looked(&mut session).await;
    let (_, watched) = looking.end().await;
    let of = |name: &str| watched.probes.get(name).unwrap_or_else(|| panic!("{name}: {:?}", watched.probes));
    let stuck = of("stuck");
    assert!(stuck.answered == 0 && stuck.missed > 0, "{stuck:?}");
    assert!(stuck.error.as_ref().unwrap().contains("did not finish within 1s"), "{stuck:?}");
    for (name, said) in [("wrong", "nowhere"), ("shapeless", "`key`"), ("writes", "read-only")] {
        let asked = of(name);
        assert_eq!((asked.answered, asked.missed), (0, 1), "{name} is asked once: {asked:?}");
        assert!(asked.error.as_ref().unwrap().contains(said), "{name}: {asked:?}");
    }
    assert_eq!(of("absent").skipped.as_deref(), Some("there is no nowhere in this database"));
    assert!(!watched.probes.contains_key("later"));
    assert!(of("sessions").answered > of("stuck").missed && of("chains").answered > 1, "{:?}", watched.probes);
    let names = &watched.keyed["names"]["dbstress/run77/x"];
    assert!((names - 2.0 * of("names").answered as f64).abs() < 0.01, "{watched:?}");
    assert_eq!(session.text("SELECT is_called::text FROM numbers").await.unwrap().as_deref(), Some("false"), "nothing was written");
}

#[tokio::test]
async fn who_is_thrown_out_comes_back_and_says_what_was_missed() {
    let database = common::database().await;
    let mut session = database.session().await;
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dbstress/probe' AND datname = current_database()";
    assert_eq!(session.integer(ended).await.unwrap(), 1);
    looked(&mut session).await;
    let (sessions, watched) = looking.end().await;
    let missed: u64 = watched.probes.values().map(|asked| asked.missed).sum();
    assert!(missed > 0 && sessions.samples > 2, "{watched:?}");
}

#[tokio::test]
async fn what_is_not_there_is_skipped_and_a_server_that_is_not_there_is_told() {
    let database = common::database().await;
    let mut session = database.session().await;
    let looking = Looking::at(&database.options, Vec::new());
    looked(&mut session).await;
    let (_, watched) = looking.end().await;
    let skipped = watched.probes["statements"].skipped.as_deref();
    assert_eq!(skipped, Some("there is no pg_stat_statements in this database"));
    assert!(!watched.counters.contains_key("statements"));

    let (_, watched) = Looking::at(&database.options.with_database("nowhere"), Vec::new()).end().await;
    assert!(watched.samples == 0 && watched.gap().unwrap().contains("could not be watched"), "{watched:?}");
}

#[tokio::test]
async fn where_the_server_counts_statements_the_dearest_are_told() {
    if common::not_applicable("the server is started with other settings for it") {
        return;
    }
    let place = Place::new();
    let mut settings = place.settings();
    let library = std::process::Command::new("pg_config").arg("--pkglibdir").output();
    let there =
        library.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).join("pg_stat_statements.so").is_file());
    if !there {
        eprintln!("not tested: this machine has no pg_stat_statements");
        return;
    }
    settings.server.push(("shared_preload_libraries".into(), "pg_stat_statements".into()));
    let server = dbstress::pg::cluster::start(&settings, &|_| {}).await.unwrap();
    let mut session = Session::connect(&server.options, "test").await.unwrap();
    session.execute("CREATE EXTENSION pg_stat_statements; CREATE TABLE t AS SELECT 1 AS n").await.unwrap();
    let mut before = vu_at(&server.options).await;
    before.execute("SELECT 'before' FROM t").await.unwrap();
    let looking = Looking::at(&server.options, Vec::new());
    looked(&mut session).await;
    for _ in 0..7 {
        before.execute("UPDATE t SET n = n + 1").await.unwrap();
    }
    let (_, watched) = looking.end().await;
    let statements = &watched.counters["statements"];
    let found =
        statements.iter().find(|growth| growth.text.starts_with("UPDATE t SET")).unwrap_or_else(|| panic!("{statements:?}"));
    assert_eq!((found.grown["calls"], found.grown["rows"]), (7.0, 7.0), "{found:?}");
    assert!(found.grown["total_exec_ms"] > 0.0, "{found:?}");
    assert!(!statements.iter().any(|growth| growth.text.contains("before")), "what was over before is none of it: {statements:?}");
    before.close().await;
    session.close().await;
}

async fn vu_at(options: &ConnectOptions) -> Session {
    Session::connect(options, "run77/vu1").await.unwrap()
}

#[tokio::test]
async fn a_run_says_who_stood_in_the_way() {
    let bench = Bench::new().await;
    let plan = common::plan("churn", |plan, booking| {
        plan.load = iterations(8, 120);
        plan.claims.clear();
        booking.strategies = vec![Strategy::ForUpdate];
        // Long enough that a sample meets somebody who waits.
        booking.hold = Duration::from_millis(20);
    });
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    let turn = &record.turns[0];
    let watched = &turn.watched;
    assert!(turn.sessions.with_lock_waits > 0 && watched.samples == turn.sessions.samples, "{watched:?}");
    let blocker = watched.blockers.first().unwrap_or_else(|| panic!("{watched:?}"));
    assert!(blocker.session.starts_with(&format!("dbstress/run{}/vu", turn.run)), "{blocker:?}");
    assert!(blocker.statement.contains("FROM dbstress.auth") && blocker.most_behind > 0, "{blocker:?}");
    assert!(watched.series.columns["sessions.waiting_for_locks"].max.iter().flatten().any(|n| *n > 0.0), "{watched:?}");
    assert!(watched.grown("database", "commits").unwrap() >= 120.0, "{:?}", watched.counters);
    assert!(watched.seconds > 0.0 && watched.seconds <= record.seconds, "{watched:?}");
}

#[tokio::test]
async fn nobody_looks_where_nobody_wants_to_and_never_too_often() {
    let bench = Bench::new().await;
    let none = "throughput --vus 2 --duration 1s --probe-interval 0 --no-thresholds --summary-export r.json";
    let (code, out, err) = run(&mut bench.dbstress(none));
    // Whether enough was done is the machine's affair.
    assert!(matches!(code, 0 | 3), "{out}{err}");
    let watched = bench.record().turns.remove(0).watched;
    assert!(watched == Watched::default() && watched.gap().unwrap() == "nobody watched the server", "{watched:?}");
    for (interval, why) in [("10ms", "part of the load"), ("2s", "too little would be seen")] {
        let (code, _, err) = run(&mut bench.dbstress(&format!("throughput --probe-interval {interval}")));
        assert!(code == 2 && err.contains("--probe-interval") && err.contains(why) && err.contains("from 50ms to 1s"), "{err}");
    }
    let (code, _, err) = run(&mut bench.dbstress("throughput --probes nowhere"));
    assert!(code == 2 && err.contains("--probes") && err.contains("cannot read nowhere"), "{err}");

    std::fs::create_dir(bench.place.0.join("mine")).unwrap();
    let rows = "-- kind: gauge\n--\n-- How many runs there have been.\nSELECT count(*) AS runs FROM dbstress.run";
    std::fs::write(bench.place.0.join("mine/runs.sql"), rows).unwrap();
    let mine = "throughput --vus 2 --duration 1s --probes mine --no-thresholds --summary-export r2.json";
    let (code, out, err) = run(&mut bench.dbstress(mine));
    assert!(matches!(code, 0 | 3), "{out}{err}");
    let text = std::fs::read_to_string(bench.place.0.join("r2.json")).unwrap();
    let record = dbstress::record::RunRecord::from_json(&text).unwrap();
    assert_eq!(record.to_json().unwrap(), text);
    assert_eq!(u128::from(record.turns[0].watched.interval_ms), probe::INTERVAL.as_millis());
    assert_eq!(record.turns[0].watched.series.columns["runs.runs"].max[0], Some(2.0));
}
