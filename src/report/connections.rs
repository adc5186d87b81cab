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
    said.extend(turn.counters.as_ref().map(counters));
    said
}

/// `pool: 8.4 of 10 connections in use on average (84 %, high), 10 at most; 12,000 lent, all given back`.
fn pool(pool: &PoolRecord) -> String {
    let mean = pool.utilisation * f64::from(pool.size);
    let mut said = format!(
        "pool: {mean:.1} of {} connections in use on average ({}, {}), {} at most; {} lent, ",
        pool.size,
        percent(pool.utilisation),
        Band::of(pool.utilisation).word(),
        pool.most_in_use,
        grouped(pool.checkouts)
    );
    said += &match pool.leaked() {
        0 => "all given back".to_owned(),
        leaked => format!("{} NOT given back", grouped(leaked)),
    };
    for (n, what) in [
        (pool.timeouts, "waits timed out"),
        (pool.deadlocks, "of them while everybody who had one waited for another"),
        (pool.discarded, "given up as broken"),
        (pool.stale, "found closed"),
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
    let each = [("p50", wait.p50), ("p95", wait.p95), ("p99", wait.p99), ("max", wait.max)];
    let each: Vec<String> = each.iter().filter_map(|(name, ms)| Some(format!("{name} {}", milliseconds((*ms)?)))).collect();
    format!("waiting for a connection of the pool, part of the response time: {} of {}", each.join(", "), grouped(wait.samples))
}

fn counters(counters: &Counters) -> String {
    let server = counters.server;
    let differences = counters.differences();
    if !differences.is_empty() {
        return differences.join("; ");
    }
    let uncertain = match counters.uncertain {
        0 => String::new(),
        n => format!(" ({} connections lost in the middle of something left open)", grouped(n)),
    };
    format!(
        "the server counts the same as dbstress{uncertain}: {} commits, {} rollbacks, {} deadlocks",
        grouped(server.commits),
        grouped(server.rollbacks),
        grouped(server.deadlocks)
    )
}
