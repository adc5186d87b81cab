//! How did an operation end, and what does an SQLSTATE mean for it? The one classifier.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of one iteration. A refusal is an answer, not an error; an abort is certain not to have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, and the server acknowledged the commit.
    Committed,
    /// A request whose key was known: answered with the stored response; this answer is no effect.
    Replayed,
    /// A business rule said no; nothing was applied.
    Refused(Refusal),
    /// Certainly not applied; no attempt is left.
    Aborted(Abort),
    /// COMMIT was sent and no definite answer came back.
    Unknown,
    /// Done to its end, which was a ROLLBACK of its own: nothing that it wrote was committed.
    RolledBack,
}

/// Outcomes without their reasons: what is counted and timed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeClass {
    /// See [`Outcome::Committed`].
    Committed,
    /// See [`Outcome::Replayed`].
    Replayed,
    /// See [`Outcome::Refused`].
    Refused,
    /// See [`Outcome::Aborted`].
    Aborted,
    /// See [`Outcome::Unknown`].
    Unknown,
    /// See [`Outcome::RolledBack`].
    #[serde(rename = "rolled_back")]
    RolledBack,
}

impl OutcomeClass {
    /// All classes, in the order of their discriminants.
    pub const ALL: [Self; 6] = [Self::Committed, Self::Replayed, Self::Refused, Self::Aborted, Self::Unknown, Self::RolledBack];
}

impl Outcome {
    /// The outcome without its reason.
    pub fn class(self) -> OutcomeClass {
        match self {
            Self::Committed => OutcomeClass::Committed,
            Self::Replayed => OutcomeClass::Replayed,
            Self::Refused(_) => OutcomeClass::Refused,
            Self::Aborted(_) => OutcomeClass::Aborted,
            Self::Unknown => OutcomeClass::Unknown,
            Self::RolledBack => OutcomeClass::RolledBack,
        }
    }

    /// Two bytes for the history: class and reason.
    pub fn encode(self) -> [u8; 2] {
        match self {
            Self::Committed => [0, 0],
            Self::Refused(reason) => [1, reason as u8],
            Self::Aborted(reason) => [2, reason as u8],
            Self::Unknown => [3, 0],
            Self::Replayed => [4, 0],
            Self::RolledBack => [5, 0],
        }
    }

    /// The inverse of [`Self::encode`]; `None` for bytes that it never makes.
    pub fn decode(bytes: [u8; 2]) -> Option<Self> {
        Some(match bytes {
            [0, 0] => Self::Committed,
            [1, reason] => Self::Refused(*Refusal::ALL.get(usize::from(reason))?),
            [2, reason] => Self::Aborted(*Abort::ALL.get(usize::from(reason))?),
            [3, 0] => Self::Unknown,
            [4, 0] => Self::Replayed,
            [5, 0] => Self::RolledBack,
            _ => return None,
        })
    }
}

/// Why a business rule said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Fewer units are free than were asked for.
    InsufficientUnits,
    /// Fewer units are scheduled than were to be released or consumed.
    NotScheduled,
    /// The authorisation is not ACTIVE.
    Inactive,
    /// The authorisation has ended, by the clock of the domain.
    Expired,
    /// The actor belongs to another organisation.
    WrongOrganisation,
    /// There is no such authorisation.
    NotFound,
    /// A rule that the scenario declares: a number of rows, an SQLSTATE.
    Declared,
    /// The request's key is that of another body.
    KeyMismatch,
    /// As many residents are in the place as it has room for.
    NoSeat,
    /// Too few would supervise the residents of a half day.
    Unsupervised,
    /// Too many hours on duty, or another rule of duty hours.
    DutyHours,
    /// Too little rest between two periods of duty.
    TooLittleRest,
    /// The person would be in two places at once.
    DoubleBooked,
    /// The half day is not, or no longer, the person's.
    NotHeld,
    /// It is so already: somebody else has asked for the same.
    AlreadySo,
}

impl Refusal {
    /// All refusals, in the order of their discriminants.
    pub const ALL: [Self; 15] = [
        Self::InsufficientUnits,
        Self::NotScheduled,
        Self::Inactive,
        Self::Expired,
        Self::WrongOrganisation,
        Self::NotFound,
        Self::Declared,
        Self::KeyMismatch,
        Self::NoSeat,
        Self::Unsupervised,
        Self::DutyHours,
        Self::TooLittleRest,
        Self::DoubleBooked,
        Self::NotHeld,
        Self::AlreadySo,
    ];

    /// Whether it depends on what others did, so that contention can bring it about.
    pub fn is_about_capacity(self) -> bool {
        matches!(
            self,
            Self::InsufficientUnits
                | Self::NotScheduled
                | Self::Declared
                | Self::NoSeat
                | Self::Unsupervised
                | Self::DutyHours
                | Self::TooLittleRest
                | Self::DoubleBooked
                | Self::NotHeld
        )
    }

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::InsufficientUnits => "insufficient units",
            Self::NotScheduled => "not scheduled",
            Self::Inactive => "inactive",
            Self::Expired => "expired",
            Self::WrongOrganisation => "wrong organisation",
            Self::NotFound => "not found",
            Self::Declared => "by a rule of the scenario",
            Self::KeyMismatch => "the key is another body's",
            Self::NoSeat => "no seat left",
            Self::Unsupervised => "too few would supervise",
            Self::DutyHours => "against the rules of duty hours",
            Self::TooLittleRest => "too little rest",
            Self::DoubleBooked => "in two places at once",
            Self::NotHeld => "the half day is not theirs",
            Self::AlreadySo => "it is so already",
        }
    }
}

/// Why an attempt was certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    /// 40001.
    SerializationFailure,
    /// 40P01.
    Deadlock,
    /// 55P03: NOWAIT or lock_timeout.
    LockNotAvailable,
    /// The row's version had moved on (optimistic locking); no SQLSTATE, the statement matched no row.
    VersionConflict,
    /// 23505.
    UniqueViolation,
    /// 23514.
    CheckViolation,
    /// 23P01.
    ExclusionViolation,
    /// 23503 and the rest of class 23.
    IntegrityViolation,
    /// 57014: statement_timeout or a cancel request.
    QueryCancelled,
    /// 53300.
    TooManyConnections,
    /// The connection broke, or the server ended it, before COMMIT was sent.
    ConnectionLost,
    /// No definite answer within the deadline of the iteration, and COMMIT was never sent.
    Deadline,
    /// A statement met another number of rows than the scenario expects.
    Expectation,
    /// Any other error, of the server or of a script.
    Other,
    /// Another request with the same key is under way.
    KeyInFlight,
    /// The pool gave no connection in the time that it lets anybody wait.
    PoolTimeout,
    /// HTTP 429: the API lets no more requests through.
    RateLimited,
    /// HTTP 401, or a 403 that no business rule stands for: the API does not let this token in.
    NotLetIn,
    /// HTTP 404, where something was expected.
    NotThere,
    /// Another HTTP 4xx: the API does not understand the request, or does not want it; or a 3xx to a request that only reads.
    Rejected,
    /// HTTP 503: the API could not do it, and says so.
    Unavailable,
}

impl Abort {
    /// All aborts, in the order of their discriminants.
    pub const ALL: [Self; 21] = [
        Self::SerializationFailure,
        Self::Deadlock,
        Self::LockNotAvailable,
        Self::VersionConflict,
        Self::UniqueViolation,
        Self::CheckViolation,
        Self::ExclusionViolation,
        Self::IntegrityViolation,
        Self::QueryCancelled,
        Self::TooManyConnections,
        Self::ConnectionLost,
        Self::Deadline,
        Self::Expectation,
        Self::Other,
        Self::KeyInFlight,
        Self::PoolTimeout,
        Self::RateLimited,
        Self::NotLetIn,
        Self::NotThere,
        Self::Rejected,
        Self::Unavailable,
    ];

    /// Whether it says that the test is wrong, not the tested: a token, a limit, an address. One of these, unlooked for, and nothing is proved.
    pub fn is_of_the_test(self) -> bool {
        matches!(self, Self::RateLimited | Self::NotLetIn | Self::NotThere | Self::Rejected)
    }

    /// What an error of the server means, wherever in the transaction it came from.
    pub fn from_sqlstate(code: Sqlstate) -> Self {
        match &code.0 {
            b"40001" => Self::SerializationFailure,
            b"40P01" => Self::Deadlock,
            b"55P03" => Self::LockNotAvailable,
            b"23505" => Self::UniqueViolation,
            b"23514" => Self::CheckViolation,
            b"23P01" => Self::ExclusionViolation,
            [b'2', b'3', ..] => Self::IntegrityViolation,
            b"57014" => Self::QueryCancelled,
            b"53300" => Self::TooManyConnections,
            // Shutdown, crash, cannot connect now, and class 08: the session is gone.
            b"57P01" | b"57P02" | b"57P03" | b"57P05" | [b'0', b'8', ..] => Self::ConnectionLost,
            // Failover: the old primary answers reads and refuses writes.
            b"25006" => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    /// Whether the same operation may simply be tried again.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::SerializationFailure
                | Self::Deadlock
                | Self::LockNotAvailable
                | Self::VersionConflict
                | Self::TooManyConnections
                | Self::ConnectionLost
                | Self::KeyInFlight
                | Self::PoolTimeout
                | Self::Unavailable
        )
    }

    /// Whether it can only happen because another transaction was at the same row at the same time: the server's own word for overlap.
    pub fn is_conflict(self) -> bool {
        matches!(
            self,
            Self::SerializationFailure | Self::Deadlock | Self::LockNotAvailable | Self::VersionConflict | Self::KeyInFlight
        )
    }

    /// One word for it, as in headers.
    pub fn short(self) -> &'static str {
        self.words().split([' ', ',']).next().unwrap_or_default()
    }

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::SerializationFailure => "40001 serialization failure",
            Self::Deadlock => "40P01 deadlock",
            Self::LockNotAvailable => "55P03 lock not available",
            Self::VersionConflict => "version conflict",
            Self::UniqueViolation => "23505 unique violation",
            Self::CheckViolation => "23514 check violation",
            Self::ExclusionViolation => "23P01 exclusion violation",
            Self::IntegrityViolation => "class 23 integrity violation",
            Self::QueryCancelled => "57014 query cancelled",
            Self::TooManyConnections => "53300 too many connections",
            Self::ConnectionLost => "connection lost",
            Self::Deadline => "deadline exceeded",
            Self::Expectation => "expectation not met",
            Self::Other => "other error",
            Self::KeyInFlight => "key in flight",
            Self::PoolTimeout => "pool timeout",
            Self::RateLimited => "429 rate limited",
            Self::NotLetIn => "401 or 403, not let in",
            Self::NotThere => "404 not there",
            Self::Rejected => "another 4xx or a 3xx, rejected",
            Self::Unavailable => "503 unavailable",
        }
    }
}

/// How far a transaction had come when something was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before COMMIT was sent: connecting, BEGIN, statements.
    Before,
    /// From the first byte of COMMIT on.
    Commit,
    /// From the first byte of a statement on that is a transaction of its own, and so its own COMMIT.
    Alone,
}

/// What a client sees of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// CommandComplete with the tag COMMIT.
    Commit,
    /// Another tag, and ReadyForQuery without an error: of COMMIT it is ROLLBACK, without any error, if a statement had failed.
    Done,
    /// An error, and ReadyForQuery after it: the session goes on.
    Error(Sqlstate),
    /// An error that ended the session, or after which nothing came.
    Fatal(Sqlstate),
    /// The end of the stream, a reset, or nothing within the deadline.
    Silence,
}

/// What is known then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It was applied.
    Applied,
    /// It was not applied, and never will be.
    NotApplied,
    /// It may have been applied, or may be yet.
    Unknown,
}

/// The one classifier: an ERROR that ReadyForQuery follows is definite, if it is one that a server can bring about there; everything else
/// after COMMIT was sent is not.
pub fn certainty(stage: Stage, signal: Signal) -> Certainty {
    match (stage, signal) {
        (Stage::Before, _) => Certainty::NotApplied,
        (Stage::Commit, Signal::Commit) | (Stage::Alone, Signal::Commit | Signal::Done) => Certainty::Applied,
        (Stage::Commit, Signal::Done) => Certainty::NotApplied,
        (Stage::Commit, Signal::Error(code)) if definite_at_commit(code) => Certainty::NotApplied,
        (Stage::Alone, Signal::Error(code)) if definite_of_statement(code) => Certainty::NotApplied,
        (Stage::Commit | Stage::Alone, Signal::Error(_) | Signal::Fatal(_) | Signal::Silence) => Certainty::Unknown,
    }
}

/// Whether an ERROR answer to COMMIT proves that nothing was committed. Only these do: proxies and crashes invent others.
fn definite_at_commit(code: Sqlstate) -> bool {
    matches!(&code.0, b"40001" | b"40P01" | b"57014" | [b'2', b'3', ..])
}

/// Whether an ERROR answer to a statement that is its own transaction proves that nothing was committed: whatever the statement itself can
/// bring about does. What a server says on its way out, or somebody between, does not; nor that the completion is not known.
fn definite_of_statement(code: Sqlstate) -> bool {
    !matches!(&code.0, [b'0', b'8', ..] | [b'5', b'7', b'P', ..] | [b'5', b'8', ..] | [b'X', b'X', ..] | b"40003")
}

/// Five characters by which PostgreSQL says what went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sqlstate(pub [u8; 5]);

impl Sqlstate {
    /// From the text that a driver hands over; anything but five ASCII characters becomes `XX000`, internal error.
    pub fn new(code: &str) -> Self {
        match code.as_bytes().try_into() {
            Ok(bytes) if code.is_ascii() => Self(bytes),
            _ => Self(*b"XX000"),
        }
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_an_abort_tells_it_from_the_others() {
        let words: std::collections::BTreeSet<&str> = Abort::ALL.into_iter().map(Abort::short).collect();
        assert_eq!(words.len(), Abort::ALL.len(), "{words:?}");
    }

    #[test]
    fn every_outcome_survives_the_history() {
        let mut all = vec![Outcome::Committed, Outcome::Replayed, Outcome::Unknown, Outcome::RolledBack];
        all.extend(Refusal::ALL.map(Outcome::Refused));
        all.extend(Abort::ALL.map(Outcome::Aborted));
        for outcome in all {
            assert_eq!(Outcome::decode(outcome.encode()), Some(outcome));
        }
        assert_eq!(Outcome::decode([1, 200]), None);
        assert_eq!(Outcome::decode([9, 0]), None);
    }

    #[test]
    fn sqlstates_are_classified_one_by_one() {
        let table = [
            ("40001", Abort::SerializationFailure, true, true),
            ("40P01", Abort::Deadlock, true, true),
            ("55P03", Abort::LockNotAvailable, true, false),
            ("23505", Abort::UniqueViolation, false, true),
            ("23514", Abort::CheckViolation, false, true),
            ("23P01", Abort::ExclusionViolation, false, true),
            ("23503", Abort::IntegrityViolation, false, true),
            ("57014", Abort::QueryCancelled, false, true),
            ("53300", Abort::TooManyConnections, true, false),
            ("57P01", Abort::ConnectionLost, true, false),
            ("08006", Abort::ConnectionLost, true, false),
            ("25006", Abort::ConnectionLost, true, false),
            ("42P01", Abort::Other, false, false),
            ("XX000", Abort::Other, false, false),
        ];
        for (code, abort, retryable, definite) in table {
            let state = Sqlstate::new(code);
            assert_eq!(Abort::from_sqlstate(state), abort, "{code}");
            assert_eq!(abort.is_retryable(), retryable, "{code}");
            let expected = if definite { Certainty::NotApplied } else { Certainty::Unknown };
            assert_eq!(certainty(Stage::Commit, Signal::Error(state)), expected, "{code}");
        }
    }

    #[test]
    fn the_end_of_a_transaction_is_classified_by_where_it_was() {
        use Certainty::{Applied, NotApplied, Unknown};
        let code = Sqlstate::new;
        // Signal, and what it means before COMMIT, at COMMIT, and of a statement that is alone.
        let table = [
            (Signal::Commit, NotApplied, Applied, Applied),
            // COMMIT of a transaction that had failed: no error, the tag is ROLLBACK.
            (Signal::Done, NotApplied, NotApplied, Applied),
            (Signal::Error(code("40001")), NotApplied, NotApplied, NotApplied),
            (Signal::Error(code("40P01")), NotApplied, NotApplied, NotApplied),
            // Deferred constraints.
            (Signal::Error(code("23505")), NotApplied, NotApplied, NotApplied),
            (Signal::Error(code("23503")), NotApplied, NotApplied, NotApplied),
            (Signal::Error(code("23P01")), NotApplied, NotApplied, NotApplied),
            (Signal::Error(code("57014")), NotApplied, NotApplied, NotApplied),
            // Nothing that COMMIT does brings these about: somebody between says so, or a server on its way out.
            (Signal::Error(code("42601")), NotApplied, Unknown, NotApplied),
            (Signal::Error(code("53300")), NotApplied, Unknown, NotApplied),
            (Signal::Error(code("08006")), NotApplied, Unknown, Unknown),
            (Signal::Error(code("08007")), NotApplied, Unknown, Unknown),
            (Signal::Error(code("40003")), NotApplied, Unknown, Unknown),
            (Signal::Error(code("57P01")), NotApplied, Unknown, Unknown),
            (Signal::Error(code("58030")), NotApplied, Unknown, Unknown),
            (Signal::Error(code("XX000")), NotApplied, Unknown, Unknown),
            (Signal::Fatal(code("57P01")), NotApplied, Unknown, Unknown),
            (Signal::Fatal(code("57P02")), NotApplied, Unknown, Unknown),
            (Signal::Fatal(code("57P05")), NotApplied, Unknown, Unknown),
            (Signal::Fatal(code("XX000")), NotApplied, Unknown, Unknown),
            // Definite codes are not, if the session ended with them.
            (Signal::Fatal(code("40001")), NotApplied, Unknown, Unknown),
            (Signal::Fatal(code("23505")), NotApplied, Unknown, Unknown),
            (Signal::Silence, NotApplied, Unknown, Unknown),
        ];
        for (signal, before, commit, alone) in table {
            for (stage, expected) in [(Stage::Before, before), (Stage::Commit, commit), (Stage::Alone, alone)] {
                assert_eq!(certainty(stage, signal), expected, "{stage:?} {signal:?}");
            }
        }
    }
}
