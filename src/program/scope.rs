//! Which variables does a program have, and which of them have a value at this point of it?

use std::collections::BTreeSet;

use super::{Slot, Value};
use crate::error::nearest;
use crate::{Error, Result};

/// What cannot be compiled, and where: who knows what the text is called makes an error of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// Byte of the text.
    pub at: usize,
    pub message: String,
    pub cure: String,
}

impl Complaint {
    pub(super) fn new(at: usize, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { at, message: message.into(), cure: cure.into() }
    }

    /// Where it is in `source`, whose text this is: `FILE:LINE:COLUMN`, columns in characters.
    pub(super) fn place(&self, source: &str, text: &str) -> String {
        let line = line_of(text, self.at);
        let start = text[..self.at].rfind('\n').map_or(0, |newline| newline + 1);
        let column = text[start..self.at].chars().count() + 1;
        format!("{source}:{line}:{column}")
    }

    /// As an error of `source`, whose text this is.
    pub(super) fn into_error(self, source: &str, text: &str) -> Error {
        Error::usage(format!("{}: {}", self.place(source, text), self.message)).cure(self.cure)
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// How variables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sigil {
    /// `:name`, in scripts.
    Colon,
    /// `$name` and `${name}`, in scenarios.
    Dollar,
}

impl Sigil {
    pub(super) fn char(self) -> char {
        match self {
            Self::Colon => ':',
            Self::Dollar => '$',
        }
    }
}

/// Variables, and those of them that have a value.
#[derive(Debug)]
pub(super) struct Scope {
    pub sigil: Sigil,
    pub slots: Vec<String>,
    pub initial: Vec<Value>,
    pub assigned: Assigned,
    /// Named only where they may be nothing but text.
    pub mentioned: BTreeSet<Slot>,
}

/// What has a value.
#[derive(Debug, Clone, Default)]
pub(super) struct Assigned {
    slots: BTreeSet<Slot>,
    /// Of every `\gset`: which columns there are is known only at run time.
    prefixes: BTreeSet<String>,
}

impl Assigned {
    /// What has a value on both ways.
    pub(super) fn intersect(&mut self, other: &Self) {
        self.slots.retain(|slot| other.slots.contains(slot));
        self.prefixes.retain(|prefix| other.prefixes.contains(prefix));
    }
}

impl Scope {
    pub(super) fn new(sigil: Sigil) -> Self {
        Self { sigil, slots: Vec::new(), initial: Vec::new(), assigned: Assigned::default(), mentioned: BTreeSet::new() }
    }

    /// The variable of that name; one that there was not begins with NULL.
    fn slot(&mut self, name: &str) -> Slot {
        self.slots.iter().position(|slot| slot == name).unwrap_or_else(|| {
            self.slots.push(name.to_owned());
            self.initial.push(Value::Null);
            self.slots.len() - 1
        })
    }

    /// From here on the variable has a value.
    pub(super) fn assign(&mut self, name: &str) -> Slot {
        let slot = self.slot(name);
        self.assigned.slots.insert(slot);
        slot
    }

    /// From here on the variable has a value, and this is the one it begins with.
    pub(super) fn define(&mut self, name: &str, value: Value) -> Slot {
        let slot = self.assign(name);
        self.initial[slot] = value;
        slot
    }

    /// From here on the variables that begin with it have values, if there are such columns.
    pub(super) fn capture(&mut self, prefix: &str) {
        self.assigned.prefixes.insert(prefix.to_owned());
    }

    /// Whether the variable has a value, `\gset` not counted.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.assigned.slots.iter().any(|slot| self.slots[*slot] == name)
    }

    /// Whether a `\gset` may give it a value.
    fn may_be_captured(&self, name: &str) -> bool {
        self.assigned.prefixes.iter().any(|p| name.len() > p.len() && name.starts_with(p.as_str()))
    }

    /// The variable of that name, if it has a value or may have one, and whether it has one for sure. One without stands for its own text.
    pub(super) fn perhaps(&mut self, name: &str) -> Option<(Slot, bool)> {
        if self.knows(name) {
            return Some((self.slot(name), true));
        }
        if name.is_empty() || !self.may_be_captured(name) {
            return None;
        }
        let is_new = !self.slots.iter().any(|slot| slot == name);
        let slot = self.slot(name);
        if is_new {
            self.initial[slot] = own_name(name);
            self.mentioned.insert(slot);
        }
        Some((slot, false))
    }

    /// The variable of that name, which stands at byte `at`, to be read.
    pub(super) fn find(&mut self, name: &str, at: usize) -> Result<Slot, Complaint> {
        if self.knows(name) {
            return Ok(self.slot(name));
        }
        if self.may_be_captured(name) {
            let is_new = !self.slots.iter().any(|slot| slot == name);
            let slot = self.slot(name);
            if is_new {
                self.initial[slot] = own_name(name);
            }
            self.mentioned.remove(&slot);
            return Ok(slot);
        }
        let sigil = self.sigil.char();
        let cure = match self.sigil {
            Sigil::Colon => format!(
                "assign it before, as in \\set {name} 1, or give it with -D {name}=VALUE; \\: is a colon that means nothing"
            ),
            Sigil::Dollar => "a parameter, a column that an earlier statement captures, $vu, $vus, $iteration or $op_id".to_owned(),
        };
        if self.slots.iter().any(|slot| slot == name) {
            return Err(Complaint::new(at, format!("`{sigil}{name}` may have no value here: it gets one on some ways only"), cure));
        }
        let hint = nearest(name, self.assigned.slots.iter().map(|slot| self.slots[*slot].as_str()));
        let hint = hint.map(|name| format!("; did you mean `{sigil}{name}`?")).unwrap_or_default();
        Err(Complaint::new(at, format!("there is no variable `{sigil}{name}`{hint}"), cure))
    }
}

/// What a variable without a value is where variables are substituted as text: what was written. The server says what it thinks of that.
pub(super) fn own_name(name: &str) -> Value {
    Value::Text(format!(":{name}").into())
}

/// Whether a name can begin with it. Letters beyond ASCII are letters, as in PostgreSQL.
pub(super) fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// The name at the beginning of a text; empty if there is none.
pub(super) fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !(begins_name(c) || c.is_ascii_digit())).unwrap_or(text.len());
    if text.starts_with(begins_name) { &text[..end] } else { "" }
}
