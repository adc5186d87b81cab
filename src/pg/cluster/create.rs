//! How is the data directory of a private server made? Whole, or not at all.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User};

use super::account::Account;
use super::binaries::Binaries;
use super::layout::{Layout, Scratch};
use super::{Progress, Settings};
use crate::{Error, Result};

/// The superuser of every private server.
pub const ROLE: &str = "dbstress";

/// Appended to `postgresql.conf`, where `ALTER SYSTEM` and `--set` of a start still win.
const CONFIGURATION: &str = "
# dbstress
max_connections = 600
shared_buffers = 256MB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
";

/// `local` trusts the kernel's word on who connects, `host` wants the password.
const ACCESS: &str = "\
local all         all               peer map=dbstress
local replication all               peer map=dbstress
host  all         all 127.0.0.1/32  scram-sha-256
host  replication all 127.0.0.1/32  scram-sha-256
";

/// Makes the data directory if it is missing: in a directory beside it, which takes its name when everything is in it.
///
/// # Errors
/// Inconclusive, with what `initdb` said.
pub async fn create(
    layout: &Layout,
    binaries: &Binaries,
    account: &Account,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<()> {
    if layout.data().join("PG_VERSION").is_file() {
        return Ok(());
    }
    let failed =
        |e: std::io::Error| Error::inconclusive(format!("no cluster could be made in {}", layout.directory.display())).because(e);
    progress(&format!("making a PostgreSQL {} cluster in {}", layout.major, layout.directory.display()));
    let scratch = Scratch::make(layout.directory.join(format!("data.new-{}", std::process::id()))).map_err(failed)?;
    account.own(scratch.path()).map_err(failed)?;

    let mut command = account.command(&binaries.program("initdb"));
    command.arg("-D").arg(scratch.path()).args(["-U", ROLE, "--auth-local=peer", "--auth-host=scram-sha-256"]);
    command.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
    // A server that is not to survive a crash need not survive one while it is made.
    if settings.server.iter().any(|(name, value)| name == "fsync" && matches!(value.as_str(), "off" | "false" | "0")) {
        command.arg("--no-sync");
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let group = Group(child.id());
    let output = child.wait_with_output().await.map_err(failed)?;
    group.ended();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::inconclusive(format!("initdb of PostgreSQL {} failed", binaries.version))
            .because(said.trim().to_owned())
            .cure("free some space, or use other programs with --pg-bin"));
    }

    let mut configuration =
        std::fs::OpenOptions::new().append(true).open(scratch.path().join("postgresql.conf")).map_err(failed)?;
    configuration.write_all(CONFIGURATION.as_bytes()).map_err(failed)?;
    // Over the files that initdb made, so that owner and mode stay.
    std::fs::write(scratch.path().join("pg_hba.conf"), ACCESS).map_err(failed)?;
    std::fs::write(scratch.path().join("pg_ident.conf"), identities()).map_err(failed)?;
    std::fs::rename(scratch.path(), layout.data()).map_err(failed)
}

/// Who may come through the socket: the user who made the cluster, and root, who could anyway.
fn identities() -> String {
    let mut names = vec!["root".to_owned()];
    names.extend(User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name));
    names.dedup();
    names.iter().map(|name| format!("dbstress \"{name}\" {ROLE}\n")).collect()
}

/// A running `initdb` with its children, ended when the wait for it is given up.
struct Group(Option<u32>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own.
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Removes what interrupted steps left in a cluster's directory. Only under the start lock: nobody else is at work there then.
pub fn clean(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("data.new-") || name.starts_with(".dropped-")) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
