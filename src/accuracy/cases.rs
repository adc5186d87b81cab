//! Which cases are planted, and how are they mended and planted again? Each time in one transaction, with what is said to be true.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::compare::Truth;
use super::judge::PLANT;
use crate::acgme::Subject;
use crate::pg::admin::{Session, SqlError, TextRow, literal};
use crate::roster::{self, Scope};
use crate::{Error, Result};

/// What every session but the first calls itself first.
pub const NAME: &str = "acgme/";

/// Tables that planted rows are in.
const RELATIONS: [&str; 5] = ["assignment", "assignment_unguarded", "call_assignment", "extra_duty", "absence"];

/// How long sessions that were ended may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// A planted case: its number, what it is called, and the tables its rows are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its number.
    pub plant: i64,
    /// `PL-1`.
    pub label: String,
    relations: Vec<&'static str>,
}

impl Case {
    /// Says that it is mended, takes away what makes it wrong, and puts in what was there instead; in the transaction that is open.
    pub fn mend(&self) -> String {
        self.turn(false)
    }

    /// The other way round.
    pub fn plant(&self) -> String {
        self.turn(true)
    }

    /// What is true is said first: its rows are locked by whoever is at it.
    fn turn(&self, planted: bool) -> String {
        let plant = self.plant;
        let mut sql = format!("UPDATE dbstress.expected_violation SET holds = {planted} WHERE plant = {plant};");
        for relation in &self.relations {
            sql += &format!(
                "DELETE FROM dbstress.{relation} t USING dbstress.planted_row p WHERE p.plant = {plant} AND p.relation = '{relation}' \
                 AND p.is_planted = {was} AND t.id = (p.row ->> 'id')::bigint;",
                was = !planted
            );
        }
        for relation in &self.relations {
            sql += &format!(
                "INSERT INTO dbstress.{relation} SELECT r.* FROM dbstress.planted_row p, jsonb_populate_record(NULL::dbstress.{relation}, p.row) r \
                 WHERE p.plant = {plant} AND p.relation = '{relation}' AND p.is_planted = {planted};"
            );
        }
        sql
    }
}

#[cfg(test)]
impl Case {
    /// One without rows.
    pub fn numbered(plant: i64) -> Self {
        Self { plant, label: format!("PL-{plant}"), relations: Vec::new() }
    }
}

/// Every case that can be mended and planted again, by its number.
///
/// # Errors
/// The server's refusal.
pub async fn all(session: &mut Session) -> Result<Vec<Case>> {
    let rows = session
        .rows(
            "SELECT plant, min(label), string_agg(DISTINCT relation, ',') FROM dbstress.planted_row GROUP BY plant ORDER BY plant",
        )
        .await?;
    rows.iter()
        .map(|row| {
            let named = text(row, 2);
            Ok(Case {
                plant: number(row, 0)?,
                label: text(row, 1).to_owned(),
                relations: RELATIONS.into_iter().filter(|relation| named.split(',').any(|name| name == *relation)).collect(),
            })
        })
        .collect()
}

/// How many cases there are, whether or not it is known which rows make them.
///
/// # Errors
/// The server's refusal.
pub async fn count(session: &mut Session) -> Result<u64> {
    let plants = "SELECT plant FROM dbstress.planted_row UNION SELECT plant FROM dbstress.expected_violation";
    Ok(session.integer(&format!("SELECT count(*) FROM ({plants}) AS known")).await?.unsigned_abs())
}

/// Whose or what's every planted row and expectation is: the case that has to do with it.
///
/// # Errors
/// The server's refusal.
pub async fn labels(session: &mut Session) -> Result<BTreeMap<Subject, String>> {
    let rows = session
        .rows(
            "SELECT label, (row ->> 'person_id')::bigint, NULL, NULL FROM dbstress.planted_row \
             UNION SELECT label, person_id, block_id, rotation_template_id FROM dbstress.expected_violation ORDER BY 1",
        )
        .await?;
    rows.iter()
        .map(|row| Ok((subject([number(row, 1).ok(), number(row, 2).ok(), number(row, 3).ok()])?, text(row, 0).to_owned())))
        .collect()
}

/// What is true for one set of rules, as far as the transaction sees it, which may be a snapshot.
///
/// # Errors
/// The server's refusal; inconclusive, when two lines are about the same.
pub async fn truth(session: &mut Session, rules: &str, scope: &Scope) -> Result<Truth> {
    Truth::of(roster::expected(session, rules, scope).await?).map_err(|two| {
        Error::inconclusive(format!("dbstress.expected_violation says two things about one subject: {two:?}")).cure(PLANT)
    })
}

/// What the cases are called that are mended, as far as the transaction sees it.
///
/// # Errors
/// The server's refusal.
pub async fn mended(session: &mut Session) -> Result<Vec<String>> {
    let rows = session.rows("SELECT DISTINCT label FROM dbstress.expected_violation WHERE NOT holds ORDER BY 1").await?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// Puts everything back that an earlier command may have left: ends its sessions, removes its programmes, plants what is mended. What there was to
/// do, in words.
///
/// # Errors
/// The server's refusal; inconclusive, when an ended session does not go.
pub async fn restore(session: &mut Session) -> Result<Vec<String>> {
    let ours = format!(
        "datname = current_database() AND usename = current_user AND starts_with(application_name, {})",
        literal(&format!("dbstress/{NAME}"))
    );
    session.rows(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")).await?;
    let asked = Instant::now();
    while session.integer(&format!("SELECT count(*) FROM pg_stat_activity WHERE {ours}")).await? > 0 {
        if asked.elapsed() > PATIENCE {
            return Err(Error::inconclusive(format!("sessions of an earlier check are there after {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut done = Vec::new();
    let programmes = super::own::remove(session).await?;
    if programmes > 0 {
        done.push(format!("programmes of an earlier check removed: {programmes}"));
    }
    let planted = plant_all(session).await?;
    if planted > 0 {
        done.push(format!("rows of planted cases put right that an earlier check had left mended: {planted}"));
    }
    Ok(done)
}

/// Plants every case that is mended; how many rows that took. One that is said to hold is left as it is, whatever is there: a check mends in one
/// transaction, so that somebody else was at its rows.
async fn plant_all(session: &mut Session) -> Result<u64, SqlError> {
    session.execute("BEGIN").await?;
    let mut rows = 0;
    // What is there in another version than the planted one counts as not there; whatever differs is the mended one.
    for planted in [false, true] {
        for relation in RELATIONS {
            let (of_case, record) = (
                format!("FROM dbstress.planted_row p, jsonb_populate_record(NULL::dbstress.{relation}, p.row) r"),
                format!(
                    "p.relation = '{relation}' AND p.is_planted = {planted} \
                     AND NOT EXISTS (SELECT FROM dbstress.expected_violation e WHERE e.plant = p.plant AND e.holds)"
                ),
            );
            let sql = match planted {
                false => format!(
                    "DELETE FROM dbstress.{relation} t USING (SELECT r.* {of_case} WHERE {record}) r \
                     WHERE t.id = r.id AND t IS NOT DISTINCT FROM r::dbstress.{relation}"
                ),
                true => format!(
                    "INSERT INTO dbstress.{relation} SELECT r.* {of_case} WHERE {record} \
                     AND NOT EXISTS (SELECT FROM dbstress.{relation} t WHERE t.id = r.id)"
                ),
            };
            rows += session.execute(&sql).await?;
        }
    }
    rows += session.execute("UPDATE dbstress.expected_violation SET holds = true WHERE NOT holds").await?;
    session.execute("COMMIT").await?;
    Ok(rows)
}

/// Person, half day, template.
fn subject(ids: [Option<i64>; 3]) -> Result<Subject> {
    match ids {
        [Some(person), None, None] => Ok(Subject::Person(person)),
        [None, Some(block), None] => Ok(Subject::Block(block)),
        [None, Some(block), Some(template)] => Ok(Subject::Place(block, template)),
        _ => Err(Error::inconclusive(format!("dbstress.expected_violation is about nothing that a rule can be about: {ids:?}"))),
    }
}

pub(super) fn text(row: &TextRow, column: usize) -> &str {
    row.get(column).and_then(|value| value.as_deref()).unwrap_or_default()
}

pub(super) fn number(row: &TextRow, column: usize) -> Result<i64> {
    text(row, column).parse().map_err(|_| strange(row))
}

fn strange(row: &TextRow) -> Error {
    Error::inconclusive(format!("this is not what was asked for: {row:?}"))
}
