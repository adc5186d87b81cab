//! `dbstress faults`: what can go wrong on purpose, and where.

use crate::fault::{Fault, Reach};
use crate::report::screen::Screen;
use crate::verdict::Exit;

/// What to do with faults.
#[derive(Debug, Clone, clap::Args)]
pub struct Faults {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with faults.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// List them: name, on which server, and what happens
    List,
}

/// Prints plain lines, the name first.
pub fn run(faults: &Faults, screen: Screen) -> Exit {
    match faults.action {
        Action::List => {
            for fault in Fault::ALL {
                let reach = match fault.reach() {
                    Reach::Sessions => "any",
                    Reach::Wire => "no-tls",
                    Reach::Server => "private",
                };
                screen.out(&format!("{:<14} {reach:<8} {}", fault.name(), fault.summary()));
            }
            Exit::Pass
        }
    }
}
