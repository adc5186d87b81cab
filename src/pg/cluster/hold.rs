//! How are processes stopped for a while so that they go on whatever becomes of whoever stopped them?
//!
//! A small process of its own, this one, stops them and waits for the end of its standard input. That comes when the one who asked for it
//! says so, and also when he is killed.

use std::io::{BufRead, Read, Write};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::process::Identity;
use crate::{Error, Result};

/// The command that holds processes; see [`hold`].
pub const HOLD: &str = "hold";

/// Whom to stop, in this order; they go on in the reverse order.
#[derive(Debug, Serialize, Deserialize)]
struct Processes(Vec<Identity>);

/// Processes that are stopped; they go on when this is dropped.
pub struct Stopped {
    child: Child,
    /// How many of them were stopped.
    pub count: usize,
}

impl Stopped {
    /// Stops the processes, by the program `dbstress`, and waits until they are.
    ///
    /// # Errors
    /// When the program cannot be run or does not answer.
    pub async fn stop(program: &std::path::Path, processes: Vec<Identity>) -> Result<Self> {
        let failed = |e: std::io::Error| Error::inconclusive("the server's processes cannot be stopped").because(e);
        let mut child = Command::new(program)
            .arg(HOLD)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut line = serde_json::to_vec(&Processes(processes)).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        if let Some(stdin) = &mut child.stdin {
            tokio::io::AsyncWriteExt::write_all(stdin, &line).await.map_err(failed)?;
        }
        // It answers once they are stopped, with a byte for each.
        let mut answer = [0; 1];
        let mut stopped = 0;
        if let Some(stdout) = &mut child.stdout {
            while stdout.read(&mut answer).await.map_err(failed)? == 1 && answer != *b"\n" {
                stopped += 1;
            }
        }
        Ok(Self { child, count: stopped })
    }

    /// Lets them go on, and waits until they do.
    pub async fn go_on(mut self) {
        drop(self.child.stdin.take());
        // It ends of itself; nothing hangs on how.
        let _ = self.child.wait().await;
    }
}

/// Stops the processes that the first line of standard input names, answers, and lets them go on at the end of standard input.
///
/// # Errors
/// When nothing can be read from standard input.
pub fn hold() -> Result<()> {
    let failed = |e: std::io::Error| Error::usage("nobody says which processes are to be held").because(e);
    // Away from the caller's terminal and its Ctrl-C. Fails only for a process that leads a group already, which is as good.
    let _ = nix::unistd::setsid();
    let mut stdin = std::io::stdin().lock();
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(failed)?;
    let Processes(processes) = serde_json::from_str(&line).map_err(|e| failed(e.into()))?;
    let stopped: Vec<&Identity> = processes.iter().filter(|process| process.signal(Signal::SIGSTOP)).collect();
    let mut answer = vec![b'.'; stopped.len()];
    answer.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    // Whoever asked may be gone by now; then the end of the input says so at once.
    let _ = stdout.write_all(&answer).and_then(|()| stdout.flush());
    let _ = stdin.read_to_end(&mut Vec::new());
    for process in stopped.into_iter().rev() {
        process.signal(Signal::SIGCONT);
    }
    Ok(())
}
