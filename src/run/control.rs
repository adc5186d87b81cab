//! Could this test have failed here and now? The unsafe twins run the tested plan on rows of their own, and must be caught.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::scheduling::breaks;
use super::turn::{Leg, Subject};
use super::{Context, Judged, own_schema, turn};
use crate::audit::Breach;
use crate::bug::Bug;
use crate::error::Kind;
use crate::invariant::{Allowance, Finding, Invariant, When, run_all};
use crate::pg::admin::{Session, literal};
use crate::plan::{CONTROL_LIMIT, OF_COUNTERS, Plan};
use crate::record::{Control, Moment};
use crate::scenario::{Contest, Scenario, Sql};
use crate::strategy::Strategy;
use crate::{Error, Result};

/// Schema of the controls' rows: nothing of theirs can leak into `verify`.
pub const SCHEMA: &str = "dbstress_control";
/// Number of the controls' runs; tested runs begin at 1.
pub const RUN: i32 = 0;

/// An unsafe twin: what it is, and what must be seen of it.
pub struct Twin {
    /// The strategy.
    strategy: Strategy,
    /// The bug, if not the strategy is what is wrong.
    bug: Option<Bug>,
    /// What the audit must find.
    breach: Breach,
    /// What one of these invariants must find.
    invariants: &'static [&'static str],
}

impl Twin {
    /// What is wrong: the strategy, or the bug.
    pub fn name(&self) -> &'static str {
        self.bug.map_or(self.strategy.name(), Bug::name)
    }
}

/// One twin for each thing that a pass of bookings claims.
const OF_BOOKINGS: [Twin; 2] = [
    Twin { strategy: Strategy::Naive, bug: None, breach: Breach::Overbooked, invariants: &["units-within-total"] },
    Twin {
        strategy: Strategy::NaiveSet,
        bug: None,
        breach: Breach::LostUpdate,
        invariants: &["ledger-replays", "counters-match-ledger"],
    },
];

/// Besides, one twin for each thing that a pass under faults claims: nothing is done twice, and nothing acknowledged is lost.
const OF_FAULTS: [Twin; 2] = [
    Twin { strategy: Strategy::Atomic, bug: Some(Bug::ImpatientRetry), breach: Breach::Duplicated, invariants: &["applied-once"] },
    // Only who was told knows what was promised: the rows alone look right.
    Twin { strategy: Strategy::Optimistic, bug: Some(Bug::IgnoredRowCount), breach: Breach::AcknowledgedLost, invariants: &[] },
];

/// The twin of requests with keys. At a level at which the server turns down who lost the race, the bug would do no harm.
const OF_KEYS: [Twin; 1] = [Twin {
    strategy: Strategy::Atomic,
    bug: Some(Bug::LoserExecutes),
    breach: Breach::KeyAppliedTwice,
    invariants: &["one-effect-per-key"],
}];

/// Besides, where answers get lost: the twin that asks again without its key.
const OF_KEYS_UNDER_FAULTS: [Twin; 1] = [Twin {
    strategy: Strategy::Atomic,
    bug: Some(Bug::NoKey),
    breach: Breach::KeyAppliedTwice,
    invariants: &["no-unkeyed-duplicate"],
}];

/// The twins that must be caught before a plan of bookings can pass.
pub fn twins(plan: &Plan) -> Vec<&'static Twin> {
    let (of_workload, of_faults): (&[Twin], &[Twin]) = match (plan.keys(), plan.faults.is_empty()) {
        (Some(_), true) => (&OF_KEYS, &[]),
        (Some(_), false) => (&OF_KEYS, &OF_KEYS_UNDER_FAULTS),
        (None, true) => (&OF_BOOKINGS, &[]),
        (None, false) => (&OF_BOOKINGS, &OF_FAULTS),
    };
    of_workload.iter().chain(of_faults).collect()
}

/// The strategies that must be caught before a plan of schedules can pass: reading and then writing, and the same in one snapshot, which is
/// serializable without what makes it so. One that breaks nothing of what is claimed has nothing to show.
pub fn of_schedules(plan: &Plan) -> impl Iterator<Item = Strategy> {
    [Strategy::Naive, Strategy::RepeatableRead].into_iter().filter(|strategy| !breakable(plan, *strategy).is_empty())
}

/// The contests that a strategy breaks, and of the claims those that fall with each.
fn breakable(plan: &Plan, strategy: Strategy) -> Vec<(Contest, Vec<String>)> {
    let contested = plan.scheduling().into_iter().flat_map(|scheduling| scheduling.contested());
    let falls =
        |contest: Contest| plan.claims.iter().filter(|claim| contest.invariants().contains(&claim.as_str())).cloned().collect();
    let broken = contested.filter(|contest| breaks(strategy, *contest)).map(|contest| (contest, falls(contest)));
    broken.filter(|(_, claims): &(_, Vec<String>)| !claims.is_empty()).collect()
}

/// The tables of schedules, as the controls have them.
const OF_SCHEDULES: [&str; 12] = [
    "programme",
    "person",
    "block",
    "rotation_template",
    "assignment",
    "assignment_unguarded",
    "call_assignment",
    "extra_duty",
    "absence",
    "swap",
    "booked_time",
    "schedule_ledger",
];

/// Makes the schema anew, empty, with the tables of schedules.
///
/// # Errors
/// When the server refuses.
pub async fn prepare_schedules(session: &mut Session) -> Result<()> {
    remove(session).await?;
    let table = |table: &str| {
        format!("CREATE TABLE {SCHEMA}.{table} (LIKE dbstress.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);")
    };
    session.execute(&format!("CREATE SCHEMA {SCHEMA}; {}", OF_SCHEDULES.map(table).concat())).await?;
    Ok(())
}

/// Runs an unsafe strategy on schedules until it has broken every claimed rule that it can break, ten seconds at most; `None` if it was
/// interrupted before.
///
/// # Errors
/// As [`run`].
pub async fn run_of_schedules(
    context: &Context<'_>,
    session: &mut Session,
    strategy: Strategy,
    moment: Moment,
) -> Result<Option<Control>> {
    let breakable = breakable(context.plan, strategy);
    let names: Vec<&str> = breakable.iter().flat_map(|(_, claims)| claims).map(String::as_str).collect();
    let judged_by: Vec<Invariant> = context.invariants.iter().filter(|i| names.contains(&i.name.as_str())).cloned().collect();
    let Some(place) = turn::control_place(context, strategy.name()) else {
        return Err(Error::inconclusive("a control of schedules needs a residency: this is a bug in dbstress"));
    };
    let expected = format!("more winners than room, and {} broken", names.join(", "));
    let control = Control { name: strategy.name().into(), expected, ..blank(moment) };
    let (mut contests, mut rules) = (BTreeMap::new(), BTreeMap::new());
    let finds = |judged: &Judged| {
        for (contest, _) in &breakable {
            let broken = judged.audit.contests.get(contest.name()).map_or(0, |contested| contested.broken);
            *contests.entry(contest.name()).or_insert(0) += broken;
        }
        let unseen: Vec<&str> = contests.iter().filter(|(_, broken)| **broken == 0).map(|(name, _)| *name).collect();
        match caught_own(judged, &mut rules) {
            said if said.starts_with(CAUGHT) && unseen.is_empty() => {
                let rounds: Vec<String> = contests.iter().map(|(name, broken)| format!("{name} {broken}")).collect();
                format!(
                    "{CAUGHT} by the audit (rounds with more winners than room: {}) and by{}",
                    rounds.join(", "),
                    &said[CAUGHT.len() + 3..]
                )
            }
            said if unseen.is_empty() => said,
            _ => format!("contention was too mild: no round of {} had more winners than room", unseen.join(", ")),
        }
    };
    let subject = Subject::Scheduling(strategy, place);
    let prepares = async |session: &mut Session| prepare_schedules(session).await;
    until_caught(context, session, control, &subject, &judged_by, prepares, finds).await
}

/// Makes the schema anew, empty.
///
/// # Errors
/// When the server refuses.
pub async fn prepare(session: &mut Session) -> Result<()> {
    remove(session).await?;
    session
        .execute(&format!(
            "CREATE SCHEMA {SCHEMA}; \
             CREATE TABLE {SCHEMA}.authorisation (LIKE dbstress.authorisation INCLUDING DEFAULTS INCLUDING INDEXES) WITH (fillfactor = 70); \
             CREATE TABLE {SCHEMA}.unit_ledger (LIKE dbstress.unit_ledger INCLUDING DEFAULTS INCLUDING INDEXES); \
             CREATE TABLE {SCHEMA}.idempotency_key (LIKE dbstress.idempotency_key INCLUDING DEFAULTS INCLUDING INDEXES)"
        ))
        .await?;
    Ok(())
}

/// Removes the schema.
///
/// # Errors
/// When the server refuses.
pub async fn remove(session: &mut Session) -> Result<()> {
    session.execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
    Ok(())
}

/// The user's own twin: it makes its rows anew, in the controls' schema and not among those of `tested`.
///
/// # Errors
/// When the server refuses, or the set-up of the twin does not keep to that schema, or breaks one of the `rules` by itself.
pub async fn prepare_own(session: &mut Session, twin: &Sql, tested: &str, rules: &[Invariant], allowance: Allowance) -> Result<()> {
    if twin.setup.is_none() {
        return Err(Error::usage("the control has no set-up, so that it would find no tables of its own")
            .cure("setup = \"schema.sql\" in its file, which makes its tables without naming their schema"));
    }
    remove(session).await?;
    session.execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    let before = relations(session, tested).await?;
    own_schema::set_up(session, twin, SCHEMA).await?;
    if relations(session, tested).await? != before || relations(session, SCHEMA).await?.is_none() {
        return Err(Error::usage(
            "the set-up of the control does not keep to the controls' schema, so that it would work on the tested rows",
        )
        .cure("write the names of tables without their schema, in set-up and operations: the search_path says where they are"));
    }
    let checked = run_all(session, rules, &[SCHEMA], When::Quiesced, allowance).await;
    match checked.iter().find(|c| matches!(c.finding, Finding::Violated { .. })) {
        None => Ok(()),
        Some(broken) => Err(Error::usage(format!(
            "the set-up of the control breaks {} by itself, so that being caught would show nothing",
            broken.label()
        ))
        .cure("let its set-up keep the rules, and its operations break them")),
    }
}

/// What is in a schema, and in which files: whatever is made, dropped or emptied there shows; `None` if there is nothing.
async fn relations(session: &mut Session, schema: &str) -> Result<Option<String>> {
    let of_schema = format!("(SELECT oid FROM pg_namespace WHERE nspname = {})", literal(schema));
    let relations = "string_agg(format('%s:%s', oid, relfilenode), ',' ORDER BY oid)";
    Ok(session.text(&format!("SELECT {relations} FROM pg_class WHERE relnamespace = {of_schema}")).await?)
}

/// Runs one twin until it is caught, ten seconds at most; `None` if it was interrupted before.
///
/// # Errors
/// When it could not be run; one that ran and was not caught is a result.
pub async fn run(context: &Context<'_>, session: &mut Session, twin: &Twin, moment: Moment) -> Result<Option<Control>> {
    let judges = |i: &&Invariant| OF_COUNTERS.contains(&i.name.as_str()) || twin.invariants.contains(&i.name.as_str());
    let judged_by: Vec<Invariant> = context.invariants.iter().filter(judges).cloned().collect();
    let Some(place) = turn::control_place(context, twin.name()) else {
        return Err(Error::inconclusive("a control of bookings needs a clinic: this is a bug in dbstress"));
    };
    let subject = Subject::Booking(twin.strategy, twin.bug, place);
    let prepares = async |session: &mut Session| prepare(session).await;
    let finds = |judged: &Judged| caught(twin, judged);
    let control = Control { name: twin.name().into(), expected: twin.breach.words().into(), ..blank(moment) };
    until_caught(context, session, control, &subject, &judged_by, prepares, finds).await
}

/// Runs the user's own twin until an invariant catches it, ten seconds at most; `None` if it was interrupted before.
///
/// # Errors
/// As [`run`].
pub async fn run_own(
    context: &Context<'_>,
    session: &mut Session,
    twin: &Scenario,
    sql: &Sql,
    moment: Moment,
) -> Result<Option<Control>> {
    let subject = Subject::Own(sql.clone(), SCHEMA.into());
    let tested = context.search_path().concat();
    let prepares = async |session: &mut Session| prepare_own(session, sql, &tested, context.claimed, context.brief()).await;
    let control = Control { name: twin.name.clone(), expected: "every claimed rule broken".into(), ..blank(moment) };
    let mut broken = BTreeMap::new();
    let finds = |judged: &Judged| caught_own(judged, &mut broken);
    let ran = until_caught(context, session, control, &subject, context.claimed, prepares, finds).await;
    // Its operations have the same names as the tested ones.
    ran.map_err(|error| {
        let said = format!("the control {} could not be run", twin.name);
        match error.kind() {
            Kind::Usage => Error::usage(said),
            Kind::Inconclusive => Error::inconclusive(said),
            Kind::Interrupted => Error::interrupted(said),
        }
        .because(error)
    })
}

/// A control that has not run yet.
pub(super) fn blank(moment: Moment) -> Control {
    Control {
        name: String::new(),
        moment,
        expected: String::new(),
        fired: false,
        detail: String::new(),
        seconds: 0.0,
        iterations: 0,
    }
}

async fn until_caught(
    context: &Context<'_>,
    session: &mut Session,
    mut control: Control,
    subject: &Subject,
    judged_by: &[Invariant],
    prepares: impl AsyncFn(&mut Session) -> Result<()>,
    mut finds: impl FnMut(&Judged) -> String,
) -> Result<Option<Control>> {
    let began = Instant::now();
    // Short at first: on a contended machine a fraction of a second is enough. A slice ends with the first breach that a client sees, which a
    // release may heal before anybody else does; then it is tried again, as long as there is time.
    let slices = [1, 3, 6].into_iter().chain(std::iter::repeat(3)).map(Duration::from_secs);
    for slice in slices {
        if began.elapsed() + slice > CONTROL_LIMIT + Duration::from_secs(1) || context.is_interrupted() {
            break;
        }
        prepares(session).await?;
        let label = format!("control-{}", control.name);
        let leg = Leg { subject: subject.clone(), run: RUN, load: context.plan.load.cut(slice), until_breach: true, label };
        let Some(judged) = turn::control(context, session, &leg, judged_by).await? else { break };
        control.iterations += judged.driven.recorder.counts().iterations() + judged.driven.recorder.counts().warm_up;
        if let Some(error) = judged.driven.failure {
            return Err(error);
        }
        control.detail = finds(&judged);
        control.fired = control.detail.starts_with(CAUGHT);
        if control.fired {
            break;
        }
    }
    control.seconds = began.elapsed().as_secs_f64();
    remove(session).await?;
    Ok(Some(control).filter(|control| control.fired || !context.is_interrupted()))
}

/// What the detail of a control begins with that was caught.
pub(super) const CAUGHT: &str = "caught";

/// Both witnesses must have seen it, where there are two: one alone would leave the other's detector unproven.
fn caught(twin: &Twin, judged: &Judged) -> String {
    let found = judged.audit.findings.iter().find(|f| f.breach == twin.breach);
    let rows: i64 = judged
        .invariants
        .iter()
        .filter(|c| twin.invariants.contains(&c.name.as_str()))
        .filter_map(|c| if let Finding::Violated { total, .. } = c.finding { Some(total) } else { None })
        .sum();
    match (found, rows) {
        (Some(finding), _) if twin.invariants.is_empty() => format!("{CAUGHT} by the audit ({})", finding.detail),
        (Some(finding), 1..) => {
            format!("{CAUGHT} by the audit ({}) and by {} ({rows} rows)", finding.detail, twin.invariants.join(", "))
        }
        (Some(_), _) => format!("the audit saw it, {} did not", twin.invariants.join(", ")),
        (None, 1..) => "an invariant saw it, the audit did not".into(),
        (None, _) => "contention was too mild to prove anything".into(),
    }
}

/// The rules alone are the witnesses: there is no ledger that could be audited. Each of them must have been broken, in this slice or in an earlier
/// one: what is claimed of a rule rests on its own control. `broken` keeps the rows by rule.
pub(super) fn caught_own(judged: &Judged, broken: &mut BTreeMap<String, i64>) -> String {
    let mut whole = Vec::new();
    for checked in &judged.invariants {
        match &checked.finding {
            Finding::Violated { total, .. } => {
                broken.insert(checked.name.clone(), *total);
            }
            Finding::Errored(why) => return format!("{} could not be checked: {why}", checked.name),
            Finding::Holds { .. } | Finding::Vacuous => {}
        }
        if !broken.contains_key(&checked.name) {
            whole.push(checked.name.as_str());
        }
    }
    let found: Vec<String> = broken.iter().map(|(name, rows)| format!("{name} ({rows} rows)")).collect();
    match (found.is_empty(), whole.is_empty()) {
        (true, _) => "contention was too mild, or the rules do not see what it breaks".into(),
        (false, false) => format!(
            "it broke {}, and never {}: claim only what it breaks (claims = [\"…\"]), or let it break that too",
            found.join(", "),
            whole.join(", ")
        ),
        (false, true) => format!("{CAUGHT} by {}", found.join(", ")),
    }
}
