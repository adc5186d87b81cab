//! Make, cancel and complete appointments: the rules and the statements.
//!
//! An appointment takes units of an authorisation, and is one more row that must not be decided on twice. Making one reserves its units under the
//! rules of any reservation; cancelling gives them back and completing uses them up, as many as were reserved, whatever became of its times. An
//! appointment that has ended is not ended again. Appointment, units, ledger line and session are written by one statement.
//!
//! Whoever ends an appointment writes its authorisation too, so that what protects the one row protects both: its lock, its version, its place in
//! a snapshot. Where a constraint is trusted with capacity nothing is said of appointments by it, and the statement itself sees to those.

use std::cell::RefCell;

use super::booking::{Actor, Place, Proposal, State as Authorisation, applied, unreadable};
use crate::Result;
use crate::history::{Applied, OpId, OperationKind};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Failure, Parameters, Row, Statement, Tx};
use crate::strategy::{Operation, RowLock, Strategy, Write};

/// A unit is so many seconds.
const UNIT: i64 = 15 * 60;

/// What somebody wants of an appointment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// That there is one; it takes a unit for every 15 minutes begun.
    Create {
        /// Of which authorisation.
        authorisation: i64,
        /// With whom.
        practitioner: i64,
        /// When it begins, seconds since 1970 in UTC.
        starts_at: i64,
        /// When it ends; later than it begins.
        ends_at: i64,
    },
    /// That it does not take place; what it had reserved is given back.
    Cancel(i64),
    /// That it took place; what it had reserved is used up.
    Complete(i64),
}

impl Ask {
    /// What becomes of its units.
    pub fn kind(self) -> OperationKind {
        match self {
            Self::Create { .. } => OperationKind::Reserve,
            Self::Cancel(_) => OperationKind::Release,
            Self::Complete(_) => OperationKind::Consume,
        }
    }
}

/// The units that a time takes, both ends in seconds: one for every 15 minutes begun. Times that no booking has room for take as many as there are.
pub fn units(starts_at: i64, ends_at: i64) -> i32 {
    let units = ends_at.saturating_sub(starts_at).max(0).unsigned_abs().div_ceil(UNIT.unsigned_abs());
    i32::try_from(units).unwrap_or(i32::MAX)
}

/// An appointment as clients see it, as an SQL expression of `row`.
pub fn json(row: &str) -> String {
    let time = |column: &str| format!("to_char({row}.{column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    format!(
        "json_build_object('id', {row}.id, 'authorisation', {row}.authorisation_id, 'organisation', {row}.organisation_id, \
         'practitioner', {row}.practitioner_id, 'starts_at', {}, 'ends_at', {}, 'reserved_units', {row}.reserved_units, \
         'status', {row}.status)::text",
        time("starts_at"),
        time("ends_at")
    )
}

/// The statements, prepared on one connection.
pub struct Statements {
    lock: Statement,
    /// The authorisation of a new appointment, by how it is locked.
    read: [Statement; 3],
    /// The authorisation of one that is there.
    whose: Statement,
    /// The appointment, waiting and not waiting.
    hold: [Statement; 2],
    /// Both, by how the authorisation is locked.
    read_both: [Statement; 3],
    /// By kind.
    write: [Writes; 3],
    /// What is written relative to the row is written on condition.
    is_conditional: bool,
}

/// One way to write for each [`Write`] that appointments know.
struct Writes {
    relative: Statement,
    absolute: Statement,
    if_version: Statement,
    if_allowed: Statement,
}

impl Statements {
    /// Prepares them.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(connection: &mut Connection, place: &Place, strategy: Strategy) -> Result<Self> {
        let schema = place.schema;
        let columns = Authorisation::columns(place);
        let read = format!(
            "SELECT {columns}, r.organisation_id FROM {schema}.authorisation a LEFT JOIN {schema}.practitioner r ON r.id = $2::bigint \
             WHERE a.id = $1::bigint"
        );
        let hold = format!("SELECT id FROM {schema}.appointment WHERE id = $1::bigint FOR UPDATE");
        let read_both = format!(
            "SELECT {columns}, p.status = 'SCHEDULED', p.reserved_units FROM {schema}.appointment p \
             JOIN {schema}.authorisation a ON a.id = p.authorisation_id WHERE p.id = $1::bigint"
        );
        let is_conditional = strategy == Strategy::CheckConstraint;
        Ok(Self {
            lock: connection.prepare("SELECT pg_advisory_xact_lock($1::bigint)").await?,
            read: locked(connection, &read).await?,
            whose: connection.prepare(&format!("SELECT authorisation_id FROM {schema}.appointment WHERE id = $1::bigint")).await?,
            hold: [connection.prepare(&hold).await?, connection.prepare(&format!("{hold} NOWAIT")).await?],
            read_both: locked(connection, &read_both).await?,
            write: [
                Writes::prepare(connection, place, OperationKind::Reserve, is_conditional).await?,
                Writes::prepare(connection, place, OperationKind::Release, is_conditional).await?,
                Writes::prepare(connection, place, OperationKind::Consume, is_conditional).await?,
            ],
            is_conditional,
        })
    }
}

/// A statement that reads `authorisation a`: without a lock, waiting for it, and not waiting.
async fn locked(connection: &mut Connection, sql: &str) -> Result<[Statement; 3]> {
    Ok([
        connection.prepare(sql).await?,
        connection.prepare(&format!("{sql} FOR UPDATE OF a")).await?,
        connection.prepare(&format!("{sql} FOR UPDATE OF a NOWAIT")).await?,
    ])
}

impl Writes {
    async fn prepare(connection: &mut Connection, place: &Place, kind: OperationKind, is_conditional: bool) -> Result<Self> {
        let (used, scheduled) = match kind {
            OperationKind::Reserve => ("a.used", "a.scheduled + t.units"),
            OperationKind::Release => ("a.used", "a.scheduled - t.units"),
            _ => ("a.used + t.units", "a.scheduled - t.units"),
        };
        let room = match kind {
            OperationKind::Reserve => "a.total - a.used - a.scheduled >= t.units",
            _ => "a.scheduled >= t.units",
        };
        let usable = match kind {
            OperationKind::Release => String::new(),
            _ => format!(" AND a.status = 'ACTIVE' AND a.end_date >= (TIMESTAMP '{}')::date", place.as_of),
        };
        let allowed = format!(" AND a.organisation_id = $4::bigint{usable} AND {room}");
        let write = |counters: [&str; 2], is_live: bool, condition: &str| match kind {
            OperationKind::Reserve => create_sql(place, counters, condition),
            _ => end_sql(place, kind, counters, is_live, condition),
        };
        Ok(Self {
            relative: connection.prepare(&write([used, scheduled], is_conditional, "")).await?,
            absolute: connection.prepare(&write(["$6::integer", "$7::integer"], false, "")).await?,
            if_version: connection.prepare(&write([used, scheduled], false, " AND a.version = $6::bigint")).await?,
            if_allowed: connection.prepare(&write([used, scheduled], true, &allowed)).await?,
        })
    }
}

/// Counters and version of `authorisation a`, for the appointment and the units of `taken t`.
fn changed(place: &Place, [used, scheduled]: [&str; 2], condition: &str) -> String {
    format!(
        "changed AS ( \
           UPDATE {schema}.authorisation a SET used = {used}, scheduled = {scheduled}, version = a.version + 1, \
             status = CASE WHEN {used} = a.total THEN 'EXHAUSTED' ELSE a.status END \
           FROM taken t WHERE a.id = t.authorisation_id{condition} RETURNING a.id, a.version, a.total, a.used, a.scheduled \
         )",
        schema = place.schema
    )
}

/// The ledger line of what became of `appointment p`, last; then what is returned.
fn told(place: &Place, kind: OperationKind, appointment: &str) -> String {
    let Place { schema, run, strategy, .. } = place;
    format!(
        "entry AS ( \
           INSERT INTO {schema}.unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, \
             units, version, total, used, scheduled, decided_at, appointment_id) \
           SELECT $2::bigint, $3::smallint, 0, {run}, ($2::bigint >> 32) & 32767, '{strategy}', '{kind}', c.id, $4::bigint, $5::bigint, \
             p.reserved_units, c.version, c.total, c.used, c.scheduled, {now}, p.id \
           FROM changed c CROSS JOIN {appointment} p \
         ) SELECT c.version, c.total, c.used, c.scheduled, {json} FROM changed c CROSS JOIN {appointment} p",
        kind = kind.word(),
        now = place.now(None),
        json = json("p")
    )
}

/// Reserves, and makes the appointment. Parameters: authorisation, operation, attempt, organisation, actor; two of the condition; then practitioner,
/// beginning, end, units.
fn create_sql(place: &Place, counters: [&str; 2], condition: &str) -> String {
    let Place { schema, run, .. } = place;
    format!(
        "WITH given AS (SELECT $6::bigint, $7::bigint), \
         taken AS (SELECT $1::bigint AS authorisation_id, $11::integer AS units), {}, \
         made AS ( \
           INSERT INTO {schema}.appointment (organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units, run_id) \
           SELECT $4::bigint, c.id, $8::bigint, to_timestamp($9::bigint), to_timestamp($10::bigint), $11::integer, {run} FROM changed c \
           RETURNING * \
         ), {}",
        changed(place, counters, condition),
        told(place, OperationKind::Reserve, "made")
    )
}

/// Gives back or uses up what the appointment reserved, and ends it; if `is_live`, only one that has not ended. Parameters: appointment, operation,
/// attempt, organisation, actor; two of the condition.
fn end_sql(place: &Place, kind: OperationKind, counters: [&str; 2], is_live: bool, condition: &str) -> String {
    let schema = place.schema;
    // Locked, so that whoever waited for it sees what became of it.
    let live = if is_live { " AND status = 'SCHEDULED' FOR UPDATE" } else { "" };
    let (status, session) = match kind {
        OperationKind::Consume => (
            "COMPLETED",
            format!(
                "held AS (INSERT INTO {schema}.treatment_session (appointment_id, organisation_id, units) \
                   SELECT id, organisation_id, reserved_units FROM ended), "
            ),
        ),
        _ => ("CANCELLED", String::new()),
    };
    format!(
        "WITH given AS (SELECT $6::bigint, $7::bigint), \
         taken AS (SELECT authorisation_id, reserved_units AS units FROM {schema}.appointment WHERE id = $1::bigint{live}), {}, \
         ended AS ( \
           UPDATE {schema}.appointment p SET status = '{status}', version = p.version + 1 FROM changed c WHERE p.id = $1::bigint RETURNING p.* \
         ), {session}{}",
        changed(place, counters, condition),
        told(place, kind, "ended")
    )
}

/// One attempt at what somebody wants of an appointment.
pub struct Appointing<'s> {
    /// The intention; the same for every attempt.
    pub ask: Ask,
    /// Who asks.
    pub actor: Actor,
    /// Identifies the intention in the ledger.
    pub op_id: OpId,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// The statements of the connection it runs on.
    pub statements: &'s Statements,
    /// The appointment as it left it, once it was written: JSON.
    pub left: RefCell<String>,
}

/// What was read for it.
#[derive(Debug, Clone, Copy)]
pub enum State {
    /// To make one: the authorisation, and whose the practitioner is; `None`: there is no such practitioner.
    New(Authorisation, Option<i64>),
    /// To end one.
    Made {
        /// Its authorisation.
        authorisation: Authorisation,
        /// It has not ended.
        is_live: bool,
        /// What it reserved.
        units: i32,
    },
}

impl State {
    fn authorisation(&self) -> &Authorisation {
        match self {
            Self::New(authorisation, _) | Self::Made { authorisation, .. } => authorisation,
        }
    }
}

impl Appointing<'_> {
    /// What it is to the authorisation.
    fn booking(&self, units: i32) -> Proposal {
        Proposal { kind: self.ask.kind(), units, authorisation: 0, actor: self.actor, is_attack: false, key: None }
    }

    fn units(&self, state: &State) -> i32 {
        match (self.ask, state) {
            (_, State::Made { units, .. }) => *units,
            (Ask::Create { starts_at, ends_at, .. }, State::New(..)) => units(starts_at, ends_at),
            // What is read is of the kind that is asked for.
            (Ask::Cancel(_) | Ask::Complete(_), State::New(..)) => 0,
        }
    }
}

impl Operation for Appointing<'_> {
    type State = State;

    async fn lock(&self, tx: &mut Tx<'_>) -> Result<(), Failure> {
        let authorisation = match self.ask {
            Ask::Create { authorisation, .. } => Some(authorisation),
            Ask::Cancel(id) | Ask::Complete(id) => {
                tx.execute(&self.statements.whose, |p| p.integer(id)).await?;
                tx.row().map(|row| number(row).ok_or_else(unreadable)).transpose()?
            }
        };
        // The lock that bookings of the authorisation take, which never becomes another's.
        if let Some(authorisation) = authorisation {
            tx.execute(&self.statements.lock, |p| p.integer(authorisation)).await?;
        }
        Ok(())
    }

    async fn read(&self, tx: &mut Tx<'_>, lock: RowLock) -> Result<Option<State>, Failure> {
        let form = match lock {
            RowLock::None => 0,
            RowLock::ForUpdate => 1,
            RowLock::ForUpdateNowait => 2,
        };
        match self.ask {
            Ask::Create { authorisation, practitioner, .. } => {
                tx.execute(&self.statements.read[form], |p| {
                    p.integer(authorisation);
                    p.integer(practitioner);
                })
                .await?;
                tx.row().map(|row| new(row).ok_or_else(unreadable)).transpose()
            }
            Ask::Cancel(id) | Ask::Complete(id) => {
                // In a statement of its own: one that waits and then reads would read what was there before it waited.
                if let Some(hold) = form.checked_sub(1) {
                    tx.execute(&self.statements.hold[hold], |p| p.integer(id)).await?;
                }
                tx.execute(&self.statements.read_both[form], |p| p.integer(id)).await?;
                tx.row().map(|row| made(row).ok_or_else(unreadable)).transpose()
            }
        }
    }

    fn decide(&self, state: &State) -> Result<(), Refusal> {
        if state.authorisation().organisation != self.actor.organisation {
            return Err(Refusal::WrongOrganisation);
        }
        match state {
            State::New(_, None) => return Err(Refusal::NotFound),
            State::New(_, Some(organisation)) if *organisation != self.actor.organisation => {
                return Err(Refusal::WrongOrganisation);
            }
            State::Made { is_live: false, .. } => return Err(Refusal::AlreadySo),
            State::New(_, Some(_)) | State::Made { .. } => {}
        }
        self.booking(self.units(state)).allowed(state.authorisation())
    }

    fn refusal_by_constraint(&self) -> Refusal {
        match self.ask {
            Ask::Create { .. } => Refusal::InsufficientUnits,
            Ask::Cancel(_) | Ask::Complete(_) => Refusal::NotScheduled,
        }
    }

    async fn write(&self, tx: &mut Tx<'_>, state: Option<&State>, write: Write) -> Result<Option<Applied>, Failure> {
        let writes = &self.statements.write[self.ask.kind() as usize];
        let statement = match write {
            // An appointment takes units, and no time that could overlap.
            Write::Relative | Write::Exclusive => &writes.relative,
            Write::Absolute => &writes.absolute,
            Write::IfVersionUnchanged => &writes.if_version,
            Write::IfAllowed => &writes.if_allowed,
        };
        let (subject, appointment) = match self.ask {
            Ask::Create { authorisation, .. } => (authorisation, Some(self.ask)),
            Ask::Cancel(id) | Ask::Complete(id) => (id, None),
        };
        tx.execute(statement, |p| {
            p.integer(subject);
            p.integer(self.op_id.0);
            p.integer(self.attempt);
            p.integer(self.actor.organisation);
            p.integer(self.actor.id);
            self.condition(p, state, write);
            if let Some(Ask::Create { practitioner, starts_at, ends_at, .. }) = appointment {
                p.integer(practitioner);
                p.integer(starts_at);
                p.integer(ends_at);
                p.integer(units(starts_at, ends_at));
            }
        })
        .await?;
        let Some(row) = tx.row() else {
            return match write {
                // It has ended since it was read: whoever reads again is told so.
                Write::Relative if self.statements.is_conditional => Err(Failure::local(Abort::VersionConflict)),
                _ => Ok(None),
            };
        };
        let left = row.values().nth(4).flatten().ok_or_else(unreadable)?;
        left.clone_into(&mut self.left.borrow_mut());
        applied(row).map(Some).ok_or_else(unreadable)
    }
}

impl Appointing<'_> {
    /// The two parameters of the condition: new counters, a version, or nothing.
    fn condition(&self, p: &mut Parameters<'_>, state: Option<&State>, write: Write) {
        match (write, state) {
            (Write::Absolute, Some(state)) => {
                let authorisation = state.authorisation();
                let (used, scheduled) = self.ask.kind().deltas(self.units(state));
                p.integer(authorisation.used + used);
                p.integer(authorisation.scheduled + scheduled);
            }
            (Write::IfVersionUnchanged, Some(state)) => {
                p.integer(state.authorisation().version);
                p.null();
            }
            _ => {
                p.null();
                p.null();
            }
        }
    }
}

/// The first value of a row.
fn number(row: Row<'_>) -> Option<i64> {
    row.values().next()??.parse().ok()
}

fn new(row: Row<'_>) -> Option<State> {
    let mut values = row.values();
    let authorisation = Authorisation::of(&mut values)?;
    let organisation = values.next()?.map(str::parse).transpose().ok()?;
    Some(State::New(authorisation, organisation))
}

fn made(row: Row<'_>) -> Option<State> {
    let mut values = row.values();
    let authorisation = Authorisation::of(&mut values)?;
    Some(State::Made { authorisation, is_live: values.next()?? == "t", units: values.next()??.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_taken_for_every_quarter_of_an_hour_begun() {
        let of_minutes = |minutes: i64| units(1_000, 1_000 + minutes * 60);
        assert_eq!([1, 15, 16, 60, 61].map(of_minutes), [1, 1, 2, 4, 5]);
        assert_eq!(units(0, 1), 1);
        assert_eq!(units(0, i64::MAX), i32::MAX);
        assert_eq!(units(5, 5), 0);
    }
}
