//! Which keys may a scenario file have for an API? As in [`super::file`], the doc comments are what editors show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::file::{Names, Scalar};
use crate::request::{JsonKind, Meaning};

/// The API, who asks it, and what all requests have in common.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpFile {
    /// Where it is, as "http://127.0.0.1:8080" or "https://HOST/BASE"; --target goes before it. Default: the reference server, started for the run.
    pub target: Option<String>,
    /// How long an answer may take; what has not been answered then is unknown, or if it only reads, aborted. Default: 10s.
    pub timeout: Option<String>,
    /// Headers of every request. Default: authorization = "Bearer ${token}" if there is [http.auth].
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What a status means, as { "409" = "refused", "500-599" = "aborted" }; with `code` also what a code of the body means.
    /// Default: 2xx committed, 409 refused, 401 and 403 not-let-in, 404 not-there, 429 rate-limited, 503 unavailable, any other 4xx rejected, all else unknown.
    #[serde(default)]
    pub outcomes: BTreeMap<String, Meaning>,
    /// Where in the body the code is that `outcomes` may name, as "/error/code".
    pub code: Option<String>,
    /// Whether nothing but GET and HEAD may be sent. Default: false.
    #[serde(default)]
    pub read_only: bool,
    /// Requests that make everything anew: before the controls, and before what is tested. They are asked by the first account.
    #[serde(default)]
    pub setup: Vec<StepFile>,
    /// Who asks. Default: nobody in particular.
    pub auth: Option<AuthFile>,
}

/// Who asks: one of account, tokens, login and mint; the last two with accounts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthFile {
    /// Roles of the reference server's accounts, which log in; their password is known on the machine of the server.
    pub account: Option<Names>,
    /// A file of tokens beside this one, CSV or JSON: the column `token`, and `role` and `organisation` if there are any.
    pub tokens: Option<String>,
    /// A file of accounts beside this one, CSV or JSON: whatever columns `login` or `mint` use, and `role` and `organisation` if there are any.
    pub accounts: Option<String>,
    /// How an account logs in.
    pub login: Option<LoginFile>,
    /// How a token is signed for an account.
    pub mint: Option<MintFile>,
    /// How many of the virtual users have which role, relative to the others. Default: all accounts alike.
    #[serde(default)]
    pub roles: BTreeMap<String, f64>,
    /// A path that every account may GET: it is asked once for each role and organisation before the load. Default: the first GET of an operation
    /// that needs nothing but the account.
    pub probe: Option<String>,
}

/// How an account logs in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginFile {
    /// Where.
    pub path: String,
    /// What is sent, as { login = "${account.login}", password = "${account.password}" }.
    pub json: Json,
    /// Where in the answer the token is, as "/token".
    pub token: String,
}

/// How a token is signed, with HS256.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MintFile {
    /// The variable of the environment that has the secret.
    pub secret_env: String,
    /// What it claims, besides iat and exp, as { sub = "${account.login}", role = "${account.role}" }.
    pub claims: BTreeMap<String, Json>,
    /// How long it is good. Default: 15m.
    pub lifetime: Option<String>,
}

/// A table of values.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// The file, CSV or JSON, beside this one.
    pub file: String,
    /// Which row an iteration gets. Default: random.
    #[serde(default)]
    pub order: OrderName,
    /// A column that the accounts have too: an account gets only rows with the same value in it.
    pub pair: Option<String>,
}

/// Which row an iteration gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderName {
    /// One after the other, over all virtual users, and from the beginning again.
    Sequential,
    /// Any.
    #[default]
    Random,
    /// Always the one of the virtual user.
    PerVu,
}

/// One request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// What rules call it, as in committed(OPERATION.NAME).
    pub name: Option<String>,
    /// GET, POST, PUT, PATCH, DELETE, HEAD. Default: POST if something is sent, otherwise GET.
    pub method: Option<String>,
    /// Path and query below the target, as "/seats/${seat}"; values in it are percent-encoded.
    pub path: String,
    /// Headers of this request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is sent, as JSON. A string that is one placeholder becomes its value, number or text.
    pub json: Option<Json>,
    /// What is sent, as any other text; say what it is with a content-type.
    pub body: Option<String>,
    /// What a status, or with `code` a code of the body, means for this request; it goes before what is said of all.
    #[serde(default)]
    pub outcomes: BTreeMap<String, Meaning>,
    /// Where in the body the code is that `outcomes` may name, as "/error/code".
    pub code: Option<String>,
    /// What must be so in an answer that says that it was done.
    #[serde(default)]
    pub checks: Vec<CheckFile>,
    /// Values of the answer that later requests use as ${NAME}: { id = "/items/0/id", etag = "header etag" }; * is one item at random.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
    /// The pause after it, as "1s" or "1s..3s". Default: none.
    pub think: Option<String>,
}

/// Something that must be so: in the body or in a header, and one of equals, matches, type; without any of them it must be there.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckFile {
    /// What it is counted under. Default: what it says.
    pub name: Option<String>,
    /// Where in the body, as "/status".
    pub pointer: Option<String>,
    /// In which header.
    pub header: Option<String>,
    /// This value is there.
    pub equals: Option<Json>,
    /// This regular expression is found in it.
    pub matches: Option<String>,
    /// It is of this type.
    #[serde(rename = "type")]
    pub of_type: Option<JsonKind>,
}

/// A rule about what the API itself says when the load is over: a number of an answer, and what it must be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its name.
    pub name: String,
    /// What is asked with GET, as "/performances/1".
    pub path: String,
    /// Where in the answer the number is, as "/sold". A list or an object stands for how many it has.
    pub pointer: String,
    /// It must be this: numbers, before (what it was before the load), committed(OPERATION), with + and - between.
    pub equals: Option<Scalar>,
    /// It must not be more than this.
    pub at_most: Option<Scalar>,
    /// It must not be less than this.
    pub at_least: Option<Scalar>,
}
