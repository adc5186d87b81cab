//! Which day is it? Days since 2000-01-01, PostgreSQL's own count, to and from the civil calendar.

use serde::Deserialize;
use toml::value::{Datetime, Offset};

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH: i32 = 10_957;

/// A civil date as days since 2000-01-01.
/// Algorithm: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
pub fn days(year: i32, month: i32, day: i32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468 - EPOCH
}

/// Year, month and day of a day.
/// Algorithm: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
pub fn civil(days: i32) -> (i32, i32, i32) {
    let z = days + EPOCH + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// So many calendar months later; the last day of the month where that day does not exist, as PostgreSQL's `date + interval` does.
pub fn add_months(start: i32, months: i32) -> i32 {
    let (year, month, day) = civil(start);
    let index = year * 12 + month - 1 + months;
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
    let first = days(year, month, 1);
    let (after_year, after_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let last = days(after_year, after_month, 1) - first;
    first + day.min(last) - 1
}

/// A day as `2026-01-15`.
pub fn iso(day: i32) -> String {
    let (y, m, d) = civil(day);
    format!("{y:04}-{m:02}-{d:02}")
}

/// The clock of a dataset's domain: a second in UTC. Never the real date: the same rng_seed must give the same rows tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Datetime")]
pub struct AsOf {
    day: i32,
    time: (u8, u8, u8),
}

impl TryFrom<Datetime> for AsOf {
    type Error = &'static str;

    fn try_from(given: Datetime) -> Result<Self, Self::Error> {
        let (date, time) = match (given.date, given.time, given.offset) {
            (Some(date), Some(time), Some(Offset::Z)) => (date, time),
            _ => return Err("as_of must be a date and a time in UTC, such as 2026-01-15T12:00:00Z"),
        };
        if !(2000..=2200).contains(&date.year) || time.nanosecond.is_some_and(|n| n != 0) {
            return Err("as_of must be a whole second between the years 2000 and 2200");
        }
        let day = days(date.year.into(), date.month.into(), date.day.into());
        Ok(Self { day, time: (time.hour, time.minute, time.second.unwrap_or(0)) })
    }
}

impl AsOf {
    /// As PostgreSQL prints it in UTC: `2026-01-15 12:00:00`.
    pub fn text(self) -> String {
        let (hour, minute, second) = self.time;
        format!("{} {hour:02}:{minute:02}:{second:02}", iso(self.day))
    }

    /// RFC 3339: `2026-01-15T12:00:00Z`.
    pub fn rfc3339(self) -> String {
        format!("{}Z", self.text().replace(' ', "T"))
    }

    /// Its date, as days since 2000-01-01.
    pub fn day(self) -> i32 {
        self.day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_days_like_postgresql() {
        assert_eq!(days(2000, 1, 1), 0);
        assert_eq!(days(2026, 1, 15), 9511, "SELECT date '2026-01-15' - date '2000-01-01'");
        assert_eq!(days(1999, 12, 31), -1);
        for day in -50_000..50_000 {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
        }
    }

    #[test]
    fn a_month_without_that_day_ends_on_its_last() {
        assert_eq!(civil(add_months(days(2025, 8, 31), 6)), (2026, 2, 28));
        assert_eq!(civil(add_months(days(2023, 8, 30), 6)), (2024, 2, 29));
        assert_eq!(civil(add_months(days(2025, 12, 1), 6)), (2026, 6, 1));
        assert_eq!(civil(add_months(days(2025, 6, 30), 6)), (2025, 12, 30));
    }
}
