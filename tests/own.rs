//! Are operations of one's own run as they are written, counted as they ended, and never passed for more than was shown?

mod common;

use std::path::Path;
use std::process::Command;

use common::{COUNTER, COUNTER_RULE, Place, TestDatabase, run};
use dbstress::outcome::{Abort, OutcomeClass};
use dbstress::pg::admin::{Session, identifier};
use dbstress::pg::cluster::account::Account;
use dbstress::pg::cluster::binaries;
use dbstress::record::{Moment, RunRecord};
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

/// What a run came to.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// It ended so.
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in ["panicked", "this is a bug"] {
            assert!(!self.out.contains(word) && !self.err.contains(word), "{}{}", self.out, self.err);
        }
        self
    }

    /// It said all of these somewhere, wherever lines were broken.
    #[track_caller]
    fn saying(self, words: &[&str]) -> Self {
        let said = [&*self.out, &*self.err].concat().split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "`{word}` is not in:\n{}{}", self.out, self.err);
        }
        self
    }
}

/// An empty database, and a place for scenarios and what the program writes.
struct Bench {
    database: TestDatabase,
    place: Place,
}

impl Bench {
    async fn new() -> Self {
        Self { database: common::database().await, place: Place::new() }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.place.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `dbstress run ARGUMENTS` on the database, in the directory of the scenarios.
    fn run(&self, arguments: &str) -> Ended {
        let mut command = self.place.dbstress(&["run"]);
        command.args(arguments.split_whitespace()).args(["--summary-export", "r.json"]);
        let (code, out, err) = run(command.env("DATABASE_URL", self.database.url()).current_dir(&self.place.0));
        Ended { code, out, err }
    }

    fn record(&self) -> RunRecord {
        RunRecord::from_json(&std::fs::read_to_string(self.place.0.join("r.json")).unwrap()).unwrap()
    }

    /// The first value of a query's answer.
    async fn ask(&self, sql: &str) -> Option<String> {
        self.database.session().await.text(sql).await.unwrap()
    }

    /// A statement at the level that transactions have anyway is a transaction by itself, and so its own COMMIT.
    async fn statements_are_transactions(&self) {
        let name = &self.database.options.database;
        self.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'read committed'")).await;
    }

    async fn execute(&self, sql: &str) {
        self.database.session().await.execute(sql).await.unwrap();
    }
}

/// Iterations of an operation that ended so.
fn count(record: &RunRecord, operation: &str, class: OutcomeClass) -> u64 {
    let found = record.turns[0].operations.iter().find(|o| o.name == operation).unwrap();
    found.outcomes.get(&class).copied().unwrap_or(0)
}

/// A file that comes with the source.
fn source(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

/// A scenario whose load is over soon: what comes behind `[load]`, if anything, goes on there.
fn scenario(head: &str, rest: &str) -> String {
    format!("summary = \"a test\"\nworkload = \"sql\"\n{head}\n[load]\nvus = 8\niterations = 400\nduration = \"20s\"\n{rest}\n")
}

const RACY: &str = "examples/seat-booking/racy.toml";
const SAFE: &str = "examples/seat-booking/safe.toml";

#[tokio::test]
async fn the_racy_example_is_caught_with_seats_and_bookings() {
    let bench = Bench::new().await;
    bench.run(&format!("{} --duration 4s", source(RACY))).with(1).saying(&[
        "VIOLATED (NO-GO)",
        "what broke no-seat-booked-twice:",
        "expected 1 booking at most, found",
        "for customer",
        "what broke sold-equals-bookings:",
    ]);
    assert!(!bench.record().reasons.concat().contains("not proven able to fail"), "it has just failed");
    let kept = bench.ask("SELECT count(*) FROM (SELECT FROM booking GROUP BY seat_id HAVING count(*) > 1) AS seat").await;
    assert!(kept.unwrap().parse::<u64>().unwrap() > 0, "broken rows are kept: somebody will want to look at them");
    let record = bench.record();
    assert!(record.controls.is_empty());
    // What is named is what was done: the numbers of the run, of a virtual user, and of one of its operations.
    let run = record.turns[0].run;
    let named =
        bench.ask("SELECT min(op_id >> 47) || ' ' || max(op_id >> 47) || ' ' || max(op_id >> 32 & 32767) FROM booking").await;
    let named: Vec<i32> = named.unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(named[0] == run && named[1] == run && named[2] < 32, "{named:?}");
}

#[tokio::test]
async fn the_safe_example_passes_and_its_control_is_caught_before_and_after() {
    let bench = Bench::new().await;
    bench.run(&format!("{} --duration 4s", source(SAFE))).with(0).saying(&[
        "PASS (GO)",
        "control before: racy caught",
        "control after: racy caught",
        "2 rules held (no-seat-booked-twice, sold-equals-bookings)",
    ]);
    let record = bench.record();
    let moments: Vec<Moment> = record.controls.iter().filter(|c| c.fired).map(|c| c.moment).collect();
    assert_eq!(moments, [Moment::Before, Moment::After]);
    assert!(count(&record, "book", OutcomeClass::Refused) > 0 && count(&record, "cancel", OutcomeClass::Committed) > 0);
    assert_eq!(record.turns[0].counts.of(OutcomeClass::Aborted), 0, "{:?}", record.turns[0].counts);
    assert_eq!(bench.ask("SELECT coalesce(to_regclass('booking')::text, to_regnamespace('dbstress_control')::text)").await, None);
}

/// A counter and its lines: how it is read decides whether it is right.
fn counting(head: &str, control: &str, read: &str) -> String {
    let head = format!("setup = \"setup.sql\"\ninvariants = \"rules\"\n{head}");
    scenario(
        &head,
        &format!(
            "{control}\n[[operation]]\nname = \"count\"\nstatements = [\n  {{ sql = \"{read}\", capture = [\"n\"] }},\n  \
             {{ sql = \"INSERT INTO line VALUES ($op_id)\" }},\n  {{ sql = \"UPDATE counter SET n = $n + 1 WHERE id = 1\" }},\n]"
        ),
    )
}

const UNLOCKED: &str = "SELECT n FROM counter WHERE id = 1";
const LOCKED: &str = "SELECT n FROM counter WHERE id = 1 FOR UPDATE";

async fn counter() -> Bench {
    let bench = Bench::new().await;
    bench.write("setup.sql", COUNTER);
    bench.write("rules/counter.sql", COUNTER_RULE);
    bench
}

#[tokio::test]
async fn without_a_control_nothing_passes_unless_that_is_accepted() {
    let bench = counter().await;
    for control in ["", "[control]\nnone = true"] {
        bench.write("safe.toml", &counting("", control, LOCKED));
        bench.run("safe.toml").with(3).saying(&["INCONCLUSIVE", "not proven able to fail", "--accept-uncontrolled"]);
        bench.run("safe.toml --accept-uncontrolled").with(0).saying(&[
            "PASS",
            "counter held",
            "not proven able to fail",
            "accepted",
        ]);
    }
    // What is broken is broken, whatever was accepted.
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    bench.run("racy.toml --accept-uncontrolled").with(1).saying(&["VIOLATED", "what broke counter: 1 row"]);
}

#[tokio::test]
async fn a_control_that_is_not_caught_shows_nothing() {
    let bench = counter().await;
    bench.write("twin.toml", &counting("", "", LOCKED));
    bench.write("safe.toml", &counting("", "[control]\nfile = \"twin.toml\"", LOCKED));
    bench.run("safe.toml").with(3).saying(&["the control twin before the run was not caught", "the control twin after the run"]);
    assert_eq!(bench.record().turns[0].verdict, Verdict::Pass, "the turn alone is in order");
}

#[tokio::test]
async fn rules_are_claimed_only_of_operations_that_met_and_of_what_the_control_broke() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    let controlled = "[control]\nfile = \"racy.toml\"";
    bench.write("safe.toml", &counting("", controlled, LOCKED));
    bench.run("safe.toml").with(0);
    // The control has a load in which customers meet; one alone does not.
    bench.run("safe.toml --iterations 1").with(3).saying(&["contention was seen at least 1 times", "0 attempts turned down"]);
    // Nor do those who touch nothing.
    let idle = scenario(
        "setup = \"setup.sql\"\ninvariants = \"rules\"",
        &format!("{controlled}\n[[operation]]\nname = \"nothing\"\nsql = \"UPDATE counter SET n = n WHERE id = -1\""),
    );
    bench.write("idle.toml", &idle);
    bench.run("idle.toml").with(3).saying(&["contention was seen at least 1 times"]);
    // A second rule, which the control keeps: nothing shows that it can be broken, so it is not to be claimed.
    let other = COUNTER_RULE.replace("n <> (SELECT count(*) FROM line)", "n < 0");
    bench.write("rules/positive.sql", &other);
    bench.run("safe.toml").with(3).saying(&["was not caught", "it broke counter", "never positive", "claim only what it breaks"]);
    bench.write("safe.toml", &counting("claims = [\"counter\"]", controlled, LOCKED));
    bench.run("safe.toml").with(0).saying(&["counter held"]);
}

#[tokio::test]
async fn failures_that_others_have_nothing_to_do_with_are_explained_or_no_pass() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    let broken = "\n[[operation]]\nname = \"half\"\nsql = \"SELECT 1 / ($iteration::int % 2)\"";
    let safe = |head: &str| counting(head, "[control]\nfile = \"racy.toml\"", LOCKED) + broken;
    bench.write("safe.toml", &safe(""));
    bench.run("safe.toml").with(3).saying(&["no operation failed for reasons of its own", "division by zero"]);
    // That some commit, or that another operation fails seldom, is no word on these.
    bench.write("safe.toml", &safe("thresholds = [\"committed.count>=1\", \"count.aborted.rate<0.5\"]"));
    bench.run("safe.toml").with(3).saying(&["no operation failed for reasons of its own"]);
    bench.write("safe.toml", &safe("thresholds = [\"aborted.rate<0.9\"]"));
    bench.run("safe.toml").with(0).saying(&["met aborted:rate<0.9"]);
}

#[tokio::test]
async fn rows_of_ones_own_and_the_seeded_ones_stand_side_by_side() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    bench.run("racy.toml").with(1);
    let dbstress = |arguments: &str| {
        let mut command = bench.place.dbstress(&arguments.split(' ').collect::<Vec<_>>());
        let (code, out, err) = run(command.env("DATABASE_URL", bench.database.url()).current_dir(&bench.place.0));
        Ended { code, out, err }
    };
    // The sentinel is there: the counter beside it is kept, and no reason to refuse.
    dbstress("seed --reset").with(0);
    dbstress("seed --reset").with(0);
    dbstress("contention --vus 8 --rounds 20 --hold 2ms").with(0);
    bench.run("racy.toml").with(1);
    // What was claimed of the counter is no business of the clinic's.
    dbstress("verify").with(0);
    assert!(bench.ask("SELECT n::text FROM counter").await.is_some());
}

#[tokio::test]
async fn a_control_stays_off_the_tested_rows() {
    let bench = counter().await;
    bench.write("safe.toml", &counting("", "[control]\nfile = \"twin.toml\"", LOCKED));
    // All of its tables, one of them, none: each time it is told before the twin does anything.
    for (setup, said) in [
        (
            "CREATE TABLE IF NOT EXISTS public.counter (n int); TRUNCATE public.counter",
            "write the names of tables without their schema",
        ),
        (
            "DROP TABLE public.line; CREATE TABLE public.line (op_id bigint); CREATE TABLE counter (id int, n int)",
            "does not keep to the controls' schema",
        ),
        ("SELECT 1", "write the names of tables without their schema"),
        // Caught it would be, but not for what its operations do.
        (
            "CREATE TABLE counter AS SELECT 1 AS id, 7 AS n; CREATE TABLE line (op_id bigint)",
            "the set-up of the control breaks counter by itself",
        ),
    ] {
        bench.write("theirs.sql", setup);
        let twin = counting("", "", UNLOCKED).replace("setup.sql", "theirs.sql");
        bench.write("twin.toml", &twin);
        bench.run("safe.toml").with(2).saying(&["the control twin could not be run", said]);
        bench.write("twin.toml", &twin.replace("setup = \"theirs.sql\"\n", ""));
        bench.run("safe.toml").with(2).saying(&["the control has no set-up"]);
    }
}

#[tokio::test]
async fn somebody_elses_database_is_left_alone_until_it_is_named() {
    let bench = counter().await;
    bench.write("safe.toml", &counting("", "", LOCKED));
    bench.execute("CREATE TABLE precious (id int); INSERT INTO precious VALUES (1)").await;
    let schemas = "SELECT string_agg(nspname || ':' || relname, ' ' ORDER BY 1) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                   WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";
    let name = bench.database.options.database.clone();
    for (flag, said) in [("", "holds 1 relations that are not ours; nothing was written"), ("--disposable wrong", "names `wrong`")]
    {
        bench.run(&format!("safe.toml --accept-uncontrolled {flag}")).with(2).saying(&[said, &format!("--disposable {name}")]);
        assert_eq!(bench.ask(schemas).await.as_deref(), Some("public:precious"));
    }
    bench.run(&format!("safe.toml --accept-uncontrolled --disposable {name}")).with(0).saying(&["PASS"]);
    assert_eq!(bench.ask("SELECT count(*) FROM precious").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_schema_of_any_name_is_used() {
    let bench = counter().await;
    bench.write("safe.toml", &counting("schema = \"My \\\"Schema\\\", 2\"", "", LOCKED));
    bench.run("safe.toml --accept-uncontrolled").with(0);
    let schema = identifier("My \"Schema\", 2");
    assert_eq!(bench.ask(&format!("SELECT n FROM {schema}.counter")).await.as_deref(), Some("400"));
}

#[tokio::test]
async fn operations_are_counted_as_they_ended() {
    let bench = Bench::new().await;
    bench.write(
        "setup.sql",
        "DROP TABLE IF EXISTS t, log, once; DROP SEQUENCE IF EXISTS tries;\n\
         CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, note text); INSERT INTO t SELECT generate_series(1, 10);\n\
         UPDATE t SET note = 'it''s \"quoted\", $1 and :2' WHERE id = 2;\n\
         CREATE TABLE log (op_id bigint PRIMARY KEY, vu int, iteration int, note text);\n\
         CREATE TABLE once (k int PRIMARY KEY); INSERT INTO once VALUES (1);\n\
         CREATE SEQUENCE tries;\n\
         CREATE OR REPLACE FUNCTION flaky() RETURNS int LANGUAGE plpgsql AS $$\n\
         BEGIN IF nextval('tries') % 2 = 1 THEN RAISE 'not now' USING ERRCODE = 'TR001'; END IF; RETURN 1; END $$;",
    );
    let operations = r#"
[parameters]
note = { uniform = [1, 2] }

[[operation]]
name = "met"
sql = "UPDATE t SET n = n + 1 WHERE id = 3"
expect = "1 row"

[[operation]]
name = "unmet"
sql = "UPDATE t SET n = n + 1 WHERE id > 3"
expect = "1 row"

[[operation]]
name = "refused"
sql = "UPDATE t SET n = n + 1 WHERE id = 99"
refused = "0 rows"

[[operation]]
name = "too-much"
sql = "UPDATE t SET n = n + 1 WHERE id > 3"
refused = "at least 2 rows"

[[operation]]
name = "unique"
sql = "INSERT INTO once VALUES (1)"
outcomes = { "23505" = "refused" }

[[operation]]
name = "unique-inside"
statements = [{ sql = "UPDATE t SET n = n + 1 WHERE id = 4" }, { sql = "INSERT INTO once VALUES (1)" }]
outcomes = { "23505" = "refused" }

[[operation]]
name = "duplicate"
sql = "INSERT INTO once VALUES (1)"

[[operation]]
name = "flaky"
sql = "SELECT flaky()"
outcomes = { "TR001" = "retry" }

[[operation]]
name = "captured"
statements = [
  { sql = "SELECT note, length(note) AS size FROM t WHERE id = $note", capture = ["note", "size"] },
  { sql = "SELECT 1 WHERE $note::text IS NULL OR length($note) = $size::int", expect = "1 row" },
]
"#
    // The column and the parameter cannot share a name; the parameter gives way.
    .replace("note = { uniform", "row = { uniform")
    .replace("id = $note", "id = $row")
        + r#"
[[operation]]
name = "logged"
statements = [
  { sql = "SELECT note FROM t WHERE id = $row", capture = ["note"] },
  { sql = "INSERT INTO log VALUES ($op_id, $vu, $iteration, $note)", expect = "1 row" },
]
"#;
    bench.write("all.toml", &scenario("setup = \"setup.sql\"", &operations));
    // Three of them never come to anything, which no pass may hide.
    bench.run("all.toml --iterations 2000 --accept-uncontrolled").with(3).saying(&[
        "never: unmet, duplicate",
        "UPDATE t SET n…: expected 1 row, met 7",
        "duplicate key value",
    ]);
    let record = bench.record();
    let of = |operation: &str, class| count(&record, operation, class);
    use OutcomeClass::{Aborted, Committed, Refused};
    for (operation, class) in [
        ("met", Committed),
        ("unmet", Aborted),
        ("refused", Refused),
        ("too-much", Refused),
        ("unique", Refused),
        ("unique-inside", Refused),
        ("duplicate", Aborted),
        ("flaky", Committed),
        ("captured", Committed),
        ("logged", Committed),
    ] {
        let ended = OutcomeClass::ALL.map(|class| (class, of(operation, class)));
        let only = ended.iter().all(|(other, n)| (*other == class) == (*n > 0));
        assert!(only, "{operation}: {ended:?}");
    }
    let counts = &record.turns[0].counts;
    assert_eq!(counts.failed(Abort::Expectation), of("unmet", Aborted));
    assert!(counts.failed(Abort::Other) > 0, "each odd try failed, and was made again");
    // What was refused or given up has left nothing behind, and what was committed has.
    assert_eq!(bench.ask("SELECT sum(n) FROM t").await.unwrap(), of("met", Committed).to_string());
    assert_eq!(bench.ask("SELECT count(*) FROM log").await.unwrap(), of("logged", Committed).to_string());
    let right = "SELECT count(*) FROM log WHERE (op_id >> 32 & 32767) = vu AND (op_id & 4294967295) = iteration \
                 AND (note IS NULL OR note = (SELECT note FROM t WHERE id = 2))";
    assert_eq!(bench.ask(right).await, bench.ask("SELECT count(*) FROM log").await);
    assert_eq!(
        bench.ask("SELECT count(DISTINCT note) || ' ' || count(DISTINCT note IS NULL) FROM log").await.as_deref(),
        Some("1 2")
    );
}

#[tokio::test]
async fn serialization_failures_are_tried_again_unless_that_is_switched_off() {
    let bench = counter().await;
    let serializable = |retry: &str| {
        counting("", "", UNLOCKED)
            .replace("name = \"count\"\n", &format!("name = \"count\"\nisolation = \"serializable\"\n{retry}\n"))
    };
    bench.write("safe.toml", &serializable(""));
    bench.run("safe.toml --accept-uncontrolled").with(0).saying(&["40001"]);
    let record = bench.record();
    assert_eq!((record.turns[0].isolation.as_str(), count(&record, "count", OutcomeClass::Committed)), ("serializable", 400));
    assert!(record.turns[0].counts.failed(Abort::SerializationFailure) > 0);
    assert_eq!(bench.ask("SELECT n FROM counter").await.as_deref(), Some("400"));

    bench.write("once.toml", &serializable("retry = false"));
    bench.run("once.toml --accept-uncontrolled").with(0);
    let counts = &bench.record().turns[0].counts;
    assert_eq!(counts.of(OutcomeClass::Aborted), counts.failed(Abort::SerializationFailure));
    assert!(counts.of(OutcomeClass::Aborted) > 0 && counts.attempts.keys().all(|attempts| *attempts == 1), "{counts:?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_before_anything_is_run() {
    let bench = counter().await;
    for (statement, said) in [
        (
            "SELEC n FROM counter",
            &["count:1: `SELEC n FROM counter` cannot be prepared", "42601 syntax error at or near \"SELEC\""][..],
        ),
        ("SELECT n FROM conter", &["count:1:", "42P01 relation \"conter\" does not exist"]),
        ("SELECT id, n AS m FROM counter", &["count:1: `SELECT id, n AS…` returns no column `n`", "its columns are: id, m"]),
        ("UPDATE counter SET n = n", &["returns no column `n`", "do with RETURNING"]),
        ("COPY counter TO STDOUT", &["COPY with STDIN or STDOUT"]),
    ] {
        bench.write("wrong.toml", &counting("", "", statement));
        let ended = bench.run("wrong.toml --accept-uncontrolled").with(2).saying(said);
        assert!(ended.out.is_empty(), "{}", ended.out);
    }
    // The tables of a script of one's own are not made by anybody else.
    bench.write("a.sql", "SELECT 1;\nSELECT n FROM nowhere \\gset\n");
    bench.run("-f a.sql --accept-uncontrolled").with(2).saying(&["a.sql:2: `SELECT n FROM nowhere` cannot be prepared", "42P01"]);
    bench.write("a.sql", "SELECT 1 AS one \\gset r_\nSELECT :r_on;\n");
    bench.run("-f a.sql --accept-uncontrolled").with(2).saying(&["a.sql:1:", "returns no column `on`; did you mean `one`?"]);
    bench.write("a.sql", "BEGIN;\nSELECT 1;\n");
    bench.run("-f a.sql --accept-uncontrolled").with(2).saying(&["a.sql:1: the transaction block of `BEGIN` does not end"]);
}

#[tokio::test]
async fn what_goes_wrong_at_run_time_is_never_a_pass() {
    let bench = counter().await;
    let late = "CREATE OR REPLACE FUNCTION late() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM nowhere); END';";
    bench.write("setup.sql", &format!("{COUNTER}{late}"));
    let both = "\n[[operation]]\nname = \"late\"\nsql = \"SELECT late()\"";
    bench.write("late.toml", &(counting("", "", LOCKED) + both));
    bench.run("late.toml --accept-uncontrolled").with(3).saying(&["never: late", "relation \"nowhere\" does not exist"]);
    let record = bench.record();
    assert!(count(&record, "count", OutcomeClass::Committed) > 0 && count(&record, "late", OutcomeClass::Committed) == 0);

    // Which way a script goes is known only when it has gone it; what it left open is rolled back.
    bench.database.names_are_public().await;
    bench.write("open.sql", "\\if :client_id >= 0\nBEGIN;\n\\endif\nUPDATE counter SET n = n;\n");
    bench.run("-f open.sql --vus 2 --iterations 10 --accept-uncontrolled").with(3).saying(&["ended inside a transaction block"]);

    // A rule that cannot be checked before has said nothing, and one that cannot be checked afterwards has not either.
    let rule = |condition: &str| COUNTER_RULE.replace("n <> (SELECT count(*) FROM line)", condition);
    bench.write("rules/counter.sql", &rule("n <> (SELECT count(*) FROM nowhere)"));
    bench.write("safe.toml", &counting("", "", LOCKED));
    bench.run("safe.toml --accept-uncontrolled").with(3).saying(&["counter could not be checked before the run began"]);
    assert!(bench.record().turns.is_empty());
    bench.write("rules/counter.sql", &rule("1 / (n - 400) > 0"));
    bench.run("safe.toml --accept-uncontrolled").with(3).saying(&["counter", "division by zero"]);
    bench.write("rules/counter.sql", &rule("false").replace("count(*) FROM counter", "count(*) FROM line WHERE op_id < 0"));
    bench.run("safe.toml --accept-uncontrolled").with(3).saying(&["INCONCLUSIVE", "counter"]);
}

#[tokio::test]
async fn the_tear_down_is_run_unless_something_broke() {
    let bench = counter().await;
    bench.write("drop.sql", "DROP TABLE counter, line");
    let exists = "SELECT to_regclass('counter')::text";
    for (read, code, left) in [(UNLOCKED, 1, Some("counter")), (LOCKED, 0, None)] {
        bench.write("it.toml", &counting("teardown = \"drop.sql\"", "", read));
        bench.run("it.toml --accept-uncontrolled").with(code);
        assert_eq!(bench.ask(exists).await.as_deref(), left, "{read}");
    }
    // What is not cleared away is said, and passes for nothing.
    bench.write("drop.sql", "DROP TABLE nowhere");
    bench.run("it.toml --accept-uncontrolled").with(3).saying(&["drop.sql:1: the tear-down failed", "nowhere"]);
    bench.write("setup.sql", "CREATE TABLE broken (");
    bench.run("it.toml --accept-uncontrolled").with(2).saying(&[
        "setup.sql:1: the set-up failed",
        "syntax error at end of input",
        "LINE 1: CREATE TABLE broken (",
    ]);
}

#[tokio::test]
async fn strange_statements_do_no_harm() {
    let bench = Bench::new().await;
    bench.write(
        "setup.sql",
        "DROP TABLE IF EXISTS big; CREATE TABLE big (id bigint PRIMARY KEY, body text);\n\
         INSERT INTO big VALUES (0, repeat('x', 3000000)), (1, NULL);",
    );
    let hundred: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let parameters: String = hundred.iter().map(|name| format!("{name} = {{ uniform = [1, 1] }}\n")).collect();
    let sum: Vec<String> = hundred.iter().map(|name| format!("${name}::int")).collect();
    let operations = format!(
        r#"
[parameters]
quoted = {{ choice = ["O'Neill", "\"; DROP TABLE big; --", "$1 \\ :x", "ü€😀", ""] }}
{parameters}
[[operation]]
name = "huge"
weight = 0.1
statements = [
  {{ sql = "SELECT body FROM big WHERE id = 0", capture = ["body"] }},
  {{ sql = "INSERT INTO big VALUES ($op_id, $body)" }},
  {{ sql = "DELETE FROM big WHERE id = $op_id AND length(body) = 3000000", expect = "1 row" }},
]

[[operation]]
name = "null"
statements = [
  {{ sql = "SELECT body FROM big WHERE id = 1", capture = ["body"] }},
  {{ sql = "SELECT 1 WHERE $body::text IS NULL", expect = "1 row" }},
]

[[operation]]
name = "quoted"
statements = [
  {{ sql = "SELECT $quoted::text AS back", capture = ["back"] }},
  {{ sql = "SELECT 1 WHERE $quoted::text = $back AND 'it''s' <> $back", expect = "1 row" }},
]

[[operation]]
name = "listen"
statements = [{{ sql = "LISTEN all_of_us" }}, {{ sql = "NOTIFY all_of_us, 'a'" }}]

[[operation]]
name = "hundred"
sql = "SELECT 1 WHERE {sum} = 100"
refused = "0 rows"

[[operation]]
name = "noisy"
sql = "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"

[[operation]]
name = "several"
statements = [{{ sql = "SELECT generate_series(1, 3) AS n", capture = ["n"] }}, {{ sql = "SELECT $n::int" }}]

[[operation]]
name = "none"
statements = [{{ sql = "SELECT id FROM big WHERE false", capture = ["id"] }}, {{ sql = "SELECT $id::bigint" }}]
"#,
        sum = sum.join(" + ")
    );
    bench.write("strange.toml", &scenario("setup = \"setup.sql\"", &operations));
    bench
        .run("strange.toml --iterations 800 --accept-uncontrolled")
        .with(3)
        .saying(&["never: several, none", "one row to keep values of"]);
    let record = bench.record();
    for operation in ["huge", "null", "quoted", "listen", "hundred", "noisy"] {
        assert!(count(&record, operation, OutcomeClass::Committed) > 0, "{operation}: {:?}", record.turns[0].operations);
    }
    let failed = count(&record, "several", OutcomeClass::Aborted) + count(&record, "none", OutcomeClass::Aborted);
    assert_eq!(record.turns[0].counts.of(OutcomeClass::Aborted), failed, "{:?}", record.turns[0].counts);
    assert_eq!(bench.ask("SELECT count(*) FROM big").await.as_deref(), Some("2"));
}

const TPCB: &str = "tests/fixtures/tpcb-like.sql";

/// The tables of `pgbench -i`, made by it if it is there.
async fn pgbench_tables(bench: &Bench) {
    let account = Account::for_server(Path::new("/nonexistent")).unwrap();
    let pgbench = binaries::find(&common::state(), &account).into_iter().map(|b| b.program("pgbench")).find(|p| p.is_file());
    if let Some(pgbench) = pgbench {
        let mut command = Command::new(pgbench);
        common::scrub(&mut command);
        let (code, out, err) = run(command.args(["-i", "-q", "-s", "1", &bench.database.url()]));
        assert_eq!(code, 0, "{out}{err}");
        return;
    }
    bench
        .execute(
            "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)); \
             CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)); \
             CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)); \
             CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)); \
             INSERT INTO pgbench_branches VALUES (1, 0); \
             INSERT INTO pgbench_tellers SELECT n, 1, 0 FROM generate_series(1, 10) AS n; \
             INSERT INTO pgbench_accounts SELECT n, 1, 0 FROM generate_series(1, 100000) AS n",
        )
        .await;
}

#[tokio::test]
async fn a_script_of_pgbench_is_run_as_it_is_and_its_money_adds_up() {
    let bench = Bench::new().await;
    bench.database.names_are_public().await;
    pgbench_tables(&bench).await;
    let name = bench.database.options.database.clone();
    let typed = format!("-f {} -D scale=1 --vus 8 --duration 2s --disposable {name}", source(TPCB));
    bench.run(&typed).with(3).saying(&["nothing was claimed", "--accept-uncontrolled"]);
    let first = count(&bench.record(), "tpcb-like", OutcomeClass::Committed);
    bench.run(&format!("{typed} --accept-uncontrolled")).with(0).saying(&["PASS", "nothing was claimed"]);
    let record = bench.record();
    let committed = count(&record, "tpcb-like", OutcomeClass::Committed);
    assert_eq!(committed, record.turns[0].counts.iterations(), "at READ COMMITTED every one of them succeeds");
    assert_eq!(bench.ask("SELECT count(*) FROM pgbench_history").await.unwrap(), (first + committed).to_string());
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = d AND (SELECT sum(bbalance) FROM pgbench_branches) = d \
                AND (SELECT sum(tbalance) FROM pgbench_tellers) = d FROM (SELECT sum(delta) AS d FROM pgbench_history) AS h";
    assert_eq!(bench.ask(sums).await.as_deref(), Some("t"));
}

#[tokio::test]
async fn scripts_branch_capture_sleep_and_are_chosen_by_weight() {
    let bench = Bench::new().await;
    bench.database.names_are_public().await;
    let made = "CREATE TABLE seen (script text, client int, n int, seed bigint, at timestamptz DEFAULT clock_timestamp())";
    bench.write("make.sql", "");
    bench.execute(made).await;
    bench.write(
        "a.sql",
        "\\set n :n + 1\n\\if :client_id % 2 = 0\nINSERT INTO seen VALUES ('even', :client_id, :n, :default_seed);\n\\else\n\
         INSERT INTO seen VALUES ('odd', :client_id, :n, :random_seed);\n\\endif\n",
    );
    bench.write(
        "b.sql",
        "BEGIN;\nSELECT count(*) AS rows, now() AS began FROM seen \\gset x_\n\\sleep 20 ms\n\
         INSERT INTO seen SELECT 'slow', :client_id, :x_rows, (clock_timestamp() - :x_began >= interval '20 ms')::int;\nEND;\n",
    );
    let name = bench.database.options.database.clone();
    bench
        .run(&format!(
            "-f a.sql@9 -f b.sql@1 -D n=0 --vus 4 --iterations 2000 --duration 60s --accept-uncontrolled --disposable {name}"
        ))
        .with(0);
    let record = bench.record();
    let [a, b] = ["a", "b"].map(|operation| count(&record, operation, OutcomeClass::Committed));
    assert_eq!(a + b, 2000);
    // Nine of ten: 1800, with a standard deviation of 13.
    assert!((1730..=1870).contains(&a), "{a} of 2000");
    let ask = async |sql: &str| bench.ask(sql).await.unwrap();
    assert_eq!(ask("SELECT count(*) FROM seen WHERE (script = 'slow') IS FALSE").await, a.to_string());
    assert_eq!(ask("SELECT count(*) FROM seen WHERE script = 'slow' AND seed = 1").await, b.to_string(), "each slept");
    assert_eq!(ask("SELECT bool_and((script = 'even') = (client % 2 = 0)) FROM seen WHERE script <> 'slow'").await, "t");
    // A variable keeps its value from one iteration to the next, and begins as it was defined.
    assert_eq!(ask("SELECT bool_and(ok) FROM (SELECT count(*) = max(n) AND min(n) = 1 AS ok FROM seen WHERE script <> 'slow' GROUP BY client) AS c").await, "t");
    assert_eq!(ask("SELECT min(seed) || ' ' || max(seed) FROM seen WHERE script = 'odd'").await, "42 42");
    assert_eq!(ask("SELECT count(DISTINCT seed) || ' ' || bool_or(seed = 0) FROM seen WHERE script = 'even'").await, "1 false");
}

#[tokio::test]
async fn a_script_that_ends_in_rollback_is_rolled_back() {
    let bench = counter().await;
    bench.write("rb.sql", "BEGIN;\nSELECT 1;\nROLLBACK;\n");
    bench
        .run("-f rb.sql --vus 2 --iterations 40 --threshold committed.count>=10")
        .with(99)
        .saying(&["rolled back", "committed:count>=10: 0 measured"]);
    let record = bench.record();
    assert_eq!((count(&record, "rb", OutcomeClass::RolledBack), record.turns[0].counts.of(OutcomeClass::Committed)), (40, 0));
    let ticks: u64 = record.turns[0].ticks.iter().map(|tick| tick.rolled_back).sum();
    assert_eq!(ticks, 40);
    bench.run("-f rb.sql --vus 2 --iterations 40 --threshold rolled_back.count>=40 --threshold failed.count<1").with(0);
}

#[tokio::test]
async fn what_a_transaction_did_is_read_from_its_end() {
    let bench = counter().await;
    bench.database.names_are_public().await;
    bench.statements_are_transactions().await;
    bench.execute(COUNTER).await;
    bench
        .execute(
            "CREATE FUNCTION bump() RETURNS int LANGUAGE sql AS 'UPDATE counter SET n = n + 1 RETURNING n'; \
             CREATE FUNCTION look() RETURNS int STABLE LANGUAGE sql AS 'SELECT n FROM counter'",
        )
        .await;
    const BUMP: &str = "UPDATE counter SET n = n + 1;";
    use OutcomeClass::{Committed, RolledBack};
    let scripts = [
        ("alone", BUMP.to_owned(), Committed, true),
        ("none", "UPDATE counter SET n = n + 1 WHERE id = -1;".into(), Committed, false),
        ("block", format!("BEGIN; {BUMP} COMMIT;"), Committed, true),
        ("look", "SELECT n FROM counter FOR UPDATE;".into(), Committed, false),
        ("undone", format!("BEGIN; {BUMP} ROLLBACK;"), RolledBack, false),
        ("undone-look", format!("BEGIN; {BUMP} ROLLBACK; SELECT 1;"), RolledBack, false),
        ("both", format!("BEGIN; {BUMP} COMMIT; BEGIN; {BUMP} ROLLBACK;"), Committed, true),
        ("savepoint", format!("BEGIN; SAVEPOINT a; {BUMP} ROLLBACK TO a; COMMIT;"), Committed, false),
        ("part", format!("BEGIN; {BUMP} SAVEPOINT a; {BUMP} ROLLBACK TO a; COMMIT;"), Committed, true),
        ("calls", "SELECT bump();".into(), Committed, true),
        ("asks", "SELECT look(), now(), count(*) FROM counter;".into(), Committed, false),
        ("with", "WITH u AS (UPDATE counter SET n = n + 1 RETURNING n) SELECT n FROM u;".into(), Committed, true),
    ];
    let mut typed = String::new();
    for (name, text, ..) in &scripts {
        bench.write(&format!("{name}.sql"), text);
        typed += &format!("-f {name}.sql ");
    }
    let database = bench.database.options.database.clone();
    for protocol in ["prepared", "extended", "simple"] {
        bench
            .run(&format!("{typed} --protocol {protocol} --vus 2 --iterations 240 --accept-uncontrolled --disposable {database}"))
            .with(0);
        let record = bench.record();
        for (name, _, class, changes) in &scripts {
            let all: u64 = OutcomeClass::ALL.into_iter().map(|class| count(&record, name, class)).sum();
            assert!(all > 0 && count(&record, name, *class) == all, "{protocol} {name}: {:?}", record.turns[0].operations);
            let changed = record.turns[0].operations.iter().find(|o| o.name == *name).unwrap().changed;
            assert_eq!(changed, if *changes { all } else { 0 }, "{protocol} {name}");
        }
    }
}

#[tokio::test]
async fn what_changes_nothing_earns_no_pass() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    bench.write("undone.sql", "BEGIN;\nUPDATE counter SET n = n + 1 WHERE id = 1;\nINSERT INTO line VALUES (1);\nROLLBACK;\n");
    let head = "setup = \"setup.sql\"\ninvariants = \"rules\"";
    let operation = |what: &str| {
        let rest = format!(
            "[control]\nfile = \"racy.toml\"\n[evidence]\ncommitted = {{ count = 100 }}\n[[operation]]\nname = \"count\"\n{what}"
        );
        scenario(head, &rest)
    };
    bench.write("undone.toml", &operation("script = \"undone.sql\""));
    bench.run("undone.toml").with(3).saying(&[
        "required: something was changed; measured: 0 of 400 iterations committed, 0 of them a change, 400 were rolled back",
        "required: count committed a change at least 100 times; measured: 0 times; 400 times its script rolled back",
    ]);
    bench.write("looks.toml", &operation("sql = \"SELECT n FROM counter WHERE id = 1 FOR UPDATE\""));
    bench.run("looks.toml").with(3).saying(&[
        "required: something was changed; measured: 400 of 400 iterations committed, 0 of them a change",
        "measured: 0 times; 400 times it committed and had changed nothing",
        "0 of 400 committed iterations changed something",
    ]);
}

/// What the server itself counts: an answer does not say whose rows they are, nor what a procedure did.
#[tokio::test]
async fn only_rows_of_tables_that_stay_are_changes() {
    let bench = counter().await;
    bench.statements_are_transactions().await;
    bench.write("racy.toml", &counting("", "", UNLOCKED));
    const ROUTINES: &str = "CREATE OR REPLACE PROCEDURE undoes() LANGUAGE plpgsql AS 'BEGIN UPDATE counter SET n = n + 1; ROLLBACK; END'; \
         CREATE OR REPLACE FUNCTION looks() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE OR REPLACE PROCEDURE adds(op bigint) LANGUAGE sql AS \
         'UPDATE counter SET n = n + 1; INSERT INTO line VALUES (op); SELECT pg_sleep(0.01)'; \
         CREATE OR REPLACE FUNCTION added(op bigint) RETURNS int LANGUAGE sql AS \
         'UPDATE counter SET n = n + 1; INSERT INTO line VALUES (op); SELECT 1 FROM pg_sleep(0.01)';";
    bench.write("routines.sql", &format!("{COUNTER}\n{ROUTINES}"));
    let bench = &bench;
    let run = |name: &str, least: u64, operations: &str| {
        let rest = format!("[control]\nfile = \"racy.toml\"\n[evidence]\ncommitted = {{ {name} = {least} }}\n{operations}");
        bench.write("mine.toml", &scenario("setup = \"routines.sql\"\ninvariants = \"rules\"", &rest));
        bench.run("mine.toml --protocol simple")
    };
    bench.write(
        "staged.sql",
        "BEGIN;\nCREATE TEMP TABLE stage (id int) ON COMMIT DROP;\nINSERT INTO stage VALUES (-1);\n\
         UPDATE counter SET n = n + 1 FROM stage WHERE stage.id = counter.id;\nCOMMIT;\n",
    );
    for what in [
        "script = \"staged.sql\"",
        "statements = [{ sql = \"SELECT n FROM counter FOR UPDATE\" }, { sql = \"COMMENT ON TABLE counter IS 'mine'\" }]",
        "sql = \"CALL undoes()\"",
        "sql = \"SELECT looks()\"",
    ] {
        run("count", 1, &format!("[[operation]]\nname = \"count\"\n{what}")).with(3).saying(&[
            "required: something was changed; measured: 400 of 400 iterations committed, 0 of them a change; \
             the server counts no row as inserted, updated or deleted in a table that is not temporary",
            "required: count committed a change at least 1 times; measured: 0 times; 400 times it committed and had changed nothing",
        ]);
        let record = bench.record();
        assert_eq!(record.turns[0].counts.changed, 0, "{what}");
        assert_eq!(record.turns[0].counters.as_ref().unwrap().rows, Some(0), "{what}");
    }
    let both = "[[operation]]\nname = \"calls\"\nsql = \"CALL adds($op_id)\"\n[[operation]]\nname = \"selects\"\nsql = \"SELECT added($op_id)\"";
    run("calls", 20, both).with(0);
    let record = bench.record();
    assert_eq!((record.turns[0].counts.changed, record.turns[0].counters.as_ref().unwrap().rows), (400, Some(800)));
}

#[tokio::test]
async fn what_stays_unknown_is_no_pass_unless_so_much_is_expected() {
    let bench = Bench::new().await;
    bench.statements_are_transactions().await;
    let hang = |evidence: &str| {
        scenario(
            "thresholds = [\"iterations.count>=16\"]",
            &format!(
                "retry = {{ deadline = \"1s\" }}\n{evidence}\n[[operation]]\nname = \"look\"\n\
                 sql = \"SELECT pg_sleep(60) FROM generate_series(1, $iteration::int % 2)\""
            ),
        )
    };
    let cut_off = "8 iterations were cut off at the 1 s deadline; outcome unknown";
    bench.write("hang.toml", &hang(""));
    bench.run("hang.toml --vus 4 --iterations 16").with(3).saying(&[
        "required: it is known of every iteration what became of it",
        cut_off,
        "these times are of committed iterations alone, without 8 unknown ones",
    ]);
    assert_eq!(bench.record().turns[0].not_answered.as_deref(), Some(cut_off));
    bench.write("hang.toml", &hang("[evidence]\nunknown = 0.4"));
    bench.run("hang.toml --vus 4 --iterations 16").with(3).saying(&["required: of at most 40 % of the iterations", cut_off]);
    for allowed in ["[evidence]\nunknown = 0.5", ""] {
        bench.write("hang.toml", &hang(allowed));
        let budget = if allowed.is_empty() { "--threshold unknown.rate<=0.5" } else { "" };
        bench.run(&format!("hang.toml --vus 4 --iterations 16 {budget}")).with(0).saying(&["met", cut_off]);
    }
    bench.write("hang.toml", &hang("[evidence]\nunknown = 2"));
    bench.run("hang.toml").with(2).saying(&["2 is no share"]);
}

#[tokio::test]
async fn an_error_is_shown_whatever_became_of_the_transaction() {
    let bench = Bench::new().await;
    bench.write("end.sql", "SELECT 1;\nSELECT pg_terminate_backend(pg_backend_pid()) WHERE :client_id >= 0;\n");
    bench.run("-f end.sql --vus 1 --iterations 2 --accept-uncontrolled").with(3).saying(&[
        "57P01 ProcessInterrupts",
        "terminating connection due to administrator command",
        "2 iterations were not answered before the session ended; outcome unknown",
    ]);
}

#[tokio::test]
async fn variables_where_only_text_can_stand_are_refused_before_the_run_or_substituted() {
    let bench = Bench::new().await;
    for (text, said) in [
        ("SELECT 1 AS col_:n;", &["v.sql:2:17: `:n` is part of a word", "--protocol simple"][..]),
        ("SELECT ':n';", &["v.sql:2:9: `:n` is within quotes", "--protocol simple"]),
        ("SELECT 'ab' AS name \\gset\nSELECT 1/(':name' = 'ab')::int;", &["v.sql:3:12: `:name` is within quotes"]),
        ("SELECT 'ab' AS name \\gset my_\nSELECT 1/(':my_name' = 'ab')::int;", &["v.sql:3:12: `:my_name` is within quotes"]),
        ("SELECT 1/(':client_id' = '0')::int;", &["v.sql:2:12: `:client_id` is within quotes"]),
        ("SELECT 1/(':typed' = 'x y')::int;", &["v.sql:2:12: `:typed` is within quotes"]),
        ("SET work_mem = :n;", &["v.sql:2: `SET work_mem = :n` cannot be prepared", "syntax error"]),
        (
            "CREATE TEMP TABLE IF NOT EXISTS d (a int DEFAULT :n);",
            &["v.sql:2: `CREATE TEMP TABLE IF…` names 1 parameters, and PostgreSQL takes 0 there", "--protocol simple"],
        ),
    ] {
        bench.write("v.sql", &format!("\\set n 64\n{text}\n"));
        let typed = |protocol: &str| {
            let mut command = bench.place.dbstress(&["run", "-f", "v.sql", "-D", "typed=x y", "--protocol", protocol]);
            command.args(["--vus", "1", "--iterations", "3", "--accept-uncontrolled"]);
            let (code, out, err) = run(command.env("DATABASE_URL", bench.database.url()).current_dir(&bench.place.0));
            Ended { code, out, err }
        };
        for protocol in ["prepared", "extended"] {
            let ended = typed(protocol).with(2).saying(said);
            assert!(ended.out.is_empty(), "{}", ended.out);
        }
        typed("simple").with(0);
    }
    // A column that there is not is no value: the server is asked for it as it is written, as by pgbench.
    bench.write("v.sql", "SELECT 1 AS one \\gset r_\nSELECT :r_two;\n");
    bench
        .run("-f v.sql --protocol simple --vus 1 --iterations 3 --accept-uncontrolled")
        .with(3)
        .saying(&["syntax error at or near \":\""]);
    // Those of a scenario are values in every protocol.
    bench.write(
        "p.toml",
        &scenario("", "[parameters]\nn = { uniform = [1, 1] }\n[[operation]]\nname = \"set\"\nsql = \"CREATE TEMP TABLE IF NOT EXISTS d (a int DEFAULT $n)\""),
    );
    for protocol in ["prepared", "extended", "simple"] {
        bench
            .run(&format!("p.toml --protocol {protocol} --accept-uncontrolled"))
            .with(2)
            .saying(&["set:1: `CREATE TEMP TABLE IF…` names 1 parameters, and PostgreSQL takes 0 there"]);
    }
}

#[tokio::test]
async fn scripts_run_in_each_mode_as_pgbench_runs_them() {
    let account = Account::for_server(Path::new("/nonexistent")).unwrap();
    let pgbench = binaries::find(&common::state(), &account).into_iter().map(|b| b.program("pgbench")).find(|p| p.is_file());
    let Some(pgbench) = pgbench else { return };
    let [theirs, ours] = [Bench::new().await, Bench::new().await];
    theirs.database.names_are_public().await;
    ours.database.names_are_public().await;
    for bench in [&theirs, &ours] {
        bench.execute("CREATE TABLE seen_2 (a text, b text, c text, d text, e text)").await;
    }
    let database = ours.database.options.database.clone();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pgbench");
    let mut scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 10, "{scripts:?}");
    let mut modes_that_refuse = 0;
    for script in scripts {
        for mode in ["simple", "extended", "prepared"] {
            for bench in [&theirs, &ours] {
                bench.execute("TRUNCATE seen_2").await;
            }
            let mut command = Command::new(&pgbench);
            common::scrub(&mut command);
            command.args(["-n", "-c", "2", "-t", "3", "-M", mode, "-f"]).arg(&script).arg(theirs.database.url());
            let (code, out, err) = run(&mut command);
            let typed = format!("-f {} --protocol {mode} --vus 2 --iterations 6", script.display());
            let ended = ours.run(&format!("{typed} --accept-uncontrolled --disposable {database}"));
            let both = format!("{} {mode}:\n{out}{err}\n{}{}", script.display(), ended.out, ended.err);
            assert_eq!(code == 0, ended.code == 0, "{both}");
            assert!(matches!(ended.code, 0 | 2), "{both}");
            modes_that_refuse += usize::from(code != 0);
            if code == 0 && !script.ends_with("parameters.sql") {
                let rows = "SELECT string_agg(DISTINCT seen_2::text, ';') FROM seen_2";
                assert_eq!(theirs.ask(rows).await, ours.ask(rows).await, "{both}");
            }
        }
    }
    assert!(modes_that_refuse > 0, "pgbench itself refuses text in its other two modes");
    let tables = "SELECT count(*) > 0 FROM pg_tables WHERE tablename ~ '^t_[0-9]+$'";
    assert_eq!([theirs.ask(tables).await, ours.ask(tables).await], [Some("t".to_owned()), Some("t".to_owned())]);
}

#[tokio::test]
async fn a_run_that_did_not_pass_claims_nothing_and_names_what_shows_its_rows() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("schema = \"My Schema\"", "", UNLOCKED));
    bench.run("racy.toml").with(1);
    let record = bench.record();
    assert_eq!(record.claim, "nothing: it did not pass");
    let psql = binaries::find(&common::state(), &Account::for_server(Path::new("/nonexistent")).unwrap());
    let folder = psql.into_iter().map(|b| b.program("psql")).find(|p| p.is_file());
    assert!(record.verify.starts_with("psql -c 'SET search_path TO \"My Schema\"' -f "), "{}", record.verify);
    if let Some(folder) = folder.as_deref().and_then(Path::parent) {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        let (code, out, err) = run(shell
            .args(["-c", &record.verify])
            .env("PATH", path)
            .env("DATABASE_URL", bench.database.url())
            .current_dir(&bench.place.0));
        assert!(code == 0 && out.contains("(1 row)"), "{out}{err}");
    }
    bench.write("safe.toml", &counting("", "", LOCKED));
    bench.run("safe.toml --accept-uncontrolled").with(0);
    assert!(bench.record().claim.starts_with("counter held"), "{}", bench.record().claim);
}

#[tokio::test]
async fn a_control_that_is_tried_by_itself_is_not_told_to_name_itself() {
    let bench = counter().await;
    bench.write("racy.toml", &counting("", "[control]\nnone = true", LOCKED));
    let ended = bench.run("racy.toml").with(3).saying(&["it says that it has no control ([control] none = true)", "raise --vus"]);
    assert!(!ended.out.contains("name a control") && !ended.out.contains("file ="), "{}", ended.out);
    bench.write("safe.toml", &counting("", "", LOCKED));
    bench.run("safe.toml").with(3).saying(&["name a control, another scenario that breaks the rules"]);
}

/// A killed program tells the server nothing: its sessions go on with what they were at.
#[tokio::test]
async fn what_killed_runs_left_at_work_is_ended_before_the_next_one_begins() {
    let bench = Bench::new().await;
    let mut left = Session::connect(&bench.database.options, "run7/vu3").await.unwrap();
    let at_work = tokio::spawn(async move { left.rows("SELECT pg_sleep(600)").await.map(|_| ()) });
    let mut session = bench.database.session().await;
    let named = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbstress/run7/vu3' AND state = 'active'";
    common::at_least(&mut session, 1, named).await;
    bench.write("one.sql", "SELECT 1;\n");
    bench.run("-f one.sql --vus 1 --iterations 5 --threshold committed.count>=5").with(0);
    assert!(at_work.await.unwrap().is_err(), "it was ended");
}

#[tokio::test]
async fn a_set_up_that_takes_long_can_be_interrupted_and_leaves_nothing_at_work() {
    let bench = Bench::new().await;
    bench.write("setup.sql", "CREATE TABLE half (n int); SELECT pg_sleep(600);\n");
    bench.write("mine.toml", &scenario("setup = \"setup.sql\"", "[[operation]]\nname = \"look\"\nsql = \"SELECT 1\""));
    let mut command = bench.place.dbstress(&["run", "mine.toml"]);
    command.env("DATABASE_URL", bench.database.url()).current_dir(&bench.place.0);
    let started = common::Started::new(command);
    let mut session = bench.database.session().await;
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    common::at_least(&mut session, 1, sleeping).await;
    started.signal(Signal::SIGTERM);
    let (code, out, err) = started.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_eq!(session.integer(sleeping).await.unwrap(), 0);
}
