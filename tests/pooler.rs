//! Does a load go through a pooler, in any protocol, as it goes to the server itself; and is said what cannot be done there?

mod common;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::programs::{Program, left_out, pgbouncer};
use common::{Bench, COUNTER, COUNTER_RULE, PATIENCE, Place as Folder, TestDatabase, assert_no_panic, run};
use dbstress::outcome::OutcomeClass;
use dbstress::pg::cluster::account::Account;
use dbstress::pg::load::{Between, Connection, Isolation, Protocol, keeps_statements, recognise, scout};
use dbstress::pg::{ConnectOptions, Host, Place};
use dbstress::plan::{HAZARD, Limit, Load, Plan};
use dbstress::record::RunRecord;
use dbstress::run::Request;
use dbstress::scenario::{Booking, Evidence};
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;
use tokio::sync::watch;

/// The protocols that need nothing of a session.
const NAMELESS: [Protocol; 2] = [Protocol::Extended, Protocol::Simple];

/// A PgBouncer of one test, which ends with it, even if the test is killed.
struct PgBouncer {
    /// Holds the pooler: it ends when nobody has the other end of its standard input any more.
    holder: Child,
    directory: PathBuf,
    port: u16,
}

/// How a pooler is set up.
#[derive(Clone, Copy)]
struct Pooling {
    mode: &'static str,
    /// Connections to the server, for each user and database.
    size: u32,
    /// More settings, line by line.
    more: &'static str,
}

const TRANSACTION: Pooling = Pooling { mode: "transaction", size: 6, more: "" };

impl PgBouncer {
    /// Before the server of `database`, which it knows by its name and, if `leads_to` says so, takes for another.
    async fn start(database: &ConnectOptions, leads_to: &ConnectOptions, pooling: Pooling) -> Self {
        let program = program().unwrap();
        for _ in 0..5 {
            if let Some(started) = Self::try_start(program, database, leads_to, pooling).await {
                return started;
            }
        }
        panic!("PgBouncer does not start: {}", program.path.display());
    }

    /// None if somebody else was quicker to take the port.
    async fn try_start(program: &Program, database: &ConnectOptions, leads_to: &ConnectOptions, pooling: Pooling) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("pooler-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = common::base().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let account = Account::for_server(Path::new("/nonexistent")).unwrap();
        account.own(&directory).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = with_password(leads_to);
        let host = match &server.host {
            Host::Tcp(host) => host.clone(),
            Host::Socket(directory) => directory.display().to_string(),
        };
        let Pooling { mode, size, more } = pooling;
        let users = directory.join("users");
        let password = server.password.clone().unwrap_or_default();
        std::fs::write(&users, format!("\"{}\" \"{password}\"\n", server.user)).unwrap();
        let settings = directory.join("settings");
        let text = format!(
            "[databases]\n{} = host={host} port={} dbname={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 200\nserver_login_retry = 1\n{}{more}\n",
            database.database,
            server.port,
            leads_to.database,
            users.display(),
            forgets_names(program),
        );
        std::fs::write(&settings, text).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let holder = account
            .command(Path::new("/bin/sh"))
            .args(["-c", "\"$0\" \"$1\" & read end; kill -9 $!; wait"])
            .args([&program.path, &settings])
            .envs(program.libraries.iter().map(|libraries| ("LD_LIBRARY_PATH", libraries)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Self { holder, directory, port };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(started.directory.join("log")).unwrap();
            if said.contains("process up") && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(started);
            }
            if said.contains("FATAL") || Instant::now() > deadline {
                assert!(said.contains("in use"), "PgBouncer does not start: {said}");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn place(&self) -> Place {
        Place { host: Host::Tcp("127.0.0.1".into()), port: self.port }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(mut end) = self.holder.stdin.take() {
            let _ = end.write_all(b"\n");
        }
        let _ = self.holder.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The way to the server for whoever runs as somebody else than its own user.
fn with_password(server: &ConnectOptions) -> ConnectOptions {
    if server.password.is_some() || matches!(server.host, Host::Tcp(_)) {
        return server.clone();
    }
    let (code, url, err) = run(common::dbstress().args(["db", "url"]));
    assert_eq!(code, 0, "{err}");
    ConnectOptions::from_url(url.trim(), &|_| None).unwrap()
}

/// PgBouncer; without it a test is left out.
fn program() -> Option<&'static Program> {
    pgbouncer().as_ref().inspect_err(|why| left_out(why)).ok()
}

/// The setting by which a PgBouncer that could carry named statements over does not.
fn forgets_names(program: &Program) -> &'static str {
    let version = program.command().arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let minor = version.split_whitespace().nth(1).and_then(|v| v.split('.').nth(1)?.parse().ok()).unwrap_or(0);
    if minor >= 21 { "max_prepared_statements = 0\n" } else { "" }
}

/// A seeded database behind a pooler in transaction mode.
async fn pooled() -> (Bench, PgBouncer) {
    let bench = Bench::new().await;
    let pooler = PgBouncer::start(&bench.database.options, &bench.database.options, TRANSACTION).await;
    (bench, pooler)
}

/// A plan that anybody can keep whose machine is busy: twice as many virtual users as the pooler has connections, and what must have been seen is that
/// they met.
fn plan(scenario: &str, protocol: Protocol, change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
    common::plan(scenario, |plan, booking| {
        plan.protocol = protocol;
        plan.evidence = Evidence { contested: 1, mechanism: false, ..plan.evidence.clone() };
        booking.hold = Duration::from_millis(2);
        change(plan, booking);
    })
}

async fn run_plan(options: &ConnectOptions, via: Option<Place>, place: &Folder, plan: Plan) -> RunRecord {
    let (_stop, interrupt) = watch::channel(false);
    let request = Request {
        plan,
        options: options.clone(),
        via,
        target: None,
        command_name: "contention",
        command: "dbstress contention".into(),
        verify: "dbstress verify".into(),
        disposable: None,
        accepts_uncontrolled: true,
        server: None,
        state: place.0.clone(),
        interrupt,
    };
    dbstress::run::run(request, |_| {}).await.unwrap()
}

#[track_caller]
fn assert_passed(record: &RunRecord) {
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    assert!(record.controls.iter().all(|control| control.fired), "{:?}", record.controls);
    assert_eq!(record.server.via.as_ref().unwrap().between, Between::TransactionPooler);
}

#[tokio::test]
async fn every_safe_strategy_passes_through_a_pooler_that_has_fewer_connections_than_there_are_users() {
    if program().is_none() {
        return;
    }
    let (bench, pooler) = pooled().await;
    for protocol in NAMELESS {
        let plan = plan("contention", protocol, |plan, booking| {
            plan.load = common::rounds(12, 15);
            booking.strategies = Strategy::safe(HAZARD).collect();
        });
        let record = run_plan(&bench.database.options, Some(pooler.place()), &bench.place, plan).await;
        assert_passed(&record);
        assert_eq!(record.turns.len(), 8);
        let rounds_have_their_winners = record.turns.iter().all(|turn| turn.counts.of(OutcomeClass::Committed) == 15 * 5);
        assert!(rounds_have_their_winners, "{:?}", record.turns);
    }
    let mut session = bench.database.session().await;
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/run%'";
    assert!(
        (1..=6).contains(&session.integer(idle).await.unwrap()),
        "the pooler keeps its connections, and had no more than these"
    );
}

#[tokio::test]
async fn an_unsafe_strategy_is_caught_and_the_report_says_what_was_between() {
    if program().is_none() {
        return;
    }
    let (bench, pooler) = pooled().await;
    for protocol in NAMELESS {
        let (place, protocol) = (pooler.place(), protocol.word());
        let command = format!(
            "contention --strategy naive --vus 12 --rounds 30 --hold 2ms --via {place} --protocol {protocol} --summary-export r.json"
        );
        let (code, out, err) = run(&mut bench.dbstress(&command));
        assert_eq!(code, 1, "{out}{err}");
        assert_no_panic(&out, &err);
        let said = out.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            format!("{protocol} protocol"),
            format!("through {place}, a pooler that gives each transaction a server connection of its choice"),
            format!("--protocol {protocol}"),
            format!("--via {place}"),
        ] {
            assert!(said.contains(&words), "`{words}` is not in {out}");
        }
        assert_eq!(bench.record().server.via.unwrap().address, place.to_string());
        assert_eq!(run(&mut bench.dbstress("seed --reset")).0, 0);
    }
}

#[tokio::test]
async fn keys_and_churn_pass_through_a_pooler() {
    if program().is_none() {
        return;
    }
    let (bench, pooler) = pooled().await;
    let keys = plan("idempotency", Protocol::Extended, |plan, booking| {
        plan.load = common::rounds(12, 60);
        booking.strategies = vec![Strategy::ForUpdate];
    });
    assert_passed(&run_plan(&bench.database.options, Some(pooler.place()), &bench.place, keys).await);
    let churn = plan("churn", Protocol::Simple, |plan, booking| {
        plan.load = common::iterations(12, 600);
        booking.strategies = vec![Strategy::Optimistic];
    });
    assert_passed(&run_plan(&bench.database.options, Some(pooler.place()), &bench.place, churn).await);
}

#[tokio::test]
async fn what_is_never_answered_is_resolved_through_a_pooler_too() {
    if program().is_none() {
        return;
    }
    let (bench, pooler) = pooled().await;
    for protocol in NAMELESS {
        let plan = plan("contention", protocol, |plan, booking| {
            plan.load = Load::Rounds { vus: 12, limit: Limit::Duration(Duration::from_secs(3)) };
            let faults = ["terminate@200ms..2s/100ms", "response-lost@200ms..2s/200ms", "request-lost@200ms..2s/200ms"];
            plan.faults = faults.iter().map(|text| text.parse().unwrap()).collect();
            plan.claims.clear();
            plan.evidence = Evidence::default();
            booking.strategies = vec![Strategy::ForUpdate];
        });
        let record = run_plan(&bench.database.options, Some(pooler.place()), &bench.place, plan).await;
        assert_eq!(record.verdict, Verdict::Pass, "{:?} {:?}", record.reasons, record.turns[0].faults);
        let turn = &record.turns[0];
        assert!(turn.faults.iter().all(|fault| fault.struck > 0), "{:?}", turn.faults);
        let classes = &turn.audit.classes;
        assert!(classes.unknown_committed > 0 && classes.unknown_absent > 0 && turn.audit.truths_met > 0, "{classes:?}");
    }
}

/// `dbstress ARGUMENTS` ends with `code` and says all of `words`, before anything was run.
#[track_caller]
fn refused(bench: &Bench, database: &ConnectOptions, arguments: &str, code: i32, words: &[&str]) {
    let (found, out, err) = run(&mut common::on(&bench.place, database, arguments));
    assert_eq!((found, &*out), (code, ""), "{arguments}: {err}");
    for word in words {
        assert!(err.contains(word), "{arguments}: `{word}` is missing from: {err}");
    }
    assert_no_panic(&out, &err);
}

#[tokio::test]
async fn what_cannot_be_done_through_a_pooler_is_refused_with_its_cure() {
    if program().is_none() {
        return;
    }
    let (bench, pooler) = pooled().await;
    let (database, place) = (&bench.database.options, pooler.place());
    let via = |arguments: &str| format!("{arguments} --via {place}");
    let short = "contention --vus 8 --rounds 5";
    let names = ["does not carry prepared statements over", "--protocol extended"];
    refused(&bench, database, &via(short), 2, &names);
    for bug in ["early-unlock --strategy advisory --hold 1ms", "async-commit --strategy atomic --fault crash@1s"] {
        let code = if bug.contains("crash") { &["private server"][..] } else { &["needs a session of its own", "leave out --via"] };
        refused(&bench, database, &via(&format!("{short} --protocol simple --bug {bug}")), 2, code);
    }
    std::fs::write(bench.place.0.join("set.sql"), "SET statement_timeout = 1000;\nSELECT 1;\n").unwrap();
    let script = "run -f set.sql --vus 2 --iterations 4 --protocol extended --threshold failed.count==0";
    refused(&bench, database, &via(script), 2, &["set.sql:1: `SET STATEMENT_TIMEOUT` needs a session of its own", "SET LOCAL"]);

    // As whom it connects, and where to, is the URL's; a pooler in its place is none.
    let url = database.through(&place);
    let cure = format!("--via {place}");
    let indirect = ["there is no server but a pooler", "--database-url of the server itself", &cure];
    for command in [short, "seed --reset", "cancel-storm", "pool"] {
        refused(&bench, &url, command, 2, &indirect);
    }
    let quiet = Pooling { more: "ignore_startup_parameters = extra_float_digits", ..TRANSACTION };
    let quiet = PgBouncer::start(database, database, quiet).await;
    let cure = format!("--via {}", quiet.place());
    for command in [short, "seed --reset"] {
        refused(&bench, &database.through(&quiet.place()), command, 2, &["there is no server but a pooler", &cure]);
    }

    let other = common::seeded().await;
    let astray = PgBouncer::start(database, &other.options, TRANSACTION).await;
    let arguments = format!("{short} --protocol simple --via {}", astray.place());
    refused(&bench, database, &arguments, 2, &["leads to another database", "correct --via"]);
    for address in ["6432", "h:x", "postgres://h:1"] {
        refused(&bench, database, &format!("{short} --via {address}"), 2, &["--via", "is no address"]);
    }
    refused(&bench, database, &via("cancel-storm --requests 20"), 2, &["go to the database directly", "leave out --via"]);
    let runs = bench.database.session().await.integer("SELECT count(*) FROM dbstress.run").await.unwrap();
    assert_eq!(runs, 0, "nothing of this was begun");
}

/// The rest would show nothing if the pooler had not pooled.
#[tokio::test]
async fn what_is_between_is_recognised() {
    if program().is_none() {
        return;
    }
    let database = common::database().await;
    let found = async |options: &ConnectOptions| {
        let (mut one, mut other) = (scout(options).await.unwrap(), scout(options).await.unwrap());
        recognise(&mut one, &mut other).await.unwrap()
    };
    let direct = &database.options;
    assert_eq!((found(direct).await, keeps_statements(direct).await), (Between::Nothing, true));
    for (more, size) in [("", 6), ("server_round_robin = 1", 2), ("", 2)] {
        let pooler = PgBouncer::start(direct, direct, Pooling { more, size, ..TRANSACTION }).await;
        let through = direct.through(&pooler.place());
        assert_eq!((found(&through).await, keeps_statements(&through).await), (Between::TransactionPooler, false), "{more} {size}");

        // One client, two transactions, two processes.
        let (mut one, mut other) = (scout(&through).await.unwrap(), scout(&through).await.unwrap());
        let mut served = async || one.ask("SELECT pg_backend_pid()").await.unwrap();
        let first = served().await;
        let mut taken = None;
        while taken != first {
            other.ask("COMMIT").await.unwrap();
            other.ask("BEGIN").await.unwrap();
            taken = other.ask("SELECT pg_backend_pid()").await.unwrap();
        }
        assert_ne!(served().await, first);
    }
    let pooler = PgBouncer::start(direct, direct, Pooling { mode: "session", ..TRANSACTION }).await;
    let through = direct.through(&pooler.place());
    assert_eq!((found(&through).await, keeps_statements(&through).await), (Between::SessionPooler, true));
}

#[tokio::test]
async fn a_pooler_in_session_mode_needs_nothing_but_patience_for_its_idle_connections() {
    if program().is_none() {
        return;
    }
    let bench = Bench::new().await;
    let options = &bench.database.options;
    let pooler = PgBouncer::start(options, options, Pooling { mode: "session", size: 20, more: "" }).await;
    let plan = plan("contention", Protocol::Prepared, |plan, _| plan.load = common::rounds(12, 15));
    let record = run_plan(options, Some(pooler.place()), &bench.place, plan).await;
    assert_eq!(record.verdict, Verdict::Pass, "{:?}", record.reasons);
    assert_eq!(record.server.via.unwrap().between, Between::SessionPooler);
}

const ALL: [Protocol; 3] = [Protocol::Prepared, Protocol::Extended, Protocol::Simple];

#[tokio::test]
async fn every_strategy_does_the_same_in_every_protocol() {
    let bench = Bench::new().await;
    for protocol in ALL {
        let mut connection =
            Connection::open_in(protocol, &bench.database.options, "dbstress/test", &[Isolation::ReadCommitted]).await.unwrap();
        let names = connection.ask("SELECT count(*) FROM pg_prepared_statements").await.unwrap().unwrap();
        assert_eq!(names, if protocol == Protocol::Prepared { "3" } else { "0" }, "{protocol:?}");
        let plan = plan("contention", protocol, |plan, booking| {
            plan.load = common::rounds(8, 8);
            booking.strategies = Strategy::safe(HAZARD).collect();
        });
        let record = run_plan(&bench.database.options, None, &bench.place, plan).await;
        assert_eq!(record.verdict, Verdict::Pass, "{protocol:?}: {:?}", record.reasons);
        for turn in &record.turns {
            let counts = (turn.counts.of(OutcomeClass::Committed), turn.counts.of(OutcomeClass::Refused));
            assert_eq!(counts, (8 * 5, 8 * 3), "{protocol:?} {}", turn.name);
        }
        assert_eq!(record.plan.protocol, protocol);
    }
}

/// Values of many types, some of which are something else when nobody says what they are.
const TYPES: &str = r#"summary = "types"
workload = "sql"
setup = "types.sql"
thresholds = ["failed.count==0"]
[load]
vus = 1
iterations = 60
[parameters]
text = { choice = ["it's", 'a\b', "''", "$1 -- /*", "", "ü"] }
number = { uniform = [-7, 7] }
[[operation]]
name = "keep"
statements = [
  { sql = "SELECT id, note, none FROM kept WHERE id = (SELECT max(id) FROM kept)", capture = ["note", "none"] },
  { sql = """INSERT INTO kept (note, small, exact, day, flag, items, doc, code, mood, none)
     SELECT $text || ' is not $1', -($number::int), $number * 1.5, DATE '2024-01-31' + $number, $number > 0,
       ARRAY[$number, 2]::bigint[], jsonb_build_object('k', $text::text, 'n', $number), $text, 'fine', $none -- $text
     WHERE $number IS NOT NULL /* $number */ AND octet_length($note) >= 0 AND abs($number) / 2 < 10""", expect = "1 row" },
  { sql = "UPDATE kept SET small = small + ($number), none = coalesce($none, none) WHERE id % 3 = abs($number::int) % 3 AND note <> E'\\'$1'" },
  { sql = "SELECT * FROM kept ORDER BY $number::int, id LIMIT abs($number)" },
]
[[operation]]
name = "script"
script = "types.pgbench"
"#;
const TYPES_SETUP: &str = r"DROP TABLE IF EXISTS kept; DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('fine', 'sad');
CREATE TABLE kept (id bigserial PRIMARY KEY, note text NOT NULL, small int, exact numeric, day date, flag boolean, items bigint[], doc jsonb,
  code varchar(40), letter char(3), mood mood, none text);
INSERT INTO kept (note) VALUES ('first');";
const TYPES_SCRIPT: &str = r"\set n random(-9, 9)
\set f random(1, 100) / 8.0
BEGIN;
INSERT INTO kept (note, small, exact, letter) VALUES ('no $1', :n, :f, :n);
SELECT id AS last, letter, mood FROM kept ORDER BY id DESC LIMIT 1 \gset
UPDATE kept SET letter = :letter, mood = :mood, exact = exact / :f WHERE id = :last AND small BETWEEN :n - 1 AND -(- :n::int);
END;
DELETE FROM kept WHERE id = :last AND :n > 6;
";

#[tokio::test]
async fn operations_of_ones_own_do_the_same_in_every_protocol() {
    let (database, place) = (common::database().await, Folder::new());
    for (name, text) in [("types.toml", TYPES), ("types.sql", TYPES_SETUP), ("types.pgbench", TYPES_SCRIPT)] {
        std::fs::write(place.0.join(name), text).unwrap();
    }
    let mut kept = Vec::new();
    for protocol in ALL {
        let command = format!("run types.toml --protocol {}", protocol.word());
        let (code, out, err) = run(&mut common::on(&place, &database.options, &command));
        assert_eq!(code, 0, "{out}{err}");
        let rows = "SELECT string_agg(k::text, E'\\n' ORDER BY id) FROM kept k";
        kept.push(database.session().await.text(rows).await.unwrap().unwrap());
    }
    assert!(kept[0].lines().count() > 20 && kept[0].contains("a\\\\b") && kept[0].contains("it's"), "{}", kept[0]);
    assert_eq!(kept[1], kept[0], "extended");
    assert_eq!(kept[2], kept[0], "simple");
}

/// A counter and its lines: how it is read decides whether it is right.
fn counting(control: &str, lock: &str) -> String {
    format!(
        "summary = \"a test\"\nworkload = \"sql\"\nsetup = \"setup.sql\"\ninvariants = \"rules\"\n\
         [load]\nvus = 12\niterations = 400\n{control}\n\
         [[operation]]\nname = \"count\"\nstatements = [\n  {{ sql = \"SELECT n FROM counter WHERE id = 1{lock}\", capture = [\"n\"] }},\n  \
         {{ sql = \"INSERT INTO line VALUES ($op_id)\" }},\n  {{ sql = \"UPDATE counter SET n = $n + 1 WHERE id = 1\" }},\n]\n"
    )
}

async fn names_of_ones_own(database: &TestDatabase, place: &Folder, pooler: &PgBouncer) {
    std::fs::create_dir_all(place.0.join("rules")).unwrap();
    std::fs::write(place.0.join("setup.sql"), COUNTER).unwrap();
    std::fs::write(place.0.join("rules/counter.sql"), COUNTER_RULE).unwrap();
    std::fs::write(place.0.join("racy.toml"), counting("", "")).unwrap();
    std::fs::write(place.0.join("safe.toml"), counting("[control]\nfile = \"racy.toml\"", " FOR UPDATE")).unwrap();
    for protocol in NAMELESS {
        let command = format!("run safe.toml --protocol {} --via {}", protocol.word(), pooler.place());
        let (code, out, err) = run(&mut common::on(place, &database.options, &command));
        assert_eq!(code, 0, "{out}{err}");
    }
}

/// The control has tables of the same names in another schema: whatever a session was told would be another's.
#[tokio::test]
async fn tables_are_found_through_a_pooler_and_the_control_stays_off_the_tested_ones() {
    if program().is_none() {
        return;
    }
    let (database, place) = (common::database().await, Folder::new());
    let pooler = PgBouncer::start(&database.options, &database.options, TRANSACTION).await;
    names_of_ones_own(&database, &place, &pooler).await;
}
