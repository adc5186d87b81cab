//! Does seeding keep its promises on a real server: the same rows however loaded, nothing half done unseen, nothing of others touched?

mod common;

use std::sync::Arc;

use common::{Place, database, run};

use dbstress::cmd;
use dbstress::pg::ConnectOptions;
use dbstress::pg::admin::{Session, require_loaded};
use dbstress::pg::load::{Connection, Isolation};
use dbstress::report::screen::Screen;
use dbstress::seed::constraints;
use dbstress::seed::fixture::{Draft, Fixture, Rows};
use dbstress::seed::{self, Dataset, Figures, Generator, Progress, Request, Seeded, Table};
use dbstress::verdict::Exit;
use dbstress::{Error, Result};

fn clinic(rng_seed: i64, scale: u64) -> Arc<Generator> {
    Arc::new(Generator::new(Dataset::Clinic, rng_seed, scale, &Figures::default()).expect("a usable size"))
}

async fn seed_with(options: &ConnectOptions, generator: &Arc<Generator>, request: Request) -> Result<Seeded> {
    seed::seed(options, generator, &request, &|_| {}).await
}

async fn seed_plainly(options: &ConnectOptions, generator: &Arc<Generator>) -> Result<Seeded> {
    seed_with(options, generator, Request { connections: 2, ..Request::default() }).await
}

fn reset() -> Request {
    Request { reset: true, connections: 2, ..Request::default() }
}

fn usage(result: Result<Seeded>, words: &[&str]) {
    let error = result.expect_err("must be refused");
    let text = error.to_string();
    assert_eq!(error.kind(), dbstress::error::Kind::Usage, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing from: {text}");
    }
}

async fn session(options: &ConnectOptions) -> Session {
    Session::connect(options, "test").await.expect("connects")
}

async fn integer(options: &ConnectOptions, sql: &str) -> i64 {
    let mut session = session(options).await;
    let n = session.integer(sql).await.expect(sql);
    session.close().await;
    n
}

/// Rows of a query, columns separated by blanks.
async fn rows(options: &ConnectOptions, sql: &str) -> Vec<String> {
    let mut session = session(options).await;
    let rows = session.rows(sql).await.expect(sql);
    session.close().await;
    rows.into_iter().map(|r| r.into_iter().map(|v| v.unwrap_or("NULL".into())).collect::<Vec<_>>().join(" ")).collect()
}

async fn execute(options: &ConnectOptions, sql: &str) {
    let mut session = session(options).await;
    session.execute(sql).await.expect(sql);
    session.close().await;
}

/// Number and md5 of each table's rows.
async fn contents(options: &ConnectOptions) -> Vec<String> {
    let mut all = Vec::new();
    for table in Table::of(Dataset::Clinic) {
        let sql = format!("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM dbstress.{} t", table.name());
        all.extend(rows(options, &sql).await);
    }
    all
}

/// Everything there is in the database, by name and file: a table that was emptied or rewritten shows too.
async fn relations(options: &ConnectOptions) -> Vec<String> {
    let sql = "SELECT format('%s.%s %s %s', n.nspname, c.relname, c.relkind, c.relfilenode) FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1";
    rows(options, sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_1_has_the_published_counts() {
    let database = database().await;
    let options = &database.options;
    let seeded = seed_plainly(options, &clinic(42, 1)).await.expect("seeds");
    assert!(seeded.took.is_some());

    let count = async |table: &str| integer(options, &format!("SELECT count(*) FROM dbstress.{table}")).await;
    assert_eq!(count("organisation").await, 3);
    assert_eq!(count("patient").await, 20);
    assert_eq!(count("practitioner").await, 10);
    assert_eq!(count("authorisation").await, 55);
    let by_organisation = async |table: &str| {
        rows(options, &format!("SELECT organisation_id, count(*) FROM dbstress.{table} GROUP BY 1 ORDER BY 1")).await
    };
    assert_eq!(by_organisation("patient").await, ["1 10", "2 5", "3 5"]);
    assert_eq!(by_organisation("practitioner").await, ["1 4", "2 3", "3 3"]);
    assert_eq!(by_organisation("authorisation").await, ["1 30", "2 15", "3 10"]);
    assert_eq!(
        rows(options, "SELECT total, organisation_id, count(*) FROM dbstress.authorisation GROUP BY 1, 2 ORDER BY 1, 2").await,
        ["50 1 5", "50 2 3", "50 3 2", "200 1 11", "200 2 5", "200 3 4", "1000 1 14", "1000 2 7", "1000 3 4"],
        "hot ones in every organisation"
    );
    assert_eq!(
        rows(
            options,
            "SELECT code, category, required_credential, typical_minutes, organisation_id FROM dbstress.service_code ORDER BY id"
        )
        .await,
        [
            "97151 ASSESSMENT BCBA 60 NULL",
            "97153 TREATMENT RBT 60 NULL",
            "97155 SUPERVISION BCBA 60 NULL",
            "97156 FAMILY_GUIDANCE BCBA 60 NULL",
            "97157 FAMILY_GUIDANCE BCBA 90 NULL"
        ]
    );
    let odd = "SELECT count(*) FROM dbstress.authorisation, dbstress.meta WHERE used <> 0 OR scheduled <> 0 OR version <> 0 OR guarded \
               OR status <> 'ACTIVE' OR run_id IS NOT NULL OR start_date NOT BETWEEN as_of::date - 45 AND as_of::date \
               OR end_date <> (start_date + interval '6 months')::date OR end_date <= as_of::date \
               OR number !~ ('^AUTH-' || organisation_id || '-' || total || '-[0-9]{6}$')";
    assert_eq!(integer(options, odd).await, 0);
    assert_eq!(
        integer(options, "SELECT count(DISTINCT credential) FROM dbstress.practitioner GROUP BY organisation_id LIMIT 1").await,
        2
    );
    assert_eq!(
        rows(options, "SELECT as_of AT TIME ZONE 'UTC', dataset, rng_seed, scale, generator_version FROM dbstress.meta").await,
        ["2026-01-15 12:00:00 clinic 42 1 1"]
    );
    // Not today: the same rows tomorrow.
    assert_eq!(seeded.loaded.data_hash, clinic(42, 1).data_hash());
    let mut session = session(options).await;
    let (meta, loaded) = require_loaded(&mut session, options).await.expect("is loaded");
    assert_eq!((meta, loaded), (seeded.meta, seeded.loaded), "what was returned is what is recorded");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_40_is_forty_times_scale_1() {
    let database = database().await;
    let options = &database.options;
    seed_plainly(options, &clinic(42, 40)).await.expect("seeds");
    let counts = "SELECT (SELECT count(*) FROM dbstress.organisation), (SELECT count(*) FROM dbstress.service_code), \
                  (SELECT count(*) FROM dbstress.patient), (SELECT count(*) FROM dbstress.practitioner), count(*), \
                  count(*) FILTER (WHERE total = 50), count(*) FILTER (WHERE total = 200), count(*) FILTER (WHERE total = 1000), \
                  sum(total) FROM dbstress.authorisation";
    assert_eq!(rows(options, counts).await, ["120 5 800 400 2200 400 800 1000 1180000"]);
    let hot = "SELECT count(DISTINCT organisation_id) FROM dbstress.authorisation WHERE total = 50";
    assert_eq!(integer(options, hot).await, 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_four_connections_load_the_same_rows() {
    let (alone, together) = (database().await, database().await);
    // Several batches for each connection, with a last one that is not full.
    let generator = clinic(7, 800);
    assert!(generator.batches(Table::Authorisation) > 4);
    let with = |connections| Request { connections, ..Request::default() };
    let one = seed_with(&alone.options, &generator, with(1)).await.expect("seeds");
    let four = seed_with(&together.options, &generator, with(4)).await.expect("seeds");
    assert_eq!(one.loaded, dbstress::pg::admin::Loaded { load: one.loaded.load.clone(), ..four.loaded });
    assert_eq!(contents(&alone.options).await, contents(&together.options).await);
    assert_eq!(one.loaded.data_hash, generator.data_hash(), "hashed while loading, hashed without a database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_and_index_is_there_and_valid() {
    let database = database().await;
    let options = &database.options;
    seed_plainly(options, &clinic(42, 1)).await.expect("seeds");
    let of = |wanted: &dyn Fn(&constraints::Constraint) -> bool| {
        let mut names: Vec<String> = constraints::all().filter(|c| wanted(c)).map(|c| format!("{} {}", c.table, c.name)).collect();
        names.sort();
        names
    };
    let found = "SELECT c.relname || ' ' || k.conname AS name FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'dbstress' AND k.convalidated AND k.contype";
    let foreign = rows(options, &format!("SELECT * FROM ({found} = 'f') f ORDER BY name COLLATE \"C\"")).await;
    assert_eq!(foreign, of(&|c| c.is_foreign_key()), "foreign keys, all validated");
    assert_eq!(foreign.len(), 9 + 13);
    // Nothing is loaded into appointments, whose own keys the migration gives them.
    let appointments = ["appointment", "treatment_session"];
    let names: Vec<String> = Table::ALL.iter().map(|t| t.name()).chain(appointments).map(|t| format!("'{t}'")).collect();
    let of = |wanted: &dyn Fn(&constraints::Constraint) -> bool| {
        let mut names = of(wanted);
        names.extend(appointments.map(|table| format!("{table} {table}_pkey")));
        names.sort();
        names
    };
    let tables = &format!("c.relname IN ({})", names.join(", "));
    let unique = rows(options, &format!("SELECT * FROM ({found} IN ('p', 'u') AND {tables}) f ORDER BY name COLLATE \"C\"")).await;
    assert_eq!(unique, of(&|c| c.kind == constraints::Kind::Constraint && !c.is_foreign_key()));
    let indexes = "SELECT c.relname || ' ' || x.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
                   JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = 'dbstress' AND i.indisvalid AND i.indisready AND ";
    let indexes = rows(options, &format!("SELECT * FROM ({indexes} {tables}) f ORDER BY name COLLATE \"C\"")).await;
    assert_eq!(indexes, of(&|c| !c.is_foreign_key()));
    // A patient of another organisation.
    let mut session = session(options).await;
    let foreign_patient = "UPDATE dbstress.authorisation SET patient_id = (SELECT max(id) FROM dbstress.patient) WHERE id = 1";
    let error = session.execute(foreign_patient).await.expect_err("another tenant's patient");
    assert_eq!(error.code.as_deref(), Some("23503"));
    assert!(
        session.integer("SELECT count(*) FROM pg_stats WHERE schemaname = 'dbstress'").await.expect("statistics") > 0,
        "ANALYZE ran"
    );
    session.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_changes_nothing() {
    let database = database().await;
    let options = &database.options;
    let generator = clinic(42, 1);
    let first = seed_plainly(options, &generator).await.expect("seeds");
    execute(options, "UPDATE dbstress.authorisation SET scheduled = 10, version = 1 WHERE id = 3").await;
    let (before, relations_before) = (contents(options).await, relations(options).await);
    let sentinel = "SELECT m::text FROM dbstress.meta m";
    let sentinel_before = rows(options, sentinel).await;
    let second = seed_plainly(options, &generator).await.expect("is content");
    assert_eq!(second.took, None);
    assert_eq!(second.loaded, first.loaded);
    assert_eq!(contents(options).await, before);
    assert_eq!(relations(options).await, relations_before);
    assert_eq!(rows(options, sentinel).await, sentinel_before);

    let fresh = seed_with(options, &generator, reset()).await.expect("starts over");
    assert!(fresh.took.is_some());
    assert_eq!(integer(options, "SELECT count(*) FROM dbstress.authorisation WHERE version <> 0").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_data_is_refused_without_reset() {
    let database = database().await;
    let options = &database.options;
    seed_plainly(options, &clinic(42, 1)).await.expect("seeds");
    let before = contents(options).await;
    usage(seed_plainly(options, &clinic(43, 1)).await, &["rng_seed 42", "rng_seed 43", "--reset", "--rng-seed 43"]);
    usage(seed_plainly(options, &clinic(42, 2)).await, &["scale 1", "scale 2", "--reset", "--scale 2"]);
    execute(options, "UPDATE dbstress.meta SET generator_version = generator_version - 1").await;
    usage(seed_plainly(options, &clinic(42, 1)).await, &["generator 0", "generator 1", "--reset"]);
    assert_eq!(contents(options).await, before);
    seed_with(options, &clinic(43, 1), reset()).await.expect("starts over");
    assert_ne!(contents(options).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_seed_shows_and_can_be_started_over() {
    let database = database().await;
    let options = &database.options;
    let generator = clinic(42, 3000);
    // Interrupted for real: everything is dropped when the rows are in and the first key is made.
    let begun = tokio::sync::Notify::new();
    let progress = |step| {
        if matches!(step, Progress::Constraints(1.., _)) {
            begun.notify_one();
        }
    };
    let request = Request { connections: 2, ..Request::default() };
    tokio::select! {
        _ = seed::seed(options, &generator, &request, &progress) => panic!("it was to be interrupted"),
        () = begun.notified() => {}
    }
    // Its lease ends with its connection, shortly after.
    let again = || async {
        for _ in 0..100 {
            match seed_plainly(options, &generator).await {
                Err(e) if e.to_string().contains("another dbstress") => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await
                }
                other => return other,
            }
        }
        Err(Error::inconclusive("the lease did not end"))
    };
    usage(again().await, &["did not finish", "--reset"]);
    let mut session = session(options).await;
    let error = require_loaded(&mut session, options).await.expect_err("incomplete");
    assert!(error.to_string().contains("did not finish"), "{error}");
    session.close().await;
    let small = clinic(42, 1);
    seed_with(options, &small, reset()).await.expect("starts over");
    assert_eq!(integer(options, "SELECT count(*) FROM dbstress.authorisation").await, 55);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_load_leaves_the_sentinel_incomplete() {
    let database = database().await;
    let options = &database.options;
    let generator = clinic(42, 1);
    seed_plainly(options, &generator).await.expect("seeds");
    execute(
        options,
        "UPDATE dbstress.meta SET seeded_at = NULL; TRUNCATE dbstress.authorisation CASCADE; \
         ALTER TABLE dbstress.authorisation ADD CHECK (total < 1000)",
    )
    .await;
    usage(seed_plainly(options, &generator).await, &["did not finish"]);
    // Nothing in the tables: there is nothing half done to keep, so the load goes ahead, and the server refuses a row.
    execute(options, "TRUNCATE dbstress.organisation, dbstress.service_code, dbstress.patient, dbstress.practitioner CASCADE")
        .await;
    let error = seed_plainly(options, &generator).await.expect_err("the server refuses a row");
    assert_eq!(error.kind(), dbstress::error::Kind::Inconclusive);
    assert!(error.to_string().contains("authorisation_total_check"), "{error}");
    assert_eq!(integer(options, "SELECT count(*) FROM dbstress.meta WHERE seeded_at IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_others_is_left_alone_unless_it_is_named() {
    let database = database().await;
    let options = &database.options;
    let generator = clinic(42, 1);
    execute(options, "CREATE TABLE invoice (id int PRIMARY KEY, amount int); INSERT INTO invoice VALUES (1, 100)").await;
    let before = relations(options).await;
    let disposable = |name: &str, reset| Request { disposable: Some(name.into()), reset, ..Request::default() };

    usage(seed_plainly(options, &generator).await, &["not ours", "nothing was written", "--disposable"]);
    usage(seed_with(options, &generator, reset()).await, &["not ours"]);
    usage(seed_with(options, &generator, disposable("production", false)).await, &["production", &options.database]);
    usage(seed_with(options, &generator, disposable("production", true)).await, &["production", &options.database]);
    assert_eq!(relations(options).await, before);
    assert_eq!(integer(options, "SELECT count(*) FROM pg_namespace WHERE nspname = 'dbstress'").await, 0);

    seed_with(options, &generator, disposable(&options.database, false)).await.expect("declared disposable by its name");
    assert_eq!(integer(options, "SELECT count(*) FROM dbstress.authorisation").await, 55);
    assert_eq!(integer(options, "SELECT sum(amount) FROM invoice").await, 100, "what others have is not touched even then");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_disposable_name_does_not_cost_our_own_data() {
    let database = database().await;
    let options = &database.options;
    seed_plainly(options, &clinic(42, 1)).await.expect("seeds");
    let before = contents(options).await;
    let request = Request { reset: true, disposable: Some("scratch".into()), ..Request::default() };
    usage(seed_with(options, &clinic(1, 1), request).await, &["scratch"]);
    assert_eq!(contents(options).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fixture_describes_the_database_and_no_other() {
    let database = database().await;
    let options = &database.options;
    let generator = clinic(42, 2);
    let Seeded { meta, loaded, .. } = seed_plainly(options, &generator).await.expect("seeds");
    let directory = std::env::temp_dir().join(&options.database);
    let path = directory.join("deep").join("fixture.json");
    let draft = Draft::create(&path).expect("its directories are made");
    assert!(!path.exists(), "not before it is complete");
    draft.write(&options.database, &meta, &loaded, &generator).expect("written");
    assert_eq!(std::fs::read_dir(directory.join("deep")).expect("a directory").count(), 1, "nothing temporary is left");

    let fixture = Fixture::load(&path, &meta, &loaded).expect("is ours");
    assert_eq!(fixture.as_of, "2026-01-15T12:00:00Z");
    assert_eq!(fixture.database.name, options.database);
    let organisations = "SELECT id, name, (SELECT count(*) FROM dbstress.patient p WHERE p.organisation_id = o.id), \
                         (SELECT count(*) FROM dbstress.practitioner p WHERE p.organisation_id = o.id), \
                         (SELECT count(*) FROM dbstress.authorisation a WHERE a.organisation_id = o.id) FROM dbstress.organisation o ORDER BY id";
    let Rows::Clinic { organisations: o, authorisations, high_contention, practitioners } = fixture.rows else {
        panic!("it is about the clinic")
    };
    let written = o.iter();
    let written: Vec<String> =
        written.map(|o| format!("{} {} {} {} {}", o.id, o.name, o.patients, o.practitioners, o.authorisations)).collect();
    assert_eq!(rows(options, organisations).await, written);
    let written: Vec<String> = authorisations.iter().map(|a| format!("{} {} {}", a.id, a.organisation_id, a.total)).collect();
    assert_eq!(rows(options, "SELECT id, organisation_id, total FROM dbstress.authorisation ORDER BY id").await, written);
    let written: Vec<String> = practitioners.iter().map(|p| format!("{} {}", p.id, p.organisation_id)).collect();
    assert_eq!(rows(options, "SELECT id, organisation_id FROM dbstress.practitioner ORDER BY id").await, written);
    let written: Vec<String> = high_contention.iter().map(ToString::to_string).collect();
    assert_eq!(rows(options, "SELECT id FROM dbstress.authorisation WHERE total = 50 ORDER BY id").await, written);

    let refused = |meta: &_, loaded: &_| Fixture::load(&path, meta, loaded).expect_err("must be refused").to_string();
    let mut elsewhere = meta.clone();
    elsewhere.database_oid += 1;
    assert!(refused(&elsewhere, &loaded).contains("another database"));
    let mut reseeded = loaded.clone();
    reseeded.rng_seed = 43;
    let message = refused(&meta, &reseeded);
    assert!(message.contains("rng_seed 42") && message.contains("rng_seed 43") && message.contains("cure"), "{message}");
    std::fs::write(&path, r#"{"schema_version": 99, "news": true}"#).expect("written");
    assert!(refused(&meta, &loaded).contains("format 99"));
    std::fs::write(&path, "[").expect("written");
    assert!(refused(&meta, &loaded).contains("is not a fixture"));
    std::fs::remove_dir_all(&directory).expect("removed");
    assert!(refused(&meta, &loaded).contains("no fixture"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_rewrites_a_lost_fixture_and_keeps_one_it_did_not_replace() {
    let database = database().await;
    let options = &database.options;
    let state = std::env::temp_dir().join(format!("{}_state", options.database));
    let path = state.join("fixture.json");
    let screen = Screen { quiet: true, colour: false, interactive: false, aside: false, width: 80 };
    let args = cmd::seed::Args::default();
    let run = async |args: &cmd::seed::Args| cmd::seed::run(args.clone(), options, &state, screen).await;
    assert_eq!(run(&args).await.expect("seeds"), Exit::Pass);
    let written = std::fs::read(&path).expect("the default place");
    std::fs::remove_file(&path).expect("lost");
    assert_eq!(run(&args).await.expect("is content"), Exit::Pass);
    assert_eq!(std::fs::read(&path).expect("rewritten"), written);
    run(&cmd::seed::Args { rng_seed: 43, ..args.clone() }).await.expect_err("other data");
    assert_eq!(std::fs::read(&path).expect("kept"), written);
    assert_eq!(std::fs::read_dir(&state).expect("a directory").count(), 1, "nothing temporary is left");
    let unknown = run(&cmd::seed::Args { dataset: "clinc".into(), ..args.clone() }).await.expect_err("unknown");
    assert!(unknown.to_string().contains("did you mean `clinic`"), "{unknown}");
    let elsewhere = run(&cmd::seed::Args { plant: Some("PL-1".into()), ..args }).await.expect_err("not of the clinic");
    assert!(elsewhere.to_string().contains("--dataset residency"), "{elsewhere}");
    std::fs::remove_dir_all(&state).expect("removed");
}

/// What a role may have been given by somebody who thought of other programs.
const ODD: [&str; 9] = [
    "SET search_path = \"no such schema\", pg_catalog",
    "SET DateStyle = 'German, DMY'",
    "SET IntervalStyle = 'sql_standard'",
    "SET TimeZone = 'Asia/Kathmandu'",
    "SET default_transaction_isolation = 'serializable'",
    "SET standard_conforming_strings = off",
    "SET quote_all_identifiers = on",
    "SET bytea_output = 'escape'",
    "SET client_min_messages = debug1",
];

#[tokio::test]
async fn a_role_of_any_name_and_with_any_settings_works_on_its_own_database() {
    let place = Place::new();
    for dataset in ["clinic", "residency"] {
        let database = common::database_of_a_guest(&ODD).await;
        for arguments in
            [&format!("seed --dataset {dataset}"), "seed --reset --dataset clinic", "contention --vus 8 --rounds 2", "verify"]
        {
            let (code, out, err) = run(&mut common::on(&place, &database.options, arguments));
            // Two rounds prove nothing; but they are run.
            let expected = if arguments.starts_with("contention") { 3 } else { 0 };
            assert_eq!(code, expected, "{arguments}: {out}{err}");
        }
    }
}

#[tokio::test]
async fn no_setting_of_a_role_changes_what_our_own_sessions_do() {
    let odd = [
        &ODD[..],
        &["SET statement_timeout = '20ms'", "SET lock_timeout = '20ms'", "SET idle_in_transaction_session_timeout = '20ms'"],
    ];
    let database = common::database_of_a_guest(&odd.concat()).await;
    let mut session = database.session().await;
    session.execute("SELECT pg_sleep(0.2)").await.expect("the limit of the role is not ours");
    for (setting, value) in [
        ("search_path", "dbstress,public"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("default_transaction_isolation", "read committed"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("standard_conforming_strings", "on"),
    ] {
        assert_eq!(session.text(&format!("SHOW {setting}")).await.unwrap().as_deref(), Some(value), "{setting}");
    }
    let mut asking = Session::connect_for_questions(&database.options, "test").await.unwrap();
    let path = asking.text("SHOW search_path").await.unwrap();
    assert_eq!(
        path.as_deref(),
        Some("dbstress, public, \"no such schema\", pg_catalog"),
        "the user's questions find the user's tables"
    );
}

#[tokio::test]
async fn a_statement_that_the_roles_limit_ends_is_told_with_whose_limit_it_was() {
    let database = common::database_of_a_guest(&["SET statement_timeout = '2s'"]).await;
    let mut connection = Connection::open(&database.options, "dbstress/test", &[Isolation::ReadCommitted]).await.unwrap();
    let error = connection.ask("SELECT pg_sleep(60)").await.unwrap_err();
    assert!(error.to_string().contains("57014") && error.to_string().contains("ALTER ROLE … RESET statement_timeout"), "{error}");
}

#[tokio::test]
async fn the_seeds_that_the_readme_prints_succeed_one_after_the_other() {
    if common::not_applicable("they name databases of the private server") {
        return;
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let mut in_block = false;
    let mut seeds = Vec::new();
    for line in readme.lines() {
        in_block ^= line.starts_with("```");
        let typed = line.split(" #").next().unwrap_or_default().trim();
        if in_block && typed.starts_with("dbstress seed") && !typed.contains("--database-url") {
            seeds.push(typed.strip_prefix("dbstress ").unwrap());
        }
    }
    assert!(seeds.len() >= 7, "{seeds:?}");
    let place = Place::new();
    for seed in seeds {
        let (code, out, err) = run(&mut place.dbstress(&seed.split(' ').collect::<Vec<_>>()));
        assert_eq!(code, 0, "dbstress {seed}: {out}{err}");
    }
}
