//! How did what was sampled go up and down? Second by second, in bounded memory however long the run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Intervals that are kept; when there are more, two become one.
pub const MOST_INTERVALS: usize = 600;
/// Different keys of one probe that are kept apart.
pub const MOST_KEYS: usize = 24;
/// What all further keys are called.
pub const OTHER: &str = "other";

/// Samples, put together by intervals of equal length; the first begins with the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// How long each interval is, seconds.
    pub every_s: u32,
    /// By probe and column, `sessions.active`, or probe and key, `waits.IO:WALSync`.
    pub columns: BTreeMap<String, Column>,
}

/// One line of a series, a value for each interval; `None` where there was no sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Mean of the samples.
    pub mean: Vec<Option<f64>>,
    /// The largest; none of keys, which come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub max: Vec<Option<f64>>,
}

/// Sum, largest and number of the samples of an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Cell {
    sum: f64,
    max: f64,
    samples: u32,
}

impl Cell {
    fn add(&mut self, other: Self) {
        self.max = if self.samples == 0 { other.max } else { self.max.max(other.max) };
        self.sum += other.sum;
        self.samples += other.samples;
    }
}

/// A series that is being made.
#[derive(Debug, Clone)]
pub struct Samples {
    every_s: u32,
    gauges: BTreeMap<String, Vec<Cell>>,
    /// By probe and key; how many samples there were is known of the probe.
    keyed: BTreeMap<(String, String), Vec<Cell>>,
    asked: BTreeMap<String, Vec<Cell>>,
}

impl Default for Samples {
    fn default() -> Self {
        Self { every_s: 1, gauges: BTreeMap::new(), keyed: BTreeMap::new(), asked: BTreeMap::new() }
    }
}

impl Samples {
    /// Takes in the value of a gauge, seconds after the load began.
    pub fn gauge(&mut self, second: f64, name: &str, value: f64) {
        let at = self.interval(second);
        put(entry(&mut self.gauges, name), at, value);
    }

    /// Takes in a sample of keys; one that is not among them was 0.
    pub fn keyed(&mut self, second: f64, probe: &str, values: &BTreeMap<String, f64>) {
        let at = self.interval(second);
        put(entry(&mut self.asked, probe), at, 0.0);
        for (key, value) in values {
            let known = self.keyed.keys().filter(|(of, _)| of == probe).count();
            let mut full = (probe.to_owned(), key.clone());
            if known >= MOST_KEYS && !self.keyed.contains_key(&full) {
                full.1 = OTHER.to_owned();
            }
            put(self.keyed.entry(full).or_default(), at, *value);
        }
    }

    /// The interval that a second belongs to; makes room for it.
    fn interval(&mut self, second: f64) -> usize {
        let second = second.max(0.0) as usize;
        while second / self.every_s as usize >= MOST_INTERVALS {
            self.every_s *= 2;
            for cells in self.gauges.values_mut().chain(self.keyed.values_mut()).chain(self.asked.values_mut()) {
                *cells = cells
                    .chunks(2)
                    .map(|pair| {
                        let mut one = pair[0];
                        pair[1..].iter().for_each(|other| one.add(*other));
                        one
                    })
                    .collect();
            }
        }
        second / self.every_s as usize
    }

    /// By probe and key, the sum of all samples.
    pub fn totals(&self) -> BTreeMap<String, BTreeMap<String, f64>> {
        let mut totals: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for ((probe, key), cells) in &self.keyed {
            let sum = rounded(cells.iter().map(|cell| cell.sum).sum());
            totals.entry(probe.clone()).or_default().insert(key.clone(), sum);
        }
        totals
    }

    /// The series.
    pub fn series(&self) -> Series {
        let all = self.gauges.values().chain(self.asked.values());
        let length = all.map(Vec::len).max().unwrap_or(0);
        let mut columns = BTreeMap::new();
        for (name, cells) in &self.gauges {
            let line = |pick: fn(&Cell) -> f64| {
                (0..length).map(|i| cells.get(i).filter(|c| c.samples > 0).map(|c| rounded(pick(c)))).collect()
            };
            let column = Column { mean: line(|c| c.sum / f64::from(c.samples)), max: line(|c| c.max) };
            columns.insert(name.clone(), column);
        }
        for ((probe, key), cells) in &self.keyed {
            let asked = |i: usize| self.asked.get(probe).and_then(|cells| cells.get(i)).map_or(0, |cell| cell.samples);
            let sum = |i: usize| cells.get(i).map_or(0.0, |cell| cell.sum);
            let mean = (0..length).map(|i| (asked(i) > 0).then(|| rounded(sum(i) / f64::from(asked(i))))).collect();
            columns.insert(format!("{probe}.{key}"), Column { mean, max: Vec::new() });
        }
        Series { every_s: self.every_s, columns }
    }
}

fn entry<'m>(cells: &'m mut BTreeMap<String, Vec<Cell>>, name: &str) -> &'m mut Vec<Cell> {
    if !cells.contains_key(name) {
        cells.insert(name.to_owned(), Vec::new());
    }
    cells.entry(name.to_owned()).or_default()
}

fn put(cells: &mut Vec<Cell>, at: usize, value: f64) {
    if cells.len() <= at {
        cells.resize(at + 1, Cell::default());
    }
    cells[at].add(Cell { sum: value, max: value, samples: 1 });
}

/// As many digits as mean something, so that a record is not made of digits.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    }

    #[test]
    fn a_gauge_has_mean_and_largest_of_each_second_and_nothing_where_nobody_looked() {
        let mut samples = Samples::default();
        for (second, value) in [(0.0, 1.0), (0.9, 4.0), (2.0, -3.0)] {
            samples.gauge(second, "sessions.active", value);
        }
        let series = samples.series();
        let column = &series.columns["sessions.active"];
        assert_eq!((series.every_s, &*column.mean), (1, &[Some(2.5), None, Some(-3.0)][..]));
        assert_eq!(column.max, [Some(4.0), None, Some(-3.0)]);
    }

    #[test]
    fn a_key_that_is_not_in_a_sample_was_not_there() {
        let mut samples = Samples::default();
        samples.keyed(0.1, "waits", &keys(&[("Lock:tuple", 6.0)]));
        samples.keyed(0.2, "waits", &keys(&[]));
        samples.keyed(2.2, "waits", &keys(&[("CPU", 1.0)]));
        let series = samples.series();
        assert_eq!(series.columns["waits.Lock:tuple"].mean, [Some(3.0), None, Some(0.0)]);
        assert_eq!(series.columns["waits.CPU"].mean, [Some(0.0), None, Some(1.0)]);
        assert!(series.columns["waits.CPU"].max.is_empty());
        assert_eq!(samples.totals()["waits"], keys(&[("CPU", 1.0), ("Lock:tuple", 6.0)]));
    }

    #[test]
    fn a_long_run_takes_no_more_room() {
        let mut samples = Samples::default();
        let hours = 4 * 3600;
        for second in 0..hours {
            samples.gauge(f64::from(second), "g", if second == 5 { 1000.0 } else { 1.0 });
            samples.keyed(f64::from(second), "k", &keys(&[("a", 2.0)]));
        }
        let series = samples.series();
        assert_eq!((series.every_s, series.columns["g"].mean.len()), (32, hours as usize / 32));
        assert_eq!(series.columns["g"].max[0], Some(1000.0), "what is put together keeps its largest");
        assert_eq!(series.columns["g"].mean[1], Some(1.0));
        assert!(series.columns["k.a"].mean.iter().all(|mean| *mean == Some(2.0)));
    }

    #[test]
    fn many_keys_take_no_more_room_either() {
        let mut samples = Samples::default();
        for n in 0..100 {
            samples.keyed(0.0, "k", &keys(&[(&format!("key {n:03}"), 1.0)]));
        }
        let series = samples.series();
        assert_eq!(series.columns.len(), MOST_KEYS + 1);
        let all: f64 = series.columns.values().filter_map(|column| column.mean[0]).sum();
        assert!((all - 1.0).abs() < 0.02, "nothing is lost: {all}");
    }
}
