//! Could the drills have failed, here and now? Two mistakes are made before them, in small, and must be caught.

use std::time::{Duration, Instant};

use super::judge::{Control, DrillRecord, Seen};
use super::mistake::Mistake;
use super::{Drill, Ground, returns, scope};
use crate::Result;
use crate::verdict::Verdict;

/// The mistakes that must be caught before the drills of a run count, by the smallest drill that each makes fail.
const MISTAKES: [Mistake; 2] = [Mistake::Leak, Mistake::NestedCheckout];

/// How often each is made until it is caught: on a machine that stands still for a second, not all may want the same at once.
const ATTEMPTS: usize = 3;

/// Makes each of them; `show` is told as soon as it is known. Without ground under its feet it stops.
pub async fn controls(ground: &mut Ground, mut show: impl FnMut(Control)) {
    for mistake in MISTAKES {
        let began = Instant::now();
        let mut control = attempt(ground, mistake).await;
        for _ in 1..ATTEMPTS {
            if !control.is_caught && ground.lost().is_none() {
                control = attempt(ground, mistake).await;
            }
        }
        if ground.lost().is_some() {
            return;
        }
        control.seconds = began.elapsed().as_secs_f64();
        show(control);
    }
}

async fn attempt(ground: &mut Ground, mistake: Mistake) -> Control {
    let (drill, seen) = match mistake {
        Mistake::NestedCheckout => (Drill::ManyTasks, nested(ground).await),
        _ => (Drill::LeakDetection, leak(ground).await),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            // Another attempt may have another session.
            ground.recover().await;
            Seen::open(error.to_string())
        }
    };
    let record = DrillRecord::of(drill, Some(mistake), seen, Duration::ZERO);
    let detail = record.reasons.first().cloned().unwrap_or_else(|| "nothing was found".into());
    // Who cannot name the culprit has found something else.
    let is_caught = record.verdict == Verdict::Violated && !record.culprits.is_empty();
    Control { mistake, is_caught, detail, seconds: 0.0 }
}

async fn leak(ground: &mut Ground) -> Result<Seen> {
    ground.clear().await?;
    returns::leak_detection(ground, Some(Mistake::Leak), returns::Extent { size: 8, requests: 40, workers: 2 }).await
}

async fn nested(ground: &mut Ground) -> Result<Seen> {
    ground.clear().await?;
    scope::many_tasks(ground, Some(Mistake::NestedCheckout), scope::Extent { tasks: 4, workers: 4 }).await
}
