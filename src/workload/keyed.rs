//! What becomes of a request that carries a key? Claimed, done and answered in one transaction; whoever asks again is told the same.
//!
//! The scope of a key is the organisation that asks, the endpoint (the kind of operation) and the key itself. With the claim goes a
//! fingerprint of the body, with the effect the response. Who finds the key known gets the stored response, or a refusal if the body is
//! another one; who finds it in flight is told so at once, or waits. After its lifetime, by the clock of the domain, whoever asks first
//! begins anew. What a business rule refuses is not stored: the claim is given up with the refusal, and the next request is decided afresh.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::booking::{Place, Proposal, Statements, unreadable};
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, Asking, OperationKind};
use crate::outcome::Abort;
use crate::pg::load::{Connection, Failure, Row, Statement, Tx};
use crate::proxy::CLAIMS;

/// What becomes of the keys that requests carry. In each round everybody asks with the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// What is said to a request whose key is in flight.
    pub in_flight: InFlight,
    /// How long a key is known, by the clock of the domain.
    #[serde(rename = "lifetime_ms", with = "crate::milliseconds")]
    pub lifetime: Duration,
    /// So many expired keys are cleaned up while the load runs.
    pub cleanup: u32,
}

impl Keys {
    /// When those ask who ask after the lifetime of a key, seconds after the others.
    pub fn late(self) -> i64 {
        i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX).saturating_add(1)
    }
}

/// What is said to a request whose key is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InFlight {
    /// That it is, at once; the client tries again.
    #[default]
    Refuse,
    /// Nothing, until the one that is under way has ended.
    Wait,
}

impl InFlight {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Wait => "wait",
        }
    }
}

/// A key as a request carries it, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Of the body, hexadecimal.
    pub fingerprint: String,
    /// How much later than the dataset the request is, seconds on the clock of the domain.
    pub later: i64,
}

impl Key {
    /// The key `text`, which stands for one authorisation of each organisation: the body says what is to be done with it. `later`: by how many
    /// seconds the request is later than the dataset.
    pub fn new(text: String, kind: OperationKind, units: i32, later: i64) -> Self {
        let body = format!("{} {units}", kind.word());
        Self { text, fingerprint: Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect(), later }
    }

    /// The key that a proposal carries, if it carries one.
    pub fn of(proposal: &Proposal, run: i32, keys: Keys) -> Option<Self> {
        let (asking, number) = proposal.key?;
        let later = if asking == Asking::Late { keys.late() } else { 0 };
        Some(Self::new(format!("{run}-{number}"), proposal.kind, proposal.units, later))
    }
}

/// What tells one key from another.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    bug: Option<Bug>,
}

impl Scope {
    /// As the contract says, or as the bug does it.
    pub fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// The condition that finds a record, from the SQL of what a request carries.
    pub fn record(self, organisation: &str, endpoint: &str, key: &str, fingerprint: &str) -> String {
        let key = self.key(key, fingerprint);
        match self.bug {
            // Whoever's it is.
            Some(Bug::UnscopedKey) => format!("endpoint = {endpoint} AND key = {key}"),
            _ => format!("organisation_id = {organisation} AND endpoint = {endpoint} AND key = {key}"),
        }
    }

    /// Which of several records is taken. Only the bug can find several.
    fn latest(self) -> &'static str {
        match self.bug {
            Some(Bug::UnscopedKey) => " ORDER BY expires_at DESC LIMIT 1",
            _ => "",
        }
    }

    /// What is unique, as SQL.
    fn key(self, key: &str, fingerprint: &str) -> String {
        match self.bug {
            Some(Bug::KeyWithHash) => format!("{key} || '#' || {fingerprint}"),
            _ => key.to_owned(),
        }
    }
}

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody knew the key: it is claimed, and the work is to be done.
    New,
    /// The key is known, and this is what it came to.
    Known {
        /// What the client is to be told.
        response: Applied,
        /// The one that did it was under way when this one asked: the server's own word for overlap.
        met: bool,
    },
    /// The key is another body's.
    Mismatch,
}

/// The statements of requests with keys, prepared on one connection.
pub struct KeyedStatements {
    /// Those of the effect, which complete the record.
    pub effect: Statements,
    /// Those of an effect that nobody knows the key of; only a bug has any.
    pub without_key: Option<Statements>,
    claim: Statement,
    look: Statement,
    supersede: Statement,
    give_up: Statement,
    bug: Option<Bug>,
}

/// Gives every parameter of these statements its type, whether or not the statement has a use for it.
const ASKED: &str = "asked AS (SELECT $1::bigint, $2::text, $3::text, $4::text, $5::bigint, $6::bigint)";

/// Columns of [`Found`].
const FOUND_COLUMNS: usize = 6;

/// A record as it was found.
struct Found {
    fingerprint: String,
    is_over: bool,
    response: Option<Applied>,
}

impl KeyedStatements {
    /// Prepares them.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(connection: &mut Connection, place: &Place, keys: Keys, bug: Option<Bug>) -> Result<Self> {
        let scope = Scope::new(bug);
        let Place { schema, run, .. } = place;
        let lifetime = format!("interval '{} seconds'", keys.lifetime.as_secs());
        let now = place.now(Some("$5"));
        let record = scope.record("$1::bigint", "$2::text", "$3::text", "$4::text");
        let unique = scope.key("$3::text", "$4::text");
        let columns = "organisation_id, endpoint, key, fingerprint, state, authorisation_id, run_id, created_at, expires_at";
        let values = format!("$1::bigint, $2::text, {unique}, $4::text, 'pending', $6::bigint, {run}, {now}, {now} + {lifetime}");
        let found = "fingerprint, is_over, response[1], response[2], response[3], response[4]";
        let known = format!(
            "SELECT fingerprint, response, expires_at <= {now} AS is_over FROM {schema}.idempotency_key WHERE {record}{}",
            scope.latest()
        );
        // The lock is taken only for what is not known, so that being told the answer stands in nobody's way. It can be had the moment that its
        // holder has ended, and the record of that one may be younger than this statement's snapshot: then nothing is inserted.
        let free = match keys.in_flight {
            InFlight::Refuse => "pg_try_advisory_xact_lock(hashtext($1::text || ' ' || $2::text), hashtext($3::text))",
            InFlight::Wait => "true",
        };
        let claim = match bug {
            // Who loses the race to insert it is not asked about.
            Some(Bug::LoserExecutes) => {
                format!(
                    "{CLAIMS}WITH {ASKED} INSERT INTO {schema}.idempotency_key ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"
                )
            }
            _ => format!(
                "{CLAIMS}WITH {ASKED}, known AS MATERIALIZED ({known}), lock AS MATERIALIZED ( \
                   SELECT {free} AS is_free WHERE NOT EXISTS (SELECT FROM known WHERE NOT is_over) \
                 ), claimed AS ( \
                   INSERT INTO {schema}.idempotency_key ({columns}) \
                   SELECT {values} FROM lock WHERE is_free AND NOT EXISTS (SELECT FROM known) ON CONFLICT DO NOTHING RETURNING 1 \
                 ) SELECT {found}, (SELECT is_free FROM lock), EXISTS (SELECT FROM claimed) FROM (VALUES (1)) one LEFT JOIN known ON true"
            ),
        };
        let supersede = format!(
            "WITH {ASKED} UPDATE {schema}.idempotency_key SET fingerprint = $4::text, state = 'pending', response = NULL, result_op = NULL, \
               result_attempt = NULL, authorisation_id = $6::bigint, run_id = {run}, created_at = {now}, expires_at = {now} + {lifetime} \
             WHERE {record} AND expires_at <= {now}"
        );
        let without_key = match bug {
            Some(Bug::NoKey) => Some(Statements::prepare(connection, place, None, None).await?),
            _ => None,
        };
        Ok(Self {
            effect: Statements::prepare(connection, place, None, Some(&scope)).await?,
            without_key,
            claim: connection.prepare(&claim).await?,
            look: connection.prepare(&format!("WITH {ASKED}, known AS ({known}) SELECT {found} FROM known")).await?,
            supersede: connection.prepare(&supersede).await?,
            give_up: connection
                .prepare(&format!("WITH {ASKED} DELETE FROM {schema}.idempotency_key WHERE {record} AND state = 'pending'"))
                .await?,
            bug,
        })
    }

    /// Finds out whether the key is known, and claims it if it is not.
    ///
    /// # Errors
    /// The failure of a statement, or that the key is in flight: the attempt must be rolled back.
    pub async fn claim(&self, tx: &mut Tx<'_>, proposal: &Proposal, key: &Key) -> Result<Claim, Failure> {
        if self.bug == Some(Bug::LoserExecutes) {
            return self.look_then_claim(tx, proposal, key).await;
        }
        self.execute(tx, &self.claim, proposal, key).await?;
        let (found, is_free, is_claimed) = {
            let row = tx.row().ok_or_else(unreadable)?;
            let mut values = row.values().skip(FOUND_COLUMNS);
            let mut is_so = || values.next().flatten() == Some("t");
            (Found::of(row), is_so(), is_so())
        };
        match found {
            _ if is_claimed => Ok(Claim::New),
            Some(found) if !found.is_over => found.answer(key, false),
            _ if !is_free => Err(Failure::local(Abort::KeyInFlight)),
            Some(_) if self.execute(tx, &self.supersede, proposal, key).await? > 0 => Ok(Claim::New),
            // Somebody else has claimed it, or begun it anew, since this one's snapshot.
            _ => match self.look(tx, proposal, key).await? {
                Some(found) if !found.is_over => found.answer(key, true),
                _ => Err(Failure::local(Abort::KeyInFlight)),
            },
        }
    }

    /// Gives the claim up again: a business rule has refused.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn give_up(&self, tx: &mut Tx<'_>, proposal: &Proposal, key: &Key) -> Result<(), Failure> {
        self.execute(tx, &self.give_up, proposal, key).await.map(|_| ())
    }

    /// The bug: it is looked for, and claimed in another statement, and whether that worked is nobody's concern.
    async fn look_then_claim(&self, tx: &mut Tx<'_>, proposal: &Proposal, key: &Key) -> Result<Claim, Failure> {
        match self.look(tx, proposal, key).await? {
            Some(found) if !found.is_over => found.answer(key, false),
            Some(_) => self.execute(tx, &self.supersede, proposal, key).await.map(|_| Claim::New),
            None => self.execute(tx, &self.claim, proposal, key).await.map(|_| Claim::New),
        }
    }

    async fn look(&self, tx: &mut Tx<'_>, proposal: &Proposal, key: &Key) -> Result<Option<Found>, Failure> {
        self.execute(tx, &self.look, proposal, key).await?;
        tx.row().map(|row| Found::of(row).ok_or_else(unreadable)).transpose()
    }

    /// Runs one of the statements, which all have the same parameters; how many rows it returned or changed.
    async fn execute(&self, tx: &mut Tx<'_>, statement: &Statement, proposal: &Proposal, key: &Key) -> Result<u64, Failure> {
        let reply = tx
            .execute(statement, |p| {
                p.integer(proposal.actor.organisation);
                p.text(proposal.kind.word());
                p.text(&key.text);
                p.text(&key.fingerprint);
                p.integer(key.later);
                p.integer(proposal.authorisation);
            })
            .await?;
        Ok(reply.rows)
    }
}

impl Found {
    /// `None` if the row says that nothing was found.
    fn of(row: Row<'_>) -> Option<Self> {
        let mut values = row.values();
        let fingerprint = values.next().flatten()?.to_owned();
        let is_over = values.next().flatten()? == "t";
        let mut number = || values.next().flatten()?.parse::<i64>().ok();
        let mut response = || {
            let version = number()?;
            let mut units = || number().and_then(|n| i32::try_from(n).ok());
            Some(Applied { version, total: units()?, used: units()?, scheduled: units()? })
        };
        Some(Self { fingerprint, is_over, response: response() })
    }

    /// What whoever asks with this key is to be told.
    fn answer(self, key: &Key, met: bool) -> Result<Claim, Failure> {
        match self.response {
            _ if self.fingerprint != key.fingerprint => Ok(Claim::Mismatch),
            Some(response) => Ok(Claim::Known { response, met }),
            // Claimed by a transaction that has ended, and not done: what the contract rules out.
            None => Err(Failure::local(Abort::KeyInFlight)),
        }
    }
}
