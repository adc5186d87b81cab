//! Who waits for whom? Out of one reading of the locks that are waited for: chains from a blocker to the last who waits, and cycles. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::series::rounded;

/// The modes of a lock with those that they do not go together with.
/// <https://www.postgresql.org/docs/current/explicit-locking.html#TABLE-LOCK-COMPATIBILITY>
const CONFLICTS: [(&str, &[&str]); 8] = [
    ("AccessShareLock", &["AccessExclusiveLock"]),
    ("RowShareLock", &["ExclusiveLock", "AccessExclusiveLock"]),
    ("RowExclusiveLock", &["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]),
    (
        "ShareUpdateExclusiveLock",
        &["ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"],
    ),
    (
        "ShareLock",
        &["RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"],
    ),
    (
        "ShareRowExclusiveLock",
        &[
            "RowExclusiveLock",
            "ShareUpdateExclusiveLock",
            "ShareLock",
            "ShareRowExclusiveLock",
            "ExclusiveLock",
            "AccessExclusiveLock",
        ],
    ),
    (
        "ExclusiveLock",
        &[
            "RowShareLock",
            "RowExclusiveLock",
            "ShareUpdateExclusiveLock",
            "ShareLock",
            "ShareRowExclusiveLock",
            "ExclusiveLock",
            "AccessExclusiveLock",
        ],
    ),
    (
        "AccessExclusiveLock",
        &[
            "AccessShareLock",
            "RowShareLock",
            "RowExclusiveLock",
            "ShareUpdateExclusiveLock",
            "ShareLock",
            "ShareRowExclusiveLock",
            "ExclusiveLock",
            "AccessExclusiveLock",
        ],
    ),
];

fn conflict(one: &str, other: &str) -> bool {
    CONFLICTS.iter().any(|(mode, others)| *mode == one && others.contains(&other))
}

/// A lock that is held or waited for: a row of a probe of the kind `chains`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Lock {
    /// The session's process; 0 for a prepared transaction.
    pub pid: i32,
    /// Held, or waited for.
    pub granted: bool,
    /// What is locked; equal for equal things.
    pub object: String,
    /// `transactionid`, `tuple`, `relation`, `advisory` and so on.
    pub kind: String,
    /// `ExclusiveLock` and so on.
    pub mode: String,
    /// The table, as SQL names it.
    pub relation: Option<String>,
    /// Of a row, its page.
    pub page: Option<u32>,
    /// And its place there.
    pub tuple: Option<u32>,
    /// How long it has been waited for.
    pub waited_ms: Option<f64>,
    /// Name of the session.
    pub application_name: Option<String>,
    /// What the session does.
    pub state: Option<String>,
    /// What it last sent.
    pub statement: Option<String>,
}

impl Lock {
    fn row(&self) -> Option<RowAt> {
        Some(RowAt { relation: self.relation.clone()?, page: self.page?, tuple: self.tuple? })
    }

    fn waited(&self) -> f64 {
        // Nothing yet, where the wait has just begun.
        self.waited_ms.unwrap_or(0.0)
    }
}

/// Where a row is, as long as nobody writes another version of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowAt {
    /// The table, as SQL names it.
    pub relation: String,
    /// Page.
    pub page: u32,
    /// Place in the page.
    pub tuple: u32,
}

impl RowAt {
    /// The name of the table alone.
    pub fn table(&self) -> &str {
        table(&self.relation)
    }
}

/// The name of a table without its schema.
fn table(relation: &str) -> &str {
    relation.rsplit('.').next().unwrap_or(relation).trim_matches('"')
}

/// A session in a chain or a cycle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name: `dbstress/run5/vu17`.
    pub session: String,
    /// Its process; 0 for a prepared transaction.
    pub pid: i32,
    /// What it does: `active`, `idle in transaction`.
    pub state: String,
    /// What it last sent, shortened; empty if that is not known.
    pub statement: String,
    /// What kind of lock it waits for; empty if it does not wait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// In which table, if that is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// For how long, milliseconds.
    pub waited_ms: f64,
}

/// A session that waits for nobody, and whoever waits behind it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Sessions that wait for it, or for somebody who does.
    pub behind: u64,
    /// The longest way: from the blocker to the last who waits, the blocker first.
    pub way: Vec<Member>,
}

/// One reading, as a graph.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    sessions: BTreeMap<i32, Member>,
    /// Who waits, for whom.
    waits: BTreeMap<i32, Vec<i32>>,
    /// And the other way round.
    behind: BTreeMap<i32, Vec<i32>>,
    rows: BTreeMap<i32, RowAt>,
}

impl Graph {
    /// Works out who blocks whom: whoever holds what does not go together with what is waited for; and where nobody does, whoever has waited
    /// longer for something that does not go together with it.
    pub fn of(locks: &[Lock]) -> Self {
        let mut graph = Self::default();
        let mut by_object: BTreeMap<&str, Vec<&Lock>> = BTreeMap::new();
        for lock in locks {
            by_object.entry(&lock.object).or_default().push(lock);
            let member = graph.sessions.entry(lock.pid).or_default();
            member.pid = lock.pid;
            member.session = lock.application_name.clone().unwrap_or_default();
            member.state = lock.state.clone().unwrap_or_default();
            if let Some(statement) = &lock.statement {
                member.statement.clone_from(statement);
            }
        }
        for wanted in locks.iter().filter(|lock| !lock.granted) {
            let member = graph.sessions.entry(wanted.pid).or_default();
            member.waits_for.clone_from(&wanted.kind);
            member.waited_ms = rounded(wanted.waited());
            let row = wanted.row().or_else(|| {
                // Who waits for a transaction to end holds the lock of the row that this is about.
                locks.iter().filter(|l| l.pid == wanted.pid && l.granted && l.kind == "tuple").find_map(Lock::row)
            });
            let relation = row.as_ref().map(|row| &row.relation).or(wanted.relation.as_ref());
            member.table = relation.map(|relation| table(relation).to_owned()).unwrap_or_default();
            graph.rows.extend(row.map(|row| (wanted.pid, row)));
            let rivals =
                || by_object[&*wanted.object].iter().filter(|l| l.pid != wanted.pid && conflict(&wanted.mode, &l.mode)).copied();
            let mut blockers: BTreeSet<i32> = rivals().filter(|l| l.granted).map(|l| l.pid).collect();
            if blockers.is_empty() {
                blockers = rivals().filter(|l| !l.granted && l.waited() > wanted.waited()).map(|l| l.pid).collect();
            }
            for blocker in &blockers {
                graph.behind.entry(*blocker).or_default().push(wanted.pid);
            }
            graph.waits.entry(wanted.pid).or_default().extend(blockers);
        }
        graph
    }

    /// Sessions that wait.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// The chains, the one with the most sessions behind its blocker first.
    pub fn chains(&self) -> Vec<Chain> {
        let roots = self.behind.keys().filter(|pid| !self.waits.contains_key(pid));
        let mut chains: Vec<Chain> = roots.map(|root| self.chain(*root)).collect();
        chains.sort_by_key(|chain| (std::cmp::Reverse(chain.behind), chain.way.first().map(|m| m.pid)));
        chains
    }

    fn chain(&self, root: i32) -> Chain {
        // In the order of the distance: whoever is found last is farthest.
        let mut from: BTreeMap<i32, i32> = BTreeMap::new();
        let mut queue = VecDeque::from([root]);
        let mut last = root;
        while let Some(pid) = queue.pop_front() {
            last = pid;
            for waiter in self.behind.get(&pid).into_iter().flatten() {
                if *waiter != root && !from.contains_key(waiter) {
                    from.insert(*waiter, pid);
                    queue.push_back(*waiter);
                }
            }
        }
        let mut way = vec![last];
        while let Some(before) = way.last().and_then(|pid| from.get(pid)) {
            way.push(*before);
        }
        Chain { behind: from.len() as u64, way: way.into_iter().rev().map(|pid| self.member(pid)).collect() }
    }

    fn member(&self, pid: i32) -> Member {
        self.sessions.get(&pid).cloned().unwrap_or_default()
    }

    /// The row that is wanted by those who wait for that session, if it is one and known.
    pub fn row_behind(&self, pid: i32) -> Option<&RowAt> {
        self.behind.get(&pid)?.iter().find_map(|waiter| self.rows.get(waiter))
    }

    /// Sessions that wait for each other in a circle, each for the next and the last for the first: of every knot at least one. The session
    /// with the smallest number is first, so that the same circle looks the same in the next sample.
    pub fn cycles(&self) -> Vec<Vec<Member>> {
        let mut cycles = Vec::new();
        let mut done = BTreeSet::new();
        for start in self.waits.keys() {
            let mut path: Vec<(i32, usize)> = vec![(*start, 0)];
            while let Some((pid, next)) = path.pop() {
                if done.contains(&pid) {
                    continue;
                }
                let Some(blocker) = self.waits.get(&pid).and_then(|blockers| blockers.get(next)).copied() else {
                    done.insert(pid);
                    continue;
                };
                path.push((pid, next + 1));
                match path.iter().position(|(on, _)| *on == blocker) {
                    Some(at) => {
                        let mut circle: Vec<i32> = path[at..].iter().map(|(pid, _)| *pid).collect();
                        let least = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or(0);
                        circle.rotate_left(least);
                        cycles.push(circle.into_iter().map(|pid| self.member(pid)).collect());
                    }
                    None => path.push((blocker, 0)),
                }
            }
        }
        cycles
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A lock on `object`: held, or waited for so many milliseconds.
    pub fn lock(pid: i32, object: &str, mode: &str, waited_ms: Option<f64>) -> Lock {
        Lock {
            pid,
            granted: waited_ms.is_none(),
            object: object.into(),
            kind: object.split('/').next().unwrap().into(),
            mode: format!("{mode}Lock"),
            waited_ms,
            application_name: Some(format!("dbstress/run1/vu{pid}")),
            state: Some("active".into()),
            statement: Some(format!("statement of {pid}")),
            ..Lock::default()
        }
    }

    pub fn on_row(lock: Lock, page: u32, tuple: u32) -> Lock {
        Lock { relation: Some("dbstress.authorisation".into()), page: Some(page), tuple: Some(tuple), ..lock }
    }

    /// One holds a row, the second waits for its end and has the row next, three more queue for the row.
    pub fn hot_row() -> Vec<Lock> {
        let mut locks = vec![
            lock(1, "transactionid/7", "Exclusive", None),
            lock(2, "transactionid/7", "Share", Some(50.0)),
            on_row(lock(2, "tuple/0/13", "Exclusive", None), 0, 13),
        ];
        locks.extend((3..6).map(|pid| on_row(lock(pid, "tuple/0/13", "Exclusive", Some(30.0)), 0, 13)));
        locks
    }

    fn pids(members: &[Member]) -> Vec<i32> {
        members.iter().map(|m| m.pid).collect()
    }

    #[test]
    fn the_holder_of_a_hot_row_is_at_the_root_and_everybody_is_behind_it() {
        let graph = Graph::of(&hot_row());
        assert_eq!(graph.waiting(), 4);
        let chains = graph.chains();
        assert_eq!((chains.len(), chains[0].behind), (1, 4));
        assert_eq!(pids(&chains[0].way), [1, 2, 5], "from the holder to one of those who wait longest ways off");
        let [root, next, _] = &chains[0].way[..] else { panic!("{chains:?}") };
        assert_eq!((&*root.waits_for, root.waited_ms, &*root.statement), ("", 0.0, "statement of 1"));
        assert_eq!((&*next.waits_for, next.waited_ms, &*next.table), ("transactionid", 50.0, "authorisation"));
        let row = graph.row_behind(1).unwrap();
        assert_eq!((row.table(), row.page, row.tuple), ("authorisation", 0, 13));
        assert!(graph.cycles().is_empty(), "a chain is no circle");
    }

    #[test]
    fn two_that_wait_for_each_other_are_a_cycle_and_no_chain() {
        let graph = Graph::of(&[
            lock(8, "transactionid/8", "Exclusive", None),
            lock(4, "transactionid/4", "Exclusive", None),
            lock(8, "transactionid/4", "Share", Some(10.0)),
            lock(4, "transactionid/8", "Share", Some(900.0)),
            // Somebody behind them is in no circle.
            lock(9, "transactionid/8", "Share", Some(1.0)),
        ]);
        let cycles = graph.cycles();
        assert_eq!(cycles.iter().map(|c| pids(c)).collect::<Vec<_>>(), [[4, 8]]);
        assert_eq!(cycles[0][0].statement, "statement of 4");
        assert!(graph.chains().is_empty(), "nobody there waits for nobody");
    }

    #[test]
    fn a_circle_of_three_is_found_wherever_one_begins() {
        let holds = |pid: i32| lock(pid, &format!("transactionid/{pid}"), "Exclusive", None);
        let waits = |pid: i32, on: i32| lock(pid, &format!("transactionid/{on}"), "Share", Some(1.0));
        let graph = Graph::of(&[holds(1), holds(2), holds(3), waits(1, 3), waits(2, 1), waits(3, 2), waits(0, 2)]);
        assert_eq!(graph.cycles().iter().map(|c| pids(c)).collect::<Vec<_>>(), [[1, 3, 2]]);
    }

    #[test]
    fn modes_that_go_together_block_nobody_and_a_queue_does() {
        let reader = lock(1, "relation/t", "AccessShare", None);
        let exclusive = lock(2, "relation/t", "AccessExclusive", Some(100.0));
        let queued = lock(3, "relation/t", "AccessShare", Some(50.0));
        let graph = Graph::of(&[reader.clone(), exclusive, queued.clone()]);
        let chains = graph.chains();
        assert_eq!((chains.len(), chains[0].behind, pids(&chains[0].way)), (1, 2, vec![1, 2, 3]));
        // Without the one in between, the two readers have nothing to do with each other.
        assert!(Graph::of(&[reader, queued]).chains().is_empty());
    }

    #[test]
    fn every_conflict_is_mutual() {
        for (one, others) in CONFLICTS {
            assert!(others.iter().all(|other| conflict(other, one)), "{one}");
        }
    }

    #[test]
    fn nobody_waits_for_nothing() {
        let graph = Graph::of(&[]);
        assert!(graph.chains().is_empty() && graph.cycles().is_empty() && graph.waiting() == 0);
    }
}
