//! Which session does a disturbance strike, and when?

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::link::{Fate, Link};
use super::{Disturbance, Strike, Truth};
use crate::pg::ConnectOptions;

/// What all connections share. It belongs to one thread.
pub(super) struct Hub {
    pub upstream: ConnectOptions,
    /// How often a transaction was asked for, by all sessions.
    pub begun: Arc<AtomicU64>,
    /// Sessions.
    links: RefCell<Vec<Rc<Link>>>,
    /// Disturbances that wait for their occasion, the oldest first.
    waiting: RefCell<Vec<Order>>,
    delays: RefCell<Vec<Delay>>,
    /// Numbers for orders.
    next: Cell<u64>,
    requests_lost: Cell<u64>,
    responses_lost: Cell<u64>,
}

/// A disturbance that somebody wants.
pub(super) struct Order {
    pub what: Disturbance,
    pub prefix: String,
    pub patience: Duration,
    pub reply: oneshot::Sender<Strike>,
    /// Given when it begins to wait.
    pub number: u64,
}

impl Order {
    /// Says that it has taken effect, now.
    pub fn strike(self, application_name: &str, truth: Truth) {
        let strike = Strike { at: std::time::Instant::now(), application_name: application_name.into(), truth };
        // Whoever asked may have left; what happened has happened all the same.
        let _ = self.reply.send(strike);
    }

    /// Whether it is for this session, and somebody still wants it.
    fn concerns(&self, link: &Link) -> bool {
        link.application_name.starts_with(&self.prefix) && !self.reply.is_closed()
    }
}

struct Delay {
    prefix: String,
    by: Duration,
    until: Instant,
}

impl Hub {
    pub fn new(upstream: ConnectOptions, begun: Arc<AtomicU64>) -> Self {
        Self {
            upstream,
            begun,
            links: RefCell::default(),
            waiting: RefCell::default(),
            delays: RefCell::default(),
            next: Cell::new(0),
            requests_lost: Cell::new(0),
            responses_lost: Cell::new(0),
        }
    }

    /// Brings a disturbance about, now or as soon as there is an occasion.
    pub fn take(self: &Rc<Self>, mut order: Order) {
        order.number = count(&self.next);
        let (number, patience) = (order.number, order.patience);
        self.waiting.borrow_mut().push(order);
        self.look();
        if self.waiting.borrow().iter().any(|order| order.number == number) {
            let hub = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(patience).await;
                hub.give_up(number);
            });
        }
    }

    /// An order has waited long enough. What may strike anywhere strikes now, if there is anybody at all.
    fn give_up(&self, number: u64) {
        let position = self.waiting.borrow().iter().position(|order| order.number == number);
        if let Some(position) = position {
            let order = self.waiting.borrow_mut().remove(position);
            self.doom(order, Link::has_begun);
        }
    }

    /// Looks for occasions that do not depend on what is said next. To be called when a session begins or enters a transaction.
    pub fn look(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        for order in self.waiting.take() {
            let left = match order.what {
                Disturbance::Reset | Disturbance::HalfOpen { .. } => self.doom(order, Link::is_open),
                Disturbance::Delay { by, hold } => self.delay(order, by, hold),
                Disturbance::RequestLost | Disturbance::ResponseLost => Some(order),
            };
            self.waiting.borrow_mut().extend(left);
        }
    }

    /// Ends one of the sessions that are `fit`, chosen at random; gives the order back if there is none.
    fn doom(&self, order: Order, fit: fn(&Link) -> bool) -> Option<Order> {
        let fate = match order.what {
            Disturbance::Reset => Fate::Reset,
            Disturbance::HalfOpen { hold } => Fate::Silence(hold),
            _ => return Some(order),
        };
        let links = self.links.borrow();
        let fit: Vec<&Rc<Link>> = links.iter().filter(|link| order.concerns(link) && link.is_free() && fit(link)).collect();
        if fit.is_empty() {
            return Some(order);
        }
        let link = fit[rand::random_range(0..fit.len())];
        link.doom(fate);
        order.strike(&link.application_name, Truth::Elsewhere);
        None
    }

    fn delay(&self, order: Order, by: Duration, hold: Duration) -> Option<Order> {
        if !self.links.borrow().iter().any(|link| order.concerns(link)) {
            return Some(order);
        }
        let now = Instant::now();
        let mut delays = self.delays.borrow_mut();
        delays.retain(|delay| delay.until > now);
        delays.push(Delay { prefix: order.prefix.clone(), by, until: later(now, hold) });
        let prefix = order.prefix.clone();
        order.strike(&prefix, Truth::Elsewhere);
        None
    }

    /// How much later things of this session arrive at present.
    pub fn lateness(&self, application_name: &str) -> Duration {
        let delays = self.delays.borrow();
        if delays.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let present = delays.iter().filter(|delay| delay.until > now && application_name.starts_with(&delay.prefix));
        present.map(|delay| delay.by).max().unwrap_or_default()
    }

    /// A COMMIT of this session has come by: the disturbance that waits for one, if any, and whether it cuts within a message.
    pub fn at_commit(&self, link: &Link) -> Option<(Order, bool)> {
        let mut waiting = self.waiting.borrow_mut();
        let is_fit = |order: &Order| {
            matches!(order.what, Disturbance::RequestLost | Disturbance::ResponseLost) && order.concerns(link) && link.is_free()
        };
        let position = waiting.iter().position(is_fit)?;
        let order = waiting.remove(position);
        let struck = if order.what == Disturbance::RequestLost { &self.requests_lost } else { &self.responses_lost };
        Some((order, count(struck) % 2 == 1))
    }

    /// A session begins.
    pub fn add(&self, link: &Rc<Link>) {
        self.links.borrow_mut().push(link.clone());
        self.look();
    }

    /// A session has ended.
    pub fn remove(&self, link: &Rc<Link>) {
        self.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
    }
}

/// So much later; as good as for ever, where the clock does not reach.
pub(super) fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now + Duration::from_secs(1 << 30))
}

/// The present number; the next one is higher.
fn count(counter: &Cell<u64>) -> u64 {
    counter.replace(counter.get() + 1)
}
