//! Do others not feel it when one organisation floods? Measured in alternating phases, with the noise and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::attacks::rested;
use super::ground::{Examined, Extent, Ground, Tenant};
use super::judge::Seen;
use super::limits::{joined, limit};
use super::mistake::Mistake;
use crate::metrics::{Percentiles, grouped, histogram, merge_times};
use crate::{Error, Result};

/// The criterion of who is rejected because of somebody else.
pub const REJECTED: &str = "requests of the quiet ones rejected";

/// Phases without the noise, and as many with it.
const ROUNDS: usize = 2;
/// Between two requests of a quiet tenant, which are due then whatever became of the last.
const EVERY: Duration = Duration::from_millis(50);
/// Below this a difference is one of the machine, which the noisy one's requests keep busy as well.
const FLOOR_MS: f64 = 20.0;
/// What servers of our own let through in a second.
const PER_SECOND: u64 = 100;
/// The loud one asks so many times as often as it may, and so often in a second at least: a flood of the limit, and not of the machine.
const LOUDNESS: f64 = 3.0;
const LEAST_PER_SECOND: f64 = 300.0;
/// A phase with the noise goes on until so much of it was rejected, for so long at most: before that nobody else could have been rejected for it.
const LEAST_REJECTED: u64 = 60;
const LONGEST: Duration = Duration::from_secs(20);

/// What the quiet ones had in the phases of a kind.
struct Heard {
    times: Histogram<u64>,
    asked: u64,
    rejected: Vec<String>,
}

/// One tenant floods at its limit, the others go on at a steady rate.
pub async fn neighbour(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(vec![limit(None, PER_SECOND, 1)], mistake).await?;
    let done = async {
        let declared = examined.limit("read", &tenants[0].tier);
        let allowed = declared.as_ref().map_or(0.0, |limit| limit.requests as f64 / limit.window_s as f64);
        let noise_of_phase = Noise { per_second: (allowed * LOUDNESS).max(LEAST_PER_SECOND), is_limited: declared.is_some() };
        let mut heard = [false, true].map(|_| Heard { times: histogram(), asked: 0, rejected: Vec::new() });
        let (mut noise, mut noise_rejected) = (0, 0);
        for phase in 0..2 * ROUNDS {
            let is_noisy = phase % 2 == 1;
            let room = (extent.duration.as_secs_f64() / EVERY.as_secs_f64()) as u64 + 5;
            for tenant in &tenants[1..] {
                rested(&examined, tenant, room, extent.patience).await?;
            }
            let (quiet, loud) = hear(&examined, &tenants, extent, is_noisy.then_some(noise_of_phase)).await?;
            let of_kind = &mut heard[usize::from(is_noisy)];
            merge_times(&mut of_kind.times, &quiet.times);
            of_kind.asked += quiet.asked;
            of_kind.rejected.extend(quiet.rejected);
            noise += loud.0;
            noise_rejected += loud.1;
        }
        let [without, with] = heard;
        seen.none("rejected without any noise", without.asked, without.rejected);
        if declared.is_none() {
            seen.open(REJECTED, "the server declares no limit that a loud one could use up: serve it with --limits or --limit");
        } else if noise_rejected == 0 {
            seen.open(REJECTED, format!("nothing of the noise was rejected: {noise} requests were none"));
        } else {
            seen.none(REJECTED, with.asked, with.rejected);
        }
        let p95 = |times: &Histogram<u64>| Percentiles::of(times).p95;
        let (quiet, noisy) = (p95(&without.times), p95(&with.times));
        match quiet {
            Some(before) => {
                let most = (before * extent.tolerance).max(before + FLOOR_MS);
                seen.less("p95 of the quiet ones, with the noise", most, "ms", noisy);
                let ratio = noisy.map_or("–".into(), |noisy| format!("{:.2}", noisy / before.max(f64::MIN_POSITIVE)));
                seen.figure(format!(
                    "p95 of the quiet ones: {before:.2} ms without the noise, {} with it: {ratio} times as long",
                    noisy.map_or("–".into(), |noisy| format!("{noisy:.2} ms"))
                ));
            }
            None => seen.less("p95 of the quiet ones, with the noise", FLOOR_MS, "ms", None),
        }
        seen.figure(format!(
            "organisation {} asked {} times on {} connections, and was rejected {} times",
            tenants[0].id,
            grouped(noise),
            extent.connections,
            grouped(noise_rejected)
        ));
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// What the loud one does in a phase.
#[derive(Clone, Copy)]
struct Noise {
    per_second: f64,
    is_limited: bool,
}

/// One phase: what the quiet ones had, and how often the loud one asked and was rejected.
async fn hear(examined: &Examined, tenants: &[Tenant], extent: &Extent, noise: Option<Noise>) -> Result<(Heard, (u64, u64))> {
    let over = Arc::new(AtomicBool::new(false));
    let rejected = Arc::new(AtomicU64::new(0));
    let mut loud = JoinSet::new();
    if let Some(noise) = noise {
        let every = Duration::from_secs_f64(extent.connections as f64 / noise.per_second);
        for _ in 0..extent.connections {
            let ask = tenants[0].look().with(&examined.token(&tenants[0].viewer())?);
            let (mut caller, over, rejected) = (examined.caller(), over.clone(), rejected.clone());
            loud.spawn(async move {
                let (mut asked, mut due) = (0, Instant::now());
                while !over.load(Ordering::Relaxed) {
                    tokio::time::sleep_until(due.into()).await;
                    asked += 1;
                    rejected.fetch_add(u64::from(caller.ask(&ask).await?.is_rejected()), Ordering::Relaxed);
                    due += every;
                }
                Ok::<_, Error>(asked)
            });
        }
    }
    let least = noise.filter(|noise| noise.is_limited).map_or(0, |_| LEAST_REJECTED);
    let mut quiet = JoinSet::new();
    for tenant in &tenants[1..] {
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        let (mut caller, duration, id, rejected) = (examined.caller(), extent.duration, tenant.id, rejected.clone());
        quiet.spawn(async move {
            caller.connect().await?;
            let mut heard = Heard { times: histogram(), asked: 0, rejected: Vec::new() };
            let began = Instant::now();
            let mut due = began;
            while due < began + duration || rejected.load(Ordering::Relaxed) < least && due < began + LONGEST {
                tokio::time::sleep_until(due.into()).await;
                let told = caller.ask(&ask).await?;
                heard.asked += 1;
                if told.is_ok() {
                    // From when it was due: whoever is kept waiting asks later than he would.
                    heard.times.saturating_record(told.answered.saturating_duration_since(due).as_nanos() as u64);
                } else {
                    heard.rejected.push(format!("organisation {id}: {}", told.words()));
                }
                due += EVERY;
            }
            Ok::<_, Error>(heard)
        });
    }
    let mut all = Heard { times: histogram(), asked: 0, rejected: Vec::new() };
    let mut failed = None;
    while let Some(done) = quiet.join_next().await {
        match joined(done).and_then(|done| done) {
            Ok(heard) => {
                merge_times(&mut all.times, &heard.times);
                all.asked += heard.asked;
                all.rejected.extend(heard.rejected);
            }
            Err(why) => failed = Some(why),
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut asked = 0;
    while let Some(done) = loud.join_next().await {
        asked += joined(done)??;
    }
    let noise = (asked, rejected.load(Ordering::Relaxed));
    failed.map_or(Ok((all, noise)), Err)
}
