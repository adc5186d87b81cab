//! What is asked of an API, and what does its answer mean? Pure: who sends a request fills its placeholders, and shows what came back.
//!
//! [`Template`] is a text with placeholders, [`Scope`] has their values in one iteration, [`Table`] the rows of a file; [`Meanings`] say what a
//! status means, [`Check`] what must be so in an answer, [`Sum`] what is reckoned of how often something was done.

mod answer;
mod check;
mod meaning;
mod sum;
mod table;
mod template;

use std::time::Duration;

use serde_json::Value as Json;

pub use answer::{From, Seen};
pub use check::{Check, Kind as JsonKind, Test};
pub use meaning::{Meaning, Meanings};
pub use sum::{Counted, Range, Sum};
pub use table::{Order, Row, Table};
pub use template::{JsonTemplate, Missing, Names, Scope, Source, Template};

/// One thing that virtual users do: requests one after the other.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    /// The requests.
    pub calls: Vec<Call>,
    /// How many values of answers later requests use.
    pub captured: usize,
}

impl Operation {
    /// Whether nothing of it changes anything at the server: GET and HEAD alone.
    pub fn only_reads(&self) -> bool {
        self.calls.iter().all(Call::only_reads)
    }

    /// The request called `name`; without a name the last.
    pub fn call(&self, name: Option<&str>) -> Option<usize> {
        match name {
            None => self.calls.len().checked_sub(1),
            Some(name) => self.calls.iter().position(|call| call.name.as_deref() == Some(name)),
        }
    }
}

/// One request, and what is made of its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// What counts call it, if it has a name.
    pub name: Option<String>,
    /// GET, POST, …
    pub method: String,
    /// Path and query, below the target.
    pub path: Template,
    /// Headers besides those of all requests.
    pub headers: Vec<(String, Template)>,
    /// What is sent.
    pub body: Body,
    /// What its answer means.
    pub meanings: Meanings,
    /// What must be so in an answer that means it was done.
    pub checks: Vec<Check>,
    /// Values of the answer that later requests use: where each is kept, and where it is found.
    pub captures: Vec<(usize, From)>,
    /// How long the virtual user pauses after it: between these two.
    pub pause: Option<[Duration; 2]>,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(JsonTemplate),
    /// Any other text.
    Text(Template),
}

/// A request whose placeholders are filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// GET, POST, …
    pub method: String,
    /// Path and query, below the target.
    pub path: String,
    /// Its own headers.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub body: Option<String>,
    /// Whether that is JSON.
    pub is_json: bool,
}

impl Call {
    /// Whether it changes nothing at the server: GET and HEAD, which RFC 9110 calls safe.
    pub fn only_reads(&self) -> bool {
        only_reads(&self.method)
    }

    /// A request that only asks for what is at `path`.
    pub fn get(path: Template) -> Self {
        Self {
            name: None,
            method: "GET".into(),
            path,
            headers: Vec::new(),
            body: Body::None,
            meanings: Meanings::default(),
            checks: Vec::new(),
            captures: Vec::new(),
            pause: None,
        }
    }

    /// Whether it can be made before there is any load: it needs nothing but who asks.
    pub fn needs_account_alone(&self) -> bool {
        !self.names(&|source| !matches!(source, Source::Account(_) | Source::Token))
    }

    /// Whether a value of this source is in it.
    pub fn names(&self, is_meant: &dyn Fn(&Source) -> bool) -> bool {
        let is_in_body = match &self.body {
            Body::None => false,
            Body::Json(json) => json.names(is_meant),
            Body::Text(text) => text.names(is_meant),
        };
        is_in_body || self.path.names(is_meant) || self.headers.iter().any(|(_, value)| value.names(is_meant))
    }

    /// With the values of an iteration.
    ///
    /// # Errors
    /// A value that there is not.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<Filled, Missing> {
        let (body, is_json) = match &self.body {
            Body::None => (None, false),
            Body::Json(json) => (Some(json.fill(scope)?.to_string()), true),
            Body::Text(text) => (Some(text.fill(scope)?), false),
        };
        let headers = self.headers.iter().map(|(name, value)| Ok((name.clone(), value.fill(scope)?)));
        Ok(Filled {
            method: self.method.clone(),
            path: self.path.fill_path(scope)?,
            headers: headers.collect::<Result<_, Missing>>()?,
            body,
            is_json,
        })
    }
}

/// Whether a request with this method changes nothing at the server, by RFC 9110.
pub fn only_reads(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// A value as text: a JSON string is its characters.
fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
