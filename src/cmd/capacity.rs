//! `dbstress capacity`: how much load does it take until the promise breaks?
//!
//! A ladder of loads, each a run of its own, up to the first that misses the SLO. One run may be luck: the last that kept it and the first
//! that missed it are tried three times, and the majority counts.

use std::path::Path;
use std::time::Duration;

use clap::ArgMatches;

use super::config::stdin;
use super::run::{Common, Prepared, execute, keep, prepare, quoted};
use super::settings::refuse;
use super::target::{self, Target};
use super::{Global, export, interrupt, sweep};
use crate::error::Kind;
use crate::pace::{duration_text, parse_duration};
use crate::record::{CAPACITY_SCHEMA_VERSION, Capacity, CapacityRecord, CapacityStep, CapacityTrial, LoadUnit};
use crate::report::capacity as report;
use crate::report::screen::Screen;
use crate::scenario::{Evidence, Extent, Scenario};
use crate::threshold::{Figure, Threshold};
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// How often the steps at the edge are tried.
pub(super) const TRIALS: usize = 3;
/// What is kept where nobody says what has to be.
const USUAL_SLO: [&str; 2] = ["response:p(95)<200ms", "aborted.rate<0.01"];
/// Throughput that grows by less than this when the load doubles has ceased to grow.
const GROWTH: f64 = 1.05;
/// The part of a step that does not count: its first tenth.
const WARM_UP: u32 = 10;

/// Flags of `capacity`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    mut_arg("duration", |a| a.hide(true)),
    mut_arg("iterations", |a| a.hide(true)),
    mut_arg("rounds", |a| a.hide(true)),
    mut_arg("stages", |a| a.hide(true)),
    mut_arg("rate", |a| a.help("With several --pool-size: arrivals per second, answered or not")),
    mut_arg("warm_up", |a| a.hide(true)),
    mut_arg("profile", |a| a.hide(true)),
    mut_arg("time_scale", |a| a.hide(true)),
    mut_arg("vus", |a| a.help("With --rate-ladder, or several --pool-size: the most virtual users that work at once")),
    mut_arg("pool_size", |a| {
        a.value_delimiter(',')
            .value_name("N,…")
            .help("Connections of one pool that all VUs share; of several sizes, which is enough for one load (--vus or --rate)?")
    }),
)]
pub struct Args {
    /// A built-in scenario, a file that ends in .toml, or - for standard input
    #[arg(value_name = "SCENARIO", default_value = "throughput")]
    pub scenario: String,
    /// Virtual users, step by step
    #[arg(
        long,
        value_name = "N,…",
        env = "DBSTRESS_LADDER",
        value_delimiter = ',',
        default_value = "1,2,5,10,20,50,100,200",
        conflicts_with = "rate_ladder",
        help_heading = "Ladder"
    )]
    pub ladder: Vec<u32>,
    /// Arrivals per second instead, answered or not: an open loop
    #[arg(long, value_name = "N,…", env = "DBSTRESS_RATE_LADDER", value_delimiter = ',', help_heading = "Ladder")]
    pub rate_ladder: Vec<f64>,
    /// How long each step is; its first tenth is warm-up, which no figure counts
    #[arg(
        long,
        value_name = "TIME",
        env = "DBSTRESS_STEP",
        default_value = "10s",
        value_parser = parse_duration,
        help_heading = "Ladder"
    )]
    pub step: Duration,
    /// Work in this database although it holds tables that are not dbstress's: it must be the one that is connected to
    #[arg(long, value_name = "NAME", help_heading = "Database")]
    pub disposable: Option<String>,
    /// What it has in common with other commands.
    #[command(flatten)]
    pub common: Common,
}

/// What is climbed.
struct Ladder {
    unit: LoadUnit,
    /// From the smallest up.
    loads: Vec<f64>,
    /// How long each is kept up.
    step: Duration,
}

impl Ladder {
    fn of(args: &Args) -> Result<Self> {
        let (flag, unit, loads) = match &*args.rate_ladder {
            [] => ("--ladder", LoadUnit::Vus, args.ladder.iter().map(|vus| f64::from(*vus)).collect()),
            rates => ("--rate-ladder", LoadUnit::Arrivals, rates.to_vec()),
        };
        let ladder = Self { unit, loads, step: args.step };
        let rises = |loads: &[f64]| loads.iter().all(|load| load.is_finite() && *load > 0.0) && loads.is_sorted_by(|a, b| a < b);
        if !rises(&ladder.loads) {
            let message = format!("{flag}: {} does not climb", ladder.text());
            return Err(Error::usage(message).cure(format!("each step larger than the one before, as {flag} 10,20,50,100")));
        }
        if ladder.step.is_zero() {
            return Err(Error::usage("--step: nothing would happen").cure("--step 10s"));
        }
        Ok(ladder)
    }

    fn text(&self) -> String {
        self.loads.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
    }

    /// The scenario at one of its loads: constant, and with nothing to show but figures. A claim would have to be controlled, before and
    /// after every step; integrity is examined all the same.
    fn at(&self, load: f64, scenario: &Scenario) -> Scenario {
        let mut scenario = scenario.clone();
        match self.unit {
            LoadUnit::Vus => (scenario.load.vus, scenario.load.rate) = (load as u32, None),
            LoadUnit::Arrivals => (scenario.load.vus, scenario.load.rate) = (scenario.load.peak(), Some(load)),
            LoadUnit::Connections => scenario.load.pool_size = Some(load as u32),
        }
        steady(scenario, self.step)
    }
}

/// The scenario for so long at its load, with nothing to show but figures.
pub(super) fn steady(mut scenario: Scenario, step: Duration) -> Scenario {
    scenario.load.extent = Extent::Constant { duration: Some(step), iterations: None };
    scenario.load.warm_up = step / WARM_UP;
    scenario.thresholds.retain(|threshold| !asks_for_load(threshold));
    scenario.claims.clear();
    let Evidence { probe_interval, probes, check_timeout, .. } = scenario.evidence;
    scenario.evidence = Evidence { probe_interval, probes, check_timeout, ..Evidence::default() };
    scenario
}

/// Whether it is kept by doing much: the smallest step would miss it, and it says nothing about the largest.
pub(super) fn asks_for_load(threshold: &Threshold) -> bool {
    threshold.operator().is_floor() && matches!(threshold.figure(), Figure::Count(_) | Figure::PerSecond(_))
}

/// What is judged at each step: one strategy, by the thresholds that there are, or else by the usual ones.
///
/// # Errors
/// Usage, where there are several strategies.
pub(super) fn with_slo(mut prepared: Prepared, args: &Args) -> Result<Prepared> {
    if prepared.plan.strategies().len() > 1 {
        let message = format!("capacity is of one strategy, and there are {}", prepared.plan.strategies().len());
        return Err(Error::usage(message).cure("name one: --strategy serializable"));
    }
    if prepared.plan.thresholds.is_empty() {
        prepared.plan.thresholds = USUAL_SLO.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    }
    prepared.disposable.clone_from(&args.disposable);
    Ok(prepared)
}

/// Runs `capacity`.
///
/// # Errors
/// Usage: a scenario or a flag that cannot be used; whatever kept the first step from being run.
pub async fn run(args: &Args, matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let sizes: Vec<u32> = matches.get_many("pool_size").into_iter().flatten().copied().collect();
    if sizes.contains(&0) {
        let message = "--pool-size: 0 is a pool without connections";
        return Err(Error::usage(message).cure("--pool-size 5,10,20 for several sizes at one load, or leave it out"));
    }
    if sizes.len() > 1 {
        return sweep::run(args, &sizes, matches, global, screen).await;
    }
    let shape = ["duration", "iterations", "rounds", "stages", "rate", "warm_up", "profile", "time_scale"];
    // Whoever names one size may have meant the load, or the sizes.
    let cure = |ladder: &str| match sizes.is_empty() {
        true => ladder.to_owned(),
        false => format!("{ladder}\nor several sizes of the pool at one load (--vus or --rate): --pool-size 5,10,20"),
    };
    let instead = cure("--ladder, --rate-ladder and --step instead");
    refuse(&shape, matches, "the ladder says how long and in which shape the load is", &instead)?;
    let ladder = Ladder::of(args)?;
    if ladder.unit == LoadUnit::Vus {
        refuse(
            &["vus"],
            matches,
            "the ladder says how many virtual users there are",
            &cure("--ladder instead; or --rate-ladder besides"),
        )?;
    }
    let scenario = Scenario::load(&args.scenario, stdin)?;
    let climb = Climb { args, matches, global, ladder, scenario };
    // What cannot be used at the last step is found before the first.
    let mut first = None;
    for load in climb.ladder.loads.iter().rev() {
        first = Some(climb.prepared(*load)?);
    }
    let first = first.ok_or_else(|| Error::usage("--ladder: there is no step").cure("--ladder 10,20,50,100"))?;
    let state = global.cluster()?.state;
    let target = target::resolve(global, screen).await?;
    let mut record = climb.record(&first);
    climb.climb(&mut record, &target, &state, screen).await?;
    conclude(&mut record);
    Ok(finish(&record, args, screen))
}

/// Shows the record, and writes it where it is wanted.
pub(super) fn finish(record: &CapacityRecord, args: &Args, screen: Screen) -> Exit {
    let export = args.common.settings.summary_export.as_deref();
    let screen = export::beside(export, screen);
    screen.out(&report::text(record, screen.width, screen.colour));
    export::keep(record, export, screen);
    exit(record)
}

/// What a ladder is climbed with.
struct Climb<'a> {
    args: &'a Args,
    matches: &'a ArgMatches,
    global: &'a Global,
    ladder: Ladder,
    scenario: Scenario,
}

impl Climb<'_> {
    /// One step, ready to be run.
    fn prepared(&self, load: f64) -> Result<Prepared> {
        let flag = if self.ladder.unit == LoadUnit::Vus { "--ladder" } else { "--rate-ladder" };
        let disposable = self.args.disposable.as_deref().map_or(String::new(), |name| format!(" --disposable {}", quoted(name)));
        let typed = format!(
            "capacity {} {flag} {} --step {}{disposable}",
            quoted(&self.args.scenario),
            self.ladder.text(),
            duration_text(self.ladder.step)
        );
        let scenario = self.ladder.at(load, &self.scenario);
        let prepared = prepare(scenario, &self.args.common.settings, self.matches, "capacity", &typed, self.global)?;
        with_slo(prepared, self.args)
    }

    /// A record in which nothing has been tried.
    fn record(&self, first: &Prepared) -> CapacityRecord {
        let left_out = self.scenario.thresholds.iter().filter(|t| asks_for_load(t) && !self.args.common.settings.no_thresholds);
        CapacityRecord {
            schema_version: CAPACITY_SCHEMA_VERSION,
            dbstress: env!("CARGO_PKG_VERSION").into(),
            finding: Capacity::Open,
            knee: None,
            missed_at: None,
            saturated_at: None,
            cut_short: None,
            interrupted: false,
            unit: self.ladder.unit,
            step: self.ladder.step,
            slo: first.plan.thresholds.iter().map(ToString::to_string).collect(),
            left_out: left_out.map(ToString::to_string).collect(),
            scenario: self.scenario.name.clone(),
            command: first.commands.again.clone(),
            verify: first.commands.verify.clone(),
            server: None,
            steps: self.ladder.loads.iter().map(|load| CapacityStep { load: *load, verdict: None, trials: Vec::new() }).collect(),
            sweep: None,
        }
    }

    /// Tries step after step until it is known where the edge is, or cannot be.
    async fn climb(&self, record: &mut CapacityRecord, target: &Target, state: &Path, screen: Screen) -> Result<()> {
        let mut end = record.steps.len();
        while let Some(n) = next(&record.steps, end) {
            let step = &mut record.steps[n];
            let again = if step.trials.is_empty() { "" } else { ", once more" };
            screen.note(&format!("\n{}{again}", report::load(step.load, record.unit)));
            let prepared = self.prepared(step.load)?;
            let run = match execute(prepared, target, state, self.args.common.progress, screen).await {
                Ok(run) => run,
                Err(error) if interrupt::is_interruption(&error) || record.server.is_none() => return Err(error),
                Err(error) => {
                    screen.error(&error);
                    record.cut_short = Some(error.to_string());
                    // Too much was asked for: what is below can still be tried.
                    if error.kind() == Kind::Usage && step.trials.is_empty() {
                        end = n;
                        continue;
                    }
                    return Ok(());
                }
            };
            let archived = keep(&run, state, None);
            let is_first = step.trials.is_empty();
            step.trials.push(CapacityTrial::of(&run, archived.place.clone()));
            archived.say(screen);
            step.verdict = Some(majority(&step.trials));
            record.server.get_or_insert(run.server);
            if run.interrupted {
                record.interrupted = true;
                record.cut_short = Some("interrupted".into());
                return Ok(());
            }
            if run.verdict == Verdict::Violated {
                return Ok(());
            }
            let Some(turn) = run.turns.first() else {
                record.cut_short = Some(run.reasons.join("; "));
                return Ok(());
            };
            if let Some(why) = turn.generator_limited.as_ref().filter(|_| is_first && run.verdict == Verdict::Inconclusive) {
                record.cut_short =
                    Some(format!("dbstress itself was the limit at {} ({why})", report::load(step.load, record.unit)));
                end = n;
            }
        }
        Ok(())
    }
}

/// What most of the trials came to. A breach is one too many; without a majority it stays open.
pub(super) fn majority(trials: &[CapacityTrial]) -> Verdict {
    let count = |verdict| trials.iter().filter(|trial| trial.verdict == verdict).count();
    match () {
        () if count(Verdict::Violated) > 0 => Verdict::Violated,
        () if count(Verdict::Pass) * 2 > trials.len() => Verdict::Pass,
        () if count(Verdict::Missed) * 2 > trials.len() => Verdict::Missed,
        () => Verdict::Inconclusive,
    }
}

/// The last step that keeps the SLO below the first that misses it, and that one; steps from `end` on are not looked at.
fn edge(steps: &[CapacityStep], end: usize) -> (Option<usize>, Option<usize>) {
    let missed = (0..end).find(|n| steps[*n].verdict == Some(Verdict::Missed));
    let kept = (0..missed.unwrap_or(end)).rfind(|n| steps[*n].verdict == Some(Verdict::Pass));
    (kept, missed)
}

/// The step to try next: repetitions once begun, then upwards until one misses the SLO, then both sides of the edge again, wherever that is
/// by then. `None` when all is known that can be; steps from `end` on cannot be tried.
fn next(steps: &[CapacityStep], end: usize) -> Option<usize> {
    let tried = |n: usize| steps[n].trials.len();
    if let Some(begun) = (0..end).find(|n| (2..TRIALS).contains(&tried(*n))) {
        return Some(begun);
    }
    let (kept, missed) = edge(steps, end);
    let untried = (0..missed.unwrap_or(end)).find(|n| tried(*n) == 0);
    untried.or_else(|| [kept, missed].into_iter().flatten().find(|n| tried(*n) < TRIALS))
}

/// What follows from all trials.
fn conclude(record: &mut CapacityRecord) {
    let steps = &record.steps;
    let (kept, missed) = edge(steps, steps.len());
    let is_whole = steps.last().is_some_and(|step| step.verdict == Some(Verdict::Pass));
    record.finding = match (kept, missed) {
        _ if steps.iter().any(|step| step.verdict == Some(Verdict::Violated)) => Capacity::Violated,
        // An edge that could not be confirmed is none.
        (Some(kept), Some(missed)) if [kept, missed].iter().all(|n| steps[*n].trials.len() == TRIALS) => Capacity::Knee,
        (Some(kept), None) if is_whole && steps[kept].trials.len() == TRIALS => Capacity::WholeLadder,
        (Some(_), _) => Capacity::AtLeast,
        (None, Some(missed)) if steps[missed].trials.len() == TRIALS => Capacity::Missed,
        (None, _) => Capacity::Open,
    };
    record.knee = kept.map(|n| steps[n].load);
    record.missed_at = missed.map(|n| steps[n].load);
    let is_judged = |step: &&CapacityStep| matches!(step.verdict, Some(Verdict::Pass | Verdict::Missed));
    let points: Vec<(f64, f64)> =
        steps.iter().filter(is_judged).map(|step| (step.load, step.throughput().unwrap_or(0.0))).collect();
    record.saturated_at = saturated(&points);
}

/// The load from which on throughput no longer grows, of pairs of both by load; `None` if it grows to the end. Growth per doubling from
/// (n, x) to (m, y) is (y/x)^(1/log₂(m/n)).
fn saturated(points: &[(f64, f64)]) -> Option<f64> {
    let grows = |pair: &[(f64, f64)]| {
        let [(n, x), (m, y)] = pair else { return true };
        (y / x).powf(1.0 / (m / n).log2()) > GROWTH
    };
    let level = points.windows(2).rev().take_while(|pair| !grows(pair)).count();
    (level > 0).then(|| points[points.len() - 1 - level].0)
}

/// 0 means that a figure was found, whichever it is; a lower bound is none.
fn exit(record: &CapacityRecord) -> Exit {
    match record.finding {
        Capacity::Violated => Exit::Violated,
        _ if record.interrupted => Exit::Interrupted,
        Capacity::Knee | Capacity::WholeLadder | Capacity::Recommended => Exit::Pass,
        Capacity::Missed => Exit::Missed,
        Capacity::AtLeast | Capacity::Open => Exit::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(verdict: Verdict) -> CapacityTrial {
        CapacityTrial {
            verdict,
            reasons: Vec::new(),
            committed_per_second: 100.0,
            response: None,
            refused: 0,
            aborted: 0,
            wait: None,
            pool: None,
            record: None,
        }
    }

    /// Climbs until nothing is left to try; `came_to(step, trial)` is what happens. Steps in the order of their trials, and all of them.
    fn climb(steps: usize, came_to: impl Fn(usize, usize) -> Verdict) -> (Vec<usize>, Vec<CapacityStep>) {
        let step = |n: usize| CapacityStep { load: (n + 1) as f64, verdict: None, trials: Vec::new() };
        let mut steps: Vec<CapacityStep> = (0..steps).map(step).collect();
        let mut order = Vec::new();
        while let Some(n) = next(&steps, steps.len()) {
            order.push(n);
            let verdict = came_to(n, steps[n].trials.len());
            steps[n].trials.push(trial(verdict));
            steps[n].verdict = Some(majority(&steps[n].trials));
            assert!(steps[n].trials.len() <= TRIALS);
        }
        (order, steps)
    }

    fn kept_below(n: usize) -> impl Fn(usize, usize) -> Verdict {
        move |step, _| if step < n { Verdict::Pass } else { Verdict::Missed }
    }

    #[test]
    fn both_sides_of_the_edge_are_tried_three_times_and_nothing_above_it() {
        let (order, steps) = climb(6, kept_below(3));
        assert_eq!(order, [0, 1, 2, 3, 2, 2, 3, 3]);
        assert_eq!(edge(&steps, 6), (Some(2), Some(3)));
    }

    #[test]
    fn a_ladder_that_holds_is_tried_again_at_its_end_and_one_that_never_does_at_its_beginning() {
        assert_eq!(climb(3, kept_below(9)).0, [0, 1, 2, 2, 2]);
        assert_eq!(climb(3, kept_below(0)).0, [0, 0, 0]);
    }

    #[test]
    fn one_bad_trial_is_outvoted_and_the_climb_goes_on() {
        let (order, steps) = climb(3, |step, trial| if (step, trial) == (1, 0) { Verdict::Missed } else { Verdict::Pass });
        assert_eq!(order, [0, 1, 0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(edge(&steps, 3), (Some(2), None));
    }

    #[test]
    fn one_good_trial_is_outvoted_and_the_edge_moves_down() {
        let (order, steps) =
            climb(3, |step, trial| if step == 0 || (step, trial) == (1, 0) { Verdict::Pass } else { Verdict::Missed });
        assert_eq!(order, [0, 1, 2, 1, 1, 0, 0]);
        assert_eq!(edge(&steps, 3), (Some(0), Some(1)));
    }

    #[test]
    fn what_is_open_counts_for_neither_side() {
        use Verdict::*;
        let of = |verdicts: &[Verdict]| majority(&verdicts.iter().map(|v| trial(*v)).collect::<Vec<_>>());
        assert_eq!(of(&[Pass, Missed, Pass]), Pass);
        assert_eq!(of(&[Pass, Inconclusive, Inconclusive]), Inconclusive);
        assert_eq!(of(&[Pass, Missed, Inconclusive]), Inconclusive);
        assert_eq!(of(&[Pass, Pass, Violated]), Violated, "one breach is one too many");
        let (order, steps) = climb(3, |step, _| if step == 1 { Inconclusive } else { Pass });
        assert_eq!((order, edge(&steps, 3)), (vec![0, 1, 2, 2, 2], (Some(2), None)));
    }

    #[test]
    fn throughput_is_level_where_doubling_the_load_brings_less_than_a_twentieth() {
        assert_eq!(saturated(&[(1.0, 100.0), (2.0, 190.0), (4.0, 195.0), (8.0, 200.0)]), Some(2.0));
        assert_eq!(saturated(&[(1.0, 100.0), (2.0, 90.0), (4.0, 180.0)]), None, "it grows at the end");
        assert_eq!(saturated(&[(10.0, 100.0), (100.0, 110.0)]), Some(10.0), "10 % in more than three doublings");
        assert_eq!(saturated(&[(1.0, 100.0)]), None);
        assert_eq!(saturated(&[]), None);
    }

    #[test]
    fn what_asks_for_an_amount_of_load_is_no_promise_under_load() {
        let asks = |text: &str| asks_for_load(&text.parse().unwrap());
        assert!(asks("committed.rate>=100/s") && asks("committed.count>1000"));
        assert!(!asks("aborted.rate<0.01") && !asks("refused.count==0") && !asks("response:p(95)<200ms"));
    }
}
