//! How does a private server end: when told to, and when somebody killed a part of it?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::layout::Layout;
use super::process::{self, Identity, PidFile};
use super::status::{bytes_in, postmaster};
use super::{Patience, Progress, Settings, StartLock, create, supervise, unusable};
use crate::pg::Host;
use crate::pg::admin::Session;
use crate::{Error, Result};

/// How long backends may outlive their postmaster: they notice at their next wait.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

/// Stops the servers of all versions, or of `settings.pg_version`; by force, whoever uses them. Returns the majors of those that ran.
///
/// # Errors
/// Usage, naming who uses one: then none is stopped. When one does not stop.
pub async fn stop(settings: &Settings, by_force: bool, progress: Progress<'_>) -> Result<Vec<u32>> {
    let state = settings.state();
    let layouts = selected(settings, &state);
    let mut stopped = Vec::new();
    if layouts.is_empty() {
        return Ok(stopped);
    }
    let _lock = StartLock::take(&state, progress).await?;
    for layout in layouts.iter().filter(|_| !by_force) {
        refuse_if_used(layout, "stop").await?;
    }
    for layout in layouts {
        if halt(&layout, progress).await? {
            stopped.push(layout.major);
        }
    }
    Ok(stopped)
}

/// What [`remove`] has removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// Major version.
    pub major: u32,
    /// The cluster's directory.
    pub directory: PathBuf,
    /// What it held.
    pub bytes: u64,
    /// Whether its server ran.
    pub stopped: bool,
}

/// Stops a server and removes its cluster with all databases; by force, whoever uses it. `None` when there is none.
///
/// # Errors
/// Usage, when there are several and no version was named; or naming who uses it.
pub async fn remove(settings: &Settings, by_force: bool, progress: Progress<'_>) -> Result<Option<Removed>> {
    let state = settings.state();
    let layouts = selected(settings, &state);
    let layout = match layouts.as_slice() {
        [] => return Ok(None),
        [layout] => layout,
        several => {
            let majors: Vec<String> = several.iter().map(|l| l.major.to_string()).collect();
            return Err(Error::usage("there are several private clusters; nothing was removed")
                .cure(format!("--pg-version, one of {}", majors.join(", "))));
        }
    };
    let _lock = StartLock::take(&state, progress).await?;
    if !by_force {
        refuse_if_used(layout, "drop").await?;
    }
    let stopped = halt(layout, progress).await?;
    let bytes = bytes_in(&layout.directory);
    if let Some(record) = layout.record().filter(|record| !record.socket.starts_with(&layout.directory)) {
        // Only what we made: a directory of this name that is empty now.
        let _ = std::fs::remove_dir(record.socket);
    }
    // Out of sight in one step: half a cluster is never taken for one.
    let away = state.join(format!(".dropped-{}-{}", layout.major, std::process::id()));
    std::fs::rename(&layout.directory, &away).map_err(|e| unusable(layout, e))?;
    std::fs::remove_dir_all(&away).map_err(|e| unusable(layout, e))?;
    create::clean(&state);
    Ok(Some(Removed { major: layout.major, directory: layout.directory.clone(), bytes, stopped }))
}

fn selected(settings: &Settings, state: &Path) -> Vec<Layout> {
    Layout::all(state).into_iter().filter(|l| settings.pg_version.is_none_or(|major| major == l.major)).collect()
}

/// Whoever is at work on the server would lose it in the middle. Only under the start lock: nobody comes in then.
async fn refuse_if_used(layout: &Layout, what: &str) -> Result<()> {
    let users = users(layout).await;
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("the private PostgreSQL {} is in use by {}", layout.major, users.join(", ")))
        .cure(format!("wait until that has ended; or stop the server all the same: dbstress db {what} --force")))
}

/// Every dbstress that uses the server, in words. Other programs that are connected are not asked.
async fn users(layout: &Layout) -> Vec<String> {
    let name = |who: &Identity| {
        format!("process {} ({})", who.pid, process::command(who.pid).unwrap_or_else(|| "it has just ended".into()))
    };
    let guests: Vec<String> = layout.guests().iter().map(name).collect();
    if layout.is_used() {
        return if guests.is_empty() { vec!["a dbstress that has not said who it is".into()] } else { guests };
    }
    // Who was given its URL does not count as a guest.
    let ready = PidFile::read(&layout.data()).filter(|file| file.ready).and_then(|file| file.port);
    let (Some(record), Some(port), true) = (layout.record(), ready, layout.is_supervised()) else { return Vec::new() };
    let socket = super::options(Host::Socket(record.socket), port, None, "postgres");
    let Ok(mut session) = Session::connect(&socket, "stop").await else { return Vec::new() };
    let names = session
        .rows(
            "SELECT DISTINCT substr(application_name, 10) AS name FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name LIKE 'dbstress/%' \
               AND application_name <> 'dbstress/supervisor' ORDER BY name LIMIT 3",
        )
        .await
        .unwrap_or_default();
    session.close().await;
    names.into_iter().filter_map(|mut row| row.remove(0)).map(|name| format!("a session of dbstress ({name})")).collect()
}

/// Brings down whatever still runs for this cluster: a supervisor and its server, a server without supervisor, backends without server.
/// Says whether there was any. Only under the start lock.
pub(super) async fn halt(layout: &Layout, progress: Progress<'_>) -> Result<bool> {
    let mut found = false;
    let mut patience = Patience::new(progress, "waiting for PostgreSQL to shut down");
    let began = Instant::now();
    let mut told = Vec::new();
    // Each is told once, and told more firmly when it takes too long.
    let mut tell = |who: &Identity, what: Signal| {
        if !told.contains(&(who.pid, what as i32)) {
            told.push((who.pid, what as i32));
            who.signal(what);
        }
    };
    loop {
        let supervised = layout.is_supervised();
        let server = postmaster(layout);
        let backends = process::children(&layout.cluster_name());
        if !supervised && server.is_none() && backends.is_empty() {
            break;
        }
        found = true;
        let supervisor = layout.record().and_then(|record| record.supervisor).filter(Identity::is_alive);
        let late = began.elapsed() > supervise::PATIENCE + Duration::from_secs(15);
        match (supervised, supervisor, &server) {
            (true, Some(supervisor), _) => tell(&supervisor, if late { Signal::SIGKILL } else { Signal::SIGTERM }),
            // Locked, and not by anybody we can see: perhaps just starting, perhaps in another container.
            (true, None, _) => {}
            (false, _, Some(server)) => {
                tell(server, if began.elapsed() > supervise::PATIENCE { Signal::SIGQUIT } else { Signal::SIGINT })
            }
            (false, _, None) if began.elapsed() > ORPHAN_PATIENCE => {
                backends.iter().for_each(|backend| tell(backend, Signal::SIGKILL));
            }
            (false, _, None) => {}
        }
        if began.elapsed() > supervise::PATIENCE * 2 {
            return Err(Error::inconclusive(format!("the server in {} does not stop", layout.directory.display()))
                .cure("it may have been started from another container or machine: stop it there"));
        }
        patience.pause().await;
    }
    // A number that belongs to somebody else by now, or to a zombie, would keep PostgreSQL from starting. Everything of ours has gone.
    // Otherwise the file stays: PostgreSQL itself then looks once more for users of its shared memory.
    if PidFile::read(&layout.data()).is_some_and(|file| process::exists(file.pid)) {
        let _ = std::fs::remove_file(layout.data().join("postmaster.pid"));
    }
    Ok(found)
}
