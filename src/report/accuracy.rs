//! How does a check of the duty-hour rules read? A confusion matrix, what was done beside it, what it took, and what was wrong.

use comfy_table::{Cell, CellAlignment, Table};

use super::run::milliseconds;
use super::text::{Paint, conclusion, finish, grid, grouped, wrap};
use crate::accuracy::words::{found, subject};
use crate::accuracy::{AccuracyRecord, Listed, Mode, Mutant, MutantRecord, PhaseRecord, Wrong};

/// Columns of everything that is not a table.
const NARROW: u16 = 80;
/// Mistakes that are shown.
const SHOWN: usize = 10;

/// The report for a terminal of `width` columns. The verdict comes last, since that is where one looks.
pub fn text(record: &AccuracyRecord, width: u16, colour: bool) -> String {
    let narrow = width.min(NARROW);
    let paint = Paint { colour };
    let mut parts = vec![heading(record, narrow)];
    if record.mode == Mode::SelfTest {
        parts.push(mutants(&record.mutants, narrow, colour));
    } else {
        parts.push(matrix(record, narrow, colour));
        parts.extend(untested(record, narrow));
    }
    if let Some(findings) = &record.findings {
        parts.push(listed(findings, narrow));
    }
    if record.mode != Mode::SelfTest {
        parts.push(phases(&record.phases, narrow, colour));
        parts.extend(control(record, narrow));
    }
    if !record.wrong.is_empty() {
        parts.push(wrong(record, narrow, paint));
    }
    parts.push(conclusion(record.verdict, &record.reasons, narrow, paint));
    parts.push(format!("again: {}", record.again));
    parts.join("\n\n")
}

/// The mistakes of validators that `--self-test` makes.
pub fn list_text(width: u16, colour: bool) -> String {
    let mut table = grid(&["mistake", "rules", "what the validator does"], width.min(NARROW), colour);
    for mutant in Mutant::ALL {
        table.add_row([mutant.name(), &mutant.sets().join("\n"), mutant.summary()]);
    }
    finish(&table)
}

fn heading(record: &AccuracyRecord, width: u16) -> String {
    let schedule = &record.schedule;
    let sets: Vec<&str> = record.rules.iter().map(|rules| &*rules.name).collect();
    let text = format!(
        "{} in {}: {} residents of {} people, {} days, {} assignments, {} calls and others, {} planted cases; PostgreSQL {}",
        sets.join(", "),
        record.database,
        grouped(schedule.subjects.residents),
        grouped(schedule.subjects.people),
        grouped(schedule.days),
        grouped(schedule.assignments),
        grouped(schedule.others),
        grouped(schedule.cases),
        record.server
    );
    let mut lines = vec![wrap(&text, width, "")];
    lines.extend(record.restored.iter().map(|what| wrap(&format!("first: {what}"), width, "  ")));
    lines.join("\n")
}

/// Numbers to the right, names to the left.
fn aligned(mut table: Table, names: usize) -> String {
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(&table)
}

fn matrix(record: &AccuracyRecord, width: u16, colour: bool) -> String {
    let header = ["rules", "rule", "planted", "warnings", "right", "invented", "missed", "silent"];
    let mut table = grid(&header, width, colour);
    for rules in &record.rules {
        for row in rules.rows.iter().filter(|row| row.planted.all() + row.hits.all() + row.false_positives > 0) {
            table.add_row([
                Cell::new(&rules.name),
                Cell::new(row.rule.id()),
                Cell::new(grouped(row.planted.violations)),
                Cell::new(grouped(row.planted.warnings)),
                Cell::new(grouped(row.hits.all())),
                Cell::new(grouped(row.false_positives)),
                Cell::new(grouped(row.false_negatives)),
                Cell::new(grouped(row.true_negatives)),
            ]);
        }
    }
    let note = wrap(
        "planted: violations and warnings that are there; right, invented, missed, silent: TP, FP, FN and TN of all validations",
        width,
        "  ",
    );
    format!("{}\n{note}", aligned(table, 2))
}

fn untested(record: &AccuracyRecord, width: u16) -> Option<String> {
    let lines: Vec<String> = record
        .rules
        .iter()
        .filter_map(|rules| {
            let untested: Vec<&str> = rules.untested().map(|rule| rule.id()).collect();
            let text = format!("{}: not tested, as nothing is planted for it: {}", rules.name, untested.join(", "));
            (!untested.is_empty()).then(|| wrap(&text, width, ""))
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn phases(phases: &[PhaseRecord], width: u16, colour: bool) -> String {
    let header = ["phase", "validations", "changes", "meanwhile", "p50", "p95", "max", "CPU", "rules", "SQL"];
    let mut table = grid(&header, width, colour);
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), milliseconds);
    for phase in phases {
        let wall = &phase.cost.wall;
        table.add_row([
            phase.phase.word().to_owned(),
            grouped(phase.validations),
            grouped(phase.commits),
            grouped(phase.commits_during),
            ms(wall.p50),
            ms(wall.p95),
            ms(wall.max),
            milliseconds(phase.cost.cpu_ms),
            milliseconds(phase.cost.rules_cpu_ms),
            ms(phase.sql_ms),
        ]);
    }
    let note = wrap(
        "times of one validation in ms: p50, p95, max on the clock; CPU: processor time of ours, of which rules without reading; SQL: the same \
         asked of the server; meanwhile: changes committed while one was reading",
        width,
        "  ",
    );
    format!("{}\n{note}", aligned(table, 1))
}

fn control(record: &AccuracyRecord, width: u16) -> Option<String> {
    let control = record.control.as_ref()?;
    let example = control.example.as_ref().map_or(String::new(), |(rules, mistake)| format!(", such as {rules}, {mistake}"));
    let text = format!(
        "control: {} of {} validations without a snapshot were wrong, before and after{example}",
        grouped(control.disagreed),
        grouped(control.validations)
    );
    Some(wrap(&text, width, ""))
}

fn wrong(record: &AccuracyRecord, width: u16, paint: Paint) -> String {
    let mut lines = vec![paint.red("not as it should be")];
    lines.extend(record.wrong.iter().take(SHOWN).map(|wrong: &Wrong| wrap(&wrong.to_string(), width, "  ")));
    let more = record.wrong_in_all.saturating_sub(SHOWN as u64);
    if more > 0 {
        lines.push(format!("  and {} more", grouped(more)));
    }
    lines.join("\n")
}

fn listed(findings: &[Listed], width: u16) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|listed| {
            let label = listed.label.as_deref().unwrap_or("not planted");
            let finding = &listed.finding;
            let text = format!("{} {} {} ({label}): {}", listed.rules, finding.rule.id(), subject(finding.subject), found(finding));
            wrap(&text, width, "")
        })
        .collect();
    if lines.is_empty() { "no findings".into() } else { lines.join("\n") }
}

fn mutants(mutants: &[MutantRecord], width: u16, colour: bool) -> String {
    let mut table = grid(&["mistake", "rules", "found out by", "how"], width, colour);
    for mutant in mutants {
        let how = mutant.example.as_ref().map_or("nothing".into(), ToString::to_string);
        let by = match (&mutant.caught_by, &mutant.example) {
            (Some(label), _) => label.as_str(),
            (None, Some(_)) => "no planted case",
            (None, None) => "NOBODY",
        };
        table.add_row([mutant.mutant.name(), &mutant.rules, by, &how]);
    }
    finish(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::{
        ControlRecord, Cost, Hits, LEAST, Mistake, Phase, RuleRecord, RulesRecord, SCHEMA_VERSION, Schedule, Subjects, Witness,
    };
    use crate::acgme::{Finding, Rule, Severity, Subject};
    use crate::metrics::{Percentiles, histogram};
    use crate::verdict::{Exit, Verdict};

    fn finding() -> Finding {
        let subject = Subject::Place(1_099_511_627_776, 20);
        Finding { rule: Rule::Capacity, subject, start: 0, end: 360, measured: 9, limit: 8, severity: Severity::Violation }
    }

    fn phase(phase: Phase) -> PhaseRecord {
        let mut wall = histogram();
        for ms in 1..=100 {
            wall.saturating_record(ms * 1_000_000);
        }
        PhaseRecord {
            phase,
            validations: 1_234,
            overlapped: 1_000,
            commits: 12_345,
            commits_during: LEAST,
            cases_toggled: 34,
            deadlocks: 0,
            errors: 0,
            first_error: None,
            cost: Cost { wall: Percentiles::of(&wall), cpu_ms: 45.0, rules_cpu_ms: 12.5 },
            sql_ms: Some(250.0),
            seconds: 10.0,
        }
    }

    fn record() -> AccuracyRecord {
        let planted = Hits { violations: 3, warnings: 1 };
        let mut tested = RuleRecord::new(Rule::Capacity, planted);
        tested.hits = Hits { violations: 123_456, warnings: 7 };
        tested.true_negatives = 1_234_567;
        AccuracyRecord {
            schema_version: SCHEMA_VERSION,
            verdict: Verdict::Inconclusive,
            exit_code: 0,
            reasons: Vec::new(),
            mode: Mode::Check,
            interrupted: false,
            dbstress: "0".into(),
            database: "localhost:1/x".into(),
            server: "17".into(),
            schedule: Schedule {
                subjects: Subjects { residents: 100, people: 140, blocks: 56, places: 1_120 },
                days: 28,
                assignments: 6_496,
                others: 60,
                cases: 34,
            },
            validators: 8,
            writers: 8,
            restored: vec!["programmes of an earlier check removed: 1".into()],
            rules: vec![RulesRecord { name: "cpr".into(), rows: vec![tested, RuleRecord::new(Rule::Rest, Hits::default())] }],
            phases: [Phase::Before, Phase::Unrelated, Phase::Toggling, Phase::After].map(phase).to_vec(),
            control: Some(ControlRecord {
                validations: 90,
                disagreed: 60,
                example: Some(("cpr".into(), Mistake { found: Some(finding()), expected: None })),
                error: None,
            }),
            wrong: Vec::new(),
            wrong_in_all: 0,
            mutants: Vec::new(),
            findings: None,
            budget_ms: Some(2_000.0),
            seconds: 25.0,
            again: "dbstress acgme".into(),
        }
    }

    fn blamed() -> Wrong {
        Wrong {
            phase: Phase::Toggling,
            rules: "cpr".into(),
            witness: Witness::Rules,
            mistake: Mistake { found: Some(finding()), expected: None },
            other: None,
            snapshot: "812:830:812,815".into(),
            mended: vec!["PL-1".into(), "PL-7".into()],
            at_ms: 1_200,
        }
    }

    fn said(mut record: AccuracyRecord, words: &[&str]) -> AccuracyRecord {
        record.conclude(Vec::new());
        let shown = text(&record, 200, false);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown}");
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(squeezed.contains(word), "`{word}` is missing:\n{shown}");
        }
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<AccuracyRecord>(&json).unwrap(), record, "it can be read again");
        record
    }

    #[test]
    fn a_pass_says_what_it_rests_on_in_80_columns() {
        let record = said(
            record(),
            &[
                "cpr AC-11 3 1 123,463 0 0 1,234,567",
                "cpr: not tested, as nothing is planted for it: AC-4",
                "toggling 1,234 12,345 10",
                "control: 60 of 90 validations without a snapshot were wrong",
                "PASS",
                "again: dbstress acgme",
                "first: programmes of an earlier check removed: 1",
            ],
        );
        assert_eq!(record.exit(), Exit::Pass);
    }

    #[test]
    fn a_mistake_is_shown_with_its_circumstances_and_beats_everything_else() {
        let mut wrong = record();
        wrong.control = None;
        for _ in 0..12 {
            wrong.blame(blamed());
        }
        let words =
            ["VIOLATED", "12 mistakes", "found 9 residents", "snapshot 812:830:812,815", "mended: PL-1, PL-7", "and 2 more"];
        assert_eq!(said(wrong, &words).exit(), Exit::Violated);
    }

    #[test]
    fn without_evidence_nothing_passes() {
        let open = |change: &dyn Fn(&mut AccuracyRecord), word: &str| {
            let mut record = record();
            change(&mut record);
            assert_eq!(said(record, &["INCONCLUSIVE", word]).exit(), Exit::Inconclusive, "{word}");
        };
        open(&|record| record.schedule.cases = 0, "nothing is planted");
        open(&|record| record.control = None, "the control was not tried");
        open(&|record| record.control.as_mut().unwrap().disagreed = 0, "too slow to be seen");
        open(&|record| record.phases[1].validations = LEAST - 1, "unrelated: 9 validations; 10 are needed");
        open(&|record| record.phases[2].commits_during = 0, "toggling: 0 changes were committed while a validation was reading");
        open(&|record| record.phases[2].cases_toggled = 33, "33 planted cases were mended and planted again; 34 are needed");
        open(&|record| record.phases[2].deadlocks = 1, "1 writers were ended by a deadlock");
        open(&|record| record.phases[1].errors = 2, "2 changes failed");
        open(&|record| record.rules[0].rows[0].hits = Hits::default(), "cpr AC-11: planted, and never there to be found");
    }

    #[test]
    fn what_is_right_and_late_is_missed() {
        let mut late = record();
        late.budget_ms = Some(50.0);
        assert_eq!(said(late, &["MISSED", "p95 of 1234 validations 95 ms, not within 50ms"]).exit(), Exit::Missed);
    }

    #[test]
    fn a_self_test_passes_if_planted_cases_found_everything_out() {
        let mutant = |caught_by: Option<&str>| MutantRecord {
            mutant: Mutant::AfternoonNights,
            rules: "rs-dec25".into(),
            mistakes: 3,
            caught_by: caught_by.map(str::to_owned),
            example: Some(Mistake { found: Some(finding()), expected: None }),
        };
        let tried = |mutants| AccuracyRecord { mode: Mode::SelfTest, mutants, ..record() };
        assert_eq!(said(tried(vec![mutant(Some("PL-11"))]), &["PASS", "afternoon-nights", "PL-11"]).exit(), Exit::Pass);
        let untried = said(tried(vec![mutant(Some("PL-11")), mutant(None)]), &["INCONCLUSIVE", "by no planted case"]);
        assert_eq!(untried.exit(), Exit::Inconclusive);
        assert_eq!(said(tried(Vec::new()), &["no mistake was made"]).exit(), Exit::Inconclusive);
    }

    #[test]
    fn the_list_has_every_mistake() {
        let text = list_text(80, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(Mutant::ALL.iter().all(|mutant| text.contains(mutant.name())), "{text}");
    }
}
