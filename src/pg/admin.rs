//! Everything that is asked of PostgreSQL outside the measured load: migrations, the sentinel, the lease, invariants, probes.
//!
//! One connection at a time, simple protocol, values as text: the questions are rare and their types are the user's own.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Row, ValueRef};

use super::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Key of the advisory lock that makes one run per database: the bytes of "dbstress".
const LEASE_KEY: i64 = i64::from_be_bytes(*b"dbstress");

/// How long a lease may still seem taken after its holder has ended without giving it back: the server notices in its own time.
const LEASE_LINGERS: Duration = Duration::from_secs(1);

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A statement that failed: the server's code, when it was the server that said no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}{}", code.as_deref().map(|c| format!(" (SQLSTATE {c})")).unwrap_or_default())]
pub struct SqlError {
    /// SQLSTATE; `None` when the connection failed, not the statement.
    pub code: Option<String>,
    /// What was said.
    pub message: String,
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) => Self { code: e.code().map(|c| c.into_owned()), message: e.message().to_owned() },
            other => Self { code: None, message: other.to_string() },
        }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error.code.as_deref() {
            None => Error::inconclusive("PostgreSQL went away").because(error),
            Some("42501") => Error::inconclusive("PostgreSQL refuses this role")
                .because(error)
                .cure("connect as the owner of the database, or grant what is missing"),
            Some(_) => Error::inconclusive("PostgreSQL refused a statement of dbstress").because(error),
        }
    }
}

/// One row, every value as PostgreSQL prints it; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// One administrative connection.
pub struct Session {
    connection: PgConnection,
}

impl Session {
    /// Connects. `role` tells what the connection is for; it shows as `dbstress/ROLE` in `pg_stat_activity`.
    ///
    /// # Errors
    /// Inconclusive, with the cure, when nobody answers, the password is wrong, or the database does not exist.
    pub async fn connect(options: &ConnectOptions, role: &str) -> Result<Self> {
        let driver = driver_options(options, role);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, driver.connect());
        match connecting.await {
            Ok(Ok(connection)) => Ok(Self { connection }),
            Ok(Err(error)) => Err(connect_error(options, error)),
            Err(_) => {
                Err(Error::inconclusive(format!("no answer from PostgreSQL at {options} within {} s", CONNECT_TIMEOUT.as_secs()))
                    .cure("check host, port and firewall"))
            }
        }
    }

    /// Runs one or more statements; the number of rows affected by all of them.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, SqlError> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(done.rows_affected())
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, SqlError> {
        let mut rows = Vec::new();
        self.stream(sql, |row| rows.push(row.to_vec())).await?;
        Ok(rows)
    }

    /// Calls `visit` for each row of a query as it arrives; memory does not grow with their number.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn stream(&mut self, sql: &str, mut visit: impl FnMut(&[Option<String>])) -> Result<(), SqlError> {
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.connection);
        let mut values: TextRow = Vec::new();
        while let Some(row) = rows.try_next().await? {
            values.clear();
            for index in 0..row.len() {
                let value = row.try_get_raw(index)?;
                values.push(if value.is_null() { None } else { Some(value.as_str().map_err(sqlx::Error::Decode)?.to_owned()) });
            }
            visit(&values);
        }
        Ok(())
    }

    /// The names of the columns a query returns, whether or not it returns rows.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn columns(&mut self, sql: &str) -> Result<Vec<String>, SqlError> {
        use sqlx::{Column, Executor, SqlSafeStr};
        let described = self.connection.describe(AssertSqlSafe(sql).into_sql_str()).await?;
        Ok(described.columns.iter().map(|c| c.name().to_owned()).collect())
    }

    /// The first column of the first row; `None` for NULL or no row.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn text(&mut self, sql: &str) -> Result<Option<String>, SqlError> {
        Ok(self.rows(sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// The first column of the first row as an integer; NULL or no row is an error.
    ///
    /// # Errors
    /// Also when the value is not an integer.
    pub async fn integer(&mut self, sql: &str) -> Result<i64, SqlError> {
        let text = self.text(sql).await?;
        text.as_deref()
            .and_then(|t| t.parse().ok())
            .ok_or_else(|| SqlError { code: None, message: format!("expected one integer, got {text:?} from: {sql}") })
    }

    /// Says goodbye to the server.
    pub async fn close(self) {
        // Nothing is lost when the server has already gone.
        let _ = self.connection.close().await;
    }
}

/// `text` as an SQL literal.
pub fn literal(text: &str) -> String {
    // E'' so that the answer does not depend on standard_conforming_strings.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `name` as an SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn driver_options(options: &ConnectOptions, role: &str) -> PgConnectOptions {
    let mut driver = PgConnectOptions::new_without_pgpass()
        .port(options.port)
        .username(&options.user)
        .database(&options.database)
        .application_name(&format!("dbstress/{role}"))
        .ssl_mode(match options.ssl_mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        })
        .disable_statement_logging();
    driver = match &options.host {
        Host::Tcp(host) => driver.host(host),
        Host::Socket(directory) => driver.socket(directory),
    };
    if let Some(password) = &options.password {
        driver = driver.password(password);
    }
    if let Some(file) = &options.ssl_root_cert {
        driver = driver.ssl_root_cert(file);
    }
    driver
}

fn connect_error(options: &ConnectOptions, error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(e) => e.code().map(|c| c.into_owned()),
        _ => None,
    };
    let (message, cure) = match code.as_deref() {
        Some("28P01" | "28000") => (
            format!("PostgreSQL at {options} does not let `{}` in", options.user),
            "give the right password in the URL, in PGPASSWORD or in ~/.pgpass",
        ),
        Some("3D000") => (
            format!("there is no database `{}` at {options}", options.database),
            "create it (createdb), or name another in the URL",
        ),
        Some("53300") => {
            (format!("PostgreSQL at {options} has no connection left"), "raise max_connections, or close other clients")
        }
        Some("57P03") => (format!("PostgreSQL at {options} is starting up or shutting down"), "try again in a moment"),
        _ => (
            format!("could not connect to PostgreSQL at {options}"),
            "start the server or correct the address; without --database-url, DATABASE_URL and PGHOST dbstress runs a private one",
        ),
    };
    Error::inconclusive(message).because(error).cure(cure)
}

/// What a database is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sentinel {
    /// No sentinel; this many tables, views and sequences belong to somebody else.
    Absent {
        /// Relations outside the system schemas and outside extensions.
        foreign_relations: i64,
    },
    /// Ours to write to.
    Ours(Meta),
    /// It carries a sentinel that was made for another server or another database: a restored copy.
    Copied,
    /// Its schema is newer than this program.
    Newer {
        /// The newest migration it carries.
        found: i64,
        /// The newest migration we know.
        known: i64,
    },
}

/// What the sentinel row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Identifies the server's data directory.
    pub system_identifier: i64,
    /// Identifies the database in it.
    pub database_oid: i64,
    /// What was loaded; `None` until a load has finished.
    pub loaded: Option<Loaded>,
}

/// The dataset that a finished load left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Name of the dataset.
    pub dataset: String,
    /// The number it was made from.
    pub rng_seed: i64,
    /// How many times the base size.
    pub scale: i32,
    /// Version of the generator that made it.
    pub generator_version: i32,
    /// SHA-256 of the generated rows, hexadecimal.
    pub data_hash: String,
    /// The clock of the domain, as PostgreSQL prints it in UTC.
    pub as_of: String,
}

/// Finds out what the database is to us. Reads only.
///
/// # Errors
/// When the server refuses a question.
pub async fn inspect(session: &mut Session) -> Result<Sentinel> {
    if session.text("SELECT to_regclass('dbstress.meta')::text").await?.is_none() {
        let foreign_relations = session
            .integer(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
                 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            )
            .await?;
        return Ok(Sentinel::Absent { foreign_relations });
    }
    let known = newest_migration();
    let found = session.integer("SELECT coalesce(max(version), 0) FROM dbstress._migrations").await?;
    if found > known {
        return Ok(Sentinel::Newer { found, known });
    }
    let rows = session
        .rows(
            "SELECT m.system_identifier, m.database_oid, \
                    m.system_identifier = s.system_identifier AND m.database_oid = d.oid::bigint, \
                    m.dataset, m.rng_seed, m.scale, m.generator_version, m.data_hash, (m.as_of AT TIME ZONE 'UTC')::text, m.seeded_at IS NOT NULL \
             FROM dbstress.meta m, pg_control_system() s, pg_database d WHERE d.datname = current_database()",
        )
        .await?;
    let Some(row) = rows.into_iter().next() else { return Ok(Sentinel::Copied) };
    let field = |i: usize| row[i].clone().unwrap_or_default();
    if row[2].as_deref() != Some("t") {
        return Ok(Sentinel::Copied);
    }
    let number = |i: usize| field(i).parse::<i64>().unwrap_or_default();
    Ok(Sentinel::Ours(Meta {
        system_identifier: number(0),
        database_oid: number(1),
        loaded: (row[9].as_deref() == Some("t")).then(|| Loaded {
            dataset: field(3),
            rng_seed: number(4),
            scale: number(5) as i32,
            generator_version: number(6) as i32,
            data_hash: field(7),
            as_of: field(8),
        }),
    }))
}

/// The sentinel of a database that is ours and fully loaded.
///
/// # Errors
/// Usage, with the cure, for every other kind of database.
pub async fn require_loaded(session: &mut Session, options: &ConnectOptions) -> Result<(Meta, Loaded)> {
    match inspect(session).await? {
        Sentinel::Ours(meta) => match meta.loaded.clone() {
            Some(loaded) => Ok((meta, loaded)),
            None => Err(Error::usage(format!("the dataset in {options} is incomplete: a seed did not finish"))
                .cure("dbstress seed --reset")),
        },
        other => Err(refusal(&other, options, "run `dbstress seed` on it first")),
    }
}

/// Makes sure that the database declared disposable is this one; its name.
///
/// # Errors
/// Usage, when it is another one.
pub async fn check_disposable(session: &mut Session, disposable: Option<&str>) -> Result<String> {
    let name = session.text("SELECT current_database()").await?.unwrap_or_default();
    match disposable.filter(|d| **d != *name) {
        None => Ok(name),
        Some(declared) => Err(Error::usage(format!("--disposable names `{declared}`, but the database is `{name}`"))
            .cure(format!("--disposable {name}, if everything in it may be lost"))),
    }
}

/// Makes the database ours: puts schema and sentinel into it, or brings an older schema up to date.
/// `disposable` is the name the user declared expendable; it must be this database's own.
///
/// # Errors
/// Usage, when the database holds tables that are not ours and was not declared disposable by its name, or was copied from elsewhere.
pub async fn claim(session: &mut Session, options: &ConnectOptions, disposable: Option<&str>) -> Result<Meta> {
    let name = check_disposable(session, disposable).await?;
    let state = inspect(session).await?;
    match (&state, disposable) {
        (Sentinel::Ours(_) | Sentinel::Absent { foreign_relations: 0 }, _) => {}
        (Sentinel::Absent { .. }, Some(_)) => {}
        (Sentinel::Copied, Some(_)) => {
            session.execute("DROP SCHEMA IF EXISTS dbstress CASCADE").await?;
        }
        (other, _) => return Err(refusal(other, options, &format!("--disposable {name}, if everything in it may be lost"))),
    }
    let mut migrator = clone_migrator();
    migrator.create_schema("dbstress");
    migrator.dangerous_set_table_name("dbstress._migrations");
    migrator
        .run(&mut session.connection)
        .await
        .map_err(|e| Error::inconclusive("the schema could not be brought up to date").because(e).cure("dbstress seed --reset"))?;
    session
        .execute(
            "INSERT INTO dbstress.meta (system_identifier, database_oid) \
             SELECT s.system_identifier, d.oid::bigint FROM pg_control_system() s, pg_database d WHERE d.datname = current_database() \
             ON CONFLICT DO NOTHING",
        )
        .await?;
    match inspect(session).await? {
        Sentinel::Ours(meta) => Ok(meta),
        other => Err(refusal(&other, options, "dbstress seed --reset")),
    }
}

/// Removes everything of ours from a database that carries our sentinel; from any other, nothing.
///
/// # Errors
/// Usage, when a sentinel is there but not ours.
pub async fn wipe(session: &mut Session, options: &ConnectOptions) -> Result<()> {
    match inspect(session).await? {
        Sentinel::Ours(_) => {
            session.execute("DROP SCHEMA dbstress CASCADE; DROP SCHEMA IF EXISTS dbstress_control CASCADE").await?;
            Ok(())
        }
        // `claim` decides what may happen to these.
        Sentinel::Absent { .. } | Sentinel::Copied => Ok(()),
        newer @ Sentinel::Newer { .. } => Err(refusal(&newer, options, "")),
    }
}

fn refusal(state: &Sentinel, options: &ConnectOptions, cure: &str) -> Error {
    match state {
        Sentinel::Absent { foreign_relations: 0 } => {
            Error::usage(format!("{options} carries no dbstress sentinel; nothing was written")).cure(cure)
        }
        Sentinel::Absent { foreign_relations } => Error::usage(format!(
            "{options} carries no dbstress sentinel and holds {foreign_relations} relations that are not ours; nothing was written"
        ))
        .cure(format!("use an empty database, or none at all (dbstress runs a private one)\n{cure}")),
        Sentinel::Copied => Error::usage(format!(
            "the dbstress sentinel in {options} was made for another server or database: this is a copy; nothing was written"
        ))
        .cure(format!("dbstress seed --reset --disposable {}, if everything in it may be lost", options.database)),
        Sentinel::Newer { found, known } => {
            Error::usage(format!("the schema in {options} is version {found}; this dbstress knows up to version {known}"))
                .cure("use the newer dbstress that made it, or another database")
        }
        Sentinel::Ours(_) => Error::usage(format!("{options} is not usable")).cure(cure),
    }
}

fn clone_migrator() -> sqlx::migrate::Migrator {
    sqlx::migrate::Migrator { migrations: MIGRATOR.migrations.clone(), ..sqlx::migrate::Migrator::DEFAULT }
}

fn newest_migration() -> i64 {
    MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0)
}

/// The right to run on a database; nobody else has it while this lives. Released with its connection, even by `kill -9`.
pub struct Lease {
    session: Session,
}

impl Lease {
    /// Takes the lease for `command`.
    ///
    /// # Errors
    /// Inconclusive, naming the holder, when another dbstress works on this database.
    pub async fn take(options: &ConnectOptions, command: &str) -> Result<Self> {
        let mut session = Session::connect(options, &format!("{command} of process {}", std::process::id())).await?;
        let asked = Instant::now();
        loop {
            let taken = session.text(&format!("SELECT pg_try_advisory_lock({LEASE_KEY})")).await?;
            if taken.as_deref() == Some("t") {
                return Ok(Self { session });
            }
            if asked.elapsed() > LEASE_LINGERS {
                break;
            }
            tokio::time::sleep(LEASE_LINGERS / 50).await;
        }
        let holder = session
            .rows(&format!(
                "SELECT coalesce(a.application_name, 'somebody'), to_char(a.backend_start, 'HH24:MI:SS') \
                 FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) \
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND (l.classid::bigint << 32 | l.objid::bigint) = {LEASE_KEY}"
            ))
            .await?;
        let holder = match holder.first() {
            Some(row) => format!(
                "{}, since {}",
                row[0].as_deref().unwrap_or("somebody").trim_start_matches("dbstress/"),
                row[1].as_deref().unwrap_or("?")
            ),
            None => "it has just ended".into(),
        };
        Err(Error::inconclusive(format!("another dbstress is at work on {options}: {holder}"))
            .cure("wait until it has ended, or use another database: two runs on one would be each other's noise"))
    }

    /// Whether the lease was held without a break until now.
    pub async fn is_held(&mut self) -> bool {
        let held = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() AND objsubid = 1 \
             AND (classid::bigint << 32 | objid::bigint) = {LEASE_KEY}"
        );
        self.session.integer(&held).await.is_ok_and(|n| n == 1)
    }

    /// Gives the lease back. When this returns the next command can take it, which closing the connection alone does not promise:
    /// the server notices that in its own time.
    pub async fn release(mut self) {
        // A connection that is lost has given it back already.
        let _ = self.session.text(&format!("SELECT pg_advisory_unlock({LEASE_KEY})")).await;
        self.session.close().await;
    }
}
