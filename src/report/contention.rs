//! Who stood in whose way on the server? The blockers, what was waited for, and what waited in a circle; in a few lines.

use std::collections::BTreeMap;

use super::run::milliseconds;
use super::text::{grouped, shorten, wrap};
use crate::metrics::percent;
use crate::probe::blockers::{Blocker, Deadlock};
use crate::probe::chains::Member;
use crate::probe::{WAITS, Watched};
use crate::record::RunRecord;

/// Lines are no longer than this, however wide the screen.
const WIDEST: u16 = 80;
/// Kinds of waiting that are told.
const WAITS_SHOWN: usize = 5;
/// Blockers that are told.
const BLOCKERS_SHOWN: usize = 2;
/// Sessions of a chain, and of a circle.
const MEMBERS_SHOWN: usize = 3;
/// What active sessions are on a processor for, and not waiting.
const RUNNING: &str = "CPU";
/// Share of the active sessions that must wait for something before it is worth a line.
const WORTH_IT: f64 = 0.1;
/// Where what is told of a line begins.
const INDENT: usize = 11;

/// The panels of all turns; empty where there is nothing to say.
pub fn contention(record: &RunRecord, width: u16) -> String {
    let width = usize::from(width.min(WIDEST));
    let panels = record.turns.iter().filter_map(|turn| {
        let name = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        panel(&turn.watched, &name, width)
    });
    panels.collect::<Vec<_>>().join("\n\n")
}

/// One panel; `None` if there is nothing to say.
fn panel(watched: &Watched, prefix: &str, width: usize) -> Option<String> {
    let waits = watched.keyed.get(WAITS).filter(|waits| !watched.blockers.is_empty() || is_worth_it(waits));
    let mut lines = Vec::new();
    lines.extend(waits.map(|waits| line("waits", &shares(waits, width.saturating_sub(2 + INDENT)))));
    for blocker in watched.blockers.iter().take(BLOCKERS_SHOWN) {
        lines.push(line("in the way", &whose(blocker)));
        lines.push(line("", &of_what(blocker)));
    }
    lines.extend(watched.worst.chains.first().map(|chain| {
        let way: Vec<String> = chain.way.iter().take(MEMBERS_SHOWN).map(link).collect();
        let said = format!("{} at {:.1} s: ", grouped(watched.worst.waiting), watched.worst.second);
        line("at most", &format!("{said}{}", way.join(" ← ")))
    }));
    if let Some(deadlock) = watched.deadlocks.first() {
        lines.extend(circle(deadlock, watched.deadlocks_seen));
    }
    for (name, asked) in watched.probes.iter().filter(|(_, asked)| asked.answered == 0) {
        lines.extend(asked.error.as_ref().map(|error| line("no answer", &format!("probe {name}: {error}"))));
    }
    if lines.is_empty() {
        return None;
    }
    let heading = match watched.gap() {
        Some(gap) => format!("{prefix}the server, as far as it was seen: {gap}"),
        None => format!(
            "{prefix}the server, in {} samples; questions were under way {} of the time",
            grouped(watched.samples),
            percent(watched.duty_cycle())
        ),
    };
    lines.insert(0, heading);
    let fitted = lines.iter().enumerate().map(|(at, line)| if at == 0 { wrap(line, width as u16, "") } else { fit(line, width) });
    Some(fitted.collect::<Vec<_>>().join("\n"))
}

fn line(label: &str, said: &str) -> String {
    format!("  {label:<INDENT$}{said}")
}

/// As much of a line as there is room for.
fn fit(line: &str, width: usize) -> String {
    if line.chars().count() <= width { line.to_owned() } else { shorten(line, width.saturating_sub(3)) }
}

fn is_worth_it(waits: &BTreeMap<String, f64>) -> bool {
    let all: f64 = waits.values().sum();
    waits.iter().any(|(event, n)| event != RUNNING && *n > all * WORTH_IT)
}

/// `Lock:tuple 71 %, CPU 20 %`: of the active sessions in all samples, as many as there is room for.
fn shares(waits: &BTreeMap<String, f64>, room: usize) -> String {
    let all: f64 = waits.values().sum();
    let mut events: Vec<(&String, f64)> = waits.iter().map(|(event, n)| (event, *n / all.max(1.0))).collect();
    events.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let mut told: Vec<String> =
        events.iter().take(WAITS_SHOWN).map(|(event, share)| format!("{event} {}", percent(*share))).collect();
    while told.len() > 1 && told.join(", ").chars().count() > room {
        told.pop();
    }
    told.join(", ")
}

/// `vu17 and 11 others: 31 waited behind, at most 49, in 90 samples`.
fn whose(blocker: &Blocker) -> String {
    let others = match blocker.sessions {
        0 | 1 => String::new(),
        2 => " and 1 other".into(),
        n => format!(" and {} others", n - 1),
    };
    format!(
        "{}{others}: {:.0} waited behind, at most {}, in {} sample{}",
        session(&blocker.session),
        blocker.behind,
        blocker.most_behind,
        grouped(blocker.samples),
        if blocker.samples == 1 { "" } else { "s" }
    )
}

/// `authorisation 1234: SELECT …`.
fn of_what(blocker: &Blocker) -> String {
    let statement = if blocker.statement.is_empty() { "(its statement is not known)" } else { &blocker.statement };
    if blocker.row.is_empty() { statement.to_owned() } else { format!("{}: {statement}", blocker.row) }
}

/// `vu3 50 ms`; who waits for nobody, with what it does.
fn link(member: &Member) -> String {
    let name = session(&member.session);
    match &*member.waits_for {
        "" => format!("{name} {}", member.state),
        _ => format!("{name} {} ms", milliseconds(member.waited_ms)),
    }
}

fn circle(deadlock: &Deadlock, all: u64) -> Vec<String> {
    let more = match all {
        0 | 1 => String::new(),
        n => format!("; {} in all", grouped(n)),
    };
    let seen = if deadlock.samples == 1 { "sample" } else { "samples" };
    let said = format!("at {:.1} s, seen in {} {seen}, each waits for the next{more}:", deadlock.second, deadlock.samples);
    let mut lines = vec![line("deadlock", &said)];
    for member in deadlock.members.iter().take(MEMBERS_SHOWN) {
        lines.push(line("", &format!("{}: {}", session(&member.session), member.statement)));
    }
    lines
}

/// The name of a session without what all of the run's have in common.
fn session(name: &str) -> &str {
    match name {
        "" => "a session without a name",
        name if name.starts_with("dbstress/run") => name.rsplit('/').next().unwrap_or(name),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::blockers::Worst;
    use crate::probe::chains::Chain;
    use crate::probe::watched::Asked;

    fn member(session: &str, waits_for: &str, statement: &str) -> Member {
        Member {
            session: format!("dbstress/run5/{session}"),
            state: if waits_for.is_empty() { "idle in transaction".into() } else { "active".into() },
            statement: statement.into(),
            waits_for: waits_for.into(),
            waited_ms: 48.25,
            ..Member::default()
        }
    }

    fn watched() -> Watched {
        let waits = [("Lock:tuple", 710.0), ("CPU", 200.0), ("Lock:transactionid", 90.0)];
        let waits = waits.into_iter().map(|(event, n)| (event.to_owned(), n)).collect();
        Watched {
            interval_ms: 100,
            seconds: 10.0,
            samples: 99,
            cost_ms: 150.0,
            keyed: [(WAITS.to_owned(), waits)].into(),
            blockers: vec![Blocker {
                statement: "SELECT total, used, scheduled, status FROM authorisation WHERE id = $1 FOR UPDATE".into(),
                state: "idle in transaction".into(),
                session: "dbstress/run5/vu17".into(),
                sessions: 12,
                samples: 90,
                behind: 31.2,
                most_behind: 49,
                row: "authorisation 1234".into(),
                rows: 1,
            }],
            worst: Worst {
                second: 2.31,
                waiting: 49,
                chains: vec![Chain {
                    behind: 49,
                    way: vec![member("vu17", "", ""), member("vu3", "transactionid", ""), member("vu8", "tuple", "")],
                }],
            },
            deadlocks: vec![Deadlock {
                second: 3.1,
                samples: 9,
                members: vec![member("vu1", "transactionid", "UPDATE a"), member("vu2", "transactionid", "UPDATE b")],
            }],
            deadlocks_seen: 4,
            ..Watched::default()
        }
    }

    #[test]
    fn who_stood_in_the_way_is_told_in_a_few_lines() {
        let text = panel(&watched(), "", 80).unwrap();
        assert_eq!(
            text,
            "\
the server, in 99 samples; questions were under way 1.5 % of the time
  waits      Lock:tuple 71 %, CPU 20 %, Lock:transactionid 9.0 %
  in the way vu17 and 11 others: 31 waited behind, at most 49, in 90 samples
             authorisation 1234: SELECT total, used, scheduled, status FROM a...
  at most    49 at 2.3 s: vu17 idle in transaction ← vu3 48 ms ← vu8 48 ms
  deadlock   at 3.1 s, seen in 9 samples, each waits for the next; 4 in all:
             vu1: UPDATE a
             vu2: UPDATE b"
        );
    }

    #[test]
    fn there_is_nothing_to_say_of_a_server_that_is_only_busy() {
        let busy = |event: &str, n: f64| {
            let waits = [("CPU".to_owned(), 95.0), (event.to_owned(), n)].into();
            panel(&Watched { samples: 9, keyed: [(WAITS.to_owned(), waits)].into(), ..Watched::default() }, "", 80)
        };
        assert_eq!(busy("Lock:tuple", 5.0), None);
        assert!(busy("IO:WALSync", 50.0).unwrap().contains("IO:WALSync 34 %"));
        assert_eq!(panel(&Watched::default(), "", 80), None);
    }

    #[test]
    fn what_was_not_seen_and_what_was_not_answered_is_told() {
        let mut watched = Watched { missed: 99, ..watched() };
        watched.probes.insert("mine".into(), Asked { missed: 1, error: Some("no such table".into()), ..Asked::default() });
        watched.probes.insert("late".into(), Asked { answered: 5, error: Some("once".into()), ..Asked::default() });
        let text = panel(&watched, "for-update: ", 200).unwrap();
        assert!(text.starts_with("for-update: the server, as far as it was seen: 99 of 198 samples"), "{text}");
        assert!(text.ends_with("no answer  probe mine: no such table") && !text.contains("once"), "{text}");
        assert!(text.lines().count() <= 12, "{text}");
    }
}
