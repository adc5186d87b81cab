//! Are the rules of duty hours right while the schedule changes, is it found out if they are not, and is the schedule afterwards what it was?

mod common;

use common::{Place, Started, TestDatabase, on, run};
use dbstress::accuracy::{AccuracyRecord, LEAST, Mode, Mutant, Phase};
use dbstress::acgme::Rule;
use dbstress::verdict::Verdict;
use nix::sys::signal::Signal;

/// What the schedule consists of, and what is said to be true.
const STATE: &str = "SELECT md5(string_agg(line, ',' ORDER BY line)) FROM ( \
    SELECT a::text AS line FROM dbstress.assignment a UNION ALL SELECT a::text FROM dbstress.assignment_unguarded a \
    UNION ALL SELECT a::text FROM dbstress.call_assignment a UNION ALL SELECT a::text FROM dbstress.extra_duty a \
    UNION ALL SELECT a::text FROM dbstress.absence a UNION ALL SELECT a::text FROM dbstress.expected_violation a \
    UNION ALL SELECT a::text FROM dbstress.programme a UNION ALL SELECT a::text FROM dbstress.person a \
    UNION ALL SELECT a::text FROM dbstress.block a UNION ALL SELECT a::text FROM dbstress.rotation_template a) AS lines";

/// The residency, with some cases planted.
struct Ward {
    database: TestDatabase,
    place: Place,
}

impl Ward {
    async fn seeded(plants: &str) -> Self {
        let ward = Self { database: common::database().await, place: Place::new() };
        let plant = if plants.is_empty() { String::new() } else { format!(" --plant {plants}") };
        let (code, out, err) = ward.run(&format!("seed --dataset residency{plant}"));
        assert_eq!(code, 0, "{out}{err}");
        ward
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        run(&mut on(&self.place, &self.database.options, arguments))
    }

    /// `dbstress acgme ARGUMENTS --json`: exit code, record, what was said meanwhile.
    fn acgme(&self, arguments: &str) -> (i32, AccuracyRecord, String) {
        let (code, out, err) = self.run(&format!("acgme {arguments} --json"));
        common::assert_no_panic(&out, &err);
        let record: AccuracyRecord = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {code} {out}{err}"));
        assert_eq!(code, i32::from(record.exit_code), "{err}");
        (code, record, err)
    }

    async fn state(&self) -> String {
        self.database.session().await.text(STATE).await.unwrap().unwrap()
    }

    async fn execute(&self, sql: &str) -> u64 {
        self.database.session().await.execute(sql).await.unwrap()
    }
}

#[tokio::test]
async fn every_set_of_rules_is_right_beside_writers_and_leaves_the_schedule_as_it_was() {
    let ward = Ward::seeded("all").await;
    let state = ward.state().await;
    let (code, record, err) = ward.acgme("--rules all --validators 3 --writers 3 --duration 1s");
    assert_eq!(code, 0, "{:#?}\n{err}", record.reasons);
    assert_eq!((record.verdict, record.mode, record.wrong_in_all), (Verdict::Pass, Mode::Check, 0));
    let phases: Vec<Phase> = record.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(phases, [Phase::Before, Phase::Unrelated, Phase::Toggling, Phase::After]);
    for phase in &record.phases[1..3] {
        assert!(phase.validations >= LEAST && phase.commits_during >= LEAST && phase.overlapped > 0, "{phase:?}");
        assert_eq!((phase.deadlocks, phase.errors), (0, 0), "{phase:?}");
    }
    assert_eq!(record.phases[2].cases_toggled, record.schedule.cases);
    assert_eq!(record.phases[3].validations, 11, "one alone, and ten at once");
    let control = record.control.unwrap();
    assert!(control.disagreed > 0 && control.example.is_some(), "{control:?}");
    for rules in &record.rules {
        for row in rules.rows.iter().filter(|row| row.planted.all() > 0) {
            assert!(row.hits.all() > 0 && row.true_negatives > 0, "{} {row:?}", rules.name);
            assert_eq!((row.false_positives, row.false_negatives), (0, 0), "{} {row:?}", rules.name);
        }
        // Warnings are counted apart, and some are planted in every set: 78 hours a week.
        let weekly = rules.rows.iter().find(|row| row.rule == Rule::WeeklyHours).unwrap();
        assert!(weekly.hits.warnings > 0 && weekly.hits.violations > 0, "{weekly:?}");
    }
    assert_eq!(ward.state().await, state);
}

#[tokio::test]
async fn every_mistake_of_validators_is_found_out_by_a_planted_case() {
    let ward = Ward::seeded("all").await;
    let (code, record, err) = ward.acgme("--self-test");
    assert_eq!(code, 0, "{:#?}\n{err}", record.reasons);
    for mutant in Mutant::ALL {
        for set in mutant.sets() {
            let tried = record.mutants.iter().find(|tried| tried.mutant == mutant && tried.rules == *set).unwrap();
            assert!(tried.caught_by.as_ref().is_some_and(|label| label.starts_with("PL-")) && tried.mistakes > 0, "{tried:?}");
        }
    }
    let (code, out, _) = ward.run("acgme --list");
    assert_eq!(code, 0);
    assert!(Mutant::ALL.iter().all(|mutant| out.contains(mutant.name())), "{out}");

    // The positive control of the self-test: what no planted case is about is not found out by one.
    ward.execute("DELETE FROM dbstress.extra_duty WHERE kind = 'moonlighting'").await;
    ward.execute("DELETE FROM dbstress.expected_violation WHERE label = 'PL-8'").await;
    ward.execute("DELETE FROM dbstress.planted_row WHERE row ->> 'kind' = 'moonlighting'").await;
    let (code, record, _) = ward.acgme("--self-test");
    assert_eq!(code, 3, "{:?}", record.reasons);
    assert!(record.reasons[0].contains("no-moonlighting under cpr: not found out"), "{:?}", record.reasons);
}

#[tokio::test]
async fn without_planted_cases_nothing_is_shown_and_another_dataset_is_none() {
    let ward = Ward::seeded("").await;
    for arguments in ["--duration 1s", "--measure 2"] {
        let (code, record, _) = ward.acgme(arguments);
        assert_eq!((code, record.verdict), (3, Verdict::Inconclusive));
        assert!(record.reasons[0].contains("dbstress seed --reset --dataset residency --plant all"), "{:?}", record.reasons);
    }
    let (code, _, err) = ward.run("acgme --rules crp");
    assert!(code == 2 && err.contains("cpr"), "{code} {err}");

    let clinic = common::seeded().await;
    let (code, out, err) = run(&mut on(&ward.place, &clinic.options, "acgme"));
    assert_eq!(code, 2, "{out}{err}");
    assert!(err.contains("the dataset clinic") && err.contains("--dataset residency --plant all"), "{err}");
}

#[tokio::test]
async fn what_was_not_planted_is_named_and_so_is_what_is_not_there() {
    let ward = Ward::seeded("all").await;
    // A half day that has exactly what it needs loses somebody who supervises.
    let block = "SELECT b.id FROM dbstress.block b WHERE b.id NOT IN (SELECT block_id FROM dbstress.expected_violation WHERE block_id IS NOT NULL) \
        AND b.id NOT IN (SELECT (row ->> 'block_id')::bigint FROM dbstress.planted_row WHERE relation = 'assignment') ORDER BY 1 LIMIT 1";
    let mut session = ward.database.session().await;
    let block = session.integer(block).await.unwrap();
    let gone = format!(
        "DELETE FROM dbstress.assignment WHERE id = (SELECT max(id) FROM dbstress.assignment WHERE block_id = {block} AND role = 'supervising') \
         RETURNING id"
    );
    session.integer(&gone).await.unwrap();
    let (code, record, _) = ward.acgme("--duration 1s");
    assert_eq!(code, 1, "{:?}", record.reasons);
    assert!(record.reasons[1].contains(&format!("AC-7, half day {block}: found")), "{:?}", record.reasons);
    assert!(record.reasons[1].contains("nothing should be"), "{:?}", record.reasons);
    assert!(record.reasons[0].contains("not as it was seeded"), "both implementations say so: {:?}", record.reasons);
    assert_eq!(record.phases.len(), 1, "where the truth is in doubt nothing is judged by it");

    // Somebody is said to work too much who does not.
    let person = session
        .integer("SELECT min(id) FROM dbstress.person WHERE kind = 'resident' AND id NOT IN (SELECT person_id FROM dbstress.expected_violation WHERE person_id IS NOT NULL)")
        .await
        .unwrap();
    session
        .execute(&format!(
            "INSERT INTO dbstress.expected_violation (plant, label, rules, rule, person_id, measured, severity, detail) \
             VALUES (-1, 'BOGUS', 'cpr', 'AC-1', {person}, 20000, 'violation', 'by hand')"
        ))
        .await
        .unwrap();
    let (code, record, _) = ward.acgme("--measure 1 --findings");
    assert_eq!(code, 1, "{:?}", record.reasons);
    let missed = record.wrong.iter().filter(|wrong| wrong.mistake.found.is_none()).map(ToString::to_string).collect::<Vec<_>>();
    assert!(missed.iter().any(|missed| missed.contains(&format!("AC-1, person {person}: found nothing, and BOGUS"))), "{missed:?}");
    let findings = record.findings.unwrap();
    assert!(findings.iter().any(|listed| listed.label.as_deref() == Some("PL-1")), "{findings:?}");
}

#[tokio::test]
async fn one_case_is_enough_to_see_and_what_took_too_long_is_missed() {
    let ward = Ward::seeded("PL-1:1").await;
    let (code, record, _) = ward.acgme("--measure 3");
    assert_eq!(code, 0, "{:?}", record.reasons);
    assert_eq!(record.phases[0].validations, 3);
    assert!(record.phases[0].cost.cpu_ms > record.phases[0].cost.rules_cpu_ms && record.phases[0].sql_ms.is_some(), "{record:?}");
    let cpr = &record.rules[0];
    assert!(cpr.untested().any(|rule| rule == Rule::Absence) && cpr.untested().all(|rule| rule != Rule::WeeklyHours), "{cpr:?}");
    let (code, record, _) = ward.acgme("--measure 3 --p95 1us");
    assert_eq!((code, record.verdict), (99, Verdict::Missed), "{:?}", record.reasons);
    let (code, out, _) = ward.run("acgme --measure 1 --rules cpr --no-color");
    assert_eq!(code, 0);
    assert!(out.contains("PASS") && out.contains("again: dbstress acgme --rules cpr --measure 1"), "{out}");
    assert!(out.contains("cpr: not tested"), "{out}");
}

#[tokio::test]
async fn what_is_interrupted_is_put_right_at_once_and_what_is_killed_by_the_next_command() {
    let ward = Ward::seeded("all").await;
    let state = ward.state().await;
    let mut session = ward.database.session().await;
    let begin = |duration: &str| {
        let arguments = format!("acgme --validators 2 --writers 2 --duration {duration}");
        Started::new(on(&ward.place, &ward.database.options, &arguments))
    };

    // Killed while the programme beside is there.
    let started = begin("60s");
    common::at_least(&mut session, 1, "SELECT count(*) FROM dbstress.programme WHERE contest = 'acgme'").await;
    started.signal(Signal::SIGKILL);
    started.ended().await;
    let (code, out, err) = run(&mut on(&ward.place, &ward.database.options, "verify"));
    assert!(code != 1 && out.contains("made for its writers are left out"), "what is left is no breach of anybody's: {out}{err}");

    // Interrupted while cases are mended.
    let mended = "SELECT count(*) FROM dbstress.expected_violation WHERE NOT holds";
    let started = begin("3s");
    common::at_least(&mut session, 1, mended).await;
    started.signal(Signal::SIGINT);
    let (code, out, err) = started.ended().await;
    common::assert_no_panic(&out, &err);
    assert_eq!(code, 130, "{out}{err}");
    assert!(out.contains("INCONCLUSIVE") && out.contains("interrupted"), "{out}");
    assert!(err.contains("programmes of an earlier check removed: 1"), "{err}");
    assert_eq!(ward.state().await, state);

    // Killed while cases are mended.
    let started = begin("3s");
    common::at_least(&mut session, 1, mended).await;
    started.signal(Signal::SIGKILL);
    started.ended().await;
    assert_ne!(ward.state().await, state);
    let (code, record, err) = ward.acgme("--measure 1");
    assert_eq!(code, 0, "{:?}", record.reasons);
    assert!(
        record.restored.iter().any(|what| what.contains("put right")) && err.contains("put right"),
        "{:?} {err}",
        record.restored
    );
    assert_eq!(ward.state().await, state);

    // What somebody else took away, who says nothing of it, is not put right but found.
    let call =
        "(SELECT min((row ->> 'id')::bigint) FROM dbstress.planted_row WHERE label = 'PL-1' AND relation = 'call_assignment')";
    ward.execute(&format!("DELETE FROM dbstress.call_assignment WHERE id = {call}")).await;
    let (code, record, _) = ward.acgme("--measure 1");
    assert!(code == 1 && record.restored.is_empty(), "{:?} {:?}", record.reasons, record.restored);
    assert!(record.reasons[0].contains("not as it was seeded"), "{:?}", record.reasons);
}
