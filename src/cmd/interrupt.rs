//! What does Ctrl-C do to a command, or a terminal that is closed? The first lets what is under way come to its end, and begins nothing new; the
//! second ends it at once. Neither leaves anything at work on a server.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::pg::admin;
use crate::report::screen::Screen;
use crate::{Error, Result};

/// How many signals have come that ask the program to end. Who waits for none at that moment finds it later: between two scenarios none is lost.
static ASKED: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::Sender::new(0));

/// How long tasks may take to notice that nobody waits for them any more.
const TASKS_END: Duration = Duration::from_secs(1);

/// Runs `future` to its end on a runtime of its own: control work, never the measured load. At the second Ctrl-C, SIGTERM or SIGHUP it is
/// given up, whatever it is doing.
///
/// # Errors
/// Those of `future`; interrupted, after the second signal.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Error::inconclusive("the runtime cannot be made").because(e))?;
    let ended = runtime.block_on(async {
        // Before the first step of `future`: until then a signal would end the process where it stands.
        let signals = Signals::listen()?;
        tokio::select! {
            done = future => done,
            () = signals.count() => Err(Error::interrupted("interrupted twice: what was under way is given up")),
        }
    });
    // Tasks are dropped with it, and their sessions; a thread that blocks is not waited for.
    runtime.shutdown_timeout(TASKS_END);
    admin::wait_until_told();
    ended
}

struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::inconclusive("signals cannot be received").because(e));
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// Counts them, until there have been two.
    async fn count(self) {
        let Self([mut interrupt, mut terminate, mut hang_up]) = self;
        while *ASKED.borrow() < 2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            ASKED.send_modify(|asked| *asked += 1);
        }
    }
}

/// Waits for the first of them.
async fn asked() {
    // The sender is never dropped.
    let _ = ASKED.subscribe().wait_for(|asked| *asked > 0).await;
}

/// `future`, given up at the first signal: what it has half-made is cleaned up as it is dropped.
///
/// # Errors
/// Those of `future`; interrupted, after a signal.
pub async fn interruptible<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = future => done,
        () = asked() => Err(Error::interrupted("interrupted")),
    }
}

/// Runs what `make` makes of a receiver that turns true at the first signal.
///
/// # Errors
/// Those of the run.
pub async fn graceful<T, F: Future<Output = Result<T>>>(
    screen: Screen,
    make: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<T> {
    heeding(|| screen.note("interrupted: finishing the round, keeping the record (once more to give up)"), make).await
}

/// The same for a server, which stops at the first signal: that is how it ends.
///
/// # Errors
/// Those of the server.
pub async fn until_told<T, F: Future<Output = Result<T>>>(
    screen: Screen,
    make: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<T> {
    heeding(|| screen.note("stopping: finishing what is under way (once more to give up)"), make).await
}

async fn heeding<T, F: Future<Output = Result<T>>>(note: impl Fn(), make: impl FnOnce(watch::Receiver<bool>) -> F) -> Result<T> {
    let (stop, stopped) = watch::channel(false);
    let running = make(stopped);
    tokio::pin!(running);
    tokio::select! {
        done = &mut running => return done,
        () = asked() => {}
    }
    note();
    stop.send_replace(true);
    running.await
}

/// Whether an error is the user's own doing.
pub fn is_interruption(error: &Error) -> bool {
    error.kind() == crate::error::Kind::Interrupted
}
