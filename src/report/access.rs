//! What came of the drills of an API? A row for each criterion; what went wrong, with those to blame, comes below.

use comfy_table::Color;

use super::text::{Paint, conclusion, finish, grid, mark, wrap};
use crate::access::{AccessRecord, DrillRecord, Kind, Mistake, Subject};
use crate::verdict::Verdict;

/// Columns of everything that is not a table.
const NARROW: u16 = 100;

/// The drills, and the mistakes that make them fail.
pub fn list_text(subject: Subject, width: u16, colour: bool) -> String {
    let narrow = width.min(NARROW);
    let mut table = grid(&["drill", "mistakes", "question"], narrow, colour);
    for drill in subject.drills() {
        let mistakes: Vec<&str> = drill.mistakes().iter().map(|(mistake, _)| mistake.name()).collect();
        table.add_row([drill.name(), &mistakes.join("\n"), drill.question()]);
    }
    let mut of_mistakes = grid(&["mistake", "what is done wrong"], narrow, colour);
    for mistake in Mistake::ALL.into_iter().filter(|mistake| mistake.drills(subject).next().is_some()) {
        of_mistakes.add_row([mistake.name(), mistake.summary()]);
    }
    format!("{}\n\n{}", finish(&table), finish(&of_mistakes))
}

/// The report for a terminal of `width` columns. The verdict comes last, since that is where one looks.
pub fn text(record: &AccessRecord, width: u16, colour: bool) -> String {
    let narrow = width.min(NARROW);
    let paint = Paint { colour };
    let mut parts = Vec::new();
    if !record.drills.is_empty() {
        parts.push(match record.kind {
            Kind::SelfTest => self_test(&record.drills, narrow, colour),
            Kind::Drills | Kind::Bug => criteria(&record.drills, narrow, colour),
        });
    }
    if record.kind == Kind::Drills {
        let figures: Vec<String> = record
            .drills
            .iter()
            .flat_map(|drill| drill.figures.iter().map(move |figure| wrap(&format!("{}: {figure}", drill.drill), narrow, "  ")))
            .collect();
        if !figures.is_empty() {
            parts.push(figures.join("\n"));
        }
    }
    // What a self-test was to make fail, and what failed as it should, needs no explanation.
    let unexplained = |drill: &&DrillRecord| match record.kind {
        Kind::SelfTest => !drill.is_caught(),
        Kind::Drills | Kind::Bug => drill.verdict != Verdict::Pass,
    };
    parts.extend(record.drills.iter().filter(unexplained).map(|drill| details(drill, narrow, paint)));
    parts.push(conclusion(record.verdict, &record.reasons, narrow, paint));
    if !record.controls.is_empty() {
        let last = parts.len() - 1;
        let caught = record.controls.iter().filter(|control| control.is_caught()).count();
        let all = format!("controls: {caught} of {} mistakes were caught, each by its drill", record.controls.len());
        parts[last] = format!("{}\n{}", parts[last], wrap(&all, narrow, "  "));
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

fn criteria(drills: &[DrillRecord], width: u16, colour: bool) -> String {
    let mut table = grid(&["drill", "criterion", "measured", "needed", "verdict"], width, colour);
    for drill in drills {
        let mut name = drill.drill.name();
        for criterion in &drill.criteria {
            let what = criterion.of.as_ref().map_or(criterion.what.clone(), |of| format!("{} · {of}", criterion.what));
            table.add_row([
                name.into(),
                what.into(),
                criterion.measured.as_str().into(),
                criterion.needed.as_str().into(),
                verdict(criterion.verdict),
            ]);
            name = "";
        }
    }
    finish(&table)
}

fn self_test(drills: &[DrillRecord], width: u16, colour: bool) -> String {
    let mut table = grid(&["drill", "mistake", "found", "caught"], width, colour);
    for drill in drills {
        let caught = match drill.verdict {
            _ if drill.is_caught() => mark("yes", Color::Green),
            Verdict::Inconclusive => mark("open", Color::Yellow),
            Verdict::Pass | Verdict::Missed | Verdict::Violated => mark("NO", Color::Red),
        };
        let mistake = drill.mistake.map_or("", Mistake::name);
        table.add_row([drill.drill.name().into(), mistake.into(), drill.finding().into(), caught]);
    }
    finish(&table)
}

fn details(drill: &DrillRecord, width: u16, paint: Paint) -> String {
    let heading = wrap(&format!("{}: {}", drill.drill, drill.drill.question()), width, "");
    let mut lines = vec![match drill.verdict {
        Verdict::Violated => paint.red(&heading),
        Verdict::Pass | Verdict::Missed | Verdict::Inconclusive => paint.yellow(&heading),
    }];
    for criterion in drill.failed() {
        lines.push(wrap(&criterion.words(), width, "  "));
        lines.extend(criterion.offenders.iter().map(|offender| wrap(offender, width, "    ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{Drill, Pace, SCHEMA_VERSION, Seen};

    fn record(kind: Kind, drills: Vec<DrillRecord>, controls: Vec<DrillRecord>) -> AccessRecord {
        let mut record = AccessRecord {
            schema_version: SCHEMA_VERSION,
            subject: Subject::RateLimit,
            verdict: Verdict::Inconclusive,
            exit_code: 0,
            reasons: Vec::new(),
            kind,
            interrupted: false,
            dbstress: "0".into(),
            database: "localhost:1/x".into(),
            target: None,
            controls,
            drills,
            seconds: 1.0,
            again: "dbstress rate-limit".into(),
        };
        record.conclude(Vec::new());
        record
    }

    fn drill(mistake: Option<Mistake>, first_rejection: u64) -> DrillRecord {
        let mut seen = Seen::new(Pace { is_judged: true, slack: 1.0 });
        seen.about(Some("BASIC: all=1000/60s".into()));
        seen.count("first rejection, request", 1_001, first_rejection);
        seen.none("counted otherwise than down by one", 1_050, Vec::new());
        seen.about(None);
        seen.less("p95 of rejections", 50.0, "ms", Some(1.5));
        seen.none("server errors", 1_050, if mistake.is_some() { vec!["GET /v1/x: 500 INTERNAL".into()] } else { Vec::new() });
        DrillRecord::of(Drill::Exact, mistake, seen, Duration::from_secs(1))
    }

    #[test]
    fn it_says_everything_in_100_columns_without_colour() {
        let made = Some(Mistake::LimitOffByOne);
        let passed = record(Kind::Drills, vec![drill(None, 1_001)], vec![drill(made, 1_002)]);
        let broken = record(Kind::Bug, vec![drill(made, 1_002)], Vec::new());
        let tried = record(Kind::SelfTest, vec![drill(made, 1_002)], Vec::new());
        let missed = record(Kind::SelfTest, vec![drill(made, 1_001)], Vec::new());
        for (record, said) in [
            (passed, vec!["exact first rejection", "PASS", "1 of 1 mistakes were caught", "less than 50 ms"]),
            (broken, vec!["VIOLATED", "a known mistake was made on purpose: limit-off-by-one", "    GET /v1/x: 500 INTERNAL"]),
            (tried, vec!["limit-off-by-one", "yes", "PASS"]),
            (missed, vec!["NO", "INCONCLUSIVE", "could not have failed"]),
        ] {
            let text = text(&record, 100, false);
            for what in said.into_iter().chain(["again: dbstress rate-limit"]) {
                assert!(text.contains(what), "`{what}` is missing from:\n{text}");
            }
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            assert!(!text.contains('\x1b'), "{text}");
        }
    }

    #[test]
    fn what_a_command_can_do_is_listed() {
        for subject in Subject::ALL {
            let text = list_text(subject, 100, false);
            for drill in subject.drills() {
                assert!(text.contains(drill.name()), "{text}");
                assert!(drill.mistakes().iter().all(|(mistake, _)| text.contains(mistake.name())), "{text}");
            }
        }
    }
}
