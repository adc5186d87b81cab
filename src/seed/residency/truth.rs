//! What must the rules find, and which rows make it so? The ground truth of the cases, one line for each set of rules, and the rows by which writers
//! mend a case and plant it again.

use serde_json::json;

use super::Residency;
use super::cases::Expected;
use super::rota::required;
use super::sheet::{About, Plant, Seat};
use crate::acgme::Severity;
use crate::seed::Table;
use crate::seed::calendar;
use crate::seed::encode::Encoder;

/// A row of `expected_violation`.
#[derive(Debug)]
pub(super) struct Expectation {
    plant: i64,
    label: &'static str,
    rules: &'static str,
    of: &'static Expected,
    person: Option<i64>,
    block: Option<i64>,
    template: Option<i64>,
    measured: i64,
    detail: &'static str,
}

impl Expectation {
    pub(super) fn encode(&self, to: &mut Encoder) {
        to.bigint(self.plant).text(self.label).text(self.rules).text(self.of.rule.id());
        for id in [self.person, self.block, self.template] {
            match id {
                Some(id) => to.bigint(id),
                None => to.null(),
            };
        }
        let severity = match self.of.severity {
            Severity::Violation => "violation",
            Severity::Warning => "warning",
        };
        to.bigint(self.measured).text(severity).text(self.detail);
    }
}

/// A row of `planted_row`.
#[derive(Debug)]
pub(super) struct Kept {
    plant: i64,
    label: &'static str,
    relation: Table,
    row: String,
    is_planted: bool,
}

impl Kept {
    pub(super) fn encode(&self, to: &mut Encoder) {
        to.bigint(self.plant).text(self.label).text(self.relation.name()).jsonb(&self.row).boolean(self.is_planted);
    }
}

/// An assignment, as it is in the table.
pub(super) struct Line {
    pub id: i64,
    pub block: i64,
    pub person: i64,
    pub template: i64,
    pub role: &'static str,
}

impl Line {
    fn json(&self) -> serde_json::Value {
        json!({
            "id": self.id, "block_id": self.block, "person_id": self.person, "rotation_template_id": self.template, "role": self.role,
            "starts_at": null, "ends_at": null, "version": 0,
        })
    }
}

/// The cases with their numbers, from 1, and their programmes.
pub(super) fn plants(of: &Residency) -> impl Iterator<Item = (i64, u64, &Plant)> {
    let each =
        of.sheets.iter().zip(0..).flat_map(|((sheet, _), programme)| sheet.plants.iter().map(move |plant| (programme, plant)));
    each.zip(1..).map(|((programme, planted), plant)| (plant, programme, planted))
}

/// About whom or what a case is: person, block, template, by their ids.
pub(super) fn subject(of: &Residency, programme: u64, about: About) -> (Option<i64>, Option<i64>, Option<i64>) {
    match about {
        About::Resident(resident) => (Some(of.person_id(programme, resident)), None, None),
        About::Block(block) => (None, Some(of.block_id(programme, block)), None),
        About::Place(block, template) => (None, Some(of.block_id(programme, block)), Some(of.template_id(programme, template))),
    }
}

/// What is expected, and what is kept for writers, in the order of the cases' numbers.
pub(super) fn of(residency: &Residency) -> (Vec<Expectation>, Vec<Kept>) {
    let mut expected = Vec::new();
    for (plant, programme, planted) in plants(residency) {
        let (person, block, template) = subject(residency, programme, planted.about);
        for of in planted.case.expected {
            // Of the faculty that a half day requires, one less is there.
            let measured = of.measured.unwrap_or_else(|| match (planted.about, residency.sheet(programme)) {
                (About::Block(block), Some((sheet, _))) => {
                    let (first, others) = sheet.rota.present(block);
                    i64::from(required(first, others)) - 1
                }
                _ => 0,
            });
            let (label, detail) = (planted.case.name, planted.case.what);
            expected.extend(of.rules.iter().map(|rules| Expectation {
                plant,
                label,
                rules,
                of,
                person,
                block,
                template,
                measured,
                detail,
            }));
        }
    }
    (expected, kept(residency))
}

/// The rows that are there while a case is planted, or while it is mended.
fn kept(of: &Residency) -> Vec<Kept> {
    let mut first = Vec::new();
    let mut next = 1;
    for (sheet, _) in &of.sheets {
        first.push(next);
        next += sheet.plants.len() as i64;
    }
    let label = |programme: u64, plant: usize| of.sheets[programme as usize].0.plants[plant].case.name;
    let number = |programme: u64, plant: usize| first[programme as usize] + plant as i64;
    let mut kept = Vec::new();
    let mut keep = |programme, plant, relation, row: serde_json::Value, is_planted| {
        let (plant, label) = (number(programme, plant), label(programme, plant));
        kept.push(Kept { plant, label, relation, row: row.to_string(), is_planted });
    };
    let mut absent = of.rows(Table::Assignment) as i64;
    for ((sheet, _), programme) in of.sheets.iter().zip(0..) {
        for seat in &sheet.marked {
            keep(programme, seat.plant, Table::Assignment, line(of, programme, seat).json(), true);
        }
        for (plant, block) in sheet.missing() {
            // Whoever would be next to supervise there; the number is one that no assignment has.
            absent += 1;
            let nth = sheet.rota.supervisors(block, sheet.rota.present(block));
            let (person, template) = sheet.rota.supervisor(block, nth);
            let line = Line {
                id: absent,
                block: of.block_id(programme, block),
                person: of.person_id(programme, person),
                template: of.template_id(programme, template),
                role: "supervising",
            };
            keep(programme, plant, Table::Assignment, line.json(), false);
        }
    }
    for ((programme, seat), row) in of.doubles.iter().zip(0..) {
        keep(*programme, seat.plant, Table::AssignmentUnguarded, double(of, row, *programme, *seat).json(), true);
    }
    let date = |day: u32| calendar::iso(of.spec.starts_on() + day as i32);
    for ((programme, call), id) in of.calls.iter().zip(1..) {
        let hours = of.call_hours(call);
        let row = json!({
            "id": id, "person_id": of.person_id(*programme, call.resident), "night": date(call.day), "kind": call.kind,
            "starts_at": hours.map(|(start, _)| timestamp(start)), "ends_at": hours.map(|(_, end)| timestamp(end)),
        });
        keep(*programme, call.plant, Table::CallAssignment, row, true);
    }
    for ((programme, extra), id) in of.extras.iter().zip(1..) {
        let start = of.minute(extra.day, extra.from_hour);
        let row = json!({
            "id": id, "person_id": of.person_id(*programme, extra.resident), "starts_at": timestamp(start),
            "ends_at": timestamp(start + i64::from(extra.hours) * super::HOUR), "kind": extra.kind,
        });
        keep(*programme, extra.plant, Table::ExtraDuty, row, true);
    }
    kept.sort_by_key(|kept| kept.plant);
    kept
}

/// The assignment of a resident in a half day of a programme with cases.
fn line(of: &Residency, programme: u64, seat: &Seat) -> Line {
    let (sheet, rows) = &of.sheets[programme as usize];
    let before = sheet.rota.residents(seat.block).take_while(|(resident, _)| *resident < seat.resident).count();
    let id = of.assignments.before(programme) + rows.before[seat.block as usize] + before as u64 + 1;
    Line {
        id: id as i64,
        block: of.block_id(programme, seat.block),
        person: of.person_id(programme, seat.resident),
        template: of.template_id(programme, sheet.rota.template(seat.block, seat.resident).unwrap_or_default()),
        role: "primary",
    }
}

/// The same once more, as row number `row` of the table that lets it be. Its number is one that no assignment has, not even a mended one.
pub(super) fn double(of: &Residency, row: u64, programme: u64, seat: Seat) -> Line {
    Line { id: (of.rows(Table::Assignment) + of.missing + row + 1) as i64, ..line(of, programme, &seat) }
}

/// A time as PostgreSQL reads it; `minutes` since 2000-01-01 00:00.
fn timestamp(minutes: i64) -> String {
    let (day, minute) = (minutes.div_euclid(super::DAY), minutes.rem_euclid(super::DAY));
    format!("{}T{:02}:{:02}:00", calendar::iso(day as i32), minute / super::HOUR, minute % super::HOUR)
}
