//! Does every strategy keep what it promises: as many winners as there is room for, every refusal for its reason, and the unsafe ones
//! caught? On a real PostgreSQL.

mod common;

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use common::{TestDatabase, iterations, rounds};
use dbstress::audit::Breach;
use dbstress::history::{Applied, OpId, OperationKind};
use dbstress::invariant::{self, DEFAULT_SEARCH_PATH, Finding, When, run_all};
use dbstress::outcome::{Abort, OutcomeClass, Refusal};
use dbstress::pg::admin::{Session, identifier};
use dbstress::pg::load::{Connection, Ending, Isolation, Phase, Tx};
use dbstress::plan::{HAZARD, Load, Plan};
use dbstress::record::{RunRecord, TurnRecord};
use dbstress::run::stock::{Clinic, Size, Stock, clinics};
use dbstress::strategy::{Decision, Strategy};
use dbstress::verdict::Verdict;
use dbstress::workload::booking::{Actor, Booking, Place, Proposal, Statements};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use OperationKind::{Consume, Release, Reserve};

const AS_OF: &str = "2026-01-15 12:00:00";

fn safe() -> Vec<Strategy> {
    Strategy::safe(HAZARD).collect()
}

/// Every kind of operation that asks for units.
const ASKING: [OperationKind; 3] = [Reserve, Release, Consume];

/// Twenty VUs, room for five of them, twenty rounds; `hold` is the time between reading and writing.
fn plan(strategies: Vec<Strategy>, hold: Duration) -> Plan {
    common::plan("contention", |plan, booking| {
        plan.load = rounds(20, 20);
        booking.strategies = strategies;
        booking.hold = hold;
    })
}

async fn run_on(database: &TestDatabase, plan: Plan) -> RunRecord {
    common::run_plan(&database.options, &common::Place::new(), plan).await
}

/// Runs one strategy whose own fault, or whose database's, must be found.
async fn turn_on(database: &TestDatabase, plan: Plan) -> TurnRecord {
    let mut record = run_on(database, plan).await;
    assert_eq!(record.turns.len(), 1, "{:?}", record.reasons);
    record.turns.remove(0)
}

fn strategy(turn: &TurnRecord) -> Strategy {
    Strategy::from_name(&turn.name).unwrap()
}

fn is_violated(turn: &TurnRecord, name: &str) -> bool {
    let checked = turn.invariants.iter().find(|c| c.name == name).unwrap();
    matches!(&checked.finding, Finding::Violated { rows, .. } if !rows.is_empty())
}

fn refused(turn: &TurnRecord, refusal: Refusal) -> u64 {
    turn.counts.refused.get(&refusal).copied().unwrap_or(0)
}

async fn assert_invariants_hold(session: &mut Session) {
    let invariants: Vec<_> = invariant::built_in().unwrap().into_iter().filter(|i| i.is_about("clinic")).collect();
    for checked in run_all(session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_secs(60)).await {
        assert!(matches!(checked.finding, Finding::Holds { .. } | Finding::Vacuous), "{}: {:?}", checked.name, checked.finding);
    }
}

/// Plays rounds of `vus` × reserve `units` of `total` with every safe strategy; in each exactly as many win as there is room for.
async fn contest(vus: u32, units: i32, total: i32, rounds: u64) {
    let database = common::seeded().await;
    let plan = common::plan("contention", |plan, booking| {
        plan.load = common::rounds(vus, rounds);
        booking.strategies = safe();
        booking.total = total;
        booking.operations[0].units = units;
    });
    let winners = u64::from(plan.round().unwrap().1);
    assert!(winners < u64::from(vus));
    let record = run_on(&database, plan).await;
    let ran: Vec<Strategy> = record.turns.iter().map(strategy).collect();
    assert_eq!(ran, safe(), "{:?}", record.not_run);
    let mut session = database.session().await;
    for turn in &record.turns {
        let name = &turn.name;
        assert!(turn.audit.breaches.is_empty(), "{name}: {:?}", turn.audit.findings);
        assert_ne!(turn.verdict, Verdict::Violated, "{name}: {:?}", turn.reasons);
        assert_eq!((turn.audit.rounds, turn.audit.rounds_short, &turn.audit.incomplete[..]), (rounds, 0, &[][..]), "{name}");
        assert_eq!(turn.audit.classes.acknowledged_present, rounds * winners, "{name}");
        assert_eq!(turn.counts.of(OutcomeClass::Committed), rounds * winners, "{name}");
        assert_eq!(refused(turn, Refusal::InsufficientUnits), rounds * (u64::from(vus) - winners), "{name}");
        let (units, guarded) = (winners as i64 * i64::from(units), strategy(turn).needs_guard());
        let as_it_must_be = format!(
            "SELECT count(*) FILTER (WHERE scheduled = {units} AND used = 0 AND version = {winners} AND status = 'ACTIVE' \
               AND guarded = {guarded} AND lines = {winners} AND promised = {units} AND actors = {winners}) * 1000 + count(*) \
             FROM dbstress.authorisation a, LATERAL (SELECT count(*) AS lines, sum(units) AS promised, count(DISTINCT vu) AS actors \
               FROM dbstress.unit_ledger l WHERE l.authorisation_id = a.id AND l.kind = 'reserve' AND l.strategy = '{name}') l \
             WHERE run_id = {}",
            turn.run
        );
        assert_eq!(session.integer(&as_it_must_be).await.unwrap() as u64, rounds * 1001, "{name}");
    }
    assert_invariants_hold(&mut session).await;
}

#[tokio::test]
async fn fifty_reserve_ten_of_fifty_and_five_win() {
    contest(50, 10, 50, 2).await;
}

#[tokio::test]
async fn ten_reserve_fifteen_of_a_hundred_and_six_win() {
    contest(10, 15, 100, 10).await;
}

#[tokio::test]
async fn three_reserve_ten_of_fifteen_and_one_wins() {
    contest(3, 10, 15, 20).await;
}

#[tokio::test]
async fn one_by_one_in_a_hundred_rounds_no_unit_is_left_over_or_sold_twice() {
    contest(9, 1, 4, 100).await;
}

/// One authorisation, and everybody who wants something of it, each on a connection of their own.
struct Desk {
    options: dbstress::pg::ConnectOptions,
    session: Session,
    clinics: Vec<Clinic>,
    place: Place,
    strategy: Strategy,
    authorisation: i64,
    issued: AtomicU32,
}

/// What somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Applied(Applied),
    Refused(Refusal),
}

impl Told {
    fn is_applied(self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// The authorisation as it is, and what the ledger says about it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    used: i64,
    scheduled: i64,
    status: String,
    lines: i64,
}

impl Desk {
    async fn open(database: &TestDatabase, strategy: Strategy, total: i32) -> Self {
        static RUN: AtomicI32 = AtomicI32::new(1);
        let place =
            Place { schema: "dbstress", run: RUN.fetch_add(1, Ordering::Relaxed), strategy: strategy.name(), as_of: AS_OF.into() };
        let mut session = database.session().await;
        let clinics = clinics(&mut session).await.unwrap();
        let size = Size { most: 1, is_whole: true, total, hot: 0, hot_total: 0 };
        let stock =
            Stock::open(database.session().await, &database.options, &place, &clinics[..1], size, strategy.needs_guard()).await;
        let authorisation = stock.unwrap().base();
        Self { options: database.options.clone(), session, clinics, place, strategy, authorisation, issued: AtomicU32::new(0) }
    }

    /// Everybody at once, each until a definite answer.
    async fn at_once(&self, wanted: &[(OperationKind, i32)]) -> Vec<Told> {
        let ready = Barrier::new(wanted.len());
        join_all(wanted.iter().enumerate().map(async |(vu, (kind, units))| {
            let actor = self.clinics[0].actors[vu % self.clinics[0].actors.len()];
            self.perform(vu as u16, &ready, *kind, *units, actor).await
        }))
        .await
    }

    async fn one(&self, kind: OperationKind, units: i32) -> Told {
        self.at_once(&[(kind, units)]).await[0]
    }

    async fn stranger(&self, kind: OperationKind, units: i32) -> Told {
        self.perform(0, &Barrier::new(1), kind, units, self.clinics[1].actors[0]).await
    }

    async fn perform(&self, vu: u16, ready: &Barrier, kind: OperationKind, units: i32, actor: Actor) -> Told {
        let mut connection = Connection::open(&self.options, "dbstress/test", &[self.strategy.isolation()]).await.unwrap();
        let statements = Statements::prepare(&mut connection, &self.place, None, None).await.unwrap();
        let op_id = OpId::new(self.place.run, vu, self.issued.fetch_add(1, Ordering::Relaxed));
        let is_attack = actor.organisation != self.clinics[0].organisation;
        let proposal = Proposal { kind, units, authorisation: self.authorisation, actor, is_attack, key: None };
        ready.wait().await;
        for attempt in 1.. {
            let booking = Booking { proposal, op_id, attempt, key: None, statements: &statements };
            let phase = Phase::default();
            let mut tx = Tx::begin(&mut connection, self.strategy.isolation(), Duration::ZERO, &phase).await.unwrap();
            let failure = match self.strategy.apply(&mut tx, &booking).await {
                Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                    tx.rollback().await;
                    return Told::Refused(refusal);
                }
                Ok(decision) => match (tx.commit().await, decision) {
                    (Ending::Committed, Decision::Applied(applied)) => return Told::Applied(applied),
                    (Ending::Committed, Decision::Refused(refusal)) => return Told::Refused(refusal),
                    (Ending::NotCommitted(failure), _) => failure,
                    (Ending::Unknown, _) => panic!("{}: COMMIT was not answered", self.strategy.name()),
                },
                Err(failure) => {
                    tx.rollback().await;
                    failure
                }
            };
            assert!(failure.abort.is_retryable(), "{}: {failure:?}", self.strategy.name());
        }
        unreachable!("attempts run out after the test's patience")
    }

    async fn set(&mut self, assignment: &str) {
        let sql = format!("UPDATE dbstress.authorisation SET {assignment} WHERE id = {}", self.authorisation);
        assert_eq!(self.session.execute(&sql).await.unwrap(), 1);
    }

    async fn row(&mut self) -> Row {
        let sql = format!(
            "SELECT used, scheduled, status, (SELECT count(*) FROM dbstress.unit_ledger l WHERE l.authorisation_id = a.id) \
             FROM dbstress.authorisation a WHERE id = {}",
            self.authorisation
        );
        let row = self.session.rows(&sql).await.unwrap().remove(0);
        let number = |i: usize| row[i].as_deref().unwrap().parse().unwrap();
        Row { used: number(0), scheduled: number(1), status: row[2].clone().unwrap(), lines: number(3) }
    }

    async fn assert_row(&mut self, used: i64, scheduled: i64, status: &str, lines: i64) {
        let expected = Row { used, scheduled, status: status.into(), lines };
        assert_eq!(self.row().await, expected, "{}", self.strategy.name());
    }
}

#[tokio::test]
async fn whoever_fits_is_let_in_however_many_come_at_once() {
    let database = common::seeded().await;
    for strategy in safe() {
        let mut desk = Desk::open(&database, strategy, 100).await;
        let told = desk.at_once(&[(Reserve, 10); 5]).await;
        assert!(told.iter().all(|t| t.is_applied()), "{}: {told:?}", strategy.name());
        desk.assert_row(0, 50, "ACTIVE", 5).await;
        let told = desk.at_once(&[(Consume, 10); 5]).await;
        assert!(told.iter().all(|t| t.is_applied()), "{}: {told:?}", strategy.name());
        desk.assert_row(50, 0, "ACTIVE", 10).await;
        assert_invariants_hold(&mut desk.session).await;
    }
}

#[tokio::test]
async fn reserving_and_consuming_do_not_get_in_each_others_way() {
    let database = common::seeded().await;
    for strategy in safe() {
        let mut desk = Desk::open(&database, strategy, 100).await;
        assert!(desk.one(Reserve, 20).await.is_applied());
        let told = desk.at_once(&[(Reserve, 10), (Consume, 10), (Reserve, 10), (Consume, 10)]).await;
        assert!(told.iter().all(|t| t.is_applied()), "{}: {told:?}", strategy.name());
        desk.assert_row(20, 20, "ACTIVE", 5).await;
        assert_invariants_hold(&mut desk.session).await;
    }
}

#[tokio::test]
async fn the_last_unit_consumed_exhausts_it_and_nothing_else_does() {
    let database = common::seeded().await;
    for strategy in Strategy::ALL {
        let mut desk = Desk::open(&database, strategy, 50).await;
        assert!(desk.one(Reserve, 50).await.is_applied());
        assert!(desk.one(Consume, 40).await.is_applied());
        desk.assert_row(40, 10, "ACTIVE", 2).await;
        let last = desk.one(Consume, 10).await;
        assert_eq!(last, Told::Applied(Applied { version: 3, total: 50, used: 50, scheduled: 0 }), "{}", strategy.name());
        desk.assert_row(50, 0, "EXHAUSTED", 3).await;
        for (kind, refusal) in [(Release, Refusal::NotScheduled), (Reserve, Refusal::Inactive), (Consume, Refusal::Inactive)] {
            assert_eq!(desk.one(kind, 10).await, Told::Refused(refusal), "{}: {kind:?}", strategy.name());
        }
        desk.assert_row(50, 0, "EXHAUSTED", 3).await;
        assert_invariants_hold(&mut desk.session).await;
    }
}

/// Every strategy refuses `wanted` for `refusal` once the row has been changed by `assignment`, and leaves no trace.
async fn refuses(assignment: Option<&str>, wanted: &[OperationKind], refusal: Refusal) {
    let database = common::seeded().await;
    for strategy in Strategy::ALL {
        let mut desk = Desk::open(&database, strategy, 50).await;
        assert!(desk.one(Reserve, 10).await.is_applied());
        if let Some(assignment) = assignment {
            desk.set(assignment).await;
        }
        let before = desk.row().await;
        for kind in wanted {
            let told = match refusal {
                Refusal::WrongOrganisation => desk.stranger(*kind, 10).await,
                _ => desk.one(*kind, if refusal.is_about_capacity() { 41 } else { 10 }).await,
            };
            assert_eq!(told, Told::Refused(refusal), "{}: {kind:?}", strategy.name());
        }
        assert_eq!(desk.row().await, before, "{}", strategy.name());
        assert_eq!(before.lines, 1);
    }
}

#[tokio::test]
async fn what_is_not_active_is_neither_reserved_nor_consumed() {
    refuses(Some("status = 'CANCELLED'"), &[Reserve, Consume], Refusal::Inactive).await;
}

#[tokio::test]
async fn what_has_ended_by_the_clock_of_the_domain_is_neither_reserved_nor_consumed() {
    refuses(Some("end_date = '2026-01-14'"), &[Reserve, Consume], Refusal::Expired).await;
}

#[tokio::test]
async fn strangers_are_refused_whatever_they_want() {
    refuses(None, &ASKING, Refusal::WrongOrganisation).await;
}

#[tokio::test]
async fn nobody_reserves_more_than_is_left() {
    refuses(None, &[Reserve], Refusal::InsufficientUnits).await;
}

#[tokio::test]
async fn nobody_gives_back_or_consumes_what_was_not_promised() {
    refuses(None, &[Release, Consume], Refusal::NotScheduled).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let database = common::seeded().await;
    for strategy in Strategy::ALL {
        let mut desk = Desk::open(&database, strategy, 50).await;
        let there = std::mem::replace(&mut desk.authorisation, i64::MAX);
        for kind in ASKING {
            assert_eq!(desk.one(kind, 10).await, Told::Refused(Refusal::NotFound), "{}: {kind:?}", strategy.name());
        }
        desk.authorisation = there;
        desk.assert_row(0, 0, "ACTIVE", 0).await;
    }
}

#[tokio::test]
async fn on_its_last_day_it_is_still_good_and_a_promise_can_be_taken_back_later() {
    let database = common::seeded().await;
    for strategy in Strategy::ALL {
        let mut desk = Desk::open(&database, strategy, 50).await;
        desk.set("end_date = '2026-01-15'").await;
        assert!(desk.one(Reserve, 10).await.is_applied(), "{}", strategy.name());
        desk.set("end_date = '2026-01-14'").await;
        assert!(desk.one(Release, 10).await.is_applied(), "{}", strategy.name());
        desk.assert_row(0, 0, "ACTIVE", 2).await;
    }
}

/// An unsafe strategy, with time between its reading and its writing.
async fn is_caught(strategy: Strategy, scenario: &str, breach: Breach, invariants: &[&str]) {
    let database = common::seeded().await;
    let plan = common::plan(scenario, |plan, booking| {
        plan.load = if matches!(plan.load, Load::Rounds { .. }) { rounds(20, 40) } else { iterations(20, 20 * 40) };
        booking.strategies = vec![strategy];
        booking.hold = Duration::from_millis(2);
    });
    let record = run_on(&database, plan).await;
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    let turn = &record.turns[0];
    assert_eq!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    assert!(turn.audit.breaches.contains_key(&breach), "{:?}", turn.audit.breaches);
    let finding = turn.audit.findings.iter().find(|f| f.breach == breach).unwrap();
    assert!(!finding.operations.is_empty() && record.reasons.iter().any(|r| r.contains(breach.words())), "{finding:?}");
    for name in invariants {
        assert!(is_violated(turn, name), "{name} has no rows: {:?}", turn.invariants);
    }
}

#[tokio::test]
async fn naive_overbooks_a_contest_and_is_caught() {
    is_caught(Strategy::Naive, "contention", Breach::Overbooked, &["units-within-total"]).await;
}

#[tokio::test]
async fn naive_overbooks_in_churn_and_is_caught() {
    is_caught(Strategy::Naive, "churn", Breach::Overbooked, &["ledger-replays"]).await;
}

#[tokio::test]
async fn naive_set_loses_updates_of_a_contest_and_is_caught() {
    is_caught(Strategy::NaiveSet, "contention", Breach::LostUpdate, &["ledger-replays", "counters-match-ledger"]).await;
}

#[tokio::test]
async fn naive_set_loses_updates_in_churn_and_is_caught() {
    is_caught(Strategy::NaiveSet, "churn", Breach::LostUpdate, &["ledger-replays", "counters-match-ledger"]).await;
}

#[tokio::test]
async fn churn_with_strangers_in_it_breaks_no_safe_strategy() {
    let database = common::seeded().await;
    let strategies = vec![Strategy::Atomic, Strategy::Optimistic, Strategy::Serializable, Strategy::CheckConstraint];
    let plan = common::plan("churn", |plan, booking| {
        plan.load = iterations(8, 8 * 150);
        booking.strategies.clone_from(&strategies);
    });
    let record = run_on(&database, plan).await;
    assert_eq!(record.turns.len(), strategies.len(), "{:?}", record.not_run);
    for turn in &record.turns {
        let name = &turn.name;
        assert!(turn.audit.breaches.is_empty(), "{name}: {:?}", turn.audit.findings);
        assert_ne!(turn.verdict, Verdict::Violated, "{name}: {:?}", turn.reasons);
        assert_eq!(turn.counts.iterations(), 8 * 150, "{name}");
        assert!(turn.counts.attacks > 0, "{name}");
        assert_eq!(refused(turn, Refusal::WrongOrganisation), turn.counts.attacks, "{name}");
        assert!(turn.audit.refusals_judged > 0 && turn.audit.exposure.contested_blocks > 0, "{name}: {:?}", turn.audit);
        assert!(turn.audit.incomplete.is_empty(), "{name}: {:?}", turn.audit.incomplete);
    }
    assert_invariants_hold(&mut database.session().await).await;
}

/// Makes `default_transaction_isolation` and read-only transactions the default of the role that the test connects as, in its database.
async fn with_another_default(database: &TestDatabase, level: &str) {
    let mut session = database.session().await;
    let name = identifier(&database.options.database);
    // The default may have been changed before.
    session.execute("SET default_transaction_read_only = off").await.unwrap();
    session
        .execute(&format!(
            "ALTER ROLE CURRENT_USER IN DATABASE {name} SET default_transaction_isolation = '{level}'; \
             ALTER ROLE CURRENT_USER IN DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await
        .unwrap();
    session.close().await;
}

#[tokio::test]
async fn every_transaction_has_the_level_that_its_strategy_names_whatever_the_role_prefers() {
    let database = common::seeded().await;
    for default in ["serializable", "repeatable read", "read committed"] {
        with_another_default(&database, default).await;
        let mut session = database.session().await;
        assert_eq!(
            session
                .text("SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_isolation'")
                .await
                .unwrap()
                .as_deref(),
            Some(default)
        );
        session.close().await;
        for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
            let mut connection = Connection::open(&database.options, "dbstress/test", &[isolation]).await.unwrap();
            let level = connection.prepare("SHOW transaction_isolation").await.unwrap();
            let read_only = connection.prepare("SHOW transaction_read_only").await.unwrap();
            let phase = Phase::default();
            let mut tx = Tx::begin(&mut connection, isolation, Duration::ZERO, &phase).await.unwrap();
            let mut shown = Vec::new();
            for statement in [&level, &read_only] {
                tx.execute(statement, |_| {}).await.unwrap();
                shown.extend(tx.row().unwrap().values().flatten().map(str::to_owned));
            }
            assert_eq!(shown, [isolation.setting(), "off"], "default {default}");
            tx.rollback().await;
        }
    }
}

#[tokio::test]
async fn a_run_is_at_its_own_level_whatever_the_database_prefers() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let name = identifier(&database.options.database);
    session.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).await.unwrap();
    session.close().await;
    let plan = plan(vec![Strategy::ForUpdate, Strategy::RepeatableRead], Duration::from_millis(1));
    let record = run_on(&database, plan).await;
    assert_eq!(record.server.settings["default_transaction_isolation"], "serializable");
    let [for_update, repeatable_read] = &record.turns[..] else { panic!("{:?}", record.not_run) };
    // At serializable, whoever waited for the row would fail with 40001.
    assert_eq!((&*for_update.isolation, for_update.counts.failed(Abort::SerializationFailure)), ("read committed", 0));
    assert_eq!(repeatable_read.isolation, "repeatable read");
    assert!(repeatable_read.counts.failed(Abort::SerializationFailure) > 0);
}

#[tokio::test]
async fn attempts_that_run_out_cost_goodput_and_are_no_breach() {
    let database = common::seeded().await;
    let mut plan = plan(vec![Strategy::Serializable], Duration::from_millis(2));
    plan.retry.attempts = Some(1);
    let turn = turn_on(&database, plan).await;
    assert_ne!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    assert!(turn.audit.breaches.is_empty(), "{:?}", turn.audit.findings);
    assert!(turn.audit.rounds_short > 0 && turn.audit.rounds == 20, "{:?}", turn.audit);
    assert!(turn.counts.aborted[&Abort::SerializationFailure] > 0);
    assert_eq!(turn.audit.classes.aborted, turn.counts.of(OutcomeClass::Aborted));
    assert_eq!(turn.counts.attempts.keys().copied().collect::<Vec<_>>(), [1]);
}

/// A run on a database in which every new line of the ledger goes through `body`, a trigger function.
async fn finds(when: &str, body: &str, breach: Breach) {
    let database = common::seeded().await;
    let sabotage = format!(
        "CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
         CREATE TRIGGER meddle {when} INSERT ON dbstress.unit_ledger FOR EACH ROW EXECUTE FUNCTION public.meddle()"
    );
    let plan = Plan { load: rounds(8, 5), ..plan(vec![Strategy::Atomic], Duration::ZERO) };
    let record = common::run_sabotaged(&database.options, &common::Place::new(), plan, &sabotage).await;
    let turn = &record.turns[0];
    assert!(is_violated(turn, "constraints-in-place"), "{:?}", turn.reasons);
    assert_eq!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    assert!(turn.audit.breaches.contains_key(&breach), "{:?}", turn.audit.breaches);
}

#[tokio::test]
async fn a_database_that_loses_an_acknowledged_commit_is_found_out() {
    let body = "IF NEW.version = 2 THEN RETURN NULL; END IF; RETURN NEW;";
    finds("BEFORE", body, Breach::AcknowledgedLost).await;
}

#[tokio::test]
async fn a_database_that_applies_an_operation_twice_is_found_out() {
    let body = "IF NEW.attempt < 100 THEN NEW.attempt := NEW.attempt + 100; INSERT INTO dbstress.unit_ledger SELECT NEW.*; END IF; RETURN NULL;";
    finds("AFTER", body, Breach::Duplicated).await;
}

#[tokio::test]
async fn a_line_in_the_ledger_that_nobody_wrote_is_found_out() {
    let body = "IF NEW.attempt < 100 THEN NEW.attempt := 100; NEW.op_id := NEW.op_id + 1000000; INSERT INTO dbstress.unit_ledger SELECT NEW.*; \
                END IF; RETURN NULL;";
    finds("AFTER", body, Breach::Phantom).await;
}

#[tokio::test]
async fn a_ledger_that_holds_other_counters_than_the_client_was_told_is_found_out() {
    finds("BEFORE", "NEW.scheduled := NEW.scheduled - 1; RETURN NEW;", Breach::Misreported).await;
}

/// One commit in forty is taken back as it is made, from the row and from the ledger alike: whoever asks the database alone finds nothing.
#[tokio::test]
async fn a_commit_that_row_and_ledger_forget_alike_is_found_by_the_history_alone() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let sabotage = "CREATE SEQUENCE public.made; \
             CREATE FUNCTION public.undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('public.made') % 40 = 0 THEN \
                 UPDATE dbstress.authorisation SET scheduled = scheduled - NEW.units, version = version - 1 WHERE id = NEW.authorisation_id; \
                 DELETE FROM dbstress.unit_ledger WHERE op_id = NEW.op_id AND attempt = NEW.attempt AND line = NEW.line; \
               END IF; RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER undo AFTER INSERT ON dbstress.unit_ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
               EXECUTE FUNCTION public.undo()";
    let plan = plan(vec![Strategy::Atomic], Duration::ZERO);
    let record = common::run_sabotaged(&database.options, &common::Place::new(), plan, sabotage).await;
    let turn = &record.turns[0];
    assert_eq!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    let undone = session.integer("SELECT last_value / 40 FROM public.made").await.unwrap();
    let lost = turn.audit.breaches.get(&Breach::AcknowledgedLost).copied().unwrap_or_default();
    assert!(undone >= 2 && lost == undone as u64, "{undone} were undone: {:?}", turn.audit.breaches);
    session.execute("DROP TRIGGER undo ON dbstress.unit_ledger").await.unwrap();
    assert_invariants_hold(&mut session).await;
}
