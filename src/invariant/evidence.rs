//! What was claimed, is the evidence fresh, and which operations touched the rows that broke a rule?

use serde::Serialize;

use super::Subject;
use super::run::Snapshot;
use crate::Result;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Lease, Session, SqlError, TextRow};

/// Operations shown for one subject.
pub const OPERATIONS_SHOWN: usize = 8;

/// What the recorded runs say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// Each of them, in order.
    pub recorded: Vec<Recorded>,
    /// Invariants that any of them claimed, as recorded, sorted.
    pub claims: Vec<String>,
    /// What a reader should know about them: recorded breaches, runs that never ended.
    pub notes: Vec<String>,
    /// Why the ledger cannot be evidence for this dataset (rows of another run or of another seed); empty = it can.
    pub stale: Vec<String>,
}

/// One run that the database knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub id: i32,
    /// The name of its record, which is that of the folder of its histories.
    pub record: String,
    /// The invariants that it claimed.
    pub claims: Vec<String>,
}

/// One ledger row, for the reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationLine {
    /// The operation as `run.vu.n`.
    pub op: String,
    /// Which attempt of it, from 1.
    pub attempt: String,
    /// reserve, release, consume or fence.
    pub kind: String,
    /// Units it moved.
    pub units: String,
    /// The version it made; `-` for a fence.
    pub version: String,
    /// `used+scheduled/total` as it left them; `-` for a fence.
    pub balance: String,
    /// How it protected the row.
    pub strategy: String,
    /// The virtual user.
    pub vu: String,
    /// When it was written: `HH:MM:SS.mmm`, UTC.
    pub wrote: String,
    /// What is wrong with it; empty when it follows from the one before.
    pub wrong: String,
}

/// One line of the schedule's ledger, for the reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeLine {
    /// The operation as `run.vu.n`.
    pub op: String,
    /// Which attempt of it, from 1.
    pub attempt: String,
    /// assign, cancel, call, swap, absorb.
    pub kind: String,
    /// Whom it is about, and with whom: `12`, `12 with 15`.
    pub who: String,
    /// The half day, or the night: `block 7`, `night 2026-01-05`.
    pub place: String,
    /// How it protected what it read.
    pub strategy: String,
    /// The virtual user.
    pub vu: String,
    /// When its transaction began: `HH:MM:SS.mmm`, UTC.
    pub began: String,
    /// When it wrote this line, last of all.
    pub wrote: String,
    /// Whether its transaction was open while another one about the same subject was at work: neither could see the other.
    pub overlaps: bool,
}

/// What the ledger has of the operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Lines {
    /// Of an authorisation, in order of version.
    Units(Vec<OperationLine>),
    /// Of a schedule, in the order in which they were written.
    Changes(Vec<ChangeLine>),
}

/// The operations on one subject: around the first wrong version, or around those that were at work at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operations {
    /// What the subject is.
    pub about: Subject,
    /// Its id.
    pub subject: String,
    /// All of its ledger rows.
    pub total: i64,
    /// The rows shown.
    pub lines: Lines,
}

/// What the recorded runs claimed and whether the ledger is theirs.
///
/// # Errors
/// When the server refuses a question.
pub async fn runs(snapshot: &mut Snapshot<'_>) -> Result<Runs, SqlError> {
    let mut runs = Runs::default();
    // Runs of the user's own operations claim the user's own rules, on the user's own tables.
    let recorded = snapshot
        .rows(
            "SELECT id, command, strategy, verdict, ended IS NULL, array_to_json(claims)::text, record FROM run \
             WHERE workload IN ('booking', 'scheduling') ORDER BY id",
        )
        .await?;
    for row in &recorded {
        let field = |i: usize| row[i].as_deref().unwrap_or_default();
        let what = format!("run {} ({}, {})", field(0), field(1), field(2));
        match (field(3), field(4)) {
            (_, "t") => runs.notes.push(format!("{what} never ended: it was interrupted, or is still going on")),
            ("violated", _) => runs.notes.push(format!("{what} is recorded as violated")),
            _ => {}
        }
        let claims = serde_json::from_str::<Vec<String>>(field(5)).unwrap_or_default();
        runs.claims.extend_from_slice(&claims);
        runs.recorded.push(Recorded { id: field(0).parse().unwrap_or_default(), record: field(6).to_owned(), claims });
    }
    runs.claims.sort();
    runs.claims.dedup();
    let foreign = snapshot
        .rows(
            "SELECT l.run_id, l.entries, r.id IS NULL FROM (SELECT run_id, count(*) AS entries FROM \
             (SELECT run_id FROM unit_ledger UNION ALL SELECT run_id FROM schedule_ledger) AS line GROUP BY run_id) AS l LEFT JOIN run r ON r.id = l.run_id \
             WHERE r.id IS NULL OR r.rng_seed IS DISTINCT FROM (SELECT rng_seed FROM meta) ORDER BY 1",
        )
        .await?;
    for row in &foreign {
        let field = |i: usize| row[i].as_deref().unwrap_or_default();
        runs.stale.push(match field(2) {
            "t" => format!("{} ledger rows belong to run {}, which is not recorded here", field(1), field(0)),
            _ => format!("{} ledger rows belong to run {}, which ran on another seed", field(1), field(0)),
        });
    }
    Ok(runs)
}

/// What a check of duty hours has left that was killed, or makes at present, in words: nothing of it is a breach.
///
/// # Errors
/// When the server refuses a question.
pub async fn unfinished(snapshot: &mut Snapshot<'_>) -> Result<Vec<String>, SqlError> {
    let rows = snapshot
        .rows(
            "SELECT (SELECT count(*) FROM programme WHERE contest = 'acgme'), \
               (SELECT string_agg(DISTINCT label, ', ' ORDER BY label) FROM expected_violation WHERE NOT holds)",
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let mut notes = Vec::new();
    if row[0].as_deref().is_some_and(|n| n != "0") {
        notes.push(
            "the rows that `dbstress acgme` made for its writers are left out; the next `dbstress acgme` removes what one has left"
                .into(),
        );
    }
    if let Some(mended) = &row[1] {
        notes.push(format!("mended, and not planted at present: {mended}; the next `dbstress acgme` plants them again"));
    }
    Ok(notes)
}

/// Why the database is not at rest, as far as it can be seen; empty = it is. With the lease that keeps it so, if it could be had.
/// Quiesced means: no other dbstress at work, none of its sessions in a transaction, no prepared transactions.
///
/// # Errors
/// When the server refuses a question.
pub async fn quiesced(session: &mut Session, options: &ConnectOptions, command: &str) -> Result<(Option<Lease>, Vec<String>)> {
    let mut busy = Vec::new();
    let lease = match Lease::take(options, command).await {
        Ok(lease) => Some(lease),
        Err(error) => {
            busy.push(error.message().to_owned());
            None
        }
    };
    let open = session
        .rows(
            "SELECT application_name, pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND application_name LIKE 'dbstress%' AND xact_start IS NOT NULL ORDER BY pid",
        )
        .await?;
    for row in &open {
        busy.push(format!(
            "{} (backend {}) is in a transaction",
            row[0].as_deref().unwrap_or("a session"),
            row[1].as_deref().unwrap_or("?")
        ));
    }
    let prepared = session.integer("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await?;
    if prepared > 0 {
        busy.push(format!("{prepared} prepared transactions are open"));
    }
    Ok((lease, busy))
}

/// The operations on the `about` that is called `subject`; `None` for what is not called by a number.
///
/// # Errors
/// When the server refuses the question.
pub async fn operations(snapshot: &mut Snapshot<'_>, about: Subject, subject: &str) -> Result<Option<Operations>, SqlError> {
    // A template in a half day is a matter of that half day.
    let Ok(id) = subject.split('/').next().unwrap_or_default().parse::<i64>() else { return Ok(None) };
    let id = id.to_string();
    let (total, lines) = match about {
        Subject::Authorisation => bookings(snapshot, &id).await?,
        Subject::Person => changes(snapshot, &format!("{id} IN (person_id, with_person_id)")).await?,
        Subject::Block => changes(snapshot, &format!("block_id = {id}")).await?,
        Subject::Programme => changes(snapshot, &format!("programme_id = {id}")).await?,
    };
    Ok(Some(Operations { about, subject: id, total, lines }))
}

/// How many operations there are on authorisation `id`, and those around the first one that does not follow, is over total, was applied twice or
/// acted for another organisation; the last ones when none of them is wrong in itself.
async fn bookings(snapshot: &mut Snapshot<'_>, id: &str) -> Result<(i64, Lines), SqlError> {
    let rows = snapshot
        .rows(&format!(
            "WITH step AS (
                SELECT l.*, row_number() OVER in_order AS place, count(*) OVER () AS total_rows,
                       kind IS DISTINCT FROM 'fence' AS counts,
                       coalesce(lag(version) OVER in_order, 0) + 1 AS version_due,
                       coalesce(lag(used) OVER in_order, 0) AS used_before,
                       coalesce(lag(scheduled) OVER in_order, 0) AS scheduled_before,
                       row_number() OVER (PARTITION BY op_id, kind IS DISTINCT FROM 'fence' ORDER BY attempt, line) AS application
                FROM unit_ledger l WHERE authorisation_id = {id}
                WINDOW in_order AS (PARTITION BY kind IS DISTINCT FROM 'fence' ORDER BY version NULLS LAST, wrote, op_id, attempt, line)
             ), judged AS (
                SELECT s.*, concat_ws(', ',
                       CASE WHEN version IS DISTINCT FROM version_due THEN 'version ' || version_due || ' due' END,
                       CASE WHEN used IS DISTINCT FROM used_before + CASE kind WHEN 'consume' THEN units WHEN 'reserve' THEN 0 WHEN 'release' THEN 0 END
                              OR scheduled IS DISTINCT FROM scheduled_before
                                 + CASE kind WHEN 'reserve' THEN units WHEN 'release' THEN -units WHEN 'consume' THEN -units END
                            THEN 'lost update' END,
                       CASE WHEN used::bigint + scheduled > total THEN 'over total' END,
                       CASE WHEN used < 0 OR scheduled < 0 THEN 'below zero' END,
                       CASE WHEN application > 1 THEN 'applied twice' END,
                       CASE WHEN organisation_id IS DISTINCT FROM (SELECT organisation_id FROM authorisation WHERE id = {id})
                              OR organisation_id IS DISTINCT FROM (SELECT organisation_id FROM practitioner p WHERE p.id = actor_id)
                            THEN 'wrong organisation' END) AS wrong
                FROM step s WHERE counts
             ), pivot AS (
                SELECT coalesce(min(place) FILTER (WHERE wrong <> ''), max(place) - {before} + 1) AS place FROM judged
             )
             SELECT (op_id >> 47) || '.' || ((op_id >> 32) & 32767) || '.' || (op_id & 4294967295), attempt, kind, units,
                    coalesce(version::text, '-'), coalesce(used || '+' || scheduled || '/' || total, '-'), strategy, vu,
                    to_char(wrote AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'), wrong, total_rows
             FROM judged, pivot WHERE judged.place >= pivot.place - {before} ORDER BY judged.place LIMIT {OPERATIONS_SHOWN}",
            before = OPERATIONS_SHOWN / 2
        ))
        .await?;
    let total = rows.first().and_then(|row| row[10].as_deref()?.parse().ok()).unwrap_or(0);
    let line = |row: TextRow| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || values.next().unwrap_or_default();
        OperationLine {
            op: next(),
            attempt: next(),
            kind: next(),
            units: next(),
            version: next(),
            balance: next(),
            strategy: next(),
            vu: next(),
            wrote: next(),
            wrong: next(),
        }
    };
    Ok((total, Lines::Units(rows.into_iter().map(line).collect())))
}

/// How many changes of the schedule there are `where_`, and those around the first two of which one began before the other wrote its line: neither
/// of them could see the other. The last ones when there are none such.
async fn changes(snapshot: &mut Snapshot<'_>, where_: &str) -> Result<(i64, Lines), SqlError> {
    let rows = snapshot
        .rows(&format!(
            "WITH step AS (
                SELECT l.*, row_number() OVER in_order AS place, count(*) OVER () AS total_rows,
                       began < lag(wrote) OVER in_order AS began_before_last,
                       min(began) OVER (ORDER BY wrote, op_id, attempt, line ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) < wrote AS next_began_before
                FROM schedule_ledger l WHERE kind IS DISTINCT FROM 'fence' AND {where_}
                WINDOW in_order AS (ORDER BY wrote, op_id, attempt, line)
             ), pivot AS (
                SELECT coalesce(min(place) FILTER (WHERE began_before_last), max(place) - {before} + 1) AS place FROM step
             )
             SELECT (op_id >> 47) || '.' || ((op_id >> 32) & 32767) || '.' || (op_id & 4294967295), attempt, kind,
                    concat_ws(' with ', person_id, with_person_id), concat_ws(', ', 'block ' || block_id, 'night ' || night), strategy, vu,
                    to_char(began AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'), to_char(wrote AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'),
                    coalesce(began_before_last OR next_began_before, false), total_rows
             FROM step, pivot WHERE step.place >= pivot.place - {before} ORDER BY step.place LIMIT {OPERATIONS_SHOWN}",
            before = OPERATIONS_SHOWN / 2
        ))
        .await?;
    let total = rows.first().and_then(|row| row[10].as_deref()?.parse().ok()).unwrap_or(0);
    let line = |row: TextRow| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || values.next().unwrap_or_default();
        ChangeLine {
            op: next(),
            attempt: next(),
            kind: next(),
            who: next(),
            place: next(),
            strategy: next(),
            vu: next(),
            began: next(),
            wrote: next(),
            overlaps: next() == "t",
        }
    };
    Ok((total, Lines::Changes(rows.into_iter().map(line).collect())))
}
