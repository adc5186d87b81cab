//! What follows from a storm? Pure: counts in, a verdict and its reasons out.

use serde::{Deserialize, Serialize};

use super::Client;
use crate::metrics::grouped;
use crate::verdict::Verdict;

/// Version of [`StormRecord`]; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// With fewer requests cancelled while BEGIN was under way, nothing is shown: the occasion hardly came.
pub const LEAST_CANCELLED: u64 = 20;

/// What is kept of a storm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StormRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program.
    pub dbstress: String,
    /// Version of the server, as it says.
    pub server: String,
    /// The worst of `clients`; no better than inconclusive if the control was not caught.
    pub verdict: Verdict,
    /// The command that does it again.
    pub command: String,
    /// Requests that each client was given.
    pub requests: u32,
    /// Connections of each pool.
    pub pool_size: u32,
    /// What the deadlines were drawn from.
    pub rng_seed: u64,
    /// How much later everything arrived, in each direction.
    pub delay_ms: u64,
    /// Seconds that all of it took.
    pub seconds: f64,
    /// The client that must be caught.
    pub control: ClientRecord,
    /// Those that were asked for.
    pub clients: Vec<ClientRecord>,
}

impl StormRecord {
    /// Whether the control shows that a breach would have been seen.
    pub fn is_controlled(&self) -> bool {
        self.control.verdict == Verdict::Violated
    }
}

/// What became of one client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Which.
    pub client: Client,
    /// The version that was built in.
    pub version: String,
    /// Pass: no connection was given back inside a transaction.
    pub verdict: Verdict,
    /// Why not pass.
    pub reasons: Vec<String>,
    /// What was counted.
    pub tally: Tally,
    /// The smallest case, if a write was lost in it.
    pub example: Option<Example>,
}

/// What was counted in a storm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests for a transaction that were made.
    pub requests: u64,
    /// Of these, acknowledged as committed.
    pub committed: u64,
    /// Of these, dropped after BEGIN had been sent and before its answer had come to them.
    pub cancelled_in_begin: u64,
    /// Writes that were acknowledged, in a transaction or without one.
    pub acknowledged: u64,
    /// Of these, not in the table when every connection was closed.
    pub lost: Vec<Lost>,
    /// Connections that were in a transaction although nobody had one.
    pub left_open: u64,
    /// Locks that these held, other than on themselves.
    pub locks: u64,
    /// What requests and borrowers were refused with.
    pub errors: Vec<Refused>,
    /// What could not be looked at.
    pub open: Vec<String>,
}

/// A write that was acknowledged and is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its number; requests and writes are numbered in the order in which they began.
    pub number: i64,
    /// The server process that took it; `None` inside a transaction of its own.
    pub pid: Option<i32>,
}

/// Refusals that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// SQLSTATE; `None` if it was not the server that refused.
    pub code: Option<String>,
    /// What was said first.
    pub message: String,
    /// How many.
    pub count: u64,
}

/// Two requests that are enough: one is cancelled, the write of the other is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The number of the request that was cancelled, the only one on the only connection.
    pub cancelled: i64,
    /// How long after it had begun, in milliseconds.
    pub after_ms: f64,
    /// The number of the write that was acknowledged later.
    pub lost: i64,
    /// The server process of both.
    pub pid: i32,
}

impl Tally {
    /// Counts a refusal.
    pub fn refuse(&mut self, code: Option<String>, message: String) {
        match self.errors.iter_mut().find(|error| error.code == code) {
            Some(alike) => alike.count += 1,
            None => self.errors.push(Refused { code, message, count: 1 }),
        }
    }

    /// The verdict on a client, and why it is not pass. A breach is a breach however rarely the occasion came.
    pub fn judge(&self) -> (Verdict, Vec<String>) {
        // Invalid transaction state: somebody was in a transaction who had begun none, or the other way round.
        let (strange, other): (Vec<&Refused>, Vec<&Refused>) =
            self.errors.iter().partition(|error| error.code.as_deref().is_some_and(|code| code.starts_with("25")));
        let mut breaches = Vec::new();
        if self.left_open > 0 {
            breaches.push(format!(
                "{} connections were given back inside a transaction that nobody had any more, with {} locks",
                grouped(self.left_open),
                grouped(self.locks)
            ));
        }
        if !self.lost.is_empty() {
            breaches.push(format!(
                "{} of {} acknowledged writes are in no table",
                grouped(self.lost.len() as u64),
                grouped(self.acknowledged)
            ));
        }
        breaches.extend(strange.into_iter().map(Refused::to_string));
        if !breaches.is_empty() {
            return (Verdict::Violated, breaches);
        }
        let mut open: Vec<String> = self.open.iter().cloned().chain(other.into_iter().map(Refused::to_string)).collect();
        if self.cancelled_in_begin < LEAST_CANCELLED {
            open.push(format!(
                "only {} requests were cancelled while BEGIN was under way; {LEAST_CANCELLED} are needed",
                self.cancelled_in_begin
            ));
        }
        if open.is_empty() { (Verdict::Pass, open) } else { (Verdict::Inconclusive, open) }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} times: {}", self.count, self.message)?;
        match &self.code {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

/// The verdict on all: the worst of those that were asked for, and no better than inconclusive without a control that was caught.
pub fn worst(control: &ClientRecord, clients: &[ClientRecord]) -> Verdict {
    let uncontrolled = (control.verdict != Verdict::Violated).then_some(Verdict::Inconclusive);
    Verdict::worst(clients.iter().map(|client| client.verdict).chain(uncontrolled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Tally {
        Tally { requests: 100, cancelled_in_begin: LEAST_CANCELLED, acknowledged: 50, committed: 10, ..Tally::default() }
    }

    fn of(change: impl FnOnce(&mut Tally)) -> Verdict {
        let mut tally = quiet();
        change(&mut tally);
        let (verdict, reasons) = tally.judge();
        assert_eq!(reasons.is_empty(), verdict == Verdict::Pass, "{reasons:?}");
        verdict
    }

    #[test]
    fn only_what_was_tried_often_enough_and_lost_nothing_holds() {
        assert_eq!(of(|_| {}), Verdict::Pass);
        assert_eq!(of(|tally| tally.cancelled_in_begin -= 1), Verdict::Inconclusive);
        assert_eq!(of(|tally| tally.open.push("the pool did not close".into())), Verdict::Inconclusive);
        assert_eq!(of(|tally| tally.refuse(None, "connection closed".into())), Verdict::Inconclusive);
        assert_eq!(of(|tally| tally.left_open = 1), Verdict::Violated);
        assert_eq!(of(|tally| tally.lost.push(Lost { number: 7, pid: Some(1) })), Verdict::Violated);
        assert_eq!(of(|tally| tally.refuse(Some("25P02".into()), "aborted".into())), Verdict::Violated);
    }

    #[test]
    fn a_breach_counts_however_rarely_the_occasion_came() {
        assert_eq!(of(|tally| (tally.cancelled_in_begin, tally.left_open) = (1, 1)), Verdict::Violated);
    }

    #[test]
    fn without_a_control_that_was_caught_nothing_holds() {
        let client = |verdict| ClientRecord {
            client: Client::Sqlx,
            version: "0".into(),
            verdict,
            reasons: Vec::new(),
            tally: quiet(),
            example: None,
        };
        use Verdict::*;
        assert_eq!(worst(&client(Violated), &[client(Pass)]), Pass);
        assert_eq!(worst(&client(Violated), &[client(Pass), client(Violated)]), Violated);
        assert_eq!(worst(&client(Pass), &[client(Pass)]), Inconclusive);
        assert_eq!(worst(&client(Inconclusive), &[client(Violated)]), Violated, "a breach needs no control");
    }
}
