//! Who lets a run name its operations at the reference server, and lets its controls do what is wrong there? Whoever can write to the database.

use super::control;
use super::turn::{Leg, Subject};
use crate::Result;
use crate::pg::admin::{Session, literal};
use crate::plan::Plan;
use crate::token::digest;

/// Lets the requests of `leg` in that carry the secret which is returned: nobody else knows it, and the database has its digest alone.
///
/// # Errors
/// When the server refuses.
pub(super) async fn issue(session: &mut Session, plan: &Plan, leg: &Leg) -> Result<String> {
    let secret: String = rand::random::<[u8; 24]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let (schema, strategy, bug) = match &leg.subject {
        Subject::Booking(strategy, bug, place) => (place.schema, strategy.name(), *bug),
        Subject::Scheduling(strategy, place) => (place.schema, strategy.name(), None),
        Subject::Own(_, schema) => (schema.as_str(), "", None),
        // Its server knows nothing of runs.
        Subject::Foreign => ("", "", None),
    };
    // Of what is tested, the server decides everything.
    let is_control = schema == control::SCHEMA;
    let text = |value: Option<&str>| value.filter(|_| is_control).map_or("NULL".to_owned(), literal);
    let keys = plan.keys().filter(|_| is_control);
    session
        .execute(&format!(
            "INSERT INTO dbstress.run_grant (secret_hash, run_id, schema_name, strategy, bug, in_flight, lifetime_s) \
             VALUES ({}, {}, {}, {}, {}, {}, {})",
            literal(&digest(&secret)),
            leg.run,
            literal(schema),
            text(Some(strategy)),
            text(bug.map(|bug| bug.name())),
            text(keys.map(|keys| keys.in_flight.word())),
            keys.map_or("NULL".to_owned(), |keys| keys.lifetime.as_secs().to_string()),
        ))
        .await?;
    Ok(secret)
}

/// Lets nobody in any more who was: there is one run at a time on a database, so that what is there is its own, or was left by one that broke off.
///
/// # Errors
/// When the server refuses.
pub(super) async fn revoke_all(session: &mut Session) -> Result<()> {
    session.execute("DELETE FROM dbstress.run_grant").await?;
    Ok(())
}
