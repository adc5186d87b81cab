//! Has everything ended, and what became of the operations whose COMMIT was never answered?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::books::Books;
use crate::Result;
use crate::contract::MOST_ATTEMPTS;
use crate::history::Reader;
use crate::outcome::Outcome;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, IN_TRANSACTION, Session, SqlError, literal};
use crate::workload::booking::Place;

/// Ends what earlier runs of this database left at work when they were killed. Whoever holds the lease knows that none of them is still there.
///
/// # Errors
/// The loss of the connection.
pub async fn end_orphans(session: &mut Session) -> Result<()> {
    // Those of another role stay, and are seen as others' in the way.
    session
        .rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user \
             AND application_name ~ '^dbstress/(run[0-9]+/.*|run|prepare)$' AND state IS DISTINCT FROM 'idle' AND pid <> pg_backend_pid()",
        )
        .await?;
    Ok(())
}

/// How long sessions of the run may take to go by themselves.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often a marker is claimed before its operation counts as unresolved.
const CLAIMS: u32 = 10;

/// How often in a row the sessions of an API must be found at rest: between two attempts at a request they are, for up to 16 ms.
const LOOKS: u32 = 5;

/// The sessions that the operations of a turn are performed in.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// What their names begin with: `dbstress/run5/`.
    pub prefix: String,
    /// Whose they are.
    pub keeper: Keeper,
}

/// Whose sessions they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The virtual users': they end with them.
    VirtualUsers,
    /// A pooler's: they outlive their clients, idle and still called as the last of them.
    Pooler,
    /// An API's: others may be at work in them too.
    Api,
}

impl Sessions {
    /// Whether they stay when the load is over.
    pub fn stay(&self) -> bool {
        self.keeper != Keeper::VirtualUsers
    }

    /// Those that are still to end something, as what follows a SELECT's columns. Other databases of the server have runs of the same number.
    fn at_work(&self) -> String {
        let at_work = if self.stay() {
            format!(" AND CASE WHEN state IS NULL THEN {IN_TRANSACTION} ELSE state <> 'idle' END")
        } else {
            String::new()
        };
        format!(
            "FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, {}) AND pid <> pg_backend_pid(){at_work}",
            literal(&self.prefix)
        )
    }
}

/// A load under way. If it is dropped before its end its sessions are ended on the server: the threads end with the program, and what they have asked
/// would go on.
pub struct UnderLoad<'a> {
    options: &'a ConnectOptions,
    sessions: Sessions,
    has_ended: bool,
}

impl<'a> UnderLoad<'a> {
    /// It begins.
    pub fn new(options: &'a ConnectOptions, sessions: Sessions) -> Self {
        Self { options, sessions, has_ended: false }
    }

    /// It has ended by itself.
    pub fn ended(mut self) {
        self.has_ended = true;
    }
}

impl Drop for UnderLoad<'_> {
    fn drop(&mut self) {
        // An API's sessions are not ours to end.
        if !self.has_ended && self.sessions.keeper != Keeper::Api {
            admin::end_all(self.options, &self.sessions.prefix);
        }
    }
}

/// Waits until no session of the run is left and no prepared transaction exists; what does not go by itself is terminated. Where sessions stay,
/// none of them may be in a transaction; those of an API are not ours to end.
/// `None` if it is quiet, otherwise what is still there.
///
/// # Errors
/// When the server cannot be asked.
pub async fn quiesce(session: &mut Session, sessions: &Sessions) -> Result<Option<String>> {
    let ours = sessions.at_work();
    let began = Instant::now();
    let mut terminated = false;
    let mut quiet = 0;
    loop {
        let left = session.integer(&format!("SELECT count(*) {ours}")).await?;
        quiet = if left == 0 { quiet + 1 } else { 0 };
        if left == 0 && (sessions.keeper != Keeper::Api || quiet >= LOOKS) {
            break;
        }
        if sessions.keeper == Keeper::Api && began.elapsed() > PATIENCE {
            return Ok(Some(format!("{left} sessions of the API are still at work")));
        }
        if began.elapsed() > PATIENCE {
            if terminated {
                return Ok(Some(format!("{left} sessions of the run do not end")));
            }
            session.rows(&format!("SELECT pg_terminate_backend(pid) {ours}")).await?;
            terminated = true;
        }
        tokio::time::sleep(if terminated { PATIENCE / 10 } else { ASK_EVERY }).await;
        if terminated && began.elapsed() > PATIENCE * 2 {
            return Ok(Some(format!("{left} sessions of the run do not end")));
        }
    }
    let prepared = session.integer("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await?;
    Ok((prepared > 0).then(|| format!("{prepared} prepared transactions are open")))
}

/// Resolves every unknown of the histories by claiming its marker: a fence with the key of each attempt that may have gone unanswered. If the key
/// is taken, the attempt committed; if the fence goes in, it did not and never can. How many remain unresolved is found by the audit.
///
/// # Errors
/// When the server cannot be asked. A history that cannot be read has no unknowns here; the audit says so.
pub async fn resolve(session: &mut Session, books: Books, place: &Place, histories: &[PathBuf], sessions: &Sessions) -> Result<()> {
    let ours = sessions.at_work();
    // A server makes several attempts at one of ours, and each has a number.
    let each = if sessions.keeper == Keeper::Api { MOST_ATTEMPTS } else { 1 };
    for path in histories {
        let Ok(reader) = Reader::open(path) else { continue };
        for record in reader.operations() {
            let Ok(record) = record else { break };
            if record.outcome != Outcome::Unknown {
                continue;
            }
            claim(session, &books.fence(place, &record, each), &ours).await?;
        }
    }
    Ok(())
}

async fn claim(session: &mut Session, fence: &str, ours: &str) -> Result<(), SqlError> {
    for _ in 0..CLAIMS {
        // The transaction of the unanswered attempt may still hold the key; it will not for long.
        let claimed = session.execute(&format!("BEGIN; SET LOCAL lock_timeout = '500ms'; {fence}; COMMIT")).await;
        let Err(error) = claimed else { return Ok(()) };
        session.execute("ROLLBACK").await?;
        match error.code.as_deref() {
            Some("55P03") => {
                session.rows(&format!("SELECT pg_terminate_backend(pid) {ours}")).await?;
            }
            _ => return Err(error),
        }
    }
    Ok(())
}
