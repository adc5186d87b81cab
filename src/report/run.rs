//! How does a run read on a terminal? One row per turn and per operation, then what broke, then the verdict and what it rests on.

use comfy_table::{Cell, CellAlignment, Color};

use super::connections::connections;
use super::contention::contention;
use super::faults::{classes, faults};
use super::schedules::{contests, skews};
use super::text::{Paint, finish, grid, grouped, mark, shorten, wrap};
use super::timeline::timeline;
use crate::audit::Lost;
use crate::invariant::{Checked, Finding};
use crate::metrics::{Percentiles, percent};
use crate::outcome::{Abort, OutcomeClass, Refusal};
use crate::pg::load::Protocol;
use crate::plan::{Load, Workload};
use crate::record::{Control, Moment, RunRecord, TurnRecord};
use crate::threshold::State;
use crate::verdict::Verdict;

/// Below this many columns the table is shown in two parts.
const WIDE: u16 = 118;
/// From this many columns on, columns of a table are two blanks apart instead of one.
pub(super) const ROOMY: u16 = 90;
/// Findings of a kind that are shown; the record holds more.
const FINDINGS_SHOWN: usize = 2;
/// Reasons shown; the record holds all.
const REASONS_SHOWN: usize = 8;

/// The whole report; `record_path` is where the record was kept.
pub fn text(record: &RunRecord, record_path: Option<&str>, width: u16, colour: bool) -> String {
    let results = results(record, width, colour);
    let verdict = verdict(record, record_path, width, colour);
    if results.is_empty() { verdict } else { format!("{results}\n\n{verdict}") }
}

/// What was measured and what was found, without the verdict; empty if nothing was run.
pub fn results(record: &RunRecord, width: u16, colour: bool) -> String {
    let mut parts = Vec::new();
    if !record.turns.is_empty() {
        parts.push(heading(record, width));
        parts.push(if !record.plan.keeps_ledger() {
            let rolled_back: &[Column] = if rolls_back(record) { &[ROLLED_BACK] } else { &[] };
            let (load, end) = ([OWN_NAME, &LOAD[1..], rolled_back].concat(), [OWN_NAME, OWN].concat());
            if width >= WIDE {
                table(record, width, colour, &[&load[..], OWN].concat())
            } else {
                format!("{}\n\n{}", table(record, width, colour, &load), table(record, width, colour, &end))
            }
        } else {
            let mut load = LOAD.to_vec();
            if record.plan.keys().is_some() {
                load.insert(LOAD.len() - 1, REPLAYED);
            }
            if width >= WIDE {
                table(record, width, colour, &[&load[..], PROOF].concat())
            } else {
                format!("{}\n\n{}", table(record, width, colour, &load), table(record, width, colour, PROOF))
            }
        });
        for section in [
            skews(record, width),
            contests(record, width, colour),
            operations(record, width, colour),
            keys(record, width),
            pace(record, width),
            connections(record, width),
            faults(record, width, colour),
            classes(record, width, colour),
            errors(record, width),
            timeline(record, width),
            contention(record, width),
            thresholds(record, width),
            unwatched(record, width),
        ] {
            if !section.is_empty() {
                parts.push(section);
            }
        }
    }
    let findings = findings(record, width);
    if !findings.is_empty() {
        parts.push(findings);
    }
    parts.join("\n\n")
}

fn heading(record: &RunRecord, width: u16) -> String {
    let plan = &record.plan;
    let retry = match plan.retry.attempts {
        Some(n) => format!("at most {n} attempts"),
        None => format!("retries for up to {} s", plan.retry.deadline.as_secs()),
    };
    let load = match plan.round() {
        Some((units, _)) if plan.keys().is_some() => {
            format!("{} VUs, all with the same key, {units} units", plan.load.vus())
        }
        Some((units, _)) => format!("{} VUs, {units} of {} units each", plan.load.vus(), plan.booking().map_or(0, |b| b.total)),
        None => plan.load.words(),
    };
    let pool = plan.pool_size.map_or(String::new(), |size| format!(", a pool of {size} connections"));
    let protocol = match plan.protocol {
        Protocol::Prepared => String::new(),
        other => format!(", {} protocol", other.word()),
    };
    let via = record.server.via.as_ref().map_or(String::new(), |via| format!(" through {}, {}", via.address, via.between.words()));
    let api = record.server.api.as_ref().map_or(String::new(), |api| {
        let sessions = if api.pool_size == 1 { "session" } else { "sessions" };
        format!(" through the API at {}, dbstress {} with {} {sessions}", api.address, api.version, api.pool_size)
    });
    let server = match plan.http() {
        Some(_) => format!("the API at {}", record.server.address),
        None => format!("PostgreSQL {} at {}{via}{api}", record.server.version, record.server.address),
    };
    let line = format!("{load}{pool}{protocol}, {retry}; {server}; response times in ms, of committed iterations");
    wrap(&line, width, "")
}

/// A column: its heading and how a turn fills it.
type Column = (&'static str, fn(&TurnRecord) -> String);

const LOAD: &[Column] = &[
    ("strategy", |t| t.name.clone()),
    ("commits/s", |t| grouped(t.committed_per_second.round() as u64)),
    ("p50", |t| percentile(t, |p| p.p50)),
    ("p95", |t| percentile(t, |p| p.p95)),
    ("p99", |t| percentile(t, |p| p.p99)),
    ("max", |t| percentile(t, |p| p.max)),
    ("tries", attempts_per_iteration),
    ("committed", |t| grouped(t.counts.of(OutcomeClass::Committed))),
    ("refused", |t| grouped(t.counts.of(OutcomeClass::Refused))),
];

/// Only requests with keys are answered with what is stored.
const REPLAYED: Column = ("replayed", |t| grouped(t.counts.of(OutcomeClass::Replayed)));

/// Only scripts of the user's own roll back what they did.
const ROLLED_BACK: Column = ("rolled back", |t| grouped(t.counts.of(OutcomeClass::RolledBack)));

/// Whether anything was rolled back by those who had done it.
fn rolls_back(record: &RunRecord) -> bool {
    record.turns.iter().any(|turn| turn.counts.of(OutcomeClass::RolledBack) > 0)
}

const PROOF: &[Column] = &[
    ("strategy", |t| t.name.clone()),
    ("aborted", aborted),
    ("unknown", |t| grouped(t.counts.of(OutcomeClass::Unknown))),
    ("invariants", invariants),
    ("contested", |t| grouped(t.audit.exposure.contested_blocks)),
    ("bound", |t| if t.verdict == Verdict::Pass { t.bound.map_or("-".into(), percent) } else { "-".into() }),
    ("verdict", |t| t.verdict.word().into()),
];

/// Operations of the user's own follow no strategy.
const OWN_NAME: &[Column] = &[("scenario", |t| t.name.clone())];

/// There is no ledger of the user's own rows: nothing to reconcile, nothing to count exposure by.
const OWN: &[Column] = &[
    ("aborted", aborted),
    ("unknown", |t| grouped(t.counts.of(OutcomeClass::Unknown))),
    ("rules", invariants),
    ("verdict", |t| t.verdict.word().into()),
];

fn table(record: &RunRecord, width: u16, colour: bool, columns: &[Column]) -> String {
    // In one wide table, the second part's strategy column would repeat the first's.
    let columns: Vec<&Column> = columns.iter().enumerate().filter(|(i, c)| *i == 0 || c.0 != "strategy").map(|(_, c)| c).collect();
    let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
    let mut table = grid(&names, width, colour);
    for turn in &record.turns {
        table.add_row(columns.iter().map(|(name, fill)| {
            let text = fill(turn);
            if *name == "verdict" { mark(&text, shade(turn.verdict)) } else { Cell::new(text) }
        }));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if width < ROOMY { 1 } else { 2 }));
        if index > 0 && columns[index].0 != "verdict" {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

fn shade(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Pass => Color::Green,
        Verdict::Violated => Color::Red,
        Verdict::Inconclusive | Verdict::Missed => Color::Yellow,
    }
}

fn percentile(turn: &TurnRecord, pick: fn(&Percentiles) -> Option<f64>) -> String {
    let value = turn.timing.get(&OutcomeClass::Committed).and_then(|t| pick(&t.response));
    value.map_or("-".into(), milliseconds)
}

/// A time with as many digits as mean something.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.2}"),
        ms if ms < 10.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// Where the column of stored answers is among those of an operation.
const REPLAYED_AT: usize = 6;

/// A row per operation, where there are several: response times of committed iterations, and how many samples are behind them.
fn operations(record: &RunRecord, width: u16, colour: bool) -> String {
    let mut names = vec!["operation", "committed", "p50", "p95", "p99", "max", "refused", "aborted", "unknown"];
    let has_keys = record.plan.keys().is_some();
    if has_keys {
        names.insert(REPLAYED_AT, "replayed");
    }
    let rolls_back = rolls_back(record);
    if rolls_back {
        names.push("rolled back");
    }
    let mut table = grid(&names, width, colour);
    let mut rows = 0;
    for turn in record.turns.iter().filter(|t| t.operations.len() > 1) {
        for operation in &turn.operations {
            let count = |class| grouped(operation.outcomes.get(&class).copied().unwrap_or(0));
            let time = |pick: fn(&Percentiles) -> Option<f64>| {
                operation.timing.get(&OutcomeClass::Committed).and_then(|t| pick(&t.response)).map_or("-".into(), milliseconds)
            };
            let name = if record.turns.len() > 1 { format!("{}: {}", turn.name, operation.name) } else { operation.name.clone() };
            let mut row = vec![
                name,
                count(OutcomeClass::Committed),
                time(|p| p.p50),
                time(|p| p.p95),
                time(|p| p.p99),
                time(|p| p.max),
                count(OutcomeClass::Refused),
                count(OutcomeClass::Aborted),
                count(OutcomeClass::Unknown),
            ];
            if has_keys {
                row.insert(REPLAYED_AT, count(OutcomeClass::Replayed));
            }
            if rolls_back {
                row.push(count(OutcomeClass::RolledBack));
            }
            table.add_row(row);
            rows += 1;
        }
    }
    if rows == 0 {
        return String::new();
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if width < ROOMY { 1 } else { 2 }));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

/// What became of the keys, and of those that had expired.
fn keys(record: &RunRecord, width: u16) -> String {
    if record.plan.keys().is_none() {
        return String::new();
    }
    let mut lines = Vec::new();
    for turn in &record.turns {
        let (audit, counts) = (&turn.audit, &turn.counts);
        let prefix = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        let once = if audit.key_effects == audit.key_lifetimes {
            "one in each lifetime of a key".to_owned()
        } else {
            format!("{} more than there were lifetimes of keys", grouped(audit.key_effects.saturating_sub(audit.key_lifetimes)))
        };
        let mismatches = counts.refused.get(&Refusal::KeyMismatch).copied().unwrap_or(0);
        let said = format!(
            "{prefix}{} keys, {} effects, {once}; told the stored response: {}, that it is in flight: {}, that it is another body's: {}; \
             COMMITs not answered: {}, of which {} had taken effect",
            grouped(audit.keys),
            grouped(audit.key_effects),
            grouped(counts.of(OutcomeClass::Replayed)),
            grouped(counts.failed(Abort::KeyInFlight)),
            grouped(mismatches),
            grouped(counts.unanswered),
            grouped(audit.classes.took_effect_unanswered())
        );
        lines.push(wrap(&said, width, "  "));
        if let Some(cleanup) = &turn.cleanup {
            let said = format!(
                "{prefix}clean-up: {} of {} expired keys deleted in {} batches and {:.2} s, {} of the batches while the load ran; {} of {} others kept",
                grouped(cleanup.expired - cleanup.expired_left.min(cleanup.expired)),
                grouped(cleanup.expired),
                cleanup.batches,
                cleanup.seconds,
                cleanup.batches_beside,
                grouped(cleanup.alive_left),
                grouped(cleanup.alive)
            );
            lines.push(wrap(&said, width, "  "));
        }
    }
    lines.join("\n")
}

/// Response against service time, how late the generator was, what was dropped: where there is something to say.
fn pace(record: &RunRecord, width: u16) -> String {
    let mut lines = Vec::new();
    for turn in &record.turns {
        let mut said = Vec::new();
        let p = |p: &Percentiles| {
            let each = [("p50", p.p50), ("p95", p.p95), ("p99", p.p99), ("max", p.max)];
            let each: Vec<String> = each.iter().filter_map(|(name, ms)| Some(format!("{name} {}", milliseconds((*ms)?)))).collect();
            format!("{} of {}", each.join(", "), grouped(p.samples))
        };
        if !matches!(record.plan.load, Load::Rounds { .. })
            && let Some(timing) = turn.timing.get(&OutcomeClass::Committed)
        {
            said.push(format!("response time, from the scheduled start: {}", p(&timing.response)));
            said.push(format!("service time, from the actual start: {}", p(&timing.service)));
            said.extend(left_out(turn));
        }
        if matches!(record.plan.load, Load::Open { .. }) {
            let lag = turn.lag.as_ref().map_or(String::new(), |lag| format!("schedule lag: {}; ", p(lag)));
            said.push(format!("{lag}dropped: {}", grouped(turn.counts.dropped)));
        }
        if turn.counts.warm_up > 0 {
            said.push(format!("warm-up, not in the figures: {} iterations", grouped(turn.counts.warm_up)));
        }
        said.extend(unchanged(record, turn));
        said.extend(turn.not_answered.clone());
        said.extend(turn.generator_limited.clone());
        let prefix = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        lines.extend(said.into_iter().map(|line| wrap(&format!("{prefix}{line}"), width, "  ")));
    }
    lines.join("\n")
}

/// What took time as well, and is in no percentile of what committed.
fn left_out(turn: &TurnRecord) -> Option<String> {
    let counts = [(OutcomeClass::Unknown, "unknown"), (OutcomeClass::Aborted, "aborted")];
    let counts = counts.map(|(class, word)| (turn.counts.of(class), word));
    let said: Vec<String> = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", grouped(n))).collect();
    (!said.is_empty()).then(|| format!("these times are of committed iterations alone, without {} ones", said.join(" and ")))
}

/// How much of what a user's own operations committed changed anything, if not all of it did.
fn unchanged(record: &RunRecord, turn: &TurnRecord) -> Option<String> {
    let (committed, changed) = (turn.counts.of(OutcomeClass::Committed), turn.counts.changed);
    let is_worth_it = matches!(record.plan.workload, Workload::Sql(_)) && !record.plan.claims.is_empty();
    (is_worth_it && changed < committed)
        .then(|| format!("{} of {} committed iterations changed something", grouped(changed), grouped(committed)))
}

/// Every threshold with what was measured.
fn thresholds(record: &RunRecord, width: u16) -> String {
    let mut lines = Vec::new();
    for turn in &record.turns {
        for judged in &turn.thresholds {
            let mark = match judged.state {
                State::Met => "met",
                State::Missed => "MISSED",
                State::Open => "open",
            };
            let why = judged.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            let measured = match &*judged.measured_text {
                "" => "nothing measured".to_owned(),
                text => format!("{text} measured"),
            };
            let line = wrap(&format!("{}: {measured}{why}", judged.threshold), width.saturating_sub(7), "");
            lines.extend(line.lines().enumerate().map(|(i, line)| format!("{:<7}{line}", if i == 0 { mark } else { "" })));
        }
    }
    if lines.is_empty() { String::new() } else { format!("thresholds\n{}", lines.join("\n")) }
}

/// That the rules were never all checked while the load ran, and why: whoever relies on that must know.
fn unwatched(record: &RunRecord, width: u16) -> String {
    let said = |turn: &TurnRecord| {
        let why = turn.live.hindrance.as_ref().filter(|_| turn.live.samples == 0)?;
        let times = if turn.live.missed == 1 { "once".to_owned() } else { format!("{} times", grouped(turn.live.missed)) };
        let prefix = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        let said = format!("{prefix}no check of all rules was completed while the load ran; it was tried {times} ({why})");
        Some(wrap(&said, width, "  "))
    };
    record.turns.iter().filter_map(said).collect::<Vec<_>>().join("\n")
}

fn attempts_per_iteration(turn: &TurnRecord) -> String {
    match turn.counts.iterations() {
        0 => "-".into(),
        n => format!("{:.2}", turn.counts.attempts_made() as f64 / n as f64),
    }
}

fn aborted(turn: &TurnRecord) -> String {
    let all = turn.counts.of(OutcomeClass::Aborted);
    let classes: Vec<String> =
        turn.counts.aborted.keys().map(|a| a.words().split(' ').next().unwrap_or_default().to_owned()).collect();
    if all == 0 { "0".into() } else { format!("{} {}", grouped(all), classes.join("+")) }
}

fn invariants(turn: &TurnRecord) -> String {
    let made = turn.invariants.len();
    let held = turn.invariants.iter().filter(|c| matches!(c.finding, Finding::Holds { .. } | Finding::Vacuous)).count();
    let broken = turn.invariants.iter().filter(|c| matches!(c.finding, Finding::Violated { .. })).count();
    match (made, broken) {
        (0, _) => "-".into(),
        (_, 0) => format!("{held}/{made} hold"),
        _ => format!("{broken}/{made} broken"),
    }
}

/// Failures that are their own explanation.
const USUAL: [&str; 3] = ["40001", "40P01", "55P03"];

/// Every error of the server, by code and routine: retried ones included.
fn errors(record: &RunRecord, width: u16) -> String {
    let lines: Vec<String> = record
        .turns
        .iter()
        .filter(|t| !t.counts.failed_attempts.is_empty() || !t.counts.messages.is_empty())
        .map(|t| {
            let mut causes: Vec<String> = t.counts.sqlstates.iter().map(|(k, n)| format!("{k} {}", grouped(*n))).collect();
            let server: u64 = t.counts.sqlstates.values().sum();
            let all: u64 = t.counts.failed_attempts.values().sum();
            if all > server {
                // Found by the client: no row matched, a connection broke, a deadline passed.
                let local = t.counts.failed_attempts.iter().filter(|(a, _)| !a.words().starts_with(|c: char| c.is_ascii_digit()));
                causes.extend(local.map(|(a, n)| format!("{} {}", a.words(), grouped(*n))));
            }
            let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
            let mut text = wrap(&format!("{}{causes}", t.name), width, "  ");
            // What the server had to say is worth a line where it is not the usual contention.
            for (kind, message) in t.counts.messages.iter().filter(|(kind, _)| !USUAL.iter().any(|usual| kind.starts_with(usual))) {
                text.push('\n');
                text.push_str(&wrap(&format!("  {kind}: {message}"), width, "    "));
            }
            text
        })
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        let by = if record.plan.http().is_some() { "" } else { ", by SQLSTATE and reporting routine" };
        format!("failed attempts{by}\n{}", lines.join("\n"))
    }
}

fn findings(record: &RunRecord, width: u16) -> String {
    let mut parts = Vec::new();
    let subject = record.plan.subject();
    for turn in &record.turns {
        // Rows of the user's own: no audit names operations, the rules name rows.
        if !record.plan.keeps_ledger() {
            parts.extend(turn.invariants.iter().filter_map(|checked| rows(checked, "", width)));
        }
        parts.extend(healed(turn, width));
    }
    for turn in record.turns.iter().filter(|t| t.audit.is_violated()) {
        let total: u64 = turn.audit.breaches.values().sum();
        let mut lines = vec![format!("what {} broke: {} findings", turn.name, grouped(total))];
        lines.extend(turn.audit.lost.as_ref().map(|lost| wrap(&lost_in_words(lost, subject), width, "  ")));
        let mut shown = Vec::new();
        for finding in &turn.audit.findings {
            // A few of each kind: the first kind alone would hide what followed from it.
            if shown.iter().filter(|breach| **breach == finding.breach).count() == FINDINGS_SHOWN {
                continue;
            }
            shown.push(finding.breach);
            let line = format!(
                "{} {} {subject} {} by {}: {}",
                finding.breach.words(),
                if record.plan.scheduling().is_some() { "in" } else { "on" },
                finding.authorisation,
                shorten(&finding.operations.join(", "), 60),
                finding.detail
            );
            lines.push(wrap(&line, width, "  "));
        }
        let more = total - shown.len() as u64;
        lines.push(format!("  and {} more; operations are named run.vu.n", grouped(more)));
        // What was promised and is not there leaves no row that could be shown.
        let in_rows = turn.invariants.iter().any(|checked| matches!(checked.finding, Finding::Violated { .. }));
        let where_to_look = match in_rows {
            true => format!("  the rows: {}", record.verify),
            false => {
                "  no rule is broken by the rows that are left; what clients were told is in the histories beside the record".into()
            }
        };
        lines.push(wrap(&where_to_look, width, "  "));
        parts.push(lines.join("\n"));
    }
    parts.join("\n\n")
}

/// How much was lost of what was acknowledged, from when, and whether it was the end of each history.
fn lost_in_words(lost: &Lost, subject: &str) -> String {
    let of = |n: u64, noun: &str| format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" });
    let mut said = format!("{} lost, of {}", of(lost.operations, "acknowledged operation"), of(lost.authorisations, subject));
    if lost.unexplained < lost.operations {
        said += &format!("; from the last {} ms before the server went down", milliseconds(lost.span_ms));
    }
    if lost.unexplained > 0 {
        said += &format!("; {} of them without any crash", grouped(lost.unexplained));
    }
    match lost.survivors {
        0 => format!("{said}; of each {subject} exactly the last ones"),
        n => format!("{said}; not only the last ones: {} came after a lost one and is there", of(n, "operation")),
    }
}

/// The rows that broke a rule while the load ran, of which none is left that does.
fn healed(turn: &TurnRecord, width: u16) -> Option<String> {
    let broken = turn.live.broken.as_ref()?;
    let (seconds, _) = turn.live.first_breach.as_ref()?;
    let is_still_broken =
        turn.invariants.iter().any(|after| after.name == broken.name && matches!(after.finding, Finding::Violated { .. }));
    if is_still_broken { None } else { rows(broken, &format!(" under load, after {seconds:.1} s"), width) }
}

/// The rows that break one rule.
fn rows(checked: &Checked, when: &str, width: u16) -> Option<String> {
    let Finding::Violated { total, rows, .. } = &checked.finding else { return None };
    let mut lines =
        vec![format!("what broke {}{when}: {} row{}", checked.name, grouped(*total as u64), if *total == 1 { "" } else { "s" })];
    for row in rows {
        let value = |value: &Option<String>| value.clone().unwrap_or("nothing".into());
        let line = format!("{}: expected {}, found {}", value(&row.subject), value(&row.expected), value(&row.actual));
        lines.push(wrap(&line, width, "  "));
    }
    let more = *total - rows.len() as i64;
    if more > 0 {
        lines.push(format!("  and {} more", grouped(more as u64)));
    }
    Some(lines.join("\n"))
}

/// The verdict, what it rests on, and the command that runs it again.
pub fn verdict(record: &RunRecord, record_path: Option<&str>, width: u16, colour: bool) -> String {
    let word = Paint { colour }.verdict(record.verdict);
    // One word is enough where both are the same.
    let decision = record.decision.word();
    let same = decision.eq_ignore_ascii_case(record.verdict.word());
    let mut lines = vec![if same { word } else { format!("{word} ({decision})") }];
    if record.verdict == Verdict::Pass {
        lines.push(wrap(&record.claim, width, "  "));
        let bounds = bounds(record);
        if !bounds.is_empty() {
            lines.push(wrap(&bounds, width, "  "));
        }
    } else {
        for reason in record.reasons.iter().take(REASONS_SHOWN) {
            lines.push(wrap(&shorten(reason, 500), width, "  "));
        }
        if record.reasons.len() > REASONS_SHOWN {
            lines.push(format!("  and {} more reasons, in the record", record.reasons.len() - REASONS_SHOWN));
        }
    }
    lines.extend(controls(&record.controls, width));
    lines.push(wrap(&format!("again:  {}", record.command), width, "  "));
    if let Some(path) = record_path {
        lines.push(format!("  record: {path}"));
    }
    lines.join("\n")
}

/// How much a pass of these turns says; each turn's own reason is in the record.
fn bounds(record: &RunRecord) -> String {
    let blocks = record.plan.blocks();
    match &record.turns[..] {
        [turn] => turn.reasons.join("; "),
        _ => format!(
            "no breach in any of the contested {blocks}; the bound is the share of them that may have one all the same, at 95 % confidence"
        ),
    }
}

/// What showed that this test can fail.
fn controls(controls: &[Control], width: u16) -> Vec<String> {
    let mut names: Vec<&str> = controls.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            let at = |moment| {
                controls
                    .iter()
                    .find(|c| c.name == name && c.moment == moment)
                    .map(|c| format!("{} in {:.1} s", if c.fired { "caught" } else { "NOT caught" }, c.seconds))
            };
            let expected = controls.iter().find(|c| c.name == name).map_or("", |c| &c.expected);
            let line = format!(
                "control: {} ({expected}) before: {}; after: {}",
                name,
                at(Moment::Before).unwrap_or("not run".into()),
                at(Moment::After).unwrap_or("not run".into())
            );
            wrap(&line, width, "  ")
        })
        .collect()
}
