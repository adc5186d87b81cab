//! Does the engine do the load that it was asked for, count all of it, measure it from when it should have begun, and end?

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::{Bench, Place, Started, assert_no_panic, at_least, committed, iterations, run, run_plan, run_until};
use dbstress::history::{OperationKind, Reader, Record};
use dbstress::outcome::{Abort, OutcomeClass};
use dbstress::pace::{Arrival, Ramp, Think};
use dbstress::pg::admin::Session;
use dbstress::pg::cluster::process::Identity;
use dbstress::pg::load::{Connection, Isolation};
use dbstress::plan::{Load, Plan};
use dbstress::record::{RunRecord, TurnRecord};
use dbstress::scenario::{Booking, BookingOperation, Targets};
use dbstress::strategy::Strategy;
use dbstress::verdict::{Decision, Verdict};
use nix::sys::signal::Signal;
use tokio::sync::watch;

/// Two kinds of reservations, on many authorisations that are never used up: nothing is refused, nothing is claimed.
fn plenty(load: Load, change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
    common::plan("throughput", |plan, booking| {
        plan.load = load;
        plan.thresholds.clear();
        plan.evidence.committed.clear();
        booking.strategies = vec![Strategy::Atomic];
        let operation = |name: &str, units| BookingOperation {
            name: name.into(),
            kind: OperationKind::Reserve,
            units,
            weight: 1.0,
            request: None,
        };
        booking.operations = vec![operation("few", 1), operation("many", 7)];
        change(plan, booking);
    })
}

/// So many arrivals per second for so long.
fn open(rate: f64, seconds: u64, vus: u32, backlog: u32) -> Load {
    let rate = Ramp::constant(rate, Duration::from_secs(seconds));
    Load::Open { rate, arrival: Arrival::Even, iterations: None, vus, backlog }
}

fn closed(stages: &[&str]) -> Load {
    let stages = stages.iter().map(|stage| stage.parse().unwrap()).collect();
    Load::Closed { vus: Ramp { start: 0.0, stages }, iterations: None, think: Think::default() }
}

/// The only turn.
fn turn(record: &RunRecord) -> &TurnRecord {
    let [turn] = &record.turns[..] else { panic!("{:?} {:?}", record.reasons, record.not_run) };
    turn
}

/// What its virtual users did, in the order of their numbers and of their operations.
fn history(turn: &TurnRecord) -> Vec<Record> {
    let mut records: Vec<Record> =
        turn.histories.iter().flat_map(|path| Reader::open(Path::new(path)).unwrap().operations()).map(Result::unwrap).collect();
    records.sort_by_key(|record| (record.vu, record.n));
    records
}

/// Everything that was done is in the ledger, was acknowledged, and was counted.
fn assert_accounted_for(turn: &TurnRecord) {
    assert_ne!(turn.verdict, Verdict::Violated, "{:?}", turn.reasons);
    assert!(turn.audit.incomplete.is_empty() && turn.audit.breaches.is_empty(), "{:?}", turn.audit);
    let records = history(turn);
    let measured = turn.counts.iterations();
    assert!(records.len() as u64 >= measured && records.len() as u64 <= measured + turn.counts.warm_up, "{:?}", turn.counts);
    let timed: u64 = turn.timing.values().map(|timing| timing.response.samples).sum();
    assert_eq!(timed, measured, "whatever is counted is timed");
    let second_by_second: u64 = turn.ticks.iter().map(|t| t.committed + t.refused + t.aborted + t.unknown).sum();
    assert_eq!(second_by_second, measured, "{:?}", turn.ticks);
    assert_eq!(turn.ticks.iter().map(|t| t.dropped).sum::<u64>(), turn.counts.dropped);
    assert!(turn.ticks.is_sorted_by(|a, b| a.second < b.second), "{:?}", turn.ticks);
    let by_operation: u64 = turn.operations.iter().flat_map(|o| o.outcomes.values()).sum();
    assert_eq!(by_operation, measured);
}

#[tokio::test]
async fn a_rule_that_could_not_be_checked_afterwards_is_no_pass_even_where_none_is_claimed() {
    let bench = Bench::new().await;
    let plan = plenty(closed(&["0s:4", "3s:4"]), |_, _| {});
    let mut session = bench.database.session().await;
    // Nobody notices the first until the rules are asked again.
    let meddling = async {
        committed(&mut session, 100).await;
        session.execute("ALTER TABLE dbstress.patient RENAME COLUMN organisation_id TO clinic_id").await.unwrap();
    };
    let (record, ()) = tokio::join!(run_plan(&bench.database.options, &bench.place, plan), meddling);
    // The definitions are not those that they were, and that is a breach; what could not be asked is said beside it.
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    assert!(record.reasons.iter().any(|why| why.contains("could not be checked")), "{:?}", record.reasons);
}

/// The processes behind the sessions of the load.
async fn backends(session: &mut Session) -> Vec<Identity> {
    let load = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'dbstress/run%/vu%'";
    let rows = session.rows(load).await.unwrap();
    rows.iter().map(|row| Identity::of(row[0].as_deref().unwrap().parse().unwrap()).unwrap()).collect()
}

/// Whether the kernel has stopped it.
fn is_stopped(process: &Identity) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('T')
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_stands_still_shows_in_the_response_time_of_all_who_arrived_meanwhile() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let running = place.start().await;
    common::seed(&running.options).await;
    // Of 300 arrivals, 40 may wait, and 4 are with the server.
    let (rate, seconds) = (50.0, 6);
    let load = run_plan(&running.options, &place, plenty(open(rate, seconds, 4, 40), |_, _| {}));
    let freeze = async {
        let mut session = Session::connect(&running.options, "test").await.unwrap();
        committed(&mut session, 1).await;
        let backends = backends(&mut session).await;
        assert_eq!(backends.len(), 4);
        assert!(backends.iter().all(|backend| backend.signal(Signal::SIGSTOP)));
        common::eventually("the server stands still", || backends.iter().all(is_stopped)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(backends.iter().all(|backend| backend.signal(Signal::SIGCONT)));
        session.close().await;
    };
    let (record, ()) = tokio::join!(load, freeze);
    let turn = turn(&record);
    assert_accounted_for(turn);
    let counts = &turn.counts;
    assert_eq!(counts.iterations() + counts.dropped, rate as u64 * seconds, "{counts:?}");
    assert_eq!(counts.of(OutcomeClass::Committed), counts.iterations(), "{counts:?}");
    // Two seconds bring 100 arrivals, for 44 of which there is room.
    assert!(counts.dropped >= 40, "{counts:?}");
    let timing = &turn.timing[&OutcomeClass::Committed];
    let (response, service) = (timing.response.p95.unwrap(), timing.service.p95.unwrap());
    // Those that arrived in the first half second of two waited for the rest of them.
    assert!(timing.response.max.unwrap() >= 1500.0, "{timing:?}");
    assert!(response >= 1000.0 && response > service, "the wait is the server's doing, and was measured: {timing:?}");
}

/// What was proposed: kind, units, how far from the first authorisation, by whom.
type Proposed = (String, i64, i64, i64);

/// What the ledger says was proposed, by virtual user and number.
async fn proposed(session: &mut Session, run: i32) -> BTreeMap<(u16, u32), Proposed> {
    let sql = format!(
        "SELECT vu, op_id & 4294967295, kind, units, actor_id, \
           authorisation_id - (SELECT min(id) FROM dbstress.authorisation WHERE run_id = {run}) \
         FROM dbstress.unit_ledger WHERE run_id = {run}"
    );
    let rows = session.rows(&sql).await.unwrap();
    let number = |row: &[Option<String>], i: usize| row[i].as_deref().unwrap().parse::<i64>().unwrap();
    rows.iter()
        .map(|row| {
            let key = (number(row, 0) as u16, number(row, 1) as u32);
            (key, (row[2].clone().unwrap(), number(row, 3), number(row, 5), number(row, 4)))
        })
        .collect()
}

#[tokio::test]
async fn the_same_rng_seed_proposes_the_same_whatever_the_number_of_load_threads() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    let mut runs = Vec::new();
    for (threads, rng_seed) in [(1, 7), (2, 7), (2, 8)] {
        let with = |load: Load| {
            plenty(load, |plan, _| {
                plan.threads = threads;
                plan.rng_seed = rng_seed;
            })
        };
        let mut of = Vec::new();
        for load in [iterations(6, 600), open(200.0, 1, 5, 200)] {
            let count = if matches!(load, Load::Closed { .. }) { 600 } else { 200 };
            let record = run_plan(&bench.database.options, &bench.place, with(load)).await;
            let turn = turn(&record);
            assert_accounted_for(turn);
            assert_eq!((turn.counts.of(OutcomeClass::Committed), turn.counts.dropped), (count, 0), "{:?}", turn.counts);
            assert_eq!(turn.histories.len(), threads);
            of.push(proposed(&mut session, turn.run).await);
            assert_eq!(of.last().unwrap().len() as u64, count);
        }
        let [closed, open] = <[_; 2]>::try_from(of).unwrap();
        let mut open: Vec<Proposed> = open.into_values().collect();
        open.sort();
        runs.push((closed, open));
    }
    let [(one, one_open), (two, two_open), (other, other_open)] = &runs[..] else { unreachable!() };
    assert!(one_open == two_open && one_open != other_open);
    // Who did how many is up to the scheduler; what a virtual user did as its third is not.
    let mut both = 0;
    for (key, proposal) in one {
        if let Some(again) = two.get(key) {
            assert_eq!(proposal, again, "{key:?}");
            both += 1;
        }
    }
    assert!(both > 0 && one.iter().any(|(key, proposal)| other.get(key).is_some_and(|p| p != proposal)));
}

#[tokio::test]
async fn as_many_virtual_users_work_as_the_stages_say() {
    let bench = Bench::new().await;
    let plan = plenty(closed(&["0s:2", "1s:2", "0s:4", "1s:4", "0s:1", "2s:1"]), |_, _| {});
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    let turn = turn(&record);
    assert_accounted_for(turn);
    let records = history(turn);
    let vus: BTreeSet<u16> = records.iter().map(|record| record.vu).collect();
    assert_eq!(vus, BTreeSet::from([0, 1, 2, 3]));
    let began = records.iter().map(|record| record.scheduled).min().unwrap();
    for record in &records {
        let at = Duration::from_nanos(record.scheduled - began);
        let span = match record.vu {
            0 => Duration::ZERO..Duration::from_secs(4),
            1 => Duration::ZERO..Duration::from_secs(2),
            _ => Duration::from_secs(1)..Duration::from_secs(2),
        };
        assert!(span.contains(&at), "virtual user {} at {at:?}", record.vu);
    }
    assert!(turn.seconds >= 4.0, "the last went on to the end: {}", turn.seconds);
    // Those that end early do not keep the seconds of the others back.
    let plan = plenty(closed(&["0s:2", "1s:2", "0s:1", "2s:1"]), |plan, _| plan.threads = 2);
    let record = run_plan(&bench.database.options, &bench.place, plan).await;
    let turn = self::turn(&record);
    assert_accounted_for(turn);
    let seconds: Vec<f64> = turn.ticks.iter().map(|tick| tick.second).take(2).collect();
    assert_eq!(seconds, [1.0, 2.0]);
}

#[tokio::test]
async fn a_warm_up_is_done_and_audited_and_counts_nowhere() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    let loads = [open(100.0, 2, 4, 1000), closed(&["0s:3", "2s:3"])];
    for (load, is_open) in loads.into_iter().zip([true, false]) {
        let plan = plenty(load, |plan, _| plan.warm_up = Duration::from_secs(1));
        let record = run_plan(&bench.database.options, &bench.place, plan).await;
        let turn = turn(&record);
        assert_accounted_for(turn);
        let records = history(turn);
        let began = records.iter().map(|record| record.scheduled).min().unwrap();
        let warm = records.iter().filter(|record| record.scheduled - began < 1_000_000_000).count() as u64;
        assert!(warm > 0);
        assert_eq!((turn.counts.warm_up, turn.counts.iterations()), (warm, records.len() as u64 - warm));
        if is_open {
            assert_eq!((warm, records.len()), (100, 200));
        }
        let ledger = format!("SELECT count(*) FROM dbstress.unit_ledger WHERE run_id = {}", turn.run);
        assert_eq!(session.integer(&ledger).await.unwrap(), records.len() as i64);
        assert_eq!(turn.audit.classes.acknowledged_present, records.len() as u64);
    }
}

#[tokio::test]
async fn a_pool_is_shared_and_waited_for_and_so_many_iterations_are_exactly_so_many() {
    let bench = Bench::new().await;
    let pooled = common::plan("churn", |plan, _| {
        plan.load = iterations(20, 777);
        plan.pool_size = Some(2);
    });
    let record = run_plan(&bench.database.options, &bench.place, pooled).await;
    assert!([Verdict::Pass, Verdict::Inconclusive].contains(&record.verdict), "{:?}", record.reasons);
    let turn = turn(&record);
    assert_accounted_for(turn);
    assert_eq!(turn.counts.iterations(), 777);
    assert_eq!(turn.sessions.missed, 0);
    assert!(turn.sessions.most_in_transaction <= 2, "{:?}", turn.sessions);
    // Every attempt is a visit.
    let wait = turn.wait.as_ref().unwrap();
    assert!(wait.samples == turn.counts.attempts_made() && wait.max.unwrap() > 0.0, "{wait:?}");

    let (code, out, err) = run(&mut bench.dbstress("churn --vus 20 --pool-size 1"));
    assert!(code == 2 && err.contains("with one connection nobody meets anybody"), "{out}{err}");
}

#[tokio::test]
async fn sessions_of_other_databases_are_nobodys_business() {
    let bench = Bench::new().await;
    // As of a run with the same number, elsewhere on the same server.
    let elsewhere = common::database().await;
    let mut theirs = Connection::open(&elsewhere.options, "dbstress/run1/vu0", &[Isolation::ReadCommitted]).await.unwrap();
    theirs.begin(Isolation::ReadCommitted).await.unwrap();
    let record = run_plan(&bench.database.options, &bench.place, plenty(iterations(1, 20), |_, _| {})).await;
    let turn = turn(&record);
    assert_eq!((turn.run, turn.verdict), (1, Verdict::Pass), "{:?}", turn.reasons);
    assert!(turn.sessions.most_in_transaction <= 1, "{:?}", turn.sessions);
    assert!(theirs.ask("SELECT 1").await.is_ok(), "it was not ended");
}

/// Where a statement of the load hangs for as long as the test likes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangs {
    AtARow,
    AtCommit,
}

/// Two virtual users that come no further; `load` is over, or the user ends it, and both are given up.
async fn gives_up(hangs: Hangs, load: Load, interrupts: bool) -> TurnRecord {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    // A COMMIT waits for whoever holds this lock.
    let slow = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ \
                BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON dbstress.unit_ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                WHEN (NEW.kind <> 'fence') EXECUTE FUNCTION public.slow()";
    session.execute(slow).await.unwrap();
    common::out_of_sight(&bench.database, "slow").await;
    let plan = plenty(load, |plan, booking| {
        plan.graceful_stop = Duration::from_secs(1);
        booking.targets = Targets::Spread { authorisations: 1, hot: None };
    });
    let (stop, interrupt) = watch::channel(false);
    let load = run_until(&bench.database.options, &bench.place, plan, interrupt);
    let hold = async {
        committed(&mut session, 10).await;
        let lock = match hangs {
            Hangs::AtARow => "SELECT FROM dbstress.authorisation WHERE run_id IS NOT NULL FOR UPDATE",
            Hangs::AtCommit => "SELECT pg_advisory_xact_lock(4711)",
        };
        session.execute(&format!("BEGIN; {lock}")).await.unwrap();
        let mut watcher = bench.database.session().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/run%/vu%' \
                       AND wait_event_type = 'Lock'";
        at_least(&mut watcher, 2, waiting).await;
        if interrupts {
            // Meanwhile others arrive, if the loop is open.
            tokio::time::sleep(Duration::from_millis(500)).await;
            stop.send_replace(true);
        }
    };
    let (record, ()) = tokio::join!(load, hold);
    // Only now: they were given up, not served.
    session.execute("ROLLBACK").await.unwrap();
    assert_eq!(record.interrupted, interrupts);
    let turn = turn(&record);
    assert_accounted_for(turn);
    assert_eq!(turn.verdict, if interrupts { Verdict::Inconclusive } else { Verdict::Pass }, "{:?}", turn.reasons);
    turn.clone()
}

#[tokio::test]
async fn what_hangs_when_the_time_is_over_is_given_up_after_the_graceful_stop() {
    let turn = gives_up(Hangs::AtARow, closed(&["0s:2", "6s:2"]), false).await;
    assert_eq!(
        (turn.counts.aborted.get(&Abort::Deadline), turn.counts.of(OutcomeClass::Unknown)),
        (Some(&2), 0),
        "{:?}",
        turn.counts
    );
    assert!(turn.seconds >= 7.0, "not before: {}", turn.seconds);
}

#[tokio::test]
async fn what_hangs_when_the_user_ends_the_run_is_given_up_although_its_deadline_is_far() {
    let turn = gives_up(Hangs::AtARow, closed(&["0s:2", "1h:2"]), true).await;
    assert_eq!(turn.counts.aborted.get(&Abort::Deadline), Some(&2), "{:?}", turn.counts);
}

#[tokio::test]
async fn a_commit_that_hangs_is_unknown_to_the_client_and_resolved_afterwards() {
    let turn = gives_up(Hangs::AtCommit, open(200.0, 3600, 2, 1000), true).await;
    // The other one waits for the row that the first has changed.
    assert_eq!(
        (turn.counts.of(OutcomeClass::Unknown), turn.counts.aborted.get(&Abort::Deadline)),
        (1, Some(&1)),
        "{:?}",
        turn.counts
    );
    assert!(turn.counts.dropped > 0, "whoever still waited is counted: {:?}", turn.counts);
    let classes = turn.audit.classes;
    assert_eq!((classes.unknown_absent, classes.unknown_unresolved), (1, 0), "{classes:?}");
}

/// A scenario of reservations that need not be fast, in the file `mine.toml` of a test's place.
fn write(place: &Place, head: &str, load: &str, rest: &str) {
    let text = format!(
        "summary = \"a test\"\nworkload = \"booking\"\n{head}\n[load]\n{load}\n[booking]\ntotal = 1000000\n{rest}\n\
         [[operation]]\nkind = \"reserve\"\n[[operation]]\nkind = \"browse\"\nweight = 0\n"
    );
    std::fs::write(place.0.join("mine.toml"), text).unwrap();
}

#[tokio::test]
async fn thresholds_that_are_missed_open_or_out_of_reach_have_an_exit_code_each() {
    let bench = Bench::new().await;
    // One virtual user and nobody may wait: of thousands of arrivals some are dropped, whatever the machine.
    let crowd = "rate = 20000.0\nvus = 1\nbacklog = 0\nduration = ";
    let outcome = |head: &str, load: &str, rest: &str| {
        write(&bench.place, head, load, rest);
        run(&mut bench.dbstress("run mine.toml --summary-export r.json"))
    };
    let (code, out, err) = outcome("thresholds = [\"dropped.count==0\"]", &format!("{crowd}\"1s\""), "");
    assert_eq!(code, 99, "{out}{err}");
    let record = bench.record();
    assert_eq!((record.verdict, record.decision), (Verdict::Missed, Decision::NoGo));
    assert_eq!(turn(&record).counts.iterations() + turn(&record).counts.dropped, 20_000);

    let abort = "thresholds = [{ threshold = \"dropped.count==0\", abort_on_fail = true }]";
    let (code, out, err) = outcome(abort, &format!("{crowd}\"1h\""), "");
    assert_eq!(code, 99, "{out}{err}");
    let record = bench.record();
    assert!(record.seconds < 600.0 && !record.interrupted, "{}", record.seconds);
    assert!(record.reasons.iter().any(|reason| reason.starts_with("stopped after")), "{:?}", record.reasons);

    // A number that will be reached is no reason to end before it is.
    let reached = "thresholds = [{ threshold = \"committed.count>=300\", abort_on_fail = true }]";
    let (code, out, err) = outcome(reached, "rate = 100.0\nvus = 20\nduration = \"4s\"", "");
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(turn(&bench.record()).counts.of(OutcomeClass::Committed), 400);

    // Nothing is claimed, and nothing that the server could have missed: whatever was kept, it shows nothing.
    for head in ["thresholds = [\"lag.max<1h\"]", ""] {
        let (code, out, err) = outcome(head, "iterations = 20", "");
        assert_eq!(code, 3, "{out}{err}");
        assert!(bench.record().reasons[0].starts_with("nothing was claimed"), "{out}{err}");
    }

    let (code, out, err) = outcome("thresholds = [\"browse.response:max<1h\"]", "iterations = 20", "");
    assert_eq!(code, 3, "{out}{err}");
    assert!(bench.record().reasons[0].contains("browse.response:max<1h cannot be judged: there were no"), "{out}{err}");

    let (code, out, err) = outcome("thresholds = [\"refused.count==0\"]", "iterations = 100", "authorisations = 1");
    assert_ne!(code, 2, "{out}{err}");
    let text = std::fs::read_to_string(bench.place.0.join("mine.toml")).unwrap().replace("total = 1000000", "total = 50");
    std::fs::write(bench.place.0.join("mine.toml"), text).unwrap();
    let (code, out, err) = run(&mut bench.dbstress("run mine.toml"));
    assert!(code == 2 && out.is_empty(), "{out}{err}");
    assert!(err.starts_with("error: mine.toml:3:15: no correct server can meet refused:count==0"), "{err}");
}

#[tokio::test]
async fn an_interrupt_ends_a_closed_and_an_open_loop_and_keeps_their_records() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    for (n, load) in ["--vus 5", "--vus 5 --think 1h", "--rate 200 --vus 5", "--rate 0.5 --vus 5"].into_iter().enumerate() {
        let run = Started::new(bench.dbstress(&format!("throughput --duration 2h {load} --no-thresholds --summary-export r.json")));
        at_least(&mut session, n as i64 + 1, "SELECT count(DISTINCT run_id) FROM dbstress.unit_ledger").await;
        run.signal(Signal::SIGINT);
        let (code, out, err) = run.ended().await;
        assert_eq!(code, 130, "{load}: {out}{err}");
        assert_no_panic(&out, &err);
        let record = bench.record();
        assert_eq!((record.verdict, record.interrupted), (Verdict::Inconclusive, true), "{load}");
        assert_accounted_for(turn(&record));
        assert_eq!(turn(&record).counts.of(OutcomeClass::Aborted), 0, "what was under way was finished: {load}");
    }
}

/// What a suite says of each scenario: name, decision, whether it was run.
fn entries(place: &Place) -> Vec<(String, String, bool)> {
    let text = std::fs::read_to_string(place.0.join("suite.json")).unwrap();
    let entries: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    entries.as_array().unwrap().iter().map(|e| (text(&e["name"]), text(&e["decision"]), e["was_run"].as_bool().unwrap())).collect()
}

const SUITE: [&str; 6] = ["contention", "throughput", "mixed", "flash-sale", "database-stress", "idempotency"];

#[test]
fn a_suite_says_go_when_all_of_it_does() {
    if common::not_applicable("it is about the private server") {
        return;
    }
    let place = Place::new();
    let mut suite = place.dbstress(&["suite", "--managed", "--profile", "smoke", "--time-scale", "0.1"]);
    // More of them than in a smoke test: everything that must be seen is seen in a tenth of its time. How fast the machine is does not matter.
    suite.args(["--vus", "20", "--summary-export", "suite.json"]).current_dir(&place.0);
    let (code, out, err) = run(&mut suite);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(entries(&place), SUITE.map(|name| (name.to_owned(), "GO".to_owned(), true)));
    assert!(out.contains("GO (pass): 6 of 6 scenarios say GO"), "{out}");
}

#[test]
fn a_suite_with_one_that_is_wrong_or_was_not_run_is_no_go() {
    if common::not_applicable("it is about the private server") {
        return;
    }
    let place = Place::new();
    let scenario = |name: &str, text: &str| std::fs::write(place.0.join(name), text).unwrap();
    scenario(
        "racy.toml",
        "summary = \"wrong\"\ntags = [\"suite\"]\nworkload = \"booking\"\nstrategy = \"naive\"\n[load]\nvus = 20\n\
         [booking]\ntargets = \"rounds\"\nhold = \"2ms\"\n[[operation]]\nkind = \"reserve\"\n",
    );
    scenario(
        "broken.toml",
        "summary = \"cannot be set up\"\ntags = [\"suite\"]\nworkload = \"sql\"\nsetup = \"setup.sql\"\n[[operation]]\nname = \"one\"\nsql = \"SELECT 1\"\n",
    );
    std::fs::write(place.0.join("setup.sql"), "SELECT no_such_function();\n").unwrap();
    scenario("other.toml", "summary = \"not of the suite\"\nworkload = \"booking\"\n");
    let suite = |files: &[&str]| {
        let mut suite = place.dbstress(&["suite", "--managed", "--profile", "smoke", "--time-scale", "0.02"]);
        run(suite.args(["--summary-export", "suite.json"]).args(files).current_dir(&place.0))
    };
    let (code, out, err) = suite(&["broken.toml", "racy.toml"]);
    assert_eq!(code, 1, "{out}{err}");
    let entries = entries(&place);
    assert_eq!(entries[..6].iter().map(|(name, ..)| &**name).collect::<Vec<_>>(), SUITE);
    assert_eq!(entries[6], ("broken".into(), "INCONCLUSIVE".into(), false), "{out}{err}");
    assert_eq!(entries[7], ("racy".into(), "NO-GO".into(), true), "{out}{err}");
    assert!(out.contains("NOT RUN") && out.contains("NO-GO (violated)"), "{out}");
    assert!(out.contains("again: dbstress run racy.toml --profile smoke"), "what is to be typed again names the file: {out}");

    let (code, out, err) = suite(&["other.toml"]);
    assert!(code == 2 && out.is_empty() && err.contains("no scenario of other.toml belongs to the suite"), "{out}{err}");
}
