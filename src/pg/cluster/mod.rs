//! How does dbstress get a PostgreSQL when nobody gave it one? It runs a private server, shared by its commands and gone when unused.
//!
//! One cluster per major version below the state directory (`layout.rs` draws it), one server per cluster, started on demand by whoever comes
//! first and looked after by a process that runs [`supervise`](supervise()). Whoever starts, stops or drops holds the start lock; whoever uses holds the clients'
//! lock; no process is ever signalled without its identity having been checked.

pub mod account;
pub mod binaries;
mod create;
mod hold;
pub mod install;
mod layout;
pub mod process;
mod status;
mod stop;
mod supervise;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::RngExt;

use self::account::Account;
use self::binaries::Binaries;
pub use self::hold::{HOLD, Stopped, hold};
pub(crate) use self::layout::Scratch;
use self::layout::{Held, Layout, Record};
use self::process::{Identity, PidFile};
use self::status::postmaster;
pub use self::status::{State, Status, status, url};
use self::stop::halt;
pub use self::stop::{Removed, remove, stop};
pub use self::supervise::supervise;
use super::admin::{Session, identifier, literal};
use super::same::SameServer;
use super::tally::Counted;
use super::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

/// The name of the hidden subcommand that [`start`] runs in [`Settings::program`].
pub const SUPERVISE: &str = "supervise";

/// The database that [`Running::options`] leads to.
pub const DATABASE: &str = "dbstress";

/// Is told what takes a while, in words for the user.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(10);
/// How long another process may take to start or stop the server before we give up waiting for it.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);
/// How long a server that runs but does not let us in may take: it may be recovering from a crash.
const READY_PATIENCE: Duration = Duration::from_secs(300);
/// How often a start is tried again that failed for no lasting reason.
const ATTEMPTS: u32 = 5;

/// Which private server, and how it is to be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state directory, as [`crate::state::directory`] returns it.
    pub state: PathBuf,
    /// Directory of PostgreSQL programs to use; `None` = look for one.
    pub pg_bin: Option<PathBuf>,
    /// Major version; `None` = the running, else the existing, else the newest.
    pub pg_version: Option<u32>,
    /// Server settings beyond the cluster's own, as in `postgresql.conf`. They hold from a start until the server stops; a server
    /// that runs already keeps its own.
    pub server: Vec<(String, String)>,
    /// How long nobody may have used the server before it is stopped.
    pub idle_stop: Duration,
    /// The dbstress program to run as supervisor.
    pub program: PathBuf,
}

impl Settings {
    /// The defaults: any version, stopped after 30 idle minutes, looked after by this very program.
    ///
    /// # Errors
    /// When the system does not tell which program this is.
    pub fn new(state: PathBuf) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|e| Error::inconclusive("the system does not tell where the dbstress program is").because(e))?;
        Ok(Self { state, pg_bin: None, pg_version: None, server: Vec::new(), idle_stop: Duration::from_secs(30 * 60), program })
    }

    fn state(&self) -> PathBuf {
        self.state.canonicalize().unwrap_or_else(|_| self.state.clone())
    }
}

/// A private server in use. It is not stopped as long as this lives, nor before its idle time has passed afterwards.
pub struct Running {
    /// Through the Unix socket, as superuser, into database `dbstress`.
    pub options: ConnectOptions,
    /// The same through TCP, with the password.
    pub tcp: ConnectOptions,
    /// Whether this call started it; otherwise it ran already.
    pub started_here: bool,
    /// Version of the server, as in `15.18`.
    pub version: String,
    layout: Layout,
    clients: Held,
    settings: Settings,
}

impl Running {
    /// The database `name` on this server, made if it is missing.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_database(&self, name: &str) -> Result<ConnectOptions> {
        ensure_database(&self.options, name).await?;
        Ok(self.options.with_database(name))
    }

    /// The database `name` on this server, if it is there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self, name: &str) -> Result<Option<ConnectOptions>> {
        let mut session = Session::connect(&self.options, "start").await?;
        let is_there = has_database(&mut session, name).await?;
        session.close().await;
        Ok(is_there.then(|| self.options.with_database(name)))
    }

    /// Stops the server unless another dbstress uses it or a client is connected. Says whether it was stopped.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop_if_unused(self) -> Result<bool> {
        let Self { options, layout, clients, .. } = self;
        drop(clients);
        let _start = StartLock::take(layout.state(), &|_| {}).await?;
        // Whoever wants to use it from now on needs the start lock first.
        if layout.is_used() {
            return Ok(false);
        }
        // A connection that the caller has just closed is seen by the server a moment later.
        let gave_up = Instant::now() + Duration::from_secs(1);
        loop {
            match supervise::count_clients(&options.with_database("postgres")).await {
                Some(0) => return halt(&layout, &|_| {}).await,
                _ if Instant::now() > gave_up => return Ok(false),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The postmaster as it is now, for whoever wants to signal it; `None` when the server is down.
    pub fn postmaster(&self) -> Option<Identity> {
        postmaster(&self.layout)
    }

    /// The processes of the server besides the postmaster.
    pub fn processes(&self) -> Vec<Identity> {
        process::children(&self.layout.cluster_name())
    }

    /// The process that writes the log of what was committed, when nobody else has done so.
    pub fn log_writer(&self) -> Option<Identity> {
        process::child(&self.layout.cluster_name(), "walwriter")
    }

    /// Stops processes of the server for a while.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn hold(&self, processes: Vec<Identity>) -> Result<Stopped> {
        Stopped::stop(&self.settings.program, processes).await
    }

    /// Starts the server again as it was, after it has been brought down.
    ///
    /// # Errors
    /// When it does not start, or not where it was.
    pub async fn start_again(&self) -> Result<()> {
        let record = self.layout.record();
        let settings = Settings {
            pg_bin: record.as_ref().and_then(|record| Some(record.program.parent()?.to_owned())),
            pg_version: None,
            server: record.map_or_else(Vec::new, |record| record.settings),
            ..self.settings.clone()
        };
        let again = Box::pin(start(&settings, &|_| {})).await?;
        if again.options == self.options && again.layout.directory == self.layout.directory {
            return Ok(());
        }
        Err(Error::inconclusive(format!("the private server came back elsewhere: {}, not {}", again.options, self.options)))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.layout.data()
    }
}

/// Joins the private server, or starts it. Of several processes that do so at once, one starts it and all get it.
///
/// # Errors
/// Usage, when programs, version or state directory cannot be used; inconclusive, with the end of its log, when the server does not start.
pub async fn start(settings: &Settings, progress: Progress<'_>) -> Result<Running> {
    crate::state::make(&settings.state).map_err(|e| {
        Error::usage(format!("the state directory {} cannot be made", settings.state.display())).because(e).cure("--state-dir DIR")
    })?;
    let state = settings.state();
    let lock = StartLock::take(&state, progress).await?;
    let (layout, programs) = choose(settings, &state)?;
    let account = Account::for_server(&layout.data())?;
    prepare(&layout, &account)?;

    let mut started_here = false;
    let mut attempt = 1;
    let gave_up = Instant::now() + READY_PATIENCE;
    let socket = loop {
        if let Some(socket) = join(&layout, gave_up, progress).await? {
            break socket;
        }
        let Some(programs) = &programs else {
            // It ran when the version was chosen and has ended since.
            drop(lock);
            return Box::pin(start(settings, progress)).await;
        };
        halt(&layout, progress).await?;
        create::clean(&layout.directory);
        create::create(&layout, programs, &account, settings, progress).await?;
        progress(&format!("starting PostgreSQL {}", programs.version));
        match launch(settings, &layout, programs, &account, attempt).await? {
            None => started_here = true,
            Some(error) if attempt == ATTEMPTS => return Err(error),
            Some(_) => attempt += 1,
        }
    };
    // Under the start lock: the supervisor cannot decide to stop in between.
    let clients = layout::lock_file(&layout.clients_lock()).map_err(|e| unusable(&layout, e))?;
    clients.lock_shared().map_err(|e| unusable(&layout, e))?;
    let clients = Held(clients);
    let password = password(&layout, &socket).await?;
    let options = socket.with_database(DATABASE);
    ensure_database(&socket, DATABASE).await?;
    let version = layout.record().map(|record| record.version).unwrap_or_default();
    drop(lock);
    let tcp = ConnectOptions { host: Host::Tcp("127.0.0.1".into()), password: Some(password), ..options.clone() };
    Ok(Running { options, tcp, started_here, version, layout, clients, settings: settings.clone() })
}

/// Which cluster: one that runs, else one that exists (newest), else one for the newest programs; `--pg-version` and `--pg-bin` decide.
/// The programs are `None` only for one that runs and whose programs nobody named.
fn choose(settings: &Settings, state: &Path) -> Result<(Layout, Option<Binaries>)> {
    let account = |layout: &Layout| Account::for_server(&layout.data());
    let wanted = settings.pg_version;
    if let Some(major) = wanted.filter(|major| *major < binaries::OLDEST) {
        return Err(Error::usage(format!("PostgreSQL {major} is not supported"))
            .cure(format!("--pg-version {} or later", binaries::OLDEST)));
    }
    if let Some(directory) = &settings.pg_bin {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        let found = Binaries::inspect(&directory, &Account::for_server(state)?)?;
        if found.major < binaries::OLDEST || wanted.is_some_and(|major| major != found.major) {
            let wanted = wanted.map_or(format!("{} or later", binaries::OLDEST), |major| major.to_string());
            return Err(Error::usage(format!("{} holds PostgreSQL {}, not {wanted}", directory.display(), found.version))
                .cure("let --pg-bin and --pg-version agree, or leave one of them out"));
        }
        return Ok((Layout::new(state, found.major), Some(found)));
    }
    let mut existing = Layout::all(state);
    existing.retain(|layout| wanted.is_none_or(|major| major == layout.major));
    if let Some(running) = existing.iter().find(|layout| layout.is_supervised() && postmaster(layout).is_some()) {
        return Ok((running.clone(), None));
    }
    let mut found = binaries::find(state, &existing.first().map_or_else(|| Account::for_server(state), account)?);
    found.retain(|programs| wanted.is_none_or(|major| major == programs.major));
    let has_data = |layout: &&Layout| layout.data().join("PG_VERSION").is_file();
    if let Some(layout) = existing.iter().find(has_data) {
        let programs = found.iter().find(|programs| programs.major == layout.major).cloned();
        // Data is there: to begin again with another version would look as if it were lost.
        let programs = programs.ok_or_else(|| binaries::missing(Some(layout.major)))?;
        return Ok((layout.clone(), Some(programs)));
    }
    match found.into_iter().next() {
        Some(programs) => Ok((Layout::new(state, programs.major), Some(programs))),
        None => Err(binaries::missing(wanted)),
    }
}

/// Makes the cluster's directory and makes sure that the server's user gets there.
fn prepare(layout: &Layout, account: &Account) -> Result<()> {
    // The state directory first: nothing is made where the server could not be.
    let mut blocked = account.blocked_at(layout.state())?;
    if blocked.is_none() {
        crate::state::make(&layout.directory).map_err(|e| unusable(layout, e))?;
        create::clean(layout.state());
        blocked = account.blocked_at(&layout.directory)?;
    }
    if let Some(blocked) = blocked {
        return Err(Error::usage(format!(
            "the server runs as user `{}`, who cannot pass through {} to {}",
            account.name,
            blocked.display(),
            layout.directory.display()
        ))
        .cure(format!("chmod o+x {}, or another place: --state-dir /var/lib/dbstress", blocked.display())));
    }
    Ok(())
}

/// The server's socket as soon as the server lets us in; `None` when no supervisor looks after one.
async fn join(layout: &Layout, gave_up: Instant, progress: Progress<'_>) -> Result<Option<ConnectOptions>> {
    let mut patience = Patience::new(progress, "waiting for PostgreSQL to accept connections");
    while layout.is_supervised() {
        let pid_file = PidFile::read(&layout.data());
        if let (Some(record), Some(port)) = (layout.record(), pid_file.filter(|file| file.ready).and_then(|file| file.port)) {
            let socket = options(Host::Socket(record.socket), port, None, "postgres");
            match Session::connect(&socket, "start").await {
                Ok(session) => {
                    session.close().await;
                    return Ok(Some(socket));
                }
                Err(error) if Instant::now() > gave_up => return Err(error),
                Err(_) => {}
            }
        } else if Instant::now() > gave_up {
            return Err(Error::inconclusive(format!("the server in {} does not accept connections", layout.directory.display()))
                .cure(format!("read {}, or dbstress db stop", layout.log().display())));
        }
        patience.pause().await;
    }
    Ok(None)
}

/// Starts a supervisor and waits until its server is ready. When somebody else's supervisor was faster, that is as good.
/// Returns an error that another attempt may cure: the port was taken meanwhile, or the server was killed while it started.
async fn launch(
    settings: &Settings,
    layout: &Layout,
    programs: &Binaries,
    account: &Account,
    attempt: u32,
) -> Result<Option<Error>> {
    let failed = |e: std::io::Error| unusable(layout, e);
    // The same port as ever, so that a URL stays good; unless that is taken, or looks free and is not.
    let last = layout.record().map(|record| record.port).filter(|port| attempt < 3 && is_free(*port));
    let record = Record {
        version: programs.version.clone(),
        program: programs.program("postgres"),
        port: match last {
            Some(port) => port,
            None => free_port().map_err(|e| Error::inconclusive("no free port on 127.0.0.1").because(e))?,
        },
        socket: layout.make_socket(account)?,
        settings: settings.server.clone(),
        idle_stop_ms: u64::try_from(settings.idle_stop.as_millis()).unwrap_or(u64::MAX),
        started_by: format!("{}, process {}", caller(), std::process::id()),
        supervisor: None,
        postmaster: None,
    };
    layout.write_record(&record).map_err(failed)?;
    let log = open_log(&layout.log()).map_err(failed)?;
    let before = log.metadata().map_err(failed)?.len();
    let mut command = tokio::process::Command::new(&settings.program);
    // None of the caller's environment: its PG* variables would lead the supervisor's own connections astray.
    command.arg(SUPERVISE).arg(&layout.directory).current_dir("/").env_clear().envs(account::environment());
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    let mut supervisor = command.spawn().map_err(|e| {
        Error::inconclusive(format!("{} cannot be run as supervisor of the server", settings.program.display())).because(e)
    })?;
    let gave_up = Instant::now() + READY_PATIENCE;
    let is_ready = || {
        let ours = layout.record().and_then(|record| record.postmaster);
        PidFile::read(&layout.data()).is_some_and(|file| file.ready && ours.is_some_and(|ours| ours.pid == file.pid))
    };
    while supervisor.try_wait().map_err(failed)?.is_none() {
        if is_ready() {
            return Ok(None);
        }
        if Instant::now() > gave_up {
            return Err(Error::inconclusive(format!("the server in {} does not become ready", layout.directory.display()))
                .cure(format!("read {}, or dbstress db stop", layout.log().display())));
        }
        tokio::time::sleep(POLL).await;
    }
    if layout.is_supervised() {
        return Ok(None);
    }
    let said = log_since(&layout.log(), before);
    let lasting: Vec<&str> = said.lines().filter(|line| is_lasting(line)).collect();
    let error = Error::inconclusive(format!("PostgreSQL {} did not start", programs.version))
        .because(if lasting.is_empty() { "it was ended while it started".to_owned() } else { lasting.join("; ") })
        .cure(format!("read {}; to begin again with an empty one: dbstress db drop", layout.log().display()));
    let port_taken = said.contains("could not bind") || said.contains("could not create any TCP/IP sockets");
    if lasting.is_empty() || port_taken { Ok(Some(error)) } else { Err(error) }
}

/// Whether a line of the log says why a server does not start, and will not the next time.
fn is_lasting(line: &str) -> bool {
    let complains = ["FATAL:", "PANIC:", "error:"].iter().any(|word| line.contains(word));
    complains && !["is starting up", "is shutting down", "not yet accepting connections"].iter().any(|why| line.contains(why))
}

/// The right to start, stop or drop below one state directory.
struct StartLock(#[expect(dead_code, reason = "held, not read")] Held);

impl StartLock {
    async fn take(state: &Path, progress: Progress<'_>) -> Result<Self> {
        let path = Layout::start_lock(state);
        let failed = |e: std::io::Error| {
            Error::usage(format!("{} cannot be locked", path.display()))
                .because(e)
                .cure("use a state directory on a local file system that you may write to: --state-dir")
        };
        let file = layout::lock_file(&path).map_err(failed)?;
        let gave_up = Instant::now() + LOCK_PATIENCE;
        let mut patience = Patience::new(progress, "waiting for another dbstress that starts or stops the server");
        while !layout::try_lock(&file).map_err(failed)? {
            if Instant::now() > gave_up {
                return Err(Error::inconclusive(format!(
                    "another process has held {} for {} s",
                    path.display(),
                    LOCK_PATIENCE.as_secs()
                )));
            }
            patience.pause().await;
        }
        Ok(Self(Held(file)))
    }
}

/// Waits in small steps and tells the user once, when it takes longer than they would expect.
struct Patience<'a> {
    progress: Progress<'a>,
    what: &'static str,
    since: Instant,
    told: bool,
}

impl<'a> Patience<'a> {
    fn new(progress: Progress<'a>, what: &'static str) -> Self {
        Self { progress, what, since: Instant::now(), told: false }
    }

    async fn pause(&mut self) {
        if !self.told && self.since.elapsed() > Duration::from_secs(2) {
            self.told = true;
            (self.progress)(self.what);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How to connect to a private server, as its superuser.
fn options(host: Host, port: u16, password: Option<String>, database: &str) -> ConnectOptions {
    // Neither leaves the machine, and the server has no certificate.
    let (ssl_mode, ssl_root_cert) = (SslMode::Disable, None);
    let (user, counted, same) = (create::ROLE.into(), Counted::default(), SameServer::default());
    ConnectOptions { host, port, user, password, database: database.into(), ssl_mode, ssl_root_cert, counted, same }
}

/// The password of role `dbstress`, made when there is none: then the cluster is new, or somebody removed the file.
async fn password(layout: &Layout, socket: &ConnectOptions) -> Result<String> {
    if let Ok(text) = std::fs::read_to_string(layout.password()) {
        return Ok(text);
    }
    let bytes: [u8; 24] = rand::rng().random();
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut session = Session::connect(socket, "start").await?;
    session.execute(&format!("ALTER ROLE {} PASSWORD {}", identifier(create::ROLE), literal(&password))).await?;
    session.close().await;
    // Last: a file means that the server knows it.
    layout::write_secret(&layout.password(), &password).map_err(|e| unusable(layout, e))?;
    Ok(password)
}

async fn ensure_database(server: &ConnectOptions, name: &str) -> Result<()> {
    let mut session = Session::connect(&server.with_database("postgres"), "start").await?;
    if !has_database(&mut session, name).await? {
        match session.execute(&format!("CREATE DATABASE {}", identifier(name))).await {
            Ok(_) => {}
            // Somebody else was faster (duplicate_database, or unique_violation inside the catalogue).
            Err(error) if matches!(error.code.as_deref(), Some("42P04" | "23505")) => {}
            Err(error) => return Err(error.into()),
        }
    }
    session.close().await;
    Ok(())
}

async fn has_database(session: &mut Session, name: &str) -> Result<bool> {
    Ok(session.text(&format!("SELECT 1::text FROM pg_database WHERE datname = {}", literal(name))).await?.is_some())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn caller() -> String {
    let uid = nix::unistd::Uid::effective();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// The log, to append to; begun anew when it has grown beyond 10 MB, with the last one kept.
fn open_log(path: &Path) -> std::io::Result<File> {
    if path.metadata().is_ok_and(|m| m.len() > 10 << 20) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    std::fs::OpenOptions::new().append(true).create(true).open(path)
}

fn log_since(path: &Path, offset: u64) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let from = usize::try_from(offset).unwrap_or(0).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

fn unusable(layout: &Layout, error: std::io::Error) -> Error {
    Error::usage(format!("the cluster's directory {} is not usable", layout.directory.display()))
        .because(error)
        .cure("name a place that you may write to: --state-dir DIR, or DBSTRESS_STATE_DIR=DIR")
}
