//! Which keys and indexes does the dataset have? They are taken off before a load and put on after it: checking and indexing a million rows at
//! once is several times cheaper than one by one, and tables can then be loaded in any order.

use crate::pg::admin::Session;
use crate::{Error, Result};

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table constraint: `ALTER TABLE … ADD CONSTRAINT`.
    Constraint,
    /// An index: `CREATE INDEX`.
    Index,
    /// A unique index that a constraint cannot express: `CREATE UNIQUE INDEX`.
    UniqueIndex,
}

/// A key or an index on a table of schema `dbstress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint {
    /// The table it is on.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What follows the name (constraint) or the table (index) in SQL.
    pub definition: &'static str,
}

const fn constraint(table: &'static str, name: &'static str, definition: &'static str) -> Constraint {
    Constraint { table, name, kind: Kind::Constraint, definition }
}

const fn index(table: &'static str, name: &'static str, definition: &'static str) -> Constraint {
    Constraint { table, name, kind: Kind::Index, definition }
}

/// All of them, whichever dataset is loaded: the tables of both are in every database. In the order in which they can be added; removed in
/// reverse.
pub fn all() -> impl DoubleEndedIterator<Item = &'static Constraint> {
    CLINIC.iter().chain(RESIDENCY)
}

/// Those of the clinic. Primary keys carry the names that the migration gives them, here and below.
///
/// No secondary index on a column that bookings change: it would end heap-only updates and change what is measured.
/// A foreign key to a tenant's row includes the tenant, so that no row can refer to another organisation's; but not to an authorisation, which would
/// need an index more for it on the table whose updates are measured.
pub const CLINIC: &[Constraint] = &[
    constraint("organisation", "organisation_pkey", "PRIMARY KEY (id)"),
    constraint("service_code", "service_code_pkey", "PRIMARY KEY (id)"),
    constraint("patient", "patient_pkey", "PRIMARY KEY (id)"),
    constraint("practitioner", "practitioner_pkey", "PRIMARY KEY (id)"),
    constraint("authorisation", "authorisation_pkey", "PRIMARY KEY (id)"),
    // UNIQUE treats NULLs as different, and the global codes have no organisation.
    Constraint {
        table: "service_code",
        name: "service_code_unique",
        kind: Kind::UniqueIndex,
        definition: "(coalesce(organisation_id, 0), code)",
    },
    constraint("patient", "patient_tenant", "UNIQUE (organisation_id, id)"),
    constraint("patient", "patient_record_unique", "UNIQUE (organisation_id, medical_record_number)"),
    constraint("practitioner", "practitioner_tenant", "UNIQUE (organisation_id, id)"),
    constraint("practitioner", "practitioner_licence_unique", "UNIQUE (organisation_id, licence_number)"),
    constraint("authorisation", "authorisation_number_unique", "UNIQUE (number)"),
    index("authorisation", "authorisation_by_patient", "(organisation_id, patient_id)"),
    // Seeded rows have no run and are not looked up by it.
    index("authorisation", "authorisation_by_run", "(run_id) WHERE run_id IS NOT NULL"),
    constraint("service_code", "service_code_organisation", "FOREIGN KEY (organisation_id) REFERENCES dbstress.organisation (id)"),
    constraint("patient", "patient_organisation", "FOREIGN KEY (organisation_id) REFERENCES dbstress.organisation (id)"),
    constraint("practitioner", "practitioner_organisation", "FOREIGN KEY (organisation_id) REFERENCES dbstress.organisation (id)"),
    constraint(
        "authorisation",
        "authorisation_organisation",
        "FOREIGN KEY (organisation_id) REFERENCES dbstress.organisation (id)",
    ),
    constraint(
        "authorisation",
        "authorisation_patient",
        "FOREIGN KEY (organisation_id, patient_id) REFERENCES dbstress.patient (organisation_id, id)",
    ),
    constraint(
        "authorisation",
        "authorisation_service_code",
        "FOREIGN KEY (service_code_id) REFERENCES dbstress.service_code (id)",
    ),
    index("appointment", "appointment_by_authorisation", "(authorisation_id)"),
    index("treatment_session", "treatment_session_by_appointment", "(appointment_id)"),
    constraint("appointment", "appointment_authorisation", "FOREIGN KEY (authorisation_id) REFERENCES dbstress.authorisation (id)"),
    constraint(
        "appointment",
        "appointment_practitioner",
        "FOREIGN KEY (organisation_id, practitioner_id) REFERENCES dbstress.practitioner (organisation_id, id)",
    ),
    constraint(
        "treatment_session",
        "treatment_session_appointment",
        "FOREIGN KEY (appointment_id) REFERENCES dbstress.appointment (id)",
    ),
];

/// Those of the residency. The tables that nothing is loaded into keep what the migration gives them.
///
/// Nothing keeps double assignments out of `assignment_unguarded`: that is what it is for. The ledger refers to nothing, as the clinic's.
pub const RESIDENCY: &[Constraint] = &[
    constraint("programme", "programme_pkey", "PRIMARY KEY (id)"),
    constraint("person", "person_pkey", "PRIMARY KEY (id)"),
    constraint("block", "block_pkey", "PRIMARY KEY (id)"),
    constraint("rotation_template", "rotation_template_pkey", "PRIMARY KEY (id)"),
    constraint("assignment", "assignment_pkey", "PRIMARY KEY (id)"),
    constraint("call_assignment", "call_assignment_pkey", "PRIMARY KEY (id)"),
    constraint("extra_duty", "extra_duty_pkey", "PRIMARY KEY (id)"),
    constraint("absence", "absence_pkey", "PRIMARY KEY (id)"),
    constraint("schedule_run", "schedule_run_pkey", "PRIMARY KEY (id)"),
    constraint("person", "person_email_unique", "UNIQUE (email)"),
    constraint("block", "block_once", "UNIQUE (programme_id, date, half)"),
    constraint("rotation_template", "rotation_template_unique", "UNIQUE (programme_id, abbreviation)"),
    constraint("assignment", "assignment_once", "UNIQUE (block_id, person_id)"),
    constraint("call_assignment", "call_assignment_once", "UNIQUE (person_id, night, kind)"),
    // Seeded rows have no run and are not looked up by it.
    index("programme", "programme_by_run", "(run_id) WHERE run_id IS NOT NULL"),
    index("person", "person_by_programme", "(programme_id)"),
    index("assignment", "assignment_by_person", "(person_id)"),
    index("assignment", "assignment_by_template", "(rotation_template_id)"),
    index("assignment_unguarded", "assignment_unguarded_by_block", "(block_id)"),
    index("assignment_unguarded", "assignment_unguarded_by_person", "(person_id)"),
    index("extra_duty", "extra_duty_by_person", "(person_id)"),
    index("absence", "absence_by_person", "(person_id)"),
    index("schedule_run", "schedule_run_by_programme", "(programme_id)"),
    index("expected_violation", "expected_violation_by_plant", "(plant)"),
    index("planted_row", "planted_row_by_plant", "(plant)"),
    constraint("person", "person_programme", "FOREIGN KEY (programme_id) REFERENCES dbstress.programme (id)"),
    constraint("block", "block_programme", "FOREIGN KEY (programme_id) REFERENCES dbstress.programme (id)"),
    constraint("rotation_template", "rotation_template_programme", "FOREIGN KEY (programme_id) REFERENCES dbstress.programme (id)"),
    constraint("schedule_run", "schedule_run_programme", "FOREIGN KEY (programme_id) REFERENCES dbstress.programme (id)"),
    constraint("assignment", "assignment_block", "FOREIGN KEY (block_id) REFERENCES dbstress.block (id)"),
    constraint("assignment", "assignment_person", "FOREIGN KEY (person_id) REFERENCES dbstress.person (id)"),
    constraint(
        "assignment",
        "assignment_template",
        "FOREIGN KEY (rotation_template_id) REFERENCES dbstress.rotation_template (id)",
    ),
    constraint("assignment_unguarded", "assignment_unguarded_block", "FOREIGN KEY (block_id) REFERENCES dbstress.block (id)"),
    constraint("assignment_unguarded", "assignment_unguarded_person", "FOREIGN KEY (person_id) REFERENCES dbstress.person (id)"),
    constraint(
        "assignment_unguarded",
        "assignment_unguarded_template",
        "FOREIGN KEY (rotation_template_id) REFERENCES dbstress.rotation_template (id)",
    ),
    constraint("call_assignment", "call_assignment_person", "FOREIGN KEY (person_id) REFERENCES dbstress.person (id)"),
    constraint("extra_duty", "extra_duty_person", "FOREIGN KEY (person_id) REFERENCES dbstress.person (id)"),
    constraint("absence", "absence_person", "FOREIGN KEY (person_id) REFERENCES dbstress.person (id)"),
];

impl Constraint {
    /// Whether it is a foreign key.
    pub fn is_foreign_key(&self) -> bool {
        self.definition.starts_with("FOREIGN KEY")
    }

    fn add(&self) -> String {
        let Self { table, name, definition, .. } = self;
        match self.kind {
            Kind::Constraint => format!("ALTER TABLE dbstress.{table} ADD CONSTRAINT {name} {definition}"),
            Kind::Index => format!("CREATE INDEX {name} ON dbstress.{table} {definition}"),
            Kind::UniqueIndex => format!("CREATE UNIQUE INDEX {name} ON dbstress.{table} {definition}"),
        }
    }

    fn remove(&self) -> String {
        match self.kind {
            Kind::Constraint => format!("ALTER TABLE dbstress.{} DROP CONSTRAINT IF EXISTS {}", self.table, self.name),
            Kind::Index | Kind::UniqueIndex => format!("DROP INDEX IF EXISTS dbstress.{}", self.name),
        }
    }
}

/// Takes all of them off, those that are there.
pub(super) async fn remove(session: &mut Session) -> Result<()> {
    // "does not exist, skipping" is what we asked for; the server need not say so.
    session.execute("SET client_min_messages = warning").await?;
    let statements: Vec<String> = all().rev().map(Constraint::remove).collect();
    session.execute(&statements.join("; ")).await?;
    Ok(())
}

/// Adds all of them. `done` is told how many are made, of how many.
pub(super) async fn add(session: &mut Session, done: impl Fn(usize, usize)) -> Result<()> {
    let in_all = all().count();
    for (count, constraint) in all().enumerate() {
        done(count, in_all);
        session.execute(&constraint.add()).await.map_err(|e| {
            let what = format!("{} could not be added to dbstress.{}", constraint.name, constraint.table);
            Error::inconclusive(what).because(e).cure("dbstress seed --reset")
        })?;
    }
    done(in_all, in_all);
    Ok(())
}
