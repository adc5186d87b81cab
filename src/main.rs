//! The command line: parses, runs, prints the failure, exits. Everything else is in the library.

use std::process::ExitCode;

use dbstress::cmd::{self, Cli};
use dbstress::report::screen::Screen;
use dbstress::verdict::Exit;

fn main() -> ExitCode {
    let (screen, ended) = match cmd::internal() {
        Some(ended) => (Screen::new(false, true), ended),
        None => {
            let (cli, matches) = Cli::read().unwrap_or_else(|error| error.exit());
            let screen = Screen::new(cli.global.quiet, cli.global.no_color);
            (screen, cli.run(&matches, screen))
        }
    };
    let exit = ended.unwrap_or_else(|error| {
        screen.error(&error);
        Exit::from(error.kind())
    });
    ExitCode::from(exit.code())
}
