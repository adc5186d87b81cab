//! Do the server's own counts agree with what its clients were told? Where they differ, what is the likely cause? Pure.

use serde::{Deserialize, Serialize};

/// Transactions and sessions of a database, as `pg_stat_database` counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sessions established.
    pub sessions: u64,
    /// Transactions committed, those of single statements among them.
    pub commits: u64,
    /// Transactions rolled back, by whomever.
    pub rollbacks: u64,
    /// Deadlocks that the server ended.
    pub deadlocks: u64,
}

impl Counts {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_sub(earlier.sessions),
            commits: self.commits.saturating_sub(earlier.commits),
            rollbacks: self.rollbacks.saturating_sub(earlier.rollbacks),
            deadlocks: self.deadlocks.saturating_sub(earlier.deadlocks),
        }
    }
}

/// The clients' counts beside the server's, over the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// What all connections of dbstress made, the load's and its own.
    pub client: Counts,
    /// What the server counted.
    pub server: Counts,
    /// Connections that were lost in the middle of something: each may have added a commit, a rollback or neither.
    pub uncertain: u64,
    /// The server's statistics did not survive: it crashed, or somebody reset them.
    pub was_reset: bool,
    /// The load goes through a pooler: its sessions stay and tell late, and it asks questions of its own.
    pub is_pooled: bool,
    /// Sessions of others that were seen in the database while the load ran, at most at once.
    #[serde(default)]
    pub others: u64,
    /// Rows that the server counts as inserted, updated or deleted in tables that stay, by transactions that were committed; `None` if it is not known to
    /// count them all. Of a table that was analysed meanwhile, only those after it.
    #[serde(default)]
    pub rows: Option<u64>,
}

/// A vacuum in the background and whoever looks in for a moment make so many transactions without anybody's doing.
const BACKGROUND: u64 = 50;
/// And this share of everything: a vacuum visits as often as there is something to do.
const BACKGROUND_SHARE: f64 = 0.001;

impl Counters {
    /// Why the two cannot be compared, if they cannot.
    pub fn is_incomparable(&self) -> Option<&'static str> {
        match self {
            Self { was_reset: true, .. } => {
                Some("the server's statistics were reset meanwhile (a crash does that): its counts say nothing")
            }
            Self { is_pooled: true, .. } => Some(
                "the server's own counts say nothing through a pooler: its sessions tell late, and it asks questions of its own",
            ),
            _ => None,
        }
    }

    /// What differs and why it probably does, in words; empty if the counts agree, or cannot be compared.
    pub fn differences(&self) -> Vec<String> {
        if self.is_incomparable().is_some() {
            return Vec::new();
        }
        let Self { client, server, uncertain, others, .. } = *self;
        let others = server.sessions.saturating_sub(client.sessions + uncertain).max(others);
        let somebody = format!("{others} other session{} in this database meanwhile", if others == 1 { " was" } else { "s were" });
        let background = BACKGROUND + (server.commits as f64 * BACKGROUND_SHARE) as u64;
        let mut differences = Vec::new();
        let mut differs = |what: &str, client: u64, server: u64, slack: u64, surplus: &str| {
            let count = |n: u64| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            if server > client + uncertain + slack {
                let why = if others > 0 { &somebody } else { surplus };
                differences.push(format!("the server counts {} more than dbstress made: {why}", count(server - client)));
            } else if client > server + uncertain + background {
                differences.push(format!(
                    "the server counts {} fewer than dbstress was told of: answers that did not come from this server, or statistics that \
                     it has not told yet",
                    count(client - server)
                ));
            } else if client > server + uncertain {
                // A session tells what it did when it is idle, or at its end.
                differences.push(format!("PostgreSQL's statistics lag by {} (normal)", count(client - server)));
            }
        };
        let own = "autovacuum, somebody else in this database, or something between that makes transactions of its own";
        differs("commit", client.commits, server.commits, background, own);
        let hidden =
            "somebody else in this database, something between that tries again by itself, or an autovacuum that was cancelled";
        differs("rollback", client.rollbacks, server.rollbacks, 0, hidden);
        differs("deadlock", client.deadlocks, server.deadlocks, 0, "somebody else met them, or something between hides them");
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sessions: u64, commits: u64, rollbacks: u64, deadlocks: u64) -> Counts {
        Counts { sessions, commits, rollbacks, deadlocks }
    }

    fn said(client: Counts, server: Counts) -> Vec<String> {
        Counters { client, server, ..Counters::default() }.differences()
    }

    #[test]
    fn what_agrees_is_not_spoken_of() {
        assert_eq!(said(counts(5, 1_000, 7, 1), counts(5, 1_000, 7, 1)), Vec::<String>::new());
        assert_eq!(said(counts(5, 1_000, 7, 1), counts(5, 1_050, 7, 1)), Vec::<String>::new(), "a vacuum came by");
    }

    #[test]
    fn a_difference_names_its_likely_cause() {
        let only = |client, server| {
            let mut all = said(client, server);
            assert_eq!(all.len(), 1, "{all:?}");
            all.remove(0)
        };
        let ours = counts(5, 1_000, 7, 1);
        assert!(only(ours, counts(5, 1_400, 7, 1)).starts_with("the server counts 400 commits more"));
        assert!(only(ours, counts(8, 1_400, 7, 1)).ends_with("3 other sessions were in this database meanwhile"));
        assert!(only(ours, counts(5, 1_000, 9, 1)).contains("2 rollbacks more than dbstress made: somebody else"));
        assert!(only(ours, counts(5, 1_000, 7, 2)).contains("1 deadlock more"));
        assert!(only(ours, counts(5, 800, 7, 1)).contains("200 commits fewer than dbstress was told of"));
    }

    #[test]
    fn a_few_that_the_server_has_not_told_yet_are_no_reason_for_suspicion() {
        let ours = counts(5, 1_000, 7, 1);
        assert_eq!(said(ours, counts(5, 1_000, 3, 1)), ["PostgreSQL's statistics lag by 4 rollbacks (normal)"]);
        assert_eq!(said(ours, counts(5, 999, 7, 1)), ["PostgreSQL's statistics lag by 1 commit (normal)"]);
    }

    #[test]
    fn what_was_lost_in_the_middle_may_have_been_counted_or_not() {
        let of = |server| Counters { client: counts(5, 100, 7, 0), server, uncertain: 3, ..Counters::default() }.differences();
        assert_eq!(of(counts(5, 100, 10, 0)), Vec::<String>::new());
        assert_eq!(of(counts(5, 97, 7, 0)), Vec::<String>::new());
        assert_eq!(of(counts(5, 100, 11, 0)).len(), 1);
        assert_eq!(of(counts(5, 96, 7, 0)).len(), 1);
    }

    #[test]
    fn who_was_there_all_the_time_is_suspected_too() {
        let (client, server) = (counts(5, 1_000, 7, 1), counts(5, 1_000, 8, 1));
        let said = Counters { client, server, others: 1, ..Counters::default() }.differences();
        assert_eq!(said, ["the server counts 1 rollback more than dbstress made: 1 other session was in this database meanwhile"]);
    }

    #[test]
    fn counts_that_were_reset_or_are_a_poolers_say_nothing() {
        let all = Counters { client: counts(5, 100, 7, 0), server: counts(1, 2, 0, 0), was_reset: true, ..Counters::default() };
        assert!(all.is_incomparable().unwrap().contains("reset") && all.differences().is_empty());
        let pooled = Counters { was_reset: false, is_pooled: true, ..all };
        assert!(pooled.is_incomparable().unwrap().contains("pooler") && pooled.differences().is_empty());
    }
}
