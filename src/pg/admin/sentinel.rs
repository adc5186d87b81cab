//! May this database be written to? Only if it carries our sentinel, made for this very server and database.

use sqlx::migrate::MigrateError;

use super::{Session, identifier};
use crate::pg::ConnectOptions;
use crate::{Error, Result};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Removes what is there and makes it anew.
const RESET: &str = "dbstress seed --reset";

/// What a database is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sentinel {
    /// No sentinel; this many tables, views and sequences belong to somebody else.
    Absent {
        /// Relations outside the system schemas and outside extensions.
        foreign_relations: i64,
    },
    /// Ours to write to.
    Ours(Meta),
    /// It carries a sentinel that was made for another server or another database: a restored copy.
    Copied,
    /// Its schema is newer than this program.
    Newer {
        /// The newest migration it carries.
        found: i64,
        /// The newest migration we know.
        known: i64,
    },
}

/// What the sentinel row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Identifies the server's data directory.
    pub system_identifier: i64,
    /// Identifies the database in it.
    pub database_oid: i64,
    /// What was loaded; `None` until a load has finished.
    pub loaded: Option<Loaded>,
}

/// The dataset that a finished load left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Name of the dataset.
    pub dataset: String,
    /// The number it was made from.
    pub rng_seed: i64,
    /// How many times the base size.
    pub scale: i32,
    /// What makes it another dataset than the plain one of that name, as flags: `--days 84 --plant PL-1:10`.
    pub variant: Option<String>,
    /// Version of the generator that made it.
    pub generator_version: i32,
    /// SHA-256 of the generated rows, hexadecimal.
    pub data_hash: String,
    /// The clock of the domain, as PostgreSQL prints it in UTC.
    pub as_of: String,
    /// Tells this load from every other one: server, database, and when it ended (seconds since 1970).
    pub load: String,
}

impl Loaded {
    /// The flags of `dbstress seed` that make it.
    pub fn flags(&self) -> String {
        let variant = self.variant.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
        format!("--dataset {} --scale {} --rng-seed {}{variant}", self.dataset, self.scale, self.rng_seed)
    }
}

/// Finds out what the database is to us. Reads only.
///
/// # Errors
/// When the server refuses a question.
pub async fn inspect(session: &mut Session) -> Result<Sentinel> {
    if session.text("SELECT to_regclass('dbstress.meta')::text").await?.is_none() {
        let foreign_relations = session
            .integer(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
                 AND NOT (n.nspname = 'dbstress' AND c.relname = '_migrations') \
                 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            )
            .await?;
        return Ok(Sentinel::Absent { foreign_relations });
    }
    let known = newest_migration();
    let found = version(session).await?;
    if found > known {
        return Ok(Sentinel::Newer { found, known });
    }
    let rows = session
        .rows(
            "SELECT m.system_identifier, m.database_oid, \
                    m.system_identifier = s.system_identifier AND m.database_oid = d.oid::bigint, \
                    m.dataset, m.rng_seed, m.scale, m.generator_version, m.data_hash, (m.as_of AT TIME ZONE 'UTC')::text, m.seeded_at IS NOT NULL, \
                    to_jsonb(m) ->> 'variant', concat_ws('/', m.system_identifier, m.database_oid, extract(epoch FROM m.seeded_at)::numeric(20, 6)) \
             FROM dbstress.meta m, pg_control_system() s, pg_database d WHERE d.datname = current_database()",
        )
        .await?;
    let Some(row) = rows.into_iter().next() else { return Ok(Sentinel::Copied) };
    let field = |i: usize| row[i].clone().unwrap_or_default();
    if row[2].as_deref() != Some("t") {
        return Ok(Sentinel::Copied);
    }
    let number = |i: usize| field(i).parse::<i64>().unwrap_or_default();
    Ok(Sentinel::Ours(Meta {
        system_identifier: number(0),
        database_oid: number(1),
        loaded: (row[9].as_deref() == Some("t")).then(|| Loaded {
            dataset: field(3),
            rng_seed: number(4),
            scale: number(5) as i32,
            // A schema from before there were variants has no such column.
            variant: row[10].clone(),
            generator_version: number(6) as i32,
            data_hash: field(7),
            as_of: field(8),
            load: field(11),
        }),
    }))
}

/// The sentinel of a database that is ours and fully loaded.
///
/// # Errors
/// Usage, with the cure, for every other kind of database.
pub async fn require_loaded(session: &mut Session, options: &ConnectOptions) -> Result<(Meta, Loaded)> {
    match inspect(session).await? {
        Sentinel::Ours(meta) => match meta.loaded.clone() {
            Some(loaded) => {
                let (found, known) = (version(session).await?, newest_migration());
                match found < known {
                    false => Ok((meta, loaded)),
                    true => Err(Error::usage(format!(
                        "the schema in {options} is version {found}; this dbstress works on version {known}"
                    ))
                    .cure(
                        options.command(&format!("seed {}", loaded.flags()))
                            + ", which brings it up to date and leaves the data as it is",
                    )),
                }
            }
            None => {
                Err(Error::usage(format!("{options} holds no complete dataset: it was never seeded, or a seed did not finish"))
                    .cure(options.command("seed --reset")))
            }
        },
        other => Err(refusal(&other, options, &options.command("seed"))),
    }
}

/// Makes sure that the database declared disposable is this one; its name.
///
/// # Errors
/// Usage, when it is another one.
pub async fn check_disposable(session: &mut Session, disposable: Option<&str>) -> Result<String> {
    let name = session.text("SELECT current_database()").await?.unwrap_or_default();
    match disposable.filter(|d| **d != *name) {
        None => Ok(name),
        Some(declared) => Err(Error::usage(format!("--disposable names `{declared}`, but the database is `{name}`"))
            .cure(format!("--disposable {name}, if everything in it may be lost"))),
    }
}

/// Makes the database ours: puts schema and sentinel into it, or brings an older schema up to date.
/// `disposable` is the name the user declared expendable; it must be this database's own.
///
/// # Errors
/// Usage, when the database holds tables that are not ours and was not declared disposable by its name, or was copied from elsewhere.
pub async fn claim(session: &mut Session, options: &ConnectOptions, disposable: Option<&str>) -> Result<Meta> {
    let name = check_disposable(session, disposable).await?;
    let state = inspect(session).await?;
    match (&state, disposable) {
        (Sentinel::Ours(_) | Sentinel::Absent { foreign_relations: 0 }, _) => {}
        (Sentinel::Absent { .. }, Some(_)) => {}
        (Sentinel::Copied, Some(_)) => {
            session.execute("DROP SCHEMA IF EXISTS dbstress CASCADE").await?;
        }
        (other, _) => return Err(refusal(other, options, &format!("--disposable {name}, if everything in it may be lost"))),
    }
    let mut migrator = clone_migrator();
    migrator.create_schema("dbstress");
    migrator.dangerous_set_table_name("dbstress._migrations");
    session.asked.is_open = true;
    let migrated = migrator.run(&mut session.connection).await;
    session.asked.is_open = false;
    migrated.map_err(|e| out_of_date(e, options))?;
    match inspect(session).await? {
        Sentinel::Ours(meta) => Ok(meta),
        other => Err(refusal(&other, options, &options.command("seed --reset"))),
    }
}

/// Removes everything of ours from a database that carries our sentinel, and says that it did; from any other, nothing.
///
/// # Errors
/// Usage, when a sentinel is there but not ours.
pub async fn wipe(session: &mut Session, options: &ConnectOptions) -> Result<bool> {
    match inspect(session).await? {
        Sentinel::Ours(_) => {
            let scratch = "DROP SCHEMA IF EXISTS dbstress_control, dbstress_pool, dbstress_storm, dbstress_access CASCADE";
            session.execute(&format!("DROP SCHEMA dbstress CASCADE; {scratch}")).await?;
            Ok(true)
        }
        // `claim` decides what may happen to these.
        Sentinel::Absent { .. } | Sentinel::Copied => Ok(false),
        newer @ Sentinel::Newer { .. } => Err(refusal(&newer, options, "")),
    }
}

fn refusal(state: &Sentinel, options: &ConnectOptions, cure: &str) -> Error {
    match state {
        Sentinel::Absent { foreign_relations: 0 } => {
            Error::usage(format!("{options} carries no dbstress sentinel; nothing was written")).cure(cure)
        }
        Sentinel::Absent { foreign_relations } => Error::usage(format!(
            "{options} carries no dbstress sentinel and holds {foreign_relations} relations that are not ours; nothing was written"
        ))
        .cure(format!("use an empty database, or none at all (dbstress runs a private one)\n{cure}")),
        Sentinel::Copied => Error::usage(format!(
            "the dbstress sentinel in {options} was made for another server or database: this is a copy; nothing was written"
        ))
        .cure(options.command(&format!("seed --reset --disposable {}", options.database)) + ", if everything in it may be lost"),
        Sentinel::Newer { found, known } => {
            Error::usage(format!("the schema in {options} is version {found}; this dbstress knows up to version {known}"))
                .cure("use the newer dbstress that made it, or another database")
        }
        Sentinel::Ours(_) => Error::usage(format!("{options} is not usable")).cure(cure),
    }
}

/// Why the schema could not be brought up to date.
fn out_of_date(error: MigrateError, options: &ConnectOptions) -> Error {
    // What is wrong with the list of migrations, a fresh one cures.
    let cure = match &error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            cure(cause.as_database_error().and_then(|e| e.code()).as_deref(), options)
        }
        _ => Some(RESET.into()),
    };
    let failed = Error::inconclusive("the schema could not be brought up to date").because(error);
    match cure {
        Some(cure) => failed.cure(cure),
        None => failed,
    }
}

/// What lets a migration succeed that ended with this SQLSTATE, or without any: the connection failed. `None` where the cause has to say it.
fn cure(code: Option<&str>, options: &ConnectOptions) -> Option<String> {
    let (database, user) = (identifier(&options.database), identifier(&options.user));
    match code {
        None => Some("start the server, or look into its log, and try again".into()),
        Some("25006") => Some(format!(
            "ALTER DATABASE {database} RESET default_transaction_read_only, or of the role or the server if it is set there\n\
             or connect to the primary, if this is a standby"
        )),
        Some("42501") => Some(format!("GRANT CREATE ON DATABASE {database} TO {user}, or connect as the owner of the database")),
        Some(code) if code.starts_with("08") || code.starts_with("57P") => cure(None, options),
        // Something in the schema is not as it was made.
        Some(code) if code.starts_with("42") || code.starts_with("23") || code.starts_with("2B") => Some(RESET.into()),
        Some(_) => None,
    }
}

fn clone_migrator() -> sqlx::migrate::Migrator {
    sqlx::migrate::Migrator { migrations: MIGRATOR.migrations.clone(), ..sqlx::migrate::Migrator::DEFAULT }
}

/// The newest migration that the database carries.
async fn version(session: &mut Session) -> Result<i64> {
    Ok(session.integer("SELECT coalesce(max(version), 0) FROM dbstress._migrations").await?)
}

fn newest_migration() -> i64 {
    MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_the_cure_of_what_a_reset_can_cure() {
        let options = ConnectOptions::from_url("postgres://me@localhost/Mine", &|_| None).unwrap();
        let cure = |code| cure(code, &options);
        for code in ["42P07", "42703", "23505", "2BP01"] {
            assert_eq!(cure(Some(code)).as_deref(), Some(RESET), "{code}");
        }
        assert!(cure(Some("25006")).unwrap().contains("ALTER DATABASE \"Mine\" RESET default_transaction_read_only"));
        assert!(cure(Some("42501")).unwrap().contains("GRANT CREATE ON DATABASE \"Mine\" TO \"me\""));
        for code in [None, Some("57P01"), Some("08006")] {
            assert!(cure(code).unwrap().contains("start the server"), "{code:?}");
        }
        assert_eq!(cure(Some("53100")), None, "a full disk stays full");
        let listed = out_of_date(MigrateError::VersionMismatch(1), &options).to_string();
        assert!(listed.contains(RESET), "{listed}");
    }
}
