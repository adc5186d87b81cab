//! What is at hand for a fault to be done to: the sessions of the run, the proxy, the server if it is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::pg::ConnectOptions;
use crate::pg::admin::{Lease, Session, TextRow, literal};
use crate::pg::cluster::Running;
use crate::pg::cluster::process::Identity;
use crate::proxy::Proxy;
use crate::{Error, Result};

/// How long a question to the server may take; one that is down or stopped does not answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is tried whether a server lets us in.
const KNOCK_EVERY: Duration = Duration::from_millis(20);
/// How long a server may take to let us in again after what was done to it.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(120);

/// Asks who else is connected to the server than this run on `database`; NULL if nobody is.
pub fn others(database: &str) -> String {
    format!(
        "SELECT string_agg(format('%s on %s', coalesce(nullif(application_name, ''), 'somebody'), datname), ', ' ORDER BY pid) \
         FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid() \
           AND (datname <> {} OR application_name NOT LIKE 'dbstress/%')",
        literal(database)
    )
}

/// What can be disturbed.
pub struct Arena {
    /// Straight to the server, past any proxy.
    pub(super) options: ConnectOptions,
    /// What the names of the run's sessions begin with.
    pub(super) prefix: String,
    /// The server, if it is ours.
    server: Option<Arc<Running>>,
    /// What the load connects through.
    proxy: Option<Arc<Proxy>>,
    /// Lost with the server's sessions, and taken again.
    lease: Option<Arc<Mutex<Lease>>>,
    /// One after the other: a server that is down cannot be frozen.
    at_server: Mutex<()>,
    is_down: Arc<AtomicBool>,
    struck: Arc<AtomicU64>,
    session: Mutex<Option<Session>>,
}

impl Arena {
    /// For the sessions whose names begin with `prefix`.
    pub fn new(
        options: ConnectOptions,
        prefix: String,
        server: Option<Arc<Running>>,
        proxy: Option<Arc<Proxy>>,
        lease: Option<Arc<Mutex<Lease>>>,
    ) -> Self {
        Self {
            options,
            prefix,
            server,
            proxy,
            lease,
            at_server: Mutex::new(()),
            is_down: Arc::default(),
            struck: Arc::default(),
            session: Mutex::new(None),
        }
    }

    /// Turns true while the server is down because of a fault.
    pub fn outage(&self) -> Arc<AtomicBool> {
        self.is_down.clone()
    }

    /// How often anything has struck.
    pub fn struck(&self) -> Arc<AtomicU64> {
        self.struck.clone()
    }

    /// The run's sessions, as what follows a SELECT's columns.
    pub(super) fn sessions(&self) -> String {
        format!(
            "FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, {})",
            literal(&self.prefix)
        )
    }

    /// Asks the server; `None` when it does not answer.
    pub(super) async fn ask(&self, sql: &str) -> Option<Vec<TextRow>> {
        let mut session = self.session.lock().await;
        let asking = async {
            // What was asked before may have been the end of it.
            for _ in 0..2 {
                if session.is_none() {
                    *session = Session::connect(&self.options, "faults").await.ok();
                }
                match session.as_mut()?.rows(sql).await {
                    Ok(rows) => return Some(rows),
                    Err(_) => *session = None,
                }
            }
            None
        };
        let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await.ok().flatten();
        if answer.is_none() {
            *session = None;
        }
        answer
    }

    /// The server, if it is ours.
    ///
    /// # Errors
    /// Usage, if it is not.
    pub(super) fn server(&self) -> Result<&Running> {
        self.server.as_deref().ok_or_else(|| Error::usage("the server is not ours").cure("--managed"))
    }

    /// What the load connects through.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// Only one fault at a time is at the server, and none while others are connected, who would be met by it.
    ///
    /// # Errors
    /// Why nothing may be done to it.
    pub(super) async fn alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, String> {
        let alone = self.at_server.lock().await;
        match self.ask(&others(&self.options.database)).await.as_deref() {
            None => Err("the server did not answer".into()),
            Some([row]) => match &row[0] {
                None => Ok(alone),
                Some(who) => Err(format!("others are connected to the server: {who}")),
            },
            Some(_) => Err("the server did not say who is connected".into()),
        }
    }

    /// A backend of the run, busy ones before the others, and what it is called. By number and start time, and only if it is a process of our
    /// server.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn backend(&self) -> Result<(Identity, String), &'static str> {
        let sql = format!("SELECT pid, application_name {} ORDER BY state = 'idle', random() LIMIT 1", self.sessions());
        let rows = self.ask(&sql).await.ok_or("the server did not answer")?;
        let Some([Some(pid), Some(name)]) = rows.first().map(Vec::as_slice) else { return Err("there was no session to strike") };
        let processes = self.server.as_ref().map(|server| server.processes()).unwrap_or_default();
        let backend = processes.into_iter().find(|process| process.pid.to_string() == *pid).ok_or("the session had gone")?;
        Ok((backend, format!("session {pid}, {name}")))
    }

    /// From now on the server does not answer.
    pub(super) fn goes_down(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }

    /// Waits until the session that we had has ended too. Until then the server has not begun to throw everybody out, and would seem to be back.
    pub(super) async fn is_thrown_out(&self) {
        let mut session = self.session.lock().await;
        let witnessing = async {
            while let Some(witness) = session.as_mut() {
                match witness.integer("SELECT 1").await {
                    Ok(_) => tokio::time::sleep(KNOCK_EVERY / 10).await,
                    Err(_) => *session = None,
                }
            }
        };
        // If it stays, nobody was thrown out, and the server is there.
        let _ = tokio::time::timeout(ASK_TIMEOUT, witnessing).await;
    }

    /// Waits until the server lets us in again, and takes the lease again, which everybody lost with their sessions.
    ///
    /// # Errors
    /// When it does not come back, or somebody else has the lease.
    pub(super) async fn comes_back(&self) -> Result<()> {
        let knocking = async {
            loop {
                if self.ask("SELECT 1").await.is_some() {
                    return;
                }
                tokio::time::sleep(KNOCK_EVERY).await;
            }
        };
        let back = tokio::time::timeout(RECOVERY_PATIENCE, knocking).await;
        self.is_down.store(false, Ordering::Relaxed);
        if back.is_err() {
            let patience = RECOVERY_PATIENCE.as_secs();
            return Err(Error::inconclusive(format!("the server did not come back within {patience} s after a fault"))
                .cure("look into its log: dbstress db status"));
        }
        let Some(lease) = &self.lease else { return Ok(()) };
        let mut lease = lease.lock().await;
        let began = Instant::now();
        // A server that has just let somebody in may think better of it.
        while let Err(error) = lease.take_again(&self.options).await {
            if began.elapsed() > ASK_TIMEOUT {
                return Err(error);
            }
            tokio::time::sleep(KNOCK_EVERY).await;
        }
        Ok(())
    }
}
