//! How is a statement said in one text, its parameters among the words?
//!
//! Each value becomes a literal with the type that the server had inferred for the parameter, in parentheses: whatever may be said of `$1` may be said
//! of `('7'::bigint)`, and means the same. Without its type a literal would be taken for what the next operator likes best. The variables of a script
//! of pgbench are substituted as they are instead, as `pgbench -M simple` does.

use bytes::{BufMut, BytesMut};

use crate::program::{self, Fragment};

/// A statement in pieces.
#[derive(Debug, Clone)]
pub(super) struct Spelled(Box<[Piece]>);

#[derive(Debug, Clone)]
enum Piece {
    /// As it is.
    Text(Box<str>),
    /// The parameter of this index, from 0, and how a literal of it goes on and ends: `::bigint)`.
    Value(usize, Box<str>),
    /// The parameter of this index, from 0, without anything around it.
    Bare(usize),
}

impl Spelled {
    /// Takes a statement apart; `types` are those of its parameters. `None` if it has others than these.
    pub fn of(sql: &str, types: &[Box<str>]) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for (place, number) in program::positional(sql)? {
            let index = number.checked_sub(1)?;
            pieces.push(Piece::Text(sql[at..place.start].into()));
            pieces.push(Piece::Value(index, format!("::{})", types.get(index)?).into()));
            at = place.end;
        }
        pieces.push(Piece::Text(sql[at..].into()));
        Some(Self(pieces.into()))
    }

    /// Of a statement whose variables are substituted as text; each is a parameter of its own. How many there are, too.
    pub fn of_fragments(fragments: &[Fragment]) -> (Self, usize) {
        let mut variables = 0;
        let pieces = fragments.iter().map(|fragment| match fragment {
            Fragment::Text(text) => Piece::Text(text.as_str().into()),
            Fragment::Variable(_) => {
                variables += 1;
                Piece::Bare(variables - 1)
            }
        });
        (Self(pieces.collect()), variables)
    }

    /// Writes the message Query; `values` are as Bind has them: each after its length, which is negative for NULL.
    pub fn put(&self, values: &[u8], out: &mut BytesMut) {
        let begin = out.len();
        out.put_slice(b"Q\0\0\0\0");
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.put_slice(text.as_bytes()),
                Piece::Value(index, end) => {
                    match nth(values, *index) {
                        Some(value) => literal(value, out),
                        None => out.put_slice(b"(NULL"),
                    }
                    out.put_slice(end.as_bytes());
                }
                Piece::Bare(index) => out.put_slice(nth(values, *index).unwrap_or(b"NULL")),
            }
        }
        out.put_u8(0);
        let length = (out.len() - begin - 1) as i32;
        out[begin + 1..begin + 5].copy_from_slice(&length.to_be_bytes());
    }
}

/// The value of an index; `None` for NULL. There are few, and looking for it costs less than keeping where each is.
fn nth(values: &[u8], index: usize) -> Option<&[u8]> {
    let mut rest = values;
    for passed in 0.. {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = after.split_at_checked(length.unwrap_or_default())?;
        if passed == index {
            return length.map(|_| value);
        }
        rest = after;
    }
    None
}

/// A parenthesis and a literal that means the same whatever standard_conforming_strings says.
fn literal(value: &[u8], out: &mut BytesMut) {
    out.put_slice(if value.contains(&b'\\') { b"(E'" } else { b"('" });
    for byte in value {
        if matches!(byte, b'\'' | b'\\') {
            out.put_u8(*byte);
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent, as text.
    fn said(sql: &str, types: &[&str], values: &[Option<&str>]) -> Option<String> {
        let types: Vec<Box<str>> = types.iter().map(|t| (*t).into()).collect();
        let mut bound = BytesMut::new();
        for value in values {
            bound.put_i32(value.map_or(-1, |v| v.len() as i32));
            bound.put_slice(value.unwrap_or_default().as_bytes());
        }
        let mut out = BytesMut::new();
        Spelled::of(sql, &types)?.put(&bound, &mut out);
        assert_eq!(out[0], b'Q');
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 1);
        Some(String::from_utf8(out[5..].to_vec()).unwrap().strip_suffix('\0').unwrap().to_owned())
    }

    #[test]
    fn every_place_of_a_parameter_gets_its_literal() {
        let said = said("SELECT $2, -$1 || $2", &["bigint", "text"], &[Some("-5"), Some("a")]);
        assert_eq!(said.unwrap(), "SELECT ('a'::text), -('-5'::bigint) || ('a'::text)");
    }

    #[test]
    fn null_is_typed_and_the_values_behind_it_are_found() {
        let said = said("SELECT $1, $2, $3", &["int4", "date", "text"], &[None, None, Some("")]);
        assert_eq!(said.unwrap(), "SELECT (NULL::int4), (NULL::date), (''::text)");
    }

    #[test]
    fn quotes_and_backslashes_stay_within_the_literal() {
        let said = said("SELECT $1, $2", &["text", "text"], &[Some("it's"), Some("\\'; --")]);
        assert_eq!(said.unwrap(), "SELECT ('it''s'::text), (E'\\\\''; --'::text)");
    }

    #[test]
    fn what_is_quoted_or_a_comment_is_no_parameter() {
        let sql = "SELECT '$1', \"$1\", $$ $1 $$, a$1 /* $1 /* $2 */ */, E'\\'$1' -- $1\n, $1";
        assert_eq!(said(sql, &["int4"], &[Some("7")]).unwrap(), sql.replace("\n, $1", "\n, ('7'::int4)"));
        assert_eq!(said("SELECT $2", &["int4"], &[Some("7")]), None, "the server knows of one only");
    }
}
