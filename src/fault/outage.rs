//! kill-backend, crash, kill, restart: all sessions end, and the server has to come back. Only of a server that is ours.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::arena::Arena;
use super::{Effect, Fault};
use crate::pg::cluster::process::Identity;
use crate::{Error, Result};

/// How long a server may take to go down.
const DOWN_PATIENCE: Duration = Duration::from_secs(60);
/// How long the writer of the log has not run when a crash comes. Who acknowledges what is durable writes the log himself and does not mind; what
/// others acknowledge is lost then, and not by chance.
const LOG_WRITER_HELD: Duration = Duration::from_millis(150);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Brings the server down and up again.
///
/// # Errors
/// When it does not come back.
pub(super) async fn strike(arena: &Arena, fault: Fault) -> Result<Effect> {
    let _alone = match arena.alone().await {
        Ok(alone) => alone,
        Err(why) => return Ok(Effect::none(&why)),
    };
    let server = arena.server()?;
    if fault == Fault::KillBackend {
        return kill_backend(arena).await;
    }
    let Some(postmaster) = server.postmaster() else { return Ok(Effect::none("the server was not running")) };
    let signal = match fault {
        Fault::Crash => Signal::SIGQUIT,
        Fault::Kill => Signal::SIGKILL,
        // Fast shutdown: sessions are ended, what is committed is written.
        _ => Signal::SIGINT,
    };
    let mut held = None;
    if fault != Fault::Restart
        && let Some(log_writer) = server.log_writer()
    {
        held = Some((server.hold(vec![log_writer.clone()]).await?, log_writer));
        tokio::time::sleep(LOG_WRITER_HELD).await;
    }
    arena.goes_down();
    let at = Instant::now();
    if let Some((_, log_writer)) = &held {
        log_writer.signal(Signal::SIGKILL);
    }
    if !postmaster.signal(signal) {
        arena.comes_back().await?;
        return Ok(Effect::none("the postmaster had gone"));
    }
    let pid = postmaster.pid;
    ended(&postmaster).await?;
    drop(held);
    let effective = Instant::now();
    server.start_again().await?;
    arena.comes_back().await?;
    Ok(Effect { at, effective, ..Effect::on(format!("{signal} to postmaster {pid}, started again")) })
}

async fn kill_backend(arena: &Arena) -> Result<Effect> {
    let (backend, what) = match arena.backend().await {
        Ok(chosen) => chosen,
        Err(why) => return Ok(Effect::none(why)),
    };
    arena.goes_down();
    let at = Instant::now();
    let struck = backend.signal(Signal::SIGKILL);
    if struck {
        ended(&backend).await?;
        arena.is_thrown_out().await;
    }
    let effective = Instant::now();
    arena.comes_back().await?;
    Ok(if struck {
        Effect { at, effective, ..Effect::on(format!("SIGKILL to {what}")) }
    } else {
        Effect::none("the session had gone")
    })
}

async fn ended(process: &Identity) -> Result<()> {
    let began = Instant::now();
    while process.is_alive() {
        if began.elapsed() > DOWN_PATIENCE {
            return Err(Error::inconclusive(format!("process {} of the server does not end", process.pid)).cure("dbstress db stop"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
