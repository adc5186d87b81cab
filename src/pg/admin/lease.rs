//! Who else is at work on this database? One run at a time.

use std::time::{Duration, Instant};

use super::Session;
use crate::pg::ConnectOptions;
use crate::pg::load::require_direct;
use crate::{Error, Result};

/// Key of the advisory lock that makes one run per database: the bytes of "dbstress".
const LEASE_KEY: i64 = i64::from_be_bytes(*b"dbstress");

/// How long a lease may still seem taken after its holder has ended without giving it back: the server notices in its own time.
const LEASE_LINGERS: Duration = Duration::from_secs(1);

/// The right to run on a database; nobody else has it while this lives. Released with its connection, even by `kill -9`.
pub struct Lease {
    session: Session,
    command: String,
    /// Why somebody else may have had it meanwhile.
    lost: Option<String>,
}

impl Lease {
    /// Takes the lease for `command`.
    ///
    /// # Errors
    /// Inconclusive, naming the holder, when another dbstress works on this database. Usage, when a pooler is between, which would lend the lease
    /// to others.
    pub async fn take(options: &ConnectOptions, command: &str) -> Result<Self> {
        require_direct(options).await?;
        Self::take_directly(options, command).await
    }

    async fn take_directly(options: &ConnectOptions, command: &str) -> Result<Self> {
        let mut session = Session::connect(options, &format!("{command} of process {}", std::process::id())).await?;
        let asked = Instant::now();
        loop {
            let taken = session.text(&format!("SELECT pg_try_advisory_lock({LEASE_KEY})")).await?;
            if taken.as_deref() == Some("t") {
                return Ok(Self { session, command: command.to_owned(), lost: None });
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

    /// Takes it again after every session of the server was ended by ourselves: before anybody else could have come by.
    ///
    /// # Errors
    /// Inconclusive, when somebody else has it.
    pub async fn take_again(&mut self, options: &ConnectOptions) -> Result<()> {
        match Self::take_directly(options, &self.command).await {
            Ok(again) => *self = again,
            Err(error) => {
                self.lost = Some(error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the lease was held until now, without a break but those that we made ourselves.
    pub async fn is_held(&mut self) -> bool {
        if self.lost.is_some() {
            return false;
        }
        let held = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() AND objsubid = 1 \
             AND (classid::bigint << 32 | objid::bigint) = {LEASE_KEY}"
        );
        self.session.integer(&held).await.is_ok_and(|n| n == 1)
    }

    /// Gives the lease back. When this returns the next command can take it, which closing the connection alone does not promise:
    /// the server notices that in its own time.
    pub async fn release(&mut self) {
        // A connection that is lost has given it back already.
        let _ = self.session.text(&format!("SELECT pg_advisory_unlock({LEASE_KEY})")).await;
    }
}
