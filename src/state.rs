//! Where do things live that outlast a command: the private server, fetched binaries, the histories of runs?

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, User, access};

use crate::{Error, Result};

/// Reads an environment variable; a parameter so that tests need not touch the real environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The state directory: `explicit` (`--state-dir`), else `DBSTRESS_STATE_DIR`, else `$XDG_STATE_HOME/dbstress`, else the platform's
/// default. Absolute; looks at nothing and makes nothing.
///
/// # Errors
/// Usage, when a place was named that is none, or no home directory is known.
pub fn locate(explicit: Option<&Path>, env: Env) -> Result<PathBuf> {
    let named = explicit.map(Path::to_path_buf).or_else(|| env("DBSTRESS_STATE_DIR").map(PathBuf::from));
    if let Some(place) = named {
        if place.as_os_str().is_empty() {
            return Err(Error::usage("the state directory is named by an empty text")
                .cure("name a directory with --state-dir, or unset DBSTRESS_STATE_DIR"));
        }
        if place.to_str().is_none() {
            return Err(
                Error::usage(format!("the name of the state directory {} is not UTF-8", place.display())).cure("--state-dir DIR")
            );
        }
        return std::path::absolute(&place).map_err(|e| {
            Error::usage(format!("the state directory {} cannot be resolved", place.display()))
                .because(e)
                .cure("give --state-dir as an absolute path")
        });
    }
    // The XDG specification: a relative path in it is invalid and to be ignored.
    if let Some(base) = env("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()) {
        return Ok(base.join("dbstress"));
    }
    if Uid::effective().is_root() {
        return Ok("/var/lib/dbstress".into());
    }
    let home = env("HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir));
    match home.filter(|h| h.is_absolute()) {
        Some(home) => {
            Ok(home.join(if cfg!(target_os = "macos") { "Library/Application Support/dbstress" } else { ".local/state/dbstress" }))
        }
        None => Err(Error::usage("no home directory is known to keep state in").cure("--state-dir DIR, or set DBSTRESS_STATE_DIR")),
    }
}

/// [`locate`], made if it is missing, certainly writable, free of symbolic links.
///
/// # Errors
/// Usage, naming the directory and the cure, when it cannot be made or written to. No other place is ever taken instead.
pub fn directory(explicit: Option<&Path>, env: Env) -> Result<PathBuf> {
    let place = locate(explicit, env)?;
    let refuse = |e: std::io::Error| {
        Error::usage(format!("the state directory {} is not usable", place.display()))
            .because(e)
            .cure("name one that you may write to: --state-dir DIR, or DBSTRESS_STATE_DIR=DIR")
    };
    make(&place).map_err(refuse)?;
    let place = place.canonicalize().map_err(refuse)?;
    if !place.is_dir() {
        return Err(refuse(std::io::ErrorKind::NotADirectory.into()));
    }
    access(&place, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).map_err(|e| refuse(e.into()))?;
    Ok(place)
}

/// Makes a directory and its missing parents. For root they are open to other users whatever the umask: the server that runs as another
/// user must pass through them. What existed before keeps its mode.
pub(crate) fn make(directory: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|d| d.symlink_metadata().is_err()).collect();
    std::fs::create_dir_all(directory)?;
    if Uid::effective().is_root() {
        for made in missing {
            std::fs::set_permissions(made, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_flag_beats_the_variable_beats_xdg() {
        let env = |name: &str| match name {
            "DBSTRESS_STATE_DIR" => Some("/variable".to_owned()),
            "XDG_STATE_HOME" => Some("/xdg".to_owned()),
            _ => None,
        };
        assert_eq!(locate(Some(Path::new("/flag")), &env).unwrap(), Path::new("/flag"));
        assert_eq!(locate(None, &env).unwrap(), Path::new("/variable"));
        let xdg = |name: &str| (name == "XDG_STATE_HOME").then(|| "/xdg".to_owned());
        assert_eq!(locate(None, &xdg).unwrap(), Path::new("/xdg/dbstress"));
        let relative = |name: &str| (name == "XDG_STATE_HOME").then(|| "xdg".to_owned());
        assert!(!locate(None, &relative).unwrap().starts_with("xdg"), "a relative XDG_STATE_HOME is ignored");
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_and_never_replaced() {
        let env = |_: &str| None;
        for place in ["", "/proc/dbstress", "/dev/null/dbstress", "/dev/null"] {
            let error = directory(Some(Path::new(place)), &env).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(place) && error.to_string().contains("--state-dir"), "{error}");
        }
    }
}
