//! What can a variable hold?

use std::fmt::{self, Write};

use super::Fault;

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
    pub fn truth(&self) -> Result<bool, Fault> {
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
    pub fn as_integer(&self) -> Result<i64, Fault> {
        match self.scalar()? {
            Self::Integer(i) => Ok(i),
            Self::Double(d) => {
                let rounded = d.round_ties_even();
                // −2⁶³ is a double, 2⁶³ the first one too large; NaN is in no range.
                match (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
                    true => Ok(rounded as i64),
                    false => Err(Fault::new(format!("double to int overflow for {d}"))),
                }
            }
            other => Err(other.cannot_be("int")),
        }
    }

    /// As a double.
    ///
    /// # Errors
    /// NULL and truth values.
    pub fn as_double(&self) -> Result<f64, Fault> {
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
    pub fn as_boolean(&self) -> Result<bool, Fault> {
        match self.scalar()? {
            Self::Boolean(b) => Ok(b),
            other => Err(other.cannot_be("boolean")),
        }
    }

    /// What expressions reckon with: text becomes the number, the truth value or the NULL that it spells, by the rules of pgbench. An empty text
    /// and any other text is no value of an expression.
    pub(super) fn scalar(&self) -> Result<Self, Fault> {
        let Self::Text(text) = self else { return Ok(self.clone()) };
        let lower = text.to_lowercase();
        let integer = lower.trim_start();
        if lower == "null" {
            Ok(Self::Null)
        } else if !lower.is_empty() && ("true".starts_with(&lower) || "yes".starts_with(&lower) || lower == "on") {
            Ok(Self::Boolean(true))
        } else if !lower.is_empty() && ("false".starts_with(&lower) || "no".starts_with(&lower) || lower == "of" || lower == "off")
        {
            Ok(Self::Boolean(false))
        } else if !integer.is_empty() && integer.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit()) {
            integer.parse().map(Self::Integer).map_err(|_| Fault::new(format!("`{text}` is out of range for a bigint")))
        } else {
            lower
                .trim_start()
                .parse()
                .map(Self::Double)
                .map_err(|_| Fault::new(format!("`{text}` is neither a number nor a truth value")))
        }
    }

    fn cannot_be(&self, what: &str) -> Fault {
        let kind = match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Integer(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "text",
        };
        Fault::new(format!("cannot coerce {kind} to {what}"))
    }
}
