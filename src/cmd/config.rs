//! `dbstress config`: which settings would a scenario run with, and who decided each?

use clap::ArgMatches;

use super::settings::Settings;
use crate::report::config as report;
use crate::report::screen::Screen;
use crate::scenario::Scenario;
use crate::verdict::Exit;
use crate::{Result, text_file};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A built-in scenario, a file that ends in .toml, or - for standard input
    #[arg(value_name = "SCENARIO", default_value = "contention")]
    pub scenario: String,
    /// What is laid over it.
    #[command(flatten)]
    pub settings: Settings,
}

/// Runs `config`; `matches` are its own.
///
/// # Errors
/// Usage: no such scenario, a fault in its file, a flag that cannot be used with it.
pub fn run(args: &Args, matches: &ArgMatches, screen: Screen) -> Result<Exit> {
    let mut scenario = Scenario::load(&args.scenario, stdin)?;
    let origins = args.settings.lay_over(&mut scenario, matches)?;
    screen.out(&report::text(&origins, screen.width, screen.colour));
    Ok(Exit::Pass)
}

/// All of standard input.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub(super) fn stdin() -> std::io::Result<String> {
    std::io::read_to_string(std::io::stdin()).map(text_file::without_mark)
}
