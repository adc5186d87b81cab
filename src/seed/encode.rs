//! How does a row look in PostgreSQL's binary COPY format?
//!
//! A row is a 16-bit count of fields, a field a 32-bit length (−1 for NULL) and the bytes of the type's `send` function, all big-endian:
//! <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>. Header and trailer belong to the connection that sends it.

/// A part of a text value; a value is written from its parts without an allocation.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// As it is.
    Text(&'a str),
    /// In decimal.
    Number(u64),
    /// In decimal, with leading zeros up to six digits.
    Six(u64),
}

/// The same text as in the database.
impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Text(text) => f.write_str(text),
            Part::Number(n) => write!(f, "{n}"),
            Part::Six(n) => write!(f, "{n:06}"),
        }
    }
}

/// Appends rows to a buffer.
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Begins a row of so many fields; exactly as many must follow.
    pub fn row(&mut self, fields: usize) -> &mut Self {
        self.out.extend_from_slice(&(fields as i16).to_be_bytes());
        self
    }

    /// A `bigint`.
    pub fn bigint(&mut self, value: i64) -> &mut Self {
        let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        field[4..].copy_from_slice(&value.to_be_bytes());
        self.out.extend_from_slice(&field);
        self
    }

    /// An `integer`.
    pub fn integer(&mut self, value: i32) -> &mut Self {
        let mut field = [0, 0, 0, 4, 0, 0, 0, 0];
        field[4..].copy_from_slice(&value.to_be_bytes());
        self.out.extend_from_slice(&field);
        self
    }

    /// A `smallint`.
    pub fn smallint(&mut self, value: i16) -> &mut Self {
        let mut field = [0, 0, 0, 2, 0, 0];
        field[4..].copy_from_slice(&value.to_be_bytes());
        self.out.extend_from_slice(&field);
        self
    }

    /// A `timestamp`, as minutes since 2000-01-01 00:00; PostgreSQL counts microseconds from there.
    pub fn timestamp(&mut self, minutes: i64) -> &mut Self {
        self.bigint(minutes * 60_000_000)
    }

    /// A `jsonb`: the version of its format, then its text.
    pub fn jsonb(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(&(text.len() as i32 + 1).to_be_bytes());
        self.out.push(1);
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// A `date`, as days since 2000-01-01.
    pub fn date(&mut self, days: i32) -> &mut Self {
        self.integer(days)
    }

    /// A `boolean`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.out.extend_from_slice(&[0, 0, 0, 1, value.into()]);
        self
    }

    /// NULL, of any type.
    pub fn null(&mut self) -> &mut Self {
        self.out.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }

    /// A `text`.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.out.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// A `text` made of parts.
    pub fn parts(&mut self, parts: &[Part]) -> &mut Self {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        for part in parts {
            match *part {
                Part::Text(text) => self.out.extend_from_slice(text.as_bytes()),
                Part::Number(n) => self.decimal(n, 1),
                Part::Six(n) => self.decimal(n, 6),
            }
        }
        let length = (self.out.len() - start - 4) as i32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self
    }

    fn decimal(&mut self, mut n: u64, digits_min: usize) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        while n > 0 || digits.len() - first < digits_min {
            first -= 1;
            digits[first] = b'0' + (n % 10) as u8;
            n /= 10;
        }
        self.out.extend_from_slice(&digits[first..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_the_manual_says() {
        let mut out = Vec::new();
        Encoder::new(&mut out).row(6).bigint(-2).integer(7).boolean(true).null().text("né").parts(&[
            Part::Text("A-"),
            Part::Number(0),
            Part::Text("-"),
            Part::Six(42),
        ]);
        let mut expected = vec![0, 6];
        expected.extend([0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 254]);
        expected.extend([0, 0, 0, 4, 0, 0, 0, 7]);
        expected.extend([0, 0, 0, 1, 1]);
        expected.extend([255, 255, 255, 255]);
        expected.extend([0, 0, 0, 3, b'n', 0xc3, 0xa9]);
        expected.extend([0, 0, 0, 10]);
        expected.extend(b"A-0-000042");
        assert_eq!(out, expected);
        out.clear();
        Encoder::new(&mut out).smallint(-3).timestamp(1).jsonb("{}");
        let mut expected = vec![0, 0, 0, 2, 255, 253];
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 3, 147, 135, 0]);
        expected.extend([0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(out, expected);
    }

    #[test]
    fn numbers_longer_than_six_digits_are_not_cut() {
        let mut out = Vec::new();
        Encoder::new(&mut out).parts(&[Part::Six(1_234_567), Part::Number(u64::MAX)]);
        assert_eq!(&out[4..], b"123456718446744073709551615");
    }
}
