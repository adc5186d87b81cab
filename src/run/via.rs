//! What does the load go through, does it lead to the same database, and can this load be borne there?

use crate::bug::Bug;
use crate::pg::admin::Session;
use crate::pg::load::{Between, Connection, Protocol, keeps_statements, recognise, scout};
use crate::pg::{ConnectOptions, Place};
use crate::plan::{Plan, Workload};
use crate::program::outlives_transaction;
use crate::random::Random;
use crate::record::Via;
use crate::scenario::{Control, Sql};
use crate::{Error, Result};

/// Stream of the marker by which a database is known again.
const MARKER: u64 = 7 << 32;

/// Finds out what is at `place`, and proves that it leads to the database of `session` and lets its sessions be told from others.
///
/// # Errors
/// Usage, when it leads elsewhere, hides who is who, or is a pooler through which this plan cannot be run.
pub(super) async fn prove(session: &mut Session, options: &ConnectOptions, place: &Place, plan: &Plan) -> Result<Via> {
    let through = options.through(place);
    let hint = |error: Error| {
        error.or_cure(format!(
            "start what should listen at {place}, or correct --via; a pooler must be in transaction or session mode, not in statement mode"
        ))
    };
    let mut one = scout(&through).await.map_err(hint)?;
    let mut other = scout(&through).await.map_err(hint)?;
    for client in [&mut one, &mut other] {
        leads_to(session, options, place, client).await?;
    }
    is_seen(session, place, &mut one).await?;
    let between = recognise(&mut one, &mut other).await?;
    // Neither is needed for what follows, which may want all the connections that there are.
    drop((one, other));
    if between.shares_sessions() {
        if plan.protocol == Protocol::Prepared && !keeps_statements(&through).await {
            return Err(Error::usage(format!(
                "at {place} there is {}, and it does not carry prepared statements over",
                Between::TransactionPooler.words()
            ))
            .cure("--protocol extended, or --protocol simple\nor let the pooler do it (PgBouncer 1.21: max_prepared_statements)"));
        }
        needs_no_session(plan)?;
    }
    Ok(Via { address: place.to_string(), between })
}

/// A lock that only a session of this database sees, and only while it is held: a copy of the database, or a standby of it, does not have it.
async fn leads_to(session: &mut Session, options: &ConnectOptions, place: &Place, client: &mut Connection) -> Result<()> {
    let marker = Random::of(std::process::id().into(), MARKER, clock()).bits().cast_signed();
    session.text(&format!("SELECT pg_advisory_lock({marker})")).await?;
    let holder = session.integer("SELECT pg_backend_pid()").await?;
    let seen = client
        .ask(&format!(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = {holder} AND objsubid = 1 \
               AND (classid::bigint << 32 | objid::bigint) = {marker} \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ))
        .await;
    session.text(&format!("SELECT pg_advisory_unlock({marker})")).await?;
    match seen? {
        Some(_) => Ok(()),
        None => {
            Err(Error::usage(format!("{place} leads to another database than {options}: the load would go where nobody checks"))
                .cure("correct --via, or the database URL; or what the pooler has for this database in its settings"))
        }
    }
}

/// Nanoseconds: another marker each time.
fn clock() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Sessions of the load are known by their name, and by their state whether they have ended what they had begun.
async fn is_seen(session: &mut Session, place: &Place, client: &mut Connection) -> Result<()> {
    client.ask("BEGIN").await?;
    let process = client.ask("SELECT pg_backend_pid()").await?.unwrap_or_default();
    let wanted = client.ask("SELECT current_setting('application_name')").await?;
    let seen = session.rows(&format!("SELECT application_name, state FROM pg_stat_activity WHERE pid::text = '{process}'")).await?;
    client.ask("COMMIT").await?;
    match seen.first().map(Vec::as_slice) {
        Some([name, Some(state)])
            if *name == wanted && name.as_deref() == Some("dbstress/via") && state == "idle in transaction" =>
        {
            Ok(())
        }
        _ => Err(Error::usage(format!("{place} does not pass on what the load calls itself, or as whom it connects"))
            .cure("let the pooler pass on application_name, and connect as the same role; and track_activities must be on")),
    }
}

/// What a session is told is lost, or met by others, when the next transaction is another's.
fn needs_no_session(plan: &Plan) -> Result<()> {
    let refused = |what: String, cure: &str| {
        Err(Error::usage(format!(
            "{what} needs a session of its own: with {}, it would be another's",
            Between::TransactionPooler.words()
        ))
        .cure(format!("{cure}, or leave out --via")))
    };
    if let Some(bug @ (Bug::EarlyUnlock | Bug::AsyncCommit)) = plan.bug() {
        return refused(format!("the bug {bug}"), "make another");
    }
    let Workload::Sql(sql) = &plan.workload else { return Ok(()) };
    let mut all = vec![sql];
    if let Some(Control::Twin(twin)) = &sql.control
        && let crate::scenario::Workload::Sql(theirs) = &twin.workload
    {
        all.push(theirs);
    }
    for operation in all.into_iter().flat_map(|sql: &Sql| &sql.operations) {
        for statement in operation.program.statements() {
            if let Some(word) = outlives_transaction(&statement.sql) {
                let place = format!("{}:{}: `{word}`", operation.program.name, statement.line);
                return refused(place, "use what ends with the transaction (SET LOCAL, pg_advisory_xact_lock, RETURNING)");
            }
        }
    }
    Ok(())
}
