//! How is a finding said in a line?

use std::fmt;

use super::compare::Mistake;
use super::judge::{MutantRecord, Witness, Wrong};
use crate::acgme::{DAY, Finding, HOUR, Minute, Rule, Severity, Subject};
use crate::roster::Expected;
use crate::seed::calendar::civil;

/// `2026-01-05 07:00`.
pub fn clock(at: Minute) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY) as i32);
    let minute = at.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / HOUR, minute % HOUR)
}

/// What a rule measures, with its unit.
pub fn measure(rule: Rule, measured: i64) -> String {
    let hours = |minutes: i64| format!("{:.2} h", minutes as f64 / HOUR as f64);
    match rule {
        // Summed over four weeks.
        Rule::WeeklyHours => format!("{:.2} h a week", measured as f64 / (4 * HOUR) as f64),
        Rule::ContinuousHours | Rule::Rest | Rule::FirstYear | Rule::Absence | Rule::DoubleBooking | Rule::PostNight => {
            hours(measured)
        }
        Rule::DaysInARow => format!("{measured} days"),
        Rule::FreeDays => format!("{measured} free days"),
        Rule::CallFrequency => format!("{measured} calls"),
        Rule::NightsInARow => format!("{measured} nights"),
        Rule::Supervision => format!("{measured} supervising"),
        Rule::Capacity => format!("{measured} residents"),
    }
}

/// About whom or what.
pub fn subject(subject: Subject) -> String {
    match subject {
        Subject::Person(person) => format!("person {person}"),
        Subject::Block(block) => format!("half day {block}"),
        Subject::Place(block, template) => format!("half day {block}, template {template}"),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Violation => "violation",
        Severity::Warning => "warning",
    }
}

/// `81.00 h a week (violation) from 2026-01-05 00:00 to 2026-02-02 00:00`.
pub fn found(finding: &Finding) -> String {
    format!(
        "{} ({}, limit {}) from {} to {}",
        measure(finding.rule, finding.measured),
        severity(finding.severity),
        measure(finding.rule, finding.limit),
        clock(finding.start),
        clock(finding.end)
    )
}

fn expected(line: &Expected) -> String {
    format!("{} makes it {} ({})", line.label, measure(line.rule, line.measured), severity(line.severity))
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, about) = self.about();
        write!(f, "{}, {}: ", rule.id(), subject(about))?;
        match (&self.found, &self.expected) {
            (Some(finding), None) => write!(f, "found {}, and nothing should be", found(finding)),
            (Some(finding), Some(line)) => write!(f, "found {}, and {}", found(finding), expected(line)),
            (None, Some(line)) => write!(f, "found nothing, and {}", expected(line)),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.witness {
            Witness::Rules => "the rules",
            Witness::Sql => "the SQL",
            Witness::Both => "the rules and the SQL differ",
        };
        write!(f, "{}, {}, {who}: ", self.phase.word(), self.rules)?;
        match (&self.mistake.found, &self.other) {
            (Some(finding), Some(other)) => {
                write!(f, "{}, {}: {}; {}", finding.rule.id(), subject(finding.subject), found(finding), found(other))?;
            }
            _ => write!(f, "{}", self.mistake)?,
        }
        write!(f, " (snapshot {}, {} ms into the phase", self.snapshot, self.at_ms)?;
        match &*self.mended {
            [] => write!(f, ", everything planted)"),
            mended => write!(f, ", mended: {})", mended.join(", ")),
        }
    }
}

impl fmt::Display for MutantRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under {}: ", self.mutant.name(), self.rules)?;
        match (&self.caught_by, &self.example) {
            (Some(label), Some(example)) => write!(f, "found out by {label}: {example}"),
            (_, Some(example)) => write!(f, "found out by no planted case, but by what is around them: {example}"),
            (_, None) => f.write_str("not found out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_a_date_and_a_time() {
        assert_eq!(clock(0), "2000-01-01 00:00");
        assert_eq!(clock(9_501 * DAY + 7 * HOUR + 5), "2026-01-05 07:05");
        assert_eq!(clock(-1), "1999-12-31 23:59");
    }

    #[test]
    fn a_mistake_says_what_was_found_and_what_is_true() {
        let finding = Finding {
            rule: Rule::WeeklyHours,
            subject: Subject::Person(7),
            start: 9_501 * DAY,
            end: 9_529 * DAY,
            measured: 19_440,
            limit: 19_200,
            severity: Severity::Violation,
        };
        let line = Expected {
            rule: Rule::Rest,
            subject: Subject::Person(7),
            measured: 360,
            severity: Severity::Warning,
            label: "PL-4b".into(),
        };
        assert_eq!(
            Mistake { found: Some(finding), expected: None }.to_string(),
            "AC-1, person 7: found 81.00 h a week (violation, limit 80.00 h a week) from 2026-01-05 00:00 to \
             2026-02-02 00:00, and nothing should be"
        );
        assert_eq!(
            Mistake { found: None, expected: Some(line) }.to_string(),
            "AC-4, person 7: found nothing, and PL-4b makes it 6.00 h (warning)"
        );
    }
}
