//! When does an iteration begin? Closed loop: when the virtual user's last is over. Open loop: when the schedule says so, whoever is free.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::drive::Everyone;
use super::vu::{Thread, Vu};
use super::work::{Intention, Work};
use crate::Result;
use crate::outcome::{Outcome, Refusal};
use crate::pace::{Arrivals, Ramp};
use crate::plan::Load;
use crate::random::Random;

/// Stream of the choices of virtual user 0; those of the others follow. The dataset is drawn from the first few streams.
pub(super) const CHOICES: u64 = 1 << 32;
/// Stream of the pauses of virtual user 0; those of the others follow.
const PAUSES: u64 = 2 << 32;
/// Stream of the choices of an open loop: arrival n draws the same, whoever takes it up.
const ARRIVALS: u64 = 4 << 32;

/// Where a virtual user is in a stock whose authorisations are taken one by one.
#[derive(Debug, Default)]
struct Place {
    position: u64,
    /// The authorisation there is known to exist: who comes to it again need not ask, and asking takes a lock that all threads share.
    is_stocked: bool,
}

impl Place {
    /// Makes sure that there is something to work on; false if the stock has no more.
    async fn reach(&mut self, everyone: &Everyone) -> bool {
        self.is_stocked = self.is_stocked || everyone.is_stocked(self.position).await;
        self.is_stocked
    }

    /// What is done next.
    fn propose(&self, everyone: &Everyone, vu: u16, mut random: Random) -> Intention {
        match &*everyone.opener.work {
            Work::Booking(work) => work.propose(&mut random, self.position),
            // Schedules are changed in rounds alone.
            Work::Scheduling(work) => work.propose(self.position, 0).0,
            Work::Own(work) => work.propose(&mut random),
            Work::Http(work) => work.propose(&mut random, vu),
        }
    }

    /// An authorisation that is used up has no more to give.
    fn note(&mut self, outcome: Outcome) {
        if outcome == Outcome::Refused(Refusal::Inactive) {
            self.position += 1;
            self.is_stocked = false;
        }
    }
}

/// One virtual user of a closed loop, from the beginning of the load to its end.
pub(super) async fn closed(everyone: &Everyone, thread: &Thread, vu: &mut Vu) -> Result<()> {
    let Load::Closed { vus, iterations, think } = &everyone.turn.load else { return Ok(()) };
    let Some(began) = everyone.begun().await else { return Ok(()) };
    let seed = everyone.turn.plan.rng_seed;
    let mut pauses = Random::of(seed, PAUSES + u64::from(vu.number), 0);
    let mut place = Place::default();
    // Until when it is wanted without asking again.
    let mut until = Duration::ZERO;
    let mut scheduled = began;
    let mut now = Instant::now();
    while !everyone.is_over_at(now) {
        let at = scheduled - began;
        if at >= until {
            let Some(wanted) = next_span(vus, u32::from(vu.number), at, &mut until) else { break };
            if wanted > at {
                scheduled = began + wanted;
                if !everyone.sleep_until(scheduled).await {
                    break;
                }
                now = Instant::now();
            }
        }
        if iterations.is_some_and(|most| everyone.taken.fetch_add(1, Ordering::Relaxed) >= most) {
            everyone.finish();
            break;
        }
        let random = Random::of(seed, CHOICES + u64::from(vu.number), u64::from(vu.issued()));
        // The first is there before the load begins.
        let is_new = !place.is_stocked && place.position > 0;
        if !place.reach(everyone).await {
            break;
        }
        if is_new {
            // Rows come from the generator: that they came late is its lag, and not the server's response.
            now = Instant::now();
            if everyone.is_measured(everyone.nanos(scheduled)) {
                thread.recorder.borrow_mut().lag((now - scheduled).as_nanos() as u64);
            }
            scheduled = now;
        }
        let intention = place.propose(everyone, vu.number, random);
        let (outcome, ended) = vu.perform(everyone, &intention, scheduled, now).await?;
        place.note(outcome);
        (scheduled, now) = (ended, ended);
        if !think.is_zero() {
            scheduled += think.draw(&mut pauses);
            if !everyone.sleep_until(scheduled).await {
                break;
            }
            now = Instant::now();
            if everyone.is_measured(everyone.nanos(scheduled)) {
                thread.recorder.borrow_mut().lag((now - scheduled).as_nanos() as u64);
            }
        }
    }
    Ok(())
}

/// When virtual user `vu` is wanted next, at `t` or later; `until` becomes the end of that span.
fn next_span(vus: &Ramp, vu: u32, t: Duration, until: &mut Duration) -> Option<Duration> {
    let wanted = vus.wanted(vu, t)?;
    *until = vus.wanted_until(vu, wanted)?;
    Some(wanted)
}

/// Where the arrivals of one load thread wait for its virtual users.
#[derive(Default)]
pub(super) struct Desk {
    waiting: RefCell<VecDeque<(u64, Instant)>>,
    arrived: Notify,
    idle: Cell<u32>,
    closed: Cell<bool>,
}

/// Releases the arrivals of one load thread, each at its time, all that are due at once.
pub(super) async fn arrivals(everyone: &Everyone, thread: &Thread, desk: &Desk, share: (u64, u64)) {
    let Load::Open { rate, arrival, iterations, backlog, .. } = &everyone.turn.load else { return };
    let Some(began) = everyone.begun().await else {
        desk.close();
        return;
    };
    let (own, threads) = share;
    let backlog = u64::from(*backlog);
    let most = (backlog / threads + u64::from(own < backlog % threads)) as usize;
    let all = Arrivals::new(rate, *arrival, everyone.turn.plan.rng_seed);
    let mut now = Instant::now();
    for (n, at) in all.take_while(|(n, _)| iterations.is_none_or(|most| *n < most)).filter(|(n, _)| n % threads == own) {
        let due = began + at;
        if due > now {
            everyone.sleep_until(due).await;
            now = Instant::now();
        }
        // What was scheduled arrives, even if the generator comes to it so late that the schedule is over.
        if everyone.is_stopping() {
            break;
        }
        let is_measured = everyone.is_measured(everyone.nanos(due));
        if is_measured {
            // How late the generator is with it; waiting for a virtual user is not its fault, and is in the response time.
            thread.recorder.borrow_mut().lag(now.saturating_duration_since(due).as_nanos() as u64);
        }
        let mut waiting = desk.waiting.borrow_mut();
        if waiting.len() >= most + desk.idle.get() as usize {
            thread.dropped(is_measured);
            continue;
        }
        waiting.push_back((n, due));
        desk.arrived.notify_one();
    }
    desk.close();
}

impl Desk {
    fn close(&self) {
        self.closed.set(true);
        self.arrived.notify_waiters();
    }

    /// Waits for an arrival; `None` when there will be none.
    async fn take(&self, everyone: &Everyone) -> Option<(u64, Instant)> {
        loop {
            // Graceful is over: what waits until now stays where it is, and is counted as dropped.
            if Instant::now() >= everyone.hard_stop() {
                return None;
            }
            let arrived = self.arrived.notified();
            if let Some(arrival) = self.waiting.borrow_mut().pop_front() {
                return Some(arrival);
            }
            if self.closed.get() {
                return None;
            }
            self.idle.update(|n| n + 1);
            arrived.await;
            self.idle.update(|n| n - 1);
        }
    }

    /// When those were due that nobody took up before the end.
    pub fn left(&self) -> Vec<Instant> {
        self.waiting.borrow().iter().map(|(_, due)| *due).collect()
    }
}

/// One virtual user of an open loop.
pub(super) async fn open(everyone: &Everyone, desk: &Rc<Desk>, vu: &mut Vu) -> Result<()> {
    let mut place = Place::default();
    while let Some((n, due)) = desk.take(everyone).await {
        let random = Random::of(everyone.turn.plan.rng_seed, ARRIVALS, n);
        if !place.reach(everyone).await {
            desk.waiting.borrow_mut().push_front((n, due));
            break;
        }
        let intention = place.propose(everyone, vu.number, random);
        let (outcome, _) = vu.perform(everyone, &intention, due, Instant::now()).await?;
        place.note(outcome);
    }
    Ok(())
}
