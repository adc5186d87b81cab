//! Which programs do tests need besides PostgreSQL's, where do they come from, and what if there are none?
//!
//! Nobody has to install anything: they are fetched and unpacked below the target directory. Where that cannot be, what was not tested is said at
//! the end, a line each; where [`ALL`] is set, nothing may be left out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use dbstress::pg::cluster::account::Account;
use dbstress::pg::cluster::binaries::{self, Binaries};
use dbstress::pg::cluster::{debian, install};

/// Makes it a failure that a test was left out.
pub const ALL: &str = "DBSTRESS_TEST_ALL";

/// Says that this test was not done, and why; fails if nothing may be left out.
pub fn left_out(why: &str) {
    assert!(std::env::var_os(ALL).is_none(), "{ALL} is set, and {why}");
    let program = std::env::current_exe().unwrap();
    let program = program.file_stem().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("not tested: {program}: {test}: {why}");
    std::fs::create_dir_all(notes()).unwrap();
    std::fs::write(notes().join(format!("{program}-{test}")), &line).unwrap();
    say(&line);
}

/// What was not done, sorted; it is forgotten then.
pub fn take_notes() -> BTreeSet<String> {
    let entries = std::fs::read_dir(notes()).into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read_to_string(entry.path()).ok();
        std::fs::remove_file(entry.path()).ok().and(line)
    });
    lines.collect()
}

/// A line that is seen although the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn notes() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("not-tested")
}

/// A program, and where it finds its libraries if it was not installed.
pub struct Program {
    pub path: PathBuf,
    pub libraries: Option<OsString>,
}

impl Program {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.libraries.iter().map(|libraries| ("LD_LIBRARY_PATH", libraries)));
        command
    }
}

/// PgBouncer: installed, or else unpacked here; if it cannot be had, why not.
pub fn pgbouncer() -> &'static Result<Program, String> {
    static FOUND: OnceLock<Result<Program, String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        places.extend(["/usr/sbin".into(), "/usr/local/sbin".into(), "/opt/homebrew/bin".into()]);
        match places.into_iter().map(|place| place.join("pgbouncer")).find(|program| program.is_file()) {
            Some(path) => Ok(Program { path, libraries: None }),
            None => unpacked("pgbouncer", "usr/sbin/pgbouncer"),
        }
    })
}

/// The program of a package of the machine's distribution.
fn unpacked(package: &'static str, program: &str) -> Result<Program, String> {
    if !debian::is_here() {
        return Err(format!("there is no {package} on this machine, and no apt-get to fetch it with"));
    }
    let place = super::base().join("programs").join(package);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    // Other test programs may want it at the same time.
    let lock = std::fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !place.join(program).is_file() {
        let new = place.with_extension("new");
        let _ = std::fs::remove_dir_all(&new);
        let unpacking = new.clone();
        // On a thread of its own: the test's runtime cannot be waited for from inside it.
        let fetched = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(debian::unpack(&[package], &unpacking))
        });
        let failed = |why: &dyn std::fmt::Display| format!("{package} could not be fetched: {why}");
        fetched.join().unwrap().map_err(|error| failed(&error.in_a_line()))?;
        std::fs::rename(&new, &place).map_err(|error| failed(&error))?;
    }
    let libraries = debian::libraries(&place).into_iter().map(|path| place.join(path));
    Ok(Program { path: place.join(program), libraries: Some(std::env::join_paths(libraries).unwrap()) })
}

/// The programs of PostgreSQL that private servers of tests are run with: the machine's, or else fetched once for all tests.
pub fn postgresql() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| {
        let state = super::state();
        let account = Account::for_server(Path::new("/nonexistent")).unwrap();
        let find = || binaries::find(&state, &account).into_iter().next();
        find().unwrap_or_else(|| {
            let (code, out, err) = super::run(super::dbstress().args(["db", "install"]));
            assert_eq!(code, 0, "{out}{err}");
            find().unwrap()
        })
    })
}

/// Lets a state directory use what was fetched for all of them.
pub fn share(state: &Path) {
    let fetched = install::cache(&super::state());
    if postgresql().directory.starts_with(fetched.canonicalize().unwrap_or(fetched.clone())) {
        std::os::unix::fs::symlink(fetched, install::cache(state)).unwrap();
    }
}
