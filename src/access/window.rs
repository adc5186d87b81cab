//! Was a limit kept to the request, and are its promises true? Pure: answers in the order in which they came, and when each was sent and read.
//!
//! The server's clock is not asked. A window begins somewhere between the moment when its first request was sent and the moment when its answer was
//! read, and so ends within as wide an interval; a server is wrong only where every moment of the interval says so.

use std::time::Instant;

use super::call::Told;
use crate::contract::Limit;

/// What a limited route says of the limit; whole numbers.
const LIMIT: &str = "ratelimit-limit";
const REMAINING: &str = "ratelimit-remaining";
const RESET: &str = "ratelimit-reset";
const RETRY_AFTER: &str = "retry-after";

/// One answer, as far as a limit is concerned. Times are seconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Whether it was not rejected.
    pub is_let_through: bool,
    /// How many a window has, as it says.
    pub limit: Option<u64>,
    /// How many are left, as it says.
    pub remaining: Option<u64>,
    /// Seconds until the window ends, as it says.
    pub reset: Option<u64>,
    /// Seconds until it is worth asking again, as it says.
    pub retry_after: Option<u64>,
    /// When it was sent.
    pub sent: f64,
    /// When its answer had been read.
    pub answered: f64,
}

impl Spot {
    /// Of an answer; `began` is the beginning.
    pub fn of(told: &Told, began: Instant) -> Self {
        let since = |moment: Instant| moment.saturating_duration_since(began).as_secs_f64();
        Self {
            is_let_through: !told.is_rejected(),
            limit: told.number(LIMIT),
            remaining: told.number(REMAINING),
            reset: told.number(RESET),
            retry_after: told.number(RETRY_AFTER),
            sent: since(told.sent),
            answered: since(told.answered),
        }
    }
}

/// The limit that a class of routes meets first, of those that apply to a tier: the one with the fewest requests, and of several the longest.
pub fn governing<'a>(limits: &'a [Limit], route: &str, tier: &str) -> Option<&'a Limit> {
    let applies = |limit: &&Limit| {
        let of_route = limit.route == route || limit.route == "all" && route != "login";
        of_route && limit.tier.as_deref().is_none_or(|of| of == tier)
    };
    limits.iter().filter(applies).min_by_key(|limit| (limit.requests, std::cmp::Reverse(limit.window_s)))
}

/// As a user would write it.
pub fn words(limit: &Limit) -> String {
    let tier = limit.tier.as_ref().map_or(String::new(), |tier| format!("{tier}: "));
    format!("{tier}{}={}/{}s", limit.route, limit.requests, limit.window_s)
}

/// What came of requests that were made one after the other, the first of which began a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    /// How many were let through.
    pub let_through: u64,
    /// How many were not.
    pub rejected: u64,
    /// Which was the first that was not, from 1.
    pub first_rejection: Option<u64>,
    /// Answers without a header that they must have, or that do not say what is declared.
    pub headers: Vec<String>,
    /// Answers that count otherwise than down to nothing, by one.
    pub gaps: Vec<String>,
    /// Answers that say a wrong time.
    pub times: Vec<String>,
    /// Whether the window was open until the last of them; otherwise nothing of this says anything.
    pub is_within: bool,
}

/// Judges a sequence by what was declared.
pub fn sequence(spots: &[Spot], declared: &Limit) -> Sequence {
    let mut found = Sequence::default();
    let (Some(first), Some(last)) = (spots.first(), spots.last()) else { return found };
    let window = declared.window_s as f64;
    found.is_within = last.answered < first.sent + window;
    for (n, spot) in (1u64..).zip(spots) {
        if spot.is_let_through {
            found.let_through += 1;
        } else {
            found.rejected += 1;
            found.first_rejection.get_or_insert(n);
        }
        headers(&mut found, n, spot, declared);
        let left = if spot.is_let_through { declared.requests.saturating_sub(found.let_through) } else { 0 };
        if spot.remaining.is_some_and(|said| said != left) {
            found.gaps.push(format!("request {n} says that {} are left of {left}", spot.remaining.unwrap_or_default()));
        }
        times(&mut found, n, spot, [first.sent + window, first.answered + window]);
    }
    found
}

fn headers(found: &mut Sequence, n: u64, spot: &Spot, declared: &Limit) {
    let missing: Vec<&str> = [
        ("RateLimit-Limit", spot.limit.is_none()),
        ("RateLimit-Remaining", spot.remaining.is_none()),
        ("RateLimit-Reset", spot.reset.is_none()),
        ("Retry-After", spot.retry_after.is_none() && !spot.is_let_through),
    ]
    .into_iter()
    .filter_map(|(name, is_missing)| is_missing.then_some(name))
    .collect();
    if !missing.is_empty() {
        found.headers.push(format!("request {n} was answered without {}", missing.join(", ")));
    }
    if spot.limit.is_some_and(|said| said != declared.requests) {
        let said = spot.limit.unwrap_or_default();
        found.headers.push(format!("request {n} was told of {said} requests, and /v1/about says {}", declared.requests));
    }
}

/// The window ends between the two moments `ends`, in whole seconds rounded up.
fn times(found: &mut Sequence, n: u64, spot: &Spot, ends: [f64; 2]) {
    for (name, said) in [("RateLimit-Reset", spot.reset), ("Retry-After", spot.retry_after)] {
        let Some(said) = said else { continue };
        let seconds = said as f64;
        // It was said somewhere between `sent` and `answered`.
        if spot.answered + seconds < ends[0] {
            found.times.push(format!("{name} of request {n} is {said} s, and {:.3} s at least are left", ends[0] - spot.answered));
        }
        if seconds > 1.0 && spot.sent + seconds - 1.0 > ends[1] {
            found.times.push(format!("{name} of request {n} is {said} s, and {:.3} s at most are left", ends[1] - spot.sent));
        }
    }
}

/// What came of asking on until the window had ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Who was let through although the window cannot have ended.
    pub early: Vec<String>,
    /// Who was not although it must have.
    pub late: Vec<String>,
    /// Whether somebody was asked for whom it must have.
    pub is_asked: bool,
}

/// Judges what was asked after a window had been used up, whose first request is `first`.
pub fn recovery(first: Spot, asked: &[Spot], declared: &Limit) -> Recovered {
    let window = declared.window_s as f64;
    let ends = [first.sent + window, first.answered + window];
    let mut found = Recovered::default();
    for spot in asked {
        if spot.is_let_through && spot.answered < ends[0] {
            found.early.push(format!("let through {:.3} s before the window can have ended", ends[0] - spot.answered));
        }
        if !spot.is_let_through && spot.sent > ends[1] {
            found.late.push(format!("rejected {:.3} s after the window must have ended", spot.sent - ends[1]));
        }
        found.is_asked |= spot.sent > ends[1];
        // From then on another window counts.
        if spot.is_let_through {
            break;
        }
    }
    found
}

/// How many can be let through at most between the first request sent and the last answer read, `seconds` later: windows do not overlap.
pub fn most(declared: &Limit, seconds: f64) -> u64 {
    declared.requests * ((seconds / declared.window_s as f64) as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u64, window_s: u64) -> Limit {
        Limit { route: "all".into(), tier: None, per: "organisation".into(), requests, window_s }
    }

    /// What a right server answers, the `n`th request being sent at n/10 s; its window begins a hundredth of a second later.
    fn right(n: u64, declared: &Limit) -> Spot {
        let sent = (n - 1) as f64 / 10.0;
        let left = declared.window_s as f64 + 0.01 - (sent + 0.01);
        let reset = Some(left.ceil() as u64);
        let is_let_through = n <= declared.requests;
        Spot {
            is_let_through,
            limit: Some(declared.requests),
            remaining: Some(declared.requests.saturating_sub(n)),
            reset,
            retry_after: if is_let_through { None } else { reset },
            sent,
            answered: sent + 0.02,
        }
    }

    #[test]
    fn a_right_server_has_nothing_against_it() {
        let declared = limit(10, 60);
        let spots: Vec<Spot> = (1..=60).map(|n| right(n, &declared)).collect();
        let found = sequence(&spots, &declared);
        let expected =
            Sequence { let_through: 10, rejected: 50, first_rejection: Some(11), is_within: true, ..Sequence::default() };
        assert_eq!(found, expected);
        assert!(!sequence(&spots, &limit(10, 5)).is_within, "the window ended meanwhile");
        assert_eq!(sequence(&[], &declared), Sequence::default());
    }

    #[test]
    fn each_wrong_word_is_found() {
        let declared = limit(10, 60);
        let found = |n: usize, change: fn(&mut Spot)| {
            let mut spots: Vec<Spot> = (1..=15).map(|n| right(n, &declared)).collect();
            change(&mut spots[n - 1]);
            sequence(&spots, &declared)
        };
        assert_eq!(found(11, |spot| spot.is_let_through = true).first_rejection, Some(12));
        assert_eq!(found(3, |spot| spot.limit = None).headers, ["request 3 was answered without RateLimit-Limit"]);
        assert_eq!(found(12, |spot| spot.retry_after = None).headers, ["request 12 was answered without Retry-After"]);
        assert_eq!(found(3, |spot| spot.limit = Some(9)).headers.len(), 1);
        assert_eq!(found(3, |spot| spot.remaining = Some(8)).gaps, ["request 3 says that 8 are left of 7"]);
        assert_eq!(found(12, |spot| spot.retry_after = Some(58)).times.len(), 1, "too early");
        assert_eq!(found(12, |spot| spot.reset = Some(61)).times.len(), 1, "too late");
    }

    #[test]
    fn who_is_late_or_early_only_by_what_is_not_known_is_not_wrong() {
        let declared = limit(1, 2);
        let first = Spot { sent: 0.0, answered: 0.5, ..right(1, &declared) };
        let asked = |sent: f64, answered: f64, is_let_through: bool| Spot { is_let_through, sent, answered, ..right(2, &declared) };
        // The window ends between 2.0 and 2.5.
        let fine = recovery(first, &[asked(1.9, 2.4, false), asked(2.45, 2.5, false), asked(2.6, 2.7, true)], &declared);
        assert_eq!(fine, Recovered { is_asked: true, ..Recovered::default() });
        let in_doubt = recovery(first, &[asked(1.9, 2.1, true), asked(3.0, 3.1, false)], &declared);
        assert_eq!(in_doubt, Recovered::default(), "another window has begun then");
        assert_eq!(recovery(first, &[asked(1.8, 1.9, true)], &declared).early.len(), 1);
        let never = recovery(first, &[asked(2.6, 2.7, false), asked(3.0, 3.1, false)], &declared);
        assert_eq!((never.late.len(), never.is_asked), (2, true));
    }

    #[test]
    fn windows_do_not_overlap() {
        assert_eq!([0.5, 1.9, 2.1, 4.0].map(|seconds| most(&limit(10, 2), seconds)), [10, 10, 20, 30]);
    }

    #[test]
    fn the_narrowest_limit_is_met_first() {
        let tier = |name: &str, requests| Limit { tier: Some(name.into()), ..limit(requests, 60) };
        let login = Limit { route: "login".into(), per: "account".into(), ..limit(5, 60) };
        let write = Limit { route: "write".into(), ..limit(50, 60) };
        let limits = [tier("BASIC", 1_000), tier("TRIAL", 10), login, write];
        let requests = |route, tier| governing(&limits, route, tier).map(|limit| limit.requests);
        assert_eq!(requests("read", "BASIC"), Some(1_000));
        assert_eq!(requests("write", "BASIC"), Some(50));
        assert_eq!(requests("write", "TRIAL"), Some(10));
        assert_eq!(requests("login", "TRIAL"), Some(5));
        assert_eq!(requests("read", "ENTERPRISE"), None);
    }
}
