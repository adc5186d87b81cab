//! `dbstress token`: who may log in at the server, and a token for one of them.

use std::time::Duration;

use super::{Global, serve, target};
use crate::pace::parse_duration;
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Session, literal};
use crate::report::screen::Screen;
use crate::report::serve as report;
use crate::token::{self, Claims};
use crate::verdict::Exit;
use crate::{Error, Result};

/// Who looks after everything.
const ADMIN: &str = "admin@example.com";

/// Flags of `token`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whose token
    #[arg(long, value_name = "LOGIN", default_value = ADMIN)]
    pub login: String,
    /// How long it is good
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    pub lifetime: Duration,
    /// List the accounts: login, role, organisation or programme
    #[arg(long, conflicts_with_all = ["login", "lifetime"])]
    pub list: bool,
}

/// An account as the table has it: login, role, organisation, actor.
type Account = (String, String, Option<i64>, Option<i64>);

/// Runs the command.
///
/// # Errors
/// Usage: there is no such account, or no server has made any yet; a database that is not ours or not loaded.
pub async fn run(args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    global.refuse_via("accounts are read from the database, and dbstress goes")?;
    let target = target::existing(global, screen).await?;
    let mut session = Session::connect(&target.options, "token").await?;
    let printed = print(args, global, &target.options, &mut session, screen).await;
    session.close().await;
    printed
}

async fn print(args: &Args, global: &Global, options: &ConnectOptions, session: &mut Session, screen: Screen) -> Result<Exit> {
    admin::require_loaded(session, options).await?;
    if args.list {
        let accounts = accounts(session, "").await?;
        if accounts.is_empty() {
            return Err(none());
        }
        let rows: Vec<_> = accounts.into_iter().map(|(login, role, organisation, _)| (login, role, organisation)).collect();
        screen.out(&report::accounts(&rows, screen.width, screen.colour));
        return Ok(Exit::Pass);
    }
    let found = accounts(session, &format!("WHERE login = {}", literal(&args.login))).await?.into_iter().next();
    let Some((sub, role, org, actor)) = found else {
        let logins: Vec<String> = accounts(session, "").await?.into_iter().map(|(login, ..)| login).collect();
        if logins.is_empty() {
            return Err(none());
        }
        let near = crate::error::nearest(&args.login, logins.iter().map(String::as_str));
        let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
        return Err(Error::usage(format!("nobody logs in as `{}`", args.login)).cure(format!("{hint}dbstress token --list")));
    };
    let lifetime = i64::try_from(args.lifetime.as_secs()).unwrap_or(i64::MAX);
    let iat = token::now();
    let claims = Claims { sub, role, org, actor, iat, exp: iat.saturating_add(lifetime) };
    screen.out(&serve::secret(global)?.key().sign(&claims)?);
    Ok(Exit::Pass)
}

fn none() -> Error {
    Error::usage("there are no accounts yet: the server makes them when it starts").cure("dbstress serve")
}

async fn accounts(session: &mut Session, which: &str) -> Result<Vec<Account>> {
    let sql = format!("SELECT login, role, organisation_id, actor_id FROM dbstress.account {which} ORDER BY login");
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = session.rows(&sql).await?;
    Ok(rows
        .iter()
        .filter_map(|row| Some((text(row.first()?), text(row.get(1)?), number(row.get(2)?), number(row.get(3)?))))
        .collect())
}
