//! Has everything ended, and what became of the operations whose COMMIT was never answered?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::books::Books;
use super::drive::application_name;
use crate::Result;
use crate::history::Reader;
use crate::outcome::Outcome;
use crate::pg::admin::{Session, SqlError, literal};
use crate::pg::load::Between;
use crate::workload::booking::Place;

/// How long sessions of the run may take to go by themselves.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often a marker is claimed before its operation counts as unresolved.
const CLAIMS: u32 = 10;

/// Waits until no session of the run is left and no prepared transaction exists; what does not go by itself is terminated. Behind a pooler
/// sessions outlive their clients, idle and still called as the last of them: there no session of the run may be in a transaction.
/// `None` if it is quiet, otherwise what is still there.
///
/// # Errors
/// When the server cannot be asked.
pub async fn quiesce(session: &mut Session, run: i32, between: Between) -> Result<Option<String>> {
    let ours = sessions(run, between);
    let began = Instant::now();
    let mut terminated = false;
    loop {
        let left = session.integer(&format!("SELECT count(*) {ours}")).await?;
        if left == 0 {
            break;
        }
        if began.elapsed() > PATIENCE {
            if terminated {
                return Ok(Some(format!("{left} sessions of the run do not end")));
            }
            session.rows(&format!("SELECT pg_terminate_backend(pid) {ours}")).await?;
            terminated = true;
        }
        tokio::time::sleep(if terminated { PATIENCE / 10 } else { ASK_EVERY }).await;
        if terminated && began.elapsed() > PATIENCE * 2 {
            return Ok(Some(format!("{left} sessions of the run do not end")));
        }
    }
    let prepared = session.integer("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").await?;
    Ok((prepared > 0).then(|| format!("{prepared} prepared transactions are open")))
}

/// The sessions of the run, as what follows a SELECT's columns. Other databases of the server have runs of the same number.
fn sessions(run: i32, between: Between) -> String {
    let name = literal(&format!("{}/", application_name(run)));
    let at_work = if between.is_pooler() { " AND state IS DISTINCT FROM 'idle'" } else { "" };
    format!(
        "FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, {name}) AND pid <> pg_backend_pid(){at_work}"
    )
}

/// Resolves every unknown of the histories by claiming its marker: a fence with the key of each attempt that may have gone unanswered. If the key
/// is taken, the attempt committed; if the fence goes in, it did not and never can. How many remain unresolved is found by the audit.
///
/// # Errors
/// When the server cannot be asked. A history that cannot be read has no unknowns here; the audit says so.
pub async fn resolve(session: &mut Session, books: Books, place: &Place, histories: &[PathBuf], between: Between) -> Result<()> {
    let ours = sessions(place.run, between);
    for path in histories {
        let Ok(reader) = Reader::open(path) else { continue };
        for record in reader.operations() {
            let Ok(record) = record else { break };
            if record.outcome != Outcome::Unknown {
                continue;
            }
            claim(session, &books.fence(place, &record), &ours).await?;
        }
    }
    Ok(())
}

async fn claim(session: &mut Session, fence: &str, ours: &str) -> Result<(), SqlError> {
    for _ in 0..CLAIMS {
        // The transaction of the unanswered attempt may still hold the key; it will not for long.
        let claimed = session.execute(&format!("BEGIN; SET LOCAL lock_timeout = '500ms'; {fence}; COMMIT")).await;
        let Err(error) = claimed else { return Ok(()) };
        session.execute("ROLLBACK").await?;
        match error.code.as_deref() {
            Some("55P03") => {
                session.rows(&format!("SELECT pg_terminate_backend(pid) {ours}")).await?;
            }
            _ => return Err(error),
        }
    }
    Ok(())
}
