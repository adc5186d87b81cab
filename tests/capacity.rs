//! Does `dbstress capacity` find where a promise breaks, and say so with the right exit code?

mod common;

use common::{Place, TestDatabase, run};
use dbstress::record::{Capacity, CapacityRecord, LoadUnit};
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

#[tokio::test]
async fn each_size_of_a_pool_is_tried_three_times_at_one_load_and_is_told_what_it_came_to() {
    let bench = Bench::new().await;
    let (code, record, said) = bench.capacity("--pool-size 1,4 --vus 8 --step 1s --no-thresholds --threshold committed.count>=1");
    let sizes: Vec<(f64, usize)> = record.steps.iter().map(|step| (step.load, step.trials.len())).collect();
    assert_eq!((sizes, record.unit), (vec![(1.0, 3), (4.0, 3)], LoadUnit::Connections), "{said}");
    let sweep = record.sweep.as_ref().unwrap();
    assert_eq!((sweep.load, sweep.unit), (8.0, LoadUnit::Vus));
    for step in &record.steps {
        for trial in &step.trials {
            assert!(trial.committed_per_second > 0.0 && trial.wait.as_ref().is_some_and(|wait| wait.samples > 0), "{said}");
        }
    }
    // Eight ask at once: somebody always has the only connection, and somebody has waited for it.
    let shares: Vec<f64> = record.steps[0].trials.iter().filter_map(|trial| Some(trial.pool?.maximum)).collect();
    assert!(shares.iter().all(|share| *share == 1.0), "{shares:?}\n{said}");
    assert!(said.contains("again: dbstress capacity throughput --step 1s --vus 8 --pool-size 1,4"), "{said}");
    match (record.finding, sweep.advice) {
        (Capacity::Recommended, Some(advice)) => {
            assert_eq!(code, 0, "{said}");
            assert!([1.0, 4.0].contains(&advice.size) && said.contains("RECOMMENDED"), "{said}");
            assert!(said.contains("the rule of thumb, cores × 2 + 1"), "{said}");
            // Nothing is smaller than 1.
            assert_eq!(said.contains("the largest that was tried"), advice.size == 4.0, "{said}");
        }
        // On a machine that is too busy, or where one size is faster and the other has more throughput.
        (Capacity::Open, None) => assert_eq!(code, 3, "{said}"),
        other => panic!("{other:?}: {said}"),
    }
}

#[test]
fn sizes_of_a_pool_are_tried_at_one_load_and_a_list_of_them_nowhere_else() {
    for (command, arguments, words) in [
        ("capacity", "--pool-size 1,4 --ladder 1,2", "--ladder: several sizes of a pool are tried at one load"),
        ("capacity", "--pool-size 1,4 --rate-ladder 1,2", "--rate-ladder: several sizes of a pool"),
        ("capacity", "--pool-size 1,4 --duration 5s", "--duration: several sizes of a pool"),
        ("capacity", "--pool-size 4,4", "--pool-size: 4,4 does not climb"),
        ("capacity", "--pool-size 0,4", "--pool-size: 0 is a pool without connections"),
        ("capacity", "--pool-size 0", "--pool-size: 0 is a pool without connections"),
        ("capacity", "--pool-size 4 --vus 8", "--vus: the ladder says"),
        ("capacity", "--pool-size 4 --vus 8", "--ladder instead"),
        ("capacity", "--pool-size 4 --vus 8", "--pool-size 5,10,20"),
        ("capacity", "--pool-size 4 --rate 10", "--pool-size 5,10,20"),
        ("capacity", "--pool-size 4 --rate 10", "--rate: the ladder says"),
        ("capacity", "--pool-size 1,four", "invalid value 'four' for '--pool-size"),
        ("throughput", "--pool-size 1,4", "invalid value '1,4' for '--pool-size"),
    ] {
        let (code, _, err) = run(common::dbstress().arg(command).args(arguments.split(' ')));
        assert_eq!(code, 2, "{arguments}: {err}");
        assert!(err.contains(words), "{arguments}: {err}");
    }
}

#[tokio::test]
async fn sizes_that_the_server_has_no_room_for_are_refused_before_the_first_is_tried() {
    let bench = Bench::new().await;
    let (code, out, err) =
        run(&mut common::on(&bench.place, &bench.database.options, "capacity --pool-size 2,99999 --vus 4 --step 1s"));
    assert_eq!((code, &*out), (2, ""), "{err}");
    assert!(err.contains("99999 connections are wanted for the pool") && err.contains("or fewer"), "{err}");
    let runs = bench.database.session().await.integer("SELECT count(*) FROM dbstress.run").await.unwrap();
    assert_eq!(runs, 0, "{err}");
}

#[tokio::test]
async fn a_scenario_without_thresholds_is_judged_by_the_usual_ones() {
    let bench = Bench::new().await;
    let (_, record, said) = bench.capacity("contention --pool-size 2,4 --vus 8 --step 1s");
    assert_eq!(record.slo, ["response:p(95)<200ms", "aborted:rate<0.01"], "{said}");
    let trials: Vec<_> = record.steps.iter().flat_map(|step| &step.trials).collect();
    assert_eq!(trials.len(), 6, "{said}");
    assert!(trials.iter().flat_map(|trial| &trial.reasons).all(|why| !why.contains("nothing was claimed")), "{said}");
    let allowed = "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int \
                   - coalesce(current_setting('reserved_connections', true)::int, 0)";
    let allowed = bench.database.session().await.integer(allowed).await.unwrap();
    assert_eq!(record.sweep.unwrap().allowed, Some(allowed as f64), "{said}");
    assert!(said.contains(&format!("of {allowed}")), "{said}");
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
