//! Is a request with a key done once, is everybody told the same, and is every mistake with keys found? On a real PostgreSQL.

mod common;

use std::time::Duration;

use common::{Bench, Place, TestDatabase, assert_no_panic, plan, rounds, run, run_plan};
use dbstress::audit::Breach;
use dbstress::bug::Bug;
use dbstress::history::Asking;
use dbstress::invariant::{Checked, Finding};
use dbstress::outcome::{Abort, OutcomeClass, Refusal};
use dbstress::pg::admin::Session;
use dbstress::plan::{HAZARD, Plan};
use dbstress::record::{Moment, RunRecord, TurnRecord};
use dbstress::scenario::{Booking, InFlight};
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;

const VUS: u32 = 12;

/// The scenario in small, with these shares of the ways to ask; the rest of them asks as everybody does.
fn small(shares: &[(Asking, f64)], games: u64, change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
    plan("idempotency", |plan, booking| {
        plan.load = rounds(VUS, games);
        plan.evidence.contested = 1;
        let first = 1.0 - shares.iter().map(|(_, share)| share).sum::<f64>();
        for operation in &mut booking.operations {
            let share = shares.iter().find(|(asking, _)| operation.request == Some(*asking));
            operation.weight = match operation.request {
                Some(Asking::First) => first,
                _ => share.map_or(0.0, |(_, share)| *share),
            };
        }
        booking.keys.as_mut().unwrap().cleanup = 2_500;
        change(plan, booking);
    })
}

/// Every way to ask, those that need luck often enough.
const ALL: [(Asking, f64); 5] =
    [(Asking::Again, 0.1), (Asking::HangUp, 0.3), (Asking::OtherBody, 0.15), (Asking::OtherTenant, 0.1), (Asking::Late, 0.15)];

/// The one turn of a run on a database of its own.
async fn turn(plan: Plan) -> (TestDatabase, RunRecord) {
    let (database, place) = (common::seeded().await, Place::new());
    let record = run_plan(&database.options, &place, plan).await;
    assert_eq!(record.turns.len(), 1, "{record:?}");
    (database, record)
}

fn found(turn: &TurnRecord, breach: Breach) -> u64 {
    turn.audit.breaches.get(&breach).copied().unwrap_or(0)
}

fn is_broken(turn: &TurnRecord, invariant: &str) -> bool {
    turn.invariants.iter().any(|c| c.name == invariant && matches!(c.finding, Finding::Violated { .. }))
}

async fn count(session: &mut Session, sql: &str) -> u64 {
    session.integer(&format!("SELECT count(*) FROM {sql}")).await.unwrap().unsigned_abs()
}

#[tokio::test]
async fn what_is_asked_for_with_a_key_is_done_once_and_the_tables_say_so_too() {
    let (database, record) = turn(small(&ALL, 60, |_, _| {})).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    for moment in [Moment::Before, Moment::After] {
        let control = record.controls.iter().find(|c| c.moment == moment).unwrap();
        assert!(control.name == "loser-executes" && control.fired && control.detail.contains("one-effect-per-key"), "{control:?}");
    }
    let turn = &record.turns[0];
    let (audit, counts) = (&turn.audit, &turn.counts);
    assert!(turn.gates.iter().all(|gate| gate.met), "{:?}", turn.gates);
    assert_eq!((turn.used, audit.key_effects), (60, audit.key_lifetimes));

    let mut session = database.session().await;
    let run = turn.run;
    let effects = count(&mut session, &format!("dbstress.unit_ledger WHERE run_id = {run} AND kind = 'reserve'")).await;
    let keyed = format!("dbstress.unit_ledger WHERE run_id = {run} AND kind = 'reserve' AND key IS NOT NULL");
    assert_eq!((effects, count(&mut session, &keyed).await), (audit.key_effects, audit.key_effects));
    // Every effect was acknowledged to who had it done, or told by a replay after a COMMIT that was not answered.
    assert_eq!(effects, counts.of(OutcomeClass::Committed) + audit.classes.replayed_own);
    assert_eq!(counts.of(OutcomeClass::Replayed), audit.classes.replayed + audit.classes.replayed_own);
    let records = format!("dbstress.idempotency_key WHERE run_id = {run} AND endpoint = 'reserve' AND state = 'completed'");
    assert_eq!(count(&mut session, &records).await, audit.keys);
    let twice = format!(
        "(SELECT FROM dbstress.unit_ledger WHERE run_id = {run} AND kind = 'reserve' GROUP BY organisation_id, key, decided_at HAVING count(*) > 1) t"
    );
    assert_eq!(count(&mut session, &twice).await, 0, "one effect for each organisation, key and lifetime");
    // The same key of two organisations: an effect for each.
    let shared = format!(
        "(SELECT FROM dbstress.idempotency_key WHERE run_id = {run} AND endpoint = 'reserve' GROUP BY key HAVING count(DISTINCT organisation_id) = 2) t"
    );
    assert_eq!(count(&mut session, &shared).await, audit.keys - 60);
    assert!(audit.keys > 60, "another organisation asked in some of the rounds");
    assert_eq!(counts.refused.keys().copied().collect::<Vec<_>>(), [Refusal::KeyMismatch]);
}

#[tokio::test]
async fn every_safe_strategy_keeps_the_contract_whether_who_comes_second_is_told_or_waits() {
    for in_flight in [InFlight::Refuse, InFlight::Wait] {
        let plan = small(&ALL, 15, |_, booking| {
            booking.strategies = Strategy::safe(HAZARD).collect();
            booking.keys.as_mut().unwrap().in_flight = in_flight;
        });
        let (database, place) = (common::seeded().await, Place::new());
        let record = run_plan(&database.options, &place, plan).await;
        assert_eq!(record.turns.len(), Strategy::safe(HAZARD).count(), "{:?}", record.not_run);
        for turn in &record.turns {
            let name = &turn.name;
            assert!(turn.audit.breaches.is_empty() && turn.audit.incomplete.is_empty(), "{name}: {:?}", turn.audit);
            // Nobody makes appointments here.
            let is_kept = |c: &Checked| {
                matches!(c.finding, Finding::Holds { .. })
                    || c.name.contains("appointment")
                    || c.name == "one-session-per-completion"
            };
            assert!(turn.invariants.iter().all(is_kept), "{name}: {:?}", turn.invariants);
            assert!(turn.audit.exposure.contested_blocks > 0, "{name}: {:?}", turn.audit.exposure);
            assert!(turn.counts.of(OutcomeClass::Replayed) > 0, "{name}: {:?}", turn.counts);
            assert_eq!(turn.counts.failed(Abort::KeyInFlight) > 0, in_flight == InFlight::Refuse, "{name}: {:?}", turn.counts);
        }
    }
}

#[tokio::test]
async fn a_commit_that_was_hung_up_on_takes_effect_and_is_told_by_a_replay() {
    let (database, record) = turn(small(&[(Asking::HangUp, 1.0)], 20, |_, _| {})).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let turn = &record.turns[0];
    // Whoever has it done hangs up: nobody is told so by an acknowledgement, and everybody by the stored response.
    assert_eq!((turn.counts.of(OutcomeClass::Committed), turn.counts.of(OutcomeClass::Replayed)), (0, 20 * u64::from(VUS)));
    assert_eq!((turn.counts.unanswered, turn.audit.classes.replayed_own, turn.audit.key_effects), (20, 20, 20));
    let mut session = database.session().await;
    let answers = "dbstress.idempotency_key k JOIN dbstress.unit_ledger l ON l.op_id = k.result_op AND l.attempt = k.result_attempt \
                   WHERE k.response = ARRAY[l.version, l.total, l.used, l.scheduled] AND l.version = 1 AND l.scheduled = 10";
    assert_eq!(count(&mut session, answers).await, 20);
}

#[tokio::test]
async fn an_unanswered_commit_without_another_attempt_is_resolved_by_asking_the_database() {
    let plan = small(&[(Asking::HangUp, 1.0)], 10, |plan, _| plan.retry.attempts = Some(1));
    let (_database, record) = turn(plan).await;
    let turn = &record.turns[0];
    let unknown = turn.counts.of(OutcomeClass::Unknown);
    assert!(unknown > 0, "{:?}", turn.counts);
    let classes = &turn.audit.classes;
    assert_eq!((classes.unknown_committed, classes.unknown_unresolved, turn.audit.key_effects), (unknown, 0, unknown));
    assert!(turn.audit.breaches.is_empty(), "{:?}", turn.audit.breaches);
}

#[tokio::test]
async fn after_its_lifetime_a_key_has_exactly_one_more_effect() {
    let (database, record) = turn(small(&[(Asking::Late, 1.0)], 20, |_, _| {})).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let turn = &record.turns[0];
    assert_eq!((turn.audit.keys, turn.audit.key_lifetimes, turn.audit.key_effects), (20, 40, 40));
    assert_eq!(turn.counts.of(OutcomeClass::Replayed), 20 * u64::from(VUS) * 2 - 40);
    let mut session = database.session().await;
    let begun_anew = "(SELECT FROM dbstress.unit_ledger WHERE key IS NOT NULL GROUP BY key \
                       HAVING count(*) = 2 AND max(decided_at) - min(decided_at) = interval '24 hours 1 second') t";
    assert_eq!(count(&mut session, begun_anew).await, 20);
    let of_the_later = "dbstress.idempotency_key k JOIN dbstress.unit_ledger l ON l.op_id = k.result_op AND l.attempt = k.result_attempt \
                        WHERE l.version = 2 AND k.created_at = l.decided_at";
    assert_eq!(count(&mut session, of_the_later).await, 20);
}

/// The turn of a run in which this mistake is made.
async fn mistaken(bug: Bug, change: impl FnOnce(&mut Plan, &mut Booking)) -> TurnRecord {
    let plan = small(&ALL, 40, |plan, booking| {
        booking.bug = Some(bug);
        change(plan, booking);
    });
    let (_database, mut record) = turn(plan).await;
    assert_eq!(record.verdict, Verdict::Violated, "{bug}: {:?}", record.reasons);
    record.turns.remove(0)
}

/// The finding names operations of the run, with their attempts.
fn assert_names_attempts(turn: &TurnRecord) {
    let finding = turn.audit.findings.iter().find(|f| f.breach == Breach::KeyAppliedTwice).unwrap();
    assert!(finding.operations.len() > 1 && finding.detail.contains("attempt"), "{finding:?}");
    for operation in &finding.operations {
        assert!(operation.starts_with(&format!("{}.", turn.run)) && finding.detail.contains(operation), "{finding:?}");
    }
}

#[tokio::test]
async fn who_loses_the_race_and_works_all_the_same_is_found() {
    let turn = mistaken(Bug::LoserExecutes, |_, _| {}).await;
    assert!(found(&turn, Breach::KeyAppliedTwice) > 0 && is_broken(&turn, "one-effect-per-key"), "{:?}", turn.reasons);
    assert_names_attempts(&turn);
}

#[tokio::test]
async fn a_retry_that_forgets_the_key_is_found() {
    let turn = mistaken(Bug::NoKey, |_, _| {}).await;
    assert!(found(&turn, Breach::KeyAppliedTwice) > 0 && is_broken(&turn, "no-unkeyed-duplicate"), "{:?}", turn.reasons);
    assert_names_attempts(&turn);
    // One and the same operation, by two of its attempts.
    let finding = turn.audit.findings.iter().find(|f| f.breach == Breach::Duplicated).unwrap();
    assert!(finding.detail.contains("attempt"), "{finding:?}");
    assert!(!is_broken(&turn, "one-effect-per-key"), "with its key it was done once");
}

#[tokio::test]
async fn a_claim_without_its_work_is_found_and_unanswered_attempts_are_fenced() {
    let (database, record) = turn(small(&ALL, 30, |plan, booking| {
        booking.bug = Some(Bug::ClaimApart);
        booking.hold = Duration::from_millis(1);
        // A key that was claimed and left is in flight for ever.
        plan.retry.deadline = Duration::from_millis(300);
    }))
    .await;
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    let turn = &record.turns[0];
    assert!(is_broken(turn, "no-stale-claim"), "{:?}", turn.reasons);
    let classes = &turn.audit.classes;
    assert!(classes.unknown_absent > 0 && classes.unknown_unresolved == 0, "{classes:?}");
    let mut session = database.session().await;
    // Any attempt may have been the one, the first of all.
    let fenced = "(SELECT FROM dbstress.unit_ledger WHERE kind = 'fence' GROUP BY op_id HAVING min(attempt) = 1 AND max(attempt) = count(*)) t";
    assert_eq!(count(&mut session, fenced).await, classes.unknown_absent);
    assert!(count(&mut session, "dbstress.unit_ledger WHERE kind = 'fence' AND attempt > 1").await > 0);
}

#[tokio::test]
async fn a_key_that_is_unique_with_its_body_alone_is_found() {
    let turn = mistaken(Bug::KeyWithHash, |_, _| {}).await;
    assert!(found(&turn, Breach::KeyAppliedTwice) > 0 && is_broken(&turn, "one-effect-per-key"), "{:?}", turn.reasons);
    assert_names_attempts(&turn);
    assert_eq!(turn.counts.refused.get(&Refusal::KeyMismatch), None);
}

#[tokio::test]
async fn a_key_that_is_looked_up_whoevers_it_is_is_found() {
    let turn = mistaken(Bug::UnscopedKey, |_, _| {}).await;
    let told_anothers = [Breach::ReplayDiffers, Breach::AcknowledgedLost, Breach::WrongBody, Breach::UnjustifiedRefusal];
    assert!(told_anothers.iter().any(|breach| found(&turn, *breach) > 0), "{:?}", turn.audit.breaches);
}

#[tokio::test]
async fn a_clean_up_that_leaves_or_takes_too_much_is_found() {
    let (database, place) = (common::seeded().await, Place::new());
    let mut session = database.session().await;
    let sabotage = "CREATE FUNCTION public.spare() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF OLD.key LIKE '%-expired-7' THEN RETURN NULL; END IF; \
               IF OLD.key LIKE '%-expired-8' THEN DELETE FROM dbstress.idempotency_key WHERE key LIKE '%-alive-1'; END IF; \
               RETURN OLD; END $$; \
             CREATE TRIGGER spare BEFORE DELETE ON dbstress.idempotency_key FOR EACH ROW EXECUTE FUNCTION public.spare()";
    let record = common::run_sabotaged(&database.options, &place, small(&ALL, 20, |_, _| {}), sabotage).await;
    let turn = &record.turns[0];
    assert_eq!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    let cleanup = turn.cleanup.as_ref().unwrap();
    assert_eq!((cleanup.expired, cleanup.expired_left, cleanup.alive, cleanup.alive_left), (2_500, 1, 250, 249));
    for said in ["the clean-up left 1 of 2500 expired keys", "of 250 keys that were alive 249 are left"] {
        assert!(turn.reasons.iter().any(|reason| reason.contains(said)), "{:?}", turn.reasons);
    }
    assert!(is_broken(turn, "no-expired-keys"), "{:?}", turn.reasons);

    // Without the trigger the next run begins with what was left, and ends without it.
    session.execute("DROP TRIGGER spare ON dbstress.idempotency_key").await.unwrap();
    let record = run_plan(&database.options, &place, small(&ALL, 60, |_, _| {})).await;
    let cleanup = record.turns[0].cleanup.as_ref().unwrap();
    assert_eq!((cleanup.expired_left, cleanup.alive_left), (0, 250));
    assert!(cleanup.batches >= 3 && cleanup.batches_beside > 0, "{cleanup:?}");
    assert_eq!(count(&mut session, "dbstress.idempotency_key WHERE key LIKE '%-expired-%'").await, 0);
}

#[tokio::test]
async fn the_program_says_what_became_of_the_keys_and_refuses_the_wrong_bug() {
    let bench = Bench::new().await;
    let (code, out, err) = run(&mut bench.dbstress("idempotency --vus 20 --rounds 100 --summary-export r.json"));
    // Whether every gate was met is the machine's affair.
    assert!(matches!(code, 0 | 3), "{code}: {out}{err}");
    let turn = &bench.record().turns[0];
    let grouped = dbstress::metrics::grouped;
    for said in [
        format!("{} keys, {} effects, one in each lifetime of a key", grouped(turn.audit.keys), grouped(turn.audit.key_effects)),
        "10,000 of 10,000 expired keys deleted".to_owned(),
        "replayed".to_owned(),
    ] {
        assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").contains(&said), "{said}: {out}");
    }
    assert!(err.contains("control before: loser-executes caught"), "{err}");
    assert_no_panic(&out, &err);
    bench.assert_swept().await;
    let (code, out, err) = run(&mut bench.dbstress("verify"));
    assert_eq!(code, 0, "{out}{err}");

    for (command, words) in [
        ("contention --bug no-key", ["--bug: `no-key` is a mistake with keys", "dbstress idempotency --bug"]),
        ("idempotency --bug blind-retry", ["--bug: `blind-retry` is a mistake with bookings", "loser-executes"]),
        ("idempotency --units 20", ["--units: another body, and it asks for 20 units as all do", "another number of units"]),
        ("idempotency --total 30", ["--total: an authorisation of 30 units has no room for two effects of 20", "40 or more"]),
    ] {
        let (code, out, err) = run(&mut bench.dbstress(command));
        assert_eq!((code, &*out), (2, ""), "{command}: {err}");
        for word in words {
            assert!(err.contains(word), "{command}: `{word}` is missing from: {err}");
        }
    }
}

#[tokio::test]
async fn a_database_from_before_there_were_keys_is_told_how_to_be_brought_up_to_date() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    // As the first migration left it: whatever later ones have added goes.
    session
        .execute(
            "DO $$ DECLARE added record; BEGIN \
               FOR added IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'dbstress'::regnamespace LOOP \
                 EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', added.name); \
               END LOOP; \
               FOR added IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = 'dbstress'::regnamespace AND relkind = 'r' \
                 AND relname <> ALL ('{_migrations, meta, organisation, service_code, patient, practitioner, authorisation, run, unit_ledger}') LOOP \
                 EXECUTE format('DROP TABLE %s CASCADE', added.name); \
               END LOOP; \
             END $$; \
             DROP SEQUENCE dbstress.duty_number, dbstress.appointment_number; ALTER TABLE dbstress.meta DROP COLUMN variant; \
             ALTER TABLE dbstress.unit_ledger DROP COLUMN key, DROP COLUMN appointment_id; DELETE FROM dbstress._migrations WHERE version > 1",
        )
        .await
        .unwrap();
    let hash = session.text("SELECT data_hash FROM dbstress.meta").await.unwrap();
    for command in ["contention --vus 8 --rounds 5", "verify"] {
        let (code, out, err) = run(&mut bench.dbstress(command));
        assert!(code == 2 && out.is_empty() && err.contains("is version 1; this dbstress works on version"), "{command}: {err}");
        assert!(err.contains("dbstress seed --dataset clinic --scale 1 --rng-seed 42"), "{command}: {err}");
    }
    let (code, out, err) = run(&mut bench.dbstress("seed --dataset clinic --scale 1 --rng-seed 42"));
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(session.text("SELECT data_hash FROM dbstress.meta").await.unwrap(), hash);
    let record = run_plan(&bench.database.options, &bench.place, small(&ALL, 60, |_, _| {})).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    assert_eq!(run(&mut bench.dbstress("verify")).0, 0);
}
