//! How is a server to be run?

use std::net::SocketAddr;
use std::time::Duration;

use super::limits::{Routes, Rule};
use super::mistakes::Mistake;
use crate::pg::ConnectOptions;
use crate::seed::Dataset;
use crate::strategy::{Claim, Hazard, Strategy};
use crate::token::Secret;
use crate::workload::keyed::{InFlight, Keys};
use crate::{Error, Result};

/// Where it listens if nobody says otherwise.
pub const LISTEN: &str = "127.0.0.1:8971";
/// The most threads: as many as numbers of operations have room for, and far more than help.
const MOST_THREADS: u16 = 64;
/// The most sessions.
const MOST_SESSIONS: u32 = 1_000;

/// How a server is to be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where its database is.
    pub options: ConnectOptions,
    /// Where it listens; port 0: wherever there is room.
    pub listen: SocketAddr,
    /// What tokens are signed with, and what the password of the accounts follows from.
    pub secret: Secret,
    /// How rows are protected.
    pub strategy: Strategy,
    /// Sessions at the database, of all threads together.
    pub pool_size: u32,
    /// Threads.
    pub threads: u16,
    /// The application's pause between reading and writing.
    pub hold: Duration,
    /// From the arrival of a request to the last moment at which an attempt may begin.
    pub retry_deadline: Duration,
    /// What is let through.
    pub limits: Vec<Rule>,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// What is said to a request whose key is in flight.
    pub in_flight: InFlight,
    /// How long a key is known, on the clock of the domain.
    pub key_lifetime: Duration,
    /// The mistake that is made on purpose.
    pub mistake: Option<Mistake>,
    /// Whether changes leave an entry in the audit trail.
    pub audit: bool,
    /// The command that started it, for the table of runs. Never with a password in it.
    pub command: String,
}

impl Settings {
    /// The usual ones, on a free port of this machine.
    pub fn new(options: ConnectOptions, secret: Secret) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, usize::from(MOST_THREADS));
        Self {
            options,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            secret,
            strategy: Strategy::Serializable,
            pool_size: 20,
            threads: threads as u16,
            hold: Duration::ZERO,
            retry_deadline: Duration::from_secs(5),
            limits: Vec::new(),
            token_lifetime: Duration::from_secs(900),
            in_flight: InFlight::default(),
            key_lifetime: Duration::from_secs(86_400),
            mistake: None,
            audit: true,
            command: "dbstress serve".into(),
        }
    }

    /// How rows are really protected: a mistake of bookings is made under the strategy that it takes the protection from.
    pub(super) fn strategy_at_work(&self) -> Strategy {
        match self.mistake {
            Some(Mistake::CheckThenAct) => Strategy::Naive,
            _ => self.strategy_said(),
        }
    }

    /// How it says that rows are protected.
    pub(super) fn strategy_said(&self) -> Strategy {
        match self.mistake.and_then(Mistake::of_bookings) {
            Some(bug) if !bug.entry().strategies.contains(&self.strategy) => bug.entry().strategies[0],
            _ => self.strategy,
        }
    }

    /// What becomes of keys.
    pub(super) fn keys(&self) -> Keys {
        Keys { in_flight: self.in_flight, lifetime: self.key_lifetime, cleanup: 0 }
    }

    /// Whether it can be run on `dataset`.
    ///
    /// # Errors
    /// Usage: what cannot be, and what can.
    pub(super) fn check(&self, dataset: Dataset) -> Result<()> {
        let hazard = match dataset {
            Dataset::Clinic => Hazard::LostUpdate,
            Dataset::Residency => Hazard::WriteSkew,
        };
        if let Some(why) = self.strategy.inexpressible(hazard) {
            let others: Vec<&str> =
                Strategy::ALL.into_iter().filter(|strategy| strategy.claim(hazard) != Claim::None).map(Strategy::name).collect();
            return Err(Error::usage(format!("{} cannot protect what is in the {}: {why}", self.strategy.name(), dataset.name()))
                .cure(format!("--strategy {}", others.join(", "))));
        }
        if dataset == Dataset::Residency {
            if self.limits.iter().any(|rule| rule.tier.is_some()) {
                return Err(Error::usage("programmes of the residency have no tiers").cure("--limit all=100/1m, for each of them"));
            }
            if let Some(bug) = self.mistake.and_then(Mistake::of_bookings) {
                return Err(Error::usage(format!("{bug} is a mistake of bookings, and in the residency nothing is booked"))
                    .cure("dbstress seed --reset, which loads the clinic; or another --bug"));
            }
        }
        if self.threads == 0 || self.threads > MOST_THREADS {
            return Err(Error::usage(format!("{} threads", self.threads)).cure(format!("--threads 1 to {MOST_THREADS}")));
        }
        if self.pool_size < u32::from(self.threads) || self.pool_size > MOST_SESSIONS {
            return Err(Error::usage(format!(
                "{} sessions for {} threads, each of which has its own",
                self.pool_size, self.threads
            ))
            .cure(format!("--pool-size {} to {MOST_SESSIONS}, or fewer --threads", self.threads)));
        }
        if self.token_lifetime.as_secs() == 0 {
            return Err(Error::usage("a token that is never good lets nobody in").cure("--token-lifetime 15m"));
        }
        if self.retry_deadline.is_zero() || self.retry_deadline > Duration::from_secs(60) {
            return Err(Error::usage("the retry deadline is not within a minute").cure("--retry-deadline 5s"));
        }
        if self.key_lifetime.as_secs() == 0 {
            return Err(Error::usage("a key that is known for less than a second is no key").cure("--key-lifetime 24h"));
        }
        let twice =
            |rule: &Rule| self.limits.iter().filter(|other| (other.routes, other.tier) == (rule.routes, rule.tier)).count() > 1;
        if let Some(rule) = self.limits.iter().find(|rule| twice(rule)) {
            let name = if rule.routes == Routes::Login { "login" } else { "the same routes" };
            return Err(
                Error::usage(format!("there are two limits of {name}")).cure("one --limit for each of all, read, write, login")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bug::Bug;

    fn settings() -> Settings {
        Settings::new(ConnectOptions::from_url("postgres://me@localhost/db", &|_| None).unwrap(), Secret::random())
    }

    #[test]
    fn what_it_says_and_what_it_does_differ_only_by_mistake() {
        let usual = settings();
        assert_eq!((usual.strategy_said(), usual.strategy_at_work()), (Strategy::Serializable, Strategy::Serializable));
        let unsafe_one = Settings { mistake: Some(Mistake::CheckThenAct), ..settings() };
        assert_eq!((unsafe_one.strategy_said(), unsafe_one.strategy_at_work()), (Strategy::Serializable, Strategy::Naive));
        let of_bookings = Settings { mistake: Some(Mistake::Booking(Bug::LockAndRead)), ..settings() };
        assert_eq!((of_bookings.strategy_said(), of_bookings.strategy_at_work()), (Strategy::Advisory, Strategy::Advisory));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_cure() {
        let refused = |settings: Settings, dataset| settings.check(dataset).unwrap_err().to_string();
        let clinic = Dataset::Clinic;
        settings().check(clinic).unwrap();
        settings().check(Dataset::Residency).unwrap();
        let atomic = Settings { strategy: Strategy::Atomic, ..settings() };
        atomic.check(clinic).unwrap();
        assert!(refused(atomic, Dataset::Residency).contains("serializable"));
        assert!(refused(Settings { limits: Rule::tiers(), ..settings() }, Dataset::Residency).contains("--limit"));
        let bug = Some(Mistake::Booking(Bug::NoKey));
        assert!(refused(Settings { mistake: bug, ..settings() }, Dataset::Residency).contains("no-key"));
        assert!(refused(Settings { pool_size: 1, threads: 2, ..settings() }, clinic).contains("--pool-size 2"));
        assert!(refused(Settings { threads: 0, ..settings() }, clinic).contains("--threads"));
        let limits = vec!["all=1/1s".parse().unwrap(), "all=2/1s".parse().unwrap()];
        assert!(refused(Settings { limits, ..settings() }, clinic).contains("two limits"));
    }
}
