//! One file per subcommand: arguments in, an exit code out. This file knows them all and what they share.

use clap::{Args, Parser, Subcommand};

use crate::Result;
use crate::report::screen::Screen;
use crate::verdict::Exit;

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
    /// No remarks and no progress, only results
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// No colours (also NO_COLOR)
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever kept it from reaching a verdict.
    pub fn run(self, _screen: Screen) -> Result<Exit> {
        match self.command {}
    }
}

fn exit_codes() -> String {
    let lines: Vec<String> = Exit::ALL.iter().map(|e| format!("  {:>3}  {}", e.code(), e.meaning())).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}
