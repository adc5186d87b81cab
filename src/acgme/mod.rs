//! Which rules of duty hours does a schedule break? Pure: people, their duty and the half days go in, findings come out.
//!
//! Times are minutes of the hospital's wall clock since 2000-01-01 00:00, without a zone; intervals are half-open. The rules themselves, a small
//! function each, are in `hours`, `days`, `nights`, `conflict` (about one person) and `half_day` (about a half day); each says where it comes from.

mod conflict;
mod days;
pub mod evaluate;
mod half_day;
mod hours;
mod nights;
pub mod rules;
#[cfg(test)]
mod tests;
mod timeline;

use serde::{Deserialize, Serialize};

/// Minutes of the wall clock since 2000-01-01 00:00.
pub type Minute = i64;

/// Minutes of an hour.
pub const HOUR: Minute = 60;

/// Minutes of a day.
pub const DAY: Minute = 24 * HOUR;

/// Somebody who works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// Its number.
    pub id: i64,
    /// What the rules make of it.
    pub kind: PersonKind,
}

/// What somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonKind {
    /// In training, in this post-graduate year; `None` = not known, and supervised like the first.
    Resident(Option<u8>),
    /// Supervises.
    Faculty,
}

/// One stretch of work, as it is written down: nothing merged, nothing cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duty {
    /// When it begins.
    pub start: Minute,
    /// When it is over.
    pub end: Minute,
    /// What it is.
    pub kind: DutyKind,
}

/// What kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DutyKind {
    /// An assignment to a half day.
    HalfDay,
    /// In-house call from 19:00 to 07:00.
    Overnight,
    /// In-house call from 07:00 to 07:00.
    Weekend,
    /// A night shift that is not call.
    NightFloat,
    /// Stays on after a shift.
    Extension,
    /// Stays on to hand over, or to learn: allowed on top of 24 hours.
    Handover,
    /// Works elsewhere, or extra.
    Moonlighting,
}

/// Days on which somebody is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// Midnight at which the first day begins.
    pub start: Minute,
    /// Midnight at which the last day ends.
    pub end: Minute,
    /// Whether there may be no duty meanwhile; the kind of absence and its length have decided.
    pub is_blocking: bool,
}

/// Somebody is put down for a half day, be it duty or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attendance {
    /// The half day.
    pub block: i64,
    /// What is done there.
    pub template: Template,
    /// In which role.
    pub role: Role,
    /// When the half day begins, whatever the hours of this person.
    pub start: Minute,
    /// When it is over.
    pub end: Minute,
}

/// What is done in a half day, as far as the rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its number.
    pub id: i64,
    /// How many residents it has room for; `None` = any number.
    pub max_residents: Option<u32>,
    /// Whether residents need supervision there: it is duty, and supervision is required.
    pub is_supervised: bool,
}

/// In which role somebody is in a half day. One in reserve is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Works.
    Primary,
    /// Supervises residents.
    Supervising,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// AC-1: hours a week, averaged over four weeks.
    #[serde(rename = "AC-1")]
    WeeklyHours,
    /// AC-2a: days in a row.
    #[serde(rename = "AC-2a")]
    DaysInARow,
    /// AC-2b: free days, averaged over four weeks.
    #[serde(rename = "AC-2b")]
    FreeDays,
    /// AC-3: hours in one go.
    #[serde(rename = "AC-3")]
    ContinuousHours,
    /// AC-4: rest between two periods of duty.
    #[serde(rename = "AC-4")]
    Rest,
    /// AC-5: how often on call.
    #[serde(rename = "AC-5")]
    CallFrequency,
    /// AC-6: nights in a row.
    #[serde(rename = "AC-6")]
    NightsInARow,
    /// AC-7: who supervises.
    #[serde(rename = "AC-7")]
    Supervision,
    /// AC-8: what only residents of later years may do.
    #[serde(rename = "AC-8")]
    FirstYear,
    /// AC-9: no duty while absent.
    #[serde(rename = "AC-9")]
    Absence,
    /// AC-10: nobody in two places at once.
    #[serde(rename = "AC-10")]
    DoubleBooking,
    /// AC-11: no more residents than there is room for.
    #[serde(rename = "AC-11")]
    Capacity,
    /// AC-12: a day to recover after the last of the night shifts.
    #[serde(rename = "AC-12")]
    PostNight,
}

impl Rule {
    /// All of them, in the order in which findings are listed.
    pub const ALL: [Self; 13] = [
        Self::WeeklyHours,
        Self::DaysInARow,
        Self::FreeDays,
        Self::ContinuousHours,
        Self::Rest,
        Self::CallFrequency,
        Self::NightsInARow,
        Self::Supervision,
        Self::FirstYear,
        Self::Absence,
        Self::DoubleBooking,
        Self::Capacity,
        Self::PostNight,
    ];

    /// Its number, as users know it: `AC-1`.
    pub fn id(self) -> &'static str {
        match self {
            Self::WeeklyHours => "AC-1",
            Self::DaysInARow => "AC-2a",
            Self::FreeDays => "AC-2b",
            Self::ContinuousHours => "AC-3",
            Self::Rest => "AC-4",
            Self::CallFrequency => "AC-5",
            Self::NightsInARow => "AC-6",
            Self::Supervision => "AC-7",
            Self::FirstYear => "AC-8",
            Self::Absence => "AC-9",
            Self::DoubleBooking => "AC-10",
            Self::Capacity => "AC-11",
            Self::PostNight => "AC-12",
        }
    }

    /// The rule with this number.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }

    /// Whether its limit is the least that must be, rather than the most that may be.
    pub fn is_minimum(self) -> bool {
        matches!(self, Self::FreeDays | Self::Rest | Self::Supervision)
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A person.
    Person(i64),
    /// A half day.
    Block(i64),
    /// A template in a half day: block, then template.
    Place(i64, i64),
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The rule is broken.
    Violation,
    /// It is not, and not by much; or it is advice.
    Warning,
}

/// What a rule found. Findings are ordered by rule, subject, window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// About whom or what.
    pub subject: Subject,
    /// When it begins …
    pub start: Minute,
    /// … and ends.
    pub end: Minute,
    /// What was measured: minutes, or a number.
    pub measured: i64,
    /// What the rule allows, in the same unit.
    pub limit: i64,
    /// How much it matters.
    pub severity: Severity,
}
