//! How does a contest go? All virtual users begin a round together, on a fresh authorisation or programme; whoever finishes it last releases the
//! next.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use super::drive::Everyone;
use super::pacing::CHOICES;
use super::vu::Vu;
use super::work::Intention;
use crate::Result;
use crate::history::Asking;
use crate::outcome::Outcome;
use crate::plan::{Limit, Load};
use crate::random::Random;
use crate::scenario::Booking;

/// The round counter before the first round, and after the last.
const BEFORE: u64 = 0;
const OVER: u64 = u64::MAX;

/// Which round it is and who is still in it.
pub(super) struct Rounds {
    /// [`BEFORE`], then 1 for the first round and so on, then [`OVER`].
    round: watch::Sender<u64>,
    /// When the present round was released, nanoseconds on the run's clock.
    released: AtomicU64,
    /// Virtual users that have not finished it.
    playing: AtomicU32,
    /// Virtual users that have won it.
    winners: AtomicU32,
    /// The operations of which more have won than there was room for, as bits by their numbers.
    broken: AtomicU64,
}

impl Rounds {
    pub fn new(vus: u32) -> Self {
        Self {
            round: watch::channel(BEFORE).0,
            released: AtomicU64::new(0),
            playing: AtomicU32::new(vus),
            winners: AtomicU32::new(0),
            broken: AtomicU64::new(0),
        }
    }

    /// Releases the first round.
    pub fn begin(&self, now: u64) {
        self.released.store(now, Ordering::Release);
        self.round.send_if_modified(|r| {
            let starts = *r == BEFORE;
            if starts {
                *r = 1;
            }
            starts
        });
    }

    /// Nobody waits any more.
    pub fn over(&self) {
        self.round.send_replace(OVER);
    }

    /// More winners than there is room for are a breach, even if the row looks right: an update was lost, or a key applied twice. Where there are
    /// several contests, it takes one in each that can be broken.
    fn judge(&self, everyone: &Everyone, intention: &Intention, outcome: Outcome, most: u32) {
        // Another organisation's key, and the next lifetime of this one, may have another winner.
        let is_apart = matches!(intention.asking(), Some(Asking::OtherTenant | Asking::Late));
        if outcome == Outcome::Committed && !is_apart && self.winners.fetch_add(1, Ordering::Relaxed) >= most {
            let contest = 1 << intention.operation.min(63);
            let broken = self.broken.fetch_or(contest, Ordering::Relaxed) | contest;
            if everyone.opener.work.breakable().is_none_or(|breakable| broken & breakable == breakable) {
                everyone.breach();
            }
        }
    }

    /// Before the first round, those who are ready would wait for others who will not come.
    pub fn over_unless_begun(&self) {
        self.round.send_if_modified(|r| {
            let waits = *r == BEFORE;
            if waits {
                *r = OVER;
            }
            waits
        });
    }
}

/// Plays round after round.
pub(super) async fn play(everyone: &Everyone, vu: &mut Vu) -> Result<()> {
    let (rounds, work) = (&everyone.rounds, &everyone.opener.work);
    let mut round = rounds.round.subscribe();
    let mut played = BEFORE;
    let winners = everyone.turn.plan.round().map_or(0, |(_, winners)| winners);
    let per_round = everyone.turn.plan.booking().map_or(1, Booking::per_round);
    loop {
        let Ok(now) = round.wait_for(|r| *r != played).await.map(|r| *r) else { return Ok(()) };
        if now == OVER {
            return Ok(());
        }
        played = now;
        let position = now - 1;
        if !everyone.is_stocked((position + 1) * per_round - 1).await {
            return Ok(());
        }
        let mut random = Random::of(everyone.turn.plan.rng_seed, CHOICES + u64::from(vu.number), u64::from(vu.issued()));
        let Some((intention, room)) = work.propose_in_round(&mut random, position, vu.number) else { return Ok(()) };
        let room = room.unwrap_or(winners);
        let released = everyone.instant(rounds.released.load(Ordering::Acquire));
        let first = intention.at_first();
        let (outcome, ended) = vu.perform(everyone, &first, released, Instant::now()).await?;
        rounds.judge(everyone, &first, outcome, room);
        if let Some(again) = intention.then(outcome) {
            let (outcome, _) = vu.perform(everyone, &again, ended, ended).await?;
            rounds.judge(everyone, &again, outcome, room);
        }
        if rounds.playing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let limit = matches!(everyone.turn.load, Load::Rounds { limit: Limit::Rounds(most), .. } if now >= most);
            if limit || everyone.is_over() || !everyone.is_stocked((position + 2) * per_round - 1).await {
                everyone.stop();
                return Ok(());
            }
            rounds.winners.store(0, Ordering::Relaxed);
            rounds.playing.store(everyone.turn.load.vus(), Ordering::Release);
            rounds.released.store(everyone.nanos(Instant::now()), Ordering::Release);
            // Unless somebody has stopped everything meanwhile.
            rounds.round.send_if_modified(|r| {
                let next = *r == now;
                if next {
                    *r = now + 1;
                }
                next
            });
        }
    }
}
