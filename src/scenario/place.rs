//! Where in the file is what is wrong, and what should be there instead?
//!
//! Keys are named by their path, `operation.1.weight`. What may stand at a path, and what it means, the JSON Schema knows: an error is
//! explained with the words that an editor shows.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{self, File};
use crate::error::nearest;
use crate::{Error, Result};

/// Something wrong at one place.
#[derive(Debug)]
pub struct Mistake {
    /// The path of the key.
    pub at: String,
    /// What is wrong, and its cure.
    pub error: Error,
}

impl Mistake {
    /// What is wrong at `at`, and what to do about it.
    pub fn new(at: impl Into<String>, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { at: at.into(), error: Error::usage(message).cure(cure) }
    }
}

/// A key that could not be read.
#[derive(Debug)]
pub struct Unread {
    /// Its path.
    at: String,
    /// Its byte in the text.
    start: usize,
    /// What is wrong with it, and the cure.
    error: Error,
}

/// Whether what is at `path` holds what is at `inner`, or is the same.
fn is_around(path: &str, inner: &str) -> bool {
    path.is_empty() || inner.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Takes the key at `path` out of a table; of an element of a list the whole list, so that the numbers of the others stay what they are. Whether there
/// was one.
fn take(table: &mut DeTable<'_>, path: &str) -> bool {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let inner = table.get_mut(key).map(Spanned::get_mut);
    let was_taken = match (inner, rest.split_once('.')) {
        (Some(DeValue::Table(inner)), _) if !rest.is_empty() => take(inner, rest),
        (Some(DeValue::Array(elements)), Some((n, rest))) => match n.parse().ok().and_then(|n: usize| elements.get_mut(n)) {
            Some(element) => match element.get_mut() {
                DeValue::Table(inner) => take(inner, rest),
                _ => false,
            },
            None => false,
        },
        _ => false,
    };
    was_taken || table.remove(key).is_some()
}

/// Mistakes as one error, each behind its place.
pub fn together(mistakes: impl IntoIterator<Item = (String, Error)>) -> Error {
    let lines: Vec<String> = mistakes.into_iter().map(|(place, error)| format!("{place}: {error}")).collect();
    Error::usage(lines.join("\n"))
}

/// A key or an element of a list, and where it is.
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// A text and where everything in it is.
pub struct Document<'t> {
    label: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    entries: Vec<Entry>,
    schema: Json,
}

impl<'t> Document<'t> {
    /// Reads the text as TOML; `label` is what errors call it.
    ///
    /// # Errors
    /// Usage, with every place at which it is no TOML.
    pub fn parse(label: &'t str, text: &'t str) -> Result<Self> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(together(errors.iter().map(|e| {
                let start = e.span().map_or(0, |span| span.start);
                (position(label, text, start), not_toml(text, start, e.message()))
            })));
        }
        let mut entries = Vec::new();
        collect(root.get_ref(), "", &mut entries);
        Ok(Self { label, text, root, entries, schema: file::schema().to_value() })
    }

    /// Reads its keys, without those that cannot be read: there is no such key, or its value is of the wrong type. Those are told too. No file if what
    /// is missing leaves nothing to read.
    pub fn file(&self) -> (Option<File>, Vec<Unread>) {
        let mut root = self.root.clone();
        let mut unread = Vec::new();
        for entry in &self.entries {
            if let Some(error) = self.unknown(&entry.path) {
                take(root.get_mut(), &entry.path);
                unread.push(Unread { at: entry.path.clone(), start: entry.key.start, error });
            }
        }
        loop {
            let read = toml::de::Deserializer::from(root.clone());
            let error: toml::de::Error = match serde::Deserialize::deserialize(read) {
                Ok(file) => return (Some(file), unread),
                Err(error) => error,
            };
            let start = error.span().map_or(0, |span| span.start);
            let at = self.at(start).to_owned();
            // What is missing because it could not be read has been told.
            let missing = error.message().strip_prefix("missing field `").map(|key| key.trim_end_matches('`'));
            let is_missing = missing.is_some();
            if !(is_missing && unread.iter().any(|unread| unread.at.rsplit('.').next() == missing)) {
                unread.push(Unread { at: at.clone(), start, error: self.explain(&error) });
            }
            if is_missing || !take(root.get_mut(), &at) {
                return (None, unread);
            }
        }
    }

    /// What is wrong as one error, in the order of the file. What only follows from a key that could not be read is left out.
    pub fn error(&self, unread: Vec<Unread>, mistakes: Vec<Mistake>) -> Error {
        let follows = |at: &str| unread.iter().any(|unread| is_around(at, &unread.at) || is_around(&unread.at, at));
        let mistakes = mistakes.into_iter().filter(|mistake| !follows(&mistake.at));
        let mut all: Vec<_> = mistakes.map(|mistake| (self.start(&mistake.at), mistake.error)).collect();
        all.extend(unread.into_iter().map(|unread| (unread.start, unread.error)));
        all.sort_by_key(|(start, _)| *start);
        together(all.into_iter().map(|(start, error)| (position(self.label, self.text, start), error)))
    }

    /// Where the value at `path` begins; of one that is not there, where the nearest around it does.
    fn start(&self, path: &str) -> usize {
        let around = |entry: &&Entry| path.strip_prefix(&*entry.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.entries.iter().filter(around).max_by_key(|entry| entry.path.len()).map_or(0, |entry| entry.value.start)
    }

    /// Why there may be no key at `path`; `None` if there may.
    fn unknown(&self, path: &str) -> Option<Error> {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = rule(&self.schema, parent)?;
        let known = keys(parent);
        if known.is_empty() || child(parent, key).is_some() {
            return None;
        }
        let error = Error::usage(format!("there is no key `{key}` here"));
        // Keys after a header belong to its table: one that was meant for another place ends up here.
        let places: Vec<(&str, String)> = self.places().collect();
        let place = |name: &str| places.iter().find(|(known, _)| *known == name).map(|(_, place)| place);
        if let Some(place) = place(key) {
            return Some(error.cure(format!("`{key}` stands {place}")));
        }
        if let Some(near) = nearest(key, known.iter().copied()) {
            return Some(error.cure(format!("did you mean `{near}`?")));
        }
        let near = nearest(key, places.iter().map(|(name, _)| *name));
        Some(error.cure(match near.and_then(|near| Some((near, place(near)?))) {
            Some((near, place)) => format!("did you mean `{near}`, which stands {place}?"),
            None => format!("one of: {}", known.join(", ")),
        }))
    }

    /// Every key of the top and of its tables, and where it stands.
    fn places(&self) -> impl Iterator<Item = (&str, String)> {
        let top = keys(&self.schema);
        let of_tables = top.clone().into_iter().flat_map(|section| {
            let table = child(&self.schema, section).map(|rule| (keys(rule), format!("in [{section}]")));
            let list = rule(&self.schema, &format!("{section}.0")).map(|rule| (keys(rule), format!("in [[{section}]]")));
            let both = table.into_iter().chain(list);
            both.flat_map(|(keys, place)| keys.into_iter().map(move |key| (key, place.clone())))
        });
        top.into_iter().map(|key| (key, "at the top of the file, before the first [table]".to_owned())).chain(of_tables)
    }

    /// The path of every key that is there.
    pub fn written(&self) -> BTreeSet<String> {
        self.entries.iter().map(|entry| entry.path.clone()).collect()
    }

    /// What serde has to say, in the words of whoever wrote the file.
    fn explain(&self, error: &toml::de::Error) -> Error {
        let message = error.message();
        let span = error.span().unwrap_or_default();
        let path = self.at(span.start);
        let meaning =
            |path: &str| rule(&self.schema, path).and_then(|r| r["description"].as_str()).unwrap_or("see `dbstress schema`");
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match (message, &*quoted) {
            (m, [key]) if m.starts_with("missing field") => {
                // What is reported is the table that lacks it.
                let table = self.entries.iter().find(|entry| entry.value == span);
                let path = table.map_or_else(|| (*key).to_owned(), |table| format!("{}.{key}", table.path));
                Error::usage(format!("the key `{key}` is missing")).cure(format!("{key}: {}", meaning(&path)))
            }
            (m, [typed, known @ ..]) if m.starts_with("unknown variant") => {
                let hint = nearest(typed, known.iter().copied()).map_or(String::new(), |name| format!("did you mean `{name}`?\n"));
                Error::usage(format!("`{path}` cannot be `{typed}`")).cure(format!("{hint}one of: {}", known.join(", ")))
            }
            (m, _) => {
                let said = match m.strip_prefix("invalid ").and_then(|m| m.split_once(": ")?.1.rsplit_once(", expected ")) {
                    Some((found, expected)) => format!("`{path}` is {found}, and must be {}", plain(expected)),
                    None => format!("`{path}`: {m}"),
                };
                Error::usage(said).cure(format!("{path}: {}", meaning(path)))
            }
        }
    }

    /// The path of what stands at an offset: the smallest that holds it.
    fn at(&self, offset: usize) -> &str {
        let holds = |entry: &&Entry| entry.value.contains(&offset) || entry.key.contains(&offset);
        self.entries.iter().filter(holds).min_by_key(|entry| entry.value.len()).map_or("", |entry| &entry.path)
    }
}

/// Why the text is no TOML at `start`, for which the parser has a message.
fn not_toml(text: &str, start: usize, message: &str) -> Error {
    let line = text[text[..start].rfind('\n').map_or(0, |newline| newline + 1)..].lines().next().unwrap_or_default();
    let before_comment = line.split('#').next().unwrap_or_default();
    match before_comment.trim().strip_suffix('=').map(str::trim) {
        // The parser speaks of strings, whatever the key is for.
        Some(key) if !key.contains('=') => Error::usage(format!("`{key}` has no value"))
            .cure(format!("write it behind the sign, as in {key} = …, or remove the line")),
        _ => Error::usage(message).cure("write it as TOML: https://toml.io"),
    }
}

/// `label:line:column`, both from 1, columns in characters.
fn position(label: &str, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{label}:{line}:{column}")
}

fn collect(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        enter(format!("{prefix}{}", key.get_ref()), key.span(), value, entries);
    }
}

fn enter(path: String, key: Range<usize>, value: &Spanned<DeValue<'_>>, entries: &mut Vec<Entry>) {
    let inner = format!("{path}.");
    entries.push(Entry { path, key, value: value.span() });
    match value.get_ref() {
        DeValue::Table(table) => collect(table, &inner, entries),
        DeValue::Array(elements) => {
            for (n, element) in elements.iter().enumerate() {
                enter(format!("{inner}{n}"), element.span(), element, entries);
            }
        }
        _ => {}
    }
}

/// The part of the schema that `path` leads to.
fn rule<'s>(schema: &'s Json, path: &str) -> Option<&'s Json> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(schema, child)
}

/// The schema itself and those of which one must hold.
fn alternatives(schema: &Json) -> impl Iterator<Item = &Json> {
    std::iter::once(schema).chain(schema["anyOf"].as_array().into_iter().flatten())
}

fn child<'s>(schema: &'s Json, step: &str) -> Option<&'s Json> {
    alternatives(schema).find_map(|s| {
        let element = step.parse::<usize>().ok().and_then(|_| s.get("items"));
        let other = || s.get("additionalProperties").filter(|rule| rule.is_object());
        s["properties"].get(step).or(element).or_else(other)
    })
}

/// The keys that a table may have; none if that is not limited.
fn keys(schema: &Json) -> Vec<&str> {
    alternatives(schema).filter_map(|s| s["properties"].as_object()).flat_map(|p| p.keys().map(|k| &**k)).collect()
}

/// Serde's word for a type as an author of files knows it.
fn plain(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" => "a whole number, not negative",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        table if table.starts_with("struct ") => "a table",
        other => other,
    }
}
