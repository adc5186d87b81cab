//! Do the modules import only from the layers above them, and does each keep to its own driver, its own output, its own exit?

use std::collections::BTreeSet;
use std::path::Path;

/// From the words that need nothing to the faces that need everything; a module imports only from those before it.
const LAYERS: [&str; 44] = [
    "error",
    "random",
    "outcome",
    "history",
    "metrics",
    "program",
    "request",
    "pace",
    "threshold",
    "demand",
    "acgme",
    "audit",
    "verdict",
    "milliseconds",
    "text_file",
    "annotated",
    "files",
    "token",
    "state",
    "http",
    "contract",
    "pg",
    "proxy",
    "fault",
    "seed",
    "roster",
    "strategy",
    "bug",
    "workload",
    "target",
    "invariant",
    "probe",
    "drill",
    "scenario",
    "plan",
    "record",
    "run",
    "accuracy",
    "storm",
    "api",
    "access",
    "report",
    "cmd",
    "main",
];

/// Who alone may say it: (what, path prefixes).
const ALONE: [(&str, &[&str]); 13] = [
    // Rendering knows the record of a run, never the run.
    ("crate::run", &["run/", "cmd/"]),
    ("tokio_postgres", &["pg/load/", "storm/"]),
    ("postgres_protocol", &["pg/load/"]),
    ("deadpool", &["pg/pool.rs", "storm/"]),
    ("sqlx", &["pg/admin/", "storm/"]),
    ("axum::", &["api/"]),
    ("println!", &["report/", "main.rs"]),
    ("print!", &["report/", "main.rs"]),
    ("eprintln!", &["report/", "main.rs"]),
    ("eprint!", &["report/", "main.rs"]),
    // What is held is answered for through the pipe to the one who asked.
    ("io::stdout()", &["report/", "main.rs", "files.rs", "pg/cluster/hold.rs"]),
    ("io::stderr()", &["report/", "main.rs"]),
    ("process::exit", &["main.rs"]),
];

/// What is wrong with a file, `path` relative to `src`.
fn faults(path: &str, source: &str) -> Vec<String> {
    let code = code(source);
    let module = path.split(['/', '.']).next().unwrap();
    let mut faults = Vec::new();
    if module != "lib" {
        let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
        let own = rank(module).unwrap_or_else(|| panic!("{path}: `{module}` has no layer"));
        faults.extend(
            imports(&code).into_iter().filter(|name| rank(name).is_some_and(|r| r > own)).map(|name| format!("{module} → {name}")),
        );
    }
    for (what, places) in ALONE {
        let said = code.match_indices(what).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        if said && !places.iter().any(|place| path.starts_with(place)) {
            faults.push(format!("{path} says {what}"));
        }
    }
    faults
}

/// A source without its comments and its tests.
fn code(source: &str) -> String {
    let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    product.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The modules that are named after `crate::`, one by one or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for prefix in ["crate::", "dbstress::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let mut depth = 0;
            let mut name = String::new();
            for c in rest.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    c if depth <= 1 && (c.is_alphanumeric() || c == '_') => name.push(c),
                    _ => {}
                }
                if c == ',' && depth == 1 || depth == 0 && !(c.is_alphanumeric() || c == '_') {
                    names.insert(std::mem::take(&mut name));
                } else if c == ':' && depth <= 1 {
                    names.insert(name.clone());
                }
                if depth == 0 && !(c.is_alphanumeric() || c == '_') {
                    break;
                }
            }
        }
    }
    names
}

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

#[test]
fn modules_import_only_from_the_layers_above_them_and_keep_to_their_own() {
    let mut found = Vec::new();
    sources(root(), &mut found);
    assert!(found.len() > 50, "{} files", found.len());
    let faults: Vec<String> = found.iter().flat_map(|(path, source)| faults(path, source)).collect();
    assert_eq!(faults, [""; 0]);
}

#[test]
fn a_planted_fault_is_found() {
    let one = |path: &str, source: &str| faults(path, source).join(", ");
    assert_eq!(one("audit/replay.rs", "use crate::pg::admin::Session;"), "audit → pg");
    assert_eq!(one("run/mod.rs", "use crate::{\n    Error, Result,\n    report::text,\n};"), "run → report");
    assert_eq!(one("seed/mod.rs", "use crate::{Result, plan};"), "seed → plan");
    assert_eq!(one("seed/mod.rs", "fn f() { crate::cmd::go() }"), "seed → cmd");
    assert_eq!(one("cmd/seed.rs", "use crate::pg::{load, admin::{self, Session}};\nuse crate::run::Event;"), "");
    assert_eq!(one("plan.rs", "// use crate::run::Event;\n#[cfg(test)]\nmod tests {\n    use crate::run::Event;\n}"), "");
    assert_eq!(one("run/vu.rs", "use tokio_postgres::Client;"), "run/vu.rs says tokio_postgres");
    assert_eq!(one("pg/load/tx.rs", "let e: sqlx::Error;"), "pg/load/tx.rs says sqlx");
    assert_eq!(one("cmd/db.rs", "println!();"), "cmd/db.rs says println!");
    assert_eq!(one("report/mod.rs", "use crate::run::Event;"), "report/mod.rs says crate::run");
    assert_eq!(one("report/screen.rs", "println!(); std::process::exit(1)"), "report/screen.rs says process::exit");
}
