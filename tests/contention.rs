//! Does `dbstress contention` say what is true, with the right exit code, whatever is typed, missing or killed on the way?

mod common;

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{Bench, PATIENCE, Place, Started, assert_no_panic, at_least, committed, eventually, on, run};
use dbstress::outcome::{Abort, OutcomeClass};
use dbstress::pg::admin::{Lease, Session, identifier};
use dbstress::pg::cluster::process::children;
use dbstress::pg::load::Connection;
use dbstress::pg::{ConnectOptions, Host};
use dbstress::plan::{HAZARD, Limit, Load};
use dbstress::record::{Moment, RunRecord, SCHEMA_VERSION};
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

#[tokio::test]
async fn a_safe_strategy_passes_and_verify_agrees() {
    let bench = Bench::new().await;
    let (code, _, err) = run(&mut bench.dbstress("seed --reset"));
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = run(&mut bench.dbstress("contention --vus 20 --rounds 60 --summary-export r.json"));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("PASS") && out.contains("serializable") && out.contains("no overbooking"), "{out}");
    // Results on one stream, progress on the other.
    for progress in ["invariants before", "controls before", "control before: naive caught", "serializable …", "controls after"] {
        assert!(err.contains(progress) && !out.contains(progress), "{progress}:\n{out}\n{err}");
    }
    assert!(!err.contains("PASS"), "{err}");

    let text = std::fs::read_to_string(bench.export()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["schema_version"], &json["verdict"]), (&SCHEMA_VERSION.into(), &"pass".into()));
    let record = RunRecord::from_json(&text).unwrap();
    assert_eq!(record.to_json().unwrap(), text.trim_end());
    assert_eq!(record.plan.load, Load::Rounds { vus: 20, limit: Limit::Rounds(60) });
    let turn = &record.turns[0];
    assert!(turn.gates.iter().all(|g| g.met) && turn.audit.rounds == 60 && turn.bound.is_some(), "{turn:?}");
    for moment in [Moment::Before, Moment::After] {
        assert_eq!(record.controls.iter().filter(|c| c.moment == moment && c.fired).count(), 2, "{:?}", record.controls);
    }
    let kept = bench.place.0.join("runs").join(&record.id).join("record.json");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), text);
    bench.assert_swept().await;

    let (code, out, err) = run(&mut bench.dbstress("verify"));
    assert_eq!(code, 0, "{out}{err}");
    let claims = "SELECT claims::text FROM dbstress.run WHERE verdict = 'pass' AND strategy = 'serializable' AND ended IS NOT NULL";
    let claims = bench.database.session().await.text(claims).await.unwrap().unwrap();
    assert!(record.plan.claims.iter().all(|claim| claims.contains(claim)), "{claims}");
}

#[tokio::test]
async fn a_pass_that_rests_on_so_few_rounds_that_it_bounds_nothing_is_inconclusive() {
    let bench = Bench::new().await;
    let head = "summary = \"a test\"\nworkload = \"booking\"\ndataset = \"clinic\"\nstrategy = \"atomic\"\n\
                claims = [\"units-within-total\", \"counters-match-ledger\"]\n[load]\nvus = 20\nrounds = 3\n\
                [booking]\ntargets = \"rounds\"\nhold = \"2ms\"\n[[operation]]\nkind = \"reserve\"\n";
    for (evidence, least) in [("", 20), ("[evidence]\ncontested = 1\n", 4), ("[evidence]\ncontested = 0\n", 4)] {
        std::fs::write(bench.place.0.join("mine.toml"), format!("{head}{evidence}")).unwrap();
        let (code, out, err) = run(&mut bench.dbstress("run mine.toml --summary-export r.json"));
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code, 3, "{evidence}: {out}{err}");
        assert!(words.contains(&format!("required: contention in at least {least} rounds; measured: in ")), "{out}");
        assert!(!out.contains("300 %") && bench.record().turns[0].bound.is_none(), "{out}");
    }
}

#[tokio::test]
async fn an_unsafe_strategy_is_violated_until_the_data_is_made_anew() {
    let bench = Bench::new().await;
    let (code, out, err) = run(
        &mut bench.dbstress("contention --vus 20 --rounds 40 --hold 2ms --strategy naive,serializable --summary-export r.json")
    );
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("VIOLATED") && out.contains("overbooked") && out.contains("serializable was not run"), "{out}");
    let record = bench.record();
    assert_eq!((record.verdict, record.turns.len()), (Verdict::Violated, 1));
    assert_eq!(record.not_run[0].name, "serializable");
    assert!(record.not_run[0].why.contains("seed --reset"), "{:?}", record.not_run);
    bench.assert_swept().await;

    let (code, out, err) = run(&mut bench.dbstress("verify"));
    assert_eq!(code, 1, "{out}{err}");
    let mut session = bench.database.session().await;
    let overbooked = "SELECT min(id) FROM dbstress.authorisation WHERE used + scheduled > total";
    let row = session.text(overbooked).await.unwrap().unwrap();
    assert!(out.contains("units-within-total") && out.contains(&row), "authorisation {row} is not named: {out}");

    let runs = session.integer("SELECT count(*) FROM dbstress.run").await.unwrap();
    let (code, out, err) = run(&mut bench.dbstress("contention --vus 20 --rounds 5"));
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("INCONCLUSIVE") && out.contains("seed --reset"), "{out}{err}");
    assert_eq!([out, err].concat().matches("did not hold before the run began").count(), 1, "it is said once");
    assert_eq!(session.integer("SELECT count(*) FROM dbstress.run").await.unwrap(), runs);
    session.close().await;

    let (code, _, err) = run(&mut bench.dbstress("seed --reset"));
    assert_eq!(code, 0, "{err}");
    assert_eq!(run(&mut bench.dbstress("verify")).0, 0);
    let (code, out, err) = run(&mut bench.dbstress("contention --vus 1"));
    assert!(code == 2 && out.is_empty() && err.matches("no contention: 1 VU meets nobody").count() == 1, "{out}{err}");
    let (code, _, err) = run(&mut bench.dbstress("contention --vus 5 --total 50 --units 10"));
    assert!(code == 2 && err.contains("--vus above 5"), "{err}");
    bench.assert_swept().await;
}

#[tokio::test]
async fn all_means_those_that_claim_to_be_safe_and_quiet_means_quiet() {
    let bench = Bench::new().await;
    let command = "-q contention --vus 12 --rounds 20 --strategy all --summary-export r.json";
    let (code, out, err) = run(bench.dbstress(command).env_remove("NO_COLOR").env("TERM", "xterm-256color"));
    // Whether every gate was met is the machine's affair.
    assert!(matches!(code, 0 | 3), "{code}: {out}{err}");
    assert_eq!(err, "");
    let ran: Vec<String> = bench.record().turns.into_iter().map(|t| t.name).collect();
    assert_eq!(ran, Strategy::safe(HAZARD).map(Strategy::name).collect::<Vec<_>>());
    assert!(ran.iter().all(|name| out.contains(name)), "{out}");
    assert!(!out.contains('\x1b'), "not a terminal: {out:?}");
    bench.assert_swept().await;
}

#[tokio::test]
async fn there_are_no_escapes_in_anything_that_is_not_a_terminal() {
    let bench = Bench::new().await;
    for no_colour in [None, Some("1")] {
        let mut command = bench.dbstress("contention --vus 8 --rounds 2 --strategy for-update");
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("CLICOLOR_FORCE", "1");
        command.envs(no_colour.map(|value| ("NO_COLOR", value)));
        let (code, out, err) = run(&mut command);
        assert!(matches!(code, 0 | 3) && !out.contains('\x1b') && !err.contains('\x1b') && !err.contains('\r'), "{out:?}{err:?}");
    }
}

/// What is there, by name and file: a table that was made, emptied or rewritten shows, and so does a recorded run.
async fn contents(options: &ConnectOptions) -> String {
    let mut session = Session::connect(options, "test").await.unwrap();
    let relations = "SELECT string_agg(c.oid::regclass || ':' || c.relfilenode, ',' ORDER BY c.oid) FROM pg_class c \
                     WHERE c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)";
    let mut found = session.text(relations).await.unwrap().unwrap_or_default();
    if found.contains("dbstress.run") {
        let rows = "SELECT (SELECT count(*) FROM dbstress.run) || '/' || (SELECT max(id) FROM dbstress.authorisation)";
        found += &session.text(rows).await.unwrap().unwrap_or_default();
    }
    session.close().await;
    found
}

/// `dbstress contention ARGUMENTS` is refused with `code`, in words that contain all of `words`, and nothing is written.
async fn refused(place: &Place, options: &ConnectOptions, arguments: &str, code: i32, words: &[&str]) {
    let (found, out, err) = run(&mut on(place, options, &format!("contention {arguments}")));
    assert_eq!((found, &*out), (code, ""), "{arguments}: {err}");
    for word in words {
        assert!(err.contains(word), "{arguments}: `{word}` is missing from: {err}");
    }
    assert_no_panic(&out, &err);
}

#[tokio::test]
async fn what_was_mistyped_is_refused_with_its_cure() {
    let bench = Bench::new().await;
    let before = contents(&bench.database.options).await;
    let typed: [(&str, &[&str]); 14] = [
        ("--vus 0", &["--vus: 0 VUs", "2 is the least"]),
        ("--units 0", &["--units: `reserve` of 0 units", "at least 1"]),
        ("--units -5", &["--units: `reserve` of -5 units"]),
        ("--total 0", &["--total: an authorisation of 0 units"]),
        ("--units 60", &["--units: `reserve` of 60 units, of an authorisation of 50"]),
        ("--rounds 0", &["--rounds: nothing would happen", "1 or more"]),
        ("--duration 0s", &["--duration: nothing would happen", "such as 30s"]),
        ("--duration soon", &["--duration", "soon"]),
        ("--retry-attempts 0", &["--retry-attempts: ", "1 means no retry"]),
        ("--hold 1m", &["--hold", "deadline"]),
        ("--strategy serialisable", &["there is no strategy `serialisable`", "did you mean `serializable`?"]),
        ("--strategy nonsense", &["naive-set, atomic", "or all"]),
        ("--vus 30000", &["30000 virtual users", "max_connections", "or fewer", "ALTER SYSTEM SET max_connections"]),
        ("--summary-export /nonexistent/r.json", &["cannot write /nonexistent/r.json", "directory that you may write to"]),
    ];
    for (arguments, words) in typed {
        refused(&bench.place, &bench.database.options, arguments, 2, words).await;
    }
    let mut below_a_file = bench.dbstress("contention --vus 20 --rounds 5");
    std::fs::write(bench.place.0.join("file"), "").unwrap();
    let (code, out, err) = run(below_a_file.env("DBSTRESS_STATE_DIR", bench.place.0.join("file/state")));
    assert!(code == 2 && out.is_empty() && err.contains("file/state is not usable") && err.contains("--state-dir"), "{out}{err}");
    assert_eq!(contents(&bench.database.options).await, before);
    assert!(!bench.place.0.join("runs").exists());
}

#[tokio::test]
async fn a_database_that_is_not_there_or_not_ours_is_refused_with_its_cure() {
    let bench = Bench::new().await;
    let ours = &bench.database.options;
    let (place, arguments) = (&bench.place, "--vus 20 --rounds 5");
    let tcp = ConnectOptions { host: Host::Tcp("127.0.0.1".into()), password: Some("wrong".into()), ..ours.clone() };
    let unreachable = ConnectOptions { port: 1, ..tcp.clone() };
    refused(place, &unreachable, arguments, 3, &["could not connect to PostgreSQL at", "start the server or correct the address"])
        .await;
    refused(place, &ours.with_database("no_such_database"), arguments, 2, &["no_such_database", "createdb"]).await;
    if matches!(ours.host, Host::Socket(_)) {
        // The private server asks for a password on TCP alone.
        refused(place, &tcp, arguments, 3, &["does not let", "right password"]).await;
    }

    let plain = common::database().await;
    refused(place, &plain.options, arguments, 2, &["no dbstress sentinel", "dbstress seed"]).await;
    plain.session().await.execute("CREATE TABLE theirs ()").await.unwrap();
    let before = contents(&plain.options).await;
    refused(place, &plain.options, arguments, 2, &["not ours", "nothing was written"]).await;
    assert_eq!(contents(&plain.options).await, before);

    let copy = common::copy(&bench.database).await;
    let before = contents(&copy.options).await;
    refused(place, &copy.options, arguments, 2, &["this is a copy", "--disposable"]).await;
    assert_eq!(contents(&copy.options).await, before);

    let newer =
        "INSERT INTO dbstress._migrations (version, description, success, checksum, execution_time) VALUES (9999, '', true, '', 0)";
    bench.database.session().await.execute(newer).await.unwrap();
    let before = contents(ours).await;
    refused(place, ours, arguments, 2, &["is version 9999", "use the newer dbstress"]).await;
    assert_eq!(contents(ours).await, before);
}

#[tokio::test]
async fn two_at_once_on_one_database_would_be_each_others_noise() {
    let bench = Bench::new().await;
    let before = contents(&bench.database.options).await;
    let mut lease = Lease::take(&bench.database.options, "seed").await.unwrap();
    let holder = format!("seed of process {}", std::process::id());
    let words = ["another dbstress is at work", &holder, "use another database"];
    refused(&bench.place, &bench.database.options, "--vus 20 --rounds 5", 3, &words).await;
    lease.release().await;
    assert_eq!(contents(&bench.database.options).await, before);
}

#[tokio::test]
async fn an_interrupted_run_finishes_its_round_and_keeps_its_record() {
    let bench = Bench::new().await;
    let run = Started::new(bench.dbstress("contention --vus 10 --duration 1h --summary-export r.json"));
    run.says("serializable …").await;
    let mut session = bench.database.session().await;
    committed(&mut session, 50).await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert!(err.contains("finishing the round") && out.contains("INCONCLUSIVE"), "{out}{err}");
    assert_no_panic(&out, &err);
    let record = bench.record();
    assert_eq!((record.verdict, record.interrupted), (Verdict::Inconclusive, true));
    let turn = &record.turns[0];
    assert!(turn.audit.rounds > 0 && turn.audit.incomplete.is_empty() && turn.audit.breaches.is_empty(), "{turn:?}");
    assert_eq!(turn.counts.iterations(), turn.audit.rounds * 10, "every round that was begun was finished");
    assert!(record.controls.iter().all(|c| c.moment == Moment::Before));
    bench.assert_swept().await;
    let verdict = session.text("SELECT verdict FROM dbstress.run").await.unwrap();
    assert_eq!(verdict.as_deref(), Some("inconclusive"));
}

#[tokio::test]
async fn an_interrupt_during_the_controls_leaves_nothing_of_them() {
    let bench = Bench::new().await;
    let run = Started::new(bench.dbstress("contention --vus 10 --duration 1h --summary-export r.json"));
    run.says("controls before …").await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_no_panic(&out, &err);
    let record = bench.record();
    assert_eq!((record.verdict, record.interrupted, record.turns.len()), (Verdict::Inconclusive, true, 0));
    assert_eq!((record.not_run.len(), &*record.not_run[0].why), (1, "interrupted"));
    bench.assert_swept().await;
}

#[tokio::test]
async fn an_interrupt_while_the_virtual_users_still_connect_ends_the_run_too() {
    let bench = Bench::new().await;
    let (mut gate, mut ledger) = (bench.database.session().await, bench.database.session().await);
    // The turn cannot be registered until the ledger is locked, and the statements that are prepared first name the ledger.
    gate.execute("BEGIN; LOCK TABLE dbstress.run IN SHARE MODE").await.unwrap();
    let run = Started::new(bench.dbstress("contention --vus 40 --duration 1h --strategy for-update --summary-export r.json"));
    run.says("for-update …").await;
    ledger.execute("BEGIN; LOCK TABLE dbstress.unit_ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    gate.execute("COMMIT").await.unwrap();
    at_least(&mut gate, 10, "SELECT count(*) FROM pg_locks WHERE relation = 'dbstress.unit_ledger'::regclass AND NOT granted")
        .await;
    run.signal(Signal::SIGINT);
    run.says("finishing the round").await;
    ledger.execute("COMMIT").await.unwrap();
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_no_panic(&out, &err);
    assert_eq!((bench.record().verdict, bench.record().interrupted), (Verdict::Inconclusive, true));
    bench.assert_swept().await;
}

/// Whatever ends the program, and whenever: it says no more than it knows, and the next command finds a database that it can use.
#[tokio::test]
async fn whenever_a_run_is_ended_by_a_signal_nothing_is_broken_and_the_next_one_can_begin() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    let moments = ["invariants before …", "controls before …", "atomic …", "controls after …"];
    let ended = [Signal::SIGTERM, Signal::SIGKILL].into_iter().flat_map(|signal| moments.map(|moment| (signal, moment)));
    for (signal, moment) in ended.chain([(Signal::SIGHUP, "atomic …")]) {
        let rounds = if moment == "atomic …" { 1_000_000 } else { 21 };
        let before = session.integer("SELECT count(*) FROM dbstress.unit_ledger").await.unwrap();
        let started = Started::new(bench.dbstress(&format!("contention --vus 8 --rounds {rounds} --strategy atomic")));
        started.says(moment).await;
        if moment == "atomic …" {
            committed(&mut session, before + 20).await;
        }
        started.signal(signal);
        let (code, out, err) = started.ended().await;
        let is_told = signal != Signal::SIGKILL;
        assert_eq!(code, if is_told { 130 } else { -1 }, "{signal} at {moment}: {out}{err}");
        assert_no_panic(&out, &err);
        assert!(!out.contains("PASS") && !out.contains("VIOLATED"), "{signal} at {moment}: {out}");
        let (code, out, err) = run(&mut bench.dbstress("verify"));
        assert!([0, 3].contains(&code) && !out.contains("VIOLATED"), "after {signal} at {moment}: {out}{err}");
    }
    let (code, out, err) = run(&mut bench.dbstress("contention --vus 20 --rounds 40 --strategy atomic"));
    assert!([0, 3].contains(&code) && out.contains("22/22 hold"), "{out}{err}");
    bench.assert_swept().await;
}

#[tokio::test]
async fn a_second_interrupt_gives_up_at_once() {
    let bench = Bench::new().await;
    let run = Started::new(bench.dbstress("contention --vus 10 --duration 1h --strategy for-update --retry-deadline 10m"));
    run.says("for-update …").await;
    let mut session = bench.database.session().await;
    committed(&mut session, 10).await;
    // Nobody gets on with the round.
    session.execute("BEGIN; LOCK TABLE dbstress.unit_ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    run.signal(Signal::SIGINT);
    run.says("finishing the round").await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert!(code == 130 && out.is_empty() && err.contains("interrupted twice"), "{code}: {out}{err}");
    assert_no_panic(&out, &err);
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_the_question_open() {
    if common::not_applicable("a server is crashed or frozen for it, and only the private one may be") {
        return;
    }
    let place = Place::new();
    let running = place.start().await;
    let name = {
        let mut session = Session::connect(&running.options, "test").await.unwrap();
        let name = session.text("SHOW cluster_name").await.unwrap().unwrap();
        session.close().await;
        name
    };
    let (code, _, err) = run(&mut on(&place, &running.options, "seed"));
    assert_eq!(code, 0, "{err}");
    let contention = "contention --vus 10 --duration 1h --retry-deadline 2s --summary-export r.json";
    let run = Started::new(on(&place, &running.options, contention));
    run.says("serializable …").await;
    let mut session = Session::connect(&running.options, "test").await.unwrap();
    committed(&mut session, 20).await;
    session.close().await;
    assert!(place.identity("postmaster").signal(Signal::SIGKILL));
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 3, "{out}{err}");
    let lines = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(lines.contains("went away and did not come back within 2 s"), "{out}{err}");
    assert_no_panic(&out, &err);
    whole_or_not_at_all(&place.0.join("r.json"));
    eventually("nothing of the server is left", || children(&name).is_empty()).await;
    drop(running);
}

/// A record that is there can be read and says inconclusive, and no part of one lies about.
fn whole_or_not_at_all(path: &Path) {
    if path.exists() {
        let record = RunRecord::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
        assert!(record.turns.iter().all(|t| t.verdict == Verdict::Inconclusive));
    }
    let parts: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!parts.iter().any(|name| name.to_string_lossy().starts_with('.')), "{parts:?}");
}

/// Kills up to four virtual users' sessions of which `what` is true, and waits until all eight are there again.
async fn kill(session: &mut Session, what: &str) {
    let kill = format!(
        "SELECT pid, pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name LIKE 'dbstress/run%/vu%' AND {what} LIMIT 4) victim"
    );
    let deadline = Instant::now() + PATIENCE;
    let victims = loop {
        let victims = session.rows(&kill).await.unwrap();
        if !victims.is_empty() {
            break victims;
        }
        assert!(Instant::now() < deadline, "no session is as wanted: {what}");
    };
    let pids: Vec<&str> = victims.iter().filter_map(|victim| victim[0].as_deref()).collect();
    let replaced = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress/run%/vu%' \
         AND pid NOT IN ({})",
        pids.join(", ")
    );
    at_least(session, 8, &replaced).await;
}

#[tokio::test]
async fn sessions_that_are_killed_are_replaced_and_every_unanswered_operation_is_resolved() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    // Every COMMIT takes a while, so that one can be met on its way.
    let slow = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON dbstress.unit_ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
                EXECUTE FUNCTION public.slow()";
    session.execute(slow).await.unwrap();
    common::out_of_sight(&bench.database, "slow").await;
    let contention = "contention --vus 8 --mode churn --duration 1h --strategy for-update --summary-export r.json";
    let run = Started::new(bench.dbstress(contention));
    run.says("for-update …").await;
    committed(&mut session, 20).await;
    for what in
        ["query = 'COMMIT' AND wait_event = 'PgSleep'", "wait_event_type = 'Lock'", "query = 'COMMIT' AND wait_event = 'PgSleep'"]
    {
        kill(&mut session, what).await;
    }
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    let record = bench.record();
    let turn = &record.turns[0];
    let unknown = turn.counts.of(OutcomeClass::Unknown);
    assert!(unknown > 0 && turn.counts.failed(Abort::ConnectionLost) > 0, "{:?}", turn.counts);
    let classes = turn.audit.classes;
    assert_eq!((classes.unknown_committed + classes.unknown_absent, classes.unknown_unresolved), (unknown, 0));
    assert!(turn.audit.breaches.is_empty() && turn.audit.incomplete.is_empty(), "{:?}", turn.audit);
    assert_eq!(record.verdict, Verdict::Inconclusive, "{:?}", record.reasons);
    let fences = "SELECT count(*) FROM dbstress.unit_ledger WHERE kind = 'fence'";
    assert_eq!(session.integer(fences).await.unwrap() as u64, classes.unknown_absent);
    session.close().await;
    let (code, out, err) = self::run(&mut bench.dbstress("verify"));
    assert_ne!(code, 1, "{out}{err}");
}

/// `dbstress ARGUMENTS` where no file can have more than so many bytes: like a disk that is full there.
fn with_little_room(bench: &Bench, bytes: u32, arguments: &str) -> Command {
    let command = bench.dbstress(arguments);
    let mut limited = Command::new("sh");
    // Without the signal, what is too much is an error of the call that writes it. Blocks of 512 bytes.
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512)]);
    limited.arg(command.get_program()).args(command.get_args()).current_dir(&bench.place.0);
    common::scrub(&mut limited);
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    limited
}

#[tokio::test]
async fn a_verdict_stands_when_its_record_cannot_be_kept_and_only_a_pass_is_none() {
    let bench = Bench::new().await;
    let full = Path::new("/dev/full");
    for (strategy, word, code) in [("serializable", "PASS (GO)", 3), ("naive", "VIOLATED (NO-GO)", 1)] {
        let typed = format!("contention --vus 20 --rounds 40 --hold 2ms --strategy {strategy} --summary-export /dev/full");
        let (found, out, err) = run(&mut bench.dbstress(&typed));
        assert_eq!(found, code, "{out}{err}");
        assert!(out.contains(word) && out.contains("again:"), "{out}");
        assert!(err.contains("the record could not be kept in /dev/full") && err.contains("No space left"), "{err}");
        assert!(full.metadata().unwrap().file_type().is_char_device(), "a device is nothing to be replaced");
    }
    // Neither histories nor record: what the rows show is violated all the same.
    let (code, _, err) = run(&mut bench.dbstress("seed --reset"));
    assert_eq!(code, 0, "{err}");
    let (code, out, err) =
        run(&mut with_little_room(&bench, 16 << 10, "contention --vus 20 --rounds 40 --hold 2ms --strategy naive"));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("VIOLATED (NO-GO)") && err.contains("record.json") && err.contains("File too large"), "{out}{err}");
}

#[tokio::test]
async fn a_history_that_the_disk_has_no_room_for_shows_nothing_either_way() {
    let bench = Bench::new().await;
    // Seven virtual users in two threads: the history of four has no room, that of three has.
    let typed = "contention --vus 7 --rounds 100 --hold 1ms --threads 2 --strategy for-update";
    let (code, out, err) = run(&mut with_little_room(&bench, 28 << 10, typed));
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("INCONCLUSIVE") && out.contains("history"), "{out}{err}");
    assert!(!out.contains("belongs to no operation"), "what was not written down was done by strangers: {out}");
}

#[tokio::test]
async fn a_record_goes_where_its_name_leads() {
    let bench = Bench::new().await;
    let link = bench.place.0.join("link.json");
    std::os::unix::fs::symlink("r.json", &link).unwrap();
    let typed = "contention --vus 20 --rounds 20 --hold 2ms --strategy naive --summary-export";
    let (code, _, err) = run(&mut bench.dbstress(&format!("{typed} link.json")));
    assert_eq!(code, 1, "{err}");
    assert!(link.symlink_metadata().unwrap().is_symlink(), "the link is still one");
    let first = bench.record();
    assert_eq!(first.verdict, Verdict::Violated);

    // The record alone, for a program that reads it.
    let (code, _, err) = run(&mut bench.dbstress("seed --reset"));
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = run(&mut bench.dbstress(&format!("{typed} -")));
    assert_eq!(code, 1, "{err}");
    let second = RunRecord::from_json(&out).unwrap();
    assert!(second.verdict == Verdict::Violated && second.id != first.id, "{out}");
    assert!(err.contains("VIOLATED (NO-GO)"), "{err}");
    assert!(!bench.place.0.join("-").exists());
}

#[tokio::test]
async fn whose_limit_on_connections_it_is_is_told_with_what_raises_it() {
    let place = Place::new();
    let database = common::database_of_a_guest(&["CONNECTION LIMIT 8"]).await;
    common::seed(&database.options).await;
    let (role, name) = (identifier(&database.options.user), &database.options.database);
    refused(
        &place,
        &database.options,
        "--vus 20 --rounds 2",
        2,
        &["20 virtual users", "CONNECTION LIMIT of ROLE", &format!("ALTER ROLE {role} CONNECTION LIMIT 27")],
    )
    .await;
    let mut superuser = database.superuser().await;
    superuser.execute(&format!("ALTER ROLE {role} CONNECTION LIMIT -1; ALTER DATABASE {name} CONNECTION LIMIT 9")).await.unwrap();
    refused(
        &place,
        &database.options,
        "--vus 20 --rounds 2",
        2,
        &[&format!("CONNECTION LIMIT of DATABASE {name} 9"), &format!("ALTER DATABASE {name} CONNECTION LIMIT")],
    )
    .await;
    // Where nobody is let in at all.
    for (limit, words) in [
        (format!("ALTER ROLE {role} CONNECTION LIMIT 0"), ["the role `Guest of", "CONNECTION LIMIT -1"]),
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT -1; ALTER DATABASE {name} CONNECTION LIMIT 0"),
            ["the database `", "CONNECTION LIMIT -1"],
        ),
    ] {
        superuser.execute(&limit).await.unwrap();
        refused(&place, &database.options, "--vus 20 --rounds 2", 3, &words).await;
        let error = Connection::open(&database.options, "dbstress/test", &[]).await.err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains("max_connections"), "{error}");
    }
}
