//! What can a variable hold?

use std::fmt::{self, Write};

use super::Miscalculation;

/// The value of a variable. Numbers and truth values are what expressions reckon with; text comes from the server and from `-D`.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unknown, SQL's NULL.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A bigint.
    Integer(i64),
    /// A double precision.
    Double(f64),
    /// Anything else, as PostgreSQL prints it.
    Text(Box<str>),
}

impl Value {
    /// What a text stands for: a number or a truth value if it is written just as [`Self::write_text`] would, so that nothing of it is lost.
    pub fn read(text: &str) -> Self {
        let value = Self::Text(text.into());
        let Ok(scalar @ (Self::Boolean(_) | Self::Integer(_) | Self::Double(_))) = value.scalar() else { return value };
        let mut written = String::new();
        match scalar.write_text(&mut written) {
            Ok(()) if written == text => scalar,
            _ => value,
        }
    }

    /// Writes it as PostgreSQL reads it. Of NULL, which has no text, nothing is written: see [`Self::is_null`].
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_text(&self, to: &mut impl Write) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Boolean(b) => to.write_str(if *b { "true" } else { "false" }),
            Self::Integer(i) => write!(to, "{i}"),
            // Rust writes the shortest text that reads back as the same number; only the special ones have other names.
            Self::Double(d) if d.is_nan() => to.write_str("NaN"),
            Self::Double(d) if d.is_infinite() => to.write_str(if *d > 0.0 { "Infinity" } else { "-Infinity" }),
            // Neither hundreds of zeros.
            Self::Double(d) if *d != 0.0 && !(1e-5..1e17).contains(&d.abs()) => write!(to, "{d:e}"),
            Self::Double(d) => write!(to, "{d}"),
            Self::Text(text) => to.write_str(text),
        }
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What `\if` and CASE make of it: numbers are true unless 0, NULL is false.
    ///
    /// # Errors
    /// Text that is neither a number nor a truth value.
    pub fn truth(&self) -> Result<bool, Miscalculation> {
        Ok(match self.scalar()? {
            Self::Null => false,
            Self::Boolean(b) => b,
            Self::Integer(i) => i != 0,
            Self::Double(d) => d != 0.0,
            Self::Text(_) => unreachable!("a scalar is no text"),
        })
    }

    /// As a whole number; doubles are rounded to the nearest, halves to the even one.
    ///
    /// # Errors
    /// NULL, truth values, and numbers beyond a bigint.
    pub fn as_integer(&self) -> Result<i64, Miscalculation> {
        match self.scalar()? {
            Self::Integer(i) => Ok(i),
            Self::Double(d) => {
                let rounded = d.round_ties_even();
                // −2⁶³ is a double, 2⁶³ the first one too large; NaN is in no range.
                match (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
                    true => Ok(rounded as i64),
                    false => Err(Miscalculation::new(format!("double to int overflow for {d:?}"))),
                }
            }
            other => Err(other.cannot_be("int")),
        }
    }

    /// As a double.
    ///
    /// # Errors
    /// NULL and truth values.
    pub fn as_double(&self) -> Result<f64, Miscalculation> {
        match self.scalar()? {
            Self::Integer(i) => Ok(i as f64),
            Self::Double(d) => Ok(d),
            other => Err(other.cannot_be("double")),
        }
    }

    /// As a truth value.
    ///
    /// # Errors
    /// Anything else.
    pub fn as_boolean(&self) -> Result<bool, Miscalculation> {
        match self.scalar()? {
            Self::Boolean(b) => Ok(b),
            other => Err(other.cannot_be("boolean")),
        }
    }

    /// What expressions reckon with: text becomes the number, the truth value or the NULL that it spells, by the rules of pgbench. An empty text
    /// and any other text is no value of an expression.
    pub(super) fn scalar(&self) -> Result<Self, Miscalculation> {
        let Self::Text(text) = self else { return Ok(self.clone()) };
        let word = text.to_lowercase();
        let begins = |with: &str| !word.is_empty() && with.starts_with(&word);
        let number = word.trim_start();
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        if word == "null" {
            Ok(Self::Null)
        } else if begins("true") || begins("yes") || word == "on" {
            Ok(Self::Boolean(true))
        } else if begins("false") || begins("no") || word == "of" || word == "off" {
            Ok(Self::Boolean(false))
        } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            number.parse().map(Self::Integer).map_err(|_| Miscalculation::new(format!("`{text}` is out of range for a bigint")))
        } else {
            match number.parse::<f64>() {
                // Only a word for it may be infinite.
                Ok(d) if d.is_finite() || !digits.contains(|c: char| c.is_ascii_digit()) => Ok(Self::Double(d)),
                Ok(_) => Err(Miscalculation::new(format!("`{text}` is out of range for a double"))),
                Err(_) => Err(Miscalculation::new(format!("`{text}` is neither a number nor a truth value"))),
            }
        }
    }

    fn cannot_be(&self, what: &str) -> Miscalculation {
        let kind = match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Integer(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "text",
        };
        Miscalculation::new(format!("cannot coerce {kind} to {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_postgresql_reads() {
        for (value, text) in [
            (Value::Null, ""),
            (Value::Boolean(true), "true"),
            (Value::Integer(i64::MIN), "-9223372036854775808"),
            (Value::Double(5.0), "5"),
            (Value::Double(0.1), "0.1"),
            (Value::Double(0.0), "0"),
            (Value::Double(1e300), "1e300"),
            (Value::Double(-2.5e-9), "-2.5e-9"),
            (Value::Double(f64::NEG_INFINITY), "-Infinity"),
            (Value::Double(f64::NAN), "NaN"),
            (Value::Text("a 'b'".into()), "a 'b'"),
        ] {
            let mut written = String::new();
            value.write_text(&mut written).unwrap();
            assert_eq!(written, text);
        }
    }

    #[test]
    fn only_what_is_written_the_usual_way_becomes_a_number() {
        for (text, value) in [
            ("100", Value::Integer(100)),
            ("-0.5", Value::Double(-0.5)),
            ("true", Value::Boolean(true)),
            ("007", Value::Text("007".into())),
            ("1.0", Value::Text("1.0".into())),
            ("t", Value::Text("t".into())),
            ("null", Value::Text("null".into())),
            ("", Value::Text("".into())),
        ] {
            assert_eq!(Value::read(text), value, "{text}");
        }
    }

    #[test]
    fn coercions_are_those_of_pgbench() {
        let text = |text: &str| Value::Text(text.into());
        for (spelled, value) in [
            ("NULL", Value::Null),
            ("t", Value::Boolean(true)),
            ("Yes", Value::Boolean(true)),
            ("on", Value::Boolean(true)),
            ("n", Value::Boolean(false)),
            ("of", Value::Boolean(false)),
            (" -12", Value::Integer(-12)),
            ("+7", Value::Integer(7)),
            ("1e3", Value::Double(1000.0)),
            ("-54.21E-2", Value::Double(-0.5421)),
        ] {
            assert_eq!(text(spelled).scalar(), Ok(value), "{spelled}");
        }
        for wrong in ["", "o", "bla", "+", "+-5", "trueXXX", "9223372036854775808", "1e999", "12 "] {
            assert!(text(wrong).scalar().is_err(), "{wrong}");
        }
        assert_eq!(Value::Double(2.5).as_integer(), Ok(2));
        assert_eq!(Value::Double(-3.5).as_integer(), Ok(-4));
        assert_eq!(Value::Double(-9_223_372_036_854_775_808.0).as_integer(), Ok(i64::MIN));
        for (wrong, message) in [
            (Value::Double(1e32).as_integer().map(|_| ()), "double to int overflow for 1e32"),
            (Value::Double(f64::NAN).as_integer().map(|_| ()), "double to int overflow for NaN"),
            (Value::Boolean(true).as_integer().map(|_| ()), "cannot coerce boolean to int"),
            (Value::Null.as_double().map(|_| ()), "cannot coerce null to double"),
            (Value::Double(0.0).as_boolean().map(|_| ()), "cannot coerce double to boolean"),
        ] {
            assert_eq!(wrong.unwrap_err().to_string(), message);
        }
        let truths =
            [Value::Null, Value::Integer(0), Value::Integer(2), Value::Double(0.5), text("off")].map(|v| v.truth().unwrap());
        assert_eq!(truths, [false, false, true, true, false]);
    }
}
