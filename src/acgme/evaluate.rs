//! What do all rules of a set find? People one by one, in bounded memory; of each rule and subject the worst.

use std::cmp::Reverse;

pub use super::half_day::supervisors_required;

use super::half_day::Counts;
use super::rules::RuleSet;
use super::timeline::Timeline;
use super::{Absence, Attendance, Duty, Finding, Minute, Person, PersonKind, conflict, days, hours, nights};

/// What is known of one person.
#[derive(Debug, Clone, Copy)]
pub struct Roster<'a> {
    /// Who it is.
    pub person: Person,
    /// From the midnight before the first half day of the programme to that after its last; `None`: it has none.
    pub period: Option<(Minute, Minute)>,
    /// Its duty, in any order, overlaps included.
    pub duties: &'a [Duty],
    /// When it is away.
    pub absences: &'a [Absence],
    /// The half days for which it is put down, but not those in reserve; in any order.
    pub attendances: &'a [Attendance],
}

/// Evaluates a set of rules, person by person: keeps findings and one count for each half day and each place in it, nothing for each assignment.
#[derive(Debug)]
pub struct Evaluator {
    rules: RuleSet,
    counts: Counts,
    found: Vec<Finding>,
}

impl Evaluator {
    /// Nobody is known yet.
    pub fn new(rules: RuleSet) -> Self {
        Self { rules, counts: Counts::default(), found: Vec::new() }
    }

    /// Adds a person, with everything that is known of them: each is given once. The order of people does not matter.
    pub fn person(&mut self, roster: &Roster<'_>) {
        self.found.extend(of_person(&self.rules, roster));
        if self.rules.supervision.is_some() {
            self.counts.supervision(roster.person, roster.attendances);
        }
        if self.rules.capacity {
            self.counts.capacity(roster.person, roster.attendances);
        }
    }

    /// The findings, one for each rule and subject, in their order.
    pub fn finish(self) -> Vec<Finding> {
        let Self { rules, counts, mut found } = self;
        found.extend(rules.supervision.into_iter().flat_map(|formula| counts.unsupervised(formula)));
        found.extend(counts.overfull());
        found.sort_unstable();
        found
    }
}

/// The findings about one person alone (AC-1 to AC-6, AC-8 to AC-10, AC-12), the worst window of each rule, in the order of the rules.
pub fn of_person(rules: &RuleSet, roster: &Roster<'_>) -> Vec<Finding> {
    let mut found = all_windows(rules, roster);
    found.sort_unstable_by_key(|f| (f.rule, f.severity, Reverse(excess(f)), f.start, f.end));
    found.dedup_by_key(|f| f.rule);
    found
}

/// The same with every window, day, run, gap or absence that a rule finds fault with.
pub fn all_windows(rules: &RuleSet, roster: &Roster<'_>) -> Vec<Finding> {
    let duty = Timeline::new(roster.person.id, roster.duties);
    let mut found = Vec::new();
    if let PersonKind::Resident(year) = roster.person.kind {
        of_resident(rules, year, roster.period, &duty, &mut found);
    }
    if rules.absence {
        conflict::absence(roster.absences, &duty, &mut found);
    }
    if rules.double_booking {
        conflict::double_booking(&duty, &mut found);
    }
    found.sort_unstable();
    found
}

fn of_resident(rules: &RuleSet, year: Option<u8>, period: Option<(Minute, Minute)>, duty: &Timeline, found: &mut Vec<Finding>) {
    if let Some(limits) = rules.weekly_hours {
        hours::weekly(limits, duty, found);
    }
    if let Some(limit) = rules.days_in_a_row {
        days::in_a_row(limit, duty, found);
    }
    if let (Some(limit), Some(programme)) = (rules.free_days, period) {
        days::free(limit, programme, duty, found);
    }
    if let Some(limits) = rules.continuous_hours {
        hours::continuous(limits, duty, found);
    }
    if let Some(limits) = rules.rest {
        days::rest(limits, duty, found);
    }
    if let Some(limit) = rules.calls {
        nights::calls(limit, duty, found);
    }
    if let Some(limit) = rules.nights_in_a_row {
        nights::in_a_row(limit, duty, found);
    }
    if let Some(rule) = rules.first_year {
        hours::first_year(rule, year, duty, found);
    }
    if rules.post_night {
        nights::recovery(duty, found);
    }
}

/// How far a finding is beyond its limit; of two with the same severity, the one further beyond is the worse.
fn excess(finding: &Finding) -> i64 {
    if finding.rule.is_minimum() { finding.limit - finding.measured } else { finding.measured - finding.limit }
}
