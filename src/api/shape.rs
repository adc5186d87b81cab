//! What does that look like which is shown? The database writes it as JSON; here it is described.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Authorisations, some at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authorisations {
    /// In the order of their numbers.
    pub items: Vec<Authorisation>,
    /// What to ask for as `after`; none: these were the last.
    pub next: Option<i64>,
}

/// An authorisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authorisation {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub organisation: i64,
    /// Units authorised.
    pub total: i32,
    /// Units consumed.
    pub used: i32,
    /// Units promised.
    pub scheduled: i32,
    /// Units that are free. Below zero: more was promised than there is.
    pub available: i32,
    /// PENDING, ACTIVE, EXPIRED, EXHAUSTED, CANCELLED.
    pub status: String,
    /// How often it was changed.
    pub version: i64,
}

/// What is left of an authorisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Availability {
    /// Of which.
    pub authorisation: i64,
    /// Units that are free.
    pub available: i32,
    /// As [`Authorisation::status`].
    pub status: String,
}

/// An appointment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Appointment {
    /// Its number.
    pub id: i64,
    /// Whose units it takes.
    pub authorisation: i64,
    /// Where.
    pub organisation: i64,
    /// With whom.
    pub practitioner: i64,
    /// When it begins, as `2026-06-01T09:00:00Z`.
    pub starts_at: String,
    /// When it ends.
    pub ends_at: String,
    /// Units that were reserved for it.
    pub reserved_units: i32,
    /// SCHEDULED, COMPLETED, CANCELLED.
    pub status: String,
}

/// People, some at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct People {
    /// In the order of their numbers.
    pub items: Vec<Person>,
    /// What to ask for as `after`; none: these were the last.
    pub next: Option<i64>,
}

/// A resident, or one of the faculty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    /// Their number.
    pub id: i64,
    /// Where.
    pub programme: i64,
    /// Invented.
    pub given_name: String,
    /// Invented.
    pub family_name: String,
    /// Nobody reads it.
    pub email: String,
    /// resident, faculty.
    pub kind: String,
    /// Post-graduate year, of residents.
    pub pgy: Option<i16>,
}

/// Half days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocks {
    /// In order.
    pub items: Vec<Block>,
    /// Always none: `from` and `to` say which.
    pub next: Option<i64>,
}

/// A half day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// Its number.
    pub id: i64,
    /// Where.
    pub programme: i64,
    /// As `2026-06-01`.
    pub date: String,
    /// AM, PM.
    pub half: String,
    /// Of the academic period of 28 days.
    pub number: i32,
    /// Saturday, Sunday.
    pub is_weekend: bool,
    /// A holiday.
    pub is_holiday: bool,
}

/// What can be done in a half day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rotations {
    /// In the order of their numbers.
    pub items: Vec<Rotation>,
    /// Always none: these are all.
    pub next: Option<i64>,
}

/// Something that can be done in a half day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rotation {
    /// Its number.
    pub id: i64,
    /// Where.
    pub programme: i64,
    /// Its name.
    pub name: String,
    /// The same, short.
    pub abbreviation: String,
    /// clinic, inpatient, procedure, conference: duty; off, absence, recovery: none.
    pub activity: String,
    /// How many residents there is room for; none: any number.
    pub max_residents: Option<i32>,
    /// Whether somebody has to supervise.
    pub supervision_required: bool,
}

/// Who works when, some at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assignments {
    /// In the order of their numbers.
    pub items: Vec<Assignment>,
    /// What to ask for as `after`; none: these were the last.
    pub next: Option<i64>,
}

/// Somebody works in a half day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    /// Its number.
    pub id: i64,
    /// Where.
    pub programme: i64,
    /// In which half day.
    pub block: i64,
    /// Of which day.
    pub date: String,
    /// AM, PM.
    pub half: String,
    /// Who.
    pub person: i64,
    /// What is done.
    pub rotation: i64,
    /// primary, supervising, backup.
    pub role: String,
    /// How often it changed hands.
    pub version: i64,
}

/// What the rules of duty hours find: those of the Common Program Requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Compliance {
    /// How many breaches.
    pub violations: i64,
    /// How much is near one.
    pub warnings: i64,
    /// The first of both, in the order of the rules.
    pub items: Vec<Found>,
}

/// Something that the rules find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// Which rule, as `AC-1`.
    pub rule: String,
    /// violation, warning.
    pub severity: String,
    /// About whom, if about a person.
    pub person: Option<i64>,
    /// About which half day, if about one.
    pub block: Option<i64>,
    /// About what is done there, if about that.
    pub rotation: Option<i64>,
    /// Minutes, or a number.
    pub measured: i64,
    /// What the rule allows, in the same unit.
    pub limit: i64,
    /// When it begins, as `2026-06-01T07:00`.
    pub from: String,
    /// When it ends.
    pub to: String,
}
