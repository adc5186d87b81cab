//! Who looks after the private server when the command that started it has ended? A small process of its own, this one.
//!
//! It is the postmaster's parent from its main thread, so that the server does not outlive it; it stops the server when nobody has used it
//! for a while; and it ends when the server does. It never starts a second one.

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::account::Account;
use super::layout::{self, Layout, Record};
use super::process::Identity;
use crate::pg::admin::Session;
use crate::pg::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

/// How long a fast shutdown may take before it becomes an immediate one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until the server has ended. Must be called on the main thread of a process that has no other: the server is tied to it.
///
/// # Errors
/// When the server cannot be started, or somebody else looks after it already. They end up in the cluster's log.
pub fn supervise(directory: &Path) -> Result<()> {
    let layout =
        Layout::at(directory).ok_or_else(|| Error::usage(format!("{} is not a cluster's directory", directory.display())))?;
    // Away from the caller's terminal and its Ctrl-C. Fails only for a process that leads a group already, which is as good.
    let _ = nix::unistd::setsid();
    let failed = |e: std::io::Error| Error::inconclusive("the supervisor cannot work").because(e);
    let lock = layout::lock_file(&layout.supervisor_lock()).map_err(failed)?;
    // Whoever asks whether there is a supervisor holds the lock for a moment; only another supervisor holds it for long.
    let gave_up = Instant::now() + Duration::from_secs(1);
    while !layout::try_lock(&lock).map_err(failed)? {
        if Instant::now() > gave_up {
            return Err(Error::inconclusive("this cluster has a supervisor already"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let record = layout.record().ok_or_else(|| Error::inconclusive("nothing is written down about the server to start"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(look_after(&layout, record)).map_err(failed)
}

async fn look_after(layout: &Layout, mut record: Record) -> std::io::Result<()> {
    // Before there is a server: a signal from now on must stop it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let clients = layout::lock_file(&layout.clients_lock())?;
    let start = layout::lock_file(&Layout::start_lock(layout.state()))?;

    let account = Account::for_server(&layout.data()).map_err(std::io::Error::other)?;
    let mut server = launch(layout, &record, &account)?;
    let identity = |pid: Option<u32>| pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
    record.supervisor = identity(Some(std::process::id()));
    record.postmaster = identity(server.id());
    layout.write_record(&record)?;

    let socket = ConnectOptions {
        host: Host::Socket(record.socket.clone()),
        port: record.port,
        user: super::create::ROLE.into(),
        password: None,
        database: "postgres".into(),
        ssl_mode: SslMode::Disable,
        ssl_root_cert: None,
    };
    let idle_stop = Duration::from_millis(record.idle_stop_ms);
    let mut last_used = Instant::now();
    let mut ticks = tokio::time::interval((idle_stop / 4).clamp(Duration::from_millis(50), Duration::from_secs(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = server.wait() => return ended.map(|_| ()),
            _ = terminate.recv() => return stop(&mut server).await.map(|_| ()),
            _ = interrupt.recv() => return stop(&mut server).await.map(|_| ()),
            _ = ticks.tick() => {}
        }
        if in_use(&clients, &socket).await? {
            last_used = Instant::now();
        } else if last_used.elapsed() >= idle_stop {
            // Whoever starts a server holds this lock until it counts among the clients; it waits for ours, and then finds none running.
            if !layout::try_lock(&start)? {
                continue;
            }
            if !in_use(&clients, &socket).await? {
                return stop(&mut server).await.map(|_| ());
            }
            start.unlock()?;
        }
    }
}

/// Whether a dbstress holds the server, or anybody is connected to it. When the server does not answer, somebody keeps it busy.
async fn in_use(clients: &File, socket: &ConnectOptions) -> std::io::Result<bool> {
    if !layout::try_lock(clients)? {
        return Ok(true);
    }
    clients.unlock()?;
    Ok(count_clients(socket).await.is_none_or(|n| n > 0))
}

/// How many are connected besides the one who asks.
pub async fn count_clients(socket: &ConnectOptions) -> Option<i64> {
    let mut session = Session::connect(socket, "supervisor").await.ok()?;
    let count = session
        .integer("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()")
        .await
        .ok();
    session.close().await;
    count
}

fn launch(layout: &Layout, record: &Record, account: &Account) -> std::io::Result<Child> {
    let mut command = account.command(&record.program);
    // The setting is a list: quoted, an entry may hold commas and spaces.
    let socket = format!("\"{}\"", record.socket.display().to_string().replace('"', "\"\""));
    command.arg("-D").arg(layout.data()).args(["-p", &record.port.to_string()]);
    for (name, value) in [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", &socket),
        ("unix_socket_permissions", "0700"),
        ("cluster_name", &layout.cluster_name()),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
    ] {
        command.args(["-c", &format!("{name}={value}")]);
    }
    for (name, value) in &record.settings {
        command.args(["-c", &format!("{name}={value}")]);
    }
    command.stdin(Stdio::null());
    // A group of its own: what is sent to the supervisor's group must not end backends one by one.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    tie_to_this_thread(&mut command);
    tokio::process::Command::from(command).spawn()
}

/// Lets the kernel shut the server down (SIGINT: fast shutdown) when this thread ends, however it ends.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn tie_to_this_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = nix::unistd::getpid();
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are allowed. It makes two system calls, allocates
    // nothing and takes no lock. It runs after the change of user, which would undo it.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
            // The parent may have ended before the line above; then no signal will ever come.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        });
    }
}

/// Elsewhere the kernel offers no such thing; the next start, status or stop finds the orphan.
#[cfg(not(target_os = "linux"))]
fn tie_to_this_thread(_: &mut std::process::Command) {}

/// Fast, then immediate, then by force. The child has not been waited for, so its number is its own.
async fn stop(server: &mut Child) -> std::io::Result<ExitStatus> {
    for (how, patience) in [(Signal::SIGINT, PATIENCE), (Signal::SIGQUIT, Duration::from_secs(10))] {
        if let Some(pid) = server.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), how);
        }
        if let Ok(ended) = tokio::time::timeout(patience, server.wait()).await {
            return ended;
        }
    }
    server.kill().await?;
    server.wait().await
}
