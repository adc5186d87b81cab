//! What did the server do while the load ran? Asked on a connection of its own, outside the load. Each question is a file in `sql/probes`.
//!
//! [`mod@parse`] reads the files, [`sample`] asks, [`series`] and [`counted`] add up what is answered, [`chains`] finds out who waits for whom,
//! [`blockers`] who it was most often, [`watched`] is what is kept of it.

pub mod blockers;
pub mod chains;
pub mod counted;
pub mod parse;
pub mod sample;
pub mod series;
pub mod watched;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;

pub use sample::{Watch, unseen, watch};
pub use watched::{Sessions, Watched};

/// How often the server is asked, unless somebody says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// How often it may be asked at most, and at least.
pub const INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// What stands in a query for the prefix of the names of the run's sessions: `dbstress/run5/`. As psql would have it: `psql -v run=…`.
pub const RUN: &str = ":'run'";

/// The probe whose gauges say what the run's sessions were doing; what is claimed rests on it.
pub const SESSIONS: &str = "sessions";
/// The probe of what active sessions waited for.
pub const WAITS: &str = "waits";
/// The probe of what statements have cost.
pub const STATEMENTS: &str = "statements";

/// The files that come with the program: name and text, in the order in which they are asked. A test keeps the list equal to the directory.
const BUILT_IN: [(&str, &str); 8] = [
    (SESSIONS, include_str!("../../sql/probes/sessions.sql")),
    (WAITS, include_str!("../../sql/probes/waits.sql")),
    ("chains", include_str!("../../sql/probes/chains.sql")),
    ("database", include_str!("../../sql/probes/database.sql")),
    ("wal", include_str!("../../sql/probes/wal.sql")),
    ("checkpoints", include_str!("../../sql/probes/checkpoints.sql")),
    ("checkpointer", include_str!("../../sql/probes/checkpointer.sql")),
    (STATEMENTS, include_str!("../../sql/probes/statements.sql")),
];

/// How the answer to a probe is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One row of numbers that go up and down.
    Gauge,
    /// Numbers that only grow; with a column `key` a row for each, and with a column `text` what the key stands for.
    Counter,
    /// Rows of `key` and `value`, as many as there are.
    Keyed,
    /// Rows of locks, as [`chains::Lock`].
    Chains,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gauge, Self::Counter, Self::Keyed, Self::Chains];

    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Keyed => "keyed",
            Self::Chains => "chains",
        }
    }
}

/// One question, as its file states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The stem of its file, in kebab-case: `sessions`.
    pub name: String,
    /// One sentence: what it is about.
    pub title: String,
    /// How the answer is read.
    pub kind: Kind,
    /// How often it is asked; zero = with each sample.
    #[serde(rename = "every_ms", with = "crate::milliseconds")]
    pub every: Duration,
    /// The first major version of the server that can answer.
    pub since: Option<u32>,
    /// The last.
    pub until: Option<u32>,
    /// The relation that must be there, as its name is found by search_path.
    pub needs: Option<String>,
    /// The question.
    pub query: String,
    /// Where it came from; `None` = built in.
    pub file: Option<PathBuf>,
}

impl Probe {
    /// Whether a server of that major version is asked; of those that are not, nothing is said.
    pub fn is_for(&self, major: u32) -> bool {
        self.since.is_none_or(|since| major >= since) && self.until.is_none_or(|until| major <= until)
    }
}

/// The probes that come with the program.
///
/// # Errors
/// When a built-in file is malformed; a test keeps that from happening.
pub fn built_in() -> Result<Vec<Probe>> {
    BUILT_IN.iter().map(|(name, text)| parse::parse(name, text, None)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_directory() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/probes");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut listed: Vec<String> = built_in().unwrap().into_iter().map(|probe| probe.name).collect();
        files.sort();
        listed.sort();
        assert_eq!(files, listed);
    }

    #[test]
    fn every_version_has_its_checkpoints_once() {
        let probes = built_in().unwrap();
        for major in 14..=18 {
            let asked: Vec<&str> = probes.iter().filter(|p| p.is_for(major)).map(|p| &*p.name).collect();
            let checkpoints = if major < 17 { "checkpoints" } else { "checkpointer" };
            assert_eq!(asked, [SESSIONS, WAITS, "chains", "database", "wal", checkpoints, STATEMENTS], "{major}");
        }
    }
}
