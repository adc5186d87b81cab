//! How does a person write a duration? `500ms`, `1.5s`, `1m30s`, `2h`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::{Error, Result};

/// Names of the units and their nanoseconds; the first name of each is the one that is printed.
const UNITS: [(&[&str], u64); 8] = [
    (&["w", "wk", "week", "weeks"], 604_800_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["ms", "msec", "millis"], 1_000_000),
    // The micro sign and the Greek letter are two characters that look alike.
    (&["us", "µs", "μs", "usec"], 1_000),
    (&["ns", "nsec", "nanos"], 1),
];

/// Reads a duration: numbers with units, the largest first by custom only; fractions and spaces are allowed (`1m30s`, `1h 30m`, `1.5s`).
/// Exact to the nanosecond.
///
/// # Errors
/// Usage, with examples: no unit, an unknown one, no number, finer than a nanosecond, or more than u64 nanoseconds (584 years).
pub fn parse_duration(text: &str) -> Result<Duration> {
    parse(text.trim())
        .map_err(|what| Error::usage(format!("`{text}` is not a duration: {what}")).cure("write 500ms, 1.5s, 1m30s or 2h"))
}

/// Writes a duration so that [`parse_duration`] reads the same one: `1m30s`; the longest unit is the hour.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (names, nanos) in &UNITS[2..] {
        let count = rest / u128::from(*nanos);
        rest %= u128::from(*nanos);
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{count}{}", names[0]);
        }
    }
    text
}

fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    // Nothing is nothing in every unit.
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let too_long = || "it is longer than 584 years".to_owned();
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len()));
        if number.is_empty() {
            return Err(format!("a number was expected at `{rest}`"));
        }
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit; did you mean `{number}s`?"));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(names, _)| names.contains(&unit)) else {
            return Err(format!("there is no unit `{unit}`; there are w, d, h, m, s, ms, us and ns"));
        };
        let part = nanoseconds(number, *nanos)?.try_into().map_err(|_| too_long())?;
        total = total.checked_add(part).ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_nanos(total))
}

/// A decimal number of units, in nanoseconds. In integers: a double would not print back as it was typed.
fn nanoseconds(number: &str, unit: u64) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let scaled = || {
        let denominator = 10_u128.checked_pow(fraction.len().try_into().ok()?)?;
        let numerator: u128 = format!("{whole}{fraction}").parse().ok()?;
        Some((numerator.checked_mul(u128::from(unit))?, denominator))
    };
    let (numerator, denominator) = scaled().ok_or_else(|| format!("`{number}` is not a number"))?;
    if numerator % denominator != 0 {
        return Err(format!("`{number}` is finer than a nanosecond"));
    }
    Ok(numerator / denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_spellings_are_read() {
        for (text, nanos) in [
            ("500ms", 500_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1h 30min", 5_400_000_000_000),
            ("2 days", 172_800_000_000_000),
            ("0.1h", 360_000_000_000),
            ("1.250us", 1_250),
            ("3µs", 3_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_nanos(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("", "it is empty"),
            ("30", "did you mean `30s`?"),
            ("1m30", "`30` has no unit"),
            ("5x", "there is no unit `x`"),
            ("s", "a number was expected at `s`"),
            ("-5s", "a number was expected at `-5s`"),
            ("1.2.3s", "`1.2.3` is not a number"),
            (".s", "`.` is not a number"),
            ("0.5ns", "finer than a nanosecond"),
            ("9999999999h", "584 years"),
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("1m30s"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&duration_text(duration)).unwrap(), duration);
        }
    }
}
