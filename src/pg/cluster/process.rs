//! Is this process the one we mean? A number alone is no answer: numbers are used again.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process among all that ever have this number: the number and when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number.
    pub pid: i32,
    /// Boot and start time, as the system tells them; only compared.
    began: String,
}

impl Identity {
    /// The live process that has this number now. A zombie is not alive.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, began: system::began(pid)? })
    }

    /// Whether this very process still lives.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends `signal` to this very process; `false` when it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// Whether the number is taken, be it by a zombie.
pub fn exists(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// What a postmaster writes into `postmaster.pid`.
/// <https://www.postgresql.org/docs/current/storage-file-layout.html>, lines as in `src/include/utils/pidfile.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// Process number of the postmaster.
    pub pid: i32,
    /// Seconds since 1970 when it began.
    pub began: u64,
    /// Port, once it listens.
    pub port: Option<u16>,
    /// Whether it accepts connections.
    pub ready: bool,
}

impl PidFile {
    /// Reads the file of this data directory, if there is one.
    pub fn read(data: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok()?,
            began: lines.get(2)?.parse().ok()?,
            port: lines.get(3).and_then(|p| p.parse().ok()),
            ready: lines.get(7) == Some(&"ready"),
        })
    }

    /// The process that wrote the file, if it still runs: it serves this data directory and is not younger than the file.
    pub fn postmaster(&self, data: &Path) -> Option<Identity> {
        let identity = Identity::of(self.pid)?;
        let serves = system::arguments(self.pid).is_some_and(|a| a.contains(&*data.to_string_lossy()));
        // Clocks differ in their grain; a number is not used again within two seconds of a server's life.
        (serves && system::began_at(self.pid)? <= self.began + 2).then_some(identity)
    }
}

/// What a process was told to do, in a line. A word that may hold a password is left out.
pub fn command(pid: i32) -> Option<String> {
    let arguments = system::arguments(pid)?;
    let is_secret = |word: &str| word.contains("://") || word.to_lowercase().contains("password");
    let words: Vec<&str> = arguments.split_whitespace().map(|word| if is_secret(word) { "…" } else { word }).collect();
    Some(words.join(" "))
}

/// The processes that serve a cluster of this name besides its postmaster, whether or not that still lives: PostgreSQL puts
/// `cluster_name` into their titles.
pub fn children(cluster_name: &str) -> Vec<Identity> {
    let title = format!("postgres: {cluster_name}: ");
    system::all()
        .into_iter()
        .filter(|pid| system::arguments(*pid).is_some_and(|a| a.starts_with(&title)))
        .filter_map(Identity::of)
        .collect()
}

/// The one among them whose title goes on with `what`: `walwriter`.
pub fn child(cluster_name: &str, what: &str) -> Option<Identity> {
    let title = format!("postgres: {cluster_name}: {what}");
    children(cluster_name).into_iter().find(|process| system::arguments(process.pid).is_some_and(|a| a.starts_with(&title)))
}

#[cfg(target_os = "linux")]
mod system {
    use nix::unistd::{SysconfVar, sysconf};

    /// State and start time (field 22, clock ticks since boot) from `/proc/PID/stat`; `None` for a zombie.
    fn ticks(pid: i32) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may itself hold spaces and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        fields.nth(18)?.parse().ok()
    }

    pub fn began(pid: i32) -> Option<String> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Some(format!("{}+{}", boot.trim(), ticks(pid)?))
    }

    pub fn began_at(pid: i32) -> Option<u64> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let boot: u64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        Some(boot + ticks(pid)? / u64::try_from(per_second).ok()?)
    }

    pub fn arguments(pid: i32) -> Option<String> {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    }

    pub fn all() -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn ps(arguments: &[&str]) -> Option<String> {
        let output = Command::new("ps").env("LC_ALL", "C").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn began(pid: i32) -> Option<String> {
        let text = ps(&["-o", "stat=,lstart=", "-p", &pid.to_string()])?;
        let (state, began) = text.trim().split_once(char::is_whitespace)?;
        (!state.starts_with('Z')).then(|| began.trim().to_owned())
    }

    pub fn began_at(pid: i32) -> Option<u64> {
        let elapsed = super::elapsed(ps(&["-o", "etime=", "-p", &pid.to_string()])?.trim())?;
        Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs().saturating_sub(elapsed))
    }

    pub fn arguments(pid: i32) -> Option<String> {
        ps(&["-ww", "-o", "args=", "-p", &pid.to_string()]).map(|text| text.trim_end().to_owned())
    }

    pub fn all() -> Vec<i32> {
        ps(&["-ax", "-o", "pid="]).unwrap_or_default().lines().filter_map(|l| l.trim().parse().ok()).collect()
    }
}

/// Seconds in what `ps -o etime` prints: `[[days-]hours:]minutes:seconds`.
#[cfg(any(test, not(target_os = "linux")))]
fn elapsed(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(days.parse::<u64>().ok()? * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_itself_and_no_other() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Identity::of(pid).unwrap();
        assert!(me.is_alive());
        assert!(!Identity { began: "long ago".into(), ..me }.is_alive(), "same number, another life");
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while Identity::of(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_file_names_only_the_process_that_wrote_it() {
        let pid = std::process::id();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let program = std::env::current_exe().unwrap();
        let file = PidFile::parse(&format!("{pid}\n/data\n{now}\n5433\n/socket\n127.0.0.1\n 1 2\nready   \n")).unwrap();
        assert_eq!((file.port, file.ready), (Some(5433), true));
        // The name of this test program stands for the data directory: it is in the arguments.
        assert!(file.postmaster(&program).is_some());
        assert!(file.postmaster(Path::new("/some/other/data")).is_none(), "it serves something else");
        assert!(PidFile { began: 1000, ..file }.postmaster(&program).is_none(), "it is younger than the file");
    }

    #[test]
    fn elapsed_time_is_read_as_ps_prints_it() {
        assert_eq!(elapsed("00:07"), Some(7));
        assert_eq!(elapsed("01:02:03"), Some(3723));
        assert_eq!(elapsed("2-00:00:01"), Some(172_801));
        assert_eq!(elapsed("x"), None);
    }
}
