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
    ALTER TABLE authorisation ADD CONSTRAINT authorisation_service_code FOREIGN KEY (service_code_id) REFERENCES service_code (id);
    CREATE INDEX appointment_by_authorisation ON appointment (authorisation_id);
    CREATE INDEX treatment_session_by_appointment ON treatment_session (appointment_id);
    ALTER TABLE appointment ADD CONSTRAINT appointment_authorisation FOREIGN KEY (authorisation_id) REFERENCES authorisation (id);
    ALTER TABLE appointment ADD CONSTRAINT appointment_practitioner
        FOREIGN KEY (organisation_id, practitioner_id) REFERENCES practitioner (organisation_id, id);
    ALTER TABLE treatment_session ADD CONSTRAINT treatment_session_appointment FOREIGN KEY (appointment_id) REFERENCES appointment (id)";

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
        let all: Vec<String> = of("clinic").into_iter().map(|i| i.name).collect();
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
                SELECT l.organisation_id, l.kind, l.key, encode(sha256('reserve 10'), 'hex'), 'completed', ARRAY[l.version, l.total, l.used, l.scheduled], l.op_id, l.attempt,
                l.authorisation_id, l.run_id, m.as_of, m.as_of + interval '1 day' FROM unit_ledger l, meta m WHERE l.key = 'k'";
        clinic.run(keyed).await;
        // One to come, one cancelled, one completed.
        for (id, then) in [(37, None), (38, Some("release")), (39, Some("consume"))] {
            clinic.book(id, "reserve", 4).await;
            if let Some(kind) = then {
                clinic.book(id, kind, 4).await;
            }
        }
        let appointments = "INSERT INTO appointment (id, organisation_id, authorisation_id, practitioner_id, starts_at, ends_at, reserved_units, status)
                SELECT a.id - 36, a.organisation_id, a.id, (SELECT min(p.id) FROM practitioner p WHERE p.organisation_id = a.organisation_id),
                '2026-01-15 09:00+00', '2026-01-15 10:00+00', 4, CASE a.id WHEN 37 THEN 'SCHEDULED' WHEN 38 THEN 'CANCELLED' ELSE 'COMPLETED' END
                FROM authorisation a WHERE a.id BETWEEN 37 AND 39;
            UPDATE unit_ledger SET appointment_id = authorisation_id - 36 WHERE authorisation_id BETWEEN 37 AND 39;
            INSERT INTO treatment_session (id, appointment_id, organisation_id, units) SELECT 1, id, organisation_id, 4 FROM appointment WHERE id = 3";
        clinic.run(appointments).await;
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
        let invariants = of("clinic");
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

    /// From now on everything is done as a superuser, but what the program does: no constraint and no privilege keeps a rule from being broken.
    async fn as_superuser(&mut self) {
        self.session = self.database.superuser().await;
        self.run("SET search_path TO dbstress").await;
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

/// What INV-E1 finds after `sql`, which is then undone: what, and what is there.
async fn faults(clinic: &mut Clinic, sql: &str) -> Vec<String> {
    clinic.run("BEGIN").await;
    clinic.run(sql).await;
    let rows = clinic.session.rows(&built_in("E1").query).await.unwrap();
    clinic.run("ROLLBACK").await;
    rows.into_iter().map(|r| format!("{}: {}", r[0].clone().unwrap(), r[2].clone().unwrap())).collect()
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

/// Those about a dataset.
fn of(dataset: &str) -> Vec<Invariant> {
    invariant::built_in().unwrap().into_iter().filter(|invariant| invariant.is_about(dataset)).collect()
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
    let of_keys = of("clinic").into_iter().map(|i| i.name).filter(|name| name.contains("key") || name == "no-stale-claim");
    let of_appointments =
        ["appointments-are-promised", "appointments-in-ledger", "one-session-per-completion", "organisation-of-appointment"]
            .map(str::to_owned);
    let expected: Vec<String> = of_use.map(str::to_owned).into_iter().chain(of_keys).chain(of_appointments).collect();
    assert_eq!(vacuous, expected);
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
    let tried = self_test::try_all(&mut clinic.session, &of("clinic"), TIMEOUT).await;
    assert_eq!(self_test::judge(&tried).0, Verdict::Pass, "{tried:?}");
}

#[tokio::test]
async fn the_list_of_definitions_is_what_the_migrations_and_a_seed_make() {
    let mut clinic = Clinic::seeded().await;
    // Of both datasets, whose tables and keys are in every database. What is missing in the list is told here, with what it must say.
    let both = "UPDATE meta SET dataset = NULL";
    assert_eq!(faults(&mut clinic, both).await, [""; 0]);
    let indexes = "SELECT count(*) FROM pg_indexes i WHERE schemaname = 'dbstress' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = i.indexname)";
    let listed = built_in("E1").query.lines().filter(|line| line.contains("', 'index ")).count() as i64;
    assert_eq!(
        clinic.session.integer(indexes).await.unwrap(),
        listed,
        "an index that is not unique is missed when it is not in the list"
    );
    // However names are looked for and written, and also where the control has copies of some tables.
    clinic.run("CREATE SCHEMA dbstress_control; CREATE TABLE dbstress_control.patient (LIKE dbstress.patient INCLUDING ALL)").await;
    for path in ["dbstress, public", "dbstress", "public, dbstress", "dbstress_control, dbstress, public"] {
        let sql =
            format!("{both}; SET LOCAL search_path TO {path}; SET LOCAL DateStyle = 'German'; SET LOCAL TimeZone = 'Asia/Tokyo'");
        assert_eq!(faults(&mut clinic, &sql).await, [""; 0], "{path}");
    }
    // Settings of the role do not change what is found.
    clinic.run(&format!("ALTER DATABASE {} SET quote_all_identifiers = on", clinic.database.options.database)).await;
    assert_eq!(clinic.verify(&[]).0, 0);
}

#[tokio::test]
async fn what_is_called_as_before_and_says_less_is_found() {
    let mut clinic = Clinic::seeded().await;
    let c = &mut clinic;
    let again =
        |table: &str, name: &str, what: &str| format!("ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {what}");
    let tampered = [
        (again("authorisation", "authorisation_guarded", "CHECK (true)"), "constraint authorisation.authorisation_guarded: CHECK (true)"),
        (
            again("unit_ledger", "unit_ledger_pkey", "PRIMARY KEY (op_id, attempt, line, wrote)"),
            "constraint unit_ledger.unit_ledger_pkey: PRIMARY KEY (op_id, attempt, line, wrote)",
        ),
        (
            again("authorisation", "authorisation_organisation", "FOREIGN KEY (organisation_id) REFERENCES organisation ON DELETE CASCADE"),
            "constraint authorisation.authorisation_organisation: FOREIGN KEY (organisation_id) REFERENCES organisation(id) ON DELETE CASCADE",
        ),
        (
            again("authorisation", "authorisation_number_unique", "UNIQUE (number) DEFERRABLE INITIALLY DEFERRED"),
            "constraint authorisation.authorisation_number_unique: UNIQUE (number) DEFERRABLE INITIALLY DEFERRED",
        ),
        ("ALTER TABLE unit_ledger ALTER COLUMN organisation_id DROP NOT NULL".into(), "column unit_ledger.organisation_id: bigint"),
        ("ALTER TABLE unit_ledger ALTER COLUMN wrote SET DEFAULT now()".into(), "column unit_ledger.wrote: timestamp with time zone NOT NULL DEFAULT now()"),
        ("ALTER TABLE authorisation ALTER COLUMN used TYPE bigint".into(), "column authorisation.used: bigint NOT NULL DEFAULT 0"),
        (
            "CREATE COLLATION public.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             ALTER TABLE idempotency_key ALTER key TYPE text COLLATE public.ci"
                .into(),
            "column idempotency_key.key: text COLLATE public.ci NOT NULL",
        ),
        (
            // What is named like a function of PostgreSQL and fits better is not called instead.
            "SET LOCAL search_path = dbstress, public; \
             CREATE FUNCTION public.concat_ws(text, text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT ''table'''; \
             ALTER TABLE unit_ledger SET UNLOGGED"
                .into(),
            "table unit_ledger: table, unlogged",
        ),
        (
            "SET LOCAL search_path = dbstress, public; CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT NULL'; \
             CREATE UNIQUE INDEX helps ON unit_ledger (op_id)"
                .into(),
            "index helps: CREATE UNIQUE INDEX",
        ),
        ("ALTER TABLE authorisation ADD COLUMN spare text".into(), "column authorisation.spare: text"),
        ("ALTER TABLE unit_ledger ADD CONSTRAINT helps UNIQUE (op_id)".into(), "constraint unit_ledger.helps: UNIQUE (op_id)"),
        (
            "CREATE UNIQUE INDEX helps ON unit_ledger (op_id)".into(),
            "index helps: CREATE UNIQUE INDEX helps ON unit_ledger USING btree (op_id)",
        ),
        (
            "DROP INDEX authorisation_by_run; CREATE INDEX authorisation_by_run ON authorisation (run_id)".into(),
            "index authorisation_by_run: CREATE INDEX authorisation_by_run ON authorisation USING btree (run_id)",
        ),
        ("ALTER TABLE unit_ledger SET UNLOGGED".into(), "table unit_ledger: table, unlogged"),
        ("ALTER TABLE patient ENABLE ROW LEVEL SECURITY".into(), "table patient: table, row-level security"),
        ("CREATE TABLE more () INHERITS (unit_ledger)".into(), "table unit_ledger: table, inheritance"),
        ("ALTER TABLE unit_ledger RENAME TO ledger".into(), "table unit_ledger: missing"),
        ("CREATE POLICY partly ON patient USING (id > 1)".into(), "policy partly on patient: a policy of row-level security"),
        ("CREATE RULE keep AS ON DELETE TO unit_ledger DO INSTEAD NOTHING".into(), "rule keep on unit_ledger: CREATE RULE keep AS"),
        (
            "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER f BEFORE INSERT ON unit_ledger FOR EACH ROW EXECUTE FUNCTION public.f()"
                .into(),
            "trigger f on unit_ledger: CREATE TRIGGER f BEFORE INSERT ON",
        ),
        (
            "CREATE OR REPLACE FUNCTION duty_time(minute bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS 'SELECT NULL::timestamp'".into(),
            "function duty_time(minute bigint): RETURNS timestamp",
        ),
        ("CREATE FUNCTION format(text, bigint) RETURNS text LANGUAGE sql AS 'SELECT NULL'".into(), "function format(text, bigint): RETURNS text"),
    ];
    for (sql, said) in tampered {
        let found = faults(c, &sql).await;
        assert!(found.iter().any(|fault| fault.starts_with(said)), "{sql}: {found:?}");
    }
    // An index more that is not unique changes nothing but speed.
    assert_eq!(faults(c, "CREATE INDEX mine ON unit_ledger (run_id)").await, [""; 0]);
    // Nor is an index taken for what its constraint says.
    c.as_superuser().await;
    let of = "WHERE indexrelid = 'authorisation_number_unique'::regclass";
    for (what, said) in [
        ("indisunique = false", "its index is not unique"),
        ("indcollation = (SELECT oid::text::oidvector FROM pg_collation WHERE collname = 'C')", "its index has another collation"),
    ] {
        let found = faults(c, &format!("UPDATE pg_index SET {what} {of}")).await;
        assert_eq!(found, [format!("constraint authorisation.authorisation_number_unique: UNIQUE (number), {said}")]);
    }
    clinic.run(&again("authorisation", "authorisation_guarded", "CHECK (true)")).await;
    let (code, out, _) = clinic.verify(&["--json"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("authorisation_guarded") && out.contains("CHECK (true)") && out.contains("NOT guarded"), "{out}");
    // And nothing is run on it.
    let place = common::Place::new();
    let (code, out, _) = common::run(&mut common::on(&place, &clinic.database.options, "throughput --vus 2 --iterations 4"));
    assert_eq!(code, 3, "{out}");
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("constraints-in-place (INV-E1) did not hold before the run began"), "{out}");
}

#[tokio::test]
async fn foreign_keys_that_are_switched_off_for_a_database_or_a_role_are_found() {
    let mut clinic = Clinic::seeded().await;
    let (database, user) = (clinic.database.options.database.clone(), clinic.database.options.user.clone());
    let (database, user) = (admin::identifier(&database), admin::identifier(&user));
    let place = common::Place::new();
    clinic.run("CREATE TABLE public.mine AS SELECT 0 AS n").await;
    clinic.as_superuser().await;
    std::fs::write(place.0.join("one.sql"), "UPDATE public.mine SET n = n + 1;").unwrap();
    let options = clinic.database.options.clone();
    let dbstress = |arguments: &str| common::run(&mut common::on(&place, &options, arguments));
    for (whose, said) in [
        (format!("DATABASE {database}"), "by ALTER DATABASE SET"),
        (format!("ROLE {user} IN DATABASE {database}"), "by ALTER ROLE"),
    ] {
        clinic.run(&format!("ALTER {whose} SET session_replication_role = replica")).await;
        let (code, out, _) = clinic.verify(&["--json", "--invariant", "constraints-in-place"]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("session_replication_role") && out.contains("by a setting of this session"), "{out}");
        assert!(out.contains(said), "{said}: {out}");
        let (code, out, _) = dbstress("throughput --vus 2 --iterations 4");
        assert_eq!(code, 3, "{out}");
        assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").contains("did not hold before the run began"), "{out}");
        // On tables of the user's own, whose foreign keys are off too.
        let (code, out, err) = dbstress("run -f one.sql --vus 1 --iterations 20 --threshold committed.count>=20");
        assert_eq!(code, 3, "{out}{err}");
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("foreign keys and triggers fire") && words.contains("ALTER DATABASE … RESET session_replication_role"),
            "{out}"
        );
        clinic.run(&format!("ALTER {whose} RESET session_replication_role")).await;
    }
    // Of a role that has nothing to do with the dataset it is nobody's business here.
    let other = format!("replicates_{}", clinic.database.options.database);
    clinic.run(&format!("CREATE ROLE {other}; ALTER ROLE {other} SET session_replication_role = replica")).await;
    let (code, out, _) = clinic.verify(&[]);
    clinic.run(&format!("DROP ROLE {other}")).await;
    assert_eq!(code, 0, "{out}");
    let (code, out, err) = dbstress("run -f one.sql --vus 1 --iterations 20 --threshold committed.count>=20");
    assert!(code == 0 && !out.contains("replica"), "{out}{err}");
}

#[tokio::test]
async fn a_value_that_is_missing_is_found_in_whichever_column() {
    for mut clinic in [Clinic::used().await, Clinic::residency().await] {
        clinic.run("INSERT INTO assignment_unguarded SELECT * FROM assignment LIMIT 1; INSERT INTO booked_time VALUES (1, '[2026-01-05, 2026-01-06)')").await;
        clinic
            .run("INSERT INTO call_assignment (person_id, night, kind) SELECT id, '2026-01-06', 'backup' FROM person LIMIT 1")
            .await;
        clinic
            .run("INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) SELECT id, '2026-02-06', '2026-02-07', 'extension' FROM person LIMIT 1")
            .await;
        clinic
            .run("INSERT INTO expected_violation VALUES (1, 'PL-1', 'cpr', 'AC-1', NULL, NULL, NULL, 1, 'warning', false, '')")
            .await;
        clinic.run("INSERT INTO planted_row VALUES (1, 'PL-1', 'absence', '{}', false)").await;
        let required = "SELECT r.relname, a.attname FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid WHERE r.relnamespace = 'dbstress'::regnamespace \
             AND r.relkind = 'r' AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped AND a.attidentity = '' \
             AND r.relname NOT IN ('meta', 'account', 'run_grant', 'audit_entry', '_migrations') ORDER BY 1, 2";
        let mut tried = 0;
        let keys = "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS r, conname FROM pg_constraint \
             WHERE connamespace = 'dbstress'::regnamespace AND contype IN ('f', 'p') ORDER BY contype LOOP \
             EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', c.r, c.conname); END LOOP; END $$";
        let query = format!("SELECT subject, actual FROM ({}) AS x", built_in("no-missing-values").query);
        for row in clinic.session.rows(required).await.unwrap() {
            let [table, column] = [0, 1].map(|i| row[i].clone().unwrap());
            clinic.run("BEGIN").await;
            clinic.run(keys).await;
            let quoted = admin::identifier(&column);
            clinic.run(&format!("ALTER TABLE {table} ALTER COLUMN {quoted} DROP NOT NULL")).await;
            let one = format!("UPDATE {table} SET {quoted} = NULL WHERE ctid = (SELECT min(ctid) FROM {table})");
            if clinic.session.execute(&one).await.unwrap() == 1 {
                let rows = clinic.session.rows(&query).await.unwrap();
                assert!(matches!(&rows[..], [row] if row[1] == Some(format!("NULL in {column}"))), "{table}.{column}: {rows:?}");
                tried += 1;
            }
            clinic.run("ROLLBACK").await;
        }
        assert!(tried > 60, "{tried}");
    }
    let mut ward = Clinic::residency().await;
    ward.run("ALTER TABLE assignment ALTER COLUMN role DROP NOT NULL; UPDATE assignment SET role = NULL WHERE id = 3").await;
    let (code, out, _) = ward.verify(&["--invariant", "no-missing-values"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("assignment 3") && out.contains("NULL in role"), "{out}");
}

#[tokio::test]
async fn a_rule_that_was_brought_along_is_never_left_out() {
    let clinic = Clinic::seeded().await;
    let brought = |label: &str, dataset: &str| user_file(label, "mine.sql", &format!("-- dataset: {dataset}\n{MINE}"));
    let klinik = brought("klinik", "klinik");
    for arguments in [&["--invariants", klinik.to_str().unwrap()][..], &["--invariants", klinik.to_str().unwrap(), "--self-test"]] {
        let (code, out, err) = clinic.verify(arguments);
        assert_eq!(code, 2, "{out}{err}");
        assert!(err.contains("mine.sql:1: unknown `dataset`: `klinik`; did you mean `clinic`?"), "{err}");
    }
    let elsewhere = brought("elsewhere", "residency");
    let directory = elsewhere.to_str().unwrap();
    for arguments in [
        &["--invariants", directory][..],
        &["--invariants", directory, "--invariant", "mine", "--invariant", "U1"],
        &["--invariants", directory, "--self-test"],
    ] {
        let (code, out, _) = clinic.verify(arguments);
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code, 3, "{arguments:?}: {out}");
        assert!(words.contains("it is about the dataset residency, and the database holds the clinic"), "{arguments:?}: {out}");
    }
    let here = brought("here", "clinic");
    let (code, out, _) = clinic.verify(&["--invariants", here.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0, "{out}");
    assert!(json["claimed"].as_array().unwrap().contains(&"mine".into()), "{out}");
}

#[tokio::test]
async fn a_rule_file_may_begin_with_a_byte_order_mark() {
    let clinic = Clinic::seeded().await;
    let marked = user_file("marked", "mine.sql", &format!("\u{feff}{MINE}"));
    let (code, out, err) = clinic.verify(&["--invariants", marked.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("mine"), "{out}");
}

#[tokio::test]
async fn what_is_wrong_with_a_rule_is_said_in_words_with_its_place() {
    let clinic = Clinic::seeded().await;
    let cases = [
        ("SELECT count(*) FROM patients", "mine.sql:2: `examines`: relation \"patients\" does not exist (SQLSTATE 42P01)"),
        ("SELECT 'many'", "mine.sql:2: `examines`: it must give one integer, and gave `many`"),
        ("SELECT NULL", "mine.sql:2: `examines`: it must give one integer, and gave NULL"),
        ("SELECT 1, 2", "mine.sql:2: `examines`: it must give one integer, and gave 2 columns"),
        ("SELECT 1 WHERE false", "mine.sql:2: `examines`: it must give one integer, and gave no row"),
        ("SELECT id FROM patient LIMIT 3", "mine.sql:2: `examines`: it must give one integer, and gave 3 rows"),
    ];
    for (number, (examines, said)) in cases.into_iter().enumerate() {
        let text = MINE.replace("SELECT count(*) FROM patient", examines);
        let directory = user_file(&format!("place-{number}"), "mine.sql", &text);
        let (code, out, _) = clinic.verify(&["--invariants", directory.to_str().unwrap(), "--json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        let mine = json["checks"].as_array().unwrap().iter().find(|check| check["name"] == "mine").unwrap();
        assert_eq!(code, 3, "{out}");
        assert_eq!(mine["detail"], format!("{}/{said}", directory.display()), "{examines}");
    }
    let text = MINE.replace("FROM patient WHERE", "FROM patients WHERE");
    let directory = user_file("place-query", "mine.sql", &text);
    let (_, out, _) = clinic.verify(&["--invariants", directory.to_str().unwrap(), "--json"]);
    assert!(out.contains("mine.sql:6: relation \\\"patients\\\" does not exist"), "{out}");
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
        let invariants = of("clinic");
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
    let tried = self_test::try_all(&mut clinic.session, &of("clinic"), TIMEOUT).await;
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
    assert!(out.contains(&format!("op 1.7.{retry} applied once")) && out.contains("by attempts 1, 2"), "{out}");
    clinic.run("UPDATE unit_ledger SET kind = 'fence' WHERE attempt = 2").await;
    assert!(matches!(clinic.check(&built_in("U12")).await, Finding::Holds { .. }));
}

#[tokio::test]
async fn an_operation_applied_twice_by_one_attempt_is_found() {
    let mut clinic = Clinic::used().await;
    clinic.book(13, "reserve", 5).await;
    let twice = clinic.operations;
    clinic
        .run(&booking(1, 7, twice, 13, "reserve", 5).replace(&format!("+ {twice}, 1, 1, 1"), &format!("+ {twice}, 1, 2, 1")))
        .await;
    assert_eq!(clinic.broken().await, ["applied-once"], "row and ledger agree");
    let (code, out, _) = clinic.verify(&["--invariant", "U12"]);
    assert_eq!(code, 1);
    assert!(out.contains("2 lines, by attempt 1 (10 units in all)") && out.contains("<- applied twice"), "{out}");
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
    assert_eq!(clinic.broken().await, ["organisation-of-parent", "constraints-in-place", "no-missing-values"]);
    clinic.run("UPDATE authorisation SET organisation_id = 1 + 20 % 2 WHERE id = 20").await;
    clinic.run("ALTER TABLE authorisation ALTER COLUMN organisation_id SET NOT NULL").await;
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
    clinic.as_superuser().await;
    let c = &mut clinic;
    assert_eq!(faults(c, "SELECT 1").await, [""; 0]);
    let dropped = "ALTER TABLE authorisation DROP CONSTRAINT authorisation_patient";
    assert_eq!(faults(c, dropped).await, ["constraint authorisation.authorisation_patient: missing"]);
    let again = "ADD CONSTRAINT authorisation_patient FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id) NOT VALID";
    let [fault] = &faults(c, &format!("{dropped}; ALTER TABLE authorisation {again}")).await[..] else { panic!("it alone") };
    assert!(fault.ends_with("REFERENCES patient(organisation_id, id) NOT VALID, not validated"), "{fault}");
    let disabled = faults(c, "ALTER TABLE authorisation DISABLE TRIGGER ALL").await;
    assert_eq!(disabled.len(), 4, "its three foreign keys, and the one that leads to it: {disabled:?}");
    assert!(disabled.iter().all(|fault| fault.ends_with(", its trigger is disabled")), "{disabled:?}");
    assert_eq!(faults(c, "DROP INDEX authorisation_by_run").await, ["index authorisation_by_run: missing"]);
    let plain = "DROP INDEX service_code_unique; CREATE INDEX service_code_unique ON service_code (code)";
    let plain = faults(c, plain).await;
    assert_eq!(plain, ["index service_code_unique: CREATE INDEX service_code_unique ON service_code USING btree (code)"]);
    assert_eq!(
        faults(c, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'authorisation_pkey'::regclass").await,
        ["constraint authorisation.authorisation_pkey: PRIMARY KEY (id), its index is invalid"]
    );
    let unknown = faults(c, "UPDATE meta SET dataset = NULL").await;
    assert!(unknown.contains(&"constraint assignment.assignment_person: missing".to_owned()), "of whichever dataset: {unknown:?}");
    clinic.run(dropped).await;
    assert_eq!(clinic.broken().await, ["constraints-in-place"]);
}

#[tokio::test]
async fn an_orphan_is_found_on_every_edge() {
    let mut clinic = Clinic::used().await;
    clinic.as_superuser().await;
    let edges = clinic
        .session
        .rows(
            "SELECT c.conrelid::regclass::text, c.conname, a.attname FROM pg_constraint c \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[cardinality(c.conkey)] \
             WHERE c.contype = 'f' AND c.connamespace = 'dbstress'::regnamespace",
        )
        .await
        .unwrap();
    assert_eq!(edges.len(), 9);
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
    let live = run_all(&mut clinic.session, &of("clinic"), &DEFAULT_SEARCH_PATH, When::Always, TIMEOUT).await;
    assert_eq!(live.len(), 5, "under load only what holds in any snapshot");
    // A policy that hides rows from a role must not read as a pass.
    clinic.as_superuser().await;
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
    let checked = run_all(&mut clinic.session, &of("clinic"), &path, When::Quiesced, TIMEOUT).await;
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
    let wrongs: [(String, &[&str]); 11] = [
        // As if the key stood for another body than was done.
        ("UPDATE idempotency_key SET fingerprint = encode(sha256('reserve 11'), 'hex')".into(), &[result]),
        ("UPDATE idempotency_key SET fingerprint = ''".into(), &[result]),
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

#[tokio::test]
async fn what_is_wrong_with_an_appointment_is_found_by_the_check_that_is_about_it() {
    let mut clinic = Clinic::used().await;
    let (promised, ledger) = ("appointments-are-promised", "appointments-in-ledger");
    let (session, organisation) = ("one-session-per-completion", "organisation-of-appointment");
    let line = |of: &str, what: &str| format!("UPDATE unit_ledger SET {what} WHERE appointment_id = 3 AND kind = '{of}'");
    let wrongs: [(String, &[&str]); 12] = [
        // Cancelled, and its units were never given back; completed, and never used up.
        ("UPDATE appointment SET status = 'CANCELLED' WHERE id = 1".into(), &[promised, ledger]),
        ("UPDATE appointment SET status = 'COMPLETED' WHERE id = 1".into(), &[promised, ledger, session]),
        // Given back, and still to come: who cancels again gives it back again.
        ("UPDATE appointment SET status = 'SCHEDULED' WHERE id = 2".into(), &[promised, ledger]),
        ("UPDATE appointment SET reserved_units = 3 WHERE id = 1".into(), &[promised, ledger]),
        ("UPDATE appointment SET authorisation_id = authorisation_id - 2 WHERE id = 3".into(), &[ledger]),
        (line("consume", "appointment_id = 2"), &[ledger]),
        (line("reserve", "appointment_id = NULL"), &[ledger]),
        (line("reserve", "appointment_id = 99"), &[ledger]),
        ("UPDATE treatment_session SET units = 3".into(), &[session]),
        (
            "INSERT INTO treatment_session SELECT 2, appointment_id, organisation_id, units FROM treatment_session".into(),
            &[session],
        ),
        ("UPDATE treatment_session SET appointment_id = 2".into(), &[session, organisation]),
        ("UPDATE treatment_session SET organisation_id = 3 - organisation_id".into(), &[organisation]),
    ];
    let keep = "CREATE TABLE kept_a AS SELECT * FROM appointment; CREATE TABLE kept_s AS SELECT * FROM treatment_session; \
        CREATE TABLE kept_l AS SELECT * FROM unit_ledger";
    let restore = "DELETE FROM treatment_session; DELETE FROM appointment; DELETE FROM unit_ledger; INSERT INTO appointment SELECT * FROM kept_a; \
        INSERT INTO treatment_session SELECT * FROM kept_s; INSERT INTO unit_ledger SELECT * FROM kept_l";
    clinic.run(keep).await;
    for (wrong, names) in wrongs {
        clinic.run(&wrong).await;
        assert_eq!(clinic.broken().await, names, "{wrong}");
        clinic.run(restore).await;
        assert_eq!(clinic.broken().await, [""; 0], "after {wrong}");
    }
    // Another organisation's practitioner.
    clinic
        .run(
            "UPDATE appointment SET practitioner_id = p.id, organisation_id = p.organisation_id FROM practitioner p \
        WHERE appointment.id = 1 AND p.organisation_id <> appointment.organisation_id",
        )
        .await;
    assert_eq!(clinic.broken().await, [organisation]);
    clinic.run(restore).await;
    // An administrator is nobody's practitioner, and whoever else is not, is found.
    clinic.run("UPDATE unit_ledger SET actor_id = 0 WHERE appointment_id = 1").await;
    assert_eq!(clinic.broken().await, [""; 0]);
    clinic.run("UPDATE unit_ledger SET actor_id = 99 WHERE appointment_id = 1").await;
    assert_eq!(clinic.broken().await, ["organisation-of-actor"]);
}

/// A programme of four weeks: six residents (two of each year), each off on one weekday; two of the faculty with them; who is absent has a day off.
/// Beside it one that a run has made: a half day that was swapped twice.
const RESIDENCY: &str = "
    INSERT INTO programme VALUES (1, 'Seeded', NULL, NULL, NULL), (1000, 'Run 1, swap', 1, 'swap', 1);
    INSERT INTO person SELECT n, 1, 'Alma', 'Bauer', 'p' || n, CASE WHEN n < 7 THEN 'resident' ELSE 'faculty' END, CASE WHEN n < 7 THEN (n + 1) / 2 END
        FROM generate_series(1, 9) n;
    INSERT INTO person SELECT n, 1000, 'Run', 'Person', 'p' || n, 'resident', 2 FROM generate_series(1000, 1002) n;
    INSERT INTO block SELECT 2 * d + h + 1, 1, date '2026-01-05' + d, (ARRAY['AM', 'PM'])[h + 1], d / 28, d % 7 > 4
        FROM generate_series(0, 27) d, generate_series(0, 1) h;
    INSERT INTO block VALUES (1000, 1000, '2026-06-01', 'AM', 0, false), (1001, 1000, '2026-06-02', 'AM', 0, false);
    INSERT INTO rotation_template SELECT n, 1, 'Clinic', 'C' || n, 'clinic', 3 FROM generate_series(1, 2) n;
    INSERT INTO rotation_template VALUES (1000, 1000, 'Run', 'RUN', 'clinic', NULL, false);
    INSERT INTO assignment (id, block_id, person_id, rotation_template_id, role)
        SELECT row_number() OVER (ORDER BY b.id, p.id), b.id, p.id, 1 + p.id % 2, CASE p.kind WHEN 'resident' THEN 'primary' ELSE 'supervising' END
        FROM block b, person p WHERE b.id < 1000 AND (p.id < 7 AND (b.date - date '2026-01-05') % 7 <> p.id OR p.id IN (7, 8));
    INSERT INTO assignment (id, block_id, person_id, rotation_template_id, role, version)
        VALUES (2000, 1000, 1002, 1000, 'primary', 2), (2001, 1001, 1000, 1000, 'primary', 1);
    INSERT INTO swap (id, kind, status, source_assignment_id, target_assignment_id, source_person_id, target_person_id, source_version, target_version)
        VALUES (1, 'one-to-one', 'executed', 2000, 2001, 1000, 1001, 1, 1), (2, 'absorb', 'executed', 2000, NULL, 1001, 1002, 2, NULL),
               (3, 'absorb', 'rejected', 2000, NULL, 1002, 1001, NULL, NULL);
    INSERT INTO absence (person_id, starts_on, ends_on, kind) SELECT n, date '2026-01-05' + n, date '2026-01-05' + n, 'deployment' FROM generate_series(1, 6) n;
    INSERT INTO schedule_run VALUES (1, 1, '2026-01-05', '2026-02-01', 'weekly pattern', 'success',
        (SELECT count(*) FROM assignment a JOIN block b ON b.id = a.block_id WHERE b.programme_id = 1));
    INSERT INTO schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id, block_id, with_person_id, began, wrote)
        SELECT (1::bigint << 47) + (vu::bigint << 32) + 1, 1, 0, 1, vu, 'naive', kind, 1000, source, 1000, target, '2026-11-01 12:00Z'::timestamptz + began * interval '1 second',
               '2026-11-01 12:00Z'::timestamptz + wrote * interval '1 second'
        FROM (VALUES (1, 'swap', 1000, 1001, 1, 3), (2, 'absorb', 1001, 1002, 4, 6), (3, 'fence', NULL, NULL, 4, 7)) AS l (vu, kind, source, target, began, wrote);
    INSERT INTO schedule_ledger (op_id, attempt, line, run_id, vu, strategy, kind, programme_id, person_id, block_id)
        SELECT (1::bigint << 47) + (4::bigint << 32) + 1, 1, 0, 1, 4, 'naive', 'assign', 1, person_id, block_id FROM assignment WHERE id = 11;
    UPDATE meta SET dataset = 'residency', rng_seed = 42, scale = 1, generator_version = 1, data_hash = 'none', as_of = '2026-01-15 12:00+00',
        seeded_at = now()";

impl Clinic {
    /// A small residency in its place.
    async fn residency() -> Self {
        let database = common::database().await;
        let mut session = database.session().await;
        admin::claim(&mut session, &database.options, None).await.unwrap();
        let mut ward = Self { database, session, operations: 0 };
        ward.run("SET search_path TO dbstress").await;
        ward.run(RESIDENCY).await;
        ward.run(
            "INSERT INTO run (record, command, workload, strategy, claims, rng_seed, ended, verdict) \
             VALUES ('r', 'scheduling', 'scheduling', 'naive', '{nobody-in-two-places,swaps-exchanged}', 42, now(), 'pass')",
        )
        .await;
        ward
    }

    /// What the rule finds after `sql`, which is then undone: subjects and what was found there.
    async fn after(&mut self, name: &str, sql: &str) -> Vec<[String; 3]> {
        self.run("BEGIN").await;
        self.run("SET LOCAL session_replication_role = replica").await;
        self.run(sql).await;
        let rows =
            self.session.rows(&format!("SELECT subject, expected, actual FROM ({}) AS x", built_in(name).query)).await.unwrap();
        self.run("ROLLBACK").await;
        rows.into_iter().map(|row| [0, 1, 2].map(|i| row[i].clone().unwrap())).collect()
    }
}

fn breach(subject: &str, expected: &str, actual: &str) -> [String; 3] {
    [subject, expected, actual].map(str::to_owned)
}

#[tokio::test]
async fn every_check_of_a_schedule_holds_on_clean_data_and_can_fail() {
    let mut ward = Clinic::residency().await;
    let mut invariants = of("residency");
    // Of the real seed, below.
    invariants.retain(|i| i.name != "constraints-in-place");
    for checked in run_all(&mut ward.session, &invariants, &DEFAULT_SEARCH_PATH, When::Quiesced, TIMEOUT).await {
        assert!(matches!(checked.finding, Finding::Holds { examined } if examined > 0), "{}: {:?}", checked.name, checked.finding);
    }
    let tried = self_test::try_all(&mut ward.session, &invariants, TIMEOUT).await;
    assert_eq!(self_test::judge(&tried).0, Verdict::Pass, "{tried:#?}");
    // And where much is broken already.
    ward.as_superuser().await;
    let broken = "SET session_replication_role = replica; DELETE FROM assignment WHERE person_id IN (7, 8); UPDATE person SET pgy = NULL;
        UPDATE rotation_template SET max_residents = 0; UPDATE assignment SET version = 5; DELETE FROM block WHERE id < 9; UPDATE block SET number = 9;
        INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) SELECT id, '2026-01-05', '2026-02-01', 'extension' FROM person";
    ward.run(broken).await;
    let tried = self_test::try_all(&mut ward.session, &invariants, TIMEOUT).await;
    assert_eq!(self_test::judge(&tried).0, Verdict::Pass, "{tried:#?}");
}

#[tokio::test]
async fn each_rule_of_a_schedule_says_what_is_wrong_where() {
    let mut ward = Clinic::residency().await;
    ward.as_superuser().await;
    let duty = |person: i64, from: &str, until: &str| {
        format!("INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) VALUES ({person}, '{from}', '{until}', 'extension');")
    };
    let (swap, gives) = (
        "INSERT INTO swap VALUES (9, 'absorb', 'executed', 2000, NULL,",
        "swap 9: assignment 2000 is given by person 1002, who had it by swap 2",
    );
    let examples = [
        (
            "R1",
            "INSERT INTO assignment_unguarded SELECT * FROM assignment WHERE id = 1".to_owned(),
            vec![breach("1", "once in block 1 (2026-01-05 AM)", "2 times")],
        ),
        (
            "R2",
            duty(1, "2026-01-05 12:00", "2026-01-05 14:00"),
            vec![breach("1", "in one place at a time", "in two for 120 minutes, the first of them at 2026-01-05 12:00:00")],
        ),
        (
            "R2",
            "INSERT INTO call_assignment (person_id, night, kind) VALUES (7, '2026-01-06', 'weekend')".into(),
            vec![breach("7", "in one place at a time", "in two for 720 minutes, the first of them at 2026-01-06 07:00:00")],
        ),
        (
            "R3",
            "INSERT INTO assignment (block_id, person_id, rotation_template_id, role) VALUES (3, 1, 1, 'primary')".into(),
            vec![breach("3/1", "at most 3 residents on 2026-01-06 AM", "4")],
        ),
        (
            "R4",
            "DELETE FROM assignment WHERE block_id = 1 AND person_id = 8".into(),
            vec![breach("1", "2 supervise on 2026-01-05 AM", "1 of the faculty")],
        ),
        ("R5", duty(1, "2026-01-06 08:00", "2026-01-06 10:00"), vec![breach("1", "no duty from 2026-01-06 to 2026-01-06", "120 minutes")]),
        ("R7", "DELETE FROM block WHERE id = 5".into(), vec![breach("1", "2026-01-07 AM once", "0 times")]),
        ("R7", "INSERT INTO block VALUES (99, 1, '2026-01-05', 'AM', 0, false)".into(), vec![breach("1", "2026-01-05 AM once", "2 times")]),
        ("R7", "UPDATE block SET is_weekend = true WHERE id = 1000".into(), vec![breach("1000", "2026-06-01 AM on a weekday", "block 1000 is marked as one")]),
        ("R7", "UPDATE block SET number = 1 WHERE id = 2".into(), vec![breach("1", "2026-01-05 PM in period 0", "block 2 in period 1")]),
        (
            "R8",
            "INSERT INTO schedule_run SELECT n, 1, date '2026-02-01' + n, date '2026-02-03' + n, '', 'in_progress', 0 FROM generate_series(2, 3) n".into(),
            vec![breach("1", "schedule run 2 alone is in progress on its days", "so is schedule run 3")],
        ),
        (
            "R8",
            "INSERT INTO schedule_run SELECT 2, 1, '2026-01-05', '2026-01-05', '', 'success', 16".into(),
            vec![breach("1", "schedule run 1 alone is a success on its days", "so is schedule run 2")],
        ),
        (
            "R8",
            "DELETE FROM assignment WHERE id = 3".into(),
            vec![breach("1", "schedule run 1: 400 assignments, 0 of them planted", "399 that are not planted")],
        ),
        (
            "R10",
            "UPDATE assignment SET person_id = 1001 WHERE id = 2000".into(),
            vec![breach("1001", "swap 2: person 1002 has assignment 2000, by its version 2", "person 1001, by version 2")],
        ),
        (
            "R10",
            "UPDATE assignment SET person_id = 1001 WHERE id = 2001".into(),
            vec![breach("1001", "swap 1: person 1000 has assignment 2001, by its version 1", "person 1001, by version 1")],
        ),
        (
            "R10",
            format!("{swap} 1001, 1002, 3, NULL); UPDATE assignment SET version = 3 WHERE id = 2000"),
            vec![breach("1001", gives, "by person 1001")],
        ),
        (
            "R10",
            "UPDATE swap SET source_version = 1 WHERE id = 2".into(),
            vec![breach("1001", "swap 2: a version of assignment 2000 of its own", "version 1, as by swap 1")],
        ),
        (
            "R10",
            "DELETE FROM assignment WHERE id = 2001".into(),
            vec![breach("1001", "swap 1: person 1000 has assignment 2001, by its version 1", "it is gone")],
        ),
        (
            "R10",
            "UPDATE swap SET source_version = 2 WHERE id = 3".into(),
            vec![breach("1002", "swap 3: rejected, so no version of an assignment is its own", "versions 2 and none")],
        ),
        (
            "R11",
            "UPDATE assignment SET version = 1 WHERE id = 2000".into(),
            vec![breach("1000", "assignment 2000: version 2, after as many swaps", "version 1")],
        ),
        ("R12", "UPDATE person SET pgy = NULL WHERE id = 1".into(), vec![breach("1", "a resident of year 1, 2 or 3", "resident of year NULL")]),
        ("R12", "UPDATE person SET pgy = 4 WHERE id = 1".into(), vec![breach("1", "a resident of year 1, 2 or 3", "resident of year 4")]),
        ("R12", "UPDATE person SET pgy = 1 WHERE id = 7".into(), vec![breach("7", "faculty, of no year", "faculty of year 1")]),
        (
            "R13",
            ["2026-01-06", "2026-01-13", "2026-01-20", "2026-01-27"].map(|day| duty(1, &format!("{day} 07:00"), &format!("{day} 22:00"))).concat(),
            vec![
                breach("1", "at most 320 hours in four weeks", "20880 minutes from 2026-01-05 on"),
                breach("1", "at least 4 free days in four weeks", "0 from 2026-01-05 on"),
            ],
        ),
        (
            "R14",
            duty(1, "2026-01-05 19:00", "2026-01-06 13:00"),
            vec![breach("1", "at most 28 hours in one go", "1800 minutes from 2026-01-05 07:00:00 on")],
        ),
        (
            "R14",
            duty(1, "2026-01-05 19:00", "2026-01-06 07:00") + &duty(1, "2026-01-06 20:00", "2026-01-06 21:00"),
            vec![breach("1", "at least 14 hours of rest", "780 minutes from 2026-01-06 07:00:00 on")],
        ),
        (
            "R15",
            "INSERT INTO schedule_ledger SELECT op_id, 2, line, run_id, vu, strategy, kind, programme_id, person_id FROM schedule_ledger WHERE vu = 1".into(),
            vec![breach("1000", "op 1.1.1 changed the schedule once", "2 lines, by attempts 1, 2: swap")],
        ),
    ];
    for (name, sql, breaches) in examples {
        assert_eq!(ward.after(name, &sql).await, breaches, "{name}: {sql}");
    }
    // Residents of the faculty's hours: neither of these is a breach.
    for (name, sql) in [
        ("R14", duty(7, "2026-01-05 19:00", "2026-01-07 13:00")),
        ("R15", "INSERT INTO schedule_ledger SELECT op_id, 2, line, run_id, vu, strategy, 'fence', programme_id FROM schedule_ledger WHERE vu = 1".into()),
        ("R5", "INSERT INTO absence (person_id, starts_on, ends_on, kind) VALUES (1, '2026-01-05', '2026-01-11', 'medical')".into()),
    ] {
        assert_eq!(ward.after(name, &sql).await, [[""; 3]; 0], "{name}: {sql}");
    }
}

#[tokio::test]
async fn what_is_planted_is_no_breach_but_must_be_found() {
    let mut ward = Clinic::residency().await;
    ward.as_superuser().await;
    let works = "INSERT INTO absence (person_id, starts_on, ends_on, kind) VALUES (7, '2026-01-05', '2026-01-05', 'deployment');";
    let expect = |measured: i64, holds: bool| {
        format!(
            "INSERT INTO expected_violation (plant, label, rules, rule, person_id, measured, severity, holds, detail)
             SELECT 1, 'PL-9', r, 'AC-9', 7, {measured}, 'violation', {holds}, '' FROM unnest(ARRAY['cpr', 'rs-dec25', 'rs-head']) r;"
        )
    };
    let found = |said: &str, found: &str| {
        ["cpr", "rs-dec25", "rs-head"].map(|rules| breach("person 7", &format!("AC-9 by {rules}: {said}"), found)).to_vec()
    };
    let (planted, silent) = ("violation of 720 (PL-9)", Vec::<[String; 3]>::new());
    let cases = [
        (works.to_owned() + &expect(720, true), silent.clone(), true),
        (works.to_owned() + &expect(60, true), found("violation of 60 (PL-9)", "violation of 720"), true),
        (works.to_owned() + &expect(720, false), found("nothing", "violation of 720"), false),
        (works.to_owned(), found("nothing", "violation of 720"), false),
        (expect(720, true), found(planted, "nothing"), true),
        (expect(720, false), silent, true),
        // What a run has made has no truth to be compared with.
        ("INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) VALUES (1000, '2026-06-02 08:00', '2026-06-02 10:00', 'extension')".into(), vec![], true),
    ];
    for (sql, breaches, is_excused) in cases {
        assert_eq!(ward.after("planted-are-found", &sql).await, breaches, "{sql}");
        assert_eq!(ward.after("nobody-works-while-absent", &sql).await.is_empty(), is_excused, "{sql}");
    }
    // A double that is planted is left out, itself alone.
    let double = "INSERT INTO assignment_unguarded SELECT * FROM assignment WHERE id = 1;
        INSERT INTO planted_row SELECT 1, 'PL-10', 'assignment_unguarded', to_jsonb(u), true FROM assignment_unguarded u;";
    assert_eq!(ward.after("R1", &(double.to_owned() + &expect(0, true))).await, [[""; 3]; 0]);
    assert_eq!(ward.after("R1", &(double.to_owned() + &expect(0, false))).await.len(), 1);
    let another = "INSERT INTO assignment_unguarded SELECT * FROM assignment WHERE id = 2;";
    assert_eq!(
        ward.after("R1", &(double.to_owned() + another + &expect(0, true))).await,
        [breach("2", "once in block 1 (2026-01-05 AM)", "2 times")]
    );
    // Of the assignments that the schedule run counts, those that are planted may have been mended.
    let mended = "INSERT INTO planted_row SELECT 1, 'PL-2', 'assignment', to_jsonb(a), true FROM assignment a WHERE id = 3; DELETE FROM assignment WHERE id = 3;
        INSERT INTO planted_row SELECT 1, 'PL-2', 'assignment', to_jsonb(a) || '{\"id\": 5000}', false FROM assignment a WHERE id = 4;
        INSERT INTO assignment (id, block_id, person_id, rotation_template_id, role) VALUES (5000, 3, 1, 1, 'primary')";
    assert_eq!(ward.after("R8", mended).await, [[""; 3]; 0]);
}

#[tokio::test]
async fn an_orphan_of_a_schedule_is_found_on_every_edge() {
    let mut ward = Clinic::residency().await;
    ward.as_superuser().await;
    let edges = [
        ("assignment", "block_id"),
        ("assignment", "person_id"),
        ("assignment", "rotation_template_id"),
        ("assignment_unguarded", "block_id"),
        ("assignment_unguarded", "person_id"),
        ("assignment_unguarded", "rotation_template_id"),
        ("call_assignment", "person_id"),
        ("extra_duty", "person_id"),
        ("absence", "person_id"),
        ("booked_time", "person_id"),
        ("person", "programme_id"),
        ("block", "programme_id"),
        ("rotation_template", "programme_id"),
        ("schedule_run", "programme_id"),
        ("swap", "source_assignment_id"),
        ("swap", "target_assignment_id"),
        ("swap", "source_person_id"),
        ("swap", "target_person_id"),
    ];
    // Rows of each table, and of them one that nothing refers to.
    ward.run(
        "INSERT INTO assignment_unguarded SELECT * FROM assignment WHERE id = 2000; INSERT INTO person VALUES (2000, 1, 'N', 'N', 'n', 'faculty');
         INSERT INTO block VALUES (2000, 1000, '2026-06-03', 'AM', 0, false); INSERT INTO rotation_template VALUES (2000, 1, 'N', 'N', 'off');
         INSERT INTO call_assignment (person_id, night, kind) VALUES (1, '2026-01-06', 'backup');
         INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) VALUES (1, '2026-02-06 08:00', '2026-02-06 10:00', 'extension');
         INSERT INTO booked_time VALUES (1, '[2026-01-05 07:00, 2026-01-05 13:00)')",
    )
    .await;
    assert_eq!(ward.after("R6", "SELECT 1").await, [[""; 3]; 0]);
    for (table, column) in edges {
        let which = match table {
            "swap" => "id = 1",
            "person" | "block" | "rotation_template" => "id = 2000",
            "booked_time" => "true",
            _ => "id = (SELECT max(id) FROM %)",
        };
        let which = which.replace('%', table);
        let rows = ward.after("R6", &format!("UPDATE {table} SET {column} = -1 WHERE {which}")).await;
        assert!(matches!(&rows[..], [[_, _, fault]] if fault == "it does not exist"), "{table}.{column}: {rows:?}");
    }
    let elsewhere = ward.after("R6", "UPDATE assignment SET person_id = 2000 WHERE id = 2000").await;
    assert_eq!(elsewhere, [breach("assignment 2000", "person 2000 of programme 1000", "of programme 1")]);
    let elsewhere = ward.after("R6", "UPDATE assignment_unguarded SET rotation_template_id = 2000").await;
    assert_eq!(elsewhere, [breach("unguarded assignment 2000", "template 2000 of programme 1000", "of programme 1")]);
}

#[tokio::test]
async fn behind_a_breach_of_the_schedule_are_the_two_that_were_at_work_at_once() {
    let mut ward = Clinic::residency().await;
    let (code, out, _) = ward.verify(&["--no-color", "--invariant", "swaps-exchanged"]);
    assert_eq!(code, 0, "{out}");
    ward.run("UPDATE swap SET source_person_id = 1000 WHERE id = 2; UPDATE schedule_ledger SET person_id = 1000, began = began - interval '2 seconds' WHERE vu = 2").await;
    let (code, out, _) = ward.verify(&["--no-color", "--invariant", "swaps-exchanged"]);
    assert_eq!(code, 1, "{out}");
    for what in [
        "1.1.1",
        "1.2.1",
        "1000 with 1001",
        "block 1000",
        "12:00:02.000",
        "<- overlap",
        "strategy naive",
        "operations on person 1000",
    ] {
        assert!(out.contains(what), "`{what}` is missing:\n{out}");
    }
    assert!(!out.contains("1.3.1"), "a fence is no change:\n{out}");
    let (_, out, _) = ward.verify(&["--invariant", "swaps-exchanged", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let lines = &json["checks"][0]["operations"][0]["lines"];
    assert_eq!((&lines[0]["kind"], &lines[0]["overlaps"]), (&"swap".into(), &true.into()), "{json}");
    assert_eq!(lines[1]["overlaps"], true);
    ward.run("UPDATE schedule_ledger SET began = wrote").await;
    assert!(!ward.verify(&["--invariant", "swaps-exchanged"]).1.contains("overlap"), "one after the other");
    // Lines of a run that is not known are no evidence, in this ledger as in the other.
    ward.run("UPDATE schedule_ledger SET run_id = 77").await;
    let (code, out, _) = ward.verify(&["--invariant", "residents-have-a-year"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("ledger rows belong to run 77, which is not recorded here"), "{out}");
}

#[tokio::test]
async fn a_real_schedule_is_clean_and_a_supervisor_less_is_named_by_the_half_day() {
    let database = common::residency(None).await;
    let mut ward = Clinic { session: database.session().await, database, operations: 0 };
    ward.run("SET search_path TO dbstress").await;
    let (code, out, _) = ward.verify(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("INV-R9") && !out.contains("INV-U1 "), "{out}");
    let (code, out, err) = ward.verify(&["--self-test"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out.matches("fired: ").count(), of("residency").len(), "{out}");
    assert_eq!(ward.verify(&[]).0, 0, "the self-test left something behind");
    ward.run(
        "DELETE FROM assignment WHERE role = 'supervising' AND id = (SELECT max(id) FROM assignment WHERE role = 'supervising')",
    )
    .await;
    let (code, out, _) = ward.verify(&["--no-color"]);
    assert_eq!(code, 1, "{out}");
    for what in ["VIOLATED", "supervised (INV-R4)", "supervise on 2026-02-01 PM", "no operation on block"] {
        assert!(out.contains(what), "`{what}` is missing:\n{out}");
    }
}

#[tokio::test]
async fn all_that_is_planted_is_found_and_nothing_else() {
    let database = common::residency(Some("all")).await;
    let ward = Clinic { session: database.session().await, database, operations: 0 };
    let (code, out, _) = ward.verify(&[]);
    assert_eq!(code, 0, "{out}");
}

#[tokio::test]
async fn a_database_that_was_loaded_before_there_were_appointments_gets_their_keys() {
    let mut clinic = Clinic::seeded().await;
    let before = "DROP TABLE account, run_grant, audit_entry, treatment_session, appointment; DROP SEQUENCE appointment_number; \
        ALTER TABLE unit_ledger DROP COLUMN appointment_id; DELETE FROM _migrations WHERE version >= 5";
    clinic.run(before).await;
    admin::claim(&mut clinic.session, &clinic.database.options, None).await.unwrap();
    assert_eq!(clinic.broken().await, [""; 0]);
}
