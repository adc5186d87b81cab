//! Where do the user's own tables come from, and where do they go? Set-up and tear-down, each as one script, in the schema they are meant for.

use crate::pg::admin::{Session, identifier, literal};
use crate::scenario::{Script, Sql};
use crate::{Error, Result};

/// Makes the schema if it is not there, and runs the set-up in it.
///
/// # Errors
/// The server's answer to the script.
pub async fn set_up(session: &mut Session, sql: &Sql, schema: &str) -> Result<()> {
    let Some(script) = &sql.setup else { return Ok(()) };
    session.execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema))).await?;
    run(session, script, schema, "set-up").await
}

/// Runs the tear-down.
///
/// # Errors
/// The server's answer to the script.
pub async fn tear_down(session: &mut Session, sql: &Sql) -> Result<()> {
    let Some(script) = &sql.teardown else { return Ok(()) };
    run(session, script, &sql.schema, "tear-down").await
}

async fn run(session: &mut Session, script: &Script, schema: &str, what: &str) -> Result<()> {
    session.execute(&format!("SELECT set_config('search_path', {}, false)", literal(&identifier(schema)))).await?;
    let done = session.execute(&script.text).await;
    // Whatever the script was in the middle of is over, and the session's own path is back.
    let _ = session.execute("ROLLBACK").await;
    session.execute("RESET search_path").await?;
    done.map(|_| ()).map_err(|e| Error::usage(format!("the {what} {} failed", script.path.display())).because(e))
}
