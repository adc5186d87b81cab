//! Does `dbstress capacity` find where a promise breaks, and say so with the right exit code?

mod common;

use common::{Place, TestDatabase, run};
use dbstress::record::{Capacity, CapacityRecord};
use dbstress::verdict::Verdict;

/// A seeded database, and a place for what the program writes.
struct Bench {
    database: TestDatabase,
    place: Place,
}

impl Bench {
    async fn new() -> Self {
        Self { database: common::seeded().await, place: Place::new() }
    }

    /// `dbstress capacity ARGUMENTS` on the database: exit code, what it wrote down, what it printed.
    fn capacity(&self, arguments: &str) -> (i32, CapacityRecord, String) {
        let export = self.place.0.join("capacity.json");
        let mut command = self.place.dbstress(&["capacity", "--summary-export"]);
        command.arg(&export).args(arguments.split(' ')).env("DATABASE_URL", self.database.url());
        let (code, out, err) = run(&mut command);
        let json = std::fs::read_to_string(&export).unwrap_or_else(|_| panic!("exit {code}\n{out}\n{err}"));
        (code, serde_json::from_str(&json).unwrap(), format!("{out}\n{err}"))
    }
}

#[tokio::test]
async fn what_any_machine_keeps_is_kept_to_the_end_of_the_ladder() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.capacity("--ladder 1,2 --step 2s --no-thresholds --threshold committed.count>=1");
    assert_eq!((code, record.finding, record.knee), (0, Capacity::WholeLadder, Some(2.0)), "{said}");
    assert_eq!(record.slo, ["committed:count>=1"]);
    let tried: Vec<usize> = record.steps.iter().map(|step| step.trials.len()).collect();
    assert_eq!(tried, [1, 3], "the last step is tried again: {said}");
    assert!(record.steps.iter().flat_map(|s| &s.trials).all(|trial| trial.committed_per_second > 0.0), "{said}");
    for words in
        ["WHOLE LADDER KEPT", "at least 2 VUs kept the SLO 3 of 3 times", "again: dbstress capacity throughput --ladder 1,2"]
    {
        assert!(said.contains(words), "`{words}` is missing: {said}");
    }
}

#[tokio::test]
async fn what_no_machine_keeps_is_missed_by_the_first_step() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.capacity("--rate-ladder 20,40 --step 4s --vus 5 --threshold response:p(95)<0.001ms");
    if record.steps.iter().flat_map(|step| &step.trials).any(|trial| trial.verdict == Verdict::Inconclusive) {
        assert!([3, 99].contains(&code), "a machine too busy to make the load is told from a slow server: {said}");
        return;
    }
    assert_eq!((code, record.finding, record.knee, record.missed_at), (99, Capacity::Missed, None, Some(20.0)), "{said}");
    let verdicts: Vec<Verdict> = record.steps[0].trials.iter().map(|trial| trial.verdict).collect();
    assert_eq!(verdicts, [Verdict::Missed; 3], "{said}");
    assert!(record.steps[1].trials.is_empty(), "nothing above it is tried: {said}");
    assert_eq!(record.left_out, ["committed:rate>=100/s"], "the ladder says how much load there is");
    assert!(said.contains("no step kept the SLO: 20 arrivals/s missed it 3 of 3 times"), "{said}");
}

#[test]
fn what_the_ladder_decides_cannot_be_said_twice() {
    for (arguments, words) in [
        ("--duration 5s", "--duration: the ladder says how long"),
        ("--vus 5", "--vus: the ladder says how many virtual users"),
        ("--ladder 10,5", "--ladder: 10,5 does not climb"),
        ("--rate-ladder 0,5", "--rate-ladder: 0,5 does not climb"),
        ("--step 0s", "--step: nothing would happen"),
        ("--strategy all", "capacity is of one strategy, and there are 8"),
    ] {
        let (code, _, err) = run(common::dbstress().arg("capacity").args(arguments.split(' ')));
        assert_eq!(code, 2, "{arguments}: {err}");
        assert!(err.contains(words) && err.contains("cure:"), "{arguments}: {err}");
    }
}
