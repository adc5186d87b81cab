//! Is the reference server there, does it work on the same database, and would it let us do what is planned?

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::grievance::likely;
use super::stock::Clinic;
use crate::contract::{self, About, Limit, LoggedIn, Login, SERVICE};
use crate::fault::Reach;
use crate::http::{Address, Answer, Body, Client, Method, Request};
use crate::outcome::Abort;
use crate::pace::duration_text;
use crate::pg::ConnectOptions;
use crate::pg::admin::Session;
use crate::pg::load::Protocol;
use crate::plan::{Load, Plan, Workload};
use crate::record;
use crate::scenario::InFlight;
use crate::strategy::{Hazard, Strategy};
use crate::target::http::{Caller, Mint, Purse, Whom, abort_of, words};
use crate::token::Secret;
use crate::workload::keyed::Keys;
use crate::{Error, Result};

/// How long one answer is waited for before the load.
const PATIENCE: Duration = Duration::from_secs(15);
/// By how much longer an attempt is waited for than the server tries: its last attempt has to end, too.
const MARGIN: Duration = Duration::from_secs(2);
/// Programmes whose coordinators are tried.
const PROGRAMMES: u32 = 64;
/// What a server of one's own is tested with.
const OF_ONES_OWN: &str = "dbstress serve starts the reference server; an API of your own is asked as a scenario file says: \
                           dbstress scenarios show baseline > mine.toml, then dbstress run mine.toml";

/// Where the API is, and what its tokens are signed with.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// What it and we know.
    pub secret: Secret,
}

/// A server that was found to be the reference server, on the right database.
pub(super) struct Api {
    pub address: Address,
    pub about: About,
    pub mint: Mint,
    secret: Secret,
}

impl Api {
    /// Asks who is there, and proves that it works on the database of `session`.
    ///
    /// # Errors
    /// Usage: nobody is there, somebody else, or one who works elsewhere.
    pub async fn reach(target: &Target, session: &mut Session, options: &ConnectOptions, dataset: &str) -> Result<Self> {
        let Target { address, secret } = target.clone();
        let answer = get(&address, "/v1/about", None).await.map_err(|error| {
            Error::inconclusive(format!("no API can be asked at {address}")).because(error).cure(match address.is_tls() {
                true => "dbstress serve speaks no TLS: --target http://…",
                false => "dbstress serve --listen ADDRESS:PORT starts one; or correct --target",
            })
        })?;
        let about: Option<About> = read(&answer, 200);
        let about = about.filter(|about| about.service == SERVICE).ok_or_else(|| {
            Error::usage(format!(
                "what is at {address} is not the reference server of dbstress: GET /v1/about was answered {}",
                words(&answer)
            ))
            .cure(OF_ONES_OWN)
        })?;
        let ours = session
            .rows(
                "SELECT system_identifier::text, (SELECT oid::bigint::text FROM pg_database WHERE datname = current_database()) \
                 FROM pg_control_system()",
            )
            .await?;
        let theirs = [Some(about.database.system_identifier.clone()), Some(about.database.oid.to_string())];
        if ours.first().map(Vec::as_slice) != Some(&theirs[..]) {
            return Err(Error::usage(format!(
                "{address} works on another database than {options}: what it does would be looked for where it is not"
            ))
            .cure("start it and the test with the same DATABASE_URL, or --state-dir; or correct --target"));
        }
        if about.dataset != dataset {
            return Err(Error::usage(format!(
                "{address} was started when {options} held the dataset {}, and now it holds {dataset}",
                about.dataset
            ))
            .cure("restart it"));
        }
        let lifetime = i64::try_from(about.token_lifetime_s).unwrap_or(i64::MAX).clamp(1, 24 * 3600);
        Ok(Self { mint: Mint::new(secret.key(), lifetime), address, about, secret })
    }

    /// What is wrong if it is not the same server that it was before the load: its sessions would have been looked for under another name.
    pub async fn is_another(&self) -> Option<String> {
        let now: Option<About> = match get(&self.address, "/v1/about", None).await {
            Ok(answer) => read(&answer, 200),
            Err(error) => return Some(format!("after the load the server could not be asked who it is: {error}")),
        };
        (now.as_ref() != Some(&self.about)).then(|| {
            format!(
                "{} was restarted during the run, or is another: which sessions its work was done in is not known",
                self.address
            )
        })
    }

    /// The plan with everything that the server decides.
    ///
    /// # Errors
    /// Usage, when the server cannot be asked for this.
    pub fn plan(&self, mut plan: Plan) -> Result<Plan> {
        let Self { about, address, .. } = self;
        let theirs = self.retry_deadline();
        if plan.retry.deadline <= theirs {
            let (ours, server) = (duration_text(plan.retry.deadline), duration_text(theirs));
            return Err(Error::usage(format!(
                "who asks gives up after {ours}, and the server tries for up to {server}: what became of it would not be heard"
            ))
            .cure(format!("--retry-deadline {}, or serve it with a shorter one", duration_text(theirs * 2 + MARGIN))));
        }
        let strategy = |hazard: Hazard| -> Result<Strategy> {
            let strategy = Strategy::from_name(&about.strategy);
            let why = strategy.map_or(Some("which this dbstress does not know"), |strategy| strategy.inexpressible(hazard));
            match (strategy, why) {
                (Some(strategy), None) => Ok(strategy),
                (_, why) => Err(Error::usage(format!(
                    "{address} works under the strategy {}, {}",
                    about.strategy,
                    why.unwrap_or("which this dbstress does not know")
                ))
                .cure("serve it with another --strategy")),
            }
        };
        match &mut plan.workload {
            Workload::Booking(booking) => {
                booking.strategies = vec![strategy(Hazard::LostUpdate)?];
                booking.hold = Duration::ZERO;
                if let Some(keys) = &mut booking.keys {
                    let in_flight = [InFlight::Refuse, InFlight::Wait].into_iter().find(|way| way.word() == about.in_flight);
                    let in_flight = in_flight.ok_or_else(|| {
                        Error::usage(format!(
                            "{address} says `{}` to a key in flight, which this dbstress does not know",
                            about.in_flight
                        ))
                        .cure("let both be of the same version")
                    })?;
                    *keys = Keys { in_flight, lifetime: Duration::from_secs(about.key_lifetime_s), cleanup: keys.cleanup };
                }
            }
            Workload::Scheduling(scheduling) => {
                scheduling.strategies = vec![strategy(scheduling.hazard())?];
                scheduling.hold = Duration::ZERO;
            }
            Workload::Sql(_) | Workload::Http(_) => return Err(no_statements()),
        }
        Ok(plan)
    }

    /// Asks with the secret of a grant.
    pub fn caller(&self, grant: &str) -> Option<Caller> {
        Caller::new(&self.address, grant, self.mint.clone())
    }

    /// Why the plan cannot contend there, and what would cure it, if it cannot.
    pub fn cannot_contend(&self, plan: &Plan) -> Option<(String, String)> {
        (self.about.pool_size < 2 && !plan.claims.is_empty())
            .then(|| ("the server has one session for all".to_owned(), "serve it with --pool-size 20".to_owned()))
    }

    /// How long an attempt is waited for at least: the server must have given up before.
    pub fn patience(&self) -> Duration {
        self.retry_deadline() + MARGIN
    }

    fn retry_deadline(&self) -> Duration {
        Duration::from_millis(self.about.retry_deadline_ms)
    }

    /// For the record.
    pub fn record(&self) -> record::Api {
        record::Api {
            address: self.address.to_string(),
            version: self.about.version.clone(),
            strategy: self.about.strategy.clone(),
            pool_size: self.about.pool_size,
            sessions: self.about.sessions.clone(),
            limits: self.about.limits.clone(),
        }
    }

    /// Asks as everybody whom the load would ask as, and compares the limits with what is planned.
    ///
    /// # Errors
    /// Inconclusive, with everything that is in the way and the likely cause of each.
    pub async fn preflight(&self, session: &mut Session, plan: &Plan, clinics: &[Clinic]) -> Result<()> {
        let (path, whom) = match plan.scheduling() {
            Some(_) => ("/v1/assignments?limit=1", coordinators(session).await?),
            None => {
                let first = |clinic: &Clinic| clinic.actors.first().copied().map(Whom::Practitioner);
                ("/v1/authorisations?limit=1", clinics.iter().filter_map(first).collect())
            }
        };
        let mut wrong: Vec<(String, String)> = Vec::new();
        let mut note = |whom: &Whom, doing: &str, answer: &Answer| {
            let said = words(answer);
            let cause = likely(abort_of(answer.status), &said).to_owned();
            // One cause is told once, of whomever it was met first.
            if !wrong.iter().any(|(_, known)| *known == cause) {
                wrong.push((format!("{} {doing}: {said}", whom.login()), cause));
            }
        };
        let mut purse = Purse::default();
        for whom in &whom {
            let Some(bearer) = self.mint.bearer(&mut purse, whom) else { continue };
            let answer = get(&self.address, path, Some(&bearer)).await?;
            if answer.status != 200 {
                note(whom, "looks", &answer);
            }
        }
        if let Some(whom) = whom.first() {
            let answer = self.login(whom).await?;
            // Nobody of the load logs in: that others have done so too often is no obstacle.
            if read::<LoggedIn>(&answer, 200).is_none() && answer.status != 429 {
                note(whom, "logs in", &answer);
            }
        }
        let tiers = match self.about.limits.iter().any(|limit| limit.tier.is_some()) && plan.scheduling().is_none() {
            true => {
                session.rows("SELECT DISTINCT tier FROM dbstress.organisation").await?.into_iter().flatten().flatten().collect()
            }
            false => Vec::new(),
        };
        if let Some(why) = too_low(&self.about.limits, &tiers, plan, whom.len()) {
            wrong.push((why, likely(Abort::RateLimited, "").to_owned()));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let (said, causes): (Vec<String>, Vec<String>) = wrong.into_iter().unzip();
        Err(Error::inconclusive(format!("{} would not do what is planned: {}", self.address, said.join("; ")))
            .cure(causes.join("\n")))
    }

    async fn login(&self, whom: &Whom) -> Result<Answer> {
        let login = Login { login: whom.login(), password: self.secret.password() };
        let body = serde_json::to_vec(&login).map_err(|why| Error::inconclusive("a login cannot be written").because(why))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address.path("/v1/login"))
            .header("host", self.address.authority())
            .header("content-type", "application/json")
            .header(contract::LOAD_TEST, "true")
            .body(Body::from(body));
        send(&self.address, request).await
    }
}

/// Statements are not what a server is asked for.
pub(super) fn no_statements() -> Error {
    Error::usage("statements of your own are not what the reference server can be asked for")
        .cure("leave out --target; an API of your own: workload = \"http\" in the scenario's file")
}

/// Those who make the schedules of the seeded programmes.
async fn coordinators(session: &mut Session) -> Result<Vec<Whom>> {
    let rows = session
        .rows(&format!("SELECT id::text FROM dbstress.programme WHERE run_id IS NULL ORDER BY id LIMIT {PROGRAMMES}"))
        .await?;
    Ok(rows.iter().filter_map(|row| Some(Whom::Coordinator(row.first()?.as_deref()?.parse().ok()?))).collect())
}

/// Refuses what a file may say, and a server decides all the same.
///
/// # Errors
/// Usage, with what is to be left out.
pub(super) fn refuse_what_it_decides(plan: &Plan) -> Result<()> {
    let decided = |what: &str, cure: &str| {
        Err(Error::usage(format!("{what}, and over HTTP the server decides that")).cure(format!("{cure}; or leave out --target")))
    };
    if plan.pool_size.is_some() {
        return decided(
            "the scenario has a pool of connections to the database",
            "leave out pool_size, and serve with --pool-size",
        );
    }
    if plan.protocol != Protocol::Prepared {
        return decided("the scenario says how statements are sent", "leave out protocol");
    }
    if plan.bug().is_some() {
        return decided("the scenario makes a known mistake", "leave it out, and serve with --bug");
    }
    if let Some(fault) = plan.faults.iter().find(|planned| planned.fault.reach() == Reach::Wire) {
        return Err(Error::usage(format!("{fault} breaks the wire to the database, and over HTTP that is the server's"))
            .cure("terminate and cancel strike the sessions of the server; or leave out --target"));
    }
    Ok(())
}

/// Why a limit that the server declares is too low for what is certainly asked; `None` if nothing is known. `tiers` are those of the
/// organisations that are asked as, of which there are so many.
fn too_low(limits: &[Limit], tiers: &[String], plan: &Plan, organisations: usize) -> Option<String> {
    let (vus, organisations) = (f64::from(plan.load.vus()), organisations.max(1) as f64);
    limits.iter().filter(|limit| limit.route == "all" || limit.route == "write").find_map(|limit| {
        if limit.tier.as_ref().is_some_and(|tier| !tiers.contains(tier)) {
            return None;
        }
        let window = Duration::from_secs(limit.window_s);
        let certain = match &plan.load {
            // All of a round ask of one organisation.
            Load::Rounds { .. } => vus,
            Load::Closed { iterations, .. } => iterations.map_or(vus, |n| n as f64) / organisations,
            Load::Open { rate, .. } => rate.integral(rate.duration().min(window)) / organisations,
        };
        let tier = limit.tier.as_ref().map_or(String::new(), |tier| format!(" of tier {tier}"));
        (certain > limit.requests as f64).then(|| {
            format!(
                "it declares {} requests in {} s for each organisation{tier} ({}), and at least {certain:.0} are planned",
                limit.requests, limit.window_s, limit.route
            )
        })
    })
}

async fn get(address: &Address, path: &str, bearer: Option<&crate::http::HeaderValue>) -> Result<Answer> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(address.path(path))
        .header("host", address.authority())
        .header(contract::LOAD_TEST, "true");
    if let Some(bearer) = bearer {
        request = request.header("authorization", bearer);
    }
    send(address, request.body(Body::default())).await
}

async fn send<E: std::error::Error + Send + Sync + 'static>(
    address: &Address,
    request: Result<Request<Body>, E>,
) -> Result<Answer> {
    let unanswered = || Error::inconclusive(format!("{address} does not answer"));
    let request = request.map_err(|why| unanswered().because(why))?;
    let asking = async { Client::connect(address).await?.send(request).await };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(unanswered().because(why)),
        Err(_) => Err(Error::inconclusive(format!("{address} does not answer within {} s", PATIENCE.as_secs()))),
    }
}

fn read<T: DeserializeOwned>(answer: &Answer, status: u16) -> Option<T> {
    if answer.status == status { serde_json::from_slice(&answer.body).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::{Arrival, Ramp};
    use crate::plan::{FOREVER, Limit as Until};
    use crate::scenario::Scenario;

    fn limit(route: &str, tier: Option<&str>, requests: u64, window_s: u64) -> Limit {
        Limit { route: route.into(), tier: tier.map(str::to_owned), per: "organisation".into(), requests, window_s }
    }

    #[test]
    fn a_limit_is_too_low_where_what_is_certainly_asked_is_more() {
        let mut plan = Plan::of(&Scenario::built_in("contention").unwrap(), Default::default());
        plan.load = Load::Rounds { vus: 50, limit: Until::Rounds(10) };
        let is_low = |plan: &Plan, limit: Limit| too_low(&[limit], &["TRIAL".to_owned()], plan, 4).is_some();
        assert!(is_low(&plan, limit("all", None, 49, 60)) && !is_low(&plan, limit("all", None, 50, 60)));
        assert!(!is_low(&plan, limit("login", None, 5, 60)) && !is_low(&plan, limit("read", None, 5, 60)));
        assert!(is_low(&plan, limit("write", Some("TRIAL"), 5, 60)) && !is_low(&plan, limit("write", Some("BASIC"), 5, 60)));
        let rate = Ramp::constant(100.0, Duration::from_secs(60));
        plan.load = Load::Open { rate, arrival: Arrival::Even, iterations: None, vus: 10, backlog: 0 };
        assert!(is_low(&plan, limit("all", None, 1_499, 900)) && !is_low(&plan, limit("all", None, 1_500, 900)));
        assert!(!is_low(&plan, limit("all", None, 250, 10)), "of each window 1,000 ask of four");
        plan.load = Load::Closed { vus: Ramp::constant(10.0, FOREVER), iterations: Some(4_000), think: Default::default() };
        assert!(is_low(&plan, limit("all", None, 999, 60)));
    }

    #[test]
    fn what_the_server_decides_cannot_be_decided_here() {
        let refused = |change: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::of(&Scenario::built_in("contention").unwrap(), Default::default());
            change(&mut plan);
            refuse_what_it_decides(&plan).err().map(|error| error.to_string())
        };
        assert_eq!(refused(&|_| {}), None);
        assert!(refused(&|plan| plan.pool_size = Some(5)).unwrap().contains("pool"));
        assert!(refused(&|plan| plan.protocol = Protocol::Simple).unwrap().contains("statements"));
        assert!(refused(&|plan| plan.faults = vec!["reset@1s".parse().unwrap()]).unwrap().contains("reset@1s"));
        assert_eq!(refused(&|plan| plan.faults = vec!["terminate@1s".parse().unwrap()]), None);
    }
}
