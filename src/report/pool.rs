//! What came of the drills of a pool? A row for each; what is longer comes below it, for those that did not pass.

use comfy_table::Color;

use super::text::{Paint, conclusion, finish, grid, mark, wrap};
use crate::drill::{Culprit, Drill, DrillRecord, DrillsRecord, Kind, Mistake};
use crate::verdict::Verdict;

/// Columns of everything that is not a table.
const NARROW: u16 = 80;
/// Culprits that are shown of those who did the same.
const SHOWN: usize = 10;

/// The drills, and the mistakes that make them fail.
pub fn list_text(width: u16, colour: bool) -> String {
    let narrow = width.min(NARROW);
    let mut table = grid(&["drill", "mistakes", "question"], narrow, colour);
    for drill in Drill::ALL {
        let mistakes: Vec<&str> = drill.mistakes().iter().map(|mistake| mistake.name()).collect();
        table.add_row([drill.name(), &mistakes.join("\n"), drill.question()]);
    }
    let mut of_mistakes = grid(&["mistake", "what is done wrong"], narrow, colour);
    for mistake in Mistake::ALL {
        of_mistakes.add_row([mistake.name(), mistake.summary()]);
    }
    format!("{}\n\n{}", finish(&table), finish(&of_mistakes))
}

/// The report for a terminal of `width` columns. The verdict comes last, since that is where one looks.
pub fn text(record: &DrillsRecord, width: u16, colour: bool) -> String {
    let narrow = width.min(NARROW);
    let paint = Paint { colour };
    let mut parts = Vec::new();
    if !record.drills.is_empty() {
        parts.push(match record.kind {
            Kind::SelfTest => self_test_table(&record.drills, narrow, colour),
            Kind::Drills | Kind::Bug => drills_table(&record.drills, narrow, colour),
        });
    }
    let figures: Vec<String> = record
        .drills
        .iter()
        .filter(|drill| drill.mistake.is_none())
        .flat_map(|drill| drill.figures.iter().map(move |figure| wrap(&format!("{}: {figure}", drill.drill), narrow, "  ")))
        .collect();
    if !figures.is_empty() {
        parts.push(figures.join("\n"));
    }
    // What a self-test was to make fail, and what failed as it should, needs no explanation.
    let unexplained = |drill: &&DrillRecord| match record.kind {
        Kind::SelfTest => drill.verdict != Verdict::Violated,
        Kind::Drills | Kind::Bug => drill.verdict != Verdict::Pass,
    };
    parts.extend(record.drills.iter().filter(unexplained).map(|drill| details(drill, narrow, paint)));
    parts.push(conclusion(record.verdict, &record.reasons, narrow, paint));
    let controls: Vec<String> = record
        .controls
        .iter()
        .map(|control| {
            let word = if control.is_caught { "caught" } else { "NOT caught" };
            wrap(&format!("control: {} {word} in {:.1} s: {}", control.mistake, control.seconds, control.detail), narrow, "  ")
        })
        .collect();
    if !controls.is_empty() {
        let last = parts.len() - 1;
        parts[last] = format!("{}\n{}", parts[last], controls.join("\n"));
    }
    parts.push(format!("again: {}", record.again));
    parts.join("\n\n")
}

fn verdict(verdict: Verdict) -> comfy_table::Cell {
    let colour = match verdict {
        Verdict::Pass => Color::Green,
        Verdict::Violated => Color::Red,
        Verdict::Missed | Verdict::Inconclusive => Color::Yellow,
    };
    mark(verdict.word(), colour)
}

fn drills_table(drills: &[DrillRecord], width: u16, colour: bool) -> String {
    let mut table = grid(&["drill", "expected", "seen", "verdict"], width, colour);
    for drill in drills {
        table.add_row([
            drill.drill.name().into(),
            drill.expected.as_str().into(),
            drill.seen.as_str().into(),
            verdict(drill.verdict),
        ]);
    }
    finish(&table)
}

fn self_test_table(drills: &[DrillRecord], width: u16, colour: bool) -> String {
    let mut table = grid(&["drill", "mistake", "found", "fired"], width, colour);
    for drill in drills {
        let fired = match drill.verdict {
            Verdict::Violated => mark("yes", Color::Green),
            Verdict::Inconclusive if drill.is_tried() => mark("open", Color::Yellow),
            Verdict::Inconclusive => mark("not tried", Color::Yellow),
            Verdict::Pass | Verdict::Missed => mark("NO", Color::Red),
        };
        let found = drill.reasons.first().map_or("nothing", String::as_str);
        table.add_row([drill.drill.name().into(), drill.mistake.map_or("", Mistake::name).into(), found.into(), fired]);
    }
    finish(&table)
}

fn details(drill: &DrillRecord, width: u16, paint: Paint) -> String {
    let heading = wrap(&format!("{}: {}", drill.drill, drill.drill.question()), width, "");
    let mut lines = vec![match drill.verdict {
        Verdict::Violated => paint.red(&heading),
        Verdict::Pass | Verdict::Missed | Verdict::Inconclusive => paint.yellow(&heading),
    }];
    lines.extend(drill.reasons.iter().map(|reason| wrap(reason, width, "  ")));
    lines.extend(culprits(drill, width));
    lines.join("\n")
}

/// The first of those who did the same, and how many others did.
fn culprits(drill: &DrillRecord, width: u16) -> Vec<String> {
    let mut deeds: Vec<(&str, Vec<&Culprit>)> = Vec::new();
    for culprit in &drill.culprits {
        match deeds.iter_mut().find(|(what, _)| *what == culprit.what) {
            Some((_, all)) => all.push(culprit),
            None => deeds.push((&culprit.what, vec![culprit])),
        }
    }
    let mut lines = Vec::new();
    for (_, all) in deeds {
        lines.extend(all.iter().take(SHOWN).map(|culprit| wrap(&culprit.to_string(), width, "    ")));
        if all.len() > SHOWN {
            lines.push(format!("    and {} more of these", all.len() - SHOWN));
        }
    }
    if drill.culprits_left_out > 0 {
        lines.push(format!("    and {} others", drill.culprits_left_out));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drill::{Control, SCHEMA_VERSION, Seen};

    fn record(kind: Kind, drills: Vec<DrillRecord>) -> DrillsRecord {
        let mut record = DrillsRecord {
            schema_version: SCHEMA_VERSION,
            verdict: Verdict::Inconclusive,
            exit_code: 0,
            reasons: Vec::new(),
            kind,
            interrupted: false,
            dbstress: "0".into(),
            database: "localhost:1/x".into(),
            server: "17".into(),
            controls: vec![Control {
                mistake: Mistake::Leak,
                is_caught: true,
                detail: "leaked: 4 instead of 0".into(),
                seconds: 0.1,
            }],
            drills,
            seconds: 1.0,
            again: "dbstress pool".into(),
        };
        record.conclude(Vec::new());
        record
    }

    fn drill(drill: Drill, mistake: Option<Mistake>, leaked: i64) -> DrillRecord {
        let mut seen = Seen::default();
        seen.count("served", 1_000, 1_000);
        seen.count("leaked", 0, leaked);
        seen.figure("250 operations/s".into());
        seen.blame((1..=70).map(|who| Culprit {
            request: Some(who),
            session: Some(1_234_567),
            seconds: Some(0.42),
            what: "has not given it back".into(),
        }));
        DrillRecord::of(drill, mistake, seen, Duration::from_secs(1))
    }

    #[test]
    fn it_says_everything_in_80_columns_without_colour() {
        let broken =
            record(Kind::Bug, vec![drill(Drill::Metrics, Some(Mistake::Leak), 24), drill(Drill::Refill, Some(Mistake::Leak), 0)]);
        let passed = record(Kind::Drills, Drill::ALL.map(|d| drill(d, None, 0)).to_vec());
        let tried = record(Kind::SelfTest, vec![drill(Drill::Metrics, Some(Mistake::Leak), 24)]);
        let untried = record(Kind::SelfTest, vec![drill(Drill::RollbackOnError, Some(Mistake::SharedConnection), 0)]);
        for (record, said) in [
            (
                broken,
                vec![
                    "metrics           1,000 served, 0 leaked 1,000 served, 24 leaked violated",
                    "  leaked: 24 instead of 0",
                    "    request 1, session 1234567, 0.420 s: has not given it back",
                    "and 50 more of these",
                    "and 10 others",
                    "a known mistake was made on purpose: leak",
                    "refill did not find it",
                ],
            ),
            (
                passed,
                vec![
                    "metrics: 250 operations/s",
                    "PASS",
                    "control: leak caught in 0.1 s",
                    "15 of 15 drills",
                    "again: dbstress pool",
                ],
            ),
            (tried, vec!["leak    leaked: 24 instead of 0 yes", "PASS"]),
            (untried, vec!["nothing NO", "rollback-on-error with shared-connection did not fail", "INCONCLUSIVE"]),
        ] {
            let shown = text(&record, 200, false);
            assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
            assert!(!shown.contains('\x1b'), "{shown}");
            let squeezed = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            for what in said {
                assert!(squeezed(&shown).contains(&squeezed(what)), "`{what}` is missing:\n{shown}");
            }
            let json = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<DrillsRecord>(&json).unwrap(), record, "it can be read again");
        }
    }

    #[test]
    fn without_drills_there_is_no_table_and_what_was_not_tried_did_not_fail_to_fire() {
        let nothing = text(&record(Kind::Drills, Vec::new()), 80, false);
        assert!(!nothing.contains("expected") && nothing.starts_with("INCONCLUSIVE"), "{nothing}");
        let gone = DrillRecord::of(Drill::Metrics, Some(Mistake::Leak), Seen::open("it went away".into()), Duration::ZERO);
        let untried = text(&record(Kind::SelfTest, vec![gone]), 80, false);
        assert!(untried.contains("not tried") && !untried.contains("NO\n") && !untried.contains("did not fail"), "{untried}");
    }

    #[test]
    fn the_list_has_every_drill_and_every_mistake() {
        let text = list_text(80, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for name in Drill::ALL.map(Drill::name).into_iter().chain(Mistake::ALL.map(Mistake::name)) {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
