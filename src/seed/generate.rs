//! Which rows does a dataset have? Pure: a row is a function of rng_seed, table, row number and variant, so any batch can be made alone, anywhere.
//!
//! The mapping is our own and integer only (SplitMix64 and multiply-shift): libraries change their streams between versions, floating point
//! differs between platforms, and a data hash has to stay the same for years.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::calendar::AsOf;
use super::clinic::Clinic;
use super::residency::{Figures, Residency};
use super::{Dataset, ROWS_MAX, Table};
use crate::{Error, Result};

/// Version of the mapping from rng_seed to rows. Anything that changes a data hash raises it: this file, the datasets, `seed/*.toml`, the batch size.
pub const GENERATOR_VERSION: i32 = 1;

/// Rows that are made, hashed and sent together.
pub const BATCH_ROWS: u64 = 8192;

/// Room for an encoded batch: a row of the widest of the large tables takes about 175 bytes.
pub(super) const BATCH_BYTES: usize = BATCH_ROWS as usize * 192;

/// Makes the rows of one dataset, rng_seed, scale and variant.
#[derive(Debug)]
pub struct Generator {
    rng_seed: i64,
    scale: i32,
    of: Of,
}

/// The datasets, as makers of rows.
#[derive(Debug)]
pub(super) enum Of {
    Clinic(Box<Clinic>),
    Residency(Box<Residency>),
}

impl Generator {
    /// A generator for a dataset, `scale` times its base size; `figures` are the residency's.
    ///
    /// # Errors
    /// Usage, with the number of rows, when that is none or absurdly many; for figures that the dataset does not have; and as
    /// [`Residency::new`].
    pub fn new(dataset: Dataset, rng_seed: i64, scale: u64, figures: &Figures) -> Result<Self> {
        if scale == 0 {
            return Err(Error::usage("a scale of 0 makes no rows").cure("--scale 1 or more"));
        }
        let of = match dataset {
            Dataset::Clinic => {
                if let Some(flag) = figures.given().first() {
                    return Err(Error::usage(format!("the dataset clinic has no {flag}"))
                        .cure(format!("leave out {flag}, or --dataset residency")));
                }
                Of::Clinic(Box::new(Clinic::new(rng_seed, scale)?))
            }
            Dataset::Residency => Of::Residency(Box::new(Residency::new(rng_seed, scale, figures)?)),
        };
        Ok(Self { rng_seed, scale: scale as i32, of })
    }

    /// Which dataset it makes.
    pub fn dataset(&self) -> Dataset {
        match &self.of {
            Of::Clinic(_) => Dataset::Clinic,
            Of::Residency(_) => Dataset::Residency,
        }
    }

    /// The number that the rows are made from.
    pub fn rng_seed(&self) -> i64 {
        self.rng_seed
    }

    /// How many times the base size.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// What makes it another dataset than the plain one, as the flags that ask for it; `None` = it is the plain one.
    pub fn variant(&self) -> Option<&str> {
        match &self.of {
            Of::Clinic(_) => None,
            Of::Residency(residency) => residency.variant(),
        }
    }

    /// The clock of the domain.
    pub fn as_of(&self) -> AsOf {
        match &self.of {
            Of::Clinic(clinic) => clinic.spec().as_of,
            Of::Residency(residency) => residency.spec().as_of,
        }
    }

    /// What makes the rows.
    pub(super) fn of(&self) -> &Of {
        &self.of
    }

    /// The residency, if it is what is made.
    pub fn residency(&self) -> Option<&Residency> {
        match &self.of {
            Of::Clinic(_) => None,
            Of::Residency(residency) => Some(residency),
        }
    }

    /// The tables that are filled, in order.
    pub fn tables(&self) -> &'static [Table] {
        Table::of(self.dataset())
    }

    /// Rows of a table; 0 for those of another dataset.
    pub fn rows(&self, table: Table) -> u64 {
        match &self.of {
            _ if !self.tables().contains(&table) => 0,
            Of::Clinic(clinic) => clinic.rows(table),
            Of::Residency(residency) => residency.rows(table),
        }
    }

    /// Rows of all tables.
    pub fn rows_in_all(&self) -> u64 {
        self.tables().iter().map(|t| self.rows(*t)).sum()
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
        self.tables().iter().map(|t| self.batches(*t)).sum()
    }

    /// Table and batch of a piece; pieces are in order of table and batch.
    pub fn piece(&self, mut piece: u64) -> Option<(Table, u64)> {
        for table in self.tables() {
            let batches = self.batches(*table);
            if piece < batches {
                return Some((*table, piece));
            }
            piece -= batches;
        }
        None
    }

    /// Appends rows (numbered from 0) in binary COPY format. Concatenating ranges gives the same bytes as one range over all of them.
    pub fn encode(&self, table: Table, rows: Range<u64>, out: &mut Vec<u8>) {
        match &self.of {
            _ if rows.is_empty() => {}
            Of::Clinic(clinic) => clinic.encode(table, rows, out),
            Of::Residency(residency) => residency.encode(table, rows, out),
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
        for table in self.tables() {
            hash.update(table.name());
            hash.update([0]);
            hash.update(self.rows(*table).to_be_bytes());
            for digest in digests.by_ref().take(self.batches(*table) as usize) {
                hash.update(digest);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Refuses a scale at which a dataset would have absurdly many rows: `fixed` and, at each step of the scale, `each`.
pub(super) fn check_scale(scale: u64, each: u64, fixed: u64) -> Result<()> {
    let rows = u128::from(scale) * u128::from(each) + u128::from(fixed);
    if rows > u128::from(ROWS_MAX) || scale > i32::MAX as u64 {
        let error = Error::usage(format!("scale {scale} would make {rows} rows, more than the {ROWS_MAX} that are allowed"));
        return Err(match (ROWS_MAX / each).min(i32::MAX as u64) {
            0 => error.cure("fewer --days or --residents"),
            most => error.cure(format!("--scale {most} or less")),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn clinic(rng_seed: i64, scale: u64) -> Generator {
        Generator::new(Dataset::Clinic, rng_seed, scale, &Figures::default()).unwrap()
    }

    fn residency(rng_seed: i64, scale: u64) -> Generator {
        let figures = Figures { plant: Some("all".into()), ..Figures::default() };
        Generator::new(Dataset::Residency, rng_seed, scale, &figures).unwrap()
    }

    #[test]
    fn golden_hash() {
        let hash = clinic(42, 1).data_hash();
        assert_eq!(
            hash, "368629318bec85f7113668bd32e6bad7b31079ab24b374faf67241c9e2752789",
            "the rows changed: raise GENERATOR_VERSION, then write this hash here"
        );
        assert_ne!(clinic(43, 1).data_hash(), hash);
        assert_ne!(clinic(42, 2).data_hash(), hash);
    }

    #[test]
    fn absurd_scales_are_refused_with_the_number_of_rows() {
        let refused = |dataset, scale| Generator::new(dataset, 1, scale, &Figures::default()).expect_err("refused").to_string();
        for dataset in Dataset::ALL {
            assert!(refused(dataset, 0).contains("scale of 0"));
            assert!(refused(dataset, u64::MAX).contains("rows"));
        }
        assert!(refused(Dataset::Clinic, 20_000_000).contains("1760000005 rows"), "{}", refused(Dataset::Clinic, 20_000_000));
        assert!(refused(Dataset::Residency, 1_000_000).contains("--scale "), "{}", refused(Dataset::Residency, 1_000_000));
        assert_eq!(clinic(1, ROWS_MAX / 88 - 1).rows(Table::Organisation), 3 * (ROWS_MAX / 88 - 1));
    }

    #[test]
    fn pieces_are_all_batches_in_order() {
        for generator in [clinic(7, 500), residency(7, 5)] {
            let pieces: Vec<_> = (0..generator.pieces()).map(|p| generator.piece(p).unwrap()).collect();
            assert!(pieces.is_sorted());
            assert_eq!(pieces.iter().collect::<HashSet<_>>().len(), pieces.len());
            assert_eq!(generator.piece(generator.pieces()), None);
            let rows: u64 = pieces.iter().map(|(t, b)| generator.rows_of(*t, *b)).map(|r| r.end - r.start).sum();
            assert_eq!(rows, generator.rows_in_all());
        }
    }

    #[test]
    fn a_batch_fits_the_room_reserved_for_it() {
        for generator in [clinic(42, 400), residency(42, 30)] {
            assert!(generator.tables().iter().all(|t| generator.batch(*t, 0).len() < BATCH_BYTES));
        }
    }

    proptest! {
        #[test]
        fn a_batch_made_alone_equals_its_slice_of_the_whole(rng_seed in 0..i64::MAX, scale in 1u64..400, table in 0usize..17, batch in 0u64..4) {
            let table = Table::ALL[table];
            let generator = if clinic(1, 1).tables().contains(&table) { clinic(rng_seed, scale) } else { residency(rng_seed, scale % 4 + 1) };
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
