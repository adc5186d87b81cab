//! Which PostgreSQL programs are on this machine, and which of them does the private server use?

use std::path::{Path, PathBuf};

use super::account::Account;
use super::install;
use crate::{Error, Result};

/// The oldest major version that is supported.
pub const OLDEST: u32 = 14;

/// A directory with `postgres` and `initdb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory.
    pub directory: PathBuf,
    /// As in `15.18`.
    pub version: String,
    /// As in `15`.
    pub major: u32,
}

impl Binaries {
    /// Asks the `postgres` in `directory` what it is, as the user who is going to run it.
    ///
    /// # Errors
    /// Usage, naming what is missing or which directory is closed to the server's user.
    pub fn inspect(directory: &Path, account: &Account) -> Result<Self> {
        let unusable = |why: String| {
            Error::usage(format!("{} is not usable as a directory of PostgreSQL programs: {why}", directory.display()))
                .cure("name the directory that holds `postgres` and `initdb`, as `pg_config --bindir` prints it")
        };
        let directory = directory.canonicalize().map_err(|e| unusable(e.to_string()))?;
        for program in ["postgres", "initdb"] {
            if !directory.join(program).is_file() {
                return Err(unusable(format!("it has no `{program}`")));
            }
        }
        if let Some(blocked) = account.blocked_at(&directory)? {
            return Err(Error::usage(format!(
                "the server runs as user `{}`, who cannot pass through {} to the programs in {}",
                account.name,
                blocked.display(),
                directory.display()
            ))
            .cure(format!("chmod o+x {}, or put the programs elsewhere", blocked.display())));
        }
        let output = account
            .command(&directory.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|e| unusable(format!("`postgres --version` does not run: {e}")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(unusable(format!("`postgres --version` fails: {said}")));
        }
        let (version, major) = parse_version(&text).ok_or_else(|| unusable(format!("`postgres --version` says {text:?}")))?;
        Ok(Self { directory, version, major })
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Version and major version in `postgres (PostgreSQL) 15.18 (Debian …)`; `19beta1` is major 19.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.trim().strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

/// All usable PostgreSQL programs: `pg_config` and `postgres` on PATH, the places where packages put them, the cache below `state`.
/// Newest first; what comes first in that list wins among equals.
pub fn find(state: &Path, account: &Account) -> Vec<Binaries> {
    let mut places = Vec::new();
    if let Ok(output) = std::process::Command::new("pg_config").arg("--bindir").output() {
        places.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        places.extend(children(Path::new(parent), prefix).map(|d| d.join(suffix)));
    }
    places.extend(children(&install::cache(state), "").map(|d| d.join("bin")));

    let mut found: Vec<Binaries> = Vec::new();
    for place in places {
        // Only directories that hold the programs are asked: each question is a process.
        if place.is_absolute() && place.join("postgres").is_file() && place.join("initdb").is_file() {
            let Ok(place) = place.canonicalize() else { continue };
            if !found.iter().any(|b| b.directory == place) {
                found.extend(Binaries::inspect(&place, account).ok());
            }
        }
    }
    found.retain(|b| b.major >= OLDEST);
    // Stable: the order of the places decides among equals.
    found.sort_by_key(|b| std::cmp::Reverse(numbers(&b.version)));
    found
}

/// The directories in `parent` whose name begins with `prefix`; hidden ones are being made or thrown away.
fn children(parent: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(move |entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix) && !name.starts_with('.')))
        .map(|entry| entry.path())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)).collect()
}

/// Nothing was found: says so, and how to get it on this system.
pub fn missing(wanted: Option<u32>) -> Error {
    let what = wanted.map_or("PostgreSQL".to_owned(), |major| format!("PostgreSQL {major}"));
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut cures = Vec::new();
    cures.extend(package_command(&release, cfg!(target_os = "macos"), wanted, nix::unistd::Uid::effective().is_root()));
    cures.push(format!("dbstress db install{} (fetches it with your own npm or apt)", flag(wanted)));
    cures.push("name a directory with --pg-bin, or a running server with --database-url".into());
    Error::usage(format!("there is no {what} on this machine to run a private server with")).cure(cures.join("\n"))
}

fn flag(wanted: Option<u32>) -> String {
    wanted.map(|major| format!(" --pg-version {major}")).unwrap_or_default()
}

/// The one line that installs PostgreSQL on the system that `/etc/os-release` describes.
fn package_command(release: &str, macos: bool, wanted: Option<u32>, root: bool) -> Option<String> {
    let number = wanted.map(|major| major.to_string()).unwrap_or_default();
    if macos {
        return Some(format!("brew install postgresql@{}", wanted.unwrap_or(18)));
    }
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    let family = format!("{} {}", field("ID").unwrap_or_default(), field("ID_LIKE").unwrap_or_default());
    let dash = if number.is_empty() { String::new() } else { format!("-{number}") };
    let command = family.split_whitespace().find_map(|name| match name {
        "debian" | "ubuntu" => Some(format!("apt-get install -y postgresql{dash}")),
        "fedora" | "rhel" | "centos" => Some(format!("dnf install -y postgresql{number}-server")),
        "alpine" => Some(format!("apk add postgresql{number}")),
        "arch" => Some("pacman -S postgresql".to_owned()),
        "suse" | "opensuse" => Some(format!("zypper install postgresql{number}-server")),
        _ => None,
    })?;
    Some(if root { command } else { format!("sudo {command}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(("15.18".into(), 15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1"), Some(("19beta1".into(), 19)));
        assert_eq!(parse_version("pg_ctl (PostgreSQL) 15.18"), None);
        assert!(numbers("15.18") > numbers("15.9") && numbers("16.1") > numbers("15.18"));
    }

    #[test]
    fn the_install_line_is_the_one_of_this_system() {
        let line = |release: &str, wanted| package_command(release, false, wanted, true);
        assert_eq!(line("NAME=x\nID=debian\n", None).as_deref(), Some("apt-get install -y postgresql"));
        assert_eq!(line("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", Some(16)).as_deref(), Some("apt-get install -y postgresql-16"));
        assert_eq!(line("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", None).as_deref(), Some("dnf install -y postgresql-server"));
        assert_eq!(line("ID=alpine", Some(17)).as_deref(), Some("apk add postgresql17"));
        assert_eq!(line("ID=plan9", None), None);
        assert_eq!(package_command("", true, Some(17), false).as_deref(), Some("brew install postgresql@17"));
        assert_eq!(package_command("ID=alpine", false, None, false).as_deref(), Some("sudo apk add postgresql"));
    }
}
