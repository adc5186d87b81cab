//! How many requests are let through? Fixed windows, which begin with the first request in them.
//!
//! A request is counted in every window that it falls under, or, if one of them is full, in none: a limit is exact, and what is rejected uses up
//! nothing. When more are counted apart than there is memory for, the rest is counted together: nobody is let through uncounted.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::mistakes::Mistake;
use super::route::Class;
use crate::pace::parse_duration;
use crate::{Error, Result, contract};

/// What may be counted apart at once, of all rules.
const MOST_WINDOWS: usize = 1 << 16;
/// After so many rejections [`Mistake::LimitFailsOpen`] gives in.
const GIVES_IN: u64 = 20;

/// What an organisation has paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Nothing yet, and whoever is not known.
    Trial,
    /// Little.
    Basic,
    /// More.
    Professional,
    /// The most.
    Enterprise,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Trial, Self::Basic, Self::Professional, Self::Enterprise];

    /// The word in the dataset.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trial => "TRIAL",
            Self::Basic => "BASIC",
            Self::Professional => "PROFESSIONAL",
            Self::Enterprise => "ENTERPRISE",
        }
    }

    /// The tier of that word; who has another one is on trial.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|tier| tier.name() == name).unwrap_or(Self::Trial)
    }
}

/// Which routes a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routes {
    /// All that need a token.
    All,
    /// Those of them that look.
    Read,
    /// Those of them that change something.
    Write,
    /// The one that gives tokens out; counted by account.
    Login,
}

impl Routes {
    const NAMES: [(&str, Self); 4] = [("all", Self::All), ("read", Self::Read), ("write", Self::Write), ("login", Self::Login)];

    fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, routes)| *routes == self).map_or("", |(name, _)| name)
    }

    fn has(self, class: Class) -> bool {
        match class {
            Class::Open => false,
            Class::Login => self == Self::Login,
            Class::Read => matches!(self, Self::All | Self::Read),
            Class::Write => matches!(self, Self::All | Self::Write),
        }
    }
}

/// So many requests in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which routes it is about.
    pub routes: Routes,
    /// Of which tier of organisations; `None`: of all.
    pub tier: Option<Tier>,
    /// So many are let through, at least 1.
    pub requests: u64,
    /// How long a window lasts, at least a second.
    pub window: Duration,
}

impl Rule {
    /// What each tier may ask for in a minute, and how often anybody may try to log in.
    pub fn tiers() -> Vec<Self> {
        let window = Duration::from_secs(60);
        let allowed = [(Tier::Trial, 100), (Tier::Basic, 1_000), (Tier::Professional, 10_000), (Tier::Enterprise, 100_000)];
        let mut rules: Vec<Self> =
            allowed.into_iter().map(|(tier, requests)| Self { routes: Routes::All, tier: Some(tier), requests, window }).collect();
        rules.push(Self { routes: Routes::Login, tier: None, requests: 5, window });
        rules
    }

    /// As a server says it of itself.
    pub fn about(&self) -> contract::Limit {
        contract::Limit {
            route: self.routes.name().into(),
            tier: self.tier.map(|tier| tier.name().into()),
            per: if self.routes == Routes::Login { "account" } else { "organisation" }.into(),
            requests: self.requests,
            window_s: self.window.as_secs(),
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let usage =
            |what: String| Error::usage(what).cure("ROUTE=COUNT/WINDOW, such as all=100/15m; ROUTE is all, read, write or login");
        let (name, rest) = text.split_once('=').ok_or_else(|| usage(format!("`{text}` is no limit")))?;
        let (count, window) = rest.split_once('/').ok_or_else(|| usage(format!("`{text}` is no limit: it has no window")))?;
        let (_, routes) = Routes::NAMES.into_iter().find(|(known, _)| *known == name.trim()).ok_or_else(|| {
            let near = crate::error::nearest(name, Routes::NAMES.map(|(name, _)| name));
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            usage(format!("no limit is about `{name}`{hint}"))
        })?;
        let requests = count.trim().parse().ok().filter(|count| *count > 0);
        let requests = requests.ok_or_else(|| usage(format!("`{count}` is no number of requests, which is at least 1")))?;
        let window = parse_duration(window)?;
        if window.as_secs() < 1 || window.subsec_nanos() > 0 {
            return Err(usage(format!("a window of `{rest}` is not of whole seconds, in which its end is told")));
        }
        Ok(Self { routes, tier: None, requests, window })
    }
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// Everybody of an organisation.
    Organisation(i64),
    /// Those who belong to none.
    Everywhere,
    /// Whoever tries to log in as somebody, by a number that stands for the name.
    Account(u64),
    /// Those for whom there was no memory left.
    Others,
}

/// Where a request leaves who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// So many are let through in a window.
    pub limit: u64,
    /// So many more in this one.
    pub remaining: u64,
    /// Whole seconds until it has ended, at least 1.
    pub reset: u64,
}

struct Count {
    began: Duration,
    taken: u64,
    rejected: u64,
}

/// What was counted. Pure: the time is told, as what has passed since the start.
struct Windows {
    counts: HashMap<(usize, Who), Count>,
    most: usize,
    /// Before that no window ends, as far as was seen when it was last looked for.
    next_end: Duration,
    mistake: Option<Mistake>,
}

impl Windows {
    fn new(most: usize, mistake: Option<Mistake>) -> Self {
        Self { counts: HashMap::new(), most, next_end: Duration::ZERO, mistake }
    }

    fn has_ended(&self, count: &Count, rule: &Rule, now: Duration) -> bool {
        self.mistake != Some(Mistake::LimitNeverResets) && now >= count.began + rule.window
    }

    /// Where `who` is counted, while there is memory for it.
    fn place(&mut self, rules: &[Rule], rule: usize, who: Who, now: Duration) -> (usize, Who) {
        let who = if self.mistake == Some(Mistake::LimitShared) { Who::Others } else { who };
        let place = (rule, who);
        if self.counts.len() < self.most || self.counts.contains_key(&place) {
            return place;
        }
        if now >= self.next_end {
            let mut next = Duration::MAX;
            self.counts.retain(|(rule, _), count| {
                let end = count.began + rules[*rule].window;
                let is_running = now < end;
                if is_running {
                    next = next.min(end);
                }
                is_running
            });
            self.next_end = next;
        }
        if self.counts.len() < self.most { place } else { (rule, Who::Others) }
    }

    /// Counts a request under each of the rules `under`, if it is let through; where it stands in the narrowest of them.
    ///
    /// # Errors
    /// Where it stands in the one that does not let it through.
    fn take(&mut self, rules: &[Rule], under: &[usize], who: Who, now: Duration) -> Result<Option<Standing>, Standing> {
        let mut places = Vec::with_capacity(under.len());
        let mut full = None;
        for n in under {
            let rule = &rules[*n];
            let place = self.place(rules, *n, who, now);
            places.push(place);
            let Some(count) = self.counts.get(&place).filter(|count| !self.has_ended(count, rule, now)) else { continue };
            let most = rule.requests + u64::from(self.mistake == Some(Mistake::LimitOffByOne));
            let gives_in = self.mistake == Some(Mistake::LimitFailsOpen) && count.rejected >= GIVES_IN;
            if count.taken >= most && !gives_in {
                full = Some((place, standing(rule, count, now)));
                break;
            }
        }
        if let Some((place, standing)) = full {
            if let Some(count) = self.counts.get_mut(&place) {
                count.rejected += 1;
            }
            return Err(standing);
        }
        let mut narrowest: Option<Standing> = None;
        for place in places {
            let rule = &rules[place.0];
            let is_over = self.counts.get(&place).is_some_and(|count| self.has_ended(count, rule, now));
            if is_over {
                self.counts.remove(&place);
            }
            let count = self.counts.entry(place).or_insert(Count { began: now, taken: 0, rejected: 0 });
            count.taken += 1;
            let standing = standing(rule, count, now);
            if narrowest.is_none_or(|narrowest| standing.remaining < narrowest.remaining) {
                narrowest = Some(standing);
            }
        }
        Ok(narrowest)
    }
}

fn standing(rule: &Rule, count: &Count, now: Duration) -> Standing {
    let left = (count.began + rule.window).saturating_sub(now);
    let reset = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Standing { limit: rule.requests, remaining: rule.requests.saturating_sub(count.taken), reset: reset.max(1) }
}

/// The limits of a server, shared by its threads.
pub struct Limits {
    rules: Vec<Rule>,
    /// Of the organisations that are known.
    tiers: HashMap<i64, Tier>,
    windows: Mutex<Windows>,
    started: Instant,
    accounts: RandomState,
}

impl Limits {
    /// Nothing has been counted yet.
    pub fn new(rules: Vec<Rule>, tiers: HashMap<i64, Tier>, mistake: Option<Mistake>) -> Self {
        let windows = Mutex::new(Windows::new(MOST_WINDOWS, mistake));
        Self { rules, tiers, windows, started: Instant::now(), accounts: RandomState::new() }
    }

    /// Who tries to log in as `login`. The name itself, which is whatever somebody sends, is not kept.
    pub fn account(&self, login: &str) -> Who {
        Who::Account(self.accounts.hash_one(login))
    }

    /// Counts a request; where it leaves who made it, if that is limited.
    ///
    /// # Errors
    /// It is not let through.
    pub fn take(&self, class: Class, who: Who) -> Result<Option<Standing>, Standing> {
        if self.rules.is_empty() || class == Class::Open {
            return Ok(None);
        }
        let tier = match who {
            Who::Organisation(id) => self.tiers.get(&id).copied().unwrap_or(Tier::Trial),
            // Who looks after all of them is no tenant.
            Who::Everywhere | Who::Account(_) | Who::Others => Tier::Enterprise,
        };
        let applies = |rule: &Rule| rule.routes.has(class) && rule.tier.is_none_or(|of| of == tier);
        let under: Vec<usize> = (0..self.rules.len()).filter(|n| applies(&self.rules[*n])).collect();
        if under.is_empty() {
            return Ok(None);
        }
        let mut windows: MutexGuard<'_, Windows> = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        // Read inside, so that it does not run backwards from one holder to the next.
        let now = self.started.elapsed();
        windows.take(&self.rules, &under, who, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    /// How many of `n` requests of one organisation are let through, at one moment.
    fn passed(windows: &mut Windows, rules: &[Rule], who: Who, n: u64, now: Duration) -> u64 {
        let under: Vec<usize> = (0..rules.len()).collect();
        (0..n).filter(|_| windows.take(rules, &under, who, now).is_ok()).count() as u64
    }

    const ONE: Who = Who::Organisation(1);
    const TWO: Who = Who::Organisation(2);

    #[test]
    fn exactly_the_excess_is_rejected_until_the_window_ends_and_for_each_apart() {
        let rules = [rule("all=10/15s")];
        let mut windows = Windows::new(100, None);
        let first = windows.take(&rules, &[0], ONE, 7 * S).unwrap().unwrap();
        assert_eq!(first, Standing { limit: 10, remaining: 9, reset: 15 });
        assert_eq!(passed(&mut windows, &rules, ONE, 30, 8 * S), 9);
        let rejected = windows.take(&rules, &[0], ONE, 8 * S + S / 2).unwrap_err();
        assert_eq!(rejected, Standing { limit: 10, remaining: 0, reset: 14 });
        assert_eq!(passed(&mut windows, &rules, TWO, 30, 9 * S), 10, "another organisation");
        assert_eq!(passed(&mut windows, &rules, ONE, 5, 22 * S - Duration::from_nanos(1)), 0);
        assert_eq!(windows.take(&rules, &[0], ONE, 22 * S - Duration::from_nanos(1)).unwrap_err().reset, 1);
        assert_eq!(passed(&mut windows, &rules, ONE, 30, 22 * S), 10, "a window of its own begins");
        assert_eq!(passed(&mut windows, &rules, ONE, 30, 36 * S), 0, "which began with its first request");
        assert_eq!(passed(&mut windows, &rules, ONE, 30, 37 * S), 10);
    }

    #[test]
    fn what_one_rule_rejects_uses_up_nothing_of_another() {
        let rules = [rule("all=10/1m"), rule("write=3/1m")];
        let mut windows = Windows::new(100, None);
        assert_eq!(passed(&mut windows, &rules, ONE, 20, S), 3);
        let standing = windows.take(&rules, &[0], ONE, S).unwrap().unwrap();
        assert_eq!(standing.remaining, 6, "three changes and this one");
    }

    #[test]
    fn who_finds_no_memory_is_counted_with_the_others_and_not_let_through() {
        let rules = [rule("all=5/10s")];
        let mut windows = Windows::new(3, None);
        let let_through: u64 = (0..100).map(|n| passed(&mut windows, &rules, Who::Organisation(n), 5, S)).sum();
        assert_eq!(let_through, 3 * 5 + 5, "three by themselves, and everybody else together");
        assert!(windows.counts.len() <= 4);
        assert_eq!(passed(&mut windows, &rules, Who::Organisation(99), 9, 11 * S), 5, "windows that have ended make room");
        assert!(windows.counts.len() <= 4);
    }

    #[test]
    fn each_mistake_is_made() {
        let rules = [rule("all=10/15s")];
        let made = |mistake| Windows::new(100, Some(mistake));
        assert_eq!(passed(&mut made(Mistake::LimitOffByOne), &rules, ONE, 30, S), 11);
        assert_eq!(passed(&mut made(Mistake::LimitFailsOpen), &rules, ONE, 50, S), 10 + 20);
        let mut shared = made(Mistake::LimitShared);
        assert_eq!(passed(&mut shared, &rules, ONE, 6, S) + passed(&mut shared, &rules, TWO, 6, S), 10);
        let mut forever = made(Mistake::LimitNeverResets);
        assert_eq!(passed(&mut forever, &rules, ONE, 12, S) + passed(&mut forever, &rules, ONE, 12, 1_000 * S), 10);
    }

    #[test]
    fn a_class_falls_under_the_rules_that_are_about_it_and_tiers_have_their_own() {
        let limits = Limits::new(Rule::tiers(), [(1, Tier::Basic)].into(), None);
        let limit = |class, who| limits.take(class, who).unwrap().map(|standing| standing.limit);
        assert_eq!(limit(Class::Read, ONE), Some(1_000));
        assert_eq!(limit(Class::Write, TWO), Some(100), "who is not known is on trial");
        assert_eq!(limit(Class::Write, Who::Everywhere), Some(100_000));
        assert_eq!(limit(Class::Open, Who::Everywhere), None);
        let account = limits.account("a@example.com");
        assert_ne!(account, limits.account("b@example.com"));
        assert_eq!((0..9).filter(|_| limits.take(Class::Login, account).is_ok()).count(), 5);
        let reads = Limits::new(vec![rule("read=1/1s")], HashMap::new(), None);
        assert_eq!(reads.take(Class::Write, ONE), Ok(None));
        assert!(reads.take(Class::Read, ONE).is_ok() && reads.take(Class::Read, ONE).is_err());
    }

    #[test]
    fn limits_are_typed() {
        let typed = rule("all=100/15m");
        assert_eq!((typed.routes, typed.requests, typed.window), (Routes::All, 100, 900 * S));
        assert_eq!(typed.about().per, "organisation");
        assert_eq!(rule("login=5/1m").about().per, "account");
        for (text, said) in [
            ("all", "no limit"),
            ("all=5", "no window"),
            ("al=5/1m", "did you mean `all`?"),
            ("all=0/1m", "at least 1"),
            ("all=x/1m", "at least 1"),
            ("all=5/500ms", "whole seconds"),
            ("all=5/1y", "not a duration"),
        ] {
            let refused = text.parse::<Rule>().unwrap_err().to_string();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
