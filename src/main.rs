//! The command line: parses, runs, prints the failure, exits. Everything else is in the library.

use std::process::ExitCode;

use dbstress::cmd::{self, Cli};
use dbstress::report::screen::Screen;
use dbstress::verdict::Exit;

fn main() -> ExitCode {
    let (screen, ended) = match cmd::internal() {
        Some(ended) => (Screen::new(false, true), ended),
        None => {
            let (cli, matches) = match Cli::read() {
                Ok(read) => read,
                Err(said) => return ExitCode::from(unread(&said).code()),
            };
            let screen = Screen::new(cli.global.quiet, cli.global.no_color);
            (screen, cli.run(&matches, screen))
        }
    };
    let exit = ended.unwrap_or_else(|error| {
        screen.error(&error);
        Exit::from(error.kind())
    });
    ExitCode::from(screen.exit(exit).code())
}

/// What is typed and is no command: help and the version, or a mistake.
fn unread(said: &clap::Error) -> Exit {
    if said.use_stderr() {
        let _ = said.print();
        return Exit::Usage;
    }
    let screen = Screen::new(false, false);
    let text = said.render();
    screen.out(if screen.colour { text.ansi().to_string() } else { text.to_string() }.trim_end());
    screen.exit(Exit::Pass)
}
