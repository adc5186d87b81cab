//! Who has changed what, and was it a load test? A trail that nobody waits for, and that loses nothing.
//!
//! Entries are queued and written in batches. When the queue is full, whoever has an entry waits: nothing is dropped. The numbers of a batch are drawn
//! before it is written, so that one whose answer was lost can be written again and is there once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::metrics::Metrics;
use crate::history::OpId;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError, literal};
use crate::{Error, Result};

/// Entries that may wait.
const QUEUE: usize = 1 << 12;
/// Entries that are written at once.
const BATCH: usize = 1 << 9;
/// Between two attempts at a batch.
const PAUSE: Duration = Duration::from_millis(200);

/// Something that was asked for, and what was answered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was answered.
    pub at: SystemTime,
    /// Who asked.
    pub login: String,
    /// Of which organisation, or programme.
    pub organisation: Option<i64>,
    /// What was to be done.
    pub action: &'static str,
    /// To what.
    pub resource: &'static str,
    /// To which of them.
    pub resource_id: Option<i64>,
    /// The status of the answer.
    pub status: u16,
    /// Whether who asked says that it is a load test.
    pub is_load_test: bool,
    /// As the ledger has it.
    pub operation: Option<OpId>,
}

/// Where entries go.
#[derive(Clone)]
pub struct Trail {
    queue: mpsc::Sender<Entry>,
    metrics: Arc<Metrics>,
}

impl Trail {
    /// Leaves an entry; waits while the queue is full.
    pub async fn leave(&self, entry: Entry) {
        self.metrics.audit_waiting.fetch_add(1, Relaxed);
        // Whoever writes ends after all who leave something: unless it was given up, when what is waiting is counted as lost.
        let _ = self.queue.send(entry).await;
    }
}

/// Writes entries, on a thread of its own.
pub struct Writer {
    thread: std::thread::JoinHandle<()>,
    give_up: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Begins. `name` is what its session is called.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(options: ConnectOptions, name: String, metrics: Arc<Metrics>) -> Result<(Trail, Self)> {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (give_up, given_up) = watch::channel(false);
        let failed = |why| Error::inconclusive("the thread of the audit trail cannot be made").because(why);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let counted = metrics.clone();
        let work = move || runtime.block_on(write(&options, &name, entries, given_up, &counted));
        let thread = std::thread::Builder::new().name("audit".into()).spawn(work).map_err(failed)?;
        Ok((Trail { queue, metrics: metrics.clone() }, Self { thread, give_up, metrics }))
    }

    /// Waits until everything is written, for so long at most; how many entries were not. Every [`Trail`] must be gone.
    pub async fn end(self, patience: Duration) -> u64 {
        let Self { thread, give_up, metrics } = self;
        let mut joining = tokio::task::spawn_blocking(move || drop(thread.join()));
        if tokio::time::timeout(patience, &mut joining).await.is_err() {
            give_up.send_replace(true);
            let _ = joining.await;
        }
        u64::try_from(metrics.audit_waiting.load(Relaxed)).unwrap_or(0)
    }
}

async fn write(
    options: &ConnectOptions,
    name: &str,
    mut entries: mpsc::Receiver<Entry>,
    mut given_up: watch::Receiver<bool>,
    metrics: &Metrics,
) {
    let mut session: Option<Session> = None;
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        tokio::select! {
            () = until_written(options, name, &mut session, &batch) => {}
            _ = given_up.wait_for(|given_up| *given_up) => return,
        }
        metrics.audited.fetch_add(batch.len() as u64, Relaxed);
        metrics.audit_waiting.fetch_sub(batch.len() as i64, Relaxed);
        batch.clear();
    }
    if let Some(session) = session {
        session.close().await;
    }
}

async fn until_written(options: &ConnectOptions, name: &str, session: &mut Option<Session>, batch: &[Entry]) {
    let mut ids = Vec::new();
    loop {
        if session.is_none() {
            *session = Session::connect(options, name).await.ok();
        }
        if let Some(open) = session {
            match written(open, batch, &mut ids).await {
                Ok(()) => return,
                Err(why) if why.is_lost_connection() => *session = None,
                // The table may be made anew just now, or the disk be full: nothing is dropped for that.
                Err(_) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes a batch once, under numbers that are drawn the first time.
async fn written(session: &mut Session, batch: &[Entry], ids: &mut Vec<i64>) -> Result<(), SqlError> {
    if ids.is_empty() {
        let sql = format!(
            "SELECT nextval(pg_get_serial_sequence('dbstress.audit_entry', 'id')) FROM generate_series(1, {})",
            batch.len()
        );
        let drawn = session.rows(&sql).await?;
        ids.extend(drawn.into_iter().filter_map(|row| row.into_iter().next().flatten()?.parse::<i64>().ok()));
    }
    let mut sql = String::from(
        "INSERT INTO dbstress.audit_entry (id, at, login, organisation_id, action, resource, resource_id, status, is_load_test, op_id) \
         OVERRIDING SYSTEM VALUE VALUES ",
    );
    let number = |number: Option<i64>| number.map_or("NULL".into(), |number| number.to_string());
    for (n, (id, entry)) in ids.iter().zip(batch).enumerate() {
        let at = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let _ = write!(
            sql,
            "{}({id}, to_timestamp({at:.6}), {}, {}, {}, {}, {}, {}, {}, {})",
            if n > 0 { ", " } else { "" },
            // No text of PostgreSQL's can hold it.
            literal(&entry.login.replace('\0', "\u{fffd}")),
            number(entry.organisation),
            literal(entry.action),
            literal(entry.resource),
            number(entry.resource_id),
            entry.status,
            entry.is_load_test,
            number(entry.operation.map(|operation| operation.0)),
        );
    }
    sql.push_str(" ON CONFLICT (id) DO NOTHING");
    session.execute(&sql).await.map(drop)
}
