//! What do the reference server and its clients say to each other? Headers, bodies, and the codes of what was not done.
//!
//! Both sides import this, so that a word which is changed is changed for both.

mod code;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::history::Applied;

pub use self::code::Code;

/// What it calls itself in [`About`].
pub const SERVICE: &str = "dbstress";
/// Carries the key of a request that may be made again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that an answer is a stored one: `true`.
pub const REPLAYED: &str = "idempotency-replayed";
/// Says that it is a load test: `true`. What it does is tagged as such in the audit trail.
pub const LOAD_TEST: &str = "x-load-test";
/// The secret of a run, which lets it name its operations. The other headers of this name are looked at only with it.
pub const RUN: &str = "dbstress-run";
/// The operation, as the ledger has it: a number.
pub const OPERATION: &str = "dbstress-operation";
/// Which attempt of the client at the operation it is, from 1.
pub const ATTEMPT: &str = "dbstress-attempt";
/// By how many seconds the request is later than the dataset, on the clock of the domain.
pub const LATER: &str = "dbstress-later";
/// In an answer to a run: how many attempts the server made.
pub const ATTEMPTS: &str = "dbstress-attempts";
/// In an answer to a run: how attempts failed that the server made again, as `40001/OnConflict_CheckForSerializationFailure*3,version*1`:
/// [`crate::outcome::Abort::short`], the routine of the database server that said so, where one did, and how often.
pub const FAILED: &str = "dbstress-failed";
/// In an answer to a run: when the transaction of the last attempt began, microseconds of the database server's clock.
pub const BEGAN: &str = "dbstress-began";
/// In an answer to a run: another transaction with the same key was under way when this one asked: `true`.
pub const MET: &str = "dbstress-met";
/// The most attempts that the server makes at a request. In the ledger, attempt `a` of the server at attempt `c` of the client is `(c - 1) * 64 + a`.
pub const MOST_ATTEMPTS: u16 = 64;
/// The most attempts of a client at an operation that the ledger can tell apart.
pub const MOST_TRIES: u16 = i16::MAX as u16 / MOST_ATTEMPTS;

/// What a server says of itself: `GET /v1/about`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct About {
    /// [`SERVICE`].
    pub service: String,
    /// Of the program.
    pub version: String,
    /// Where it keeps everything.
    pub database: Database,
    /// What is in it: clinic, residency.
    pub dataset: String,
    /// How it says that rows are protected.
    pub strategy: String,
    /// What its sessions call themselves at the database: the beginning of their `application_name`.
    pub sessions: String,
    /// How many of them there are at most.
    pub pool_size: u32,
    /// For how long it makes attempts at a request, milliseconds: whoever asks must wait longer.
    pub retry_deadline_ms: u64,
    /// What is said to a request whose key is in flight: refuse, wait.
    pub in_flight: String,
    /// How long a key is known, seconds on the clock of the domain.
    pub key_lifetime_s: u64,
    /// How long a token is good that it gives out, seconds.
    pub token_lifetime_s: u64,
    /// What it lets through at most. Empty: there are no limits.
    pub limits: Vec<Limit>,
}

/// Identifies a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// The server's system identifier. Text: it has more digits than a JavaScript number can hold.
    pub system_identifier: String,
    /// Object id of the database.
    pub oid: i64,
}

/// So many requests in a window, which begins with the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limit {
    /// Which routes it is about: all, read, write, login.
    pub route: String,
    /// Of which tier of organisations; `None`: of all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tier: Option<String>,
    /// What is counted apart: organisation, account.
    pub per: String,
    /// So many are let through.
    pub requests: u64,
    /// Until so many seconds have passed since the first.
    pub window_s: u64,
}

/// The counters of an authorisation as a booking left them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Booked {
    /// Of which authorisation.
    pub authorisation: i64,
    /// Which update of it this was, from 1.
    pub version: i64,
    /// Units authorised.
    pub total: i32,
    /// Units consumed.
    pub used: i32,
    /// Units promised.
    pub scheduled: i32,
}

impl Booked {
    /// As it was applied to `authorisation`.
    pub fn new(authorisation: i64, applied: Applied) -> Self {
        let Applied { version, total, used, scheduled } = applied;
        Self { authorisation, version, total, used, scheduled }
    }

    /// What was applied.
    pub fn applied(self) -> Applied {
        Applied { version: self.version, total: self.total, used: self.used, scheduled: self.scheduled }
    }
}

/// How many units are to be reserved, released or consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// At least 1.
    #[schema(minimum = 1)]
    pub units: i32,
}

/// Who logs in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The account.
    pub login: String,
    /// Its password.
    pub password: String,
}

/// Who is let in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// What to carry in `Authorization: Bearer …`.
    pub token: String,
    /// Seconds since 1970.
    pub expires_at: i64,
    /// What it may do.
    pub role: String,
    /// Where; `None`: everywhere.
    pub organisation: Option<i64>,
}

/// A change of a schedule was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// In which programme.
    pub programme: i64,
}

/// Somebody works in a half day: `POST /v1/assignments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// Where.
    pub programme: i64,
    /// Who.
    pub person: i64,
    /// In which half day.
    pub block: i64,
    /// What is done there.
    pub template: i64,
}

/// Somebody does not work in a half day after all: `POST /v1/assignments/{id}/cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Where.
    pub programme: i64,
    /// Who.
    pub person: i64,
    /// In which half day.
    pub block: i64,
}

/// Somebody is on call: `POST /v1/calls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Where.
    pub programme: i64,
    /// Who.
    pub person: i64,
    /// On which night: days since 2000-01-01.
    pub night: i64,
    /// overnight, weekend.
    pub kind: String,
}

/// Somebody gets a half day of somebody else's: `POST /v1/swaps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// Where.
    pub programme: i64,
    /// Whose it is.
    pub from: i64,
    /// Who gets it.
    pub to: i64,
    /// The assignment that is wanted.
    pub source: i64,
    /// The assignment that is given for it; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<i64>,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What programs look at.
    pub code: Code,
    /// What people look at.
    pub message: String,
    /// The key that it was asked with, where asking again with it is the cure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency_key: Option<String>,
}
