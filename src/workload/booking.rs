//! Reserve, release and consume units of an authorisation: the rules, the statements, and the mix that keeps them contended.
//!
//! Rules, in this order: the actor's organisation is the authorisation's; for reserve and consume the authorisation is ACTIVE and has
//! not ended by the clock of the domain; then capacity: reserve needs units free, release and consume need units scheduled.
//! The status becomes EXHAUSTED with the update that makes used = total, and only then.

use super::keyed::{self, Key};
use super::twin::{self, Extra};
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, Asking, OpId, OperationKind};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Failure, Row, Statement, Tx};
use crate::strategy::{Operation, RowLock, Write};

/// Where the rows are and who writes them; the same for every operation of a strategy's run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Schema of the tables: `dbstress`, or the control's own.
    pub schema: &'static str,
    /// Number of the run, as in the ledger.
    pub run: i32,
    /// Name of the strategy, as in the ledger.
    pub strategy: &'static str,
    /// The clock of the domain, UTC, as PostgreSQL prints it.
    pub as_of: String,
}

impl Place {
    /// The clock of the domain, as SQL; `later` is the parameter that says by how many seconds a request is later than the dataset.
    pub fn now(&self, later: Option<&str>) -> String {
        let later = later.map_or(String::new(), |seconds| format!(" + interval '1 second' * {seconds}::bigint"));
        format!("(TIMESTAMPTZ '{}+00'{later})", self.as_of)
    }
}

/// The statements, prepared on one connection.
pub struct Statements {
    read: Statement,
    read_for_update: Statement,
    read_for_update_nowait: Statement,
    lock: Statement,
    write_relative: Statement,
    write_absolute: Statement,
    write_if_version: Statement,
    /// By operation kind.
    write_if_allowed: [Statement; 3],
    /// The mistake that is made on purpose, if one is.
    pub(super) bug: Option<Bug>,
    /// What the mistake needs besides.
    pub(super) extra: Extra,
}

impl Statements {
    /// Prepares them, for the right thing or for a known-bad twin of it; `key` if they are to be those of requests with a key, whose effect
    /// completes its record.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(connection: &mut Connection, place: &Place, bug: Option<Bug>, key: Option<&keyed::Scope>) -> Result<Self> {
        let Place { schema, as_of, .. } = place;
        let select = format!("SELECT {} FROM {schema}.authorisation a WHERE id = $1", State::columns(place));
        let relative = format!(
            "used = used + $2, scheduled = scheduled + $3, status = CASE WHEN {} THEN 'EXHAUSTED' ELSE status END",
            twin::exhausted(bug)
        );
        let absolute = "used = $2, scheduled = $3, status = CASE WHEN $2 = total THEN 'EXHAUSTED' ELSE status END";
        let write_if_allowed = |kind: OperationKind| {
            let rule = match kind {
                OperationKind::Reserve => "total - used - scheduled >= $6",
                _ => "scheduled >= $6",
            };
            let usable = match kind {
                OperationKind::Release => String::new(),
                _ => format!(" AND status = 'ACTIVE' AND end_date >= (TIMESTAMP '{as_of}')::date"),
            };
            write_sql(place, key, &relative, &format!(" AND organisation_id = $7{usable} AND {rule}"))
        };
        let version = if key.is_some() { 14 } else { 11 };
        Ok(Self {
            read: connection.prepare(&select).await?,
            read_for_update: connection.prepare(&format!("{select} FOR UPDATE")).await?,
            read_for_update_nowait: connection.prepare(&format!("{select} FOR UPDATE NOWAIT")).await?,
            lock: connection.prepare("SELECT pg_advisory_xact_lock($1)").await?,
            write_relative: connection.prepare(&write_sql(place, key, &relative, "")).await?,
            write_absolute: connection.prepare(&write_sql(place, key, absolute, "")).await?,
            write_if_version: connection.prepare(&write_sql(place, key, &relative, &format!(" AND version = ${version}"))).await?,
            write_if_allowed: [
                connection.prepare(&write_if_allowed(OperationKind::Reserve)).await?,
                connection.prepare(&write_if_allowed(OperationKind::Release)).await?,
                connection.prepare(&write_if_allowed(OperationKind::Consume)).await?,
            ],
            bug,
            extra: Extra::prepare(connection, place, bug, &select).await?,
        })
    }
}

/// Counters, version and ledger line in one statement, the line last: it is written once the row is locked and changed. With a key the line
/// carries it, and its record is completed by the same statement.
fn write_sql(place: &Place, key: Option<&keyed::Scope>, set: &str, condition: &str) -> String {
    let Place { schema, run, strategy, .. } = place;
    let (column, value) = if key.is_some() { (", key", ", $11::text") } else { ("", "") };
    let now = place.now(key.map(|_| "$12"));
    let completed = key.map_or(String::new(), |scope| {
        let record = scope.record("$7::bigint", "$9::text", "$11::text", "$13::text");
        format!(
            ", completed AS ( \
               UPDATE {schema}.idempotency_key SET state = 'completed', response = ARRAY[changed.version, changed.total, changed.used, \
                 changed.scheduled], result_op = $4::bigint, result_attempt = $5::smallint \
               FROM changed WHERE {record} AND fingerprint = $13::text \
             )"
        )
    });
    format!(
        "WITH changed AS ( \
           UPDATE {schema}.authorisation SET {set}, version = version + 1 WHERE id = $1{condition} \
           RETURNING version, total, used, scheduled \
         ), entry AS ( \
           INSERT INTO {schema}.unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, \
             actor_id, units, version, total, used, scheduled, decided_at{column}) \
           SELECT $4::bigint, $5::smallint, 0, {run}, $8::integer, '{strategy}', $9::text, $1::bigint, $7::bigint, $10::bigint, $6::integer, version, total, used, scheduled, {now}{value} \
           FROM changed \
         ){completed} SELECT version, total, used, scheduled FROM changed"
    )
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor {
    /// A practitioner.
    pub id: i64,
    /// The organisation whose practitioner it is.
    pub organisation: i64,
}

/// What a virtual user intends to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// Reserve, release or consume.
    pub kind: OperationKind,
    /// How many units.
    pub units: i32,
    /// Of which authorisation.
    pub authorisation: i64,
    /// Who asks.
    pub actor: Actor,
    /// The actor belongs to another organisation: must be refused.
    pub is_attack: bool,
    /// How it is asked for, if with a key, and the number of the key among those of the run.
    pub key: Option<(Asking, u64)>,
}

impl Proposal {
    /// Whether the rules allow it in this state.
    ///
    /// # Errors
    /// The rule that says no.
    pub(super) fn allowed(&self, state: &State) -> Result<(), Refusal> {
        let Proposal { kind, units, actor, .. } = *self;
        if actor.organisation != state.organisation {
            return Err(Refusal::WrongOrganisation);
        }
        if kind != OperationKind::Release {
            if !state.is_active {
                return Err(Refusal::Inactive);
            }
            if !state.is_current {
                return Err(Refusal::Expired);
            }
        }
        match kind {
            OperationKind::Reserve if state.total - state.used - state.scheduled < units => Err(Refusal::InsufficientUnits),
            OperationKind::Release | OperationKind::Consume if state.scheduled < units => Err(Refusal::NotScheduled),
            _ => Ok(()),
        }
    }
}

/// One attempt at a proposal.
pub struct Booking<'s> {
    /// The intention; the same for every attempt.
    pub proposal: Proposal,
    /// Identifies the intention in the ledger.
    pub op_id: OpId,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// The key that it was asked for with, if with one; the statements are then those of such requests.
    pub key: Option<&'s Key>,
    /// The statements of the connection it runs on.
    pub statements: &'s Statements,
}

/// An authorisation as it was read.
#[derive(Debug, Clone, Copy)]
pub struct State {
    pub(super) organisation: i64,
    total: i32,
    pub(super) used: i32,
    pub(super) scheduled: i32,
    is_active: bool,
    is_current: bool,
    pub(super) version: i64,
}

impl State {
    /// Its columns, of `authorisation a`.
    pub(super) fn columns(place: &Place) -> String {
        format!(
            "a.organisation_id, a.total, a.used, a.scheduled, a.status = 'ACTIVE', a.end_date >= (TIMESTAMP '{}')::date, a.version",
            place.as_of
        )
    }

    /// From values that begin with them.
    pub(super) fn of<'v>(values: &mut impl Iterator<Item = Option<&'v str>>) -> Option<Self> {
        let mut next = || values.next().flatten();
        Some(Self {
            organisation: next()?.parse().ok()?,
            total: next()?.parse().ok()?,
            used: next()?.parse().ok()?,
            scheduled: next()?.parse().ok()?,
            is_active: next()? == "t",
            is_current: next()? == "t",
            version: next()?.parse().ok()?,
        })
    }
}

impl Booking<'_> {
    /// Reads the row with `statement`, which begins with the columns of a [`State`].
    pub(super) async fn read_with(&self, tx: &mut Tx<'_>, statement: &Statement) -> Result<Option<State>, Failure> {
        tx.execute(statement, |p| p.integer(self.proposal.authorisation)).await?;
        tx.row().map(|row| State::of(&mut row.values()).ok_or_else(unreadable)).transpose()
    }

    /// The counters that it would leave, done in this state.
    pub(super) fn would_leave(&self, state: &State) -> Applied {
        let (used, scheduled) = self.proposal.kind.deltas(self.proposal.units);
        Applied { version: state.version + 1, total: state.total, used: state.used + used, scheduled: state.scheduled + scheduled }
    }
}

impl Operation for Booking<'_> {
    type State = State;

    async fn lock(&self, tx: &mut Tx<'_>) -> Result<(), Failure> {
        tx.execute(&self.statements.lock, |p| p.integer(self.proposal.authorisation)).await.map(|_| ())
    }

    async fn read(&self, tx: &mut Tx<'_>, lock: RowLock) -> Result<Option<State>, Failure> {
        let statement = match lock {
            RowLock::None => &self.statements.read,
            RowLock::ForUpdate => &self.statements.read_for_update,
            RowLock::ForUpdateNowait => &self.statements.read_for_update_nowait,
        };
        self.read_with(tx, statement).await
    }

    fn decide(&self, state: &State) -> Result<(), Refusal> {
        self.proposal.allowed(state)
    }

    fn refusal_by_constraint(&self) -> Refusal {
        match self.proposal.kind {
            OperationKind::Reserve => Refusal::InsufficientUnits,
            _ => Refusal::NotScheduled,
        }
    }

    async fn write(&self, tx: &mut Tx<'_>, state: Option<&State>, write: Write) -> Result<Option<Applied>, Failure> {
        let Proposal { kind, units, authorisation, actor, .. } = self.proposal;
        let (mut used, mut scheduled) = kind.deltas(twin::counted(self));
        let mut version = 0;
        if let Some(state) = state {
            version = state.version;
            if write == Write::Absolute {
                used += state.used;
                scheduled += state.scheduled;
            }
        }
        let statement = match write {
            // Units take no time that could overlap.
            Write::Relative | Write::Exclusive => &self.statements.write_relative,
            Write::Absolute => &self.statements.write_absolute,
            Write::IfVersionUnchanged => &self.statements.write_if_version,
            Write::IfAllowed => &self.statements.write_if_allowed[kind as usize],
        };
        tx.execute(statement, |p| {
            p.integer(authorisation);
            p.integer(used);
            p.integer(scheduled);
            p.integer(self.op_id.0);
            p.integer(self.attempt);
            p.integer(units);
            p.integer(actor.organisation);
            p.integer(self.op_id.vu());
            p.text(kind.word());
            p.integer(actor.id);
            if let Some(key) = self.key {
                p.text(&key.text);
                p.integer(key.later);
                p.text(&key.fingerprint);
            }
            if write == Write::IfVersionUnchanged {
                p.integer(version);
            }
        })
        .await?;
        tx.row().map(|row| applied(row).ok_or_else(unreadable)).transpose()
    }
}

pub(super) fn applied(row: Row<'_>) -> Option<Applied> {
    let mut values = row.values();
    let mut next = || values.next().flatten();
    Some(Applied {
        version: next()?.parse().ok()?,
        total: next()?.parse().ok()?,
        used: next()?.parse().ok()?,
        scheduled: next()?.parse().ok()?,
    })
}

/// A row that is not of the shape the statement returns.
pub(super) fn unreadable() -> Failure {
    Failure::local(Abort::Other)
}
