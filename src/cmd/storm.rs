//! `dbstress cancel-storm`: does a client stack give a connection back inside an open transaction when a request is cancelled?

use std::path::PathBuf;

use super::run::quoted;
use super::{Global, export, interruptible, target};
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease, Session};
use crate::report::screen::Screen;
use crate::report::storm as report;
use crate::storm::{self, Client, Request, StormRecord};
use crate::verdict::Exit;
use crate::{Error, Result};

/// What it is called in `pg_stat_activity`.
const ROLE: &str = "cancel-storm";

/// Flags of `cancel-storm`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Clients to try, separated by commas: tokio-postgres, deadpool-postgres, sqlx [default: all of them]
    #[arg(long = "client", value_name = "NAME,…", env = "DBSTRESS_CLIENT", value_delimiter = ',')]
    pub clients: Vec<String>,
    /// Requests for a transaction that each client is given
    #[arg(long, value_name = "N", env = "DBSTRESS_REQUESTS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub requests: u32,
    /// Connections of each pool
    #[arg(long, value_name = "N", env = "DBSTRESS_POOL_SIZE", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub pool_size: u32,
    /// What the deadlines of requests are drawn from
    #[arg(long, value_name = "N", env = "DBSTRESS_RNG_SEED", default_value_t = 42)]
    pub rng_seed: u64,
    /// Also write the record, as JSON
    #[arg(long, value_name = "FILE", env = "DBSTRESS_SUMMARY_EXPORT")]
    pub summary_export: Option<PathBuf>,
    /// Work in this database although it holds tables that are not dbstress's: it must be the one that is connected to
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    pub disposable: Option<String>,
}

impl Args {
    /// What is asked for.
    ///
    /// # Errors
    /// Usage: a client that there is not, a file that cannot be written.
    fn request(&self, global: &Global) -> Result<Request> {
        export::check(self.summary_export.as_deref())?;
        global.refuse_via("these clients go")?;
        let mut clients: Vec<Client> = Vec::new();
        for name in &self.clients {
            let client = name.trim().parse()?;
            if !clients.contains(&client) {
                clients.push(client);
            }
        }
        let mut command = "dbstress cancel-storm".to_owned();
        if clients.is_empty() {
            clients = Client::REAL.to_vec();
        } else {
            let names: Vec<&str> = clients.iter().map(|client| client.name()).collect();
            command += &format!(" --client {}", names.join(","));
        }
        command += &format!(" --requests {} --pool-size {} --rng-seed {}", self.requests, self.pool_size, self.rng_seed);
        if let Some(name) = &self.disposable {
            command += &format!(" --disposable {}", quoted(name));
        }
        command += &global.again();
        Ok(Request { clients, requests: self.requests, pool_size: self.pool_size, rng_seed: self.rng_seed, command })
    }
}

/// Runs the command.
///
/// # Errors
/// Usage: a client that there is not, a database that may not be written to. Inconclusive, if the server was lost.
pub async fn run(args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    let request = args.request(global)?;
    let screen = export::beside(args.summary_export.as_deref(), screen);
    let target = interruptible(target::resolve(global, screen)).await?;
    let record = on(&request, args.disposable.as_deref(), &target.options, screen).await?;
    screen.out(&report::text(&record, screen.width, screen.colour));
    export::keep(&record, args.summary_export.as_deref(), screen);
    Ok(record.verdict.exit())
}

/// The storm on a database; whatever becomes of it, nothing of it is left.
async fn on(request: &Request, disposable: Option<&str>, options: &ConnectOptions, screen: Screen) -> Result<StormRecord> {
    let mut session = Session::connect(options, ROLE).await?;
    let mut lease = Lease::take(options, ROLE).await?;
    admin::claim(&mut session, options, disposable).await?;
    storm::prepare(&mut session).await?;
    let stormed = interruptible(storm::run(request, options, &mut session, |client| screen.note(&report::note(client)))).await;
    // What was given up in the middle of an answer is not fit to be asked anything else, and is ended.
    drop(session);
    let mut session = Session::connect(options, ROLE).await?;
    let cleared = storm::clear(&mut session).await;
    session.close().await;
    let is_held = lease.is_held().await;
    lease.release().await;
    let record = stormed?;
    cleared?;
    if !is_held {
        return Err(Error::inconclusive("the lease on the database was lost: somebody else may have worked on it"));
    }
    Ok(record)
}
