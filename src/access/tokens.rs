//! Is everything refused that is no right token, and a right one as soon as it has expired?

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::call::{Ask, Caller};
use super::ground::{Examined, Extent, Ground, Tenant};
use super::judge::Seen;
use super::mistake::Mistake;
use crate::Result;
use crate::contract::Code;
use crate::metrics::{Percentiles, histogram};
use crate::token::{Claims, Key, Secret, now};

/// The criterion of what is no right token.
pub const REFUSED: &str = "answered otherwise than with 401";
/// The criterion of an expired token.
pub const AFTERWARDS: &str = "answered otherwise than with TOKEN_EXPIRED afterwards";

/// How often each shape is sent to each route.
const ROUNDS: usize = 4;

/// What an `Authorization` header may say and still let nobody in; `None`: there is none. Each begins with a token that would be good.
///
/// # Errors
/// When a token cannot be signed.
pub fn shapes(key: &Key, claims: &Claims) -> Result<Vec<(&'static str, Option<String>)>> {
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let good = key.sign(claims)?;
    let part = |token: &str, n: usize| token.split('.').nth(n).unwrap_or_default().to_owned();
    let (head, body, signature) = (part(&good, 0), part(&good, 1), part(&good, 2));
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // Not the last character, in which some bits mean nothing.
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let altered = format!("{other}{}", signature.get(1..).unwrap_or_default());
    let expired = key.sign(&Claims { iat: now() - 7200, exp: now() - 3600, ..claims.clone() })?;
    let raised = encode(json!({"sub": claims.sub, "role": "admin", "iat": claims.iat, "exp": claims.exp}));
    let endless = key.sign(&json!({"sub": claims.sub, "role": claims.role, "org": claims.org}))?;
    let unsigned = |alg: &str| encode(json!({"alg": alg, "typ": "JWT"}));
    Ok(vec![
        ("no header", None),
        ("empty", Some("Bearer ".into())),
        ("garbage", bearer("garbage".into())),
        ("three words, no token", bearer("not.a.token".into())),
        ("no base64", bearer("***.***.***".into())),
        ("another scheme", Some("Basic YWRtaW46YWRtaW4=".into())),
        ("the token without its scheme", Some(good.clone())),
        ("without a signature", bearer(format!("{head}.{body}"))),
        ("bad signature", bearer(format!("{head}.{body}.{altered}"))),
        ("signed with another secret", bearer(Secret::random().key().sign(claims)?)),
        ("claims changed after signing", bearer(format!("{head}.{raised}.{signature}"))),
        ("alg none", bearer(format!("{}.{body}.", unsigned("none")))),
        ("alg none, with a signature", bearer(format!("{}.{body}.{signature}", unsigned("none")))),
        ("alg nOnE", bearer(format!("{}.{body}.", unsigned("nOnE")))),
        ("another alg", bearer(format!("{}.{body}.{signature}", unsigned("RS256")))),
        ("1,200 characters", bearer("x".repeat(1_200))),
        ("7,000 characters", bearer(format!("{head}.{}.{signature}", "A".repeat(7_000)))),
        ("without claims", bearer(key.sign(&json!({}))?)),
        ("without an end", bearer(endless)),
        ("claims that are no object", bearer(key.sign(&json!([claims.sub]))?)),
        ("expired", bearer(expired)),
        ("two tokens", bearer(format!("{good} {good}"))),
    ])
}

/// Everything that is no right token, at a route that looks and at one that changes.
pub async fn invalid_tokens(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let path = format!("/v1/authorisations/{}", tenant.authorisation);
        let claims = tenant.practitioner();
        let mut caller = examined.caller();
        // Without which it would only be seen that nobody is let in.
        let right = caller.ask(&Ask::get(&path).with(&examined.token(&claims)?)).await?;
        seen.holds("the right token beside them", "200", right.words(), right.is_ok());
        let (mut offenders, mut silent, mut asked) = (Vec::new(), Vec::new(), 0);
        let mut times = histogram();
        let shapes = shapes(&examined.key, &claims)?;
        for round in 0..ROUNDS {
            for (name, said) in &shapes {
                for ask in [Ask::get(&path), Ask::post(format!("{path}/reserve"), json!({"units": 1}))] {
                    let words = ask.words();
                    let told = caller.ask(&said.as_ref().map_or_else(|| ask.clone(), |said| ask.clone().saying(said))).await?;
                    asked += 1;
                    times.saturating_record((told.answered - told.sent).as_nanos() as u64);
                    if told.status != Code::InvalidToken.status() {
                        let is_new = round == 0;
                        offenders.push(if is_new { format!("{name}: {} to {words}", told.words()) } else { (*name).into() });
                    } else if told.text("www-authenticate").is_none() {
                        silent.push(format!("{name}: {words}"));
                    }
                }
            }
        }
        seen.none(REFUSED, asked, offenders);
        seen.none("401 without WWW-Authenticate", asked, silent);
        let Percentiles { p95, p99, .. } = Percentiles::of(&times);
        seen.less("p95 of refusals", 100.0, "ms", p95);
        seen.less("p99 of refusals", 200.0, "ms", p99);
        seen.figure(format!("{} shapes, each {ROUNDS} times at two routes: {}", shapes.len(), names(&shapes)));
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

fn names(shapes: &[(&'static str, Option<String>)]) -> String {
    shapes.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("; ")
}

/// Asks with a token of two seconds until it has expired, and a little longer.
pub async fn expiry(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenant = ground.tenants[0].clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let mut caller = examined.caller();
        let mut watched = watch(&examined, &mut caller, &tenant, 2).await?;
        if watched.good == 0 {
            // On a machine that stands still for so long it was gone before it was seen to be good.
            watched = watch(&examined, &mut caller, &tenant, 20).await?;
        }
        seen.none("refused before it expires", watched.good, watched.early);
        seen.none(AFTERWARDS, watched.after, watched.late);
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// What was answered while a token was good, and afterwards.
#[derive(Default)]
struct Watched {
    good: u64,
    early: Vec<String>,
    after: u64,
    late: Vec<String>,
}

/// Asks with a token of so many seconds until it has been answered five times after its end.
async fn watch(examined: &Examined, caller: &mut Caller, tenant: &Tenant, lifetime: i64) -> Result<Watched> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut watched = Watched::default();
    caller.connect().await?;
    let exp = now() + lifetime;
    let ask = tenant.look().with(&examined.token(&Claims { exp, ..tenant.viewer() })?);
    while watched.after < 5 {
        let told = caller.ask(&ask).await?;
        // The server's clock is this machine's; it was looked at between these two moments.
        let (sent, answered) = (wall(told.sent), wall(told.answered));
        if answered < exp as f64 {
            watched.good += 1;
            if !told.is_ok() {
                watched.early.push(format!("{} {:.3} s before it expires", told.words(), exp as f64 - answered));
            }
        } else if sent >= exp as f64 {
            watched.after += 1;
            if told.code() != Some(Code::TokenExpired) || told.status != Code::TokenExpired.status() {
                watched.late.push(format!("{} {:.3} s after it expired", told.words(), sent - exp as f64));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(watched)
}

/// Seconds since 1970 at a moment that has passed.
fn wall(moment: Instant) -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() - moment.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Invalid;

    #[test]
    fn no_shape_is_a_right_token_and_each_is_another() {
        let key = Secret::random().key();
        let claims =
            Claims { sub: "a@example.com".into(), role: "viewer".into(), org: Some(1), actor: None, iat: now(), exp: now() + 60 };
        let shapes = shapes(&key, &claims).unwrap();
        let different: std::collections::BTreeSet<_> = shapes.iter().map(|(_, said)| said.clone()).collect();
        assert_eq!(different.len(), shapes.len());
        for (name, said) in shapes {
            let Some(token) = said.as_deref().and_then(|said| said.strip_prefix("Bearer ")) else { continue };
            let expected = if name == "expired" { Invalid::Expired } else { Invalid::Untrusted };
            assert_eq!(key.verify::<Claims>(token), Err(expected), "{name}");
        }
    }
}
