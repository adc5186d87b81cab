//! Why is there no connection, what cures it, and which exit code says so? The same for both drivers.

use super::ConnectOptions;
use super::load::is_pooler;
use crate::Error;

/// SQLSTATE of a server that lets nobody else in.
pub(super) const TOO_MANY: &str = "53300";

/// What is said of a connection that was not made. `code` and `routine` are the server's, `error` is what the driver says.
///
/// A database that is not there was named wrongly (exit code 2). Everything else leaves open what it would have come to (exit code 3): nobody
/// answers, or the server does not let this role in.
pub(super) fn unconnected(
    options: &ConnectOptions,
    code: Option<&str>,
    routine: Option<&str>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>> + std::fmt::Display,
) -> Error {
    let said = error.to_string();
    // What PgBouncer says of a setting that it would have to keep for each client.
    if said.contains("unsupported startup parameter") {
        return match options.session.startup() {
            Some(_) => Error::inconclusive(format!("the pooler at {options} does not pass on the options of a session"))
                .cure("leave out options and PGOPTIONS; ALTER ROLE … SET in PostgreSQL says the same"),
            None => is_pooler(options),
        }
        .because(error);
    }
    let (message, cure): (String, String) = match code {
        Some("3D000") => {
            return Error::usage(format!("there is no database `{}` at {}", options.database, options.place()))
                .because(error)
                .cure("create it (createdb), or name another in the URL");
        }
        Some("28P01" | "28000") => (
            format!("PostgreSQL at {options} does not let `{}` in", options.user),
            "give the right password in the URL, in PGPASSWORD or in ~/.pgpass".into(),
        ),
        Some(TOO_MANY) => none_left(options, routine),
        Some(code) if code.starts_with("22") || code.starts_with("42") => (
            format!("PostgreSQL at {options} refuses what its sessions were to begin with"),
            "correct it: options in the URL or in PGOPTIONS, or ALTER ROLE … SET".into(),
        ),
        Some("57P03") => (format!("PostgreSQL at {options} is starting up or shutting down"), "try again in a moment".into()),
        // PgBouncer's words, with a code that says nothing.
        _ if said.contains("max_client_conn") => (
            format!("the pooler at {options} has no connection left"),
            "lower --vus, or raise max_client_conn of the pooler".into(),
        ),
        _ if said.contains("certificate") => (
            format!("the certificate of PostgreSQL at {options} is not trusted"),
            "sslrootcert=FILE names the authority to trust; sslmode=require trusts whoever answers".into(),
        ),
        _ => (
            format!("could not connect to PostgreSQL at {options}"),
            "start the server or correct the address; without --database-url, DATABASE_URL and PGHOST dbstress runs a private one"
                .into(),
        ),
    };
    Error::inconclusive(message).because(error).cure(cure)
}

/// What there is no connection left of, and what helps. One code says three things, in the server's language; which one it is, the place in the
/// server's source says that each error carries.
fn none_left(options: &ConnectOptions, routine: Option<&str>) -> (String, String) {
    match routine {
        Some("InitializeSessionUserId") => (
            format!("the role `{}` has as many connections to PostgreSQL at {options} as it may have", options.user),
            format!("ALTER ROLE \"{}\" CONNECTION LIMIT -1, or a higher number; or close other clients of the role", options.user),
        ),
        Some("CheckMyDatabase") => (
            format!("the database `{}` at {options} has as many connections as it may have", options.database),
            format!("ALTER DATABASE \"{}\" CONNECTION LIMIT -1, or a higher number; or close its other clients", options.database),
        ),
        _ => (
            format!("PostgreSQL at {options} has no connection left"),
            "lower --vus, raise max_connections, or close other clients".to_owned(),
        ),
    }
}
