//! What is where in a cluster's directory, who holds which lock, and what is written down about its server?
//!
//! ```text
//! STATE/start.lock            held while a server is started, stopped or dropped
//! STATE/cluster-15/data       the data directory; belongs to the server's user
//!                  /socket    the Unix socket; belongs to the server's user
//!                  /supervisor.lock   held by the supervisor for its whole life
//!                  /clients.lock      held, shared, by every dbstress that uses the server
//!                  /clients/NUMBER    which process that is, for whoever would stop the server
//!                  /server.json       what the last start was told and which processes came of it
//!                  /password  of role `dbstress`, for TCP
//!                  /server.log
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::account::Account;
use super::process::Identity;
use crate::{Error, Result, files};

/// Bytes that a socket's path may have; the terminating zero is the 108th. <https://man7.org/linux/man-pages/man7/unix.7.html>
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The directory of the cluster of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Major version.
    pub major: u32,
    /// The directory, canonical.
    pub directory: PathBuf,
}

impl Layout {
    /// The cluster of `major` below `state`, which must be canonical. It need not exist.
    pub fn new(state: &Path, major: u32) -> Self {
        Self { major, directory: state.join(format!("cluster-{major}")) }
    }

    /// The cluster whose directory this is.
    pub fn at(directory: &Path) -> Option<Self> {
        let major = directory.file_name()?.to_str()?.strip_prefix("cluster-")?.parse().ok()?;
        Some(Self { major, directory: directory.to_path_buf() })
    }

    /// All that are there below `state`, newest first.
    pub fn all(state: &Path) -> Vec<Self> {
        let state = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
        let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
        let mut found: Vec<Self> = entries.filter_map(|e| Self::at(&e.path())).filter(|l| l.directory.is_dir()).collect();
        found.sort_by_key(|l| std::cmp::Reverse(l.major));
        found
    }

    /// The state directory that the cluster is in.
    pub fn state(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// The lock that whoever starts, stops or drops a server below `state` holds.
    pub fn start_lock(state: &Path) -> PathBuf {
        state.join("start.lock")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where the server and its supervisor write what they have to say.
    pub fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// The file with the password of role `dbstress`.
    pub fn password(&self) -> PathBuf {
        self.directory.join("password")
    }

    /// The lock that the supervisor holds.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.directory.join("supervisor.lock")
    }

    /// The lock that every user of the server holds, shared.
    pub fn clients_lock(&self) -> PathBuf {
        self.directory.join("clients.lock")
    }

    /// The directory in which every user of the server says who he is.
    fn clients(&self) -> PathBuf {
        self.directory.join("clients")
    }

    /// The processes that use the server, as far as they have said so.
    pub fn guests(&self) -> Vec<Identity> {
        let entries = std::fs::read_dir(self.clients()).into_iter().flatten().flatten();
        let mut guests = Vec::new();
        for entry in entries {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            match serde_json::from_slice::<Identity>(&text).ok().filter(Identity::is_alive) {
                Some(guest) if !guests.contains(&guest) => guests.push(guest),
                Some(_) => {}
                // It was killed.
                None => drop(std::fs::remove_file(entry.path())),
            }
        }
        guests
    }

    /// Whether a supervisor lives.
    pub fn is_supervised(&self) -> bool {
        is_held(&self.supervisor_lock())
    }

    /// Whether a dbstress uses the server.
    pub fn is_used(&self) -> bool {
        // Shared locks do not see each other, so this one must be exclusive for a moment.
        let Ok(file) = OpenOptions::new().read(true).open(self.clients_lock()) else { return false };
        let used = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        let _ = file.unlock();
        used
    }

    /// A name for the server that shows in the titles of its processes; unique among the clusters of a machine.
    pub fn cluster_name(&self) -> String {
        format!("dbstress-{}-{}", self.major, self.hash())
    }

    fn hash(&self) -> String {
        let digest = Sha256::digest(self.directory.as_os_str().as_bytes());
        digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The directory of the Unix socket: in the cluster's, unless its path would be too long for one.
    pub fn socket(&self, account: &Account) -> PathBuf {
        let inside = self.directory.join("socket");
        let longest = inside.join(".s.PGSQL.65535").as_os_str().len();
        if longest <= SOCKET_PATH_MAX {
            inside
        } else {
            PathBuf::from(format!("/tmp/dbstress-{}-{}", account.number(), self.hash()))
        }
    }

    /// Makes the socket directory, or makes sure that the one that is there is ours alone.
    ///
    /// # Errors
    /// Usage, when somebody else's thing is in its place.
    pub fn make_socket(&self, account: &Account) -> Result<PathBuf> {
        let place = self.socket(account);
        make_private(&place, account)?;
        Ok(place)
    }

    /// What is written down about the server.
    pub fn record(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.directory.join("server.json")).ok()?).ok()
    }

    /// Writes it down; whoever reads at the same time sees the old or the new one.
    pub fn write_record(&self, record: &Record) -> std::io::Result<()> {
        files::write(&self.directory.join("server.json"), |out| Ok(serde_json::to_writer_pretty(out, record)?))
    }
}

/// Makes a directory that only the server's user may enter.
///
/// # Errors
/// Usage, when something else is there.
pub fn make_private(place: &Path, account: &Account) -> Result<()> {
    let failed = |why: String| {
        Error::usage(format!("{} cannot be used as a private directory of the server", place.display()))
            .because(why)
            .cure("remove it if it is not needed, or use another --state-dir")
    };
    match DirBuilder::new().mode(0o700).create(place) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e.to_string())),
    }
    // Of the link itself, not of what it leads to: in /tmp somebody else may have been faster.
    let metadata = place.symlink_metadata().map_err(|e| failed(e.to_string()))?;
    if !metadata.is_dir() || !account.made(&metadata) {
        return Err(failed("it belongs to somebody else, or is no directory".into()));
    }
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o700)).map_err(|e| failed(e.to_string()))?;
    account.own(place).map_err(|e| failed(e.to_string()))
}

/// What a server was started with and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the programs, as in `15.18`.
    pub version: String,
    /// The `postgres` program.
    pub program: PathBuf,
    /// TCP port on 127.0.0.1, also the number in the socket's name.
    pub port: u16,
    /// Directory of the socket.
    pub socket: PathBuf,
    /// Settings beyond the cluster's own.
    pub settings: Vec<(String, String)>,
    /// Milliseconds without anybody after which the server is stopped.
    pub idle_stop_ms: u64,
    /// Who started it: user and process.
    pub started_by: String,
    /// The supervisor, once it runs.
    pub supervisor: Option<Identity>,
    /// The postmaster, once it runs.
    pub postmaster: Option<Identity>,
}

/// A user of the server as long as this lives: it is not stopped meanwhile.
pub struct Guest {
    entry: PathBuf,
    _lock: Held,
}

impl Guest {
    /// Only under the start lock: the supervisor cannot decide to stop in between.
    ///
    /// # Errors
    /// When the lock cannot be taken.
    pub fn enter(layout: &Layout) -> std::io::Result<Self> {
        let lock = lock_file(&layout.clients_lock())?;
        lock.lock_shared()?;
        let entry = layout.clients().join(format!("{:016x}", rand::random::<u64>()));
        // Best effort: it only lets somebody be told who is in his way.
        if let Some(me) = i32::try_from(std::process::id()).ok().and_then(Identity::of) {
            let _ = std::fs::create_dir_all(layout.clients());
            let _ = files::write(&entry, |out| Ok(serde_json::to_writer(out, &me)?));
        }
        Ok(Self { entry, _lock: Held(lock) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.entry);
    }
}

/// Opens a lock file, making it if needed. Its content does not matter and it is never removed while its directory lives.
pub fn lock_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether somebody holds a lock for himself alone.
fn is_held(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).open(path) else { return false };
    let held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let _ = file.unlock();
    held
}

/// Takes a lock unless somebody has it.
pub fn try_lock(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// A lock that is held as long as this lives.
pub struct Held(pub File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing alone would not do: a process that another thread is just starting has a copy until it is.
        let _ = self.0.unlock();
    }
}

/// A directory of one step, gone with everything in it when the step fails or is interrupted.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it; what an earlier process of this number left there is removed.
    pub fn make(path: PathBuf) -> std::io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            std::fs::remove_dir_all(&path)?;
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A program that has just been killed may write into it for another moment.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.0).is_ok() || self.0.symlink_metadata().is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_short_one() {
        let account = Account::for_server(Path::new("/nonexistent")).unwrap();
        let short = Layout::new(Path::new("/var/lib/dbstress"), 15);
        assert_eq!(short.socket(&account), Path::new("/var/lib/dbstress/cluster-15/socket"));
        let long = Layout::new(&Path::new("/").join("x".repeat(90)), 15);
        let socket = long.socket(&account);
        assert!(socket.starts_with("/tmp") && socket.join(".s.PGSQL.65535").as_os_str().len() <= SOCKET_PATH_MAX);
        assert_ne!(socket, Layout::new(&Path::new("/").join("y".repeat(90)), 15).socket(&account), "each has its own");
    }

    #[test]
    fn a_private_directory_is_never_a_link() {
        let base = std::env::temp_dir().join(format!("dbstress-private-{}", std::process::id()));
        let _cleanup = Scratch::make(base.clone()).unwrap();
        std::os::unix::fs::symlink("/tmp", base.join("link")).unwrap();
        let account = Account::for_server(Path::new("/nonexistent")).unwrap();
        assert!(make_private(&base.join("link"), &account).is_err());
        assert!(make_private(&base.join("new"), &account).is_ok());
        assert!(make_private(&base.join("new"), &account).is_ok(), "ours is taken again");
    }
}
