//! What is reckoned of how often something was done: `before + committed(book) - 2 * committed(cancel)`?

use std::fmt;

use crate::{Error, Result};

/// Whole numbers, added and taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    text: String,
    terms: Vec<(i64, Term)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    One,
    Before,
    Committed(Counted),
}

/// Requests that are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The operation.
    pub operation: String,
    /// The request of it, by its name; without a name the last.
    pub call: Option<String>,
}

/// From the least to the most that a number can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// If nothing of what is unknown was done that adds, and all that takes away.
    pub least: f64,
    /// The other way round.
    pub most: f64,
}

impl Sum {
    /// Reads it.
    ///
    /// # Errors
    /// Usage, with the part that means nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |part: &str| {
            let said =
                if part.is_empty() { format!("`{text}`: a number is missing") } else { format!("`{text}`: `{part}` is no number") };
            Error::usage(said).cure("whole numbers, before, committed(OPERATION) or committed(OPERATION.STEP), with + and - between and 2 * before them")
        };
        let mut terms = Vec::new();
        let mut rest = text.trim();
        let mut sign = 1;
        if let Some(after) = rest.strip_prefix('-') {
            (sign, rest) = (-1, after);
        }
        loop {
            // A name may have a hyphen in it; inside brackets nothing is taken away.
            let mut depth = 0;
            let end = rest.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0 && matches!(c, '+' | '-')
            });
            let part = rest[..end.unwrap_or(rest.len())].trim();
            let (factor, term) = match part.split_once('*') {
                Some((factor, term)) => (factor.trim().parse().map_err(|_| wrong(factor.trim()))?, term.trim()),
                None => (1, part),
            };
            let inside = term.strip_prefix("committed(").and_then(|rest| rest.strip_suffix(')')).map(str::trim);
            terms.push(match (term, inside) {
                ("before", _) => (sign * factor, Term::Before),
                (_, Some(name)) if !name.is_empty() => {
                    let (operation, call) =
                        name.split_once('.').map_or((name, None), |(operation, call)| (operation, Some(call.to_owned())));
                    (sign * factor, Term::Committed(Counted { operation: operation.to_owned(), call }))
                }
                _ => (sign * factor * term.parse::<i64>().map_err(|_| wrong(term))?, Term::One),
            });
            let Some(end) = end else { break };
            sign = if rest[end..].starts_with('-') { -1 } else { 1 };
            rest = &rest[end + 1..];
        }
        Ok(Self { text: text.trim().to_owned(), terms })
    }

    /// What it counts.
    pub fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.terms.iter().filter_map(|(_, term)| if let Term::Committed(counted) = term { Some(counted) } else { None })
    }

    /// Whether it asks for what was there before the load.
    pub fn asks_before(&self) -> bool {
        self.terms.iter().any(|(_, term)| *term == Term::Before)
    }

    /// Its value, at both ends of what is known: `count` says how often something was certainly done, and how often perhaps.
    pub fn evaluate(&self, before: f64, mut count: impl FnMut(&Counted) -> (u64, u64)) -> Range {
        let mut range = Range { least: 0.0, most: 0.0 };
        for (factor, term) in &self.terms {
            let factor = *factor as f64;
            let (least, most) = match term {
                Term::One => (1.0, 1.0),
                Term::Before => (before, before),
                Term::Committed(counted) => {
                    let (certainly, perhaps) = count(counted);
                    (certainly as f64, (certainly + perhaps) as f64)
                }
            };
            let (low, high) = if factor < 0.0 { (factor * most, factor * least) } else { (factor * least, factor * most) };
            range.least += low;
            range.most += high;
        }
        range
    }
}

/// As it was written.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `5`, or `5 to 7`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most { write!(f, "{}", self.least) } else { write!(f, "{} to {}", self.least, self.most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_told_at_both_ends() {
        let sum = Sum::parse("before + 2 * committed(book) - committed(cancel-it.give-back) + 10 - 3").unwrap();
        let counted: Vec<_> = sum.counted().map(|c| (c.operation.as_str(), c.call.as_deref())).collect();
        assert_eq!(counted, [("book", None), ("cancel-it", Some("give-back"))]);
        let count = |c: &Counted| if c.operation == "book" { (5, 1) } else { (2, 3) };
        let range = sum.evaluate(100.0, count);
        assert_eq!((range.least, range.most), (100.0 + 10.0 - 5.0 + 7.0, 100.0 + 12.0 - 2.0 + 7.0));
        assert_eq!(range.to_string(), "112 to 117");
        assert!(sum.asks_before() && !Sum::parse("committed(book)").unwrap().asks_before());
        let exact = Sum::parse("-3 + committed(x)").unwrap().evaluate(0.0, |_| (4, 0));
        assert_eq!(exact.to_string(), "1");
    }

    #[test]
    fn what_is_no_sum_is_told() {
        for text in ["", "commited(book)", "committed()", "committed(book", "5 +", "x * 3", "1.5"] {
            let said = Sum::parse(text).unwrap_err().to_string();
            assert!(said.contains("is no number") || said.contains("is missing"), "{text}: {said}");
        }
    }
}
