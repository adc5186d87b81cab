//! Which rules of duty hours does the schedule break? The rules in Rust, over all of it, on a thread of their own: nobody else waits for them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::Done;
use super::floor::Floor;
use crate::Result;
use crate::acgme::evaluate::Evaluator;
use crate::acgme::rules::RuleSet;
use crate::acgme::{DAY, Finding, Minute, Severity, Subject};
use crate::outcome::Abort;
use crate::pg::ConnectOptions;
use crate::pg::admin::Session;
use crate::roster::{self, Scope};
use crate::seed::calendar::iso;
use crate::target::view::Days;

/// Findings that are shown; all of them are counted.
const SHOWN: usize = 500;
/// How long it may take, however soon the request has to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the rules find in a programme, or in all that were seeded, in these days.
pub(super) async fn look(floor: &Floor, programme: Option<i64>, days: Days, deadline: Instant) -> Done {
    let Ok(Ok(_turn)) = timeout_at(deadline.into(), floor.evaluation.acquire()).await else { return Done::Unavailable };
    let settings = &floor.settings;
    let role = settings.name.strip_prefix("dbstress/").unwrap_or(&settings.name);
    let (options, role) = (settings.options.clone(), format!("{role}/compliance"));
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("compliance".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Whoever does not wait any more does not miss it.
        let _ = tell.send(runtime.ok().and_then(|runtime| {
            runtime.block_on(async { timeout(PATIENCE, findings(&options, &role, programme)).await.ok()?.ok() })
        }));
    });
    match (thread, told.await) {
        (Ok(_), Ok(Some(findings))) => Done::Seen(shown(&findings, days).to_string()),
        (Ok(_), Ok(None)) => Done::Unavailable,
        _ => Done::Failed(Abort::Other),
    }
}

/// Everything that the rules find, in one state of the schedule.
async fn findings(options: &ConnectOptions, role: &str, programme: Option<i64>) -> Result<Vec<Finding>> {
    let mut session = Session::connect(options, role).await?;
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let scope = Scope { programmes: programme.map(|programme| vec![programme]) };
    let mut evaluators = [Evaluator::new(RuleSet::cpr())];
    roster::evaluate(&mut session, &scope, &mut evaluators).await?;
    session.close().await;
    let [evaluator] = evaluators;
    Ok(evaluator.finish())
}

/// Those of some days, as clients see them.
fn shown(findings: &[Finding], days: Days) -> Value {
    let [first, last] = days.ends().map(Minute::from);
    let within = |finding: &&Finding| finding.end > first * DAY && finding.start < (last + 1) * DAY;
    let count = |severity| findings.iter().filter(within).filter(|finding| finding.severity == severity).count();
    json!({
        "violations": count(Severity::Violation),
        "warnings": count(Severity::Warning),
        "items": findings.iter().filter(within).take(SHOWN).map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let (person, block, rotation) = match finding.subject {
        Subject::Person(person) => (Some(person), None, None),
        Subject::Block(block) => (None, Some(block), None),
        Subject::Place(block, rotation) => (None, Some(block), Some(rotation)),
    };
    json!({
        "rule": finding.rule.id(), "severity": finding.severity, "person": person, "block": block, "rotation": rotation,
        "measured": finding.measured, "limit": finding.limit, "from": time(finding.start), "to": time(finding.end),
    })
}

/// A minute as `2026-06-01T07:00`, by the wall clock of the hospital.
fn time(minute: Minute) -> String {
    let of_day = minute.rem_euclid(DAY);
    let day = i32::try_from(minute.div_euclid(DAY)).unwrap_or(i32::MAX);
    format!("{}T{:02}:{:02}", iso(day), of_day / 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acgme::Rule;

    fn found(start: Minute, end: Minute, severity: Severity) -> Finding {
        Finding { rule: Rule::Rest, subject: Subject::Person(7), start, end, measured: 1, limit: 2, severity }
    }

    #[test]
    fn what_is_shown_is_counted_and_of_the_days_that_were_asked_for() {
        let findings = [found(0, DAY, Severity::Violation), found(2 * DAY, 3 * DAY, Severity::Warning)];
        let all = shown(&findings, Days::default());
        assert_eq!((&all["violations"], &all["warnings"]), (&json!(1), &json!(1)));
        assert_eq!((&all["items"][1]["from"], &all["items"][1]["rule"]), (&json!("2000-01-03T00:00"), &json!("AC-4")));
        let of = |from, to| shown(&findings, Days { from: Some(from), to: Some(to) })["items"].as_array().map(Vec::len);
        assert_eq!([of(0, 0), of(1, 1), of(2, 2), of(0, 2)], [Some(1), Some(0), Some(1), Some(2)]);
        let many = vec![found(0, 1, Severity::Violation); SHOWN + 1];
        let many = shown(&many, Days::default());
        assert_eq!((many["items"].as_array().map(Vec::len), &many["violations"]), (Some(SHOWN), &json!(SHOWN + 1)));
    }
}
