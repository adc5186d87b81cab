//! `dbstress suite`: may it go out? Every scenario that is tagged `suite`, one after the other; only all of them together say GO.

use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::run::{Common, execute, keep, prepare, quoted};
use super::target;
use super::{Global, export, interrupt};
use crate::record::SuiteEntry;
use crate::report::run as run_report;
use crate::report::screen::Screen;
use crate::report::suite as report;
use crate::scenario::{BUILT_IN, Scenario};
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// The tag of the scenarios that belong to it.
const TAG: &str = "suite";

/// Flags of `suite`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Scenario files of your own that belong to it too, if they are tagged `suite`; a directory stands for every .toml file in it
    #[arg(value_name = "FILE|DIR")]
    pub scenarios: Vec<PathBuf>,
    /// What is laid over each of them.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `suite`.
///
/// # Errors
/// Usage: a file that cannot be read, a flag that cannot be used with one of the scenarios. What one of them came to is no error.
pub async fn run(args: &Args, matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let scenarios = chosen(&args.scenarios)?;
    // Everything that can be wrong is found before the first hour has passed.
    let mut prepared = Vec::new();
    for (typed, scenario) in scenarios {
        let name = scenario.name.clone();
        let ready = prepare(scenario, &args.common.settings, matches, "suite", &typed, global);
        prepared.push((name, ready.map_err(|error| Error::usage(error.to_string()))?));
    }
    let state = global.cluster()?.state;
    let export = args.common.settings.summary_export.as_deref();
    let screen = export::beside(export, screen);
    let target = target::resolve(global, screen).await?;
    let mut entries: Vec<SuiteEntry> = Vec::new();
    let mut interrupted = false;
    for (name, prepared) in prepared {
        let command = prepared.commands.again.clone();
        if interrupted {
            entries.push(SuiteEntry::not_run(name, command, "interrupted".into()));
            continue;
        }
        screen.note(&format!("\n{name}: {}", prepared.plan.load.words()));
        match execute(prepared, &target, &state, args.common.progress, screen).await {
            Ok(record) => {
                interrupted = record.interrupted;
                let archived = keep(&record, &state, None);
                if record.verdict != Verdict::Pass {
                    screen.out(&run_report::text(&record, archived.place.as_deref(), screen.width, screen.colour));
                }
                entries.push(SuiteEntry::of(name, &record, archived.place.clone()));
                archived.say(screen);
            }
            Err(error) => {
                interrupted = interrupt::is_interruption(&error);
                screen.error(&error);
                entries.push(SuiteEntry::not_run(name, command, error.message().to_owned()));
            }
        }
    }
    screen.out(&report::text(&entries, screen.width, screen.colour));
    export::keep(&entries, export, screen);
    let verdict = Verdict::worst(entries.iter().map(|entry| entry.verdict));
    Ok(if interrupted && verdict == Verdict::Inconclusive { Exit::Interrupted } else { verdict.exit() })
}

/// The scenarios that belong to it, each with what one types to run it alone. What is named must have one: leaving it out would say GO
/// without it.
fn chosen(named: &[PathBuf]) -> Result<Vec<(String, Scenario)>> {
    let belongs = |scenario: &Scenario| scenario.tags.iter().any(|tag| tag == TAG);
    let mut chosen = Vec::new();
    for (name, _) in BUILT_IN {
        let scenario = Scenario::built_in(name)?;
        if belongs(&scenario) {
            chosen.push((name.to_owned(), scenario));
        }
    }
    for path in named {
        let before = chosen.len();
        for file in files(path)? {
            let file = file.display().to_string();
            let scenario = Scenario::load(&file, || Ok(String::new()))?;
            if belongs(&scenario) {
                chosen.push((format!("run {}", quoted(&file)), scenario));
            }
        }
        if chosen.len() == before {
            let message = format!("no scenario of {} belongs to the suite", path.display());
            return Err(Error::usage(message).cure(format!("tags = [\"{TAG}\"] in its file, or leave it out")));
        }
    }
    Ok(chosen)
}

/// The file, or every .toml file of the directory.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |e| Error::usage(format!("{} cannot be read", path.display())).because(e);
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>()).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    Ok(files)
}
