//! Is what the virtual users ask of a server over HTTP judged as what they do themselves? A real server on a real PostgreSQL; and what is
//! between, real too: connections are reset, answers are lost.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Bench, Place, TestDatabase, plan, rounds, run};
use dbstress::api::{Mistake, Server, Settings};
use dbstress::audit::Breach;
use dbstress::error::Kind;
use dbstress::history::Asking;
use dbstress::http::Address;
use dbstress::invariant::Finding;
use dbstress::outcome::{OutcomeClass, Refusal};
use dbstress::plan::Plan;
use dbstress::record::{RunRecord, TurnRecord};
use dbstress::run::Request;
use dbstress::run::api::Target;
use dbstress::token::Secret;
use dbstress::verdict::Verdict;
use dbstress::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const VUS: u32 = 12;

/// A server of one thread on a database of its own, as patient as this machine may be slow.
async fn serve(database: &TestDatabase, change: impl FnOnce(&mut Settings)) -> (Server, Target) {
    let secret = Secret::random();
    let mut settings = Settings::new(database.options.clone(), secret.clone());
    settings.threads = 1;
    settings.retry_deadline = Duration::from_secs(30);
    change(&mut settings);
    let server = Server::start(settings).await.unwrap();
    let address = server.address();
    (server, Target { address, secret })
}

async fn ask(database: &TestDatabase, target: &Target, plan: Plan) -> Result<RunRecord> {
    let (_stop, interrupt) = watch::channel(false);
    let place = Place::new();
    let request = Request {
        plan,
        options: database.options.clone(),
        via: None,
        target: Some(target.clone()),
        command_name: "contention",
        command: "dbstress contention".into(),
        verify: "dbstress verify".into(),
        disposable: None,
        accepts_uncontrolled: false,
        server: None,
        state: place.0.clone(),
        interrupt,
    };
    dbstress::run::run(request, |_| {}).await
}

/// What a run of `plan` comes to at a server that was changed.
async fn at(database: &TestDatabase, plan: Plan, change: impl FnOnce(&mut Settings)) -> Result<RunRecord> {
    let (server, target) = serve(database, change).await;
    let record = ask(database, &target, plan).await;
    server.stop().await;
    record
}

fn contest(games: u64) -> Plan {
    plan("contention", |plan, _| {
        plan.load = rounds(VUS, games);
        plan.evidence.contested = 5;
    })
}

fn found(turn: &TurnRecord, breach: Breach) -> u64 {
    turn.audit.breaches.get(&breach).copied().unwrap_or(0)
}

fn is_broken(turn: &TurnRecord, invariant: &str) -> bool {
    turn.invariants.iter().any(|c| c.name == invariant && matches!(c.finding, Finding::Violated { .. }))
}

fn refused(result: Result<RunRecord>) -> Error {
    match result {
        Err(error) => error,
        Ok(record) => panic!("{}: {:?}", record.verdict.word(), record.reasons),
    }
}

#[tokio::test]
async fn a_contest_over_http_has_five_winners_a_round_and_controls_that_were_caught_there() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |_| {}).await;
    let record = ask(&database, &target, contest(40)).await.unwrap();
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    assert_eq!(record.controls.iter().filter(|control| control.fired).count(), 4, "{:?}", record.controls);
    let api = record.server.api.as_ref().unwrap();
    assert_eq!((&*api.address, api.pool_size), (&*target.address.to_string(), 20));
    let turn = &record.turns[0];
    assert_eq!((turn.name.as_str(), turn.audit.rounds, turn.counts.of(OutcomeClass::Committed)), ("serializable", 40, 200));
    assert_eq!(turn.counts.refused.get(&Refusal::InsufficientUnits), Some(&(40 * u64::from(VUS) - 200)));
    assert_eq!(turn.connect.as_ref().unwrap().samples, u64::from(VUS), "each connected once");
    assert!(turn.pool.is_none() && turn.counters.is_none());
    // What the server retried is counted here, with what the database server said of it.
    assert!(turn.counts.sqlstates.keys().any(|key| key.starts_with("40001 ")), "{:?}", turn.counts);
    assert!(turn.counts.attempts_made() > turn.counts.iterations());
    assert_eq!(RunRecord::from_json(&record.to_json().unwrap()).unwrap().to_json().unwrap(), record.to_json().unwrap());

    let mut session = database.session().await;
    let lines =
        format!("SELECT count(DISTINCT vu) FROM dbstress.unit_ledger WHERE run_id = {} AND attempt BETWEEN 1 AND 64", turn.run);
    assert!(session.integer(&lines).await.unwrap() > 1, "the ledger names the virtual users");
    assert_eq!(session.integer("SELECT count(*) FROM dbstress.run_grant").await.unwrap(), 0, "nobody may any more");
    assert_eq!(session.text("SELECT to_regnamespace('dbstress_control')::text").await.unwrap(), None);
    session.close().await;
    server.stop().await;
    let mut session = database.session().await;
    let tagged =
        "SELECT count(*) FROM dbstress.audit_entry WHERE is_load_test AND op_id IS NOT NULL AND login LIKE 'practitioner-%'";
    assert!(session.integer(tagged).await.unwrap() > 0);
    session.close().await;
}

#[tokio::test]
async fn a_server_that_checks_and_then_acts_is_found_out_by_audit_and_invariant() {
    let database = common::seeded().await;
    let record = at(&database, contest(40), |settings| settings.mistake = Some(Mistake::CheckThenAct)).await.unwrap();
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    let turn = &record.turns[0];
    assert_eq!(turn.name, "serializable", "what it says of itself");
    assert!(found(turn, Breach::Overbooked) > 0 && is_broken(turn, "units-within-total"), "{:?}", turn.audit.breaches);
}

#[tokio::test]
async fn what_is_acknowledged_and_not_done_is_lost_and_a_refusal_is_no_success() {
    let database = common::seeded().await;
    let record = at(&database, contest(30), |settings| settings.mistake = Some(Mistake::OkBeforeCommit)).await.unwrap();
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    assert!(found(&record.turns[0], Breach::AcknowledgedLost) > 0, "{:?}", record.turns[0].audit.breaches);

    let database = common::seeded().await;
    let record = at(&database, contest(10), |settings| settings.mistake = Some(Mistake::ErrorAsSuccess)).await.unwrap();
    assert_ne!(record.verdict, Verdict::Pass);
    assert!(record.reasons.iter().any(|why| why.contains("answered 200 with INSUFFICIENT_UNITS")), "{:?}", record.reasons);
    assert!(record.turns[0].audit.classes.unknown_absent > 0, "nobody was told: {:?}", record.turns[0].audit.classes);
}

fn keyed(games: u64) -> Plan {
    plan("idempotency", |plan, booking| {
        plan.load = rounds(VUS, games);
        plan.evidence.contested = 1;
        for operation in &mut booking.operations {
            operation.weight = match operation.request {
                Some(Asking::First) => 30.0,
                Some(Asking::HangUp) => 25.0,
                _ => 11.0,
            };
        }
        booking.keys.as_mut().unwrap().cleanup = 2_500;
    })
}

#[tokio::test]
async fn what_is_asked_for_with_a_key_is_done_once_whoever_hangs_up_and_a_server_that_forgets_keys_is_found_out() {
    let database = common::seeded().await;
    let record = at(&database, keyed(80), |_| {}).await.unwrap();
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let turn = &record.turns[0];
    assert!(turn.counts.of(OutcomeClass::Replayed) > 0 && turn.counts.unanswered > 0, "{:?}", turn.counts);
    assert!(turn.audit.classes.replayed_own > 0, "{:?}", turn.audit.classes);
    assert!(turn.counts.refused.get(&Refusal::KeyMismatch).is_some_and(|n| *n > 0));

    let record = at(&database, keyed(20), |settings| settings.mistake = Some(Mistake::ForgetsKey)).await.unwrap();
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
    assert!(found(&record.turns[0], Breach::KeyAppliedTwice) > 0, "{:?}", record.turns[0].audit.breaches);
}

#[tokio::test]
async fn schedules_are_changed_over_http_and_write_skews_are_found() {
    let database = common::residency(None).await;
    let plan = |games| common::scheduling("scheduling", |plan, _| plan.load = rounds(VUS, games));
    let hold = Duration::from_millis(3);
    let record = at(&database, plan(48), |settings| settings.hold = hold).await.unwrap();
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    let controls: Vec<&str> = record.controls.iter().filter(|c| c.fired).map(|c| c.name.as_str()).collect();
    assert_eq!(controls, ["naive", "repeatable-read", "naive", "repeatable-read"], "{:?}", record.controls);
    assert!(record.turns[0].gates.iter().any(|gate| gate.met && gate.name.contains("dangerous structures")));

    let unsafe_one = |settings: &mut Settings| {
        settings.hold = hold;
        settings.mistake = Some(Mistake::CheckThenAct);
    };
    let record = at(&database, plan(24), unsafe_one).await.unwrap();
    assert_eq!(record.verdict, Verdict::Violated, "{:?}", record.reasons);
}

/// What becomes of a request between client and server.
#[derive(Clone, Copy)]
enum Fate {
    /// Nothing.
    Pass,
    /// It is done, and the connection is reset before its answer arrives.
    AnswerLost,
    /// It never arrives, and the connection is reset.
    RequestLost,
    /// Somebody between answers.
    Answered(&'static str),
}

/// Passes on to `to` what arrives, but for the requests that change something: `fate` says what becomes of the nth of them.
async fn relay(to: &Address, fate: impl Fn(u64) -> Fate + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = Address::of(listener.local_addr().unwrap());
    let (to, fate, count) = ((to.host().to_owned(), to.port()), Arc::new(fate), Arc::new(AtomicU64::new(0)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (to, fate, count) = (to.clone(), fate.clone(), count.clone());
            tokio::spawn(async move { between(client, &to, &*fate, &count).await });
        }
    });
    address
}

async fn between(
    mut client: TcpStream,
    to: &(String, u16),
    fate: &(dyn Fn(u64) -> Fate + Send + Sync),
    count: &AtomicU64,
) -> Option<()> {
    let mut server = TcpStream::connect((to.0.as_str(), to.1)).await.ok()?;
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let request = &asked[..n.ok().filter(|n| *n > 0)?];
                let is_write = request.starts_with(b"POST /v1/auth");
                match if is_write { fate(count.fetch_add(1, Ordering::Relaxed)) } else { Fate::Pass } {
                    Fate::Pass => server.write_all(request).await.ok()?,
                    Fate::AnswerLost => {
                        server.write_all(request).await.ok()?;
                        server.read(&mut answered).await.ok().filter(|n| *n > 0)?;
                        let _ = client.set_zero_linger();
                        return None;
                    }
                    Fate::RequestLost => {
                        let _ = client.set_zero_linger();
                        return None;
                    }
                    Fate::Answered(text) => client.write_all(text.as_bytes()).await.ok()?,
                }
            }
            n = server.read(&mut answered) => client.write_all(&answered[..n.ok().filter(|n| *n > 0)?]).await.ok()?,
        }
    }
}

#[tokio::test]
async fn what_was_never_answered_is_found_out_present_or_absent() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |_| {}).await;
    let address = relay(&target.address, |n| match n % 10 {
        3 => Fate::AnswerLost,
        7 => Fate::RequestLost,
        _ => Fate::Pass,
    })
    .await;
    let record = ask(&database, &Target { address, ..target }, contest(40)).await.unwrap();
    server.stop().await;
    let turn = &record.turns[0];
    assert_eq!(record.verdict, Verdict::Pass, "{:?} {:?}", record.reasons, turn.audit.breaches);
    let classes = turn.audit.classes;
    assert!(classes.unknown_committed > 0 && classes.unknown_absent > 0 && classes.unknown_unresolved == 0, "{classes:?}");
    assert_eq!(classes.unknown_committed + classes.unknown_absent, turn.counts.of(OutcomeClass::Unknown));
    assert!(turn.connect.as_ref().unwrap().samples > u64::from(VUS), "they connected again");
}

#[tokio::test]
async fn a_server_that_is_restarted_under_load_leaves_nothing_broken_and_proves_nothing() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |_| {}).await;
    let running = ask(&database, &target, contest(80));
    let restarting = async {
        let mut session = database.session().await;
        // Of what is tested: the controls have their own ledger.
        common::committed(&mut session, 20).await;
        session.close().await;
        server.stop().await;
        let mut settings = Settings::new(database.options.clone(), target.secret.clone());
        settings.threads = 1;
        settings.retry_deadline = Duration::from_secs(30);
        settings.listen = SocketAddr::from(([127, 0, 0, 1], target.address.port()));
        Server::start(settings).await.unwrap()
    };
    let (record, server) = tokio::join!(running, restarting);
    server.stop().await;
    let record = record.unwrap();
    let turn = &record.turns[0];
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?} {:?}", record.reasons, turn.audit.breaches);
    assert!(record.reasons.iter().any(|why| why.contains("restarted")), "{:?}", record.reasons);
    assert_eq!(turn.audit.rounds, 80, "they went on");
    assert!(turn.connect.as_ref().unwrap().samples > u64::from(VUS), "each connected again");
}

#[tokio::test]
async fn who_is_turned_away_proves_nothing_and_is_told_why() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |settings| settings.limits = vec!["write=100/15m".parse().unwrap()]).await;
    // Somebody else's secret: everybody is turned away before anything is tried.
    let error = refused(ask(&database, &Target { secret: Secret::random(), ..target.clone() }, contest(5)).await);
    assert_eq!(error.kind(), Kind::Inconclusive);
    let said = error.to_string();
    assert!(said.contains("INVALID_TOKEN") && said.contains("looks") && said.contains("DBSTRESS_API_SECRET"), "{said}");
    // More is planned than is let through.
    let planned = plan("contention", |plan, _| plan.load = rounds(101, 5));
    let said = refused(ask(&database, &target, planned).await).to_string();
    assert!(said.contains("100 requests in 900 s") && said.contains("--limit"), "{said}");
    // Fewer at once, but not altogether: it ends with the first that is turned away.
    // Whether that is in a control or in what is tested is a matter of how soon the controls are caught.
    let said = match ask(&database, &target, contest(500)).await {
        Err(error) => {
            assert_eq!(error.kind(), Kind::Inconclusive);
            error.to_string()
        }
        Ok(record) => {
            assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
            record.reasons.join("; ")
        }
    };
    assert!(said.contains("429") && said.contains("RATE_LIMITED") && said.contains("--limit"), "{said}");
    server.stop().await;
}

const EXPIRED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 41\r\n\r\n\
                       {\"code\":\"TOKEN_EXPIRED\",\"message\":\"late\"}";

#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_ends_the_load_and_nothing_is_proved() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |_| {}).await;
    // Nothing is claimed, so that there are no controls: it happens in what is tested.
    let planned = plan("mixed", |plan, _| {
        plan.load = common::iterations(6, 400);
        plan.claims.clear();
        plan.thresholds.clear();
    });
    let address = relay(&target.address, |n| if n < 60 { Fate::Pass } else { Fate::Answered(EXPIRED) }).await;
    let record = ask(&database, &Target { address, ..target }, planned).await.unwrap();
    server.stop().await;
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
    assert!(record.reasons[0].contains("401 TOKEN_EXPIRED") && record.reasons[0].contains("clocks"), "{:?}", record.reasons);
    let counts = &record.turns[0].counts;
    assert!(counts.of(OutcomeClass::Committed) > 0 && counts.iterations() < 400, "{counts:?}");
}

#[tokio::test]
async fn tokens_that_live_shorter_than_the_load_are_renewed() {
    let database = common::seeded().await;
    let planned = plan("throughput", |plan, _| {
        plan.load = common::iterations(4, 60);
        plan.thresholds.clear();
        let dbstress::plan::Load::Closed { think, .. } = &mut plan.load else { panic!() };
        // Each works for longer than a token lives.
        *think = "300ms".parse().unwrap();
    });
    let record = at(&database, planned, |settings| settings.token_lifetime = Duration::from_secs(3)).await.unwrap();
    let counts = &record.turns[0].counts;
    assert_eq!((counts.iterations(), counts.of(OutcomeClass::Aborted)), (60, 0), "{counts:?} {:?}", record.reasons);
}

#[tokio::test]
async fn who_is_not_the_reference_server_on_this_database_is_refused_with_the_cure() {
    let database = common::seeded().await;
    let (server, target) = serve(&database, |_| {}).await;
    let other = common::seeded().await;
    let elsewhere = refused(ask(&other, &target, contest(5)).await);
    assert_eq!(elsewhere.kind(), Kind::Usage);
    assert!(elsewhere.to_string().contains("another database"), "{elsewhere}");

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = Address::of(listener.local_addr().unwrap());
    let stranger = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1 << 12];
        assert!(client.read(&mut asked).await.unwrap() > 0);
        client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope").await.unwrap();
        client.shutdown().await.unwrap();
        // Until the client has gone.
        let _ = client.read(&mut asked).await;
    });
    let error = refused(ask(&database, &Target { address: address.clone(), ..target.clone() }, contest(5)).await);
    stranger.await.unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("404 with nope") && error.to_string().contains("dbstress run mine.toml"), "{error}");
    // Nobody listens there any more.
    let error = refused(ask(&database, &Target { address, ..target.clone() }, contest(5)).await);
    assert!(error.kind() == Kind::Inconclusive && error.to_string().contains("dbstress serve"), "{error}");

    let impatient = plan("contention", |plan, _| plan.retry.deadline = Duration::from_secs(30));
    let error = refused(ask(&database, &target, impatient).await);
    assert!(error.kind() == Kind::Usage && error.to_string().contains("--retry-deadline 1m2s"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn what_the_server_decides_is_refused_on_the_command_line() {
    let bench = Bench::new().await;
    let target = "contention --rounds 5 --target http://127.0.0.1:9";
    for (flags, said) in [
        (" --strategy atomic", "--strategy: the server"),
        (" --pool-size 5", "--pool-size: the server"),
        (" --bug lock-and-read", "--bug: the server"),
        (" --hold 1ms", "--hold: the server"),
        (" --protocol simple", "--protocol: the server"),
    ] {
        let (code, _, err) = run(&mut bench.dbstress(&format!("{target}{flags}")));
        assert!(code == 2 && err.contains(said) && err.contains("dbstress serve"), "{flags}: {err}");
    }
    let (code, _, err) = run(&mut bench.dbstress(&format!("--via 127.0.0.1:9 {target}")));
    assert!(code == 2 && err.contains("--via"), "{err}");
    let (code, _, err) = run(&mut bench.dbstress(target));
    assert!(code == 2 && err.contains("DBSTRESS_API_SECRET"), "no server has left its secret: {err}");
    let (code, _, err) = run(bench.dbstress("contention --rounds 5").env("DBSTRESS_TARGET", "ftp://x"));
    assert!(code == 2 && err.contains("ftp"), "{err}");
    let faults = format!("{target} --fault reset@1s");
    let (code, _, err) = run(bench.dbstress(&faults).env("DBSTRESS_API_SECRET", "x".repeat(20)));
    assert!(code == 2 && err.contains("reset@1s") && err.contains("terminate"), "{err}");
}
