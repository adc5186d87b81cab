//! One file per subcommand: arguments in, an exit code out. This file knows them all and what they share.

pub mod verify;

use clap::{Args, Parser, Subcommand};

use crate::pg::ConnectOptions;
use crate::report::screen::Screen;
use crate::verdict::Exit;
use crate::{Error, Result};

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
    /// The database to work on, postgres://USER@HOST:PORT/DATABASE
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", help_heading = "Database")]
    pub database_url: Option<String>,
    /// No remarks and no progress, only results
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// No colours (also NO_COLOR)
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Asks the database whether the rules hold: every invariant in one snapshot, with the operations that broke them
    Verify(verify::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever kept it from reaching a verdict.
    pub fn run(self, screen: Screen) -> Result<Exit> {
        let Command::Verify(args) = self.command;
        if let Some(exit) = verify::offline(&args, screen)? {
            return Ok(exit);
        }
        let env = |name: &str| std::env::var(name).ok();
        let options = match &self.global.database_url {
            Some(url) => ConnectOptions::from_url(url, &env)?,
            None => ConnectOptions::from_env(&env)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::inconclusive("the asynchronous runtime could not be started").because(e))?;
        runtime.block_on(verify::run(&args, &options, screen))
    }
}

fn exit_codes() -> String {
    let lines: Vec<String> = Exit::ALL.iter().map(|e| format!("  {:>3}  {}", e.code(), e.meaning())).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}
