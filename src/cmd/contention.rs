//! `dbstress contention`: does a strategy keep the rules when everybody wants the same units?

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Global;
use super::interrupt;
use super::target::{self, Target};
use crate::error::nearest;
use crate::outcome::OutcomeClass;
use crate::pg::admin::{self, Sentinel, Session};
use crate::pg::retry::Retry;
use crate::plan::{HAZARD, Limit, Mode, Plan};
use crate::record::{self, Moment, RunRecord};
use crate::report::contention as report;
use crate::report::screen::Screen;
use crate::report::text::grouped;
use crate::run::{self, Event, Request, turn};
use crate::strategy::{Claim, Strategy};
use crate::verdict::Exit;
use crate::{Error, Result};

/// Flags of `contention`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = strategies_help())]
pub struct Args {
    /// Virtual users, each with a connection of its own
    #[arg(short = 'u', long, value_name = "N", default_value_t = 50)]
    pub vus: u32,
    /// How long each strategy has, as 30s or 1m30s
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// So many rounds (of churn: iterations of each VU) instead of a duration
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub rounds: Option<u64>,
    /// Strategies, separated by commas; `all` = those that claim to be safe
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "serializable")]
    pub strategy: Vec<String>,
    /// How the VUs contend
    #[arg(long, value_enum, default_value_t = Mode::Contest)]
    pub mode: Mode,
    /// Units that each operation asks for
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    pub units: i32,
    /// Units that each authorisation has
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true)]
    pub total: i32,
    /// The application's pause between reading and writing
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub think: Duration,
    /// At most so many attempts, 10 ms apart and doubling, instead of as many as the deadline allows
    #[arg(long, value_name = "N")]
    pub retry_attempts: Option<u16>,
    /// No attempt begins later than this after its iteration did
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub retry_deadline: Duration,
    /// Load threads [default: half of the processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What random choices are made from
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub rng_seed: u64,
    /// Also write the record, as JSON
    #[arg(long, value_name = "FILE")]
    pub summary_export: Option<PathBuf>,
}

impl Args {
    /// The plan that the flags describe.
    ///
    /// # Errors
    /// Usage, with the flag that cannot be used.
    pub fn plan(&self) -> Result<Plan> {
        let plan = Plan {
            strategies: strategies(&self.strategy)?,
            mode: self.mode,
            vus: self.vus,
            limit: self.rounds.map_or(Limit::Duration(self.duration), Limit::Rounds),
            units: self.units,
            total: self.total,
            think: self.think,
            retry: Retry { deadline: self.retry_deadline, attempts: self.retry_attempts },
            threads: self.threads.unwrap_or_else(default_threads),
            rng_seed: self.rng_seed,
        };
        plan.validate()?;
        Ok(plan)
    }

    /// The command that does the same again; what has its default is left out.
    fn command(&self, plan: &Plan) -> String {
        let names: Vec<&str> = plan.strategies.iter().map(|s| s.name()).collect();
        let mut command = format!("dbstress contention --vus {} --strategy {}", plan.vus, names.join(","));
        match plan.limit {
            Limit::Rounds(n) => command += &format!(" --rounds {n}"),
            Limit::Duration(d) => command += &format!(" --duration {}", compact(d)),
        }
        if plan.mode == Mode::Churn {
            command += " --mode churn";
        }
        for (flag, value, default) in [("units", plan.units, 10), ("total", plan.total, 50)] {
            if value != default {
                command += &format!(" --{flag} {value}");
            }
        }
        if !plan.think.is_zero() {
            command += &format!(" --think {}", compact(plan.think));
        }
        if let Some(attempts) = plan.retry.attempts {
            command += &format!(" --retry-attempts {attempts}");
        }
        if plan.retry.deadline != Retry::default().deadline {
            command += &format!(" --retry-deadline {}", compact(plan.retry.deadline));
        }
        if let Some(threads) = self.threads {
            command += &format!(" --threads {threads}");
        }
        if plan.rng_seed != 42 {
            command += &format!(" --rng-seed {}", plan.rng_seed);
        }
        command
    }
}

fn strategies_help() -> String {
    let line = |s: &Strategy| {
        let mark = if s.claim(HAZARD) == Claim::Unsafe { " (unsafe)" } else { "" };
        format!("  {:<18} {}{mark}", s.name(), s.summary())
    };
    format!("Strategies:\n{}", Strategy::ALL.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn compact(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// The server runs on the same machine and needs the other half.
pub(super) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

fn strategies(names: &[String]) -> Result<Vec<Strategy>> {
    let mut chosen = Vec::new();
    for name in names.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
        let named = match (name, Strategy::from_name(name)) {
            ("all", _) => Strategy::safe(HAZARD).collect(),
            (_, Some(strategy)) => vec![strategy],
            (_, None) => {
                let known: Vec<&str> = Strategy::ALL.iter().map(|s| s.name()).collect();
                let near = nearest(name, known.iter().copied().chain(["all"]));
                let hint = near.map_or(String::new(), |n| format!("did you mean `{n}`?\n"));
                return Err(Error::usage(format!("there is no strategy `{name}`"))
                    .cure(format!("{hint}one of {}, or all", known.join(", "))));
            }
        };
        for strategy in named {
            if !chosen.contains(&strategy) {
                chosen.push(strategy);
            }
        }
    }
    Ok(chosen)
}

/// Runs `contention`.
///
/// # Errors
/// What kept it from reaching a verdict.
pub async fn run(args: Args, global: &Global, screen: Screen) -> Result<Exit> {
    let plan = args.plan()?;
    if let Some(path) = &args.summary_export {
        record::check_writable(path)?;
    }
    let state = global.cluster()?.state;
    let target = target::resolve(global, screen).await?;
    seed_if_empty(&target, &state, screen).await?;
    let flags = global.again();
    let commands = Commands { name: "contention", again: args.command(&plan) + &flags, verify: format!("dbstress verify{flags}") };
    let record = execute(plan, &target, commands, &state, screen).await?;
    let kept = keep(&record, &state, args.summary_export.as_deref())?;
    screen.out(&report::text(&record, kept.as_deref(), screen.width, screen.colour));
    Ok(exit(&record, screen))
}

/// A private database that nobody has seeded yet is seeded first: there is nothing of the user's in it.
async fn seed_if_empty(target: &Target, state: &Path, screen: Screen) -> Result<()> {
    if target.private.is_none() {
        return Ok(());
    }
    let mut session = Session::connect(&target.options, "contention").await?;
    let empty = matches!(admin::inspect(&mut session).await?, Sentinel::Absent { foreign_relations: 0 });
    session.close().await;
    if empty {
        screen.note("the private database is empty: seeding it first");
        super::seed::load(super::seed::Args::default(), &target.options, state, Screen { quiet: true, ..screen }).await?;
    }
    Ok(())
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

/// Runs a plan with progress on the screen.
///
/// # Errors
/// What kept it from beginning.
pub async fn execute(plan: Plan, target: &Target, commands: Commands, state: &Path, screen: Screen) -> Result<RunRecord> {
    interrupt::graceful(screen, |interrupt| async {
        let limit = plan.limit;
        let request = Request {
            plan,
            options: target.options.clone(),
            command_name: commands.name,
            command: commands.again,
            verify: commands.verify,
            state: state.to_owned(),
            interrupt,
        };
        let mut bar = None;
        run::run(request, |event| match event {
            Event::Phase(name) => screen.note(&format!("{name} …")),
            Event::Control(control) => {
                let word = if control.fired { "caught, as it must be" } else { "NOT caught" };
                let moment = if control.moment == Moment::Before { "before" } else { "after" };
                screen.note(&format!("control {moment}: {} {word} ({:.1} s)", control.strategy.name(), control.seconds));
            }
            Event::TurnBegins(strategy) => {
                let length = if let Limit::Duration(d) = limit { d.as_millis() as u64 } else { 0 };
                if !screen.interactive {
                    screen.note(&format!("{} …", strategy.name()));
                }
                bar = Some(screen.bar(strategy.name(), length.max(1)));
            }
            Event::Tick(_, elapsed, progress) => {
                if let Some(bar) = &bar {
                    let (committed, refused, other) = turn::progress(progress);
                    bar.set_position(elapsed.as_millis() as u64);
                    let other = if other > 0 { format!(", {} otherwise", grouped(other)) } else { String::new() };
                    bar.set_message(format!("{} committed, {} refused{other}", grouped(committed), grouped(refused)));
                }
            }
            Event::TurnEnded(turn) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
                screen.note(&format!(
                    "{}: {} ({} committed in {:.1} s)",
                    turn.strategy.name(),
                    turn.verdict.word(),
                    grouped(turn.counts.of(OutcomeClass::Committed)),
                    turn.seconds
                ));
            }
        })
        .await
    })
    .await
}

/// Keeps the record beside its histories, and where the user wants it; says where it is.
///
/// # Errors
/// Usage, when the record cannot be written there.
pub fn keep(record: &RunRecord, state: &Path, export: Option<&Path>) -> Result<Option<String>> {
    let json = record.to_json()?;
    // A run that was over before it began has no histories, and no folder for them.
    let folder = state.join("runs").join(&record.id);
    let kept = folder.is_dir().then(|| folder.join("record.json"));
    for path in kept.as_deref().into_iter().chain(export) {
        record::write_whole(path, &json)?;
    }
    Ok(export.map(Path::to_owned).or(kept).map(|p| p.display().to_string()))
}

/// How a run's end is told to the shell. Nothing was run: whoever looks only at stderr must not miss why.
pub fn exit(record: &RunRecord, screen: Screen) -> Exit {
    if record.turns.is_empty() {
        screen.error(&format!("{}: {}", record.verdict.word(), record.reasons.join("; ")));
    }
    match record.verdict.exit() {
        Exit::Inconclusive if record.interrupted => Exit::Interrupted,
        exit => exit,
    }
}
