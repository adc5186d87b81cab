//! Why is there no connection, what cures it, and which exit code says so? The same for both drivers.

use super::ConnectOptions;
use super::load::is_pooler;
use crate::Error;

/// What is said of a connection that was not made. `code` is the server's, `error` what the driver says.
///
/// A database that is not there was named wrongly (exit code 2). Everything else leaves open what it would have come to (exit code 3): nobody
/// answers, or the server does not let this role in.
pub(super) fn refused(
    options: &ConnectOptions,
    code: Option<&str>,
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
    let (message, cure) = match code {
        Some("3D000") => {
            return Error::usage(format!("there is no database `{}` at {}", options.database, options.place()))
                .because(error)
                .cure("create it (createdb), or name another in the URL");
        }
        Some("28P01" | "28000") => (
            format!("PostgreSQL at {options} does not let `{}` in", options.user),
            "give the right password in the URL, in PGPASSWORD or in ~/.pgpass",
        ),
        Some("53300") => (
            format!("PostgreSQL at {options} has no connection left"),
            "lower --vus, raise max_connections, or close other clients",
        ),
        Some("57P03") => (format!("PostgreSQL at {options} is starting up or shutting down"), "try again in a moment"),
        // PgBouncer's words, with a code that says nothing.
        _ if said.contains("max_client_conn") => {
            (format!("the pooler at {options} has no connection left"), "lower --vus, or raise max_client_conn of the pooler")
        }
        _ if said.contains("certificate") => (
            format!("the certificate of PostgreSQL at {options} is not trusted"),
            "sslrootcert=FILE names the authority to trust; sslmode=require trusts whoever answers",
        ),
        _ => (
            format!("could not connect to PostgreSQL at {options}"),
            "start the server or correct the address; without --database-url, DATABASE_URL and PGHOST dbstress runs a private one",
        ),
    };
    Error::inconclusive(message).because(error).cure(cure)
}
