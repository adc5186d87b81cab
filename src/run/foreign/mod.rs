//! One run against an API that anybody may have written: is everybody let in, do the rules hold that its author names, and could this have failed?
//!
//! [`asking`] makes the requests, [`identity`] says who, [`preflight`] whether they are let in, [`rules`] what the API itself says in the end. The
//! control works on the same rows as the tested: they are made anew between.

pub mod asking;
pub mod identity;
pub mod preflight;
pub mod rules;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch::{self, channel};

use self::asking::HttpWork;
use self::identity::Identities;
use super::control::{CAUGHT, blank, caught_own};
use super::drive::{Driven, Progress, Turn, drive};
use super::figures::Figures;
use super::live;
use super::session::Way;
use super::turn::{Leg, PATIENCE, Subject, record as turn_record};
use super::work::Work;
use super::{Event, INTERRUPTED, Judged, NOTHING, conclude, explained, identify, own_schema, with_checks_shown, with_grace};
use crate::audit::Audit;
use crate::history::OpId;
use crate::http::Address;
use crate::invariant::{self, Allowance, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, When, run_all};
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, IN_TRANSACTION, IS_CLIENT, Lease, Session};
use crate::plan::{CONTROL_LIMIT, Plan};
use crate::record::{Control, Live, Moment, NotRun, RunRecord, SCHEMA_VERSION, Server, TurnRecord};
use crate::scenario::{self, Credentials, Http, Sql};
use crate::token::Secret;
use crate::verdict::{Decision, Verdict};
use crate::{Error, Result};

/// How often tokens are looked at while the load runs.
const RENEWAL: Duration = Duration::from_secs(15);
/// How long is waited, after a load with unanswered requests, for others to end their transactions.
const REST: Duration = Duration::from_secs(10);

/// What such a run needs to know besides the plan.
pub struct Request {
    /// What to run: its workload is HTTP.
    pub plan: Plan,
    /// Where the API is.
    pub target: Address,
    /// The database behind it, where one is asked for.
    pub options: Option<ConnectOptions>,
    /// Subcommand, for `pg_stat_activity`.
    pub command_name: &'static str,
    /// The command that runs it again.
    pub command: String,
    /// The database that everything of the user's may be lost from, if one was named.
    pub disposable: Option<String>,
    /// Whether a run that nothing shows able to fail may pass all the same.
    pub accepts_uncontrolled: bool,
    /// What the password of the reference server's accounts follows from, if it is known here.
    pub secret: Option<Secret>,
    /// The state directory; the record goes to `runs/<id>/` in it.
    pub state: PathBuf,
    /// Turns true when the user wants to stop.
    pub interrupt: watch::Receiver<bool>,
}

/// The database behind the API.
struct Behind {
    options: ConnectOptions,
    session: Session,
    /// Taken where anything is made or removed.
    lease: Option<Lease>,
    sql: Option<Sql>,
    /// The rules of its dataset, if it is the reference server's and anything is written there.
    ours: Vec<Invariant>,
}

/// What is asked, where, and by whom: the tested, or its twin.
struct Side {
    plan: Plan,
    http: Http,
    address: Address,
    identities: Arc<Identities>,
}

/// What was found of a load.
struct Seen {
    judged: Judged,
    live: Live,
}

/// Whether anything is asked of a database.
pub fn needs_database(http: &Http) -> bool {
    let knows_accounts = |auth: &scenario::Auth| matches!(auth.how, Credentials::Reference(_));
    http.database.is_some() || http.auth.as_ref().is_some_and(knows_accounts)
}

/// Runs the plan.
///
/// # Errors
/// What kept it from beginning; what goes wrong later is in the record.
pub async fn run(request: Request, show: impl FnMut(Event<'_>)) -> Result<RunRecord> {
    let allowance = Allowance::of_flag(request.plan.evidence.check_timeout);
    with_checks_shown(allowance, show, async |allowance, show| begun(request, allowance, show).await).await
}

async fn begun(request: Request, allowance: Allowance, show: &mut dyn FnMut(Event<'_>)) -> Result<RunRecord> {
    let began = Instant::now();
    let Request { plan, target, options, command_name, command, disposable, accepts_uncontrolled, secret, state, interrupt } =
        request;
    let Some(http) = plan.http().cloned() else {
        return Err(Error::inconclusive("no API is asked: this is a bug in dbstress"));
    };
    let mut behind = match options.filter(|_| needs_database(&http)) {
        Some(options) => Some(Behind::open(options, &http, command_name, disposable.as_deref()).await?),
        None => None,
    };
    let wall_clock = SystemTime::now();
    let id = identify(wall_clock);
    let mut record = RunRecord {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        decision: Decision::Inconclusive,
        reasons: Vec::new(),
        claim: NOTHING.into(),
        id: id.clone(),
        dbstress: env!("CARGO_PKG_VERSION").into(),
        command,
        verify: String::new(),
        began: humantime::format_rfc3339_seconds(wall_clock).to_string(),
        seconds: 0.0,
        interrupted: false,
        server: Server { address: target.to_string(), ..Server::default() },
        dataset: None,
        before: Vec::new(),
        controls: Vec::new(),
        turns: Vec::new(),
        not_run: Vec::new(),
        plan: plan.clone(),
    };
    let identities =
        Identities::new(&http, plan.load.vus(), behind.as_mut().map(|behind| &mut behind.session), secret.as_ref()).await?;
    let tested = Side { plan, http, address: target, identities: Arc::new(identities) };
    let twin = match &tested.http.control {
        Some(scenario::Control::Twin(twin)) if !tested.plan.claims.is_empty() => {
            Some(tested.twin(twin, &mut behind, &secret).await?)
        }
        _ => None,
    };
    let directory = state.join("runs").join(&id);
    std::fs::create_dir_all(&directory).map_err(|e| {
        Error::usage(format!("the record cannot be written to {}", directory.display()))
            .because(e)
            .cure("make the state directory writable, or choose another with --state-dir")
    })?;
    show(Event::Phase("preflight"));
    make_anew(&tested, &mut behind).await?;
    let mut causes = preflight::look(&tested.plan, &tested.http, &tested.address, &tested.identities).await?;
    if let Some(twin) = &twin {
        let of_twin = preflight::look(&twin.plan, &twin.http, &twin.address, &twin.identities).await?;
        causes.extend(of_twin.into_iter().map(|cause| format!("the control {}: {cause}", twin.plan.scenario)));
        causes.dedup();
    }
    if !causes.is_empty() {
        record.reasons = causes;
        record.seconds = began.elapsed().as_secs_f64();
        close(behind).await;
        return Ok(record);
    }
    let mut run = Run { tested: &tested, twin: twin.as_ref(), behind, interrupt, allowance, number: number(wall_clock) };
    let mut open = Vec::new();
    match run.phases(&mut record, show).await {
        // Once the turn has been judged, its result is worth keeping whatever happened afterwards.
        Err(error) if record.turns.is_empty() => return Err(run.explained(error).await),
        Err(error) => open.push(run.explained(error).await.to_string()),
        Ok(()) => {}
    }
    open.splice(0..0, run.another_server().map(|error| error.to_string()));
    record.interrupted = run.is_interrupted();
    if record.turns.iter().all(|turn| turn.verdict != Verdict::Violated)
        && let Some(Behind { session, sql: Some(sql), .. }) = &mut run.behind
        // Broken rows are kept: somebody will want to look at them.
        && let Err(error) = own_schema::tear_down(session, sql).await
    {
        open.push(error.to_string());
    }
    close(run.behind).await;
    let twins: Vec<String> = twin.iter().map(|twin| twin.plan.scenario.clone()).collect();
    if record.turns.iter().any(|turn| turn.verdict == Verdict::Violated) {
        // What broke is kept for whoever looks at it; a control afterwards would have written over it.
        conclude(&mut record, &[], open, accepts_uncontrolled);
    } else {
        conclude(&mut record, &twins, open, accepts_uncontrolled);
    }
    record.seconds = began.elapsed().as_secs_f64();
    Ok(record)
}

async fn close(behind: Option<Behind>) {
    let Some(Behind { session, lease, .. }) = behind else { return };
    if let Some(mut lease) = lease {
        lease.release().await;
    }
    session.close().await;
}

/// A number for the operations of a run, where no database gives one.
fn number(now: SystemTime) -> i32 {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i32::try_from(seconds % OpId::MAX_RUN.unsigned_abs() as u64).unwrap_or_default() + 1
}

impl Behind {
    async fn open(options: ConnectOptions, http: &Http, command_name: &str, disposable: Option<&str>) -> Result<Self> {
        let mut session = Session::connect(&options, command_name).await?;
        let makes = http.database.as_ref().is_some_and(|sql| sql.setup.is_some() || sql.teardown.is_some());
        let lease = match makes {
            true => {
                let lease = Lease::take(&options, command_name).await?;
                admin::claim(&mut session, &options, disposable).await?;
                Some(lease)
            }
            false => None,
        };
        let mut ours = Vec::new();
        if http.database.is_none() && http.first_write().is_some() {
            let (_, loaded) = admin::require_loaded(&mut session, &options).await?;
            ours = invariant::built_in()?.into_iter().filter(|i| i.is_about(&loaded.dataset)).collect();
        }
        let mut sql = http.database.clone();
        if let Some(sql) = &mut sql {
            own_schema::find(sql, &options).await?;
        }
        Ok(Self { options, session, lease, sql, ours })
    }
}

impl Side {
    /// The control: asked where it says, or where the tested is.
    async fn twin(&self, twin: &scenario::Scenario, behind: &mut Option<Behind>, secret: &Option<Secret>) -> Result<Self> {
        let plan = Plan { load: self.plan.load.clone(), ..Plan::of(twin, BTreeMap::new()) };
        let Some(http) = plan.http().cloned() else {
            return Err(Error::usage("the control asks no API").cure("workload = \"http\" in its file"));
        };
        let own = |http: &Http| http.database.as_ref().is_some_and(|sql| sql.setup.is_some()) || !http.setup.calls.is_empty();
        if !own(&self.http) {
            return Err(Error::usage("the control breaks rows, and nothing makes them anew before the tested works on them")
                .cure("setup = \"schema.sql\", or setup = [{ path = \"/reset\", method = \"POST\" }] in [http]"));
        }
        if let Some((whose, call)) = http.first_write().filter(|_| self.http.read_only) {
            return Err(Error::usage(format!("the control: `{whose}` sends {}, and this is to be read only", call.method))
                .cure("leave the control out; what only reads breaks nothing"));
        }
        let address = match &http.target {
            Some(target) => Address::parse(target)?,
            None => self.address.clone(),
        };
        let is_claimed = |rule: &scenario::Rule| self.plan.claims.contains(&rule.name);
        if address != self.address && self.http.rules.iter().any(is_claimed) {
            return Err(Error::usage(format!(
                "the control {} asks {address}, and the rules are asked of {}: what it breaks would be looked for where it broke nothing",
                plan.scenario, self.address
            ))
            .cure("let it ask the same service the wrong way: another path, another header; and leave target out of its file"));
        }
        let session = behind.as_mut().map(|behind| &mut behind.session);
        let identities = Identities::new(&http, plan.load.vus(), session, secret.as_ref()).await?;
        Ok(Self { plan, http, address, identities: Arc::new(identities) })
    }
}

/// Makes the rows anew: by SQL, and by requests of the first account.
async fn make_anew(side: &Side, behind: &mut Option<Behind>) -> Result<()> {
    if let Some(Behind { session, sql: Some(sql), .. }) = behind {
        own_schema::set_up(session, sql, &sql.schema).await?;
    }
    let calls = &side.http.setup.calls;
    if calls.is_empty() {
        return Ok(());
    }
    let failed = |what: String| Error::usage(format!("the set-up failed: {what}")).cure("look at setup in [http]");
    if let Some((_, why)) = side.identities.renew(&side.http, &side.address).await?.into_iter().next() {
        return Err(failed(why));
    }
    let mut client = None;
    for call in calls {
        let answer = side.identities.ask(0, &side.http, &side.address, call, &mut client).await.map_err(failed)?;
        if !(200..300).contains(&answer.status) {
            return Err(failed(asking::said(call, &answer, &asking::seen(&answer))));
        }
    }
    Ok(())
}

struct Run<'r> {
    tested: &'r Side,
    twin: Option<&'r Side>,
    behind: Option<Behind>,
    interrupt: watch::Receiver<bool>,
    /// What the checks of the database's rules are given.
    allowance: Allowance,
    number: i32,
}

impl Run<'_> {
    fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    async fn phases(&mut self, record: &mut RunRecord, show: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.control(record, Moment::Before, show).await?;
        if self.twin.is_some() {
            make_anew(self.tested, &mut self.behind).await?;
        }
        let name = self.tested.plan.scenario.clone();
        let numbers = rules::numbers(&self.tested.http, &self.tested.address, &self.tested.identities).await;
        let brief = Allowance { over: self.interrupt.clone(), ..self.allowance.clone() };
        record.before = self.of_database(brief).await;
        record.before.extend(rules::before(&self.tested.http, &numbers));
        let broken = record.before.iter().find(|c| matches!(c.finding, Finding::Violated { .. } | Finding::Errored(_)));
        let why = match broken {
            _ if self.is_interrupted() => Some(INTERRUPTED.to_owned()),
            Some(broken) => Some(format!("{} did not hold, or could not be checked, before the run began", broken.label())),
            None => None,
        };
        if let Some(why) = why {
            record.not_run.push(NotRun { name, why });
            return Ok(());
        }
        show(Event::TurnBegins(&name));
        let turn = self.test(&numbers, &mut |progress| show(Event::Tick(&name, progress))).await?;
        show(Event::TurnEnded(&turn));
        let is_violated = turn.verdict == Verdict::Violated;
        record.turns.push(turn);
        if !is_violated {
            self.control(record, Moment::After, show).await?;
            if self.twin.is_some() {
                make_anew(self.tested, &mut self.behind).await?;
            }
        }
        Ok(())
    }

    /// That another server than the tested one answers behind the API, if one does.
    fn another_server(&self) -> Option<Error> {
        self.behind.as_ref()?.options.same.another()
    }

    /// As [`explained`], of the database behind the API.
    async fn explained(&self, error: Error) -> Error {
        match &self.behind {
            Some(Behind { options, .. }) => explained(error, options).await,
            None => error,
        }
    }

    /// The rules of the database, as they are now.
    async fn of_database(&mut self, allowance: Allowance) -> Vec<Checked> {
        if let Some(Behind { session, options, .. }) = &mut self.behind
            && session.integer("SELECT 1").await.is_err()
            && let Ok(again) = Session::connect(options, "rules").await
        {
            *session = again;
        }
        match &mut self.behind {
            Some(Behind { session, sql: Some(sql), .. }) if !sql.invariants.is_empty() => {
                run_all(session, &sql.invariants, &[&sql.schema], When::Quiesced, allowance).await
            }
            Some(Behind { session, sql: None, ours, .. }) if !ours.is_empty() => {
                run_all(session, ours, &DEFAULT_SEARCH_PATH, When::Quiesced, allowance).await
            }
            _ => Vec::new(),
        }
    }

    async fn test(&mut self, numbers: &[Result<f64, String>], watch: &mut impl FnMut(&Progress)) -> Result<TurnRecord> {
        let plan = &self.tested.plan;
        let leg = self.leg(self.tested, plan.load.clone(), false);
        let Seen { judged, live } = self.load(self.tested, &leg, numbers, watch).await?;
        Ok(turn_record(plan, None, &leg, judged, Default::default(), live))
    }

    fn leg(&self, side: &Side, load: crate::plan::Load, until_breach: bool) -> Leg {
        Leg { subject: Subject::Foreign, run: self.number, load, until_breach, label: side.plan.scenario.clone() }
    }

    /// Drives, waits until nothing is under way, and checks the claimed rules, of the tested.
    async fn load(
        &mut self,
        side: &Side,
        leg: &Leg,
        numbers: &[Result<f64, String>],
        mut watch: impl FnMut(&Progress),
    ) -> Result<Seen> {
        let plan = Plan { load: leg.load.clone(), ..side.plan.clone() };
        let work = Arc::new(HttpWork::new(&side.http, side.address.clone(), side.identities.clone(), leg.load.vus())?);
        let turn = Turn {
            plan: plan.clone(),
            load: leg.load.clone(),
            work: Arc::new(Work::Http(work.clone())),
            patience: PATIENCE,
            way: Way::Http(side.address.clone()),
            run: leg.run,
            until_breach: leg.until_breach,
            history: None,
            interrupt: self.interrupt.clone(),
            injector: None,
            began: channel(None).0,
        };
        let (stop, stopped) = channel(false);
        let renewing = renewing(side, stopped.clone());
        let live = match &self.behind {
            Some(Behind { options, sql: Some(sql), .. }) if sql.invariants.iter().any(|rule| rule.when == When::Always) => {
                let (options, sql) = (options.clone(), sql.clone());
                Some(tokio::spawn(async move {
                    live::watch(
                        &options,
                        &sql.invariants,
                        std::slice::from_ref(&sql.schema),
                        channel(Default::default()).0,
                        stopped,
                    )
                    .await
                }))
            }
            _ => None,
        };
        let driven = drive(turn, None, |progress, so_far| {
            watch(progress);
            let figures = Figures::new(&plan, so_far, progress.elapsed.saturating_sub(plan.warm_up).as_secs_f64());
            if leg.until_breach { None } else { figures.give_up() }
        })
        .await;
        stop.send_replace(true);
        renewing.abort();
        let live = match live {
            Some(live) => live.await.ok().and_then(Result::ok).unwrap_or_default(),
            None => Live::default(),
        };
        let driven = driven?;
        Ok(Seen { judged: self.judge(driven, &work, numbers).await, live })
    }

    async fn judge(&mut self, driven: Driven, work: &HttpWork, numbers: &[Result<f64, String>]) -> Judged {
        let Side { http, address, identities, .. } = self.tested;
        let mut restless = if work.has_unknowns() { self.rest().await } else { None };
        let after = match (http.rules.is_empty(), work.has_unknowns()) {
            (true, _) => Vec::new(),
            (false, false) => rules::numbers(http, address, identities).await,
            (false, true) => match rules::settled(http, address, identities).await {
                Ok(numbers) => numbers,
                Err(why) => {
                    restless.get_or_insert(why.clone());
                    http.rules.iter().map(|_| Err(why.clone())).collect()
                }
            },
        };
        let allowance = with_grace(&self.allowance, self.interrupt.clone(), self.tested.plan.graceful_stop);
        let mut invariants = self.of_database(allowance.clone()).await;
        invariants.extend(rules::judge(http, work, numbers, &after));
        let interrupted = driven.interrupted || allowance.is_over();
        Judged { driven, audit: Audit::default(), invariants, interrupted, restless, cleanup: None, counters: None }
    }

    /// Waits until nobody is in a transaction in the database behind the API any more: what was not answered may still be under way. Says why, if
    /// that does not come.
    async fn rest(&mut self) -> Option<String> {
        let Behind { session, .. } = self.behind.as_mut()?;
        let deadline = Instant::now() + REST;
        let busy = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND {IS_CLIENT} AND {IN_TRANSACTION}"
        );
        loop {
            match session.integer(&busy).await {
                Ok(0) => return None,
                Ok(n) if Instant::now() >= deadline => return Some(format!("{n} sessions are still in a transaction")),
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    /// Runs the twin until every claimed rule is broken, ten seconds at most, each time on rows made anew.
    async fn control(&mut self, record: &mut RunRecord, moment: Moment, show: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let Some(twin) = self.twin.filter(|_| !self.is_interrupted()) else { return Ok(()) };
        show(Event::Phase(if moment == Moment::Before { "control before" } else { "control after" }));
        let began = Instant::now();
        let mut control =
            Control { name: twin.plan.scenario.clone(), expected: "every claimed rule broken".into(), ..blank(moment) };
        let mut broken = BTreeMap::new();
        for slice in [1, 3, 6].map(Duration::from_secs) {
            if began.elapsed() > CONTROL_LIMIT || self.is_interrupted() {
                break;
            }
            make_anew(self.tested, &mut self.behind).await?;
            let numbers = rules::numbers(&self.tested.http, &self.tested.address, &self.tested.identities).await;
            let leg = self.leg(twin, twin.plan.load.cut(slice), true);
            let Seen { mut judged, live } = self.load(twin, &leg, &numbers, |_| {}).await?;
            if self.is_interrupted() {
                break;
            }
            control.iterations += judged.driven.recorder.counts().iterations() + judged.driven.recorder.counts().warm_up;
            if let Some(error) = judged.driven.failure.take() {
                return Err(Error::inconclusive(format!("the control {} could not be run", control.name)).because(error));
            }
            // What was broken and has healed was broken.
            if let Some((_, name)) = live.first_breach.filter(|(_, name)| self.tested.plan.claims.contains(name)) {
                broken.entry(name).or_insert(1);
            }
            judged.invariants.retain(|checked| self.tested.plan.claims.contains(&checked.name));
            control.detail = caught_own(&judged, &mut broken);
            control.fired = control.detail.starts_with(CAUGHT);
            if control.fired {
                break;
            }
        }
        control.seconds = began.elapsed().as_secs_f64();
        // One that was interrupted has shown nothing.
        if control.fired || !self.is_interrupted() {
            show(Event::Control(&control));
            record.controls.push(control);
        }
        Ok(())
    }
}

/// Renews tokens before they expire, until `stopped` turns true.
fn renewing(side: &Side, mut stopped: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    let (http, address, identities) = (side.http.clone(), side.address.clone(), side.identities.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            // Who cannot be renewed is turned away, which says why.
            let _ = identities.renew(&http, &address).await;
        }
    })
}
