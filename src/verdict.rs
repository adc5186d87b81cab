//! What was found out in the end, and which exit code says so?

use serde::{Deserialize, Serialize};

use crate::error::Kind;

/// The end of a run. Ordered from best to worst: the worst of several wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that was claimed was examined, held, and could have failed.
    Pass,
    /// The data is right, a threshold or a baseline was missed.
    Missed,
    /// Nothing was shown either way.
    Inconclusive,
    /// A rule of integrity was broken.
    Violated,
}

impl Verdict {
    /// The worst of `verdicts`; of none, inconclusive: nothing was shown.
    pub fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        verdicts.into_iter().max().unwrap_or(Verdict::Inconclusive)
    }

    /// The exit code that says so.
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Pass => Exit::Pass,
            Verdict::Missed => Exit::Missed,
            Verdict::Inconclusive => Exit::Inconclusive,
            Verdict::Violated => Exit::Violated,
        }
    }

    /// The word for it, as in the record.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Missed => "missed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Violated => "violated",
        }
    }
}

/// What the end of a run means for whoever has to decide whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// It passed.
    Go,
    /// Integrity is right; a threshold was missed, by no more than half of it. That is not GO.
    Warn,
    /// Integrity was violated, or a threshold was missed by more than half of it.
    #[serde(rename = "NO-GO")]
    NoGo,
    /// Nothing was shown either way. That is not GO either.
    Inconclusive,
}

/// A threshold that is exceeded by more than this share of it is no mere warning.
const NO_GO_EXCESS: f64 = 0.5;

impl Decision {
    /// Of a verdict and the shares by which thresholds were missed; a missed one whose share is not known counts as far off.
    pub fn of(verdict: Verdict, excesses: impl IntoIterator<Item = Option<f64>>) -> Self {
        match verdict {
            Verdict::Pass => Self::Go,
            Verdict::Inconclusive => Self::Inconclusive,
            Verdict::Violated => Self::NoGo,
            Verdict::Missed => {
                let far = excesses.into_iter().any(|excess| excess.is_none_or(|share| share > NO_GO_EXCESS));
                if far { Self::NoGo } else { Self::Warn }
            }
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Go => "GO",
            Self::Warn => "WARN",
            Self::NoGo => "NO-GO",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// Every way the program can end. Never a row count: 256 rows would read as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It passed, or did what was asked.
    Pass,
    /// Integrity violated; from `verify`: rows were found.
    Violated,
    /// What the user typed or named is not usable.
    Usage,
    /// Nothing was shown either way.
    Inconclusive,
    /// A threshold or a baseline was missed (k6's code for it).
    Missed,
    /// The user interrupted, and no breach had been found by then.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Exit; 6] = [Exit::Pass, Exit::Violated, Exit::Usage, Exit::Inconclusive, Exit::Missed, Exit::Interrupted];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Pass => 0,
            Exit::Violated => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::Missed => 99,
            Exit::Interrupted => 130,
        }
    }

    /// A line of the table that `--help` prints.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Pass => "pass",
            Exit::Violated => "integrity violated (verify: rows found)",
            Exit::Usage => "a flag, file, name or database that cannot be used, or a load in which nobody could meet anybody",
            Exit::Inconclusive => {
                "inconclusive: nothing was shown either way, the server could not be reached or let nobody in, or the results could not be printed or kept"
            }
            Exit::Missed => "a threshold or baseline was missed",
            Exit::Interrupted => "interrupted; the record says inconclusive",
        }
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage => Exit::Usage,
            Kind::Inconclusive => Exit::Inconclusive,
            Kind::Interrupted => Exit::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violated_beats_inconclusive_beats_missed_beats_pass() {
        use Verdict::*;
        assert_eq!(Verdict::worst([Pass, Missed]), Missed);
        assert_eq!(Verdict::worst([Missed, Inconclusive, Pass]), Inconclusive);
        assert_eq!(Verdict::worst([Inconclusive, Violated, Missed]), Violated);
        assert_eq!(Verdict::worst([]), Inconclusive, "nothing judged is nothing shown");
    }

    #[test]
    fn only_a_pass_is_go_and_a_warning_is_missed_by_half_at_most() {
        assert_eq!(Decision::of(Verdict::Pass, []), Decision::Go);
        assert_eq!(Decision::of(Verdict::Inconclusive, [Some(0.1)]), Decision::Inconclusive);
        assert_eq!(Decision::of(Verdict::Violated, []), Decision::NoGo);
        assert_eq!(Decision::of(Verdict::Missed, [Some(0.5), Some(0.1)]), Decision::Warn);
        assert_eq!(Decision::of(Verdict::Missed, [Some(0.1), Some(0.51)]), Decision::NoGo);
        assert_eq!(Decision::of(Verdict::Missed, [None]), Decision::NoGo, "how far off is not known");
    }

    #[test]
    fn the_exit_codes_are_the_documented_ones() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|e| e.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 99, 130]);
        assert_eq!(Verdict::Pass.exit().code(), 0);
        assert!([Verdict::Missed, Verdict::Inconclusive, Verdict::Violated].iter().all(|v| v.exit().code() != 0));
    }
}
