//! What must be so in an answer?

use std::fmt;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::answer::{From, Seen};
use super::{JsonTemplate, Scope, Source, text_of};
use crate::random::Random;

/// Something that must be so.
#[derive(Debug, Clone)]
pub struct Check {
    /// What it is counted under.
    pub name: String,
    /// Where it looks.
    pub at: From,
    /// What must be there.
    pub test: Test,
}

/// What must be there.
#[derive(Debug, Clone)]
pub enum Test {
    /// Anything but null.
    Exists,
    /// This very value, in which placeholders may stand.
    Equals(JsonTemplate),
    /// A text, or a number, in which this is found.
    Matches(Regex),
    /// Something of this type.
    Is(Kind),
}

/// A type of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    String,
    /// A number.
    Number,
    /// A number without a fraction.
    Integer,
    /// true, false.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
}

impl Kind {
    fn is_of(self, value: &Json) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

impl Check {
    /// Whether a value of this source is in it.
    pub fn names(&self, is_meant: &dyn Fn(&Source) -> bool) -> bool {
        matches!(&self.test, Test::Equals(wanted) if wanted.names(is_meant))
    }

    /// Whether it is so; if not, what is there instead.
    ///
    /// # Errors
    /// In words, what is there.
    pub fn holds(&self, seen: &Seen<'_>, scope: &Scope<'_>) -> Result<(), String> {
        // Whatever `*` is, it must be so of one; which one, does not matter to be found again.
        let Some(value) = self.at.find(seen, &mut Random::seeded(0)) else { return Err("nothing is there".into()) };
        let is_so = match &self.test {
            Test::Exists => !value.is_null(),
            Test::Equals(wanted) => is_same(&wanted.fill(scope).map_err(|missing| missing.0)?, &value),
            Test::Matches(pattern) => (value.is_string() || value.is_number()) && pattern.is_match(&text_of(&value)),
            Test::Is(kind) => kind.is_of(&value),
        };
        if is_so { Ok(()) } else { Err(shown(&value)) }
    }
}

/// Numbers are the same however they are written: 1 and 1.0.
fn is_same(wanted: &Json, value: &Json) -> bool {
    match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(value)) => wanted == value,
        _ => wanted == value,
    }
}

/// Bodies can be long, and a remark is one line.
fn shown(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What it is called unless its author has a name for it.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            From::Header(name) => write!(f, "header {name}")?,
            From::Pointer(keys) if keys.is_empty() => f.write_str("the body")?,
            From::Pointer(keys) => keys.iter().try_for_each(|key| write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")))?,
        }
        match &self.test {
            Test::Exists => f.write_str(" exists"),
            Test::Equals(JsonTemplate::Constant(wanted)) => write!(f, " = {}", shown(wanted)),
            Test::Equals(_) => f.write_str(" = what was asked for"),
            Test::Matches(pattern) => write!(f, " matches {pattern}"),
            Test::Is(kind) => write!(f, " is {kind:?}").and(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Names;

    fn check(at: &str, test: Test) -> Check {
        Check { name: String::new(), at: From::parse(at).unwrap(), test }
    }

    #[test]
    fn each_check_holds_where_it_is_so_and_nowhere_else() {
        let body = br#"{"id": 7, "status": "BOOKED", "none": null, "share": 1.0, "items": []}"#;
        let seen = Seen::new(200, body, |name| (name == "etag").then(String::new));
        let scope = Scope {
            vu: 0,
            vus: 1,
            iteration: 0,
            op_id: 0,
            uuid: "",
            token: None,
            parameters: &[json!(7)],
            rows: &[],
            account: None,
            captured: &[],
        };
        let holds = |at: &str, test: Test| check(at, test).holds(&seen, &scope).is_ok();
        let equals = |json: Json| {
            Test::Equals(JsonTemplate::parse(&json, &Names { parameters: vec!["n".into()], ..Names::default() }).unwrap())
        };
        assert!(holds("/id", equals(json!("${n}"))) && !holds("/id", equals(json!("${n|text}"))));
        assert!(holds("/id", Test::Exists) && !holds("/none", Test::Exists) && !holds("/x", Test::Exists));
        assert!(holds("header etag", Test::Exists) && !holds("header x", Test::Exists));
        assert!(holds("/status", equals(json!("BOOKED"))) && !holds("/status", equals(json!("booked"))));
        assert!(holds("/share", equals(json!(1))) && !holds("/id", equals(json!("7"))));
        assert!(holds("/none", equals(Json::Null)) && !holds("/x", equals(Json::Null)));
        let matches = |pattern: &str| Test::Matches(Regex::new(pattern).unwrap());
        assert!(holds("/status", matches("^BOOK")) && !holds("/status", matches("^book")) && holds("/id", matches("^7$")));
        assert!(!holds("/items", matches("")), "a list is no text");
        assert!(holds("/id", Test::Is(Kind::Integer)) && holds("/items", Test::Is(Kind::Array)));
        assert!(
            !holds("/share", Test::Is(Kind::Integer))
                && holds("/share", Test::Is(Kind::Number))
                && !holds("/id", Test::Is(Kind::String))
        );
        let html = Seen::new(200, b"<html>", |_| None);
        assert_eq!(check("/id", Test::Exists).holds(&html, &scope).unwrap_err(), "nothing is there");
        assert_eq!(check("/status", equals(json!(1))).holds(&seen, &scope).unwrap_err(), "\"BOOKED\"");
        assert_eq!(check("/a~1b/0", Test::Exists).to_string(), "/a~1b/0 exists");
    }
}
