//! Everything that is asked of PostgreSQL outside the measured load: migrations, the sentinel, the lease, invariants, probes.
//!
//! One connection at a time, simple protocol, values as text: the questions are rare and their types are the user's own.

mod backend;
mod lease;
mod sentinel;

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgErrorPosition, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Row, ValueRef};

use self::backend::Asked;
use crate::pg::load::Transaction;
use crate::pg::tally::{Answer, Follower};
use crate::pg::unconnected::{TOO_MANY, unconnected};
use crate::pg::{ClientCertificate, ConnectOptions, Host, SslMode, TargetSessionAttrs};
use crate::{Error, Result};

pub use backend::{Backend, end_all, wait_until_told};
pub use lease::Lease;
pub use sentinel::{Loaded, Meta, Sentinel, check_disposable, claim, inspect, require_loaded, wipe};

/// What the driver sets when it begins a session, over what the options of the connection say of it.
const SET_BY_THE_DRIVER: [&str; 3] = ["datestyle", "extra_float_digits", "timezone"];

/// Where names without a schema lead.
pub const SEARCH_PATH: [&str; 2] = ["dbstress", "public"];

/// What every session asks for when it connects, so that neither the role nor the database nor the server decides which table is meant by a name,
/// how long a question may take, or how an answer is written. The driver asks for time zone, dates and encoding besides. Whether anything may be
/// written stays what the server says.
const SETTINGS: [(&str, &str); 8] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("bytea_output", "hex"),
    ("IntervalStyle", "postgres"),
];

/// Asked first. Not with the others, so that the server can still say what the role's own level is.
const LEVEL: &str = "SET default_transaction_isolation = 'read committed'";

/// The first version that has `transaction_timeout`; older ones let nobody in who asks for it.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

/// Which rows of `pg_stat_activity` are clients, whoever asks: of sessions of other roles an ordinary one is told neither kind nor state.
pub const IS_CLIENT: &str =
    "(datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend')";

/// Which rows of `pg_stat_activity` are in a transaction, whoever asks: each transaction holds the lock on its own number.
pub const IN_TRANSACTION: &str =
    "(pid IN (SELECT l.pid FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted))";

/// A statement that failed: the server's code, when it was the server that said no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}{}", code.as_deref().map(|c| format!(" (SQLSTATE {c})")).unwrap_or_default())]
pub struct SqlError {
    /// SQLSTATE; `None` when the connection failed, not the statement.
    pub code: Option<String>,
    /// What was said.
    pub message: String,
    /// Where in the text that was sent, in characters from 1, when the server told.
    pub position: Option<usize>,
}

impl SqlError {
    /// What is said of a statement that was asked `elapsed` ago and might take `limit`: 57014 is what the server answers when that time is over, and
    /// also when somebody has cancelled it.
    pub fn in_words(&self, elapsed: Duration, limit: Duration) -> String {
        match self.code.as_deref() {
            Some("57014") if elapsed >= limit => format!("it did not finish within {}", humantime::format_duration(limit)),
            Some("57014") => format!("it was cancelled on the server: {self}"),
            _ => self.to_string(),
        }
    }

    /// Whether the session is over, rather than the statement at fault.
    pub fn is_lost_connection(&self) -> bool {
        self.code.as_deref().is_none_or(|code| code.starts_with("08") || code.starts_with("57P"))
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) => {
                let position = match e.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::position) {
                    Some(PgErrorPosition::Original(position)) => Some(position),
                    _ => None,
                };
                Self { code: e.code().map(|c| c.into_owned()), message: e.message().to_owned(), position }
            }
            other => Self { code: None, message: other.to_string(), position: None },
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
            Some("25006") => Error::inconclusive("PostgreSQL lets nothing be written here").because(error).cure(
                "ALTER DATABASE … RESET default_transaction_read_only, or of the role or the server if it is set there\n\
                 or connect to the primary, if this is a standby",
            ),
            Some(_) => Error::inconclusive("PostgreSQL refused a statement of dbstress").because(error),
        }
    }
}

/// One row, every value as PostgreSQL prints it; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// One administrative connection. Dropped in the middle of a question, it is ended on the server too.
pub struct Session {
    connection: PgConnection,
    /// As far as its statements tell.
    transaction: Transaction,
    asked: Asked,
}

impl Session {
    /// Connects. `role` tells what the connection is for; it shows as `dbstress/ROLE` in `pg_stat_activity`. Names without a schema are looked for in
    /// [`SEARCH_PATH`], and no setting of the user's role changes what is asked or answered.
    ///
    /// # Errors
    /// Inconclusive, with the cure, when nobody answers, the password is wrong, or the database does not exist.
    pub async fn connect(options: &ConnectOptions, role: &str) -> Result<Self> {
        Self::connect_with(options, role, &[("search_path", &SEARCH_PATH.join(","))]).await
    }

    /// As [`Self::connect`], for questions of the user's: names without a schema are looked for where the user's role looks for them, too.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_for_questions(options: &ConnectOptions, role: &str) -> Result<Self> {
        let mut session = Self::connect_with(options, role, &[]).await?;
        let ours = literal(&SEARCH_PATH.join(", "));
        let both = format!("concat_ws(', ', {ours}, nullif(current_setting('search_path'), ''))");
        session.rows(&format!("SELECT set_config('search_path', {both}, false)")).await?;
        for (name, value) in &options.session.settings {
            if SET_BY_THE_DRIVER.contains(&&*name.to_lowercase()) {
                session.rows(&format!("SELECT set_config({}, {}, false)", literal(name), literal(value))).await?;
            }
        }
        Ok(session)
    }

    async fn connect_with(options: &ConnectOptions, role: &str, besides: &[(&str, &str)]) -> Result<Self> {
        let mut session = Self::open(options, role, besides).await.map_err(|refused| refused.error)?;
        session.recognise(options).await?;
        session.asked.backend = Backend::of(&mut session, options).await;
        Ok(session)
    }

    async fn open(options: &ConnectOptions, role: &str, besides: &[(&str, &str)]) -> Result<Self, Unconnected> {
        // Last, so that they are what counts.
        let ours = SETTINGS.iter().chain(besides).copied();
        let driver = driver_options(options, &format!("dbstress/{role}")).options(ours).disable_statement_logging();
        let connection = match tokio::time::timeout(options.session.connect_timeout, driver.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                // An answer that is about who asks, or for what, would be the wrong one to hear from another host.
                let is_down = |code: &str| code.starts_with("08") || code.starts_with("57P") || code == TOO_MANY;
                let answer = error.as_database_error();
                let code = answer.and_then(|answer| answer.code()).map(|code| code.into_owned());
                let routine =
                    answer.and_then(|answer| answer.try_downcast_ref::<PgDatabaseError>()).and_then(PgDatabaseError::routine);
                let routine = routine.map(str::to_owned);
                let try_another = answer.is_none() || code.as_deref().is_some_and(is_down);
                // The driver adds a line, which is one of the server's own source.
                let error = match answer.map(|answer| answer.message().to_owned()) {
                    Some(said) => unconnected(options, code.as_deref(), routine.as_deref(), said),
                    None => unconnected(options, None, None, error),
                };
                return Err(Unconnected { error, try_another });
            }
            Err(_) => return Err(Unconnected { error: options.session.no_answer(options), try_another: true }),
        };
        let mut follower = Follower::new(options.counted.clone());
        follower.tell();
        let asked = Asked { follower, backend: None, is_open: false };
        let mut session = Self { connection, transaction: Transaction::Idle, asked };
        match session.begin_as(options).await {
            Ok(true) => Ok(session),
            Ok(false) => {
                session.close().await;
                Err(Unconnected { error: options.session.target.not_at(options), try_another: true })
            }
            Err(error) => Err(Unconnected { error: error.into(), try_another: false }),
        }
    }

    /// Sets what cannot be asked for when connecting; whether this is the kind of server that is wanted.
    async fn begin_as(&mut self, options: &ConnectOptions) -> Result<bool, SqlError> {
        let has_transaction_timeout = self.connection.server_version_num().is_some_and(|v| v >= TRANSACTION_TIMEOUT_SINCE);
        match has_transaction_timeout {
            true => self.execute(&format!("{LEVEL}; SET transaction_timeout = 0")).await?,
            false => self.execute(LEVEL).await?,
        };
        match options.session.target.question() {
            None => Ok(true),
            Some(question) => Ok(self.text(question).await?.as_deref() == Some("true")),
        }
    }

    /// Makes sure that the server is the one that earlier connections met.
    async fn recognise(&mut self, options: &ConnectOptions) -> Result<()> {
        let questions = options.same.questions();
        for question in questions {
            match self.text(question).await {
                Ok(answer) => return options.same.compare(question, &answer.unwrap_or_default(), options),
                Err(error) if error.is_lost_connection() || questions.len() == 1 => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Runs one or more statements; the number of rows affected by all of them.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, SqlError> {
        self.asked.is_open = true;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        let done = done.map(|done| done.rows_affected()).map_err(SqlError::from);
        self.answered(sql, done.as_ref().err());
        done
    }

    /// Runs the statements of a script.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection; and how many statements were done before.
    pub async fn script(&mut self, sql: &str) -> Result<(), (usize, SqlError)> {
        let mut done = 0;
        self.asked.is_open = true;
        let mut ends = sqlx::raw_sql(AssertSqlSafe(sql)).execute_many(&mut self.connection);
        let ended = loop {
            match ends.try_next().await {
                Ok(Some(_)) => done += 1,
                Ok(None) => break Ok(()),
                Err(error) => break Err(SqlError::from(error)),
            }
        };
        drop(ends);
        self.answered(sql, ended.as_ref().err());
        ended.map_err(|error| (done, error))
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
    pub async fn stream(&mut self, sql: &str, visit: impl FnMut(&[Option<String>])) -> Result<(), SqlError> {
        let done = self.visit(sql, visit).await;
        self.answered(sql, done.as_ref().err());
        done
    }

    async fn visit(&mut self, sql: &str, mut visit: impl FnMut(&[Option<String>])) -> Result<(), SqlError> {
        self.asked.is_open = true;
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
        self.asked.is_open = true;
        let described = self.connection.describe(AssertSqlSafe(sql).into_sql_str()).await;
        let described = described.map_err(SqlError::from);
        self.answered(sql, described.as_ref().err());
        let described = described?;
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
        text.as_deref().and_then(|t| t.parse().ok()).ok_or_else(|| SqlError {
            code: None,
            message: format!("expected one integer, got {text:?} from: {sql}"),
            position: None,
        })
    }

    /// Follows what a statement of ours does to the transaction: all that begins and ends one is written here in one way.
    fn answered(&mut self, sql: &str, error: Option<&SqlError>) {
        self.asked.is_open = false;
        let before = self.transaction;
        let (first, last) = (sql.trim_start(), sql.trim_end().trim_end_matches(';'));
        let begins = first.starts_with("BEGIN");
        let commits = last.ends_with("COMMIT");
        let rolls_back = last.ends_with("ROLLBACK");
        self.transaction = match (error, before) {
            (Some(_), Transaction::Idle) if !begins => Transaction::Idle,
            (Some(_), _) => {
                if commits && !begins {
                    Transaction::Idle
                } else {
                    Transaction::Failed
                }
            }
            (None, _) if commits || rolls_back => Transaction::Idle,
            (None, _) if begins => Transaction::Open,
            // To a savepoint, before the failure.
            (None, Transaction::Failed) => Transaction::Open,
            (None, state) => state,
        };
        let was_deadlock = error.is_some_and(|e| e.code.as_deref() == Some("40P01"));
        let answer = Answer { rolled_back: rolls_back, failed: error.is_some(), was_deadlock };
        match error {
            Some(error) if error.is_lost_connection() => self.asked.follower.lost(),
            _ => self.asked.follower.answered(before, self.transaction, answer),
        }
        self.asked.follower.tell();
    }

    /// The process that serves it, which somebody else may tell to cancel what this session waits for.
    pub fn backend(&self) -> Option<Backend> {
        self.asked.backend.clone()
    }

    /// Says goodbye to the server.
    pub async fn close(mut self) {
        self.asked.follower.closed(self.transaction);
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

/// Why there is no session, and whether another host that was named may be asked.
struct Unconnected {
    error: Error,
    try_another: bool,
}

/// The host that all sessions of a command go to: the first that is reached and is of the kind that is wanted. Whatever keeps a command from
/// connecting is found here, before it begins.
///
/// # Errors
/// What was answered, if it is about who asks or for what: the next host is not asked to answer otherwise. Else why each host failed.
pub async fn choose(options: ConnectOptions) -> Result<ConnectOptions> {
    let wanted = options.session.target;
    let passes = match wanted {
        TargetSessionAttrs::PreferStandby => vec![TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
        target => vec![target],
    };
    let mut failed = Vec::new();
    for target in passes {
        failed.clear();
        for candidate in std::iter::once(&options).chain(&options.alternatives) {
            let mut candidate = ConnectOptions { alternatives: Vec::new(), ..candidate.clone() };
            candidate.session.target = target;
            match Session::open(&candidate, "connect", &[]).await {
                Ok(session) => {
                    session.close().await;
                    candidate.session.target = wanted;
                    return Ok(candidate);
                }
                Err(Unconnected { error, try_another }) if !try_another || options.alternatives.is_empty() => return Err(error),
                Err(Unconnected { error, .. }) => failed.push(error.message().to_owned()),
            }
        }
    }
    Err(Error::inconclusive(format!("none of the {} hosts can be used: {}", failed.len(), failed.join("; ")))
        .cure("start one of them, or name others in host"))
}

/// How the driver is told where the server is, and how sessions begin there.
pub(crate) fn driver_options(options: &ConnectOptions, application_name: &str) -> PgConnectOptions {
    let mut driver = PgConnectOptions::new_without_pgpass()
        .port(options.port)
        .username(&options.user)
        .database(&options.database)
        .application_name(application_name)
        .ssl_mode(match options.encryption() {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
    if !options.session.settings.is_empty() {
        driver = driver.options(options.session.settings.iter().map(|(name, value)| (name, value)));
    }
    driver = match &options.host {
        Host::Tcp(host) => driver.host(host),
        Host::Socket(directory) => driver.socket(directory),
    };
    if let Some(password) = &options.password {
        driver = driver.password(password);
    }
    driver = match &options.ssl_root_cert {
        Some(file) => driver.ssl_root_cert(file),
        // None besides those that it trusts anyway, whatever PGSSLROOTCERT says.
        None => driver.ssl_root_cert_from_pem(Vec::new()),
    };
    if let Some(ClientCertificate { certificate, key }) = &options.ssl_client {
        driver = driver.ssl_client_cert(certificate).ssl_client_key(key);
    }
    driver
}
