//! Do the rules in Rust and the rules in SQL find the same in any schedule, and is what the reader reads one state of it? On a real PostgreSQL.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{TestDatabase, at_least, database};
use dbstress::acgme::evaluate::Evaluator;
use dbstress::acgme::rules::{FirstYear, Formula, RuleSet};
use dbstress::acgme::{DAY, Finding, HOUR, Rule, Severity, Subject};
use dbstress::pg::admin::{self, Session};
use dbstress::random::Random;
use dbstress::roster::{self, Expected, Read, Scope};

/// Programmes of the random schedules: first date as days since 2026-01-05, days; the last one is made for a run, the one before has no half days.
const PROGRAMMES: [(i64, i64); 7] = [(0, 28), (15, 35), (3, 20), (770, 60), (-9000, 28), (0, 0), (0, 29)];

/// People of a programme.
const PEOPLE: u64 = 85;

const TABLES: [&str; 9] = [
    "programme",
    "person",
    "block",
    "rotation_template",
    "assignment",
    "assignment_unguarded",
    "call_assignment",
    "extra_duty",
    "absence",
];

/// What is different about a set of rules.
type Change = fn(&mut RuleSet);

/// A random schedule, as rows to be inserted.
struct Schedule {
    random: Random,
    rows: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Schedule {
    fn new(rng_seed: u64) -> Self {
        let mut schedule = Self { random: Random::of(rng_seed, 0, 0), rows: BTreeMap::new() };
        for (programme, (first, days)) in (1..).zip(PROGRAMMES) {
            schedule.programme(programme, first, days);
        }
        schedule
    }

    fn below(&mut self, n: u64) -> i64 {
        self.random.below(n).cast_signed()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len() as u64) as usize]
    }

    fn add(&mut self, table: &'static str, row: String) {
        self.rows.entry(table).or_default().insert(row);
    }

    fn programme(&mut self, programme: i64, first: i64, days: i64) {
        let run = if programme == PROGRAMMES.len() as i64 { "1, 'slots', 3" } else { "NULL, NULL, NULL" };
        self.add("programme", format!("{programme}, 'P', {run}, false"));
        for template in 0..12 {
            let activity = self.of(&["clinic", "inpatient", "procedure", "conference", "clinic", "off", "recovery", "absence"]);
            let most = self.of(&["NULL", "0", "2", "6", "9", "20"]);
            let supervised = self.chance(70);
            self.add(
                "rotation_template",
                format!("{}, {programme}, 'T', 'T', '{activity}', {most}, {supervised}, true", programme * 100 + template),
            );
        }
        for day in 0..days {
            for (half, name) in ["AM", "PM"].into_iter().enumerate() {
                let id = programme * 10_000 + 2 * day + half as i64;
                self.add("block", format!("{id}, {programme}, date '2026-01-05' + {}, '{name}', 0, false, false", first + day));
            }
        }
        for n in 0..PEOPLE {
            self.person(programme, programme * 1000 + n.cast_signed(), first, days);
        }
    }

    fn person(&mut self, programme: i64, id: i64, first: i64, days: i64) {
        let is_resident = self.chance(85);
        let (kind, pgy) = if is_resident {
            ("resident", self.of(&["1", "1", "2", "2", "3", "3", "NULL", "0", "300"]))
        } else {
            ("faculty", "NULL")
        };
        self.add("person", format!("{id}, {programme}, 'A', 'B', 'e', '{kind}', {pgy}, NULL, false"));
        let off = self.below(7);
        // Most are nearly right, so that rules are tried at their limits.
        let (work, call) = self.of(&[
            (100, 0),
            (100, 5),
            (100, 8),
            (100, 12),
            (90, 20),
            (60, 20),
            (40, 40),
            (0, 5),
            (0, 35),
            (0, 90),
            (100, 90),
            (30, 0),
        ]);
        let extra = self.of(&[0, 0, 3, 10]);
        for day in 0..days {
            for half in 0..2 {
                if day % 7 != off && self.chance(work) || self.chance(1) {
                    self.assignment("assignment", programme, (id, is_resident), (day, half));
                }
                if self.chance(1) {
                    self.assignment("assignment_unguarded", programme, (id, is_resident), (day, half));
                }
            }
            if self.chance(call) {
                let kind = self.of(&["overnight", "overnight", "overnight", "weekend", "backup"]);
                self.call(id, first + day, kind);
                if self.chance(30) {
                    let (start, minutes) = (time(first + day + 1, 420), self.of(&[60, 240, 241]));
                    self.add("extra_duty", format!("{id}, {start}, {start} + interval '{minutes} minutes', 'handover'"));
                }
            }
            if self.chance(extra) {
                let kind = self.of(&["extension", "handover", "handover", "moonlighting"]);
                let (start, minutes) = (self.of(&[0, 300, 420, 780, 1140, 1200]), self.of(&[59, 120, 240, 241, 360, 600]));
                let start = time(first + day, start);
                self.add("extra_duty", format!("{id}, {start}, {start} + interval '{minutes} minutes', '{kind}'"));
            }
            if self.chance(2) {
                let kinds = [
                    "vacation",
                    "deployment",
                    "tdy",
                    "medical",
                    "medical",
                    "family_emergency",
                    "conference",
                    "bereavement",
                    "emergency_leave",
                    "sick",
                    "sick",
                    "convalescent",
                    "maternity_paternity",
                ];
                let (kind, blocking, length) =
                    (self.of(&kinds), self.of(&["NULL", "NULL", "NULL", "true", "false"]), self.below(10));
                let from = format!("date '2026-01-05' + {}", first + day);
                self.add("absence", format!("{id}, {from}, {from} + {length}, '{kind}', {blocking}"));
            }
        }
        for _ in 0..self.of(&[0, 0, 0, 1, 1, 2]) {
            let (from, nights) = (self.below(days.max(1).cast_unsigned()), self.of(&[1, 3, 5, 6, 7, 8]));
            for night in from..from + nights {
                self.call(id, first + night, "night-float");
            }
        }
    }

    fn assignment(&mut self, table: &'static str, programme: i64, (person, is_resident): (i64, bool), (day, half): (i64, i64)) {
        let (first, _) = PROGRAMMES[programme as usize - 1];
        let roles = if is_resident {
            ["primary", "primary", "primary", "primary", "backup"]
        } else {
            ["supervising", "supervising", "supervising", "backup", "primary"]
        };
        let role = if self.chance(2) { "supervising" } else { self.of(&roles) };
        // Some in another programme, some nowhere, some at nothing.
        let block = match self.below(300) {
            0 => (programme % 3 + 1) * 10_000 + 2 * self.below(20) + half,
            1 => 1,
            _ => programme * 10_000 + 2 * day + half,
        };
        let template = if self.below(300) == 0 { 1 } else { programme * 100 + self.below(12) };
        let hours = match self.below(20) {
            0 => {
                let (start, minutes) = (self.of(&[0, 360, 419, 480, 780, 900, 1100]), self.of(&[1, 300, 360, 600, 1500]));
                let start = time(first + day, start);
                format!("{start}, {start} + interval '{minutes} minutes'")
            }
            _ => "NULL, NULL".into(),
        };
        self.add(table, format!("{block}, {person}, {template}, '{role}', {hours}"));
    }

    fn call(&mut self, person: i64, night: i64, kind: &str) {
        let hours = match self.below(12) {
            0 => {
                // Also such as begin after midnight, on the next day.
                let (start, minutes) = (self.of(&[900, 1140, 1439, 1440, 1500]), self.of(&[300, 720, 960]));
                let start = time(night, start);
                format!("{start}, {start} + interval '{minutes} minutes'")
            }
            _ => "NULL, NULL".into(),
        };
        self.add("call_assignment", format!("{person}, date '2026-01-05' + {night}, '{kind}', {hours}"));
    }

    async fn insert(&self, session: &mut Session) {
        for table in TABLES {
            let columns = match table {
                "assignment" | "assignment_unguarded" => "(block_id, person_id, rotation_template_id, role, starts_at, ends_at)",
                "call_assignment" => "(person_id, night, kind, starts_at, ends_at)",
                "extra_duty" => "(person_id, starts_at, ends_at, kind)",
                "absence" => "(person_id, starts_on, ends_on, kind, is_blocking)",
                _ => "",
            };
            let rows: Vec<&str> = self.rows[table].iter().map(String::as_str).collect();
            for part in rows.chunks(1000) {
                let sql = format!("INSERT INTO {table} {columns} VALUES ({}) ON CONFLICT DO NOTHING", part.join("), ("));
                session.execute(&sql).await.unwrap();
            }
        }
    }
}

/// A point in time: minutes after the midnight of a day, which is counted from 2026-01-05.
fn time(day: i64, minute: i64) -> String {
    format!("timestamp '2026-01-05' + interval '{day} days {minute} minutes'")
}

/// A database with our tables, and nothing in them.
async fn empty() -> (TestDatabase, Session) {
    let database = database().await;
    let mut session = database.session().await;
    admin::claim(&mut session, &database.options, None).await.unwrap();
    session.execute("SET search_path TO dbstress").await.unwrap();
    (database, session)
}

async fn rust_findings(session: &mut Session, sets: impl IntoIterator<Item = RuleSet>, scope: &Scope) -> (Vec<Vec<Finding>>, Read) {
    let mut evaluators: Vec<Evaluator> = sets.into_iter().map(Evaluator::new).collect();
    let read = roster::evaluate(session, scope, &mut evaluators).await.unwrap();
    (evaluators.into_iter().map(Evaluator::finish).collect(), read)
}

/// What only one of the two has.
fn difference(one: &[Finding], other: &[Finding]) -> Vec<Finding> {
    let others: BTreeSet<&Finding> = other.iter().collect();
    one.iter().filter(|finding| !others.contains(finding)).take(10).copied().collect()
}

#[tokio::test]
async fn both_implementations_find_the_same_in_random_schedules() {
    let mut fired: BTreeMap<(&str, &str, Severity), usize> = BTreeMap::new();
    for rng_seed in 0..2 {
        let (_database, mut session) = empty().await;
        Schedule::new(rng_seed).insert(&mut session).await;
        let every = Scope { programmes: Some((1..=PROGRAMMES.len() as i64).collect()) };
        for scope in [Scope::default(), every, Scope { programmes: Some(vec![2, 7]) }, Scope { programmes: Some(vec![]) }] {
            let sets = RuleSet::NAMES.map(|name| RuleSet::named(name).unwrap());
            let (in_rust, read) = rust_findings(&mut session, sets, &scope).await;
            let programmes = scope.programmes.as_ref().map_or(PROGRAMMES.len() - 1, Vec::len) as u64;
            assert_eq!(read.people, PEOPLE * programmes);
            for (name, in_rust) in RuleSet::NAMES.into_iter().zip(in_rust) {
                let in_sql = roster::sql_findings(&mut session, name, &scope).await.unwrap();
                let (only_rust, only_sql) = (difference(&in_rust, &in_sql), difference(&in_sql, &in_rust));
                assert_eq!(
                    in_rust, in_sql,
                    "rng_seed {rng_seed}, {name}, {scope:?}: only Rust {only_rust:#?}, only SQL {only_sql:#?}"
                );
                assert_eq!(in_rust.is_empty(), programmes == 0);
                if scope == Scope::default() {
                    in_rust.iter().for_each(|f| *fired.entry((name, f.rule.id(), f.severity)).or_default() += 1);
                }
            }
        }
    }
    // A rule that never fires has not been compared.
    for name in RuleSet::NAMES {
        for rule in RuleSet::named(name).unwrap().rules() {
            let often = fired.get(&(name, rule.id(), Severity::Violation)).copied().unwrap_or_default();
            assert!(often >= 20, "{name} {}: {often} violations in {fired:?}", rule.id());
        }
    }
    for (name, rule) in [("cpr", "AC-1"), ("rs-head", "AC-1"), ("cpr", "AC-3"), ("rs-head", "AC-3"), ("cpr", "AC-4")] {
        let often = fired.get(&(name, rule, Severity::Warning)).copied().unwrap_or_default();
        assert!(often >= 5, "{name} {rule}: {often} warnings in {fired:?}");
    }
}

#[tokio::test]
async fn a_threshold_that_is_off_by_the_least_is_noticed() {
    let (_database, mut session) = empty().await;
    Schedule::new(7).insert(&mut session).await;
    let scope = Scope::default();
    let changes: [(&str, Change); 14] = [
        ("cpr", |set| set.weekly_hours.as_mut().unwrap().limit += 12 * HOUR),
        ("rs-head", |set| set.weekly_hours.as_mut().unwrap().warning += HOUR),
        ("rs-head", |set| set.days_in_a_row = Some(7)),
        ("cpr", |set| set.free_days = Some(5)),
        ("cpr", |set| set.continuous_hours.as_mut().unwrap().in_all += 1),
        ("cpr", |set| set.continuous_hours.as_mut().unwrap().scheduled += 1),
        ("cpr", |set| set.rest.as_mut().unwrap().after_long += 1),
        ("cpr", |set| set.rest.as_mut().unwrap().advised = Some(8 * HOUR + 1)),
        ("rs-head", |set| set.rest.as_mut().unwrap().calls_are_long = false),
        ("rs-head", |set| set.calls = Some(10)),
        ("rs-dec25", |set| set.nights_in_a_row = Some(7)),
        ("rs-head", |set| set.supervision = Some(Formula::Max)),
        ("rs-dec25", |set| set.first_year = Some(FirstYear::BegunOnADay { first_year: 16 * HOUR, others: 24 * HOUR + 1 })),
        ("rs-head", |set| set.post_night = false),
    ];
    let changed = changes.map(|(name, change)| {
        let mut set = RuleSet::named(name).unwrap();
        change(&mut set);
        set
    });
    let (in_rust, _) = rust_findings(&mut session, changed, &scope).await;
    let mut in_sql = BTreeMap::new();
    for name in RuleSet::NAMES {
        in_sql.insert(name, roster::sql_findings(&mut session, name, &scope).await.unwrap());
    }
    for (at, ((name, _), in_rust)) in changes.into_iter().zip(in_rust).enumerate() {
        assert_ne!(in_rust, in_sql[name], "change {at} of {name}");
    }
}

#[tokio::test]
async fn rules_that_nobody_knows_are_an_error_and_not_an_empty_answer() {
    let (_database, mut session) = empty().await;
    let unknown = roster::sql_findings(&mut session, "crp", &Scope::default()).await.unwrap_err();
    assert!(format!("{unknown:?}").contains("there are no rules of duty hours called 'crp'"), "{unknown:?}");
    // However the question is narrowed, on empty tables and on full ones.
    for full in [false, true] {
        if full {
            Schedule::new(1).insert(&mut session).await;
        }
        for narrowed in [
            "true",
            "rule = 'AC-10'",
            "person_id = 5",
            "block_id = 5",
            "rotation_template_id = 5",
            "person_id IS NULL",
            "measured > 7",
        ] {
            for name in ["'crp'", "NULL"] {
                let refused = session.rows(&format!("SELECT * FROM duty_findings({name}) WHERE {narrowed}")).await.unwrap_err();
                assert_eq!(refused.code.as_deref(), Some("22023"), "{narrowed}: {refused}");
            }
        }
    }
    assert_eq!(roster::sql_findings(&mut session, "cpr", &Scope { programmes: Some(vec![]) }).await.unwrap(), []);
}

/// One programme of 28 days, one resident of the second year, in the first AM of it.
const ONE: &str = "INSERT INTO programme VALUES (1, 'P');
    INSERT INTO person VALUES (1, 1, 'A', 'B', 'e', 'resident', 2), (2, 1, 'C', 'D', 'e', 'faculty', NULL);
    INSERT INTO block SELECT 2 * d + h, 1, date '2026-01-05' + d, (ARRAY['AM', 'PM'])[h + 1], 0, extract(isodow FROM date '2026-01-05' + d) > 5
        FROM generate_series(0, 27) d, generate_series(0, 1) h;
    INSERT INTO rotation_template VALUES (1, 1, 'T', 'T', 'clinic', 8, false);
    INSERT INTO assignment (block_id, person_id, rotation_template_id, role) VALUES (0, 1, 1, 'primary'), (0, 2, 1, 'backup');
    INSERT INTO call_assignment (person_id, night, kind) VALUES (2, '2026-01-05', 'backup');
    INSERT INTO extra_duty (person_id, starts_at, ends_at, kind) VALUES (1, '2026-01-20 07:00', '2026-01-20 08:00', 'extension');
    INSERT INTO absence (person_id, starts_on, ends_on, kind) VALUES (1, '2026-01-30', '2026-01-30', 'vacation')";

#[tokio::test]
async fn several_statements_see_one_state_only_within_a_snapshot() {
    let (database, mut session) = empty().await;
    session.execute(ONE).await.unwrap();
    let (found, read) = rust_findings(&mut session, [RuleSet::cpr()], &Scope::default()).await;
    assert_eq!((&found[0][..], read), (&[][..], Read { people: 2, assignments: 2, calls: 1, extra_duties: 1, absences: 1 }));
    for (begin, mixes) in
        [("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", false), ("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", true)]
    {
        // The reader has read the assignments and waits for the calls; then the one becomes the other.
        let mut writer = database.session().await;
        writer.execute("SET search_path TO dbstress; BEGIN; LOCK TABLE call_assignment IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let mut reader = database.session().await;
        let reading = tokio::spawn(async move {
            reader.execute("SET search_path TO dbstress").await.unwrap();
            reader.execute(begin).await.unwrap();
            let (found, _) = rust_findings(&mut reader, [RuleSet::cpr()], &Scope::default()).await;
            reader.execute("ROLLBACK").await.unwrap();
            reader.close().await;
            found
        });
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'dbstress.call_assignment'::regclass AND NOT granted";
        at_least(&mut session, 1, waiting).await;
        let moved = "DELETE FROM assignment WHERE person_id = 1; INSERT INTO call_assignment (person_id, night, kind, starts_at, ends_at) \
                     VALUES (1, '2026-01-05', 'overnight', '2026-01-05 10:00', '2026-01-05 15:00'); COMMIT";
        writer.execute(moved).await.unwrap();
        let found = reading.await.unwrap().remove(0);
        let in_two_places: Vec<(Rule, Subject, i64)> = found.iter().map(|f| (f.rule, f.subject, f.measured)).collect();
        let mixed = if mixes { vec![(Rule::DoubleBooking, Subject::Person(1), 3 * HOUR)] } else { vec![] };
        assert_eq!(in_two_places, mixed, "{begin}");
        let back = "DELETE FROM call_assignment WHERE person_id = 1; \
                    INSERT INTO assignment (block_id, person_id, rotation_template_id, role) VALUES (0, 1, 1, 'primary')";
        writer.execute(back).await.unwrap();
        writer.close().await;
    }
}

#[tokio::test]
async fn what_was_planted_is_expected_while_it_holds_and_in_its_programme() {
    let (_database, mut session) = empty().await;
    session.execute(ONE).await.unwrap();
    let lines = "INSERT INTO expected_violation (plant, label, rules, rule, person_id, block_id, rotation_template_id, measured, severity, holds, detail)
        VALUES (1, 'PL-1', 'cpr', 'AC-1', 1, NULL, NULL, 19440, 'violation', true, ''), (1, 'PL-1', 'rs-head', 'AC-1', 1, NULL, NULL, 19440, 'violation', true, ''),
        (2, 'PL-4b', 'cpr', 'AC-4', 1, NULL, NULL, 360, 'warning', true, ''), (3, 'PL-5', 'cpr', 'AC-5', 1, NULL, NULL, 11, 'violation', false, ''),
        (4, 'PL-7', 'cpr', 'AC-7', NULL, 5, NULL, 0, 'violation', true, ''), (5, 'PL-11', 'cpr', 'AC-11', NULL, 5, 1, 9, 'violation', true, '')";
    session.execute(lines).await.unwrap();
    let line = |rule, subject, severity, measured, label: &str| Expected { rule, subject, severity, measured, label: label.into() };
    let all = BTreeSet::from([
        line(Rule::WeeklyHours, Subject::Person(1), Severity::Violation, 19_440, "PL-1"),
        line(Rule::Rest, Subject::Person(1), Severity::Warning, 360, "PL-4b"),
        line(Rule::Supervision, Subject::Block(5), Severity::Violation, 0, "PL-7"),
        line(Rule::Capacity, Subject::Place(5, 1), Severity::Violation, 9, "PL-11"),
    ]);
    assert_eq!(roster::expected(&mut session, "cpr", &Scope::default()).await.unwrap(), all);
    assert!(roster::expected(&mut session, "cpr", &Scope { programmes: Some(vec![2]) }).await.unwrap().is_empty());
    assert_eq!(roster::expected(&mut session, "rs-head", &Scope { programmes: Some(vec![1]) }).await.unwrap().len(), 1);
    session.execute("UPDATE expected_violation SET rule = 'AC-99' WHERE plant = 1").await.unwrap();
    assert!(roster::expected(&mut session, "cpr", &Scope::default()).await.is_err(), "a rule that nobody knows cannot be found");
}

#[tokio::test]
async fn the_copy_of_a_control_is_judged_where_the_search_path_leads_there() {
    let (_database, mut session) = empty().await;
    session.execute(ONE).await.unwrap();
    session
        .execute(
            "CREATE SCHEMA dbstress_control; CREATE TABLE dbstress_control.extra_duty AS SELECT * FROM extra_duty; \
             INSERT INTO dbstress_control.extra_duty SELECT * FROM extra_duty",
        )
        .await
        .unwrap();
    for (path, minutes) in [("dbstress", vec![]), ("dbstress_control, dbstress, public", vec![HOUR]), ("dbstress", vec![])] {
        session.execute(&format!("SET search_path TO {path}")).await.unwrap();
        let (in_rust, _) = rust_findings(&mut session, [RuleSet::cpr()], &Scope::default()).await;
        let in_sql = roster::sql_findings(&mut session, "cpr", &Scope::default()).await.unwrap();
        assert_eq!(in_rust[0], in_sql);
        assert_eq!(in_sql.iter().map(|f| f.measured).collect::<Vec<_>>(), minutes, "{path}");
        assert!(in_sql.iter().all(|f| f.start % DAY == 7 * HOUR));
    }
}

#[tokio::test]
async fn in_the_seeded_schedule_is_what_was_planted_and_nothing_else() {
    for plant in [None, Some("all")] {
        let database = common::residency(plant).await;
        let mut session = database.session().await;
        session.execute("SET search_path TO dbstress").await.unwrap();
        let sets = RuleSet::NAMES.map(|name| RuleSet::named(name).unwrap());
        let (in_rust, read) = rust_findings(&mut session, sets, &Scope::default()).await;
        assert!(read.people >= 140 && read.assignments >= 6000 && read.absences > 0, "{read:?}");
        for (name, in_rust) in RuleSet::NAMES.into_iter().zip(in_rust) {
            assert_eq!(roster::sql_findings(&mut session, name, &Scope::default()).await.unwrap(), in_rust, "{name}");
            let found: BTreeSet<_> = in_rust.iter().map(|f| (f.rule, f.subject, f.severity, f.measured)).collect();
            let expected = roster::expected(&mut session, name, &Scope::default()).await.unwrap();
            let expected: BTreeSet<_> = expected.iter().map(|e| (e.rule, e.subject, e.severity, e.measured)).collect();
            assert_eq!(found, expected, "{name}, planted: {plant:?}");
            assert_eq!(expected.is_empty(), plant.is_none());
        }
    }
}
