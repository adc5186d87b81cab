//! What is there of the private servers, and what of it runs?

use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::process::{self, Identity, PidFile};
use crate::pg::Host;
use crate::{Error, Result};

/// What is known about one cluster.
#[derive(Debug, Clone)]
pub struct Status {
    /// Major version.
    pub major: u32,
    /// What runs.
    pub state: State,
    /// Version of the programs of the last start.
    pub version: Option<String>,
    /// Process number of the postmaster.
    pub pid: Option<i32>,
    /// TCP port on 127.0.0.1, if the server runs.
    pub port: Option<u16>,
    /// Directory of the Unix socket, if the server runs.
    pub socket: Option<PathBuf>,
    /// The data directory.
    pub data: PathBuf,
    /// Bytes in the cluster's directory.
    pub bytes: u64,
    /// User and process that started it last.
    pub started_by: Option<String>,
    /// Whether a dbstress uses it now.
    pub in_use: bool,
}

/// What runs of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A supervisor and its server.
    Running,
    /// A supervisor whose server is not ready: it starts, recovers or shuts down.
    Busy,
    /// A server, or what is left of one, without supervisor: the next start or stop clears it away.
    Orphaned,
    /// Nothing.
    Stopped,
}

/// Everything that is there below `state`, newest first. Changes nothing.
pub fn status(state: &Path) -> Vec<Status> {
    Layout::all(state).iter().map(status_of).collect()
}

fn status_of(layout: &Layout) -> Status {
    let record = layout.record();
    let server = postmaster(layout);
    let pid_file = PidFile::read(&layout.data());
    let ready = pid_file.as_ref().is_some_and(|file| file.ready);
    let state = match (layout.is_supervised(), &server) {
        (true, Some(_)) if ready => State::Running,
        (true, _) => State::Busy,
        (false, None) if process::children(&layout.cluster_name()).is_empty() => State::Stopped,
        (false, _) => State::Orphaned,
    };
    Status {
        major: layout.major,
        state,
        version: record.as_ref().map(|r| r.version.clone()),
        pid: server.as_ref().map(|identity| identity.pid),
        port: server.as_ref().and_then(|_| pid_file.and_then(|file| file.port)),
        socket: server.as_ref().and_then(|_| record.as_ref().map(|r| r.socket.clone())),
        data: layout.data(),
        bytes: bytes_in(&layout.directory),
        started_by: record.map(|r| r.started_by),
        in_use: layout.is_used(),
    }
}

/// The URL of a database of a running server with its password, for other tools.
///
/// # Errors
/// Usage, when none runs.
pub fn url(state: &Path, pg_version: Option<u32>, database: &str) -> Result<String> {
    let running = Layout::all(state).into_iter().filter(|l| pg_version.is_none_or(|major| major == l.major));
    let running = running.map(|layout| (status_of(&layout), layout)).find(|(status, _)| status.state == State::Running);
    let Some((Some(port), layout)) = running.map(|(status, layout)| (status.port, layout)) else {
        return Err(Error::usage("no private server runs").cure("dbstress db start"));
    };
    let password = std::fs::read_to_string(layout.password()).map_err(|e| {
        Error::inconclusive("the password of the private server cannot be read").because(e).cure("dbstress db start")
    })?;
    let tcp = super::options(Host::Tcp("127.0.0.1".into()), port, Some(password), database);
    Ok(tcp.url(true))
}

/// The live postmaster of this cluster.
pub(super) fn postmaster(layout: &Layout) -> Option<Identity> {
    let recorded = layout.record().and_then(|record| record.postmaster).filter(Identity::is_alive);
    recorded.or_else(|| PidFile::read(&layout.data())?.postmaster(&layout.data()))
}

/// Bytes in the files of a directory.
pub(super) fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
            // What vanishes while we look counts nothing.
            _ => entry.metadata().map_or(0, |m| m.len()),
        })
        .sum()
}
