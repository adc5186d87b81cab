//! Is a limit kept to the request: at its edge, after its window, for each organisation apart, and whoever else asks meanwhile?

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::call::{Ask, Caller, Told};
use super::ground::{Examined, Extent, Ground, Tenant};
use super::judge::Seen;
use super::mistake::Mistake;
use super::tokens::shapes;
use super::window::{Recovered, Sequence, Spot, recovery as judge_recovery, sequence, words};
use crate::contract::Limit;
use crate::{Error, Result};

/// The criterion of the request that is the first to be rejected.
pub const FIRST_REJECTION: &str = "first rejection, request";
/// The criterion of how many are let through.
pub const LET_THROUGH: &str = "let through";
/// The criterion of how many are rejected.
pub const REJECTED: &str = "rejected";
/// The criterion of what is said beside an answer.
pub const HEADERS: &str = "headers missing or not as declared";
/// The criterion of who comes back in time.
pub const RECOVERED: &str = "rejected after the window";
/// The criterion of the other organisations.
pub const UNTOUCHED: &str = "other organisations touched";
/// The criterion of wrong tokens.
pub const WRONG_TOKENS: &str = "wrong tokens not answered with 401";

/// So many more are asked than are let through.
const EXCESS: u64 = 50;
/// Connections that ask at once.
const AT_ONCE: u64 = 50;
/// How often a window is waited for that is in use, or in which not all could be asked.
const TRIES: usize = 3;
/// Windows of servers of our own that are not waited for, seconds.
const LONG_S: u64 = 60;
/// The tiers, from the lowest.
const TIERS: [&str; 4] = ["TRIAL", "BASIC", "PROFESSIONAL", "ENTERPRISE"];

/// A limit of all routes that need a token.
pub fn limit(tier: Option<&str>, requests: u64, window_s: u64) -> Limit {
    Limit { route: "all".into(), tier: tier.map(str::to_owned), per: "organisation".into(), requests, window_s }
}

/// Sleeps until `moment`, if the end of it is worth waiting for.
pub async fn until(moment: Instant, patience: Duration) -> Result<()> {
    let wait = moment.saturating_duration_since(Instant::now());
    if wait > patience {
        let seconds = wait.as_secs() + 1;
        return Err(Error::inconclusive(format!("the window ends in {seconds} s, which are not waited for"))
            .cure(format!("--patience {}s", seconds + 1)));
    }
    tokio::time::sleep(wait).await;
    Ok(())
}

/// When a window that has been answered so must have ended.
fn ended(told: &Told, declared: &Limit) -> Instant {
    told.answered + Duration::from_secs(told.number("ratelimit-reset").unwrap_or(declared.window_s)) + Duration::from_millis(10)
}

/// Asks until an answer says that it is the first of its window.
async fn first(examined: &Examined, caller: &mut Caller, ask: &Ask, declared: &Limit, patience: Duration) -> Result<Told> {
    for _ in 0..TRIES {
        let told = caller.ask(ask).await?;
        let left = told.number("ratelimit-remaining");
        // Who says nothing of it is found out by that, and nobody but us has asked a server of our own.
        if !told.is_rejected() && (examined.is_ours() || left.is_none() || left == Some(declared.requests - 1)) {
            return Ok(told);
        }
        until(ended(&told, declared), patience).await?;
    }
    Err(Error::inconclusive(format!("no window of {} began with a request of ours: somebody else asks too", words(declared))))
}

/// Asks `n` times, one after the other, from the beginning of a window on; `ask` makes the nth request, from 0.
pub async fn spend(
    examined: &Examined,
    caller: &mut Caller,
    ask: impl Fn(u64) -> Ask,
    declared: &Limit,
    n: u64,
    patience: Duration,
) -> Result<(Vec<Spot>, Instant)> {
    let mut tries = 0;
    loop {
        let began = Instant::now();
        let mut spots = vec![Spot::of(&first(examined, caller, &ask(0), declared, patience).await?, began)];
        for n in 1..n {
            spots.push(Spot::of(&caller.ask(&ask(n)).await?, began));
        }
        tries += 1;
        if sequence(&spots, declared).is_within || tries == TRIES {
            return Ok((spots, began));
        }
        let last = began + Duration::from_secs_f64(spots.last().map_or(0.0, |spot| spot.answered));
        until(last + Duration::from_secs(declared.window_s), patience).await?;
    }
}

/// Says what came of a sequence.
pub fn judge(seen: &mut Seen, found: Sequence, declared: &Limit, asked: u64) {
    if !found.is_within {
        seen.open(
            FIRST_REJECTION,
            format!("the window of {} s ended before {asked} requests had been answered", declared.window_s),
        );
        return;
    }
    seen.count(FIRST_REJECTION, declared.requests + 1, found.first_rejection.unwrap_or(0));
    seen.count(LET_THROUGH, declared.requests, found.let_through);
    seen.count(REJECTED, asked - declared.requests, found.rejected);
    seen.none(HEADERS, asked, found.headers);
    seen.none("counted otherwise than down by one", asked, found.gaps);
    seen.none("times said that are not so", asked, found.times);
}

/// The declared limit, if it can be used up; otherwise says that it is left open.
fn usable(seen: &mut Seen, examined: &Examined, tenant: &Tenant, extent: &Extent) -> Option<Limit> {
    let Some(declared) = examined.limit("read", &tenant.tier) else {
        seen.open(LET_THROUGH, format!("no limit is declared for {}; `dbstress serve --limits tiers` has some", tenant.tier));
        return None;
    };
    let most = extent.requests.iter().copied().max().unwrap_or_default();
    if declared.requests > most && !examined.is_ours() {
        seen.open(LET_THROUGH, format!("{} requests are more than --requests says are tried ({most})", declared.requests));
        return None;
    }
    Some(declared)
}

/// As many as each tier lets through, and fifty more.
pub async fn exact(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let mut seen = Seen::new(extent.pace);
    let mut of_tiers: Vec<Tenant> = Vec::new();
    for tenant in &ground.tenants {
        if !of_tiers.iter().any(|other| other.tier == tenant.tier) {
            of_tiers.push(tenant.clone());
        }
    }
    of_tiers.sort_by_key(|tenant| TIERS.iter().position(|tier| *tier == tenant.tier));
    let size = |n: usize| extent.requests.get(n).or(extent.requests.last()).copied().unwrap_or(100);
    let limits = of_tiers.iter().enumerate().map(|(n, tenant)| limit(Some(&tenant.tier), size(n), LONG_S)).collect();
    let examined = ground.examined(limits, mistake).await?;
    let done = async {
        for tenant in &of_tiers {
            seen.about(Some(tenant.tier.clone()));
            let Some(declared) = usable(&mut seen, &examined, tenant, extent) else { continue };
            seen.about(Some(words(&declared)));
            let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
            let asked = declared.requests + EXCESS;
            let mut caller = examined.caller();
            let (spots, _) = spend(&examined, &mut caller, |_| ask.clone(), &declared, asked, extent.patience).await?;
            judge(&mut seen, sequence(&spots, &declared), &declared, asked);
        }
        let there: Vec<&str> = of_tiers.iter().map(|tenant| &*tenant.tier).collect();
        let without: Vec<&str> = TIERS.into_iter().filter(|tier| !there.contains(tier)).collect();
        if !without.is_empty() {
            seen.figure(format!("no organisation here is {}: nothing is said of that", without.join(" or ")));
        }
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// Used up, and asked on until the window has passed.
pub async fn recovery(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    const WINDOW_S: u64 = 2;
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(vec![limit(None, 20, WINDOW_S)], mistake).await?;
    let done = async {
        let Some(declared) = usable(&mut seen, &examined, &tenant, extent) else { return Ok(seen) };
        seen.about(Some(words(&declared)));
        if Duration::from_secs(declared.window_s) > extent.patience {
            let why = format!("a window of {} s is not waited for; --patience {}s", declared.window_s, declared.window_s + 2);
            seen.open(RECOVERED, why);
            return Ok(seen);
        }
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        let mut caller = examined.caller();
        let patience = extent.patience;
        let (spots, began) = spend(&examined, &mut caller, |_| ask.clone(), &declared, declared.requests + 3, patience).await?;
        let pause = Duration::from_secs_f64((declared.window_s as f64 / 40.0).min(1.0));
        let end = spots[0].answered + declared.window_s as f64;
        let mut asked: Vec<Spot> = spots.iter().copied().filter(|spot| !spot.is_let_through).collect();
        // Three more after it must be over, if nobody has been let through by then.
        while !asked.last().is_some_and(|last| last.is_let_through) && asked.iter().filter(|spot| spot.sent > end).count() < 3 {
            tokio::time::sleep(pause).await;
            asked.push(Spot::of(&caller.ask(&ask).await?, began));
        }
        let Recovered { early, late, .. } = judge_recovery(spots[0], &asked, &declared);
        let n = asked.len() as u64;
        seen.none("let through before the end of the window", n, early);
        seen.none(RECOVERED, n, late);
        if let Some(last) = asked.last().filter(|last| last.is_let_through) {
            if let Some(left) = last.remaining {
                seen.count("left after the first request of the next window", declared.requests - 1, left);
            }
            // Its window ended in between.
            let after = ((last.answered - spots[0].sent - declared.window_s as f64) * 1e3).max(0.0);
            seen.figure(format!(
                "let through again at most {after:.0} ms after the end of the window, which was looked at every {} ms",
                pause.as_millis()
            ));
        }
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// One uses its limit up; the others' count goes on from where it was.
pub async fn apart(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(vec![limit(None, 30, LONG_S)], mistake).await?;
    let done = async {
        let Some(declared) = usable(&mut seen, &examined, &tenants[0], extent) else { return Ok(seen) };
        let mut others: Vec<(Caller, Ask, &Tenant, Told)> = Vec::new();
        for tenant in &tenants[1..] {
            let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
            let mut caller = examined.caller();
            let mut told = caller.ask(&ask).await?;
            if told.number("ratelimit-remaining").is_some_and(|left| left == 0) {
                until(ended(&told, &declared), extent.patience).await?;
                told = caller.ask(&ask).await?;
            }
            others.push((caller, ask, tenant, told));
        }
        let ask = tenants[0].look().with(&examined.token(&tenants[0].viewer())?);
        let mut caller = examined.caller();
        let (mut is_rejected, mut asked) = (false, 0);
        // Its window may end in the middle of it.
        while !is_rejected && asked < declared.requests * TRIES as u64 {
            is_rejected = caller.ask(&ask).await?.is_rejected();
            asked += 1;
        }
        if !is_rejected {
            seen.open(UNTOUCHED, format!("organisation {} was not rejected", tenants[0].id));
            return Ok(seen);
        }
        let mut touched = Vec::new();
        for (caller, ask, tenant, before) in &mut others {
            let after = caller.ask(ask).await?;
            let left = |told: &Told| told.number("ratelimit-remaining");
            let goes_on = left(before).and_then(|before| before.checked_sub(1)) == left(&after);
            let is_over = after.answered > before.sent + Duration::from_secs(before.number("ratelimit-reset").unwrap_or(0));
            if after.is_rejected() || !goes_on && !is_over {
                let said = |told: &Told| left(told).map_or("nothing".into(), |left| left.to_string());
                touched.push(format!(
                    "organisation {}: {} left, then {} ({})",
                    tenant.id,
                    said(before),
                    said(&after),
                    after.words()
                ));
            }
        }
        seen.none(UNTOUCHED, others.len() as u64, touched);
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// Fifty connections, all at once.
pub async fn at_once(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let size = extent.requests.first().copied().unwrap_or(100);
    let examined = ground.examined(vec![limit(None, size, LONG_S)], mistake).await?;
    let done = async {
        let Some(declared) = usable(&mut seen, &examined, &tenant, extent) else { return Ok(seen) };
        seen.about(Some(words(&declared)));
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        for _ in 0..TRIES {
            let spots = burst(&examined, &ask, &declared, extent.patience).await?;
            let last = spots.iter().map(|spot| spot.answered).fold(0.0, f64::max);
            if last < spots[0].sent + declared.window_s as f64 {
                let let_through = spots.iter().filter(|spot| spot.is_let_through).count() as u64;
                seen.count(LET_THROUGH, declared.requests, let_through);
                seen.figure(format!("{} requests on {AT_ONCE} connections in {last:.2} s", spots.len()));
                return Ok(seen);
            }
            until(Instant::now() + Duration::from_secs(declared.window_s), extent.patience).await?;
        }
        seen.open(LET_THROUGH, format!("the window of {} s ended before all had been answered", declared.window_s));
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// One request that begins a window, then many at once.
async fn burst(examined: &Examined, ask: &Ask, declared: &Limit, patience: Duration) -> Result<Vec<Spot>> {
    let mut callers = Vec::new();
    for _ in 0..AT_ONCE {
        let mut caller = examined.caller();
        caller.connect().await?;
        callers.push(caller);
    }
    let each = (declared.requests + EXCESS).div_ceil(AT_ONCE);
    let began = Instant::now();
    let mut spots = vec![Spot::of(&first(examined, &mut examined.caller(), ask, declared, patience).await?, began)];
    let together = Arc::new(Barrier::new(AT_ONCE as usize));
    let mut asking = JoinSet::new();
    for mut caller in callers {
        let (ask, together) = (ask.clone(), together.clone());
        asking.spawn(async move {
            together.wait().await;
            let mut spots = Vec::new();
            for _ in 0..each {
                spots.push(Spot::of(&caller.ask(&ask).await?, began));
            }
            Ok::<_, Error>(spots)
        });
    }
    while let Some(done) = asking.join_next().await {
        spots.extend(joined(done)??);
    }
    Ok(spots)
}

/// What a task came to; a panic is passed on as what it is.
pub fn joined<T>(done: Result<T, tokio::task::JoinError>) -> Result<T> {
    done.map_err(|why| Error::inconclusive("a task of the drill broke down").because(why))
}

/// Wrong tokens before, beside and after those of an organisation that uses its limit up.
pub async fn storm(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    const SIZE: u64 = 30;
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(vec![limit(None, SIZE, LONG_S)], mistake).await?;
    let done = async {
        let Some(declared) = usable(&mut seen, &examined, &tenant, extent) else { return Ok(seen) };
        seen.about(Some(words(&declared)));
        let ask = tenant.look().with(&examined.token(&tenant.viewer())?);
        let wrong: Vec<(String, Ask)> = shapes(&examined.key, &tenant.viewer())?
            .into_iter()
            .map(|(name, said)| (name.to_owned(), said.map_or_else(|| tenant.look(), |said| tenant.look().saying(&said))))
            .collect();
        let mut offenders = Vec::new();
        let mut wrong_asked = 0;
        let (mut right, mut other) = (examined.caller(), examined.caller());
        let patience = extent.patience;
        let began = Instant::now();
        let mut spots = vec![Spot::of(&first(&examined, &mut right, &ask, &declared, patience).await?, began)];
        for n in 1..declared.requests + EXCESS {
            let (name, wrong) = &wrong[n as usize % wrong.len()];
            let told = other.ask(wrong).await?;
            wrong_asked += 1;
            if told.status != 401 {
                offenders.push(format!("{name}: {}", told.words()));
            }
            spots.push(Spot::of(&right.ask(&ask).await?, began));
        }
        seen.none(WRONG_TOKENS, wrong_asked, offenders);
        judge(&mut seen, sequence(&spots, &declared), &declared, declared.requests + EXCESS);
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}
