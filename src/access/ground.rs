//! Where are the drills done? At a server of our own for each, or at the one that somebody has started; and in a database that is afterwards as it was.

use std::time::Duration;

use serde_json::Value;

use super::call::{Ask, Book, Caller};
use super::judge::{Pace, Seen};
use super::mistake::Mistake;
use super::window;
use crate::api::limits::{Rule, Tier};
use crate::contract::{About, Code, Limit, SERVICE};
use crate::http::Address;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease};
use crate::token::{Claims, Key, Secret, now};
use crate::{Error, Result, api};

/// What the numbers of our own authorisations begin with.
const NUMBER: &str = "ACCESS-";
/// Units of each of them: more than any drill uses.
const UNITS: i32 = 1_000_000;
/// The dataset that the drills are about.
const DATASET: &str = "clinic";
/// Sessions of a server of our own.
const SESSIONS: u32 = 8;
/// How long tokens are good that are not about their end.
const LIFETIME_S: i64 = 6 * 3600;

/// How much is asked, and how strictly times are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    /// The limits that servers of our own get, tier by tier from the lowest; the last one counts for all that follow.
    pub requests: Vec<u64>,
    /// How long a load goes on.
    pub duration: Duration,
    /// Connections of a load.
    pub connections: usize,
    /// Pairs of logins that are compared.
    pub pairs: usize,
    /// How long the end of a window is waited for.
    pub patience: Duration,
    /// By how many times the response time of the others may grow beside one who floods.
    pub tolerance: f64,
    /// How strictly times are judged.
    pub pace: Pace,
}

impl Extent {
    /// As much as shows whether a mistake is found.
    pub fn control(&self) -> Self {
        Self {
            requests: vec![30],
            duration: Duration::from_millis(500),
            connections: self.connections.min(4),
            pairs: self.pairs.min(12),
            pace: Pace { is_judged: false, ..self.pace },
            ..self.clone()
        }
    }
}

/// An API that somebody has started.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    about: About,
}

/// An organisation, and what of it the drills work with.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: i64,
    /// What it has paid for.
    pub tier: String,
    /// One of its practitioners.
    pub practitioner: i64,
    /// An authorisation of our own in it.
    pub authorisation: i64,
}

impl Tenant {
    /// Who may book for it: one of its practitioners.
    pub fn practitioner(&self) -> Claims {
        let login = format!("practitioner-{}@org-{}.example.com", self.practitioner, self.id);
        claims(login, "practitioner", Some(self.id), Some(self.practitioner))
    }

    /// Who may look.
    pub fn viewer(&self) -> Claims {
        claims(format!("viewer@org-{}.example.com", self.id), "viewer", Some(self.id), None)
    }

    /// Who may do everything in it.
    pub fn admin(&self) -> Claims {
        claims(format!("admin@org-{}.example.com", self.id), "admin", Some(self.id), None)
    }

    /// `GET` of its own authorisation.
    pub fn look(&self) -> Ask {
        Ask::get(format!("/v1/authorisations/{}", self.authorisation))
    }
}

/// Who may do everything everywhere.
pub fn everywhere() -> Claims {
    claims("admin@example.com".into(), "admin", None, None)
}

fn claims(sub: String, role: &str, org: Option<i64>, actor: Option<i64>) -> Claims {
    Claims { sub, role: role.into(), org, actor, iat: now(), exp: now() + LIFETIME_S }
}

/// A database that is held for us alone, and its tenants.
pub struct Ground {
    /// Asks from outside.
    pub admin: admin::Session,
    /// How to reach the database.
    pub options: ConnectOptions,
    /// In the order of their ids; two at least.
    pub tenants: Vec<Tenant>,
    /// Object id of the database.
    pub oid: i64,
    lease: Lease,
    secret: Secret,
    target: Option<Target>,
}

impl Ground {
    /// Takes a seeded clinic, and puts an authorisation for each organisation into it.
    ///
    /// # Errors
    /// Usage, when another dataset is there or none, or a target that is no server of ours, not at work on this database, or has another secret; inconclusive, when somebody
    /// else is at work.
    pub async fn take(options: &ConnectOptions, command: &str, target: Option<Address>, secret: Secret) -> Result<Self> {
        let mut admin = admin::Session::connect(options, "access").await?;
        let (_, loaded) = admin::require_loaded(&mut admin, options).await?;
        if loaded.dataset != DATASET {
            return Err(Error::usage(format!(
                "the dataset in {options} is the {}, and these drills are about the {DATASET}",
                loaded.dataset
            ))
            .cure(format!("{}, which removes it; or another database", options.command("seed --reset"))));
        }
        let lease = Lease::take(options, command).await?;
        let target = match target {
            Some(address) => Some(find(address, &mut admin, options, &secret.key()).await?),
            None => None,
        };
        let oid = admin.integer("SELECT oid::bigint FROM pg_database WHERE datname = current_database()").await?;
        let mut ground = Self { admin, options: options.clone(), tenants: Vec::new(), oid, lease, secret, target };
        // Of one that was killed.
        ground.clear().await?;
        ground.tenants = ground.settle().await?;
        if ground.tenants.len() < 2 {
            ground.clear().await?;
            return Err(Error::usage("there are fewer than two organisations with patients and practitioners")
                .cure(options.command("seed --reset")));
        }
        Ok(ground)
    }

    /// One authorisation for each organisation.
    async fn settle(&mut self) -> Result<Vec<Tenant>> {
        let rows = self
            .admin
            .rows(&format!(
                "WITH made AS ( \
                   INSERT INTO dbstress.authorisation (id, organisation_id, patient_id, service_code_id, number, total, start_date, end_date) \
                   SELECT (SELECT max(id) FROM dbstress.authorisation) + row_number() OVER (ORDER BY o.id), o.id, min(p.id), \
                     (SELECT min(id) FROM dbstress.service_code WHERE organisation_id IS NULL), '{NUMBER}' || o.id, {UNITS}, \
                     (SELECT as_of::date - 30 FROM dbstress.meta), (SELECT as_of::date + 3650 FROM dbstress.meta) \
                   FROM dbstress.organisation o JOIN dbstress.patient p ON p.organisation_id = o.id \
                   WHERE EXISTS (SELECT FROM dbstress.practitioner r WHERE r.organisation_id = o.id) \
                   GROUP BY o.id ORDER BY o.id LIMIT 64 RETURNING id, organisation_id) \
                 SELECT o.id, o.tier, (SELECT min(id) FROM dbstress.practitioner r WHERE r.organisation_id = o.id), made.id \
                 FROM made JOIN dbstress.organisation o ON o.id = made.organisation_id ORDER BY o.id"
            ))
            .await?;
        let tenant = |row: &admin::TextRow| {
            let id = |i: usize| row.get(i)?.as_deref()?.parse::<i64>().ok();
            Some(Tenant { id: id(0)?, tier: row.get(1)?.clone()?, practitioner: id(2)?, authorisation: id(3)? })
        };
        Ok(rows.iter().filter_map(tenant).collect())
    }

    /// Takes away what a drill did to our own authorisations.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sweep(&mut self) -> Result<()> {
        // Their rows are locked first: whoever was given up in the middle of a change has then ended, and its lines are seen.
        let ours = format!("(SELECT id FROM dbstress.authorisation WHERE number LIKE '{NUMBER}%')");
        let appointments = format!("(SELECT id FROM dbstress.appointment WHERE authorisation_id IN {ours})");
        self.admin
            .execute(&format!(
                "BEGIN; \
                 SELECT id FROM dbstress.authorisation WHERE number LIKE '{NUMBER}%' FOR UPDATE; \
                 DELETE FROM dbstress.audit_entry WHERE resource = 'authorisation' AND resource_id IN {ours} \
                   OR resource = 'appointment' AND resource_id IN {appointments} \
                   OR op_id IN (SELECT op_id FROM dbstress.unit_ledger WHERE authorisation_id IN {ours}); \
                 DELETE FROM dbstress.treatment_session WHERE appointment_id IN {appointments}; \
                 DELETE FROM dbstress.appointment WHERE authorisation_id IN {ours}; \
                 DELETE FROM dbstress.idempotency_key WHERE authorisation_id IN {ours}; \
                 DELETE FROM dbstress.unit_ledger WHERE authorisation_id IN {ours}; \
                 UPDATE dbstress.authorisation SET used = 0, scheduled = 0, status = 'ACTIVE', version = 0 \
                   WHERE number LIKE '{NUMBER}%' AND version <> 0; \
                 COMMIT"
            ))
            .await?;
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        self.sweep().await?;
        self.admin.execute(&format!("DELETE FROM dbstress.authorisation WHERE number LIKE '{NUMBER}%'")).await?;
        Ok(())
    }

    /// Takes everything away that was put there, and gives the database back.
    ///
    /// # Errors
    /// When it could not be taken away, or somebody else may have been at work here meanwhile.
    pub async fn leave(mut self) -> Result<()> {
        // Whoever was interrupted may have left the old one in the middle of a question.
        self.admin = admin::Session::connect(&self.options, "access").await?;
        super::policies::clear(&mut self.admin, self.oid).await?;
        self.clear().await?;
        let is_held = self.lease.is_held().await;
        self.lease.release().await;
        self.admin.close().await;
        if is_held {
            Ok(())
        } else {
            Err(Error::inconclusive("the lease on the database was lost: somebody else may have worked on it"))
        }
    }

    /// Where the database is; never a password.
    pub fn address(&self) -> String {
        self.options.to_string()
    }

    /// The API that somebody has started, if it is about that.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The server that a drill is about: the target, if there is one and no mistake is to be made; otherwise one of our own, with such `limits`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn examined(&self, limits: Vec<Limit>, mistake: Option<Mistake>) -> Result<Examined> {
        let key = self.secret.key();
        let password = self.secret.password();
        let book = Book::new(vec![password.clone()]);
        if let (Some(target), None) = (&self.target, mistake) {
            let (address, about) = (target.address.clone(), target.about.clone());
            return Ok(Examined { address, about, key, password, book, server: None });
        }
        let server = self.start(&limits, mistake).await?;
        let address = server.address();
        let about = ask_about(&address).await?;
        Ok(Examined { address, about, key, password, book, server: Some(server) })
    }

    async fn start(&self, limits: &[Limit], mistake: Option<Mistake>) -> Result<api::Server> {
        let mistake = match mistake.filter(|mistake| mistake.is_of_the_server()) {
            Some(mistake) => Some(mistake.name().parse::<api::Mistake>()?),
            None => None,
        };
        let limits: Result<Vec<Rule>> = limits
            .iter()
            .map(|limit| {
                let rule: Rule = format!("{}={}/{}s", limit.route, limit.requests, limit.window_s).parse()?;
                Ok(Rule { tier: limit.tier.as_deref().map(Tier::named), ..rule })
            })
            .collect();
        // Two threads, so that what they must share is not one's own.
        let usual = api::Settings::new(self.options.clone(), self.secret.clone());
        let command = "dbstress, a server of a drill".into();
        api::Server::start(api::Settings { limits: limits?, mistake, threads: 2, pool_size: SESSIONS, command, ..usual }).await
    }
}

/// What a server says of itself.
async fn ask_about(address: &Address) -> Result<About> {
    let told = Caller::new(address.clone(), Book::new(Vec::new())).ask(&Ask::get("/v1/about")).await?;
    serde_json::from_slice(told.body()).map_err(|why| {
        Error::usage(format!("{address} is no reference server of dbstress: it answers {} to GET /v1/about", told.status))
            .because(why)
            .cure("the address of `dbstress serve`")
    })
}

/// Finds out whether the server there is one of ours, and at work on this database.
async fn find(address: Address, admin: &mut admin::Session, options: &ConnectOptions, key: &Key) -> Result<Target> {
    let about = ask_about(&address).await?;
    let identifier = admin.text("SELECT system_identifier::text FROM pg_control_system()").await?.unwrap_or_default();
    let oid = admin.integer("SELECT oid::bigint FROM pg_database WHERE datname = current_database()").await?;
    if about.service != SERVICE {
        return Err(Error::usage(format!("{address} is {}, and these drills are about the reference server", about.service))
            .cure("the address of `dbstress serve`"));
    }
    if about.database.system_identifier != identifier || about.database.oid != oid {
        return Err(Error::usage(format!("{address} is not at work on {options}, where it is to be seen what it has done"))
            .cure("--database-url with the database of the server"));
    }
    let ask = Ask::get("/v1/authorisations?limit=1").with(&key.sign(&everywhere())?);
    let told = Caller::new(address.clone(), Book::new(Vec::new())).ask(&ask).await?;
    if told.status == Code::InvalidToken.status() {
        return Err(Error::usage(format!("{address} does not trust what is signed here: it has another secret"))
            .cure("give both the same state directory (--state-dir), or the same DBSTRESS_API_SECRET"));
    }
    Ok(Target { address, about })
}

/// A server that a drill is about.
pub struct Examined {
    /// Where it is.
    pub address: Address,
    /// What it says of itself.
    pub about: About,
    /// Signs tokens that it trusts.
    pub key: Key,
    /// Of every account.
    pub password: String,
    book: std::sync::Arc<Book>,
    server: Option<api::Server>,
}

impl Examined {
    /// Somebody who asks it.
    pub fn caller(&self) -> Caller {
        Caller::new(self.address.clone(), self.book.clone())
    }

    /// A token that it trusts.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, claims: &Claims) -> Result<String> {
        self.key.sign(claims)
    }

    /// Whether it is one of our own: nobody else has asked it anything.
    pub fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    /// The limit that readers of a tier meet, if there is one.
    pub fn limit(&self, route: &str, tier: &str) -> Option<Limit> {
        window::governing(&self.about.limits, route, tier).cloned()
    }

    /// `POST /v1/login`.
    pub fn login(&self, login: &str, password: &str) -> Ask {
        let body = [("login", login), ("password", password)];
        Ask::post("/v1/login", Value::Object(body.into_iter().map(|(name, text)| (name.into(), text.into())).collect()))
    }

    /// Stops it, if it is our own, so that everything it has done can be seen.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.stop().await;
        }
    }

    /// Stops it, if it is our own, and adds what holds for every drill.
    ///
    /// # Errors
    /// Those of the drill.
    pub async fn ended(mut self, seen: Result<Seen>) -> Result<Seen> {
        self.stop().await;
        let mut seen = seen?;
        seen.about(None);
        let answers = self.book.answers();
        let (errors, first) = self.book.server_errors();
        let offenders =
            first.into_iter().chain(std::iter::repeat_n("another".into(), errors as usize)).take(errors as usize).collect();
        seen.none("server errors", answers, offenders);
        seen.none("answers that repeat a secret", answers, self.book.repeated());
        Ok(seen)
    }
}
