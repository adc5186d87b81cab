//! `dbstress scenarios`: which are there, how does one start from one of them, and is one's own usable?

use clap::{Args, Subcommand};

use super::config::stdin;
use crate::report::config as report;
use crate::report::screen::Screen;
use crate::scenario::{BUILT_IN, Scenario, built_in_text};
use crate::verdict::Exit;
use crate::{Error, Result};

/// Arguments of `dbstress scenarios`.
#[derive(Debug, Args)]
pub struct Scenarios {
    /// What to do with them.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show those that come with the program
    #[command(after_help = "Example:\n  dbstress scenarios list")]
    List,
    /// Print one as it is, comments included: `dbstress scenarios show mixed > mine.toml`
    #[command(after_help = "Example:\n  dbstress scenarios show mixed > mine.toml")]
    Show {
        /// Its name
        name: String,
    },
    /// Say whether files can be run; if not, which line and column to change
    #[command(after_help = "Example:\n  dbstress scenarios check mine.toml")]
    Check {
        /// Files, or - for standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// Usage: no such scenario, a fault in its file.
pub fn run(scenarios: &Scenarios, screen: Screen) -> Result<Exit> {
    match &scenarios.action {
        Action::List => {
            let scenarios: Vec<Scenario> = BUILT_IN.iter().map(|(name, _)| Scenario::built_in(name)).collect::<Result<_>>()?;
            screen.out(&report::list_text(&scenarios, screen.width, screen.colour));
        }
        // Its last line is ended by the screen.
        Action::Show { name } => screen.out(built_in_text(name)?.trim_end()),
        Action::Check { files } => {
            // Every file is looked at, whatever is wrong with those before it.
            let (good, bad): (Vec<_>, Vec<_>) = files
                .iter()
                .map(|file| Scenario::load(file, stdin).and_then(|scenario| scenario.validate_parameters().map(|()| scenario)))
                .partition(Result::is_ok);
            for scenario in good.into_iter().flatten() {
                screen.out(&format!("ok: {}: {}", scenario.name, scenario.summary));
            }
            let mistakes: Vec<String> = bad.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
            if !mistakes.is_empty() {
                return Err(Error::usage(mistakes.join("\n")));
            }
        }
    }
    Ok(Exit::Pass)
}
