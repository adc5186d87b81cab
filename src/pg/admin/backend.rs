//! How does the server learn that nobody waits for an answer any more?
//!
//! A connection that is closed tells it nothing while it is at work: it finds out when it wants to answer. So whoever gives a question up
//! says so, over another connection.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Session;
use crate::pg::ConnectOptions;
use crate::pg::tally::Follower;

/// How long telling it may take; a server that cannot be reached is not at work for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process that serves a session. Its number may be another's one day; with the time at which it began, it is nobody else's.
#[derive(Debug, Clone)]
pub struct Backend {
    options: ConnectOptions,
    pid: i64,
    began: String,
}

impl Backend {
    /// The one that serves `session`.
    pub(super) async fn of(session: &mut Session, options: &ConnectOptions) -> Option<Self> {
        let own = "SELECT pid, extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let row = session.rows(own).await.ok()?.into_iter().next()?;
        let mut values = row.into_iter().flatten();
        Some(Self { options: options.clone(), pid: values.next()?.parse().ok()?, began: values.next()? })
    }

    /// Cancels what it is doing, which then fails with 57014; the session goes on.
    pub async fn cancel(&self) {
        self.tell("pg_cancel_backend(pid)").await;
    }

    /// Ends it, and waits for its end.
    async fn end(self) {
        self.tell(&ended()).await;
    }

    async fn tell(&self, what: &str) {
        let own = format!("pid = {} AND extract(epoch FROM backend_start) = {}", self.pid, self.began);
        tell(&self.options, &[what], &own).await;
    }
}

/// Asks for each of `what` of the sessions that `which` is true of, over a connection of its own, and waits no longer than [`PATIENCE`] for the
/// answers. Best effort: where it fails, nobody is left to be told.
async fn tell(options: &ConnectOptions, what: &[&str], which: &str) {
    let asking = async {
        if let Ok(mut session) = Session::open(options, "cancel", &[]).await {
            for what in what {
                let _ = session.rows(&format!("SELECT {what} FROM pg_stat_activity WHERE {which}")).await;
            }
            session.close().await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, asking).await;
}

/// What ends a session and waits for its end.
fn ended() -> String {
    format!("pg_terminate_backend(pid, {})", PATIENCE.as_millis())
}

/// Ends the sessions whose names begin with `prefix`, without waiting for it; [`wait_until_told`] does.
pub fn end_all(options: &ConnectOptions, prefix: &str) {
    let named = super::literal(prefix);
    let which = format!("datname = current_database() AND starts_with(application_name, {named}) AND pid <> pg_backend_pid()");
    let options = options.clone();
    // All of them at once, and only then each is waited for.
    beside(async move { tell(&options, &["pg_terminate_backend(pid)", &ended()], &which).await });
}

/// What a session has asked; if it is dropped before the answer has come, the server is told to end it.
#[derive(Debug)]
pub(super) struct Asked {
    pub follower: Follower,
    pub backend: Option<Backend>,
    pub is_open: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_open {
            self.follower.lost();
            if let Some(backend) = self.backend.take() {
                beside(backend.end());
            }
        }
    }
}

/// Those who tell a server at present.
static TELLING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Does `work` on a thread of its own: what is dropped cannot wait, and its runtime may be about to end.
fn beside(work: impl Future<Output = ()> + Send + 'static) {
    let telling = std::thread::Builder::new().name("cancel".into()).spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(work);
        }
    });
    if let Ok(telling) = telling {
        TELLING.lock().unwrap_or_else(PoisonError::into_inner).push(telling);
    }
}

/// Waits until every server has been told what was given up; at the end of a program, so that nothing of it is left at work.
pub fn wait_until_told() {
    let telling = std::mem::take(&mut *TELLING.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in telling {
        // One that panicked has nothing to say.
        let _ = thread.join();
    }
}
