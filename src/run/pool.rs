//! What do the virtual users of a turn share, and what came of it?

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::session::{Opener, Session};
use crate::Result;
use crate::pg::pool::{self, Loan, Open, Pooled};
use crate::record::{PoolRecord, PoolSecond};

/// How often the pool is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// The pool of a turn.
pub(super) type Pool = pool::Pool<Door>;

/// Opens the connections of a turn's pool.
#[derive(Clone)]
pub(super) struct Door {
    pub opener: Opener,
    pub application_name: String,
    /// How many have been opened: by its number a session of the pool is told from the others.
    pub opened: Arc<AtomicU32>,
}

impl Open for Door {
    type Item = Session;

    async fn open(&self) -> Result<Session> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.opener.open(&format!("{}/pool{number}", self.application_name)).await
    }
}

impl Pooled for Session {
    fn is_open(&self) -> bool {
        self.is_open()
    }

    async fn answers(&mut self) -> bool {
        match self {
            Self::Sql(session) => session.connection.ask("SELECT 1").await.is_ok(),
            Self::Http(session) => session.client.is_open(),
        }
    }
}

/// A connection for one attempt.
pub(super) enum Checkout {
    Own(Session),
    Pooled(Loan<Door>),
}

impl Checkout {
    pub fn as_mut(&mut self) -> &mut Session {
        match self {
            Self::Own(session) => session,
            Self::Pooled(loan) => loan,
        }
    }

    /// Gives the connection up: nobody uses it again.
    pub async fn discard(self) {
        let session = match self {
            Self::Own(session) => Some(session),
            Self::Pooled(loan) => loan.discard(),
        };
        if let Some(session) = session {
            session.discard().await;
        }
    }
}

/// Looks at the pool until `over` turns true, on the axis that begins at `began`.
pub(super) async fn observe(pool: Arc<Pool>, began: Instant, mut over: watch::Receiver<bool>) -> PoolRecord {
    let mut record = PoolRecord { size: pool.settings().size, ..PoolRecord::default() };
    let mut ticks = tokio::time::interval_at(began.into(), INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut second = PoolSecond::default();
    let mut seen = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = over.wait_for(|over| *over) => break,
        }
        let status = pool.status();
        let now = began.elapsed().as_secs_f64();
        // A second's samples are those before its end.
        while now >= second.second + 1.0 {
            record.close(&mut second, &mut seen);
        }
        seen += 1;
        record.samples += 1;
        second.in_use += status.in_use as f64;
        second.most_waiting = second.most_waiting.max(status.waiting);
        second.open = second.open.max(status.size);
    }
    let elapsed = began.elapsed();
    record.close(&mut second, &mut seen);
    record.missed = ((elapsed.as_secs_f64() / INTERVAL.as_secs_f64()) as u64).saturating_sub(record.samples);
    record
}

/// What the books say at the end of a load that lasted `elapsed`, when every virtual user has gone.
pub(super) fn settle(record: &mut PoolRecord, pool: &Pool, elapsed: Duration) {
    record.books = pool.books();
    let all = elapsed.as_secs_f64() * f64::from(record.size);
    record.utilisation = if all > 0.0 { (record.books.held.as_secs_f64() / all).min(1.0) } else { 0.0 };
}
