//! Does a client stack give a connection back inside an open transaction when a request is cancelled?
//!
//! Requests begin a transaction through a wire that takes its time, and many are dropped while BEGIN is under way. Whoever borrows the
//! connection next would work inside the transaction of somebody who has gone: what it is told is written would vanish with it. That is judged
//! from outside, on a connection of its own, by what is in the table when every connection of the stack is closed.

mod deadpool;
mod judge;
mod shared;
mod sqlx_pool;
mod unguarded;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::error::nearest;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError, literal};
use crate::proxy::{Disturbance, Proxy};
use crate::random::Random;
use crate::{Error, Result};

pub use judge::{ClientRecord, Example, LEAST_CANCELLED, Lost, Refused, SCHEMA_VERSION, StormRecord, Tally};

/// The schema of the table that is written to; made for a storm, and dropped after it.
pub const SCHEMA: &str = "dbstress_storm";

/// What every session of a storm calls itself first.
const NAME: &str = "dbstress/storm/";

/// What is written: a number of its own. It says which server process took it.
const INSERT: &str = "INSERT INTO dbstress_storm.writes (number) VALUES ($1) RETURNING pid";

/// How much later everything arrives, in each direction: long against what happens in the program, so that BEGIN is under way for a while.
const DELAY: Duration = Duration::from_millis(4);

/// Requests of one life of an application: it starts, is under the storm, works on, and stops.
const LIFE: u32 = 40;

/// One of so many requests is patient; these come first in a life and tell how long BEGIN takes.
const PATIENT: u32 = 5;

/// How long anything may take that is not cancelled.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the storm of one client may take.
const LIMIT: Duration = Duration::from_secs(90);

/// How often a lost write is tried for on a single connection.
const EXAMPLES: u32 = 20;

/// Deadlines are drawn from here.
const DEADLINES: u64 = 6 << 32;

/// A client stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// A connection of tokio-postgres that all requests share.
    TokioPostgres,
    /// The pool of deadpool-postgres.
    DeadpoolPostgres,
    /// The pool of sqlx.
    Sqlx,
    /// The control: a pool and `BEGIN` as text.
    Unguarded,
}

impl Client {
    /// Those that people use.
    pub const REAL: [Self; 3] = [Self::TokioPostgres, Self::DeadpoolPostgres, Self::Sqlx];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokioPostgres => "tokio-postgres",
            Self::DeadpoolPostgres => "deadpool-postgres",
            Self::Sqlx => "sqlx",
            Self::Unguarded => "unguarded",
        }
    }

    /// The version that is built in, exactly: the manifest allows no other.
    pub fn version(self) -> &'static str {
        static MANIFEST: LazyLock<toml::Table> = LazyLock::new(|| include_str!("../../Cargo.toml").parse().unwrap_or_default());
        let name = if self == Self::Unguarded { Self::DeadpoolPostgres.name() } else { self.name() };
        let version = MANIFEST.get("dependencies").and_then(|all| all.get(name)?.get("version")?.as_str());
        version.map_or("?", |version| version.trim_start_matches('='))
    }

    /// Connections that it has, of so many that a pool may have. As many requests are made at once: who waits for a connection does not wait for
    /// BEGIN.
    fn connections(self, pool_size: u32) -> u32 {
        if self == Self::TokioPostgres { 1 } else { pool_size }
    }
}

impl FromStr for Client {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::REAL.into_iter().find(|client| client.name() == text).ok_or_else(|| {
            let names = Self::REAL.map(Self::name);
            let all = format!("one of {}; the control `{}` is always run", names.join(", "), Self::Unguarded.name());
            let cure = nearest(text, names).map_or(all.clone(), |name| format!("did you mean `{name}`? {all}"));
            Error::usage(format!("there is no client `{text}`")).cure(cure)
        })
    }
}

/// What a client stack can do, the way applications make it.
trait Stack: Sized {
    /// Connects, or makes a pool that will.
    async fn open(options: &ConnectOptions, name: &str, size: u32) -> Result<Self, SqlError>;
    /// Begins a transaction, calls `begun`, writes a number, commits.
    async fn transact(&self, number: i64, begun: impl FnOnce()) -> Result<(), SqlError>;
    /// Writes a number without a transaction; the server process that took it.
    async fn write(&self, number: i64) -> Result<i32, SqlError>;
    /// Closes every connection.
    async fn close(self);
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The clients that are judged.
    pub clients: Vec<Client>,
    /// Requests for a transaction that each is given.
    pub requests: u32,
    /// Connections of each pool.
    pub pool_size: u32,
    /// What deadlines are drawn from.
    pub rng_seed: u64,
    /// The command that does it again.
    pub command: String,
}

/// Makes the table. Whoever calls has made sure that the database may be written to, and is alone at work on it.
///
/// # Errors
/// The server's refusal.
pub async fn prepare(session: &mut Session) -> Result<()> {
    clear(session).await?;
    let table = "number bigint PRIMARY KEY, pid integer NOT NULL DEFAULT pg_backend_pid()";
    session.execute(&format!("CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.writes ({table})")).await?;
    Ok(())
}

/// Ends what is left of a storm that was given up, and drops the table.
///
/// # Errors
/// The server's refusal.
pub async fn clear(session: &mut Session) -> Result<()> {
    session
        .rows(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user \
             AND starts_with(application_name, {})",
            literal(NAME)
        ))
        .await?;
    session.execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
    Ok(())
}

/// Lets the storm loose on the control and then on each client, in the table that [`prepare`] has made; `show` hears of each that has ended.
///
/// # Errors
/// Usage, if the server demands encryption. Inconclusive, if the server was lost.
pub async fn run(
    request: &Request,
    options: &ConnectOptions,
    session: &mut Session,
    mut show: impl FnMut(&ClientRecord),
) -> Result<StormRecord> {
    let began = Instant::now();
    let server = session.text("SHOW server_version").await?.unwrap_or_default();
    let proxy = Proxy::start(options).await?;
    // What is to be late must have begun; whoever comes later is late from the beginning.
    let late = Disturbance::Delay { by: DELAY, hold: Duration::MAX };
    let (first, strike) = tokio::join!(Session::connect(proxy.options(), "storm/first"), proxy.disturb(late, NAME, PATIENCE));
    first?.close().await;
    if strike.is_none() {
        return Err(Error::inconclusive("the wire could not be made slow"));
    }
    let mut field = Field { proxy, session, rng_seed: request.rng_seed, next: Cell::new(0), wait: Cell::new(None) };
    let mut judged = async |client| {
        let record = field.judge(client, request).await?;
        show(&record);
        Ok::<_, Error>(record)
    };
    let control = judged(Client::Unguarded).await?;
    let mut clients = Vec::new();
    for client in &request.clients {
        clients.push(judged(*client).await?);
    }
    Ok(StormRecord {
        schema_version: SCHEMA_VERSION,
        dbstress: env!("CARGO_PKG_VERSION").into(),
        server,
        verdict: judge::worst(&control, &clients),
        command: request.command.clone(),
        requests: request.requests,
        pool_size: request.pool_size,
        rng_seed: request.rng_seed,
        delay_ms: DELAY.as_millis() as u64,
        seconds: began.elapsed().as_secs_f64(),
        control,
        clients,
    })
}

/// Where storms take place, and who looks on.
struct Field<'a> {
    proxy: Proxy,
    session: &'a mut Session,
    rng_seed: u64,
    /// The number of the next request or write.
    next: Cell<i64>,
    /// How long a transaction has lately taken to begin, where it was waited for.
    wait: Cell<Option<Duration>>,
}

/// What becomes of the requests and writes of one life.
#[derive(Default)]
struct Life {
    tally: RefCell<Tally>,
    /// Requests whose transaction has begun.
    begun: Cell<u64>,
    /// Who was told that it is written, and by which server process.
    acknowledged: RefCell<Vec<Lost>>,
    /// The request that was cancelled last before its transaction had begun, and after how long.
    cancelled: Cell<Option<(i64, Duration)>>,
}

impl Field<'_> {
    async fn judge(&mut self, client: Client, request: &Request) -> Result<ClientRecord> {
        let storm = async {
            match client {
                Client::TokioPostgres => self.storm::<shared::Shared>(client, request).await,
                Client::DeadpoolPostgres => self.storm::<deadpool::Pooled>(client, request).await,
                Client::Sqlx => self.storm::<sqlx_pool::Sqlx>(client, request).await,
                Client::Unguarded => self.storm::<unguarded::Unguarded>(client, request).await,
            }
        };
        let late = |_| Error::inconclusive(format!("the storm on {} has not ended after {} s", client.name(), LIMIT.as_secs()));
        timeout(LIMIT, storm).await.map_err(late)?
    }

    async fn storm<S: Stack>(&mut self, client: Client, request: &Request) -> Result<ClientRecord> {
        self.wait.set(None);
        let connections = client.connections(request.pool_size);
        let mut tally = Tally::default();
        let mut left = request.requests;
        while left > 0 {
            let requests = left.min(LIFE);
            self.live::<S>(client, connections, requests, &mut tally).await?;
            left -= requests;
        }
        let (verdict, reasons) = tally.judge();
        let mut example = None;
        if !tally.lost.is_empty() && client != Client::Unguarded {
            for _ in 0..EXAMPLES {
                example = self.example::<S>(client).await?;
                if example.is_some() {
                    break;
                }
            }
        }
        Ok(ClientRecord { client, version: client.version().into(), verdict, reasons, tally, example })
    }

    /// One request on one connection, and the writes after it.
    async fn example<S: Stack>(&mut self, client: Client) -> Result<Option<Example>> {
        let mut tally = Tally::default();
        let life = self.live::<S>(client, 1, 1, &mut tally).await?;
        Ok(match (life.cancelled.get(), &*tally.lost) {
            (Some((cancelled, after)), [Lost { number, pid: Some(pid) }, ..]) if tally.cancelled_in_begin == 1 => {
                Some(Example { cancelled, after_ms: after.as_secs_f64() * 1000.0, lost: *number, pid: *pid })
            }
            _ => None,
        })
    }

    /// An application starts, is under the storm, works on, and stops; then what it was told is compared with what there is.
    async fn live<S: Stack>(&mut self, client: Client, connections: u32, requests: u32, tally: &mut Tally) -> Result<Life> {
        let (first, asked) = (self.next.get(), self.proxy.begun());
        let name = format!("{NAME}{}", client.name());
        let life = Life { tally: RefCell::new(std::mem::take(tally)), ..Life::default() };
        match patiently(S::open(self.proxy.options(), &name, connections)).await {
            Ok(stack) => {
                self.write(&stack, &life, connections).await;
                self.request(&stack, &life, connections, requests).await;
                // What was still on its way on a connection has arrived before the answer to what was said on it later.
                self.write(&stack, &life, connections).await;
                let quiet = self.session.text("SELECT clock_timestamp()").await?.unwrap_or_default();
                self.write(&stack, &life, connections).await;
                self.look(&name, &quiet, &life).await?;
                stack.close().await;
            }
            Err(error) => life.tally.borrow_mut().refuse(error.code, error.message),
        }
        if !self.is_over(&name).await? {
            life.tally.borrow_mut().open.push(format!("connections of {} were not closed", client.name()));
        }
        *tally = life.tally.take();
        // Each request asks once, and one whose transaction has begun has had its answer: the others were dropped between the two.
        tally.cancelled_in_begin += (self.proxy.begun() - asked).saturating_sub(life.begun.get());
        let numbers = self.session.rows(&format!("SELECT number FROM {SCHEMA}.writes WHERE number >= {first}")).await?;
        let there: BTreeSet<String> = numbers.into_iter().flatten().flatten().collect();
        let mut acknowledged = life.acknowledged.take();
        tally.acknowledged += acknowledged.len() as u64;
        acknowledged.retain(|write| !there.contains(&write.number.to_string()));
        tally.lost.append(&mut acknowledged);
        Ok(life)
    }

    fn number(&self) -> i64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Later borrowers, more at once than there are connections: each write is its own transaction, and is there when that is said.
    async fn write(&self, stack: &impl Stack, life: &Life, connections: u32) {
        let writes = stream::iter(0..2 * connections).for_each_concurrent(None, |_| async {
            let number = self.number();
            match patiently(stack.write(number)).await {
                Ok(pid) => life.acknowledged.borrow_mut().push(Lost { number, pid: Some(pid) }),
                Err(error) => life.tally.borrow_mut().refuse(error.code, error.message),
            }
        });
        writes.await;
    }

    /// The storm: patient requests, then such as are dropped at any moment of the time that a transaction takes to begin.
    async fn request(&self, stack: &impl Stack, life: &Life, connections: u32, requests: u32) {
        let patient = requests / PATIENT;
        let all = stream::iter(0..requests).for_each_concurrent(connections as usize, |n| async move {
            let (number, asked) = (self.number(), Instant::now());
            life.tally.borrow_mut().requests += 1;
            let wait = self.wait.get().filter(|_| n >= patient);
            let has_begun = Cell::new(false);
            let begun = || {
                has_begun.set(true);
                life.begun.set(life.begun.get() + 1);
                if wait.is_none() {
                    let (now, was) = (asked.elapsed(), self.wait.get());
                    self.wait.set(Some(was.map_or(now, |was| (was * 3 + now) / 4)));
                }
            };
            let transaction = stack.transact(number, begun);
            let ended = match wait {
                None => patiently(transaction).await,
                Some(wait) => {
                    let chance = Random::of(self.rng_seed, DEADLINES, number.cast_unsigned()).unit();
                    // Rather late than early, since BEGIN comes last where a pool looks at a connection first; some a little beyond it.
                    let after = wait.mul_f64(chance.sqrt() * 1.05);
                    match timeout(after, transaction).await {
                        Ok(ended) => ended,
                        Err(_) => {
                            if !has_begun.get() {
                                life.cancelled.set(Some((number, after)));
                            }
                            return;
                        }
                    }
                }
            };
            match ended {
                Ok(()) => {
                    life.tally.borrow_mut().committed += 1;
                    life.acknowledged.borrow_mut().push(Lost { number, pid: None });
                }
                Err(error) => life.tally.borrow_mut().refuse(error.code, error.message),
            }
        });
        all.await;
    }

    /// Who is in a transaction that began before everybody had ended, although the connection has served others since?
    async fn look(&mut self, name: &str, quiet: &str, life: &Life) -> Result<()> {
        let locks = "SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype NOT IN ('virtualxid', 'transactionid')";
        let left = self
            .session
            .rows(&format!(
                "SELECT ({locks}) FROM pg_stat_activity a WHERE datname = current_database() AND application_name = {} \
                 AND starts_with(state, 'idle in transaction') AND xact_start < {quiet} AND state_change > {quiet}",
                literal(name),
                quiet = literal(quiet)
            ))
            .await?;
        let mut tally = life.tally.borrow_mut();
        tally.left_open += left.len() as u64;
        tally.locks += left.into_iter().flatten().flatten().filter_map(|count| count.parse::<u64>().ok()).sum::<u64>();
        Ok(())
    }

    /// Waits until the server has no session of that name any more; false if that takes too long.
    async fn is_over(&mut self, name: &str) -> Result<bool> {
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = {}",
            literal(name)
        );
        let asked = Instant::now();
        while self.session.integer(&sessions).await? > 0 {
            if asked.elapsed() > PATIENCE {
                return Ok(false);
            }
            sleep(DELAY).await;
        }
        Ok(true)
    }
}

/// What nobody cancels.
async fn patiently<T>(asked: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    let late = |_| SqlError { code: None, message: format!("no answer within {} s", PATIENCE.as_secs()), position: None };
    timeout(PATIENCE, asked).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_that_were_built_in_and_no_others_can_be() {
        let lock: toml::Table = include_str!("../../Cargo.lock").parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        for client in Client::REAL {
            let built: Vec<&str> = packages
                .iter()
                .filter(|package| package["name"].as_str() == Some(client.name()))
                .map(|package| package["version"].as_str().unwrap())
                .collect();
            assert_eq!(built, [client.version()]);
            let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
            assert!(manifest["dependencies"][client.name()]["version"].as_str().unwrap().starts_with('='));
        }
        assert_eq!(Client::Unguarded.version(), Client::DeadpoolPostgres.version());
    }

    #[test]
    fn a_name_that_is_nearly_right_is_offered() {
        assert_eq!("sqlx".parse::<Client>().unwrap(), Client::Sqlx);
        let error = "tokio-postgre".parse::<Client>().unwrap_err().to_string();
        assert!(error.contains("did you mean `tokio-postgres`?"), "{error}");
        assert!("unguarded".parse::<Client>().is_err(), "the control is no client");
    }
}
