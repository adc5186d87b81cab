//! Could this test have failed here and now? The unsafe twins run the tested plan on rows of their own, and must be caught.

use std::time::{Duration, Instant};

use super::{Context, Judged, turn};
use crate::Result;
use crate::audit::Breach;
use crate::invariant::{Finding, Invariant};
use crate::pg::admin::Session;
use crate::plan::{CONTROL_LIMIT, Limit, OF_COUNTERS};
use crate::record::{Control, Moment};
use crate::strategy::Strategy;

/// Schema of the controls' rows: nothing of theirs can leak into `verify`.
pub const SCHEMA: &str = "dbstress_control";
/// Number of the controls' runs; tested runs begin at 1.
pub const RUN: i32 = 0;

/// An unsafe twin: what it is, and what must be seen of it.
pub struct Twin {
    /// The strategy.
    pub strategy: Strategy,
    /// What the audit must find.
    breach: Breach,
    /// What one of these invariants must find.
    invariants: &'static [&'static str],
}

/// One twin for each thing that a pass claims.
pub const TWINS: [Twin; 2] = [
    Twin { strategy: Strategy::Naive, breach: Breach::Overbooked, invariants: &["units-within-total"] },
    Twin { strategy: Strategy::NaiveSet, breach: Breach::LostUpdate, invariants: &["ledger-replays", "counters-match-ledger"] },
];

/// Makes the schema anew, empty.
///
/// # Errors
/// When the server refuses.
pub async fn prepare(session: &mut Session) -> Result<()> {
    remove(session).await?;
    session
        .execute(&format!(
            "CREATE SCHEMA {SCHEMA}; \
             CREATE TABLE {SCHEMA}.authorisation (LIKE dbstress.authorisation INCLUDING DEFAULTS INCLUDING INDEXES) WITH (fillfactor = 70); \
             CREATE TABLE {SCHEMA}.unit_ledger (LIKE dbstress.unit_ledger INCLUDING DEFAULTS INCLUDING INDEXES)"
        ))
        .await?;
    Ok(())
}

/// Removes the schema.
///
/// # Errors
/// When the server refuses.
pub async fn remove(session: &mut Session) -> Result<()> {
    session.execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
    Ok(())
}

/// Runs one twin until it is caught, ten seconds at most.
///
/// # Errors
/// When it could not be run; one that ran and was not caught is a result.
pub async fn run(context: &Context<'_>, session: &mut Session, twin: &Twin, moment: Moment) -> Result<Control> {
    let began = Instant::now();
    let judged_by: Vec<Invariant> = context.invariants.iter().filter(|i| OF_COUNTERS.contains(&i.name.as_str())).cloned().collect();
    let expected = twin.breach.words().to_owned();
    let mut control =
        Control { strategy: twin.strategy, moment, expected, fired: false, detail: String::new(), seconds: 0.0, iterations: 0 };
    // Short at first: on a contended machine a fraction of a second is enough.
    for slice in [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)] {
        if began.elapsed() + slice > CONTROL_LIMIT + Duration::from_secs(1) || context.is_interrupted() {
            break;
        }
        prepare(session).await?;
        let limit = match context.plan.limit {
            Limit::Rounds(n) => Limit::Rounds(n.max(20)),
            Limit::Duration(_) => Limit::Duration(slice),
        };
        let judged = turn::control(context, session, twin.strategy, limit, &judged_by).await?;
        control.iterations += judged.driven.recorder.counts().iterations();
        if let Some(error) = judged.driven.failure {
            return Err(error);
        }
        control.detail = caught(twin, &judged);
        control.fired = control.detail.starts_with(CAUGHT);
        if control.fired {
            break;
        }
    }
    if control.detail.is_empty() {
        control.detail = "interrupted".into();
    }
    control.seconds = began.elapsed().as_secs_f64();
    remove(session).await?;
    Ok(control)
}

const CAUGHT: &str = "caught";

/// Both witnesses must have seen it: one alone would leave the other's detector unproven.
fn caught(twin: &Twin, judged: &Judged) -> String {
    let found = judged.audit.findings.iter().find(|f| f.breach == twin.breach);
    let rows: i64 = judged
        .invariants
        .iter()
        .filter(|c| twin.invariants.contains(&c.name.as_str()))
        .filter_map(|c| if let Finding::Violated { total, .. } = c.finding { Some(total) } else { None })
        .sum();
    match (found, rows) {
        (Some(finding), 1..) => {
            format!("{CAUGHT} by the audit ({}) and by {} ({rows} rows)", finding.detail, twin.invariants.join(", "))
        }
        (Some(_), _) => format!("the audit saw it, {} did not", twin.invariants.join(", ")),
        (None, 1..) => "an invariant saw it, the audit did not".into(),
        (None, _) => "contention was too mild to prove anything".into(),
    }
}
