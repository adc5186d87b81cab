//! One run, from plan to record: invariants before, controls, the strategies' turns, controls again, verdict.

mod collect;
pub mod control;
pub mod drive;
pub mod evidence;
mod live;
mod quiesce;
pub mod stock;
pub mod turn;
mod vu;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use self::drive::{Driven, Progress};
use self::stock::Clinic;
use crate::audit::Audit;
use crate::invariant::{self, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, When, run_all};
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease, Session};
use crate::plan::Plan;
use crate::record::{Control, Dataset, Moment, NotRun, RunRecord, SCHEMA_VERSION, Server, TurnRecord};
use crate::strategy::Strategy;
use crate::verdict::Verdict;
use crate::{Error, Result};

/// Connections besides those of the virtual users: administration, lease, stock, probe, live invariants.
const OTHER_CONNECTIONS: i64 = 5;
/// How long one check before the load may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(600);

/// What a run needs to know besides the plan.
pub struct Request {
    /// What to run.
    pub plan: Plan,
    /// On which database.
    pub options: ConnectOptions,
    /// Subcommand, for messages and `pg_stat_activity`.
    pub command_name: &'static str,
    /// The command that runs it again.
    pub command: String,
    /// The command that shows the rows it leaves.
    pub verify: String,
    /// The state directory; histories go to `runs/<id>/` in it.
    pub state: PathBuf,
    /// Turns true when the user wants to stop.
    pub interrupt: watch::Receiver<bool>,
}

/// What happens during a run, for whoever shows it.
pub enum Event<'a> {
    /// A phase begins.
    Phase(&'a str),
    /// A control has ended.
    Control(&'a Control),
    /// A strategy's turn begins.
    TurnBegins(Strategy),
    /// It goes on.
    Tick(Strategy, Duration, &'a Progress),
    /// It has been judged.
    TurnEnded(&'a TurnRecord),
}

/// What the parts of a run share.
pub struct Context<'a> {
    plan: &'a Plan,
    options: &'a ConnectOptions,
    command_name: &'static str,
    command: String,
    id: String,
    as_of: String,
    clinics: &'a [Clinic],
    /// All invariants of the dataset.
    invariants: &'a [Invariant],
    /// Those that the plan claims.
    claimed: &'a [Invariant],
    directory: PathBuf,
    interrupt: watch::Receiver<bool>,
}

impl Context<'_> {
    fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }
}

/// A load and what was found about it.
pub struct Judged {
    driven: Driven,
    audit: Audit,
    invariants: Vec<Checked>,
    /// What was still going on when it was judged.
    restless: Option<String>,
}

/// Runs the plan.
///
/// # Errors
/// What kept it from beginning; what goes wrong later is in the record.
pub async fn run(request: Request, mut show: impl FnMut(Event<'_>)) -> Result<RunRecord> {
    let began = Instant::now();
    let Request { plan, options, command_name, command, verify, state, interrupt } = request;
    let wall_clock = SystemTime::now();
    let mut session = Session::connect(&options, command_name).await?;
    let (_, loaded) = admin::require_loaded(&mut session, &options).await?;
    let mut lease = Lease::take(&options, command_name).await?;
    let server = server(&mut session, &options).await?;
    check_connections(&mut session, &plan).await?;
    let id = identify(wall_clock);
    let mut record = RunRecord {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        reasons: Vec::new(),
        claim: plan.claim(),
        id: id.clone(),
        dbstress: env!("CARGO_PKG_VERSION").into(),
        command: command.clone(),
        verify: verify.clone(),
        began: humantime::format_rfc3339_seconds(wall_clock).to_string(),
        seconds: 0.0,
        interrupted: false,
        server,
        dataset: Dataset::from(&loaded),
        before: Vec::new(),
        controls: Vec::new(),
        turns: Vec::new(),
        not_run: Vec::new(),
        plan: plan.clone(),
    };
    if let Some(why) = plan.cannot_contend() {
        record.reasons.push(why);
        record.seconds = began.elapsed().as_secs_f64();
        lease.release().await;
        return Ok(record);
    }
    let invariants: Vec<Invariant> = invariant::built_in()?.into_iter().filter(|i| i.is_about(&loaded.dataset)).collect();
    show(Event::Phase("invariants before"));
    record.before = run_all(&mut session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, CHECK_TIMEOUT).await;
    if let Some(broken) = record.before.iter().find(|c| matches!(c.finding, Finding::Violated { .. } | Finding::Errored(_))) {
        record.reasons.push(format!(
            "{} did not hold before the run began, so nothing could be said about the run ({verify} shows the rows; \
             dbstress seed --reset starts over)",
            broken.label()
        ));
        record.seconds = began.elapsed().as_secs_f64();
        lease.release().await;
        return Ok(record);
    }
    let clinics = stock::clinics(&mut session).await?;
    if clinics.is_empty() {
        return Err(Error::usage("the dataset has no organisation with patients and practitioners").cure("dbstress seed --reset"));
    }
    let directory = state.join("runs").join(&id);
    std::fs::create_dir_all(&directory).map_err(|e| {
        Error::usage(format!("the histories cannot be written to {}", directory.display()))
            .because(e)
            .cure("make the state directory writable, or choose another with --state-dir")
    })?;
    let claims = plan.claims();
    let claimed: Vec<Invariant> = invariants.iter().filter(|i| claims.contains(&i.name.as_str())).cloned().collect();
    let context = Context {
        plan: &plan,
        options: &options,
        command_name,
        command,
        id,
        as_of: loaded.as_of.clone(),
        clinics: &clinics,
        invariants: &invariants,
        claimed: &claimed,
        directory,
        interrupt,
    };
    let ended = phases(&context, &mut session, &mut record, &mut show).await;
    record.interrupted = context.is_interrupted();
    let mut open = Vec::new();
    match ended {
        // Once a turn has been judged, its result is worth keeping whatever happened afterwards.
        Err(error) if record.turns.is_empty() => {
            let _ = control::remove(&mut session).await;
            return Err(error);
        }
        Err(error) => open.push(error.to_string()),
        Ok(()) => {}
    }
    if !lease.is_held().await {
        open.push("the lease on the database was lost during the run: somebody else may have worked on it".into());
    }
    lease.release().await;
    session.close().await;
    conclude(&mut record, open);
    record.seconds = began.elapsed().as_secs_f64();
    Ok(record)
}

async fn phases(
    context: &Context<'_>,
    session: &mut Session,
    record: &mut RunRecord,
    show: &mut impl FnMut(Event<'_>),
) -> Result<()> {
    controls(context, session, record, Moment::Before, show).await?;
    for strategy in &context.plan.strategies {
        let why = if context.is_interrupted() {
            Some("interrupted".to_owned())
        } else {
            // Its predecessor's rows would be found again, and be taken for its own.
            record.turns.last().filter(|t| t.verdict == Verdict::Violated).map(|t| {
                format!("{} left breaches in the dataset (dbstress seed --reset, then run this one alone)", t.strategy.name())
            })
        };
        if let Some(why) = why {
            record.not_run.push(NotRun { strategy: *strategy, why });
            continue;
        }
        show(Event::TurnBegins(*strategy));
        let began = Instant::now();
        let turn = turn::tested(context, session, *strategy, |p| show(Event::Tick(*strategy, began.elapsed(), p))).await?;
        show(Event::TurnEnded(&turn));
        let server_lost = turn.invariants.is_empty();
        record.turns.push(turn);
        if server_lost {
            return Err(Error::inconclusive("the server was lost"));
        }
    }
    controls(context, session, record, Moment::After, show).await
}

async fn controls(
    context: &Context<'_>,
    session: &mut Session,
    record: &mut RunRecord,
    moment: Moment,
    show: &mut impl FnMut(Event<'_>),
) -> Result<()> {
    if context.is_interrupted() {
        return Ok(());
    }
    show(Event::Phase(match moment {
        Moment::Before => "controls before",
        Moment::After => "controls after",
    }));
    for twin in &control::TWINS {
        let control = control::run(context, session, twin, moment).await?;
        show(Event::Control(&control));
        record.controls.push(control);
    }
    Ok(())
}

/// The verdict on the whole run: the worst of its turns, and inconclusive at least if a control did not fire or something is missing.
fn conclude(record: &mut RunRecord, open: Vec<String>) {
    let mut verdicts: Vec<Verdict> = record.turns.iter().map(|t| t.verdict).collect();
    let mut reasons: Vec<(Verdict, String)> = Vec::new();
    for turn in &record.turns {
        reasons.extend(turn.reasons.iter().map(|reason| (turn.verdict, format!("{}: {reason}", turn.strategy.name()))));
    }
    let mut inconclusive = |why: String| {
        verdicts.push(Verdict::Inconclusive);
        reasons.push((Verdict::Inconclusive, why));
    };
    for moment in [Moment::Before, Moment::After] {
        for twin in &control::TWINS {
            let control = record.controls.iter().find(|c| c.moment == moment && c.strategy == twin.strategy);
            let word = if moment == Moment::Before { "before" } else { "after" };
            match control {
                Some(control) if control.fired => {}
                Some(control) => inconclusive(format!(
                    "the control {} {word} the run was not caught: {} (raise --vus, or add --think 1ms)",
                    twin.strategy.name(),
                    control.detail
                )),
                None => inconclusive(format!("the control {} did not run {word} the run", twin.strategy.name())),
            }
        }
    }
    for not_run in &record.not_run {
        inconclusive(format!("{} was not run: {}", not_run.strategy.name(), not_run.why));
    }
    if record.interrupted {
        inconclusive("interrupted".into());
    }
    open.into_iter().for_each(&mut inconclusive);
    record.verdict = Verdict::worst(verdicts);
    // What decided comes first; a run that did not pass says nothing about what would have.
    reasons.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    record.reasons = reasons
        .into_iter()
        .filter(|(verdict, _)| record.verdict == Verdict::Pass || *verdict != Verdict::Pass)
        .map(|(_, r)| r)
        .collect();
}

async fn server(session: &mut Session, options: &ConnectOptions) -> Result<Server> {
    let version = session.text("SHOW server_version").await?.unwrap_or_default();
    let rows = session
        .rows(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes', \
             'shared_buffers', 'max_connections', 'max_wal_size', 'deadlock_timeout', 'default_transaction_isolation')",
        )
        .await?;
    let settings: BTreeMap<String, String> =
        rows.into_iter().filter_map(|row| Some((row.first()?.clone()?, row.get(1)?.clone()?))).collect();
    Ok(Server { address: options.to_string(), version, settings })
}

async fn check_connections(session: &mut Session, plan: &Plan) -> Result<()> {
    let most = session.integer("SELECT current_setting('max_connections')::bigint").await?;
    let reserved = session.integer("SELECT current_setting('superuser_reserved_connections')::bigint").await?;
    let taken = session
        .integer(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid() \
             AND application_name NOT LIKE 'dbstress/%'",
        )
        .await?;
    let left = most - reserved - taken - OTHER_CONNECTIONS;
    if i64::from(plan.vus) <= left {
        return Ok(());
    }
    let needed = i64::from(plan.vus) + reserved + taken + OTHER_CONNECTIONS;
    Err(Error::usage(format!(
        "{} virtual users need a connection each, and {} are left (max_connections {most}, {reserved} reserved, {taken} taken by others, \
         {OTHER_CONNECTIONS} for dbstress itself)",
        plan.vus,
        left.max(0)
    ))
    .cure(format!("--vus {} or fewer\nor ALTER SYSTEM SET max_connections = {needed}, and restart the server", left.max(1))))
}

/// `20261121-053301250-1234`: when, to the millisecond, and which process.
fn identify(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_millis(now).to_string();
    let digits: String = text
        .chars()
        .filter_map(|c| match c {
            '0'..='9' => Some(c),
            'T' => Some('-'),
            _ => None,
        })
        .collect();
    format!("{digits}-{}", std::process::id())
}
