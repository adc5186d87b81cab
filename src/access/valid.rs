//! Is every right token let in, again and again, to the rows of its own organisation; and how fast?

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use tokio::task::JoinSet;

use super::call::{Ask, Told};
use super::ground::{Extent, Ground, Tenant};
use super::judge::Seen;
use super::limits::joined;
use super::mistake::Mistake;
use crate::metrics::{Percentiles, grouped, histogram};
use crate::{Error, Result};

/// The criterion of whose rows are shown.
pub const OWN_ROWS: &str = "answers that show rows of others, or none";
/// The criterion of the same question.
pub const THE_SAME: &str = "answers that differ from the first";

/// So many requests are made by each connection at least: several lists among them.
const LEAST: usize = 45;
/// How often the same question is asked.
const REPEATED: usize = 5;
/// Fewer requests on one connection need not meet one who serves only now and then as somebody else.
const LEAST_REPEATED: usize = 15;

/// A page of the authorisations of whoever asks.
pub fn list() -> Ask {
    Ask::get("/v1/authorisations?limit=50")
}

/// What is wrong with a page, which must show rows of this organisation and of no other.
pub fn foreign(told: &Told, organisation: i64) -> Option<String> {
    let body = told.json();
    let items = body.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let others: Vec<&Value> =
        items.iter().filter(|item| item.get("organisation").and_then(Value::as_i64) != Some(organisation)).collect();
    match (told.is_ok(), items.is_empty(), others.first()) {
        (false, ..) => Some(format!("organisation {organisation} asked for its own rows: {}", told.words())),
        (true, true, _) => Some(format!("organisation {organisation} was shown nothing")),
        (true, false, Some(other)) => {
            let whose = other.get("organisation").unwrap_or(&Value::Null);
            Some(format!("organisation {organisation} was shown {} rows of others: of organisation {whose}", others.len()))
        }
        (true, false, None) => None,
    }
}

/// Readers of all organisations, as fast as they are answered.
pub async fn valid_tokens(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let mut asks: Vec<(Tenant, usize, Ask)> = Vec::new();
        for kind in 0..3 {
            for tenant in &tenants {
                let ask = match kind {
                    0 => list(),
                    1 => tenant.look(),
                    _ => Ask::get(format!("/v1/authorisations/{}/availability", tenant.authorisation)),
                };
                asks.push((tenant.clone(), kind, ask.with(&examined.token(&tenant.viewer())?)));
            }
        }
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for reader in 0..extent.connections {
            let (asks, mut caller, duration) = (asks.clone(), examined.caller(), extent.duration);
            readers.spawn(async move {
                let (mut times, mut refused, mut others, mut n) = (histogram(), Vec::new(), Vec::new(), 0);
                while began.elapsed() < duration || n < LEAST {
                    let (tenant, kind, ask) = &asks[(reader + n) % asks.len()];
                    let told = caller.ask(ask).await?;
                    n += 1;
                    times.saturating_record((told.answered - told.sent).as_nanos() as u64);
                    if !told.is_ok() {
                        refused.push(format!("organisation {}: {} {}", tenant.id, ask.words(), told.words()));
                    } else if *kind == 0 {
                        others.extend(foreign(&told, tenant.id));
                    } else {
                        let shown = told.json();
                        let is_own = *kind == 2 || shown.get("organisation").and_then(Value::as_i64) == Some(tenant.id);
                        let is_it = [shown.get("id"), shown.get("authorisation")]
                            .into_iter()
                            .flatten()
                            .any(|id| *id == tenant.authorisation);
                        if !is_own || !is_it {
                            others.push(format!("organisation {}: {} shows {shown}", tenant.id, ask.words()));
                        }
                    }
                }
                Ok::<_, Error>((times, refused, others, n as u64))
            });
        }
        let (mut times, mut refused, mut others, mut asked) = (histogram(), Vec::new(), Vec::new(), 0);
        while let Some(done) = readers.join_next().await {
            let (its_times, its_refused, its_others, n) = joined(done)??;
            crate::metrics::merge_times(&mut times, &its_times);
            refused.extend(its_refused);
            others.extend(its_others);
            asked += n;
        }
        let seconds = began.elapsed().as_secs_f64();
        seen.none("right tokens not let in", asked, refused);
        seen.none(OWN_ROWS, asked, others);
        let Percentiles { p95, p99, .. } = Percentiles::of(&times);
        seen.less("p95 of right tokens", 200.0, "ms", p95);
        seen.less("p99 of right tokens", 500.0, "ms", p99);
        let rate = (asked as f64 / seconds).round() as u64;
        seen.figure(format!("{} requests on {} connections, {}/s", grouped(asked), extent.connections, grouped(rate)));
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// The same question with the same token five times, those of all organisations in turn, on one connection.
pub async fn replay(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let mut caller = examined.caller();
        let mut asks = Vec::new();
        for tenant in &tenants {
            asks.push((tenant.id, list().with(&examined.token(&tenant.viewer())?)));
        }
        let mut first: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        let (mut refused, mut differ, mut asked) = (Vec::new(), Vec::new(), 0);
        for round in 0..REPEATED.max(LEAST_REPEATED.div_ceil(tenants.len())) {
            for (organisation, ask) in &asks {
                let told = caller.ask(ask).await?;
                asked += 1;
                if !told.is_ok() {
                    refused.push(format!("organisation {organisation}, time {}: {}", round + 1, told.words()));
                    continue;
                }
                // Which rows: how much of them is left may change meanwhile.
                let body = told.json();
                let items = body.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                let rows: Vec<Value> = items.iter().filter_map(|item| item.get("id").cloned()).collect();
                let before = first.entry(*organisation).or_insert_with(|| rows.clone());
                if *before != rows {
                    differ.push(format!("organisation {organisation}, time {}: other rows than before", round + 1));
                }
            }
        }
        seen.none("the same token not let in", asked, refused);
        seen.none(THE_SAME, asked, differ);
        seen.none("organisations that were shown nothing", first.len() as u64, {
            first.iter().filter(|(_, rows)| rows.is_empty()).map(|(id, _)| format!("organisation {id}")).collect()
        });
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}
