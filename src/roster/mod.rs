//! Who is on duty when, as the database has it, and what do both implementations of the rules find there?
//!
//! Names of tables carry no schema: the session's `search_path` says whether the dataset or the copy of a control is read.

mod read;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::acgme::{Finding, Rule, Severity, Subject};
use crate::pg::admin::{Session, literal};
use crate::{Error, Result};

pub use read::{Read, evaluate, read};

/// 2000-01-01 in minutes since 1970-01-01: what PostgreSQL's epoch is behind by.
const EPOCH: i64 = 15_778_080;

/// Which part of the schedule is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The programmes; `None` = the seeded ones, those that no run has made.
    pub programmes: Option<Vec<i64>>,
}

impl Scope {
    /// Their numbers, as an expression of type `bigint[]`.
    fn array(&self) -> String {
        self.programmes.as_ref().map_or_else(|| "ARRAY(SELECT id FROM programme WHERE run_id IS NULL)".into(), |ids| array(ids))
    }
}

/// A finding that must be there, because somebody planted what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Expected {
    /// Which rule.
    pub rule: Rule,
    /// About whom or what.
    pub subject: Subject,
    /// How much it matters.
    pub severity: Severity,
    /// Minutes, or a number.
    pub measured: i64,
    /// What the planted case is called: `PL-1`.
    pub label: String,
}

/// What the rules in SQL find, in the order in which the rules in Rust list it. One statement, and so one snapshot at any isolation level.
///
/// # Errors
/// Inconclusive: the server refuses the question (there are no such rules), or answers with what is no finding.
pub async fn sql_findings(session: &mut Session, rules: &str, scope: &Scope) -> Result<Vec<Finding>> {
    // To compile the query takes many times longer than to run it.
    session.execute("SELECT set_config('jit', 'off', false)").await?;
    let minutes = |column: &str| format!("(extract(epoch FROM {column}) / 60)::bigint - {EPOCH}");
    let query = format!(
        "SELECT rule, person_id, block_id, rotation_template_id, severity, measured, allowed, {}, {} FROM duty_findings({}, {})",
        minutes("window_start"),
        minutes("window_end"),
        literal(rules),
        scope.array()
    );
    let mut found = Vec::new();
    visit(session, &query, |row| {
        let (rule, subject, severity) = about(&row)?;
        let [measured, limit, start, end] = [row.integer(5)?, row.integer(6)?, row.integer(7)?, row.integer(8)?];
        found.push(Finding { rule, subject, start, end, measured, limit, severity });
        Ok(())
    })
    .await?;
    found.sort_unstable();
    Ok(found)
}

/// What must be found now by these rules: the planted cases that hold.
///
/// # Errors
/// Inconclusive: the server refuses the question, or answers with what nothing can find.
pub async fn expected(session: &mut Session, rules: &str, scope: &Scope) -> Result<BTreeSet<Expected>> {
    let query = format!(
        "SELECT rule, person_id, block_id, rotation_template_id, severity, measured, label FROM expected_violation e \
         WHERE holds AND rules = {} AND coalesce((SELECT programme_id FROM person p WHERE p.id = e.person_id), \
         (SELECT programme_id FROM block b WHERE b.id = e.block_id)) = ANY ({})",
        literal(rules),
        scope.array()
    );
    let mut expected = BTreeSet::new();
    visit(session, &query, |row| {
        let (rule, subject, severity) = about(&row)?;
        expected.insert(Expected { rule, subject, severity, measured: row.integer(5)?, label: row.text(6)?.to_owned() });
        Ok(())
    })
    .await?;
    Ok(expected)
}

/// Rule, subject and severity, from the first five columns: rule, person, block, template, severity.
fn about(row: &Row<'_>) -> Result<(Rule, Subject, Severity)> {
    let rule = Rule::from_id(row.text(0)?).ok_or_else(|| row.unreadable(0))?;
    let subject = match (row.number(1)?, row.number(2)?, row.number(3)?) {
        (Some(person), None, None) => Subject::Person(person),
        (None, Some(block), None) => Subject::Block(block),
        (None, Some(block), Some(template)) => Subject::Place(block, template),
        _ => return Err(row.unreadable(1)),
    };
    let severity = match row.text(4)? {
        "violation" => Severity::Violation,
        "warning" => Severity::Warning,
        _ => return Err(row.unreadable(4)),
    };
    Ok((rule, subject, severity))
}

/// Calls `take` for each row of a query; the first error of it is the error of all, and nothing is taken after it.
async fn visit(session: &mut Session, query: &str, mut take: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
    let mut outcome = Ok(());
    session
        .stream(query, |values| {
            if outcome.is_ok() {
                outcome = take(Row(values));
            }
        })
        .await?;
    outcome
}

/// One row of an answer.
struct Row<'a>(&'a [Option<String>]);

impl Row<'_> {
    fn text(&self, column: usize) -> Result<&str> {
        self.0.get(column).and_then(Option::as_deref).ok_or_else(|| self.unreadable(column))
    }

    fn number(&self, column: usize) -> Result<Option<i64>> {
        let value = self.0.get(column).and_then(Option::as_deref);
        value.map(|text| text.parse().map_err(|_| self.unreadable(column))).transpose()
    }

    fn integer(&self, column: usize) -> Result<i64> {
        self.number(column)?.ok_or_else(|| self.unreadable(column))
    }

    fn is(&self, column: usize) -> Result<bool> {
        Ok(self.text(column)? == "t")
    }

    fn unreadable(&self, column: usize) -> Error {
        let row: Vec<&str> = self.0.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
        Error::inconclusive(format!("the schedule holds what cannot be read: column {} of ({})", column + 1, row.join(", ")))
            .cure("dbstress seed --dataset residency --reset")
    }
}

/// Numbers as an expression of type `bigint[]`.
fn array(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::bigint[]", ids.join(","))
}
