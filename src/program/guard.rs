//! How many rows must a statement meet, and what does it mean if it does not?

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A condition on the number of rows that a statement returned or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// How many rows.
    pub rows: Rows,
    /// What follows from it.
    pub or: Else,
}

/// A number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// `2 rows`.
    Exactly(u64),
    /// `at least 1 row`.
    AtLeast(u64),
    /// `at most 3 rows`.
    AtMost(u64),
}

/// What follows from a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Else {
    /// `expect`: with any other number of rows the iteration aborts, its expectation has failed.
    Abort,
    /// `refused`: with this number of rows a business rule said no.
    Refuse,
}

impl Guard {
    /// Whether what follows from it follows from this number of rows.
    pub fn fires(self, rows: u64) -> bool {
        match self.or {
            Else::Abort => !self.rows.meets(rows),
            Else::Refuse => self.rows.meets(rows),
        }
    }

    /// Whether it fires without rows only: nothing has been done then that would have to be taken back.
    pub fn fires_without_rows_only(self) -> bool {
        match self.or {
            Else::Abort => matches!(self.rows, Rows::AtLeast(0 | 1)),
            Else::Refuse => matches!(self.rows, Rows::Exactly(0) | Rows::AtMost(0)),
        }
    }
}

impl Rows {
    /// Whether this is such a number.
    pub fn meets(self, rows: u64) -> bool {
        match self {
            Self::Exactly(n) => rows == n,
            Self::AtLeast(n) => rows >= n,
            Self::AtMost(n) => rows <= n,
        }
    }
}

impl FromStr for Rows {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (made, number, unit): (fn(u64) -> Self, _, _) = match words[..] {
            [number, unit] => (Self::Exactly, number, unit),
            ["at", "least", number, unit] => (Self::AtLeast, number, unit),
            ["at", "most", number, unit] => (Self::AtMost, number, unit),
            _ => (Self::Exactly, "", ""),
        };
        match number.parse() {
            Ok(n) if matches!(unit, "row" | "rows") => Ok(made(n)),
            _ => Err(Error::usage(format!("`{text}` is no number of rows"))
                .cure("write it as in \"1 row\", \"0 rows\", \"at least 1 row\", \"at most 3 rows\"")),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, n) = match self {
            Self::Exactly(n) => ("", n),
            Self::AtLeast(n) => ("at least ", n),
            Self::AtMost(n) => ("at most ", n),
        };
        write!(f, "{words}{n} row{}", if *n == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_fires_when_it_is_not_met_a_refusal_when_it_is() {
        let guard = |or| Guard { rows: Rows::Exactly(1), or };
        assert_eq!([0, 1].map(|rows| guard(Else::Abort).fires(rows)), [true, false]);
        assert_eq!([0, 1].map(|rows| guard(Else::Refuse).fires(rows)), [false, true]);
    }

    #[test]
    fn what_fires_with_rows_is_told_apart() {
        let rows = [0, 1, 2].into_iter().flat_map(|n| [Rows::Exactly(n), Rows::AtLeast(n), Rows::AtMost(n)]);
        for guard in rows.flat_map(|rows| [Guard { rows, or: Else::Abort }, Guard { rows, or: Else::Refuse }]) {
            let fires_with_rows = (1..5).any(|rows| guard.fires(rows));
            assert_eq!(guard.fires_without_rows_only(), !fires_with_rows, "{guard:?}");
        }
    }

    #[test]
    fn numbers_of_rows_are_read_and_written() {
        for (text, rows, yes, no) in [
            ("1 row", Rows::Exactly(1), vec![1], vec![0, 2]),
            ("0 rows", Rows::Exactly(0), vec![0], vec![1]),
            ("at least 2 rows", Rows::AtLeast(2), vec![2, 3], vec![0, 1]),
            ("at most 3 rows", Rows::AtMost(3), vec![0, 3], vec![4]),
        ] {
            let read: Rows = text.parse().unwrap();
            assert_eq!((read, read.to_string()), (rows, text.to_owned()));
            assert!(yes.into_iter().all(|n| rows.meets(n)) && !no.into_iter().any(|n| rows.meets(n)), "{text}");
        }
        for wrong in ["", "row", "one row", "-1 rows", "1 line", "at least row", "more than 1 row"] {
            assert!(wrong.parse::<Rows>().unwrap_err().to_string().contains("at most 3 rows"), "{wrong}");
        }
    }
}
