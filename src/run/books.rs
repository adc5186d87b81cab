//! In which tables does a workload keep what is contended for, and its ledger?

use crate::audit::{Expectation, Lifetimes};
use crate::history::{OpId, Record};
use crate::pg::admin::literal;
use crate::plan::{Plan, Workload};
use crate::workload::booking::Place;

/// The tables of a workload with a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Books {
    /// Authorisations, and the ledger of their units.
    Units,
    /// Programmes, and the ledger of their schedules.
    Schedules,
}

impl Books {
    /// Those of a plan, if its workload has a ledger.
    pub fn of(plan: &Plan) -> Option<Self> {
        match plan.workload {
            Workload::Booking(_) => Some(Self::Units),
            Workload::Scheduling(_) => Some(Self::Schedules),
            Workload::Sql(_) | Workload::Http(_) => None,
        }
    }

    /// What a plan lets the audit expect, before anything is known of how it went.
    pub fn expects(self, plan: &Plan) -> Expectation {
        let is_of_schedules = self == Self::Schedules;
        Expectation {
            contest_units: if is_of_schedules { Some(1) } else { plan.round().map(|(units, _)| units) },
            is_of_schedules,
            vus: plan.load.vus(),
            lifetimes: plan.keys().map(|keys| Lifetimes { lifetime: keys.late() - 1, late: keys.late() }),
            ..Expectation::default()
        }
    }

    /// The table of its ledger.
    pub fn ledger(self) -> &'static str {
        match self {
            Self::Units => "unit_ledger",
            Self::Schedules => "schedule_ledger",
        }
    }

    /// What a run contended for: id, version, total, used, scheduled, contest; of a programme the room is the total. One of `partitions`.
    pub fn subjects(self, schema: &str, run: i32, partition: i64, partitions: i64) -> String {
        let (columns, table) = match self {
            Self::Units => ("id, version, total, used, scheduled, ''", "authorisation"),
            Self::Schedules => ("id, 0, room, 0, 0, contest", "programme"),
        };
        format!("SELECT {columns} FROM {schema}.{table} WHERE run_id = {run} AND id % {partitions} = {partition}")
    }

    /// The lines of a run: subject, operation, attempt, kind, units, version, total, used, scheduled, when its transaction began and when it
    /// wrote in microseconds, when it was decided in seconds since the dataset's clock. One of `partitions`.
    pub fn lines(self, schema: &str, run: i32, partition: i64, partitions: i64) -> String {
        let stamps = "(extract(epoch FROM began) * 1000000)::bigint, (extract(epoch FROM wrote) * 1000000)::bigint";
        match self {
            Self::Units => format!(
                "SELECT authorisation_id, op_id, attempt, kind, units, version, total, used, scheduled, {stamps}, \
                   coalesce(extract(epoch FROM decided_at - (SELECT as_of FROM dbstress.meta)), 0)::bigint \
                 FROM {schema}.unit_ledger WHERE run_id = {run} AND authorisation_id % {partitions} = {partition}"
            ),
            Self::Schedules => format!(
                "SELECT programme_id, op_id, attempt, kind, 1, 0, 0, 0, 0, {stamps}, 0 \
                 FROM {schema}.schedule_ledger WHERE run_id = {run} AND programme_id % {partitions} = {partition}"
            ),
        }
    }

    /// Claims the markers of all attempts of an operation that may have gone unanswered; `each` of the client's may have been so many.
    pub fn fence(self, place: &Place, record: &Record, each: u16) -> String {
        let Place { schema, run, strategy, .. } = place;
        let op = OpId::new(*run, record.vu, record.n).0;
        let (vu, strategy, subject) = (record.vu, literal(strategy), record.authorisation);
        // Who has a key goes on after a COMMIT that is not answered: any of its attempts may have been the one.
        let last = record.attempts;
        let first = if record.asking.is_some() { 1 } else { last.saturating_sub(each - 1) };
        match self {
            Self::Units => format!(
                "INSERT INTO {schema}.unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units) \
                 SELECT {op}, n, 0, {run}, {vu}, {strategy}, 'fence', a.id, a.organisation_id, 0, 0 \
                 FROM {schema}.authorisation a, generate_series({first}, {last}) n WHERE a.id = {subject} ON CONFLICT DO NOTHING"
            ),
            Self::Schedules => format!(
                "INSERT INTO {schema}.schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id) \
                 SELECT {op}, n, 0, {run}, {vu}, {strategy}, 'fence', {subject} \
                 FROM generate_series({first}, {last}) n ON CONFLICT DO NOTHING"
            ),
        }
    }
}
