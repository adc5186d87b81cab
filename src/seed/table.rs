//! Which tables does a dataset fill, and which of their columns? Both datasets' tables are in every database; a seed fills those of one.

use super::Dataset;

/// A table that is filled. The order is the one in which they refer to each other; the number of a table is its stream of random choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[expect(missing_docs, reason = "named for the table")]
pub enum Table {
    Organisation,
    ServiceCode,
    Patient,
    Practitioner,
    Authorisation,
    Programme,
    Person,
    Block,
    RotationTemplate,
    Assignment,
    AssignmentUnguarded,
    CallAssignment,
    ExtraDuty,
    Absence,
    ScheduleRun,
    ExpectedViolation,
    PlantedRow,
}

impl Table {
    /// All of them, in order.
    pub const ALL: [Table; 17] = [
        Table::Organisation,
        Table::ServiceCode,
        Table::Patient,
        Table::Practitioner,
        Table::Authorisation,
        Table::Programme,
        Table::Person,
        Table::Block,
        Table::RotationTemplate,
        Table::Assignment,
        Table::AssignmentUnguarded,
        Table::CallAssignment,
        Table::ExtraDuty,
        Table::Absence,
        Table::ScheduleRun,
        Table::ExpectedViolation,
        Table::PlantedRow,
    ];

    /// Those of a dataset, in order.
    pub fn of(dataset: Dataset) -> &'static [Table] {
        let (clinic, residency) = Self::ALL.split_at(Table::Programme as usize);
        match dataset {
            Dataset::Clinic => clinic,
            Dataset::Residency => residency,
        }
    }

    /// Its name in schema `dbstress`.
    pub fn name(self) -> &'static str {
        match self {
            Table::Organisation => "organisation",
            Table::ServiceCode => "service_code",
            Table::Patient => "patient",
            Table::Practitioner => "practitioner",
            Table::Authorisation => "authorisation",
            Table::Programme => "programme",
            Table::Person => "person",
            Table::Block => "block",
            Table::RotationTemplate => "rotation_template",
            Table::Assignment => "assignment",
            Table::AssignmentUnguarded => "assignment_unguarded",
            Table::CallAssignment => "call_assignment",
            Table::ExtraDuty => "extra_duty",
            Table::Absence => "absence",
            Table::ScheduleRun => "schedule_run",
            Table::ExpectedViolation => "expected_violation",
            Table::PlantedRow => "planted_row",
        }
    }

    /// The columns that are sent, in the order in which they are encoded; the others have their defaults.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Table::Organisation => &["id", "name", "kind", "tier", "status"],
            Table::ServiceCode => {
                &["id", "organisation_id", "code", "description", "category", "required_credential", "typical_minutes"]
            }
            Table::Patient => &["id", "organisation_id", "given_name", "family_name", "date_of_birth", "medical_record_number"],
            Table::Practitioner => &["id", "organisation_id", "given_name", "family_name", "credential", "licence_number"],
            Table::Authorisation => &[
                "id",
                "organisation_id",
                "patient_id",
                "service_code_id",
                "number",
                "total",
                "used",
                "scheduled",
                "start_date",
                "end_date",
                "status",
                "version",
                "guarded",
                "run_id",
            ],
            Table::Programme => &["id", "name"],
            Table::Person => &[
                "id",
                "programme_id",
                "given_name",
                "family_name",
                "email",
                "kind",
                "pgy",
                "target_clinical_blocks",
                "performs_procedures",
            ],
            Table::Block => &["id", "programme_id", "date", "half", "number", "is_weekend"],
            Table::RotationTemplate => &["id", "programme_id", "name", "abbreviation", "activity", "max_residents"],
            Table::Assignment | Table::AssignmentUnguarded => &["id", "block_id", "person_id", "rotation_template_id", "role"],
            Table::CallAssignment => &["id", "person_id", "night", "kind", "starts_at", "ends_at"],
            Table::ExtraDuty => &["id", "person_id", "starts_at", "ends_at", "kind"],
            Table::Absence => &["id", "person_id", "starts_on", "ends_on", "kind"],
            Table::ScheduleRun => &["id", "programme_id", "starts_on", "ends_on", "algorithm", "status", "assignments"],
            Table::ExpectedViolation => &[
                "plant",
                "label",
                "rules",
                "rule",
                "person_id",
                "block_id",
                "rotation_template_id",
                "measured",
                "severity",
                "detail",
            ],
            Table::PlantedRow => &["plant", "label", "relation", "row", "is_planted"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_belongs_to_one_dataset() {
        let parts: Vec<Table> = Dataset::ALL.into_iter().flat_map(|d| Table::of(d).iter().copied()).collect();
        assert_eq!(parts, Table::ALL);
        assert!(Table::ALL.iter().enumerate().all(|(n, t)| *t as usize == n));
    }
}
