//! What does the clinic consist of? The figures of `seed/clinic.toml`, read and checked.

use crate::seed::calendar::{self, AsOf};
use crate::{Error, Result};
use serde::Deserialize;

const CLINIC: &str = include_str!("../../../seed/clinic.toml");

/// A dataset at scale 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name.
    pub dataset: String,
    /// The clock of the domain.
    pub as_of: AsOf,
    /// What the lists must add up to.
    pub totals: Totals,
    /// The sizes of authorisations.
    #[serde(rename = "unit_class")]
    pub unit_classes: Vec<UnitClass>,
    /// When authorisations hold.
    pub authorisation: AuthorisationSpec,
    /// How old patients are.
    pub patient: PatientSpec,
    /// The organisations of one replica.
    #[serde(rename = "organisation")]
    pub organisations: Vec<OrganisationSpec>,
    /// The service codes; global, not repeated by scale.
    #[serde(rename = "service_code")]
    pub service_codes: Vec<ServiceCode>,
    /// Words that names are made of.
    pub words: Words,
}

/// Rows at scale 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the number of rows of the table of that name")]
pub struct Totals {
    pub organisations: u32,
    pub patients: u32,
    pub practitioners: u32,
    pub authorisations: u32,
    pub service_codes: u32,
}

/// Authorisations of one size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitClass {
    /// Units authorised by each.
    pub total: i32,
    /// How many there are, in all organisations together.
    pub authorisations: u32,
    /// Whether these are the rows that scenarios contend over.
    #[serde(default)]
    pub high_contention: bool,
}

/// When authorisations hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorisationSpec {
    /// The earliest start, in days before `as_of`; the latest is `as_of` itself.
    pub starts_days_before: u32,
    /// Calendar months from start to end.
    pub lasts_months: u32,
}

/// How old patients are at `as_of`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatientSpec {
    /// In days.
    pub youngest_days: u32,
    /// In days.
    pub oldest_days: u32,
}

/// One organisation of a replica.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganisationSpec {
    /// CLINIC, HOSPITAL or PRIVATE_PRACTICE.
    pub kind: String,
    /// What it subscribes to.
    pub tier: String,
    /// How many patients it has.
    pub patients: u32,
    /// How many practitioners it has.
    pub practitioners: u32,
    /// How many authorisations of each unit class it has.
    pub authorisations: Vec<u32>,
}

/// A service that is billed in units.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceCode {
    /// Billing code.
    pub code: String,
    /// What it is.
    pub description: String,
    /// ASSESSMENT, TREATMENT, SUPERVISION or FAMILY_GUIDANCE.
    pub category: String,
    /// What a practitioner must hold.
    pub required_credential: String,
    /// Usual length in minutes.
    pub typical_minutes: i32,
}

/// Words that names are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "lists of words, named for their use")]
pub struct Words {
    pub credentials: Vec<String>,
    pub given_names: Vec<String>,
    pub family_names: Vec<String>,
    pub places: Vec<String>,
}

impl Spec {
    /// The one that comes with the program.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn built_in() -> Result<Self> {
        Self::parse(CLINIC)
    }

    /// Reads and checks a specification.
    ///
    /// # Errors
    /// Usage, with line and column, for what TOML or the format forbids; with both figures where a sum does not agree.
    pub fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text).map_err(|e| Error::usage("the dataset specification cannot be read").because(e))?;
        spec.check()
            .map_err(|what| Error::usage(format!("the specification of dataset `{}` is not usable: {what}", spec.dataset)))?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let agree = |what: &str, total: u32, parts: u64| match u64::from(total) == parts {
            true => Ok(()),
            false => Err(format!("{what} are given as {total}, but their parts add up to {parts}")),
        };
        let sum = |of: &dyn Fn(&OrganisationSpec) -> u32| self.organisations.iter().map(|o| u64::from(of(o))).sum::<u64>();
        let totals = &self.totals;
        agree("totals.organisations", totals.organisations, self.organisations.len() as u64)?;
        agree("totals.service_codes", totals.service_codes, self.service_codes.len() as u64)?;
        agree("totals.patients", totals.patients, sum(&|o| o.patients))?;
        agree("totals.practitioners", totals.practitioners, sum(&|o| o.practitioners))?;
        agree("totals.authorisations", totals.authorisations, sum(&|o| o.authorisations.iter().sum()))?;
        for organisation in &self.organisations {
            let (classes, given) = (self.unit_classes.len(), organisation.authorisations.len());
            if classes != given {
                return Err(format!("there are {classes} unit classes, but organisation {} lists {given}", organisation.kind));
            }
            if organisation.patients == 0 || organisation.practitioners == 0 {
                return Err(format!("organisation {} needs at least one patient and one practitioner", organisation.kind));
            }
        }
        for (i, class) in self.unit_classes.iter().enumerate() {
            agree(&format!("authorisations of {} units", class.total), class.authorisations, sum(&|o| o.authorisations[i]))?;
            if class.total <= 0 {
                return Err(format!("an authorisation of {} units cannot be booked", class.total));
            }
            if class.high_contention && self.organisations.iter().any(|o| o.authorisations[i] == 0) {
                return Err(format!("every organisation needs an authorisation of the contended class of {} units", class.total));
            }
        }
        if !self.unit_classes.iter().any(|c| c.high_contention) {
            return Err("no unit class is marked high_contention".into());
        }
        if self.patient.youngest_days > self.patient.oldest_days || self.patient.oldest_days > 50_000 {
            return Err("patient.youngest_days must not exceed oldest_days, nor that 50000".into());
        }
        let AuthorisationSpec { starts_days_before, lasts_months } = self.authorisation;
        if starts_days_before > 3650 || !(1..=120).contains(&lasts_months) {
            return Err("authorisation.starts_days_before may be at most 3650, lasts_months 1 to 120".into());
        }
        let first = self.as_of.day() - starts_days_before as i32;
        if calendar::add_months(first, lasts_months as i32) <= self.as_of.day() {
            return Err("the earliest authorisation would have ended by as_of".into());
        }
        let words = &self.words;
        for (name, list) in [
            ("service_code", self.service_codes.len()),
            ("words.credentials", words.credentials.len()),
            ("words.given_names", words.given_names.len()),
            ("words.family_names", words.family_names.len()),
            ("words.places", words.places.len()),
        ] {
            if list == 0 {
                return Err(format!("{name} is empty"));
            }
        }
        Ok(())
    }

    /// Rows of one replica, the global service codes not counted.
    pub(super) fn rows_per_replica(&self) -> u64 {
        let t = &self.totals;
        [t.organisations, t.patients, t.practitioners, t.authorisations].into_iter().map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str, to: &str) -> String {
        assert!(CLINIC.contains(from), "{from} is not in the specification");
        Spec::parse(&CLINIC.replacen(from, to, 1)).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_clinic_is_the_published_one() {
        let spec = Spec::built_in().expect("built in");
        let counts = |of: &dyn Fn(&OrganisationSpec) -> u32| spec.organisations.iter().map(of).collect::<Vec<_>>();
        assert_eq!(counts(&|o| o.patients), [10, 5, 5]);
        assert_eq!(counts(&|o| o.practitioners), [4, 3, 3]);
        assert_eq!(counts(&|o| o.authorisations.iter().sum()), [30, 15, 10]);
        let classes: Vec<_> = spec.unit_classes.iter().map(|c| (c.authorisations, c.total, c.high_contention)).collect();
        assert_eq!(classes, [(10, 50, true), (20, 200, false), (25, 1000, false)]);
        let codes: Vec<_> = spec.service_codes.iter().map(|c| (&*c.code, &*c.required_credential, c.typical_minutes)).collect();
        assert_eq!(
            codes,
            [("97151", "BCBA", 60), ("97153", "RBT", 60), ("97155", "BCBA", 60), ("97156", "BCBA", 60), ("97157", "BCBA", 90)]
        );
        assert_eq!(spec.as_of.rfc3339(), "2026-01-15T12:00:00Z");
    }

    #[test]
    fn a_slip_of_the_finger_is_refused_with_both_figures() {
        let message = refused("patients = 10", "patients = 9");
        assert!(message.contains("20") && message.contains("19"), "{message}");
        assert!(refused("authorisations = [2, 4, 4]", "authorisations = [2, 4, 5]").contains("56"));
        assert!(refused("authorisations = [2, 4, 4]", "authorisations = [2, 5, 3]").contains("200 units"));
        assert!(refused("authorisations = [2, 4, 4]", "authorisations = [2, 8]").contains("lists 2"));
        assert!(refused("12:00:00Z", "12:00:00+01:00").contains("UTC"));
        assert!(refused("lasts_months = 6", "lasts_months = 1").contains("ended"));
        assert!(refused("kind = \"CLINIC\"", "kindd = \"CLINIC\"").contains("line"), "unknown keys name their place");
    }
}
