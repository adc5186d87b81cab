//! One turn: prepare rows, drive, drain, resolve, audit, check, judge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch::{self, channel};
use tokio::task::JoinHandle;

use super::api::Api;
use super::books::Books;
use super::cleanup::{self, Swept};
use super::counters::Beginning;
use super::drive::{Driven, Progress, Turn, application_name, drive};
use super::figures::Figures;
use super::own::OwnWork;
use super::quiesce::{Keeper, Sessions as Performers};
use super::scheduling::SchedulingWork;
use super::session::{Way, usual};
use super::stock::{Size, Stock};
use super::work::{BookingWork, Weights, Work};
use super::{Context, Ground, Judged, collect, control, evidence, faults, grant, live, quiesce, skews};
use crate::audit::{Audit, Counters, Expectation};
use crate::bug::Bug;
use crate::fault::{Arena, Injector};
use crate::invariant::{Allowance, DEFAULT_SEARCH_PATH, Invariant, When, run_all};
use crate::metrics::Percentiles;
use crate::outcome::OutcomeClass;
use crate::pg::admin::{Session, literal};
use crate::plan::{Limit, Load, Plan, Workload};
use crate::probe::{self, Sessions, Watch, Watched};
use crate::record::{Live, OperationRecord, Rules, TurnRecord};
use crate::scenario::{Booking, Sql, Targets};
use crate::strategy::Strategy;
use crate::target::booking::Booker;
use crate::target::scheduling::Scheduler;
use crate::verdict::Verdict;
use crate::workload::booking::Place;
use crate::workload::contest::Deck;
use crate::{Error, Result};

/// How long the watchers may take to end once they are told to.
const WATCHERS_END: Duration = Duration::from_secs(15);

/// What goes on beside the load, and what it comes to.
type Watching<T> = JoinHandle<Result<T>>;

/// What a turn tests.
#[derive(Clone)]
pub(super) enum Subject {
    /// Bookings under one strategy, with a bug if one is made, in a schema.
    Booking(Strategy, Option<Bug>, Place),
    /// Changes of schedules under one strategy, in a schema.
    Scheduling(Strategy, Place),
    /// Operations of the user's own, whose unqualified names are looked for in a schema.
    Own(Sql, String),
    /// An API of anybody's, which [`super::foreign`] asks.
    Foreign,
}

/// What is driven, and how much of it.
pub(super) struct Leg {
    pub subject: Subject,
    pub run: i32,
    pub load: Load,
    pub until_breach: bool,
    pub label: String,
}

/// An attempt that begins shortly before the deadline of its iteration is given at least this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Drives one turn; `began` is told when it begins, `watch` sees every second of it.
async fn load(
    context: &Context<'_>,
    leg: &Leg,
    began: watch::Sender<Option<Instant>>,
    mut watch: impl FnMut(&Progress),
) -> Result<Driven> {
    let plan = context.plan;
    let caller = match &context.api {
        Some(api) => {
            let mut session = Session::connect(context.options, "grant").await?;
            let secret = grant::issue(&mut session, plan, leg).await;
            session.close().await;
            api.caller(&secret?)
        }
        None => None,
    };
    let (work, stock) = match &leg.subject {
        Subject::Booking(strategy, bug, place) => {
            let (Workload::Booking(booking), Ground::Clinic { clinics, .. }) = (&plan.workload, &context.ground) else {
                return Err(Error::inconclusive("a booking needs a clinic: this is a bug in dbstress"));
            };
            let feeder = Session::connect(context.options, "stock").await?;
            let stock =
                Stock::open(feeder, context.options, place, clinics, size(booking, &leg.load), strategy.needs_guard()).await?;
            let work = BookingWork {
                booker: Booker { strategy: *strategy, place: place.clone(), hold: booking.hold, bug: *bug, keys: booking.keys },
                caller,
                clinics: clinics.clone(),
                base: stock.base(),
                weights: Weights::new(booking.operations.iter().map(|o| o.weight)),
                plan: booking.clone(),
            };
            (Work::Booking(work), Some(stock))
        }
        Subject::Scheduling(strategy, place) => {
            let Workload::Scheduling(scheduling) = &plan.workload else {
                return Err(Error::inconclusive("there are no schedules to change: this is a bug in dbstress"));
            };
            let deck = Deck::new(plan.rng_seed, &scheduling.contests);
            let feeder = Session::connect(context.options, "stock").await?;
            let most = match leg.load {
                Load::Rounds { limit: Limit::Rounds(n), .. } => n,
                _ => u64::MAX,
            };
            let stock = Stock::of_programmes(feeder, context.options, place, deck.clone(), most).await?;
            let scheduler = Scheduler { strategy: *strategy, place: place.clone(), hold: scheduling.hold };
            (
                Work::Scheduling(SchedulingWork { scheduler, caller, base: stock.base(), plan: scheduling.clone(), deck }),
                Some(stock),
            )
        }
        Subject::Foreign => return Err(Error::inconclusive("an API is not driven here: this is a bug in dbstress")),
        Subject::Own(sql, schema) => (Work::Own(OwnWork::new(sql, schema, leg.load.vus(), plan.rng_seed)), None),
    };
    let work = Arc::new(work);
    let settings = if leg.until_breach { BTreeMap::new() } else { settings(context, &work).await? };
    let turn = Turn {
        plan: plan.clone(),
        load: leg.load.clone(),
        work,
        patience: context.api.as_ref().map_or(PATIENCE, Api::patience),
        way: match &context.api {
            Some(api) => Way::Http(api.address.clone()),
            None => Way::Sql { options: Box::new(context.load_options.clone()), manner: context.manner },
        },
        run: leg.run,
        until_breach: leg.until_breach,
        // Only bookings keep a ledger that a history could be reconciled with; but where something goes wrong, it shows who recovered when.
        history: (stock.is_some() || !plan.faults.is_empty()).then(|| (context.directory.clone(), leg.label.clone())),
        interrupt: context.interrupt.clone(),
        injector: injector(context, leg),
        began,
    };
    let is_tested = !leg.until_breach;
    let under_load = quiesce::UnderLoad::new(context.options, performers(context, leg.run));
    let driven = drive(turn, stock, |progress, so_far| {
        watch(progress);
        let figures = Figures::new(plan, so_far, progress.elapsed.saturating_sub(plan.warm_up).as_secs_f64());
        if is_tested { figures.give_up() } else { None }
    })
    .await?;
    under_load.ended();
    Ok(Driven { settings, ..driven })
}

/// The settings of a session of the load that say what an acknowledgement is worth, and whether foreign keys and triggers fire.
async fn settings(context: &Context<'_>, work: &Arc<Work>) -> Result<BTreeMap<String, String>> {
    let mut connection = usual(&context.load_options, context.manner, work, "dbstress/settings").await?;
    let mut settings = BTreeMap::new();
    for name in faults::DURABILITY.into_iter().chain([evidence::REPLICATION_ROLE]) {
        settings.extend(connection.ask(&format!("SHOW {name}")).await?.map(|value| (name.to_owned(), value)));
    }
    Ok(settings)
}

/// What lets things go wrong in the turn of what is tested; a control ends with its first breach, and needs no help.
fn injector(context: &Context<'_>, leg: &Leg) -> Option<Injector> {
    let faults = &context.plan.faults;
    if leg.until_breach || faults.is_empty() {
        return None;
    }
    let prefix = performers(context, leg.run).prefix;
    let arena =
        Arena::new(context.options.clone(), prefix, context.server.clone(), context.proxy.clone(), Some(context.lease.clone()));
    Some(Injector::new(arena, faults.clone()))
}

/// The rows that a turn needs.
fn size(booking: &Booking, load: &Load) -> Size {
    let one_by_one = Size { most: u64::MAX, is_whole: false, total: booking.total, hot: 0, hot_total: 0 };
    match (booking.targets, load) {
        (Targets::Rounds, Load::Rounds { limit: Limit::Rounds(n), .. }) => Size { most: *n * booking.per_round(), ..one_by_one },
        (Targets::Rounds | Targets::OneByOne, _) => one_by_one,
        (Targets::Spread { authorisations, hot }, _) => {
            let (hot, hot_total) = hot.map_or((0, 0), |h| (u64::from(h.authorisations), h.total));
            Size { most: u64::from(authorisations) + hot, is_whole: true, hot, hot_total, ..one_by_one }
        }
    }
}

/// Drains, resolves, audits and checks what a load left behind.
async fn judge(
    context: &Context<'_>,
    session: &mut Session,
    leg: &Leg,
    driven: Driven,
    (swept, beginning): (Option<Swept>, Option<Beginning>),
    invariants: &[Invariant],
    allowance: Allowance,
) -> Result<Judged> {
    let performers = performers(context, leg.run);
    let restless = quiesce::quiesce(session, &performers).await?;
    let counters = match beginning {
        // Best effort: nothing is proved with it.
        Some(beginning) => {
            let claims_rows = matches!(leg.subject, Subject::Own(..)) && driven.recorder.counts().changed > 0;
            beginning.until_now(session, context.manner.between.is_pooler(), claims_rows).await.ok()
        }
        None => None,
    };
    let cleanup = match (&leg.subject, context.plan.keys(), swept) {
        (Subject::Booking(_, _, place), Some(keys), Some(swept)) => Some(cleanup::finish(session, place, keys, swept).await?),
        _ => None,
    };
    let books = match &leg.subject {
        Subject::Booking(_, _, place) => Some((Books::Units, place)),
        Subject::Scheduling(_, place) => Some((Books::Schedules, place)),
        Subject::Own(..) | Subject::Foreign => None,
    };
    let (audit, search_path) = match (books, &leg.subject) {
        (Some((books, place)), _) => {
            quiesce::resolve(session, books, place, &driven.histories, &performers).await?;
            let expectation = Expectation {
                vus: leg.load.vus(),
                issued: driven.issued.clone(),
                truths: faults::truths(&driven),
                outages: faults::outages(context.plan, &driven),
                ..books.expects(context.plan)
            };
            let mut audit = collect::audit(session, books, place.schema, place.run, &driven.histories, expectation).await?;
            if books == Books::Schedules {
                skews::show(session, place.schema, place.run, &mut audit).await?;
            }
            let mut path = DEFAULT_SEARCH_PATH.map(str::to_owned).to_vec();
            if place.schema != path[0] {
                path.insert(0, place.schema.to_owned());
            }
            (audit, path)
        }
        (_, Subject::Own(_, search_path)) => (Audit::default(), vec![search_path.clone()]),
        // Whatever keeps books has a place.
        (None, _) => (Audit::default(), Vec::new()),
    };
    let path: Vec<&str> = search_path.iter().map(String::as_str).collect();
    let invariants = run_all(session, invariants, &path, When::Quiesced, allowance.clone()).await;
    let interrupted = driven.interrupted || allowance.is_over();
    Ok(Judged { driven, audit, invariants, interrupted, restless, cleanup, counters })
}

/// The turn of a control, until it is caught; `None` if it was interrupted, which says nothing of what it would have come to.
pub(super) async fn control(
    context: &Context<'_>,
    session: &mut Session,
    leg: &Leg,
    judged_by: &[Invariant],
) -> Result<Option<Judged>> {
    let driven = load(context, leg, channel(None).0, |_| {}).await?;
    if context.is_interrupted() {
        return Ok(None);
    }
    reconnected(context, session, driven.failure.is_some()).await?;
    let judged = judge(context, session, leg, driven, (None, None), judged_by, context.brief()).await?;
    Ok(Some(judged).filter(|_| !context.is_interrupted()))
}

/// The turn of what is tested: a strategy, or the user's own operations.
pub(super) async fn tested(
    context: &Context<'_>,
    session: &mut Session,
    strategy: Option<Strategy>,
    mut watch: impl FnMut(&Progress),
) -> Result<TurnRecord> {
    let name = strategy.map_or(context.plan.scenario.as_str(), |s| s.name());
    let run = register(context, session, name).await?;
    let subject = match (&context.ground, strategy) {
        (Ground::Clinic { as_of, .. }, Some(strategy)) => {
            let bug = context.plan.booking().and_then(|booking| booking.bug);
            Subject::Booking(strategy, bug, Place { schema: "dbstress", run, strategy: strategy.name(), as_of: as_of.clone() })
        }
        (Ground::Residency(as_of), Some(strategy)) => {
            Subject::Scheduling(strategy, Place { schema: "dbstress", run, strategy: strategy.name(), as_of: as_of.clone() })
        }
        (Ground::Own(sql), _) => Subject::Own((**sql).clone(), sql.schema.clone()),
        (Ground::Clinic { .. } | Ground::Residency(_), None) => {
            return Err(Error::inconclusive("a turn needs a strategy: this is a bug in dbstress"));
        }
    };
    let leg = Leg { subject, run, load: context.plan.load.clone(), until_breach: false, label: name.to_owned() };
    // What an API makes is not ours, and nobody counts it beside the server.
    let counted_from = match &context.api {
        Some(_) => None,
        None => Some(Beginning::read(session, &context.tally).await?),
    };
    let (stop, stopped) = channel(false);
    let (began, has_begun) = channel(None);
    let probes = probes(context, run, has_begun)?.map(|watch| tokio::spawn(async { Ok(probe::watch(watch).await) }));
    let (so_far, rules) = channel(Rules::default());
    let evidence = &context.plan.evidence;
    // A snapshot costs the server something; where nothing is claimed of the rules, none is held.
    let rules_watched = context.watched();
    let is_live = (evidence.mechanism || evidence.live || !context.plan.claims.is_empty())
        && rules_watched.iter().any(|rule| rule.when == When::Always);
    let live = is_live.then(|| {
        let (options, invariants) = (context.options.clone(), rules_watched);
        let path = context.search_path();
        tokio::spawn(async move { live::watch(&options, &invariants, &path, so_far, stopped).await })
    });
    let sweeping = match (&leg.subject, context.plan.keys()) {
        (Subject::Booking(_, _, place), Some(keys)) => {
            cleanup::plant(session, place, keys).await?;
            let (options, place, stopped) = (context.options.clone(), place.clone(), stop.subscribe());
            Some(tokio::spawn(async move { cleanup::sweep(&options, &place, stopped).await }))
        }
        _ => None,
    };
    let has_keys = sweeping.is_some();
    let driven = load(context, &leg, began, |progress| {
        watch(&Progress { rules: is_live.then(|| rules.borrow().clone()), ..progress.clone() });
    })
    .await;
    stop.send_replace(true);
    let (sessions, watched) = match probes {
        Some(probes) => ended(Some(probes)).await.unwrap_or_else(|| probe::unseen(evidence.probe_interval)),
        None => Default::default(),
    };
    let live: Live = ended(live).await.unwrap_or_default();
    // A clean-up that broke off is finished before anything is judged.
    let swept = ended(sweeping).await.or_else(|| has_keys.then(Swept::default));
    let driven = driven?;
    // A server that is gone cannot be asked; what the clients measured is kept.
    let judged = match reconnected(context, session, driven.failure.is_some()).await {
        Ok(()) => {
            let allowance = context.graceful();
            judge(context, session, &leg, driven, (swept, counted_from), context.invariants, allowance).await?
        }
        Err(error) => {
            let mut audit = Audit::default();
            audit.incomplete("the server was lost before anything could be reconciled".into());
            // That another server answers explains the rest.
            let failure = context.options.same.another().or(driven.failure).or(Some(error));
            let driven = Driven { failure, ..driven };
            let interrupted = driven.interrupted;
            Judged { driven, audit, invariants: Vec::new(), interrupted, restless: None, cleanup: None, counters: None }
        }
    };
    let record = record(context.plan, strategy, &leg, judged, (sessions, watched), live);
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

/// The questions to the server while the load of a run goes on, unless nobody wants to know.
fn probes(context: &Context<'_>, run: i32, began: watch::Receiver<Option<Instant>>) -> Result<Option<Watch>> {
    let evidence = &context.plan.evidence;
    if evidence.probe_interval.is_zero() {
        return Ok(None);
    }
    let mut probes = probe::built_in()?;
    probes.extend(evidence.probes.iter().cloned());
    let performers = performers(context, run);
    let (stay, prefix) = (performers.stay(), performers.prefix);
    Ok(Some(Watch { options: context.options.clone(), prefix, interval: evidence.probe_interval, probes, stay, began }))
}

/// The sessions that the operations of a run are performed in.
fn performers(context: &Context<'_>, run: i32) -> Performers {
    let prefix = format!("{}/", application_name(run));
    match &context.api {
        Some(api) => Performers { prefix: format!("{}/", api.about.sessions), keeper: Keeper::Api },
        None if context.manner.between.is_pooler() => Performers { prefix, keeper: Keeper::Pooler },
        None => Performers { prefix, keeper: Keeper::VirtualUsers },
    }
}

async fn ended<T>(task: Option<Watching<T>>) -> Option<T> {
    tokio::time::timeout(WATCHERS_END, task?).await.ok()?.ok()?.ok()
}

async fn register(context: &Context<'_>, session: &mut Session, name: &str) -> Result<i32> {
    let claims: Vec<String> = context.plan.claims.iter().map(|c| literal(c)).collect();
    let workload = match context.ground {
        Ground::Clinic { .. } => "booking",
        Ground::Residency(_) => "scheduling",
        Ground::Own(_) => "sql",
    };
    let run = session
        .integer(&format!(
            "INSERT INTO dbstress.run (record, command, workload, strategy, claims, rng_seed) \
             SELECT {}, {}, '{workload}', {}, ARRAY[{}]::text[], coalesce((SELECT rng_seed FROM dbstress.meta), 0) RETURNING id",
            literal(&context.id),
            literal(&context.command),
            literal(name),
            claims.join(", ")
        ))
        .await?;
    i32::try_from(run).ok().filter(|run| *run <= crate::history::OpId::MAX_RUN).ok_or_else(|| {
        Error::usage(format!("this database has seen {run} runs, which is as many as operations can be numbered for"))
            .cure(context.options.command("seed --reset"))
    })
}

/// What is kept of a turn.
pub(super) fn record(
    plan: &Plan,
    strategy: Option<Strategy>,
    leg: &Leg,
    mut judged: Judged,
    (sessions, watched): (Sessions, Watched),
    live: Live,
) -> TurnRecord {
    // What goes wrong on purpose may cost the server its statistics without a trace.
    let counted = judged.counters.as_ref().and_then(|counters| counters.rows);
    let rows = counted.filter(|_| matches!(plan.workload, Workload::Sql(_)) && plan.faults.is_empty());
    if let Some(rows) = rows {
        judged.driven.recorder.changed_at_most(rows);
    }
    let recorder = &judged.driven.recorder;
    let counts = recorder.counts().clone();
    let seconds = measured(plan, &leg.load, &judged.driven).as_secs_f64();
    let figures = Figures::new(plan, recorder, seconds).with_connections(judged.driven.pool.as_ref(), &watched).with_rows(rows);
    let thresholds: Vec<_> = plan.thresholds.iter().map(|t| t.evaluate(&figures)).collect();
    let mut gates = evidence::gates(plan, strategy, &counts, &figures, &judged.audit, (&sessions, &watched), &live);
    let (faults, unread) = match faults::records(plan, &judged.driven) {
        Ok(faults) => (faults, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    judged.driven.failure = judged.driven.failure.or(unread);
    gates.extend(evidence::enforced(&judged.driven.settings));
    gates.extend(faults::gates(plan, &faults, &judged.audit, &judged.driven.settings));
    let (verdict, reasons) = evidence::judge(plan, strategy, &counts, &judged, &live, &gates, &thresholds);
    let timing = |operation: Option<usize>| -> BTreeMap<_, _> {
        OutcomeClass::ALL
            .into_iter()
            .filter(|class| recorder.iterations(operation, Some(*class)) > 0)
            .map(|class| (class, recorder.percentiles(operation, class)))
            .collect()
    };
    let operations = plan.operations().into_iter().enumerate().map(|(i, name)| OperationRecord {
        name: name.to_owned(),
        outcomes: OutcomeClass::ALL
            .into_iter()
            .map(|class| (class, recorder.iterations(Some(i), Some(class))))
            .filter(|(_, n)| *n > 0)
            .collect(),
        timing: timing(Some(i)),
        changed: recorder.changed(i),
    });
    TurnRecord {
        name: leg.label.clone(),
        isolation: isolation(plan, strategy),
        run: leg.run,
        verdict,
        reasons,
        seconds,
        committed_per_second: if seconds > 0.0 { counts.of(OutcomeClass::Committed) as f64 / seconds } else { 0.0 },
        used: judged.driven.used / plan.booking().map_or(1, Booking::per_round),
        timing: timing(None),
        operations: operations.collect(),
        lag: Some(Percentiles::of(recorder.lags())),
        wait: recorder.waits().map(Percentiles::of),
        connect: recorder.connects().map(Percentiles::of),
        pool: judged.driven.pool.clone(),
        counters: judged.counters.map(|counters| Counters { others: watched.others(), ..counters }),
        generator_limited: figures.limited(),
        not_answered: evidence::not_answered(plan, &counts),
        client_cpu_seconds: judged.driven.cpu.as_secs_f64(),
        faults,
        settings: judged.driven.settings,
        thresholds,
        ticks: judged.driven.ticks,
        counts,
        sessions,
        watched,
        live,
        bound: judged.audit.exposure.bound().filter(|_| verdict == Verdict::Pass && !plan.claims.is_empty()),
        audit: judged.audit,
        cleanup: judged.cleanup,
        invariants: judged.invariants,
        gates,
        histories: judged.driven.histories.iter().map(|p| p.display().to_string()).collect(),
    }
}

/// The time that rates are told for: all of the load's but the warm-up. A schedule that ran to its end lasted until then, whenever its last
/// iteration was.
fn measured(plan: &Plan, load: &Load, driven: &Driven) -> Duration {
    let is_whole = !driven.interrupted && driven.given_up.is_none() && driven.failure.is_none() && load.iterations().is_none();
    let lasted = load.duration().filter(|_| is_whole && !matches!(load, Load::Rounds { .. })).unwrap_or_default();
    driven.elapsed.max(lasted).saturating_sub(plan.warm_up)
}

fn isolation(plan: &Plan, strategy: Option<Strategy>) -> String {
    match (&plan.workload, strategy) {
        (_, Some(strategy)) => strategy.isolation().setting().into(),
        (Workload::Sql(sql), None) => {
            let mut levels: Vec<&str> = sql.operations.iter().map(|o| o.isolation.setting()).collect();
            levels.sort_unstable();
            levels.dedup();
            levels.join(", ")
        }
        (Workload::Booking(_) | Workload::Scheduling(_) | Workload::Http(_), None) => String::new(),
    }
}

/// The rows of a control stand in a schema of its own.
pub(super) fn control_place(context: &Context<'_>, name: &'static str) -> Option<Place> {
    let (Ground::Clinic { as_of, .. } | Ground::Residency(as_of)) = &context.ground else { return None };
    Some(Place { schema: control::SCHEMA, run: control::RUN, strategy: name, as_of: as_of.clone() })
}
