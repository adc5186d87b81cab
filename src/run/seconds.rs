//! What have the load threads measured so far, second by second? Each hands its part over; a second is complete when all have.

use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

use super::drive::TICK;
use crate::metrics::{Recorder, Tick};
use crate::plan::Load;

/// A second's measurements of one thread, or what is left of them at its end.
pub(super) struct Handover {
    pub thread: usize,
    /// Which second, from 1.
    pub second: u32,
    /// Nothing comes after it.
    pub is_last: bool,
    pub busy: u32,
    pub recorder: Recorder,
}

/// What the threads have handed over.
pub(super) struct Seconds {
    pub total: Recorder,
    pub ticks: Vec<Tick>,
    /// Seconds that not every thread has handed over yet: busy virtual users, measurements.
    open: BTreeMap<u32, (u32, Recorder)>,
    /// By thread, the last second that it has handed over; of one that has ended, all there will ever be.
    reached: Vec<u32>,
}

impl Seconds {
    pub fn new(total: Recorder, threads: usize) -> Self {
        Self { total, ticks: Vec::new(), open: BTreeMap::new(), reached: vec![0; threads] }
    }

    /// Takes one in.
    pub fn take(&mut self, handover: Handover) {
        let Handover { thread, second, is_last, busy, recorder } = handover;
        self.total.merge(&recorder);
        self.reached[thread] = if is_last { u32::MAX } else { second };
        match self.open.entry(second) {
            Entry::Vacant(entry) => {
                entry.insert((busy, recorder));
            }
            Entry::Occupied(mut entry) => {
                let (all_busy, all) = entry.get_mut();
                *all_busy += busy;
                all.merge(&recorder);
            }
        }
    }

    /// The next second, if nothing of it can come any more; what the load did not last for is left for the end.
    pub fn complete(&mut self, load: &Load) -> Option<f64> {
        let reached = self.reached.iter().min().filter(|reached| **reached < u32::MAX)?;
        let entry = self.open.first_entry().filter(|entry| entry.key() <= reached)?;
        let (second, (busy, recorder)) = entry.remove_entry();
        let second = f64::from(second) * TICK.as_secs_f64();
        self.ticks.push(Tick::of(second, at_work(load, second, busy), &recorder));
        Some(second)
    }

    /// What is left at the end, `seconds` after the beginning: as a rule a part of a second.
    pub fn finish(&mut self, seconds: f64, load: &Load) {
        for (second, (busy, recorder)) in std::mem::take(&mut self.open) {
            let second = (f64::from(second) * TICK.as_secs_f64()).min(seconds);
            if recorder.counts().iterations() + recorder.counts().dropped > 0 {
                self.ticks.push(Tick::of(second, at_work(load, second, busy), &recorder));
            }
        }
    }
}

/// Virtual users at work: who thinks is at work too, who waits for an arrival is not.
fn at_work(load: &Load, second: f64, busy: u32) -> u32 {
    match load {
        Load::Rounds { vus, .. } => *vus,
        Load::Closed { vus, .. } => vus.vus_at(Duration::from_secs_f64(second)),
        Load::Open { .. } => busy,
    }
}
