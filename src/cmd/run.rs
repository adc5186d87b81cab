//! `dbstress run`, and every built-in scenario as a subcommand: follow a scenario, and say what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::config::stdin;
use super::settings::{Settings, refuse_what_a_server_decides};
use super::target::{self, Target};
use super::{Global, env, export, interrupt};
use crate::api::{self, Server};
use crate::http::Address;
use crate::outcome::OutcomeClass;
use crate::pg::admin::{self, Sentinel, Session};
use crate::plan::{HAZARD, Plan, Workload};
use crate::record::{Moment, RunRecord};
use crate::report::progress::{Live, Style};
use crate::report::run as report;
use crate::report::screen::Screen;
use crate::report::text::grouped;
use crate::run::api::Target as Api;
use crate::run::{self, Event, Request, foreign};
use crate::scenario::{self, Scenario, Scheduling, Sql};
use crate::strategy::{Claim, Hazard, Strategy};
use crate::token::Secret;
use crate::verdict::Exit;
use crate::{Error, Result, files};

/// Flags of every command that runs a scenario.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    /// What is laid over the scenario.
    #[command(flatten)]
    pub settings: Settings,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Style::Auto, env = "DBSTRESS_PROGRESS", help_heading = "Output")]
    pub progress: Style,
}

/// Flags of a built-in scenario's subcommand.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuiltIn {
    /// What they have in common.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `contention`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = strategies_help())]
pub struct Contention {
    /// What they have in common.
    #[command(flatten)]
    pub common: Common,
    /// How the VUs contend: in rounds, or in `churn` around full capacity
    #[arg(long, value_enum, default_value_t = Mode::Contest, env = "DBSTRESS_MODE", help_heading = "Booking")]
    pub mode: Mode,
}

/// How the virtual users of `contention` contend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Rounds: all VUs at once reserve from a fresh authorisation; the number of winners is known beforehand
    #[default]
    Contest,
    /// Reserve, release and consume around full capacity, without pause: the scenario `churn`
    Churn,
}

/// Flags of `run`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// A file that ends in .toml, a built-in scenario, or - for standard input
    #[arg(value_name = "SCENARIO", required_unless_present = "script", conflicts_with = "script")]
    pub scenario: Option<String>,
    /// A pgbench script instead of a scenario, as transfer.sql or transfer.sql@3 with a weight; repeatable
    #[arg(short = 'f', long = "script", value_name = "FILE[@WEIGHT]")]
    pub script: Vec<String>,
    /// A variable of the scripts, as scale=10; repeatable
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", requires = "script")]
    pub define: Vec<String>,
    /// Work in this database although it holds tables that are not dbstress's: it must be the one that is connected to
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    pub disposable: Option<String>,
    /// Let a run pass although nothing has shown that it could have failed
    #[arg(long, env = "DBSTRESS_ACCEPT_UNCONTROLLED", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Result")]
    pub accept_uncontrolled: bool,
    /// What they have in common.
    #[command(flatten)]
    pub common: Common,
}

fn strategies_help() -> String {
    format!("{}\n\nExample:\n  dbstress contention --strategy all --vus 20 --duration 10s", strategies(HAZARD))
}

/// What `scheduling --help` ends with.
pub fn scheduling_help() -> String {
    format!("{}\n\nExample:\n  dbstress scheduling --strategy all --duration 10s", strategies(Hazard::WriteSkew))
}

/// The strategies that can be tried where `hazard` can happen.
fn strategies(hazard: Hazard) -> String {
    let line = |s: Strategy| {
        let mark = if s.claim(hazard) == Claim::Unsafe { " (unsafe)" } else { "" };
        format!("  {:<20} {}{mark}", s.name(), s.summary())
    };
    let usable = Strategy::ALL.into_iter().filter(|s| s.inexpressible(hazard).is_none());
    format!("Strategies:\n{}", usable.map(line).collect::<Vec<_>>().join("\n"))
}

/// A scenario with everything that was typed laid over it, ready to be run.
pub struct Prepared {
    /// What is run.
    pub plan: Plan,
    /// The reference server that is asked, if one is.
    pub api: Option<Address>,
    /// What is run and what a reader may type afterwards.
    pub commands: Commands,
    /// The database that everything may be lost from.
    pub disposable: Option<String>,
    /// Whether it may pass uncontrolled.
    pub accepts_uncontrolled: bool,
}

/// What is run, and what a reader may type afterwards.
pub struct Commands {
    /// The subcommand.
    pub name: &'static str,
    /// Runs it again.
    pub again: String,
    /// Shows the rows it left.
    pub verify: String,
}

/// Lays settings over a scenario and makes a plan of it. `matches` are those of the subcommand, `typed` is what comes before the settings.
///
/// # Errors
/// Usage, with the flag or the variable.
pub fn prepare(
    mut scenario: Scenario,
    settings: &Settings,
    matches: &ArgMatches,
    name: &'static str,
    typed: &str,
    global: &Global,
) -> Result<Prepared> {
    export::check(settings.summary_export.as_deref())?;
    if let Some(target) = settings.target.as_ref().filter(|_| !matches!(scenario.workload, scenario::Workload::Http(_))) {
        refuse_what_a_server_decides(target, matches)?;
        global.refuse_via("--target leads to a server, and that")?;
    }
    settings.lay_over(&mut scenario, matches)?;
    let tags = settings.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    let flags = global.again();
    let commands = Commands {
        name,
        again: format!("dbstress {typed}{}{flags}", settings.again(matches)),
        verify: match &scenario.workload {
            scenario::Workload::Sql(sql) => shows_rows(sql, global),
            _ => format!("dbstress verify{flags}"),
        },
    };
    // Whom an API's own scenario asks is in its plan.
    let api = settings.target.clone().filter(|_| !matches!(scenario.workload, scenario::Workload::Http(_)));
    Ok(Prepared { plan: Plan::of(&scenario, tags), api, commands, disposable: None, accepts_uncontrolled: false })
}

/// The command that shows what a user's own rules find in a user's own rows; empty if there are no rules.
fn shows_rows(sql: &Sql, global: &Global) -> String {
    let files = sql.invariants.iter().filter_map(|rule| rule.file.as_ref());
    let files: String = files.map(|file| format!(" -f {}", quoted(&file.display().to_string()))).collect();
    if files.is_empty() {
        return files;
    }
    // A connection that leads to the tables by itself leads psql there, too.
    let path = match sql.names_schema {
        true => format!(" -c {}", quoted(&format!("SET search_path TO {}", admin::identifier(&sql.schema)))),
        false => String::new(),
    };
    format!("psql{path}{files}{}", global.conninfo())
}

/// Runs a built-in scenario.
///
/// # Errors
/// What kept it from reaching a verdict.
pub async fn built_in(name: &'static str, common: &Common, matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let prepared = prepare(Scenario::built_in(name)?, &common.settings, matches, name, name, global)?;
    finish(prepared, common, global, screen).await
}

/// Runs `contention`.
///
/// # Errors
/// What kept it from reaching a verdict.
pub async fn contention(args: &Contention, matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let (file, typed) = match args.mode {
        Mode::Contest => ("contention", "contention"),
        Mode::Churn => ("churn", "contention --mode churn"),
    };
    let prepared = prepare(Scenario::built_in(file)?, &args.common.settings, matches, "contention", typed, global)?;
    finish(prepared, &args.common, global, screen).await
}

/// Runs `run`.
///
/// # Errors
/// What kept it from reaching a verdict.
pub async fn run(args: &Args, matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let (scenario, mut typed) = match &args.scenario {
        Some(what) => (Scenario::load(what, stdin)?, format!("run {}", quoted(what))),
        None => (Scenario::of_scripts(&scripts(&args.script)?, &defines(&args.define)?)?, "run".to_owned()),
    };
    for (flag, values) in [("-f", &args.script), ("-D", &args.define)] {
        typed.extend(values.iter().map(|value| format!(" {flag} {}", quoted(value))));
    }
    if let Some(name) = &args.disposable {
        typed += &format!(" --disposable {}", quoted(name));
    }
    if args.accept_uncontrolled {
        typed += " --accept-uncontrolled";
    }
    let prepared = prepare(scenario, &args.common.settings, matches, "run", &typed, global)?;
    let prepared = Prepared { disposable: args.disposable.clone(), accepts_uncontrolled: args.accept_uncontrolled, ..prepared };
    finish(prepared, &args.common, global, screen).await
}

fn scripts(texts: &[String]) -> Result<Vec<(PathBuf, f64)>> {
    texts
        .iter()
        .map(|text| {
            let weighted = text.rsplit_once('@').and_then(|(path, weight)| Some((path, weight.parse::<f64>().ok()?)));
            match weighted {
                Some((_, weight)) if !weight.is_finite() || weight < 0.0 => {
                    Err(Error::usage(format!("-f {text}: a weight cannot be {weight}")).cure("0 or more; 0 is never chosen"))
                }
                Some((path, weight)) => Ok((path.into(), weight)),
                None => Ok((text.into(), 1.0)),
            }
        })
        .collect()
}

fn defines(texts: &[String]) -> Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| {
            text.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .ok_or_else(|| Error::usage(format!("-D {text} defines nothing")).cure("write -D NAME=VALUE, such as -D scale=10"))
        })
        .collect()
}

/// As a shell takes it for one word.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

async fn finish(prepared: Prepared, common: &Common, global: &Global, screen: Screen) -> Result<Exit> {
    let state = global.cluster()?.state;
    let export = common.settings.summary_export.as_deref();
    let screen = export::beside(export, screen);
    // Who asks an API needs no database, unless it is to look into the one behind it.
    let record = match prepared.plan.http().filter(|http| !foreign::needs_database(http) && http.target.is_some()) {
        Some(_) => ask(prepared, None, &state, common.progress, screen).await?,
        None => {
            let target = target::resolve(global, screen).await?;
            execute(prepared, &target, &state, common.progress, screen).await?
        }
    };
    let archived = keep(&record, &state, export);
    screen.out(&report::text(&record, archived.place.as_deref(), screen.width, screen.colour));
    archived.say(screen);
    Ok(exit(&record))
}

/// A private database that nobody has seeded yet is seeded first, with what the workload needs: there is nothing of the user's in it.
async fn seed_if_empty(workload: &Workload, target: &Target, state: &Path, screen: Screen) -> Result<()> {
    let defaults = super::seed::Args::default();
    let dataset = match workload {
        Workload::Booking(_) => defaults.dataset.clone(),
        Workload::Scheduling(_) => Scheduling::DATASET.to_owned(),
        Workload::Http(http) => match &http.dataset {
            Some(dataset) if http.target.is_none() => dataset.clone(),
            _ => return Ok(()),
        },
        Workload::Sql(_) => return Ok(()),
    };
    if target.private.is_none() {
        return Ok(());
    }
    let mut session = Session::connect(&target.options, "seed").await?;
    let is_empty = match admin::inspect(&mut session).await? {
        Sentinel::Absent { foreign_relations } => foreign_relations == 0,
        // Claimed for operations of the user's own, and never seeded.
        Sentinel::Ours(meta) => meta.loaded.is_none() && session.integer("SELECT count(*) FROM dbstress.organisation").await? == 0,
        Sentinel::Copied | Sentinel::Newer { .. } => false,
    };
    session.close().await;
    if is_empty {
        screen.note("the private database is empty: seeding it first");
        let seed = super::seed::Args { reset: true, dataset, ..defaults };
        super::seed::load(seed, &target.options, state, Screen { quiet: true, ..screen }).await?;
    }
    Ok(())
}

/// What the server's tokens are signed with: what both were given, or what it keeps on this machine.
fn secret(state: &Path) -> Result<Secret> {
    if let Some(text) = env("DBSTRESS_API_SECRET") {
        return Secret::chosen(&text);
    }
    Secret::kept(state)?.ok_or_else(|| {
        Error::usage(format!(
            "no server has left the secret of its tokens in {}, so that nobody could be asked as",
            state.display()
        ))
        .cure("dbstress serve, with the same --state-dir; or give both the same DBSTRESS_API_SECRET")
    })
}

/// Runs a plan with progress on the screen.
///
/// # Errors
/// What kept it from beginning.
pub async fn execute(prepared: Prepared, target: &Target, state: &Path, style: Style, screen: Screen) -> Result<RunRecord> {
    // Whoever reads objects can do without remarks between them.
    let screen = Screen { quiet: screen.quiet || style == Style::Json, ..screen };
    if prepared.plan.http().is_some() {
        return ask(prepared, Some(target), state, style, screen).await;
    }
    let Prepared { plan, api, commands, disposable, accepts_uncontrolled } = prepared;
    let api = match api {
        Some(address) => Some(Api { address, secret: secret(state)? }),
        None => {
            seed_if_empty(&plan.workload, target, state, screen).await?;
            None
        }
    };
    interrupt::graceful(screen, |interrupt| async {
        let mut live = Live::new(style, screen, plan.load.clone());
        let request = Request {
            plan,
            options: target.options.clone(),
            via: target.via.clone(),
            target: api,
            command_name: commands.name,
            command: commands.again,
            verify: commands.verify,
            disposable,
            accepts_uncontrolled,
            server: target.private.clone(),
            state: state.to_owned(),
            interrupt,
        };
        run::run(request, |event| tell(event, &mut live, screen)).await
    })
    .await
}

/// Asks an API of anybody's, with progress on the screen; `database` is the one behind it, as far as the scenario looks into it.
async fn ask(prepared: Prepared, database: Option<&Target>, state: &Path, style: Style, screen: Screen) -> Result<RunRecord> {
    let screen = Screen { quiet: screen.quiet || style == Style::Json, ..screen };
    let Prepared { plan, api: _, commands, disposable, accepts_uncontrolled } = prepared;
    let address = plan.http().and_then(|http| http.target.as_deref()).map(Address::parse).transpose()?;
    let (target, server) = match (address, database) {
        (Some(address), _) => (address, None),
        (None, Some(database)) => {
            seed_if_empty(&plan.workload, database, state, screen).await?;
            let server = Server::start(api::Settings::new(database.options.clone(), Secret::ensure(state)?)).await?;
            let wanted = plan.http().and_then(|http| http.dataset.as_deref()).unwrap_or(&server.about().dataset).to_owned();
            if server.about().dataset != wanted {
                let there = server.about().dataset.clone();
                server.stop().await;
                return Err(Error::usage(format!("the database holds the dataset {there}, and this is asked of the {wanted}"))
                    .cure(
                        database.options.command(&format!("seed --reset --dataset {wanted}"))
                            + ", which removes it; or another database",
                    ));
            }
            screen.note(&format!("the reference server listens on {} for this run", server.address()));
            (server.address(), Some(server))
        }
        (None, None) => {
            return Err(Error::usage("it is not said which API is asked").cure("--target http://HOST:PORT, or target in [http]"));
        }
    };
    let secret = match env("DBSTRESS_API_SECRET") {
        Some(text) if server.is_none() => Some(Secret::chosen(&text)?),
        _ => Secret::kept(state)?,
    };
    let asked = interrupt::graceful(screen, |interrupt| async {
        let mut live = Live::new(style, screen, plan.load.clone());
        let request = foreign::Request {
            plan,
            target,
            options: database.map(|database| database.options.clone()),
            command_name: commands.name,
            command: commands.again,
            disposable,
            accepts_uncontrolled,
            secret,
            state: state.to_owned(),
            interrupt,
        };
        foreign::run(request, |event| tell(event, &mut live, screen)).await
    })
    .await;
    if let Some(server) = server {
        server.stop().await;
    }
    asked
}

/// Shows what happens during a run.
fn tell(event: Event<'_>, live: &mut Live, screen: Screen) {
    if !matches!(event, Event::Checking { .. }) {
        live.checks().end();
    }
    match event {
        Event::Checking { rule, elapsed, limit } => live.checks().show(rule, elapsed, limit),
        Event::Phase(name) => screen.note(&format!("{name} …")),
        Event::Control(control) => {
            let word = if control.fired { "caught, as it must be" } else { "NOT caught" };
            let moment = if control.moment == Moment::Before { "before" } else { "after" };
            screen.note(&format!("control {moment}: {} {word} ({:.1} s)", control.name, control.seconds));
        }
        Event::TurnBegins(name) => live.begin(name),
        Event::Tick(name, progress) => {
            if let Some(tick) = &progress.tick {
                live.tick(name, tick, progress.so_far, progress.rules.as_ref());
            }
        }
        Event::TurnEnded(turn) => {
            live.end();
            screen.note(&format!(
                "{}: {} ({} committed in {:.1} s)",
                turn.name,
                turn.verdict.word(),
                grouped(turn.counts.of(OutcomeClass::Committed)),
                turn.seconds
            ));
        }
    }
}

/// What became of a record.
#[derive(Debug, Default)]
pub struct Archived {
    /// The file that it is in.
    pub place: Option<String>,
    failures: Vec<Error>,
}

impl Archived {
    /// Says where it could not be kept: after what it says.
    pub fn say(self, screen: Screen) {
        self.failures.iter().for_each(|error| screen.lost(error));
    }
}

/// Keeps the record beside its histories, and where the user wants it.
pub fn keep(record: &RunRecord, state: &Path, export: Option<&Path>) -> Archived {
    // A run that was over before it began has no histories, and no folder for them.
    let folder = state.join("runs").join(&record.id);
    let own = folder.is_dir().then(|| folder.join("record.json"));
    let mut archived = Archived::default();
    for path in own.as_deref().into_iter().chain(export) {
        match export::write(record, path) {
            Ok(()) if files::is_stdout(path) => {}
            Ok(()) => archived.place = Some(path.display().to_string()),
            Err(error) => archived.failures.push(error),
        }
    }
    archived
}

/// How a run's end is told to the shell.
pub fn exit(record: &RunRecord) -> Exit {
    match record.verdict.exit() {
        Exit::Inconclusive if record.interrupted => Exit::Interrupted,
        exit => exit,
    }
}
