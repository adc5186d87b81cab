//! Do others not feel it when one organisation floods? Measured in alternating phases, with the noise and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        let is_limited = examined.limit("read", &tenants[0].tier).is_some();
        let mut heard = [false, true].map(|_| Heard { times: histogram(), asked: 0, rejected: Vec::new() });
        let (mut noise, mut noise_rejected) = (0, 0);
        for phase in 0..2 * ROUNDS {
            let is_noisy = phase % 2 == 1;
            let room = (extent.duration.as_secs_f64() / EVERY.as_secs_f64()) as u64 + 5;
            for tenant in &tenants[1..] {
                rested(&examined, tenant, room, extent.patience).await?;
            }
            let (quiet, loud) = hear(&examined, &tenants, extent, is_noisy).await?;
            let of_kind = &mut heard[usize::from(is_noisy)];
            merge_times(&mut of_kind.times, &quiet.times);
            of_kind.asked += quiet.asked;
            of_kind.rejected.extend(quiet.rejected);
            noise += loud.0;
            noise_rejected += loud.1;
        }
        let [without, with] = heard;
        seen.none("rejected without any noise", without.asked, without.rejected);
        if is_limited && noise_rejected == 0 {
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

/// One phase: what the quiet ones had, and how often the loud one asked and was rejected.
async fn hear(examined: &Examined, tenants: &[Tenant], extent: &Extent, is_noisy: bool) -> Result<(Heard, (u64, u64))> {
    let over = Arc::new(AtomicBool::new(false));
    let mut loud = JoinSet::new();
    for _ in 0..if is_noisy { extent.connections } else { 0 } {
        let ask = tenants[0].look().with(&examined.token(&tenants[0].viewer())?);
        let (mut caller, over) = (examined.caller(), over.clone());
        loud.spawn(async move {
            let (mut asked, mut rejected) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                asked += 1;
                rejected += u64::from(caller.ask(&ask).await?.is_rejected());
            }
            Ok::<_, Error>((asked, rejected))
        });
    }
    let mut quiet = JoinSet::new();
    for tenant in &tenants[1..] {
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        let (mut caller, duration, id) = (examined.caller(), extent.duration, tenant.id);
        quiet.spawn(async move {
            caller.connect().await?;
            let mut heard = Heard { times: histogram(), asked: 0, rejected: Vec::new() };
            let mut due = Instant::now();
            let end = due + duration;
            while due < end {
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
    let mut noise = (0, 0);
    while let Some(done) = loud.join_next().await {
        let (asked, rejected) = joined(done)??;
        noise = (noise.0 + asked, noise.1 + rejected);
    }
    failed.map_or(Ok((all, noise)), Err)
}
