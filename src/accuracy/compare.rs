//! How much of what was found is right? Pure: findings and the truth go in, hits and mistakes come out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::acgme::{Finding, Rule, Severity, Subject};
use crate::roster::Expected;

/// What is true for one set of rules, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth(BTreeMap<(Rule, Subject), Expected>);

/// A finding that is wrong, missing, or not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// What was found; `None` = nothing, although there is something.
    pub found: Option<Finding>,
    /// What is true; `None` = nothing is wrong there.
    pub expected: Option<Expected>,
}

/// Findings that are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Violations.
    pub violations: u64,
    /// Warnings.
    pub warnings: u64,
}

/// What a comparison says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What was found and is true, by rule.
    pub hits: BTreeMap<Rule, Hits>,
    /// Everything else, by rule and subject.
    pub mistakes: Vec<Mistake>,
}

impl Truth {
    /// Of lines that name each pair of rule and subject once.
    ///
    /// # Errors
    /// Two lines that are about the same.
    pub fn of(lines: impl IntoIterator<Item = Expected>) -> Result<Self, Box<[Expected; 2]>> {
        let mut truth = BTreeMap::new();
        for line in lines {
            let key = (line.rule, line.subject);
            if let Some(other) = truth.insert(key, line.clone()) {
                return Err(Box::new([other, line]));
            }
        }
        Ok(Self(truth))
    }

    /// Its lines, by rule and subject.
    pub fn lines(&self) -> impl Iterator<Item = &Expected> {
        self.0.values()
    }

    /// Compares. Right is what names rule, subject, severity and measure; what is measured wrongly is both found wrongly and missed.
    pub fn compare(&self, found: &[Finding]) -> Compared {
        let mut left = self.0.clone();
        let mut compared = Compared::default();
        for finding in found {
            let expected = left.remove(&(finding.rule, finding.subject));
            match expected {
                Some(line) if (line.measured, line.severity) == (finding.measured, finding.severity) => {
                    compared.hits.entry(finding.rule).or_default().add(finding.severity);
                }
                expected => compared.mistakes.push(Mistake { found: Some(*finding), expected }),
            }
        }
        compared.mistakes.extend(left.into_values().map(|line| Mistake { found: None, expected: Some(line) }));
        compared.mistakes.sort_by_key(Mistake::about);
        compared
    }
}

impl Hits {
    /// Counts one.
    pub fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Violation => self.violations += 1,
            Severity::Warning => self.warnings += 1,
        }
    }

    /// Of both kinds.
    pub fn all(self) -> u64 {
        self.violations + self.warnings
    }
}

impl Mistake {
    /// Rule and subject. A mistake without both a finding and an expectation is none, and is not made here.
    pub fn about(&self) -> (Rule, Subject) {
        match (&self.found, &self.expected) {
            (Some(finding), _) => (finding.rule, finding.subject),
            (None, Some(line)) => (line.rule, line.subject),
            (None, None) => unreachable!("a mistake about nothing"),
        }
    }
}

/// How many there are that a rule could find something about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subjects {
    /// In training.
    pub residents: u64,
    /// Everybody.
    pub people: u64,
    /// Half days.
    pub blocks: u64,
    /// Templates in half days.
    pub places: u64,
}

impl Subjects {
    /// Those that a rule is about.
    pub fn of(&self, rule: Rule) -> u64 {
        match rule {
            Rule::WeeklyHours
            | Rule::DaysInARow
            | Rule::FreeDays
            | Rule::ContinuousHours
            | Rule::Rest
            | Rule::CallFrequency
            | Rule::NightsInARow
            | Rule::FirstYear
            | Rule::PostNight => self.residents,
            Rule::Absence | Rule::DoubleBooking => self.people,
            Rule::Supervision => self.blocks,
            Rule::Capacity => self.places,
        }
    }
}

/// A rule's confusion matrix, summed over validations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// Which rule.
    pub rule: Rule,
    /// What there is to be found while everything is planted.
    pub planted: Hits,
    /// Found, and true.
    pub hits: Hits,
    /// Found, and not true: another severity or measure than the true one counts here and among the missed.
    pub false_positives: u64,
    /// True, and not found.
    pub false_negatives: u64,
    /// Nothing found about a subject of which nothing is true.
    pub true_negatives: u64,
}

impl RuleRecord {
    /// Nothing counted yet.
    pub fn new(rule: Rule, planted: Hits) -> Self {
        Self { rule, planted, hits: Hits::default(), false_positives: 0, false_negatives: 0, true_negatives: 0 }
    }

    /// Adds a validation.
    pub fn add(&mut self, compared: &Compared, subjects: &Subjects) {
        let hits = compared.hits.get(&self.rule).copied().unwrap_or_default();
        self.hits.violations += hits.violations;
        self.hits.warnings += hits.warnings;
        let mine = || compared.mistakes.iter().filter(|mistake| mistake.about().0 == self.rule);
        let mut touched: Vec<Subject> = mine().map(|mistake| mistake.about().1).collect();
        touched.dedup();
        self.false_positives += mine().filter(|mistake| mistake.found.is_some()).count() as u64;
        self.false_negatives += mine().filter(|mistake| mistake.expected.is_some()).count() as u64;
        self.true_negatives += subjects.of(self.rule).saturating_sub(hits.all() + touched.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rule: Rule, person: i64, measured: i64, severity: Severity) -> Expected {
        Expected { rule, subject: Subject::Person(person), measured, severity, label: "PL-1".into() }
    }

    fn finding(rule: Rule, person: i64, measured: i64, severity: Severity) -> Finding {
        Finding { rule, subject: Subject::Person(person), start: 0, end: 1, measured, limit: 0, severity }
    }

    const SUBJECTS: Subjects = Subjects { residents: 10, people: 12, blocks: 56, places: 100 };

    #[test]
    fn right_is_what_names_rule_subject_severity_and_measure() {
        use Rule::{Rest, WeeklyHours};
        use Severity::{Violation, Warning};
        let truth = Truth::of([line(WeeklyHours, 1, 19_440, Violation), line(Rest, 2, 360, Warning)]).unwrap();
        let right = truth.compare(&[finding(WeeklyHours, 1, 19_440, Violation), finding(Rest, 2, 360, Warning)]);
        assert!(right.mistakes.is_empty());
        assert_eq!(right.hits[&Rest], Hits { violations: 0, warnings: 1 });

        for wrong in [finding(Rest, 2, 360, Violation), finding(Rest, 2, 361, Warning)] {
            let compared = truth.compare(&[finding(WeeklyHours, 1, 19_440, Violation), wrong]);
            let mut row = RuleRecord::new(Rest, Hits::default());
            row.add(&compared, &SUBJECTS);
            assert_eq!((row.hits.all(), row.false_positives, row.false_negatives, row.true_negatives), (0, 1, 1, 9));
        }
    }

    #[test]
    fn missed_invented_and_said_twice_are_mistakes() {
        use Rule::{Rest, WeeklyHours};
        use Severity::Violation;
        let truth = Truth::of([line(WeeklyHours, 1, 19_440, Violation)]).unwrap();
        let mut row = RuleRecord::new(WeeklyHours, Hits::default());
        row.add(&truth.compare(&[]), &SUBJECTS);
        assert_eq!((row.false_negatives, row.true_negatives), (1, 9));
        let twice = [finding(WeeklyHours, 1, 19_440, Violation); 2];
        row.add(&truth.compare(&twice), &SUBJECTS);
        assert_eq!((row.hits.all(), row.false_positives, row.false_negatives), (1, 1, 1));
        let invented = truth.compare(&[twice[0], finding(Rest, 7, 0, Violation)]);
        assert_eq!(invented.mistakes.iter().map(Mistake::about).collect::<Vec<_>>(), [(Rest, Subject::Person(7))]);
    }

    #[test]
    fn the_truth_says_everything_once() {
        let twice = line(Rule::Rest, 1, 5, Severity::Violation);
        assert!(Truth::of([twice.clone(), twice]).is_err());
    }
}
