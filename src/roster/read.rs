//! How does a schedule of any size become people with their duty? A few hundred people at a time; what the rules care about is worked out here,
//! apart from what the same rules in SQL do.

use std::collections::BTreeMap;

use super::{EPOCH, Row, Scope, array, visit};
use crate::Result;
use crate::acgme::evaluate::{Evaluator, Roster};
use crate::acgme::{Absence, Attendance, DAY, Duty, DutyKind, HOUR, Minute, Person, PersonKind, Role, Template};
use crate::pg::admin::Session;

/// People who are read and held at a time: a year of them is some 30 MB.
const PEOPLE: usize = 500;

/// How much was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// People.
    pub people: u64,
    /// Assignments of both tables, those in reserve included.
    pub assignments: u64,
    /// Calls, those in reserve included.
    pub calls: u64,
    /// Stretches of extra duty.
    pub extra_duties: u64,
    /// Absences, blocking or not.
    pub absences: u64,
}

/// Somebody of the people held, and what is known of them so far.
struct Known {
    person: Person,
    period: Option<(Minute, Minute)>,
    duties: Vec<Duty>,
    absences: Vec<Absence>,
    attendances: Vec<Attendance>,
}

/// Gives everybody of `scope`, with all their duty, to each of `evaluators`; as [`read`].
///
/// # Errors
/// As [`read`].
pub async fn evaluate(session: &mut Session, scope: &Scope, evaluators: &mut [Evaluator]) -> Result<Read> {
    read(session, scope, |roster| evaluators.iter_mut().for_each(|evaluator| evaluator.person(roster))).await
}

/// Shows everybody of `scope`, with all their duty, to `visit`, in the order of their numbers.
///
/// Several statements: within a REPEATABLE READ transaction they see one state of the schedule, otherwise each its own. That is the caller's choice,
/// since a reader that mixes states is what the test of accuracy must be able to catch. What refers to a block or a template that is not there is
/// not read, as it is not known when it would be.
///
/// # Errors
/// Inconclusive: the server refuses a question, or holds what is no schedule.
pub async fn read(session: &mut Session, scope: &Scope, mut visit: impl FnMut(&Roster<'_>)) -> Result<Read> {
    let mut read = Read::default();
    let periods = periods(session, scope).await?;
    let mut after = i64::MIN;
    loop {
        let mut people = people(session, scope, after, &periods).await?;
        let Some(last) = people.last() else { return Ok(read) };
        after = last.person.id;
        read.people += people.len() as u64;
        let ids: Vec<i64> = people.iter().map(|known| known.person.id).collect();
        let ids = array(&ids);
        for table in ["assignment", "assignment_unguarded"] {
            read.assignments += assignments(session, table, &ids, &mut people).await?;
        }
        read.calls += calls(session, &ids, &mut people).await?;
        read.extra_duties += extra_duties(session, &ids, &mut people).await?;
        read.absences += absences(session, &ids, &mut people).await?;
        for Known { person, period, duties, absences, attendances } in &people {
            visit(&Roster { person: *person, period: *period, duties, absences, attendances });
        }
    }
}

/// From the midnight before the first half day of each programme to the one after its last.
async fn periods(session: &mut Session, scope: &Scope) -> Result<BTreeMap<i64, (Minute, Minute)>> {
    let query = format!(
        "SELECT programme_id, {}, {} FROM block WHERE programme_id = ANY ({}) GROUP BY programme_id",
        day("min(date)"),
        day("max(date)"),
        scope.array()
    );
    let mut periods = BTreeMap::new();
    visit(session, &query, |row| {
        periods.insert(row.integer(0)?, (row.integer(1)? * DAY, (row.integer(2)? + 1) * DAY));
        Ok(())
    })
    .await?;
    Ok(periods)
}

/// The next people after number `after`.
async fn people(session: &mut Session, scope: &Scope, after: i64, periods: &BTreeMap<i64, (Minute, Minute)>) -> Result<Vec<Known>> {
    let query = format!(
        "SELECT id, kind, pgy, programme_id FROM person WHERE id > {after} AND programme_id = ANY ({}) ORDER BY id LIMIT {PEOPLE}",
        scope.array()
    );
    let mut people = Vec::new();
    visit(session, &query, |row| {
        let kind = match row.text(1)? {
            // Years that do not exist are no first years; that they are wrong is a matter of another rule.
            "resident" => PersonKind::Resident(row.number(2)?.map(|year| year.clamp(0, 255) as u8)),
            "faculty" => PersonKind::Faculty,
            _ => return Err(row.unreadable(1)),
        };
        people.push(Known {
            person: Person { id: row.integer(0)?, kind },
            period: periods.get(&row.integer(3)?).copied(),
            duties: Vec::new(),
            absences: Vec::new(),
            attendances: Vec::new(),
        });
        Ok(())
    })
    .await?;
    Ok(people)
}

async fn assignments(session: &mut Session, table: &str, ids: &str, people: &mut [Known]) -> Result<u64> {
    let query = format!(
        "SELECT a.person_id, a.block_id, a.role, {}, b.half, {}, {}, t.id, t.activity, t.max_residents, t.supervision_required FROM {table} a \
         JOIN block b ON b.id = a.block_id JOIN rotation_template t ON t.id = a.rotation_template_id WHERE a.person_id = ANY ({ids})",
        day("b.date"),
        minute("a.starts_at"),
        minute("a.ends_at")
    );
    each(session, &query, people, |row, known| {
        let start = row.integer(3)? * DAY
            + match row.text(4)? {
                "AM" => 7 * HOUR,
                "PM" => 13 * HOUR,
                _ => return Err(row.unreadable(4)),
            };
        let end = start + 6 * HOUR;
        let role = match row.text(2)? {
            "primary" => Role::Primary,
            "supervising" => Role::Supervising,
            "backup" => return Ok(()),
            _ => return Err(row.unreadable(2)),
        };
        let is_duty = !["off", "absence", "recovery"].contains(&row.text(8)?);
        let max_residents = row.number(9)?.map(|most| u32::try_from(most.max(0)).unwrap_or(u32::MAX));
        let template = Template { id: row.integer(7)?, max_residents, is_supervised: is_duty && row.is(10)? };
        known.attendances.push(Attendance { block: row.integer(1)?, template, role, start, end });
        if is_duty {
            let (start, end) = (row.number(5)?.unwrap_or(start), row.number(6)?.unwrap_or(end));
            known.duties.push(Duty { start, end, kind: DutyKind::HalfDay });
        }
        Ok(())
    })
    .await
}

async fn calls(session: &mut Session, ids: &str, people: &mut [Known]) -> Result<u64> {
    let query = format!(
        "SELECT person_id, kind, {}, {}, {} FROM call_assignment WHERE person_id = ANY ({ids})",
        day("night"),
        minute("starts_at"),
        minute("ends_at")
    );
    each(session, &query, people, |row, known| {
        let (kind, begins) = match row.text(1)? {
            "overnight" => (DutyKind::Overnight, 19 * HOUR),
            "night-float" => (DutyKind::NightFloat, 19 * HOUR),
            "weekend" => (DutyKind::Weekend, 7 * HOUR),
            "backup" => return Ok(()),
            _ => return Err(row.unreadable(1)),
        };
        let night = row.integer(2)? * DAY;
        let start = row.number(3)?.unwrap_or(night + begins);
        let end = row.number(4)?.unwrap_or(night + DAY + 7 * HOUR);
        known.duties.push(Duty { start, end, kind });
        Ok(())
    })
    .await
}

async fn extra_duties(session: &mut Session, ids: &str, people: &mut [Known]) -> Result<u64> {
    let query = format!(
        "SELECT person_id, kind, {}, {} FROM extra_duty WHERE person_id = ANY ({ids})",
        minute("starts_at"),
        minute("ends_at")
    );
    each(session, &query, people, |row, known| {
        let kind = match row.text(1)? {
            "extension" => DutyKind::Extension,
            "handover" => DutyKind::Handover,
            "moonlighting" => DutyKind::Moonlighting,
            _ => return Err(row.unreadable(1)),
        };
        known.duties.push(Duty { start: row.integer(2)?, end: row.integer(3)?, kind });
        Ok(())
    })
    .await
}

async fn absences(session: &mut Session, ids: &str, people: &mut [Known]) -> Result<u64> {
    let query = format!(
        "SELECT person_id, kind, {}, {}, is_blocking FROM absence WHERE person_id = ANY ({ids})",
        day("starts_on"),
        day("ends_on")
    );
    each(session, &query, people, |row, known| {
        let (first, last) = (row.integer(2)?, row.integer(3)?);
        let days = last - first + 1;
        let is_blocking = match (row.0[4].is_some(), row.text(1)?) {
            (true, _) => row.is(4)?,
            (false, "medical") => days > 7,
            (false, "sick") => days > 3,
            (false, kind) => !["vacation", "conference"].contains(&kind),
        };
        known.absences.push(Absence { start: first * DAY, end: (last + 1) * DAY, is_blocking });
        Ok(())
    })
    .await
}

/// Calls `take` with each row of a query and the person whose number is in its first column; how many rows there were.
async fn each(
    session: &mut Session,
    query: &str,
    people: &mut [Known],
    mut take: impl FnMut(&Row<'_>, &mut Known) -> Result<()>,
) -> Result<u64> {
    let mut rows = 0;
    visit(session, query, |row| {
        let id = row.integer(0)?;
        let at = people.binary_search_by_key(&id, |known| known.person.id).map_err(|_| row.unreadable(0))?;
        rows += 1;
        take(&row, &mut people[at])
    })
    .await?;
    Ok(rows)
}

/// A date as days since 2000-01-01.
fn day(date: &str) -> String {
    format!("{date} - date '2000-01-01'")
}

/// A point in time as minutes since 2000-01-01; NULL stays NULL.
fn minute(time: &str) -> String {
    format!("floor(extract(epoch FROM {time}) / 60)::bigint - {EPOCH}")
}
