//! What does the command line refuse, in which words, and which exit code says so? The same for every command.

mod common;

use common::{Bench, Place, on, run};
use dbstress::pg::{ConnectOptions, Host};

/// Every command that works on a database, as briefly as it goes.
const COMMANDS: [&str; 16] = [
    "seed",
    "verify",
    "contention --duration 1s",
    "idempotency --duration 1s",
    "throughput --duration 1s",
    "scheduling --duration 1s",
    "baseline --duration 1s",
    "run -f one.sql --duration 1s",
    "suite --duration 1s",
    "capacity mixed --ladder 2,4 --step 1s",
    "pool",
    "rate-limit",
    "acgme",
    "serve --listen 127.0.0.1:0 --for 1s",
    "token",
    "cancel-storm",
];

#[tokio::test]
async fn a_server_that_cannot_be_asked_is_3_and_a_database_that_is_not_there_is_2_for_every_command() {
    let (database, place) = (common::database().await, Place::new());
    std::fs::write(place.0.join("one.sql"), "SELECT 1;\n").unwrap();
    let ours = &database.options;
    // The private server asks for a password on TCP alone.
    let host = match &ours.host {
        Host::Tcp(host) => Host::Tcp(host.clone()),
        Host::Socket(_) => Host::Tcp("127.0.0.1".into()),
    };
    let with_wrong_password = ConnectOptions { host, password: Some("wrong".into()), ..ours.clone() };
    let cases = [
        (ConnectOptions { port: 1, ..with_wrong_password.clone() }, 3, "could not connect to PostgreSQL at"),
        (ours.with_database("no_such_database"), 2, "there is no database `no_such_database`"),
        (with_wrong_password, 3, "does not let `"),
    ];
    for (options, expected, words) in cases {
        for command in COMMANDS {
            let (code, out, err) = run(&mut on(&place, &options, command));
            assert_eq!((code, &*out), (expected, ""), "{command} at {options}: {err}");
            assert!(err.contains(words) && err.matches("error:").count() == 1 && err.contains("cure:"), "{command}: {err}");
            common::assert_no_panic(&out, &err);
        }
    }
}

#[tokio::test]
async fn what_is_typed_is_2_and_an_api_that_cannot_be_asked_is_3() {
    let bench = Bench::new().await;
    let nobody = "http://127.0.0.1:1";
    let mine = "summary = \"a test\"\nworkload = \"http\"\n[load]\nvus = 2\nduration = \"1s\"\n[[operation]]\nname = \"look\"\nsteps = [{ path = \"/\" }]\n";
    std::fs::write(bench.place.0.join("mine.toml"), mine).unwrap();
    for (arguments, expected, words) in [
        ("contention --vus 0", 2, "--vus: 0 VUs"),
        ("contention --vus 1", 2, "no contention: 1 VU meets nobody"),
        ("contention --vus 5", 2, "raise --vus above 5"),
        ("contention --vus 20 --pool-size 1", 2, "--pool-size 20"),
        ("idempotency --vus 1", 2, "no contention: 1 VU meets nobody"),
        ("throughput --vus 0 --duration 1s", 2, "--vus: 0 VUs"),
        ("contention --vus 20000", 2, "virtual users need a connection each"),
        ("contention --no-such-flag", 2, "--no-such-flag"),
        ("no-such-command", 2, "no-such-command"),
        ("run no-such-file.toml", 2, "no-such-file.toml"),
        ("verify --invariant no-such-rule", 2, "no-such-rule"),
        ("capacity mixed --ladder 2,1", 2, "does not climb"),
        ("pool --drill no-such-drill", 2, "no-such-drill"),
        ("token --login no-such-login", 2, "there are no accounts yet"),
        ("scheduling --vus 20", 2, "the dataset clinic"),
        (&format!("contention --vus 20 --target {nobody}"), 3, "no API can be asked"),
        (&format!("rate-limit --target {nobody}"), 3, "nobody answers"),
        (&format!("run mine.toml --target {nobody}"), 3, "127.0.0.1:1"),
    ] {
        let mut command = bench.dbstress(arguments);
        // What it takes to ask a server as anybody.
        command.env("DBSTRESS_API_SECRET", "0123456789abcdef0123456789abcdef0123456789abcdef");
        let (code, out, err) = run(&mut command);
        assert_eq!(code, expected, "{arguments}: {out}{err}");
        assert!([&*out, &*err].concat().contains(words), "{arguments}: {out}{err}");
    }
}

#[tokio::test]
async fn why_nothing_was_run_is_said_once() {
    let bench = Bench::new().await;
    bench
        .database
        .session()
        .await
        .execute("UPDATE dbstress.authorisation SET used = total + 1, guarded = false WHERE id = 1")
        .await
        .unwrap();
    for (arguments, words) in [
        ("contention --vus 1", "1 VU meets nobody"),
        ("contention --vus 20 --rounds 5", "did not hold before the run began"),
        ("contention --vus 0", "nobody would do anything"),
    ] {
        let (_, out, err) = run(&mut bench.dbstress(arguments));
        let all = [out, err].concat().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(all.matches(words).count(), 1, "{arguments}: {all}");
    }
}

#[test]
fn a_command_with_a_database_of_its_own_refuses_another() {
    let place = Place::new();
    for (arguments, words) in [
        (&["demo", "--database-url", "postgres://me@127.0.0.1:1/x"][..], "--database-url"),
        (&["demo", "--database", "mine"], "--database"),
        (&["demo", "--via", "127.0.0.1:1"], "--via"),
        (&["bugs", "run", "lock-and-read", "--database-url", "postgres://me@127.0.0.1:1/x"], "--database-url"),
    ] {
        let (code, out, err) = run(&mut place.dbstress(arguments));
        assert_eq!((code, &*out), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(&format!("leave out {words}")) && err.contains("private server"), "{err}");
        assert!(place.status().is_none());
    }
}

#[test]
fn a_negative_number_is_the_value_of_the_flag_before_it() {
    let place = Place::new();
    for (arguments, words) in [
        (&["contention", "--vus", "-5"][..], "invalid value '-5' for '--vus <N>'"),
        (&["contention", "-u", "-5"], "invalid value '-5' for '--vus <N>'"),
        (&["contention", "--duration", "-5s"], "invalid value '-5s' for '--duration"),
        (&["capacity", "mixed", "--ladder", "-5,10"], "--ladder"),
    ] {
        let (code, _, err) = run(&mut place.dbstress(arguments));
        assert!(code == 2 && err.contains(words) && !err.contains("unexpected argument"), "{arguments:?}: {err}");
    }
}

#[test]
fn no_color_is_obeyed_by_errors_too() {
    let place = Place::new();
    let coloured = |arguments: &[&str]| {
        let (code, _, err) = run(place.dbstress(arguments).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1"));
        assert_eq!(code, 2);
        err.contains('\u{1b}')
    };
    assert!(coloured(&["contention", "--no-such-flag"]));
    assert!(!coloured(&["contention", "--no-such-flag", "--no-color"]));
    assert!(!coloured(&["--no-color", "no-such-command"]));
}

#[test]
fn what_dbstress_runs_of_itself_is_nowhere_shown() {
    let place = Place::new();
    for arguments in [&["hol"][..], &["supervis"], &["--help"], &["help"]] {
        let (_, out, err) = run(&mut place.dbstress(arguments));
        let said = [out, err].concat();
        assert!(!said.contains("'hold'") && !said.contains("supervise"), "{said}");
    }
    for arguments in [&["help", "hold"][..], &["help", "supervise"], &["supervise"]] {
        let (code, _, err) = run(&mut place.dbstress(arguments));
        assert!(code == 2 && err.contains("unrecognized subcommand"), "{arguments:?}: {err}");
    }
}

#[tokio::test]
async fn whoever_names_two_databases_is_asked_which_one_is_meant() {
    let bench = Bench::new().await;
    let url = bench.database.url();
    for (arguments, words) in [
        (&["verify", "--database", "mine"][..], "--database is about the private server, and DATABASE_URL names another"),
        (&["seed", "--reset", "--database", "mine"], "--managed, without --database-url"),
        (&["verify", "--managed", "--database-url", "postgres://me@127.0.0.1:1/x"], "leave out one of them"),
        (&["verify", "--database", ""], "--database names nothing"),
    ] {
        let (code, out, err) = run(bench.place.dbstress(arguments).env("DATABASE_URL", &url));
        assert_eq!((code, &*out), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}

/// What is typed as it was printed must not strike another database than the one that it was said of.
#[tokio::test]
async fn a_cure_leads_to_the_database_that_it_is_about() {
    let bench = Bench::new().await;
    let break_a_rule = "UPDATE dbstress.authorisation SET used = total + 1, guarded = false WHERE id = 1";
    bench.database.session().await.execute(break_a_rule).await.unwrap();
    let url = bench.database.url();
    for (command, cure) in [
        ("contention --vus 20 --rounds 5", "dbstress seed --reset --database-url "),
        ("scheduling --vus 20", "dbstress seed --reset --dataset residency --database-url "),
        ("seed --scale 2", "dbstress seed --reset --dataset clinic --scale 2 --rng-seed 42 --database-url "),
    ] {
        let mut command_line = bench.place.dbstress(&command.split(' ').collect::<Vec<_>>());
        let (_, out, err) = run(command_line.args(["--database-url", &url]));
        let all = [out, err].concat().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(all.contains(cure), "{command}: {all}");
    }
}
