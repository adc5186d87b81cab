//! Does a pool keep its books, its order and its connections, and do the drills find out when somebody uses it wrongly?

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Place, Started, TestDatabase, eventually, on, run};
use dbstress::drill::{Drill, DrillRecord, DrillsRecord, Ground, Mistake, perform};
use dbstress::pg::ConnectOptions;
use dbstress::pg::load::{Connection, Isolation};
use dbstress::pg::pool::{Open, Pool, PoolSettings, Pooled, Recycle, Unavailable};
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

/// Opens sessions on a database of one test.
#[derive(Clone)]
struct Door(ConnectOptions);

struct Session(Connection);

impl Open for Door {
    type Item = Session;

    async fn open(&self) -> dbstress::Result<Session> {
        Connection::open(&self.0, "dbstress/pooled", &[Isolation::ReadCommitted]).await.map(Session)
    }
}

impl Pooled for Session {
    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    async fn answers(&mut self) -> bool {
        self.0.ask("SELECT 1").await.is_ok()
    }
}

fn pool(database: &TestDatabase, size: u32, timeout: Duration, recycle: Recycle) -> Arc<Pool<Door>> {
    Arc::new(Pool::new(PoolSettings { size, timeout: Some(timeout), recycle }, Door(database.options.clone())).unwrap())
}

/// Long enough for everything that must not time out.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_a_deadlock_only_if_all_who_have_a_connection_wait_for_another() {
    let database = common::database().await;
    let pool = pool(&database, 2, Duration::from_millis(200), Recycle::Fast);
    let (first, second) = (pool.checkout(1).await.unwrap(), pool.checkout(2).await.unwrap());
    // Somebody else waits, and those who have one do not.
    let refused = pool.checkout(3).await.err().unwrap();
    assert!(matches!(refused, Unavailable::Timeout { is_deadlock: false, .. }), "{refused}");
    // One of the two waits for another; the other one may still give his back.
    let refused = pool.checkout(1).await.err().unwrap();
    assert!(matches!(refused, Unavailable::Timeout { is_deadlock: false, .. }), "{refused}");
    assert_eq!((pool.books().timeouts, pool.books().deadlocks, pool.jam().len()), (2, 0, 0));

    // Both wait for another. Again, if a busy machine lets the one give up before the other has begun to wait.
    let mut seen = false;
    for _ in 0..100 {
        let (one, other) = tokio::join!(pool.checkout(1), pool.checkout(2));
        seen |= [one, other].iter().any(|got| matches!(got, Err(Unavailable::Timeout { is_deadlock: true, .. })));
        if seen {
            break;
        }
    }
    assert!(seen, "nobody was told that it is a deadlock");
    assert!(pool.books().deadlocks >= 1);
    let mut jam: Vec<u32> = pool.jam().iter().map(|holder| holder.who).collect();
    jam.sort_unstable();
    assert_eq!(jam, [1, 2]);
    assert!(pool.jam().iter().all(|holder| holder.is_waiting));
    drop((first, second));
    assert_eq!((pool.status().in_use, pool.status().size, pool.status().waiting), (0, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_not_given_back_shows_in_the_books_and_has_a_holder() {
    let database = common::database().await;
    let pool = pool(&database, 3, LONG, Recycle::Fast);
    for who in 1..=5 {
        let loan = pool.checkout(who).await.unwrap();
        if who == 4 {
            std::mem::forget(loan);
        }
    }
    let books = pool.books();
    assert_eq!((books.checkouts, books.checkins, books.discarded, books.in_use()), (5, 4, 0, 1));
    let holders: Vec<(u32, bool)> = pool.holders().iter().map(|holder| (holder.who, holder.is_waiting)).collect();
    assert_eq!(holders, [(4, false)]);
    // What is taken out for good, as broken, has ended and is no leak.
    drop(pool.checkout(6).await.unwrap().discard());
    assert_eq!((pool.books().discarded, pool.books().in_use()), (1, 1));
    drop(pool.checkout(7).await.unwrap());
    assert_eq!(pool.books().opened, 3, "what was taken out is replaced");
}

/// Opens two, has the server end them, and asks through both: who was served, and what the books say.
async fn asked_after_the_end(recycle: Recycle) -> (usize, dbstress::pg::pool::Books) {
    let database = common::database().await;
    let pool = pool(&database, 2, LONG, recycle);
    pool.fill().await.unwrap();
    let mut admin = database.session().await;
    let ours = "pg_stat_activity WHERE datname = current_database() AND application_name = 'dbstress/pooled'";
    assert_eq!(admin.integer(&format!("SELECT count(pg_terminate_backend(pid)) FROM {ours}")).await.unwrap(), 2);
    while admin.integer(&format!("SELECT count(*) FROM {ours}")).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut loans = [pool.checkout(1).await.unwrap(), pool.checkout(2).await.unwrap()];
    let mut served = 0;
    for loan in &mut loans {
        served += usize::from(loan.0.ask("SELECT 1").await.is_ok());
    }
    (served, pool.books())
}

#[tokio::test(flavor = "multi_thread")]
async fn verified_recycling_replaces_an_ended_session_and_fast_recycling_lends_it() {
    let (served, books) = asked_after_the_end(Recycle::Verified).await;
    assert_eq!((served, books.stale, books.opened, books.reused), (2, 2, 4, 0));
    let (served, books) = asked_after_the_end(Recycle::Fast).await;
    assert_eq!((served, books.stale, books.opened, books.reused), (0, 0, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_waits_is_overtaken() {
    let database = common::database().await;
    let pool = pool(&database, 1, LONG, Recycle::Verified);
    let loan = pool.checkout(0).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for who in 1..=5 {
        let (pool, order) = (pool.clone(), order.clone());
        let shared = pool.clone();
        waiting.push(tokio::spawn(async move {
            let _loan = pool.checkout(who).await.unwrap();
            order.lock().unwrap().push(who);
        }));
        eventually("it stands in the queue", || shared.status().waiting == u64::from(who)).await;
    }
    // Whoever gives back and asks again at once stands behind all who were there before.
    drop(loan);
    let _last = pool.checkout(6).await.unwrap();
    order.lock().unwrap().push(6);
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4, 5, 6]);
}

/// An empty database, and a place for what the program writes.
struct Bench {
    database: TestDatabase,
    place: Place,
}

impl Bench {
    async fn new() -> Self {
        Self { database: common::database().await, place: Place::new() }
    }

    fn dbstress(&self, arguments: &str) -> std::process::Command {
        on(&self.place, &self.database.options, arguments)
    }

    /// Runs `pool` with a record; exit code, record, and all that was said.
    fn pool(&self, arguments: &str) -> (i32, DrillsRecord, String) {
        let (code, out, err) = run(&mut self.dbstress(&format!("pool --summary-export r.json{arguments}")));
        common::assert_no_panic(&out, &err);
        let json = std::fs::read_to_string(self.place.0.join("r.json")).unwrap_or_else(|_| panic!("{code}\n{out}\n{err}"));
        (code, serde_json::from_str(&json).unwrap(), format!("{out}{err}"))
    }

    /// Nothing of the drills is left.
    async fn assert_swept(&self) {
        let mut session = self.database.session().await;
        assert_eq!(session.text("SELECT to_regnamespace('dbstress_pool')::text").await.unwrap(), None);
        // Whoever was not told yet that the program has ended is on its way.
        let drills =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/drill%'";
        while session.integer(drills).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_drills_come_out_as_they_must_and_leave_nothing_behind() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.pool("");
    let drills: Vec<Drill> = record.drills.iter().map(|drill| drill.drill).collect();
    assert_eq!(drills, Drill::ALL, "{said}");
    for drill in &record.drills {
        // Only what is about speed may be missed, on a machine that is busy with other things.
        let may_be_slow = [Drill::SharedPool, Drill::Metrics].contains(&drill.drill) && drill.verdict == Verdict::Missed;
        assert!(drill.verdict == Verdict::Pass || may_be_slow, "{said}");
        let row = said.lines().find(|line| line.starts_with(drill.drill.name())).unwrap();
        assert!(row.ends_with(drill.verdict.word()), "{row}");
    }
    assert_eq!(code, i32::from(record.verdict.exit().code()), "{said}");
    assert!([0, 99].contains(&code), "{said}");
    let controls: Vec<(Mistake, bool)> = record.controls.iter().map(|control| (control.mistake, control.is_caught)).collect();
    assert_eq!(controls, [(Mistake::Leak, true), (Mistake::NestedCheckout, true)], "{said}");
    for what in [
        "control: leak caught",
        "control: nested-checkout caught",
        "without the lock 2 of 3 updates are lost",
        "again: dbstress pool",
    ] {
        assert!(said.contains(what), "`{what}` is missing from: {said}");
    }
    bench.assert_swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_is_found_and_the_requests_are_named() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.pool(" --bug leak");
    assert_eq!((code, record.verdict), (1, Verdict::Violated), "{said}");
    let leaks = record.drills.iter().find(|drill| drill.drill == Drill::LeakDetection).unwrap();
    let requests: Vec<Option<u32>> = leaks.culprits.iter().map(|culprit| culprit.request).collect();
    assert_eq!(requests, [250, 500, 750, 1_000].map(Some), "{said}");
    assert!(leaks.culprits.iter().all(|culprit| culprit.session.is_some() && culprit.seconds.is_some()), "{said}");
    for what in ["a known mistake was made on purpose: leak", "leaked: 4 instead of 0", "request 750, session "] {
        assert!(said.contains(what), "`{what}` is missing from: {said}");
    }
    bench.assert_swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_checkout_is_found_and_called_what_it_is() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.pool(" --bug nested-checkout --drill saturation");
    assert_eq!((code, record.verdict), (1, Verdict::Violated), "{said}");
    let [saturated] = &record.drills[..] else { panic!("{said}") };
    assert_eq!(saturated.reasons[0], "all 10 connections are held by requests that wait for a second one", "{said}");
    let blocked: Vec<u32> = saturated.culprits[..10].iter().filter_map(|culprit| culprit.request).collect();
    assert_eq!(blocked, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_drill_fails_when_its_mistake_is_made() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.pool(" --self-test");
    assert_eq!(code, 0, "{said}");
    let fired = |drill: Drill, mistake| {
        let tried = record.drills.iter().find(|tried| tried.drill == drill && tried.mistake == Some(mistake));
        tried.is_some_and(|tried| tried.verdict == Verdict::Violated && !tried.culprits.is_empty())
    };
    for drill in Drill::ALL {
        for mistake in drill.mistakes() {
            assert!(fired(drill, *mistake), "{drill} with {mistake}: {said}");
        }
    }
    bench.assert_swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_tables_of_others_is_refused_unless_it_is_named() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    session.execute("CREATE TABLE theirs (id integer)").await.unwrap();
    let (code, _, err) = run(&mut bench.dbstress("pool --drill commit-on-exit"));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("1 relations that are not ours; nothing was written"), "{err}");
    assert_eq!(session.text("SELECT to_regnamespace('dbstress')::text").await.unwrap(), None);
    let named = format!("pool --drill commit-on-exit,rollback-on-error --disposable {}", bench.database.options.database);
    let (code, out, err) = run(&mut bench.dbstress(&named));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains(&format!("again: dbstress {named}")), "{out}");
    bench.assert_swept().await;
    assert_eq!(session.integer("SELECT count(*) FROM theirs").await.unwrap(), 0, "what is theirs is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_no_tables_behind_and_is_no_pass() {
    let bench = Bench::new().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let started = Started::new(bench.dbstress("pool"));
        started.says("control: nested-checkout").await;
        started.signal(signal);
        let (code, out, err) = started.ended().await;
        assert_eq!(code, 130, "{out}{err}");
        assert!(out.contains("INCONCLUSIVE") && out.contains("of 15 drills were done"), "{out}");
        bench.assert_swept().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_of_the_database_does_not_spoil_the_drills() {
    let bench = Bench::new().await;
    let name = &bench.database.options.database;
    // Shorter than a task of `shared-pool`, and than the second after which the server looks for a deadlock.
    let alter = format!("ALTER DATABASE \"{name}\" SET statement_timeout = '250ms'");
    bench.database.session().await.execute(&alter).await.unwrap();
    let mut spoilt = Connection::open(&bench.database.options, "dbstress/test", &[]).await.unwrap();
    assert!(spoilt.ask("SELECT pg_sleep(10)").await.is_err(), "it holds for everybody else");
    let (_, record, said) = bench.pool(" --drill shared-pool,row-lock,deadlock-retry");
    let verdicts: Vec<Verdict> = record.drills.iter().map(|drill| drill.verdict).collect();
    // Whether a read is faster than a task is for a machine with nothing else to do.
    assert!([Verdict::Pass, Verdict::Missed].contains(&verdicts[0]), "{said}");
    assert_eq!(verdicts[1..], [Verdict::Pass; 2], "{said}");
}

/// Does a drill, and meanwhile asks until something was done to its sessions; what came of it.
async fn disturbed(drill: Drill, question: &str) -> DrillRecord {
    let database = common::database().await;
    let mut ground = Ground::take(&database.options, None).await.unwrap();
    ground.set_up().await.unwrap();
    let mut session = database.session().await;
    let ours = "pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/drill%'";
    let disturbing = async {
        while session.integer(&format!("SELECT {question}")).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (record, ()) = tokio::time::timeout(LONG, async { tokio::join!(perform(&mut ground, drill, None), disturbing) })
        .await
        .unwrap_or_else(|_| panic!("{drill} was not disturbed"));
    assert_eq!(session.integer(&format!("SELECT count(*) FROM {ours} AND state LIKE 'idle in %'")).await.unwrap(), 0);
    ground.leave().await.unwrap();
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_or_cancels_what_a_drill_does_makes_it_inconclusive() {
    let among = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/drill%'";
    // Each holds its connection for three seconds.
    let ended = format!("count(pg_terminate_backend(pid)) {among} AND state = 'idle in transaction' AND query = 'SELECT 1'");
    let ended = disturbed(Drill::Saturation, &ended).await;
    assert_eq!((ended.verdict, ended.culprits.len()), (Verdict::Inconclusive, 0), "{ended:?}");
    assert!(ended.reasons[0].contains("somebody ended"), "{ended:?}");
    let cancelled = format!("count(pg_cancel_backend(pid)) {among} AND state = 'active' AND query LIKE 'SELECT pg_sleep%'");
    let cancelled = disturbed(Drill::SharedPool, &cancelled).await;
    assert_eq!((cancelled.verdict, cancelled.culprits.len()), (Verdict::Inconclusive, 0), "{cancelled:?}");
    assert!(cancelled.reasons[0].starts_with("57014: "), "{cancelled:?}");
}

/// Ends the session from which the drills are seen, once there is one.
async fn end_the_observer(session: &mut dbstress::pg::admin::Session) {
    let observer = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dbstress/pool'";
    loop {
        if let Some(pid) = session.text(&format!("SELECT pid {observer}")).await.unwrap() {
            session.execute(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
            while session.integer(&format!("SELECT count(*) {observer} AND pid = {pid}")).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_session_is_replaced_once_and_then_it_stops() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    let started = Started::new(bench.dbstress("pool --drill saturation,commit-on-exit"));
    // Saturation takes three seconds after this.
    started.says("control: nested-checkout").await;
    end_the_observer(&mut session).await;
    let (code, out, err) = started.ended().await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("2 of 2 drills came out as they must") && out.contains("saturation: done again"), "{out}");
    bench.assert_swept().await;

    let started = Started::new(bench.dbstress("pool --self-test"));
    started.says("1/").await;
    end_the_observer(&mut session).await;
    end_the_observer(&mut session).await;
    let (code, out, err) = started.ended().await;
    assert_eq!(code, 3, "{out}{err}");
    // For the second time, or before it could take the place of the first.
    let unwrapped = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(unwrapped.matches("the session dbstress/pool was ended").count(), 1, "{out}");
    assert!(unwrapped.contains("drills were done") && !out.contains("NO\n") && !out.contains("did not fail"), "{out}");
    bench.assert_swept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_mistyped_is_guessed_and_what_cannot_be_together_is_refused() {
    let bench = Bench::new().await;
    for (arguments, hint) in [
        ("pool --drill saturatoin", "did you mean `saturation`?"),
        ("pool --bug nested-checkuot", "did you mean `nested-checkout`?"),
        ("pool --bug no-lock --drill refill", "--drill row-lock"),
        ("pool --bug leak --self-test", "cannot be used with"),
    ] {
        let (code, _, err) = run(&mut bench.dbstress(arguments));
        assert_eq!(code, 2, "{arguments}: {err}");
        assert!(err.contains(hint), "{arguments}: {err}");
    }
    let (code, out, _) =
        run(&mut bench.place.dbstress(&["pool", "--list", "--database-url", "postgres://nobody@127.0.0.1:1/nowhere"]));
    assert_eq!(code, 0);
    for drill in Drill::ALL {
        assert!(out.contains(drill.name()), "{out}");
    }
}
