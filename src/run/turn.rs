//! One strategy's turn: prepare rows, drive, drain, resolve, audit, check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::drive::{Driven, Progress, Turn, application_name, drive};
use super::stock::Stock;
use super::{Context, Judged, collect, control, evidence, live, quiesce};
use crate::audit::{Audit, Expectation};
use crate::invariant::{DEFAULT_SEARCH_PATH, Invariant, When, run_all};
use crate::outcome::OutcomeClass;
use crate::pg::admin::{Session, literal};
use crate::plan::{Limit, Mode};
use crate::probe::{self, Sessions};
use crate::record::{Live, TurnRecord};
use crate::strategy::Strategy;
use crate::verdict::Verdict;
use crate::workload::booking::Place;
use crate::{Error, Result};

/// How long one check after the load may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the watchers may take to end once they are told to.
const WATCHERS_END: Duration = Duration::from_secs(15);

/// The turn of a control: `RUN` of its own schema, until it is caught.
pub(super) async fn control(
    context: &Context<'_>,
    session: &mut Session,
    strategy: Strategy,
    limit: Limit,
    judged_by: &[Invariant],
) -> Result<Judged> {
    let place = Place { schema: control::SCHEMA, run: control::RUN, strategy: strategy.name(), as_of: context.as_of.clone() };
    let label = format!("control-{}", strategy.name());
    let driven = load(context, strategy, &place, limit, true, label, |_| {}).await?;
    let search_path = [control::SCHEMA, "dbstress", "public"];
    judge(context, session, &place, driven, judged_by, &search_path).await
}

/// Drives one turn; `tick` is called now and then with the progress.
async fn load(
    context: &Context<'_>,
    strategy: Strategy,
    place: &Place,
    limit: Limit,
    until_breach: bool,
    label: String,
    mut tick: impl FnMut(&Progress),
) -> Result<Driven> {
    let most = match (context.plan.mode, limit) {
        (Mode::Contest, Limit::Rounds(n)) => Some(n),
        _ => None,
    };
    let feeder = Session::connect(context.options, "stock").await?;
    let stock = Stock::open(feeder, place, context.clinics, context.plan.total, strategy.needs_guard(), most).await?;
    let turn = Turn {
        plan: context.plan.clone(),
        strategy,
        place: place.clone(),
        options: context.options.clone(),
        clinics: context.clinics.to_vec(),
        limit,
        until_breach,
        directory: context.directory.clone(),
        label,
        interrupt: context.interrupt.clone(),
    };
    let progress = Arc::new(Progress::default());
    let driving = drive(turn, stock, progress.clone());
    tokio::pin!(driving);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            driven = &mut driving => return driven,
            _ = ticks.tick() => tick(&progress),
        }
    }
}

/// Drains, resolves, audits and checks what a load left behind.
async fn judge(
    context: &Context<'_>,
    session: &mut Session,
    place: &Place,
    driven: Driven,
    invariants: &[Invariant],
    search_path: &[&str],
) -> Result<Judged> {
    let restless = quiesce::quiesce(session, place.run).await?;
    quiesce::resolve(session, place.schema, place.run, place.strategy, &driven.histories).await?;
    let expectation = Expectation {
        contest_units: (context.plan.mode == Mode::Contest).then_some(context.plan.units),
        vus: context.plan.vus,
        issued: driven.issued.clone(),
    };
    let audit = collect::audit(session, place.schema, place.run, &driven.histories, expectation).await?;
    let invariants = run_all(session, invariants, search_path, When::Quiesced, CHECK_TIMEOUT).await;
    Ok(Judged { driven, audit, invariants, restless })
}

/// The turn of a strategy under test.
pub(super) async fn tested(
    context: &Context<'_>,
    session: &mut Session,
    strategy: Strategy,
    tick: impl FnMut(&Progress),
) -> Result<TurnRecord> {
    let run = register(context, session, strategy).await?;
    let place = Place { schema: "dbstress", run, strategy: strategy.name(), as_of: context.as_of.clone() };
    let (stop, stopped) = watch::channel(false);
    let sessions = tokio::spawn({
        let (options, stopped) = (context.options.clone(), stopped.clone());
        async move { probe::watch(&options, &format!("{}/", application_name(run)), stopped).await }
    });
    let live = tokio::spawn({
        let (options, invariants) = (context.options.clone(), context.claimed.to_vec());
        async move { live::watch(&options, &invariants, stopped).await }
    });
    let driven = load(context, strategy, &place, context.plan.limit, false, strategy.name().into(), tick).await;
    stop.send_replace(true);
    let sessions: Sessions = ended(sessions).await.unwrap_or_default();
    let live: Live = ended(live).await.unwrap_or_default();
    let driven = driven?;
    // A server that is gone cannot be asked; what the clients measured is kept.
    let judged = match reconnected(context, session, driven.failure.is_some()).await {
        Ok(()) => judge(context, session, &place, driven, context.invariants, &DEFAULT_SEARCH_PATH).await?,
        Err(error) => {
            let mut audit = Audit::default();
            audit.incomplete("the server was lost before anything could be reconciled".into());
            let driven = Driven { failure: driven.failure.or(Some(error)), ..driven };
            Judged { driven, audit, invariants: Vec::new(), restless: None }
        }
    };
    let record = record(context, strategy, run, judged, sessions, live);
    // Best effort: the verdict stands in the record whether or not the server can be told.
    let _ = session
        .execute(&format!(
            "UPDATE dbstress.run SET ended = clock_timestamp(), verdict = {} WHERE id = {run}",
            literal(record.verdict.word())
        ))
        .await;
    Ok(record)
}

/// After a failure of the load, the administrative session may be as dead as the others.
async fn reconnected(context: &Context<'_>, session: &mut Session, failed: bool) -> Result<()> {
    if failed || session.integer("SELECT 1").await.is_err() {
        *session = Session::connect(context.options, context.command_name).await?;
    }
    Ok(())
}

async fn ended<T>(task: JoinHandle<Result<T>>) -> Option<T> {
    tokio::time::timeout(WATCHERS_END, task).await.ok()?.ok()?.ok()
}

async fn register(context: &Context<'_>, session: &mut Session, strategy: Strategy) -> Result<i32> {
    let claims: Vec<String> = context.plan.claims().iter().map(|c| literal(c)).collect();
    let run = session
        .integer(&format!(
            "INSERT INTO dbstress.run (record, command, workload, strategy, claims, rng_seed) \
             SELECT {}, {}, 'booking', {}, ARRAY[{}]::text[], rng_seed FROM dbstress.meta RETURNING id",
            literal(&context.id),
            literal(&context.command),
            literal(strategy.name()),
            claims.join(", ")
        ))
        .await?;
    i32::try_from(run).ok().filter(|run| *run <= crate::history::OpId::MAX_RUN).ok_or_else(|| {
        Error::usage(format!("this database has seen {run} runs, which is as many as operations can be numbered for"))
            .cure("dbstress seed --reset")
    })
}

fn record(context: &Context<'_>, strategy: Strategy, run: i32, judged: Judged, sessions: Sessions, live: Live) -> TurnRecord {
    let recorder = &judged.driven.recorder;
    let counts = recorder.counts().clone();
    let seconds = judged.driven.elapsed.as_secs_f64();
    let timing: BTreeMap<_, _> = OutcomeClass::ALL
        .into_iter()
        .filter(|class| counts.of(*class) > 0)
        .map(|class| (class, recorder.percentiles(class)))
        .collect();
    let gates = evidence::gates(context.plan, strategy, &counts, &judged.audit, &sessions, &live);
    let (verdict, reasons) = evidence::judge(context.plan, strategy, &counts, &judged, &live, &gates);
    TurnRecord {
        strategy,
        isolation: strategy.isolation().setting().into(),
        run,
        verdict,
        reasons,
        seconds,
        committed_per_second: if seconds > 0.0 { counts.of(OutcomeClass::Committed) as f64 / seconds } else { 0.0 },
        used: judged.driven.used,
        counts,
        timing,
        sessions,
        live,
        bound: judged.audit.exposure.bound().filter(|_| verdict == Verdict::Pass),
        audit: judged.audit,
        invariants: judged.invariants,
        gates,
        histories: judged.driven.histories.iter().map(|p| p.display().to_string()).collect(),
    }
}

/// Iterations done so far, for a progress line: committed, refused, other.
pub fn progress(progress: &Progress) -> (u64, u64, u64) {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    (read(&progress.committed), read(&progress.refused), read(&progress.other))
}
