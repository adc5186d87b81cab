//! Where do the user's own tables come from, and where do they go? Set-up and tear-down, each as one script, in the schema they are meant for.

use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError, identifier, literal};
use crate::program;
use crate::scenario::{Script, Sql};
use crate::{Error, Result};

/// Finds the schema of `sql` if its author names none: the first one of the connection's own search_path that is there and that people put tables in.
///
/// # Errors
/// No connection.
pub async fn find(sql: &mut Sql, options: &ConnectOptions) -> Result<()> {
    if sql.names_schema {
        return Ok(());
    }
    let mut session = Session::connect_for_questions(options, "schema").await?;
    let own = "SELECT set_config('search_path', reset_val, false) FROM pg_settings WHERE name = 'search_path'";
    let first = "SELECT s FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (s, n) \
                 WHERE s NOT IN ('dbstress', 'dbstress_control', 'information_schema') AND NOT starts_with(s, 'pg_') ORDER BY n LIMIT 1";
    session.rows(own).await?;
    sql.schema = session.text(first).await?.unwrap_or_else(|| Sql::SCHEMA.into());
    session.close().await;
    Ok(())
}

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
    let done = session.script(&script.text).await;
    // Whatever the script was in the middle of is over, and the session's own path is back.
    let _ = session.execute("ROLLBACK").await;
    session.execute("RESET search_path").await?;
    done.map_err(|(done, error)| failed(script, what, done, &error))
}

/// The file and the line at which a script failed after `done` statements and, if the server told the place, that line as psql shows it.
fn failed(script: &Script, what: &str, done: usize, error: &SqlError) -> Error {
    let text = &script.text;
    // At the end of the text it is one behind the last character.
    let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let told = error.position.and_then(|position| places.nth(position.checked_sub(1)?));
    let at = told.or_else(|| program::statement_starts(text).get(done).copied());
    let place = match at {
        Some(at) => {
            let line = text[..at].matches('\n').count() + 1;
            format!("{}:{line}", script.path.display())
        }
        None => script.path.display().to_string(),
    };
    let shown = told.map(|at| pointed_at(text, at)).unwrap_or_default();
    Error::usage(format!("{place}: the {what} failed")).because(std::io::Error::other(format!("{error}{shown}")))
}

/// `LINE 3: …` and a caret below the place, under the cause of an error.
fn pointed_at(text: &str, at: usize) -> String {
    /// How much of a long line is shown on either side.
    const AROUND: usize = 50;
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let before: Vec<char> = text[start..at].chars().collect();
    let (dots, before) = match before.len().checked_sub(AROUND) {
        Some(cut @ 1..) => ("...", &before[cut..]),
        _ => ("", &before[..]),
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let before: String = before.iter().copied().map(plain).collect();
    let after: String = text[at..].lines().next().unwrap_or_default().chars().take(AROUND).map(plain).collect();
    let head = format!("LINE {}: {dots}{before}", text[..at].matches('\n').count() + 1);
    format!("\n         {head}{after}\n         {:>width$}", '^', width = head.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_up_that_fails_names_its_line_and_points_at_the_place() {
        let script =
            Script { path: "a/setup.sql".into(), text: "SELECT 1;\n-- a comment; no statement\nSELEC 2;\nSELECT 3".into() };
        let said = |done, position| {
            let error = SqlError { code: Some("42601".into()), message: "syntax error at or near \"SELEC\"".into(), position };
            failed(&script, "set-up", done, &error).to_string()
        };
        assert_eq!(
            said(1, Some(38)),
            "a/setup.sql:3: the set-up failed\n  cause: syntax error at or near \"SELEC\" (SQLSTATE 42601)\n         LINE 3: SELEC 2;\n                 ^"
        );
        assert!(said(2, None).starts_with("a/setup.sql:4: the set-up failed\n  cause:"), "{}", said(2, None));
        assert!(said(9, None).starts_with("a/setup.sql: the set-up failed"), "no statement is the tenth");
    }
}
