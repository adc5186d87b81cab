//! Which limits are in force? Three sets of rules; a set is data, and any other is put together from the same fields.

use super::{DAY, HOUR, Minute, Rule};
use crate::error::nearest;
use crate::{Error, Result};

/// The window over which the rules average: four weeks.
pub(super) const FOUR_WEEKS: Minute = 28 * DAY;

/// What is allowed. A rule without a limit is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// What it is called.
    pub name: &'static str,
    /// AC-1: hours within four weeks.
    pub weekly_hours: Option<WeeklyHours>,
    /// AC-2a: most days with duty in a row.
    pub days_in_a_row: Option<i64>,
    /// AC-2b: fewest free days within four weeks.
    pub free_days: Option<i64>,
    /// AC-3: hours in one go.
    pub continuous_hours: Option<ContinuousHours>,
    /// AC-4: rest between two periods of duty.
    pub rest: Option<RestBetween>,
    /// AC-5: most in-house calls within four weeks.
    pub calls: Option<i64>,
    /// AC-6: most nights in a row.
    pub nights_in_a_row: Option<i64>,
    /// AC-7: how many must supervise.
    pub supervision: Option<Formula>,
    /// AC-8: what the first year may not do.
    pub first_year: Option<FirstYear>,
    /// AC-9: no duty while absent.
    pub absence: bool,
    /// AC-10: nobody in two places at once.
    pub double_booking: bool,
    /// AC-11: no more residents than there is room for.
    pub capacity: bool,
    /// AC-12: no duty that begins on the day after the last night shift.
    pub post_night: bool,
}

/// AC-1: minutes of duty within four weeks, which is four times the hours a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeeklyHours {
    /// More than this is a violation.
    pub limit: Minute,
    /// From here on there is a warning.
    pub warning: Minute,
}

/// AC-3: minutes of duty without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContinuousHours {
    /// Most that may be scheduled; what is for handing over does not count. A period that is longer because of that has a warning.
    pub scheduled: Minute,
    /// Most in all.
    pub in_all: Minute,
}

/// AC-4: minutes between the end of a period of duty and the beginning of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestBetween {
    /// A period at least this long is a long one.
    pub long: Minute,
    /// Less than this after a long period is a violation.
    pub after_long: Minute,
    /// Whether call and night shifts count as long, however long they are.
    pub calls_are_long: bool,
    /// Less than this after any other period is a warning.
    pub advised: Option<Minute>,
}

/// AC-7: how many must supervise the residents of a half day. See [`super::evaluate::supervisors_required`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// One for two of the first year, and one for four others, each group rounded up.
    Sum,
    /// A resident of the first year is half of a supervisor's work, another a quarter; rounded up once.
    Units,
    /// The larger of the two groups decides.
    Max,
}

/// AC-8: what the first year may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstYear {
    /// Moonlight.
    NoMoonlighting,
    /// Begin more minutes of duty on one day than this; others have a limit too.
    BegunOnADay {
        /// Of residents in the first year.
        first_year: Minute,
        /// Of all other residents.
        others: Minute,
    },
}

impl RuleSet {
    /// What the sets are called, the usual one first.
    pub const NAMES: [&'static str; 3] = ["cpr", "rs-dec25", "rs-head"];

    const WEEKLY: WeeklyHours = WeeklyHours { limit: 4 * 80 * HOUR, warning: 4 * 76 * HOUR };
    const TWENTY_FOUR_AND_FOUR: ContinuousHours = ContinuousHours { scheduled: 24 * HOUR, in_all: 28 * HOUR };

    /// ACGME Common Program Requirements, VI.F; in-house call every third night is at most 10 calls in 28 days. The ratios of supervision are the
    /// programme's own.
    pub fn cpr() -> Self {
        Self {
            name: "cpr",
            weekly_hours: Some(Self::WEEKLY),
            days_in_a_row: None,
            free_days: Some(4),
            continuous_hours: Some(Self::TWENTY_FOUR_AND_FOUR),
            rest: Some(RestBetween { long: 24 * HOUR, after_long: 14 * HOUR, calls_are_long: false, advised: Some(8 * HOUR) }),
            calls: Some(10),
            nights_in_a_row: None,
            supervision: Some(Formula::Sum),
            first_year: Some(FirstYear::NoMoonlighting),
            absence: true,
            double_booking: true,
            capacity: true,
            post_night: false,
        }
    }

    /// The rules of a residency scheduler as of December 2025.
    pub fn rs_dec25() -> Self {
        Self {
            name: "rs-dec25",
            weekly_hours: Some(Self::WEEKLY),
            days_in_a_row: Some(6),
            free_days: None,
            continuous_hours: None,
            rest: None,
            calls: None,
            nights_in_a_row: Some(6),
            supervision: Some(Formula::Sum),
            first_year: Some(FirstYear::BegunOnADay { first_year: 16 * HOUR, others: 24 * HOUR }),
            absence: true,
            double_booking: true,
            capacity: true,
            post_night: false,
        }
    }

    /// The rules of the same scheduler at present.
    pub fn rs_head() -> Self {
        Self {
            name: "rs-head",
            weekly_hours: Some(Self::WEEKLY),
            days_in_a_row: Some(6),
            free_days: None,
            continuous_hours: Some(Self::TWENTY_FOUR_AND_FOUR),
            rest: Some(RestBetween { long: 24 * HOUR, after_long: 10 * HOUR, calls_are_long: true, advised: None }),
            calls: Some(9),
            nights_in_a_row: None,
            supervision: Some(Formula::Units),
            first_year: None,
            absence: true,
            double_booking: true,
            capacity: true,
            post_night: true,
        }
    }

    /// The set with this name.
    ///
    /// # Errors
    ///
    /// There is none: a usage error, with the name that was probably meant.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "cpr" => Ok(Self::cpr()),
            "rs-dec25" => Ok(Self::rs_dec25()),
            "rs-head" => Ok(Self::rs_head()),
            _ => {
                let meant = nearest(name, Self::NAMES).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                Err(Error::usage(format!("there is no set of rules {name:?}"))
                    .cure(format!("{meant}There are {}.", Self::NAMES.join(", "))))
            }
        }
    }

    /// The rules in force, in their order.
    pub fn rules(&self) -> Vec<Rule> {
        Rule::ALL.into_iter().filter(|rule| self.has(*rule)).collect()
    }

    fn has(&self, rule: Rule) -> bool {
        match rule {
            Rule::WeeklyHours => self.weekly_hours.is_some(),
            Rule::DaysInARow => self.days_in_a_row.is_some(),
            Rule::FreeDays => self.free_days.is_some(),
            Rule::ContinuousHours => self.continuous_hours.is_some(),
            Rule::Rest => self.rest.is_some(),
            Rule::CallFrequency => self.calls.is_some(),
            Rule::NightsInARow => self.nights_in_a_row.is_some(),
            Rule::Supervision => self.supervision.is_some(),
            Rule::FirstYear => self.first_year.is_some(),
            Rule::Absence => self.absence,
            Rule::DoubleBooking => self.double_booking,
            Rule::Capacity => self.capacity,
            Rule::PostNight => self.post_night,
        }
    }
}
