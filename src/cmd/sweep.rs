//! `dbstress capacity --pool-size 5,10,20,40`: which size of the pool is enough for one load?
//!
//! Each size is a run of its own at the same load, and each is tried three times: upwards, downwards, upwards, so that a server that becomes faster or
//! slower meanwhile favours none of them. The middle of the three counts.

use std::net::IpAddr;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::capacity::{Args, TRIALS, asks_for_load, finish, majority, steady, with_slo};
use super::config::stdin;
use super::run::{Common, Prepared, execute, keep, prepare, quoted};
use super::settings::{Settings, refuse};
use super::target::{self, Target};
use super::{Global, interrupt, interruptible};
use crate::pace::duration_text;
use crate::pg::{ConnectOptions, Host};
use crate::record::{Advice, CAPACITY_SCHEMA_VERSION, Capacity, CapacityRecord, CapacityStep, CapacityTrial, LoadUnit, Sweep};
use crate::report::capacity as report;
use crate::report::screen::Screen;
use crate::run;
use crate::scenario::Scenario;
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// Virtual users, where nobody says how many; more if that leaves a pool idle.
const VUS: u32 = 50;
/// A size is near the highest throughput with at least this share of it.
const NEAR_MOST: f64 = 0.95;
/// A size is near the shortest response times with at most this multiple of their p95.
const NEAR_FASTEST: f64 = 1.1;

/// Runs the sweep.
///
/// # Errors
/// Usage: sizes that do not climb, a flag that says what the sweep decides; whatever kept the first size from being tried.
pub async fn run(args: &Args, sizes: &[u32], matches: &ArgMatches, global: &Global, screen: Screen) -> Result<Exit> {
    let attempt = Attempt::of(args, sizes, matches, global)?;
    let mut last = None;
    for size in sizes {
        last = Some(attempt.prepared(*size)?);
    }
    let last = last.ok_or_else(|| Error::usage("--pool-size: there is no size").cure("--pool-size 5,10,20,40"))?;
    let state = global.cluster()?.state;
    let target = interruptible(target::resolve(global, screen)).await?;
    // What the server has no room for at the last step is found before the first.
    interruptible(run::check_room(&last.plan, &target.options, target.via.as_ref(), "capacity")).await?;
    let mut record = attempt.record(&last, sizes);
    if let Some(sweep) = &mut record.sweep {
        sweep.cores = cores(&target.options);
    }
    attempt.all(&mut record, &target, &state, screen).await?;
    conclude(&mut record);
    Ok(finish(&record, args, screen))
}

/// What sizes are tried with.
struct Attempt<'a> {
    args: &'a Args,
    matches: &'a ArgMatches,
    global: &'a Global,
    scenario: Scenario,
}

impl<'a> Attempt<'a> {
    fn of(args: &'a Args, sizes: &[u32], matches: &'a ArgMatches, global: &'a Global) -> Result<Self> {
        let cure = "--vus 50 or --rate 500 instead; or one --pool-size";
        for (id, flag, variable) in
            [("ladder", "--ladder", "DBSTRESS_LADDER"), ("rate_ladder", "--rate-ladder", "DBSTRESS_RATE_LADDER")]
        {
            let name = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => flag,
                Some(ValueSource::EnvVariable) => variable,
                _ => continue,
            };
            return Err(Error::usage(format!("{name}: several sizes of a pool are tried at one load")).cure(cure));
        }
        let shape = ["duration", "iterations", "rounds", "stages", "warm_up", "profile", "time_scale"];
        refuse(&shape, matches, "several sizes of a pool are tried at one constant load", "--vus or --rate, and --step instead")?;
        let typed = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        if !sizes.is_sorted_by(|a, b| a < b) {
            let message = format!("--pool-size: {typed} does not climb");
            return Err(Error::usage(message).cure("each size larger than the one before, as --pool-size 5,10,20,40"));
        }
        if args.step.is_zero() {
            return Err(Error::usage("--step: nothing would happen").cure("--step 10s"));
        }
        let mut scenario = Scenario::load(&args.scenario, stdin)?;
        let largest = sizes.last().copied().unwrap_or_default();
        // What is typed of both is laid over it later.
        (scenario.load.vus, scenario.load.rate) = (VUS.max(largest.saturating_mul(2)), None);
        Ok(Self { args, matches, global, scenario })
    }

    /// One size, ready to be tried.
    fn prepared(&self, size: u32) -> Result<Prepared> {
        let Common { settings, .. } = &self.args.common;
        let settings = Settings { pool_size: Some(size), ..settings.clone() };
        let disposable = self.args.disposable.as_deref().map_or(String::new(), |name| format!(" --disposable {}", quoted(name)));
        let typed = format!("capacity {} --step {}{disposable}", quoted(&self.args.scenario), duration_text(self.args.step));
        let scenario = steady(self.scenario.clone(), self.args.step);
        with_slo(prepare(scenario, &settings, self.matches, "capacity", &typed, self.global)?, self.args)
    }

    /// A record in which nothing has been tried.
    fn record(&self, prepared: &Prepared, sizes: &[u32]) -> CapacityRecord {
        let settings = &self.args.common.settings;
        let left_out = self.scenario.thresholds.iter().filter(|t| asks_for_load(t) && !settings.no_thresholds);
        let (load, unit) = match settings.rate {
            Some(rate) => (rate, LoadUnit::Arrivals),
            None => (f64::from(prepared.plan.load.vus()), LoadUnit::Vus),
        };
        let step = |size: &u32| CapacityStep { load: f64::from(*size), verdict: None, trials: Vec::new() };
        CapacityRecord {
            schema_version: CAPACITY_SCHEMA_VERSION,
            dbstress: env!("CARGO_PKG_VERSION").into(),
            finding: Capacity::Open,
            knee: None,
            missed_at: None,
            saturated_at: None,
            cut_short: None,
            interrupted: false,
            unit: LoadUnit::Connections,
            step: self.args.step,
            slo: prepared.plan.thresholds.iter().map(ToString::to_string).collect(),
            left_out: left_out.map(ToString::to_string).collect(),
            scenario: self.scenario.name.clone(),
            command: prepared.commands.again.clone(),
            verify: prepared.commands.verify.clone(),
            server: None,
            steps: sizes.iter().map(step).collect(),
            sweep: Some(Sweep { load, unit, cores: None, allowed: None, advice: None, rivals: Vec::new() }),
        }
    }

    /// Tries every size so often, until one leaves a breach or cannot be tried.
    async fn all(&self, record: &mut CapacityRecord, target: &Target, state: &Path, screen: Screen) -> Result<()> {
        for n in order(record.steps.len()) {
            let step = &mut record.steps[n];
            screen.note(&format!("\n{}, {} of {TRIALS}", report::load(step.load, record.unit), step.trials.len() + 1));
            let run = match execute(self.prepared(step.load as u32)?, target, state, self.args.common.progress, screen).await {
                Ok(run) => run,
                Err(error) if interrupt::is_interruption(&error) || record.server.is_none() => return Err(error),
                Err(error) => {
                    screen.error(&error);
                    record.cut_short = Some(error.to_string());
                    return Ok(());
                }
            };
            let archived = keep(&run, state, None);
            step.trials.push(CapacityTrial::of(&run, archived.place.clone()));
            archived.say(screen);
            if let Some(sweep) = &mut record.sweep
                && let Some((.., allowed)) = run.turns.first().and_then(|turn| turn.watched.connections())
            {
                sweep.allowed = Some(allowed);
            }
            step.verdict = Some(majority(&step.trials));
            record.server.get_or_insert(run.server);
            record.interrupted = run.interrupted;
            if run.interrupted {
                record.cut_short = Some("interrupted".into());
            } else if run.turns.is_empty() {
                record.cut_short = Some(run.reasons.join("; "));
            }
            if run.verdict == Verdict::Violated || record.cut_short.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Which of so many sizes is tried when: up, down, up.
fn order(sizes: usize) -> Vec<usize> {
    (0..TRIALS).flat_map(|trial| (0..sizes).map(move |n| if trial % 2 == 0 { n } else { sizes - 1 - n })).collect()
}

/// Processors of the machine, if the server is on it as far as its address says.
fn cores(options: &ConnectOptions) -> Option<u32> {
    let is_here = match &options.host {
        Host::Socket(_) => true,
        Host::Tcp(host) => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    is_here.then(|| std::thread::available_parallelism().ok()?.get().try_into().ok())?
}

/// What follows from all trials.
fn conclude(record: &mut CapacityRecord) {
    let of = |verdict| record.steps.iter().filter(|step| step.verdict == Some(verdict)).count();
    let is_judged = record.steps.iter().all(|step| step.trials.len() == TRIALS);
    record.finding = match () {
        () if of(Verdict::Violated) > 0 => Capacity::Violated,
        () if !is_judged || of(Verdict::Inconclusive) > 0 => Capacity::Open,
        () if of(Verdict::Pass) == 0 => Capacity::Missed,
        () => match recommend(&record.steps) {
            Ok(advice) => {
                if let Some(sweep) = &mut record.sweep {
                    sweep.advice = Some(advice);
                    sweep.rivals = rivals(&record.steps, advice);
                }
                Capacity::Recommended
            }
            Err(why) => {
                record.cut_short = Some(why);
                Capacity::Open
            }
        },
    };
}

/// The smallest size that is near the best in both, of those that kept the SLO.
///
/// # Errors
/// Why none can be named.
fn recommend(steps: &[CapacityStep]) -> Result<Advice, String> {
    let mut kept = Vec::new();
    for step in steps.iter().filter(|step| step.verdict == Some(Verdict::Pass)) {
        match (step.throughput(), step.p95()) {
            (Some(throughput), Some(p95)) if throughput > 0.0 => kept.push((step.load, throughput, p95)),
            _ => {
                let of = report::load(step.load, LoadUnit::Connections);
                return Err(format!("with {of} too few iterations were committed for a p95: a longer --step gives more"));
            }
        }
    }
    // Of equals the smaller: it comes first.
    let most = kept.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let fastest = kept.iter().copied().reduce(|best, next| if next.2 < best.2 { next } else { best });
    let (Some(most), Some(fastest)) = (most, fastest) else { return Err("no size kept the SLO".into()) };
    kept.iter()
        .find(|(_, throughput, p95)| *throughput >= most.1 * NEAR_MOST && *p95 <= fastest.2 * NEAR_FASTEST)
        .map(|(size, ..)| Advice { size: *size, most: most.0, fastest: fastest.0 })
        .ok_or_else(|| {
            format!(
                "no size has both: throughput is highest with {}, response times are shortest with {}",
                report::load(most.0, LoadUnit::Connections),
                report::load(fastest.0, LoadUnit::Connections)
            )
        })
}

/// Lowest and highest of what is picked of the trials that have it.
fn range(step: &CapacityStep, pick: impl Fn(&CapacityTrial) -> Option<f64>) -> (f64, f64) {
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    step.trials.iter().filter_map(pick).fold(ends, |(low, high), figure| (low.min(figure), high.max(figure)))
}

/// The sizes that could as well have been recommended, if their trials or those of the recommended size had come out at the other end of their ranges.
/// A smaller one: its best trials come near the best. A larger one: so do its own, and the recommended size falls behind, with its worst trial against
/// the other's middle or with its middle against the other's best.
fn rivals(steps: &[CapacityStep], advice: Advice) -> Vec<f64> {
    let passed = || steps.iter().filter(|step| step.verdict == Some(Verdict::Pass));
    let at = |size: f64| passed().find(|step| step.load == size);
    let figures = |step: &CapacityStep| Some((step.throughput()?, step.p95()?));
    let most = at(advice.most).and_then(CapacityStep::throughput);
    let fastest = at(advice.fastest).and_then(CapacityStep::p95);
    let (Some(chosen), Some(most), Some(fastest)) = (at(advice.size), most, fastest) else { return Vec::new() };
    let throughputs = |step: &CapacityStep| range(step, |trial| Some(trial.committed_per_second));
    let p95s = |step: &CapacityStep| range(step, |trial| trial.response.as_ref()?.p95);
    let is_near = |step: &CapacityStep| throughputs(step).1 >= most * NEAR_MOST && p95s(step).0 <= fastest * NEAR_FASTEST;
    let falls_behind = |other: &CapacityStep| {
        let (Some((throughput, p95)), Some((of_other, p95_of_other))) = (figures(chosen), figures(other)) else { return false };
        throughputs(chosen).0 < of_other * NEAR_MOST
            || throughput < throughputs(other).1 * NEAR_MOST
            || p95s(chosen).1 > p95_of_other * NEAR_FASTEST
            || p95 > p95s(other).0 * NEAR_FASTEST
    };
    let is_rival =
        |step: &&CapacityStep| step.load != chosen.load && is_near(step) && (step.load < chosen.load || falls_behind(step));
    passed().filter(is_rival).map(|step| step.load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Percentiles;

    fn trial(verdict: Verdict, throughput: f64, p95: Option<f64>) -> CapacityTrial {
        CapacityTrial {
            verdict,
            reasons: Vec::new(),
            committed_per_second: throughput,
            response: Some(Percentiles { samples: 1000, p50: None, p95, p99: None, max: None }),
            refused: 0,
            aborted: 0,
            wait: None,
            pool: None,
            record: None,
        }
    }

    /// A record as it was written before there were sweeps, and these steps.
    fn record(steps: Vec<CapacityStep>) -> CapacityRecord {
        let text = r#"{"schema_version": 1, "dbstress": "0", "finding": "open", "knee": null, "missed_at": null, "saturated_at": null,
            "cut_short": null, "interrupted": false, "unit": "VUs", "step_ms": 1000, "slo": [], "left_out": [], "scenario": "throughput",
            "command": "", "verify": "", "server": null, "steps": [{"load": 1, "verdict": null, "trials": [{"verdict": "pass",
            "reasons": [], "committed_per_second": 1, "response": null, "refused": 0, "aborted": 0, "record": null}]}]}"#;
        let old: CapacityRecord = serde_json::from_str(text).unwrap();
        assert!(old.sweep.is_none() && old.steps[0].trials[0].pool.is_none());
        let sweep = Sweep { load: 50.0, unit: LoadUnit::Vus, cores: None, allowed: None, advice: None, rivals: Vec::new() };
        CapacityRecord { unit: LoadUnit::Connections, steps, sweep: Some(sweep), ..old }
    }

    /// A size, and throughput and p95 of its trials, all of which kept the SLO.
    fn step(size: u32, trials: [(f64, f64); 3]) -> CapacityStep {
        let trials: Vec<CapacityTrial> = trials.map(|(n, p95)| trial(Verdict::Pass, n, Some(p95))).into();
        CapacityStep { load: size.into(), verdict: Some(majority(&trials)), trials }
    }

    fn same(size: u32, throughput: f64, p95: f64) -> CapacityStep {
        step(size, [(throughput, p95); 3])
    }

    fn size(steps: &[CapacityStep]) -> Option<f64> {
        recommend(steps).ok().map(|advice| advice.size)
    }

    #[test]
    fn the_smallest_that_is_near_the_best_in_both_is_enough() {
        let steps = [same(5, 900.0, 12.0), same(10, 960.0, 10.5), same(20, 1000.0, 10.0), same(40, 990.0, 10.0)];
        assert_eq!(recommend(&steps), Ok(Advice { size: 10.0, most: 20.0, fastest: 20.0 }));
        assert_eq!(size(&[same(5, 950.0, 11.0), same(10, 1000.0, 10.0)]), Some(5.0), "the limits are near");
        assert_eq!(size(&[same(5, 949.0, 11.0), same(10, 1000.0, 10.0)]), Some(10.0));
        assert_eq!(size(&[same(5, 950.0, 11.1), same(10, 1000.0, 10.0)]), Some(10.0));
    }

    #[test]
    fn of_equals_the_smallest_is_enough_and_it_may_be_at_either_end() {
        let level = [same(5, 1000.0, 10.0), same(10, 1000.0, 10.0), same(20, 1000.0, 10.0)];
        assert_eq!(recommend(&level), Ok(Advice { size: 5.0, most: 5.0, fastest: 5.0 }));
        assert_eq!(size(&[same(5, 500.0, 40.0), same(10, 1000.0, 20.0), same(20, 2000.0, 10.0)]), Some(20.0));
    }

    #[test]
    fn one_bad_trial_changes_nothing_and_one_good_one_neither() {
        let slow = step(10, [(1000.0, 10.0), (100.0, 90.0), (1010.0, 10.0)]);
        assert_eq!(size(&[same(5, 500.0, 20.0), slow, same(20, 1000.0, 10.0)]), Some(10.0));
        let lucky = step(5, [(500.0, 20.0), (5000.0, 1.0), (510.0, 20.0)]);
        assert_eq!(size(&[lucky, same(10, 1000.0, 10.0)]), Some(10.0));
    }

    #[test]
    fn what_missed_the_slo_is_not_recommended_and_sets_no_standard() {
        let mut missed = same(20, 2000.0, 10.0);
        missed.verdict = Some(Verdict::Missed);
        assert_eq!(size(&[same(5, 500.0, 20.0), same(10, 1000.0, 10.0), missed.clone()]), Some(10.0));
        assert!(recommend(&[missed]).unwrap_err().contains("no size kept"));
    }

    #[test]
    fn where_none_has_both_or_too_little_is_known_none_is_named() {
        let why = recommend(&[same(5, 500.0, 5.0), same(10, 1000.0, 10.0)]).unwrap_err();
        assert!(why.contains("highest with 10 connections") && why.contains("shortest with 5 connections"), "{why}");
        let mut unknown = same(5, 1000.0, 10.0);
        unknown.trials[1] = trial(Verdict::Pass, 1000.0, None);
        assert!(recommend(&[unknown, same(10, 1000.0, 10.0)]).unwrap_err().contains("too few"));
        assert!(recommend(&[same(5, 0.0, 10.0)]).is_err());
    }

    #[test]
    fn sizes_whose_ranges_overlap_may_change_places_and_others_may_not() {
        let rivals = |steps: &[CapacityStep]| rivals(steps, recommend(steps).unwrap());
        let apart = [same(4, 500.0, 20.0), same(8, 1000.0, 10.0), same(16, 1010.0, 10.0)];
        assert_eq!(rivals(&apart), [0.0; 0]);
        let smaller = |throughput, p95| {
            let wide = step(4, [(500.0, 20.0), (throughput, p95), (400.0, 21.0)]);
            rivals(&[wide, same(8, 1000.0, 10.0)])
        };
        assert_eq!(smaller(950.0, 11.0), [4.0], "its best comes near");
        assert_eq!((smaller(949.0, 11.0), smaller(950.0, 11.1)), (vec![], vec![]), "in one of both alone");
        let larger = |worst, p95| {
            let wide = step(8, [(worst, p95), (1000.0, 10.0), (1000.0, 10.0)]);
            rivals(&[same(4, 500.0, 20.0), wide, same(16, 1000.0, 10.0)])
        };
        assert_eq!(larger(950.0, 11.0), [0.0; 0], "it would still be near");
        assert_eq!((larger(949.0, 10.0), larger(1000.0, 11.1)), (vec![16.0], vec![16.0]), "it might not have been");
        let lucky = step(16, [(1060.0, 10.0), (1000.0, 10.0), (1000.0, 10.0)]);
        assert_eq!(rivals(&[same(8, 1000.0, 10.0), lucky]), [16.0], "what it was once it may be");
        let slow = step(16, [(1060.0, 20.0), (1000.0, 20.0), (1000.0, 20.0)]);
        assert_eq!(rivals(&[same(8, 1000.0, 10.0), slow]), [0.0; 0], "it answers too late in any case");
        let mut missed = step(4, [(950.0, 11.0); 3]);
        missed.verdict = Some(Verdict::Missed);
        assert_eq!(rivals(&[missed, same(8, 1000.0, 10.0)]), [0.0; 0], "what missed the SLO is no choice");
    }

    #[test]
    fn each_is_tried_three_times_up_and_down() {
        assert_eq!(order(3), [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn a_breach_or_an_open_size_is_no_recommendation() {
        let found = |change: fn(&mut Vec<CapacityStep>)| {
            let mut steps = vec![same(5, 500.0, 20.0), same(10, 1000.0, 10.0)];
            change(&mut steps);
            let mut record = record(steps);
            conclude(&mut record);
            assert_eq!(record.finding == Capacity::Recommended, record.sweep.unwrap().advice.is_some());
            record.finding
        };
        assert_eq!(found(|_| {}), Capacity::Recommended);
        assert_eq!(found(|steps| steps[0].verdict = Some(Verdict::Violated)), Capacity::Violated);
        assert_eq!(found(|steps| steps[0].verdict = Some(Verdict::Inconclusive)), Capacity::Open);
        assert_eq!(found(|steps| drop(steps[1].trials.pop())), Capacity::Open, "not tried often enough");
        assert_eq!(found(|steps| steps.iter_mut().for_each(|s| s.verdict = Some(Verdict::Missed))), Capacity::Missed);
    }

    #[test]
    fn the_machine_is_counted_only_where_the_server_is_on_it() {
        let at = |url: &str| cores(&ConnectOptions::from_url(url, &|_| None).unwrap()).is_some();
        assert!(at("postgres://h@localhost/d") && at("postgres://h@127.0.0.1/d") && at("postgres:///d?host=/run/pg&user=u"));
        assert!(!at("postgres://h@db.example/d"));
    }
}
