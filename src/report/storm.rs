//! How does a storm of cancelled requests read? A row per client, the smallest case of what went wrong, and what to do about it.

use comfy_table::{Cell, CellAlignment, Color};

use super::run::{ROOMY, milliseconds};
use super::text::{Paint, finish, grid, grouped, mark, wrap};
use crate::storm::{Client, ClientRecord, StormRecord};
use crate::verdict::Verdict;

/// What is told when a client is through.
pub fn note(client: &ClientRecord) -> String {
    let tally = &client.tally;
    format!(
        "{} {}: {} of {} requests cancelled while BEGIN was under way, {} of {} acknowledged writes lost: {}",
        client.client.name(),
        client.version,
        grouped(tally.cancelled_in_begin),
        grouped(tally.requests),
        grouped(tally.lost.len() as u64),
        grouped(tally.acknowledged),
        word(client)
    )
}

/// The table, the verdict, the example, and what to do.
pub fn text(record: &StormRecord, width: u16, colour: bool) -> String {
    let header = ["client", "version", "cancelled in BEGIN", "left in a transaction", "acknowledged", "lost", "verdict"];
    let mut table = grid(&header, width, colour);
    for client in std::iter::once(&record.control).chain(&record.clients) {
        let tally = &client.tally;
        let counts = [tally.cancelled_in_begin, tally.left_open, tally.acknowledged, tally.lost.len() as u64];
        let mut row = vec![Cell::new(client.client.name()), Cell::new(&client.version)];
        row.extend(counts.map(|count| Cell::new(grouped(count)).set_alignment(CellAlignment::Right)));
        row.push(mark(word(client), shade(client)));
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, if width < ROOMY { 1 } else { 2 }));
    }
    let broken: Vec<String> = record
        .clients
        .iter()
        .filter(|client| client.verdict == Verdict::Violated)
        .map(|client| format!("{} {}", client.client.name(), client.version))
        .collect();
    let mut lines = vec![finish(&table), String::new(), Paint { colour }.verdict(record.verdict)];
    let mut say = |text: &str| lines.push(wrap(text, width, "  "));
    match record.verdict {
        Verdict::Violated => say(&format!("{} gives connections back inside an open transaction", broken.join(", "))),
        Verdict::Pass => say("no connection was given back inside a transaction, and no acknowledged write was lost"),
        Verdict::Missed | Verdict::Inconclusive => say("nothing was shown either way"),
    }
    for client in record.clients.iter().filter(|client| client.verdict != Verdict::Pass) {
        for reason in &client.reasons {
            say(&format!("{}: {reason}", client.client.name()));
        }
        if let Some(example) = &client.example {
            say(&format!(
                "for example: request {} was cancelled {} ms after it had begun, waiting for the answer to BEGIN; write {} was acknowledged \
                 on the same connection (process {}), and is in no table",
                example.cancelled,
                milliseconds(example.after_ms),
                example.lost,
                example.pid
            ));
        }
    }
    if !broken.is_empty() {
        say(
            "cure:  never wrap begin() in a timeout or select!, nor abort a task that is in it: let the server time out (statement_timeout, \
             lock_timeout); upgrade once a release has the fix, and run this again",
        );
    }
    if !record.is_controlled() {
        say(&format!(
            "the control was not caught, so that nothing can be said of the others: {}",
            record.control.reasons.join("; ")
        ));
    }
    say(&format!("again: {}", record.command));
    lines.join("\n")
}

fn word(client: &ClientRecord) -> &'static str {
    match (client.client, client.verdict) {
        (Client::Unguarded, Verdict::Violated) => "caught (control)",
        (Client::Unguarded, _) => "not caught (control)",
        (_, Verdict::Pass) => "holds",
        (_, verdict) => verdict.word(),
    }
}

fn shade(client: &ClientRecord) -> Color {
    let is_good = (client.client == Client::Unguarded) == (client.verdict == Verdict::Violated);
    match client.verdict {
        Verdict::Inconclusive | Verdict::Missed => Color::Yellow,
        _ if is_good => Color::Green,
        _ => Color::Red,
    }
}
