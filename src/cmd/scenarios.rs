//! `dbstress scenarios`: which are there, how does one start from one of them, and is one's own usable?

use clap::{Args, Subcommand};

use super::config::stdin;
use crate::Result;
use crate::report::config as report;
use crate::report::screen::Screen;
use crate::scenario::{BUILT_IN, Scenario, built_in_text};
use crate::verdict::Exit;

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
    List,
    /// Print one as it is, comments included: `dbstress scenarios show mixed > mine.toml`
    Show {
        /// Its name
        name: String,
    },
    /// Say whether a file can be run; if not, which line and column to change
    Check {
        /// The file, or - for standard input
        #[arg(value_name = "FILE")]
        file: String,
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
        Action::Check { file } => {
            let scenario = Scenario::load(file, stdin)?;
            screen.out(&format!("ok: {}: {}", scenario.name, scenario.summary));
        }
    }
    Ok(Exit::Pass)
}
