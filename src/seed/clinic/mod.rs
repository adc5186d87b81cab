//! Which rows has the clinic? Authorisations of therapy units, who holds them and who books: as many as `seed/clinic.toml` says.

pub mod spec;

use std::ops::Range;

use self::spec::Spec;
use super::calendar;
use super::encode::{Encoder, Part};
use super::generate::check_scale;
use super::table::Table;
use crate::Result;
use crate::random::Random;

/// A row's place in its replica: which organisation it belongs to and which it is there, both from 0.
#[derive(Debug, Clone, Copy)]
struct Place {
    organisation: usize,
    nth: u64,
}

/// Makes the rows of one rng_seed and scale.
#[derive(Debug)]
pub struct Clinic {
    spec: Spec,
    rng_seed: i64,
    scale: u64,
    patients: Vec<Place>,
    practitioners: Vec<Place>,
    /// With the total of each.
    authorisations: Vec<(Place, i32)>,
    /// Number of the first patient of each organisation in its replica, from 0.
    first_patient: Vec<u64>,
    /// Start and end, by days before `as_of`.
    periods: Vec<(i32, i32)>,
}

/// An organisation, as the fixture shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrganisationRow<'a> {
    pub id: i64,
    pub place: &'a str,
    pub kind: &'a str,
    pub of: &'a spec::OrganisationSpec,
}

impl Clinic {
    /// The clinic, `scale` times its base size.
    ///
    /// # Errors
    /// Usage, with the number of rows, when they are absurdly many.
    pub fn new(rng_seed: i64, scale: u64) -> Result<Self> {
        let spec = Spec::built_in()?;
        check_scale(scale, spec.rows_per_replica(), spec.totals.service_codes.into())?;
        let places = |count: &dyn Fn(&spec::OrganisationSpec) -> u32| -> Vec<Place> {
            let each = spec.organisations.iter().enumerate();
            each.flat_map(|(organisation, o)| (0..u64::from(count(o))).map(move |nth| Place { organisation, nth })).collect()
        };
        let authorisations = places(&|o| o.authorisations.iter().sum())
            .into_iter()
            .map(|place| {
                let mut end = 0;
                let class = spec.organisations[place.organisation].authorisations.iter().position(|n| {
                    end += u64::from(*n);
                    place.nth < end
                });
                (place, class.map_or(0, |class| spec.unit_classes[class].total))
            })
            .collect();
        let first_patient = spec.organisations.iter().scan(0, |next, o| {
            let first = *next;
            *next += u64::from(o.patients);
            Some(first)
        });
        let periods = (0..=spec.authorisation.starts_days_before).map(|before| {
            let start = spec.as_of.day() - before as i32;
            (start, calendar::add_months(start, spec.authorisation.lasts_months as i32))
        });
        Ok(Self {
            patients: places(&|o| o.patients),
            practitioners: places(&|o| o.practitioners),
            authorisations,
            first_patient: first_patient.collect(),
            periods: periods.collect(),
            scale,
            rng_seed,
            spec,
        })
    }

    /// The specification.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Rows of one replica of a table.
    fn base(&self, table: Table) -> u64 {
        let base = match table {
            Table::Organisation => self.spec.organisations.len(),
            Table::ServiceCode => self.spec.service_codes.len(),
            Table::Patient => self.patients.len(),
            Table::Practitioner => self.practitioners.len(),
            Table::Authorisation => self.authorisations.len(),
            _ => 0,
        };
        base as u64
    }

    /// Rows of a table.
    pub fn rows(&self, table: Table) -> u64 {
        match table {
            Table::ServiceCode => self.base(table),
            _ => self.base(table) * self.scale,
        }
    }

    /// Appends rows (numbered from 0) in binary COPY format.
    pub fn encode(&self, table: Table, rows: Range<u64>, out: &mut Vec<u8>) {
        let mut to = Encoder::new(out);
        let fields = table.columns().len();
        for row in rows {
            to.row(fields);
            let rng = Random::of(self.rng_seed as u64, table as u64, row);
            match table {
                Table::Organisation => self.organisation_row(row, &mut to),
                Table::ServiceCode => self.service_code_row(row, &mut to),
                Table::Patient => self.patient_row(row, rng, &mut to),
                Table::Practitioner => self.practitioner_row(row, rng, &mut to),
                Table::Authorisation => self.authorisation_row(row, rng, &mut to),
                _ => {}
            }
        }
    }

    pub(super) fn organisation(&self, row: u64) -> OrganisationRow<'_> {
        let of = &self.spec.organisations[(row % self.base(Table::Organisation)) as usize];
        let mut rng = Random::of(self.rng_seed as u64, Table::Organisation as u64, row);
        let kind = match &*of.kind {
            "HOSPITAL" => "Hospital",
            "PRIVATE_PRACTICE" => "Practice",
            _ => "Clinic",
        };
        OrganisationRow { id: row as i64 + 1, place: pick(&mut rng, &self.spec.words.places), kind, of }
    }

    /// Practitioner and organisation, by their ids.
    pub(super) fn practitioner(&self, row: u64) -> (i64, i64) {
        let (replica, place) = self.locate(&self.practitioners, row);
        (row as i64 + 1, self.organisation_id(replica, place))
    }

    /// Authorisation and organisation, by their ids, and the units authorised.
    pub(super) fn authorisation(&self, row: u64) -> (i64, i64, i32) {
        let base = self.authorisations.len() as u64;
        let (place, total) = self.authorisations[(row % base) as usize];
        (row as i64 + 1, self.organisation_id(row / base, place), total)
    }

    fn locate(&self, places: &[Place], row: u64) -> (u64, Place) {
        let base = places.len() as u64;
        (row / base, places[(row % base) as usize])
    }

    fn organisation_id(&self, replica: u64, place: Place) -> i64 {
        (replica * self.base(Table::Organisation) + place.organisation as u64 + 1) as i64
    }

    fn organisation_row(&self, row: u64, to: &mut Encoder) {
        let organisation = self.organisation(row);
        to.bigint(organisation.id)
            .parts(&organisation.name())
            .text(&organisation.of.kind)
            .text(&organisation.of.tier)
            .text("ACTIVE");
    }

    fn service_code_row(&self, row: u64, to: &mut Encoder) {
        let code = &self.spec.service_codes[row as usize];
        to.bigint(row as i64 + 1)
            .null()
            .text(&code.code)
            .text(&code.description)
            .text(&code.category)
            .text(&code.required_credential)
            .integer(code.typical_minutes);
    }

    fn patient_row(&self, row: u64, mut rng: Random, to: &mut Encoder) {
        let (replica, place) = self.locate(&self.patients, row);
        let organisation = self.organisation_id(replica, place);
        let ages = &self.spec.patient;
        let age = ages.youngest_days as u64 + rng.below(u64::from(ages.oldest_days - ages.youngest_days) + 1);
        to.bigint(row as i64 + 1)
            .bigint(organisation)
            .text(pick(&mut rng, &self.spec.words.given_names))
            .text(pick(&mut rng, &self.spec.words.family_names))
            .date(self.spec.as_of.day() - age as i32)
            .parts(&[Part::Text("MRN-"), Part::Number(organisation as u64), Part::Text("-"), Part::Six(place.nth + 1)]);
    }

    fn practitioner_row(&self, row: u64, mut rng: Random, to: &mut Encoder) {
        let (replica, place) = self.locate(&self.practitioners, row);
        let organisation = self.organisation_id(replica, place);
        let credentials = &self.spec.words.credentials;
        let credential = &credentials[(place.nth % credentials.len() as u64) as usize];
        to.bigint(row as i64 + 1)
            .bigint(organisation)
            .text(pick(&mut rng, &self.spec.words.given_names))
            .text(pick(&mut rng, &self.spec.words.family_names))
            .text(credential)
            .parts(&[
                Part::Text(credential),
                Part::Text("-"),
                Part::Number(organisation as u64),
                Part::Text("-"),
                Part::Six(place.nth + 1),
            ]);
    }

    fn authorisation_row(&self, row: u64, mut rng: Random, to: &mut Encoder) {
        let base = self.authorisations.len() as u64;
        let (place, total) = self.authorisations[(row % base) as usize];
        let replica = row / base;
        let organisation = self.organisation_id(replica, place);
        let patients = u64::from(self.spec.organisations[place.organisation].patients);
        let patient = replica * self.patients.len() as u64 + self.first_patient[place.organisation] + rng.below(patients);
        let service_code = rng.below(self.base(Table::ServiceCode));
        let (start, end) = self.periods[rng.below(self.periods.len() as u64) as usize];
        to.bigint(row as i64 + 1)
            .bigint(organisation)
            .bigint(patient as i64 + 1)
            .bigint(service_code as i64 + 1)
            .parts(&[
                Part::Text("AUTH-"),
                Part::Number(organisation as u64),
                Part::Text("-"),
                Part::Number(total as u64),
                Part::Text("-"),
                Part::Six(place.nth + 1),
            ])
            .integer(total)
            .integer(0)
            .integer(0)
            .date(start)
            .date(end)
            .text("ACTIVE")
            .bigint(0)
            .boolean(false)
            .null();
    }
}

impl<'a> OrganisationRow<'a> {
    /// Its name; the number makes it unique.
    pub(super) fn name(&self) -> [Part<'a>; 5] {
        [Part::Text(self.place), Part::Text(" "), Part::Text(self.kind), Part::Text(" "), Part::Number(self.id as u64)]
    }
}

fn pick<'a>(rng: &mut Random, words: &'a [String]) -> &'a str {
    &words[rng.below(words.len() as u64) as usize]
}
