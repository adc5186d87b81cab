//! Are right passwords let in, and do a wrong password and an unknown account look and cost the same?

use std::time::Instant;

use tokio::task::JoinSet;

use super::call::Told;
use super::ground::{Examined, Extent, Ground, Tenant, everywhere};
use super::judge::Seen;
use super::limits::joined;
use super::mistake::Mistake;
use crate::contract::{Code, LoggedIn};
use crate::metrics::{Percentiles, grouped, histogram};
use crate::token::{Claims, now};
use crate::{Error, Result};

/// The criterion of what an unknown account costs.
pub const COST: &str = "cost of a wrong password ÷ of an unknown account";

/// By how much the two may differ: the hash is most of either, and without it one takes a small part of the time.
const RATIO: f64 = 2.0;
/// The rounds of which one must show that they cost the same: a machine that is busy with other things spoils some, and no mistake is spoilt by it.
const ROUNDS: usize = 3;
/// Of ten logins of the load so many are right.
const RIGHT_OF_TEN: usize = 7;
/// Logins that are hashed at once: more would only wait for each other.
const AT_ONCE: usize = 4;

/// Pairs of a wrong password and an unknown account, one after the other; then seven right logins of ten, several at once.
pub async fn logins(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let known = accounts(&tenants);
        costs(&mut seen, &examined, &known, extent.pairs).await?;
        load(&mut seen, &examined, &known, extent).await?;
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// Accounts that there are.
fn accounts(tenants: &[Tenant]) -> Vec<Claims> {
    let of_each = tenants.iter().flat_map(|tenant| [tenant.viewer(), tenant.practitioner(), tenant.admin()]);
    of_each.chain([everywhere()]).collect()
}

/// An account that there is not, of a name as long as theirs.
fn nobody(n: usize) -> String {
    format!("nobody-{n}@org-0.example.com")
}

async fn costs(seen: &mut Seen, examined: &Examined, known: &[Claims], pairs: usize) -> Result<()> {
    let mut caller = examined.caller();
    let (mut others, mut differ, mut ratios, mut asked) = (Vec::new(), Vec::new(), Vec::new(), 0u64);
    for round in 0..ROUNDS {
        let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
        for n in 0..pairs {
            let known = &known[(round * pairs + n) % known.len()].sub;
            let of_known = examined.login(known, "not the password");
            let of_nobody = examined.login(&nobody(round * pairs + n), "not the password");
            // In turn, so that whatever the machine does besides is done to both.
            let (told_wrong, told_unknown) = if n % 2 == 0 {
                let first = caller.ask(&of_known).await?;
                (first, caller.ask(&of_nobody).await?)
            } else {
                let first = caller.ask(&of_nobody).await?;
                (caller.ask(&of_known).await?, first)
            };
            asked += 2;
            for told in [&told_wrong, &told_unknown] {
                if told.code() != Some(Code::InvalidCredentials) || told.status != Code::InvalidCredentials.status() {
                    others.push(told.words());
                }
            }
            if told_wrong.body() != told_unknown.body() || told_wrong.status != told_unknown.status {
                differ.push(format!("{known}: {} and {}", told_wrong.words(), told_unknown.words()));
            }
            wrong.push(told_wrong.milliseconds());
            unknown.push(told_unknown.milliseconds());
        }
        let ratio = quartile(&mut wrong) / quartile(&mut unknown).max(f64::MIN_POSITIVE);
        ratios.push(ratio);
        seen.figure(format!(
            "a wrong password {:.2} ms, an unknown account {:.2} ms (lower quartiles of {pairs} pairs)",
            quartile(&mut wrong),
            quartile(&mut unknown)
        ));
        if is_alike(ratio) {
            break;
        }
    }
    if others.iter().any(|words| words.starts_with("429")) {
        seen.open(COST, "the limit of logins stands in the way; `dbstress serve --limits none` has none");
        return Ok(());
    }
    seen.none("wrong logins answered otherwise than with INVALID_CREDENTIALS", asked, others);
    seen.none("pairs that do not look the same", asked / 2, differ);
    let measured: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let needed = format!("{:.2} to {RATIO:.2}, in one of {ROUNDS} rounds", 1.0 / RATIO);
    seen.holds(COST, &needed, measured.join(", "), ratios.iter().any(|ratio| is_alike(*ratio)));
    Ok(())
}

fn is_alike(ratio: f64) -> bool {
    (1.0 / RATIO..=RATIO).contains(&ratio)
}

/// The value below which a quarter lies: what else the machine does only ever adds to a time.
fn quartile(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 4).copied().unwrap_or_default()
}

async fn load(seen: &mut Seen, examined: &Examined, known: &[Claims], extent: &Extent) -> Result<()> {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..AT_ONCE {
        let mut caller = examined.caller();
        let asks: Vec<_> = (0..30)
            .map(|n| {
                let who = &known[(client * 7 + n) % known.len()];
                if n % 10 < RIGHT_OF_TEN {
                    (Some(who.clone()), examined.login(&who.sub, &examined.password))
                } else {
                    (None, examined.login(&if n % 2 == 0 { nobody(n) } else { who.sub.clone() }, "not the password"))
                }
            })
            .collect();
        let (key, lifetime, duration) = (examined.key.clone(), examined.about.token_lifetime_s as i64, extent.duration);
        clients.spawn(async move {
            let (mut times, mut wrong, mut n) = (histogram(), Vec::new(), 0);
            while began.elapsed() < duration || n < 10 {
                let (who, ask) = &asks[n % asks.len()];
                let told = caller.ask(ask).await?;
                n += 1;
                times.saturating_record((told.answered - told.sent).as_nanos() as u64);
                let fault = match who {
                    Some(who) => let_in(&told, who, &key, lifetime),
                    None if told.code() == Some(Code::InvalidCredentials) => None,
                    None => Some(format!("a wrong login: {}", told.words())),
                };
                wrong.extend(fault);
            }
            Ok::<_, Error>((times, wrong, n as u64))
        });
    }
    let (mut times, mut wrong, mut asked) = (histogram(), Vec::new(), 0);
    while let Some(done) = clients.join_next().await {
        let (its_times, its_wrong, n) = joined(done)??;
        crate::metrics::merge_times(&mut times, &its_times);
        wrong.extend(its_wrong);
        asked += n;
    }
    if wrong.iter().any(|words| words.contains("429")) {
        seen.open("logins answered wrongly", "the limit of logins stands in the way; `dbstress serve --limits none` has none");
        return Ok(());
    }
    seen.none("logins answered wrongly", asked, wrong);
    seen.less("p95 of logins", 1_000.0, "ms", Percentiles::of(&times).p95);
    let rate = asked as f64 / began.elapsed().as_secs_f64();
    seen.figure(format!("{} logins, 70 % of them right, {AT_ONCE} at once: {rate:.0}/s", grouped(asked)));
    Ok(())
}

/// What is wrong with the token that somebody was given who is let in.
fn let_in(told: &Told, who: &Claims, key: &crate::token::Key, lifetime: i64) -> Option<String> {
    if !told.is_ok() {
        return Some(format!("{} was not let in: {}", who.sub, told.words()));
    }
    let Ok(given) = serde_json::from_slice::<LoggedIn>(told.body()) else {
        return Some(format!("{} was let in without a token", who.sub));
    };
    match key.verify::<Claims>(&given.token) {
        Err(why) => Some(format!("{} was given a token that is not good: {why:?}", who.sub)),
        Ok(claims) if (&claims.sub, &claims.role, claims.org, claims.actor) != (&who.sub, &who.role, who.org, who.actor) => {
            Some(format!("{} was given the token of {}, {} of {:?}", who.sub, claims.sub, claims.role, claims.org))
        }
        Ok(claims) if claims.exp != given.expires_at || claims.exp > now() + lifetime => {
            Some(format!("the token of {} is good for longer than is said", who.sub))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_times_decides_and_outliers_do_not() {
        let mut times = [5.0, 90.0, 4.0, 6.0, 5.0, 4.5, 300.0, 5.5];
        assert_eq!(quartile(&mut times), 5.0);
        assert_eq!(quartile(&mut []), 0.0);
        assert!(is_alike(1.0) && is_alike(0.6) && is_alike(1.9));
        assert!(!is_alike(0.2) && !is_alike(4.0) && !is_alike(f64::NAN));
    }
}
