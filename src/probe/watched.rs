//! What is kept of what the samples showed, and can anything be said by it?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blockers::{Blocker, Deadlock, Worst};
use super::counted::Growth;
use super::series::{Column, Series};
use crate::metrics::{grouped, percent};
use crate::threshold::Usage;

/// Share of the samples that may be missing before nothing is said by what was not seen.
const MAY_BE_MISSING: f64 = 0.1;

/// What the sessions of the run were seen doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Samples taken.
    pub samples: u64,
    /// Samples that could not be taken: a gap in what is known.
    pub missed: u64,
    /// Samples in which at least one session waited for a lock.
    pub with_lock_waits: u64,
    /// Most sessions seen waiting for locks at once.
    pub most_waiting: u64,
    /// Most sessions seen inside a transaction at once.
    pub most_in_transaction: u64,
    /// Sessions seen waiting for a lock, by the kind of lock, summed over the samples.
    pub lock_waits: BTreeMap<String, u64>,
    /// Time the questions themselves took, milliseconds.
    pub cost_ms: f64,
}

/// What became of one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// How often it was answered.
    pub answered: u64,
    /// How often it was not, in time or at all.
    pub missed: u64,
    /// How long the answers took in all, milliseconds.
    pub cost_ms: f64,
    /// Why it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The first error that it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the server was seen doing while the load ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// How often it was to be looked at, milliseconds; 0 = nobody looked.
    pub interval_ms: u64,
    /// For how long, seconds from the beginning of the load.
    pub seconds: f64,
    /// Samples of the run's sessions that were taken.
    pub samples: u64,
    /// Samples that were not answered.
    pub missed: u64,
    /// Samples that were not asked for: the question before took too long, or there was no connection.
    pub late: u64,
    /// The longest time between two samples, milliseconds.
    pub longest_gap_ms: f64,
    /// Time that all questions took, milliseconds.
    pub cost_ms: f64,
    /// Why there was nothing to be seen at all, if there was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Question by question.
    pub probes: BTreeMap<String, Asked>,
    /// How gauges and keys went up and down.
    pub series: Series,
    /// By probe and key, the sum of the samples: `waits`, `Lock:tuple`.
    pub keyed: BTreeMap<String, BTreeMap<String, f64>>,
    /// By probe, how much counters grew.
    pub counters: BTreeMap<String, Vec<Growth>>,
    /// Who stood in the way, the most waited-for first.
    pub blockers: Vec<Blocker>,
    /// The sample with the most sessions waiting.
    pub worst: Worst,
    /// Circles that were seen, the first of them.
    pub deadlocks: Vec<Deadlock>,
    /// How many there were.
    pub deadlocks_seen: u64,
}

impl Watched {
    /// Share of the samples that are missing.
    pub fn missing(&self) -> f64 {
        match self.samples + self.missed + self.late {
            0 => 1.0,
            due => (self.missed + self.late) as f64 / due as f64,
        }
    }

    /// Share of the time that the questions took.
    pub fn duty_cycle(&self) -> f64 {
        if self.seconds > 0.0 { self.cost_ms / 1e3 / self.seconds } else { 0.0 }
    }

    /// Why nothing follows from what was not seen: nobody looked, or too seldom. What was seen was there all the same.
    pub fn gap(&self) -> Option<String> {
        if let Some(why) = &self.failure {
            return Some(format!("the server could not be watched: {why}"));
        }
        if self.interval_ms == 0 {
            return Some("nobody watched the server".into());
        }
        let due = self.samples + self.missed + self.late;
        if due == 0 {
            return Some("the load was over before the server was looked at".into());
        }
        (self.missing() > MAY_BE_MISSING).then(|| {
            format!(
                "{} of {} samples of the server are missing ({}), the longest gap was {:.1} s",
                grouped(due - self.samples),
                grouped(due),
                percent(self.missing()),
                self.longest_gap_ms / 1e3
            )
        })
    }

    /// Sessions of others that were seen in the database, at most at once.
    pub fn others(&self) -> u64 {
        let column = self.series.columns.get("sessions.others");
        column.map_or(0, |column| column.max.iter().flatten().copied().fold(0.0, f64::max) as u64)
    }

    /// Connections that the server had, on average and at most, and how many it lets in.
    pub fn connections(&self) -> Option<(f64, f64, f64)> {
        let of = |column: &str| self.series.columns.get(&format!("sessions.{column}"));
        let (taken, allowed) = (of("connections")?, of("connections_allowed")?);
        let known: Vec<f64> = taken.mean.iter().flatten().copied().collect();
        let most = |column: &Column| column.max.iter().flatten().copied().reduce(f64::max);
        Some((known.iter().sum::<f64>() / known.len().max(1) as f64, most(taken)?, most(allowed)?))
    }

    /// How much of the server's connections was taken, by whomever.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn server_use(&self) -> Result<Usage, String> {
        if let Some(gap) = self.gap() {
            return Err(gap);
        }
        let (mean, most, allowed) =
            self.connections().filter(|(.., allowed)| *allowed > 0.0).ok_or("connections were not counted")?;
        Ok(Usage { average: mean / allowed, maximum: most / allowed, samples: self.samples })
    }

    /// How much one counter grew, over all its keys; `None` if it was not read twice.
    pub fn grown(&self, probe: &str, column: &str) -> Option<f64> {
        Some(self.counters.get(probe)?.iter().filter_map(|growth| growth.grown.get(column)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_may_be_missing_and_no_more() {
        let watched = |samples, missed, late| Watched { interval_ms: 100, samples, missed, late, ..Watched::default() };
        assert_eq!(watched(90, 5, 5).gap(), None);
        let gap = Watched { longest_gap_ms: 1234.0, ..watched(89, 5, 6) }.gap().unwrap();
        assert_eq!(gap, "11 of 100 samples of the server are missing (11 %), the longest gap was 1.2 s");
    }

    #[test]
    fn who_did_not_look_knows_nothing() {
        assert_eq!(Watched::default().gap().unwrap(), "nobody watched the server");
        assert!(Watched { interval_ms: 100, ..Watched::default() }.gap().unwrap().contains("over before"));
        let failed = Watched { interval_ms: 100, samples: 9, failure: Some("no connection left".into()), ..Watched::default() };
        assert!(failed.gap().unwrap().ends_with("no connection left"));
    }

    #[test]
    fn the_servers_connections_are_those_of_everybody() {
        let column = |mean: &[f64], max: &[f64]| Column {
            mean: mean.iter().copied().map(Some).collect(),
            max: max.iter().copied().map(Some).collect(),
        };
        let mut watched = Watched { interval_ms: 100, samples: 20, ..Watched::default() };
        assert!(watched.server_use().is_err(), "nothing was counted");
        watched.series.columns.insert("sessions.connections".into(), column(&[20.0, 40.0], &[30.0, 60.0]));
        watched.series.columns.insert("sessions.connections_allowed".into(), column(&[100.0, 100.0], &[100.0, 100.0]));
        assert_eq!(watched.server_use().unwrap(), Usage { average: 0.3, maximum: 0.6, samples: 20 });
        watched.missed = 20;
        assert!(watched.server_use().unwrap_err().contains("missing"));
    }

    #[test]
    fn what_was_watched_survives_json_and_may_be_missing() {
        assert_eq!(serde_json::from_str::<Watched>("{}").unwrap(), Watched::default());
        let watched = Watched { samples: 3, worst: Worst { waiting: 2, ..Worst::default() }, ..Watched::default() };
        assert_eq!(serde_json::from_str::<Watched>(&serde_json::to_string(&watched).unwrap()).unwrap(), watched);
    }
}
