//! What does the residency consist of? The figures of `seed/residency.toml`, read and checked.

use serde::Deserialize;
use toml::value::Datetime;

use crate::seed::calendar::{self, AsOf};
use crate::{Error, Result};

const RESIDENCY: &str = include_str!("../../../seed/residency.toml");

/// The dataset at scale 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name.
    pub dataset: String,
    /// The clock of the domain.
    pub as_of: AsOf,
    starts_on: Datetime,
    /// Days that are scheduled.
    pub days: u32,
    /// Residents of a programme.
    pub residents: u32,
    /// How many of a hundred residents are in their first, second and third year.
    pub percent_by_year: [u32; 3],
    /// Faculty for a hundred residents.
    pub faculty_percent: u32,
    /// Residents that share a template, at most.
    pub residents_per_template: u32,
    /// Room of a template in one half day.
    pub max_residents: u32,
    /// What is done in half days.
    pub templates: Vec<TemplateSpec>,
    /// Words that names are made of.
    pub words: Words,
}

/// What is done in a half day.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// Its name.
    pub name: String,
    /// As it is written into a plan.
    pub abbreviation: String,
    /// clinic, inpatient, procedure or conference: all of them duty.
    pub activity: String,
}

/// Words that names are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "lists of words, named for their use")]
pub struct Words {
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
        Self::parse(RESIDENCY)
    }

    /// Reads and checks a specification.
    ///
    /// # Errors
    /// Usage, with line and column, for what TOML or the format forbids; with the figures where they do not go together.
    pub fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text).map_err(|e| Error::usage("the dataset specification cannot be read").because(e))?;
        spec.check()
            .map_err(|what| Error::usage(format!("the specification of dataset `{}` is not usable: {what}", spec.dataset)))?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let start = &self.starts_on;
        if start.date.is_none() || start.time.is_some() {
            return Err("starts_on must be a date, such as 2026-01-05".into());
        }
        if weekday(self.starts_on()) != 0 {
            return Err("starts_on must be a Monday: days off are counted from it".into());
        }
        if self.percent_by_year.iter().sum::<u32>() != 100 {
            return Err(format!("percent_by_year adds up to {}, not to 100", self.percent_by_year.iter().sum::<u32>()));
        }
        if self.residents_per_template == 0 || self.residents_per_template > self.max_residents {
            return Err("residents_per_template must be 1 to max_residents".into());
        }
        if self.templates.iter().any(|t| !["clinic", "inpatient", "procedure", "conference"].contains(&&*t.activity)) {
            return Err("the activity of every template must be duty: clinic, inpatient, procedure or conference".into());
        }
        for (name, list) in [
            ("templates", self.templates.len()),
            ("words.given_names", self.words.given_names.len()),
            ("words.family_names", self.words.family_names.len()),
            ("words.places", self.words.places.len()),
        ] {
            if list == 0 {
                return Err(format!("{name} is empty"));
            }
        }
        Ok(())
    }

    /// The first day, as days since 2000-01-01.
    pub fn starts_on(&self) -> i32 {
        self.starts_on.date.map_or(0, |d| calendar::days(d.year.into(), d.month.into(), d.day.into()))
    }
}

/// Day of the week, Monday = 0. 2000-01-01 was a Saturday.
fn weekday(day: i32) -> i32 {
    (day + 5).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_refused() {
        let refused = |from: &str, to: &str| {
            assert!(RESIDENCY.contains(from), "{from}");
            Spec::parse(&RESIDENCY.replacen(from, to, 1)).expect_err("must be refused").to_string()
        };
        assert!(refused("2026-01-05", "2026-01-06").contains("Monday"));
        assert!(refused("[40, 35, 25]", "[40, 35, 35]").contains("110"));
        assert!(refused("\"conference\" }", "\"off\" }").contains("duty"));
        assert!(refused("residents_per_template = 5", "residents_per_template = 9").contains("max_residents"));
        assert!(refused("12:00:00Z", "12:00:00+01:00").contains("UTC"));
        assert!(refused("residents = 100", "resident = 100").contains("line"), "unknown keys name their place");
    }
}
