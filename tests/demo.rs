//! Does the tour show what it promises, and leave nothing running?

mod common;

use common::{Place, run};
use dbstress::pg::cluster::State;
use dbstress::plan::HAZARD;
use dbstress::record::RunRecord;
use dbstress::strategy::Strategy;
use dbstress::verdict::Verdict;

#[test]
fn the_demo_shows_every_safe_strategy_and_stops_its_server() {
    let place = Place::new();
    // A tour has no business in the user's database, not even in one that is not there.
    let mut demo = place.dbstress(&["demo", "--duration", "1s", "--vus", "20"]);
    demo.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere");
    let (code, out, err) = run(&mut demo);

    let records: Vec<RunRecord> = std::fs::read_dir(place.0.join("runs"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path().join("record.json")).unwrap())
        .map(|text| RunRecord::from_json(&text).unwrap())
        .collect();
    let [record] = &records[..] else { panic!("{} records\n{out}\n{err}", records.len()) };
    let turns: Vec<&str> = record.turns.iter().map(|turn| &*turn.name).collect();
    assert_eq!(turns, Strategy::safe(HAZARD).map(Strategy::name).collect::<Vec<_>>(), "{out}\n{err}");
    assert_eq!(record.controls.len(), 4, "two twins, before and after");
    // A second each may be too short for enough rounds on a slow machine; it must never look like a breach, nor a breach like that.
    assert!([Verdict::Pass, Verdict::Inconclusive].contains(&record.verdict), "{out}\n{err}");
    assert_eq!(code, i32::from(record.verdict.exit().code()), "{out}\n{err}");

    let last = out.rfind("PASS").max(out.rfind("INCONCLUSIVE")).unwrap();
    assert!(out[last..].starts_with(&record.verdict.word().to_uppercase()), "the verdict comes last: {out}");
    for line in ["every claimed invariant was examined and holds", "again: dbstress demo", "control: naive (overbooked)"] {
        assert!(out.contains(line), "`{line}` is missing from: {out}");
    }
    assert_eq!(place.state(), Some(State::Stopped), "{err}");
}
