//! What did the server count while the load ran, and what did our own connections make of it?

use std::collections::HashMap;
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
    tables: Option<Tables>,
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
        Ok(Self { server, tables: tables(session).await?, client, tally: tally.clone() })
    }

    /// Reads both again, when all sessions of the load have ended; those of a pooler (`is_pooled`) stay, and tell in their own time, which nobody waits for.
    /// That no row was changed is believed only after a while if the load says otherwise (`claims_rows`).
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn until_now(self, session: &mut Session, is_pooled: bool, claims_rows: bool) -> Result<Counters> {
        let began = Instant::now();
        loop {
            flush(session).await?;
            let (client, uncertain) = self.tally.read();
            let server = reading(session).await?;
            let mut counters = Counters {
                client: client.since(self.client.0),
                uncertain: uncertain - self.client.1,
                server: server.counts.since(self.server.counts),
                was_reset: server.reset != self.server.reset || server.counts.commits < self.server.counts.commits,
                is_pooled,
                others: 0,
                rows: None,
            };
            let (told, made) = (counters.server, counters.client);
            let is_told =
                told.commits + counters.uncertain >= made.commits && told.rollbacks + counters.uncertain >= made.rollbacks;
            let is_over = began.elapsed() > PATIENCE;
            if is_told && !is_pooled && !counters.was_reset {
                // What is asked here is counted too, but only after both readings.
                let now = tables(session).await?;
                counters.rows = self.tables.as_ref().zip(now.as_ref()).map(|(before, now)| changed(before, now));
                if is_over || !claims_rows || counters.rows != Some(0) {
                    return Ok(counters);
                }
            } else if is_pooled || counters.was_reset || is_over {
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

/// By object identifier, what the server has counted of a table.
type Tables = HashMap<String, Table>;

struct Table {
    /// Rows inserted, updated or deleted by transactions that were committed, since the table was analysed last.
    committed: u64,
    /// How often it was analysed.
    analysed: u64,
}

/// What the server has counted of tables that stay and are not ours; `None` if it does not count, or not all: those of another access method, and of
/// other servers, it leaves out.
async fn tables(session: &mut Session) -> Result<Option<Tables>> {
    let counts = "SELECT (current_setting('track_counts') = 'on' AND NOT EXISTS (SELECT FROM pg_class AS c LEFT JOIN pg_am AS a ON a.oid = c.relam \
                  WHERE c.relkind = 'f' OR c.relkind IN ('r', 'm') AND a.amname <> 'heap'))::int";
    if session.integer(counts).await? == 0 {
        return Ok(None);
    }
    let rows = session
        .rows(
            "SELECT relid, n_mod_since_analyze, analyze_count + autoanalyze_count FROM pg_stat_user_tables \
             WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname !~ '^pg_temp_' AND schemaname <> 'dbstress_control' \
             AND (schemaname, relname) <> ('dbstress', 'run')",
        )
        .await?;
    let table = |row: Vec<Option<String>>| {
        let number = |n: usize| row.get(n).and_then(Option::as_deref).and_then(|text| text.parse().ok()).unwrap_or_default();
        let table = Table { committed: number(1), analysed: number(2) };
        (row.first().cloned().flatten().unwrap_or_default(), table)
    };
    Ok(Some(rows.into_iter().map(table).collect()))
}

/// How many rows were changed between two readings, at least: of a table that was analysed meanwhile only what came after that is known, since the
/// server's other counts include what was rolled back.
fn changed(before: &Tables, now: &Tables) -> u64 {
    let of = |(oid, now): (&String, &Table)| match before.get(oid) {
        Some(before) if before.analysed == now.analysed => now.committed.saturating_sub(before.committed),
        _ => now.committed,
    };
    now.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_that_were_committed_and_of_a_table_that_was_analysed_those_after_it() {
        let of = |tables: &[(&str, u64, u64)]| -> Tables {
            let table = |&(oid, committed, analysed): &(&str, u64, u64)| (oid.to_owned(), Table { committed, analysed });
            tables.iter().map(table).collect()
        };
        let before = of(&[("1", 4, 1), ("2", 7, 0)]);
        for (now, rows) in [
            (("1", 4, 1), 0),
            (("1", 9, 1), 5),
            (("1", 0, 2), 0),
            (("1", 3, 2), 3),
            (("2", 7, 0), 0),
            (("3", 0, 0), 0),
            (("3", 8, 1), 8),
        ] {
            assert_eq!(changed(&before, &of(&[now])), rows, "{now:?}");
        }
    }
}
