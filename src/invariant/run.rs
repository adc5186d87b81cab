//! What does each check find, when all of them look at the same snapshot?

use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Breach, Checked, Finding, Invariant, When};
use crate::pg::admin::{Backend, SEARCH_PATH, Session, SqlError, TextRow, identifier, literal};

/// How many breaches of one check are kept; all of them are counted.
pub const ROWS_KEPT: usize = 20;

/// Where unqualified table names of a check lead, unless it judges the control's copy.
pub const DEFAULT_SEARCH_PATH: [&str; 2] = SEARCH_PATH;

/// How long a check may take, where nobody says otherwise.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(300);

/// When what was cancelled and goes on all the same is cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// The flag that says how long checks may take.
pub const CHECK_FLAG: &str = "--check-timeout";

/// What is under way, and since when.
pub type UnderWay = Option<(String, Instant)>;

/// How much time checks are given, and by whom they are watched.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// How long one statement of a check may take.
    pub limit: Duration,
    /// What gives it longer, if anything does.
    pub raised_by: Option<&'static str>,
    /// What is told which check is under way; [`each_second`] shows it.
    pub under_way: watch::Sender<UnderWay>,
    /// Once it is true, the check under way is cancelled and no other is begun.
    pub over: watch::Receiver<bool>,
}

impl Allowance {
    /// As long as the flag says.
    pub fn of_flag(limit: Duration) -> Self {
        Self { raised_by: Some(CHECK_FLAG), ..Self::from(limit) }
    }
}

impl From<Duration> for Allowance {
    /// So much for each statement; nobody watches them or ends them.
    fn from(limit: Duration) -> Self {
        Self { limit, raised_by: None, under_way: watch::Sender::new(None), over: watch::channel(false).1 }
    }
}

impl Allowance {
    /// Whether nothing more may be asked.
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// What `asked` of a session comes to; if it is over before, the server is asked to cancel it, and `asked` says so itself.
    async fn until_over<T>(&self, backend: Option<Backend>, asked: impl Future<Output = T>) -> T {
        let mut over = self.over.clone();
        let mut asked = pin!(asked);
        tokio::select! {
            answer = &mut asked => return answer,
            Ok(_) = over.wait_for(|over| *over) => {}
        }
        let Some(backend) = backend else { return asked.await };
        loop {
            backend.cancel().await;
            // Between two statements there was nothing to cancel.
            if let Ok(answer) = tokio::time::timeout(CANCEL_AGAIN, &mut asked).await {
                return answer;
            }
        }
    }
}

/// Calls `tell` with what is under way and for how long it has been, each second in which anything is.
pub async fn each_second(mut under_way: watch::Receiver<UnderWay>, mut tell: impl FnMut(&str, Duration)) -> Infallible {
    const SECOND: Duration = Duration::from_secs(1);
    let mut due = None;
    loop {
        let now = under_way.borrow_and_update().clone();
        let Some((name, since)) = now else {
            due = None;
            if under_way.changed().await.is_err() {
                // Nobody will tell anything any more.
                return std::future::pending().await;
            }
            continue;
        };
        let next = *due.get_or_insert(since + SECOND);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {
                tell(&name, since.elapsed());
                due = Some(next + SECOND);
            }
            Ok(()) = under_way.changed() => due = None,
        }
    }
}

/// Lets the planner know the tables of `search_path` as they are now, those that have changed since it last looked and that the role may analyse. By
/// statistics of tables that were empty then it would plan for empty ones. Best effort: without it checks are as right, and slower.
pub async fn analyze(session: &mut Session, search_path: &[&str], allowance: &Allowance) {
    let schemas: Vec<String> = search_path.iter().map(|schema| literal(schema)).collect();
    let Ok(Some(tables)) = session
        .text(&format!(
            "SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ') \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
             WHERE n.nspname IN ({}) AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') AND NOT pg_is_in_recovery() \
               AND (coalesce(s.n_mod_since_analyze, 1) > 0 OR coalesce(s.last_analyze, s.last_autoanalyze) IS NULL)",
            schemas.join(", ")
        ))
        .await
    else {
        return;
    };
    allowance.under_way.send_replace(Some(("statistics".into(), Instant::now())));
    // Whatever autovacuum is at work on is left to it: it would be cancelled, and say so in the log.
    let analyze = format!(
        "BEGIN; SET LOCAL statement_timeout = {}; ANALYZE (SKIP_LOCKED) {tables}; COMMIT",
        allowance.limit.as_millis().max(1)
    );
    if allowance.until_over(session.backend(), session.execute(&analyze)).await.is_err() {
        let _ = session.execute("ROLLBACK").await;
    }
    allowance.under_way.send_replace(None);
}

/// Checks those of `invariants` that may be asked at `moment`, all in one snapshot: `When::Always` is under load and leaves the quiesced
/// ones out, `When::Quiesced` is after it and asks all. Tables are looked for in `search_path`.
///
/// Never fails: what keeps a check from being made is its finding, [`Finding::Errored`].
pub async fn run_all(
    session: &mut Session,
    invariants: &[Invariant],
    search_path: &[&str],
    moment: When,
    allowance: impl Into<Allowance>,
) -> Vec<Checked> {
    let allowance = allowance.into();
    let chosen: Vec<&Invariant> = invariants.iter().filter(|i| moment == When::Quiesced || i.when == When::Always).collect();
    let mut checked = Vec::new();
    if chosen.is_empty() {
        return checked;
    }
    if moment == When::Quiesced {
        analyze(session, search_path, &allowance).await;
    }
    match Snapshot::begin(session, search_path, allowance).await {
        Ok(mut snapshot) => {
            for invariant in chosen {
                checked.push(snapshot.check(invariant).await);
            }
            snapshot.end().await;
        }
        Err(error) => {
            let why = format!("no snapshot could be taken: {error}");
            checked.extend(chosen.into_iter().map(|i| about(i, Finding::Errored(why.clone()), Duration::ZERO)));
        }
    }
    checked
}

/// One state of the database, read only, for as many questions as one likes; a question that fails does not end it.
pub struct Snapshot<'a> {
    session: &'a mut Session,
    allowance: Allowance,
}

impl<'a> Snapshot<'a> {
    /// Begins the transaction that every question shares.
    ///
    /// # Errors
    /// The server's answer, or the loss of the connection.
    pub async fn begin(session: &'a mut Session, search_path: &[&str], allowance: Allowance) -> Result<Self, SqlError> {
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut snapshot = Self { session, allowance };
        match snapshot.session.execute(&settings(search_path, snapshot.allowance.limit)).await {
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
        let asked = match self.allowance.is_over() {
            true => None,
            false => {
                self.allowance.under_way.send_replace(Some((invariant.name.clone(), began)));
                Some(self.guarded(invariant).await)
            }
        };
        self.allowance.under_way.send_replace(None);
        let finding = match asked {
            Some(Ok(finding)) => finding,
            Some(Err(error)) if !self.allowance.is_over() => Finding::Errored(self.say(&error, began.elapsed())),
            Some(Err(_)) => Finding::Errored(format!("interrupted after {:.0} s", began.elapsed().as_secs_f64())),
            None => Finding::Errored("interrupted before it was made".into()),
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

    /// Lets `ask` ask this state several questions; when one of them fails, the snapshot goes on.
    ///
    /// # Errors
    /// Those of `ask`, or the server's answer.
    pub async fn aside<T>(&mut self, ask: impl AsyncFnOnce(&mut Session) -> crate::Result<T>) -> crate::Result<T> {
        self.session.execute("SAVEPOINT question").await?;
        match ask(self.session).await {
            Ok(answer) => {
                self.session.execute("RELEASE SAVEPOINT question").await?;
                Ok(answer)
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
        let backend = self.session.backend();
        match self.allowance.until_over(backend, look(self.session, invariant)).await {
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

    fn say(&self, error: &SqlError, elapsed: Duration) -> String {
        let limit = self.allowance.limit;
        let said = error.in_words(elapsed, limit);
        let is_late = error.code.as_deref() == Some("57014") && elapsed >= limit;
        match self.allowance.raised_by.filter(|_| is_late) {
            Some(flag) => format!("{said}; {flag} gives it longer"),
            None => said,
        }
    }
}

/// How every question is asked: where tables are, how long it may take, and the same answers whatever the role's own settings.
/// `row_security = off` makes a policy that would hide rows an error, where it would otherwise be a silent pass.
pub(super) fn settings(search_path: &[&str], timeout: Duration) -> String {
    // No schema is named where the tables are those that the role finds by itself.
    let path: Vec<String> = search_path.iter().filter(|schema| !schema.is_empty()).map(|schema| identifier(schema)).collect();
    let path = if path.is_empty() { String::new() } else { format!("SET LOCAL search_path TO {}; ", path.join(", ")) };
    format!(
        "{path}SET LOCAL statement_timeout = {}; SET LOCAL row_security = off; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; \
         SET LOCAL quote_all_identifiers = off; SET LOCAL jit = off",
        timeout.as_millis().max(1)
    )
}

/// Asks one check in the transaction that `session` is in.
pub(super) async fn look(session: &mut Session, invariant: &Invariant) -> Result<Finding, SqlError> {
    let plain = |message: String| SqlError { code: None, message, position: None };
    // Where in the file of a rule the server found fault.
    let at =
        |line: usize, what: &str, e: SqlError| SqlError { message: format!("{}: {what}{}", invariant.place(line), e.message), ..e };
    let of_examines = |e: SqlError| at(invariant.examines_line, "`examines`: ", e);
    let of_query = |e: SqlError| at(invariant.query_line, "", e);
    // Described before it runs: the extended protocol takes exactly one statement, so no file can end the transaction.
    session.columns(&invariant.examines).await.map_err(of_examines)?;
    let columns = session.columns(&wrapped(&invariant.query, "*")).await.map_err(of_query)?;
    if columns != ["subject", "expected", "actual"] {
        let message = format!("its columns must be subject, expected, actual; they are {}", columns.join(", "));
        return Err(of_query(plain(message)));
    }
    let answer = session.rows(&invariant.examines).await.map_err(of_examines)?;
    let examined = one_integer(&answer).map_err(|gave| of_examines(plain(format!("it must give one integer, and gave {gave}"))))?;
    match breaches(session, invariant).await.map_err(of_query)? {
        (0, _) if examined > 0 => Ok(Finding::Holds { examined }),
        (0, _) => Ok(Finding::Vacuous),
        (total, rows) => Ok(Finding::Violated { examined, total, rows }),
    }
}

/// The one integer that an answer is; or what it is instead, in words.
fn one_integer(answer: &[TextRow]) -> Result<i64, String> {
    match answer {
        [row] => match &row[..] {
            [Some(value)] => value.parse().map_err(|_| format!("`{value}`")),
            [None] => Err("NULL".into()),
            _ => Err(format!("{} columns", row.len())),
        },
        [] => Err("no row".into()),
        rows => Err(format!("{} rows", rows.len())),
    }
}

/// How many breaches of one check there are, and the first of them, in the transaction that `session` is in.
///
/// All of its rows are read, and counted here: with a LIMIT around it the planner would look for the plan that has the first rows soonest, which
/// for a rule that holds is one that never ends.
pub(super) async fn breaches(session: &mut Session, invariant: &Invariant) -> Result<(i64, Vec<Breach>), SqlError> {
    let (mut total, mut rows) = (0, Vec::new());
    let visit = |row: &[Option<String>]| {
        total += 1;
        if rows.len() < ROWS_KEPT {
            let value = |n: usize| row.get(n).cloned().flatten();
            rows.push(Breach { subject: value(0), expected: value(1), actual: value(2) });
        }
    };
    session.stream(&wrapped(&invariant.query, "subject::text, expected::text, actual::text"), visit).await?;
    Ok((total, rows))
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
