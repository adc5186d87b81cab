//! What can be planted beside the compliant schedule, and what must the rules find then?
//!
//! What is expected was written by hand, from the definitions of the rules; it is never computed by them. Days count from 0; whoever a case is
//! about is off on days 6, 13, 20 and 27, as residents with that day off are, unless it says otherwise.

use super::sheet::Pen;
use crate::acgme::{Rule, Severity};

/// What can be planted.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is done to the schedule, and what it amounts to.
    pub what: &'static str,
    /// How it is planted.
    pub how: How,
    /// What must be found, and nothing else.
    pub expected: &'static [Expected],
}

/// How a case is planted.
#[derive(Debug)]
pub enum How {
    /// It is about one resident.
    Resident {
        /// Of the first year? Otherwise of a later one.
        of_first_year: bool,
        /// What differs from the usual schedule.
        draw: fn(&mut Pen),
    },
    /// It is about a half day that keeps one resident of the first year and one other, and has one of the faculty.
    Pair,
    /// It is about a template that has one resident more than it has room for.
    Crowd,
    /// It is about a half day that lacks one of the faculty, by every formula.
    Supervisor,
}

/// A finding, as it must come out.
#[derive(Debug)]
pub struct Expected {
    /// The sets of rules that must find it.
    pub rules: &'static [&'static str],
    /// The rule.
    pub rule: Rule,
    /// Minutes, or a number; `None`: one less than the half day requires.
    pub measured: Option<i64>,
    /// Violation or warning.
    pub severity: Severity,
}

const CPR: &str = "cpr";
const RS_DEC25: &str = "rs-dec25";
const RS_HEAD: &str = "rs-head";
const EVERY: &[&str] = &[CPR, RS_DEC25, RS_HEAD];

const fn violation(rules: &'static [&'static str], rule: Rule, measured: i64) -> Expected {
    Expected { rules, rule, measured: Some(measured), severity: Severity::Violation }
}

const fn warning(rules: &'static [&'static str], rule: Rule, measured: i64) -> Expected {
    Expected { rules, rule, measured: Some(measured), severity: Severity::Warning }
}

const fn hours(n: i64) -> i64 {
    n * 60
}

const fn later(draw: fn(&mut Pen)) -> How {
    How::Resident { of_first_year: false, draw }
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "PL-1",
        what: "three overnight calls before days off: 81 hours a week",
        how: later(|pen| pen.calls(&[5, 12, 19])),
        expected: &[violation(EVERY, Rule::WeeklyHours, hours(324))],
    },
    Case {
        name: "PL-1n",
        what: "two overnight calls before days off: 78 hours a week",
        how: later(|pen| pen.calls(&[5, 12])),
        expected: &[warning(EVERY, Rule::WeeklyHours, hours(312))],
    },
    Case {
        name: "PL-1e",
        what: "two calls and eight hours of staying on: 80 hours a week",
        how: later(|pen| {
            pen.calls(&[5, 12]);
            pen.extra("extension", 1, 19, 4);
            pen.extra("extension", 8, 19, 4);
        }),
        expected: &[warning(EVERY, Rule::WeeklyHours, hours(320))],
    },
    Case {
        name: "PL-1f",
        what: "two calls and nine hours of staying on: 80.25 hours a week",
        how: later(|pen| {
            pen.calls(&[5, 12]);
            pen.extra("extension", 1, 19, 4);
            pen.extra("extension", 8, 19, 4);
            pen.extra("extension", 15, 19, 1);
        }),
        expected: &[violation(EVERY, Rule::WeeklyHours, hours(321))],
    },
    Case {
        name: "PL-2",
        what: "off on day 7, not 6: seven days in a row, four days off",
        how: later(|pen| {
            pen.works(6);
            pen.off(7);
        }),
        expected: &[violation(&[RS_DEC25, RS_HEAD], Rule::DaysInARow, 7)],
    },
    Case {
        name: "PL-2c",
        what: "thirteen days in a row, two days off, 78 hours a week",
        how: later(|pen| {
            pen.works(6);
            pen.works(20);
        }),
        expected: &[
            warning(EVERY, Rule::WeeklyHours, hours(312)),
            violation(&[RS_DEC25, RS_HEAD], Rule::DaysInARow, 13),
            violation(&[CPR], Rule::FreeDays, 2),
        ],
    },
    Case {
        name: "PL-3",
        what: "a day, the night and the next morning: 30 hours in one go",
        how: later(|pen| {
            pen.calls(&[2]);
            pen.off_half(3, 1);
        }),
        expected: &[violation(&[CPR, RS_HEAD], Rule::ContinuousHours, hours(30))],
    },
    Case {
        name: "PL-3n",
        what: "an afternoon, the night, the next morning: 24 hours in one go",
        how: later(|pen| {
            pen.off_half(2, 0);
            pen.calls(&[2]);
            pen.off_half(3, 1);
        }),
        expected: &[],
    },
    Case {
        name: "PL-3h",
        what: "a day, the night, four hours of handover: 28 hours in one go",
        how: later(|pen| {
            pen.calls(&[2]);
            pen.off(3);
            pen.extra("handover", 3, 7, 4);
        }),
        expected: &[warning(&[CPR, RS_HEAD], Rule::ContinuousHours, hours(28))],
    },
    Case {
        name: "PL-4",
        what: "on call after 24 hours in one go and 12 hours of rest",
        how: later(|pen| {
            pen.calls(&[2, 3]);
            pen.off(3);
            pen.off(4);
        }),
        expected: &[violation(&[CPR], Rule::Rest, hours(12))],
    },
    Case {
        name: "PL-4b",
        what: "an afternoon of work six hours after a night on call",
        how: later(|pen| {
            pen.off(2);
            pen.calls(&[2]);
            pen.off_half(3, 0);
        }),
        expected: &[warning(&[CPR], Rule::Rest, hours(6)), violation(&[RS_HEAD], Rule::Rest, hours(6))],
    },
    Case {
        name: "PL-5",
        what: "eleven calls in 28 days",
        how: later(|pen| pen.calls_alone(&[0, 2, 4, 7, 9, 12, 14, 17, 20, 23, 26])),
        expected: &[violation(&[CPR, RS_HEAD], Rule::CallFrequency, 11)],
    },
    Case {
        name: "PL-5n",
        what: "nine calls in 28 days",
        how: later(|pen| pen.calls_alone(&[0, 3, 6, 9, 12, 15, 18, 21, 24])),
        expected: &[],
    },
    Case {
        name: "PL-5q",
        what: "every third night on call: ten calls in 28 days",
        how: later(|pen| pen.calls_alone(&[0, 3, 6, 9, 12, 15, 18, 21, 24, 27])),
        expected: &[violation(&[RS_HEAD], Rule::CallFrequency, 10)],
    },
    Case {
        name: "PL-6",
        what: "seven nights on call in a row",
        how: later(|pen| pen.calls_alone(&[14, 15, 16, 17, 18, 19, 20])),
        expected: &[violation(&[RS_DEC25, RS_HEAD], Rule::DaysInARow, 7), violation(&[RS_DEC25], Rule::NightsInARow, 7)],
    },
    Case {
        name: "PL-6n",
        what: "six nights on call in a row",
        how: later(|pen| pen.calls_alone(&[14, 15, 16, 17, 18, 19])),
        expected: &[],
    },
    Case {
        name: "PL-7",
        what: "one of the faculty too few, by each set of rules",
        how: How::Supervisor,
        expected: &[Expected { rules: EVERY, rule: Rule::Supervision, measured: None, severity: Severity::Violation }],
    },
    Case {
        name: "PL-7x",
        what: "one of the faculty for two residents: too few by one formula",
        how: How::Pair,
        expected: &[violation(&[CPR, RS_DEC25], Rule::Supervision, 1)],
    },
    Case {
        name: "PL-8",
        what: "six hours of moonlighting in the first year, on a day off",
        how: How::Resident {
            of_first_year: true,
            draw: |pen| {
                // A fifth day off: on one of the four it would be duty on the seventh day in a row.
                pen.off(10);
                pen.extra("moonlighting", 10, 8, 6);
            },
        },
        expected: &[violation(&[CPR], Rule::FirstYear, hours(6))],
    },
    Case {
        name: "PL-8d",
        what: "24 hours begun on one day in the first year, before a day off",
        how: How::Resident { of_first_year: true, draw: |pen| pen.calls(&[5]) },
        expected: &[violation(&[RS_DEC25], Rule::FirstYear, hours(24))],
    },
    Case {
        name: "PL-9",
        what: "a half day of work while deployed",
        how: later(|pen| pen.away("deployment", 7, 13, 9)),
        expected: &[violation(EVERY, Rule::Absence, hours(6))],
    },
    Case {
        name: "PL-9m",
        what: "a half day of work in eight days of medical leave",
        how: later(|pen| pen.away("medical", 7, 14, 9)),
        expected: &[violation(EVERY, Rule::Absence, hours(6))],
    },
    Case {
        name: "PL-9n",
        what: "a half day of work in seven days of medical leave: allowed",
        how: later(|pen| pen.away("medical", 7, 13, 9)),
        expected: &[],
    },
    Case {
        name: "PL-10",
        what: "the same half day twice",
        how: later(|pen| pen.twice(9, 0)),
        expected: &[violation(EVERY, Rule::DoubleBooking, hours(6))],
    },
    Case {
        name: "PL-10c",
        what: "a call from 15:00, four hours of it in an afternoon of work",
        how: later(|pen| {
            // With the morning, more than 24 hours would begin on that day.
            pen.off_half(5, 0);
            pen.call_from(5, 15);
        }),
        expected: &[violation(EVERY, Rule::DoubleBooking, hours(4))],
    },
    Case {
        name: "PL-11",
        what: "nine residents where there is room for eight",
        how: How::Crowd,
        expected: &[violation(EVERY, Rule::Capacity, 9)],
    },
    Case {
        name: "PL-12",
        what: "a morning of work after the last of three nights on night float",
        how: later(|pen| {
            for day in [7, 8, 9] {
                pen.off(day);
                pen.night_float(day);
            }
            pen.off_half(10, 1);
        }),
        expected: &[violation(&[RS_HEAD], Rule::PostNight, hours(6))],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Its line of the table in METHOD.md.
    fn line(case: &Case) -> String {
        let by = |rules: &str| {
            let found: Vec<String> = case
                .expected
                .iter()
                .filter(|e| e.rules.contains(&rules))
                .map(|e| match e.severity {
                    Severity::Violation => e.rule.id().to_owned(),
                    Severity::Warning => format!("({})", e.rule.id()),
                })
                .collect();
            if found.is_empty() { "–".to_owned() } else { found.join(", ") }
        };
        format!("| {} | {} | {} | {} | {} |", case.name, case.what, by(CPR), by(RS_DEC25), by(RS_HEAD))
    }

    #[test]
    fn the_method_lists_each_case_with_what_must_be_found() {
        let method = include_str!("../../../docs/METHOD.md");
        let missing: Vec<String> = CASES.iter().map(line).filter(|line| !method.contains(line)).collect();
        assert!(missing.is_empty(), "not in METHOD.md:\n{}", missing.join("\n"));
    }

    #[test]
    fn nothing_is_expected_twice_of_the_same_rules() {
        for case in CASES {
            let mut all: Vec<(&str, Rule)> = case.expected.iter().flat_map(|e| e.rules.iter().map(|r| (*r, e.rule))).collect();
            let found = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), found, "{}", case.name);
        }
        assert!(CASES.iter().enumerate().all(|(n, case)| CASES[..n].iter().all(|other| other.name != case.name)));
    }
}
