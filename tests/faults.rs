//! Do faults strike what they are meant for and nothing else, is everything healed whatever becomes of the program, and are the
//! operations that they met told apart rightly?

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, PATIENCE, Place, Started, assert_no_panic, at_least, on, run, within};
use dbstress::audit::Truth;
use dbstress::fault::{Fault, Planned};
use dbstress::history::{Event, Reader};
use dbstress::outcome::{Abort, OutcomeClass};
use dbstress::pg::ConnectOptions;
use dbstress::pg::admin::{Session, literal};
use dbstress::pg::cluster::Running;
use dbstress::plan::{Limit, Load, Plan};
use dbstress::record::{FaultRecord, RunRecord, TurnRecord};
use dbstress::run::Request;
use dbstress::scenario::{Booking, BookingOperation, Evidence};
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Rounds for so long, with these faults. Nothing is claimed, so that no control is needed; everything is examined all the same.
fn plan(seconds: u64, faults: &[&str], change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
    common::plan("contention", |plan, booking| {
        plan.load = Load::Rounds { vus: 10, limit: Limit::Duration(Duration::from_secs(seconds)) };
        plan.faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        plan.claims.clear();
        plan.evidence = Evidence::default();
        booking.strategies = vec![Strategy::ForUpdate];
        change(plan, booking);
    })
}

async fn run_plan(options: &ConnectOptions, server: Option<Arc<Running>>, place: &Place, plan: Plan) -> RunRecord {
    let (_stop, interrupt) = watch::channel(false);
    let request = Request {
        plan,
        options: options.clone(),
        via: None,
        target: None,
        command_name: "contention",
        command: "dbstress contention".into(),
        verify: "dbstress verify".into(),
        disposable: None,
        accepts_uncontrolled: true,
        server,
        state: place.0.clone(),
        interrupt,
    };
    dbstress::run::run(request, |_| {}).await.unwrap()
}

fn turn(record: &RunRecord) -> &TurnRecord {
    let [turn] = &record.turns[..] else { panic!("{:?} {:?}", record.reasons, record.not_run) };
    turn
}

fn fault(turn: &TurnRecord, fault: Fault) -> &FaultRecord {
    turn.faults.iter().find(|record| record.fault.fault == fault).unwrap()
}

/// What must hold after every fault of a server that keeps its word.
fn assert_right(record: &RunRecord) {
    assert_eq!(record.verdict, Verdict::Pass, "{:?} {:?}", record.reasons, turn(record).faults);
    assert_kept(record);
}

/// What a server that keeps its word has kept, whether or not there was time to see all that was to be seen.
fn assert_kept(record: &RunRecord) {
    let turn = turn(record);
    assert!(!turn.audit.is_violated() && turn.audit.incomplete.is_empty(), "{:?}", turn.audit);
    let classes = turn.audit.classes;
    let count = |class| turn.counts.of(class);
    assert_eq!(classes.acknowledged_present, count(OutcomeClass::Committed));
    assert_eq!(classes.refused, count(OutcomeClass::Refused));
    assert_eq!(classes.aborted, count(OutcomeClass::Aborted));
    assert_eq!(classes.unknown_committed + classes.unknown_absent, count(OutcomeClass::Unknown));
    assert!(classes.acknowledged_present > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_terminated_and_statements_cancelled() {
    let bench = Bench::new().await;
    let plan = plan(4, &["terminate@300ms..3500ms/100ms", "cancel@350ms..3500ms/50ms"], |_, booking| {
        // Somebody always waits for somebody's lock: then there is a statement to be cancelled.
        booking.hold = Duration::from_millis(2);
    });
    let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
    assert_right(&record);
    let turn = turn(&record);
    assert!(turn.counts.failed(Abort::ConnectionLost) > 0 && turn.counts.failed(Abort::QueryCancelled) > 0, "{:?}", turn.counts);
    for name in [Fault::Terminate, Fault::Cancel] {
        let fault = fault(turn, name);
        assert!(fault.struck > 0 && fault.struck <= fault.planned, "{fault:?}");
        assert!(fault.strikes.iter().all(|strike| strike.target.contains("dbstress/run")), "{fault:?}");
        assert!(fault.strikes[0].recovery_ms.is_some(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_commits_are_resolved_as_the_wire_knows_them() {
    let bench = Bench::new().await;
    let plan = plan(5, &["request-lost@200ms..4500ms/100ms", "response-lost@250ms..4500ms/100ms"], |_, _| {});
    let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
    assert_right(&record);
    let turn = turn(&record);
    let struck = |name, truth| fault(turn, name).strikes.iter().filter(|strike| strike.truth == Some(truth)).count() as u64;
    let (absent, present) = (struck(Fault::RequestLost, Truth::NeverSent), struck(Fault::ResponseLost, Truth::Committed));
    assert!(absent > 0 && present > 0, "{:?}", turn.faults);
    assert_eq!(absent, fault(turn, Fault::RequestLost).struck);
    assert_eq!(present, fault(turn, Fault::ResponseLost).struck);
    assert_eq!((turn.audit.classes.unknown_absent, turn.audit.classes.unknown_committed), (absent, present));
    assert_eq!(turn.audit.truths_met, absent + present, "each of them was matched with its operation");
    // Faults stand in the same history, on the same clock.
    let marks = turn.histories.iter().flat_map(|path| Reader::open(std::path::Path::new(path)).unwrap());
    let marks: Vec<_> = marks.filter_map(|event| if let Event::Fault(mark) = event.unwrap() { Some(mark) } else { None }).collect();
    assert_eq!(marks.iter().filter(|mark| mark.struck).count() as u64, absent + present);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_wires_leave_nothing_half_done() {
    let bench = Bench::new().await;
    let faults = ["reset@200ms..3s/100ms", "half-open@300ms..3s/500ms+300ms", "delay=5ms@1s+1s"];
    let plan = plan(4, &faults, |_, booking| booking.hold = Duration::from_millis(2));
    let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
    assert_right(&record);
    assert!(turn(&record).faults.iter().all(|fault| fault.struck > 0), "{:?}", turn(&record).faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_has_kept_what_it_acknowledged() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let server = Arc::new(place.start().await);
    common::seed(&server.options).await;
    let postmaster = server.postmaster().unwrap();
    let faults = ["kill-backend@500ms", "crash@1s", "kill@1500ms", "restart@2s", "terminate@100ms..5s/200ms"];
    let record = run_plan(&server.options, Some(server.clone()), &place, plan(8, &faults, |_, _| {})).await;
    assert_kept(&record);
    let turn = turn(&record);
    for name in [Fault::KillBackend, Fault::Crash, Fault::Kill, Fault::Restart] {
        assert_eq!(fault(turn, name).struck, 1, "{:?}", turn.faults);
    }
    assert!(fault(turn, Fault::KillBackend).strikes[0].recovery_ms.is_some(), "{:?}", turn.faults);
    assert!(!postmaster.is_alive() && server.postmaster().is_some(), "another postmaster serves the same cluster");
    assert_eq!(turn.settings["synchronous_commit"], "on");
    assert!(turn.counts.failed(Abort::ConnectionLost) >= 10, "everybody was thrown out: {:?}", turn.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_goes_on() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let server = Arc::new(place.start().await);
    common::seed(&server.options).await;
    let plan = plan(4, &["freeze@500ms+700ms", "freeze-backend@1500ms+700ms"], |_, _| {});
    let record = run_plan(&server.options, Some(server.clone()), &place, plan).await;
    assert_right(&record);
    for name in [Fault::Freeze, Fault::FreezeBackend] {
        let fault = fault(turn(&record), name);
        assert!(fault.struck == 1 && fault.strikes[0].lasted_ms >= 700.0, "{fault:?}");
    }
    let frozen = fault(turn(&record), Fault::Freeze).strikes[0].recovery_ms.unwrap();
    assert!(frozen >= 690.0, "nothing succeeds while nobody runs: {frozen} ms");
    assert!(stopped(&server).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_did_not_strike_makes_nothing_conclusive() {
    let bench = Bench::new().await;
    // Whoever only looks writes nothing: there is no COMMIT to lose.
    let plan = common::plan("churn", |plan, booking| {
        plan.load = common::iterations(4, 400);
        plan.faults = vec!["response-lost@1ms..100ms/50ms".parse::<Planned>().unwrap()];
        plan.claims.clear();
        plan.evidence = Evidence::default();
        booking.strangers = 0.0;
        booking.strategies = vec![Strategy::ForUpdate];
        let kind = dbstress::history::OperationKind::Browse;
        booking.operations = vec![BookingOperation { name: "browse".into(), kind, units: 0, weight: 1.0, request: None }];
    });
    let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
    assert_eq!(fault(turn(&record), Fault::ResponseLost).struck, 0);
    let said = record.reasons.join("\n");
    assert!(said.contains("measured: struck 0 of 2 times (") && said.contains("more often"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_ours_is_not_touched() {
    let bench = Bench::new().await;
    let server = bench.database.session().await.text("SELECT pg_postmaster_start_time()::text").await.unwrap();
    for fault in ["crash@1s", "kill@1s", "restart@1s", "kill-backend@1s", "freeze@1s+1s", "freeze-backend@1s+1s"] {
        let (code, out, err) = run(&mut bench.dbstress(&format!("contention --duration 5s --fault {fault}")));
        assert!(code == 2 && out.is_empty() && err.contains("--managed") && err.contains("terminate"), "{fault}: {out}{err}");
    }
    assert_eq!(bench.database.session().await.text("SELECT pg_postmaster_start_time()::text").await.unwrap(), server);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_else_is_connected_to_the_private_server_is_spared() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let server = place.start().await;
    common::seed(&server.options).await;
    let mut guest = Session::connect(&server.options.with_database("postgres"), "guest").await.unwrap();
    let (code, out, err) = run(&mut place.dbstress(&["contention", "--duration", "5s", "--fault", "crash@1s"]));
    assert!(code == 2 && out.is_empty() && err.contains("guest on postgres") && err.contains("--state-dir"), "{out}{err}");
    assert_eq!(guest.integer("SELECT 1").await.unwrap(), 1);
    guest.close().await;

    // Whoever comes later is spared too.
    let faults = "crash@2s,freeze@2s+1s,kill-backend@2s";
    let arguments = ["contention", "--vus", "8", "--duration", "4s", "--strategy", "for-update", "--fault", faults];
    let started = Started::new(place.dbstress(&arguments));
    started.says("for-update …").await;
    let mut guest = Session::connect(&server.options.with_database("postgres"), "guest").await.unwrap();
    let (code, out, err) = started.ended().await;
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(code == 3 && words.contains("others are connected to the server: dbstress/guest on postgres"), "{out}{err}");
    assert_eq!(guest.integer("SELECT 1").await.unwrap(), 1);
    guest.close().await;
}

/// The server's processes that are stopped.
fn stopped(server: &Running) -> Vec<i32> {
    let state = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('T')).unwrap_or_default()
    };
    let all = server.processes().into_iter().chain(server.postmaster()).map(|process| process.pid);
    all.filter(|pid| state(*pid)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_goes_on_whatever_becomes_of_the_program() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let server = place.start().await;
    common::seed(&server.options).await;
    for signals in [&[Signal::SIGKILL][..], &[Signal::SIGINT], &[Signal::SIGINT, Signal::SIGINT], &[Signal::SIGTERM]] {
        let arguments = ["contention", "--vus", "8", "--duration", "10m", "--fault", "freeze@300ms+5m"];
        let started = Started::new(place.dbstress(&arguments));
        within(PATIENCE, "the server is frozen", || !stopped(&server).is_empty()).await;
        for signal in signals {
            started.signal(*signal);
            if *signal == Signal::SIGINT && signals.len() > 1 {
                // The second must be a second one.
                started.says("interrupted").await;
                break;
            }
        }
        let (code, out, err) = started.ended().await;
        assert_eq!(code, if signals[0] == Signal::SIGKILL { -1 } else { 130 }, "{out}{err}");
        assert_no_panic(&out, &err);
        within(PATIENCE, "the server goes on", || stopped(&server).is_empty()).await;
        let mut session = Session::connect(&server.options, "test").await.unwrap();
        assert_eq!(session.integer("SELECT 1").await.unwrap(), 1);
        session.close().await;
    }
}

/// At whatever moment a run with every kind of fault is interrupted, nothing of it is left: no process that is stopped, no session, and a
/// server that can be used.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_leaves_nothing_half_healed() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let (code, out, err) = run(&mut place.dbstress(&["seed"]));
    assert_eq!(code, 0, "{out}{err}");
    let faults = "terminate@100ms..9m/70ms,crash@500ms,freeze@1100ms+200ms,kill@1500ms,half-open@200ms..9m/400ms+100ms,\
                  request-lost@150ms..9m/90ms,restart@2500ms,kill-backend@3s,freeze-backend@3200ms+200ms";
    // Spread over the faults; how far each run has come by then is left to chance.
    for moment in (0..8).map(|n| Duration::from_millis(150 + 450 * n)) {
        let command = on_private(&place, &format!("contention --vus 8 --duration 10m --strategy for-update --fault {faults}"));
        let started = Started::new(command);
        started.says("for-update …").await;
        tokio::time::sleep(moment).await;
        started.signal(Signal::SIGINT);
        let (code, out, err) = started.ended().await;
        assert_eq!(code, 130, "after {moment:?}: {out}{err}");
        assert_no_panic(&out, &err);
        let server = place.start().await;
        assert!(stopped(&server).is_empty(), "after {moment:?}");
        let mut session = Session::connect(&server.options, "test").await.unwrap();
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbstress/run%'";
        assert_eq!(session.integer(left).await.unwrap(), 0, "after {moment:?}");
        session.close().await;
    }
    let (code, out, err) = run(&mut place.dbstress(&["verify"]));
    assert_eq!(code, 0, "{out}{err}");
}

fn on_private(place: &Place, arguments: &str) -> std::process::Command {
    let mut command = place.dbstress(&arguments.split(' ').collect::<Vec<_>>());
    command.current_dir(&place.0);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_a_file_are_those_of_the_flag() {
    let bench = Bench::new().await;
    let (_, text, _) = run(&mut bench.dbstress("scenarios show contention"));
    let text = text.replacen("dataset = \"clinic\"", "dataset = \"clinic\"\nfaults = [\"terminate@200ms..1s/100ms\"]", 1);
    std::fs::write(bench.place.0.join("mine.toml"), &text).unwrap();
    let command = "run mine.toml --vus 8 --duration 2s --strategy for-update --summary-export r.json";
    let (code, out, err) = run(&mut on(&bench.place, &bench.database.options, command));
    assert!([0, 3].contains(&code) && out.contains("terminate@200ms..1s/100ms"), "{out}{err}");
    assert!(fault(turn(&bench.record()), Fault::Terminate).struck > 0);
    std::fs::write(bench.place.0.join("mine.toml"), text.replace("terminate@", "terminated@")).unwrap();
    let (code, _, err) = run(&mut on(&bench.place, &bench.database.options, "run mine.toml"));
    assert!(code == 2 && err.contains("did you mean `terminate`?") && err.contains("mine.toml:"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_after_which_nothing_succeeds_proves_nothing() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let server = Arc::new(place.start().await);
    common::seed(&server.options).await;
    // The log writer is held for a while before a crash: by then the load is over.
    let record = run_plan(&server.options, Some(server.clone()), &place, plan(2, &["crash@1990ms"], |_, _| {})).await;
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
    let said = record.reasons.join("\n");
    assert!(said.contains("crash@1s990ms struck, and something succeeded afterwards"), "{said}");
    assert!(said.contains("followed by success 0 times") || said.contains("struck 0 of 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_one_of_an_effect() {
    let bench = Bench::new().await;
    let plan = common::plan("idempotency", |plan, booking| {
        plan.load = Load::Rounds { vus: 10, limit: Limit::Duration(Duration::from_secs(4)) };
        plan.faults = vec!["response-lost@200ms..3500ms/50ms".parse().unwrap()];
        plan.claims.clear();
        plan.evidence = Evidence::default();
        // Nobody hangs up: whoever was not answered was met by the fault.
        booking.operations.retain(|operation| operation.request == Some(dbstress::history::Asking::First));
    });
    let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
    let turn = turn(&record);
    let fault = fault(turn, Fault::ResponseLost);
    let acknowledged = fault.strikes.iter().filter(|strike| strike.truth == Some(Truth::Committed)).count() as u64;
    assert!(acknowledged > 0 && acknowledged == fault.struck, "{fault:?}");
    assert!(!turn.audit.is_violated() && turn.audit.incomplete.is_empty(), "{:?}", turn.audit);
    // Most of those who ask are told a stored answer, and have nothing to lose.
    assert_eq!((turn.counts.unanswered, turn.audit.truths_met), (acknowledged, acknowledged));
    assert_eq!(turn.audit.classes.took_effect_unanswered(), acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_is_seen_on_tables_of_ones_own_too() {
    let bench = Bench::new().await;
    let write = |name: &str, text: &str| std::fs::write(bench.place.0.join(name), text).unwrap();
    write("setup.sql", "DROP TABLE IF EXISTS marker; CREATE TABLE marker (op_id bigint PRIMARY KEY);");
    write(
        "mine.toml",
        "summary = \"a test\"\nworkload = \"sql\"\nsetup = \"setup.sql\"\nfaults = [\"terminate@200ms..2s/50ms\", \"reset@200ms..2s/50ms\"]\n\
         [load]\nvus = 8\nduration = \"3s\"\n[[operation]]\nname = \"mark\"\nstatements = [{ sql = \"INSERT INTO marker VALUES ($op_id)\" }]\n",
    );
    let command = "run mine.toml --accept-uncontrolled --disposable DB --summary-export r.json"
        .replace("DB", &bench.database.options.database);
    let (code, out, err) = run(&mut on(&bench.place, &bench.database.options, &command));
    assert_eq!(code, 0, "{out}{err}");
    let record = bench.record();
    for fault in &turn(&record).faults {
        assert!(fault.struck > 0 && fault.strikes.iter().any(|strike| strike.recovery_ms.is_some()), "{fault:?}");
    }
    // Whoever lost the session before the first attempt has an identifier of its own all the same.
    assert_eq!(turn(&record).counts.failed(Abort::UniqueViolation), 0, "{:?}", turn(&record).counts);
}

/// An address behind which one server can be put in the place of another, as behind a port, a virtual address or a proxy.
struct Front {
    port: u16,
    leads_to: watch::Sender<u16>,
}

impl Front {
    async fn before(server: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (leads_to, led) = watch::channel(server.tcp.port);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut led = led.clone();
                tokio::spawn(async move {
                    let port = *led.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = led.changed() => {}
                    }
                });
            }
        });
        Self { port, leads_to }
    }

    /// From now on; connections to whoever was there are cut.
    fn leads_to(&self, server: &Running) {
        self.leads_to.send_replace(server.tcp.port);
    }

    /// How the servers behind it are reached as by somebody who has never been there.
    fn options(&self, password: &ConnectOptions) -> ConnectOptions {
        let url = password.url(true).replace(&format!(":{}/", password.port), &format!(":{}/", self.port));
        ConnectOptions::from_url(&url, &|_| None).unwrap()
    }
}

/// That nothing of a run was made on a server that it met by mistake.
async fn assert_untouched(server: &Running, is_seeded: bool) {
    let mut session = Session::connect(&server.options, "test").await.unwrap();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbstress%'";
    assert_eq!(session.integer(schemas).await.unwrap(), i64::from(is_seeded));
    if is_seeded {
        let made = "SELECT (SELECT count(*) FROM dbstress.run) + (SELECT count(*) FROM dbstress.unit_ledger)";
        assert_eq!(session.integer(made).await.unwrap(), 0);
    }
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_same_address_is_never_taken_for_the_tested_one() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (tested, other) = (place.start().await, elsewhere.start().await);
    common::seed(&tested.options).await;
    let mut session = Session::connect(&other.options, "test").await.unwrap();
    let password = literal(tested.tcp.password.as_deref().unwrap());
    session.execute(&format!("ALTER ROLE CURRENT_USER PASSWORD {password}")).await.unwrap();
    session.close().await;
    let front = Front::before(&tested).await;
    let options = front.options(&tested.tcp);
    let file = |name: &str, text: &str| std::fs::write(place.0.join(name), text).unwrap();
    file("setup.sql", "DROP TABLE IF EXISTS marker; CREATE TABLE marker (op_id bigint PRIMARY KEY)");
    file(
        "mine.toml",
        "summary = \"a test\"\nworkload = \"sql\"\nsetup = \"setup.sql\"\n[load]\nvus = 4\nduration = \"1h\"\n\
         [[operation]]\nname = \"mark\"\nsql = \"INSERT INTO marker VALUES ($op_id)\"\n",
    );
    let rounds = "contention --vus 8 --strategy atomic --rounds 25";
    let forever = "contention --vus 8 --strategy atomic --duration 1h";
    let mine = "run mine.toml --accept-uncontrolled --threshold committed.count>=1";
    let lines = "SELECT count(*) FROM dbstress.unit_ledger";
    // What is run, when the other server takes the place of the tested one, and what has been done on that by then.
    let moments = [
        (forever, "controls before …", None),
        (forever, "atomic …", Some(lines)),
        (mine, "mine …", Some("SELECT count(*) FROM marker")),
        (rounds, "controls after …", None),
    ];
    let mut is_seeded = false;
    for (command, moment, done) in moments.into_iter().chain([(forever, "atomic …", Some(lines))]) {
        front.leads_to(&tested);
        let mut session = Session::connect(&tested.options, "test").await.unwrap();
        let before = match done {
            Some(lines) if command != mine => session.integer(lines).await.unwrap(),
            _ => 0,
        };
        let started = Started::new(on(&place, &options, command));
        started.says(moment).await;
        if let Some(lines) = done {
            at_least(&mut session, before + 20, lines).await;
        }
        session.close().await;
        if is_seeded {
            // The last time the tested server is really gone.
            assert!(place.identity("postmaster").signal(Signal::SIGKILL));
        }
        front.leads_to(&other);
        let (code, out, err) = started.ended().await;
        let said = format!("{out}{err}");
        assert_eq!(code, 3, "{command}, {moment}: {said}");
        assert_no_panic(&out, &err);
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("another server answers now at") && words.contains("its system identifier is"), "{moment}: {said}");
        assert!(!words.contains("VIOLATED") && !words.contains("does not exist"), "{moment}: {said}");
        assert_untouched(&other, is_seeded).await;
        if command == rounds {
            // With a dataset of its own it might well be taken for the tested one.
            common::seed(&other.options).await;
            is_seeded = true;
        }
    }
}
