//! Which database does a command work on: one that the user named, or the private one?

use std::sync::Arc;

use super::{Global, env};
use crate::pg::cluster::{self, Running};
use crate::pg::{ConnectOptions, Place};
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
    if !global.managed {
        if let Some(url) = &global.database_url {
            return Ok(Target { options: ConnectOptions::from_url(url, &env)?, via, private: None });
        }
        if ConnectOptions::env_names_a_server(&env) {
            let options = ConnectOptions::from_env(&env)?;
            screen.note(&format!("using {options}, from the PG* variables (--managed uses the private server)"));
            return Ok(Target { options, via, private: None });
        }
    }
    let missing = |what: String| Error::usage(what).cure(format!("dbstress seed{}", global.again()));
    if !may_make && cluster::status(&global.located()?.state).is_empty() {
        return Err(missing("there is no private server yet, and so no data".into()));
    }
    let running = private(global, screen).await?;
    let database = &global.database;
    let mut options = match may_make {
        true => running.ensure_database(database).await?,
        false => running
            .database(database)
            .await?
            .ok_or_else(|| missing(format!("there is no database `{database}` on the private server")))?,
    };
    if via.is_some() {
        // Whoever is there does not know who is asking.
        options.password = running.tcp.password.clone();
    }
    Ok(Target { options, via, private: Some(Arc::new(running)) })
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
