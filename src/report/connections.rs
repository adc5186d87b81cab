//! Who had a connection, who waited for one, and do the server's own counts agree? Lines below the tables of a run.

use super::run::milliseconds;
use super::text::{grouped, wrap};
use crate::audit::Counters;
use crate::metrics::{Percentiles, percent};
use crate::record::{Band, PoolRecord, RunRecord, TurnRecord};

/// The lines of all turns; empty if there is nothing to say.
pub fn connections(record: &RunRecord, width: u16) -> String {
    let mut lines = Vec::new();
    for turn in &record.turns {
        let prefix = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        lines.extend(said(turn).into_iter().map(|line| wrap(&format!("{prefix}{line}"), width, "  ")));
    }
    lines.join("\n")
}

fn said(turn: &TurnRecord) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(used) = &turn.pool {
        said.push(pool(used));
        said.extend(server(turn));
    }
    said.extend(turn.wait.as_ref().map(wait));
    said.extend(turn.connect.as_ref().map(connect));
    said.extend(turn.counters.as_ref().map(counters));
    said
}

/// `pool: 8.4 of 10 connections in use on average (84 %, high), 10 at most; 12,000 lent, none missing`.
fn pool(pool: &PoolRecord) -> String {
    let mean = pool.utilisation * f64::from(pool.size);
    let mut said = format!(
        "pool: {mean:.1} of {} connections in use on average ({}, {}), {} at most; {} lent, ",
        pool.size,
        percent(pool.utilisation),
        Band::of(pool.utilisation).word(),
        pool.books.most_in_use,
        grouped(pool.books.checkouts)
    );
    said += &match pool.books.in_use() {
        0 => "none missing".to_owned(),
        leaked => format!("{} NOT given back", grouped(leaked)),
    };
    for (n, what) in [
        (pool.books.timeouts, "waits timed out"),
        (pool.books.deadlocks, "of them while everybody who had one waited for another"),
        (pool.books.discarded, "given up as broken"),
        (pool.books.stale, "found closed"),
    ] {
        if n > 0 {
            said += &format!(", {} {what}", grouped(n));
        }
    }
    if pool.missed > 0 {
        said += &format!("; {} of {} samples missed", grouped(pool.missed), grouped(pool.samples + pool.missed));
    }
    said
}

/// `server: at most 24 of 597 connections, by whomever (4 %, normal)`.
fn server(turn: &TurnRecord) -> Option<String> {
    let (_, most, allowed) = turn.watched.connections()?;
    let used = turn.watched.server_use().ok()?.maximum;
    Some(format!(
        "server: at most {most} of {allowed} connections taken, by whomever ({}, {})",
        percent(used),
        Band::of(used).word()
    ))
}

fn wait(wait: &Percentiles) -> String {
    format!("waiting for a connection of the pool, part of the response time: {}", times(wait))
}

/// `connecting to the API: p50 0.31, max 2.5 of 50`.
fn connect(connect: &Percentiles) -> String {
    format!("connecting to the API: {}", times(connect))
}

fn times(times: &Percentiles) -> String {
    let each = [("p50", times.p50), ("p95", times.p95), ("p99", times.p99), ("max", times.max)];
    let each: Vec<String> = each.iter().filter_map(|(name, ms)| Some(format!("{name} {}", milliseconds((*ms)?)))).collect();
    format!("{} of {}", each.join(", "), grouped(times.samples))
}

fn counters(counters: &Counters) -> String {
    if let Some(why) = counters.is_incomparable() {
        return why.to_owned();
    }
    let differences = counters.differences();
    if !differences.is_empty() {
        return differences.join("; ");
    }
    let (client, server) = (counters.client, counters.server);
    let pairs = [
        (server.commits, client.commits, "commit"),
        (server.rollbacks, client.rollbacks, "rollback"),
        (server.deadlocks, client.deadlocks, "deadlock"),
    ];
    if pairs.iter().all(|(server, client, _)| server == client) {
        let each = pairs.map(|(n, _, what)| format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" }));
        return format!("the server counts the same as dbstress: {}", each.join(", "));
    }
    let each = pairs.map(|(server, client, what)| format!("{} and {} {what}s", grouped(server), grouped(client)));
    let why = match counters.uncertain {
        0 => "what autovacuum does is among the server's".to_owned(),
        n => format!("{} connections were lost in the middle of something", grouped(n)),
    };
    format!("server and dbstress count {}: {why}", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Counts;
    use crate::pg::pool::Books;

    #[test]
    fn connecting_is_told_with_what_is_known_of_it() {
        let few = Percentiles { samples: 50, p50: Some(0.312), p95: None, p99: None, max: Some(2.5) };
        assert_eq!(connect(&few), "connecting to the API: p50 0.31, max 2.5 of 50");
    }

    #[test]
    fn what_was_lent_and_what_became_of_it() {
        let books = Books { checkouts: 12_000, checkins: 11_990, discarded: 10, timeouts: 3, most_in_use: 10, ..Books::default() };
        let record = PoolRecord { size: 10, utilisation: 0.84, samples: 90, books, ..PoolRecord::default() };
        assert_eq!(
            pool(&record),
            "pool: 8.4 of 10 connections in use on average (84 %, high), 10 at most; 12,000 lent, none missing, 3 waits timed out, \
             10 given up as broken"
        );
        let leaky = PoolRecord { books: Books { checkins: 11_989, ..books }, missed: 10, ..record };
        let said = pool(&leaky);
        assert!(said.contains("1 NOT given back") && said.ends_with("10 of 100 samples missed"), "{said}");
    }

    #[test]
    fn counts_that_agree_take_one_line_and_others_say_why() {
        let counts = Counts { sessions: 3, commits: 1_200, rollbacks: 7, deadlocks: 1 };
        let agree = Counters { client: counts, server: counts, ..Counters::default() };
        assert_eq!(counters(&agree), "the server counts the same as dbstress: 1,200 commits, 7 rollbacks, 1 deadlock");
        let visited = Counters { server: Counts { commits: 1_212, ..counts }, ..agree.clone() };
        assert_eq!(
            counters(&visited),
            "server and dbstress count 1,212 and 1,200 commits, 7 and 7 rollbacks, 1 and 1 deadlocks: what autovacuum does is among the \
             server's"
        );
        let more = Counters { server: Counts { rollbacks: 9, ..counts }, ..agree };
        assert!(counters(&more).starts_with("the server counts 2 rollbacks more"));
    }
}
