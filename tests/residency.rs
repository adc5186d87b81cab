//! Does the residency keep its promises on a real server: a schedule that breaks no rule, and in it exactly what was planted?

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Place, TestDatabase, database, on, run};
use dbstress::acgme::evaluate::Evaluator;
use dbstress::acgme::rules::RuleSet;
use dbstress::pg::ConnectOptions;
use dbstress::pg::admin::{Session, require_loaded};
use dbstress::roster::{self, Expected, Scope};
use dbstress::seed::fixture::{Fixture, Rows};
use dbstress::seed::residency::cases::CASES;
use dbstress::seed::{self, Dataset, Figures, Fill, Generator, Progress, Request, Seeded, Table};
use dbstress::{Error, Result};

fn plain() -> Figures {
    Figures::default()
}

fn planting(plant: &str) -> Figures {
    Figures { plant: Some(plant.into()), ..plain() }
}

fn generator(rng_seed: i64, scale: u64, figures: &Figures) -> Arc<Generator> {
    Arc::new(Generator::new(Dataset::Residency, rng_seed, scale, figures).unwrap())
}

fn refused(scale: u64, figures: &Figures) -> String {
    let error = Generator::new(Dataset::Residency, 42, scale, figures).expect_err("must be refused");
    assert_eq!(error.kind(), dbstress::error::Kind::Usage);
    let text = error.to_string();
    assert!(text.contains("cure:"), "{text}");
    text
}

async fn seed_with(options: &ConnectOptions, generator: &Arc<Generator>, reset: bool) -> Result<Seeded> {
    let request = Request { reset, connections: 2, ..Request::default() };
    seed::seed(options, generator, &request, &|_| {}).await
}

/// A database with these rows in it, and a session that finds its tables.
async fn seeded(generator: &Arc<Generator>) -> (TestDatabase, Session) {
    let database = database().await;
    seed_with(&database.options, generator, false).await.unwrap();
    let session = inside(&database.options).await;
    (database, session)
}

async fn inside(options: &ConnectOptions) -> Session {
    let mut session = Session::connect(options, "test").await.unwrap();
    session.execute("SET search_path TO dbstress").await.unwrap();
    session
}

async fn count(session: &mut Session, sql: &str) -> i64 {
    session.integer(&format!("SELECT count(*) FROM {sql}")).await.unwrap()
}

/// Rows of a query, columns separated by blanks.
async fn rows(session: &mut Session, sql: &str) -> Vec<String> {
    let rows = session.rows(sql).await.unwrap();
    rows.into_iter().map(|r| r.into_iter().map(|v| v.unwrap_or("NULL".into())).collect::<Vec<_>>().join(" ")).collect()
}

/// Number and md5 of each table's rows.
async fn contents(session: &mut Session) -> Vec<String> {
    let mut all = Vec::new();
    for table in Table::of(Dataset::Residency) {
        let sql = format!("SELECT '{0}', count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {0} t", table.name());
        all.extend(rows(session, &sql).await);
    }
    all
}

/// What the rules find, each of the three sets: without labels, which findings do not have.
async fn found(session: &mut Session) -> [BTreeSet<Expected>; 3] {
    let mut evaluators = RuleSet::NAMES.map(|name| Evaluator::new(RuleSet::named(name).unwrap()));
    roster::evaluate(session, &Scope::default(), &mut evaluators).await.unwrap();
    evaluators.map(|evaluator| evaluator.finish().into_iter().map(unlabelled).collect())
}

fn unlabelled(finding: dbstress::acgme::Finding) -> Expected {
    let dbstress::acgme::Finding { rule, subject, severity, measured, .. } = finding;
    Expected { rule, subject, severity, measured, label: String::new() }
}

/// What must be found by each of the three sets; a case that is given by its number left out.
async fn expected(session: &mut Session, but: Option<i64>) -> [BTreeSet<Expected>; 3] {
    let mut all = [const { BTreeSet::new() }; 3];
    session.execute("BEGIN").await.unwrap();
    if let Some(plant) = but {
        session.execute(&format!("UPDATE expected_violation SET holds = false WHERE plant = {plant}")).await.unwrap();
    }
    for (name, all) in RuleSet::NAMES.iter().zip(&mut all) {
        let expected = roster::expected(session, name, &Scope::default()).await.unwrap();
        all.extend(expected.into_iter().map(|e| Expected { label: String::new(), ..e }));
    }
    session.execute("ROLLBACK").await.unwrap();
    all
}

/// Nothing by any of the three sets.
fn nothing() -> [BTreeSet<Expected>; 3] {
    [const { BTreeSet::new() }; 3]
}

/// Mends a case, or plants it again, as writers do.
async fn toggle(session: &mut Session, plant: i64, mend: bool) {
    let kept = session
        .rows(&format!("SELECT relation, row, (row ->> 'id')::bigint, is_planted FROM planted_row WHERE plant = {plant}"))
        .await
        .unwrap();
    assert!(!kept.is_empty(), "case {plant} cannot be mended");
    for row in kept {
        let [relation, row, id, is_planted] = row.try_into().unwrap();
        let (relation, row, id) = (relation.unwrap(), row.unwrap(), id.unwrap());
        let changed = if (is_planted.as_deref() == Some("t")) == mend {
            session.execute(&format!("DELETE FROM {relation} WHERE id = {id}")).await
        } else {
            let sql = format!("INSERT INTO {relation} SELECT * FROM jsonb_populate_record(NULL::{relation}, '{row}')");
            session.execute(&sql).await
        };
        assert_eq!(changed.unwrap(), 1, "{relation} {row}");
    }
}

#[tokio::test]
async fn the_base_has_the_published_counts_and_breaks_no_rule() {
    let generator = generator(42, 1, &plain());
    let (_database, mut session) = seeded(&generator).await;
    let s = &mut session;
    let by_role = "SELECT role, count(*) FROM assignment GROUP BY role ORDER BY role";
    assert_eq!(rows(s, by_role).await, ["primary 4800", "supervising 1696"]);
    let people = "SELECT kind, pgy, count(*) FROM person GROUP BY 1, 2 ORDER BY 1, 2";
    assert_eq!(rows(s, people).await, ["faculty NULL 40", "resident 1 40", "resident 2 35", "resident 3 25"]);
    assert_eq!(count(s, "rotation_template WHERE max_residents = 8 AND supervision_required").await, 20);
    let calendar = "SELECT count(*), min(date), max(date), count(DISTINCT date), min(number), max(number), \
                    count(*) FILTER (WHERE is_weekend = (extract(isodow FROM date) > 5)) FROM block";
    assert_eq!(rows(s, calendar).await, ["56 2026-01-05 2026-02-01 28 0 0 56"]);
    assert_eq!(
        rows(s, "SELECT status, starts_on, ends_on, assignments FROM schedule_run").await,
        ["success 2026-01-05 2026-02-01 6496"]
    );
    assert_eq!(
        count(
            s,
            "(SELECT FROM assignment a GROUP BY block_id HAVING count(*) FILTER (WHERE role = 'supervising') NOT IN (30, 31)) x"
        )
        .await,
        0
    );
    for table in
        ["call_assignment", "extra_duty", "assignment_unguarded", "expected_violation", "planted_row", "swap", "booked_time"]
    {
        assert_eq!(count(s, table).await, 0, "{table}");
    }
    // Numbers from 1, without a gap.
    for table in ["programme", "person", "block", "rotation_template", "assignment", "absence", "schedule_run"] {
        assert_eq!(rows(s, &format!("SELECT min(id), max(id) - count(*) FROM {table}")).await, ["1 0"], "{table}");
    }
    assert_eq!(count(s, "person WHERE email LIKE '%@example.org'").await, 140);
    // Absences that do not keep from duty are on days of duty too, so that a rule that takes them for it is found out.
    let on_duty = "absence a WHERE EXISTS (SELECT FROM assignment d JOIN block b ON b.id = d.block_id \
                   WHERE d.person_id = a.person_id AND b.date BETWEEN a.starts_on AND a.ends_on) AND a.kind";
    for kind in ["vacation", "conference", "sick"] {
        assert!(count(s, &format!("{on_duty} = '{kind}'")).await > 0, "{kind}");
    }
    assert!(count(s, "absence WHERE kind IN ('bereavement', 'family_emergency')").await > 5);
    assert_eq!(found(s).await, nothing());
    let mut session = inside(&_database.options).await;
    let (_, loaded) = require_loaded(&mut session, &_database.options).await.unwrap();
    assert_eq!((loaded.dataset.as_str(), loaded.variant, loaded.as_of.as_str()), ("residency", None, "2026-01-15 12:00:00"));
    assert_eq!(loaded.data_hash, generator.data_hash(), "hashed while loading, hashed without a database");
    // The check of the base could fail.
    session.execute("DELETE FROM assignment WHERE id = (SELECT min(id) FROM assignment WHERE role = 'supervising')").await.unwrap();
    assert_ne!(found(&mut session).await, nothing());
}

#[test]
fn the_rows_are_a_function_of_seed_scale_and_variant() {
    let hash = |rng_seed, scale, figures: &Figures| generator(rng_seed, scale, figures).data_hash();
    let all = [
        hash(42, 1, &plain()),
        hash(43, 1, &plain()),
        hash(42, 2, &plain()),
        hash(42, 1, &Figures { days: Some(84), ..plain() }),
        hash(42, 1, &Figures { residents: Some(51), ..plain() }),
        hash(42, 1, &Figures { fill: Some(Fill::Sparse), ..plain() }),
        hash(42, 1, &planting("PL-1")),
        hash(42, 1, &planting("PL-1:2")),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert_eq!(all[0], hash(42, 1, &Figures { days: Some(28), residents: Some(100), fill: Some(Fill::Full), plant: None }));
    assert_eq!(
        all[0], "b46077ef186625526f5e2ec7b47fed0020c60fcaa1621cc0ecab790c602286ed",
        "the rows changed: raise GENERATOR_VERSION, then write this hash here"
    );
}

#[tokio::test]
async fn another_seed_makes_other_names_and_the_same_schedule() {
    let (_one, mut one) = seeded(&generator(42, 1, &plain())).await;
    let (_other, mut other) = seeded(&generator(43, 1, &plain())).await;
    let names = "SELECT md5(string_agg(given_name || family_name, ',' ORDER BY id)) FROM person";
    assert_ne!(rows(&mut one, names).await, rows(&mut other, names).await);
    let schedule = "SELECT md5(string_agg(a::text, ',' ORDER BY id)) FROM assignment a";
    assert_eq!(rows(&mut one, schedule).await, rows(&mut other, schedule).await);
}

#[tokio::test]
async fn scale_repeats_the_programme_however_many_load_it() {
    let (generator, database) = (generator(7, 5, &planting("all")), database().await);
    assert!(generator.batches(Table::Assignment) > 3, "several batches for each connection");
    let request = Request { connections: 4, ..Request::default() };
    let seeded = seed::seed(&database.options, &generator, &request, &|_| {}).await.unwrap();
    assert_eq!(seeded.loaded.data_hash, generator.data_hash());
    assert_eq!(seeded.loaded.variant.as_deref(), Some("--plant all"));
    let s = &mut inside(&database.options).await;
    let each = "SELECT p.id, (SELECT count(*) FROM person WHERE programme_id = p.id), (SELECT count(*) FROM block WHERE programme_id = p.id), \
                (SELECT count(*) FROM rotation_template WHERE programme_id = p.id), (SELECT assignments FROM schedule_run WHERE programme_id = p.id) = \
                (SELECT count(*) FROM assignment a JOIN block b ON b.id = a.block_id WHERE b.programme_id = p.id) FROM programme p ORDER BY id";
    let wanted: Vec<String> = (1..=5).map(|n| format!("{n} 140 56 20 t")).collect();
    assert_eq!(rows(s, each).await, wanted);
    assert_eq!(count(s, "assignment a JOIN block b ON b.id = a.block_id WHERE b.programme_id > 1").await, 4 * 6496);
    let strangers = "assignment a JOIN block b ON b.id = a.block_id JOIN person p ON p.id = a.person_id \
                     JOIN rotation_template t ON t.id = a.rotation_template_id \
                     WHERE p.programme_id <> b.programme_id OR t.programme_id <> b.programme_id";
    assert_eq!(count(s, strangers).await, 0);
    assert_eq!(found(s).await, expected(s, None).await);
}

#[tokio::test]
async fn variants_are_as_large_as_asked_and_break_no_rule() {
    let (database, sizes) = (
        database().await,
        [
            // Days, residents, fill; faculty, assignments of residents.
            (14, 100, Fill::Full, 40, 2400),
            (28, 24, Fill::Full, 10, 24 * 48),
            (28, 51, Fill::Full, 20, 51 * 48),
            (84, 24, Fill::Full, 10, 24 * 144),
            (28, 200, Fill::Full, 80, 200 * 48),
            (7, 1, Fill::Full, 1, 12),
            (365, 5, Fill::Full, 2, 5 * 2 * 313 - 2),
            (28, 100, Fill::Sparse, 40, 480),
            (28, 100, Fill::Empty, 40, 0),
        ],
    );
    for (days, residents, fill, faculty, assignments) in sizes {
        let figures = Figures { days: Some(days), residents: Some(residents), fill: Some(fill), plant: None };
        seed_with(&database.options, &generator(42, 1, &figures), true).await.unwrap();
        let s = &mut inside(&database.options).await;
        assert_eq!(count(s, "block").await, i64::from(days) * 2, "{figures:?}");
        assert_eq!(count(s, "person WHERE kind = 'resident'").await, i64::from(residents), "{figures:?}");
        assert_eq!(count(s, "person WHERE kind = 'faculty'").await, faculty, "{figures:?}");
        assert_eq!(count(s, "assignment WHERE role = 'primary'").await, assignments, "{figures:?}");
        assert_eq!(s.integer("SELECT max(number) FROM block").await.unwrap(), i64::from(days - 1) / 28, "{figures:?}");
        assert_eq!(s.integer("SELECT assignments FROM schedule_run").await.unwrap(), count(s, "assignment").await, "{figures:?}");
        assert_eq!(found(s).await, nothing(), "{figures:?}");
    }
}

#[tokio::test]
async fn the_rules_find_what_is_planted_and_nothing_else() {
    // Longer than the cases take; and several of each, so that they share programmes and half days.
    for (scale, figures) in [(2, planting("all:3")), (1, Figures { days: Some(70), residents: Some(64), ..planting("all") })] {
        let (_database, mut session) = seeded(&generator(42, scale, &figures)).await;
        let s = &mut session;
        let (all, times) = (expected(s, None).await, if scale == 2 { 3 } else { 1 });
        assert_eq!(all.each_ref().map(BTreeSet::len), [19 * times, 17 * times, 20 * times], "{figures:?}");
        let rust = found(s).await;
        assert_eq!(rust, all, "{figures:?}");
        for (name, found) in RuleSet::NAMES.iter().zip(rust) {
            let sql = roster::sql_findings(s, name, &Scope::default()).await.unwrap();
            assert_eq!(sql.into_iter().map(unlabelled).collect::<BTreeSet<_>>(), found, "{name}");
        }
        let people = "SELECT count(person_id) - count(DISTINCT person_id), count(DISTINCT plant) FROM \
                      (SELECT DISTINCT plant, person_id FROM expected_violation) x";
        assert_eq!(rows(s, people).await, [format!("0 {}", 23 * times)], "on distinct people");
        let places =
            "SELECT count(block_id) - count(DISTINCT block_id) FROM (SELECT DISTINCT plant, block_id FROM expected_violation) x";
        assert_eq!(rows(s, places).await, ["0"], "in distinct half days");
        let numbers = "SELECT count(DISTINCT plant), min(plant), max(plant) FROM planted_row";
        assert_eq!(rows(s, numbers).await, [format!("{0} 1 {0}", CASES.len() * times)]);
        assert_eq!(count(s, "expected_violation WHERE NOT holds").await, 0);
    }
}

#[tokio::test]
async fn a_case_can_be_mended_and_planted_again() {
    let (_database, mut session) = seeded(&generator(42, 1, &planting("all"))).await;
    let s = &mut session;
    let before = contents(s).await;
    let plants = s.rows("SELECT DISTINCT plant, label FROM planted_row ORDER BY plant").await.unwrap();
    assert_eq!(plants.len(), CASES.len());
    for plant in plants {
        let (number, label) = (plant[0].clone().unwrap().parse().unwrap(), plant[1].clone().unwrap());
        toggle(s, number, true).await;
        assert_eq!(found(s).await, expected(s, Some(number)).await, "{label} is mended, and nothing else has changed");
        toggle(s, number, false).await;
    }
    assert_eq!(contents(s).await, before, "every row is as it was");
    assert_eq!(found(s).await, expected(s, None).await);
    // All at once: none is needed for another to be mended.
    for number in 1..=CASES.len() as i64 {
        toggle(s, number, true).await;
    }
    assert_eq!(found(s).await, nothing());
    for number in 1..=CASES.len() as i64 {
        toggle(s, number, false).await;
    }
    assert_eq!(contents(s).await, before);
}

#[test]
fn too_many_cases_are_refused_with_what_suffices() {
    let flag = |text: &str, flag: &str| -> u32 {
        let at = text.find(flag).unwrap_or_else(|| panic!("no {flag} in: {text}"));
        text[at + flag.len()..].trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    for (scale, residents, plant) in
        [(1, 24, "all"), (1, 100, "PL-1:61"), (2, 100, "all:8"), (1, 40, "PL-8:20,PL-11:30"), (1, 30, "PL-11:25")]
    {
        let figures = |residents| Figures { residents: Some(residents), ..planting(plant) };
        let text = refused(scale, &figures(residents));
        assert!(text.contains("too small"), "{text}");
        let more = flag(&text, "--scale");
        assert!(Generator::new(Dataset::Residency, 42, more.into(), &figures(residents)).is_ok(), "{text}");
        refused(u64::from(more) - 1, &figures(residents));
        let larger = flag(&text, "--residents");
        assert!(Generator::new(Dataset::Residency, 42, scale, &figures(larger)).is_ok(), "{text}");
        refused(scale, &figures(larger - 1));
    }
    // However many residents: there are four half days in which this can be.
    let text = refused(1, &planting("PL-7x:5"));
    assert!(text.contains("--scale 2") && !text.contains("--residents"), "{text}");
    // However many programmes: none has nine residents.
    let text = refused(1, &Figures { residents: Some(8), ..planting("PL-11") });
    assert!(!text.contains("--scale") && text.contains("--residents"), "{text}");
    assert!(refused(1, &Figures { days: Some(27), ..planting("PL-1") }).contains("--days 28"));
    assert!(refused(1, &Figures { fill: Some(Fill::Empty), ..planting("PL-1") }).contains("--fill"));
    assert!(refused(1, &planting("PL-13")).contains("did you mean `PL-1"));
}

#[tokio::test]
async fn other_data_is_refused_and_the_same_is_left_alone() {
    let database = database().await;
    let options = &database.options;
    let planted = generator(42, 1, &planting("PL-7,PL-1:2"));
    seed_with(options, &planted, false).await.unwrap();
    let s = &mut inside(options).await;
    s.execute("UPDATE assignment SET version = 1 WHERE id = 3").await.unwrap();
    let before = contents(s).await;
    let again = seed_with(options, &generator(42, 1, &planting("PL-1:2,PL-7:1")), false).await.unwrap();
    assert_eq!((again.took, again.loaded.variant.as_deref()), (None, Some("--plant PL-1:2,PL-7")));
    let refused = async |generator: &Arc<Generator>, words: [&str; 2]| {
        let text = seed_with(options, generator, false).await.expect_err("other data").to_string();
        assert!(text.contains("holds residency, scale 1, rng_seed 42, --plant PL-1:2,PL-7") && text.contains("--reset"), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    refused(&generator(42, 1, &plain()), ["asked for was residency", "--rng-seed 42, which"]).await;
    refused(&generator(42, 1, &planting("PL-1")), ["--plant PL-1,", "--plant PL-1, which"]).await;
    refused(&generator(42, 2, &planting("PL-7,PL-1:2")), ["scale 2", "--scale 2"]).await;
    let clinic = Arc::new(Generator::new(Dataset::Clinic, 42, 1, &plain()).unwrap());
    refused(&clinic, ["asked for was clinic", "--dataset clinic"]).await;
    assert_eq!(contents(s).await, before);
    // From one dataset to the other and back.
    seed_with(options, &clinic, true).await.unwrap();
    assert_eq!(count(s, "person").await, 0);
    assert_eq!(count(s, "authorisation").await, 55);
    let text = seed_with(options, &planted, false).await.expect_err("other data").to_string();
    assert!(text.contains("holds clinic, scale 1, rng_seed 42, generator"), "{text}");
    seed_with(options, &planted, true).await.unwrap();
    assert_eq!(count(s, "authorisation").await, 0);
    assert_eq!(count(s, "assignment WHERE version <> 0").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_seed_shows() {
    let database = database().await;
    let options = &database.options;
    let generator = generator(42, 8, &plain());
    let begun = tokio::sync::Notify::new();
    // Interrupted for real: everything is dropped when the rows are in and the first keys are made.
    let progress = |step| {
        if matches!(step, Progress::Constraints(20.., _)) {
            begun.notify_one();
        }
    };
    let request = Request { connections: 2, ..Request::default() };
    tokio::select! {
        _ = seed::seed(options, &generator, &request, &progress) => panic!("it was to be interrupted"),
        () = begun.notified() => {}
    }
    // Its lease ends with its connection, shortly after.
    let again = async |generator: &Arc<Generator>, reset| {
        for _ in 0..200 {
            match seed_with(options, generator, reset).await {
                Err(e) if e.to_string().contains("another dbstress") => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await
                }
                other => return other,
            }
        }
        Err(Error::inconclusive("the lease did not end"))
    };
    let clinic = Arc::new(Generator::new(Dataset::Clinic, 42, 1, &plain()).unwrap());
    for (other, dataset) in [(&generator, "residency"), (&clinic, "clinic")] {
        let text = again(other, false).await.expect_err("half done").to_string();
        assert!(text.contains("did not finish") && text.contains(&format!("--reset --dataset {dataset}")), "{text}");
    }
    let mut session = inside(options).await;
    let error = require_loaded(&mut session, options).await.expect_err("incomplete").to_string();
    assert!(error.contains("did not finish"), "{error}");
    again(&clinic, true).await.unwrap();
    assert_eq!(count(&mut session, "assignment").await, 0);
}

#[tokio::test]
async fn the_command_says_what_is_there_and_the_fixture_too() {
    let (database, place) = (database().await, Place::new());
    let seed = |flags: &str| run(&mut on(&place, &database.options, &format!("seed {flags}")));
    let (code, out, err) = seed("--dataset residency --plant all:2");
    assert_eq!(code, 0, "{err}");
    let wide: Vec<&str> =
        out.lines().filter(|l| l.chars().count() > 80 && !l.starts_with("database") && !l.starts_with("fixture")).collect();
    assert!(wide.is_empty(), "{wide:?}");
    for said in
        ["residency, scale 1", "28 days", "100 residents and 40 faculty", "planted        PL-1:2, PL-1n:2,", "PL-12:2", "rows/s"]
    {
        assert!(out.contains(said), "`{said}` is not in {out}");
    }
    let s = &mut inside(&database.options).await;
    let (meta, loaded) = require_loaded(s, &database.options).await.unwrap();
    let path = place.0.join("fixture.json");
    let fixture = Fixture::load(&path, &meta, &loaded).unwrap();
    assert_eq!((fixture.variant.as_deref(), fixture.as_of.as_str()), (Some("--plant all:2"), "2026-01-15T12:00:00Z"));
    let Rows::Residency { residents, faculty, blocks, templates, planted } = fixture.rows else {
        panic!("it is about the residency")
    };
    let written: Vec<String> = residents.iter().map(|r| format!("{} {} {}", r.id, r.programme_id, r.pgy)).collect();
    assert_eq!(rows(s, "SELECT id, programme_id, pgy FROM person WHERE kind = 'resident' ORDER BY id").await, written);
    let written: Vec<String> = faculty.iter().map(|f| format!("{} {}", f.id, f.programme_id)).collect();
    assert_eq!(rows(s, "SELECT id, programme_id FROM person WHERE kind = 'faculty' ORDER BY id").await, written);
    let written: Vec<String> = blocks.iter().map(|b| format!("{} {} {} {}", b.id, b.programme_id, b.date, b.half)).collect();
    assert_eq!(rows(s, "SELECT id, programme_id, date, half FROM block ORDER BY id").await, written);
    let written: Vec<String> = templates.iter().map(|t| format!("{} {}", t.id, t.programme_id)).collect();
    assert_eq!(rows(s, "SELECT id, programme_id FROM rotation_template ORDER BY id").await, written);
    let text = |id: Option<i64>| id.map_or("NULL".to_owned(), |id| id.to_string());
    let silent: Vec<&str> = CASES.iter().filter(|c| c.expected.is_empty()).map(|c| c.name).collect();
    let written: Vec<String> = planted
        .iter()
        .filter(|p| !silent.contains(&&*p.label))
        .map(|p| format!("{} {} {} {} {}", p.plant, p.label, text(p.person_id), text(p.block_id), text(p.rotation_template_id)))
        .collect();
    let expected = "SELECT plant, label, person_id, block_id, rotation_template_id FROM expected_violation GROUP BY 1, 2, 3, 4, 5 ORDER BY plant";
    assert_eq!(rows(s, expected).await, written);
    assert_eq!(planted.len(), 2 * CASES.len());
    assert!(silent.len() == 4 && planted.iter().all(|p| p.programme_id == 1));

    let (code, out, err) = seed("--dataset residency --plant all:2");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("already there") && err.contains("nothing was changed"), "{out}{err}");
    let (code, _, err) = seed("--dataset clinic --plant all");
    assert_eq!(code, 2);
    assert!(err.contains("the dataset clinic has no --plant") && err.contains("--dataset residency"), "{err}");
    let (code, _, err) = seed("--dataset residency --plant PL-0");
    assert_eq!(code, 2);
    assert!(err.contains("nine residents where there is room for eight"), "{err}");
    let mut moved = loaded.clone();
    moved.variant = None;
    assert!(Fixture::load(&path, &meta, &moved).expect_err("another variant").to_string().contains("--plant all:2"));
}
