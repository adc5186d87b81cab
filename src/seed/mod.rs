//! How does a dataset get into a database: the same rows for the same rng_seed, completely or visibly not at all?
//!
//! `seed/*.toml` says how much, [`generate`] says which rows (pure: [`clinic`], [`residency`]) of which [`table`], [`encode`] writes them as binary
//! COPY, [`constraints`] are taken off before the load and put on after it, [`fixture`] tells other tools what is there. This file holds the
//! order of these steps.

pub mod calendar;
pub mod clinic;
pub mod constraints;
pub mod encode;
pub mod fixture;
pub mod generate;
pub mod residency;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

pub use fixture::Fixture;
pub use generate::{GENERATOR_VERSION, Generator};
pub use residency::{Figures, Fill};
pub use table::Table;

use crate::error::nearest;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease, Loaded, Meta, Session};
use crate::pg::load::copy::{CopyIn, Loader};
use crate::{Error, Result};

/// A dataset that can be seeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataset {
    /// Authorisations of therapy units in three organisations.
    Clinic,
    /// The duty schedule of residents and who supervises them.
    Residency,
}

impl Dataset {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Clinic, Self::Residency];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clinic => "clinic",
            Self::Residency => "residency",
        }
    }

    /// The dataset of that name.
    ///
    /// # Errors
    /// Usage, with the nearest name, when there is none.
    pub fn named(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|d| d.name() == name).ok_or_else(|| {
            let hint = nearest(name, names).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            Error::usage(format!("there is no dataset `{name}`{hint}")).cure(format!("one of: {}", names.join(", ")))
        })
    }
}

/// Most rows a seed may have; ten times what the largest of the published load tests asks for.
pub const ROWS_MAX: u64 = 1_000_000_000;

/// Batches after which a connection ends its COPY and begins another. The server's objection to a row is heard only at the end of a COPY,
/// so a full disk is noticed half a million rows later, not after the rest of the table.
const BATCHES_PER_COPY: u32 = 64;

/// How often the progress callback is called while rows are loaded.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What to do to which data.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Remove what an earlier seed left, and its runs, and start over.
    pub reset: bool,
    /// The database that the user declared expendable, by name.
    pub disposable: Option<String>,
    /// COPY connections; 0 counts as 1.
    pub connections: usize,
}

/// Where a seed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many rows were handed to PostgreSQL, of so many.
    Rows(u64, u64),
    /// So many keys and indexes were made, of so many.
    Constraints(usize, usize),
    /// The planner's statistics are being collected.
    Statistics,
}

/// How long a seed took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// From the first connection to the last COPY.
    pub rows: Duration,
    /// Keys and indexes.
    pub constraints: Duration,
    /// VACUUM (ANALYZE).
    pub statistics: Duration,
}

impl Took {
    /// All of it: this is what rows per second are computed from.
    pub fn total(&self) -> Duration {
        self.rows + self.constraints + self.statistics
    }
}

/// What is in the database now.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// Which server and database.
    pub meta: Meta,
    /// What is loaded.
    pub loaded: Loaded,
    /// Times of the load; `None` when everything was there already and nothing was changed.
    pub took: Option<Took>,
    /// Runs recorded since the load: the data may have moved on from its fresh state.
    pub runs: i64,
}

/// Makes sure that the database holds exactly what `generator` makes. Safe to repeat: the second time nothing is changed.
///
/// # Errors
/// Usage, with the cure, when the database is not ours to write to, holds something else, or an earlier seed did not finish. Inconclusive when
/// somebody else works on it or the server fails; then the sentinel stays incomplete and every later command says so.
pub async fn seed(
    options: &ConnectOptions,
    generator: &Arc<Generator>,
    request: &Request,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Seeded> {
    let mut lease = Lease::take(options, "seed").await?;
    let mut session = Session::connect(options, "seed").await?;
    session.execute("SET maintenance_work_mem = '256MB'").await?;
    // Before the wipe: a mistyped name must not cost the data of the database that was really named.
    admin::check_disposable(&mut session, request.disposable.as_deref()).await?;
    let mut disposable = request.disposable.clone();
    if request.reset && admin::wipe(&mut session, options).await? {
        // The sentinel was there: what else is in the database was there beside it, and may stay.
        disposable.get_or_insert(options.database.clone());
    }
    let meta = admin::claim(&mut session, options, disposable.as_deref()).await?;
    let wanted = wanted(generator);
    let seeded = match already_there(&mut session, options, &meta, &wanted).await? {
        Some((loaded, runs)) => Seeded { meta, loaded, took: None, runs },
        None => {
            let (took, data_hash) = load(&mut session, options, generator, request.connections.max(1), progress).await?;
            if !lease.is_held().await {
                return Err(Error::inconclusive(
                    "the lease on the database was lost during the load; it stays marked as incomplete",
                )
                .cure(options.command(&format!("seed --reset {}", wanted.flags()))));
            }
            let loaded = Loaded { data_hash, ..wanted };
            finish(&mut session, &loaded).await?;
            // What counts is what a later command will read.
            let (meta, loaded) = admin::require_loaded(&mut session, options).await?;
            Seeded { meta, loaded, took: Some(took), runs: 0 }
        }
    };
    session.close().await;
    lease.release().await;
    Ok(seeded)
}

/// What the sentinel will say of these rows; the hash is known only after the load.
pub fn wanted(generator: &Generator) -> Loaded {
    Loaded {
        dataset: generator.dataset().name().into(),
        rng_seed: generator.rng_seed(),
        scale: generator.scale(),
        variant: generator.variant().map(Into::into),
        generator_version: GENERATOR_VERSION,
        data_hash: String::new(),
        as_of: generator.as_of().text(),
        load: String::new(),
    }
}

/// The finished load that `wanted` asks for, if it is there; `None` for a database without rows.
async fn already_there(
    session: &mut Session,
    options: &ConnectOptions,
    meta: &Meta,
    wanted: &Loaded,
) -> Result<Option<(Loaded, i64)>> {
    let again = options.command(&format!("seed --reset {}", wanted.flags())) + ", which removes it with its runs and starts over";
    if let Some(loaded) = &meta.loaded {
        let key = |l: &Loaded| (l.flags(), l.generator_version);
        if key(loaded) == key(wanted) {
            let runs = session.integer("SELECT count(*) FROM dbstress.run").await?;
            return Ok(Some((loaded.clone(), runs)));
        }
        let (holds, asked) = (describe(loaded), describe(wanted));
        return Err(Error::usage(format!("{options} holds {holds}; asked for was {asked}; nothing was changed")).cure(again));
    }
    for table in Table::ALL {
        let name = table.name();
        if session.text(&format!("SELECT 1 FROM dbstress.{name} LIMIT 1")).await?.is_some() {
            return Err(Error::usage(format!("the dataset in {options} is incomplete: a seed did not finish")).cure(again));
        }
    }
    Ok(None)
}

fn describe(loaded: &Loaded) -> String {
    let Loaded { dataset, scale, rng_seed, generator_version, .. } = loaded;
    let variant = loaded.variant.as_ref().map(|v| format!("{v}, ")).unwrap_or_default();
    format!("{dataset}, scale {scale}, rng_seed {rng_seed}, {variant}generator {generator_version}")
}

/// Rows, then keys and indexes, then statistics; the times and the data hash.
async fn load(
    session: &mut Session,
    options: &ConnectOptions,
    generator: &Arc<Generator>,
    connections: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Took, String)> {
    let began = Instant::now();
    constraints::remove(session).await?;
    let data_hash = load_rows(options, generator, connections, progress).await?;
    let rows = began.elapsed();

    let began = Instant::now();
    constraints::add(session, |done, all| progress(Progress::Constraints(done, all))).await?;
    let constraints = began.elapsed();

    let began = Instant::now();
    progress(Progress::Statistics);
    let tables: Vec<String> = generator.tables().iter().map(|t| format!("dbstress.{}", t.name())).collect();
    // VACUUM too: otherwise autovacuum does it in the middle of the first measured run.
    session.execute(&format!("VACUUM (ANALYZE) {}", tables.join(", "))).await?;
    Ok((Took { rows, constraints, statistics: began.elapsed() }, data_hash))
}

/// What one connection contributed.
#[derive(Default)]
struct Share {
    /// Piece number and SHA-256 of its rows.
    digests: Vec<(u64, [u8; 32])>,
    /// Rows that PostgreSQL says it took, by table.
    rows: [u64; Table::ALL.len()],
}

/// Loads all tables over several connections; the data hash.
async fn load_rows(
    options: &ConnectOptions,
    generator: &Arc<Generator>,
    connections: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<String> {
    let total = generator.rows_in_all();
    // A connection that would load less than a batch costs more than it brings.
    let useful = usize::try_from(total / generate::BATCH_ROWS + 1).unwrap_or(usize::MAX);
    let (next, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..connections.min(useful) {
        workers.spawn(work(options.clone(), generator.clone(), next.clone(), sent.clone()));
    }
    let mut digests = vec![[0; 32]; usize::try_from(generator.pieces()).unwrap_or(usize::MAX)];
    let mut rows = [0; Table::ALL.len()];
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        // The first failure returns from here; dropping the set stops the other workers and their COPYs.
        let share = tokio::select! {
            _ = ticks.tick() => {
                progress(Progress::Rows(sent.load(Ordering::Relaxed), total));
                continue;
            }
            joined = workers.join_next() => match joined {
                None => break,
                Some(share) => share.map_err(|e| Error::inconclusive("a loading task ended early").because(e))??,
            },
        };
        for (piece, digest) in share.digests {
            digests[piece as usize] = digest;
        }
        for (sum, part) in rows.iter_mut().zip(share.rows) {
            *sum += part;
        }
    }
    progress(Progress::Rows(total, total));
    for table in generator.tables() {
        let arrived = rows[*table as usize];
        let made = generator.rows(*table);
        if made != arrived {
            return Err(Error::inconclusive(format!("{made} rows of {} were made, but {arrived} arrived", table.name()))
                .cure("dbstress seed --reset; if it happens again, look for a trigger or a rule on the table"));
        }
    }
    Ok(generator.combine(&digests))
}

/// One connection: takes the next piece that nobody has taken, until there is none. Keeps at most one encoded batch and two messages of it.
async fn work(options: ConnectOptions, generator: Arc<Generator>, next: Arc<AtomicU64>, sent: Arc<AtomicU64>) -> Result<Share> {
    let loader = Loader::connect(&options, "seed").await?;
    let mut share = Share::default();
    let mut open: Option<(Table, CopyIn)> = None;
    let mut in_copy = 0;
    loop {
        let piece = next.fetch_add(1, Ordering::Relaxed);
        let Some((table, batch)) = generator.piece(piece) else { break };
        let copy = match open.take() {
            Some((same, copy)) if same == table && in_copy < BATCHES_PER_COPY => copy,
            other => {
                if let Some((done, copy)) = other {
                    share.rows[done as usize] += copy.finish().await?;
                }
                in_copy = 0;
                loader.copy_in(&format!("dbstress.{}", table.name()), table.columns()).await?
            }
        };
        let (_, copy) = open.insert((table, copy));
        let rows = generator.rows_of(table, batch);
        let mut encoded = Vec::with_capacity(generate::BATCH_BYTES);
        generator.encode(table, rows.clone(), &mut encoded);
        share.digests.push((piece, Sha256::digest(&encoded).into()));
        copy.send(encoded).await?;
        in_copy += 1;
        sent.fetch_add(rows.end - rows.start, Ordering::Relaxed);
    }
    if let Some((done, copy)) = open {
        share.rows[done as usize] += copy.finish().await?;
    }
    Ok(share)
}

/// Completes the sentinel. Last of all; its commit is synchronous and so covers the asynchronous ones of the load.
async fn finish(session: &mut Session, loaded: &Loaded) -> Result<()> {
    let sql = format!(
        "SET synchronous_commit = on; \
         UPDATE dbstress.meta SET dataset = {}, rng_seed = {}, scale = {}, variant = {}, generator_version = {}, data_hash = {}, \
         as_of = {}, seeded_at = clock_timestamp()",
        admin::literal(&loaded.dataset),
        loaded.rng_seed,
        loaded.scale,
        loaded.variant.as_deref().map_or("NULL".into(), admin::literal),
        loaded.generator_version,
        admin::literal(&loaded.data_hash),
        admin::literal(&format!("{}Z", loaded.as_of)),
    );
    session.execute(&sql).await?;
    Ok(())
}
