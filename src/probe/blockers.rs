//! Who stood in the way most often, and which deadlocks were seen forming? Added up over the samples, in bounded memory. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::chains::{Chain, Graph, Member};
use super::series::{OTHER, rounded};

/// Statements, sessions of one, and rows of one that are told apart.
const MOST_APART: usize = 100;
/// Blockers and chains that are kept in the end.
const KEPT: usize = 8;
/// Deadlocks that are kept; all are counted.
const DEADLOCKS_KEPT: usize = 20;

/// A statement whose sessions others waited behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Blocker {
    /// What those sessions had sent last.
    pub statement: String,
    /// What they were doing, most often.
    pub state: String,
    /// The session that it was most often.
    pub session: String,
    /// Different sessions that it was.
    pub sessions: u64,
    /// Samples in which it was one of them.
    pub samples: u64,
    /// Sessions waiting behind one of them, mean of the samples.
    pub behind: f64,
    /// The most at once.
    pub most_behind: u64,
    /// The row that was waited for, `authorisation 1234`, if it was the same at least every other time that its name was found; otherwise
    /// the table; empty if it was no row.
    pub row: String,
    /// Different rows whose names were found. Names are not looked for in every sample.
    pub rows: u64,
}

/// Sessions that waited for each other in a circle. The server ends one of them after its `deadlock_timeout`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Deadlock {
    /// When it was first seen, seconds since the load began.
    pub second: f64,
    /// In how many samples.
    pub samples: u64,
    /// Each waits for the next, and the last for the first.
    pub members: Vec<Member>,
}

/// The sample with the most sessions waiting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// When, seconds since the load began.
    pub second: f64,
    /// Sessions that waited.
    pub waiting: u64,
    /// Behind whom.
    pub chains: Vec<Chain>,
}

/// All samples so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    by_statement: BTreeMap<String, Tallied>,
    worst: Worst,
    deadlocks: Vec<Deadlock>,
    seen: u64,
    /// The circles of the last sample by their processes, and which of `deadlocks` they are.
    current: BTreeMap<BTreeSet<i32>, usize>,
}

#[derive(Debug, Clone, Default)]
struct Tallied {
    samples: u64,
    roots: u64,
    behind: u64,
    most: u64,
    sessions: BTreeMap<String, u64>,
    states: BTreeMap<String, u64>,
    rows: BTreeMap<String, u64>,
    tables: BTreeMap<String, u64>,
}

impl Tally {
    /// Takes one sample in; `name` says what the row is that those behind a blocker want, if it is known better than by its place.
    pub fn take(&mut self, second: f64, graph: &Graph, name: impl Fn(i32) -> Option<String>) {
        let chains = graph.chains();
        let mut counted = BTreeSet::new();
        for (root, behind) in chains.iter().filter_map(|chain| Some((chain.way.first()?, chain.behind))) {
            let known = self.by_statement.len() < MOST_APART || self.by_statement.contains_key(&root.statement);
            let statement = if known { &*root.statement } else { OTHER };
            let tallied = self.by_statement.entry(statement.to_owned()).or_default();
            tallied.samples += u64::from(counted.insert(statement));
            tallied.roots += 1;
            tallied.behind += behind;
            tallied.most = tallied.most.max(behind);
            count(&mut tallied.sessions, &root.session);
            count(&mut tallied.states, &root.state);
            if let Some(row) = graph.row_behind(root.pid) {
                count(&mut tallied.tables, row.table());
                name(root.pid).into_iter().for_each(|name| count(&mut tallied.rows, &name));
            }
        }
        let waiting = graph.waiting() as u64;
        if waiting > self.worst.waiting {
            self.worst = Worst { second: rounded(second), waiting, chains: chains.into_iter().take(KEPT).collect() };
        }
        let before = std::mem::take(&mut self.current);
        for members in graph.cycles() {
            let who: BTreeSet<i32> = members.iter().map(|m| m.pid).collect();
            let known = before.get(&who).copied();
            let at = known.unwrap_or(self.deadlocks.len());
            self.seen += u64::from(known.is_none());
            match self.deadlocks.get_mut(at) {
                Some(deadlock) => deadlock.samples += 1,
                None if at < DEADLOCKS_KEPT => {
                    self.deadlocks.push(Deadlock { second: rounded(second), samples: 1, members });
                }
                None => {}
            }
            self.current.insert(who, at);
        }
    }

    /// Those that stood in the way most often, the most waited-for first.
    pub fn blockers(&self) -> Vec<Blocker> {
        let mut all: Vec<(&String, &Tallied)> = self.by_statement.iter().collect();
        all.sort_by_key(|(_, t)| std::cmp::Reverse((t.behind, t.samples)));
        let blocker = |(statement, t): (&String, &Tallied)| {
            let (row, times) = most(&t.rows);
            let is_hot = times > 0 && times * 2 >= t.rows.values().sum();
            Blocker {
                statement: statement.clone(),
                state: most(&t.states).0,
                session: most(&t.sessions).0,
                sessions: t.sessions.len() as u64,
                samples: t.samples,
                behind: rounded(t.behind as f64 / t.roots.max(1) as f64),
                most_behind: t.most,
                row: if is_hot { row } else { most(&t.tables).0 },
                rows: t.rows.len() as u64,
            }
        };
        all.into_iter().take(KEPT).map(blocker).collect()
    }

    /// The sample with the most sessions waiting.
    pub fn worst(&self) -> &Worst {
        &self.worst
    }

    /// The first deadlocks that were seen, and how many there were.
    pub fn deadlocks(&self) -> (&[Deadlock], u64) {
        (&self.deadlocks, self.seen)
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str) {
    let key = if map.len() < MOST_APART || map.contains_key(key) { key } else { OTHER };
    *map.entry(key.to_owned()).or_default() += 1;
}

/// The most frequent, and how often it was.
fn most(map: &BTreeMap<String, u64>) -> (String, u64) {
    map.iter().max_by_key(|(_, n)| **n).map(|(key, n)| (key.clone(), *n)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::chains::tests::{hot_row, lock};
    use super::*;

    #[test]
    fn who_stood_in_the_way_is_added_up_by_statement() {
        let mut tally = Tally::default();
        let graph = Graph::of(&hot_row());
        tally.take(0.1, &graph, |pid| (pid == 1).then(|| "authorisation 77".into()));
        tally.take(0.2, &graph, |_| Some("authorisation 77".into()));
        tally.take(0.3, &graph, |_| None);
        tally.take(0.4, &Graph::of(&[]), |_| None);
        let blockers = tally.blockers();
        assert_eq!(blockers.len(), 1);
        let one = &blockers[0];
        assert_eq!((&*one.statement, &*one.session, one.sessions), ("statement of 1", "dbstress/run1/vu1", 1));
        assert_eq!((one.samples, one.behind, one.most_behind), (3, 4.0, 4));
        assert_eq!((&*one.row, one.rows), ("authorisation 77", 1), "as far as its name was found");
        assert_eq!((tally.worst().second, tally.worst().waiting, tally.worst().chains.len()), (0.1, 4, 1));
        assert_eq!(tally.deadlocks(), (&[][..], 0));
    }

    #[test]
    fn of_many_rows_none_is_the_row() {
        let mut tally = Tally::default();
        for n in 0..3 {
            tally.take(0.1, &Graph::of(&hot_row()), |_| Some(format!("authorisation {n}")));
        }
        let blocker = &tally.blockers()[0];
        assert_eq!((&*blocker.row, blocker.rows), ("authorisation", 3));
    }

    #[test]
    fn a_circle_is_one_deadlock_as_long_as_it_is_there() {
        let circle = Graph::of(&[
            lock(1, "transactionid/1", "Exclusive", None),
            lock(2, "transactionid/2", "Exclusive", None),
            lock(1, "transactionid/2", "Share", Some(10.0)),
            lock(2, "transactionid/1", "Share", Some(20.0)),
        ]);
        let mut tally = Tally::default();
        for (second, graph) in [(0.1, &circle), (0.2, &circle), (0.3, &Graph::default()), (0.4, &circle)] {
            tally.take(second, graph, |_| None);
        }
        let (deadlocks, seen) = tally.deadlocks();
        assert_eq!(deadlocks.iter().map(|d| (d.second, d.samples)).collect::<Vec<_>>(), [(0.1, 2), (0.4, 1)]);
        assert_eq!((seen, &*deadlocks[0].members[1].statement), (2, "statement of 2"));
    }

    #[test]
    fn many_statements_and_deadlocks_take_no_more_room() {
        let mut tally = Tally::default();
        for n in 0..300 {
            let (one, two) = (2 * n + 1, 2 * n + 2);
            let object = |pid: i32| format!("transactionid/{pid}");
            let graph = Graph::of(&[
                lock(one, &object(one), "Exclusive", None),
                lock(two, &object(two), "Exclusive", None),
                lock(one, &object(two), "Share", Some(1.0)),
                lock(two, &object(one), "Share", Some(1.0)),
                lock(10_000 + n, &object(10_000 + n), "Exclusive", None),
                lock(20_000 + n, &object(10_000 + n), "Share", Some(1.0)),
            ]);
            tally.take(f64::from(n), &graph, |_| None);
        }
        let (deadlocks, seen) = tally.deadlocks();
        assert_eq!((deadlocks.len(), seen, tally.by_statement.len(), tally.blockers().len()), (20, 300, 101, 8));
        assert_eq!(tally.blockers()[0].statement, OTHER);
    }
}
