//! What happens to a request between its arrival and its answer? Who asks, may they, have it done, say what became of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use axum::response::Response;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::audit::{Entry, Trail};
use super::authenticate::{Caller, Tokens};
use super::desk::{self, Ask, Desk, Done, Grant, Order, Reply};
use super::grant::{self, Grants};
use super::limits::{Limits, Standing, Who};
use super::login::Passwords;
use super::metrics::Metrics;
use super::mistakes::Mistake;
use super::problem::{Answer, Refused};
use super::route::{Class, Route};
use crate::contract::{ATTEMPTS, BEGAN, Booked, Code, FAILED, LOAD_TEST, LoggedIn, Login, MET, REPLAYED};
use crate::history::OperationKind;
use crate::outcome::Refusal;
use crate::seed::Dataset;
use crate::token::{self, Claims};

/// After its deadline no attempt begins; one that is under way is waited for so much longer.
const LAST_ATTEMPT: Duration = Duration::from_secs(10);

/// The most units that can be asked for at once: far more than there are anywhere, and few enough that sums of them are numbers.
const MOST_UNITS: i32 = 1_000_000;

/// What the threads of a server share.
pub(super) struct Shared {
    /// What it says of itself, as JSON.
    pub about: Vec<u8>,
    /// Its description, as JSON.
    pub description: Vec<u8>,
    pub dataset: Dataset,
    pub tokens: Tokens,
    pub token_lifetime: Duration,
    pub passwords: Passwords,
    pub limits: Limits,
    pub grants: Grants,
    pub metrics: Arc<Metrics>,
    pub retry_deadline: Duration,
    pub mistake: Option<Mistake>,
}

/// What a handler has.
#[derive(Clone)]
pub(super) struct Api {
    pub shared: Arc<Shared>,
    pub desk: Desk,
    /// `None`: no trail is kept.
    pub trail: Option<Trail>,
    /// While one of these is left, something is under way.
    #[expect(dead_code, reason = "it is waited for until all are gone")]
    pub alive: mpsc::Sender<()>,
}

/// One request.
pub(super) struct Turn {
    pub api: Api,
    route: Route,
    began: Instant,
    caller: Option<Arc<Caller>>,
    standing: Option<Standing>,
    grant: Option<Arc<Grant>>,
    said: grant::Said,
    is_load_test: bool,
    /// What it is done to, for the audit trail.
    pub resource: Option<i64>,
    /// The key it carries.
    pub key: Option<String>,
    reply: Option<Reply>,
}

impl Turn {
    /// It has arrived.
    pub fn new(api: Api, route: Route) -> Self {
        Self {
            api,
            route,
            began: Instant::now(),
            caller: None,
            standing: None,
            grant: None,
            said: grant::Said::default(),
            is_load_test: false,
            resource: None,
            key: None,
            reply: None,
        }
    }

    /// Who asks, whether they are let through, and whether they may.
    ///
    /// # Errors
    /// The first of these that says no.
    pub async fn admit(&mut self, headers: &HeaderMap) -> Result<Arc<Caller>, Refused> {
        let shared = self.api.shared.clone();
        let caller = shared.tokens.caller(headers, token::now())?;
        self.limit(caller.organisation.map_or(Who::Everywhere, Who::Organisation))?;
        self.caller = Some(caller.clone());
        if self.route.dataset().is_some_and(|dataset| dataset != shared.dataset) {
            return Err(Refused::plain(Code::DatasetNotHere));
        }
        let may = caller.role.is_some_and(|role| self.route.is_open_to(role));
        if !may && shared.mistake != Some(Mistake::RoleIgnored) {
            return Err(Refused::plain(Code::Role));
        }
        self.is_load_test = headers.get(LOAD_TEST).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        if let Some(secret) = grant::secret(headers)? {
            let grant = self.granted(secret).await?;
            self.said = grant::said(headers, &grant)?;
            self.grant = Some(grant);
        }
        Ok(caller)
    }

    /// Counts it among those of `who`.
    ///
    /// # Errors
    /// There were enough of them.
    pub fn limit(&mut self, who: Who) -> Result<(), Refused> {
        match self.api.shared.limits.take(self.route.class(), who) {
            Ok(standing) => {
                self.standing = standing;
                Ok(())
            }
            Err(standing) => {
                self.standing = Some(standing);
                Err(Refused::plain(Code::RateLimited))
            }
        }
    }

    async fn granted(&self, secret: &str) -> Result<Arc<Grant>, Refused> {
        if let Some(grant) = self.api.shared.grants.known(secret, self.began) {
            return Ok(grant);
        }
        let reply = self.order(Ask::Grant(token::digest(secret)), desk::Caller { organisation: None, actor: 0 }).await;
        match reply.done {
            Done::Granted(Some(grant)) => {
                self.api.shared.grants.keep(secret, &grant, self.began);
                Ok(grant)
            }
            Done::Granted(None) => Err(grant::unknown()),
            other => Err(self.undone(&other)),
        }
    }

    /// The actor, the programme or organisation and so on of the token, as the desk wants it.
    fn who(&self) -> desk::Caller {
        let caller = self.caller.as_ref();
        desk::Caller {
            organisation: caller.and_then(|caller| caller.organisation),
            actor: caller.and_then(|caller| caller.actor).unwrap_or(0),
        }
    }

    /// Has it done.
    ///
    /// # Errors
    /// Why it was not, or that nobody knows.
    pub async fn ask(&mut self, ask: Ask) -> Result<Done, Refused> {
        let reply = self.order(ask, self.who()).await;
        self.api.shared.metrics.tried_again(&reply.failed);
        let done = reply.done.clone();
        self.reply = Some(reply);
        match done {
            Done::Booked(_) | Done::Replayed(_) | Done::Changed | Done::Appointment(_) | Done::Seen(_) | Done::Account(_) => {
                Ok(done)
            }
            other => Err(self.undone(&other)),
        }
    }

    async fn order(&self, ask: Ask, who: desk::Caller) -> Reply {
        let deadline = self.began + self.api.shared.retry_deadline;
        let is_lookup = matches!(ask, Ask::Grant(_));
        let order = Order {
            ask,
            who,
            grant: self.grant.clone().filter(|_| !is_lookup),
            operation: self.said.operation.filter(|_| !is_lookup),
            deadline,
        };
        let asked = tokio::time::timeout_at((deadline + LAST_ATTEMPT).into(), self.api.desk.ask(order)).await;
        // What is under way goes on; nobody here will know how it ends.
        let given_up = |_| {
            let operation = self.said.operation.map(|(id, _)| id);
            Reply { done: Done::Unknown, attempts: 1, failed: Vec::new(), began: 0, met: false, operation }
        };
        let mut reply = asked.unwrap_or_else(given_up);
        if reply.done == Done::Unknown && (is_lookup || self.route.class() != Class::Write) {
            // Whoever only looks has done nothing, whatever became of it.
            reply.done = Done::Unavailable;
        }
        reply
    }

    /// What is said of what was not done.
    fn undone(&self, done: &Done) -> Refused {
        match done {
            Done::Refused(refusal) => Refused::plain(Code::from(*refusal)),
            Done::NotLive => Refused::plain(Code::NotLive),
            Done::InFlight => Refused::plain(Code::KeyInFlight),
            Done::Spent(abort) => {
                Refused::new(Code::RetriesSpent, format!("not done, however often it was tried: {}", abort.words()))
            }
            Done::Unavailable => Refused::plain(Code::Unavailable),
            Done::Unknown => Refused { key: self.key.clone(), ..Refused::plain(Code::UnknownOutcome) },
            // What was asked for comes with another answer.
            _ => Refused::plain(Code::Internal),
        }
    }

    /// Answers.
    pub async fn end(mut self, done: Result<Answer, Refused>) -> Response {
        let shared = self.api.shared.clone();
        let mut answer = done.unwrap_or_else(|refused| {
            let is_a_rule = refused.code.refusal().is_some() || refused.code == Code::NotLive;
            let mut answer = refused.answer();
            if is_a_rule && shared.mistake == Some(Mistake::ErrorAsSuccess) {
                answer.status = StatusCode::OK;
            }
            answer
        });
        if let Some(standing) = self.standing.filter(|_| shared.mistake != Some(Mistake::LimitWithoutHeaders)) {
            stand(&mut answer, standing);
        }
        if let Some(reply) = self.reply.as_ref().filter(|_| self.grant.is_some()) {
            tell(&mut answer.headers, reply);
        }
        let status = answer.status.as_u16();
        if let Some((trail, caller)) = self.api.trail.take().zip(self.caller.take()).filter(|_| self.route.class() == Class::Write)
        {
            trail.leave(self.entry(&caller, status)).await;
        }
        shared.metrics.answered(Some(self.route), status, self.began.elapsed());
        answer.response()
    }

    fn entry(&self, caller: &Caller, status: u16) -> Entry {
        Entry {
            at: SystemTime::now(),
            login: caller.login.clone(),
            organisation: caller.organisation,
            action: self.route.action(),
            resource: self.route.resource(),
            resource_id: self.resource,
            status,
            is_load_test: self.is_load_test,
            operation: self.reply.as_ref().and_then(|reply| reply.operation).or(self.said.operation.map(|(id, _)| id)),
        }
    }

    /// Books units.
    ///
    /// # Errors
    /// Why that was not done.
    pub async fn book(&mut self, kind: OperationKind, units: i32, authorisation: i64) -> Result<Answer, Refused> {
        if !(1..=MOST_UNITS).contains(&units) {
            return Err(Refused::new(Code::Invalid, format!("units are from 1 to {MOST_UNITS}")));
        }
        let key = self.key.clone().filter(|_| self.api.shared.mistake != Some(Mistake::ForgetsKey));
        let key = key.map(|key| (key, self.said.later));
        let (applied, is_replayed) = match self.ask(Ask::Book { kind, units, authorisation, key }).await? {
            Done::Booked(applied) => (applied, false),
            Done::Replayed(applied) => (applied, true),
            other => return Err(self.undone(&other)),
        };
        let status = if kind == OperationKind::Reserve { StatusCode::CREATED } else { StatusCode::OK };
        let answer = json(status, &Booked::new(authorisation, applied))?;
        Ok(if is_replayed { answer.with(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true")) } else { answer })
    }

    /// Lets somebody in.
    ///
    /// # Errors
    /// Not this one, or not so often.
    pub async fn login(&mut self, login: Login) -> Result<Answer, Refused> {
        let shared = self.api.shared.clone();
        self.limit(shared.limits.account(&login.login))?;
        let account = match login.login.contains('\0') {
            // No text of the database's has it.
            true => None,
            false => match self.ask(Ask::Account(login.login)).await? {
                Done::Account(account) => account,
                other => return Err(self.undone(&other)),
            },
        };
        if account.is_none() && shared.mistake == Some(Mistake::TellsAccountsApart) {
            return Err(Refused::plain(Code::InvalidCredentials));
        }
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        shared.metrics.compared.fetch_add(1, Relaxed);
        if !shared.passwords.is_right(login.password, hash).await {
            return Err(Refused::plain(Code::InvalidCredentials));
        }
        let Some(account) = account else { return Err(Refused::plain(Code::InvalidCredentials)) };
        let now = token::now();
        let lifetime = i64::try_from(shared.token_lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims {
            sub: account.login,
            role: account.role,
            org: account.organisation,
            actor: account.actor,
            iat: now,
            exp: now.saturating_add(lifetime),
        };
        let token = shared.tokens.key().sign(&claims).map_err(|_| Refused::plain(Code::Internal))?;
        json(StatusCode::OK, &LoggedIn { token, expires_at: claims.exp, role: claims.role, organisation: claims.org })
    }

    /// Whether who asks may do so for this programme.
    ///
    /// # Errors
    /// They belong to another one.
    pub fn of_programme(&self, programme: i64) -> Result<(), Refused> {
        let own = self.caller.as_ref().and_then(|caller| caller.organisation);
        let is_checked = self.api.shared.mistake != Some(Mistake::NoTenantCheck);
        match own.filter(|own| *own != programme && is_checked) {
            Some(_) => Err(Refused::plain(Code::from(Refusal::WrongOrganisation))),
            None => Ok(()),
        }
    }

    /// The practitioner, or person, that the token is of.
    pub fn actor(&self) -> Option<i64> {
        self.caller.as_ref()?.actor
    }
}

/// Goes on to its end, whoever asked: a change that is under way leaves its entry in the trail also when its client has gone.
pub(super) async fn whole(work: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(work).await {
        Ok(response) => response,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The server gives up what has not ended in time.
            Err(_) => Refused::plain(Code::UnknownOutcome).answer().response(),
        },
    }
}

/// As JSON.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Result<Answer, Refused> {
    serde_json::to_vec(body).map(|body| Answer::json(status, body)).map_err(|_| Refused::plain(Code::Internal))
}

fn stand(answer: &mut Answer, standing: Standing) {
    for (name, value) in
        [("ratelimit-limit", standing.limit), ("ratelimit-remaining", standing.remaining), ("ratelimit-reset", standing.reset)]
    {
        answer.headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        answer.headers.insert(RETRY_AFTER, HeaderValue::from(standing.reset));
    }
}

fn tell(headers: &mut HeaderMap, reply: &Reply) {
    headers.insert(HeaderName::from_static(ATTEMPTS), HeaderValue::from(reply.attempts));
    if reply.began != 0 {
        headers.insert(HeaderName::from_static(BEGAN), HeaderValue::from(reply.began));
    }
    if reply.met {
        headers.insert(HeaderName::from_static(MET), HeaderValue::from_static("true"));
    }
    let failed: Vec<String> = reply
        .failed
        .iter()
        .map(|((abort, routine), times)| {
            let routine = routine.as_ref().map_or(String::new(), |routine| format!("/{routine}"));
            format!("{}{routine}*{times}", abort.short())
        })
        .collect();
    if let Some(failed) = HeaderValue::from_str(&failed.join(",")).ok().filter(|failed| !failed.is_empty()) {
        headers.insert(HeaderName::from_static(FAILED), failed);
    }
}
