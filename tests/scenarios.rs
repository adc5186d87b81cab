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
    for name in ["contention", "throughput", "mixed", "flash-sale", "database-stress"] {
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
fn the_schema_is_one_document_that_says_which_draft_it_is() {
    let schema: serde_json::Value = serde_json::from_str(&printed(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["load"].is_object());
}
