//! Which rows does a dataset have? Pure: a row is a function of rng_seed, table and row number, so any batch can be made alone, anywhere.
//!
//! The mapping is our own and integer only (SplitMix64 and multiply-shift): libraries change their streams between versions, floating point
//! differs between platforms, and a data hash has to stay the same for years.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::encode::{Encoder, Part};
use super::{ROWS_MAX, Spec, calendar};
use crate::random::Random;
use crate::{Error, Result};

/// Version of the mapping from rng_seed to rows. Anything that changes a data hash raises it: this file, `seed/*.toml`, the batch size.
pub const GENERATOR_VERSION: i32 = 1;

/// Rows that are made, hashed and sent together.
pub const BATCH_ROWS: u64 = 8192;

/// Room for an encoded batch: a row of the widest table takes about 175 bytes.
pub(super) const BATCH_BYTES: usize = BATCH_ROWS as usize * 192;

/// The tables that are filled, in the order in which they refer to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[expect(missing_docs, reason = "named for the table")]
pub enum Table {
    Organisation,
    ServiceCode,
    Patient,
    Practitioner,
    Authorisation,
}

impl Table {
    /// All of them, in order.
    pub const ALL: [Table; 5] =
        [Table::Organisation, Table::ServiceCode, Table::Patient, Table::Practitioner, Table::Authorisation];

    /// Its name in schema `dbstress`.
    pub fn name(self) -> &'static str {
        match self {
            Table::Organisation => "organisation",
            Table::ServiceCode => "service_code",
            Table::Patient => "patient",
            Table::Practitioner => "practitioner",
            Table::Authorisation => "authorisation",
        }
    }

    /// The columns that are sent, in the order in which they are encoded.
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
        }
    }
}

/// A row's place in its replica: which organisation it belongs to and which it is there, both from 0.
#[derive(Debug, Clone, Copy)]
struct Place {
    organisation: usize,
    nth: u64,
}

/// Makes the rows of one dataset, rng_seed and scale.
#[derive(Debug)]
pub struct Generator {
    spec: Spec,
    rng_seed: i64,
    scale: i32,
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
    pub of: &'a super::spec::OrganisationSpec,
}

impl Generator {
    /// A generator for `spec`, `scale` times its base size.
    ///
    /// # Errors
    /// Usage, with the number of rows, when that is none or absurdly many.
    pub fn new(spec: Spec, rng_seed: i64, scale: u64) -> Result<Self> {
        let rows = u128::from(scale) * u128::from(spec.rows_per_replica()) + u128::from(spec.totals.service_codes);
        if scale == 0 {
            return Err(Error::usage("a scale of 0 makes no rows").cure("--scale 1 or more"));
        }
        let scale_max = ROWS_MAX / spec.rows_per_replica();
        if rows > u128::from(ROWS_MAX) || scale > i32::MAX as u64 {
            return Err(Error::usage(format!("scale {scale} would make {rows} rows, more than the {ROWS_MAX} that are allowed"))
                .cure(format!("--scale {} or less", scale_max.min(i32::MAX as u64))));
        }
        let places = |count: &dyn Fn(&super::spec::OrganisationSpec) -> u32| -> Vec<Place> {
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
            let start = spec.as_of_day() - before as i32;
            (start, calendar::add_months(start, spec.authorisation.lasts_months as i32))
        });
        Ok(Self {
            patients: places(&|o| o.patients),
            practitioners: places(&|o| o.practitioners),
            authorisations,
            first_patient: first_patient.collect(),
            periods: periods.collect(),
            scale: scale as i32,
            rng_seed,
            spec,
        })
    }

    /// The specification.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The number that the rows are made from.
    pub fn rng_seed(&self) -> i64 {
        self.rng_seed
    }

    /// How many times the base size.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// Rows of one replica of a table.
    fn base(&self, table: Table) -> u64 {
        let base = match table {
            Table::Organisation => self.spec.organisations.len(),
            Table::ServiceCode => self.spec.service_codes.len(),
            Table::Patient => self.patients.len(),
            Table::Practitioner => self.practitioners.len(),
            Table::Authorisation => self.authorisations.len(),
        };
        base as u64
    }

    /// Rows of a table.
    pub fn rows(&self, table: Table) -> u64 {
        match table {
            Table::ServiceCode => self.base(table),
            _ => self.base(table) * self.scale as u64,
        }
    }

    /// Rows of all tables.
    pub fn rows_in_all(&self) -> u64 {
        Table::ALL.iter().map(|t| self.rows(*t)).sum()
    }

    /// Batches of a table; all but the last have [`BATCH_ROWS`] rows.
    pub fn batches(&self, table: Table) -> u64 {
        self.rows(table).div_ceil(BATCH_ROWS)
    }

    /// The row numbers, from 0, of a batch.
    pub fn rows_of(&self, table: Table, batch: u64) -> Range<u64> {
        let rows = self.rows(table);
        (batch * BATCH_ROWS).min(rows)..((batch + 1) * BATCH_ROWS).min(rows)
    }

    /// Batches of all tables: the pieces that connections share out.
    pub fn pieces(&self) -> u64 {
        Table::ALL.iter().map(|t| self.batches(*t)).sum()
    }

    /// Table and batch of a piece; pieces are in order of table and batch.
    pub fn piece(&self, mut piece: u64) -> Option<(Table, u64)> {
        for table in Table::ALL {
            let batches = self.batches(table);
            if piece < batches {
                return Some((table, piece));
            }
            piece -= batches;
        }
        None
    }

    /// Appends rows (numbered from 0) in binary COPY format. Concatenating ranges gives the same bytes as one range over all of them.
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
            }
        }
    }

    /// One batch of rows in binary COPY format.
    pub fn batch(&self, table: Table, batch: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(table, self.rows_of(table, batch), &mut out);
        out
    }

    /// The data hash, computed without a database: SHA-256 in hexadecimal. See [`Generator::combine`].
    pub fn data_hash(&self) -> String {
        let pieces = (0..self.pieces()).filter_map(|piece| self.piece(piece));
        let digests: Vec<[u8; 32]> = pieces.map(|(table, batch)| Sha256::digest(self.batch(table, batch)).into()).collect();
        self.combine(&digests)
    }

    /// The data hash from the SHA-256 of each piece, in order: of each table its name, a zero byte, the number of its rows (64 bits, big-endian)
    /// and the hashes of its batches. So it depends neither on the number of connections nor on who made which batch.
    pub fn combine(&self, digests: &[[u8; 32]]) -> String {
        let mut hash = Sha256::new();
        let mut digests = digests.iter();
        for table in Table::ALL {
            hash.update(table.name());
            hash.update([0]);
            hash.update(self.rows(table).to_be_bytes());
            for digest in digests.by_ref().take(self.batches(table) as usize) {
                hash.update(digest);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
            .date(self.spec.as_of_day() - age as i32)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn generator(rng_seed: i64, scale: u64) -> Generator {
        Generator::new(Spec::built_in("clinic").unwrap(), rng_seed, scale).unwrap()
    }

    #[test]
    fn golden_hash() {
        let hash = generator(42, 1).data_hash();
        assert_eq!(
            hash, "368629318bec85f7113668bd32e6bad7b31079ab24b374faf67241c9e2752789",
            "the rows changed: raise GENERATOR_VERSION, then write this hash here"
        );
        assert_ne!(generator(43, 1).data_hash(), hash);
        assert_ne!(generator(42, 2).data_hash(), hash);
    }

    #[test]
    fn absurd_scales_are_refused_with_the_number_of_rows() {
        let refused = |scale| Generator::new(Spec::built_in("clinic").unwrap(), 1, scale).expect_err("refused").to_string();
        assert!(refused(0).contains("scale of 0"));
        assert!(refused(20_000_000).contains("1760000005 rows"), "{}", refused(20_000_000));
        assert!(refused(u64::MAX).contains("rows"));
        assert_eq!(generator(1, ROWS_MAX / 88 - 1).rows(Table::Organisation), 3 * (ROWS_MAX / 88 - 1));
    }

    #[test]
    fn pieces_are_all_batches_in_order() {
        let generator = generator(7, 500);
        let pieces: Vec<_> = (0..generator.pieces()).map(|p| generator.piece(p).unwrap()).collect();
        assert!(pieces.is_sorted());
        assert_eq!(pieces.iter().collect::<HashSet<_>>().len(), pieces.len());
        assert_eq!(generator.piece(generator.pieces()), None);
        let rows: u64 = pieces.iter().map(|(t, b)| generator.rows_of(*t, *b)).map(|r| r.end - r.start).sum();
        assert_eq!(rows, generator.rows_in_all());
    }

    #[test]
    fn a_batch_fits_the_room_reserved_for_it() {
        let generator = generator(42, 400);
        assert!(Table::ALL.iter().all(|t| generator.batch(*t, 0).len() < BATCH_BYTES));
    }

    proptest! {
        #[test]
        fn a_batch_made_alone_equals_its_slice_of_the_whole(rng_seed in 0..i64::MAX, scale in 1u64..400, table in 0usize..5, batch in 0u64..4) {
            let (generator, table) = (generator(rng_seed, scale), Table::ALL[table]);
            let mut whole = Vec::new();
            generator.encode(table, 0..generator.rows(table), &mut whole);
            let mut before = Vec::new();
            let rows = generator.rows_of(table, batch);
            generator.encode(table, 0..rows.start, &mut before);
            let alone = generator.batch(table, batch);
            prop_assert_eq!(&whole[before.len()..before.len() + alone.len()], &alone[..]);
        }
    }
}
