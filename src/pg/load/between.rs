//! What stands between a client and the server: nothing, or a pooler, and of which kind?
//!
//! A pooler does not say that it is there. What gives it away is the number of the process that serves a connection: it greets with a number of
//! its own, since many clients share a process; and in transaction mode the number changes from one transaction to the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Connection, Isolation, Protocol};
use crate::pg::ConnectOptions;
use crate::{Error, Result};

/// What two connections are called while they find out.
const NAME: &str = "dbstress/via";
/// How long a pooler may let a client wait for a connection to the server.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often two clients take turns. A pooler may hand out its connections in turn, and by chance the same ones again.
const TURNS: usize = 4;
/// Asks who serves.
const PROCESS: &str = "SELECT pg_backend_pid()";

/// What is between a client and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// Nothing that keeps connections: each of a client's is a session of the server.
    #[default]
    Nothing,
    /// A pooler that gives each client a connection to the server for as long as it stays.
    SessionPooler,
    /// A pooler that gives each transaction a connection to the server of its choice.
    TransactionPooler,
}

impl Between {
    /// In words, for a report.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "which passes connections through",
            Self::SessionPooler => "a pooler that gives each client a server connection for as long as it stays",
            Self::TransactionPooler => "a pooler that gives each transaction a server connection of its choice",
        }
    }

    /// Whether connections to the server outlive the clients that they served.
    pub fn is_pooler(self) -> bool {
        self != Self::Nothing
    }

    /// Whether what is told to a session is forgotten, or told to another client, when its transaction ends.
    pub fn shares_sessions(self) -> bool {
        self == Self::TransactionPooler
    }
}

/// How the connections of a load speak, and what is between them and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// How statements are sent.
    pub protocol: Protocol,
    /// What is between.
    pub between: Between,
}

/// Opens a connection that needs nothing of a pooler but transactions.
///
/// # Errors
/// As [`Connection::open`].
pub async fn scout(options: &ConnectOptions) -> Result<Connection> {
    Connection::open_in(Protocol::Simple, options, NAME, &[Isolation::ReadCommitted]).await
}

/// Finds out what is between two clients and their server. They are left as they were: open, and in no transaction.
///
/// # Errors
/// When one of them is refused a statement, or waits too long for its answer.
pub async fn recognise(one: &mut Connection, other: &mut Connection) -> Result<Between> {
    let recognising = async {
        let (own, others) = (process(one).await?, process(other).await?);
        if own == others {
            return Ok(Between::TransactionPooler);
        }
        let mut clients = [(one, own), (other, others)];
        for _ in 0..TURNS {
            let [(idle, known), (busy, kept)] = &mut clients;
            busy.ask("BEGIN").await?;
            // Who is in a transaction has a connection to the server that nobody else is given.
            let taken = process(busy).await?;
            let moved = taken != *kept || process(idle).await? != *known;
            busy.ask("COMMIT").await?;
            if moved {
                return Ok(Between::TransactionPooler);
            }
            clients.reverse();
        }
        let greeted = |(client, process): &(&mut Connection, i32)| client.greeted_by().is_none_or(|pid| pid == *process);
        Ok(if clients.iter().all(greeted) { Between::Nothing } else { Between::SessionPooler })
    };
    tokio::time::timeout(PATIENCE, recognising).await.map_err(|_| {
        Error::inconclusive(format!(
            "a second client has had no answer for {} s while the first was in a transaction",
            PATIENCE.as_secs()
        ))
        .cure("let the pooler have more than one connection to the server (PgBouncer: default_pool_size)")
    })?
}

async fn process(client: &mut Connection) -> Result<i32> {
    let answer = client.ask(PROCESS).await?;
    answer
        .as_deref()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| Error::inconclusive("the server does not say which process serves"))
}

/// Whether a pooler that gives each transaction another connection knows the named statements of each client apart, and has them at hand
/// wherever a transaction comes to be. It is tried; whatever goes wrong with the names means no, since without them all went well.
pub async fn keeps_statements(options: &ConnectOptions) -> bool {
    tokio::time::timeout(PATIENCE, tried(options)).await.is_ok_and(|tried| tried.is_ok_and(|kept| kept))
}

async fn tried(options: &ConnectOptions) -> Result<bool> {
    let level = Isolation::ReadCommitted;
    let open = async || Connection::open_in(Protocol::Prepared, options, NAME, &[level]).await;
    let failed = |_| Error::inconclusive("a named statement is not known");
    // Both give the same names to different statements.
    let (mut one, mut other) = (open().await?, open().await?);
    let (mine, theirs) = (one.prepare("SELECT 'one'").await?, other.prepare("SELECT 'other'").await?);
    let mut clients = [(&mut one, &mine, "one"), (&mut other, &theirs, "other")];
    for _ in 0..TURNS {
        let [(idle, ..), (busy, ..)] = &mut clients;
        busy.begin(level).await.map_err(failed)?;
        idle.begin(level).await.map_err(failed)?;
        for (client, statement, answer) in &mut clients {
            client.execute(statement, |_| {}).await.map_err(failed)?;
            if client.row().and_then(|row| row.values().next().flatten()) != Some(*answer) {
                return Ok(false);
            }
            client.commit().await;
        }
        clients.reverse();
    }
    Ok(true)
}

/// Requires that options lead to the server itself: what belongs to a session, as a lease does, must stay with it.
///
/// # Errors
/// Usage, when a pooler is between.
pub async fn require_direct(options: &ConnectOptions) -> Result<()> {
    let mut one = scout(options).await?;
    let mut other = scout(options).await?;
    if recognise(&mut one, &mut other).await?.is_pooler() { Err(is_pooler(options)) } else { Ok(()) }
}

/// What is said of options that lead to a pooler.
pub fn is_pooler(options: &ConnectOptions) -> Error {
    Error::usage(format!(
        "at {options} there is no server but a pooler, and the lease, the probes and the checks must each have a session of their own"
    ))
    .cure(format!(
        "--database-url of the server itself, and --via {} besides: then the load alone goes through the pooler",
        options.place()
    ))
}
