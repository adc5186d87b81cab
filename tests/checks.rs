//! How are rules asked: planned by themselves, within a limit that is said, and given up on the server too when nobody waits any more?

mod common;

use common::{Bench, PATIENCE, Place, Started, TestDatabase, assert_no_panic, at_least, run};
use dbstress::invariant::{self, Allowance, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, When, parse, run_all};
use dbstress::pg::admin::Session;
use dbstress::record::RunRecord;
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Lines of the ledgers that plans are looked at with.
const LINES: &str = "20000";
/// From so many rows on a table is a big one.
const BIG: f64 = 1_000.0;

/// Puts what bench/rules.sh asks about into a seeded database.
async fn fill(session: &mut Session, sql: &str) {
    session.execute(&sql.replace(":lines", LINES)).await.unwrap();
}

async fn asked(session: &mut Session, rules: &[Invariant]) -> Vec<Checked> {
    run_all(session, rules, &DEFAULT_SEARCH_PATH, When::Quiesced, PATIENCE).await
}

fn rule(name: &str, examines: &str, query: &str) -> Invariant {
    let text = format!("-- when: quiesced\n-- examines: {examines}\n-- breaks: SELECT 1\n--\n-- A rule.\n{query}\n");
    parse::parse(name, &text, Some(std::path::Path::new("rule.sql"))).unwrap()
}

/// What a plan does once for each of many rows although it takes many rows each time: inner sides of nested loops, and subplans.
fn repeated(node: &Value, found: &mut Vec<String>) {
    let children = node["Plans"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = |node: &Value| node["Plan Rows"].as_f64().unwrap_or_default();
    for (n, child) in children.iter().enumerate() {
        let (of, name) =
            (child["Parent Relationship"].as_str().unwrap_or_default(), child["Subplan Name"].as_str().unwrap_or_default());
        let is_hashed = node.to_string().contains(&format!("hashed {name}"));
        let times = match of {
            "Inner" if node["Node Type"] == "Nested Loop" && n == 1 => rows(&children[0]),
            "SubPlan" if !is_hashed => rows(node).max(whole(node)),
            _ => 0.0,
        };
        if times > BIG && whole(child) > BIG {
            found.push(format!("{} rows, {times} times", whole(child)));
        }
        repeated(child, found);
    }
}

/// The most rows that a node takes from one place, from its beginning to its end.
fn whole(node: &Value) -> f64 {
    let children = node["Plans"].as_array().map_or(&[][..], Vec::as_slice);
    let below = children.iter().filter(|child| child["Parent Relationship"] != "SubPlan").map(whole).fold(0.0, f64::max);
    let is_scan = ["Seq Scan", "CTE Scan", "Function Scan", "Materialize"].iter().any(|scan| node["Node Type"] == *scan);
    if is_scan { below.max(node["Plan Rows"].as_f64().unwrap_or_default()) } else { below }
}

#[tokio::test]
async fn no_rule_reads_a_big_table_once_for_each_row_of_another() {
    let (clinic, residency) = tokio::join!(common::seeded(), common::residency(None));
    let of_clinic = include_str!("../bench/rules/clinic.sql");
    let of_residency = include_str!("../bench/rules/residency.sql");
    for (dataset, database, sql) in [("clinic", clinic, of_clinic), ("residency", residency, of_residency)] {
        let mut session = database.session().await;
        fill(&mut session, sql).await;
        session.execute("RESET search_path").await.unwrap();
        let rules: Vec<Invariant> = invariant::built_in().unwrap().into_iter().filter(|rule| rule.is_about(dataset)).collect();
        for checked in asked(&mut session, &rules).await {
            let holds = matches!(checked.finding, Finding::Holds { .. } | Finding::Vacuous);
            assert!(holds, "{}: {:?}", checked.name, checked.finding);
        }
        session.execute("SET search_path TO dbstress, public").await.unwrap();
        for rule in &rules {
            let plan = session.text(&format!("EXPLAIN (FORMAT JSON) {}", rule.query)).await.unwrap().unwrap();
            let plan: Value = serde_json::from_str(&plan).unwrap();
            let mut found = Vec::new();
            repeated(&plan[0]["Plan"], &mut found);
            assert!(found.is_empty(), "{}: {found:?}\n{plan:#}", rule.name);
        }
    }
}

/// The rows that a plan took in its hands in all, as EXPLAIN ANALYZE has it.
fn visited(node: &Value) -> f64 {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let rows = number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Join Filter");
    let below = node["Plans"].as_array().map_or(&[][..], Vec::as_slice).iter().map(visited).sum::<f64>();
    rows * number("Actual Loops") + below
}

/// Whoever has not yet heard of a key plans for a ledger without any.
#[tokio::test]
async fn no_rule_takes_for_ever_by_statistics_that_are_out_of_date() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    session.execute("ALTER TABLE dbstress.unit_ledger SET (autovacuum_enabled = off)").await.unwrap();
    let lines = 4_000;
    session.execute(&include_str!("../bench/rules/clinic.sql").replace(":lines", &lines.to_string())).await.unwrap();
    session
        .execute(
            "CREATE TABLE keyed AS SELECT op_id, key FROM unit_ledger WHERE key IS NOT NULL; UPDATE unit_ledger SET key = NULL; \
             ANALYZE unit_ledger; UPDATE unit_ledger l SET key = k.key FROM keyed k WHERE k.op_id = l.op_id",
        )
        .await
        .unwrap();
    for rule in invariant::built_in().unwrap().into_iter().filter(|rule| rule.is_about("clinic")) {
        let plan = session.text(&format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {}", rule.query)).await.unwrap().unwrap();
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let visited = visited(&plan[0]["Plan"]);
        assert!(visited < f64::from(lines) * 50.0, "{}: {visited} rows\n{plan:#}", rule.name);
    }
}

/// The first row of this join seems to be near, by way of the index; there is none. A plan for the first rows looks for it in the index row by row.
#[tokio::test]
async fn a_rule_is_planned_for_all_of_its_rows_and_not_for_the_first() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    session
        .execute(
            "CREATE TABLE one (x int, y int); CREATE TABLE other (x int PRIMARY KEY, y int); \
             INSERT INTO one SELECT n, 1 FROM generate_series(1, 20000) AS n; INSERT INTO other SELECT * FROM one",
        )
        .await
        .unwrap();
    let query = "SELECT one.x AS subject, 'less' AS expected, 'more' AS actual FROM one JOIN other ON other.x = one.x WHERE one.y + other.y < 0";
    let checked = asked(&mut session, &[rule("near", "SELECT count(*) FROM one", query)]).await;
    assert_eq!(checked[0].finding, Finding::Holds { examined: 20_000 });
    session.rows("SELECT count(*), pg_stat_force_next_flush() FROM pg_class").await.unwrap();
    let visits = session.integer("SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'other'").await.unwrap();
    assert!(visits < 1_000, "it looked {visits} times into the index");
}

#[tokio::test]
async fn the_planner_knows_the_tables_as_they_are_before_a_rule_is_asked() {
    let database = common::seeded().await;
    // Another role has to be made for it.
    let mut session = database.superuser().await;
    // Nobody else looks at them meanwhile.
    session
        .execute(
            "ALTER TABLE dbstress.unit_ledger SET (autovacuum_enabled = off); CREATE TABLE theirs AS SELECT n FROM generate_series(1, 500) AS n; \
             ALTER TABLE theirs SET (autovacuum_enabled = off); ANALYZE dbstress.unit_ledger",
        )
        .await
        .unwrap();
    fill(&mut session, include_str!("../bench/rules/clinic.sql")).await;
    session.execute("RESET search_path").await.unwrap();
    let role = format!("reader_in_{}", database.options.database);
    session
        .execute(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA dbstress TO {role}; GRANT SELECT ON theirs TO {role}; SET ROLE {role}"
        ))
        .await
        .unwrap();
    let of_theirs =
        rule("theirs", "SELECT count(*) FROM theirs", "SELECT 1 AS subject, 2 AS expected, 3 AS actual FROM theirs WHERE n < 0");
    // What is not the role's own is left as it is, without a word.
    assert_eq!(asked(&mut session, std::slice::from_ref(&of_theirs)).await[0].finding, Finding::Holds { examined: 500 });
    session.execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    let known = "SELECT (reltuples > 0)::int FROM pg_class WHERE oid =";
    assert_eq!(session.integer(&format!("{known} 'theirs'::regclass")).await.unwrap(), 0);
    assert_eq!(session.integer(&format!("{known} 'dbstress.unit_ledger'::regclass")).await.unwrap(), 0);
    // A session tells what it has changed in its own time.
    common::at_least(
        &mut session,
        1,
        "SELECT n_mod_since_analyze FROM pg_stat_all_tables WHERE relid = 'dbstress.unit_ledger'::regclass",
    )
    .await;
    asked(&mut session, &[of_theirs]).await;
    assert_eq!(session.integer(&format!("{known} 'theirs'::regclass")).await.unwrap(), 1);
    let lines =
        session.integer("SELECT reltuples::bigint FROM pg_class WHERE oid = 'dbstress.unit_ledger'::regclass").await.unwrap();
    assert!(lines >= LINES.parse().unwrap(), "{lines}");
}

/// Where whoever asks a rule has to wait for the test.
const GATE: i64 = 4_711;

/// A table, and a rule about it that waits at the gate.
fn waiting(place: &Place, when: &str) {
    let rule = format!(
        "-- when: {when}\n-- examines: SELECT count(*) FROM c\n-- breaks: UPDATE c SET n = -1\n--\n-- n is not negative.\n\
         SELECT id AS subject, 'n >= 0' AS expected, n AS actual FROM c WHERE n < 0 OR (SELECT pg_advisory_xact_lock_shared({GATE})) IS NULL\n"
    );
    let schema = "DROP TABLE IF EXISTS c; CREATE TABLE c (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO c SELECT generate_series(1, 4)";
    let scenario = "summary = \"a rule that waits\"\nworkload = \"sql\"\nsetup = \"schema.sql\"\ninvariants = \"rules\"\n[control]\nnone = true\n\
                    [load]\nvus = 2\niterations = 20\n[parameters]\nid = { uniform = [1, 4] }\n[[operation]]\nname = \"add\"\n\
                    sql = \"UPDATE c SET n = n + 1 WHERE id = $id\"\n";
    std::fs::create_dir_all(place.0.join("rules")).unwrap();
    for (name, text) in [("rules/waits.sql", &*rule), ("schema.sql", schema), ("waits.toml", scenario)] {
        std::fs::write(place.0.join(name), text).unwrap();
    }
}

/// The gate, shut.
async fn gate(database: &TestDatabase) -> Session {
    let mut gate = database.session().await;
    gate.rows(&format!("SELECT pg_advisory_lock({GATE})")).await.unwrap();
    gate
}

/// How many of the program's sessions are there, those of the test left out.
const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbstress%' \
                    AND application_name <> 'dbstress/test'";

/// Who waits at the gate of this database.
const WAITERS: &str = "FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                       WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted AND l.objid = 4711";

/// Waits until somebody waits at the gate.
async fn at_the_gate(gate: &mut Session) {
    at_least(gate, 1, &format!("SELECT count(*) {WAITERS}")).await;
}

fn record(place: &Place) -> RunRecord {
    RunRecord::from_json(&std::fs::read_to_string(place.0.join("r.json")).unwrap()).unwrap()
}

async fn waits(arguments: &str, when: &str) -> (TestDatabase, Place, Started, Session) {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, when);
    let mut gate = database.session().await;
    let run = format!("run waits.toml --progress plain --accept-uncontrolled --summary-export r.json {arguments}");
    let started = Started::new(common::on(&place, &database.options, run.trim()));
    started.says("waits …").await;
    // The first check is over, and none of the last has begun: nobody ends the load before it is over.
    gate.rows(&format!("SELECT pg_advisory_lock({GATE})")).await.unwrap();
    (database, place, started, gate)
}

#[tokio::test]
async fn a_check_that_takes_long_is_shown_and_one_that_takes_too_long_is_a_question_left_open() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "quiesced");
    let gate = gate(&database).await;
    let mut command =
        common::on(&place, &database.options, "run waits.toml --progress plain --check-timeout 2s --summary-export r.json");
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 3, "{out}{err}");
    assert!(err.contains("checking rules: waits, 1 s (at most 2s"), "{err}");
    let said = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("waits could not be checked")
            && said.contains("it did not finish within 2s; --check-timeout gives it longer"),
        "{out}"
    );
    assert!(!said.contains("shows the rows"), "there are none: {out}");
    gate.close().await;
    // With time enough it is no question any more.
    let (code, out, err) = run(&mut command);
    assert!(code == 3 && out.contains("not proven able to fail") && !out.contains("could not be checked"), "{out}{err}");
}

#[tokio::test]
async fn a_check_that_is_cancelled_on_the_server_is_not_said_to_have_taken_too_long() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "quiesced");
    let mut session = database.session().await;
    session.execute("CREATE TABLE c AS SELECT 1 AS id, 0 AS n").await.unwrap();
    let mut gate = gate(&database).await;
    let text = std::fs::read_to_string(place.0.join("rules/waits.sql")).unwrap();
    let waits = parse::parse("waits", &text, None).unwrap();
    let cancelling = async {
        at_the_gate(&mut gate).await;
        gate.rows(&format!("SELECT pg_cancel_backend(l.pid) {WAITERS}")).await.unwrap();
    };
    let rules = [waits];
    let (checked, ()) = tokio::join!(run_all(&mut session, &rules, &["public"], When::Quiesced, PATIENCE), cancelling);
    let Finding::Errored(why) = &checked[0].finding else { panic!("{checked:?}") };
    assert!(why.starts_with("it was cancelled on the server") && why.contains("57014"), "{why}");
}

#[tokio::test]
async fn a_check_that_is_interrupted_is_cancelled_and_the_others_are_not_begun() {
    let database = common::seeded().await;
    let mut session = database.session().await;
    let mut gate = gate(&database).await;
    let (over, is_over) = tokio::sync::watch::channel(false);
    let allowance = Allowance { over: is_over, ..Allowance::from(PATIENCE) };
    let waits = rule(
        "waits",
        "SELECT count(*) FROM run",
        "SELECT 1 AS subject, 2 AS expected, 3 AS actual WHERE (SELECT pg_advisory_xact_lock_shared(4711)) IS NULL",
    );
    let other = rule("other", "SELECT 1", "SELECT 1 AS subject, 2 AS expected, 3 AS actual WHERE false");
    let interrupting = async {
        at_the_gate(&mut gate).await;
        over.send_replace(true);
    };
    let rules = [waits, other];
    let (checked, ()) = tokio::join!(run_all(&mut session, &rules, &DEFAULT_SEARCH_PATH, When::Quiesced, allowance), interrupting);
    let said: Vec<String> = checked.iter().map(|checked| format!("{:?}", checked.finding)).collect();
    assert!(said[0].contains("interrupted after") && said[1].contains("interrupted before it was made"), "{said:?}");
    // The session is as good as before.
    assert_eq!(session.integer("SELECT 1").await.unwrap(), 1);
}

#[tokio::test]
async fn an_interrupted_check_before_the_load_ends_the_run_at_once_and_on_the_server_too() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "quiesced");
    let mut gate = gate(&database).await;
    let run = Started::new(common::on(&place, &database.options, "run waits.toml --summary-export r.json"));
    at_the_gate(&mut gate).await;
    run.signal(Signal::SIGTERM);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_no_panic(&out, &err);
    assert_eq!(record(&place).reasons, ["interrupted"]);
    assert_eq!(gate.integer(OURS).await.unwrap(), 0);
}

#[tokio::test]
async fn checks_after_an_interrupted_load_have_the_time_of_the_graceful_stop_and_no_more() {
    let (_database, place, run, mut gate) = waits("--duration 1h --iterations 1000000000 --graceful-stop 1s", "quiesced").await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_no_panic(&out, &err);
    let record = record(&place);
    assert_eq!((record.verdict, &record.reasons[..]), (Verdict::Inconclusive, &["interrupted".to_owned()][..]));
    let checked = &record.turns[0].invariants[0].finding;
    assert!(matches!(checked, Finding::Errored(why) if why.starts_with("interrupted")), "{checked:?}");
    assert_eq!(gate.integer(OURS).await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_signal_ends_whatever_is_under_way_on_the_server_too() {
    // A check, which the first signal lets go on.
    let (_database, _place, run, mut gate) = waits("--graceful-stop 1h", "quiesced").await;
    at_the_gate(&mut gate).await;
    run.signal(Signal::SIGTERM);
    run.says("once more to give up").await;
    run.signal(Signal::SIGTERM);
    let (code, out, err) = run.ended().await;
    assert!(code == 130 && err.contains("interrupted twice"), "{out}{err}");
    assert_eq!(gate.integer(OURS).await.unwrap(), 0);
    // The load's own statements, which nobody would wait for.
    let bench = Bench::new().await;
    std::fs::write(bench.place.0.join("sleep.sql"), "SELECT pg_sleep(3600);\n").unwrap();
    let disposable =
        format!("run -f sleep.sql -u 3 --graceful-stop 1h --retry-deadline 1h --disposable {}", bench.database.options.database);
    let run = Started::new(bench.dbstress(&disposable));
    let mut session = bench.database.session().await;
    at_least(&mut session, 3, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await;
    run.signal(Signal::SIGINT);
    run.says("once more to give up").await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert!(code == 130 && err.contains("interrupted twice"), "{out}{err}");
    assert_eq!(session.integer(OURS).await.unwrap(), 0);
}

#[tokio::test]
async fn an_interrupted_verify_or_seed_leaves_nothing_at_work_on_the_server() {
    let bench = Bench::new().await;
    waiting(&bench.place, "quiesced");
    let mut session = bench.database.session().await;
    session.execute("CREATE TABLE c AS SELECT 1 AS id, 0 AS n").await.unwrap();
    let mut gate = gate(&bench.database).await;
    let run = Started::new(bench.dbstress("verify --invariants rules"));
    at_the_gate(&mut gate).await;
    run.signal(Signal::SIGTERM);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_eq!(gate.integer(OURS).await.unwrap(), 0);
    // It has to wait for whoever reads what it wants to remove.
    session.execute("BEGIN; LOCK TABLE dbstress.patient IN ACCESS SHARE MODE").await.unwrap();
    let run = Started::new(bench.dbstress("seed --reset"));
    at_least(&mut gate, 1, "SELECT count(*) FROM pg_locks WHERE relation = 'dbstress.patient'::regclass AND NOT granted").await;
    run.signal(Signal::SIGINT);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert_eq!(gate.integer(OURS).await.unwrap(), 0);
    session.execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn an_interrupted_control_is_not_said_to_have_been_too_mild() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "quiesced");
    // It breaks nothing, so that it is tried again until its time is over.
    let tested = std::fs::read_to_string(place.0.join("waits.toml")).unwrap().replace("none = true", "file = \"tame.toml\"");
    std::fs::write(place.0.join("tested.toml"), &tested).unwrap();
    std::fs::write(
        place.0.join("tame.toml"),
        tested.replace("[control]\nfile = \"tame.toml\"\n", "").replace("invariants = \"rules\"\n", ""),
    )
    .unwrap();
    let run = Started::new(common::on(&place, &database.options, "run tested.toml --summary-export r.json"));
    run.says("controls before …").await;
    let mut session = database.session().await;
    at_least(&mut session, 1, "SELECT count(*) FROM pg_namespace WHERE nspname = 'dbstress_control'").await;
    run.signal(Signal::SIGTERM);
    let (code, out, err) = run.ended().await;
    assert_eq!(code, 130, "{out}{err}");
    assert!(!out.contains("too mild") && !out.contains("raise --vus") && !err.contains("NOT caught"), "{out}{err}");
    assert_eq!(record(&place).reasons, ["interrupted; not run: tested"]);
    assert_eq!(session.integer("SELECT count(*) FROM pg_namespace WHERE nspname = 'dbstress_control'").await.unwrap(), 0);
}

#[tokio::test]
async fn a_rule_too_slow_for_the_load_is_said_to_be_and_makes_nobody_suspicious() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "always");
    let slow = std::fs::read_to_string(place.0.join("rules/waits.sql")).unwrap();
    let slow = slow.replace(&format!("pg_advisory_xact_lock_shared({GATE})"), "pg_sleep(0.5)");
    std::fs::write(place.0.join("rules/waits.sql"), slow).unwrap();
    let scenario = std::fs::read_to_string(place.0.join("waits.toml")).unwrap().replace("iterations = 20", "duration = \"3s\"");
    std::fs::write(place.0.join("waits.toml"), scenario).unwrap();
    let (_, out, err) = run(&mut common::on(&place, &database.options, "run waits.toml --summary-export r.json"));
    let said = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("no check of all rules was completed while the load ran"), "{out}{err}");
    assert!(said.contains("waits: it did not finish within 200ms") && !said.contains("fewer"), "{out}{err}");
    let turn = &record(&place).turns[0];
    assert!(turn.live.samples == 0 && turn.live.missed > 0, "{:?}", turn.live);
    let counters = turn.counters.clone().unwrap();
    assert_eq!((counters.client.rollbacks, counters.uncertain), (counters.server.rollbacks, 0), "{counters:?}");
}

#[tokio::test]
async fn what_broke_a_rule_under_load_alone_is_shown_with_its_rows() {
    let (database, place) = (common::database().await, Place::new());
    waiting(&place, "always");
    let rule = std::fs::read_to_string(place.0.join("rules/waits.sql")).unwrap();
    std::fs::write(
        place.0.join("rules/waits.sql"),
        rule.replace(&format!(" OR (SELECT pg_advisory_xact_lock_shared({GATE})) IS NULL"), ""),
    )
    .unwrap();
    let scenario = std::fs::read_to_string(place.0.join("waits.toml")).unwrap();
    let (head, _) = scenario.split_once("[parameters]").unwrap();
    let script = "UPDATE c SET n = -7 WHERE id = 3;\nSELECT pg_sleep(1.5);\nUPDATE c SET n = 0 WHERE id = 3;\n";
    std::fs::write(place.0.join("heals.sql"), script).unwrap();
    let head = head.replace("iterations = 20", "iterations = 4");
    std::fs::write(place.0.join("waits.toml"), format!("{head}[[operation]]\nname = \"heals\"\nscript = \"heals.sql\"\n")).unwrap();
    let (code, out, err) = run(&mut common::on(&place, &database.options, "run waits.toml --summary-export r.json"));
    assert_eq!(code, 1, "{out}{err}");
    let said = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("what broke waits under load, after") && said.contains("3: expected n >= 0, found -7"), "{out}");
    assert!(matches!(record(&place).turns[0].invariants[0].finding, Finding::Holds { .. }));
}

#[tokio::test]
async fn a_script_leaves_no_errors_of_ours_in_the_servers_log() {
    let place = Place::new();
    let running = place.start().await;
    let options = running.ensure_database("scripts").await.unwrap();
    let mut session = Session::connect(&options, "test").await.unwrap();
    session.execute("CREATE TABLE c (id int PRIMARY KEY, n int); INSERT INTO c VALUES (1, 0)").await.unwrap();
    session.close().await;
    std::fs::write(place.0.join("add.sql"), "UPDATE c SET n = n + 1 WHERE id = 1;\n").unwrap();
    let arguments = "run -f add.sql -u 2 -d 3s --disposable scripts --threshold aborted.rate<1";
    let (_, out, err) = run(&mut common::on(&place, &options, arguments));
    assert!(out.contains("committed"), "{out}{err}");
    let log = std::fs::read_to_string(place.cluster().join("server.log")).unwrap();
    let errors: Vec<&str> =
        log.lines().filter(|line| line.contains("ERROR") || line.contains("FATAL") || line.contains("WARNING")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    drop(running);
}
