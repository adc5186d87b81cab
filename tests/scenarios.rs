//! Can one start from a scenario that comes with the program, and is told where one's own is wrong? Needs no database.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What the program prints on success.
fn printed(arguments: &[&str]) -> String {
    let output = run(dbstress().args(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// The program; nothing here needs a server, or a place for one.
fn dbstress() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbstress"));
    common::scrub(&mut command);
    command
}

/// A directory with this scenario in it, gone at the end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, scenario: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("scenario-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("mine.toml"), scenario).unwrap();
        Self(directory)
    }

    fn file(&self) -> String {
        self.0.join("mine.toml").to_str().unwrap().to_owned()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_shown_is_the_file_as_it_is_and_can_be_checked() {
    let list = printed(&["scenarios", "list"]);
    for name in ["contention", "throughput", "mixed", "flash-sale", "database-stress", "idempotency"] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
        let shown = printed(&["scenarios", "show", name]);
        let file = std::fs::read_to_string(format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(shown, file);
        let written = Written::new(name, &shown);
        assert!(printed(&["scenarios", "check", &written.file()]).starts_with("ok: mine: "));
    }
}

#[test]
fn a_file_that_cannot_be_run_ends_with_2_and_the_line_and_column_to_change() {
    let cases = [
        ("key", "[load]\nvuss = 5\n", "4:1", "did you mean `vus`?"),
        ("weights", "[[operation]]\nkind = \"reserve\"\nweight = 0\n", "5:10", "all weights are 0"),
        ("threshold", "thresholds = [\"aborted.rate<0.01\", \"aborted.rte<0.01\"]\n", "3:36", "rte"),
        ("stage", "[load]\nstages = [\"30s-50\"]\n", "4:11", "is not a stage"),
        ("type", "[load]\nvus = \"many\"\n", "4:7", "a whole number"),
        ("place", "duration = \"30s\"\n", "3:1", "[load]"),
        (
            "scarce",
            "thresholds = [\"refused.count==0\"]\n[load]\nrate = 100.0\nduration = \"60s\"\n[booking]\nauthorisations = 59\ntotal = 500\n",
            "3:15",
            "6,000 reservations of 10 units ask for 60,000 units, 29,500 exist",
        ),
    ];
    for (name, rest, place, word) in cases {
        let written = Written::new(name, &format!("summary = \"a test\"\nworkload = \"booking\"\n{rest}"));
        for arguments in [vec!["scenarios", "check"], vec!["config"]] {
            let output = run(dbstress().args(arguments).arg(written.file()));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.starts_with(&format!("error: {}:{place}: ", written.file())), "{said}");
            assert!(said.contains(word) && said.contains("cure:"), "{said}");
        }
    }
}

#[test]
fn a_flag_wins_over_its_variable_a_variable_over_the_file() {
    let line = |output: &Output, key: &str| {
        let line = text(&output.stdout).lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_default();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let written = Written::new("settings", "summary = \"a test\"\nworkload = \"booking\"\n[load]\nvus = 5\nthink = \"1s\"\n");
    let output = run(dbstress()
        .args(["config", &written.file(), "--vus", "7", "--stage", "1s:9"])
        .env("DBSTRESS_VUS", "6")
        .env("DBSTRESS_THINK", "2s")
        .env("DBSTRESS_DURATION", "5s")
        .env("DBSTRESS_THRESHOLDS", "aborted.rate<0.01;unknown.count==0"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(line(&output, "load.vus"), "7 flag");
    assert_eq!(line(&output, "load.stages"), "1s:9 flag");
    assert_eq!(line(&output, "load.duration"), "", "the flag's shape replaces the variable's");
    assert_eq!(line(&output, "load.think"), "2s environment");
    assert!(line(&output, "thresholds").ends_with("environment"));
    assert_eq!(line(&output, "load.rng_seed"), "42 default");

    let output = run(dbstress().args(["config", &written.file()]).env("DBSTRESS_VUS", "0"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: DBSTRESS_VUS: 0 VUs"), "{}", text(&output.stderr));
}

#[test]
fn every_scenario_takes_every_profile() {
    for scenario in ["contention", "churn", "throughput", "mixed", "flash-sale", "database-stress", "idempotency"] {
        for profile in ["smoke", "load", "stress", "spike", "soak", "breaking-point"] {
            let lines = settings(&["config", scenario, "--profile", profile, "--time-scale", "0.1"]);
            let in_rounds = ["contention", "idempotency"].contains(&scenario);
            let length = if in_rounds { "load.duration" } else { "load.stages" };
            assert!(
                lines.iter().any(|line| line.starts_with(length) && line.ends_with(" flag")),
                "{scenario} {profile}: {lines:?}"
            );
        }
    }
    assert!(settings(&["config", "contention", "--profile", "smoke"]).contains(&"load.duration 1m flag".to_owned()));
    let stress = settings(&["config", "throughput", "--profile", "stress", "--vus", "40", "--time-scale", "0.1"]);
    assert!(stress.iter().any(|line| line.starts_with("load.stages 12s:10, 30s:10, 12s:20, 30s:20")), "{stress:?}");
    let smoke = settings(&["config", "throughput", "--profile", "smoke"]);
    assert!(smoke.contains(&"thresholds aborted:rate<0.01, refused:count==0 flag".to_owned()), "{smoke:?}");
}

/// What `config` prints, line by line, with single blanks.
fn settings(arguments: &[&str]) -> Vec<String> {
    printed(arguments).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_no_server_can_meet_is_refused_with_the_arithmetic() {
    let written = Written::new(
        "unreachable",
        r#"summary = "more than there is"
workload = "booking"
thresholds = ["aborted.rate<0.02", "refused.rate<0.02"]

[load]
rate = 40.0
duration = "300s"

[booking]
authorisations = 59
total = 500

[[operation]]
kind = "reserve"
units = 5
"#,
    );
    let output = run(dbstress().args(["scenarios", "check", &written.file()]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with(&format!("error: {}:3:36: no correct server can meet refused:rate<0.02: ", written.file())), "{said}");
    let arithmetic = "12,000 reservations of 5 units ask for 60,000 units, 29,500 exist: at least 6,100 (51 %) must be refused";
    assert!(said.contains(arithmetic) && said.contains("cure:"), "{said}");
}

#[test]
fn hot_authorisations_run_out_although_there_is_room_elsewhere() {
    let written = Written::new(
        "hot",
        r#"summary = "a fifth of the load on ten small authorisations"
workload = "booking"
thresholds = ["refused.rate<0.03"]

[load]
rate = 10.0
duration = "600s"

[booking]
authorisations = 45
total = 600
hot = 10
hot_total = 50
hot_share = 0.2

[[operation]]
kind = "reserve"
units = 5
weight = 70

[[operation]]
kind = "release"
units = 5
weight = 20

[[operation]]
kind = "consume"
units = 3
weight = 10
"#,
    );
    let output = run(dbstress().args(["scenarios", "check", &written.file()]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(":3:15: no correct server can meet refused:rate<0.03: of the hot ones, at least 659 reservations"),
        "{said}"
    );
}

#[test]
fn several_files_are_checked_at_once_and_each_fault_is_told() {
    let (good, bad) = (Written::new("good", SMALL), Written::new("bad", "summary = \"a test\"\nworkload = \"bokking\"\n"));
    let output = run(dbstress().args(["scenarios", "check", &bad.file(), &good.file(), "missing.toml"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(text(&output.stdout), "ok: mine: a test\n");
    assert!(said.contains(&format!("{}:2:12: ", bad.file())) && said.contains("missing.toml cannot be read"), "{said}");
}

#[test]
fn files_of_a_scenario_may_begin_with_a_byte_order_mark() {
    let marked = |text: &str| format!("\u{feff}{text}");
    let scenario = "summary = \"marked\"\nworkload = \"sql\"\nsetup = \"schema.sql\"\ninvariants = \"rules\"\n[control]\nnone = true\n\
                    [[operation]]\nname = \"count\"\nscript = \"count.sql\"\n";
    let written = Written::new("marked", &marked(scenario));
    std::fs::create_dir_all(written.0.join("rules")).unwrap();
    for (file, text) in [
        ("schema.sql", "CREATE TABLE IF NOT EXISTS n (n int);"),
        ("count.sql", "\\set more random(1, 3)\nUPDATE n SET n = n + :more;"),
        (
            "rules/some.sql",
            "-- when: always\n-- examines: SELECT 1\n-- breaks: DELETE FROM n\n--\n-- It is.\nSELECT 1 AS subject, 2 AS expected, 3 AS actual",
        ),
    ] {
        std::fs::write(written.0.join(file), marked(text)).unwrap();
    }
    printed(&["scenarios", "check", &written.file()]);
    let script = dbstress::scenario::Scenario::of_scripts(&[(written.0.join("count.sql"), 1.0)], &Default::default()).unwrap();
    let dbstress::scenario::Workload::Sql(sql) = script.workload else { panic!() };
    assert!(!format!("{:?}", sql.operations).contains('\u{feff}'));
    // And what comes on standard input.
    let mut child =
        dbstress().args(["config", "-"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        marked("summary = \"marked\"\nworkload = \"booking\"\n").as_bytes(),
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_suite_does_not_leave_out_what_was_named() {
    let written = Written::new("untagged", SMALL);
    for named in [written.file(), written.0.display().to_string()] {
        let output = run(dbstress().args(["suite", &named]));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("belongs to the suite") && said.contains("tags = [\"suite\"]"), "{said}");
    }
}

const SMALL: &str = "summary = \"a test\"\nworkload = \"booking\"\n";

#[test]
fn the_examples_can_be_run() {
    let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    for directory in examples.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "toml") {
                assert!(printed(&["scenarios", "check", file.to_str().unwrap()]).starts_with("ok: "), "{}", file.display());
            }
        }
    }
}

#[test]
fn the_schema_is_one_document_that_says_which_draft_it_is() {
    let schema: serde_json::Value = serde_json::from_str(&printed(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["load"].is_object());
}

#[test]
fn what_is_wrong_with_a_scenario_for_an_api_is_told_with_its_place() {
    let operation = |step: &str| format!("[[operation]]\nname = \"a\"\nsteps = [{step}]\n");
    let good = operation("{ path = \"/a\" }");
    let cases = [
        ("[http]\ntarge = \"http://x\"\n".to_owned(), "4:1", "did you mean `target`?"),
        (format!("[http]\ntarget = \"ftp://x\"\n{good}"), "4:10", "is not spoken here"),
        (format!("dataset = \"clinic\"\n[http]\ntarget = \"http://x\"\n{good}"), "3:11", "another API is asked"),
        (format!("strategy = \"naive\"\n{good}"), "3:12", "it belongs to another workload"),
        (operation("{ path = \"a\" }"), "5:19", "a path begins with a slash"),
        (operation("{ path = \"/a/${sea}\" }"), "5:19", "nothing here is called `sea`"),
        (operation("{ path = \"/a\", method = \"FETCH\" }"), "5:34", "`FETCH` is no method"),
        (operation("{ path = \"/a\", outcomes = { SOLD = \"refused\" } }"), "5:45", "`SOLD` is no status"),
        (operation("{ path = \"/a\", outcomes = { 409 = \"refusd\" } }"), "5:44", "did you mean `refused`?"),
        (operation("{ path = \"/a\", checks = [{ pointer = \"/b\", header = \"c\" }] }"), "5:35", "says it twice"),
        (operation("{ path = \"/a\", checks = [{ pointer = \"/b\", matches = \"(\" }] }"), "5:63", "no regular expression"),
        (operation("{ path = \"/a\", capture = { b = \"b\" } }"), "5:41", "says nothing of where to look"),
        (operation("{ path = \"/a\", json = { n = \"${n}\" } }"), "5:32", "nothing here is called `n`"),
        ("[[operation]]\nname = \"a\"\n".to_owned(), "3:1", "nothing is asked"),
        (format!("[http.auth]\nroles = {{ a = 1 }}\n{good}"), "3:1", "exactly one of: account, tokens, login, mint"),
        (format!("[http.auth]\naccount = \"viewer\"\nroles = {{ vewer = 1 }}\n{good}"), "5:19", "did you mean `viewer`?"),
        (format!("[http]\nread_only = true\n{}", operation("{ path = \"/a\", method = \"POST\" }")), "4:13", "`a` sends POST"),
        (format!("{good}[[invariant]]\nname = \"n\"\npath = \"/n\"\npointer = \"/n\"\n"), "6:1", "exactly one of: equals"),
        (
            format!("{good}[[invariant]]\nname = \"n\"\npath = \"/n\"\npointer = \"/n\"\nequals = \"committed(b)\"\n"),
            "6:1",
            "there is no operation `b`",
        ),
        (format!("{good}[load]\npool_size = 5\n"), "7:13", "a connection of its own"),
        (format!("{good}[evidence]\ncontested = 5\n"), "7:13", "an API does not tell"),
    ];
    for (n, (rest, place, word)) in cases.into_iter().enumerate() {
        let written = Written::new(&format!("http-{n}"), &format!("summary = \"a test\"\nworkload = \"http\"\n{rest}"));
        let output = run(dbstress().args(["scenarios", "check"]).arg(written.file()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{rest}\n{said}");
        assert!(said.contains(word) && said.contains("cure:"), "{rest}\n{said}");
        assert!(said.contains(&format!("{}:{place}: ", written.file())), "{place}\n{rest}\n{said}");
    }
    let ok = Written::new("http-ok", &format!("summary = \"a test\"\nworkload = \"http\"\n[http]\ntarget = \"http://x\"\n{good}"));
    assert!(printed(&["scenarios", "check", &ok.file()]).starts_with("ok: mine: "));
    let lines = settings(&["config", &ok.file(), "--target", "http://y:1", "--read-only"]);
    assert!(lines.contains(&"http.target http://y:1 flag".to_owned()), "{lines:?}");
    assert!(lines.contains(&"http.read_only true flag".to_owned()), "{lines:?}");
    assert!(settings(&["config", &ok.file()]).contains(&"http.target http://x file".to_owned()));
}

/// What prints without a server.
const PRINTS: [&[&str]; 9] = [
    &["schema"],
    &["scenarios", "list"],
    &["scenarios", "show", "mixed"],
    &["config", "throughput"],
    &["faults", "list"],
    &["bugs", "list"],
    &["verify", "--list", "--json"],
    &["pool", "--list"],
    &["--help"],
];

#[test]
fn output_that_cannot_be_written_is_said_and_is_no_success() {
    // A full disk, and what was opened to be read.
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let closed = || std::fs::File::open("/dev/null").unwrap();
    for (stdout, why) in [(&full as &dyn Fn() -> _, "No space left"), (&closed, "Bad file descriptor")] {
        for arguments in PRINTS {
            let output = run(dbstress().args(arguments).stdout(stdout()));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
            assert_eq!(said.matches("the results could not be written to standard output").count(), 1, "{arguments:?}: {said}");
            assert!(said.contains(why), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in PRINTS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(dbstress().args(arguments).stdout(writer));
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{arguments:?}");
    }
}
