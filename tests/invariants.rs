//! Do the invariants hold on clean data, does each of them fail when its rule is broken, and does `verify` say so? On a real PostgreSQL.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::TestDatabase;
use dbstress::invariant::self_test::{self, Outcome};
use dbstress::invariant::{self, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, When, parse, run_all};
use dbstress::pg::admin::{self, Lease, Session};
use dbstress::seed::constraints;
use dbstress::verdict::Verdict;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Two organisations, 40 authorisations of 50 units, every constraint: what a seed leaves, in small.
const CLINIC: &str = "
    INSERT INTO organisation SELECT n, 'Organisation ' || n, 'CLINIC', 'BASIC', 'ACTIVE' FROM generate_series(1, 2) n;
    INSERT INTO service_code SELECT n, CASE WHEN n < 3 THEN n END, '9715' || n, 'Treatment', 'TREATMENT', 'BCBA', 60 FROM generate_series(1, 3) n;
    INSERT INTO patient SELECT n, 1 + n % 2, 'Ada', 'Baker', '2015-05-05', 'MRN-' || n FROM generate_series(1, 10) n;
    INSERT INTO practitioner SELECT n, 1 + n % 2, 'Omar', 'Ito', 'BCBA', 'LIC-' || n FROM generate_series(1, 6) n;
    INSERT INTO authorisation (id, organisation_id, patient_id, service_code_id, number, total, start_date, end_date)
        SELECT n, 1 + n % 2, 1 + (n - 1) % 10, 3, 'A-' || n, 50, '2026-01-01', '2026-07-01' FROM generate_series(1, 40) n;
    UPDATE meta SET dataset = 'clinic', rng_seed = 42, scale = 1, generator_version = 1, data_hash = 'none', as_of = '2026-01-15 12:00+00',
        seeded_at = now();
    CREATE UNIQUE INDEX service_code_unique ON service_code (coalesce(organisation_id, 0), code);
    ALTER TABLE patient ADD CONSTRAINT patient_tenant UNIQUE (organisation_id, id);
    ALTER TABLE patient ADD CONSTRAINT patient_record_unique UNIQUE (organisation_id, medical_record_number);
    ALTER TABLE practitioner ADD CONSTRAINT practitioner_tenant UNIQUE (organisation_id, id);
    ALTER TABLE practitioner ADD CONSTRAINT practitioner_licence_unique UNIQUE (organisation_id, licence_number);
    ALTER TABLE authorisation ADD CONSTRAINT authorisation_number_unique UNIQUE (number);
    CREATE INDEX authorisation_by_patient ON authorisation (organisation_id, patient_id);
    CREATE INDEX authorisation_by_run ON authorisation (run_id) WHERE run_id IS NOT NULL;
    ALTER TABLE service_code ADD CONSTRAINT service_code_organisation FOREIGN KEY (organisation_id) REFERENCES organisation (id);
    ALTER TABLE patient ADD CONSTRAINT patient_organisation FOREIGN KEY (organisation_id) REFERENCES organisation (id);
    ALTER TABLE practitioner ADD CONSTRAINT practitioner_organisation FOREIGN KEY (organisation_id) REFERENCES organisation (id);
    ALTER TABLE authorisation ADD CONSTRAINT authorisation_organisation FOREIGN KEY (organisation_id) REFERENCES organisation (id);
    ALTER TABLE authorisation ADD CONSTRAINT authorisation_patient
        FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id);
    ALTER TABLE authorisation ADD CONSTRAINT authorisation_service_code FOREIGN KEY (service_code_id) REFERENCES service_code (id)";

/// A database with the clinic in it.
struct Clinic {
    database: TestDatabase,
    session: Session,
    operations: u32,
}

impl Clinic {
    async fn new() -> Self {
        let database = common::database().await;
        let mut session = database.session().await;
        admin::claim(&mut session, &database.options, None).await.unwrap();
        let mut clinic = Self { database, session, operations: 0 };
        clinic.run("SET search_path TO dbstress").await;
        clinic.run(CLINIC).await;
        clinic
    }

    /// What `dbstress seed` makes.
    async fn seeded() -> Self {
        let database = common::seeded().await;
        let mut clinic = Self { session: database.session().await, database, operations: 0 };
        clinic.run("SET search_path TO dbstress").await;
        clinic
    }

    /// The same, after a recorded run that claimed everything, with a few operations of every kind.
    async fn used() -> Self {
        let mut clinic = Self::new().await;
        let all: Vec<String> = invariant::built_in().unwrap().into_iter().map(|i| i.name).collect();
        clinic.record("atomic", &all.join(","), 42, "pass").await;
        for id in 1..=4 {
            clinic.book(id, "reserve", 20).await;
            clinic.book(id, "reserve", 10).await;
            clinic.book(id, "release", 5).await;
            clinic.book(id, "consume", 10).await;
        }
        clinic.book(5, "reserve", 50).await;
        clinic.book(5, "consume", 50).await;
        clinic.run("UPDATE authorisation SET status = 'EXHAUSTED' WHERE id = 5").await;
        let fence = "INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units) \
                     VALUES ((1::bigint << 47) + 999, 1, 0, 1, 0, 'atomic', 'fence', 1, 0, 0, 0)";
        clinic.run(fence).await;
        clinic.book(6, "reserve", 10).await;
        let keyed = "UPDATE unit_ledger SET key = 'k' WHERE authorisation_id = 6;
            INSERT INTO idempotency_key
                SELECT l.organisation_id, l.kind, l.key, 'body', 'completed', ARRAY[l.version, l.total, l.used, l.scheduled], l.op_id, l.attempt,
                l.authorisation_id, l.run_id, m.as_of, m.as_of + interval '1 day' FROM unit_ledger l, meta m WHERE l.key = 'k'";
        clinic.run(keyed).await;
        clinic
    }

    async fn run(&mut self, sql: &str) {
        if let Err(error) = self.session.execute(sql).await {
            panic!("{error}: {sql}");
        }
    }

    async fn record(&mut self, strategy: &str, claims: &str, rng_seed: i64, verdict: &str) {
        self.run(&format!(
            "INSERT INTO run (record, command, workload, strategy, claims, rng_seed, ended, verdict) \
             VALUES ('r', 'contention', 'booking', '{strategy}', '{{{claims}}}', {rng_seed}, now(), '{verdict}')"
        ))
        .await;
    }

    async fn book(&mut self, id: i64, kind: &str, units: i64) {
        self.operations += 1;
        let sql = booking(1, 7, self.operations, id, kind, units);
        self.run(&sql).await;
    }

    /// Writes a ledger row as it is told (version, used, scheduled as the operation left them), as if by operation 1.9.`n`; the authorisation stays as it is.
    async fn ledger(&mut self, n: u32, id: i64, kind: &str, units: i64, [version, used, scheduled]: [i64; 3]) {
        self.run(&format!(
            "INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units, \
             version, total, used, scheduled, decided_at) \
             SELECT (1::bigint << 47) + (9::bigint << 32) + {n}, 1, 1, 1, 9, 'naive', '{kind}', {id}, organisation_id, \
             (SELECT min(p.id) FROM practitioner p WHERE p.organisation_id = a.organisation_id), {units}, {version}, 50, {used}, {scheduled}, \
             '2026-01-15 12:00+00' FROM authorisation a WHERE id = {id}"
        ))
        .await;
    }

    async fn set(&mut self, id: i64, used: i64, scheduled: i64, version: i64) {
        self.run(&format!("UPDATE authorisation SET used = {used}, scheduled = {scheduled}, version = {version} WHERE id = {id}"))
            .await;
    }

    async fn check_all(&mut self) -> Vec<Checked> {
        let invariants = invariant::built_in().unwrap();
        run_all(&mut self.session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, TIMEOUT).await
    }

    /// The names of the rules that are broken now.
    async fn broken(&mut self) -> Vec<String> {
        self.check_all()
            .await
            .into_iter()
            .filter_map(|c| match c.finding {
                Finding::Violated { .. } => Some(c.name),
                Finding::Errored(why) => panic!("{}: {why}", c.name),
                _ => None,
            })
            .collect()
    }

    /// The constraints and indexes that the database has on tables of the dataset.
    async fn constraints(&mut self) -> BTreeSet<String> {
        let there = "SELECT conname FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid WHERE r.relnamespace = 'dbstress'::regnamespace \
                     AND r.relname NOT IN ('meta', 'run', '_migrations') AND c.contype IN ('c', 'f', 'p', 'u') \
                     UNION SELECT indexname FROM pg_indexes WHERE schemaname = 'dbstress' AND tablename NOT IN ('meta', 'run', '_migrations')";
        self.session.rows(there).await.unwrap().into_iter().filter_map(|row| row[0].clone()).collect()
    }

    async fn check(&mut self, invariant: &Invariant) -> Finding {
        let one = std::slice::from_ref(invariant);
        run_all(&mut self.session, one, &DEFAULT_SEARCH_PATH, When::Quiesced, TIMEOUT).await.remove(0).finding
    }

    /// `dbstress verify ARGUMENTS`: exit code, stdout, stderr.
    fn verify(&self, arguments: &[&str]) -> (i32, String, String) {
        common::run(common::dbstress().arg("verify").args(arguments).env("DATABASE_URL", self.database.url()))
    }
}

/// One correct operation, as a strategy performs it: the counter and its ledger row in one statement.
fn booking(run: i64, vu: i64, n: u32, id: i64, kind: &str, units: i64) -> String {
    let (used, scheduled) = match kind {
        "reserve" => (0, units),
        "release" => (0, -units),
        "consume" => (units, -units),
        other => panic!("{other}"),
    };
    format!(
        "WITH changed AS (UPDATE authorisation SET used = used + {used}, scheduled = scheduled + {scheduled}, version = version + 1 WHERE id = {id} \
         RETURNING *) INSERT INTO unit_ledger (op_id, attempt, line, run_id, vu, strategy, kind, authorisation_id, organisation_id, actor_id, units, \
         version, total, used, scheduled, decided_at) \
         SELECT ({run}::bigint << 47) + ({vu}::bigint << 32) + {n}, 1, 1, {run}, {vu}, 'atomic', '{kind}', id, organisation_id, \
         (SELECT min(p.id) FROM practitioner p WHERE p.organisation_id = changed.organisation_id), {units}, version, total, used, scheduled, \
         '2026-01-15 12:00+00' FROM changed"
    )
}

/// The names in the list of INV-E1.
fn expected_constraints() -> BTreeSet<String> {
    let query = built_in("E1").query;
    let listed = query.lines().map(|l| l.trim_start().trim_start_matches("VALUES").trim_start()).filter(|l| l.starts_with("('"));
    listed.map(|l| l.split('\'').nth(3).unwrap().to_owned()).collect()
}

/// A directory with one user's invariant in it.
fn user_file(label: &str, name: &str, text: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("dbstress-invariants-{}-{label}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), text).unwrap();
    directory
}

const MINE: &str = "-- when: quiesced\n-- examines: SELECT count(*) FROM patient\n-- breaks: UPDATE patient SET given_name = ''\n--\n\
                    -- Everybody has a name.\nSELECT id AS subject, 'a name' AS expected, given_name AS actual FROM patient WHERE given_name = ''\n";

fn mine(name: &str, from: &str, to: &str) -> Invariant {
    assert!(MINE.contains(from));
    parse::parse(name, &MINE.replace(from, to), Some(Path::new("mine.sql"))).unwrap()
}

fn built_in(name: &str) -> Invariant {
    invariant::find(&invariant::built_in().unwrap(), name).unwrap().clone()
}

#[tokio::test]
async fn every_check_holds_on_clean_data() {
    let mut clinic = Clinic::used().await;
    for checked in clinic.check_all().await {
        assert!(matches!(checked.finding, Finding::Holds { examined } if examined > 0), "{}: {:?}", checked.name, checked.finding);
    }
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("PASS") && out.contains("INV-U4"), "{out}");
    let (code, out, _) = clinic.verify(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["verdict"], &json["schema_version"]), (0, &"pass".into(), &1.into()));
    assert_eq!(json["claimed"].as_array().unwrap().len(), json["checks"].as_array().unwrap().len());
}

#[tokio::test]
async fn a_bare_seed_passes_on_its_structure_alone() {
    let mut clinic = Clinic::new().await;
    let vacuous: Vec<String> =
        clinic.check_all().await.into_iter().filter(|c| c.finding == Finding::Vacuous).map(|c| c.name).collect();
    let of_use = ["counters-match-ledger", "ledger-replays", "applied-once", "organisation-of-actor"];
    let of_keys =
        invariant::built_in().unwrap().into_iter().map(|i| i.name).filter(|name| name.contains("key") || name == "no-stale-claim");
    assert_eq!(vacuous, of_use.map(str::to_owned).into_iter().chain(of_keys).collect::<Vec<_>>());
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("nothing to examine"), "{out}");
    // Claimed by a run, the same emptiness decides.
    clinic.record("atomic", "INV-U1,ledger-replays", 42, "pass").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("INCONCLUSIVE") && out.contains("ledger-replays (INV-U4) is claimed and examined nothing"), "{out}");
    clinic.run("UPDATE run SET claims = '{units-within-total,written-by-someone-else}'").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("written-by-someone-else is claimed and was not checked"), "{out}");
    // An empty base table shows nothing.
    clinic.run("DELETE FROM run; DELETE FROM authorisation").await;
    assert_eq!(clinic.verify(&[]).0, 3);
}

#[tokio::test]
async fn a_real_seed_is_clean_and_has_what_the_checks_expect() {
    let mut clinic = Clinic::seeded().await;
    assert_eq!(clinic.broken().await, [""; 0]);
    assert_eq!(clinic.verify(&[]).0, 0);
    let tried = self_test::try_all(&mut clinic.session, &invariant::built_in().unwrap(), TIMEOUT).await;
    assert_eq!(self_test::judge(&tried).0, Verdict::Pass, "{tried:?}");
    let of_the_seed: BTreeSet<String> = constraints::CLINIC.iter().map(|c| c.name.to_owned()).collect();
    let of_the_migration =
        ["unit_ledger_pkey", "idempotency_key_pkey", "idempotency_key_state", "authorisation_status", "authorisation_guarded"]
            .map(str::to_owned);
    assert_eq!(expected_constraints(), of_the_seed.into_iter().chain(of_the_migration).collect());
    assert_eq!(clinic.constraints().await, expected_constraints());
}

#[tokio::test]
async fn every_check_can_fail_and_the_self_test_leaves_nothing_behind() {
    for mut clinic in [Clinic::new().await, Clinic::used().await] {
        let content = "SELECT md5(string_agg(x, ',' ORDER BY x)) FROM (
            SELECT a::text AS x FROM authorisation a UNION ALL SELECT l::text FROM unit_ledger l UNION ALL SELECT p::text FROM patient p
            UNION ALL SELECT r::text FROM run r UNION ALL SELECT m::text FROM meta m UNION ALL SELECT s::text FROM service_code s
            UNION ALL SELECT p::text FROM practitioner p UNION ALL SELECT o::text FROM organisation o
            UNION ALL SELECT pg_get_constraintdef(oid) || conname FROM pg_constraint WHERE connamespace = 'dbstress'::regnamespace
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'dbstress'
            UNION ALL SELECT attname || attnotnull FROM pg_attribute WHERE attrelid = 'authorisation'::regclass) AS all_of_it (x)";
        let before = clinic.session.text(content).await.unwrap();
        let invariants = invariant::built_in().unwrap();
        let tried = self_test::try_all(&mut clinic.session, &invariants, TIMEOUT).await;
        for t in &tried {
            assert!(matches!(t.outcome, Outcome::Fired { .. }), "{}: {:?}", t.name, t.outcome);
        }
        assert_eq!(tried.len(), invariants.len());
        let orphans = tried.iter().find(|t| t.name == "no-orphans").unwrap();
        assert!(matches!(orphans.outcome, Outcome::Fired { constraints_dropped: true, .. }), "{orphans:?}");
        assert_eq!(self_test::judge(&tried).0, Verdict::Pass);
        let (code, out, err) = clinic.verify(&["--self-test"]);
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(out.matches("fired: ").count(), invariants.len(), "{out}");
        assert_eq!(clinic.session.text(content).await.unwrap(), before, "the self-test left something behind");
    }
}

#[tokio::test]
async fn the_self_test_works_on_guarded_and_on_broken_data_and_finds_a_check_that_cannot_fail() {
    let mut clinic = Clinic::used().await;
    clinic.run("UPDATE authorisation SET guarded = true").await;
    let tried = self_test::try_all(&mut clinic.session, &[built_in("U1"), built_in("U2")], TIMEOUT).await;
    for t in &tried {
        assert!(matches!(t.outcome, Outcome::Fired { constraints_dropped: true, .. }), "{t:?}");
    }
    // Everything is already broken on the lowest ids; the checks must still be seen to fire.
    clinic.run("UPDATE authorisation SET guarded = false; UPDATE authorisation SET scheduled = 60, version = 9 WHERE id < 4").await;
    let tried = self_test::try_all(&mut clinic.session, &invariant::built_in().unwrap(), TIMEOUT).await;
    assert_eq!(self_test::judge(&tried).0, Verdict::Pass, "{tried:?}");
    let deaf = user_file("deaf", "deaf.sql", &MINE.replace("SET given_name = ''", "SET given_name = 'x'"));
    let (code, out, _) = clinic.verify(&["--self-test", "--invariants", deaf.to_str().unwrap(), "--invariant", "deaf"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("did not fire") && out.contains("deaf did not fire when its rule was broken"), "{out}");
    // A statement that could end the transaction is refused before it is sent, however it is dressed up.
    let escape = parse::parse("mine", &MINE.replace("UPDATE patient", "/* x */ COMMIT; UPDATE patient"), None);
    assert!(escape.unwrap_err().to_string().contains("may not contain COMMIT"));
}

#[tokio::test]
async fn the_self_test_needs_the_lease() {
    let clinic = Clinic::new().await;
    let mut lease = Lease::take(&clinic.database.options, "contention").await.unwrap();
    let (code, _, err) = clinic.verify(&["--self-test"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("another dbstress is at work") && err.contains("contention"), "{err}");
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 3, "a verify beside a run is not at rest: {out}");
    assert!(out.contains("not at rest"), "{out}");
    lease.release().await;
    assert_eq!(clinic.verify(&[]).0, 0);
}

#[tokio::test]
async fn a_lost_update_is_found_by_the_sums_and_by_the_replay_with_its_operation() {
    let mut clinic = Clinic::used().await;
    clinic.ledger(1, 10, "reserve", 5, [1, 0, 5]).await;
    clinic.ledger(2, 10, "reserve", 7, [2, 0, 7]).await;
    clinic.ledger(3, 10, "reserve", 5, [3, 0, 12]).await;
    clinic.set(10, 0, 12, 3).await;
    assert_eq!(clinic.broken().await, ["counters-match-ledger", "ledger-replays"]);
    let Finding::Violated { total, rows, .. } = clinic.check(&built_in("U4")).await else { panic!() };
    assert_eq!((total, rows[0].subject.as_deref()), (1, Some("10")));
    assert_eq!(rows[0].expected.as_deref(), Some("version 2: used 0, scheduled 12"));
    assert_eq!(rows[0].actual.as_deref(), Some("version 2: used 0, scheduled 7, by op 1.9.2 attempt 1 (reserve 7) after op 1.9.1"));
    let (code, out, _) = clinic.verify(&["--no-color"]);
    assert_eq!(code, 1, "{out}");
    for what in ["VIOLATED", "1.9.1", "1.9.2", "<- lost update", "strategy naive", "again:    dbstress verify"] {
        assert!(out.contains(what), "`{what}` is missing:\n{out}");
    }
}

#[tokio::test]
async fn overbooking_that_a_release_healed_is_found_by_the_replay_only() {
    let mut clinic = Clinic::used().await;
    clinic.book(11, "reserve", 45).await;
    clinic.book(11, "reserve", 10).await;
    clinic.book(11, "release", 10).await;
    assert_eq!(clinic.broken().await, ["ledger-replays"]);
    let Finding::Violated { total, rows, .. } = clinic.check(&built_in("ledger-replays")).await else { panic!() };
    assert_eq!((total, rows[0].expected.as_deref()), (1, Some("version 2: both >= 0, together at most 50")));
}

#[tokio::test]
async fn writes_outside_the_ledger_are_found() {
    let mut clinic = Clinic::used().await;
    // A gap, a duplicate, a last version that is not the row's, an unknown kind, a ledger of nobody.
    clinic.ledger(1, 10, "reserve", 5, [1, 0, 5]).await;
    clinic.ledger(2, 10, "reserve", 5, [3, 0, 10]).await;
    clinic.set(10, 0, 10, 3).await;
    clinic.ledger(3, 11, "reserve", 5, [1, 0, 5]).await;
    clinic.ledger(4, 11, "reserve", 5, [1, 0, 10]).await;
    clinic.set(11, 0, 10, 1).await;
    clinic.ledger(5, 12, "reserve", 5, [1, 0, 5]).await;
    clinic.set(12, 0, 5, 2).await;
    clinic.ledger(6, 13, "adjust", 5, [1, 0, 0]).await;
    clinic.set(13, 0, 0, 1).await;
    clinic.set(14, 0, 0, 1).await;
    let Finding::Violated { rows, .. } = clinic.check(&built_in("U4")).await else { panic!() };
    let subjects: BTreeSet<&str> = rows.iter().filter_map(|r| r.subject.as_deref()).collect();
    assert_eq!(subjects, BTreeSet::from(["10", "11", "12", "13", "14"]), "{rows:#?}");
    assert!(matches!(clinic.check(&built_in("U3")).await, Finding::Holds { .. }), "the sums alone look right");
    clinic.run("UPDATE unit_ledger SET authorisation_id = 9999 WHERE authorisation_id = 12").await;
    let Finding::Violated { rows, .. } = clinic.check(&built_in("U3")).await else { panic!() };
    assert!(
        rows.iter().any(|r| r.subject.as_deref() == Some("9999") && r.actual.as_deref() == Some("no such authorisation")),
        "{rows:?}"
    );
}

#[tokio::test]
async fn an_operation_applied_twice_is_found_and_a_fence_is_not_one() {
    let mut clinic = Clinic::used().await;
    clinic.book(12, "reserve", 5).await;
    let retry = clinic.operations;
    clinic
        .run(&booking(1, 7, retry, 12, "reserve", 5).replace(&format!("+ {retry}, 1, 1, 1"), &format!("+ {retry}, 2, 1, 1")))
        .await;
    assert_eq!(clinic.broken().await, ["applied-once"], "everything else is consistent: that is what makes it treacherous");
    let (code, out, _) = clinic.verify(&["--invariant", "U12"]);
    assert_eq!(code, 1);
    assert!(out.contains(&format!("op 1.7.{retry} applied once")) && out.contains("applied by attempts 1, 2"), "{out}");
    clinic.run("UPDATE unit_ledger SET kind = 'fence' WHERE attempt = 2").await;
    assert!(matches!(clinic.check(&built_in("U12")).await, Finding::Holds { .. }));
}

#[tokio::test]
async fn statuses_are_judged_by_the_clock_of_the_dataset() {
    let mut clinic = Clinic::used().await;
    let broken = async |clinic: &mut Clinic, sql: &str| {
        clinic.run("BEGIN").await;
        clinic.run(sql).await;
        let sql = format!("SELECT subject, actual FROM ({}) AS x", built_in("U7").query);
        let rows = clinic.session.rows(&sql).await.unwrap();
        clinic.run("ROLLBACK").await;
        rows.into_iter().map(|r| format!("{}: {}", r[0].clone().unwrap(), r[1].clone().unwrap())).collect::<Vec<_>>()
    };
    let c = &mut clinic;
    assert_eq!(broken(c, "SELECT 1").await, [""; 0]);
    assert_eq!(broken(c, "UPDATE authorisation SET status = 'ACTIVE' WHERE id = 5").await, ["5: ACTIVE with 50 used, 0 scheduled"]);
    // The latch of the original: exhausted on the first consume of a fully booked authorisation, with units still promised.
    assert_eq!(
        broken(c, "UPDATE authorisation SET status = 'EXHAUSTED' WHERE id = 1").await,
        ["1: EXHAUSTED with 10 used, 15 scheduled"]
    );
    assert_eq!(broken(c, "UPDATE meta SET as_of = '2026-07-01 23:59+00'").await, [""; 0], "the last day still counts");
    assert_eq!(broken(c, "UPDATE meta SET as_of = '2026-07-02 00:00+00'").await.len(), 39, "all but the exhausted one");
    let late = broken(c, "UPDATE unit_ledger SET decided_at = '2026-07-02 00:00+00' WHERE authorisation_id = 1").await;
    assert_eq!(late.len(), 3, "two reserves and a consume; a release is allowed at any time: {late:?}");
    assert_eq!(broken(c, "UPDATE authorisation SET status = 'CANCELLED' WHERE id = 2").await.len(), 3);
    assert_eq!(broken(c, "UPDATE authorisation SET status = 'CANCELLED' WHERE id = 40").await, [""; 0]);
}

#[tokio::test]
async fn a_row_of_another_tenant_is_found_also_when_it_has_none() {
    let mut clinic = Clinic::used().await;
    clinic.run("ALTER TABLE authorisation ALTER COLUMN organisation_id DROP NOT NULL").await;
    clinic.run("UPDATE authorisation SET organisation_id = NULL WHERE id = 20").await;
    assert_eq!(clinic.broken().await, ["organisation-of-parent"]);
    clinic.run("UPDATE authorisation SET organisation_id = 1 + 20 % 2 WHERE id = 20").await;
    assert_eq!(clinic.broken().await, [""; 0]);
    // A service code of the other organisation: no constraint forbids it.
    clinic.run("UPDATE authorisation SET service_code_id = 3 - organisation_id WHERE id = 21").await;
    assert_eq!(clinic.broken().await, ["organisation-of-parent"]);
    clinic.run("UPDATE authorisation SET service_code_id = organisation_id WHERE id = 21").await;
    // An actor of the other organisation, acting for its own: the wrong-tenant attack that should have been refused.
    clinic.run("UPDATE unit_ledger SET organisation_id = 3 - organisation_id, actor_id = actor_id % 2 + 1 WHERE authorisation_id = 1 AND version = 2").await;
    assert_eq!(clinic.broken().await, ["organisation-of-actor"]);
    // An actor of the other organisation who claims to act for this one.
    clinic.run("UPDATE unit_ledger SET organisation_id = 3 - organisation_id WHERE authorisation_id = 1 AND version = 2").await;
    assert_eq!(clinic.broken().await, ["organisation-of-actor"]);
}

#[tokio::test]
async fn missing_unvalidated_and_disabled_constraints_are_found() {
    let mut clinic = Clinic::used().await;
    let faults = async |clinic: &mut Clinic, sql: &str| {
        clinic.run("BEGIN").await;
        clinic.run(sql).await;
        let rows = clinic.session.rows(&built_in("E1").query).await.unwrap();
        clinic.run("ROLLBACK").await;
        rows.into_iter().map(|r| format!("{}: {}", r[0].clone().unwrap(), r[2].clone().unwrap())).collect::<Vec<_>>()
    };
    let c = &mut clinic;
    assert_eq!(faults(c, "SELECT 1").await, [""; 0]);
    let dropped = "ALTER TABLE authorisation DROP CONSTRAINT authorisation_patient";
    assert_eq!(faults(c, dropped).await, ["authorisation.authorisation_patient: missing"]);
    let again = "ADD CONSTRAINT authorisation_patient FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id) NOT VALID";
    assert_eq!(
        faults(c, &format!("{dropped}; ALTER TABLE authorisation {again}")).await,
        ["authorisation.authorisation_patient: not validated"]
    );
    assert_eq!(faults(c, "ALTER TABLE authorisation DISABLE TRIGGER ALL").await.len(), 3, "its three foreign keys");
    assert_eq!(faults(c, "DROP INDEX authorisation_by_run").await, ["authorisation.authorisation_by_run: missing"]);
    let plain = "DROP INDEX service_code_unique; CREATE INDEX service_code_unique ON service_code (code)";
    assert_eq!(faults(c, plain).await, ["service_code.service_code_unique: not unique"]);
    assert_eq!(
        faults(c, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'authorisation_pkey'::regclass").await,
        ["authorisation.authorisation_pkey: invalid"]
    );
    assert_eq!(faults(c, "ALTER TABLE meta RENAME TO atem").await.len(), 24, "with nothing to look at, everything is missing");
    assert_eq!(clinic.constraints().await, expected_constraints());
    clinic.run(dropped).await;
    assert_eq!(clinic.broken().await, ["constraints-in-place"]);
}

#[tokio::test]
async fn an_orphan_is_found_on_every_edge() {
    let mut clinic = Clinic::used().await;
    let edges = clinic
        .session
        .rows(
            "SELECT c.conrelid::regclass::text, c.conname, a.attname FROM pg_constraint c \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[cardinality(c.conkey)] \
             WHERE c.contype = 'f' AND c.connamespace = 'dbstress'::regnamespace",
        )
        .await
        .unwrap();
    assert_eq!(edges.len(), 6);
    for edge in edges {
        let [table, constraint, column] = [0, 1, 2].map(|i| edge[i].clone().unwrap());
        clinic.run("BEGIN").await;
        // The triggers are off, so the foreign keys exist and are validated, and still do not guard anything.
        clinic.run("SET LOCAL session_replication_role = replica").await;
        clinic.run(&format!("UPDATE {table} SET {column} = -1 WHERE id = (SELECT max(id) FROM {table})")).await;
        let rows = clinic.session.rows(&built_in("E3").query).await.unwrap();
        assert_eq!(rows.len(), 1, "{constraint}: {rows:?}");
        clinic.run("ROLLBACK").await;
    }
    clinic
        .run("SET session_replication_role = replica; DELETE FROM patient WHERE id = 10; SET session_replication_role = origin")
        .await;
    let Finding::Violated { rows, total, .. } = clinic.check(&built_in("E3")).await else { panic!() };
    assert_eq!((total, rows[0].expected.as_deref()), (4, Some("patient 10 exists")));
}

#[tokio::test]
async fn all_breaches_are_counted_and_20_are_kept() {
    let mut clinic = Clinic::used().await;
    clinic.run("UPDATE authorisation SET scheduled = 51 WHERE id BETWEEN 11 AND 35").await;
    let Finding::Violated { examined, total, rows } = clinic.check(&built_in("U1")).await else { panic!() };
    assert_eq!((examined, total, rows.len()), (40, 25, 20));
    let (code, out, _) = clinic.verify(&["--invariant", "units-within-total"]);
    assert_eq!(code, 1);
    assert!(out.contains("first 20 of 25 rows") && out.contains("and 17 more subjects"), "{out}");
    let (_, out, _) = clinic.verify(&["--invariant", "U1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["checks"][0]["detail"]["total"], 25);
    assert_eq!(json["checks"][0]["detail"]["rows"].as_array().unwrap().len(), 20);
    clinic.run("DELETE FROM unit_ledger; UPDATE run SET claims = '{U3}'").await;
    let rows = "-- when: always\n-- examines: SELECT 0\n-- breaks: SELECT 1\n--\n-- T.\nSELECT 1 AS subject, 2 AS expected, NULL AS actual";
    let found = clinic.check(&parse::parse("mine", rows, None).unwrap()).await;
    assert!(matches!(found, Finding::Violated { examined: 0, total: 1, .. }), "rows count, whatever `examines` says: {found:?}");
}

#[tokio::test]
async fn a_check_that_cannot_be_made_is_errored_and_the_others_are_still_made() {
    let mut clinic = Clinic::used().await;
    let cases = [
        (mine("bad-syntax", "SELECT id AS", "SELEKT id AS"), "syntax error"),
        (mine("bad-table", "FROM patient WHERE", "FROM patients WHERE"), "does not exist"),
        (mine("bad-columns", "AS actual", "AS found"), "columns must be subject, expected, actual"),
        (mine("bad-examines", "SELECT count(*) FROM patient", "SELECT 'many'"), "must give one integer"),
        (
            mine(
                "bad-escape",
                "SELECT id AS subject, 'a name' AS expected, given_name AS actual FROM patient WHERE given_name = ''",
                "SELECT 1) x; COMMIT; SELECT * FROM (SELECT 1",
            ),
            "multiple commands",
        ),
        (mine("bad-write", "SELECT count(*) FROM patient\n", "SELECT nextval('run_id_seq')\n"), "read-only transaction"),
    ];
    let mut invariants: Vec<Invariant> = cases.iter().map(|(i, _)| i.clone()).collect();
    invariants.push(built_in("U1"));
    let checked = run_all(&mut clinic.session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, TIMEOUT).await;
    for (check, (_, said)) in checked.iter().zip(&cases) {
        assert!(matches!(&check.finding, Finding::Errored(why) if why.contains(said)), "{}: {:?}", check.name, check.finding);
    }
    assert!(matches!(checked[cases.len()].finding, Finding::Holds { .. }));
    let slow = mine("slow", "WHERE given_name = ''", "WHERE pg_sleep(60) IS NULL");
    let checked =
        run_all(&mut clinic.session, &[slow, built_in("U1")], &DEFAULT_SEARCH_PATH, When::Quiesced, Duration::from_millis(200))
            .await;
    assert_eq!(checked[0].finding, Finding::Errored("it did not finish within 200ms".into()));
    assert!(matches!(checked[1].finding, Finding::Holds { .. }));
    let live = run_all(&mut clinic.session, &invariant::built_in().unwrap(), &DEFAULT_SEARCH_PATH, When::Always, TIMEOUT).await;
    assert_eq!(live.len(), 5, "under load only what holds in any snapshot");
    // A policy that hides rows from a role must not read as a pass.
    let role = format!("blind_in_{}", clinic.database.options.database);
    clinic.run(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA dbstress TO {role}; GRANT SELECT ON patient TO {role}")).await;
    clinic.run(&format!("ALTER TABLE patient ENABLE ROW LEVEL SECURITY; SET ROLE {role}")).await;
    let hidden = clinic.check(&mine("hidden", "SELECT count(*) FROM patient\n", "SELECT 5\n")).await;
    clinic
        .run(&format!("RESET ROLE; ALTER TABLE patient DISABLE ROW LEVEL SECURITY; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    assert!(matches!(&hidden, Finding::Errored(why) if why.contains("row-level security")), "{hidden:?}");

    let directory = user_file("syntax", "mine.sql", &MINE.replace("SELECT id AS", "SELEKT id AS"));
    let (code, out, _) = clinic.verify(&["--invariants", directory.to_str().unwrap()]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("could not be checked") && out.contains("SQLSTATE 42601"), "{out}");
    let good = user_file("good", "everybody-has-a-name.sql", MINE);
    let (code, out, _) = clinic.verify(&["--invariants", good.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("everybody-has-a-name"), "{out}");
    clinic.run("UPDATE patient SET given_name = '' WHERE id = 3").await;
    assert_eq!(clinic.verify(&["--invariants", good.to_str().unwrap()]).0, 1);
}

#[tokio::test]
async fn what_the_user_mistyped_is_refused() {
    let clinic = Clinic::new().await;
    let without = user_file("without", "mine.sql", &MINE.replace("-- examines: SELECT count(*) FROM patient\n", ""));
    let (code, _, err) = clinic.verify(&["--invariants", without.to_str().unwrap()]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("mine.sql:3: there is no `-- examines:`") && err.contains("cure:"), "{err}");
    let (code, _, err) = clinic.verify(&["--invariant", "units-within-totl"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `units-within-total`"), "{err}");
    assert_eq!(clinic.verify(&["--invariants", "/nonexistent"]).0, 2);
    // Without a database.
    let offline = |arguments: &[&str]| {
        let (code, out, _) = common::run(
            common::dbstress().arg("verify").args(arguments).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
        );
        (code, out)
    };
    let (code, out) = offline(&["--list"]);
    assert_eq!(code, 0);
    assert!(out.contains("units-within-total") && out.contains("INV-E3") && out.contains("quiesced"), "{out}");
    let (code, out) = offline(&["--show", "u4"]);
    assert_eq!((code, out.trim_end()), (0, built_in("U4").source.as_str()));
    assert_eq!(offline(&[]).0, 3, "nobody answers");
}

#[tokio::test]
async fn stale_evidence_is_inconclusive_and_earlier_runs_are_mentioned() {
    let mut clinic = Clinic::used().await;
    clinic.record("naive", "units-within-total", 42, "violated").await;
    clinic.run("INSERT INTO run (record, command, workload, strategy, claims, rng_seed) VALUES ('r', 'contention', 'booking', 'atomic', '{}', 42)").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("run 2 (contention, naive) is recorded as violated"), "{out}");
    assert!(out.contains("run 3 (contention, atomic) never ended"), "{out}");
    clinic.run("UPDATE run SET rng_seed = 7 WHERE id = 1").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("ledger rows belong to run 1, which ran on another seed"), "{out}");
    clinic.run("UPDATE run SET rng_seed = 42; UPDATE unit_ledger SET run_id = 77 WHERE authorisation_id = 1").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("ledger rows belong to run 77, which is not recorded here"), "{out}");
    // A breach still beats it, and is found also when nothing is left that would explain it.
    clinic.run("UPDATE authorisation SET scheduled = 51 WHERE id = 30").await;
    assert_eq!(clinic.verify(&[]).0, 1);
    clinic.run("DROP TABLE run, unit_ledger").await;
    let (code, out, _) = clinic.verify(&[]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("the recorded runs could not be read") && out.contains("could not be checked"), "{out}");
}

#[tokio::test]
async fn the_same_files_judge_the_copy_of_the_control() {
    let mut clinic = Clinic::used().await;
    clinic
        .run(
            "CREATE SCHEMA dbstress_control; CREATE TABLE dbstress_control.authorisation AS SELECT * FROM authorisation; \
             CREATE TABLE dbstress_control.unit_ledger AS SELECT * FROM unit_ledger; UPDATE dbstress_control.authorisation SET scheduled = 51 WHERE id = 9",
        )
        .await;
    let path = ["dbstress_control", "dbstress", "public"];
    let checked = run_all(&mut clinic.session, &invariant::built_in().unwrap(), &path, When::Quiesced, TIMEOUT).await;
    let broken: Vec<&str> = checked.iter().filter(|c| matches!(c.finding, Finding::Violated { .. })).map(|c| &*c.name).collect();
    assert_eq!(broken, ["units-within-total", "counters-match-ledger", "ledger-replays"][..2], "{checked:#?}");
    assert_eq!(clinic.broken().await, [""; 0], "nothing of it leaks into verify");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_commits_do_not_divide_the_snapshot() {
    let mut clinic = Clinic::used().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3_i64)
        .map(|vu| {
            let (options, stop) = (clinic.database.options.clone(), stop.clone());
            tokio::spawn(async move {
                let mut session = Session::connect(&options, "test").await.unwrap();
                session.execute("SET search_path TO dbstress").await.unwrap();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let kind = if n % 2 == 1 { "reserve" } else { "release" };
                    session.execute(&booking(1, 20 + vu, n, 21, kind, 5)).await.unwrap();
                }
                session.close().await;
                n
            })
        })
        .collect();
    let mut states = BTreeSet::new();
    for _ in 0..25 {
        let checked = clinic.check_all().await;
        let mut seen = BTreeSet::new();
        for check in checked {
            let Finding::Holds { examined } = check.finding else { panic!("{}: {:?}", check.name, check.finding) };
            if ["counters-match-ledger", "ledger-replays", "applied-once"].contains(&&*check.name) {
                seen.insert(examined);
            }
        }
        assert_eq!(seen.len(), 1, "checks of one run saw different ledgers: {seen:?}");
        states.extend(seen);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(states.len() > 1, "nothing was committed in between: {states:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_found_by_the_check_that_is_about_it() {
    let mut clinic = Clinic::used().await;
    // Each alone, from right data to right data.
    let (result, stale, expired) = ("key-has-result", "no-stale-claim", "no-expired-keys");
    let of_organisation = "key-of-its-organisation";
    let pending = "UPDATE idempotency_key SET state = 'pending', response = NULL, result_op = NULL, result_attempt = NULL";
    let wrongs: [(String, &[&str]); 9] = [
        ("UPDATE idempotency_key SET response = ARRAY[1, 50, 0, 20]".into(), &[result]),
        ("UPDATE idempotency_key SET result_attempt = 2".into(), &[result]),
        ("DELETE FROM idempotency_key".into(), &[result]),
        // Done, and nobody was told.
        (pending.into(), &[result]),
        (format!("{pending}, created_at = created_at - interval '11 minutes'"), &[result, stale]),
        ("UPDATE idempotency_key SET expires_at = (SELECT as_of FROM meta)".into(), &[expired]),
        ("UPDATE idempotency_key SET organisation_id = 3 - organisation_id".into(), &[result, of_organisation]),
        ("UPDATE idempotency_key SET authorisation_id = 7".into(), &[of_organisation]),
        ("UPDATE unit_ledger SET key = NULL".into(), &[result]),
    ];
    for (wrong, names) in wrongs {
        clinic.run("CREATE TABLE kept AS SELECT * FROM idempotency_key").await;
        clinic.run(&wrong).await;
        assert_eq!(clinic.broken().await, names, "{wrong}");
        clinic.run("DELETE FROM idempotency_key; INSERT INTO idempotency_key SELECT * FROM kept; DROP TABLE kept").await;
        clinic.run("UPDATE unit_ledger SET key = 'k' WHERE authorisation_id = 6").await;
        assert_eq!(clinic.broken().await, [""; 0], "after {wrong}");
    }
    // Who only looked has no effect to lead to.
    let looked = "INSERT INTO idempotency_key SELECT 1, 'browse', 'b', 'body', 'completed', ARRAY[0, 0, 0, 0], NULL, NULL, NULL, 1, as_of, \
                  as_of + interval '1 day' FROM meta";
    clinic.run(looked).await;
    assert_eq!(clinic.broken().await, [""; 0]);

    // Once more, without the key; then with it, within its lifetime; then after it, when it has been begun anew.
    clinic.book(6, "reserve", 10).await;
    assert_eq!(clinic.broken().await, ["no-unkeyed-duplicate"]);
    clinic.run("UPDATE unit_ledger SET key = 'k' WHERE authorisation_id = 6").await;
    assert_eq!(clinic.broken().await, ["one-effect-per-key"]);
    let anew = "UPDATE unit_ledger SET decided_at = decided_at + interval '1 day' WHERE authorisation_id = 6 AND version = 2;
        UPDATE idempotency_key k SET created_at = l.decided_at, expires_at = l.decided_at + interval '1 day', result_op = l.op_id,
            response = ARRAY[l.version, l.total, l.used, l.scheduled] FROM unit_ledger l
        WHERE k.key = 'k' AND l.authorisation_id = 6 AND l.version = 2";
    clinic.run(anew).await;
    assert_eq!(clinic.broken().await, [""; 0]);
}
