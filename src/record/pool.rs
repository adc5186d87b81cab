//! What is kept of a pool: how much of it was used, who waited, and whether every connection came back.

use serde::{Deserialize, Serialize};

use crate::pg::pool::Books;
use crate::threshold::Usage;

/// What a pool of connections did in a turn. Counts include the warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Connections at most.
    pub size: u32,
    /// What was lent, given back, waited for in vain.
    #[serde(flatten)]
    pub books: Books,
    /// Share of their time for which the connections were lent, 0 to 1: measured for each loan, not sampled.
    pub utilisation: f64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that should have been taken and were not.
    pub missed: u64,
    /// Second by second.
    pub seconds: Vec<PoolSecond>,
}

/// A second of a pool, from its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolSecond {
    /// Its end, seconds since the load began.
    pub second: f64,
    /// Connections lent, on average.
    pub in_use: f64,
    /// Most that waited at once.
    pub most_waiting: u64,
    /// Most connections that were open.
    pub open: u64,
}

impl PoolRecord {
    /// How much of it was used: from the books, which miss nothing.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn usage(&self) -> Result<Usage, String> {
        if self.size == 0 || self.books.checkouts == 0 {
            return Err("nobody asked the pool for a connection".into());
        }
        let maximum = self.books.most_in_use as f64 / f64::from(self.size);
        Ok(Usage { average: self.utilisation, maximum, samples: self.books.checkouts })
    }

    /// Ends a second, of which `seen` samples were summed up, and begins the next.
    pub(crate) fn close(&mut self, second: &mut PoolSecond, seen: &mut u32) {
        let next = second.second + 1.0;
        if *seen > 0 {
            self.seconds.push(PoolSecond { second: next, in_use: second.in_use / f64::from(*seen), ..*second });
        }
        *second = PoolSecond { second: next, ..PoolSecond::default() };
        *seen = 0;
    }
}

/// How much of something that is limited is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// Less than 70 %.
    Normal,
    /// Less than 90 %.
    High,
    /// 90 % or more: whoever comes next waits.
    Saturated,
}

impl Band {
    /// Of a share, 0 to 1.
    pub fn of(share: f64) -> Self {
        match share {
            share if share < 0.7 => Self::Normal,
            share if share < 0.9 => Self::High,
            _ => Self::Saturated,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
            Self::Saturated => "saturated",
        }
    }
}
