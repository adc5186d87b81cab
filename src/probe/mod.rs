//! What were the sessions of the run doing, seen from the server? Sampled on a connection of its own, outside the load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Result;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, literal};

/// How often the server is asked. One question costs it well under a millisecond.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// What the samples showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Samples taken.
    pub samples: u64,
    /// Samples that could not be taken: a gap in what is known.
    pub missed: u64,
    /// Samples in which at least one session waited for a lock.
    pub with_lock_waits: u64,
    /// Most sessions seen waiting for locks at once.
    pub most_waiting: u64,
    /// Most sessions seen inside a transaction at once.
    pub most_in_transaction: u64,
    /// Sessions seen waiting for a lock, by the kind of lock, summed over the samples.
    pub lock_waits: BTreeMap<String, u64>,
    /// Time the questions themselves took, milliseconds.
    pub cost_ms: f64,
}

/// Samples sessions in the same database whose `application_name` starts with `prefix` until `stop` turns true.
///
/// # Errors
/// When the first connection fails; a question that fails later is a missed sample.
pub async fn watch(options: &ConnectOptions, prefix: &str, mut stop: watch::Receiver<bool>) -> Result<Sessions> {
    let mut session = Session::connect(options, "probe").await?;
    let question = format!(
        "SELECT coalesce(wait_event_type = 'Lock', false), coalesce(wait_event, ''), count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND starts_with(application_name, {}) AND state IN ('active', 'idle in transaction') GROUP BY 1, 2",
        literal(prefix)
    );
    let mut seen = Sessions::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let asked = Instant::now();
        match session.rows(&question).await {
            Ok(rows) => seen.take(&rows),
            Err(error) => {
                seen.missed += 1;
                // Whoever ended the load's sessions may have ended this one too.
                if error.is_lost_connection()
                    && let Ok(again) = Session::connect(options, "probe").await
                {
                    session = again;
                }
            }
        }
        seen.cost_ms += asked.elapsed().as_secs_f64() * 1e3;
    }
    session.close().await;
    Ok(seen)
}

impl Sessions {
    /// Takes one sample in: rows of (waits for a lock, event, how many).
    fn take(&mut self, rows: &[Vec<Option<String>>]) {
        self.samples += 1;
        let (mut waiting, mut busy) = (0, 0);
        for row in rows {
            let [Some(is_lock), Some(event), Some(count)] = &row[..] else { continue };
            let count: u64 = count.parse().unwrap_or(0);
            busy += count;
            if is_lock == "t" {
                waiting += count;
                *self.lock_waits.entry(event.clone()).or_default() += count;
            }
        }
        self.with_lock_waits += u64::from(waiting > 0);
        self.most_waiting = self.most_waiting.max(waiting);
        self.most_in_transaction = self.most_in_transaction.max(busy);
    }
}
