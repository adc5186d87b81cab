//! A machine with apt, and packages that are not to be installed: how are they had all the same, without root?
//!
//! apt fetches what the machine lacks and compares it with its signed lists; it is unpacked into a directory of ours. The system stays as it is.

use std::path::{Path, PathBuf};

use super::Scratch;
use super::install::{is_on_path, run};
use crate::{Error, Result};

/// Whether this machine has what it takes.
pub fn is_here() -> bool {
    is_on_path("apt-get") && is_on_path("dpkg-deb")
}

/// Fetches `packages`, with what they depend on and the machine does not have, and unpacks all of it into `tree`.
///
/// # Errors
/// Inconclusive, with what apt said.
pub async fn unpack(packages: &[&str], tree: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::inconclusive(format!("packages cannot be unpacked into {}", tree.display())).because(e);
    std::fs::create_dir_all(tree).map_err(failed)?;
    let scratch = Scratch::make(tree.join(".apt")).map_err(failed)?;
    for directory in ["cache/archives/partial", "lists/partial"] {
        std::fs::create_dir_all(scratch.path().join(directory)).map_err(failed)?;
    }
    let apt = async |own_lists: bool, arguments: &[&str]| {
        let mut apt = tokio::process::Command::new("apt-get");
        apt.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y", "-o", "Debug::NoLocking=1"]);
        // Nothing is written but here, so that no other user is needed for it.
        apt.args(["-o", "APT::Sandbox::User=root", "-o", &format!("Dir::Cache={}", scratch.path().join("cache").display())]);
        if own_lists {
            apt.args(["-o", &format!("Dir::State::Lists={}", scratch.path().join("lists").display())]);
        }
        apt.args(arguments);
        run(apt, "apt-get").await
    };
    let download = [&["--no-install-recommends", "--download-only", "install"], packages].concat();
    // The lists of a fresh image are often missing, or old.
    if apt(false, &download).await.is_err() {
        apt(true, &["update"]).await?;
        apt(true, &download).await?;
    }
    for entry in std::fs::read_dir(scratch.path().join("cache/archives")).map_err(failed)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = tokio::process::Command::new("dpkg-deb");
            unpack.arg("-x").arg(entry.path()).arg(tree);
            run(unpack, "dpkg-deb").await?;
        }
    }
    Ok(())
}

/// Where the libraries of an unpacked tree are, relative to it: a program that was not installed does not find them by itself.
pub fn libraries(tree: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for parent in ["usr/lib", "lib"] {
        for entry in std::fs::read_dir(tree.join(parent)).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.contains("-linux-")) {
                found.push(Path::new(parent).join(entry.file_name()));
            }
        }
    }
    found
}
