//! Which database does a command work on: one that the user named, or the private one?

use std::sync::Arc;

use super::{Global, env, interruptible};
use crate::pg::cluster::{self, Running};
use crate::pg::{ConnectOptions, Place, admin, options};
use crate::report::screen::Screen;
use crate::{Error, Result};

/// The database, and the private server that holds it, if it does.
pub struct Target {
    /// How to reach it.
    pub options: ConnectOptions,
    /// What the load goes through.
    pub via: Option<Place>,
    /// The private server; it counts as in use as long as this lives.
    pub private: Option<Arc<Running>>,
}

/// The user's database if the flags or the environment name one, otherwise the private server's, started if need be, and the database made if it is not
/// there. For commands that write.
///
/// # Errors
/// Usage, when what was named cannot be read; whatever keeps the private server from starting.
pub async fn resolve(global: &Global, screen: Screen) -> Result<Target> {
    find(global, screen, true).await
}

/// As [`resolve`], for commands that work on a dataset that is there: neither a server nor a database is made for them.
///
/// # Errors
/// As there; and usage, when there is no private server yet, or no such database on it.
pub async fn existing(global: &Global, screen: Screen) -> Result<Target> {
    find(global, screen, false).await
}

async fn find(global: &Global, screen: Screen, may_make: bool) -> Result<Target> {
    let via = global.via.clone();
    global.refuse_two_databases()?;
    if !global.managed {
        if let Some(url) = global.database_url.as_deref().filter(|url| !url.is_empty()) {
            let options = ConnectOptions::from_url(url, &env)?;
            return named(ConnectOptions { flags: global.again(), ..options }, via, "of the hosts that were named", screen).await;
        }
        if ConnectOptions::env_names_a_server(&env) {
            let options = ConnectOptions { flags: global.again(), ..ConnectOptions::from_env(&env)? };
            screen.note(&format!("using {options}, from the PG* variables (--managed uses the private server)"));
            return named(options, via, "of the hosts in the PG* variables", screen).await;
        }
        refuse_half_a_server()?;
    }
    let missing = |what: String| Error::usage(what).cure(format!("dbstress seed{}", global.again()));
    if !may_make && cluster::status(&global.located()?.state).is_empty() {
        return Err(missing("there is no private server yet, and so no data".into()));
    }
    let database = &global.database;
    let (running, mut options) = interruptible(async {
        let running = private(global, screen).await?;
        let options = match may_make {
            true => running.ensure_database(database).await?,
            false => running
                .database(database)
                .await?
                .ok_or_else(|| missing(format!("there is no database `{database}` on the private server")))?,
        };
        Ok((running, options))
    })
    .await?;
    options = options.in_environment(&env)?;
    if via.is_some() {
        // Whoever is there does not know who is asking.
        options.password = running.tcp.password.clone();
    }
    options.flags = global.again();
    Ok(Target { options, via, private: Some(Arc::new(running)) })
}

/// A server of the user's that lets us in; of several hosts, one.
async fn named(options: ConnectOptions, via: Option<Place>, of: &str, screen: Screen) -> Result<Target> {
    let has_choice = !options.alternatives.is_empty();
    let options = admin::choose(options).await?;
    if has_choice {
        screen.note(&format!("using {options} {of}, for all sessions"));
    }
    Ok(Target { options, via, private: None })
}

/// Refuses to take the private server where somebody began to describe another one.
fn refuse_half_a_server() -> Result<()> {
    match options::describing_a_connection().find(|variable| env(variable).is_some_and(|value| !value.is_empty())) {
        None => Ok(()),
        Some(variable) => Err(Error::usage(format!("{variable} is set, but nothing says which server it is for"))
            .cure("--database-url or PGHOST names one; --managed takes the private server")),
    }
}

/// The private server, started if need be.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn private(global: &Global, screen: Screen) -> Result<Running> {
    let running = cluster::start(&global.cluster()?, &|text| screen.note(text)).await?;
    if running.started_here {
        screen.note(&format!(
            "started a private PostgreSQL {} (it stops by itself after {} without use; `dbstress db stop` stops it now)",
            running.version,
            humantime::format_duration(global.idle_stop)
        ));
    }
    Ok(running)
}
