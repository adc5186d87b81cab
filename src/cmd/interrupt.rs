//! What does Ctrl-C do to a run, or a terminal that is closed? The first finishes the round and keeps the record; the second gives up at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::report::screen::Screen;
use crate::{Error, Result};

/// Runs what `make` makes of a receiver that turns true at the first Ctrl-C or SIGTERM; the second one gives it up.
///
/// # Errors
/// Those of the run; interrupted, after the second signal.
pub async fn graceful<T, F: Future<Output = Result<T>>>(
    screen: Screen,
    make: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<T> {
    heeding(
        || screen.note("interrupted: finishing the round, keeping the record (once more to give up)"),
        "interrupted twice: given up without a record",
        make,
    )
    .await
}

/// The same for a server, which stops at the first signal: that is how it ends.
///
/// # Errors
/// Those of the server; interrupted, after the second signal.
pub async fn until_told<T, F: Future<Output = Result<T>>>(
    screen: Screen,
    make: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<T> {
    let note = || screen.note("stopping: finishing what is under way (once more to give up)");
    heeding(note, "interrupted twice: what was under way is given up", make).await
}

async fn heeding<T, F: Future<Output = Result<T>>>(
    note: impl Fn(),
    given_up: &str,
    make: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<T> {
    let unavailable = |e| Error::inconclusive("signals cannot be received").because(e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(unavailable)?;
    let (stop, stopped) = watch::channel(false);
    let running = make(stopped);
    tokio::pin!(running);
    let mut signals = 0;
    loop {
        tokio::select! {
            done = &mut running => return done,
            _ = interrupt.recv() => signals += 1,
            _ = terminate.recv() => signals += 1,
            _ = hang_up.recv() => signals += 1,
        }
        if signals > 1 {
            return Err(Error::interrupted(given_up));
        }
        note();
        stop.send_replace(true);
    }
}

/// Whether an error is the user's own doing.
pub fn is_interruption(error: &Error) -> bool {
    error.kind() == crate::error::Kind::Interrupted
}
