//! Everything that is asked of PostgreSQL outside the measured load: migrations, the sentinel, the lease, invariants, probes.
//!
//! One connection at a time, simple protocol, values as text: the questions are rare and their types are the user's own.

mod lease;
mod sentinel;

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Row, ValueRef};

use crate::pg::load::Transaction;
use crate::pg::tally::{Answer, Follower};
use crate::pg::{ConnectOptions, Host, SslMode, load};
use crate::{Error, Result};

pub use lease::Lease;
pub use sentinel::{Loaded, Meta, Sentinel, check_disposable, claim, inspect, require_loaded, wipe};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
}

impl SqlError {
    /// Whether the session is over, rather than the statement at fault.
    pub fn is_lost_connection(&self) -> bool {
        self.code.as_deref().is_none_or(|code| code.starts_with("08") || code.starts_with("57P"))
    }
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

/// One administrative connection.
pub struct Session {
    connection: PgConnection,
    /// As far as its statements tell.
    transaction: Transaction,
    follower: Follower,
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
        Ok(session)
    }

    async fn connect_with(options: &ConnectOptions, role: &str, besides: &[(&str, &str)]) -> Result<Self> {
        let driver = driver_options(options, role).options(SETTINGS.iter().chain(besides).copied());
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, driver.connect());
        match connecting.await {
            Ok(Ok(connection)) => {
                let mut follower = Follower::new(options.counted.clone());
                follower.tell();
                let has_transaction_timeout = connection.server_version_num().is_some_and(|v| v >= TRANSACTION_TIMEOUT_SINCE);
                let mut session = Self { connection, transaction: Transaction::Idle, follower };
                match has_transaction_timeout {
                    true => session.execute(&format!("{LEVEL}; SET transaction_timeout = 0")).await?,
                    false => session.execute(LEVEL).await?,
                };
                session.recognise(options).await?;
                Ok(session)
            }
            Ok(Err(error)) => Err(connect_error(options, error)),
            Err(_) => {
                Err(Error::inconclusive(format!("no answer from PostgreSQL at {options} within {} s", CONNECT_TIMEOUT.as_secs()))
                    .cure("check host, port and firewall"))
            }
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
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        let done = done.map(|done| done.rows_affected()).map_err(SqlError::from);
        self.answered(sql, done.as_ref().err());
        done
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
        text.as_deref()
            .and_then(|t| t.parse().ok())
            .ok_or_else(|| SqlError { code: None, message: format!("expected one integer, got {text:?} from: {sql}") })
    }

    /// Follows what a statement of ours does to the transaction: all that begins and ends one is written here in one way.
    fn answered(&mut self, sql: &str, error: Option<&SqlError>) {
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
            Some(error) if error.is_lost_connection() => self.follower.lost(),
            _ => self.follower.answered(before, self.transaction, answer),
        }
        self.follower.tell();
    }

    /// Gives the connection up in the middle of a question, which the server may have answered or not.
    pub fn abandon(mut self) {
        self.follower.lost();
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
    // What PgBouncer says of a setting that it would have to keep for each client.
    if error.to_string().contains("unsupported startup parameter") {
        return load::is_pooler(options).because(error);
    }
    let answer = error.as_database_error();
    let code = answer.and_then(|answer| answer.code()).map(|code| code.into_owned());
    if code.as_deref() == Some(load::TOO_MANY) {
        let routine = answer.and_then(|answer| answer.try_downcast_ref::<PgDatabaseError>()).and_then(PgDatabaseError::routine);
        let (message, cure) = load::none_left(options, routine);
        return Error::inconclusive(message).because(error).cure(cure);
    }
    let (message, cure) = match code.as_deref() {
        Some("28P01" | "28000") => (
            format!("PostgreSQL at {options} does not let `{}` in", options.user),
            "give the right password in the URL, in PGPASSWORD or in ~/.pgpass",
        ),
        Some("3D000") => (
            format!("there is no database `{}` at {options}", options.database),
            "create it (createdb), or name another in the URL",
        ),
        Some("57P03") => (format!("PostgreSQL at {options} is starting up or shutting down"), "try again in a moment"),
        _ if error.to_string().contains("certificate") => (
            format!("the certificate of PostgreSQL at {options} is not trusted"),
            "sslrootcert=FILE names the authority to trust; sslmode=require trusts whoever answers",
        ),
        _ => (
            format!("could not connect to PostgreSQL at {options}"),
            "start the server or correct the address; without --database-url, DATABASE_URL and PGHOST dbstress runs a private one",
        ),
    };
    Error::inconclusive(message).because(error).cure(cure)
}
