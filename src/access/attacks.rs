//! What becomes of those who guess passwords, and of those who ask as fast as they can; and of everybody else meanwhile?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::ground::{Examined, Extent, Ground, Tenant};
use super::judge::Seen;
use super::limits::{joined, limit, spend, until};
use super::mistake::Mistake;
use super::window::{Spot, most, sequence, words};
use crate::contract::Limit;
use crate::metrics::{Percentiles, grouped, histogram, percent};
use crate::{Error, Result};

/// The criterion of how many passwords can be tried.
pub const GUESSES: &str = "guesses answered before the limit";
/// The criterion of the one whose account it is.
pub const OWNER_AFTERWARDS: &str = "rightful owner let in after the window";
/// The criterion of how many of a flood are let through.
pub const AT_MOST: &str = "let through, at most";
/// The criterion of the others.
pub const LEGITIMATE: &str = "requests of others rejected";

/// Passwords that are guessed.
const GUESSED: u64 = 15;
/// The status of a wrong password.
const WRONG: u16 = 401;

/// Fifteen wrong passwords, then the right one: before the window has ended, and after.
pub async fn brute_force(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    // Hashing takes time; where the short window is over too soon there is a longer one.
    let mut windows = [3, 30].into_iter().peekable();
    loop {
        let window_s = windows.next().unwrap_or(30);
        let login = Limit { route: "login".into(), per: "account".into(), ..limit(None, 5, window_s) };
        let examined = ground.examined(vec![login], mistake).await?;
        let (done, is_within) = match guess(&examined, &tenants, extent).await {
            Ok((seen, is_within)) => (Ok(seen), is_within),
            Err(error) => (Err(error), true),
        };
        let is_ours = examined.is_ours();
        let seen = examined.ended(done).await;
        if is_within || !is_ours || windows.peek().is_none() {
            return seen;
        }
    }
}

/// Whether the window lasted for all of it, too.
async fn guess(examined: &Examined, tenants: &[Tenant], extent: &Extent) -> Result<(Seen, bool)> {
    let mut seen = Seen::new(extent.pace);
    let (owner, other) = (tenants[0].viewer().sub, tenants[1].viewer().sub);
    let Some(declared) = examined.limit("login", "") else {
        seen.open(GUESSES, "no limit of logins is declared; `dbstress serve --limits tiers` has one");
        return Ok((seen, true));
    };
    seen.about(Some(words(&declared)));
    if declared.requests >= GUESSED {
        seen.holds("limit hit, by request", &GUESSED.to_string(), (declared.requests + 1).to_string(), false);
        return Ok((seen, true));
    }
    let mut caller = examined.caller();
    let wrong = |n: u64| examined.login(&owner, &format!("guess {n}"));
    let (spots, began) = spend(examined, &mut caller, wrong, &declared, GUESSED, extent.patience).await?;
    let found = sequence(&spots, &declared);
    // While it lasts even the right one is not looked at: or who guesses would be told that he has guessed it.
    let meanwhile = caller.ask(&examined.login(&owner, &examined.password)).await?;
    let of_other = examined.caller().ask(&examined.login(&other, &examined.password)).await?;
    let end = spots[0].answered + declared.window_s as f64;
    let is_within = found.is_within && Spot::of(&meanwhile, began).answered < spots[0].sent + declared.window_s as f64;
    if !is_within {
        seen.open(GUESSES, format!("the window of {} s ended before {GUESSED} guesses had been answered", declared.window_s));
        return Ok((seen, false));
    }
    seen.count(GUESSES, declared.requests, found.let_through);
    seen.holds(
        "limit hit, by request",
        &format!("at most {GUESSED}"),
        found.first_rejection.map_or("never".into(), |n| n.to_string()),
        found.first_rejection.is_some(),
    );
    seen.none("headers missing or not as declared", GUESSED, found.headers);
    seen.none("counted otherwise than down by one", GUESSED, found.gaps);
    seen.none("times said that are not so", GUESSED, found.times);
    seen.holds("right password meanwhile", "429", meanwhile.words(), meanwhile.is_rejected());
    seen.holds("another account meanwhile", "200", of_other.words(), of_other.is_ok());
    until(began + Duration::from_secs_f64(end) + Duration::from_millis(20), extent.patience).await?;
    let afterwards = caller.ask(&examined.login(&owner, &examined.password)).await?;
    seen.holds(OWNER_AFTERWARDS, "200", afterwards.words(), afterwards.is_ok());
    let again = caller.ask(&examined.login(&owner, "guess again")).await?;
    seen.holds("wrong password after the window", &WRONG.to_string(), again.words(), again.status == WRONG);
    Ok((seen, true))
}

/// One asks as fast as it can, the others as they always do.
pub async fn flood(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let examined = ground.examined(vec![limit(None, 60, 5)], mistake).await?;
    let done = flooded(&examined, &tenants, extent).await;
    examined.ended(done).await
}

/// Milliseconds between two requests of one who does not flood: forty in a window of five seconds.
const STEADY: Duration = Duration::from_millis(125);
/// Below this share the flood was not kept out.
const BLOCKED: f64 = 0.3;

async fn flooded(examined: &Examined, tenants: &[Tenant], extent: &Extent) -> Result<Seen> {
    let mut seen = Seen::new(extent.pace);
    let Some(declared) = examined.limit("read", &tenants[0].tier) else {
        seen.open(AT_MOST, "no limit is declared; `dbstress serve --limits tiers` has some");
        return Ok(seen);
    };
    seen.about(Some(words(&declared)));
    let room = (extent.duration.as_secs_f64() / STEADY.as_secs_f64()) as u64 + 20;
    for tenant in &tenants[1..] {
        rested(examined, tenant, room, extent.patience).await?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut steady = JoinSet::new();
    for tenant in &tenants[1..] {
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        let (mut caller, over, id) = (examined.caller(), over.clone(), tenant.id);
        steady.spawn(async move {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                answers.push((id, caller.ask(&ask).await?));
                tokio::time::sleep(STEADY).await;
            }
            Ok::<_, Error>(answers)
        });
    }
    let mut flood = JoinSet::new();
    // Long enough to be one: otherwise nobody would be kept out.
    let (least, duration, longest) = (declared.requests * 4, extent.duration, Duration::from_secs(30));
    for _ in 0..extent.connections {
        let ask = tenants[0].look().with(&examined.token(&tenants[0].viewer())?);
        let (mut caller, sent) = (examined.caller(), sent.clone());
        flood.spawn(async move {
            let mut answers = Vec::new();
            while (began.elapsed() < duration || sent.load(Ordering::Relaxed) < least) && began.elapsed() < longest {
                let told = caller.ask(&ask).await?;
                sent.fetch_add(1, Ordering::Relaxed);
                answers.push((Spot::of(&told, began), told.milliseconds()));
            }
            Ok::<_, Error>(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = flood.join_next().await {
        answers.extend(joined(done)??);
    }
    over.store(true, Ordering::Relaxed);
    let mut others = Vec::new();
    while let Some(done) = steady.join_next().await {
        others.extend(joined(done)??);
    }
    let seconds = answers.iter().map(|(spot, _)| spot.answered).fold(0.0, f64::max);
    let let_through = answers.iter().filter(|(spot, _)| spot.is_let_through).count() as u64;
    let (asked, allowed) = (answers.len() as u64, most(&declared, seconds));
    seen.holds(AT_MOST, &format!("at most {}", grouped(allowed)), grouped(let_through), let_through <= allowed);
    let share = (asked - let_through) as f64 / asked.max(1) as f64;
    if (asked as f64) * (1.0 - BLOCKED) <= allowed as f64 {
        seen.open(
            "share of the flood that was rejected",
            format!("{asked} requests in {seconds:.1} s are no flood for this limit"),
        );
    } else {
        let needed = format!("more than {}", percent(BLOCKED));
        seen.holds("share of the flood that was rejected", &needed, percent(share), share > BLOCKED);
    }
    let rejected: Vec<String> =
        others.iter().filter(|(_, told)| !told.is_ok()).map(|(id, told)| format!("organisation {id}: {}", told.words())).collect();
    seen.none(LEGITIMATE, others.len() as u64, rejected);
    let mut times = histogram();
    for (spot, milliseconds) in &answers {
        if !spot.is_let_through {
            times.saturating_record((milliseconds * 1e6) as u64);
        }
    }
    seen.less("p95 of rejections", 50.0, "ms", Percentiles::of(&times).p95);
    seen.figure(format!("{} requests in {seconds:.1} s, {} of them rejected", grouped(asked), percent(share)));
    Ok(seen)
}

/// Waits until an organisation has room for so many requests.
pub async fn rested(examined: &Examined, tenant: &Tenant, room: u64, patience: Duration) -> Result<()> {
    let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
    // Of a server of our own nothing has been asked yet.
    if examined.is_ours() {
        return Ok(());
    }
    let mut caller = examined.caller();
    for _ in 0..2 {
        let told = caller.ask(&ask).await?;
        let Some(left) = told.number("ratelimit-remaining") else { return Ok(()) };
        if left >= room {
            return Ok(());
        }
        let reset = told.number("ratelimit-reset").unwrap_or(1);
        until(told.answered + Duration::from_secs(reset) + Duration::from_millis(10), patience).await?;
    }
    Err(Error::inconclusive(format!("organisation {} may not ask {room} times in a window: too little to be steady", tenant.id)))
}
