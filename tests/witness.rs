//! Does `verify` miss what vanished from rows and ledger together, by the histories that the runs left? On a real PostgreSQL.

mod common;

use common::{Bench, Place, on, run};
use serde_json::Value as Json;

/// `dbstress verify --json` with the histories of `place`: exit code and report.
fn verify(bench: &Bench, place: &Place) -> (i32, Json) {
    let (code, out, err) = run(&mut on(place, &bench.database.options, "verify --json"));
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

/// The comparison with the histories, if it was made.
fn histories(report: &Json) -> Option<&Json> {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "histories of the runs")
}

fn says(texts: &Json, what: &str) -> bool {
    texts.as_array().unwrap().iter().any(|text| text.as_str().unwrap().contains(what))
}

/// A small load that has been written to rows, ledger and history.
async fn loaded() -> Bench {
    let bench = Bench::new().await;
    let (code, out, err) = run(&mut bench.dbstress("throughput --vus 4 --iterations 60"));
    assert_ne!(code, 1, "{out}{err}");
    bench
}

/// The last operation on an authorisation, as if it had never been: neither the row nor the ledger shows it.
const UNDONE: &str = "WITH last AS (
        SELECT DISTINCT ON (authorisation_id) op_id, authorisation_id, units, kind FROM dbstress.unit_ledger ORDER BY authorisation_id, version DESC
    ), one AS (
        SELECT * FROM last WHERE kind = 'reserve' LIMIT 1
    ), gone AS (
        DELETE FROM dbstress.unit_ledger l USING one WHERE l.op_id = one.op_id RETURNING one.authorisation_id, one.units
    )
    UPDATE dbstress.authorisation a SET scheduled = a.scheduled - g.units, version = a.version - 1 FROM gone g WHERE a.id = g.authorisation_id";

#[tokio::test]
async fn what_was_acknowledged_is_missed_when_rows_and_ledger_vanish_together() {
    let bench = loaded().await;
    let mut session = bench.database.session().await;
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!(code, 0, "{report}");
    let check = histories(&report).unwrap();
    assert_eq!((&check["finding"], check["detail"]["examined"].as_i64()), (&"holds".into(), Some(60)), "{check}");

    assert_eq!(session.execute(UNDONE).await.unwrap(), 1);
    let elsewhere = Place::new();
    let (code, report) = verify(&bench, &elsewhere);
    assert_eq!(code, 0, "rows and ledger agree: {report}");
    assert!(says(&report["notes"], "1 of 1 recorded run could not be compared with its history"), "{report}");
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!(code, 1, "{report}");
    let check = histories(&report).unwrap();
    assert_eq!((&check["finding"], &check["detail"]["total"]), (&"violated".into(), &1.into()), "{check}");
    let row = &check["detail"]["rows"][0];
    assert!(row["actual"].as_str().unwrap().starts_with("acknowledged, but lost: op 1."), "{row}");
    assert!(says(&report["reasons"], "histories of the runs is violated: 1 row"), "{report}");
    // As people read it: there is no rule to show.
    let (code, out, _) = run(&mut bench.dbstress("verify --no-color"));
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("acknowledged, but lost") && !out.contains("--show histories"), "{out}");

    // The whole run.
    session
        .execute("DELETE FROM dbstress.unit_ledger; DELETE FROM dbstress.authorisation WHERE run_id IS NOT NULL; DELETE FROM dbstress.run")
        .await
        .unwrap();
    assert_eq!(verify(&bench, &elsewhere).0, 0, "nothing in the database shows it");
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!(code, 1, "{report}");
    let check = histories(&report).unwrap();
    assert_eq!(check["detail"]["rows"][0]["actual"], "the database does not know of it", "{check}");
    assert!(check["detail"]["total"].as_i64().unwrap() > 20, "each operation that was acknowledged: {check}");

    // Of another load of the same database these runs say nothing.
    let (code, out, err) = run(&mut bench.dbstress("seed --reset"));
    assert_eq!(code, 0, "{out}{err}");
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!((code, histories(&report)), (0, None), "{report}");
}

#[tokio::test]
async fn the_comparison_with_the_histories_can_fail_and_leaves_nothing_behind() {
    let bench = loaded().await;
    let (code, out, err) = run(&mut bench.dbstress("verify --self-test --no-color"));
    assert_eq!(code, 0, "{out}{err}");
    let line = out.lines().find(|line| line.contains("histories of the runs")).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains("fired: 0 -> 1 rows"), "{line}");
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!((code, &histories(&report).unwrap()["finding"]), (0, &"holds".into()), "{report}");
    // Where there is none, there is nothing to try.
    let (code, out, _) = run(&mut on(&Place::new(), &bench.database.options, "verify --self-test"));
    assert!(code == 0 && !out.contains("histories"), "{out}");
}

#[tokio::test]
async fn a_history_that_is_not_complete_is_no_evidence() {
    let bench = loaded().await;
    let mut session = bench.database.session().await;
    session.execute(UNDONE).await.unwrap();
    let name = session.text("SELECT record FROM dbstress.run").await.unwrap().unwrap();
    let folder = bench.place.0.join("runs").join(name);
    let history = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "history"));
    let history = history.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&history).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let (code, report) = verify(&bench, &bench.place);
    assert_eq!((code, histories(&report)), (0, None), "{report}");
    assert!(says(&report["notes"], "truncated: the run did not finish writing it"), "{report}");
    assert!(says(&report["notes"], "could not be compared with its history"), "{report}");
    std::fs::remove_dir_all(&folder).unwrap();
    let (code, report) = verify(&bench, &bench.place);
    assert!(code == 0 && says(&report["notes"], "could not be compared with its history"), "{report}");
}

#[tokio::test]
async fn claims_that_were_taken_out_of_the_database_are_missed() {
    let bench = Bench::new().await;
    let mut session = bench.database.session().await;
    let (_, out, err) = run(&mut bench.dbstress("contention --vus 8 --rounds 20 --strategy for-update"));
    let (code, before) = verify(&bench, &bench.place);
    assert_eq!(code, 0, "{before}{out}{err}");
    assert!(before["claimed"].as_array().unwrap().len() > 5, "{before}");
    for claims in ["{}", "{units-within-total}"] {
        session.execute(&format!("UPDATE dbstress.run SET claims = '{claims}'")).await.unwrap();
        let (code, report) = verify(&bench, &bench.place);
        assert_eq!(code, 3, "{report}");
        assert!(
            says(&report["reasons"], "rule in the database, and") && says(&report["reasons"], "one of them was changed"),
            "{report}"
        );
        let claimed = report["claimed"].as_array().unwrap();
        assert!(before["claimed"].as_array().unwrap().iter().all(|claim| claimed.contains(claim)), "{report}");
    }
    // Without the record nobody can tell; but what the run left is still claimed, and it is said.
    session.execute("UPDATE dbstress.run SET claims = '{}'").await.unwrap();
    let (code, report) = verify(&bench, &Place::new());
    assert_eq!(code, 0, "{report}");
    let claimed = report["claimed"].as_array().unwrap();
    assert!(before["claimed"].as_array().unwrap().iter().all(|claim| claimed.contains(claim)), "{report}");
    assert!(says(&report["notes"], "1 recorded run claims nothing of the rules"), "{report}");
}
