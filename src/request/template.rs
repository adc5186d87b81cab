//! How does a text with placeholders become a text, a path, or typed JSON?
//!
//! `${NAME}` stands for a value: `vu`, `vus`, `iteration`, `op_id`, `uuid`, `token`, a parameter, a value captured from an earlier answer,
//! `TABLE.COLUMN` of the row that is this iteration's, `account.COLUMN` of who asks. `${NAME|number}` and `${NAME|text}` convert. `$${` is `${`.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{Row, text_of};
use crate::error::nearest;
use crate::{Error, Result};

/// Where the value of a placeholder comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The number of the virtual user, from 0.
    Vu,
    /// How many there are.
    Vus,
    /// The number of the virtual user's iteration, from 0.
    Iteration,
    /// What names the iteration among all of all runs.
    OpId,
    /// A random UUID, one for each iteration: a retry has the same.
    Uuid,
    /// The token of who asks.
    Token,
    /// A parameter, by its number.
    Parameter(usize),
    /// A column of the row of a table, both by their numbers.
    Column(usize, usize),
    /// A column of the account, by its number.
    Account(usize),
    /// A value of an earlier answer, by its number.
    Captured(usize),
}

/// What placeholders may name.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Parameters.
    pub parameters: Vec<String>,
    /// Tables and their columns.
    pub tables: Vec<(String, Vec<String>)>,
    /// Columns of the accounts; `None`: nobody has one.
    pub account: Option<Vec<String>>,
    /// Values of earlier answers.
    pub captured: Vec<String>,
}

const GIVEN: [(&str, Source); 5] =
    [("vu", Source::Vu), ("vus", Source::Vus), ("iteration", Source::Iteration), ("op_id", Source::OpId), ("uuid", Source::Uuid)];

impl Names {
    /// Whether the name already means something by itself.
    pub fn is_given(name: &str) -> bool {
        GIVEN.iter().any(|(given, _)| *given == name) || ["token", "account"].contains(&name)
    }

    fn find(&self, name: &str) -> Result<Source> {
        if let Some((_, source)) = GIVEN.iter().find(|(given, _)| *given == name) {
            return Ok(source.clone());
        }
        if name == "token" && self.account.is_some() {
            return Ok(Source::Token);
        }
        // What was captured last hides what was there before.
        if let Some(n) = self.captured.iter().rposition(|known| known == name) {
            return Ok(Source::Captured(n));
        }
        if let Some(n) = self.parameters.iter().position(|known| known == name) {
            return Ok(Source::Parameter(n));
        }
        if let Some((table, column)) = name.split_once('.') {
            if let Some(columns) = self.account.as_ref().filter(|_| table == "account") {
                return columns.iter().position(|known| known == column).map(Source::Account).ok_or_else(|| self.unknown(name));
            }
            let found = self.tables.iter().position(|(known, _)| known == table);
            let column = found.and_then(|n| Some((n, self.tables[n].1.iter().position(|known| known == column)?)));
            return column.map(|(table, column)| Source::Column(table, column)).ok_or_else(|| self.unknown(name));
        }
        Err(self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        let mut known: Vec<String> = GIVEN.iter().map(|(name, _)| (*name).to_owned()).collect();
        known.extend(self.parameters.iter().chain(&self.captured).cloned());
        for (table, columns) in &self.tables {
            known.extend(columns.iter().map(|column| format!("{table}.{column}")));
        }
        if let Some(columns) = &self.account {
            known.push("token".into());
            known.extend(columns.iter().map(|column| format!("account.{column}")));
        }
        let near =
            nearest(name, known.iter().map(String::as_str)).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
        Error::usage(format!("nothing here is called `{name}`")).cure(format!("{near}one of: {}", known.join(", ")))
    }
}

/// How a value is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Into {
    AsItIs,
    Number,
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Source, Into),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template(Vec<Piece>);

/// Why a request could not be made: what there is no value for, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub String);

/// The values of one attempt.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The number of the virtual user, from 0.
    pub vu: u32,
    /// How many there are.
    pub vus: u32,
    /// The number of its iteration, from 0.
    pub iteration: u32,
    /// What names the iteration among all of all runs.
    pub op_id: i64,
    /// Its UUID.
    pub uuid: &'a str,
    /// The token of who asks.
    pub token: Option<&'a str>,
    /// By number.
    pub parameters: &'a [Json],
    /// The row of each table.
    pub rows: &'a [Option<Row>],
    /// The account of who asks.
    pub account: Option<&'a Row>,
    /// What earlier answers gave, by number.
    pub captured: &'a [Option<Json>],
}

impl Scope<'_> {
    fn value(&self, source: &Source) -> Result<Cow<'_, Json>, Missing> {
        let missing = |what: &str| Missing(what.to_owned());
        Ok(Cow::Owned(match source {
            Source::Vu => self.vu.into(),
            Source::Vus => self.vus.into(),
            Source::Iteration => self.iteration.into(),
            Source::OpId => self.op_id.into(),
            Source::Uuid => self.uuid.into(),
            Source::Token => self.token.ok_or_else(|| missing("nobody has logged in"))?.into(),
            Source::Parameter(n) => {
                return self.parameters.get(*n).map(Cow::Borrowed).ok_or_else(|| missing("a parameter has no value"));
            }
            Source::Column(table, column) => {
                let row = self.rows.get(*table).and_then(Option::as_ref);
                return row
                    .and_then(|row| row.0.get(*column))
                    .map(|v| Cow::Owned(v.clone()))
                    .ok_or_else(|| missing("a table has no row for this virtual user"));
            }
            Source::Account(column) => {
                return self
                    .account
                    .and_then(|row| row.0.get(*column))
                    .map(Cow::Borrowed)
                    .ok_or_else(|| missing("this virtual user has no account"));
            }
            Source::Captured(n) => {
                return self
                    .captured
                    .get(*n)
                    .and_then(Option::as_ref)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| missing("an earlier answer did not have the value"));
            }
        }))
    }

    fn converted(&self, source: &Source, into: Into) -> Result<Cow<'_, Json>, Missing> {
        let value = self.value(source)?;
        match into {
            Into::AsItIs => Ok(value),
            Into::Text => Ok(Cow::Owned(Json::String(text_of(&value)))),
            Into::Number if value.is_number() => Ok(value),
            Into::Number => {
                let text = text_of(&value);
                let number: Option<serde_json::Number> = serde_json::from_str(text.trim()).ok();
                number.map(|n| Cow::Owned(Json::Number(n))).ok_or_else(|| Missing(format!("`{text}` is no number")))
            }
        }
    }
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Usage: a placeholder that is not closed, or that names nothing.
    pub fn parse(text: &str, names: &Names) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$${") {
                plain.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let Some((inside, after)) = after.split_once('}') else {
                    return Err(
                        Error::usage(format!("`{text}`: a placeholder is not closed")).cure("write ${NAME}; $${ is the text ${")
                    );
                };
                let (name, into) = match inside.split_once('|').map(|(name, into)| (name.trim(), into.trim())) {
                    None => (inside.trim(), Into::AsItIs),
                    Some((name, "number")) => (name, Into::Number),
                    Some((name, "text")) => (name, Into::Text),
                    Some((_, other)) => {
                        return Err(Error::usage(format!("`{text}`: nothing is made `{other}`")).cure("|number or |text"));
                    }
                };
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Value(names.find(name)?, into));
                rest = after;
            } else {
                plain.push('$');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// In short, for a message: the text before its first placeholder, and whether more comes.
    pub fn short(&self) -> String {
        let more = if self.0.iter().any(|piece| matches!(piece, Piece::Value(..))) { "…" } else { "" };
        format!("{}{more}", self.beginning())
    }

    /// The text before its first placeholder.
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it is one placeholder and nothing else.
    pub fn is_one_value(&self) -> bool {
        matches!(&self.0[..], [Piece::Value(..)])
    }

    /// Whether it has a value of this source in it.
    pub fn names(&self, is_meant: impl Fn(&Source) -> bool) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(source, _) if is_meant(source)))
    }

    /// With the values of an iteration.
    ///
    /// # Errors
    /// A value that there is not.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<String, Missing> {
        self.joined(scope, |value, text| text.push_str(&value))
    }

    /// As a path: what stands for a value is one segment, or one value of the query, whatever is in it; unless it is the path whole, as the link
    /// of an answer is.
    ///
    /// # Errors
    /// A value that there is not.
    pub fn fill_path(&self, scope: &Scope<'_>) -> Result<String, Missing> {
        match &self.0[..] {
            [Piece::Value(..)] => self.fill(scope),
            _ => self.joined(scope, |value, text| encode(&value, text)),
        }
    }

    fn joined(&self, scope: &Scope<'_>, add: impl Fn(String, &mut String)) -> Result<String, Missing> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Value(source, into) => add(text_of(&*scope.converted(source, *into)?), &mut text),
            }
        }
        Ok(text)
    }
}

/// Everything but RFC 3986's unreserved characters, percent-encoded.
fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => {
                // A string takes whatever is written to it.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

/// JSON with placeholders. A string that is one placeholder becomes the value, of whatever type it is.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// Without any.
    Constant(Json),
    /// A string with some.
    Text(Template),
    /// A list.
    List(Vec<JsonTemplate>),
    /// An object.
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Reads JSON.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse(json: &Json, names: &Names) -> Result<Self> {
        Ok(match json {
            Json::String(text) if text.contains('$') => Self::Text(Template::parse(text, names)?),
            Json::Array(items) => Self::List(items.iter().map(|item| Self::parse(item, names)).collect::<Result<_>>()?),
            Json::Object(map) => {
                Self::Object(map.iter().map(|(key, value)| Ok((key.clone(), Self::parse(value, names)?))).collect::<Result<_>>()?)
            }
            other => Self::Constant(other.clone()),
        })
    }

    /// Whether it has a value of this source in it.
    pub fn names(&self, is_meant: &dyn Fn(&Source) -> bool) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Text(text) => text.names(is_meant),
            Self::List(items) => items.iter().any(|item| item.names(is_meant)),
            Self::Object(members) => members.iter().any(|(_, value)| value.names(is_meant)),
        }
    }

    /// With the values of an iteration.
    ///
    /// # Errors
    /// A value that there is not.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<Json, Missing> {
        Ok(match self {
            Self::Constant(json) => json.clone(),
            Self::Text(Template(pieces)) => match &pieces[..] {
                [Piece::Value(source, into)] => scope.converted(source, *into)?.into_owned(),
                _ => Json::String(Template(pieces.clone()).fill(scope)?),
            },
            Self::List(items) => Json::Array(items.iter().map(|item| item.fill(scope)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                Json::Object(members.iter().map(|(key, value)| Ok((key.clone(), value.fill(scope)?))).collect::<Result<_, _>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names {
            parameters: vec!["seat".into()],
            tables: vec![("people".into(), vec!["id".into(), "name".into()])],
            account: Some(vec!["role".into()]),
            captured: vec!["etag".into()],
        }
    }

    fn filled<T>(with: impl FnOnce(&Scope<'_>) -> T) -> T {
        let rows = [Some(Row(vec![json!("17"), json!("Ann / é?")]))];
        let account = Row(vec![json!("viewer")]);
        with(&Scope {
            vu: 3,
            vus: 9,
            iteration: 4,
            op_id: 5,
            uuid: "u-u",
            token: Some("t"),
            parameters: &[json!(12)],
            rows: &rows,
            account: Some(&account),
            captured: &[Some(json!({ "a": 1 }))],
        })
    }

    #[test]
    fn a_text_is_filled_and_a_path_cannot_be_broken_out_of() {
        let read = |text: &str| Template::parse(text, &names()).unwrap();
        filled(|scope| {
            let text = "${vu}/${vus}/${iteration}/${op_id}/${uuid}/${token}/${seat}/${people.id}/${account.role}/$${x}$";
            assert_eq!(read(text).fill(scope).unwrap(), "3/9/4/5/u-u/t/12/17/viewer/${x}$");
            assert_eq!(read("/people?name=${people.name}&x=1").fill_path(scope).unwrap(), "/people?name=Ann%20%2F%20%C3%A9%3F&x=1");
            assert_eq!(read("${people.name}").fill_path(scope).unwrap(), "Ann / é?", "a link is taken as it is");
        });
    }

    #[test]
    fn a_placeholder_that_is_a_whole_string_keeps_its_type() {
        let json = json!({ "seat": "${seat}", "as": ["${people.id}", "${people.id|number}", "${seat|text}"], "in": "no ${seat}", "e": "${etag}" });
        let template = JsonTemplate::parse(&json, &names()).unwrap();
        let made = filled(|scope| template.fill(scope)).unwrap();
        assert_eq!(made, json!({ "seat": 12, "as": ["17", 17, "12"], "in": "no 12", "e": { "a": 1 } }));
        let template = JsonTemplate::parse(&json!("${people.name|number}"), &names()).unwrap();
        assert!(filled(|scope| template.fill(scope)).unwrap_err().0.contains("is no number"));
    }

    #[test]
    fn what_names_nothing_is_told_with_what_is_near() {
        let said = |text: &str| Template::parse(text, &names()).unwrap_err().to_string();
        assert!(said("${saet}").contains("did you mean `seat`?"));
        assert!(said("${people.nam}").contains("did you mean `people.name`?"));
        assert!(said("${seat").contains("not closed"));
        assert!(said("${seat|upper}").contains("|number or |text"));
        let without = Names { account: None, ..names() };
        assert!(Template::parse("${token}", &without).is_err(), "nobody has one");
    }
}
