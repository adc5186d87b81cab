//! What exactly will be run? Complete, validated, printable; everything that decides a result is in here.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::history::OpId;
use crate::pg::retry::Retry;
use crate::strategy::{Hazard, Strategy};
use crate::{Error, Result};

/// How the virtual users contend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Rounds: all VUs at once reserve from a fresh authorisation; the number of winners is known beforehand
    Contest,
    /// Reserve, release and consume around full capacity, without pause
    Churn,
}

impl Mode {
    /// What exposure is counted in, in the plural.
    pub fn blocks(self) -> &'static str {
        match self {
            Self::Contest => "rounds",
            Self::Churn => "seconds of an authorisation",
        }
    }
}

/// When a strategy's turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// After this time, at the end of the round.
    #[serde(rename = "duration_ms")]
    Duration(#[serde(with = "crate::milliseconds")] Duration),
    /// After so many rounds; of churn, after so many iterations of each VU.
    Rounds(u64),
}

/// A contention run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Strategies under test, in the order of their turns.
    pub strategies: Vec<Strategy>,
    /// How the virtual users contend.
    pub mode: Mode,
    /// Virtual users.
    pub vus: u32,
    /// When a strategy's turn is over.
    pub limit: Limit,
    /// Units each operation asks for.
    pub units: i32,
    /// Units each authorisation has.
    pub total: i32,
    /// The application's pause between reading and writing.
    #[serde(rename = "think_ms", with = "crate::milliseconds")]
    pub think: Duration,
    /// How failed attempts are tried again.
    pub retry: Retry,
    /// Load threads.
    pub threads: usize,
    /// What random choices are made from.
    pub rng_seed: u64,
}

/// The strategy that the tool itself runs to show that the test can fail.
pub const CONTROL: Strategy = Strategy::Naive;
/// The control stops at its first breach, or after this.
pub const CONTROL_LIMIT: Duration = Duration::from_secs(10);
/// Invariants about counters and ledger alone: they make sense on any copy of the two tables, the controls' among them.
pub const OF_COUNTERS: [&str; 6] = [
    "units-within-total",
    "counters-in-range",
    "counters-match-ledger",
    "ledger-replays",
    "status-matches-counters",
    "applied-once",
];
/// What contention can do to a booking.
pub const HAZARD: Hazard = Hazard::LostUpdate;

impl Plan {
    /// Room for this many winners in a round.
    pub fn winners(&self) -> u32 {
        (self.total / self.units).max(0).unsigned_abs()
    }

    /// Checks everything that can be known before the first connection.
    ///
    /// # Errors
    /// Usage, naming every flag that cannot be used.
    pub fn validate(&self) -> Result<()> {
        let mut wrong = Vec::new();
        if self.vus == 0 {
            wrong.push("--vus 0: nobody would do anything; 2 is the least that can contend".to_owned());
        }
        if self.vus > OpId::MAX_VUS {
            wrong.push(format!("--vus {}: at most {} are possible", self.vus, OpId::MAX_VUS));
        }
        if self.units < 1 {
            wrong.push(format!("--units {}: an operation takes at least 1", self.units));
        }
        if self.total < 1 {
            wrong.push(format!("--total {}: an authorisation has at least 1 unit", self.total));
        }
        if self.units > self.total && self.units >= 1 && self.total >= 1 {
            wrong.push(format!("--units {} of --total {}: nothing could ever be reserved", self.units, self.total));
        }
        match self.limit {
            Limit::Duration(d) if d.is_zero() => wrong.push("--duration 0s: nothing would happen".into()),
            Limit::Rounds(0) => wrong.push("--rounds 0: nothing would happen".into()),
            _ => {}
        }
        if self.retry.attempts == Some(0) {
            wrong.push("--retry-attempts 0: the first attempt counts; 1 means no retry".into());
        }
        if self.strategies.is_empty() {
            wrong.push("--strategy: name one".into());
        }
        if self.think >= self.retry.deadline {
            wrong.push("--think: longer than the deadline of an iteration, so that every one would be given up".into());
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::usage(wrong.join("\n       "))) }
    }

    /// Why this plan cannot contend, whatever the machine; `None` if it can. A pass of such a plan would rest on nothing.
    pub fn cannot_contend(&self) -> Option<String> {
        if self.vus < 2 {
            return Some(format!("there is no contention with {} VU: nobody meets anybody (--vus 50)", self.vus));
        }
        let winners = self.winners();
        (self.mode == Mode::Contest && self.vus <= winners).then(|| {
            format!(
                "there is no contention: {} VUs ask for {} units each, and {} have room in {} units, so nobody is ever refused \
                 (raise --vus above {winners}, or lower --total)",
                self.vus, self.units, winners, self.total
            )
        })
    }

    /// The invariants that a run of this plan claims, by name.
    pub fn claims(&self) -> Vec<&'static str> {
        let mut claims = OF_COUNTERS.to_vec();
        claims.extend(["organisation-of-parent", "constraints-in-place", "no-orphans"]);
        // Tenants are only tested where strangers try.
        if self.mode == Mode::Churn {
            claims.push("organisation-of-actor");
        }
        claims
    }

    /// What a pass of this plan would mean, in words, and no more than that: only what a control has shown that the run could have found.
    pub fn claim(&self) -> String {
        let pressure = match self.mode {
            Mode::Contest => format!("{} VUs released together, each reserving {} of {} units", self.vus, self.units, self.total),
            Mode::Churn => format!(
                "{} VUs reserving, releasing and consuming {} of {} units without pause, one in fifty as a stranger",
                self.vus, self.units, self.total
            ),
        };
        format!("no overbooking and no lost update, under {pressure}")
    }
}

#[cfg(test)]
pub(crate) fn example() -> Plan {
    Plan {
        strategies: vec![Strategy::Serializable],
        mode: Mode::Contest,
        vus: 50,
        limit: Limit::Rounds(10),
        units: 10,
        total: 50,
        think: Duration::ZERO,
        retry: Retry::default(),
        threads: 1,
        rng_seed: 42,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unusable_flag_is_named_at_once() {
        let plan = Plan { vus: 0, units: 0, limit: Limit::Rounds(0), ..example() };
        let said = plan.validate().unwrap_err().to_string();
        for flag in ["--vus 0", "--units 0", "--rounds 0"] {
            assert!(said.contains(flag), "{said}");
        }
        assert!(example().validate().is_ok());
        assert!(Plan { units: 60, ..example() }.validate().is_err());
    }

    #[test]
    fn a_plan_in_which_nobody_can_be_refused_cannot_contend() {
        assert_eq!(example().cannot_contend(), None);
        assert!(Plan { vus: 1, ..example() }.cannot_contend().unwrap().contains("no contention"));
        assert!(Plan { vus: 5, ..example() }.cannot_contend().unwrap().contains("--vus above 5"));
        assert_eq!(Plan { vus: 6, ..example() }.cannot_contend(), None);
        assert_eq!(Plan { vus: 2, mode: Mode::Churn, ..example() }.cannot_contend(), None);
    }

    #[test]
    fn what_is_claimed_is_what_is_tested() {
        assert!(!example().claims().contains(&"organisation-of-actor"));
        assert!(Plan { mode: Mode::Churn, ..example() }.claims().contains(&"organisation-of-actor"));
        let known = crate::invariant::built_in().unwrap();
        for claim in (Plan { mode: Mode::Churn, ..example() }).claims() {
            assert!(known.iter().any(|i| i.name == claim), "{claim} is an invariant");
        }
    }
}
