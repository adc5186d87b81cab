//! `dbstress pool`: is a pool of connections used rightly here, and would it be found out if it were not? Drills with a known right answer.

use std::path::PathBuf;
use std::time::Instant;

use super::interruptible;
use super::run::quoted;
use super::target;
use super::{Global, export, interrupt};
use crate::drill::{self, Drill, DrillsRecord, Ground, Kind, Mistake, SCHEMA_VERSION};
use crate::report::pool as report;
use crate::report::screen::Screen;
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// Flags of `pool`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Only these drills; several with commas
    #[arg(long = "drill", value_name = "NAME,…", value_delimiter = ',')]
    pub drills: Vec<Drill>,
    /// Make a known mistake on purpose, in the drills that it makes fail: they must find it
    #[arg(long, value_name = "NAME", conflicts_with = "self_test")]
    pub bug: Option<Mistake>,
    /// Make each mistake in each drill that must find it, and require all of them to fail
    #[arg(long)]
    pub self_test: bool,
    /// List the drills: name, the mistakes that make it fail, the question it answers (needs no database)
    #[arg(long, conflicts_with_all = ["drills", "bug", "self_test"])]
    pub list: bool,
    /// Work in this database although it holds tables that are not dbstress's: it must be the one that is connected to
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    pub disposable: Option<String>,
    /// The whole record as JSON, into this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub summary_export: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Usage: a mistake that the named drills cannot make, a database that may not be written to; whatever kept the first drill from being done.
pub fn run(args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    if args.list {
        screen.out(&report::list_text(screen.width, screen.colour));
        return Ok(Exit::Pass);
    }
    global.refuse_via("the drills are about this pool alone, and go")?;
    let trials = trials(args)?;
    export::check(args.summary_export.as_deref())?;
    super::block_on(drills(args, trials, global, screen))
}

/// What is done: each drill, with the mistake that is made in it.
type Trials = Vec<(Drill, Option<Mistake>)>;

fn trials(args: &Args) -> Result<Trials> {
    let chosen: Vec<Drill> = Drill::ALL.into_iter().filter(|drill| args.drills.is_empty() || args.drills.contains(drill)).collect();
    if args.self_test {
        return Ok(chosen.iter().flat_map(|drill| drill.mistakes().iter().map(|mistake| (*drill, Some(*mistake)))).collect());
    }
    let Some(mistake) = args.bug else { return Ok(chosen.into_iter().map(|drill| (drill, None)).collect()) };
    let touched: Trials = mistake.drills().filter(|drill| chosen.contains(drill)).map(|drill| (drill, Some(mistake))).collect();
    if touched.is_empty() {
        let of: Vec<&str> = mistake.drills().map(Drill::name).collect();
        return Err(Error::usage(format!("none of these drills would find {mistake}")).cure(format!("--drill {}", of.join(","))));
    }
    Ok(touched)
}

fn kind(args: &Args) -> Kind {
    match (args.self_test, args.bug) {
        (true, _) => Kind::SelfTest,
        (false, Some(_)) => Kind::Bug,
        (false, None) => Kind::Drills,
    }
}

async fn drills(args: &Args, trials: Trials, global: &Global, screen: Screen) -> Result<Exit> {
    let began = Instant::now();
    let screen = export::beside(args.summary_export.as_deref(), screen);
    let target = interruptible(target::resolve(global, screen)).await?;
    let mut ground = interruptible(Ground::take(&target.options, args.disposable.as_deref())).await?;
    let mut record = DrillsRecord {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        exit_code: 0,
        reasons: Vec::new(),
        kind: kind(args),
        interrupted: false,
        dbstress: env!("CARGO_PKG_VERSION").into(),
        database: ground.address(),
        server: ground.version().to_owned(),
        controls: Vec::new(),
        drills: Vec::new(),
        seconds: 0.0,
        again: again(args, global),
    };
    let ended = interruptible(all(&mut ground, &trials, &mut record, screen)).await;
    let lost = ground.lost().map(str::to_owned);
    let left = ground.leave().await;
    let mut open = Vec::new();
    match ended {
        Ok(()) => {}
        Err(error) => {
            record.interrupted = interrupt::is_interruption(&error);
            if !record.interrupted && lost.is_none() {
                return Err(error);
            }
            open.push(format!("{error}: {} of {} drills were done", record.drills.len(), trials.len()));
        }
    }
    open.extend(left.err().map(|error| error.to_string()).filter(|left| lost.as_ref() != Some(left)));
    record.seconds = began.elapsed().as_secs_f64();
    record.conclude(open);
    screen.out(&report::text(&record, screen.width, screen.colour));
    export::keep(&record, args.summary_export.as_deref(), screen);
    Ok(record.exit())
}

async fn all(ground: &mut Ground, trials: &Trials, record: &mut DrillsRecord, screen: Screen) -> Result<()> {
    ground.set_up().await?;
    if record.kind == Kind::Drills {
        drill::controls(ground, |control| {
            let word = if control.is_caught { "caught" } else { "NOT caught" };
            screen.note(&format!("control: {} {word} in {:.1} s: {}", control.mistake, control.seconds, control.detail));
            record.controls.push(control);
        })
        .await;
    }
    go_on(ground)?;
    for (n, (drill, mistake)) in trials.iter().enumerate() {
        let done = drill::perform(ground, *drill, *mistake).await;
        go_on(ground)?;
        let with = mistake.map_or(String::new(), |mistake| format!(" with {mistake}"));
        screen.note(&format!("{:>2}/{} {drill}{with}: {} ({:.1} s)", n + 1, trials.len(), done.verdict.word(), done.seconds));
        record.drills.push(done);
    }
    Ok(())
}

/// Whether there is still ground to stand on.
fn go_on(ground: &Ground) -> Result<()> {
    ground.lost().map_or(Ok(()), |why| Err(Error::inconclusive(why)))
}

fn again(args: &Args, global: &Global) -> String {
    let mut command = "dbstress pool".to_owned();
    if !args.drills.is_empty() {
        command += &format!(" --drill {}", args.drills.iter().map(|drill| drill.name()).collect::<Vec<_>>().join(","));
    }
    if let Some(mistake) = args.bug {
        command += &format!(" --bug {mistake}");
    }
    if args.self_test {
        command += " --self-test";
    }
    if let Some(name) = &args.disposable {
        command += &format!(" --disposable {}", quoted(name));
    }
    command + &global.again()
}
