//! Is a half day supervised, and is there room for everybody? The programme's own rules, from counts that grow person by person.

use std::collections::HashMap;

use super::rules::Formula;
use super::timeline::{Measure, Span};
use super::{Attendance, Finding, Person, PersonKind, Role, Rule, Subject};

/// How many must supervise so many residents of the first year (or of none that is known) and so many others; nobody, if there are no residents.
///
/// * sum: ⌈first ÷ 2⌉ + ⌈others ÷ 4⌉
/// * units: ⌈(2 · first + others) ÷ 4⌉
/// * max: max(⌈first ÷ 2⌉, ⌈others ÷ 4⌉)
pub fn supervisors_required(formula: Formula, first_year: u32, others: u32) -> u32 {
    let (halves, quarters) = (first_year.div_ceil(2), others.div_ceil(4));
    match formula {
        Formula::Sum => halves + quarters,
        Formula::Units => (2 * first_year + others).div_ceil(4),
        Formula::Max => halves.max(quarters),
    }
}

/// Counts of half days and of what is done there: as large as the schedule is long, however many people there are.
#[derive(Debug, Default)]
pub(super) struct Counts {
    blocks: HashMap<i64, Supervision>,
    places: HashMap<(i64, i64), Occupancy>,
    /// What of one person counts once; kept for its memory.
    scratch: Vec<Attendance>,
}

#[derive(Debug)]
struct Supervision {
    window: Span,
    first_year: u32,
    others: u32,
    supervisors: u32,
}

#[derive(Debug)]
struct Occupancy {
    window: Span,
    limit: u32,
    residents: u32,
}

impl Counts {
    /// Adds one person to the half days that it attends, once to each.
    pub(super) fn supervision(&mut self, person: Person, attendances: &[Attendance]) {
        let counts = |a: &&Attendance| match person.kind {
            PersonKind::Resident(_) => a.role == Role::Primary && a.template.is_supervised,
            PersonKind::Faculty => a.role == Role::Supervising,
        };
        self.once(attendances.iter().filter(counts), |a| (a.block, 0));
        for a in &self.scratch {
            let window = Span { start: a.start, end: a.end };
            let block = self.blocks.entry(a.block).or_insert(Supervision { window, first_year: 0, others: 0, supervisors: 0 });
            match person.kind {
                PersonKind::Resident(None | Some(1)) => block.first_year += 1,
                PersonKind::Resident(Some(_)) => block.others += 1,
                PersonKind::Faculty => block.supervisors += 1,
            }
        }
    }

    /// Adds one person to the places where it works, once to each.
    pub(super) fn capacity(&mut self, person: Person, attendances: &[Attendance]) {
        if person.kind == PersonKind::Faculty {
            return;
        }
        let counts = |a: &&Attendance| a.role == Role::Primary && a.template.max_residents.is_some();
        self.once(attendances.iter().filter(counts), |a| (a.block, a.template.id));
        for a in &self.scratch {
            if let Some(limit) = a.template.max_residents {
                let window = Span { start: a.start, end: a.end };
                let place = self.places.entry((a.block, a.template.id)).or_insert(Occupancy { window, limit, residents: 0 });
                place.residents += 1;
            }
        }
    }

    fn once<'a>(&mut self, attendances: impl Iterator<Item = &'a Attendance>, key: impl Fn(&Attendance) -> (i64, i64)) {
        self.scratch.clear();
        self.scratch.extend(attendances);
        self.scratch.sort_unstable_by_key(&key);
        self.scratch.dedup_by_key(|a| key(a));
    }

    /// AC-7: distinct faculty who supervise in the half day < those whom the formula requires for its residents. 1:2 in the first year and 1:4 later are
    /// the programme's ratios.
    pub(super) fn unsupervised(&self, formula: Formula) -> impl Iterator<Item = Finding> {
        self.blocks.iter().filter_map(move |(block, counts)| {
            let required = supervisors_required(formula, counts.first_year, counts.others);
            let measure = Measure::violation(counts.supervisors.into(), required.into());
            (counts.supervisors < required).then(|| finding(Rule::Supervision, Subject::Block(*block), counts.window, measure))
        })
    }

    /// AC-11: distinct residents who do one thing in one half day > those whom there is room for.
    pub(super) fn overfull(&self) -> impl Iterator<Item = Finding> {
        self.places.iter().filter_map(|((block, template), counts)| {
            let measure = Measure::violation(counts.residents.into(), counts.limit.into());
            (counts.residents > counts.limit)
                .then(|| finding(Rule::Capacity, Subject::Place(*block, *template), counts.window, measure))
        })
    }
}

fn finding(rule: Rule, subject: Subject, window: Span, measure: Measure) -> Finding {
    let Measure { measured, limit, severity } = measure;
    Finding { rule, subject, start: window.start, end: window.end, measured, limit, severity }
}
