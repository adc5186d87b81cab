//! Who may run the server? PostgreSQL refuses root, so root lends it to another user.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use crate::{Error, Result};

/// The user whose processes the server's are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    uid: Uid,
    gid: Gid,
    /// Whether it is another than the caller, who is then root.
    other: bool,
}

/// All that a process of the private server gets of the caller's environment.
pub fn environment() -> Vec<(&'static str, OsString)> {
    let kept = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"].into_iter();
    let mut variables: Vec<_> = kept.filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
    variables.push(("LC_ALL", "C".into()));
    variables
}

impl Account {
    /// For an ordinary user, that user. For root: the owner of `data` if it exists, else `postgres`, else `nobody`.
    ///
    /// # Errors
    /// Usage, when the system knows no such user.
    pub fn for_server(data: &Path) -> Result<Self> {
        let lookup = |uid: Uid| User::from_uid(uid).ok().flatten();
        let me = Uid::effective();
        if !me.is_root() {
            return lookup(me).map(|user| Self::new(user, false)).ok_or_else(|| {
                Error::usage(format!("this system has no name for user {me}; PostgreSQL does not run without"))
                    .cure("add the user to /etc/passwd, or name a server with --database-url")
            });
        }
        let owner = data.symlink_metadata().ok().map(|m| Uid::from_raw(m.uid())).filter(|uid| !uid.is_root());
        owner
            .and_then(lookup)
            .or_else(|| ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten()))
            .map(|user| Self::new(user, true))
            .ok_or_else(|| {
                Error::usage("PostgreSQL does not run as root, and there is neither a user `postgres` nor a user `nobody`")
                    .cure("useradd --system postgres, or run dbstress as an ordinary user")
            })
    }

    fn new(user: User, other: bool) -> Self {
        Self { name: user.name, uid: user.uid, gid: user.gid, other }
    }

    /// A command that will run as this user, from `/` and with next to no environment: nothing of the caller's may reach the server,
    /// and the caller's directory may be closed to it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear().envs(environment());
        if self.other {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// Gives a file or directory to this user, if that is another.
    pub fn own(&self, path: &Path) -> std::io::Result<()> {
        if !self.other {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Whether `metadata` is of something that only this user, or the caller for it, can have made.
    pub fn made(&self, metadata: &std::fs::Metadata) -> bool {
        metadata.uid() == self.uid.as_raw() || metadata.uid() == Uid::effective().as_raw()
    }

    /// A number that tells users apart.
    pub fn number(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The outermost directory on the way to `directory` (which is absolute), itself included, that this user cannot pass through.
    ///
    /// # Errors
    /// Usage, when processes cannot be run as this user.
    pub fn blocked_at(&self, directory: &Path) -> Result<Option<PathBuf>> {
        if !self.other {
            return Ok(None);
        }
        let mut way: Vec<&Path> = directory.ancestors().collect();
        way.reverse();
        // The user itself tries: modes do not tell what access lists and mounts allow.
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", "n=0; for d; do [ -x \"$d\" ] || { echo $n; exit; }; n=$((n+1)); done; echo ok", "sh"]).args(&way);
        let output = command.output().map_err(|e| {
            Error::usage(format!("no process can be run as user `{}`, and PostgreSQL does not run as root", self.name))
                .because(e)
                .cure("run dbstress as an ordinary user")
        })?;
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(answer.parse::<usize>().ok().and_then(|n| way.get(n)).map(|d| d.to_path_buf()))
    }
}
