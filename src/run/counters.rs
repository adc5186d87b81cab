//! What did the server count while the load ran, and what did our own connections make of it?

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::audit::{Counters, Counts};
use crate::pg::admin::Session;
use crate::pg::tally::Tally;

/// How long the server may take to tell what it has counted: sessions report when they end, the others when they are idle.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Both counts at the beginning of a load.
pub(super) struct Beginning {
    server: Reading,
    client: (Counts, u64),
    tally: Arc<Tally>,
}

/// What the server says of the database.
struct Reading {
    counts: Counts,
    /// Changes when its statistics are reset.
    reset: Option<String>,
}

impl Beginning {
    /// Reads both. Nobody else of this run may be at work.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn read(session: &mut Session, tally: &Arc<Tally>) -> Result<Self> {
        flush(session).await?;
        // What the reading itself takes is counted after it, here as there.
        let client = tally.read();
        let server = reading(session).await?;
        Ok(Self { server, client, tally: tally.clone() })
    }

    /// Reads both again, when all sessions of the load have ended; those of a pooler (`is_pooled`) stay, and tell in their own time, which nobody waits for.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn until_now(self, session: &mut Session, is_pooled: bool) -> Result<Counters> {
        let began = Instant::now();
        loop {
            flush(session).await?;
            let (client, uncertain) = self.tally.read();
            let server = reading(session).await?;
            let counters = Counters {
                client: client.since(self.client.0),
                uncertain: uncertain - self.client.1,
                server: server.counts.since(self.server.counts),
                was_reset: server.reset != self.server.reset || server.counts.commits < self.server.counts.commits,
                is_pooled,
                others: 0,
            };
            let (told, made) = (counters.server, counters.client);
            let is_told =
                told.commits + counters.uncertain >= made.commits && told.rollbacks + counters.uncertain >= made.rollbacks;
            if is_told || is_pooled || counters.was_reset || began.elapsed() > PATIENCE {
                return Ok(counters);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Lets the session tell what it has made so far, where it can be asked to.
async fn flush(session: &mut Session) -> Result<()> {
    let version = session.integer("SELECT current_setting('server_version_num')::int").await?;
    if version >= 150_000 {
        // Only what has read a table is flushed at all.
        session.rows("SELECT count(*), pg_stat_force_next_flush() FROM pg_database").await?;
    } else {
        session.rows("SELECT pg_stat_clear_snapshot()").await?;
    }
    Ok(())
}

async fn reading(session: &mut Session) -> Result<Reading> {
    let rows = session
        .rows(
            "SELECT sessions, xact_commit, xact_rollback, deadlocks, stats_reset::text FROM pg_stat_database \
             WHERE datname = current_database()",
        )
        .await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let number = |n: usize| row.get(n).and_then(Option::as_deref).and_then(|text| text.parse().ok()).unwrap_or_default();
    let counts = Counts { sessions: number(0), commits: number(1), rollbacks: number(2), deadlocks: number(3) };
    Ok(Reading { counts, reset: row.get(4).cloned().flatten() })
}
