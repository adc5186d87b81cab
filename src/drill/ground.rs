//! Where are the drills done? Scratch tables in a schema of their own, gone afterwards, and somebody who looks at the sessions from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::desk::{Desk, Setup};
use super::mistake::Mistake;
use crate::outcome::Abort;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease, literal};
use crate::pg::load::{Connection, Ending, Failure, Isolation, NO_TIMEOUT, UNHURRIED};
use crate::pg::pool::{Open, Pooled};
use crate::{Error, Result};

/// The schema of the scratch tables; whatever is in it goes away.
pub const SCHEMA: &str = "dbstress_pool";

/// How often a condition is looked at that is waited for.
const GLANCE: Duration = Duration::from_millis(10);

/// Why nothing more is done without the lease.
const LEASE_LOST: &str = "the lease on the database was lost: somebody else may have worked on it";

/// A database to do drills in, held for us alone.
pub struct Ground {
    admin: admin::Session,
    lease: Lease,
    /// Whether `admin` is there in place of one that was ended.
    is_second: bool,
    /// Why nothing more can be done.
    lost: Option<String>,
    door: Door,
    options: ConnectOptions,
    version: String,
}

/// A session of a drill.
pub struct Session {
    connection: Connection,
    /// Which it is of all that its pool has opened, from 1 on.
    pub number: u64,
    /// The server's process for it.
    pub pid: i64,
}

/// Opens the drills' sessions.
#[derive(Clone)]
pub struct Door {
    /// How the load connects.
    options: ConnectOptions,
    application_name: String,
    opened: Arc<AtomicU64>,
}

/// A session of ours that is in a transaction although nobody works on it.
pub struct Unended {
    /// The server's process for it.
    pub pid: i64,
    /// As the server calls it.
    pub state: String,
    /// Since the last statement.
    pub seconds: f64,
}

impl Open for Door {
    type Item = Session;

    async fn open(&self) -> Result<Session> {
        let mut connection = Connection::open(&self.options, &self.application_name, &[Isolation::ReadCommitted]).await?;
        connection.ask(NO_TIMEOUT).await?;
        connection.ask(UNHURRIED).await?;
        let pid = connection.ask("SELECT pg_backend_pid()").await?.and_then(|pid| pid.parse().ok()).unwrap_or_default();
        Ok(Session { connection, number: self.opened.fetch_add(1, Ordering::Relaxed) + 1, pid })
    }
}

impl Pooled for Session {
    fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    async fn answers(&mut self) -> bool {
        self.connection.ask("SELECT 1").await.is_ok()
    }
}

impl Session {
    /// Runs a statement; the first value of its answer.
    pub async fn query(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        self.connection.query(sql).await
    }

    /// The first value of an answer, as an integer.
    pub async fn integer(&mut self, sql: &str) -> Result<i64, Failure> {
        self.query(sql).await?.and_then(|text| text.parse().ok()).ok_or(Failure::local(Abort::Other))
    }

    /// Begins a transaction at READ COMMITTED.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        self.connection.begin(Isolation::ReadCommitted).await
    }

    /// Commits.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        match self.connection.commit().await {
            Ending::Committed => Ok(()),
            Ending::NotCommitted(failure) => Err(failure),
            Ending::Unknown => Err(Failure::local(Abort::ConnectionLost)),
        }
    }

    /// Rolls back.
    pub async fn roll_back(&mut self) {
        self.connection.roll_back().await;
    }

    /// Whether it is in no transaction, as the server said last.
    pub fn is_idle(&self) -> bool {
        self.connection.transaction() == crate::pg::load::Transaction::Idle
    }
}

impl Ground {
    /// Takes a database that may be written to.
    ///
    /// # Errors
    /// Usage, when it holds tables of others and was not declared `disposable`; inconclusive, when somebody else is at work on it.
    pub async fn take(options: &ConnectOptions, disposable: Option<&str>) -> Result<Self> {
        let mut session = administer(options).await?;
        let lease = Lease::take(options, "pool").await?;
        admin::claim(&mut session, options, disposable).await?;
        let version = session.text("SHOW server_version").await?.unwrap_or_default();
        let application_name = format!("dbstress/drill of process {}", std::process::id());
        let door = Door { options: options.clone(), application_name, opened: Arc::default() };
        Ok(Self { admin: session, lease, is_second: false, lost: None, door, options: options.clone(), version })
    }

    /// Where it is; never a password.
    pub fn address(&self) -> String {
        self.options.to_string()
    }

    /// What the server says it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes the scratch tables, empty.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn set_up(&mut self) -> Result<()> {
        self.admin
            .execute(&format!(
                "DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}; \
                 CREATE TABLE {SCHEMA}.entry (request integer NOT NULL); \
                 CREATE TABLE {SCHEMA}.account (id integer PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))"
            ))
            .await?;
        Ok(())
    }

    /// Removes everything that was made, and gives the database back.
    ///
    /// # Errors
    /// When it could not be removed, or somebody else may have been at work here meanwhile.
    pub async fn leave(mut self) -> Result<()> {
        // Whoever was interrupted may have left the old one in the middle of a question.
        self.admin = administer(&self.options).await?;
        // A request that was given up in the middle of a transaction would be waited for.
        self.end_sessions().await?;
        self.admin.execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
        let is_held = self.lease.is_held().await;
        self.lease.release().await;
        self.admin.close().await;
        if is_held {
            return Ok(());
        }
        Err(Error::inconclusive(LEASE_LOST))
    }

    /// After something could not be done: whether that was because our own session had ended, and there is now another. That happens once; whoever
    /// ends it again will do so a third time. Nobody else has been here meanwhile: the lease has a session of its own.
    pub async fn recover(&mut self) -> bool {
        let is_over = self.admin.text("SELECT 1").await.is_err_and(|error| error.is_lost_connection());
        if !is_over || self.lost.is_some() {
            return false;
        }
        let lost = if self.is_second {
            "the session dbstress/pool was ended for the second time".to_owned()
        } else if !self.lease.is_held().await {
            LEASE_LOST.to_owned()
        } else {
            match administer(&self.options).await {
                Ok(admin) => {
                    (self.admin, self.is_second) = (admin, true);
                    return true;
                }
                Err(error) => format!("the session dbstress/pool was ended, and there is no other: {error}"),
            }
        };
        self.lost = Some(lost);
        false
    }

    /// Why nothing more can be done here, if that is so.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// As for the first drill: no session of another one, no rows, and six accounts of 100.
    pub async fn clear(&mut self) -> Result<()> {
        self.end_sessions().await?;
        self.admin
            .execute(&format!(
                "TRUNCATE {SCHEMA}.entry, {SCHEMA}.account; INSERT INTO {SCHEMA}.account SELECT n, 100 FROM generate_series(1, 6) n"
            ))
            .await?;
        Ok(())
    }

    /// A pool as the drill wants it.
    pub fn desk(&self, setup: Setup, mistake: Option<Mistake>) -> Result<Arc<Desk>> {
        Desk::new(setup, mistake, Door { opened: Arc::default(), ..self.door.clone() })
    }

    /// An integer, asked from outside.
    pub async fn integer(&mut self, sql: &str) -> Result<i64> {
        Ok(self.admin.integer(sql).await?)
    }

    /// Rows that were committed.
    pub async fn entries(&mut self) -> Result<i64> {
        self.integer(&format!("SELECT count(*) FROM {SCHEMA}.entry")).await
    }

    /// Ends every session of the drills, and waits until they are gone; how many there were.
    pub async fn end_sessions(&mut self) -> Result<i64> {
        let ended = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {}", self.ours());
        let ended = self.integer(&ended).await?;
        self.until("the ended sessions are gone", &format!("SELECT count(*) FROM pg_stat_activity WHERE {}", self.ours()), 0)
            .await?;
        Ok(ended)
    }

    /// Sessions of ours that wait for a lock.
    pub async fn lock_waits(&mut self) -> Result<i64> {
        let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE {} AND wait_event_type = 'Lock'", self.ours());
        self.integer(&waiting).await
    }

    /// Sessions of ours that were left in a transaction.
    pub async fn unended(&mut self) -> Result<Vec<Unended>> {
        let question = format!(
            "SELECT pid, state, extract(epoch FROM clock_timestamp() - state_change) FROM pg_stat_activity \
             WHERE {} AND state LIKE 'idle in transaction%' ORDER BY pid",
            self.ours()
        );
        let rows = self.admin.rows(&question).await?;
        let text = |row: &admin::TextRow, i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let of = |row: &admin::TextRow| Unended {
            pid: text(row, 0).parse().unwrap_or_default(),
            state: text(row, 1),
            seconds: text(row, 2).parse().unwrap_or_default(),
        };
        Ok(rows.iter().map(of).collect())
    }

    /// Waits until the answer is this.
    async fn until(&mut self, what: &str, sql: &str, answer: i64) -> Result<()> {
        let began = Instant::now();
        while self.integer(sql).await? != answer {
            if began.elapsed() > PATIENCE {
                return Err(Error::inconclusive(format!("not so after {} s: {what}", PATIENCE.as_secs())));
            }
            glance().await;
        }
        Ok(())
    }

    /// The condition on `pg_stat_activity` for the drills' sessions.
    fn ours(&self) -> String {
        format!("datname = current_database() AND application_name = {}", literal(&self.door.application_name))
    }
}

/// The session from which the drills are seen.
async fn administer(options: &ConnectOptions) -> Result<admin::Session> {
    admin::Session::connect(options, "pool").await
}

/// A moment between two looks at a condition.
pub async fn glance() {
    tokio::time::sleep(GLANCE).await;
}
