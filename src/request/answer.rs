//! What is in an answer?

use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::random::Random;
use crate::{Error, Result};

/// Finds a header by its name.
type Header<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// An answer, as far as it is looked at. Its body is read as JSON once somebody asks for something in it.
pub struct Seen<'a> {
    /// The status.
    pub status: u16,
    body: &'a [u8],
    header: Box<Header<'a>>,
    json: OnceLock<Option<Json>>,
}

impl<'a> Seen<'a> {
    /// With its body, and who knows its headers.
    pub fn new(status: u16, body: &'a [u8], header: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { status, body, header: Box::new(header), json: OnceLock::new() }
    }

    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<&Json> {
        self.json.get_or_init(|| serde_json::from_slice(self.body).ok()).as_ref()
    }

    /// A header, if there is one.
    pub fn header(&self, name: &str) -> Option<String> {
        (self.header)(name)
    }
}

/// Where a value of an answer is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// In a header.
    Header(String),
    /// In the body, which is JSON: the keys to it. `*` is one item of a list, at random.
    Pointer(Vec<String>),
}

impl From {
    /// Reads `/items/0/id` (a JSON pointer, RFC 6901, in which `*` is one item at random) or `header etag`.
    ///
    /// # Errors
    /// Usage, when it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix("header ").map(str::trim).filter(|name| !name.is_empty()) {
            return Ok(Self::Header(name.to_lowercase()));
        }
        pointer(text).map(Self::Pointer)
    }

    /// The value, if it is there.
    pub fn find(&self, seen: &Seen<'_>, random: &mut Random) -> Option<Json> {
        match self {
            Self::Header(name) => seen.header(name).map(Json::String),
            Self::Pointer(keys) => find(seen.json()?, keys, |n| random.below(n as u64) as usize).cloned(),
        }
    }
}

/// The keys of a JSON pointer.
///
/// # Errors
/// Usage, when it is none.
pub(super) fn pointer(text: &str) -> Result<Vec<String>> {
    let wrong = || {
        Error::usage(format!("`{text}` says nothing of where to look")).cure("a JSON pointer, such as /items/0/id, or header NAME")
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let keys = text.strip_prefix('/').ok_or_else(wrong)?;
    Ok(keys.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect())
}

/// What the keys lead to; which item `*` is says `choose`, of how many.
pub(super) fn find<'j>(json: &'j Json, keys: &[String], mut choose: impl FnMut(usize) -> usize) -> Option<&'j Json> {
    keys.iter().try_fold(json, |value, key| match value {
        Json::Object(members) => members.get(key),
        Json::Array(items) if key == "*" && !items.is_empty() => items.get(choose(items.len())),
        Json::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_found_in_the_body_or_a_header() {
        let body = br#"{"items": [{"id": 1}, {"id": 1}], "a/b": "x"}"#;
        let seen = Seen::new(200, body, |name| (name == "etag").then(|| "w".to_owned()));
        let found = |text: &str| From::parse(text).unwrap().find(&seen, &mut Random::seeded(1));
        assert_eq!(found("/items/1/id"), Some(json!(1)));
        assert_eq!(found("/items/*/id"), Some(json!(1)));
        assert_eq!(found("/a~1b"), Some(json!("x")));
        assert_eq!(found("header ETag"), Some(json!("w")));
        assert_eq!((found("/items/2/id"), found("/items/x"), found("/none"), found("header x")), (None, None, None, None));
        assert!(From::parse("items").is_err() && From::parse("header ").is_err());
        let none = Seen::new(200, b"<html>", |_| None);
        assert_eq!(From::parse("/id").unwrap().find(&none, &mut Random::seeded(1)), None, "no JSON");
    }
}
