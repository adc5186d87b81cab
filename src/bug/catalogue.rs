//! What is each mistake, what must be at hand for it, how is it run by itself, and what must catch it?
//!
//! A check that must fire is the one that is meant for the mistake: if only others fired, the mistake was found by accident, and the next one of its
//! kind would not be. A check that may fire besides is a consequence; the reason stands beside it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use super::Bug;
use crate::audit::Breach;
use crate::history::OperationKind;
use crate::strategy::Strategy;

/// A check that can find something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Reconciling histories, ledger and rows.
    Audit(Breach),
    /// An invariant, by name.
    Invariant(Cow<'static, str>),
}

impl Check {
    const fn invariant(name: &'static str) -> Self {
        Self::Invariant(Cow::Borrowed(name))
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Audit(breach) => f.write_str(breach.words()),
            Self::Invariant(name) => f.write_str(name),
        }
    }
}

/// What is known of a bug.
#[derive(Debug)]
pub struct Entry {
    /// What is done wrong, in a few words.
    pub summary: &'static str,
    /// Strategies of which it takes away what protects; by itself it is run under the first.
    pub strategies: &'static [Strategy],
    /// What the operations must be able to do.
    pub operation: OperationKind,
    /// Whether it needs the application's pause.
    pub needs_hold: bool,
    /// Whether it shows only when the server crashes.
    pub needs_crash: bool,
    /// How it is run by itself.
    pub alone: Alone,
    /// What must find it.
    pub must: &'static [Check],
    /// What may find something besides.
    pub may: &'static [Check],
}

/// How a bug is run by itself: a scenario that comes with the program, and what is laid over it.
#[derive(Debug)]
pub struct Alone {
    /// The scenario.
    pub scenario: &'static str,
    /// Units of each authorisation, if not the scenario's.
    pub total: Option<i32>,
    /// The application's pause between reading and writing.
    pub hold: Duration,
    /// How long the load lasts.
    pub duration: Duration,
    /// When an iteration is given up, if not as usual.
    pub deadline: Option<Duration>,
    /// What goes wrong meanwhile.
    pub faults: &'static [&'static str],
}

/// Rounds, everybody at once on a fresh authorisation: what only the overlap of a few statements breaks is broken within a second.
const ROUNDS: Alone = Alone {
    scenario: "contention",
    total: None,
    hold: Duration::ZERO,
    duration: Duration::from_secs(2),
    deadline: None,
    faults: &[],
};
/// All operations around full capacity: for what needs releases and consumptions.
const CHURN: Alone = Alone { scenario: "churn", ..ROUNDS };
/// Everybody with the same key.
const KEYS: Alone = Alone { scenario: "idempotency", ..ROUNDS };
const HOLD: Duration = Duration::from_millis(2);

const OVERBOOKED: Check = Check::Audit(Breach::Overbooked);
const WITHIN_TOTAL: Check = Check::invariant("units-within-total");
const REPLAYS: Check = Check::invariant("ledger-replays");
const MATCH_LEDGER: Check = Check::invariant("counters-match-ledger");
const STATUS: Check = Check::invariant("status-matches-counters");
const APPLIED_ONCE: Check = Check::invariant("applied-once");
const WINNERS: Check = Check::Audit(Breach::TooManyWinners);
const LOST_UPDATE: Check = Check::Audit(Breach::LostUpdate);
const OUTSIDE: Check = Check::Audit(Breach::WriteOutsideLedger);
const UNJUSTIFIED: Check = Check::Audit(Breach::UnjustifiedRefusal);

const APPLIED_TWICE: Check = Check::Audit(Breach::KeyAppliedTwice);
const REPLAY_DIFFERS: Check = Check::Audit(Breach::ReplayDiffers);
const ONE_EFFECT: Check = Check::invariant("one-effect-per-key");
const KEY_HAS_RESULT: Check = Check::invariant("key-has-result");

/// Nothing is released in a round: the row stays overbooked.
const OVERBOOKS: &[Check] = &[OVERBOOKED, WITHIN_TOTAL];
/// The version over the total is in the ledger too, and who got it has won a round that had no room.
const OVERBOOKS_TOO: &[Check] = &[REPLAYS, WINNERS];

const DONE_TWICE: &[Check] = &[Check::Audit(Breach::Duplicated), APPLIED_ONCE];
const DONE_TWICE_TOO: &[Check] = &[
    // The second attempt found no room, the first had committed.
    Check::Audit(Breach::RefusedPresent),
    // No attempt was left, or no time, and the change was there.
    Check::Audit(Breach::AbortedPresent),
    // Who came twice took the room of those that were refused.
    UNJUSTIFIED,
];

/// Those that claim to be safe: what the mistake breaks, the strategy does not look after.
const ANY: &[Strategy] = &[
    Strategy::ForUpdate,
    Strategy::Serializable,
    Strategy::RepeatableRead,
    Strategy::Optimistic,
    Strategy::Atomic,
    Strategy::Advisory,
    Strategy::ForUpdateNowait,
    Strategy::CheckConstraint,
];

/// One that does it in a statement, one that waits, one that is turned down: a key cares for none of it.
const KEYED: &[Strategy] = &[Strategy::Atomic, Strategy::ForUpdate, Strategy::Serializable];

/// What most of them have in common.
const USUAL: Entry = Entry {
    summary: "",
    strategies: ANY,
    operation: OperationKind::Reserve,
    needs_hold: false,
    needs_crash: false,
    alone: ROUNDS,
    must: &[],
    may: &[],
};

static CHECK_THEN_ACT: Entry = Entry {
    summary: "reads, decides, adds; nothing locked",
    strategies: &[Strategy::ForUpdate, Strategy::ForUpdateNowait],
    must: OVERBOOKS,
    may: OVERBOOKS_TOO,
    ..USUAL
};
static LOCK_AND_READ: Entry = Entry {
    summary: "locks and reads in one statement",
    strategies: &[Strategy::Advisory],
    must: OVERBOOKS,
    may: OVERBOOKS_TOO,
    ..USUAL
};
static EARLY_UNLOCK: Entry = Entry {
    summary: "gives the lock back before COMMIT",
    strategies: &[Strategy::Advisory],
    needs_hold: true,
    alone: Alone { hold: HOLD, ..ROUNDS },
    must: OVERBOOKS,
    may: OVERBOOKS_TOO,
    ..USUAL
};
static IGNORED_ROW_COUNT: Entry = Entry {
    summary: "no row was met, and it counts as done",
    strategies: &[Strategy::Optimistic],
    must: &[Check::Audit(Breach::AcknowledgedLost)],
    ..USUAL
};
static BLIND_RETRY: Entry = Entry {
    summary: "retries the write, not the decision",
    strategies: &[Strategy::Serializable, Strategy::RepeatableRead, Strategy::Optimistic],
    must: OVERBOOKS,
    may: OVERBOOKS_TOO,
    ..USUAL
};
static IMPATIENT_RETRY: Entry = Entry {
    summary: "hangs up at COMMIT, sends it again",
    // Whose first attempt waits for its turn and gets it: after a conflict, to write without deciding is another mistake.
    strategies: &[Strategy::ForUpdate, Strategy::Atomic, Strategy::Advisory],
    must: DONE_TWICE,
    may: &[
        // Nobody asks whether there is room for the second time,
        OVERBOOKED,
        WITHIN_TOTAL,
        REPLAYS,
        // and whoever was counted twice leaves less of it to the others.
        UNJUSTIFIED,
        // No attempt was left, or no time, and the change was there.
        Check::Audit(Breach::AbortedPresent),
    ],
    ..USUAL
};
static MIXED_ISOLATION: Entry = Entry {
    summary: "one client writes at READ COMMITTED",
    strategies: &[Strategy::Serializable],
    // Room for one: whoever commits between its reading and its writing makes it one too many.
    alone: Alone { total: Some(10), hold: HOLD, ..ROUNDS },
    must: OVERBOOKS,
    may: OVERBOOKS_TOO,
    ..USUAL
};
static ASYNC_COMMIT: Entry = Entry {
    summary: "acknowledged before it is durable",
    needs_crash: true,
    alone: Alone { duration: Duration::from_secs(5), faults: &["crash@2s"], ..CHURN },
    must: &[Check::Audit(Breach::AcknowledgedLost)],
    ..USUAL
};
static EXHAUSTED_LATCH: Entry = Entry {
    summary: "EXHAUSTED when all is only promised",
    operation: OperationKind::Consume,
    alone: CHURN,
    must: &[STATUS],
    // Whoever comes next is refused as inactive, and units were left.
    may: &[UNJUSTIFIED],
    ..USUAL
};
static NESTED_TRANSACTION: Entry = Entry {
    summary: "units change in another transaction",
    strategies: &[Strategy::Serializable],
    // Room for most of those that come, and for some of them twice.
    alone: Alone { total: Some(150), ..ROUNDS },
    must: DONE_TWICE,
    may: DONE_TWICE_TOO,
    ..USUAL
};
static OTHER_RELEASE: Entry = Entry {
    summary: "gives back other than was promised",
    operation: OperationKind::Release,
    alone: CHURN,
    must: &[MATCH_LEDGER],
    // The same, seen from each version on: it does not follow from the one before.
    may: &[LOST_UPDATE, REPLAYS],
    ..USUAL
};
static LOWERED_TOTAL: Entry = Entry {
    summary: "total lowered below what is promised",
    // A constraint would refuse it, and did: on rows that have none it can be done.
    strategies: &[
        Strategy::ForUpdate,
        Strategy::Serializable,
        Strategy::RepeatableRead,
        Strategy::Optimistic,
        Strategy::Atomic,
        Strategy::Advisory,
        Strategy::ForUpdateNowait,
    ],
    must: &[WITHIN_TOTAL],
    may: &[
        // Who had read the old total and is behind no lock of the administrator's writes all the same.
        OVERBOOKED,
        // It leaves no line in the ledger, so that no version accounts for the row or for what follows.
        OUTSIDE,
        LOST_UPDATE,
        REPLAYS,
        // Booked when there was room: of the new total more than that have won,
        WINNERS,
        // and who is refused by the new total met versions that had room by the old.
        UNJUSTIFIED,
    ],
    ..USUAL
};
static NO_SHOW: Entry = Entry {
    summary: "nobody came, the units stay promised",
    operation: OperationKind::Release,
    alone: CHURN,
    must: &[MATCH_LEDGER],
    // As for any release that gives back something else.
    may: &[LOST_UPDATE, REPLAYS],
    ..USUAL
};
static SPURIOUS_REFUSAL: Entry =
    Entry { summary: "refuses now and then for no reason", alone: CHURN, must: &[UNJUSTIFIED], ..USUAL };

static NO_KEY: Entry = Entry {
    summary: "asks again without the key",
    strategies: KEYED,
    alone: KEYS,
    must: &[APPLIED_TWICE, Check::invariant("no-unkeyed-duplicate")],
    may: &[
        // The two attempts are of one operation.
        Check::Audit(Breach::Duplicated),
        APPLIED_ONCE,
        // Without its key, a request of after the lifetime is one like any other.
        REPLAY_DIFFERS,
        // What was done twice takes the room of others, and the second time may find none.
        Check::Audit(Breach::RefusedPresent),
    ],
    ..USUAL
};
static CLAIM_APART: Entry = Entry {
    summary: "claims the key in another transaction",
    strategies: &[Strategy::Atomic, Strategy::ForUpdate],
    // A key without an effect is in flight for ever: whoever asks for it gives up soon, so that there are many rounds.
    alone: Alone { deadline: Some(Duration::from_millis(200)), ..KEYS },
    must: &[Check::invariant("no-stale-claim")],
    may: &[
        // Refused for the body of a claim that came to nothing.
        UNJUSTIFIED,
        KEY_HAS_RESULT,
    ],
    ..USUAL
};
static LOSER_EXECUTES: Entry = Entry {
    summary: "works although the key was taken",
    // At a level at which the server turns down who lost the race, it does no harm.
    strategies: &[Strategy::Atomic, Strategy::ForUpdate],
    alone: KEYS,
    must: &[APPLIED_TWICE, ONE_EFFECT],
    may: &[
        // One record is left for several effects.
        KEY_HAS_RESULT,
        REPLAY_DIFFERS,
        Check::Audit(Breach::WrongBody),
        // Done with one body and never answered, and refused the next time for the body of another that was done as well.
        Check::Audit(Breach::RefusedPresent),
    ],
    ..USUAL
};
static KEY_WITH_HASH: Entry = Entry {
    summary: "another body is another key",
    strategies: KEYED,
    alone: KEYS,
    must: &[APPLIED_TWICE, ONE_EFFECT],
    // The record has a key that no request carries.
    may: &[KEY_HAS_RESULT, REPLAY_DIFFERS],
    ..USUAL
};
static UNSCOPED_KEY: Entry = Entry {
    summary: "a key is known to everybody",
    strategies: KEYED,
    alone: KEYS,
    must: &[Check::invariant("key-of-its-organisation")],
    may: &[
        // Told, or refused for, what came of another organisation's key; nothing was done for whom it was told.
        REPLAY_DIFFERS,
        Check::Audit(Breach::WrongBody),
        Check::Audit(Breach::AcknowledgedLost),
        UNJUSTIFIED,
        KEY_HAS_RESULT,
    ],
    ..USUAL
};

impl Entry {
    /// What must have fired and did not.
    pub fn missed(&self, fired: &BTreeSet<Check>) -> Vec<Check> {
        self.must.iter().filter(|check| !fired.contains(check)).cloned().collect()
    }

    /// What fired and is not known to follow from the mistake.
    pub fn by_accident(&self, fired: &BTreeSet<Check>) -> Vec<Check> {
        fired.iter().filter(|check| !self.must.contains(check) && !self.may.contains(check)).cloned().collect()
    }
}

impl Bug {
    /// What is known of it.
    pub fn entry(self) -> &'static Entry {
        match self {
            Self::CheckThenAct => &CHECK_THEN_ACT,
            Self::LockAndRead => &LOCK_AND_READ,
            Self::EarlyUnlock => &EARLY_UNLOCK,
            Self::IgnoredRowCount => &IGNORED_ROW_COUNT,
            Self::BlindRetry => &BLIND_RETRY,
            Self::ImpatientRetry => &IMPATIENT_RETRY,
            Self::MixedIsolation => &MIXED_ISOLATION,
            Self::AsyncCommit => &ASYNC_COMMIT,
            Self::ExhaustedLatch => &EXHAUSTED_LATCH,
            Self::NestedTransaction => &NESTED_TRANSACTION,
            Self::OtherRelease => &OTHER_RELEASE,
            Self::LoweredTotal => &LOWERED_TOTAL,
            Self::NoShow => &NO_SHOW,
            Self::SpuriousRefusal => &SPURIOUS_REFUSAL,
            Self::NoKey => &NO_KEY,
            Self::ClaimApart => &CLAIM_APART,
            Self::LoserExecutes => &LOSER_EXECUTES,
            Self::KeyWithHash => &KEY_WITH_HASH,
            Self::UnscopedKey => &UNSCOPED_KEY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = (Bug, &'static Entry)> {
        Bug::ALL.into_iter().map(|bug| (bug, bug.entry()))
    }

    #[test]
    fn every_bug_says_what_must_find_it_and_under_what_it_is_made() {
        for (bug, entry) in all() {
            assert!(!entry.must.is_empty() && !entry.strategies.is_empty() && !entry.summary.is_empty(), "{bug}");
            assert!(entry.may.iter().all(|check| !entry.must.contains(check)), "{bug}: what must fire need not be allowed to");
            assert!(!entry.needs_hold || !entry.alone.hold.is_zero(), "{bug}");
            assert!(!entry.needs_crash || !entry.alone.faults.is_empty(), "{bug}");
        }
    }

    #[test]
    fn the_table_of_the_method_says_the_same() {
        let method = include_str!("../../docs/METHOD.md");
        for (bug, entry) in all() {
            let begins = format!("| `{bug}` |");
            let row = method.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("{bug} is not in METHOD.md"));
            let must: Vec<String> = entry
                .must
                .iter()
                .map(|check| match check {
                    Check::Audit(breach) => breach.words().to_owned(),
                    Check::Invariant(name) => format!("`{name}`"),
                })
                .collect();
            assert!(row.contains(&format!("| {} |", must.join("; "))), "{bug}: {row}");
        }
    }

    #[test]
    fn a_catch_by_accident_is_none() {
        let entry = Bug::SpuriousRefusal.entry();
        let fired = |checks: &[&Check]| checks.iter().map(|check| (*check).clone()).collect::<BTreeSet<_>>();
        let (right, wrong) = (fired(&[&UNJUSTIFIED]), fired(&[&OVERBOOKED]));
        assert_eq!((entry.missed(&right), entry.by_accident(&right)), (vec![], vec![]));
        assert_eq!((entry.missed(&wrong), entry.by_accident(&wrong)), (vec![UNJUSTIFIED], vec![OVERBOOKED]));
    }
}
