//! One file per subcommand: arguments in, an exit code out. This file knows them all and what they share.

pub mod access;
pub mod acgme;
pub mod bugs;
pub mod capacity;
pub mod config;
pub mod db;
pub mod demo;
mod export;
pub mod faults;
mod interrupt;
pub mod pool;
pub mod run;
pub mod scenarios;
pub mod schema;
pub mod seed;
pub mod serve;
pub mod settings;
pub mod storm;
pub mod suite;
mod sweep;
mod target;
pub mod token;
pub mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::access::Subject;
use crate::pg::{ConnectOptions, Conninfo, Place, cluster};
use crate::report::screen::Screen;
use crate::verdict::Exit;
use crate::{Error, Result, state};

pub(crate) use interrupt::{block_on, interruptible};

/// Finds the double booking before the customers do.
///
/// Seeds synthetic data in PostgreSQL, hammers it with contended operations, and proves that nothing was overbooked, lost or applied twice.
/// Without a database URL it runs a private PostgreSQL of its own.
#[derive(Debug, Parser)]
#[command(name = "dbstress", version, propagate_version = true, after_help = exit_codes())]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The database to use: postgres://USER:PASSWORD@HOST:PORT/DATABASE, or 'host=… dbname=…' (else PGHOST, PGSERVICE and so on, else the private server)
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true, help_heading = "Database")]
    pub database_url: Option<String>,
    /// The load goes through this address, a pooler's or a proxy's, and everything else to the database directly: HOST:PORT, /DIRECTORY:PORT
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "DBSTRESS_VIA",
        value_parser = |text: &str| text.parse::<Place>(),
        help_heading = "Database"
    )]
    pub via: Option<Place>,
    /// Use the private server, whatever DATABASE_URL, PGHOST and so on say
    #[arg(long, global = true, help_heading = "Database")]
    pub managed: bool,
    /// Database on the private server
    #[arg(long, global = true, value_name = "NAME", default_value = cluster::DATABASE, env = "DBSTRESS_DATABASE", help_heading = "Private server")]
    pub database: String,
    /// No remarks and no progress, only results
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// No colours (also NO_COLOR)
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: bool,
    /// Where the private server and the histories of runs are kept
    #[arg(long, global = true, value_name = "DIR", env = "DBSTRESS_STATE_DIR", help_heading = "Private server")]
    pub state_dir: Option<PathBuf>,
    /// Directory of the PostgreSQL programs to run the server with
    #[arg(long, global = true, value_name = "DIR", env = "DBSTRESS_PG_BIN", help_heading = "Private server")]
    pub pg_bin: Option<PathBuf>,
    /// Major version of PostgreSQL to run
    #[arg(long, global = true, value_name = "N", env = "DBSTRESS_PG_VERSION", help_heading = "Private server")]
    pub pg_version: Option<u32>,
    /// Fetch nothing: where there is no PostgreSQL, say how to install one
    #[arg(
        long,
        global = true,
        env = "DBSTRESS_OFFLINE",
        value_parser = clap::builder::FalseyValueParser::new(),
        help_heading = "Private server"
    )]
    pub offline: bool,
    /// Stop the server when nobody has used it for this long; counts when it is started
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "DBSTRESS_IDLE_STOP",
        default_value = "30m",
        value_parser = humantime::parse_duration,
        help_heading = "Private server"
    )]
    pub idle_stop: Duration,
}

impl Global {
    /// What these flags say about the private server. Makes the state directory.
    ///
    /// # Errors
    /// Usage, when the state directory cannot be used.
    pub fn cluster(&self) -> Result<cluster::Settings> {
        let state = state::directory(self.state_dir.as_deref(), &env)?;
        Ok(cluster::Settings { state, ..self.located()? })
    }

    /// What [`Global::cluster`] says, without making or checking anything: to look at what is there, and to stop it.
    ///
    /// # Errors
    /// Usage, when what was named is no place.
    pub fn located(&self) -> Result<cluster::Settings> {
        let state = state::locate(self.state_dir.as_deref(), &env)?;
        Ok(cluster::Settings {
            pg_bin: self.pg_bin.clone(),
            pg_version: self.pg_version,
            idle_stop: self.idle_stop,
            offline: self.offline,
            ..cluster::Settings::new(state)?
        })
    }
}

impl Global {
    /// Refuses `--via` for `what`, which goes to the database directly.
    ///
    /// # Errors
    /// Usage, when something is given.
    pub fn refuse_via(&self, what: &str) -> Result<()> {
        match &self.via {
            None => Ok(()),
            Some(via) => Err(Error::usage(format!("{what} to the database directly, not through {via}"))
                .cure("leave out --via, and unset DBSTRESS_VIA")),
        }
    }

    /// Refuses a database that was typed for `what`, which has one of its own on the private server.
    ///
    /// # Errors
    /// Usage, when one is named. What the environment says is meant for other commands.
    pub fn refuse_another_database(&self, what: &str, screen: Screen) -> Result<()> {
        self.refuse_via(&format!("{what} on the private server and goes"))?;
        let flag = match () {
            () if self.types_a_url() && !self.managed => "--database-url",
            () if self.types_a_database() => "--database",
            () => {
                if self.database_url.is_some() && !self.managed {
                    screen.note(&format!("{what} on the private server, whatever DATABASE_URL says"));
                }
                return Ok(());
            }
        };
        Err(Error::usage(format!("{what} on the private server, in a database of its own, not in the one that {flag} names"))
            .cure(format!("leave out {flag}\nor, for your own database: dbstress seed, then dbstress suite")))
    }

    /// Refuses two answers to the question which database it is.
    ///
    /// # Errors
    /// Usage, when flags were typed of which only one could be obeyed, or no name at all.
    pub fn refuse_two_databases(&self) -> Result<()> {
        if self.database.is_empty() {
            return Err(Error::usage("--database names nothing").cure("--database NAME, or leave it out"));
        }
        if self.managed && self.types_a_url() {
            return Err(
                Error::usage("--managed takes the private server, and --database-url names another").cure("leave out one of them")
            );
        }
        let other = match &self.database_url {
            _ if self.managed => None,
            Some(url) if !url.is_empty() => Some(if self.types_a_url() { "--database-url names" } else { "DATABASE_URL names" }),
            _ => ConnectOptions::env_names_a_server(&env).then_some("the PG* variables name"),
        };
        match other.filter(|_| self.types_a_database()) {
            None => Ok(()),
            Some(other) => {
                Err(Error::usage(format!("--database is about the private server, and {other} another")).cure(
                    "name the database there, in the URL or in PGDATABASE\nor, for the private server: --managed, without --database-url",
                ))
            }
        }
    }

    fn types_a_url(&self) -> bool {
        self.database_url.as_ref().is_some_and(|url| env("DATABASE_URL").as_ref() != Some(url))
    }

    fn types_a_database(&self) -> bool {
        self.database != cluster::DATABASE && env("DBSTRESS_DATABASE").as_ref() != Some(&self.database)
    }

    /// What a command that does the same again must add to lead to the same database. What the environment says it says again; a password
    /// is never repeated.
    pub fn again(&self) -> String {
        let mut flags = String::new();
        if self.managed {
            flags.push_str(" --managed");
        }
        if let Some(url) = self.database_url.as_deref().filter(|url| !self.managed && env("DATABASE_URL").as_deref() != Some(*url))
            && let Ok(given) = Conninfo::parse(url)
        {
            flags.push_str(&format!(" --database-url {}", run::quoted(&given.url())));
        }
        if let Some(via) = self.via.as_ref().map(ToString::to_string).filter(|via| env("DBSTRESS_VIA").as_ref() != Some(via)) {
            flags.push_str(&format!(" --via {}", run::quoted(&via)));
        }
        if self.database != cluster::DATABASE && env("DBSTRESS_DATABASE").as_ref() != Some(&self.database) {
            flags.push_str(&format!(" --database {}", run::quoted(&self.database)));
        }
        let state_dir = self.state_dir.as_ref().map(|d| d.display().to_string());
        if let Some(state_dir) = state_dir.filter(|d| env("DBSTRESS_STATE_DIR").as_ref() != Some(d)) {
            flags.push_str(&format!(" --state-dir {}", run::quoted(&state_dir)));
        }
        flags
    }

    /// What leads psql to the same database, behind its options; a password is never repeated.
    fn conninfo(&self) -> String {
        match &self.database_url {
            Some(url) if !self.managed => match ConnectOptions::from_url(url, &env) {
                _ if env("DATABASE_URL").as_deref() == Some(url) => " \"$DATABASE_URL\"".into(),
                Ok(options) => format!(" '{}'", options.url(false)),
                Err(_) => String::new(),
            },
            // It listens to the same variables.
            None if !self.managed && ConnectOptions::env_names_a_server(&env) => String::new(),
            _ => format!(" \"$(dbstress db url{})\"", self.again()),
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a synthetic dataset into the database
    ///
    /// The same dataset, rng-seed and scale always make the same rows. Running it twice is safe: the second time nothing changes.
    #[command(
        after_help = "Examples:\n  dbstress seed --scale 10\n  dbstress seed --dataset residency --reset --plant all\n  dbstress seed --dataset residency --reset --days 84 --plant PL-1:10,PL-7"
    )]
    Seed(seed::Args),
    /// The sixty-second tour: a private PostgreSQL, seed, controls, every safe strategy, verify, verdict
    #[command(after_help = "Example:\n  dbstress demo --duration 3s")]
    Demo(demo::Args),
    /// Let virtual users contend for the same units, and prove that the rules held
    ///
    /// Each strategy has a turn. Unsafe twins of them run before and after, and must be caught: a test that cannot fail proves nothing.
    Contention(Box<run::Contention>),
    /// Run a scenario of your own, on your own tables too, or pgbench scripts
    ///
    /// `dbstress scenarios show mixed > mine.toml` is a start; `dbstress run -f script.sql` runs what pgbench runs.
    #[command(
        after_help = "Examples:\n  dbstress run mine.toml --vus 20 --duration 1m\n  dbstress run -f transfer.sql -D scale=10 --threshold 'failed.rate<0.01'"
    )]
    Run(Box<run::Args>),
    /// Everybody reserves, releases and consumes the same units, around full capacity
    #[command(after_help = "Example:\n  dbstress churn --vus 20 --strategy for-update --duration 10s")]
    Churn(Box<run::BuiltIn>),
    /// Reservations spread over many authorisations: how many per second, and how fast
    #[command(after_help = "Example:\n  dbstress throughput --rate 500 --duration 1m --threshold 'response:p(99)<50ms'")]
    Throughput(Box<run::BuiltIn>),
    /// An ordinary day: reserve, release and consume, some of it on a few hot authorisations
    #[command(after_help = "Example:\n  dbstress mixed --profile load --vus 200 --time-scale 0.1")]
    Mixed(Box<run::BuiltIn>),
    /// A crowd buys 20 authorisations of 25 units, a unit at a time, until all are sold out
    #[command(after_help = "Example:\n  dbstress flash-sale --strategy atomic --vus 200")]
    FlashSale(Box<run::BuiltIn>),
    /// Reads and writes in equal parts, without a pause: as much as the server can take
    #[command(after_help = "Example:\n  dbstress database-stress --stage 10s:100,1m:100 --pool-size 20")]
    DatabaseStress(Box<run::BuiltIn>),
    /// Everybody asks with the same idempotency key, some of them more than once: it is done once
    #[command(after_help = "Example:\n  dbstress idempotency --vus 100 --strategy for-update --duration 10s")]
    Idempotency(Box<run::BuiltIn>),
    /// Everybody changes the same schedule of residents: each change is legal, all of them together are not
    ///
    /// A write skew: nobody writes what anybody else writes, so that neither a row lock nor a snapshot keeps them apart. Needs
    /// `dbstress seed --dataset residency`.
    #[command(after_help = run::scheduling_help())]
    Scheduling(Box<run::BuiltIn>),
    /// Everybody wants the same resident's Saturday, for call or for a clinic: can a constraint keep a person from being in two places?
    #[command(after_help = "Example:\n  dbstress double-booking --strategy all --duration 5s")]
    DoubleBooking(Box<run::BuiltIn>),
    /// One user asks an API for everything that is read most: how fast is it when nobody else is there?
    ///
    /// Without --target the reference server is started for the run; it needs `dbstress seed --dataset residency`.
    #[command(after_help = "Example:\n  dbstress baseline --target http://127.0.0.1:8971 --read-only")]
    Baseline(Box<run::BuiltIn>),
    /// Up to a hundred people in four roles ask an API for what such people look at, with pauses
    ///
    /// Without --target the reference server is started for the run; it needs `dbstress seed --dataset residency`.
    #[command(after_help = "Example:\n  dbstress concurrent-users --profile spike --vus 200 --time-scale 0.1")]
    ConcurrentUsers(Box<run::BuiltIn>),
    /// Customers browse, search, order and ask for reports of an API, as 40 to 30 to 20 to 10
    ///
    /// Without --target the reference server is started for the run, on the clinic.
    #[command(after_help = "Example:\n  dbstress behaviour-mix --profile load --vus 100 --time-scale 0.1")]
    BehaviourMix(Box<run::BuiltIn>),
    /// Run every scenario tagged `suite`, one after the other: only all of them together say GO
    #[command(after_help = "Example:\n  dbstress suite mine.toml --tag commit=1a2b3c --summary-export suite.json")]
    Suite(Box<suite::Args>),
    /// Climb a ladder of load until the SLO breaks: how much does it stand?
    ///
    /// Each step is a run of its own. The last step that kept the SLO and the first that missed it are tried three times; the majority counts.
    /// The SLO is the scenario's thresholds and those of --threshold; where there are none, response:p(95)<200ms and aborted.rate<0.01.
    #[command(after_help = "Example:\n  dbstress capacity mixed --ladder 50,100,200,400 --step 30s")]
    Capacity(Box<capacity::Args>),
    /// Ask the database whether the rules hold: every invariant in one snapshot, with the operations that broke them
    #[command(after_help = "Example:\n  dbstress verify --invariant units-within-total")]
    Verify(verify::Args),
    /// Fifteen drills of a pool of connections, each with a known right answer: its limit, leaks, recovery, locks, transactions, speed
    ///
    /// Two mistakes are made first, and must be caught. --self-test makes every mistake in every drill that must find it.
    #[command(after_help = "Examples:\n  dbstress pool\n  dbstress pool --bug leak\n  dbstress pool --drill saturation,row-lock")]
    Pool(pool::Args),
    /// Are a server's limits kept to the request, at their edge, after their window, for each tenant apart, and in a flood?
    ///
    /// Before each drill a server with each mistake that it must find is examined, and must be found out. --self-test makes all of them.
    #[command(
        after_help = "Examples:\n  dbstress rate-limit\n  dbstress rate-limit --bug limit-fails-open\n  dbstress rate-limit --target http://127.0.0.1:8971 --drill exact"
    )]
    RateLimit(Box<access::Args>),
    /// Does a server let in whom it should, and nobody else? Tokens, passwords and roles, right and wrong
    ///
    /// Before each drill a server with each mistake that it must find is examined, and must be found out. --self-test makes all of them.
    #[command(
        after_help = "Examples:\n  dbstress auth\n  dbstress auth --bug any-signature\n  dbstress auth --drill invalid-tokens,roles"
    )]
    Auth(Box<access::Args>),
    /// Are organisations kept apart, on every route, by row-level security, in pooled sessions, and beside a noisy neighbour?
    ///
    /// Before each drill each mistake that it must find is made, and must be found out. --self-test makes all of them.
    #[command(
        after_help = "Examples:\n  dbstress tenants\n  dbstress tenants --bug no-tenant-check\n  dbstress tenants --drill row-security"
    )]
    Tenants(Box<access::Args>),
    /// Are the checks of duty hours right while the schedule changes? Validators beside writers, compared with planted cases
    ///
    /// First writers change what is not validated, then they mend and plant the cases; a validator that takes no snapshot must be caught.
    #[command(
        after_help = "Examples:\n  dbstress seed --reset --dataset residency --plant all\n  dbstress acgme --rules all\n  dbstress acgme --self-test"
    )]
    Acgme(acgme::Args),
    /// Serve the dataset over HTTP: an API to be tested, as right as it says, or with a known mistake
    ///
    /// Bookings and appointments of the clinic, or the schedule of the residency, whichever is there. On this machine alone, unless --allow-remote.
    #[command(
        after_help = "Examples:\n  dbstress serve\n  dbstress serve --strategy for-update --limit all=100/15m\n  dbstress serve --bug check-then-act --for 1m"
    )]
    Serve(Box<serve::Args>),
    /// Print a token for an account of the server, or list the accounts
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(dbstress token)\" http://127.0.0.1:8971/v1/authorisations"
    )]
    Token(token::Args),
    /// Would it find the mistakes that people make? A catalogue of them, and a run of each
    #[command(after_help = "Example:\n  dbstress bugs run lock-and-read")]
    Bugs(bugs::Bugs),
    /// Cancel requests while they begin a transaction: does a client stack give the connection back inside it?
    ///
    /// tokio-postgres, deadpool-postgres and sqlx, as built in, through a slow wire. A pool without a guard is tried first, and must be caught.
    #[command(after_help = "Example:\n  dbstress cancel-storm --client tokio-postgres")]
    CancelStorm(storm::Args),
    /// Show the scenarios that come with the program, start a file of your own from one, check it
    #[command(after_help = "Example:\n  dbstress scenarios show mixed > mine.toml")]
    Scenarios(scenarios::Scenarios),
    /// Show what can go wrong on purpose: what --fault and `faults` in a file understand
    ///
    /// Second column: any = on any server; no-tls = on any server, through a proxy that dbstress puts before it; private = on the private server
    /// only.
    #[command(after_help = "Example:\n  dbstress contention --fault terminate@5s..25s/500ms --fault crash@15s")]
    Faults(faults::Faults),
    /// Print which settings a scenario would run with, and who decided each: flag, environment, file or default
    #[command(after_help = "Example:\n  dbstress config throughput --profile stress --vus 40")]
    Config(Box<config::Args>),
    /// Print the JSON Schema of scenario files, for editors
    #[command(after_help = "Example:\n  dbstress schema > dbstress.schema.json")]
    Schema,
    /// Start, stop and inspect the private PostgreSQL server
    #[command(after_help = "Example:\n  psql \"$(dbstress db url)\"")]
    Db(db::Db),
}

impl Cli {
    /// What was typed, and where each value of the subcommand came from.
    ///
    /// # Errors
    /// What clap has to say: `--help` too, and a flag that there is not.
    pub fn read() -> Result<(Self, ArgMatches), clap::Error> {
        let arguments = with_their_values(std::env::args_os().collect());
        let is_plain = arguments.iter().any(|argument| argument == "--no-color");
        let colour = if is_plain { ColorChoice::Never } else { ColorChoice::Auto };
        let matches = Self::command().color(colour).try_get_matches_from(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        let of_command = matches.subcommand().map(|(_, matches)| matches.clone());
        Ok((cli, of_command.unwrap_or_default()))
    }

    /// Runs the command; `matches` are those of the subcommand.
    ///
    /// # Errors
    /// Whatever kept it from reaching a verdict.
    pub fn run(self, matches: &ArgMatches, screen: Screen) -> Result<Exit> {
        let global = &self.global;
        match self.command {
            Command::Seed(args) => block_on(async {
                let state = global.cluster()?.state;
                let target = target::resolve(global, screen).await?;
                seed::run(args, &target.options, &state, screen).await
            }),
            Command::Demo(args) => block_on(demo::run(args, global, screen)),
            Command::Contention(args) => block_on(run::contention(&args, matches, global, screen)),
            Command::Run(args) => block_on(run::run(&args, matches, global, screen)),
            Command::Churn(args) => block_on(run::built_in("churn", &args.common, matches, global, screen)),
            Command::Throughput(args) => block_on(run::built_in("throughput", &args.common, matches, global, screen)),
            Command::Mixed(args) => block_on(run::built_in("mixed", &args.common, matches, global, screen)),
            Command::FlashSale(args) => block_on(run::built_in("flash-sale", &args.common, matches, global, screen)),
            Command::DatabaseStress(args) => block_on(run::built_in("database-stress", &args.common, matches, global, screen)),
            Command::Idempotency(args) => block_on(run::built_in("idempotency", &args.common, matches, global, screen)),
            Command::Scheduling(args) => block_on(run::built_in("scheduling", &args.common, matches, global, screen)),
            Command::DoubleBooking(args) => block_on(run::built_in("double-booking", &args.common, matches, global, screen)),
            Command::Baseline(args) => block_on(run::built_in("baseline", &args.common, matches, global, screen)),
            Command::ConcurrentUsers(args) => block_on(run::built_in("concurrent-users", &args.common, matches, global, screen)),
            Command::BehaviourMix(args) => block_on(run::built_in("behaviour-mix", &args.common, matches, global, screen)),
            Command::Suite(args) => block_on(suite::run(&args, matches, global, screen)),
            Command::Capacity(args) => block_on(capacity::run(&args, matches, global, screen)),
            Command::Verify(args) => {
                if let Some(exit) = verify::offline(&args, screen)? {
                    return Ok(exit);
                }
                block_on(interruptible(async {
                    let target = target::existing(global, screen).await?;
                    let args = verify::Args { flags: global.again(), state: global.located()?.state, ..args };
                    verify::run(&args, &target.options, screen).await
                }))
            }
            Command::CancelStorm(args) => block_on(storm::run(&args, global, screen)),
            Command::RateLimit(args) => access::run(Subject::RateLimit, &args, global, screen),
            Command::Auth(args) => access::run(Subject::Auth, &args, global, screen),
            Command::Tenants(args) => access::run(Subject::Tenants, &args, global, screen),
            Command::Acgme(args) => block_on(acgme::run(&args, global, screen)),
            Command::Pool(args) => pool::run(&args, global, screen),
            Command::Serve(args) => block_on(serve::run(&args, global, screen)),
            Command::Token(args) => block_on(interruptible(token::run(&args, global, screen))),
            Command::Bugs(args) => bugs::run(&args, global, screen),
            Command::Scenarios(scenarios) => scenarios::run(&scenarios, screen),
            Command::Faults(args) => Ok(faults::run(&args, screen)),
            Command::Config(args) => config::run(&args, matches, screen),
            Command::Schema => schema::run(screen),
            Command::Db(db) => db::run(db, global, &screen),
        }
    }
}

/// What dbstress runs of itself, and nobody types; `None` when it is not that.
pub fn internal() -> Option<Result<Exit>> {
    let mut arguments = std::env::args_os().skip(1);
    let done = match arguments.next()?.to_str()? {
        cluster::HOLD => cluster::hold(),
        // Before any runtime or thread is made: it must be the only one.
        cluster::SUPERVISE => cluster::supervise(&PathBuf::from(arguments.next()?)),
        _ => return None,
    };
    Some(done.map(|()| Exit::Pass))
}

/// The arguments with each negative number bound to the flag before it, which then says what is wrong with it: `--vus -5` is `--vus=-5`.
fn with_their_values(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut bound: Vec<OsString> = Vec::new();
    for argument in arguments {
        let is_number = argument
            .to_str()
            .and_then(|text| text.strip_prefix('-'))
            .is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        let is_flag = |text: &str| text.starts_with('-') && text.len() > 1 && text != "--" && !text.contains('=');
        match bound.last_mut().filter(|before| is_number && before.to_str().is_some_and(is_flag)) {
            Some(flag) => {
                flag.push("=");
                flag.push(argument);
            }
            None => bound.push(argument),
        }
    }
    bound
}

/// The real environment.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn exit_codes() -> String {
    let lines: Vec<String> = Exit::ALL.iter().map(|e| format!("  {:>3}  {}", e.code(), e.meaning())).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}
