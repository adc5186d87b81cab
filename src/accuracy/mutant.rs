//! Which mistakes do validators of duty hours make? Each is made here on purpose, beside the rules, and a planted case has to find it out.

use serde::{Deserialize, Serialize};

use crate::acgme::evaluate::{Evaluator, Roster};
use crate::acgme::rules::{Formula, RuleSet};
use crate::acgme::{Absence, Attendance, DAY, Duty, DutyKind, Finding, HOUR, Minute, PersonKind, Role, Rule, Severity, Subject};

/// When the second half day begins, minutes after midnight.
const AFTERNOON: Minute = 13 * HOUR;

/// A mistake of a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutant {
    /// 80 hours are too many already.
    AtLeast,
    /// Every calendar week by itself.
    NoAveraging,
    /// Dates instead of hours.
    CalendarDates,
    /// Handing over is work like any other.
    NoHandover,
    /// Two shifts at the same time are one.
    EachHourOnce,
    /// The afternoon is a night.
    AfternoonNights,
    /// Nobody supervises.
    NoFaculty,
    /// The larger group decides.
    LargerGroup,
    /// Only work on the schedule counts.
    NoMoonlighting,
    /// Nobody is away unless it is written that duty is forbidden.
    NoDefaults,
    /// Whoever is away may not work.
    EveryAbsence,
}

impl Mutant {
    /// All of them, in the order of the rules that they get wrong.
    pub const ALL: [Self; 11] = [
        Self::AtLeast,
        Self::NoAveraging,
        Self::CalendarDates,
        Self::NoHandover,
        Self::AfternoonNights,
        Self::NoFaculty,
        Self::LargerGroup,
        Self::NoMoonlighting,
        Self::NoDefaults,
        Self::EveryAbsence,
        Self::EachHourOnce,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeast => "at-least",
            Self::NoAveraging => "no-averaging",
            Self::CalendarDates => "calendar-dates",
            Self::NoHandover => "no-handover",
            Self::EachHourOnce => "each-hour-once",
            Self::AfternoonNights => "afternoon-nights",
            Self::NoFaculty => "no-faculty",
            Self::LargerGroup => "larger-group",
            Self::NoMoonlighting => "no-moonlighting",
            Self::NoDefaults => "no-defaults",
            Self::EveryAbsence => "every-absence",
        }
    }

    /// What it does wrong.
    pub fn summary(self) -> &'static str {
        match self {
            Self::AtLeast => "refuses 80 hours a week, and not only more",
            Self::NoAveraging => "looks at each calendar week by itself, instead of four weeks on average",
            Self::CalendarDates => "adds up the hours of two dates, instead of those without a gap",
            Self::NoHandover => "counts the hours for handing over as any others",
            Self::EachHourOnce => "throws away a shift that is there twice before it looks",
            Self::AfternoonNights => "takes every afternoon for a night shift",
            Self::NoFaculty => "finds nobody who supervises",
            Self::LargerGroup => "asks for supervisors of the larger group of residents only",
            Self::NoMoonlighting => "leaves out work that is not on the schedule",
            Self::NoDefaults => "lets somebody work who is deployed or ill, since nothing is written against it",
            Self::EveryAbsence => "forbids work during every absence, however short or voluntary",
        }
    }

    /// The sets of rules that it gets wrong.
    pub fn sets(self) -> &'static [&'static str] {
        match self {
            Self::AtLeast | Self::NoAveraging | Self::EachHourOnce | Self::NoFaculty | Self::NoDefaults | Self::EveryAbsence => {
                &RuleSet::NAMES
            }
            Self::CalendarDates | Self::NoHandover => &["cpr", "rs-head"],
            Self::AfternoonNights => &["rs-dec25", "rs-head"],
            Self::LargerGroup => &["cpr", "rs-dec25"],
            Self::NoMoonlighting => &["cpr"],
        }
    }
}

/// Rules that are applied with a mistake.
pub struct Mistaken {
    mutant: Mutant,
    evaluator: Evaluator,
    /// What a wrong rule found that stands in for the right one.
    own: Vec<Finding>,
}

/// A person as a validator misreads it.
struct Misread {
    duties: Vec<Duty>,
    absences: Vec<Absence>,
    attendances: Vec<Attendance>,
}

impl Mistaken {
    /// The set of rules with the mistake.
    pub fn new(mutant: Mutant, mut rules: RuleSet) -> Self {
        match mutant {
            Mutant::AtLeast => {
                if let Some(limits) = &mut rules.weekly_hours {
                    limits.limit -= 1;
                }
            }
            Mutant::LargerGroup => rules.supervision = Some(Formula::Max),
            Mutant::NoAveraging => rules.weekly_hours = None,
            Mutant::CalendarDates => rules.continuous_hours = None,
            _ => {}
        }
        Self { mutant, evaluator: Evaluator::new(rules), own: Vec::new() }
    }

    /// Adds a person; as [`Evaluator::person`].
    pub fn person(&mut self, roster: &Roster<'_>) {
        if let PersonKind::Resident(_) = roster.person.kind {
            let (rule, found) = match self.mutant {
                // Four times as much, as if all four weeks were like this one.
                Mutant::NoAveraging => {
                    let found = over(roster.duties, 7 * DAY, 7 * DAY, 80 * HOUR);
                    (Rule::WeeklyHours, found.map(|(start, end, measured, limit)| (start, end, 4 * measured, 4 * limit)))
                }
                Mutant::CalendarDates => (Rule::ContinuousHours, over(roster.duties, DAY, 2 * DAY, 28 * HOUR)),
                _ => (Rule::WeeklyHours, None),
            };
            self.own.extend(found.map(|(start, end, measured, limit)| Finding {
                rule,
                subject: Subject::Person(roster.person.id),
                start,
                end,
                measured,
                limit,
                severity: Severity::Violation,
            }));
        }
        let misread = Misread::of(self.mutant, roster);
        self.evaluator.person(&Roster {
            duties: &misread.duties,
            absences: &misread.absences,
            attendances: &misread.attendances,
            ..*roster
        });
    }

    /// What it finds, in the order of findings.
    pub fn finish(self) -> Vec<Finding> {
        let mut found = self.evaluator.finish();
        found.extend(self.own);
        found.sort_unstable();
        found
    }
}

impl Misread {
    fn of(mutant: Mutant, roster: &Roster<'_>) -> Self {
        let mut misread =
            Self { duties: roster.duties.to_vec(), absences: roster.absences.to_vec(), attendances: roster.attendances.to_vec() };
        match mutant {
            Mutant::NoHandover => {
                let handovers = misread.duties.iter_mut().filter(|duty| duty.kind == DutyKind::Handover);
                handovers.for_each(|duty| duty.kind = DutyKind::Extension);
            }
            Mutant::EachHourOnce => {
                misread.duties.sort_unstable_by_key(|duty| (duty.start, duty.end));
                misread.duties.dedup_by_key(|duty| (duty.start, duty.end));
            }
            Mutant::AfternoonNights => {
                let is_afternoon = |duty: &&mut Duty| duty.kind == DutyKind::HalfDay && duty.start.rem_euclid(DAY) >= AFTERNOON;
                misread.duties.iter_mut().filter(is_afternoon).for_each(|duty| duty.kind = DutyKind::NightFloat);
            }
            Mutant::NoFaculty => misread.attendances.retain(|attendance| attendance.role != Role::Supervising),
            Mutant::NoMoonlighting => misread.duties.retain(|duty| duty.kind != DutyKind::Moonlighting),
            Mutant::NoDefaults => misread.absences.iter_mut().for_each(|absence| absence.is_blocking = false),
            Mutant::EveryAbsence => misread.absences.iter_mut().for_each(|absence| absence.is_blocking = true),
            Mutant::AtLeast | Mutant::NoAveraging | Mutant::CalendarDates | Mutant::LargerGroup => {}
        }
        misread
    }
}

/// The window of `length` with the most duty begun in it, of those that begin every `step`, if that is more than `limit`: start, end, minutes, limit.
fn over(duties: &[Duty], step: Minute, length: Minute, limit: Minute) -> Option<(Minute, Minute, Minute, Minute)> {
    // 2000-01-01 was a Saturday: calendar weeks begin two days later.
    let monday = 2 * DAY;
    let first = duties.iter().map(|duty| (duty.start - monday).div_euclid(step)).min()?;
    let last = duties.iter().map(|duty| (duty.start - monday).div_euclid(step)).max()?;
    let windows = (first..=last).map(|n| {
        let start = monday + n * step;
        let begun = duties.iter().filter(|duty| (start..start + length).contains(&duty.start));
        (start, start + length, begun.map(|duty| duty.end - duty.start).sum::<Minute>(), limit)
    });
    windows.filter(|window| window.2 > limit).max_by_key(|window| window.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(day: Minute, hour: Minute, hours: Minute) -> Duty {
        let start = day * DAY + hour * HOUR;
        Duty { start, end: start + hours * HOUR, kind: DutyKind::HalfDay }
    }

    #[test]
    fn every_mistake_has_a_name_of_its_own_and_rules_to_get_wrong() {
        let names: std::collections::BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        for mutant in Mutant::ALL {
            assert!(mutant.sets().iter().all(|set| RuleSet::named(set).is_ok()), "{}", mutant.name());
            let json = serde_json::to_string(&mutant).unwrap();
            assert_eq!(json, format!("\"{}\"", mutant.name()));
        }
    }

    #[test]
    fn a_calendar_week_is_from_monday_to_sunday() {
        // 2026-01-05, a Monday.
        let monday = 9_501;
        let busy: Vec<Duty> = (0..7).map(|day| shift(monday + day, 7, 12)).collect();
        let (start, _, measured, _) = over(&busy, 7 * DAY, 7 * DAY, 80 * HOUR).unwrap();
        assert_eq!((start, measured), (monday * DAY, 84 * HOUR));
        // The same seven days across two weeks are not seen.
        let across: Vec<Duty> = (3..10).map(|day| shift(monday + day, 7, 12)).collect();
        assert_eq!(over(&across, 7 * DAY, 7 * DAY, 80 * HOUR), None);
    }

    #[test]
    fn two_dates_are_added_up_whatever_lies_between() {
        let duties = [shift(10, 7, 12), shift(11, 7, 18)];
        assert_eq!(over(&duties, DAY, 2 * DAY, 28 * HOUR).unwrap().2, 30 * HOUR);
        assert_eq!(over(&duties[..1], DAY, 2 * DAY, 28 * HOUR), None);
    }
}
