//! How does a ladder of loads read? A row per trial, what missed the SLO, then how much load it takes until it breaks. Sizes of a pool have a row each,
//! and then which of them is enough.

use comfy_table::{Cell, CellAlignment, Color};

use super::run::milliseconds;
use super::text::{Paint, finish, grid, grouped, mark, shorten, wrap};
use crate::metrics::{Percentiles, percent};
use crate::pace::duration_text;
use crate::record::{Advice, Capacity, CapacityRecord, CapacityStep, LoadUnit, Sweep};
use crate::verdict::Verdict;

/// A load in words: `1 VU`, `200 arrivals/s`.
pub fn load(load: f64, unit: LoadUnit) -> String {
    match unit {
        LoadUnit::Vus if load == 1.0 => "1 VU".into(),
        LoadUnit::Vus => format!("{load} VUs"),
        LoadUnit::Arrivals => format!("{load} arrivals/s"),
        LoadUnit::Connections if load == 1.0 => "1 connection".into(),
        LoadUnit::Connections => format!("{load} connections"),
    }
}

/// The whole report.
pub fn text(record: &CapacityRecord, width: u16, colour: bool) -> String {
    let table = if record.sweep.is_some() { sizes(record, width, colour) } else { table(record, width, colour) };
    let mut parts = vec![wrap(&heading(record), width, ""), table];
    let reasons: Vec<String> = record.steps.iter().filter_map(|step| reason(record, step, width)).collect();
    if !reasons.is_empty() {
        parts.push(reasons.join("\n"));
    }
    parts.push(conclusion(record, width, colour));
    parts.join("\n\n")
}

fn heading(record: &CapacityRecord) -> String {
    let server = record.server.as_ref().map_or(String::new(), |s| format!("; PostgreSQL {} at {}", s.version, s.address));
    let (at, of) = match &record.sweep {
        Some(sweep) => (format!(" at {}", load(sweep.load, sweep.unit)), "each size three times, the middle of the three; "),
        None => (String::new(), ""),
    };
    format!(
        "{}{at}, {} a step, the first tenth not counted{server}; {of}response times in ms, of committed iterations",
        record.scenario,
        duration_text(record.step)
    )
}

fn table(record: &CapacityRecord, width: u16, colour: bool) -> String {
    let unit = if record.unit == LoadUnit::Vus { "VUs" } else { "arrivals/s" };
    let mut table = grid(&[unit, "commits/s", "p50", "p95", "p99", "refused", "aborted", "SLO"], width, colour);
    let columns = 8;
    for step in &record.steps {
        for trial in &step.trials {
            let percentile =
                |pick: fn(&Percentiles) -> Option<f64>| trial.response.as_ref().and_then(pick).map_or("-".into(), milliseconds);
            let (word, shade) = word(trial.verdict);
            table.add_row(vec![
                Cell::new(step.load),
                Cell::new(grouped(trial.committed_per_second.round() as u64)),
                Cell::new(percentile(|p| p.p50)),
                Cell::new(percentile(|p| p.p95)),
                Cell::new(percentile(|p| p.p99)),
                Cell::new(grouped(trial.refused)),
                Cell::new(grouped(trial.aborted)),
                mark(word, shade),
            ]);
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index + 1 < columns {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

/// A row for each size that was tried.
fn sizes(record: &CapacityRecord, width: u16, colour: bool) -> String {
    let most = record.sweep.as_ref().and_then(|sweep| sweep.allowed);
    let of_server = most.map_or("of server".into(), |most| format!("of {most}"));
    let header = ["size", &of_server, "commits/s", "range", "p95", "wait p95", "in use", "at most", "SLO"];
    let mut table = grid(&header, width, colour);
    for step in record.steps.iter().filter(|step| !step.trials.is_empty()) {
        let or_none = |figure: Option<f64>, text: fn(f64) -> String| figure.map_or("-".into(), text);
        let (word, shade) = word(step.verdict.unwrap_or(Verdict::Inconclusive));
        table.add_row(vec![
            Cell::new(step.load),
            Cell::new(or_none(most.map(|most| step.load / most), percent)),
            Cell::new(or_none(step.throughput(), |n| grouped(n.round() as u64))),
            Cell::new(spread(step)),
            Cell::new(or_none(step.p95(), milliseconds)),
            Cell::new(or_none(step.median(|trial| trial.wait.as_ref()?.p95), milliseconds)),
            Cell::new(or_none(step.median(|trial| Some(trial.pool?.average)), percent)),
            Cell::new(or_none(step.median(|trial| Some(trial.pool?.maximum)), percent)),
            mark(word, shade),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index + 1 < header.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

/// The trial with the lowest throughput and the one with the highest.
fn spread(step: &CapacityStep) -> String {
    let mut all: Vec<u64> = step.trials.iter().map(|trial| trial.committed_per_second.round() as u64).collect();
    all.sort_unstable();
    match &*all {
        [lowest, .., highest] => format!("{}..{}", grouped(*lowest), grouped(*highest)),
        _ => "-".into(),
    }
}

/// Which size is enough and why, how it compares with the rule of thumb, and what to try next.
fn advised(record: &CapacityRecord, sweep: &Sweep, advice: Advice) -> Vec<String> {
    let step = |size: f64| record.steps.iter().find(|step| step.load == size);
    let throughput = |size| step(size).and_then(CapacityStep::throughput).map_or("-".into(), |n| grouped(n.round() as u64));
    let p95 = |size| step(size).and_then(CapacityStep::p95).map_or("-".into(), milliseconds);
    let sizes: Vec<f64> = record.steps.iter().map(|step| step.load).collect();
    let (is_smallest, is_largest) = (sizes.first() == Some(&advice.size), sizes.last() == Some(&advice.size));
    let what = load(advice.size, LoadUnit::Connections);
    let mut said = vec![if [advice.most, advice.fastest] == [advice.size; 2] {
        let both = format!("its throughput ({} commits/s) and its response p95 ({} ms)", throughput(advice.size), p95(advice.size));
        match (is_smallest, is_largest) {
            (true, _) => format!("{what}: no larger size that kept the SLO surpasses {both}"),
            (_, true) => format!("{what}: no smaller size that kept the SLO comes near both {both}"),
            _ => format!("{what}: no smaller size that kept the SLO comes near both {both}, and no larger one surpasses them"),
        }
    } else {
        format!(
            "{what}: the smallest size that kept the SLO with at least 95 % of the highest throughput ({} of {} commits/s, with {}) and at most 110 % of \
             the shortest response p95 ({} and {} ms, with {})",
            throughput(advice.size),
            throughput(advice.most),
            advice.most,
            p95(advice.size),
            p95(advice.fastest),
            advice.fastest
        )
    }];
    said.extend(overlap(advice.size, &sweep.rivals));
    // More connections than virtual users lie idle.
    let most = if sweep.unit == LoadUnit::Vus { sweep.load } else { f64::INFINITY };
    if is_largest {
        let mut larger = [advice.size, advice.size * 2.0, advice.size * 4.0].map(|size| size.min(most).to_string()).to_vec();
        larger.dedup();
        if advice.size < most {
            said.push(format!(
                "that is the largest that was tried, and larger ones may be better: --pool-size {}",
                larger.join(",")
            ));
        }
    } else if is_smallest && advice.size > 1.0 {
        let half = (advice.size / 2.0).floor();
        said.push(format!("that is the smallest that was tried, and smaller ones may do: --pool-size {half},{}", advice.size));
    }
    said.push(match sweep.cores {
        Some(cores) => format!(
            "the rule of thumb, cores × 2 + 1, says {}: this machine has {cores}, which the server shares with dbstress",
            cores * 2 + 1
        ),
        None => "the rule of thumb is cores × 2 + 1; the server is on another machine, whose cores are not known here".into(),
    });
    said
}

/// How far the choice can be trusted, if there are sizes that it might as well have fallen on.
fn overlap(size: f64, rivals: &[f64]) -> Option<String> {
    let mut sizes = [rivals, &[size]].concat();
    sizes.sort_by(f64::total_cmp);
    let names: Vec<String> = sizes.iter().map(f64::to_string).collect();
    let (last, others) = names.split_last().filter(|(_, others)| !others.is_empty())?;
    Some(format!(
        "the ranges overlap: sizes {} and {last} may change places; a longer --step or a quieter machine tells them apart",
        others.join(", ")
    ))
}

fn word(verdict: Verdict) -> (&'static str, Color) {
    match verdict {
        Verdict::Pass => ("kept", Color::Green),
        Verdict::Missed => ("missed", Color::Yellow),
        Verdict::Inconclusive => ("open", Color::Yellow),
        Verdict::Violated => ("VIOLATED", Color::Red),
    }
}

/// Why a trial of a step did not keep the SLO: of the first that did not, the first reason. The records have all.
fn reason(record: &CapacityRecord, step: &CapacityStep, width: u16) -> Option<String> {
    let trial = step.trials.iter().find(|trial| trial.verdict != Verdict::Pass)?;
    let outvoted = if step.verdict == Some(Verdict::Pass) { ", outvoted" } else { "" };
    let first = shorten(trial.reasons.first()?, 300);
    let more = match trial.reasons.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more, in the record)"),
    };
    Some(wrap(&format!("{}{outvoted}: {first}{more}", load(step.load, record.unit)), width, "  "))
}

/// The answer, and what it rests on.
fn conclusion(record: &CapacityRecord, width: u16, colour: bool) -> String {
    let paint = Paint { colour };
    let word = match record.finding {
        Capacity::Knee => paint.green("KNEE FOUND"),
        Capacity::WholeLadder => paint.green("WHOLE LADDER KEPT"),
        Capacity::Recommended => paint.green("RECOMMENDED"),
        Capacity::Missed => paint.yellow("MISSED"),
        Capacity::AtLeast | Capacity::Open => paint.yellow("INCONCLUSIVE"),
        Capacity::Violated => paint.red("VIOLATED"),
    };
    let mut lines = vec![word];
    match &record.sweep {
        Some(sweep) if let Some(advice) = sweep.advice => {
            lines.extend(advised(record, sweep, advice).iter().map(|said| wrap(said, width, "  ")));
        }
        _ => lines.push(wrap(&sentence(record), width, "  ")),
    }
    let judged = record.steps.iter().filter(|step| matches!(step.verdict, Some(Verdict::Pass | Verdict::Missed))).count();
    if judged > 1 && record.finding != Capacity::Violated && record.sweep.is_none() {
        let of = " (one run a step, the median of three at the edge)";
        let growth = match record.saturated_at {
            Some(at) => format!("from {} on, throughput grows by no more than 5 % per doubling{of}", load(at, record.unit)),
            None => format!("throughput still grew by more than 5 % per doubling at the end{of}"),
        };
        lines.push(wrap(&growth, width, "  "));
    }
    if record.finding != Capacity::Violated && !record.slo.is_empty() {
        lines.push(wrap(&format!("SLO: {}", record.slo.join(", ")), width, "  "));
    }
    if !record.left_out.is_empty() {
        let why = format!("left out, since it asks for an amount of load: {}", record.left_out.join(", "));
        lines.push(wrap(&why, width, "  "));
    }
    let integrity = "no step claims anything of integrity, so none has controls; after each, history, ledger, rows and all \
                     invariants were examined all the same";
    let found = if record.finding == Capacity::Violated { "" } else { ", and no breach was found" };
    lines.push(wrap(&format!("{integrity}{found}"), width, "  "));
    lines.push(wrap(&format!("again:  {}", record.command), width, "  "));
    lines.join("\n")
}

/// What came of it, in a sentence.
fn sentence(record: &CapacityRecord) -> String {
    let step = |load: Option<f64>| record.steps.iter().find(|step| Some(step.load) == load);
    let kept = step(record.knee).map(|step| kept(record, step)).unwrap_or_default();
    let missed =
        step(record.missed_at).map(|step| format!("{} missed it {}", load(step.load, record.unit), times(step, Verdict::Missed)));
    let why = record.cut_short.clone().unwrap_or_else(|| "the steps say why (a longer --step gives more samples)".into());
    match record.finding {
        Capacity::Missed if record.sweep.is_some() => "no size kept the SLO".into(),
        Capacity::Open | Capacity::Recommended if record.sweep.is_some() => format!("no size can be recommended: {why}"),
        Capacity::Recommended | Capacity::Open => format!("no step could be judged: {why}"),
        Capacity::Knee => format!("{kept}; {}", missed.unwrap_or_default()),
        Capacity::WholeLadder => format!("at least {kept}; that is the end of the ladder"),
        Capacity::AtLeast => format!("at least {kept}; what is above was not judged: {why}"),
        Capacity::Missed => format!("no step kept the SLO: {}", missed.unwrap_or_default()),
        Capacity::Violated => {
            let at = record.steps.iter().find(|step| step.verdict == Some(Verdict::Violated)).map_or(0.0, |step| step.load);
            format!("a rule of integrity was broken at {}; the rows: {}", load(at, record.unit), record.verify)
        }
    }
}

/// `50 VUs kept the SLO 3 of 3 times, with 4,321 commits/s or more and a p95 of 12 ms or less`.
fn kept(record: &CapacityRecord, step: &CapacityStep) -> String {
    let least = step.trials.iter().map(|trial| trial.committed_per_second).fold(f64::INFINITY, f64::min);
    let p95 = step.trials.iter().map(|trial| trial.response.as_ref()?.p95).collect::<Option<Vec<f64>>>();
    let p95 =
        p95.map_or(String::new(), |all| format!(" and a p95 of {} ms or less", milliseconds(all.into_iter().fold(0.0, f64::max))));
    format!(
        "{} kept the SLO {}, with {} commits/s or more{p95}",
        load(step.load, record.unit),
        times(step, Verdict::Pass),
        grouped(least.floor() as u64)
    )
}

fn times(step: &CapacityStep, verdict: Verdict) -> String {
    match (step.trials.iter().filter(|trial| trial.verdict == verdict).count(), step.trials.len()) {
        (1, 1) => "once".into(),
        (n, of) => format!("{n} of {of} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_may_change_places_are_named_in_their_order() {
        let said = overlap(4.0, &[2.0, 8.0]).unwrap();
        assert!(said.starts_with("the ranges overlap: sizes 2, 4 and 8 may change places"), "{said}");
        assert!(overlap(8.0, &[4.0]).unwrap().contains("sizes 4 and 8 may"));
        assert_eq!(overlap(4.0, &[]), None);
    }
}
