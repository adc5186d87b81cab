//! How does a case get into a programme's schedule, and which rows make it? Whoever one case is about is in no other.

use std::collections::BTreeSet;

use super::cases::{Case, How};
use super::rota::{HALVES, Rota, Shape, required, required_in_units};

/// Days of the cases: whatever the length of the schedule, they are in its first days.
pub const DAYS: u32 = 28;

/// The day of the week off of those whom cases are about: the last. Their half days of that day may lack everybody else.
const DAY_OFF: u32 = 6;

/// The last days of the week on which nobody is there whom a case is about, so that nearly all may be sent home from their half days.
const PAIR_DAYS: [u32; 2] = [13, 27];

/// A day on which assignments make cases and so may go: its half days must not be at the edge of another rule.
const MARKED_DAY: u32 = 9;

/// The schedule of a programme with cases in it. Days, half days, residents and templates are numbered from 0.
#[derive(Debug)]
pub struct Sheet {
    /// Who is where.
    pub rota: Rota,
    /// The cases, in the order in which they were planted.
    pub plants: Vec<Plant>,
    /// Nights.
    pub calls: Vec<Call>,
    /// Duty beside half days and nights.
    pub extras: Vec<Extra>,
    /// Absences of those whom cases are about.
    pub absences: Vec<Away>,
    /// Assignments that are there a second time.
    pub doubles: Vec<Seat>,
    /// Assignments that make a case.
    pub marked: Vec<Seat>,
    taken: BTreeSet<u32>,
    /// Half days that a case is about.
    used: BTreeSet<u32>,
}

/// A case in a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Plant {
    /// Which.
    pub case: &'static Case,
    /// About whom or what.
    pub about: About,
}

/// About whom or what a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A resident.
    Resident(u32),
    /// A half day.
    Block(u32),
    /// A half day and a template.
    Place(u32, u32),
}

/// An assignment that belongs to a case.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// The case: its place in [`Sheet::plants`].
    pub plant: usize,
    /// The half day.
    pub block: u32,
    /// Who.
    pub resident: u32,
}

/// A night.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The case: its place in [`Sheet::plants`].
    pub plant: usize,
    /// Who.
    pub resident: u32,
    /// On which its night begins.
    pub day: u32,
    /// overnight or night-float.
    pub kind: &'static str,
    /// The hour at which it begins, if not the usual one.
    pub from_hour: Option<u32>,
}

/// Duty beside half days and nights.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Extra {
    /// The case: its place in [`Sheet::plants`].
    pub plant: usize,
    pub resident: u32,
    pub kind: &'static str,
    pub day: u32,
    pub from_hour: u32,
    pub hours: u32,
}

/// Days of absence.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Away {
    /// A number among all people of the programme.
    pub person: u32,
    pub kind: &'static str,
    pub first: i32,
    pub last: i32,
}

impl Sheet {
    /// The pattern, without a case.
    pub fn new(shape: Shape) -> Self {
        Self {
            rota: Rota::new(shape),
            plants: Vec::new(),
            calls: Vec::new(),
            extras: Vec::new(),
            absences: Vec::new(),
            doubles: Vec::new(),
            marked: Vec::new(),
            taken: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }

    /// Plants a case, if there is still room for it. Those about half days come after those about residents, supervision last: each rests on
    /// who is there.
    pub fn plant(&mut self, case: &'static Case) -> bool {
        let plant = self.plants.len();
        let about = match case.how {
            How::Resident { of_first_year, draw } => self.free(of_first_year, |_| true).map(|resident| {
                self.taken.insert(resident);
                self.rota.off.insert(resident, DAY_OFF);
                draw(&mut Pen { sheet: self, plant, resident });
                About::Resident(resident)
            }),
            How::Pair => self.pair().map(About::Block),
            How::Crowd => self.crowd(plant).map(|(block, template)| About::Place(block, template)),
            How::Supervisor => self.supervisor().map(About::Block),
        };
        if let Some(about) = about {
            self.plants.push(Plant { case, about });
        }
        about.is_some()
    }

    /// Whether a resident's absences are those of a case.
    pub fn is_about(&self, resident: u32) -> bool {
        self.rota.off.contains_key(&resident)
    }

    /// The cases that are about one of the faculty who is missing in a half day: their places in [`Sheet::plants`], and the half days.
    pub fn missing(&self) -> impl Iterator<Item = (usize, u32)> {
        self.plants.iter().enumerate().filter_map(|(n, plant)| match plant.about {
            About::Block(block) => Some((n, block)),
            About::Resident(_) | About::Place(..) => None,
        })
    }

    /// The first resident of the first year, or of a later one, whom no case is about.
    fn free(&self, of_first_year: bool, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let shape = &self.rota.shape;
        let candidates = if of_first_year { 0..shape.until_year[0] } else { shape.until_year[0]..shape.residents };
        candidates.into_iter().find(|resident| !self.taken.contains(resident) && fits(*resident))
    }

    /// Sends all but two residents home from a half day, and takes away one of the faculty that these two require.
    fn pair(&mut self) -> Option<u32> {
        let block = PAIR_DAYS.into_iter().flat_map(halves).find(|block| !self.used.contains(block))?;
        let there = |resident| self.rota.template(block, resident).is_some();
        let pair = [self.free(true, there)?, self.free(false, there)?];
        self.taken.extend(pair);
        self.used.insert(block);
        for resident in 0..self.rota.shape.residents {
            if !pair.contains(&resident) {
                self.rota.cells.insert((block, resident), None);
            }
        }
        self.rota.short.insert(block);
        Some(block)
    }

    /// Half days that a case may be about whose finding must stay whatever becomes of the others.
    fn quiet_blocks() -> impl DoubleEndedIterator<Item = u32> {
        (0..DAYS).filter(|day| day % 7 != DAY_OFF && *day != MARKED_DAY).flat_map(halves)
    }

    /// Sends residents to one template until there is one more than it has room for.
    fn crowd(&mut self, plant: usize) -> Option<(u32, u32)> {
        let shape = self.rota.shape;
        let block = Self::quiet_blocks().rev().find(|block| !self.used.contains(block))?;
        let template = block % shape.templates;
        let (there, elsewhere): (Vec<_>, Vec<_>) = self.rota.residents(block).partition(|(_, does)| *does == template);
        let wanted = (shape.max_residents as usize + 1).checked_sub(there.len())?;
        let mut sent: Vec<u32> = elsewhere.into_iter().map(|(resident, _)| resident).filter(|r| !self.taken.contains(r)).collect();
        // The last come first: those of the first years are needed elsewhere.
        sent.reverse();
        sent.truncate(wanted);
        let (ninth, enough) = (*sent.first()?, sent.len() == wanted);
        if !enough {
            return None;
        }
        self.rota.cells.extend(sent.iter().map(|resident| ((block, *resident), Some(template))));
        self.marked.push(Seat { plant, block, resident: ninth });
        self.taken.insert(ninth);
        self.used.insert(block);
        Some((block, template))
    }

    /// Takes one of the faculty away from a half day that requires the same number by every formula.
    fn supervisor(&mut self) -> Option<u32> {
        let same = |block: &u32| {
            let (first, others) = self.rota.present(*block);
            required(first, others) == required_in_units(first, others)
        };
        let block = Self::quiet_blocks().filter(|block| !self.used.contains(block)).find(same)?;
        self.used.insert(block);
        self.rota.short.insert(block);
        Some(block)
    }
}

fn halves(day: u32) -> impl DoubleEndedIterator<Item = u32> {
    day * HALVES..(day + 1) * HALVES
}

/// Draws a case into the schedule of the resident whom it is about. What is drawn makes the case, and goes when it is mended; who is sent home or
/// is absent stays so.
pub struct Pen<'a> {
    sheet: &'a mut Sheet,
    plant: usize,
    resident: u32,
}

impl Pen<'_> {
    /// Not there on a day.
    pub fn off(&mut self, day: u32) {
        for half in 0..HALVES {
            self.off_half(day, half);
        }
    }

    /// Not there in the morning (0) or the afternoon (1) of a day.
    pub fn off_half(&mut self, day: u32, half: u32) {
        self.sheet.rota.cells.insert((day * HALVES + half, self.resident), None);
    }

    /// There in both halves of a day off.
    pub fn works(&mut self, day: u32) {
        for block in halves(day) {
            self.sits(block);
        }
    }

    /// There in a half day, which makes the case.
    fn sits(&mut self, block: u32) {
        let usual = self.sheet.rota.usual(self.resident);
        self.sheet.rota.cells.insert((block, self.resident), Some(usual));
        self.sheet.marked.push(Seat { plant: self.plant, block, resident: self.resident });
    }

    /// On overnight call on these days.
    pub fn calls(&mut self, days: &[u32]) {
        for day in days {
            self.night(*day, "overnight", None);
        }
    }

    /// On overnight call on these days, without work on any of them or the day after.
    pub fn calls_alone(&mut self, days: &[u32]) {
        self.calls(days);
        for day in days {
            self.off(*day);
            self.off(day + 1);
        }
    }

    /// On overnight call from an earlier hour than usual.
    pub fn call_from(&mut self, day: u32, hour: u32) {
        self.night(day, "overnight", Some(hour));
    }

    /// On night float.
    pub fn night_float(&mut self, day: u32) {
        self.night(day, "night-float", None);
    }

    fn night(&mut self, day: u32, kind: &'static str, from_hour: Option<u32>) {
        self.sheet.calls.push(Call { plant: self.plant, resident: self.resident, day, kind, from_hour });
    }

    /// Other duty, from an hour of a day.
    pub fn extra(&mut self, kind: &'static str, day: u32, from_hour: u32, hours: u32) {
        self.sheet.extras.push(Extra { plant: self.plant, resident: self.resident, kind, day, from_hour, hours });
    }

    /// Absent from the first to the last of these days, and not at work but for the morning of one of them.
    pub fn away(&mut self, kind: &'static str, first: u32, last: u32, but: u32) {
        self.sheet.absences.push(Away { person: self.resident, kind, first: first as i32, last: last as i32 });
        for day in first..=last {
            self.off(day);
        }
        self.sits(but * HALVES);
    }

    /// There twice in a half day.
    pub fn twice(&mut self, day: u32, half: u32) {
        let seat = Seat { plant: self.plant, block: day * HALVES + half, resident: self.resident };
        self.sheet.doubles.push(seat);
    }
}
