//! What does each check find, when all of them look at the same snapshot?

use std::time::{Duration, Instant};

use super::{Breach, Checked, Finding, Invariant, When};
use crate::pg::admin::{SEARCH_PATH, Session, SqlError, TextRow, identifier};

/// How many breaches of one check are kept; all of them are counted.
pub const ROWS_KEPT: usize = 20;

/// Where unqualified table names of a check lead, unless it judges the control's copy.
pub const DEFAULT_SEARCH_PATH: [&str; 2] = SEARCH_PATH;

/// Checks those of `invariants` that may be asked at `moment`, all in one snapshot: `When::Always` is under load and leaves the quiesced
/// ones out, `When::Quiesced` is after it and asks all. Tables are looked for in `search_path`; one statement may take `statement_timeout`.
///
/// Never fails: what keeps a check from being made is its finding, [`Finding::Errored`].
pub async fn run_all(
    session: &mut Session,
    invariants: &[Invariant],
    search_path: &[&str],
    moment: When,
    statement_timeout: Duration,
) -> Vec<Checked> {
    let chosen = invariants.iter().filter(|i| moment == When::Quiesced || i.when == When::Always);
    let mut checked = Vec::new();
    match Snapshot::begin(session, search_path, statement_timeout).await {
        Ok(mut snapshot) => {
            for invariant in chosen {
                checked.push(snapshot.check(invariant).await);
            }
            snapshot.end().await;
        }
        Err(error) => {
            let why = format!("no snapshot could be taken: {error}");
            checked.extend(chosen.map(|i| about(i, Finding::Errored(why.clone()), Duration::ZERO)));
        }
    }
    checked
}

/// One state of the database, read only, for as many questions as one likes; a question that fails does not end it.
pub struct Snapshot<'a> {
    session: &'a mut Session,
    timeout: Duration,
}

impl<'a> Snapshot<'a> {
    /// Begins the transaction that every question shares.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn begin(session: &'a mut Session, search_path: &[&str], timeout: Duration) -> Result<Self, SqlError> {
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut snapshot = Self { session, timeout };
        match snapshot.session.execute(&settings(search_path, timeout)).await {
            Ok(_) => Ok(snapshot),
            Err(error) => {
                snapshot.end_by_reference().await;
                Err(error)
            }
        }
    }

    /// Makes one check.
    pub async fn check(&mut self, invariant: &Invariant) -> Checked {
        let began = Instant::now();
        let finding = match self.guarded(invariant).await {
            Ok(finding) => finding,
            Err(error) => Finding::Errored(self.say(&error)),
        };
        about(invariant, finding, began.elapsed())
    }

    /// The rows of a query of ours.
    ///
    /// # Errors
    /// The server's answer; the snapshot goes on.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, SqlError> {
        self.session.execute("SAVEPOINT question").await?;
        match self.session.rows(sql).await {
            Ok(rows) => {
                self.session.execute("RELEASE SAVEPOINT question").await?;
                Ok(rows)
            }
            Err(error) => {
                self.go_back().await;
                Err(error)
            }
        }
    }

    /// Ends the transaction.
    pub async fn end(mut self) {
        self.end_by_reference().await;
    }

    async fn end_by_reference(&mut self) {
        // When the connection is lost there is nothing to end.
        let _ = self.session.execute("ROLLBACK").await;
    }

    async fn go_back(&mut self) {
        // A failure here shows in the next question, which then fails too.
        let _ = self.session.execute("ROLLBACK TO SAVEPOINT question; RELEASE SAVEPOINT question").await;
    }

    async fn guarded(&mut self, invariant: &Invariant) -> Result<Finding, SqlError> {
        self.session.execute("SAVEPOINT question").await?;
        match look(self.session, invariant).await {
            Ok(finding) => {
                self.session.execute("RELEASE SAVEPOINT question").await?;
                Ok(finding)
            }
            Err(error) => {
                self.go_back().await;
                Err(error)
            }
        }
    }

    fn say(&self, error: &SqlError) -> String {
        match error.code.as_deref() {
            Some("57014") => format!("it did not finish within {}", humantime::format_duration(self.timeout)),
            _ => error.to_string(),
        }
    }
}

/// How every question is asked: where tables are, how long it may take, and the same answers whatever the role's own settings.
/// `row_security = off` makes a policy that would hide rows an error, where it would otherwise be a silent pass.
pub(super) fn settings(search_path: &[&str], timeout: Duration) -> String {
    let path: Vec<String> = search_path.iter().map(|schema| identifier(schema)).collect();
    format!(
        "SET LOCAL search_path TO {}; SET LOCAL statement_timeout = {}; SET LOCAL row_security = off; SET LOCAL TimeZone = 'UTC'; \
         SET LOCAL DateStyle = 'ISO'; SET LOCAL jit = off",
        path.join(", "),
        timeout.as_millis().max(1)
    )
}

/// Asks one check in the transaction that `session` is in.
pub(super) async fn look(session: &mut Session, invariant: &Invariant) -> Result<Finding, SqlError> {
    let plain = |message: String| SqlError { code: None, message };
    // Described before it runs: the extended protocol takes exactly one statement, so no file can end the transaction.
    session.columns(&invariant.examines).await.map_err(|e| SqlError { message: format!("`examines`: {}", e.message), ..e })?;
    let columns = session.columns(&wrapped(&invariant.query, "*")).await?;
    if columns != ["subject", "expected", "actual"] {
        return Err(plain(format!("its columns must be subject, expected, actual; they are {}", columns.join(", "))));
    }
    let answer =
        session.rows(&invariant.examines).await.map_err(|e| SqlError { message: format!("`examines`: {}", e.message), ..e })?;
    let examined = match &answer[..] {
        [row] if row.len() == 1 => row[0].as_deref().and_then(|n| n.parse::<i64>().ok()),
        _ => None,
    }
    .ok_or_else(|| {
        plain(format!("`examines` must give one integer; it gave {} rows, the first {:?}", answer.len(), answer.first()))
    })?;
    let kept = wrapped(&invariant.query, "subject::text, expected::text, actual::text, count(*) OVER ()");
    let rows = session.rows(&format!("{kept} LIMIT {ROWS_KEPT}")).await?;
    let Some(total) = rows.first().map(|row| row[3].as_deref().and_then(|n| n.parse().ok()).unwrap_or(rows.len() as i64)) else {
        return Ok(if examined > 0 { Finding::Holds { examined } } else { Finding::Vacuous });
    };
    let breach = |row: TextRow| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        Breach { subject: next(), expected: next(), actual: next() }
    };
    Ok(Finding::Violated { examined, total, rows: rows.into_iter().map(breach).collect() })
}

/// The number of breaches of one check in the transaction that `session` is in.
pub(super) async fn count(session: &mut Session, invariant: &Invariant) -> Result<i64, SqlError> {
    session.integer(&wrapped(&invariant.query, "count(*)")).await
}

fn wrapped(query: &str, columns: &str) -> String {
    // On lines of its own, since the query may end in a comment.
    format!("SELECT {columns} FROM (\n{query}\n) AS breach")
}

fn about(invariant: &Invariant, finding: Finding, elapsed: Duration) -> Checked {
    Checked {
        name: invariant.name.clone(),
        id: invariant.id.clone(),
        title: invariant.title.clone(),
        subject: invariant.subject,
        finding,
        elapsed,
    }
}
