//! How is an operation asked of an API? Its requests one after the other, each with what is known when its answer does not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value as Json;

use super::identity::Identities;
use crate::contract;
use crate::history::Applied;
use crate::http::{Address, Answer, Body as Bytes, Client, Method, Request};
use crate::outcome::{Abort, Outcome, Refusal};
use crate::pg::load::{Failure, Phase};
use crate::program::Value;
use crate::random::Random;
use crate::request::{Call, Counted, Filled, Meaning, Order, Row, Scope, Seen, Source};
use crate::run::work::{Intention, Weights, What};
use crate::scenario::Http;
use crate::target::{Attempt, Who};
use crate::{Error, Result};

/// Operations on an API.
pub struct HttpWork {
    plan: Http,
    address: Address,
    identities: Arc<Identities>,
    /// The operations that each identity may choose from, and their weights.
    choices: Vec<(Vec<usize>, Weights)>,
    /// Virtual users in all.
    vus: u32,
    /// Values of each parameter that is a sequence, so far.
    sequences: Vec<AtomicU64>,
    /// Rows of each table that are given out one after the other, so far.
    dealt: Vec<AtomicU64>,
    /// Of each request of each operation.
    tallies: Vec<Vec<Tally>>,
    /// Of each request of each operation: made once, if it is the same every time.
    constant: Vec<Vec<Option<Request<Bytes>>>>,
    /// Whether anything is named after the iteration's UUID.
    has_uuid: bool,
}

/// How often a request was sent, and what is known of it.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    committed: AtomicU64,
    not_applied: AtomicU64,
}

/// What was drawn for one iteration: a retry has the same.
#[derive(Debug, Clone)]
pub struct Drawn {
    identity: usize,
    uuid: String,
    parameters: Vec<Json>,
    rows: Vec<Option<Row>>,
    /// What is drawn from answers.
    random: Random,
}

/// What an attempt has to say besides how it ended.
#[derive(Debug, Default)]
pub struct Notes {
    /// Checks, by their request and number in it, and whether they held.
    pub checks: Vec<(usize, usize, bool)>,
    /// Why it was not let in, found nothing, or was let through no more, although the scenario does not say that this may be.
    pub surprise: Option<(Abort, String)>,
    /// Why nobody knows whether it was done.
    pub unknown: Option<String>,
}

impl HttpWork {
    /// Of a scenario's operations, on the API at `address`, asked by `identities`.
    ///
    /// # Errors
    /// Usage, when somebody has nothing to do.
    pub fn new(plan: &Http, address: Address, identities: Arc<Identities>, vus: u32) -> Result<Self> {
        let mut choices = Vec::new();
        for role in identities.roles() {
            let mine: Vec<usize> = (0..plan.operations.len())
                .filter(|n| {
                    let roles = &plan.operations[*n].roles;
                    roles.is_empty() || role.is_some_and(|role| roles.iter().any(|known| known == role))
                })
                .collect();
            if !mine.iter().any(|n| plan.operations[*n].weight > 0.0) {
                let role = role.unwrap_or_default();
                return Err(Error::usage(format!("there is nothing to do for the role `{role}`"))
                    .cure(format!("an operation with roles = [\"{role}\"], or {role} = 0 in [http.auth.roles]")));
            }
            let weights = Weights::new(mine.iter().map(|n| plan.operations[*n].weight));
            choices.push((mine, weights));
        }
        let calls = || plan.operations.iter().map(|o| &o.requests.calls);
        let tallies = calls().map(|calls| calls.iter().map(|_| Tally::default()).collect()).collect();
        let constant = calls().map(|calls| calls.iter().map(|call| constant(call, plan, &address)).collect()).collect();
        let is_uuid = |source: &Source| *source == Source::Uuid;
        let has_uuid = calls().flatten().any(|call| call.names(&is_uuid) || call.checks.iter().any(|check| check.names(&is_uuid)))
            || plan.headers.iter().any(|(_, value)| value.names(is_uuid));
        Ok(Self {
            constant,
            has_uuid,
            sequences: plan.parameters.iter().map(|_| AtomicU64::new(0)).collect(),
            dealt: plan.tables.iter().map(|_| AtomicU64::new(0)).collect(),
            plan: plan.clone(),
            address,
            identities,
            choices,
            vus,
            tallies,
        })
    }

    /// What virtual user `vu` does next.
    pub fn propose(&self, random: &mut Random, vu: u16) -> Intention {
        let identity = self.identities.of(vu);
        let (operations, weights) = &self.choices[identity];
        let operation = operations[weights.choose(random)];
        let parameters = self.plan.parameters.iter().zip(&self.sequences).map(|(distribution, sequence)| {
            let n = if distribution.is_sequence() { sequence.fetch_add(1, Ordering::Relaxed) } else { 0 };
            // A sequence has more values than a run has iterations.
            distribution.draw(random, n).map_or(Json::Null, json)
        });
        let parameters = parameters.collect();
        let rows = self.plan.tables.iter().zip(&self.dealt).map(|((table, pair), dealt)| {
            let n = if table.order() == Order::Sequential { dealt.fetch_add(1, Ordering::Relaxed) } else { 0 };
            let pair = pair.as_deref().and_then(|column| self.identities.value(identity, column));
            table.choose(pair, u32::from(vu), n, random).cloned()
        });
        let rows = rows.collect();
        let uuid = if self.has_uuid { uuid(random) } else { String::new() };
        let drawn = Drawn { identity, uuid, parameters, rows, random: random.clone() };
        Intention { operation, what: What::Asked(Arc::new(drawn)) }
    }

    /// The names of an operation and of a check in it.
    pub fn check(&self, operation: usize, call: usize, check: usize) -> Option<(&str, &str)> {
        let operation = self.plan.operations.get(operation)?;
        Some((&operation.name, &operation.requests.calls.get(call)?.checks.get(check)?.name))
    }

    /// The longest that one attempt at an operation takes.
    pub fn patience(&self, operation: usize) -> Duration {
        let calls = &self.plan.operations[operation].requests.calls;
        calls.iter().map(|call| self.plan.timeout + call.pause.map_or(Duration::ZERO, |[_, to]| to)).sum()
    }

    /// How often a request was certainly done, and how often besides perhaps.
    pub fn counted(&self, counted: &Counted) -> (u64, u64) {
        let found = self.plan.operations.iter().position(|o| o.name == counted.operation);
        let tally = found.and_then(|n| self.tallies[n].get(self.plan.operations[n].requests.call(counted.call.as_deref())?));
        tally.map_or((0, 0), |tally| {
            let [sent, committed, not_applied] =
                [&tally.sent, &tally.committed, &tally.not_applied].map(|n| n.load(Ordering::Relaxed));
            (committed, sent.saturating_sub(committed + not_applied))
        })
    }

    /// Whether anything was asked of which nobody knows whether it was done.
    pub fn has_unknowns(&self) -> bool {
        let names = self.plan.operations.iter().zip(&self.tallies);
        names.flat_map(|(o, tallies)| o.requests.calls.iter().zip(tallies)).any(|(call, tally)| {
            let [sent, committed, not_applied] =
                [&tally.sent, &tally.committed, &tally.not_applied].map(|n| n.load(Ordering::Relaxed));
            !call.only_reads() && sent > committed + not_applied
        })
    }

    pub(in crate::run) async fn perform(
        &self,
        client: &mut Client,
        number: usize,
        drawn: &Drawn,
        who: Who,
        notes: &mut Notes,
        phase: &Phase,
    ) -> Attempt {
        let operation = &self.plan.operations[number];
        let mut random = drawn.random.clone();
        let mut captured = vec![None; operation.requests.captured];
        let token = self.identities.token(drawn.identity);
        // What has been done cannot be taken back, and must not be done again.
        let mut has_written = false;
        for (n, call) in operation.requests.calls.iter().enumerate() {
            let scope = Scope {
                vu: who.op_id.vu().into(),
                vus: self.vus,
                iteration: who.op_id.n(),
                op_id: who.op_id.0,
                uuid: &drawn.uuid,
                token: token.as_deref(),
                parameters: &drawn.parameters,
                rows: &drawn.rows,
                account: self.identities.row(drawn.identity),
                captured: &captured,
            };
            let request = match &self.constant[number][n] {
                Some(request) => request.clone(),
                None => match filled(call, &self.plan, &self.address, &scope) {
                    Ok(request) => request,
                    Err(why) => return given_up(Abort::Expectation, format!("{}: {why}", operation.name)),
                },
            };
            let tally = &self.tallies[number][n];
            tally.sent.fetch_add(1, Ordering::Relaxed);
            if !call.only_reads() {
                phase.commits();
            }
            let answered = send(client, request, self.plan.timeout).await;
            let (meaning, is_said, answer) = match &answered {
                Ok(answer) => {
                    let seen = seen(answer);
                    let (meaning, is_said) = call.meanings.of(&seen, call.only_reads());
                    (meaning, is_said, Some((answer, seen)))
                }
                Err(lost) if lost.may_have_arrived && !call.only_reads() => (Meaning::Unknown, true, None),
                Err(lost) => {
                    tally.not_applied.fetch_add(1, Ordering::Relaxed);
                    phase.settled();
                    let may_retry = operation.retry && !has_written;
                    let failure = Failure::local(if lost.is_late { Abort::Deadline } else { Abort::ConnectionLost });
                    return if may_retry { Attempt::Failed(failure) } else { Attempt::GivenUp(failure, Some(lost.why.clone())) };
                }
            };
            match meaning {
                Meaning::Committed => tally.committed.fetch_add(1, Ordering::Relaxed),
                Meaning::Unknown => 0,
                _ => tally.not_applied.fetch_add(1, Ordering::Relaxed),
            };
            if meaning == Meaning::Unknown {
                let why = match (&answered, &answer) {
                    (_, Some((answer, seen))) => said(call, answer, seen),
                    (Err(lost), None) => lost.why.clone(),
                    (Ok(_), None) => return Attempt::Unknown,
                };
                notes.unknown = Some(format!("{}: {why}", operation.name));
                return Attempt::Unknown;
            }
            phase.settled();
            let Some((answer, seen)) = answer else { return Attempt::Unknown };
            match meaning.outcome() {
                Outcome::Committed => {}
                Outcome::Refused(_) => return Attempt::Refused(Refusal::Declared),
                Outcome::Aborted(abort) => {
                    let words = format!("{}: {}", operation.name, said(call, answer, &seen));
                    if abort.is_of_the_test() && !is_said {
                        notes.surprise = Some((abort, words.clone()));
                    }
                    let may_retry = operation.retry && !has_written && abort.is_retryable();
                    return if may_retry { Attempt::Failed(Failure::local(abort)) } else { given_up(abort, words) };
                }
                Outcome::Unknown | Outcome::Replayed | Outcome::RolledBack => return Attempt::Unknown,
            }
            has_written |= !call.only_reads();
            let mut broken = None;
            for (m, check) in call.checks.iter().enumerate() {
                let held = check.holds(&seen, &scope);
                notes.checks.push((n, m, held.is_ok()));
                if let Err(instead) = held {
                    broken = broken.or(Some(format!("{}: {}: {instead}", operation.name, check.name)));
                }
            }
            if let Some(words) = broken {
                return given_up(Abort::Expectation, words);
            }
            let found: Vec<_> = call.captures.iter().map(|(slot, from)| (*slot, from.find(&seen, &mut random))).collect();
            for (slot, value) in found {
                captured[slot] = value;
            }
            if let Some([from, to]) = call.pause {
                let more = to.saturating_sub(from).as_nanos() as u64;
                tokio::time::sleep(from + Duration::from_nanos(random.below(more.saturating_add(1)))).await;
            }
        }
        Attempt::Committed(Applied::default())
    }
}

fn given_up(abort: Abort, words: String) -> Attempt {
    Attempt::GivenUp(Failure::local(abort), Some(words))
}

/// A request that is the same every time; `None` if it is not, or cannot be made at all.
fn constant(call: &Call, plan: &Http, address: &Address) -> Option<Request<Bytes>> {
    let any = |_: &Source| true;
    if call.names(&any) || plan.headers.iter().any(|(_, value)| value.names(any)) {
        return None;
    }
    let nobody = Scope {
        vu: 0,
        vus: 0,
        iteration: 0,
        op_id: 0,
        uuid: "",
        token: None,
        parameters: &[],
        rows: &[],
        account: None,
        captured: &[],
    };
    filled(call, plan, address, &nobody).ok()
}

/// A request, complete.
///
/// # Errors
/// In words, what it cannot be made of.
pub(super) fn filled(call: &Call, plan: &Http, address: &Address, scope: &Scope<'_>) -> Result<Request<Bytes>, String> {
    let Filled { method, path, headers, body, is_json } = call.fill(scope).map_err(|missing| missing.0)?;
    // A link of an answer may be complete.
    let path = match path.starts_with('/') {
        true => address.path(&path),
        false => address.path(path.strip_prefix(&address.to_string()).unwrap_or(&path)),
    };
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).map_err(|why| why.to_string())?)
        .uri(path)
        .header("host", address.authority())
        .header(contract::LOAD_TEST, "true");
    let mut has_type = false;
    let common = plan.headers.iter().filter(|(name, _)| !headers.iter().any(|(own, _)| own == name));
    for (name, value) in common {
        has_type |= name == "content-type";
        request = request.header(name, value.fill(scope).map_err(|missing| missing.0)?);
    }
    for (name, value) in headers.iter() {
        has_type |= name == "content-type";
        request = request.header(name, value);
    }
    if is_json && !has_type {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| Bytes::new(body.into_bytes().into()));
    request.body(body.unwrap_or_default()).map_err(|why| why.to_string())
}

/// Why there is no answer.
pub(super) struct Lost {
    /// Whether the request may have reached the server.
    pub may_have_arrived: bool,
    /// Whether nobody waited any longer.
    pub is_late: bool,
    /// In words.
    pub why: String,
}

/// Sends a request, and waits for the answer no longer than `timeout`; without one, the connection is not used again.
pub(super) async fn send(client: &mut Client, request: Request<Bytes>, timeout: Duration) -> Result<Answer, Lost> {
    let answered = tokio::time::timeout(timeout, client.send(request)).await;
    match answered {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(broken)) => {
            client.abandon();
            Err(Lost { may_have_arrived: broken.may_have_arrived, is_late: false, why: broken.why })
        }
        Err(_) => {
            client.abandon();
            let why = format!("no answer within {} ms", timeout.as_millis());
            Err(Lost { may_have_arrived: true, is_late: true, why })
        }
    }
}

/// An answer, to be looked into.
pub(super) fn seen(answer: &Answer) -> Seen<'_> {
    Seen::new(answer.status, &answer.body, |name| answer.header(name).map(str::to_owned))
}

/// An answer that nobody expected, in a line.
pub(super) fn said(call: &Call, answer: &Answer, seen: &Seen<'_>) -> String {
    let mut words = format!("{} {} was answered {}", call.method, call.path.short(), answer.status);
    if let Some(code) = call.meanings.code(seen) {
        words += &format!(" {code}");
    }
    for name in ["ratelimit-limit", "ratelimit-reset", "retry-after", "www-authenticate", "location"] {
        words += &answer.header(name).map_or(String::new(), |value| format!(", {name}: {value}"));
    }
    words
}

/// A version 4 UUID, as RFC 9562 has it.
fn uuid(random: &mut Random) -> String {
    let bits = (u128::from(random.bits()) << 64) | u128::from(random.bits());
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::Text(value) => Json::String(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_of_version_4_and_another_each_time() {
        let mut random = Random::seeded(1);
        let (first, second) = (uuid(&mut random), uuid(&mut random));
        assert_ne!(first, second);
        assert_eq!((first.len(), first.matches('-').count(), &first[14..15]), (36, 4, "4"));
        assert!("89ab".contains(&first[19..20]), "{first}");
    }
}
