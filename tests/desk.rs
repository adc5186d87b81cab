//! Does the desk of the reference server do what it is asked, once, for whoever may have it, and say what became of it? On a real PostgreSQL.

mod common;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PATIENCE, TestDatabase, within};
use dbstress::api::desk::{Ask, Caller, Desk, Done, Grant, Mistakes, Order, Reply, Settings, accounts};
use dbstress::bug::Bug;
use dbstress::history::{OpId, OperationKind};
use dbstress::invariant::{self, DEFAULT_SEARCH_PATH, Finding, When, run_all};
use dbstress::outcome::{Abort, Refusal};
use dbstress::pg::admin::Session;
use dbstress::pg::retry::Retry;
use dbstress::run::control;
use dbstress::seed::Dataset;
use dbstress::strategy::{Hazard, Strategy};
use dbstress::target::view::{Days, Page, View};
use dbstress::workload::appointment::Ask as Appoint;
use dbstress::workload::contest::{CallKind, Change, Contest, Proposal};
use dbstress::workload::keyed::{InFlight, Keys};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::LocalSet;

use OperationKind::{Consume, Release, Reserve};

const KEYS: Keys = Keys { in_flight: InFlight::Wait, lifetime: Duration::from_secs(3600), cleanup: 0 };
/// 09:00 and 10:00 on 1 June 2026, UTC.
const NINE: i64 = 1_780_304_400;
const TEN: i64 = NINE + 3600;

/// A database with a dataset in it, and what a test asks it besides.
struct Bench {
    database: TestDatabase,
    session: Session,
    run: i32,
    /// Desks that were opened: no two of a run number their operations alike.
    desks: Cell<u16>,
}

/// An organisation and one of its practitioners.
#[derive(Debug, Clone, Copy)]
struct Home {
    organisation: i64,
    practitioner: i64,
}

impl Home {
    fn caller(self) -> Caller {
        Caller { organisation: Some(self.organisation), actor: self.practitioner }
    }
}

impl Bench {
    async fn of(database: TestDatabase) -> Self {
        let mut session = database.session().await;
        let run = "INSERT INTO dbstress.run (record, command, workload, strategy, claims, rng_seed) \
                   VALUES ('serve-test', 'serve', 'booking', 'serializable', '{}', 42) RETURNING id";
        let run = session.integer(run).await.unwrap() as i32;
        Self { database, session, run, desks: Cell::new(0) }
    }

    async fn clinic() -> Self {
        Self::of(common::seeded().await).await
    }

    async fn residency() -> Self {
        Self::of(common::residency(None).await).await
    }

    async fn desk(&self, strategy: Strategy, change: impl FnOnce(&mut Settings)) -> Desk {
        self.desks.update(|n| n + 1);
        let mut settings = Settings {
            options: self.database.options.clone(),
            sessions: 6,
            name: format!("dbstress/serve-{}", self.run),
            strategy,
            bug: None,
            mistakes: Mistakes::default(),
            hold: Duration::ZERO,
            keys: KEYS,
            retry: Retry::default(),
            run: self.run,
            thread: self.desks.get(),
            as_of: "2026-01-15 12:00:00".into(),
            dataset: Dataset::Clinic,
        };
        change(&mut settings);
        Desk::open(settings).await.unwrap()
    }

    async fn homes(&mut self) -> [Home; 2] {
        let sql = "SELECT organisation_id, min(id) FROM dbstress.practitioner GROUP BY 1 ORDER BY 1 LIMIT 2";
        let rows = self.session.rows(sql).await.unwrap();
        [0, 1].map(|i| {
            let [organisation, practitioner] = [0, 1].map(|k| rows[i][k].as_deref().unwrap().parse().unwrap());
            Home { organisation, practitioner }
        })
    }

    /// A new authorisation of so many units.
    async fn authorisation(&mut self, home: Home, total: i32, is_guarded: bool) -> i64 {
        let sql = format!(
            "INSERT INTO dbstress.authorisation (id, organisation_id, patient_id, service_code_id, number, total, start_date, end_date, guarded, run_id) \
             SELECT m.id, {}, (SELECT min(id) FROM dbstress.patient WHERE organisation_id = {0}), (SELECT min(id) FROM dbstress.service_code), \
               'T-' || m.id, {total}, '2026-01-01', '2027-01-01', {is_guarded}, {} FROM (SELECT max(id) + 1 AS id FROM dbstress.authorisation) m RETURNING id",
            home.organisation, self.run
        );
        self.session.integer(&sql).await.unwrap()
    }

    async fn integer(&mut self, sql: &str) -> i64 {
        self.session.integer(sql).await.unwrap()
    }

    /// The rules that are broken now, and those that were kept by something.
    async fn judged(&mut self) -> (Vec<String>, Vec<String>) {
        let invariants: Vec<_> = invariant::built_in().unwrap().into_iter().filter(|i| i.is_about("clinic")).collect();
        let checked = run_all(&mut self.session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_secs(60)).await;
        let (mut broken, mut kept) = (Vec::new(), Vec::new());
        for checked in checked {
            match checked.finding {
                Finding::Violated { .. } => broken.push(checked.name),
                Finding::Holds { .. } => kept.push(checked.name),
                Finding::Vacuous => {}
                Finding::Errored(why) => panic!("{}: {why}", checked.name),
            }
        }
        (broken, kept)
    }

    /// Waits until one of the desk's sessions waits for a lock; its process.
    async fn waiting(&mut self) -> i64 {
        let sql = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE application_name LIKE 'dbstress/serve-%' AND wait_event_type = 'Lock' \
                   AND datname = current_database()";
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.integer(sql).await {
                0 => assert!(Instant::now() < deadline, "nobody waits"),
                pid => return pid,
            }
            tokio::task::yield_now().await;
        }
    }
}

fn order(who: Caller, ask: Ask) -> Order {
    Order { ask, who, grant: None, operation: None, deadline: Instant::now() + PATIENCE }
}

fn book(kind: OperationKind, units: i32, authorisation: i64) -> Ask {
    Ask::Book { kind, units, authorisation, key: None }
}

fn create(home: Home, authorisation: i64) -> Ask {
    Ask::Appoint(Appoint::Create { authorisation, practitioner: home.practitioner, starts_at: NINE, ends_at: TEN })
}

/// Everybody asks for the same at once.
async fn all_ask(desk: &Desk, who: Caller, ask: &Ask, times: usize) -> Vec<Reply> {
    join_all((0..times).map(|_| desk.ask(order(who, ask.clone())))).await
}

fn appointment(reply: &Reply) -> Option<Value> {
    match &reply.done {
        Done::Appointment(json) => Some(serde_json::from_str(json).unwrap()),
        _ => None,
    }
}

/// How attempts failed that were made again, and how often.
fn alike(reply: &Reply) -> Vec<(Abort, u32)> {
    reply.failed.iter().map(|((abort, _), times)| (*abort, *times)).collect()
}

fn seen(reply: &Reply) -> Value {
    let Done::Seen(json) = &reply.done else { panic!("{reply:?}") };
    serde_json::from_str(json).unwrap()
}

/// One contest of each kind: how many of two got the last units, of two completed it, of three cancelled one; all others must be told why not.
async fn contests(bench: &mut Bench, desk: &Desk, home: Home, is_guarded: bool) -> [usize; 3] {
    let who = home.caller();
    let count = |replies: &[Reply], refused: &Done| {
        let made = replies.iter().filter(|reply| appointment(reply).is_some()).count();
        let others: Vec<&Done> =
            replies.iter().map(|reply| &reply.done).filter(|done| !matches!(done, Done::Appointment(_))).collect();
        assert!(others.iter().all(|done| *done == refused), "{others:?}");
        made
    };
    // Four units are free, and each takes four.
    let contested = bench.authorisation(home, 4, is_guarded).await;
    let made = all_ask(desk, who, &create(home, contested), 2).await;
    let winners = count(&made, &Done::Refused(Refusal::InsufficientUnits));
    let first = made.iter().find_map(appointment).unwrap();
    assert_eq!(
        (&first["status"], &first["reserved_units"], &first["starts_at"]),
        (&"SCHEDULED".into(), &4.into(), &"2026-06-01T09:00:00Z".into())
    );
    let id = first["id"].as_i64().unwrap();
    let completed = count(&all_ask(desk, who, &Ask::Appoint(Appoint::Complete(id)), 2).await, &Done::NotLive);
    // Room for more than one: nothing but the appointment says that it has ended.
    let roomy = bench.authorisation(home, 40, is_guarded).await;
    assert!(matches!(desk.ask(order(who, book(Reserve, 20, roomy))).await.done, Done::Booked(_)));
    let made = desk.ask(order(who, create(home, roomy))).await;
    let id = appointment(&made).unwrap()["id"].as_i64().unwrap();
    let cancelled = count(&all_ask(desk, who, &Ask::Appoint(Appoint::Cancel(id)), 3).await, &Done::NotLive);
    [winners, completed, cancelled]
}

#[tokio::test]
async fn an_appointment_is_made_and_ended_once_under_every_strategy_that_claims_to_be_safe() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    LocalSet::new()
        .run_until(async {
            for strategy in Strategy::safe(Hazard::LostUpdate) {
                let desk = bench.desk(strategy, |settings| settings.hold = Duration::from_millis(1)).await;
                for _ in 0..6 {
                    let ended = contests(&mut bench, &desk, home, strategy.needs_guard()).await;
                    assert_eq!(ended, [1, 1, 1], "{}", strategy.name());
                }
                desk.close().await;
            }
        })
        .await;
    let (broken, kept) = bench.judged().await;
    assert_eq!(broken, [""; 0]);
    for name in ["appointments-in-ledger", "one-session-per-completion", "organisation-of-appointment", "ledger-replays"] {
        assert!(kept.iter().any(|kept| kept == name), "{name} looked at nothing: {kept:?}");
    }
    let sessions = bench.integer("SELECT count(*) FROM dbstress.treatment_session WHERE units = 4").await;
    assert_eq!(sessions, 6 * Strategy::safe(Hazard::LostUpdate).count() as i64);
}

#[tokio::test]
async fn whoever_checks_and_then_acts_ends_an_appointment_twice_and_is_found_out() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let mut most = [0; 3];
    LocalSet::new()
        .run_until(async {
            // The mistake is made whatever the strategy is said to be.
            let desk = bench
                .desk(Strategy::Serializable, |settings| {
                    settings.bug = Some(Bug::CheckThenAct);
                    settings.hold = Duration::from_millis(10);
                })
                .await;
            for _ in 0..100 {
                let ended = contests(&mut bench, &desk, home, false).await;
                for (most, ended) in most.iter_mut().zip(ended) {
                    *most = ended.max(*most);
                }
                if most.iter().all(|most| *most > 1) {
                    break;
                }
            }
            desk.close().await;
        })
        .await;
    assert!(most.iter().all(|most| *most > 1), "{most:?}");
    let (broken, _) = bench.judged().await;
    for name in ["units-within-total", "appointments-are-promised", "appointments-in-ledger", "one-session-per-completion"] {
        assert!(broken.iter().any(|broken| broken == name), "{name} did not fire: {broken:?}");
    }
    let said = bench.integer("SELECT count(DISTINCT strategy) FROM dbstress.unit_ledger WHERE strategy = 'serializable'").await;
    assert_eq!(said, 1, "what is said to protect is what was asked for");
}

#[tokio::test]
async fn an_appointment_is_of_one_organisation_and_ends_in_the_rules_of_bookings() {
    let mut bench = Bench::clinic().await;
    let [home, other] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Serializable, |_| {}).await;
            let done = async |who: Caller, ask: Ask| desk.ask(order(who, ask)).await.done;
            let refused = Done::Refused;
            assert_eq!(done(other.caller(), create(other, authorisation)).await, refused(Refusal::WrongOrganisation));
            // Somebody else's practitioner, and nobody.
            assert_eq!(done(home.caller(), create(other, authorisation)).await, refused(Refusal::WrongOrganisation));
            let nobody = Home { practitioner: -1, ..home };
            assert_eq!(done(home.caller(), create(nobody, authorisation)).await, refused(Refusal::NotFound));
            assert_eq!(done(home.caller(), create(home, -1)).await, refused(Refusal::NotFound));
            let made = desk.ask(order(home.caller(), create(home, authorisation))).await;
            let id = appointment(&made).unwrap()["id"].as_i64().unwrap();
            let (cancel, complete) = (Ask::Appoint(Appoint::Cancel(id)), Ask::Appoint(Appoint::Complete(id)));
            assert_eq!(done(other.caller(), cancel.clone()).await, refused(Refusal::WrongOrganisation));
            assert_eq!(done(home.caller(), Ask::Appoint(Appoint::Cancel(-1))).await, refused(Refusal::NotFound));
            assert_eq!(done(other.caller(), Ask::View(View::Appointment(id))).await, refused(Refusal::NotFound));
            assert_eq!(seen(&desk.ask(order(home.caller(), Ask::View(View::Appointment(id)))).await)["status"], "SCHEDULED");
            // Its units were released by somebody who did not ask whose they were.
            assert!(matches!(done(home.caller(), book(Release, 1, authorisation)).await, Done::Booked(_)));
            assert_eq!(done(home.caller(), complete.clone()).await, refused(Refusal::NotScheduled));
            assert!(matches!(done(home.caller(), book(Reserve, 1, authorisation)).await, Done::Booked(_)));
            // An administrator acts for the organisation that it is about.
            let admin = Caller { organisation: None, actor: 0 };
            assert!(matches!(done(admin, complete.clone()).await, Done::Appointment(_)));
            assert_eq!(done(admin, complete).await, Done::NotLive);
            assert_eq!(done(home.caller(), cancel).await, Done::NotLive);
            assert_eq!(seen(&desk.ask(order(admin, Ask::View(View::Appointment(id)))).await)["status"], "COMPLETED");
            desk.close().await;
        })
        .await;
    assert_eq!(bench.judged().await.0, [""; 0]);
    let after = format!("SELECT used * 100 + scheduled FROM dbstress.authorisation WHERE id = {authorisation}");
    assert_eq!(bench.integer(&after).await, 400);
}

#[tokio::test]
async fn units_are_booked_as_the_caller_and_a_key_is_answered_once() {
    let mut bench = Bench::clinic().await;
    let [home, other] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Atomic, |settings| settings.keys.in_flight = InFlight::Refuse).await;
            let keyed = |units, key: &str| Ask::Book { kind: Reserve, units, authorisation, key: Some((key.into(), 0)) };
            let first = desk.ask(order(home.caller(), keyed(4, "a"))).await;
            let Done::Booked(applied) = first.done else { panic!("{first:?}") };
            assert_eq!((applied.version, applied.scheduled, applied.total, first.attempts), (1, 4, 10, 1));
            assert_eq!(first.operation, Some(OpId::new(bench.run, 1, 0)));
            let again = desk.ask(order(home.caller(), keyed(4, "a"))).await;
            assert_eq!(again.done, Done::Replayed(applied));
            let mismatch = desk.ask(order(home.caller(), keyed(5, "a"))).await.done;
            assert_eq!(mismatch, Done::Refused(Refusal::KeyMismatch));
            let too_many = desk.ask(order(home.caller(), keyed(7, "b"))).await.done;
            assert_eq!(too_many, Done::Refused(Refusal::InsufficientUnits));
            // What is refused is not stored.
            assert!(matches!(desk.ask(order(home.caller(), keyed(6, "b"))).await.done, Done::Booked(_)));
            // A key that somebody holds who has not ended.
            bench.session.execute("BEGIN").await.unwrap();
            let hold = format!("SELECT pg_advisory_xact_lock(hashtext('{} reserve'), hashtext('c'))", home.organisation);
            bench.session.execute(&hold).await.unwrap();
            assert_eq!(desk.ask(order(home.caller(), keyed(1, "c"))).await.done, Done::InFlight);
            bench.session.execute("ROLLBACK").await.unwrap();
            let done = async |who: Caller, ask| desk.ask(order(who, ask)).await.done;
            assert_eq!(done(other.caller(), book(Release, 1, authorisation)).await, Done::Refused(Refusal::WrongOrganisation));
            assert_eq!(done(home.caller(), book(Release, 11, authorisation)).await, Done::Refused(Refusal::NotScheduled));
            let admin = Caller { organisation: None, actor: 0 };
            assert_eq!(done(admin, book(Reserve, 1, -1)).await, Done::Refused(Refusal::NotFound));
            assert!(matches!(done(admin, book(Consume, 10, authorisation)).await, Done::Booked(_)));
            desk.close().await;
        })
        .await;
    assert_eq!(bench.judged().await.0, [""; 0]);
    let status = format!("SELECT status FROM dbstress.authorisation WHERE id = {authorisation}");
    assert_eq!(bench.session.text(&status).await.unwrap().as_deref(), Some("EXHAUSTED"));
}

#[tokio::test]
async fn conflicts_are_tried_again_and_told_and_numbered() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Serializable, |settings| settings.hold = Duration::from_millis(2)).await;
            let grant =
                Arc::new(Grant { run: bench.run, schema: "dbstress", strategy: None, bug: None, hold: Duration::ZERO, keys: None });
            let mut n = 0;
            let deadline = Instant::now() + PATIENCE;
            let retried = loop {
                let authorisation = bench.authorisation(home, 100, false).await;
                let replies = join_all((0..6).map(|_| {
                    n += 1;
                    let order = order(home.caller(), book(Reserve, 1, authorisation));
                    desk.ask(Order { grant: Some(grant.clone()), operation: Some((OpId::new(bench.run, 40, n), 2)), ..order })
                }))
                .await;
                assert!(replies.iter().all(|reply| matches!(reply.done, Done::Booked(_))), "{replies:?}");
                for reply in &replies {
                    let failed: u32 = reply.failed.iter().map(|(_, times)| times).sum();
                    assert_eq!(failed + 1, u32::from(reply.attempts), "{reply:?}");
                    // The server's attempts at the client's second.
                    let line = format!("SELECT attempt FROM dbstress.unit_ledger WHERE op_id = {}", reply.operation.unwrap().0);
                    assert_eq!(bench.integer(&line).await, 64 + i64::from(reply.attempts));
                }
                if let Some(reply) = replies.into_iter().find(|reply| reply.attempts > 1) {
                    break reply;
                }
                assert!(Instant::now() < deadline, "nobody met anybody");
            };
            let ((abort, routine), _) = &retried.failed[0];
            assert_eq!(*abort, Abort::SerializationFailure);
            assert!(routine.is_some(), "the server's own routine");
            desk.close().await;
        })
        .await;
    assert_eq!(bench.judged().await.0, [""; 0]);
}

#[tokio::test]
async fn when_no_attempt_is_left_it_is_said_that_it_was_not_done() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::ForUpdateNowait, |settings| settings.sessions = 1).await;
            let locks = format!("BEGIN; SELECT FROM dbstress.authorisation WHERE id = {authorisation} FOR UPDATE");
            bench.session.execute(&locks).await.unwrap();
            let spent = desk.ask(order(home.caller(), book(Reserve, 1, authorisation))).await;
            assert_eq!((&spent.done, spent.attempts), (&Done::Spent(Abort::LockNotAvailable), 64));
            assert_eq!(alike(&spent), [(Abort::LockNotAvailable, 63)], "those that were made again");
            bench.session.execute("COMMIT").await.unwrap();
            desk.close().await;

            // Who waits for a lock longer than the request may take is called off, and whoever waits for the session is not served.
            let desk = bench.desk(Strategy::ForUpdate, |settings| settings.sessions = 1).await;
            bench.session.execute(&locks).await.unwrap();
            let soon = Order {
                deadline: Instant::now() + Duration::from_millis(50),
                ..order(home.caller(), book(Reserve, 1, authorisation))
            };
            let second = Order { deadline: Instant::now(), ..soon.clone() };
            let (first, second) = tokio::join!(desk.ask(soon), desk.ask(second));
            assert_eq!((first.done, first.attempts), (Done::Unavailable, 1));
            assert_eq!((second.done, second.attempts), (Done::Unavailable, 0));
            bench.session.execute("COMMIT").await.unwrap();
            assert!(matches!(desk.ask(order(home.caller(), book(Reserve, 2, authorisation))).await.done, Done::Booked(_)));
            desk.close().await;
        })
        .await;
    assert_eq!(bench.integer(&format!("SELECT scheduled FROM dbstress.authorisation WHERE id = {authorisation}")).await, 2);
}

#[tokio::test]
async fn a_session_that_is_killed_costs_an_attempt_and_at_commit_the_certainty() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::ForUpdate, |_| {}).await;
            let locks = format!("BEGIN; SELECT FROM dbstress.authorisation WHERE id = {authorisation} FOR UPDATE");
            bench.session.execute(&locks).await.unwrap();
            let asking = tokio::task::spawn_local({
                let (desk, order) = (desk.clone(), order(home.caller(), book(Reserve, 1, authorisation)));
                async move { desk.ask(order).await }
            });
            let pid = bench.waiting().await;
            bench.integer(&format!("SELECT pg_terminate_backend({pid})::int")).await;
            bench.session.execute("COMMIT").await.unwrap();
            let reply = asking.await.unwrap();
            assert!(matches!(reply.done, Done::Booked(_)), "{reply:?}");
            assert_eq!((reply.attempts, alike(&reply)), (2, vec![(Abort::ConnectionLost, 1)]));

            // A COMMIT that waits.
            bench
                .session
                .execute(
                    "CREATE FUNCTION public.waits() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END'; \
                     CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON dbstress.unit_ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                     EXECUTE FUNCTION public.waits(); SELECT pg_advisory_lock(77)",
                )
                .await
                .unwrap();
            let asking = tokio::task::spawn_local({
                let (desk, order) = (desk.clone(), order(home.caller(), book(Reserve, 1, authorisation)));
                async move { desk.ask(order).await }
            });
            let pid = bench.waiting().await;
            bench.integer(&format!("SELECT pg_terminate_backend({pid})::int")).await;
            let reply = asking.await.unwrap();
            assert_eq!((reply.done, reply.attempts), (Done::Unknown, 1), "it is not made again");
            bench.session.execute("SELECT pg_advisory_unlock(77); DROP TRIGGER waits ON dbstress.unit_ledger").await.unwrap();
            let line = format!("SELECT count(*) FROM dbstress.unit_ledger WHERE op_id = {}", reply.operation.unwrap().0);
            assert_eq!(bench.integer(&line).await, 0);
            // The session is not used again, and others are.
            assert!(matches!(desk.ask(order(home.caller(), book(Reserve, 1, authorisation))).await.done, Done::Booked(_)));
            desk.close().await;
        })
        .await;
    assert_eq!(bench.judged().await.0, [""; 0]);
}

#[tokio::test]
async fn what_was_taken_is_done_though_nobody_waits_for_it() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::ForUpdate, |_| {}).await;
            let locks = format!("BEGIN; SELECT FROM dbstress.authorisation WHERE id = {authorisation} FOR UPDATE");
            bench.session.execute(&locks).await.unwrap();
            let asking = tokio::task::spawn_local({
                let (desk, order) = (desk.clone(), order(home.caller(), book(Reserve, 3, authorisation)));
                async move { desk.ask(order).await }
            });
            bench.waiting().await;
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
            // Closing waits for it, and takes nothing more.
            let closing = tokio::task::spawn_local(desk.clone().close());
            within(PATIENCE, "the desk closes", || desk.is_closed()).await;
            assert_eq!(desk.ask(order(home.caller(), book(Reserve, 1, authorisation))).await.done, Done::Unavailable);
            assert!(!closing.is_finished());
            bench.session.execute("COMMIT").await.unwrap();
            closing.await.unwrap();
        })
        .await;
    assert_eq!(bench.integer(&format!("SELECT scheduled FROM dbstress.authorisation WHERE id = {authorisation}")).await, 3);
    let left =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbstress/serve-%' AND datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while bench.integer(left).await > 0 {
        assert!(Instant::now() < deadline, "sessions are left");
    }
}

#[tokio::test]
async fn what_is_said_to_be_done_before_it_is_goes_missing() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 1000, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Atomic, |settings| settings.mistakes.ok_before_commit = true).await;
            let mut said = BTreeSet::new();
            for _ in 0..200 {
                let reply = desk.ask(order(home.caller(), book(Reserve, 1, authorisation))).await;
                assert!(matches!(reply.done, Done::Booked(_)), "{reply:?}");
                said.insert(reply.operation.unwrap().0);
            }
            desk.close().await;
            let rows = bench.session.rows("SELECT op_id FROM dbstress.unit_ledger").await.unwrap();
            let there: BTreeSet<i64> = rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
            assert!(there.is_subset(&said) && there.len() < said.len() && there.len() > 100, "{} of {}", there.len(), said.len());
        })
        .await;
    assert_eq!(bench.judged().await.0, [""; 0], "the rows alone look right");
}

#[tokio::test]
async fn a_grant_and_an_account_are_found_and_only_a_grant_opens_the_rows_of_a_control() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 10, false).await;
    control::prepare(&mut bench.session).await.unwrap();
    let sql = format!(
        "INSERT INTO dbstress_control.authorisation SELECT * FROM dbstress.authorisation WHERE id = {authorisation}; \
         INSERT INTO dbstress.run_grant (secret_hash, run_id, schema_name, strategy, hold_ms, in_flight, lifetime_s) \
         VALUES ('abc', 0, 'dbstress_control', 'naive-set', 5, 'refuse', 60), ('def', {}, 'dbstress', NULL, 0, NULL, NULL)",
        bench.run
    );
    bench.session.execute(&sql).await.unwrap();
    let there = accounts::ensure(&mut bench.session, Dataset::Clinic, "first").await.unwrap();
    assert_eq!(accounts::ensure(&mut bench.session, Dataset::Clinic, "hash").await.unwrap(), there);
    assert_eq!(bench.integer("SELECT count(*) FROM dbstress.account WHERE password_hash = 'hash'").await, there as i64);
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Serializable, |_| {}).await;
            let granted = async |digest: &str| match desk.ask(order(home.caller(), Ask::Grant(digest.into()))).await.done {
                Done::Granted(grant) => grant,
                other => panic!("{other:?}"),
            };
            assert_eq!(granted("xyz").await, None);
            let own = Grant { run: bench.run, schema: "dbstress", strategy: None, bug: None, hold: Duration::ZERO, keys: None };
            assert_eq!(granted("def").await.as_deref(), Some(&own));
            let control = granted("abc").await.unwrap();
            let keys = Keys { in_flight: InFlight::Refuse, lifetime: Duration::from_secs(60), cleanup: 0 };
            assert_eq!(
                (control.strategy, control.hold, control.keys),
                (Some(Strategy::NaiveSet), Duration::from_millis(5), Some(keys))
            );
            let op = OpId::new(0, 1, 1);
            let ask = Order {
                grant: Some(control.clone()),
                operation: Some((op, 1)),
                ..order(home.caller(), book(Reserve, 2, authorisation))
            };
            assert!(matches!(desk.ask(ask).await.done, Done::Booked(_)));
            let ask = Order { grant: Some(control), operation: Some((op, 1)), ..order(home.caller(), create(home, authorisation)) };
            assert_eq!(desk.ask(ask).await.done, Done::Refused(Refusal::NotFound), "controls have no appointments");
            let account = async |login: &str| match desk.ask(order(home.caller(), Ask::Account(login.into()))).await.done {
                Done::Account(account) => account,
                other => panic!("{other:?}"),
            };
            let admin = account("admin@example.com").await.unwrap();
            assert_eq!((&*admin.password_hash, &*admin.role, admin.organisation, admin.actor), ("hash", "admin", None, None));
            let login = format!("practitioner-{}@org-{}.example.com", home.practitioner, home.organisation);
            let practitioner = account(&login).await.unwrap();
            assert_eq!(
                (&*practitioner.role, practitioner.organisation, practitioner.actor),
                ("practitioner", Some(home.organisation), Some(home.practitioner))
            );
            assert_eq!(account("nobody@example.com").await, None);
            assert_eq!(account("admin@example.com\0").await, None);
            desk.close().await;
        })
        .await;
    let line = "SELECT count(*) FROM dbstress_control.unit_ledger WHERE run_id = 0 AND strategy = 'naive-set' AND units = 2";
    assert_eq!(bench.integer(line).await, 1);
    assert_eq!(bench.integer("SELECT count(*) FROM dbstress.unit_ledger").await, 0, "nothing of it is among the others");
}

#[tokio::test]
async fn whoever_looks_sees_what_is_theirs() {
    let mut bench = Bench::clinic().await;
    let [home, other] = bench.homes().await;
    let foreign = bench.authorisation(other, 9, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Serializable, |_| {}).await;
            let see = async |who: Caller, view: View| desk.ask(order(who, Ask::View(view))).await;
            let page = |after| View::Authorisations(Page { after, limit: 3 });
            let first = seen(&see(home.caller(), page(0)).await);
            let items = first["items"].as_array().unwrap();
            assert_eq!(items.len(), 3);
            assert!(items.iter().all(|item| item["organisation"] == home.organisation), "{first}");
            assert_eq!(first["next"], items[2]["id"]);
            let second = seen(&see(home.caller(), page(first["next"].as_i64().unwrap())).await);
            assert!(second["items"][0]["id"].as_i64() > items[2]["id"].as_i64());
            let last = seen(&see(other.caller(), page(foreign - 1)).await);
            assert_eq!((last["items"].as_array().unwrap().len(), &last["next"]), (1, &Value::Null));
            let admin = Caller { organisation: None, actor: 0 };
            let of: BTreeSet<i64> = seen(&see(admin, View::Authorisations(Page { after: 0, limit: 100 })).await)["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["organisation"].as_i64().unwrap())
                .collect();
            assert!(of.len() > 1, "{of:?}");
            for view in [View::Authorisation(foreign), View::Availability(foreign)] {
                assert_eq!(see(home.caller(), view).await.done, Done::Refused(Refusal::NotFound));
                let theirs = seen(&see(other.caller(), view).await);
                assert_eq!((&theirs["available"], &theirs["status"]), (&9.into(), &"ACTIVE".into()));
                assert_eq!(seen(&see(admin, view).await), theirs);
            }
            desk.close().await;

            // The mistakes are seen.
            let no_check = bench.desk(Strategy::Serializable, |settings| settings.mistakes.no_tenant_check = true).await;
            assert_eq!(
                seen(&no_check.ask(order(home.caller(), Ask::View(View::Authorisation(foreign)))).await)["organisation"],
                other.organisation
            );
            assert!(matches!(no_check.ask(order(home.caller(), book(Reserve, 1, foreign))).await.done, Done::Booked(_)));
            no_check.close().await;
            let left = bench.desk(Strategy::Serializable, |settings| settings.mistakes.tenant_left_behind = true).await;
            let mut strangers = 0;
            for k in 0..14 {
                let whose = if k % 2 == 0 { home } else { other };
                let shown = seen(&left.ask(order(whose.caller(), Ask::View(page(0)))).await);
                strangers += usize::from(shown["items"][0]["organisation"] != whose.organisation);
            }
            assert_eq!(strangers, 2, "every seventh");
            left.close().await;
        })
        .await;
}

#[tokio::test]
async fn a_schedule_is_shown_and_changed_by_those_whose_it_is() {
    let mut bench = Bench::residency().await;
    // A second programme, with one of everything.
    bench
        .session
        .execute(
            "INSERT INTO dbstress.programme (id, name) VALUES (900, 'Other'); \
             INSERT INTO dbstress.person (id, programme_id, given_name, family_name, email, kind, pgy) VALUES (900, 900, 'A', 'B', 'a@b', 'resident', 2); \
             INSERT INTO dbstress.block (id, programme_id, date, half, number, is_weekend) VALUES (9000000, 900, '2026-06-01', 'AM', 0, false); \
             INSERT INTO dbstress.rotation_template (id, programme_id, name, abbreviation, activity, supervision_required) \
               VALUES (90000, 900, 'Clinic', 'C', 'clinic', false)",
        )
        .await
        .unwrap();
    let programme = bench.integer("SELECT min(id) FROM dbstress.programme WHERE id <> 900").await;
    let resident =
        bench.integer(&format!("SELECT min(id) FROM dbstress.person WHERE kind = 'resident' AND programme_id = {programme}")).await;
    let logins = accounts::ensure(&mut bench.session, Dataset::Residency, "hash").await.unwrap();
    assert!(logins > 3);
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Serializable, |settings| settings.dataset = Dataset::Residency).await;
            let (own, other) = (Caller { organisation: Some(programme), actor: resident }, Caller { organisation: Some(900), actor: 900 });
            let see = async |who: Caller, view: View| desk.ask(order(who, Ask::View(view))).await;
            let page = Page { after: 0, limit: 50 };
            let kinds = |kind| View::People { kind, page };
            let people = seen(&see(own, kinds(Some("faculty"))).await);
            assert!(people["items"].as_array().unwrap().iter().all(|person| person["kind"] == "faculty" && person["programme"] == programme));
            assert_eq!(seen(&see(other, kinds(None)).await)["items"].as_array().unwrap().len(), 1);
            assert_eq!(seen(&see(own, View::Person(resident)).await)["id"], resident);
            assert_eq!(see(other, View::Person(resident)).await.done, Done::Refused(Refusal::NotFound));
            let june = Days { from: Some(9648), to: Some(9648) };
            let blocks = seen(&see(other, View::Blocks { days: june, limit: 10 }).await);
            assert_eq!((blocks["items"].as_array().unwrap().len(), &blocks["items"][0]["date"]), (1, &"2026-06-01".into()));
            assert_eq!(seen(&see(other, View::Rotations).await)["items"][0]["id"], 90_000);
            let mine = View::Assignments { person: Some(resident), days: Days::default(), page };
            let mine = seen(&see(own, mine).await);
            assert!(mine["items"].as_array().unwrap().iter().all(|assignment| assignment["person"] == resident) && mine["items"][0].is_object());
            let everybodys = View::Assignments { person: None, days: Days::default(), page };
            assert_eq!(seen(&see(other, everybodys).await)["items"], Value::Array(Vec::new()));
            assert_eq!(seen(&see(own, everybodys).await)["items"].as_array().unwrap().len(), 50);

            let assign = |programme, person, block, template| {
                Ask::Change(Proposal { programme, contest: Contest::Seats, change: Change::Assign { person, block, template } })
            };
            let done = async |who: Caller, ask: Ask| desk.ask(order(who, ask)).await;
            let refused = Done::Refused;
            // Somebody else's programme; one's own, and somebody else's rows; nobody's rows.
            assert_eq!(done(own, assign(900, 900, 9_000_000, 90_000)).await.done, refused(Refusal::WrongOrganisation));
            assert_eq!(done(own, assign(programme, resident, 9_000_000, 90_000)).await.done, refused(Refusal::WrongOrganisation));
            assert_eq!(done(other, assign(900, 900, 9_000_000, -1)).await.done, refused(Refusal::NotFound));
            let made = done(other, assign(900, 900, 9_000_000, 90_000)).await;
            assert_eq!(made.done, Done::Changed);
            assert!(made.began > 0);
            assert_eq!(done(other, assign(900, 900, 9_000_000, 90_000)).await.done, refused(Refusal::AlreadySo));
            let assignment = bench.integer("SELECT id FROM dbstress.assignment WHERE person_id = 900").await;
            let cancel = |person, assignment| {
                let change = Change::Cancel { person, block: 9_000_000, assignment };
                Ask::Change(Proposal { programme: 900, contest: Contest::Supervision, change })
            };
            let strange = mine["items"][0]["id"].as_i64().unwrap();
            assert_eq!(done(other, cancel(900, strange)).await.done, refused(Refusal::NotHeld), "another one's assignment stays");
            assert_eq!(done(other, cancel(900, -1)).await.done, refused(Refusal::NotFound));
            assert_eq!(done(own, cancel(900, assignment)).await.done, refused(Refusal::WrongOrganisation));
            let swap = Change::Swap { from: 900, to: resident, source: assignment, target: None };
            let swap = Ask::Change(Proposal { programme: 900, contest: Contest::Swap, change: swap });
            assert_eq!(done(other, swap).await.done, refused(Refusal::WrongOrganisation));
            assert_eq!(done(other, cancel(900, assignment)).await.done, Done::Changed);
            assert_eq!(done(other, cancel(900, assignment)).await.done, refused(Refusal::AlreadySo));
            let call = |person| {
                let change = Change::Call { person, night: 9648, kind: CallKind::Overnight };
                Ask::Change(Proposal { programme: 900, contest: Contest::Hours, change })
            };
            assert_eq!(done(other, call(resident)).await.done, refused(Refusal::WrongOrganisation));
            assert_eq!(done(other, call(900)).await.done, Done::Changed);
            assert_eq!(done(other, call(900)).await.done, refused(Refusal::AlreadySo));

            // What the rules find: nothing in what was seeded, and somebody who works while away.
            let clean = seen(&see(own, View::Compliance(Days::default())).await);
            assert_eq!((&clean["violations"], &clean["items"]), (&0.into(), &Value::Array(Vec::new())));
            bench
                .session
                .execute("INSERT INTO dbstress.absence (person_id, starts_on, ends_on, kind) VALUES (900, '2026-05-31', '2026-06-03', 'deployment')")
                .await
                .unwrap();
            let found = seen(&see(other, View::Compliance(Days::default())).await);
            assert_eq!((&found["violations"], &found["items"][0]["person"]), (&1.into(), &900.into()), "{found}");
            assert_eq!(seen(&see(other, View::Compliance(Days { from: Some(9700), to: None })).await)["violations"], 0);
            assert_eq!(seen(&see(own, View::Compliance(Days::default())).await)["violations"], 0, "of another programme");
            desk.close().await;
        })
        .await;
    let ledger = "SELECT count(*) FROM dbstress.schedule_ledger WHERE programme_id = 900";
    assert_eq!(bench.integer(ledger).await, 3, "put down, taken off, on call");
}

#[tokio::test]
async fn a_session_that_has_prepared_for_many_runs_is_exchanged() {
    let mut bench = Bench::clinic().await;
    let [home, _] = bench.homes().await;
    let authorisation = bench.authorisation(home, 100, false).await;
    LocalSet::new()
        .run_until(async {
            let desk = bench.desk(Strategy::Atomic, |settings| settings.sessions = 1).await;
            let mut backends = BTreeSet::new();
            for run in 1..20 {
                let grant =
                    Arc::new(Grant { run, schema: "dbstress", strategy: None, bug: None, hold: Duration::ZERO, keys: None });
                let order = order(home.caller(), book(Reserve, 1, authorisation));
                let reply = desk.ask(Order { grant: Some(grant), operation: Some((OpId::new(run, 0, 0), 1)), ..order }).await;
                assert!(matches!(reply.done, Done::Booked(_)), "{reply:?}");
                backends.insert(bench.integer(&format!("SELECT backend_pid FROM dbstress.unit_ledger WHERE run_id = {run}")).await);
            }
            assert_eq!(backends.len(), 3, "eight runs each");
            desk.close().await;
        })
        .await;
}
