//! Put somebody down for a half day or for call, take somebody off, exchange or take over a half day: the rules and the statements.
//!
//! Rules, in this order: it is not so already, and what is given away is one's own; the place has a seat; whoever is there is supervised; and
//! nobody breaks a rule of duty hours (`acgme`, by the common program requirements) that was kept before. All of them are predicates on rows
//! that others write: of what is only read nothing is changed, no version and no counter, so that only a lock, a level or a constraint can tell.

use crate::Result;
use crate::acgme::evaluate::{Roster, of_person, supervisors_required};
use crate::acgme::rules::{Formula, RuleSet};
use crate::acgme::{Absence, DAY, Duty, DutyKind, Minute, Person, PersonKind, Rule, Severity};
use crate::history::{Applied, OpId};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Failure, Parameters, Row, Statement, Tx};
use crate::strategy::{Operation, RowLock, Write};

use super::booking::{Place, unreadable};
use super::contest::{CallKind, Change, Proposal};

/// How much of a person's duty before and after a change is read: no window of a rule is longer.
const HORIZON: Minute = 28 * DAY;

/// The statements, prepared on one connection.
pub struct Statements {
    place: Statement,
    roster: Statement,
    holding: Statement,
    lock: Statement,
    /// Block and person, each waiting and not waiting.
    rows: [[Statement; 2]; 2],
    /// Assign, cancel, call, swap: each by itself, and with the time that it takes.
    write: [[Statement; 2]; 4],
}

/// The beginning of a half day, of `block b`.
const BLOCK_BEGINS: &str = "b.date + CASE b.half WHEN 'AM' THEN TIME '07:00' ELSE TIME '13:00' END";
/// How long it is.
const HALF_DAY: Minute = 6 * 60;

/// A timestamp as minutes since 2000-01-01.
fn minutes(timestamp: &str) -> String {
    format!("(extract(epoch FROM {timestamp} - TIMESTAMP '2000-01-01') / 60)::bigint")
}

impl Statements {
    /// Prepares them.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(connection: &mut Connection, place: &Place) -> Result<Self> {
        let schema = place.schema;
        let mut rows = Vec::new();
        for table in ["block", "person"] {
            let lock = format!("SELECT id FROM {schema}.{table} WHERE id = $1::bigint FOR UPDATE");
            rows.push([connection.prepare(&lock).await?, connection.prepare(&format!("{lock} NOWAIT")).await?]);
        }
        let mut write = Vec::new();
        for sql in [assign, cancel, call, swap] {
            write.push([connection.prepare(&sql(place, false)).await?, connection.prepare(&sql(place, true)).await?]);
        }
        let (Ok(rows), Ok(write)) = (rows.try_into(), write.try_into()) else {
            return Err(crate::Error::inconclusive("statements are missing: this is a bug in dbstress"));
        };
        Ok(Self {
            place: connection.prepare(&place_sql(schema)).await?,
            roster: connection.prepare(&roster_sql(schema)).await?,
            holding: connection.prepare(&holding_sql(schema)).await?,
            lock: connection.prepare("SELECT pg_advisory_xact_lock($1::bigint)").await?,
            rows,
            write,
        })
    }
}

/// The last column of everything that is read: when the transaction began, by the server's own clock. Whoever is refused leaves no line in the
/// ledger that would say so.
const BEGAN: &str = "(extract(epoch FROM transaction_timestamp()) * 1000000)::bigint";

/// Columns of a [`PlaceState`]: of a half day, and of one template and one person in it.
fn place_sql(schema: &str) -> String {
    let begins = minutes(&format!("({BLOCK_BEGINS})"));
    format!(
        "SELECT {begins}, t.max_residents, coalesce(t.supervision_required, false), \
           count(DISTINCT a.person_id) FILTER (WHERE p.kind = 'resident' AND a.role = 'primary' AND a.rotation_template_id = $2::bigint), \
           count(DISTINCT a.person_id) FILTER (WHERE is_supervised AND coalesce(p.pgy, 1) = 1), \
           count(DISTINCT a.person_id) FILTER (WHERE is_supervised AND p.pgy <> 1), \
           count(DISTINCT a.person_id) FILTER (WHERE p.kind = 'faculty' AND a.role = 'supervising'), \
           coalesce(bool_or(a.person_id = $3::bigint), false), {BEGAN} \
         FROM {schema}.block b LEFT JOIN {schema}.rotation_template t ON t.id = $2::bigint \
           LEFT JOIN {schema}.assignment a ON a.block_id = b.id LEFT JOIN {schema}.person p ON p.id = a.person_id \
           LEFT JOIN {schema}.rotation_template r ON r.id = a.rotation_template_id \
           CROSS JOIN LATERAL (SELECT p.kind = 'resident' AND a.role = 'primary' AND r.supervision_required \
             AND r.activity NOT IN ('off', 'absence', 'recovery') AS is_supervised) s \
         WHERE b.id = $1::bigint GROUP BY b.id, t.id"
    )
}

/// Columns of a [`PersonState`]: somebody's duty and absences between two minutes, each list as one text.
fn roster_sql(schema: &str) -> String {
    let duty = |table: &str| {
        format!(
            "SELECT coalesce(a.starts_at, {BLOCK_BEGINS}) AS s, coalesce(a.ends_at, {BLOCK_BEGINS} + INTERVAL '6 hours') AS e, 'half-day' AS k \
             FROM {schema}.{table} a JOIN {schema}.block b ON b.id = a.block_id \
               JOIN {schema}.rotation_template t ON t.id = a.rotation_template_id \
             WHERE a.person_id = $1::bigint AND a.role <> 'backup' AND t.activity NOT IN ('off', 'absence', 'recovery')"
        )
    };
    let (guarded, unguarded) = (duty("assignment"), duty("assignment_unguarded"));
    let (begins, ends) = (minutes("d.s"), minutes("d.e"));
    let at = |parameter: &str| format!("TIMESTAMP '2000-01-01' + {parameter}::bigint * INTERVAL '1 minute'");
    let (from, until) = (at("$2"), at("$3"));
    format!(
        "SELECT p.kind, p.pgy, \
           (SELECT string_agg({begins} || ' ' || {ends} || ' ' || d.k, ',') FROM ( \
              {guarded} UNION ALL {unguarded} \
              UNION ALL SELECT coalesce(c.starts_at, c.night + CASE c.kind WHEN 'weekend' THEN TIME '07:00' ELSE TIME '19:00' END), \
                coalesce(c.ends_at, c.night + 1 + TIME '07:00'), c.kind \
              FROM {schema}.call_assignment c WHERE c.person_id = $1::bigint AND c.kind <> 'backup' \
              UNION ALL SELECT x.starts_at, x.ends_at, x.kind FROM {schema}.extra_duty x WHERE x.person_id = $1::bigint \
            ) d WHERE d.e > {from} AND d.s < {until}), \
           (SELECT string_agg({starts} || ' ' || {over}, ',') FROM {schema}.absence o \
            WHERE o.person_id = $1::bigint AND o.ends_on + 1 > {from} AND o.starts_on < {until} AND coalesce(o.is_blocking, \
              o.kind IN ('deployment', 'tdy', 'family_emergency', 'bereavement', 'emergency_leave', 'convalescent', 'maternity_paternity') \
              OR o.kind = 'medical' AND o.ends_on - o.starts_on + 1 > 7 OR o.kind = 'sick' AND o.ends_on - o.starts_on + 1 > 3)), {BEGAN} \
         FROM {schema}.person p WHERE p.id = $1::bigint",
        starts = minutes("o.starts_on::timestamp"),
        over = minutes("(o.ends_on + 1)::timestamp"),
    )
}

/// Whose a half day is, and when it is.
fn holding_sql(schema: &str) -> String {
    format!(
        "SELECT a.person_id, {}, {BEGAN} FROM {schema}.assignment a JOIN {schema}.block b ON b.id = a.block_id WHERE a.id = $1::bigint",
        minutes(&format!("({BLOCK_BEGINS})"))
    )
}

/// A change and its ledger line in one statement, the line last: `steps` are the parts of a WITH, and the line is written when `last` of them has
/// been done. The parameters are those of the line, then those of the change.
fn write_sql(place: &Place, steps: &str, last: &str) -> String {
    let Place { schema, run, strategy, .. } = place;
    format!(
        "WITH {steps}, entry AS ( \
           INSERT INTO {schema}.schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id, block_id, night, \
             with_person_id) \
           SELECT $1::bigint, $2::smallint, 0, {run}, $3::integer, '{strategy}', $4::text, $5::bigint, $6::bigint, $7::bigint, \
             DATE '2000-01-01' + $8::integer, $9::bigint \
           WHERE EXISTS (SELECT FROM {last}) RETURNING 1 \
         ) SELECT count(*) FROM entry"
    )
}

/// The half days of what was changed, as a range of `block b`.
fn half_day_range() -> String {
    format!("tsrange({BLOCK_BEGINS}, {BLOCK_BEGINS} + INTERVAL '6 hours')")
}

/// Writes the half days of what was changed.
fn booked_half_days(schema: &str) -> String {
    format!(
        "booked AS (INSERT INTO {schema}.booked_time (person_id, during) SELECT c.person_id, {} \
           FROM changed c JOIN {schema}.block b ON b.id = c.block_id RETURNING 1)",
        half_day_range()
    )
}

/// Deletes the half days of what was changed, of those who had them: `person`, of `changed c`.
fn freed_half_days(schema: &str, person: &str) -> String {
    format!(
        "freed AS (DELETE FROM {schema}.booked_time t USING changed c, {schema}.block b \
           WHERE b.id = c.block_id AND t.person_id = {person} AND t.during = {})",
        half_day_range()
    )
}

fn assign(place: &Place, is_exclusive: bool) -> String {
    let schema = place.schema;
    let changed = format!(
        "changed AS (INSERT INTO {schema}.assignment (block_id, person_id, rotation_template_id, role) \
           VALUES ($7::bigint, $6::bigint, $10::bigint, 'primary') RETURNING block_id, person_id)"
    );
    match is_exclusive {
        true => write_sql(place, &format!("{changed}, {}", booked_half_days(schema)), "booked"),
        false => write_sql(place, &changed, "changed"),
    }
}

fn cancel(place: &Place, is_exclusive: bool) -> String {
    let schema = place.schema;
    // Of whom it was decided, and of nobody who has it by now.
    let changed = format!(
        "changed AS (DELETE FROM {schema}.assignment WHERE id = $10::bigint AND person_id = $6::bigint AND block_id = $7::bigint \
           RETURNING block_id, person_id)"
    );
    match is_exclusive {
        true => write_sql(place, &format!("{changed}, {}", freed_half_days(schema, "c.person_id")), "changed"),
        false => write_sql(place, &changed, "changed"),
    }
}

fn call(place: &Place, is_exclusive: bool) -> String {
    let schema = place.schema;
    let changed = format!(
        "changed AS (INSERT INTO {schema}.call_assignment (person_id, night, kind) \
           VALUES ($6::bigint, DATE '2000-01-01' + $8::integer, $10::text) RETURNING person_id, night, kind)"
    );
    let booked = format!(
        "booked AS (INSERT INTO {schema}.booked_time (person_id, during) \
           SELECT person_id, tsrange(night + CASE kind WHEN 'weekend' THEN TIME '07:00' ELSE TIME '19:00' END, night + 1 + TIME '07:00') \
           FROM changed RETURNING 1)"
    );
    match is_exclusive {
        true => write_sql(place, &format!("{changed}, {booked}"), "booked"),
        false => write_sql(place, &changed, "changed"),
    }
}

/// The second of two that overwrite the same half day leaves a version that the first has not seen. What is wanted is always updated before what
/// is given for it, so that two who want the same wait for each other in one place.
fn swap(place: &Place, is_exclusive: bool) -> String {
    let schema = place.schema;
    let update = |id: &str, person: &str, condition: &str| {
        format!(
            "UPDATE {schema}.assignment SET person_id = {person}::bigint, version = version + 1 WHERE id = {id}::bigint{condition} \
             RETURNING id, block_id, person_id, version"
        )
    };
    let wanted = update("$10", "$9", "");
    let given = update("$11", "$6", " AND EXISTS (SELECT FROM wanted)");
    let steps = format!(
        "wanted AS ({wanted}), given AS ({given}), changed AS (SELECT * FROM wanted UNION ALL SELECT * FROM given), \
         swapped AS (INSERT INTO {schema}.swap (kind, status, source_assignment_id, target_assignment_id, source_person_id, \
             target_person_id, source_version, target_version) \
           SELECT CASE WHEN $11::bigint IS NULL THEN 'absorb' ELSE 'one-to-one' END, 'executed', $10::bigint, $11::bigint, $6::bigint, \
             $9::bigint, max(version) FILTER (WHERE id = $10::bigint), max(version) FILTER (WHERE id = $11::bigint) \
           FROM changed HAVING count(*) > 0 RETURNING 1)"
    );
    match is_exclusive {
        true => {
            let freed = freed_half_days(schema, "CASE c.id WHEN $10::bigint THEN $6::bigint ELSE $9::bigint END");
            let booked = booked_half_days(schema);
            write_sql(place, &format!("{steps}, {freed}, {booked}"), "swapped CROSS JOIN booked")
        }
        false => write_sql(place, &steps, "swapped"),
    }
}

/// One attempt at a proposal.
pub struct Scheduling<'s> {
    /// The intention; the same for every attempt.
    pub proposal: Proposal,
    /// Identifies the intention in the ledger.
    pub op_id: OpId,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// The statements of the connection it runs on.
    pub statements: &'s Statements,
}

/// A half day as it was read.
#[derive(Debug, Clone, Copy)]
pub struct PlaceState {
    begins: Minute,
    seats: Option<u32>,
    is_supervised: bool,
    residents: u32,
    first_year: u32,
    others: u32,
    supervisors: u32,
    /// The person that it is about is there already.
    is_there: bool,
}

impl PlaceState {
    fn of(row: Row<'_>) -> Option<Self> {
        let mut values = row.values();
        Some(Self {
            begins: values.next()??.parse().ok()?,
            seats: values.next()?.map(str::parse).transpose().ok()?,
            is_supervised: values.next()?? == "t",
            residents: values.next()??.parse().ok()?,
            first_year: values.next()??.parse().ok()?,
            others: values.next()??.parse().ok()?,
            supervisors: values.next()??.parse().ok()?,
            is_there: values.next()?? == "t",
        })
    }

    /// Whether so few as are left would supervise so many as there would be.
    fn is_unsupervised(&self, first_year: u32, others: u32, supervisors: u32) -> bool {
        supervisors < supervisors_required(Formula::Sum, first_year, others)
    }
}

/// Somebody as they were read.
#[derive(Debug, Clone)]
pub struct PersonState {
    person: Person,
    duties: Vec<Duty>,
    absences: Vec<Absence>,
}

impl PersonState {
    fn of(id: i64, row: Row<'_>) -> Option<Self> {
        let mut values = row.values();
        let kind = values.next()??;
        let year = values.next()?.map(str::parse).transpose().ok()?;
        let duties = parts(values.next()?).map(duty).collect::<Option<_>>()?;
        let absences = parts(values.next()?).map(absence).collect::<Option<_>>()?;
        let kind = if kind == "faculty" { PersonKind::Faculty } else { PersonKind::Resident(year) };
        Some(Self { person: Person { id, kind }, duties, absences })
    }

    /// The rule of duty hours that would be broken, and is not now, if `gone` were taken away and `new` added.
    fn would_break(&self, gone: Option<Duty>, new: Option<Duty>) -> Option<Rule> {
        let mut after = self.duties.clone();
        if let Some(at) = gone.and_then(|gone| after.iter().position(|duty| *duty == gone)) {
            after.swap_remove(at);
        }
        after.extend(new);
        let rules = RuleSet::cpr();
        let violations = |duties: &[Duty]| {
            let roster = Roster { person: self.person, period: None, duties, absences: &self.absences, attendances: &[] };
            let mut found = of_person(&rules, &roster);
            found.retain(|finding| finding.severity == Severity::Violation);
            found
        };
        let before = violations(&self.duties);
        violations(&after).into_iter().find(|finding| !before.contains(finding)).map(|finding| finding.rule)
    }
}

/// The parts of a list; of none if there is no list.
fn parts(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.into_iter().flat_map(|list| list.split(','))
}

/// `1440 1800 half-day`: from, until, what.
fn duty(text: &str) -> Option<Duty> {
    let mut parts = text.split(' ');
    let (start, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let kind = match parts.next()? {
        "half-day" => DutyKind::HalfDay,
        "overnight" => DutyKind::Overnight,
        "weekend" => DutyKind::Weekend,
        "night-float" => DutyKind::NightFloat,
        "extension" => DutyKind::Extension,
        "handover" => DutyKind::Handover,
        "moonlighting" => DutyKind::Moonlighting,
        _ => return None,
    };
    Some(Duty { start, end, kind })
}

/// `1440 2880`: from, until. Only those that block are read.
fn absence(text: &str) -> Option<Absence> {
    let (start, end) = text.split_once(' ')?;
    Some(Absence { start: start.parse().ok()?, end: end.parse().ok()?, is_blocking: true })
}

fn half_day(begins: Minute) -> Duty {
    Duty { start: begins, end: begins + HALF_DAY, kind: DutyKind::HalfDay }
}

fn call_duty(night: i64, kind: CallKind) -> Duty {
    let (start, end) = kind.hours(night);
    let kind = match kind {
        CallKind::Overnight => DutyKind::Overnight,
        CallKind::Weekend => DutyKind::Weekend,
    };
    Duty { start, end, kind }
}

/// Whose a half day is, and when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Holding {
    person: i64,
    begins: Minute,
}

impl Holding {
    fn of(row: Row<'_>) -> Option<Self> {
        let mut values = row.values();
        Some(Self { person: values.next()??.parse().ok()?, begins: values.next()??.parse().ok()? })
    }
}

/// What was read for a change.
#[derive(Debug, Clone)]
pub enum State {
    /// For an assignment.
    Assign(PlaceState, PersonState),
    /// For a cancellation.
    Cancel(PlaceState),
    /// For a call.
    Call(PersonState),
    /// For an exchange: what is wanted, what is given for it, whose it is, who gets it.
    Swap(Holding, Option<Holding>, Box<[PersonState; 2]>),
}

/// A row that is locked before anything is read, in the order in which all lock: half days before people, people by number.
#[derive(Clone, Copy)]
enum Locked {
    Block(i64),
    Person(i64),
}

impl Scheduling<'_> {
    fn locked(&self) -> [Option<Locked>; 2] {
        use Locked::{Block, Person};
        match self.proposal.change {
            Change::Assign { person, block, .. } | Change::Cancel { person, block, .. } => {
                [Some(Block(block)), Some(Person(person))]
            }
            Change::Call { person, .. } => [Some(Person(person)), None],
            Change::Swap { from, to, .. } => [Some(Person(from.min(to))), Some(Person(from.max(to)))],
        }
    }

    async fn place(&self, tx: &mut Tx<'_>, block: i64, template: i64, person: i64) -> Result<Option<PlaceState>, Failure> {
        tx.execute(&self.statements.place, |p| {
            p.integer(block);
            p.integer(template);
            p.integer(person);
        })
        .await?;
        read(tx, PlaceState::of)
    }

    /// Somebody's duty around a time.
    async fn person(&self, tx: &mut Tx<'_>, person: i64, around: Minute) -> Result<Option<PersonState>, Failure> {
        tx.execute(&self.statements.roster, |p| {
            p.integer(person);
            p.integer(around - HORIZON);
            p.integer(around + DAY + HORIZON);
        })
        .await?;
        read(tx, |row| PersonState::of(person, row))
    }

    async fn holding(&self, tx: &mut Tx<'_>, assignment: i64) -> Result<Option<Holding>, Failure> {
        tx.execute(&self.statements.holding, |p| p.integer(assignment)).await?;
        read(tx, Holding::of)
    }
}

/// The row that was read, if there is one; and when the transaction began.
fn read<T>(tx: &Tx<'_>, of: impl FnOnce(Row<'_>) -> Option<T>) -> Result<Option<T>, Failure> {
    let Some(row) = tx.row() else { return Ok(None) };
    let began = row.values().last().flatten().and_then(|micros| micros.parse().ok());
    tx.begun(began.ok_or_else(unreadable)?);
    of(row).map(Some).ok_or_else(unreadable)
}

impl Operation for Scheduling<'_> {
    type State = State;

    async fn lock(&self, tx: &mut Tx<'_>) -> Result<(), Failure> {
        for row in self.locked().into_iter().flatten() {
            // Half days and people have the same numbers.
            let key = match row {
                Locked::Block(id) => 2 * id,
                Locked::Person(id) => 2 * id + 1,
            };
            tx.execute(&self.statements.lock, |p| p.integer(key)).await?;
        }
        Ok(())
    }

    async fn read(&self, tx: &mut Tx<'_>, lock: RowLock) -> Result<Option<State>, Failure> {
        let form = match lock {
            RowLock::None => None,
            RowLock::ForUpdate => Some(0),
            RowLock::ForUpdateNowait => Some(1),
        };
        if let Some(form) = form {
            // In statements of their own: one that waits and then reads would read what was there before it waited.
            for row in self.locked().into_iter().flatten() {
                let (table, id) = match row {
                    Locked::Block(id) => (0, id),
                    Locked::Person(id) => (1, id),
                };
                tx.execute(&self.statements.rows[table][form], |p| p.integer(id)).await?;
            }
        }
        Ok(match self.proposal.change {
            Change::Assign { person, block, template } => {
                let Some(place) = self.place(tx, block, template, person).await? else { return Ok(None) };
                self.person(tx, person, place.begins).await?.map(|person| State::Assign(place, person))
            }
            Change::Cancel { person, block, .. } => self.place(tx, block, 0, person).await?.map(State::Cancel),
            Change::Call { person, night, kind } => self.person(tx, person, kind.hours(night).0).await?.map(State::Call),
            Change::Swap { from, to, source, target } => {
                let Some(wanted) = self.holding(tx, source).await? else { return Ok(None) };
                let given = match target {
                    Some(target) => match self.holding(tx, target).await? {
                        Some(given) => Some(given),
                        None => return Ok(None),
                    },
                    None => None,
                };
                let people = (self.person(tx, from, wanted.begins).await?, self.person(tx, to, wanted.begins).await?);
                match people {
                    (Some(from), Some(to)) => Some(State::Swap(wanted, given, Box::new([from, to]))),
                    _ => None,
                }
            }
        })
    }

    fn decide(&self, state: &State) -> Result<(), Refusal> {
        match (state, self.proposal.change) {
            (State::Assign(place, person), _) => {
                if place.is_there {
                    return Err(Refusal::AlreadySo);
                }
                let is_resident = u32::from(matches!(person.person.kind, PersonKind::Resident(_)));
                if place.seats.is_some_and(|seats| place.residents + is_resident > seats) {
                    return Err(Refusal::NoSeat);
                }
                let (first_year, others) = match person.person.kind {
                    PersonKind::Resident(Some(1) | None) => (1, 0),
                    PersonKind::Resident(_) => (0, 1),
                    PersonKind::Faculty => (0, 0),
                };
                let (first_year, others) = (place.first_year + first_year, place.others + others);
                if place.is_supervised && place.is_unsupervised(first_year, others, place.supervisors) {
                    return Err(Refusal::Unsupervised);
                }
                kept(person.would_break(None, Some(half_day(place.begins))))
            }
            (State::Cancel(place), _) => {
                if !place.is_there {
                    return Err(Refusal::AlreadySo);
                }
                match place.is_unsupervised(place.first_year, place.others, place.supervisors.saturating_sub(1)) {
                    true => Err(Refusal::Unsupervised),
                    false => Ok(()),
                }
            }
            (State::Call(person), Change::Call { night, kind, .. }) => {
                let new = call_duty(night, kind);
                if person.duties.contains(&new) {
                    return Err(Refusal::AlreadySo);
                }
                kept(person.would_break(None, Some(new)))
            }
            (State::Swap(wanted, given, people), Change::Swap { from, to, .. }) => {
                if wanted.person != from || given.is_some_and(|given| given.person != to) {
                    return Err(Refusal::NotHeld);
                }
                let (wanted, given) = (Some(half_day(wanted.begins)), given.map(|given| half_day(given.begins)));
                kept(people[0].would_break(wanted, given))?;
                kept(people[1].would_break(given, wanted))
            }
            // What is read is of the kind that is proposed.
            (State::Call(_) | State::Swap(..), _) => Err(Refusal::NotFound),
        }
    }

    fn refusal_by_constraint(&self) -> Refusal {
        Refusal::DoubleBooked
    }

    async fn write(&self, tx: &mut Tx<'_>, _: Option<&State>, write: Write) -> Result<Option<Applied>, Failure> {
        let Proposal { programme, change, .. } = self.proposal;
        let kind = self.proposal.kind().word();
        let form = usize::from(write == Write::Exclusive);
        let (statement, person) = match change {
            Change::Assign { person, .. } => (0, person),
            Change::Cancel { person, .. } => (1, person),
            Change::Call { person, .. } => (2, person),
            Change::Swap { from, .. } => (3, from),
        };
        tx.execute(&self.statements.write[statement][form], |p| {
            let maybe = |p: &mut Parameters<'_>, value: Option<i64>| match value {
                Some(value) => p.integer(value),
                None => p.null(),
            };
            p.integer(self.op_id.0);
            p.integer(self.attempt);
            p.integer(self.op_id.vu());
            p.text(kind);
            p.integer(programme);
            p.integer(person);
            let (block, night, with) = match change {
                Change::Assign { block, .. } | Change::Cancel { block, .. } => (Some(block), None, None),
                Change::Call { night, .. } => (None, Some(night), None),
                Change::Swap { to, .. } => (None, None, Some(to)),
            };
            maybe(p, block);
            maybe(p, night);
            maybe(p, with);
            match change {
                Change::Assign { template, .. } => p.integer(template),
                Change::Cancel { assignment, .. } => p.integer(assignment),
                Change::Call { kind, .. } => p.text(kind.word()),
                Change::Swap { source, target, .. } => {
                    p.integer(source);
                    maybe(p, target);
                }
            }
        })
        .await?;
        let written = tx.row().and_then(|row| row.values().next().flatten()?.parse::<i64>().ok()).ok_or_else(unreadable)?;
        match (written, change) {
            // Nothing of ours keeps a row out without a word: a trigger or a rule that is not ours does.
            (0, Change::Assign { .. } | Change::Call { .. }) => Err(Failure::local(Abort::Other)),
            // It has gone since it was read: the next attempt reads what there is instead.
            (0, Change::Cancel { .. } | Change::Swap { .. }) => Err(Failure::local(Abort::VersionConflict)),
            _ => Ok(Some(Applied::default())),
        }
    }
}

/// What the rule is called to whoever would break it.
fn kept(broken: Option<Rule>) -> Result<(), Refusal> {
    match broken {
        None => Ok(()),
        Some(Rule::Rest) => Err(Refusal::TooLittleRest),
        Some(Rule::DoubleBooking) => Err(Refusal::DoubleBooked),
        Some(_) => Err(Refusal::DutyHours),
    }
}
