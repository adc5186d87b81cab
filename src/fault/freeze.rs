//! freeze-backend, freeze: processes of the server stop for a while, and go on as if nothing had been. Only of a server that is ours.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::arena::Arena;
use super::{Effect, Fault};
use crate::Result;

/// Stops processes for so long, or until it is `over`.
///
/// # Errors
/// When they cannot be stopped.
pub(super) async fn strike(arena: &Arena, fault: Fault, hold: Duration, mut over: watch::Receiver<bool>) -> Result<Effect> {
    let _alone = match arena.alone().await {
        Ok(alone) => alone,
        Err(why) => return Ok(Effect::none(&why)),
    };
    let server = arena.server()?;
    let (processes, what) = match fault {
        Fault::FreezeBackend => match arena.backend().await {
            Ok((backend, what)) => (vec![backend], what),
            Err(why) => return Ok(Effect::none(why)),
        },
        _ => {
            // The postmaster first: it would make others.
            let mut all: Vec<_> = server.postmaster().into_iter().collect();
            all.extend(server.processes());
            let what = format!("all {} processes", all.len());
            (all, what)
        }
    };
    if processes.is_empty() {
        return Ok(Effect::none("its processes had gone"));
    }
    let at = Instant::now();
    let stopped = server.hold(processes).await?;
    let effective = Instant::now();
    let is_struck = stopped.count > 0;
    tokio::select! {
        () = tokio::time::sleep(hold) => {}
        _ = over.wait_for(|over| *over) => {}
    }
    stopped.go_on().await;
    Ok(if is_struck { Effect { at, effective, ..Effect::on(what) } } else { Effect::none("its processes had gone") })
}
