//! Who is where in which half day of a programme? A pattern that breaks no rule, and what differs from it.
//!
//! Resident i is off on day i mod 7 of the week, else there in both halves, always at template i mod the number of templates. Of the faculty,
//! exactly as many as are required supervise, in rotation. Everything counts from 0.

use std::collections::{BTreeMap, BTreeSet};

/// Half days of a day.
pub const HALVES: u32 = 2;

/// How much of the pattern is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fill {
    /// All of it.
    #[default]
    Full,
    /// Every tenth half day of every resident.
    Sparse,
    /// People, half days and templates, but nobody is assigned.
    Empty,
}

impl Fill {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sparse => "sparse",
            Self::Empty => "empty",
        }
    }
}

/// How large a programme is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Residents: those of the first year first, then the second, then the third.
    pub residents: u32,
    /// Residents of the first year, and of the first two.
    pub until_year: [u32; 2],
    /// Faculty; enough for a half day on which every resident is there.
    pub faculty: u32,
    /// Templates.
    pub templates: u32,
    /// Room of a template in a half day.
    pub max_residents: u32,
    /// Days.
    pub days: u32,
    /// How much of it is there.
    pub fill: Fill,
}

impl Shape {
    /// The post-graduate year of a resident, from 1.
    pub fn year(&self, resident: u32) -> i16 {
        match self.until_year {
            [first, _] if resident < first => 1,
            [_, second] if resident < second => 2,
            _ => 3,
        }
    }

    /// Half days.
    pub fn blocks(&self) -> u32 {
        self.days * HALVES
    }

    /// Residents and faculty.
    pub fn people(&self) -> u32 {
        self.residents + self.faculty
    }
}

/// Faculty required by so many residents of the first year and so many others: one for two and one for four, each rounded up.
pub fn required(first: u32, others: u32) -> u32 {
    first.div_ceil(2) + others.div_ceil(4)
}

/// The same where the needs are added up before they are rounded.
pub fn required_in_units(first: u32, others: u32) -> u32 {
    (2 * first + others).div_ceil(4)
}

/// The schedule of one programme.
#[derive(Debug, Clone)]
pub struct Rota {
    /// How large it is.
    pub shape: Shape,
    /// The day of the week off of residents who have another one than the pattern says.
    pub off: BTreeMap<u32, u32>,
    /// Half days and residents that differ: the template, or `None`: not there.
    pub cells: BTreeMap<(u32, u32), Option<u32>>,
    /// Half days that lack one of the faculty they require.
    pub short: BTreeSet<u32>,
}

impl Rota {
    /// The pattern.
    pub fn new(shape: Shape) -> Self {
        Self { shape, off: BTreeMap::new(), cells: BTreeMap::new(), short: BTreeSet::new() }
    }

    /// The day of the week on which a resident is off.
    pub fn day_off(&self, resident: u32) -> u32 {
        self.off.get(&resident).copied().unwrap_or(resident % 7)
    }

    /// What a resident usually does.
    pub fn usual(&self, resident: u32) -> u32 {
        resident % self.shape.templates
    }

    /// What a resident does in a half day, if there.
    pub fn template(&self, block: u32, resident: u32) -> Option<u32> {
        if let Some(cell) = self.cells.get(&(block, resident)) {
            return *cell;
        }
        let there = match self.shape.fill {
            Fill::Full => true,
            Fill::Sparse => (block + resident).is_multiple_of(10),
            Fill::Empty => false,
        };
        (there && block / HALVES % 7 != self.day_off(resident)).then(|| self.usual(resident))
    }

    /// Who of the residents is there, and what they do.
    pub fn residents(&self, block: u32) -> impl Iterator<Item = (u32, u32)> {
        (0..self.shape.residents).filter_map(move |resident| Some((resident, self.template(block, resident)?)))
    }

    /// Residents of the first year that are there, and others.
    pub fn present(&self, block: u32) -> (u32, u32) {
        self.residents(block).fold((0, 0), |(first, others), (resident, _)| match self.shape.year(resident) {
            1 => (first + 1, others),
            _ => (first, others + 1),
        })
    }

    /// How many of the faculty supervise where so many residents are.
    pub fn supervisors(&self, block: u32, (first, others): (u32, u32)) -> u32 {
        required(first, others) - u32::from(self.short.contains(&block))
    }

    /// Who of the faculty is the `nth` to supervise in a half day, as a number among all people; and the template.
    pub fn supervisor(&self, block: u32, nth: u32) -> (u32, u32) {
        // A step of nine: whoever was left out on a day is there on the next.
        let faculty = (block / HALVES * 9 + nth) % self.shape.faculty;
        (self.shape.residents + faculty, faculty % self.shape.templates)
    }
}
