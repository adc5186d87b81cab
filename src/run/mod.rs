//! One run, from plan to record: invariants before, controls, the strategies' turns, controls again, verdict.

mod alarm;
pub mod api;
mod books;
mod cleanup;
mod collect;
pub mod control;
mod counters;
pub mod drive;
mod evidence;
mod faults;
mod figures;
pub mod foreign;
mod grant;
mod grievance;
mod live;
pub mod own;
pub mod own_schema;
mod pacing;
mod pool;
mod quiesce;
mod rounds;
pub mod scheduling;
mod seconds;
pub mod session;
mod skews;
pub mod stock;
mod turn;
mod via;
mod vu;
pub mod witness;
pub mod work;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, watch};

use self::api::{Api, Target};
use self::drive::{Driven, Progress};
use self::own::OwnWork;
use self::session::{Opener, Way};
use self::stock::Clinic;
use self::work::Work;
use crate::audit::{Audit, Counters};
use crate::error::Kind;
use crate::fault::{self, Reach};
use crate::history::Asking;
use crate::invariant::run::each_second;
use crate::invariant::{self, Allowance, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, When, run_all};
use crate::pg::admin::{self, IS_CLIENT, Lease, Loaded, Session, TextRow};
use crate::pg::cluster::Running;
use crate::pg::load::{Between, Manner};
use crate::pg::tally::Tally;
use crate::pg::{ConnectOptions, Place};
use crate::plan::{Load, Plan, Workload};
use crate::proxy::Proxy;
use crate::record::{Cleanup, Control, Dataset, Moment, NotRun, RunRecord, SCHEMA_VERSION, Server, TurnRecord};
use crate::scenario::{self, Scheduling, Sql};
use crate::strategy::Strategy;
use crate::threshold::State;
use crate::verdict::{Decision, Verdict};
use crate::workload::twin;
use crate::{Error, Result};

/// Connections besides those of the virtual users: administration, lease, stock, probe, live invariants, clean-up, faults.
const OTHER_CONNECTIONS: i64 = 7;

/// What a run needs to know besides the plan.
pub struct Request {
    /// What to run.
    pub plan: Plan,
    /// On which database.
    pub options: ConnectOptions,
    /// What the load goes through, and nothing else: a pooler, a proxy.
    pub via: Option<Place>,
    /// The reference server that is asked, if the virtual users do nothing in SQL.
    pub target: Option<Target>,
    /// Subcommand, for messages and `pg_stat_activity`.
    pub command_name: &'static str,
    /// The command that runs it again.
    pub command: String,
    /// The command that shows the rows it leaves.
    pub verify: String,
    /// The database that everything of the user's may be lost from, if one was named.
    pub disposable: Option<String>,
    /// Whether a run that nothing shows able to fail may pass all the same.
    pub accepts_uncontrolled: bool,
    /// The server, if it is ours.
    pub server: Option<Arc<Running>>,
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
    /// A turn begins.
    TurnBegins(&'a str),
    /// It goes on; once a second.
    Tick(&'a str, &'a Progress),
    /// It has been judged.
    TurnEnded(&'a TurnRecord),
    /// The check of a rule, before or after a load, goes on; once a second.
    Checking {
        /// Which rule.
        rule: &'a str,
        /// How long it has taken so far.
        elapsed: Duration,
        /// How long it may take.
        limit: Duration,
    },
}

/// What a run works on.
enum Ground {
    /// A seeded clinic.
    Clinic {
        /// The clock of the domain.
        as_of: String,
        /// The organisations.
        clinics: Vec<Clinic>,
    },
    /// A seeded residency: the clock of the domain.
    Residency(String),
    /// A schema of the user's own.
    Own(Box<Sql>),
}

/// What the parts of a run share.
pub struct Context<'a> {
    plan: &'a Plan,
    options: &'a ConnectOptions,
    /// How the load connects: the same way, by another address, or through the proxy.
    load_options: ConnectOptions,
    /// How it speaks, and what is between.
    manner: Manner,
    /// The server, if it is ours.
    server: Option<Arc<Running>>,
    /// What the load connects through, where the wire is to break.
    proxy: Option<Arc<Proxy>>,
    lease: Arc<Mutex<Lease>>,
    /// The reference server that is asked.
    api: Option<Api>,
    /// What our own connections make.
    tally: Arc<Tally>,
    command_name: &'static str,
    command: String,
    id: String,
    ground: Ground,
    /// All invariants of the dataset, or of the user.
    invariants: &'a [Invariant],
    /// Those that the plan claims.
    claimed: &'a [Invariant],
    directory: PathBuf,
    interrupt: watch::Receiver<bool>,
    /// What checks are given as long as nobody interrupts them.
    allowance: Allowance,
}

impl Context<'_> {
    fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    /// What the checks after a load are given.
    fn graceful(&self) -> Allowance {
        with_grace(&self.allowance, self.interrupt.clone(), self.plan.graceful_stop)
    }

    /// What the checks are given that nothing is lost without: an interruption ends them at once.
    fn brief(&self) -> Allowance {
        Allowance { over: self.interrupt.clone(), ..self.allowance.clone() }
    }

    /// What is checked while the load runs: the claims, or all if there are none.
    fn watched(&self) -> Vec<Invariant> {
        if self.claimed.is_empty() { self.invariants.to_vec() } else { self.claimed.to_vec() }
    }

    /// Where the tables of the tested rows are looked for.
    fn search_path(&self) -> Vec<String> {
        match &self.ground {
            Ground::Clinic { .. } | Ground::Residency(_) => DEFAULT_SEARCH_PATH.map(str::to_owned).to_vec(),
            Ground::Own(sql) => vec![sql.schema.clone()],
        }
    }
}

/// A load and what was found about it.
pub struct Judged {
    driven: Driven,
    audit: Audit,
    invariants: Vec<Checked>,
    /// The user stopped the load, or the checks after it.
    interrupted: bool,
    /// What was still going on when it was judged.
    restless: Option<String>,
    /// The clean-up of expired keys.
    cleanup: Option<Cleanup>,
    /// The server's counts beside ours.
    counters: Option<Counters>,
}

/// Runs the plan.
///
/// # Errors
/// What kept it from beginning; what goes wrong later is in the record.
pub async fn run(request: Request, show: impl FnMut(Event<'_>)) -> Result<RunRecord> {
    let allowance = Allowance::of_flag(request.plan.evidence.check_timeout);
    with_checks_shown(allowance, show, async |allowance, show| begun(request, allowance, show).await).await
}

/// What checks are given that begin now: once interrupted they may go on for `grace`, as iterations may.
fn with_grace(allowance: &Allowance, mut interrupt: watch::Receiver<bool>, grace: Duration) -> Allowance {
    let (over, is_over) = watch::channel(false);
    tokio::spawn(async move {
        // If whoever could interrupt them is gone, nobody does.
        if interrupt.wait_for(|stop| *stop).await.is_ok() {
            tokio::time::sleep(grace).await;
            over.send_replace(true);
        }
    });
    Allowance { over: is_over, ..allowance.clone() }
}

/// Runs what `make` makes of an allowance and of `show`, which is told of checks that take long, too.
async fn with_checks_shown<T>(
    allowance: Allowance,
    show: impl FnMut(Event<'_>),
    make: impl AsyncFnOnce(Allowance, &mut dyn FnMut(Event<'_>)) -> T,
) -> T {
    let (show, limit, under_way) = (RefCell::new(show), allowance.limit, allowance.under_way.subscribe());
    let mut tell = |event: Event<'_>| (show.borrow_mut())(event);
    tokio::select! {
        made = make(allowance, &mut tell) => made,
        never = each_second(under_way, |rule, elapsed| (show.borrow_mut())(Event::Checking { rule, elapsed, limit })) => match never {},
    }
}

async fn begun(request: Request, allowance: Allowance, show: &mut dyn FnMut(Event<'_>)) -> Result<RunRecord> {
    let began = Instant::now();
    let Request {
        mut plan,
        options,
        via,
        target,
        command_name,
        command,
        verify,
        disposable,
        accepts_uncontrolled,
        server: own_server,
        state,
        interrupt,
    } = request;
    let wall_clock = SystemTime::now();
    let tally = Arc::new(Tally::default());
    let options = ConnectOptions { counted: tally.clone().into(), ..options };
    fault::check(&plan.faults, own_server.is_some())?;
    refuse_without_contention(plan.cannot_contend())?;
    if target.is_some() {
        api::refuse_what_it_decides(&plan)?;
    }
    if let Workload::Sql(sql) = &mut plan.workload {
        own_schema::find(sql, &options).await?;
    }
    let mut session = Session::connect(&options, command_name).await?;
    let lease = Arc::new(Mutex::new(Lease::take(&options, command_name).await?));
    quiesce::end_orphans(&mut session).await?;
    let mut dataset = None;
    let mut ground = match &plan.workload {
        Workload::Booking(_) | Workload::Scheduling(_) => {
            let (_, loaded) = admin::require_loaded(&mut session, &options).await?;
            dataset = Some(Dataset::from(&loaded));
            ground_of(&plan, loaded, &options)?
        }
        Workload::Sql(sql) => {
            admin::claim(&mut session, &options, disposable.as_deref()).await?;
            Ground::Own(Box::new(sql.clone()))
        }
        Workload::Http(_) => return Err(Error::inconclusive("an API is asked elsewhere: this is a bug in dbstress")),
    };
    faults::check_alone(&mut session, &plan.faults, &options).await?;
    let mut server = server(&mut session, &options).await?;
    let api = match (&target, &dataset) {
        (Some(target), Some(dataset)) => Some(Api::reach(target, &mut session, &options, &dataset.name).await?),
        (Some(_), None) => return Err(api::no_statements()),
        (None, _) => None,
    };
    let plan = match &api {
        Some(api) => api.plan(plan)?,
        None => plan,
    };
    refuse_without_contention(api.as_ref().and_then(|api| api.cannot_contend(&plan)))?;
    server.api = api.as_ref().map(Api::record);
    if let Some(place) = &via {
        server.via = Some(via::prove(&mut session, &options, place, &plan).await?);
    }
    let between = server.via.as_ref().map(|via| via.between).unwrap_or_default();
    let manner = Manner { protocol: plan.protocol, between };
    // Where it goes, and before which the wire would break.
    let load_target = via.as_ref().map_or_else(|| options.clone(), |place| options.through(place));
    if api.is_none() {
        check_connections(&mut session, &plan, between).await?;
    }
    let id = identify(wall_clock);
    let mut record = RunRecord {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        decision: Decision::Inconclusive,
        reasons: Vec::new(),
        claim: NOTHING.into(),
        id: id.clone(),
        dbstress: env!("CARGO_PKG_VERSION").into(),
        command: command.clone(),
        verify: verify.clone(),
        began: humantime::format_rfc3339_seconds(wall_clock).to_string(),
        seconds: 0.0,
        interrupted: false,
        server,
        dataset,
        before: Vec::new(),
        controls: Vec::new(),
        turns: Vec::new(),
        not_run: Vec::new(),
        plan: plan.clone(),
    };
    let invariants: Vec<Invariant> = match (&ground, &record.dataset) {
        (Ground::Own(sql), _) => sql.invariants.clone(),
        (_, Some(dataset)) => invariant::built_in()?.into_iter().filter(|i| i.is_about(&dataset.name)).collect(),
        (_, None) => Vec::new(),
    };
    let mut path = DEFAULT_SEARCH_PATH.to_vec();
    if let Ground::Own(sql) = &ground {
        if sql.setup.is_some() {
            show(Event::Phase("set-up"));
        }
        let mut stop = interrupt.clone();
        tokio::select! {
            done = own_schema::set_up(&mut session, sql, &sql.schema) => done?,
            Ok(_) = stop.wait_for(|stop| *stop) => {
                record.interrupted = true;
                return Ok(over_before(record, INTERRUPTED.into(), began, lease).await);
            }
        }
        // What the server would refuse is told now, not after the controls.
        let work = Work::Own(OwnWork::new(sql, &sql.schema, plan.load.vus(), plan.rng_seed));
        let way = Way::Sql { options: Box::new(load_target.clone()), manner };
        Opener { way, work: Arc::new(work) }.open("dbstress/prepare").await?;
        path = vec![&sql.schema];
    }
    if !invariants.is_empty() {
        show(Event::Phase("invariants before"));
    }
    if matches!(ground, Ground::Clinic { .. }) {
        cleanup::sweep_leftovers(&mut session).await?;
    }
    let brief = Allowance { over: interrupt.clone(), ..allowance.clone() };
    record.before = run_all(&mut session, &invariants, &path, When::Quiesced, brief).await;
    if *interrupt.borrow() {
        record.interrupted = true;
        return Ok(over_before(record, INTERRUPTED.into(), began, lease).await);
    }
    if let Some(broken) = record.before.iter().find(|c| matches!(c.finding, Finding::Violated { .. } | Finding::Errored(_))) {
        let why = match (&broken.finding, &ground) {
            // There are no rows to be shown.
            (Finding::Errored(why), _) => {
                format!("could not be checked before the run began, so nothing could be said about the run: {why}")
            }
            (_, ground) => {
                let cure = match ground {
                    Ground::Clinic { .. } | Ground::Residency(_) => {
                        format!("{verify} shows the rows; {} removes the dataset and starts over", anew(&plan, &options))
                    }
                    Ground::Own(_) => "let the set-up make everything anew".to_owned(),
                };
                format!("did not hold before the run began, so nothing could be said about the run ({cure})")
            }
        };
        let why = format!("{} {why}", broken.label());
        return Ok(over_before(record, why, began, lease).await);
    }
    if let Ground::Clinic { clinics, .. } = &mut ground {
        *clinics = stock::clinics(&mut session).await?;
        if clinics.is_empty() {
            return Err(
                Error::usage("the dataset has no organisation with patients and practitioners").cure("dbstress seed --reset")
            );
        }
    }
    if let Ground::Clinic { clinics, .. } = &ground
        && let [_] = &clinics[..]
        && plan.booking().is_some_and(|b| b.operations.iter().any(|o| o.request == Some(Asking::OtherTenant)))
    {
        return Err(Error::usage("the dataset has one organisation: no other can ask with its key")
            .cure("leave out the operation with request = \"other-tenant\", or dbstress seed --reset with the clinic"));
    }
    if let Some(api) = &api {
        let clinics = if let Ground::Clinic { clinics, .. } = &ground { &clinics[..] } else { &[] };
        api.preflight(&mut session, &plan, clinics).await?;
        grant::revoke_all(&mut session).await?;
    }
    let directory = state.join("runs").join(&id);
    std::fs::create_dir_all(&directory).map_err(|e| {
        Error::usage(format!("the histories cannot be written to {}", directory.display()))
            .because(e)
            .cure("make the state directory writable, or choose another with --state-dir")
    })?;
    let breaks_wire = plan.faults.iter().any(|planned| planned.fault.reach() == Reach::Wire);
    let proxy = if breaks_wire { Some(Arc::new(Proxy::start(&load_target).await?)) } else { None };
    let claimed: Vec<Invariant> = invariants.iter().filter(|i| plan.claims.contains(&i.name)).cloned().collect();
    let context = Context {
        plan: &plan,
        options: &options,
        load_options: proxy.as_ref().map_or(load_target, |proxy| proxy.options().clone()),
        manner,
        server: own_server,
        proxy,
        lease: lease.clone(),
        api,
        tally,
        command_name,
        command,
        id,
        ground,
        invariants: &invariants,
        claimed: &claimed,
        directory,
        interrupt,
        allowance,
    };
    let ended = phases(&context, &mut session, &mut record, show).await;
    record.interrupted = context.is_interrupted();
    if context.api.is_some() {
        // Best effort: the server may be gone, and a secret that nobody knows opens nothing.
        let _ = grant::revoke_all(&mut session).await;
    }
    let mut open = Vec::new();
    if let Some(api) = &context.api {
        open.extend(api.is_another().await);
    }
    match ended {
        // Once a turn has been judged, its result is worth keeping whatever happened afterwards.
        Err(error) if record.turns.is_empty() => {
            let _ = control::remove(&mut session).await;
            return Err(explained(error, &options).await);
        }
        Err(error) => open.push(explained(error, &options).await.to_string()),
        Ok(()) => {}
    }
    if let Some(place) = &via
        && let Err(error) = via::prove(&mut session, &options, place, &plan).await
    {
        open.push(format!("after the load, --via is not what it was before it: {error}"));
    }
    if let Ground::Own(sql) = &context.ground
        // Broken rows are kept: somebody will want to look at them.
        && record.turns.iter().all(|t| t.verdict != Verdict::Violated)
        && let Err(error) = own_schema::tear_down(&mut session, sql).await
    {
        open.push(error.to_string());
    }
    if !lease.lock().await.is_held().await {
        let lost = Error::inconclusive("the lease on the database was lost during the run: somebody else may have worked on it");
        open.push(explained(lost, &options).await.to_string());
    }
    let another = options.same.another().map(|error| error.to_string());
    // It is said first, and once.
    open.retain(|why| another.as_ref() != Some(why));
    open.splice(0..0, another);
    lease.lock().await.release().await;
    session.close().await;
    let twins = twins(&context);
    conclude(&mut record, &twins, open, accepts_uncontrolled);
    record.seconds = began.elapsed().as_secs_f64();
    Ok(record)
}

/// Why nothing can be said of what the user stopped.
pub(super) const INTERRUPTED: &str = "interrupted";

/// What can be told by arithmetic was typed wrongly: nothing is run that could show nothing.
fn refuse_without_contention(why: Option<(String, String)>) -> Result<()> {
    why.map_or(Ok(()), |(why, cure)| Err(Error::usage(format!("there is no contention: {why}")).cure(cure)))
}

/// Why something could not be found out: perhaps because another server answers now, which nobody has noticed yet.
async fn explained(error: Error, options: &ConnectOptions) -> Error {
    if error.kind() == Kind::Inconclusive
        && let Ok(session) = Session::connect(options, "check").await
    {
        session.close().await;
    }
    options.same.another().unwrap_or(error)
}

/// What puts the dataset that `plan` works on in place of whatever is there.
fn anew(plan: &Plan, options: &ConnectOptions) -> String {
    options.command(if plan.scheduling().is_some() { "seed --reset --dataset residency" } else { "seed --reset" })
}

/// The dataset that is there, if the workload can work on it.
fn ground_of(plan: &Plan, loaded: Loaded, options: &ConnectOptions) -> Result<Ground> {
    let is_residency = loaded.dataset == Scheduling::DATASET;
    match plan.scheduling() {
        Some(_) if is_residency => Ok(Ground::Residency(loaded.as_of)),
        Some(_) => Err(Error::usage(format!("{options} holds the dataset {}, in which nobody has a schedule", loaded.dataset))
            .cure(format!("{}, which removes it; or another database", anew(plan, options)))),
        None if is_residency => {
            Err(Error::usage(format!("{options} holds the dataset {}, in which there is nothing to book", loaded.dataset))
                .cure(format!("{}, which removes it; or another database", anew(plan, options))))
        }
        None => Ok(Ground::Clinic { as_of: loaded.as_of, clinics: Vec::new() }),
    }
}

/// What a run claims that did not pass.
const NOTHING: &str = "nothing: it did not pass";

/// A run that was over before it began, and why.
async fn over_before(mut record: RunRecord, why: String, began: Instant, lease: Arc<Mutex<Lease>>) -> RunRecord {
    record.reasons.push(why);
    record.seconds = began.elapsed().as_secs_f64();
    lease.lock().await.release().await;
    record
}

async fn phases(
    context: &Context<'_>,
    session: &mut Session,
    record: &mut RunRecord,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    controls(context, session, record, Moment::Before, show).await?;
    let turns: Vec<Option<Strategy>> = match &context.ground {
        Ground::Clinic { .. } | Ground::Residency(_) => context.plan.strategies().iter().copied().map(Some).collect(),
        Ground::Own(_) => vec![None],
    };
    for strategy in turns {
        let name = strategy.map_or(context.plan.scenario.as_str(), |s| s.name());
        let why = if context.is_interrupted() {
            Some(INTERRUPTED.to_owned())
        } else {
            // Its predecessor's rows would be found again, and be taken for its own.
            record.turns.last().filter(|t| t.verdict == Verdict::Violated).map(|t| {
                let anew = anew(context.plan, context.options);
                format!("{} left breaches in the dataset ({anew}, then run this one alone)", t.name)
            })
        };
        if let Some(why) = why {
            record.not_run.push(NotRun { name: name.to_owned(), why });
            continue;
        }
        show(Event::TurnBegins(name));
        let turn = turn::tested(context, session, strategy, |p| show(Event::Tick(name, p))).await?;
        show(Event::TurnEnded(&turn));
        let server_lost = turn.invariants.is_empty() && !context.invariants.is_empty();
        record.turns.push(turn);
        if server_lost {
            return Err(Error::inconclusive("the server was lost"));
        }
    }
    controls(context, session, record, Moment::After, show).await
}

/// The names of the twins that must be caught: one for each thing that a pass claims.
fn twins(context: &Context<'_>) -> Vec<String> {
    if context.plan.claims.is_empty() {
        return Vec::new();
    }
    match &context.ground {
        Ground::Clinic { .. } => control::twins(context.plan).iter().map(|twin| twin.name().to_owned()).collect(),
        Ground::Residency(_) => control::of_schedules(context.plan).map(|twin| twin.name().to_owned()).collect(),
        Ground::Own(sql) => match &sql.control {
            Some(scenario::Control::Twin(twin)) => vec![twin.name.clone()],
            Some(scenario::Control::Renounced) | None => Vec::new(),
        },
    }
}

async fn controls(
    context: &Context<'_>,
    session: &mut Session,
    record: &mut RunRecord,
    moment: Moment,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    if context.is_interrupted() || twins(context).is_empty() {
        return Ok(());
    }
    show(Event::Phase(match moment {
        Moment::Before => "controls before",
        Moment::After => "controls after",
    }));
    // One that was interrupted has shown nothing, neither that it can be caught nor that it cannot.
    let mut seen = |control: Option<Control>| {
        if let Some(control) = control {
            show(Event::Control(&control));
            record.controls.push(control);
        }
    };
    match &context.ground {
        Ground::Clinic { .. } => {
            for twin in control::twins(context.plan) {
                seen(control::run(context, session, twin, moment).await?);
            }
        }
        Ground::Residency(_) => {
            for strategy in control::of_schedules(context.plan) {
                seen(control::run_of_schedules(context, session, strategy, moment).await?);
            }
        }
        Ground::Own(sql) => {
            if let Some(scenario::Control::Twin(twin)) = &sql.control
                && let scenario::Workload::Sql(theirs) = &twin.workload
            {
                seen(control::run_own(context, session, twin, theirs, moment).await?);
            }
        }
    }
    Ok(())
}

/// The verdict on the whole run: the worst of its turns, and inconclusive at least if a control did not fire or something is missing.
fn conclude(record: &mut RunRecord, twins: &[String], open: Vec<String>, accepts_uncontrolled: bool) {
    let mut verdicts: Vec<Verdict> = record.turns.iter().map(|t| t.verdict).collect();
    let mut reasons: Vec<(Verdict, String)> = Vec::new();
    let several = record.plan.strategies().len() > 1;
    for turn in &record.turns {
        let prefix = if several { format!("{}: ", turn.name) } else { String::new() };
        // It is said once, below, that all of it was interrupted.
        let reasons_left = turn.reasons.iter().filter(|reason| !record.interrupted || *reason != INTERRUPTED);
        reasons.extend(reasons_left.map(|reason| (turn.verdict, format!("{prefix}{reason}"))));
    }
    // What has just failed needs no proof that it can: rules that were broken, or where none is claimed, figures that were missed.
    let has_failed = match record.plan.claims.is_empty() {
        true => verdicts.iter().any(|verdict| *verdict != Verdict::Pass),
        false => verdicts.contains(&Verdict::Violated),
    };
    let mut accepted = String::new();
    let mut inconclusive = |why: String| {
        verdicts.push(Verdict::Inconclusive);
        reasons.push((Verdict::Inconclusive, why));
    };
    // What an interruption kept from being done is not done for that reason alone.
    for moment in [Moment::Before, Moment::After].into_iter().filter(|_| !record.interrupted) {
        for twin in twins {
            let control = record.controls.iter().find(|c| c.moment == moment && c.name == *twin);
            let word = if moment == Moment::Before { "before" } else { "after" };
            match control {
                Some(control) if control.fired => {}
                Some(control) => {
                    let cure = match (&record.plan.workload, &record.plan.load) {
                        (_, Load::Open { .. }) => "raise --rate",
                        _ if record.server.api.is_some() => "raise --vus, or serve with --hold 1ms",
                        (Workload::Booking(_) | Workload::Scheduling(_), _) => "raise --vus, or add --hold 1ms",
                        (Workload::Sql(_) | Workload::Http(_), _) => "raise --vus, or let more of them want the same rows",
                    };
                    inconclusive(format!("the control {twin} {word} the run was not caught: {} ({cure})", control.detail));
                }
                None => inconclusive(format!("the control {twin} did not run {word} the run")),
            }
        }
    }
    // Whatever else it says of itself: what was made to fail and did not is no evidence of anything but that.
    if let Some(bug) = record.plan.bug()
        && !record.turns.iter().any(|turn| turn.verdict == Verdict::Violated)
    {
        inconclusive(format!(
            "the bug was not caught: {bug} was made on purpose, and nothing was found (run longer, or raise --vus)"
        ));
    }
    if let Some(why) = uncontrolled(&record.plan).filter(|_| !has_failed) {
        if accepts_uncontrolled {
            accepted = format!(" ({why}; accepted)");
        } else {
            // A flag of `run`; who runs a built-in scenario has its thresholds to name.
            let or = if !record.plan.keeps_ledger() { ", or accept that with --accept-uncontrolled" } else { "" };
            inconclusive(format!("{why}{or}"));
        }
    }
    let (unreached, others): (Vec<&NotRun>, Vec<&NotRun>) = record.not_run.iter().partition(|not_run| not_run.why == INTERRUPTED);
    for not_run in others {
        inconclusive(format!("{} was not run: {}", not_run.name, not_run.why));
    }
    if record.interrupted {
        let names: Vec<&str> = unreached.iter().map(|not_run| &*not_run.name).collect();
        let unreached = if names.is_empty() { String::new() } else { format!("; not run: {}", names.join(", ")) };
        inconclusive(format!("{INTERRUPTED}{unreached}"));
    }
    let known: Vec<&String> = record.turns.iter().flat_map(|turn| &turn.reasons).collect();
    open.into_iter().filter(|why| !known.contains(&why)).for_each(&mut inconclusive);
    record.verdict = Verdict::worst(verdicts);
    // Of a mistake made on purpose the plan says itself that nothing is claimed.
    if record.verdict == Verdict::Pass || record.plan.bug().is_some() {
        record.claim = record.plan.claim() + &accepted;
    }
    if let Some(bug) = record.plan.bug().filter(|_| record.verdict == Verdict::Violated) {
        reasons.insert(0, (Verdict::Violated, format!("a known mistake was made on purpose: {bug}")));
    }
    let missed = record.turns.iter().flat_map(|t| &t.thresholds).filter(|t| t.state == State::Missed);
    record.decision = Decision::of(record.verdict, missed.map(|t| t.excess));
    // What decided it comes first; a run that did not pass says nothing about what would have.
    reasons.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    record.reasons = reasons
        .into_iter()
        .filter(|(verdict, _)| record.verdict == Verdict::Pass || *verdict != Verdict::Pass)
        .map(|(_, r)| r)
        .collect();
}

/// Why a pass of this plan would be one that nothing shows able to fail.
fn uncontrolled(plan: &Plan) -> Option<String> {
    if plan.claims.is_empty() {
        // What only the generator can miss says nothing of the server.
        let of_server = plan.thresholds.iter().any(|threshold| !threshold.is_of_generator());
        let how = match plan.workload {
            Workload::Sql(_) | Workload::Http(_) => {
                "name rules (invariants = \"DIRECTORY\") or figures (--threshold 'aborted.rate<0.01')"
            }
            Workload::Booking(_) | Workload::Scheduling(_) => "name figures (--threshold 'aborted.rate<0.01')",
        };
        return (!of_server).then(|| format!("nothing was claimed: {how}"));
    }
    let control = match &plan.workload {
        Workload::Sql(sql) => &sql.control,
        Workload::Http(http) => &http.control,
        Workload::Booking(_) | Workload::Scheduling(_) => return None,
    };
    match control {
        Some(scenario::Control::Twin(_)) => None,
        // It may be the control of another, tried by itself.
        Some(scenario::Control::Renounced) => Some(
            "not proven able to fail: it says that it has no control ([control] none = true); \
             if it is one itself and should have broken the rules, raise --vus, run longer, or let more of them want the same rows"
                .into(),
        ),
        None => Some(
            "not proven able to fail: name a control, another scenario that breaks the rules ([control] file = \"FILE.toml\")"
                .into(),
        ),
    }
}

async fn server(session: &mut Session, options: &ConnectOptions) -> Result<Server> {
    let version = session.text("SHOW server_version").await?.unwrap_or_default();
    let rows = session
        .rows(
            // The level is the load's: our own sessions have asked for another.
            "SELECT name, CASE name WHEN 'default_transaction_isolation' THEN reset_val ELSE current_setting(name) END \
             FROM pg_settings WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes', \
             'shared_buffers', 'max_connections', 'max_wal_size', 'deadlock_timeout', 'default_transaction_isolation')",
        )
        .await?;
    let settings: BTreeMap<String, String> =
        rows.into_iter().filter_map(|row| Some((row.first()?.clone()?, row.get(1)?.clone()?))).collect();
    Ok(Server { address: options.to_string(), version, settings, via: None, api: None })
}

/// Whether the server has room for the connections of a plan, found out before anything is run for it.
///
/// # Errors
/// Usage, with the most that there may be; or when what the load goes through does not lead to the server.
pub async fn check_room(plan: &Plan, options: &ConnectOptions, via: Option<&Place>, command_name: &str) -> Result<()> {
    let mut session = Session::connect(options, command_name).await?;
    let between = match via {
        Some(place) => via::prove(&mut session, options, place, plan).await?.between,
        None => Between::Nothing,
    };
    let checked = check_connections(&mut session, plan, between).await;
    session.close().await;
    checked
}

/// How many connections there may be, and who says so.
struct Most {
    /// As the user knows it.
    name: String,
    most: i64,
    reserved: i64,
    taken: i64,
    /// What raises it to so many.
    raise: Box<dyn Fn(i64) -> String>,
}

impl Most {
    /// Those that are left for a load.
    fn left(&self) -> i64 {
        self.most - self.reserved - self.taken - OTHER_CONNECTIONS
    }
}

/// The limits of the server, of the database and of the role; superusers have the first alone.
async fn connection_limits(session: &mut Session) -> Result<Vec<Most>> {
    let others = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE {IS_CLIENT} AND pid <> pg_backend_pid() \
         AND NOT (datname = current_database() AND application_name LIKE 'dbstress/%')"
    );
    let rows = session
        .rows(&format!(
            "SELECT NULL, current_setting('max_connections'), current_setting('superuser_reserved_connections')::bigint \
               + coalesce(current_setting('reserved_connections', true)::bigint, 0), ({others}) \
             UNION ALL SELECT 'ROLE ' || quote_ident(rolname), rolconnlimit::text, 0, ({others} AND usesysid = r.oid) \
             FROM pg_roles r WHERE rolname = session_user AND rolconnlimit >= 0 AND NOT rolsuper \
             UNION ALL SELECT 'DATABASE ' || quote_ident(d.datname), datconnlimit::text, 0, ({others} AND datid = d.oid) \
             FROM pg_database d JOIN pg_roles ON rolname = session_user \
             WHERE d.datname = current_database() AND datconnlimit >= 0 AND NOT rolsuper"
        ))
        .await?;
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default();
    let limit = |row: TextRow| {
        let (name, raise): (_, Box<dyn Fn(i64) -> String>) = match row[0].clone() {
            None => (
                "max_connections".to_owned(),
                Box::new(|most| format!("ALTER SYSTEM SET max_connections = {most}, and restart the server")),
            ),
            Some(whose) => {
                (format!("CONNECTION LIMIT of {whose}"), Box::new(move |most| format!("ALTER {whose} CONNECTION LIMIT {most}")))
            }
        };
        Most { name, most: number(&row[1]), reserved: number(&row[2]), taken: number(&row[3]), raise }
    };
    Ok(rows.into_iter().map(limit).collect())
}

async fn check_connections(session: &mut Session, plan: &Plan, between: Between) -> Result<()> {
    // How many there are at once is the pooler's affair: whoever finds none free waits for one.
    let wanted = match between.shares_sessions() {
        true => 1,
        false => i64::from(plan.pool_size.unwrap_or(plan.load.vus())) * i64::from(twin::connections(plan.bug())),
    };
    let limits = connection_limits(session).await?;
    let Some(least) = limits.into_iter().min_by_key(Most::left).filter(|least| wanted > least.left()) else { return Ok(()) };
    let Most { name, most, reserved, taken, .. } = &least;
    let left = least.left();
    let raise = (least.raise)(wanted + reserved + taken + OTHER_CONNECTIONS);
    Err(Error::usage(format!(
        "{wanted} {}, and {} are left ({name} {most}, {reserved} reserved, {taken} taken by others, \
         {OTHER_CONNECTIONS} for dbstress itself)",
        match plan.pool_size {
            _ if between.shares_sessions() => "connection at least is wanted for the pooler",
            Some(_) => "connections are wanted for the pool",
            None => "virtual users need a connection each",
        },
        left.max(0)
    ))
    .cure(match plan.pool_size {
        _ if between.shares_sessions() || left < 2 => format!("close others, or {raise}"),
        size => {
            format!("--{} {} or fewer\nor {raise}", if size.is_some() { "pool-size" } else { "vus, or --pool-size," }, left)
        }
    }))
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

/// What the names of the runs of a day begin with: `20261121`.
fn day(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().chars().take(10).filter(char::is_ascii_digit).collect()
}
