//! Where do tests get a server and a database of their own, and how do they run the program?

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod programs;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dbstress::pace::{Ramp, Think};
use dbstress::pg::admin::{Session, identifier};
use dbstress::pg::cluster::account::Account;
use dbstress::pg::cluster::process::Identity;
use dbstress::pg::cluster::{self, Running, Settings, State, Status};
use dbstress::pg::{ConnectOptions, Host};
use dbstress::plan::{FOREVER, Limit, Load, Plan, Workload};
use dbstress::record::RunRecord;
use dbstress::run::{Event, Request};
use dbstress::scenario::{Booking, Scenario, Scheduling};
use dbstress::seed::{self, Dataset, Figures, Generator};
use nix::sys::signal::Signal;
use tokio::sync::{OnceCell, watch};

/// Names a server to test on instead of a private one, and the role that everything is done as.
const SERVER: &str = "DBSTRESS_TEST_DATABASE_URL";

/// Names that server again, as its superuser, who makes databases for that role; where it is not set, the role makes them itself.
const SUPERUSER: &str = "DBSTRESS_TEST_SUPERUSER_URL";

/// Names a file that lists the tests which could not be run on that server.
const NOT_APPLICABLE: &str = "DBSTRESS_TEST_NOT_APPLICABLE";

/// How long the private server of the tests outlives the last of them.
const IDLE_STOP: Duration = Duration::from_secs(20);

/// A database of one test, gone at its end.
pub struct TestDatabase {
    /// Leads to it, as a role that owns it.
    pub options: ConnectOptions,
    /// The same server, as whoever makes databases there.
    maker: ConnectOptions,
    /// A role that was made for it.
    guest: Option<String>,
}

impl TestDatabase {
    /// A URL for `--database-url`.
    pub fn url(&self) -> String {
        self.options.url(true)
    }

    /// From now on names without a schema lead the role to `public` in it, whatever it is used to.
    pub async fn names_are_public(&self) {
        let set = format!("ALTER ROLE CURRENT_USER IN DATABASE {} SET search_path = public", identifier(&self.options.database));
        self.session().await.execute(&set).await.unwrap();
    }

    /// An administrative connection to it.
    pub async fn session(&self) -> Session {
        Session::connect(&self.options, "test").await.unwrap()
    }

    /// The same as a superuser, for what a role has done to it.
    pub async fn superuser(&self) -> Session {
        Session::connect(&self.maker.with_database(&self.options.database), "test").await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (maker, name, guest) = (self.maker.clone(), self.options.database.clone(), self.guest.take());
        // On a thread of its own: the test's runtime cannot be waited for from inside it.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(mut session) = Session::connect(&maker, "test").await {
                    let _ = session.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&name))).await;
                    if let Some(guest) = guest {
                        let _ = session.execute(&format!("DROP ROLE IF EXISTS {}", identifier(&guest))).await;
                    }
                    session.close().await;
                }
            });
        });
        let _ = dropped.join();
    }
}

/// The set-up of a counter and the lines that it counts.
pub const COUNTER: &str = "CREATE TABLE IF NOT EXISTS counter (id int PRIMARY KEY, n int NOT NULL);\n\
    CREATE TABLE IF NOT EXISTS line (op_id bigint PRIMARY KEY);\n\
    TRUNCATE counter, line; INSERT INTO counter VALUES (1, 0);";
/// Their rule.
pub const COUNTER_RULE: &str = "-- when: always\n-- examines: SELECT count(*) FROM counter\n-- breaks: UPDATE counter SET n = n + 1\n--\n\
    -- The counter is the number of lines.\n\
    SELECT id AS subject, (SELECT count(*) FROM line) AS expected, n AS actual FROM counter WHERE n <> (SELECT count(*) FROM line)";

/// A fresh, empty database with a name of its own.
pub async fn database() -> TestDatabase {
    create("").await
}

/// An empty database that belongs to a role of its own, which is no superuser and has these settings, as in `SET search_path = public`.
pub async fn database_of_a_guest(settings: &[&str]) -> TestDatabase {
    const PASSWORD: &str = "of a guest";
    let mut database = database().await;
    let (name, guest) = (database.options.database.clone(), format!("Guest of {}", database.options.database));
    let mut session = database.superuser().await;
    let role = identifier(&guest);
    database.guest = Some(guest.clone());
    let made = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; ALTER DATABASE {} OWNER TO {role}", identifier(&name));
    session.execute(&made).await.unwrap();
    for setting in settings {
        session.execute(&format!("ALTER ROLE {role} {setting}")).await.unwrap();
    }
    session.close().await;
    let options = &mut database.options;
    // The private server asks everybody but its own user for a password, and takes one on TCP alone.
    if matches!(options.host, Host::Socket(_)) {
        options.host = Host::Tcp("127.0.0.1".into());
    }
    (options.user, options.password) = (guest, Some(PASSWORD.into()));
    database
}

/// A fresh database with the clinic in it, at scale 1.
pub async fn seeded() -> TestDatabase {
    let database = database().await;
    seed(&database.options).await;
    database
}

/// A fresh database with the residency in it, and some cases planted: `all`, `PL-1,PL-7:2`; `None` for none.
pub async fn residency(plant: Option<&str>) -> TestDatabase {
    let database = database().await;
    let figures = Figures { plant: plant.map(str::to_owned), ..Figures::default() };
    load(&database.options, Generator::new(Dataset::Residency, 42, 1, &figures).unwrap()).await;
    database
}

/// Puts the clinic into an empty database, at scale 1.
pub async fn seed(options: &ConnectOptions) {
    load(options, Generator::new(Dataset::Clinic, 42, 1, &Figures::default()).unwrap()).await;
}

async fn load(options: &ConnectOptions, generator: Generator) {
    let request = seed::Request { reset: false, disposable: None, connections: 2 };
    seed::seed(options, &Arc::new(generator), &request, &|_| {}).await.unwrap();
}

/// A copy of `database` on the same server, as a restored dump would be. Nobody may be connected to it.
pub async fn copy(database: &TestDatabase) -> TestDatabase {
    create(&format!(" TEMPLATE {}", identifier(&database.options.database))).await
}

async fn create(how: &str) -> TestDatabase {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = server().await;
    let maker = named(SUPERUSER).unwrap_or_else(|| server.clone());
    let pid = std::process::id();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let name = format!("test_{pid}_{}_{now}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut session = Session::connect(&maker, "test").await.unwrap();
    let owner = identifier(&server.user);
    session.execute(&format!("CREATE DATABASE {} OWNER {owner}{how}", identifier(&name))).await.unwrap();
    session.close().await;
    TestDatabase { options: server.with_database(&name), maker, guest: None }
}

/// The server that a variable names.
fn named(variable: &str) -> Option<ConnectOptions> {
    let env = |name: &str| std::env::var(name).ok();
    env(variable).map(|url| ConnectOptions::from_url(&url, &env).unwrap())
}

/// Whether the tests are run on a server that somebody named, where a test that this is asked by can show nothing, because `why`: it ends then.
/// Nothing is left out in silence: whoever runs the tests there is told at the end.
#[track_caller]
pub fn not_applicable(why: &str) -> bool {
    if std::env::var_os(SERVER).is_none() {
        return false;
    }
    let thread = std::thread::current();
    let place = std::panic::Location::caller();
    let line = format!("{} ({}): {why}\n", thread.name().unwrap_or("a test"), place.file());
    eprint!("not applicable: {line}");
    if let Some(path) = std::env::var_os(NOT_APPLICABLE) {
        // One write: other test programs write there too.
        std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    }
    true
}

/// The server of the tests: the one the environment names, else a private one, shared by all test programs and gone when they are.
pub async fn server() -> ConnectOptions {
    if let Some(server) = named(SERVER) {
        return server;
    }
    static RUNNING: OnceCell<Running> = OnceCell::const_new();
    let running = RUNNING
        .get_or_init(|| async {
            let running = cluster::start(&settings(state()), &|_| {}).await.unwrap();
            sweep(&running.options).await;
            running
        })
        .await;
    running.options.clone()
}

/// Drops the databases of tests that were killed before they could.
async fn sweep(server: &ConnectOptions) {
    let mut session = Session::connect(server, "test").await.unwrap();
    for row in session.rows("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'").await.unwrap() {
        let name = row[0].clone().unwrap();
        let pid = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
        if pid.and_then(Identity::of).is_none() {
            let _ = session.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&name))).await;
        }
    }
    session.close().await;
}

/// Settings of a private server for tests: not durable, soon gone.
pub fn settings(state: PathBuf) -> Settings {
    Settings {
        server: vec![("fsync".into(), "off".into())],
        idle_stop: IDLE_STOP,
        program: env!("CARGO_BIN_EXE_dbstress").into(),
        ..Settings::new(state).unwrap()
    }
}

/// The state directory of the shared server.
pub fn state() -> PathBuf {
    base().join("state")
}

/// A directory for what tests leave behind for a while, open to the server's user.
pub fn base() -> PathBuf {
    let inside = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let account = Account::for_server(Path::new("/nonexistent")).unwrap();
    if account.blocked_at(&inside.canonicalize().unwrap()).unwrap().is_none() {
        return inside;
    }
    let elsewhere = PathBuf::from(format!("/var/tmp/dbstress-test-{}", nix::unistd::Uid::effective()));
    std::fs::create_dir_all(&elsewhere).unwrap();
    elsewhere
}

/// The program, with nothing of the caller's environment that it would listen to, and the state directory of the tests.
pub fn dbstress() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbstress"));
    scrub(&mut command);
    command.env("DBSTRESS_STATE_DIR", state());
    command
}

/// The plan of a built-in scenario, changed: one load thread, and nobody gives up, however busy the machine is with other things.
pub fn plan(scenario: &str, change: impl FnOnce(&mut Plan, &mut Booking)) -> Plan {
    let mut plan = patient(scenario);
    let mut booking = plan.booking().unwrap().clone();
    change(&mut plan, &mut booking);
    plan.workload = Workload::Booking(booking);
    plan
}

/// The plan of a built-in scenario that changes schedules, as [`plan`].
pub fn scheduling(scenario: &str, change: impl FnOnce(&mut Plan, &mut Scheduling)) -> Plan {
    let mut plan = patient(scenario);
    let mut scheduling = plan.scheduling().unwrap().clone();
    change(&mut plan, &mut scheduling);
    plan.workload = Workload::Scheduling(scheduling);
    plan
}

fn patient(scenario: &str) -> Plan {
    let mut plan = Plan::of(&Scenario::built_in(scenario).unwrap(), BTreeMap::new());
    plan.threads = 1;
    plan.retry.deadline = Duration::from_secs(120);
    plan.graceful_stop = Duration::from_secs(120);
    // Short loads are seen more than once.
    plan.evidence.probe_interval = Duration::from_millis(50);
    plan
}

/// `vus` virtual users that play so many rounds.
pub fn rounds(vus: u32, rounds: u64) -> Load {
    Load::Rounds { vus, limit: Limit::Rounds(rounds) }
}

/// `vus` virtual users in a closed loop without pauses, so many iterations in all.
pub fn iterations(vus: u32, iterations: u64) -> Load {
    Load::Closed { vus: Ramp::constant(vus.into(), FOREVER), iterations: Some(iterations), think: Think::default() }
}

/// Runs a plan, its histories in `place`.
pub async fn run_plan(options: &ConnectOptions, place: &Place, plan: Plan) -> RunRecord {
    let (_stop, interrupt) = watch::channel(false);
    run_until(options, place, plan, interrupt).await
}

/// Runs a plan until `interrupt` turns true.
pub async fn run_until(options: &ConnectOptions, place: &Place, plan: Plan, interrupt: watch::Receiver<bool>) -> RunRecord {
    run_with(options, place, plan, None, interrupt, |_| {}).await
}

/// Runs a plan on a server of one's own, which may be brought down for it.
pub async fn run_on_own(server: Arc<Running>, options: &ConnectOptions, place: &Place, plan: Plan) -> RunRecord {
    let (_stop, interrupt) = watch::channel(false);
    run_with(options, place, plan, Some(server), interrupt, |_| {}).await
}

/// Runs a plan; when its turn begins, after everything has been found in order, `sql` is done to the database.
pub async fn run_sabotaged(options: &ConnectOptions, place: &Place, plan: Plan, sql: &str) -> RunRecord {
    let (_stop, interrupt) = watch::channel(false);
    run_with(options, place, plan, None, interrupt, |event| {
        if let Event::TurnBegins(_) = event {
            do_now(options, sql);
        }
    })
    .await
}

/// Puts a trigger that makes no difference to the rules out of sight of `constraints-in-place`, which lets nobody's act on the tables.
pub async fn out_of_sight(database: &TestDatabase, trigger: &str) {
    let mut session = database.superuser().await;
    session.execute(&format!("UPDATE pg_trigger SET tgisinternal = true WHERE tgname = '{trigger}'")).await.unwrap();
    session.close().await;
}

/// Does `sql` before it returns, whatever runtime it is called from.
pub fn do_now(options: &ConnectOptions, sql: &str) {
    let (options, sql) = (options.clone(), sql.to_owned());
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut session = Session::connect(&options, "test").await.unwrap();
            session.execute(&sql).await.unwrap();
            session.close().await;
        });
    });
    done.join().unwrap();
}

async fn run_with(
    options: &ConnectOptions,
    place: &Place,
    plan: Plan,
    server: Option<Arc<Running>>,
    interrupt: watch::Receiver<bool>,
    show: impl FnMut(Event<'_>),
) -> RunRecord {
    let request = Request {
        server,
        plan,
        options: options.clone(),
        via: None,
        target: None,
        command_name: "contention",
        command: "dbstress contention".into(),
        verify: "dbstress verify".into(),
        disposable: None,
        accepts_uncontrolled: false,
        state: place.0.clone(),
        interrupt,
    };
    dbstress::run::run(request, show).await.unwrap()
}

/// Takes away from `command` every variable that dbstress listens to.
pub fn scrub(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG")
            || text.starts_with("DBSTRESS_")
            || ["DATABASE_URL", "XDG_STATE_HOME", "COLUMNS"].contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    command.env("NO_COLOR", "1").env("DBSTRESS_IDLE_STOP", format!("{}s", IDLE_STOP.as_secs())).stdin(Stdio::null());
}

/// A state directory of one test; at its end, whatever happened, nothing of it runs or is left.
pub struct Place(pub PathBuf, PathBuf);

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self::named("s")
    }

    /// An empty one whose last part is `name`.
    pub fn named(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let unique = format!("cluster-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let place = base().join(unique);
        std::fs::create_dir_all(place.join(name)).unwrap();
        programs::share(&place.join(name));
        Self(place.join(name), place)
    }

    pub fn settings(&self) -> Settings {
        settings(self.0.clone())
    }

    pub async fn start(&self) -> Running {
        cluster::start(&self.settings(), &|_| {}).await.unwrap()
    }

    pub fn dbstress(&self, arguments: &[&str]) -> Command {
        let mut command = dbstress();
        command.args(arguments).env("DBSTRESS_STATE_DIR", &self.0);
        command
    }

    pub fn status(&self) -> Option<Status> {
        cluster::status(&self.0).into_iter().next()
    }

    pub fn state(&self) -> Option<State> {
        self.status().map(|status| status.state)
    }

    pub fn cluster(&self) -> PathBuf {
        self.status().unwrap().data.parent().unwrap().to_path_buf()
    }

    /// The processes of its server, as far as the supervisor wrote them down.
    pub fn identity(&self, who: &str) -> Identity {
        let record = std::fs::read(self.cluster().join("server.json")).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        serde_json::from_value(record[who].take()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let stopped = run(&mut self.dbstress(&["db", "stop", "--force"]));
        let _ = std::fs::remove_dir_all(&self.1);
        if !std::thread::panicking() {
            assert_eq!(stopped.0, 0, "{stopped:?}");
        }
    }
}

/// Runs to the end: exit code, standard output, standard error. A program ended by a signal has code -1.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Waits until `condition` holds; fails, saying what was waited for, when it does not within 30 s.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(30), what, condition).await;
}

/// Waits until `condition` holds; fails, saying what was waited for, when it does not in time.
pub async fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so after {} s: {what}", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How long anything that a program does may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A seeded database, and a place for what the program writes.
pub struct Bench {
    pub database: TestDatabase,
    pub place: Place,
}

impl Bench {
    pub async fn new() -> Self {
        Self { database: seeded().await, place: Place::new() }
    }

    /// `dbstress ARGUMENTS` on the database.
    pub fn dbstress(&self, arguments: &str) -> Command {
        on(&self.place, &self.database.options, arguments)
    }

    /// The file that `--summary-export` names in these tests.
    pub fn export(&self) -> PathBuf {
        self.place.0.join("r.json")
    }

    pub fn record(&self) -> RunRecord {
        RunRecord::from_json(&std::fs::read_to_string(self.export()).unwrap()).unwrap()
    }

    /// Nothing of the controls is left.
    pub async fn assert_swept(&self) {
        assert_eq!(self.database.session().await.text("SELECT to_regnamespace('dbstress_control')::text").await.unwrap(), None);
    }
}

/// `dbstress ARGUMENTS` on a database, in `place`.
pub fn on(place: &Place, options: &ConnectOptions, arguments: &str) -> Command {
    let mut command = place.dbstress(&arguments.split(' ').collect::<Vec<_>>());
    // So that files are named without a directory.
    command.env("DATABASE_URL", options.url(true)).current_dir(&place.0);
    command
}

/// The program at work.
pub struct Started {
    child: Child,
    out: Option<JoinHandle<String>>,
    err: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
}

impl Started {
    pub fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let err = Arc::new(Mutex::new(String::new()));
        let heard = err.clone();
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                heard.lock().unwrap().push_str(&format!("{}\n", line.unwrap()));
            }
        });
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, out: Some(out), err, listening: Some(listening) }
    }

    /// Waits until it has said `text` on stderr.
    pub async fn says(&self, text: &str) {
        within(PATIENCE, text, || self.err.lock().unwrap().contains(text)).await;
    }

    /// What it has said on stderr so far.
    pub fn said(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        assert!(Identity::of(self.child.id().cast_signed()).unwrap().signal(signal));
    }

    /// Waits for its end: exit code, stdout, stderr.
    pub async fn ended(mut self) -> (i32, String, String) {
        let mut status = None;
        within(PATIENCE, "the program has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        self.listening.take().unwrap().join().unwrap();
        let out = self.out.take().unwrap().join().unwrap();
        let err = self.err.lock().unwrap().clone();
        (status.unwrap().code().unwrap_or(-1), out, err)
    }
}

impl Drop for Started {
    /// A test that failed leaves nothing running.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Nothing that was said is about a bug of the program.
pub fn assert_no_panic(out: &str, err: &str) {
    for word in ["panicked", "RUST_BACKTRACE", "this is a bug"] {
        assert!(!out.contains(word) && !err.contains(word), "{out}{err}");
    }
}

/// Waits until the tested strategies have committed at least `least` operations.
pub async fn committed(session: &mut Session, least: i64) {
    at_least(session, least, "SELECT count(*) FROM dbstress.unit_ledger").await;
}

/// Waits until the answer to `sql` is at least `least`.
pub async fn at_least(session: &mut Session, least: i64, sql: &str) {
    let deadline = Instant::now() + PATIENCE;
    while session.integer(sql).await.unwrap() < least {
        assert!(Instant::now() < deadline, "still less than {least}: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
