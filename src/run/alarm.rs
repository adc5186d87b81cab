//! When is an attempt given up? At its deadline, seen at the next beat: a timer for each would make every wait of the thread a timed one,
//! which costs more than the statement that is waited for.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

/// The alarms of one load thread.
#[derive(Default)]
pub(super) struct Alarms(RefCell<Vec<Rc<Slot>>>);

#[derive(Default)]
struct Slot {
    /// None while nothing waits.
    deadline: Cell<Option<Instant>>,
    has_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The alarm of one virtual user, which waits for one thing at a time.
pub(super) struct Alarm(Rc<Slot>);

impl Alarms {
    /// One more.
    pub fn set_up(&self) -> Alarm {
        let slot = Rc::new(Slot::default());
        self.0.borrow_mut().push(slot.clone());
        Alarm(slot)
    }

    /// Rings those whose time has come; at `hard_stop` that of all has.
    pub fn beat(&self, now: Instant, hard_stop: Instant) {
        for slot in self.0.borrow().iter().filter(|slot| slot.deadline.get().is_some_and(|deadline| deadline.min(hard_stop) <= now))
        {
            slot.has_rung.set(true);
            if let Some(waker) = slot.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Alarm {
    /// What the future comes to, or `None` at the first beat after the deadline.
    pub async fn within<T>(&self, deadline: Instant, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let slot = &*self.0;
        slot.has_rung.set(false);
        slot.deadline.set(Some(deadline));
        let ended = std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if slot.has_rung.get() {
                return Poll::Ready(None);
            }
            let mut waker = slot.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        slot.deadline.set(None);
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_hard_stop_rings_every_alarm() {
        let alarms = Alarms::default();
        let alarm = alarms.set_up();
        let start = Instant::now();
        let stop = async {
            tokio::task::yield_now().await;
            alarms.beat(start, start);
        };
        let (rung, ()) = tokio::join!(alarm.within(start + Duration::from_secs(600), pin!(std::future::pending::<()>())), stop);
        assert_eq!(rung, None);
    }

    #[tokio::test]
    async fn an_alarm_rings_at_the_first_beat_after_its_deadline_and_not_before() {
        let alarms = Alarms::default();
        let alarm = alarms.set_up();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for deadline in [5, 20, 21] {
            let beats = async {
                let mut beaten = 0;
                for second in 0.. {
                    alarms.beat(at(second), at(1_000));
                    beaten = second;
                    if second >= deadline {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                beaten
            };
            let (rung, beaten) = tokio::join!(alarm.within(at(deadline), pin!(std::future::pending::<()>())), beats);
            assert_eq!((rung, beaten), (None, deadline));
        }
        assert_eq!(alarm.within(at(0), pin!(async { 7 })).await, Some(7), "what is done is done, however late");
        alarms.beat(at(100), at(0));
        assert_eq!(alarm.within(at(200), pin!(tokio::task::yield_now())).await, Some(()), "nobody waits for the last one any more");
    }
}
