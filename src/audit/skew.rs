//! Which two transactions did together what neither did alone? Pure, from the lines that they wrote about themselves.

use serde::{Deserialize, Serialize};

/// A line of the ledger of schedules, for a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The operation, as `run.vu.n`.
    pub op: String,
    /// The virtual user.
    pub vu: i32,
    /// assign, cancel, call, swap or absorb.
    pub kind: String,
    /// Who, where and when.
    pub what: String,
    /// When its transaction began, microseconds of the server's clock.
    pub began: i64,
    /// When it wrote the line, the last that it did before COMMIT; microseconds of the server's clock.
    pub wrote: i64,
}

/// Two transactions that overlapped: the second had begun before the first had written, so that neither can have relied on the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skew {
    /// The one that wrote first.
    pub first: Line,
    /// The one that wrote next.
    pub second: Line,
}

/// The two among the winners of a round, of which there were more than room: those that were one too many first, if they overlapped; otherwise
/// any that did.
pub fn skewed(mut lines: Vec<Line>, room: usize) -> Option<Skew> {
    lines.sort_by_key(|line| line.wrote);
    let mut pairs: Vec<usize> = (1..lines.len()).filter(|at| lines[*at].began < lines[*at - 1].wrote).collect();
    pairs.sort_by_key(|at| (*at < room, *at));
    let second = *pairs.first()?;
    Some(Skew { second: lines[second].clone(), first: lines[second - 1].clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(vu: i32, began: i64, wrote: i64) -> Line {
        Line { op: format!("1.{vu}.0"), vu, kind: "assign".into(), what: String::new(), began, wrote }
    }

    fn pair(lines: &[(i64, i64)], room: usize) -> Option<(i32, i32)> {
        let lines = lines.iter().zip(0..).map(|((began, wrote), vu)| line(vu, *began, *wrote)).collect();
        skewed(lines, room).map(|skew| (skew.first.vu, skew.second.vu))
    }

    #[test]
    fn two_that_overlapped_are_shown_and_those_at_the_edge_of_the_room_first() {
        assert_eq!(pair(&[(10, 20), (11, 21), (12, 22), (13, 23)], 2), Some((1, 2)));
        assert_eq!(pair(&[(12, 22), (10, 20)], 1), Some((1, 0)), "in the order in which they wrote");
    }

    #[test]
    fn one_that_began_when_the_other_had_written_is_no_skew() {
        assert_eq!(pair(&[(10, 20), (20, 30)], 1), None);
        assert_eq!(pair(&[(10, 20), (15, 25), (30, 40)], 2), Some((0, 1)), "the only ones that overlapped");
        assert_eq!(pair(&[], 1), None);
    }
}
