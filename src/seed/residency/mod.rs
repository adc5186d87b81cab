//! Which rows has the residency? A schedule that breaks no rule of duty hours, from `seed/residency.toml` ([`spec`], [`rota`]), and beside it the
//! cases that were asked for (`figures`, [`cases`], [`sheet`]), with what the rules must find (`truth`).
//!
//! The first programmes have the cases and are kept as what differs from the pattern; all others are the pattern, made while it is sent.

pub mod cases;
mod figures;
pub mod rota;
pub mod sheet;
pub mod spec;
mod truth;

use std::ops::Range;

use self::cases::{Case, How};
use self::figures::Asked;
pub use self::figures::Figures;
pub use self::rota::Fill;
use self::rota::{HALVES, Rota, Shape, required};
use self::sheet::{Away, Call, Extra, Seat, Sheet};
use self::spec::Spec;
use self::truth::{Expectation, Kept};
use super::encode::{Encoder, Part};
use super::generate::check_scale;
use super::table::Table;
use crate::random::Random;
use crate::{Error, Result};

/// Most residents a programme may have.
pub const RESIDENTS_MAX: u32 = 10_000;

/// Minutes of an hour and of a day.
const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;

/// Makes the rows of one rng_seed, scale and variant.
#[derive(Debug)]
pub struct Residency {
    spec: Spec,
    rng_seed: i64,
    scale: u64,
    shape: Shape,
    variant: Option<String>,
    /// Every programme without a case.
    pattern: Programme,
    /// The first programmes: those with cases.
    sheets: Vec<(Sheet, Programme)>,
    assignments: Spread,
    absences: Spread,
    /// Assignments that are there only while a case is mended; their numbers follow those of the others.
    missing: u64,
    /// Rows that belong to cases, each with the number of its programme, in the order of their ids.
    doubles: Vec<(u64, Seat)>,
    calls: Vec<(u64, Call)>,
    extras: Vec<(u64, Extra)>,
    expected: Vec<Expectation>,
    kept: Vec<Kept>,
}

/// How many rows a programme has where that depends on what is planted there.
#[derive(Debug)]
struct Programme {
    /// Assignments before each half day, and all.
    before: Vec<u64>,
    absences: u64,
}

/// How the rows of a table are spread over programmes.
#[derive(Debug)]
struct Spread {
    /// Rows before each of the first programmes, and before the next one.
    first: Vec<u64>,
    /// Rows of each programme after them.
    each: u64,
}

impl Spread {
    fn new(first: impl Iterator<Item = u64>, each: u64) -> Self {
        let mut before = vec![0];
        let mut sum = 0;
        before.extend(first.map(|rows| {
            sum += rows;
            sum
        }));
        Self { first: before, each }
    }

    /// Rows before a programme.
    fn before(&self, programme: u64) -> u64 {
        let last = self.first.len() as u64 - 1;
        self.first[programme.min(last) as usize] + programme.saturating_sub(last) * self.each
    }

    /// The programme that a row belongs to, and which one it is there.
    fn locate(&self, row: u64) -> (u64, u64) {
        let (last, end) = (self.first.len() - 1, self.first[self.first.len() - 1]);
        if row >= end {
            let each = self.each.max(1);
            return (last as u64 + (row - end) / each, (row - end) % each);
        }
        let programme = self.first.partition_point(|before| *before <= row) - 1;
        (programme as u64, row - self.first[programme])
    }
}

/// A person, as the fixture shows it.
#[derive(Debug, Clone, Copy)]
pub struct PersonRow {
    /// Its id.
    pub id: i64,
    /// The programme's id.
    pub programme_id: i64,
    /// The post-graduate year; `None`: faculty.
    pub year: Option<i16>,
}

/// A case, as the fixture and the summary show it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of expected_violation, and the programme's id")]
pub struct PlantedCase {
    pub plant: i64,
    pub case: &'static Case,
    pub programme_id: i64,
    pub person_id: Option<i64>,
    pub block_id: Option<i64>,
    pub rotation_template_id: Option<i64>,
}

impl Residency {
    /// `scale` programmes.
    ///
    /// # Errors
    /// Usage, when the rows are absurdly many; for figures and cases that mean nothing; when there are too few people for the cases, with the
    /// `--scale` and the `--residents` that suffice.
    pub fn new(rng_seed: i64, scale: u64, figures: &Figures) -> Result<Self> {
        let spec = Spec::built_in()?;
        let asked = Asked::new(&spec, figures)?;
        let shape = shape(&spec, &asked, asked.residents);
        let pattern = Programme::of(&Sheet::new(shape));
        let (templates, people, blocks) = (u64::from(shape.templates), u64::from(shape.people()), u64::from(shape.blocks()));
        // And one row for the programme and one for how it was scheduled.
        check_scale(scale, 2 + templates + people + blocks + pattern.rows() + pattern.absences, 0)?;
        let sheets = arrange(shape, &asked.plants, scale).map_err(|case| too_few(&spec, &asked, scale, case))?;
        let sheets: Vec<(Sheet, Programme)> = sheets
            .into_iter()
            .map(|sheet| {
                let rows = Programme::of(&sheet);
                (sheet, rows)
            })
            .collect();
        let mut residency = Self {
            spec,
            rng_seed,
            scale,
            shape,
            variant: asked.variant,
            assignments: Spread::new(sheets.iter().map(|(_, p)| p.rows()), pattern.rows()),
            absences: Spread::new(sheets.iter().map(|(_, p)| p.absences), pattern.absences),
            missing: sheets.iter().map(|(sheet, _)| sheet.missing().count() as u64).sum(),
            doubles: of_all(&sheets, |sheet| &sheet.doubles),
            calls: of_all(&sheets, |sheet| &sheet.calls),
            extras: of_all(&sheets, |sheet| &sheet.extras),
            expected: Vec::new(),
            kept: Vec::new(),
            pattern,
            sheets,
        };
        (residency.expected, residency.kept) = truth::of(&residency);
        Ok(residency)
    }

    /// The specification.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How large each programme is.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The flags that make it another dataset than the plain one.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Rows of a table.
    pub(super) fn rows(&self, table: Table) -> u64 {
        match table {
            Table::Programme | Table::ScheduleRun => self.scale,
            Table::Person => self.scale * u64::from(self.shape.people()),
            Table::Block => self.scale * u64::from(self.shape.blocks()),
            Table::RotationTemplate => self.scale * u64::from(self.shape.templates),
            Table::Assignment => self.assignments.before(self.scale),
            Table::AssignmentUnguarded => self.doubles.len() as u64,
            Table::CallAssignment => self.calls.len() as u64,
            Table::ExtraDuty => self.extras.len() as u64,
            Table::Absence => self.absences.before(self.scale),
            Table::ExpectedViolation => self.expected.len() as u64,
            Table::PlantedRow => self.kept.len() as u64,
            _ => 0,
        }
    }

    /// Appends rows (numbered from 0) in binary COPY format.
    pub(super) fn encode(&self, table: Table, rows: Range<u64>, out: &mut Vec<u8>) {
        let mut to = Encoder::new(out);
        match table {
            Table::Assignment => return self.assignments(rows, &mut to),
            Table::Absence => return self.absences(rows, &mut to),
            _ => {}
        }
        for row in rows {
            to.row(table.columns().len());
            match table {
                Table::Programme => self.programme_row(row, &mut to),
                Table::Person => self.person_row(row, &mut to),
                Table::Block => self.block_row(row, &mut to),
                Table::RotationTemplate => self.template_row(row, &mut to),
                Table::AssignmentUnguarded => self.double_row(row, &mut to),
                Table::CallAssignment => self.call_row(row, &mut to),
                Table::ExtraDuty => self.extra_row(row, &mut to),
                Table::ScheduleRun => self.run_row(row, &mut to),
                Table::ExpectedViolation => self.expected[row as usize].encode(&mut to),
                Table::PlantedRow => self.kept[row as usize].encode(&mut to),
                _ => {}
            }
        }
    }

    /// Everybody, in the order of their ids.
    pub fn people(&self) -> impl Iterator<Item = PersonRow> {
        (0..self.rows(Table::Person)).map(|row| self.person(row))
    }

    /// The half days, in the order of their ids: id, id of the programme, day since 2000-01-01, AM or PM.
    pub fn blocks(&self) -> impl Iterator<Item = (i64, i64, i32, &'static str)> {
        (0..self.rows(Table::Block)).map(|row| self.block(row))
    }

    /// The templates, in the order of their ids: id, id of the programme.
    pub fn templates(&self) -> impl Iterator<Item = (i64, i64)> {
        (0..self.rows(Table::RotationTemplate)).map(|row| (row as i64 + 1, (row / u64::from(self.shape.templates)) as i64 + 1))
    }

    /// What is planted, in the order of their numbers.
    pub fn planted(&self) -> impl Iterator<Item = PlantedCase> {
        truth::plants(self).map(|(plant, programme, planted)| {
            let (person, block, template) = truth::subject(self, programme, planted.about);
            PlantedCase {
                plant,
                case: planted.case,
                programme_id: programme as i64 + 1,
                person_id: person,
                block_id: block,
                rotation_template_id: template,
            }
        })
    }

    /// The schedule of a programme with cases, and how many rows it has.
    fn sheet(&self, programme: u64) -> Option<&(Sheet, Programme)> {
        self.sheets.get(usize::try_from(programme).ok()?)
    }

    fn person_id(&self, programme: u64, person: u32) -> i64 {
        (programme * u64::from(self.shape.people()) + u64::from(person) + 1) as i64
    }

    fn block_id(&self, programme: u64, block: u32) -> i64 {
        (programme * u64::from(self.shape.blocks()) + u64::from(block) + 1) as i64
    }

    fn template_id(&self, programme: u64, template: u32) -> i64 {
        (programme * u64::from(self.shape.templates) + u64::from(template) + 1) as i64
    }

    /// An hour of a day of the schedule, in minutes since 2000-01-01 00:00.
    fn minute(&self, day: u32, hour: u32) -> i64 {
        (i64::from(self.spec.starts_on()) + i64::from(day)) * DAY + i64::from(hour) * HOUR
    }

    fn random(&self, table: Table, n: u64) -> Random {
        Random::of(self.rng_seed as u64, table as u64, n)
    }

    fn programme_row(&self, row: u64, to: &mut Encoder) {
        let place = pick(&mut self.random(Table::Programme, row), &self.spec.words.places);
        to.bigint(row as i64 + 1).parts(&[Part::Text(place), Part::Text(" Residency "), Part::Number(row + 1)]);
    }

    fn person(&self, row: u64) -> PersonRow {
        let (programme, person) = (row / u64::from(self.shape.people()), (row % u64::from(self.shape.people())) as u32);
        let year = (person < self.shape.residents).then(|| self.shape.year(person));
        PersonRow { id: row as i64 + 1, programme_id: programme as i64 + 1, year }
    }

    fn person_row(&self, row: u64, to: &mut Encoder) {
        let person = self.person(row);
        let mut rng = self.random(Table::Person, row);
        to.bigint(person.id)
            .bigint(person.programme_id)
            .text(pick(&mut rng, &self.spec.words.given_names))
            .text(pick(&mut rng, &self.spec.words.family_names))
            .parts(&[Part::Text("person-"), Part::Number(person.id as u64), Part::Text("@example.org")]);
        match person.year {
            Some(year) => {
                to.text("resident").smallint(year).integer(48 + rng.below(9) as i32).boolean(year > 1 && rng.below(2) == 0)
            }
            None => to.text("faculty").null().null().boolean(rng.below(2) == 0),
        };
    }

    fn block(&self, row: u64) -> (i64, i64, i32, &'static str) {
        let (programme, block) = (row / u64::from(self.shape.blocks()), (row % u64::from(self.shape.blocks())) as u32);
        let half = if block.is_multiple_of(HALVES) { "AM" } else { "PM" };
        (row as i64 + 1, programme as i64 + 1, self.spec.starts_on() + (block / HALVES) as i32, half)
    }

    fn block_row(&self, row: u64, to: &mut Encoder) {
        let (id, programme, date, half) = self.block(row);
        let day = date - self.spec.starts_on();
        // The schedule begins on a Monday.
        to.bigint(id).bigint(programme).date(date).text(half).integer(day / 28).boolean(day % 7 >= 5);
    }

    fn template_row(&self, row: u64, to: &mut Encoder) {
        let (programme, template) = (row / u64::from(self.shape.templates), row % u64::from(self.shape.templates));
        let of = &self.spec.templates[template as usize % self.spec.templates.len()];
        let again = template / self.spec.templates.len() as u64;
        to.bigint(row as i64 + 1).bigint(programme as i64 + 1);
        for name in [&of.name, &of.abbreviation] {
            match again {
                0 => to.text(name),
                again => to.parts(&[Part::Text(name), Part::Text(" "), Part::Number(again + 1)]),
            };
        }
        to.text(&of.activity).integer(self.shape.max_residents as i32);
    }

    fn assignments(&self, rows: Range<u64>, to: &mut Encoder) {
        let (mut programme, nth) = self.assignments.locate(rows.start);
        let mut row = rows.start - nth;
        let pattern = Rota::new(self.shape);
        while row < rows.end {
            let (rota, of) = self.sheet(programme).map_or((&pattern, &self.pattern), |(sheet, of)| (&sheet.rota, of));
            // From the half day in which the first row is.
            let block = of.before.partition_point(|before| row + before <= rows.start).saturating_sub(1) as u32;
            let start = row;
            for block in block..self.shape.blocks() {
                row = start + of.before[block as usize];
                if row >= rows.end {
                    return;
                }
                let block_id = self.block_id(programme, block);
                let mut line = |person, template, role| {
                    if rows.contains(&row) {
                        to.row(Table::Assignment.columns().len())
                            .bigint(row as i64 + 1)
                            .bigint(block_id)
                            .bigint(self.person_id(programme, person))
                            .bigint(self.template_id(programme, template))
                            .text(role);
                    }
                    row += 1;
                };
                let mut present = (0, 0);
                for (resident, template) in rota.residents(block) {
                    match self.shape.year(resident) {
                        1 => present.0 += 1,
                        _ => present.1 += 1,
                    }
                    line(resident, template, "primary");
                }
                for nth in 0..rota.supervisors(block, present) {
                    let (person, template) = rota.supervisor(block, nth);
                    line(person, template, "supervising");
                }
            }
            row = start + of.rows();
            programme += 1;
        }
    }

    fn double_row(&self, row: u64, to: &mut Encoder) {
        let (programme, seat) = self.doubles[row as usize];
        let line = truth::double(self, row, programme, seat);
        to.bigint(line.id).bigint(line.block).bigint(line.person).bigint(line.template).text(line.role);
    }

    fn call_row(&self, row: u64, to: &mut Encoder) {
        let (programme, call) = &self.calls[row as usize];
        to.bigint(row as i64 + 1)
            .bigint(self.person_id(*programme, call.resident))
            .date(self.spec.starts_on() + call.day as i32)
            .text(call.kind);
        match self.call_hours(call) {
            Some((start, end)) => to.timestamp(start).timestamp(end),
            None => to.null().null(),
        };
    }

    /// Beginning and end, where the kind of the night does not say it: it ends at 07:00 as usual.
    fn call_hours(&self, call: &Call) -> Option<(i64, i64)> {
        call.from_hour.map(|hour| (self.minute(call.day, hour), self.minute(call.day + 1, 7)))
    }

    fn extra_row(&self, row: u64, to: &mut Encoder) {
        let (programme, extra) = &self.extras[row as usize];
        let start = self.minute(extra.day, extra.from_hour);
        to.bigint(row as i64 + 1)
            .bigint(self.person_id(*programme, extra.resident))
            .timestamp(start)
            .timestamp(start + i64::from(extra.hours) * HOUR)
            .text(extra.kind);
    }

    fn absences(&self, rows: Range<u64>, to: &mut Encoder) {
        let (mut programme, nth) = self.absences.locate(rows.start);
        let mut row = rows.start - nth;
        let pattern = Sheet::new(self.shape);
        while row < rows.end {
            let sheet = self.sheet(programme).map_or(&pattern, |(sheet, _)| sheet);
            let usual = (0..self.shape.people()).filter_map(|person| self.away(programme, sheet, person));
            for away in usual.chain(sheet.absences.iter().copied()) {
                if rows.contains(&row) {
                    to.row(Table::Absence.columns().len())
                        .bigint(row as i64 + 1)
                        .bigint(self.person_id(programme, away.person))
                        .date(self.spec.starts_on() + away.first)
                        .date(self.spec.starts_on() + away.last)
                        .text(away.kind);
                }
                row += 1;
            }
            programme += 1;
        }
    }

    /// When somebody is absent whom no case is about. What keeps from duty is on a day off; what does not is on days of duty too.
    fn away(&self, programme: u64, sheet: &Sheet, person: u32) -> Option<Away> {
        let (kind, days) = usually_away(&self.shape, sheet, person)?;
        let mut rng = self.random(Table::Absence, self.person_id(programme, person) as u64);
        let first = match days {
            Some(days) => rng.below(u64::from(self.shape.days - days) + 1) as i32,
            None => {
                let day_off = sheet.rota.day_off(person);
                (day_off + 7 * rng.below(u64::from((self.shape.days - day_off).div_ceil(7))) as u32) as i32
            }
        };
        Some(Away { person, kind, first, last: first + days.map_or(0, |days| days as i32 - 1) })
    }

    fn run_row(&self, row: u64, to: &mut Encoder) {
        let assignments = self.assignments.before(row + 1) - self.assignments.before(row);
        to.bigint(row as i64 + 1)
            .bigint(row as i64 + 1)
            .date(self.spec.starts_on())
            .date(self.spec.starts_on() + self.shape.days as i32 - 1)
            .text("weekly pattern")
            .text("success")
            .integer(assignments as i32);
    }
}

impl Programme {
    fn of(sheet: &Sheet) -> Self {
        let (rota, shape) = (&sheet.rota, &sheet.rota.shape);
        let mut before = vec![0];
        let mut sum = 0;
        before.extend((0..shape.blocks()).map(|block| {
            let present = rota.present(block);
            sum += u64::from(present.0 + present.1 + rota.supervisors(block, present));
            sum
        }));
        let usual = (0..shape.people()).filter(|person| usually_away(shape, sheet, *person).is_some());
        Self { before, absences: usual.count() as u64 + sheet.absences.len() as u64 }
    }

    /// Assignments.
    fn rows(&self) -> u64 {
        self.before[self.before.len() - 1]
    }
}

/// Who is absent whom no case is about: of which kind, and for how many days; `None`: for one of the days off.
fn usually_away(shape: &Shape, sheet: &Sheet, person: u32) -> Option<(&'static str, Option<u32>)> {
    match person.checked_sub(shape.residents) {
        Some(faculty) => (faculty % 5 == 2).then_some(("conference", Some(3))),
        None if sheet.is_about(person) => None,
        None => match person % 16 {
            1 | 5 | 9 | 13 => Some(("vacation", Some(5))),
            3 | 11 => Some(("conference", Some(2))),
            6 => Some(("family_emergency", None)),
            10 => Some(("bereavement", None)),
            // Not long enough to keep from duty.
            14 => Some(("sick", Some(2))),
            _ => None,
        },
    }
}

/// The rows that the cases of all programmes bring.
fn of_all<T: Copy>(sheets: &[(Sheet, Programme)], rows: impl Fn(&Sheet) -> &Vec<T>) -> Vec<(u64, T)> {
    let each = sheets.iter().zip(0..);
    each.flat_map(|((sheet, _), programme)| rows(sheet).iter().map(move |row| (programme, *row))).collect()
}

/// How large a programme with so many residents is.
fn shape(spec: &Spec, asked: &Asked, residents: u32) -> Shape {
    let share = |percent: u32| (residents * percent + 50) / 100;
    let [first, second, _] = spec.percent_by_year.map(share);
    let until_year = [first.min(residents), (first + second).min(residents)];
    Shape {
        residents,
        until_year,
        faculty: share(spec.faculty_percent).max(required(until_year[0], residents - until_year[0])).max(1),
        templates: residents.div_ceil(spec.residents_per_template).max(spec.templates.len() as u32),
        max_residents: spec.max_residents,
        days: asked.days,
        fill: asked.fill,
    }
}

/// The schedules with the cases in them, each in the first programme that has room for it; or the case that is one too many.
fn arrange(shape: Shape, plants: &[(&'static Case, u32)], programmes: u64) -> Result<Vec<Sheet>, &'static Case> {
    let turn = |case: &Case| match case.how {
        How::Resident { .. } => 0,
        How::Pair => 1,
        How::Crowd => 2,
        How::Supervisor => 3,
    };
    let mut in_turn = plants.to_vec();
    in_turn.sort_by_key(|(case, _)| turn(case));
    let mut sheets: Vec<Sheet> = Vec::new();
    for (case, count) in in_turn {
        // Where there was no room for one there is none for the next of the same.
        let mut full = 0;
        for _ in 0..count {
            match (full..sheets.len()).find(|at| sheets[*at].plant(case)) {
                Some(at) => full = at,
                None => {
                    let mut sheet = Sheet::new(shape);
                    if sheets.len() as u64 == programmes || !sheet.plant(case) {
                        return Err(case);
                    }
                    full = sheets.len();
                    sheets.push(sheet);
                }
            }
        }
    }
    Ok(sheets)
}

/// What would be enough for the cases.
fn too_few(spec: &Spec, asked: &Asked, scale: u64, case: &Case) -> Error {
    let cases: u64 = asked.plants.iter().map(|(_, count)| u64::from(*count)).sum();
    let s = |n: u64| if n == 1 { "" } else { "s" };
    let message = format!(
        "{scale} programme{} of {} residents {} too small for {cases} case{}: there is no room for another {}",
        s(scale),
        asked.residents,
        if scale == 1 { "is" } else { "are" },
        s(cases),
        case.name
    );
    let mut cures = Vec::new();
    if let Ok(sheets) = arrange(shape(spec, asked, asked.residents), &asked.plants, i32::MAX as u64) {
        cures.push(format!("--scale {}", sheets.len()));
    }
    let enough = |residents| arrange(shape(spec, asked, residents), &asked.plants, scale).is_ok();
    if enough(RESIDENTS_MAX) {
        let (mut too_few, mut enough_of_them) = (asked.residents, RESIDENTS_MAX);
        while enough_of_them - too_few > 1 {
            let between = too_few + (enough_of_them - too_few) / 2;
            if enough(between) { enough_of_them = between } else { too_few = between }
        }
        cures.push(format!("--residents {enough_of_them}"));
    }
    cures.push("fewer cases".into());
    Error::usage(message).cure(cures.join(", or "))
}

fn pick<'a>(rng: &mut Random, words: &'a [String]) -> &'a str {
    &words[rng.below(words.len() as u64) as usize]
}
