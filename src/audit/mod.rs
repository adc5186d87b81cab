//! Does what the clients saw agree with what the database holds?
//!
//! Pure: one authorisation, or one programme of a schedule, at a time, from three witnesses that do not share code: the history (what clients sent and read), the ledger
//! (what each transaction wrote about itself) and the row as it ended. The rules are explained in docs/METHOD.md.

mod counters;
mod exposure;
mod keys;
mod lost;
mod reconcile;
mod recovery;
mod refusals;
mod replay;
mod skew;
#[cfg(test)]
mod tests;
mod truth;
mod winners;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::history::{Applied, OpId, OperationKind, Record};

pub use counters::{Counters, Counts};
pub use exposure::{Exposure, LEAST_CONTESTED};
pub use keys::Lifetimes;
pub use lost::{Lost, Outage};
pub use reconcile::Classes;
pub use recovery::Recovery;
pub use skew::{Line, Skew, skewed};
pub use truth::{Truth, Truths};

/// One line of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub op: OpId,
    /// Of which attempt.
    pub attempt: i16,
    /// What it did; `None` for a fence, which claims the key of an unanswered attempt and does nothing.
    pub kind: Option<OperationKind>,
    /// How many units.
    pub units: i32,
    /// The row as it left it.
    pub applied: Applied,
    /// When its transaction began, microseconds of the server's clock.
    pub began: i64,
    /// When the line was written, microseconds of the server's clock.
    pub wrote: i64,
    /// When it was decided, seconds of the clock of the domain since the dataset's.
    pub decided: i64,
}

/// Everything that is known about one authorisation of a run.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Which; of a schedule, the programme.
    pub authorisation: i64,
    /// The run that it was made for.
    pub run: i32,
    /// What is contended for there; empty where that is the same everywhere.
    pub contest: String,
    /// The row as it ended. Of a programme: in `total` the room that there was.
    pub last: Applied,
    /// Its lines in the ledger, in any order.
    pub ledger: Vec<Entry>,
    /// What the clients did to it, in any order.
    pub records: Vec<Record>,
}

/// What kind of wrong was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breach {
    /// More promised and consumed than authorised, at one version at least.
    Overbooked,
    /// A counter below zero.
    Negative,
    /// A version does not follow from the one before: an update was overwritten.
    LostUpdate,
    /// Versions with a gap or a duplicate, or a row that is not as its last version left it.
    WriteOutsideLedger,
    /// Acknowledged to the client, absent from the database.
    AcknowledgedLost,
    /// Refused to the client, present in the database.
    RefusedPresent,
    /// Reported as certainly not applied, present in the database.
    AbortedPresent,
    /// One operation applied by more than one attempt.
    Duplicated,
    /// In the database, never issued by a client.
    Phantom,
    /// The client was told other counters than the ledger holds.
    Misreported,
    /// An operation that began after another was acknowledged got an earlier version.
    OutOfOrder,
    /// More winners in a round than there was room for.
    TooManyWinners,
    /// Refused although there was room all the time.
    UnjustifiedRefusal,
    /// An actor of another organisation was let in.
    CrossedTenant,
    /// More than one effect under one key within one lifetime of it.
    KeyAppliedTwice,
    /// An answer that is not what the effect of its key came to.
    ReplayDiffers,
    /// An answer that belongs to another body than the one that was asked.
    WrongBody,
}

impl Breach {
    /// Those between what the clients were told and what the database holds: neither rows nor ledger show them by themselves.
    pub const OF_ANSWERS: [Self; 7] = [
        Self::AcknowledgedLost,
        Self::RefusedPresent,
        Self::AbortedPresent,
        Self::Duplicated,
        Self::Phantom,
        Self::Misreported,
        Self::CrossedTenant,
    ];

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Overbooked => "overbooked",
            Self::Negative => "counter below zero",
            Self::LostUpdate => "lost update",
            Self::WriteOutsideLedger => "write outside the ledger",
            Self::AcknowledgedLost => "acknowledged, but lost",
            Self::RefusedPresent => "refused, but present",
            Self::AbortedPresent => "aborted, but present",
            Self::Duplicated => "applied twice",
            Self::Phantom => "never issued, but present",
            Self::Misreported => "client was told other counters",
            Self::OutOfOrder => "version order against real time",
            Self::TooManyWinners => "more winners than room",
            Self::UnjustifiedRefusal => "refused although there was room",
            Self::CrossedTenant => "another organisation's actor was let in",
            Self::KeyAppliedTwice => "key applied twice",
            Self::ReplayDiffers => "answered with another result",
            Self::WrongBody => "answered with the result of another body",
        }
    }
}

/// One wrong, with the operations that show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind.
    pub breach: Breach,
    /// On which authorisation, or in which programme.
    pub authorisation: i64,
    /// Which operations, as `run.vu.n`.
    pub operations: Vec<String>,
    /// What was expected and what was there.
    pub detail: String,
    /// Two of the operations that overlapped, each right without the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<Skew>,
}

/// What became of the rounds of one contest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contested {
    /// Rounds judged by their winners.
    pub rounds: u64,
    /// Those with more winners than room.
    pub broken: u64,
}

/// How many findings of a kind are kept in full; all are counted.
const KEPT: usize = 10;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Authorisations examined.
    pub authorisations: u64,
    /// Versions replayed.
    pub versions: u64,
    /// Every operation in exactly one class.
    pub classes: Classes,
    /// Findings by kind: how many.
    pub breaches: BTreeMap<Breach, u64>,
    /// The first findings of each kind, in full.
    pub findings: Vec<Finding>,
    /// Rounds judged by their winners.
    pub rounds: u64,
    /// Rounds with room left over because attempts ran out: goodput lost, not integrity.
    pub rounds_short: u64,
    /// The same by contest, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contests: BTreeMap<String, Contested>,
    /// Refusals judged by the versions in force.
    pub refusals_judged: u64,
    /// Keys examined: in rounds of requests with keys an authorisation stands for one.
    #[serde(default)]
    pub keys: u64,
    /// Lifetimes of these keys in which there was an effect.
    #[serde(default)]
    pub key_lifetimes: u64,
    /// Their effects: one in each of these lifetimes, or a key was applied twice.
    #[serde(default)]
    pub key_effects: u64,
    /// Refusals and rounds not judged, because acknowledged commits were lost on their authorisation.
    pub skipped: u64,
    /// Operations that were never answered, and of which the database holds what was seen on the wire.
    #[serde(default)]
    pub truths_met: u64,
    /// Contention that the server saw.
    pub exposure: Exposure,
    /// What was lost of what was acknowledged, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Why the audit itself is not complete: no evidence, not a finding.
    pub incomplete: Vec<String>,
}

/// What the plan lets the audit expect.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    /// Units each VU of a round asks for; `None` = there are no rounds.
    pub contest_units: Option<i32>,
    /// How many VUs take part in a round.
    pub vus: u32,
    /// Schedules are changed: a change writes rows of its own and is judged by who won and by the rules, and nothing has versions to replay.
    pub is_of_schedules: bool,
    /// How long keys live; `None` = requests carry none.
    pub lifetimes: Option<Lifetimes>,
    /// Operations issued, by VU.
    pub issued: HashMap<u16, u32>,
    /// What was seen of COMMITs on the wire.
    pub truths: Truths,
    /// When the server was down, in order of time.
    pub outages: Vec<Outage>,
}

impl Audit {
    /// Examines one authorisation.
    pub fn examine(&mut self, expectation: &Expectation, mut subject: Subject) {
        self.authorisations += 1;
        subject.ledger.sort_unstable_by_key(|e| (e.kind.is_none(), e.applied.version, e.wrote));
        let fences = subject.ledger.partition_point(|e| e.kind.is_some());
        let fenced = subject.ledger.split_off(fences);
        let verdicts = reconcile::reconcile(self, expectation, &subject, &fenced);
        if !expectation.is_of_schedules {
            replay::replay(self, &subject);
        }
        exposure::measure(self, expectation, &subject);
        if let Some(lifetimes) = expectation.lifetimes {
            keys::judge(self, lifetimes, &subject);
        }
        if verdicts.acknowledged_lost {
            // Lost versions are reused, and refusals that were right look wrong: those rules have no ground to stand on here.
            self.skipped += 1;
            lost::measure(self, expectation, &subject);
            return;
        }
        if expectation.is_of_schedules {
            winners::judge(self, expectation, &subject, &verdicts);
            return;
        }
        replay::real_time_order(self, &subject, &verdicts);
        if expectation.lifetimes.is_none() {
            winners::judge(self, expectation, &subject, &verdicts);
        }
        refusals::judge(self, &subject, &verdicts);
    }

    /// Whether anything was found.
    pub fn is_violated(&self) -> bool {
        !self.breaches.is_empty()
    }

    /// Notes that the audit could not see everything.
    pub fn incomplete(&mut self, why: String) {
        if self.incomplete.len() < KEPT {
            self.incomplete.push(why);
        }
    }

    fn find(&mut self, breach: Breach, authorisation: i64, operations: impl IntoIterator<Item = OpId>, detail: String) {
        *self.breaches.entry(breach).or_default() += 1;
        if self.findings.iter().filter(|f| f.breach == breach).count() < KEPT {
            let operations = operations.into_iter().map(|op| op.to_string()).collect();
            self.findings.push(Finding { breach, authorisation, operations, detail, skew: None });
        }
    }
}

/// The identifier of a record's operation.
fn op_of(subject: &Subject, record: &Record) -> OpId {
    OpId::new(subject.run, record.vu, record.n)
}
