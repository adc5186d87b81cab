//! Does the database still hold what the clients of earlier runs were told? Their histories say so, where they are still there.
//!
//! Rows and ledger can vanish together, or be changed together: then nothing in the database shows it. The history of a run is a second witness that
//! the database cannot change. It is read as a stream, and says nothing where it is not complete.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Deserialize;

use super::books::Books;
use super::{collect, day};
use crate::Result;
use crate::audit::{self, Audit};
use crate::history::{OpId, OperationKind, Reader};
use crate::invariant::evidence::Recorded;
use crate::invariant::run::ROWS_KEPT;
use crate::invariant::self_test::{Outcome, Tried};
use crate::invariant::{Breach, Checked, Finding, Subject};
use crate::outcome::Outcome as Ended;
use crate::pg::admin::Session;
use crate::record::{RunRecord, TurnRecord};

/// What the comparison is called among the checks of `verify`.
const NAME: &str = "histories of the runs";

/// A run is looked for among those that began up to so long before the dataset was there: clocks differ.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// What the histories say.
pub struct Witness {
    /// The comparison.
    pub checked: Checked,
    /// Invariants that the records of the runs claim.
    pub claims: Vec<String>,
    /// What a reader should know: runs that could not be compared, and why.
    pub notes: Vec<String>,
    /// Why what the database says of the runs is no evidence.
    pub open: Vec<String>,
    /// An operation that was acknowledged, and the ledger that has it.
    example: Option<(Books, OpId)>,
}

/// Compares the runs that the database knows of, and those that it should know of, with their histories below `state`. `load` tells the dataset from
/// every other one. In the transaction that `session` is in.
///
/// # Errors
/// When the server cannot be asked.
pub async fn compare(session: &mut Session, state: &Path, load: &str, recorded: &[Recorded]) -> Result<Witness> {
    let began = Instant::now();
    let folder = state.join("runs");
    let mut found = Found::default();
    let mut names: BTreeSet<String> = recorded.iter().map(|run| run.record.clone()).collect();
    names.extend(of_load(&folder, load));
    let mut compared = BTreeSet::new();
    for name in names {
        // A name that is no name of a folder leads nowhere.
        let Some(record) = read(&folder.join(&name)).filter(|record| is_of(record, load)) else { continue };
        for turn in &record.turns {
            let known = recorded.iter().find(|run| run.id == turn.run && run.record == name);
            if found.turn(session, &folder.join(&name), &record, turn, known).await? {
                compared.insert(turn.run);
            }
        }
    }
    let left_out = recorded.iter().filter(|run| !compared.contains(&run.id)).count();
    if left_out > 0 {
        let (runs, whose) = if recorded.len() == 1 { ("run", "its") } else { ("runs", "their") };
        found.notes.push(format!(
            "{left_out} of {} recorded {runs} could not be compared with {whose} history, which is not in {} or not complete: of these, \
             rows and ledger were compared with each other alone",
            recorded.len(),
            folder.display()
        ));
    }
    let finding = match (found.total, found.examined) {
        (0, 0) => Finding::Vacuous,
        (0, examined) => Finding::Holds { examined },
        (total, examined) => Finding::Violated { examined, total, rows: found.rows },
    };
    let checked = Checked {
        name: NAME.into(),
        id: None,
        title: "What the clients of earlier runs were told is what the database holds.".into(),
        subject: found.subject,
        finding,
        elapsed: began.elapsed(),
    };
    found.claims.sort();
    found.claims.dedup();
    Ok(Witness { checked, claims: found.claims, notes: found.notes, open: found.open, example: found.example })
}

/// Takes an acknowledged operation out of the ledger in a transaction that is rolled back: is it missed? `None` where there is no history.
pub async fn self_test(session: &mut Session, state: &Path, load: &str, recorded: &[Recorded]) -> Option<Tried> {
    let outcome = try_out(session, state, load, recorded).await.unwrap_or_else(|error| Some(Outcome::Errored(error.to_string())));
    // Also after an error, when the transaction is still open.
    let _ = session.execute("ROLLBACK").await;
    Some(Tried { name: NAME.into(), id: None, outcome: outcome? })
}

async fn try_out(session: &mut Session, state: &Path, load: &str, recorded: &[Recorded]) -> Result<Option<Outcome>> {
    session.execute("BEGIN").await?;
    let witness = compare(session, state, load, recorded).await?;
    let Some((books, op)) = witness.example else { return Ok(None) };
    let before = witness.breaches();
    session.execute(&format!("DELETE FROM dbstress.{} WHERE op_id = {} AND kind <> 'fence'", books.ledger(), op.0)).await?;
    let after = compare(session, state, load, recorded).await?.breaches();
    Ok(Some(if after > before {
        Outcome::Fired { before, after, constraints_dropped: false }
    } else {
        Outcome::Silent { before, after }
    }))
}

impl Witness {
    fn breaches(&self) -> i64 {
        if let Finding::Violated { total, .. } = self.checked.finding { total } else { 0 }
    }
}

/// As far as the runs have been compared.
#[derive(Default)]
struct Found {
    examined: i64,
    total: i64,
    rows: Vec<Breach>,
    subject: Option<Subject>,
    claims: Vec<String>,
    notes: Vec<String>,
    open: Vec<String>,
    example: Option<(Books, OpId)>,
}

impl Found {
    /// Compares one run with its history; whether it could be compared. `known` is what the database has of it.
    async fn turn(
        &mut self,
        session: &mut Session,
        folder: &Path,
        record: &RunRecord,
        turn: &TurnRecord,
        known: Option<&Recorded>,
    ) -> Result<bool> {
        let Some(books) = Books::of(&record.plan) else { return Ok(false) };
        let what = format!("run {} ({}, {})", turn.run, record.plan.scenario, turn.name);
        self.claims.extend_from_slice(&record.plan.claims);
        match known {
            Some(known) if known.claims.iter().collect::<BTreeSet<_>>() != record.plan.claims.iter().collect() => {
                self.open.push(format!(
                    "{what} claims {} in the database, and {} in its record {}: one of them was changed",
                    counted(known.claims.len()),
                    counted(record.plan.claims.len()),
                    folder.join("record.json").display()
                ));
            }
            Some(_) => {}
            None => self.breach(None, format!("{what} is recorded, with what it did"), "the database does not know of it".into()),
        }
        let histories: Vec<PathBuf> =
            turn.histories.iter().filter_map(|path| Some(folder.join(Path::new(path).file_name()?))).collect();
        let audit = collect::audit_here(session, books, "dbstress", turn.run, &histories, books.expects(&record.plan)).await?;
        self.notes.extend(audit.incomplete.iter().map(|why| format!("{what}: {why}")));
        if audit.classes.operations() == 0 {
            return Ok(false);
        }
        self.subject = Some(if books == Books::Units { Subject::Authorisation } else { Subject::Programme });
        self.example = self.example.or_else(|| Some((books, acknowledged(&histories, turn.run)?)));
        self.add(&what, &audit);
        Ok(true)
    }

    fn add(&mut self, what: &str, audit: &Audit) {
        self.examined += i64::try_from(audit.classes.operations()).unwrap_or(i64::MAX);
        let of_answers = |breach: &audit::Breach| audit::Breach::OF_ANSWERS.contains(breach);
        let shown = audit.findings.iter().filter(|finding| of_answers(&finding.breach));
        for finding in shown.clone() {
            let actual = format!("{}: op {}, {}", finding.breach.words(), finding.operations.join(", "), finding.detail);
            self.breach(Some(finding.authorisation), format!("as the clients of {what} were told"), actual);
        }
        let all: u64 = audit.breaches.iter().filter(|(breach, _)| of_answers(breach)).map(|(_, n)| n).sum();
        self.total += i64::try_from(all).unwrap_or(i64::MAX) - shown.count() as i64;
    }

    fn breach(&mut self, subject: Option<i64>, expected: String, actual: String) {
        self.total += 1;
        if self.rows.len() < ROWS_KEPT {
            self.rows.push(Breach { subject: subject.map(|id| id.to_string()), expected: Some(expected), actual: Some(actual) });
        }
    }
}

fn counted(rules: usize) -> String {
    match rules {
        0 => "no rule".into(),
        1 => "1 rule".into(),
        n => format!("{n} rules"),
    }
}

/// The first operation that was acknowledged as an effect of its own.
fn acknowledged(histories: &[PathBuf], run: i32) -> Option<OpId> {
    let records =
        histories.iter().filter_map(|path| Reader::open(path).ok()).flat_map(Reader::operations).map_while(|record| record.ok());
    let mut committed = records.filter(|record| record.outcome == Ended::Committed && record.kind != OperationKind::Browse);
    committed.next().map(|record| OpId::new(run, record.vu, record.n))
}

/// The record of a run, if there is one that can be read.
fn read(folder: &Path) -> Option<RunRecord> {
    RunRecord::from_json(&std::fs::read_to_string(folder.join("record.json")).ok()?).ok()
}

/// Whether a run was on this dataset. Records from before that was kept are known by the name that the database has.
fn is_of(record: &RunRecord, load: &str) -> bool {
    record.dataset.as_ref().is_some_and(|dataset| dataset.load.is_empty() || dataset.load == load)
}

/// The names of the runs below `folder` that were on this dataset. Their folders begin with the day; older ones are not read.
fn of_load(folder: &Path, load: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Of {
        dataset: Option<On>,
    }
    #[derive(Deserialize)]
    struct On {
        #[serde(default)]
        load: String,
    }
    let seeded =
        load.rsplit('/').next().and_then(|seconds| Duration::try_from_secs_f64(seconds.parse().ok()?).ok()).unwrap_or_default();
    let first = day(UNIX_EPOCH + seeded.saturating_sub(SKEW));
    let is_of = |name: &String| {
        let text = std::fs::read_to_string(folder.join(name).join("record.json")).ok();
        text.and_then(|text| serde_json::from_str::<Of>(&text).ok()?.dataset).is_some_and(|on| on.load == load)
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.as_str() >= first.as_str()).filter(is_of).collect()
}
