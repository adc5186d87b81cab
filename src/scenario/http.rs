//! What is asked of an API, and by whom, as a scenario says it? Keys become values here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::check::Reader;
use super::file::{OperationFile, Scalar};
use super::http_file::{AuthFile, CheckFile, DataFile, HttpFile, OrderName, RuleFile, StepFile};
use super::{Control, Sql};
use crate::error::nearest;
use crate::pace::Think;
use crate::program::Distribution;
use crate::request::{
    Body, Call, Check, From, JsonTemplate, Meanings, Names, Operation, Order, Source, Sum, Table, Template, Test,
};
use crate::seed::Dataset;
use crate::{Error, Result};

/// Requests to an API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Http {
    /// Where it is; `None`: the reference server, started for the run.
    pub target: Option<String>,
    /// The dataset of the reference server, where that is what is asked.
    #[serde(default)]
    pub dataset: Option<String>,
    /// How long an answer may take.
    #[serde(rename = "timeout_ms", with = "crate::milliseconds")]
    pub timeout: Duration,
    /// Whether nothing but GET and HEAD may be sent.
    pub read_only: bool,
    /// Headers of every request.
    #[serde(skip)]
    pub headers: Vec<(String, Template)>,
    /// Makes everything anew.
    #[serde(skip)]
    pub setup: Operation,
    /// Who asks.
    #[serde(skip)]
    pub auth: Option<Auth>,
    /// What `${NAME}` stands for.
    #[serde(skip)]
    pub parameters: Vec<Distribution>,
    /// What `${TABLE.COLUMN}` stands for; with the column of the accounts that a table is paired with.
    #[serde(skip)]
    pub tables: Vec<(Arc<Table>, Option<String>)>,
    /// The tables of the database behind it, where they can be seen: what makes them, removes them, and the rules that they must keep.
    #[serde(skip)]
    pub database: Option<Sql>,
    /// Rules about what the API itself says.
    pub rules: Vec<Rule>,
    /// What must be caught; `None` if the file says nothing about it.
    #[serde(skip)]
    pub control: Option<Control>,
    /// What is chosen from, by weight.
    pub operations: Vec<HttpOperation>,
}

/// One thing that virtual users ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HttpOperation {
    /// Its name in figures and thresholds.
    pub name: String,
    /// How often it is chosen, relative to the others.
    pub weight: f64,
    /// Who does it; empty: everybody.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether an attempt that could not be done just then is made again.
    pub retry: bool,
    /// What is asked; it is in the file, not in the record.
    #[serde(skip)]
    pub requests: Arc<Operation>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Auth {
    /// How tokens are come by.
    pub how: Credentials,
    /// The accounts; none where the reference server has them.
    pub accounts: Option<Arc<Table>>,
    /// How many virtual users have which role, relative to the others; empty: all accounts alike.
    pub roles: BTreeMap<String, f64>,
    /// What every account may GET.
    pub probe: Option<Template>,
}

/// How tokens are come by.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// The accounts of the reference server with these roles log in.
    Reference(Vec<String>),
    /// They are in the column `token`.
    Given,
    /// By asking for them: the request, and where in the answer the token is.
    Login(Box<Call>, From),
    /// By signing them.
    Minted {
        /// The variable of the environment that has the secret.
        secret_env: String,
        /// What they claim.
        claims: JsonTemplate,
        /// How long they are good.
        lifetime: Duration,
    },
}

/// A rule about what the API itself says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What is asked.
    pub path: String,
    /// Where in the answer the number is.
    pub pointer: String,
    /// How it is compared.
    pub relation: Relation,
    /// With what, as it was written.
    pub with: String,
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// It is the same.
    Equals,
    /// It is not more.
    AtMost,
    /// It is not less.
    AtLeast,
}

impl Relation {
    /// In words, before a number.
    pub fn words(self) -> &'static str {
        match self {
            Self::Equals => "equal to",
            Self::AtMost => "at most",
            Self::AtLeast => "at least",
        }
    }
}

impl Http {
    /// Whether anything is asked of the database behind the API.
    pub fn needs_database(&self) -> bool {
        self.database.is_some()
    }

    /// The names of the rules, those of the database first.
    pub fn rule_names(&self) -> Vec<String> {
        let of_database = self.database.iter().flat_map(|sql| &sql.invariants).map(|invariant| invariant.name.clone());
        of_database.chain(self.rules.iter().map(|rule| rule.name.clone())).collect()
    }

    /// The first request that may change something, and whose it is.
    pub fn first_write(&self) -> Option<(&str, &Call)> {
        let of = |operation: &'_ Operation| operation.calls.iter().position(|call| !call.only_reads());
        let setup = of(&self.setup).map(|n| ("http.setup", &self.setup.calls[n]));
        setup.or_else(|| self.operations.iter().find_map(|o| Some((&*o.name, &o.requests.calls[of(&o.requests)?]))))
    }
}

/// The methods that there are.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Columns of the accounts of the reference server.
pub const REFERENCE_COLUMNS: [&str; 4] = ["login", "password", "role", "organisation"];
/// How long an answer may take unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a minted token is good unless the file says otherwise.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What a scenario for an API has besides what all have.
pub(super) struct Parts {
    pub dataset: Option<String>,
    pub http: HttpFile,
    pub data: BTreeMap<String, DataFile>,
    pub rules: Vec<RuleFile>,
    pub operations: Vec<OperationFile>,
    pub parameters: BTreeMap<String, Distribution>,
    pub database: Option<Sql>,
    pub control: Option<Control>,
}

impl Reader<'_> {
    pub(super) fn http(&mut self, parts: Parts) -> Http {
        let Parts { dataset, http, data, rules, operations, parameters, database, control } = parts;
        let HttpFile { target, timeout, headers, outcomes, code, read_only, setup, auth } = http;
        let auth = auth.and_then(|auth| self.auth(auth));
        let columns = auth.as_ref().map(|auth| match &auth.accounts {
            Some(accounts) => accounts.columns().to_vec(),
            None => REFERENCE_COLUMNS.map(str::to_owned).to_vec(),
        });
        let tables = self.tables(data, columns.as_deref());
        for name in parameters.keys().filter(|name| Names::is_given(name)) {
            self.wrong(format!("parameters.{name}"), format!("`{name}` has a meaning already"), "another name");
        }
        let names = Names {
            parameters: parameters.keys().cloned().collect(),
            tables: tables.iter().map(|(name, table, _)| (name.clone(), table.columns().to_vec())).collect(),
            account: columns,
            captured: Vec::new(),
        };
        let common = self.meanings("http", code.as_deref(), &outcomes);
        let mut headers = self.headers("http.headers", &headers, &names);
        let says_who =
            headers.iter().any(|(name, value)| name == "authorization" || value.names(|source| *source == Source::Token));
        if auth.is_some() && !says_who {
            let bearer = Template::parse("Bearer ${token}", &names);
            headers.extend(bearer.ok().map(|bearer| ("authorization".to_owned(), bearer)));
        }
        let setup = self.steps("http.setup", setup, &names, &common);
        if let Some(dataset) = &dataset {
            self.good("dataset", Dataset::named(dataset));
            if target.is_some() {
                self.wrong("dataset", "it is the reference server's, and another API is asked", "leave it out, or the target");
            }
        }
        Http {
            target,
            dataset,
            timeout: self.duration("http.timeout", timeout.as_deref()).unwrap_or(TIMEOUT),
            read_only,
            headers,
            setup,
            operations: self.http_operations(operations, &names, &common, auth.as_ref()),
            auth,
            parameters: parameters.into_values().collect(),
            tables: tables.into_iter().map(|(_, table, pair)| (Arc::new(table), pair)).collect(),
            rules: self.rules(rules, database.as_ref()),
            database,
            control,
        }
    }

    fn table(&mut self, at: &str, file: &str, order: Order) -> Option<Table> {
        let script = self.script(at, file)?;
        self.good(at, Table::read(file, &script.text, order))
    }

    fn tables(&mut self, data: BTreeMap<String, DataFile>, account: Option<&[String]>) -> Vec<(String, Table, Option<String>)> {
        let mut tables = Vec::new();
        for (name, DataFile { file, order, pair }) in data {
            let at = format!("data.{name}");
            if Names::is_given(&name) {
                self.wrong(&at, format!("`{name}` has a meaning already"), "another name");
            }
            let order = match order {
                OrderName::Sequential => Order::Sequential,
                OrderName::Random => Order::Random,
                OrderName::PerVu => Order::PerVu,
            };
            let Some(mut table) = self.table(&format!("{at}.file"), &file, order) else { continue };
            if let Some(column) = &pair {
                if !account.is_some_and(|columns| columns.contains(column)) {
                    let message = format!("the accounts have no column `{column}`");
                    self.wrong(format!("{at}.pair"), message, "a column that both have, such as organisation");
                }
                match self.good(format!("{at}.pair"), table.clone().paired(column)) {
                    Some(paired) => table = paired,
                    None => continue,
                }
            }
            tables.push((name, table, pair));
        }
        tables
    }

    fn auth(&mut self, auth: AuthFile) -> Option<Auth> {
        let AuthFile { account, tokens, accounts, login, mint, roles, probe } = auth;
        let at = "http.auth";
        let ways = [account.is_some(), tokens.is_some(), login.is_some(), mint.is_some()];
        if ways.into_iter().filter(|is_there| *is_there).count() != 1 {
            self.wrong(
                at,
                "it is not said how tokens are come by, or it is said twice",
                "exactly one of: account, tokens, login, mint",
            );
            return None;
        }
        let is_asked = login.is_some() || mint.is_some();
        let (file_at, file) = match (&tokens, &accounts) {
            (Some(file), None) => ("http.auth.tokens", Some(file)),
            (None, Some(file)) if is_asked => ("http.auth.accounts", Some(file)),
            (_, Some(_)) => {
                self.wrong("http.auth.accounts", "`accounts` go with login or mint", "leave it out");
                return None;
            }
            (None, None) if is_asked => {
                self.wrong(at, "there are no accounts", "accounts = \"accounts.csv\"");
                return None;
            }
            (None, None) => ("", None),
        };
        let table = match file {
            Some(file) => Some(self.table(file_at, file, Order::PerVu)?),
            None => None,
        };
        let columns =
            table.as_ref().map_or_else(|| REFERENCE_COLUMNS.map(str::to_owned).to_vec(), |table| table.columns().to_vec());
        let names = Names { account: Some(columns), ..Names::default() };
        let how = if let Some(account) = account {
            Credentials::Reference(account.0)
        } else if tokens.is_some() {
            if table.as_ref().is_some_and(|table| table.column("token").is_none()) {
                self.wrong("http.auth.tokens", "it has no column `token`", "name the column of the tokens so");
            }
            Credentials::Given
        } else if let Some(login) = login {
            let step = StepFile { path: login.path, json: Some(login.json), ..StepFile::default() };
            let mut captured = names.clone();
            let call = self.call("http.auth.login", step, &mut captured, &Meanings::default())?;
            Credentials::Login(Box::new(call), self.good("http.auth.login.token", From::parse(&login.token))?)
        } else {
            let mint = mint?;
            let claims = Json::Object(mint.claims.into_iter().collect());
            Credentials::Minted {
                secret_env: mint.secret_env,
                claims: self.good("http.auth.mint.claims", JsonTemplate::parse(&claims, &names))?,
                lifetime: self.duration("http.auth.mint.lifetime", mint.lifetime.as_deref()).unwrap_or(LIFETIME),
            }
        };
        let known = known_roles(&how, table.as_ref());
        for (role, weight) in &roles {
            let at = format!("http.auth.roles.{role}");
            if !weight.is_finite() || *weight < 0.0 {
                self.wrong(&at, format!("a weight cannot be {weight}"), "0 or more; 0 is nobody");
            }
            self.role(&at, role, &known);
        }
        if !roles.is_empty() && roles.values().all(|weight| *weight == 0.0) {
            self.wrong("http.auth.roles", "nobody would ask", "give one role a weight above 0");
        }
        let probe = probe.and_then(|path| self.good("http.auth.probe", Template::parse(&path, &names)));
        Some(Auth { how, accounts: table.map(Arc::new), roles, probe })
    }

    fn role(&mut self, at: &str, role: &str, known: &BTreeSet<String>) {
        if !known.contains(role) {
            let near =
                nearest(role, known.iter().map(String::as_str)).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
            let all: Vec<&str> = known.iter().map(String::as_str).collect();
            self.wrong(at, format!("no account has the role `{role}`"), format!("{near}one of: {}", all.join(", ")));
        }
    }

    fn meanings(&mut self, at: &str, code: Option<&str>, outcomes: &BTreeMap<String, crate::request::Meaning>) -> Meanings {
        let keys = outcomes.iter().map(|(key, meaning)| (key.as_str(), *meaning));
        match Meanings::new(code, keys) {
            Ok(meanings) => meanings,
            Err((key, error)) => {
                let at = key.map_or(format!("{at}.code"), |key| format!("{at}.outcomes.{key}"));
                self.good::<()>(at, Err(error));
                Meanings::default()
            }
        }
    }

    fn headers(&mut self, at: &str, headers: &BTreeMap<String, String>, names: &Names) -> Vec<(String, Template)> {
        let mut read = Vec::new();
        for (name, value) in headers {
            let at = format!("{at}.{name}");
            if crate::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.wrong(&at, format!("`{name}` cannot be the name of a header"), "letters, digits and hyphens");
            }
            if let Some(value) = self.good(at, Template::parse(value, names)) {
                read.push((name.to_lowercase(), value));
            }
        }
        read
    }

    fn http_operations(
        &mut self,
        operations: Vec<OperationFile>,
        names: &Names,
        common: &Meanings,
        auth: Option<&Auth>,
    ) -> Vec<HttpOperation> {
        if operations.is_empty() {
            self.wrong("operation", "there is nothing to do", "add an [[operation]] with a name and steps = [{ path = \"/\" }]");
            return Vec::new();
        }
        self.weights(&operations);
        let known = auth.map(|auth| known_roles(&auth.how, auth.accounts.as_deref()));
        let mut taken = BTreeSet::new();
        let mut read = Vec::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let at = format!("operation.{n}");
            let OperationFile {
                name,
                weight,
                kind,
                units,
                request,
                isolation,
                sql,
                statements,
                script,
                expect,
                refused,
                retry,
                outcomes,
                steps,
                roles,
            } = operation;
            let foreign = [
                ("kind", kind.is_some()),
                ("units", units.is_some()),
                ("request", request.is_some()),
                ("isolation", isolation.is_some()),
                ("sql", sql.is_some()),
                ("statements", statements.is_some()),
                ("script", script.is_some()),
                ("expect", expect.is_some()),
                ("refused", refused.is_some()),
                ("outcomes", outcomes.is_some()),
            ];
            self.refuse(
                &foreign,
                &format!("{at}."),
                "it belongs to another workload",
                "leave it out; steps say what is asked, and what answers mean",
            );
            match &name {
                Some(name) => self.name(&at, name, &mut taken),
                None => self.wrong(&at, "the key `name` is missing", "name = \"book\": what figures and thresholds call it"),
            }
            let roles = roles.unwrap_or_default();
            for (m, role) in roles.iter().enumerate() {
                let at = format!("{at}.roles.{m}");
                match &known {
                    Some(known) => self.role(&at, role, known),
                    None => self.wrong(at, "nobody has a role", "say who asks in [http.auth], or leave it out"),
                }
            }
            let steps = steps.unwrap_or_default();
            if steps.is_empty() {
                self.wrong(&at, "nothing is asked", "steps = [{ path = \"/\" }]");
            }
            let requests = Arc::new(self.steps(&format!("{at}.steps"), steps, names, common));
            let (name, weight, retry) = (name.unwrap_or_default(), weight.unwrap_or(1.0), retry.unwrap_or(true));
            read.push(HttpOperation { name, weight, roles, retry, requests });
        }
        read
    }

    fn steps(&mut self, at: &str, steps: Vec<StepFile>, names: &Names, common: &Meanings) -> Operation {
        let mut names = names.clone();
        let mut calls = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            calls.extend(self.call(&format!("{at}.{n}"), step, &mut names, common));
        }
        Operation { calls, captured: names.captured.len() }
    }

    fn call(&mut self, at: &str, step: StepFile, names: &mut Names, common: &Meanings) -> Option<Call> {
        let StepFile { name, method, path, headers, json, body, outcomes, code, checks, capture, think } = step;
        let usual = if json.is_some() || body.is_some() { "POST" } else { "GET" };
        let method = method.unwrap_or_else(|| usual.to_owned()).to_uppercase();
        if !METHODS.contains(&method.as_str()) {
            self.wrong(format!("{at}.method"), format!("`{method}` is no method"), format!("one of: {}", METHODS.join(", ")));
        }
        let path_at = format!("{at}.path");
        let path = self.good(&path_at, Template::parse(&path, names));
        if path.as_ref().is_some_and(|path| !path.is_one_value() && !path.beginning().starts_with('/')) {
            self.wrong(path_at, "a path begins with a slash: it is below the target", "path = \"/seats/1\"");
        }
        let body = match (json, body) {
            (Some(_), Some(_)) => {
                self.wrong(format!("{at}.body"), "two things are sent", "json or body");
                Body::None
            }
            (Some(json), None) => self.good(format!("{at}.json"), JsonTemplate::parse(&json, names)).map_or(Body::None, Body::Json),
            (None, Some(text)) => self.good(format!("{at}.body"), Template::parse(&text, names)).map_or(Body::None, Body::Text),
            (None, None) => Body::None,
        };
        let headers = self.headers(&format!("{at}.headers"), &headers, names);
        let checks =
            checks.into_iter().enumerate().filter_map(|(n, check)| self.check(&format!("{at}.checks.{n}"), check, names)).collect();
        let mut captures = Vec::new();
        for (name, from) in capture {
            let at = format!("{at}.capture.{name}");
            if Names::is_given(&name) || name.contains(['.', '|', '}']) {
                self.wrong(&at, format!("`{name}` cannot be the name of a value"), "a name of its own, of letters, digits and _");
            }
            if let Some(from) = self.good(at, From::parse(&from)) {
                captures.push((names.captured.len(), from));
                names.captured.push(name);
            }
        }
        let pause = think.and_then(|text| self.parsed::<Think>(format!("{at}.think"), &text)).map(|think| [think.from, think.to]);
        let meanings = self.meanings(at, code.as_deref(), &outcomes).over(common);
        Some(Call { name, method, path: path?, headers, body, meanings, checks, captures, pause })
    }

    fn check(&mut self, at: &str, check: CheckFile, names: &Names) -> Option<Check> {
        let CheckFile { name, pointer, header, equals, matches, of_type } = check;
        let place = match (pointer, header) {
            (Some(pointer), None) => self.good(format!("{at}.pointer"), From::parse(&pointer).and_then(in_body))?,
            (None, Some(header)) => From::Header(header.to_lowercase()),
            _ => {
                self.wrong(at, "it does not say where it looks, or says it twice", "pointer = \"/status\" or header = \"etag\"");
                return None;
            }
        };
        let test = match (equals, matches, of_type) {
            (None, None, None) => Test::Exists,
            (Some(wanted), None, None) => Test::Equals(self.good(format!("{at}.equals"), JsonTemplate::parse(&wanted, names))?),
            (None, Some(pattern), None) => {
                let regex = Regex::new(&pattern).map_err(|why| {
                    Error::usage(format!("`{pattern}` is no regular expression"))
                        .because(why)
                        .cure("as https://docs.rs/regex has them")
                });
                Test::Matches(self.good(format!("{at}.matches"), regex)?)
            }
            (None, None, Some(kind)) => Test::Is(kind),
            _ => {
                self.wrong(at, "it says more than one thing", "one of: equals, matches, type; for each a check of its own");
                return None;
            }
        };
        let mut check = Check { name: String::new(), at: place, test };
        check.name = name.unwrap_or_else(|| check.to_string());
        Some(check)
    }

    fn rules(&mut self, rules: Vec<RuleFile>, database: Option<&Sql>) -> Vec<Rule> {
        let mut names: BTreeSet<String> = database.iter().flat_map(|sql| &sql.invariants).map(|i| i.name.clone()).collect();
        let mut read = Vec::new();
        for (n, RuleFile { name, path, pointer, equals, at_most, at_least }) in rules.into_iter().enumerate() {
            let at = format!("invariant.{n}");
            self.name(&at, &name, &mut names);
            if !path.starts_with('/') {
                self.wrong(format!("{at}.path"), "a path begins with a slash: it is below the target", "path = \"/seats/1\"");
            }
            self.good(format!("{at}.pointer"), From::parse(&pointer).and_then(in_body));
            let compared: Vec<(&str, Relation, Scalar)> = [
                equals.map(|with| ("equals", Relation::Equals, with)),
                at_most.map(|with| ("at_most", Relation::AtMost, with)),
                at_least.map(|with| ("at_least", Relation::AtLeast, with)),
            ]
            .into_iter()
            .flatten()
            .collect();
            let [(key, relation, with)] = &compared[..] else {
                let message = format!("{} comparisons", compared.len());
                self.wrong(at, message, "exactly one of: equals, at_most, at_least; for each a rule of its own");
                continue;
            };
            let text = match with {
                Scalar::Integer(number) => number.to_string(),
                Scalar::Text(text) => text.clone(),
                Scalar::Boolean(_) | Scalar::Double(_) => {
                    self.wrong(
                        format!("{at}.{key}"),
                        "it is no whole number",
                        "a whole number, or a text such as \"before + committed(book)\"",
                    );
                    continue;
                }
            };
            self.good(format!("{at}.{key}"), Sum::parse(&text));
            read.push(Rule { name, path, pointer, relation: *relation, with: text });
        }
        read
    }
}

/// A check looks where everybody would look again.
fn in_body(from: From) -> Result<From> {
    match &from {
        From::Pointer(keys) if !keys.iter().any(|key| key == "*") => Ok(from),
        _ => Err(Error::usage("it does not lead to one place in the body").cure("a JSON pointer without *, such as /items/0/id")),
    }
}

/// The roles that accounts have.
fn known_roles(how: &Credentials, accounts: Option<&Table>) -> BTreeSet<String> {
    match (how, accounts) {
        (Credentials::Reference(roles), _) => roles.iter().cloned().collect(),
        (_, Some(accounts)) => {
            let column = accounts.column("role");
            let role = |row: &crate::request::Row| Some(row.0.get(column?)?.as_str()?.to_owned());
            accounts.rows().iter().filter_map(role).collect()
        }
        (_, None) => BTreeSet::new(),
    }
}
