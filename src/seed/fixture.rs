//! What is in the database, for tools that do not ask it? A JSON file: which database, which rows, who may touch them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::clinic::Clinic;
use super::generate::{Generator, Of};
use super::residency::{PlantedCase, Residency};
use super::table::Table;
use super::{Dataset, calendar};
use crate::pg::admin::{Loaded, Meta};
use crate::{Error, Result, files};

/// Version of the file's format.
pub const SCHEMA_VERSION: u32 = 1;

/// The file, read back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fixture {
    /// Version of the format.
    pub schema_version: u32,
    /// Where the rows are.
    pub database: Database,
    /// What it was made from.
    pub rng_seed: i64,
    /// How many times the base size.
    pub scale: i32,
    /// What makes it another dataset than the plain one, as the flags that ask for it.
    pub variant: Option<String>,
    /// SHA-256 of the generated rows, hexadecimal.
    pub data_hash: String,
    /// The clock of the domain, RFC 3339 in UTC.
    pub as_of: String,
    /// The rows that other tools need to know, by the name of the dataset.
    #[serde(flatten)]
    pub rows: Rows,
}

/// What a dataset tells other tools.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "dataset", rename_all = "lowercase")]
pub enum Rows {
    /// The clinic.
    Clinic {
        /// In order of their ids, as everything below.
        organisations: Vec<Organisation>,
        /// What can be booked.
        authorisations: Vec<Authorisation>,
        /// Ids of the authorisations that scenarios contend over; some in every organisation.
        high_contention: Vec<i64>,
        /// Who books.
        practitioners: Vec<Practitioner>,
    },
    /// The residency.
    Residency {
        /// In order of their ids, as everything below.
        residents: Vec<Resident>,
        /// Who supervises.
        faculty: Vec<Faculty>,
        /// The half days.
        blocks: Vec<Block>,
        /// What is done in them.
        templates: Vec<Template>,
        /// The cases, in the order of their numbers.
        planted: Vec<Planted>,
    },
}

impl Rows {
    /// Of which dataset they are.
    pub fn dataset(&self) -> Dataset {
        match self {
            Self::Clinic { .. } => Dataset::Clinic,
            Self::Residency { .. } => Dataset::Residency,
        }
    }
}

/// Identifies a database beyond its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The server's system identifier. Text: it has more digits than a JavaScript number can hold.
    pub system_identifier: String,
    /// Object id of the database.
    pub oid: i64,
    /// Its name.
    pub name: String,
}

/// A tenant, and how many rows it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table of that name, then counts")]
pub struct Organisation {
    pub id: i64,
    pub name: String,
    pub patients: u32,
    pub practitioners: u32,
    pub authorisations: u32,
}

/// A bookable row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table of that name")]
pub struct Authorisation {
    pub id: i64,
    pub organisation_id: i64,
    pub total: i32,
}

/// Somebody who books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table of that name")]
pub struct Practitioner {
    pub id: i64,
    pub organisation_id: i64,
}

/// A resident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table person")]
pub struct Resident {
    pub id: i64,
    pub programme_id: i64,
    pub pgy: i16,
}

/// Somebody who supervises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table person")]
pub struct Faculty {
    pub id: i64,
    pub programme_id: i64,
}

/// A half day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table of that name")]
pub struct Block {
    pub id: i64,
    pub programme_id: i64,
    pub date: String,
    pub half: String,
}

/// What is done in half days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table rotation_template")]
pub struct Template {
    pub id: i64,
    pub programme_id: i64,
}

/// A planted case, and about whom or what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table expected_violation, and the programme")]
pub struct Planted {
    pub plant: i64,
    pub label: String,
    pub programme_id: i64,
    pub person_id: Option<i64>,
    pub block_id: Option<i64>,
    pub rotation_template_id: Option<i64>,
}

impl Fixture {
    /// Reads the file and makes sure that it describes this database and what is loaded in it (`admin::require_loaded` gives both).
    ///
    /// # Errors
    /// Usage, with the cure, when it cannot be read or describes another database or other data.
    pub fn load(path: &Path, meta: &Meta, loaded: &Loaded) -> Result<Self> {
        let shown = path.display();
        let cure = format!("run the same `dbstress seed` again, on the same database: it rewrites the fixture ({shown})");
        let text = std::fs::read(path).map_err(|e| Error::usage(format!("no fixture at {shown}")).because(e).cure(&*cure))?;
        // The version first: a newer format is not a broken file.
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let unreadable = |e: serde_json::Error| Error::usage(format!("{shown} is not a fixture")).because(e).cure(&*cure);
        let Version { schema_version } = serde_json::from_slice(&text).map_err(unreadable)?;
        if schema_version != SCHEMA_VERSION {
            let message = format!("fixture {shown} has format {schema_version}; this dbstress reads format {SCHEMA_VERSION}");
            return Err(Error::usage(message).cure(cure));
        }
        let fixture: Self = serde_json::from_slice(&text).map_err(unreadable)?;
        let found = &fixture.database;
        if found.system_identifier != meta.system_identifier.to_string() || found.oid != meta.database_oid {
            let message = format!(
                "fixture {shown} describes another database: `{}`, oid {} of server {}, not oid {} of server {}",
                found.name, found.oid, found.system_identifier, meta.database_oid, meta.system_identifier
            );
            return Err(Error::usage(message).cure(cure));
        }
        let differs = |what: &str, file: &dyn std::fmt::Display, database: &dyn std::fmt::Display| {
            Error::usage(format!("fixture {shown} describes {what} {file}, but the database holds {what} {database}")).cure(&*cure)
        };
        let dataset = fixture.rows.dataset().name();
        if dataset != loaded.dataset {
            return Err(differs("dataset", &dataset, &loaded.dataset));
        }
        if fixture.rng_seed != loaded.rng_seed {
            return Err(differs("rng_seed", &fixture.rng_seed, &loaded.rng_seed));
        }
        if fixture.scale != loaded.scale {
            return Err(differs("scale", &fixture.scale, &loaded.scale));
        }
        if fixture.variant != loaded.variant {
            let plain = "of no variant".to_owned();
            let of = |variant: &Option<String>| variant.as_ref().unwrap_or(&plain).clone();
            return Err(differs("rows", &of(&fixture.variant), &of(&loaded.variant)));
        }
        if fixture.data_hash != loaded.data_hash {
            return Err(differs("data hash", &fixture.data_hash, &loaded.data_hash));
        }
        Ok(fixture)
    }
}

/// A fixture about to be written. Made before the load, so that a place that cannot be written to is found out before, not after, the work;
/// the file of an earlier seed stays until the new one is complete.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Makes the directories that `path` needs and tries to write there.
    ///
    /// # Errors
    /// Usage, when nothing can be written there.
    pub fn create(path: &Path) -> Result<Self> {
        let refuse = |e: std::io::Error| {
            Error::usage(format!("the fixture cannot be written to {}", path.display()))
                .because(e)
                .cure("--fixture FILE, or DBSTRESS_STATE_DIR, in a place that can be written to")
        };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(refuse)?;
        }
        files::check(path).map_err(refuse)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes the fixture of what `generator` made. Streams: memory does not grow with the scale.
    ///
    /// # Errors
    /// Inconclusive, when writing fails; a file that was there before is untouched.
    pub fn write(self, database: &str, meta: &Meta, loaded: &Loaded, generator: &Generator) -> Result<()> {
        let view = View {
            schema_version: SCHEMA_VERSION,
            database: Database {
                system_identifier: meta.system_identifier.to_string(),
                oid: meta.database_oid,
                name: database.to_owned(),
            },
            rng_seed: loaded.rng_seed,
            scale: loaded.scale,
            variant: loaded.variant.as_deref(),
            data_hash: &loaded.data_hash,
            as_of: generator.as_of().rfc3339(),
            rows: RowsView::of(generator),
        };
        let written = files::write(&self.path, |out| {
            serde_json::to_writer(&mut *out, &view)?;
            out.write_all(b"\n")
        });
        written.map_err(|e| {
            let message = format!("the database is seeded, but the fixture {} could not be written", self.path.display());
            Error::inconclusive(message)
                .because(e)
                .cure("free some space and run `dbstress seed` again: it only rewrites the fixture")
        })
    }
}

/// The same shape as [`Fixture`], its lists made while they are written.
#[derive(Serialize)]
struct View<'a> {
    schema_version: u32,
    database: Database,
    rng_seed: i64,
    scale: i32,
    variant: Option<&'a str>,
    data_hash: &'a str,
    as_of: String,
    #[serde(flatten)]
    rows: RowsView<'a>,
}

/// The same shape as [`Rows`].
#[derive(Serialize)]
#[serde(tag = "dataset", rename_all = "lowercase")]
enum RowsView<'a> {
    Clinic {
        #[serde(serialize_with = "self::organisations")]
        organisations: &'a Clinic,
        #[serde(serialize_with = "self::authorisations")]
        authorisations: &'a Clinic,
        #[serde(serialize_with = "self::high_contention")]
        high_contention: &'a Clinic,
        #[serde(serialize_with = "self::practitioners")]
        practitioners: &'a Clinic,
    },
    Residency {
        #[serde(serialize_with = "self::residents")]
        residents: &'a Residency,
        #[serde(serialize_with = "self::faculty")]
        faculty: &'a Residency,
        #[serde(serialize_with = "self::blocks")]
        blocks: &'a Residency,
        #[serde(serialize_with = "self::templates")]
        templates: &'a Residency,
        #[serde(serialize_with = "self::planted")]
        planted: &'a Residency,
    },
}

impl<'a> RowsView<'a> {
    fn of(generator: &'a Generator) -> Self {
        match generator.of() {
            Of::Clinic(c) => Self::Clinic { organisations: c, authorisations: c, high_contention: c, practitioners: c },
            Of::Residency(r) => Self::Residency { residents: r, faculty: r, blocks: r, templates: r, planted: r },
        }
    }
}

fn organisations<S: Serializer>(clinic: &&Clinic, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq((0..clinic.rows(Table::Organisation)).map(|row| {
        let organisation = clinic.organisation(row);
        Organisation {
            id: organisation.id,
            name: organisation.name().iter().map(ToString::to_string).collect(),
            patients: organisation.of.patients,
            practitioners: organisation.of.practitioners,
            authorisations: organisation.of.authorisations.iter().sum(),
        }
    }))
}

fn all_authorisations(clinic: &Clinic) -> impl Iterator<Item = Authorisation> {
    (0..clinic.rows(Table::Authorisation)).map(|row| {
        let (id, organisation_id, total) = clinic.authorisation(row);
        Authorisation { id, organisation_id, total }
    })
}

fn authorisations<S: Serializer>(clinic: &&Clinic, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all_authorisations(clinic))
}

fn high_contention<S: Serializer>(clinic: &&Clinic, to: S) -> Result<S::Ok, S::Error> {
    let classes = &clinic.spec().unit_classes;
    let hot = |total| classes.iter().any(|c| c.high_contention && c.total == total);
    to.collect_seq(all_authorisations(clinic).filter(|a| hot(a.total)).map(|a| a.id))
}

fn practitioners<S: Serializer>(clinic: &&Clinic, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq((0..clinic.rows(Table::Practitioner)).map(|row| {
        let (id, organisation_id) = clinic.practitioner(row);
        Practitioner { id, organisation_id }
    }))
}

fn residents<S: Serializer>(residency: &&Residency, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(residency.people().filter_map(|p| Some(Resident { id: p.id, programme_id: p.programme_id, pgy: p.year? })))
}

fn faculty<S: Serializer>(residency: &&Residency, to: S) -> Result<S::Ok, S::Error> {
    let faculty = residency.people().filter(|p| p.year.is_none());
    to.collect_seq(faculty.map(|p| Faculty { id: p.id, programme_id: p.programme_id }))
}

fn blocks<S: Serializer>(residency: &&Residency, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(residency.blocks().map(|(id, programme_id, date, half)| Block {
        id,
        programme_id,
        date: calendar::iso(date),
        half: half.into(),
    }))
}

fn templates<S: Serializer>(residency: &&Residency, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(residency.templates().map(|(id, programme_id)| Template { id, programme_id }))
}

fn planted<S: Serializer>(residency: &&Residency, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(residency.planted().map(|planted| {
        let PlantedCase { plant, case, programme_id, person_id, block_id, rotation_template_id } = planted;
        Planted { plant, label: case.name.into(), programme_id, person_id, block_id, rotation_template_id }
    }))
}
