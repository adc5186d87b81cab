//! Do the rules hold that are about what the API itself says? Each compares a number of an answer with what was done, at both ends of what is known.

use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::asking::{HttpWork, said, seen};
use super::identity::Identities;
use crate::http::{Address, Client};
use crate::invariant::{Breach, Checked, Finding};
use crate::random::Random;
use crate::request::{Call, Counted, From, Names, Range, Sum, Template};
use crate::scenario::{Http, Relation, Rule};

/// How often a number is asked for that still changes after the load.
const LOOKS: u32 = 20;
/// How long between two of these looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// The numbers that rules are about, in the order of the rules; or why there is none.
pub async fn numbers(http: &Http, address: &Address, identities: &Identities) -> Vec<Result<f64, String>> {
    let mut numbers = Vec::new();
    let mut client = None;
    for rule in &http.rules {
        numbers.push(number(rule, http, address, identities, &mut client).await);
    }
    numbers
}

/// The same, once they do not change any more: what was sent and never answered may still be under way.
pub async fn settled(http: &Http, address: &Address, identities: &Identities) -> Result<Vec<Result<f64, String>>, String> {
    let mut last = numbers(http, address, identities).await;
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let next = numbers(http, address, identities).await;
        if next == last {
            return Ok(next);
        }
        last = next;
    }
    Err(format!("the numbers of the API still change {} s after the load", (BETWEEN_LOOKS * LOOKS).as_secs()))
}

async fn number(
    rule: &Rule,
    http: &Http,
    address: &Address,
    identities: &Identities,
    client: &mut Option<Client>,
) -> Result<f64, String> {
    let path = Template::parse(&rule.path, &Names::default()).map_err(|why| why.to_string())?;
    let call = Call::get(path);
    let answer = identities.ask(0, http, address, &call, client).await?;
    let seen = seen(&answer);
    if !(200..300).contains(&answer.status) {
        return Err(said(&call, &answer, &seen));
    }
    let from = From::parse(&rule.pointer).map_err(|why| why.to_string())?;
    match from.find(&seen, &mut Random::seeded(0)) {
        Some(Json::Array(items)) => Ok(items.len() as f64),
        Some(Json::Object(members)) => Ok(members.len() as f64),
        Some(value) => {
            value.as_f64().ok_or_else(|| format!("there is no number at {} of {}, but {value}", rule.pointer, rule.path))
        }
        None => Err(format!("there is nothing at {} of {}", rule.pointer, rule.path)),
    }
}

/// What each rule finds while nothing has been done yet: what is broken then, the load did not break.
pub fn before(http: &Http, numbers: &[Result<f64, String>]) -> Vec<Checked> {
    judged(http, numbers, numbers, |_| (0, 0))
}

/// What each rule found: `before` and `after` have its number, `work` knows what was done.
pub fn judge(http: &Http, work: &HttpWork, before: &[Result<f64, String>], after: &[Result<f64, String>]) -> Vec<Checked> {
    judged(http, before, after, |counted| work.counted(counted))
}

fn judged(
    http: &Http,
    before: &[Result<f64, String>],
    after: &[Result<f64, String>],
    counted: impl Fn(&Counted) -> (u64, u64),
) -> Vec<Checked> {
    let rules = http.rules.iter().zip(before.iter().zip(after));
    rules
        .map(|(rule, (before, after))| {
            let began = Instant::now();
            let finding = match (Sum::parse(&rule.with), before, after) {
                (Err(why), ..) => Finding::Errored(why.to_string()),
                (_, _, Err(why)) => Finding::Errored(why.clone()),
                (Ok(sum), Err(why), _) if sum.asks_before() => Finding::Errored(format!("before the load: {why}")),
                (Ok(sum), before, Ok(after)) => {
                    let before = before.as_ref().map_or(0.0, |before| *before);
                    finding(rule, &sum, sum.evaluate(before, &counted), *after)
                }
            };
            Checked {
                name: rule.name.clone(),
                id: None,
                title: format!("{} of {} is {} {}", rule.pointer, rule.path, rule.relation.words(), rule.with),
                subject: None,
                finding,
                elapsed: began.elapsed(),
            }
        })
        .collect()
}

/// A rule holds if it does whatever became of what is unknown, and is broken if it is so too; otherwise nobody knows.
fn finding(rule: &Rule, sum: &Sum, wanted: Range, found: f64) -> Finding {
    let holds = |wanted: f64| match rule.relation {
        Relation::Equals => found == wanted,
        Relation::AtMost => found <= wanted,
        Relation::AtLeast => found >= wanted,
    };
    let between = rule.relation == Relation::Equals && wanted.least < found && found < wanted.most;
    match (holds(wanted.least), holds(wanted.most)) {
        (true, true) => Finding::Holds { examined: 1 },
        (false, false) if !between => Finding::Violated {
            examined: 1,
            total: 1,
            rows: vec![Breach {
                subject: Some(format!("{} {}", rule.path, rule.pointer)),
                expected: Some(format!("{} {wanted} ({sum})", rule.relation.words())),
                actual: Some(found.to_string()),
            }],
        },
        _ => Finding::Errored(format!(
            "{found} found, {} {wanted} wanted ({sum}): requests were not answered, and it depends on what became of them",
            rule.relation.words()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(relation: Relation, least: f64, most: f64, found: f64) -> char {
        let rule = Rule { name: "r".into(), path: "/a".into(), pointer: "/n".into(), relation, with: "committed(book)".into() };
        match finding(&rule, &Sum::parse(&rule.with).unwrap(), Range { least, most }, found) {
            Finding::Holds { .. } => 'h',
            Finding::Violated { .. } => 'v',
            _ => '?',
        }
    }

    #[test]
    fn a_rule_is_open_where_it_depends_on_what_nobody_knows() {
        use Relation::*;
        assert_eq!([4.0, 5.0, 6.0].map(|n| found(Equals, 5.0, 5.0, n)), ['v', 'h', 'v']);
        assert_eq!([4.0, 5.0, 6.0, 7.0, 8.0].map(|n| found(Equals, 5.0, 7.0, n)), ['v', '?', '?', '?', 'v']);
        assert_eq!([5.0, 6.0, 7.0, 8.0].map(|n| found(AtMost, 5.0, 7.0, n)), ['h', '?', '?', 'v']);
        assert_eq!([4.0, 5.0, 6.0, 7.0].map(|n| found(AtLeast, 5.0, 7.0, n)), ['v', '?', '?', 'h']);
    }
}
