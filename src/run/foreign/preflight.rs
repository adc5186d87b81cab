//! Is everybody let in, for as long as the load lasts and as often as it asks? Found out with one request for each role and organisation, before
//! anything is measured, and with each token that comes from a file; all causes are told, not the first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::asking::{said, seen};
use super::identity::{Identities, Place};
use crate::Result;
use crate::http::{Address, Answer};
use crate::pace::duration_text;
use crate::plan::{Load, Plan};
use crate::request::{Call, Meaning};
use crate::scenario::{Credentials, Http};
use crate::token::{expires, now};

/// Tokens of a file that are tried, the first so many.
const MOST_TOKENS: usize = 500;

/// Why nothing could be shown: who is not let in, and why. Empty if nothing is in the way.
///
/// # Errors
/// When a secret that tokens are signed with is not there.
pub async fn look(plan: &Plan, http: &Http, address: &Address, identities: &Identities) -> Result<Vec<String>> {
    let mut causes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let places = identities.places();
    let name = |identity: usize| {
        places.iter().find(|(_, n)| **n == identity).map_or_else(|| "another account".to_owned(), |(place, _)| place.to_string())
    };
    for (identity, why) in identities.renew(http, address).await? {
        causes.entry(format!("no token was given out: {why}")).or_default().push(name(identity));
    }
    let (mut client, mut limit) = (None, None);
    if let Some(probe) = probe(http) {
        let is_given = http.auth.as_ref().is_some_and(|auth| matches!(auth.how, Credentials::Given));
        // Nobody knows where the tokens of a file come from: one may be good and the next not.
        let asked: Vec<(Place, usize)> = match is_given {
            true => (0..identities.count().min(MOST_TOKENS)).map(|n| (identities.place(n), n)).collect(),
            false => places.iter().map(|(place, n)| (place.clone(), *n)).collect(),
        };
        for (place, identity) in &asked {
            if http.auth.is_some() && identities.token(*identity).is_none() {
                continue;
            }
            match identities.ask(*identity, http, address, &probe, &mut client).await {
                Err(why) => causes.entry(format!("{address} does not answer: {why}")).or_default().push(place.to_string()),
                Ok(answer) => {
                    let token = identities.token(*identity);
                    if let Some(cause) = wrong(&probe, place, token.as_deref(), &answer) {
                        causes.entry(cause).or_default().push(place.to_string());
                    }
                    limit = limit.or_else(|| too_few(&answer, plan, identities.count()));
                }
            }
        }
    }
    if let Some(cause) = limit {
        causes.entry(cause).or_default();
    }
    if let Some(cause) = ends_too_soon(plan, http, identities) {
        causes.entry(cause).or_default();
    }
    let told = |(cause, who): (String, Vec<String>)| match (who.len(), http.auth.is_some()) {
        (0, _) | (_, false) => cause,
        (1..=3, true) => format!("{cause} ({})", who.join(", ")),
        (n, true) => format!("{cause} ({} and {} others)", who[..2].join(", "), n - 2),
    };
    Ok(causes.into_iter().map(told).collect())
}

/// What everybody may ask: what the scenario says, or the first that is only read and needs no more than the account.
fn probe(http: &Http) -> Option<Call> {
    if let Some(path) = http.auth.as_ref().and_then(|auth| auth.probe.as_ref()) {
        return Some(Call::get(path.clone()));
    }
    let first = http.operations.iter().filter(|o| o.roles.is_empty()).filter_map(|o| o.requests.calls.first());
    first.filter(|call| call.method == "GET" && call.needs_account_alone()).map(|call| Call { pause: None, ..call.clone() }).next()
}

/// What an answer to the probe says against the load.
fn wrong(probe: &Call, place: &Place, token: Option<&str>, answer: &Answer) -> Option<String> {
    let seen = seen(answer);
    let said = said(probe, answer, &seen);
    let (meaning, _) = probe.meanings.of(&seen, true);
    Some(match (meaning, answer.status) {
        (Meaning::Committed | Meaning::Refused, _) => return None,
        (Meaning::NotLetIn, 401) => match token.and_then(expires) {
            Some(at) if at <= now() => format!("the token has expired: {said}"),
            _ => format!("the token is not trusted: {said}"),
        },
        (Meaning::NotLetIn, _) => {
            let of = place.organisation.as_ref().map_or(String::new(), |o| format!(", or not organisation {o}'s"));
            format!("the token is good, but not for this{of}: {said}")
        }
        (Meaning::NotThere, _) => {
            let of = place.organisation.as_ref().map_or(String::new(), |o| format!(", or the token is not organisation {o}'s"));
            format!("there is nothing there{of}: {said}")
        }
        (Meaning::RateLimited, _) => format!("no more is let through: {said}"),
        (Meaning::Rejected, 300..=399) => format!("redirects are not followed: {said}"),
        (Meaning::Rejected, _) => format!("the request is not understood: {said}"),
        (Meaning::Unavailable | Meaning::Aborted | Meaning::Unknown, _) => format!("the API does not work: {said}"),
    })
}

/// Whether the limit that an answer tells of is less than what is planned: so many requests until the window ends, for each of so many accounts at
/// the most. What cannot be reckoned before shows under load.
fn too_few(answer: &Answer, plan: &Plan, accounts: usize) -> Option<String> {
    let number = |name: &str| answer.header(name)?.split([',', ';']).next()?.trim().parse::<f64>().ok();
    let limit = number("ratelimit-limit").or_else(|| number("x-ratelimit-limit"))?;
    let remaining = number("ratelimit-remaining").or_else(|| number("x-ratelimit-remaining")).unwrap_or(limit);
    let reset = number("ratelimit-reset").filter(|seconds| *seconds > 0.0);
    let (planned, words) = planned(plan, reset.map_or(Duration::MAX, |s| Duration::from_secs_f64(s.min(1e9))))?;
    // The limit may be for each account, or for all of them: what does not even fit into the first cannot fit.
    let room = remaining * accounts.max(1) as f64;
    (planned > room).then(|| {
        let window = reset.map_or(String::new(), |s| format!(" within {}", duration_text(Duration::from_secs_f64(s.min(1e9)))));
        format!("a limit is in the way: {limit} requests, {remaining} of them left{window}, and {words}")
    })
}

/// Requests at least that are made in this time, if that can be reckoned beforehand.
fn planned(plan: &Plan, window: Duration) -> Option<(f64, String)> {
    if let Some(iterations) = plan.load.iterations().filter(|_| plan.load.duration().is_none_or(|lasts| lasts <= window)) {
        return Some((iterations as f64, format!("{iterations} iterations are planned")));
    }
    if let Load::Open { rate, .. } = &plan.load {
        let within = window.min(rate.duration());
        let arrivals = rate.integral(within).floor();
        return Some((arrivals, format!("{arrivals} arrivals are planned")));
    }
    let Load::Closed { vus, think, .. } = &plan.load else { return None };
    // Each virtual user asks once at the least, and then as often as its pauses allow; without pauses, ten times a second is little.
    let pause = think.mean().max(Duration::from_millis(100)).as_secs_f64();
    let seconds = vus.integral(window.min(vus.duration()));
    let least = (seconds / (pause + 0.1)).floor();
    Some((least, format!("{} ask about {least} times or more", plan.load.words())))
}

/// Whether tokens expire before the load ends, and nobody can renew them.
fn ends_too_soon(plan: &Plan, http: &Http, identities: &Identities) -> Option<String> {
    let auth = http.auth.as_ref()?;
    let lasts = plan.load.duration()? + plan.graceful_stop;
    let left = identities.first_expiry()?;
    let is_renewed = !matches!(auth.how, Credentials::Given);
    (!is_renewed && left.unsigned_abs() < lasts.as_secs()).then(|| {
        format!(
            "a token expires in {}, and the load may last {}: take one that is good for longer, or let [http.auth] log in",
            duration_text(Duration::from_secs(left.unsigned_abs())),
            duration_text(lasts)
        )
    })
}
