//! How does an application look that books units and changes schedules over HTTP? The reference server, which is as right as it says, or makes the
//! mistake that it is told to make.
//!
//! Handlers translate: HTTP to what a desk is asked for, and what became of it to HTTP. What is done in SQL is done by the desk.

mod audit;
mod authenticate;
mod clinic;
mod connection;
pub mod description;
pub mod desk;
mod grant;
pub mod limits;
mod listen;
mod login;
mod metrics;
pub mod mistakes;
mod open;
mod problem;
mod residency;
pub mod route;
mod sent;
pub mod settings;
mod shape;
mod turn;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use self::audit::{Trail, Writer};
use self::desk::{Desk, Mistakes, accounts};
use self::limits::{Limits, Tier};
pub use self::metrics::Answers;
use self::metrics::Metrics;
pub use self::mistakes::Mistake;
pub use self::settings::{LISTEN, Settings};
use self::turn::{Api, Shared};
use crate::contract::{About, Code, Database, SERVICE};
use crate::history::OpId;
use crate::http::Address;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Session, literal};
use crate::pg::retry::{Backoff, Retry};
use crate::seed::Dataset;
use crate::{Error, Result, token};

/// How long what is under way is waited for when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long the rest of the audit trail is waited for then.
const TRAIL_GRACE: Duration = Duration::from_secs(5);
/// Before another connection is taken after one could not be.
const BREATH: Duration = Duration::from_millis(20);
/// Threads that compare passwords, for each thread of the server.
const COMPARERS: usize = 2;

/// A server at work.
pub struct Server {
    address: SocketAddr,
    about: About,
    stopping: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    writer: Option<Writer>,
    metrics: Arc<Metrics>,
    options: ConnectOptions,
    run: i32,
    began: Instant,
}

/// What a server has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What it answered.
    pub answers: Answers,
    /// Handlers that broke down.
    pub panics: u64,
    /// Entries of the audit trail that were written.
    pub audited: u64,
    /// Those that could not be: the database was away to the end.
    pub audit_lost: u64,
    /// How long it was there.
    pub lasted: Duration,
}

impl Server {
    /// Looks at the database, makes the accounts, and listens.
    ///
    /// # Errors
    /// Usage: a database that is not ours or not loaded, settings that cannot be, an address that is taken. Inconclusive: no connection.
    pub async fn start(settings: Settings) -> Result<Self> {
        let mut session = Session::connect(&settings.options, "serve").await?;
        let started = Self::start_with(&mut session, settings).await;
        session.close().await;
        started
    }

    async fn start_with(session: &mut Session, settings: Settings) -> Result<Self> {
        let (meta, loaded) = admin::require_loaded(session, &settings.options).await?;
        let dataset = Dataset::named(&loaded.dataset)?;
        settings.check(dataset)?;
        // Before anything is written: most that goes wrong goes wrong here.
        let (listeners, address) = listen::listeners(settings.listen, settings.threads).await?;
        accounts::ensure(session, dataset, &login::hash(&settings.secret.password())?).await?;
        let tiers = tiers(session, dataset).await?;
        let run = register(session, &settings).await?;
        let about = About {
            service: SERVICE.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            database: Database { system_identifier: meta.system_identifier.to_string(), oid: meta.database_oid },
            dataset: dataset.name().into(),
            strategy: settings.strategy_said().name().into(),
            sessions: format!("dbstress/serve-{run}"),
            pool_size: settings.pool_size,
            retry_deadline_ms: u64::try_from(settings.retry_deadline.as_millis()).unwrap_or(u64::MAX),
            in_flight: settings.in_flight.word().into(),
            key_lifetime_s: settings.key_lifetime.as_secs(),
            token_lifetime_s: settings.token_lifetime.as_secs(),
            limits: settings.limits.iter().map(limits::Rule::about).collect(),
        };
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared {
            about: serde_json::to_vec(&about).map_err(unwritten)?,
            description: serde_json::to_vec(&description::document()).map_err(unwritten)?,
            dataset,
            tokens: authenticate::Tokens::new(settings.secret.key(), settings.mistake),
            token_lifetime: settings.token_lifetime,
            passwords: login::Passwords::new()?,
            limits: Limits::new(settings.limits.clone(), tiers, settings.mistake),
            grants: grant::Grants::default(),
            metrics: metrics.clone(),
            retry_deadline: settings.retry_deadline,
            mistake: settings.mistake,
        });
        let (trail, writer) = if settings.audit {
            let name = format!("audit-{run}");
            let (trail, writer) = Writer::start(settings.options.clone(), name, metrics.clone())?;
            (Some(trail), Some(writer))
        } else {
            (None, None)
        };
        let (stopping, _) = watch::channel(false);
        let mut server = Self {
            address,
            about,
            stopping,
            threads: Vec::new(),
            writer,
            metrics,
            options: settings.options.clone(),
            run,
            began: Instant::now(),
        };
        let mut opened = Vec::new();
        for (n, listener) in listeners.into_iter().enumerate() {
            let thread = u16::try_from(n).unwrap_or(u16::MAX);
            let desk = desk(&settings, dataset, &loaded.as_of, run, thread);
            let (ready, is_ready) = oneshot::channel();
            let (shared, left, stopping) = (shared.clone(), trail.clone(), server.stopping.subscribe());
            let work = move || work(listener, desk, shared, left, stopping, ready);
            let spawned = std::thread::Builder::new().name(format!("serve-{thread}")).spawn(work);
            let spawned = spawned.map_err(|why| Error::inconclusive("a thread of the server cannot be made").because(why));
            match spawned {
                Ok(thread) => server.threads.push(thread),
                Err(error) => return Err(server.given_up(trail, error).await),
            }
            opened.push(is_ready);
        }
        for is_ready in opened {
            let is_ready = is_ready.await.unwrap_or_else(|_| Err(Error::inconclusive("a thread of the server ended at once")));
            if let Err(error) = is_ready {
                return Err(server.given_up(trail, error).await);
            }
        }
        Ok(server)
    }

    async fn given_up(self, trail: Option<Trail>, error: Error) -> Error {
        drop(trail);
        self.stop().await;
        error
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::of(self.address)
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Takes no more connections, finishes what is under way, for five seconds at most, and writes the rest of the audit trail.
    pub async fn stop(self) -> Summary {
        let Self { stopping, threads, writer, metrics, options, run, began, .. } = self;
        stopping.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A thread that broke down has said so itself.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
        let audit_lost = match writer {
            Some(writer) => writer.end(TRAIL_GRACE).await,
            None => 0,
        };
        // That it is not in the table is no reason not to stop.
        if let Ok(mut session) = Session::connect(&options, "serve").await {
            let _ = session.execute(&format!("UPDATE dbstress.run SET ended = clock_timestamp() WHERE id = {run}")).await;
            session.close().await;
        }
        Summary {
            answers: metrics.answers(),
            panics: metrics.panics.load(std::sync::atomic::Ordering::Relaxed),
            audited: metrics.audited.load(std::sync::atomic::Ordering::Relaxed),
            audit_lost,
            lasted: began.elapsed(),
        }
    }
}

fn unwritten(why: serde_json::Error) -> Error {
    Error::inconclusive("what the server says of itself cannot be written as JSON").because(why)
}

async fn tiers(session: &mut Session, dataset: Dataset) -> Result<HashMap<i64, Tier>> {
    if dataset != Dataset::Clinic {
        return Ok(HashMap::new());
    }
    let rows = session.rows("SELECT id, tier FROM dbstress.organisation").await?;
    let tier = |row: admin::TextRow| Some((row.first()?.as_ref()?.parse().ok()?, Tier::named(row.get(1)?.as_ref()?)));
    Ok(rows.into_iter().filter_map(tier).collect())
}

async fn register(session: &mut Session, settings: &Settings) -> Result<i32> {
    let record = format!("serve-{}-{}", token::now(), std::process::id());
    let run = session
        .integer(&format!(
            "INSERT INTO dbstress.run (record, command, workload, strategy, claims, rng_seed) \
             SELECT {}, {}, 'api', {}, '{{}}', rng_seed FROM dbstress.meta RETURNING id",
            literal(&record),
            literal(&settings.command),
            literal(settings.strategy_said().name()),
        ))
        .await?;
    i32::try_from(run).ok().filter(|run| *run <= OpId::MAX_RUN).ok_or_else(|| {
        Error::usage(format!("this database has seen {run} runs, which is as many as operations can be numbered for"))
            .cure("dbstress seed --reset")
    })
}

/// What the desk of a thread works with: its share of the sessions.
fn desk(settings: &Settings, dataset: Dataset, as_of: &str, run: i32, thread: u16) -> desk::Settings {
    let threads = u32::from(settings.threads);
    let sessions = settings.pool_size / threads + u32::from(u32::from(thread) < settings.pool_size % threads);
    let makes = |mistake| settings.mistake == Some(mistake);
    desk::Settings {
        options: settings.options.clone(),
        sessions,
        name: format!("dbstress/serve-{run}"),
        strategy: settings.strategy_at_work(),
        bug: settings.mistake.and_then(Mistake::of_bookings),
        mistakes: Mistakes {
            ok_before_commit: makes(Mistake::OkBeforeCommit),
            no_tenant_check: makes(Mistake::NoTenantCheck),
            tenant_left_behind: makes(Mistake::TenantLeftBehind),
        },
        hold: settings.hold,
        keys: settings.keys(),
        retry: Retry { deadline: settings.retry_deadline, attempts: None, backoff: Backoff::Jitter },
        run,
        thread,
        as_of: as_of.to_owned(),
        dataset,
    }
}

/// A thread of the server.
fn work(
    listener: std::net::TcpListener,
    desk: desk::Settings,
    shared: Arc<Shared>,
    trail: Option<Trail>,
    stopping: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<()>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(COMPARERS).build();
    match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, serve(listener, desk, shared, trail, stopping, ready)),
        Err(why) => drop(ready.send(Err(Error::inconclusive("a thread of the server has no runtime").because(why)))),
    }
}

async fn serve(
    listener: std::net::TcpListener,
    desk: desk::Settings,
    shared: Arc<Shared>,
    trail: Option<Trail>,
    stopping: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<()>>,
) {
    let opened = async {
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|why| Error::inconclusive("what comes in cannot be listened to").because(why))?;
        Ok((listener, Desk::open(desk).await?))
    };
    let (listener, desk) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let metrics = shared.metrics.clone();
    let (alive, mut all_gone) = mpsc::channel(1);
    let router = route_to(Api { shared, desk: desk.clone(), trail, alive });
    // Nobody waits for a server that was given up.
    let _ = ready.send(Ok(()));
    let mut stopped = stopping.clone();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((stream, _)) => {
                    let (router, metrics, stopping) = (router.clone(), metrics.clone(), stopping.clone());
                    tokio::task::spawn_local(async move { connection::serve(stream, router, &metrics, stopping).await });
                }
                // The client has gone again, or there are too many files open: those that are there may end.
                Err(_) => tokio::time::sleep(BREATH).await,
            },
            _ = stopped.wait_for(|stopping| *stopping) => break,
        }
    }
    drop((listener, router));
    let until = tokio::time::Instant::now() + GRACE;
    // What has not ended by then is given up with the runtime.
    let _ = tokio::time::timeout_at(until, all_gone.recv()).await;
    let _ = tokio::time::timeout_at(until, desk.close()).await;
}

/// What leads each request to its handler; the rest is answered here.
fn route_to(api: Api) -> Router {
    let nowhere = |code: Code| {
        let metrics = api.shared.metrics.clone();
        move || async move {
            metrics.answered(None, code.status(), Duration::ZERO);
            problem::Refused::plain(code).answer().response()
        }
    };
    description::router()
        .fallback(nowhere(Code::NoSuchRoute))
        .method_not_allowed_fallback(nowhere(Code::MethodNotAllowed))
        .with_state(api.clone())
}
