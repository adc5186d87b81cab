//! How is the API asked, and what is remembered of every answer, whatever it was asked for?

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

use crate::contract::{Code, IDEMPOTENCY_KEY, LOAD_TEST, Problem, REPLAYED};
use crate::http::{Address, Body, Client, HeaderMap, Method, Request};
use crate::{Error, Result};

/// Offenders that are kept by name.
const KEPT: usize = 10;

/// A request.
#[derive(Clone, Default)]
pub struct Ask {
    is_post: bool,
    path: String,
    authorisation: Option<String>,
    key: Option<String>,
    body: Option<Value>,
}

impl Ask {
    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// `POST path`, with a body.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { is_post: true, path: path.into(), body: Some(body), ..Self::default() }
    }

    /// With a token.
    pub fn with(self, token: &str) -> Self {
        Self { authorisation: Some(format!("Bearer {token}")), ..self }
    }

    /// With an `Authorization` header that says just this.
    pub fn saying(self, authorisation: &str) -> Self {
        Self { authorisation: Some(authorisation.into()), ..self }
    }

    /// With an idempotency key.
    pub fn keyed(self, key: &str) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// As a person would call it.
    pub fn words(&self) -> String {
        format!("{} {}", if self.is_post { "POST" } else { "GET" }, self.path)
    }

    fn request(&self, address: &Address) -> Result<Request<Body>> {
        let method = if self.is_post { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(address.path(&self.path)).header("host", address.authority());
        request = request.header(LOAD_TEST, "true");
        if let Some(authorisation) = &self.authorisation {
            request = request.header("authorization", authorisation);
        }
        if let Some(key) = &self.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let body = match &self.body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Body::new(body)).map_err(|why| Error::inconclusive(format!("{} cannot be asked", self.words())).because(why))
    }
}

/// What was answered, and when.
#[derive(Debug, Clone)]
pub struct Told {
    /// The status.
    pub status: u16,
    headers: HeaderMap,
    body: Bytes,
    /// Just before the request was sent.
    pub sent: Instant,
    /// Just after the answer had been read.
    pub answered: Instant,
}

impl Told {
    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it was rejected because there were too many.
    pub fn is_rejected(&self) -> bool {
        self.status == Code::RateLimited.status()
    }

    /// The header, if it is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The header, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it is a stored answer.
    pub fn is_replayed(&self) -> bool {
        self.text(REPLAYED) == Some("true")
    }

    /// The code of a problem, if it is one.
    pub fn code(&self) -> Option<Code> {
        serde_json::from_slice::<Problem>(&self.body).ok().map(|problem| problem.code)
    }

    /// The body; `null` if it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Milliseconds from the request to the whole answer.
    pub fn milliseconds(&self) -> f64 {
        (self.answered - self.sent).as_secs_f64() * 1e3
    }

    /// Status and code, for a sentence.
    pub fn words(&self) -> String {
        match self.code().and_then(|code| serde_json::to_value(code).ok()) {
            Some(Value::String(code)) => format!("{} {code}", self.status),
            _ => self.status.to_string(),
        }
    }
}

/// What is remembered of all answers.
#[derive(Default)]
pub struct Book {
    /// What nobody may repeat.
    secrets: Vec<String>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    answers: u64,
    server_errors: u64,
    first_errors: Vec<String>,
    repeated: Vec<String>,
}

impl Book {
    /// Of answers that must not repeat any of these.
    pub fn new(secrets: Vec<String>) -> Arc<Self> {
        Arc::new(Self { secrets, entries: Mutex::default() })
    }

    fn keep(&self, ask: &Ask, told: &Told) {
        let own = ask.authorisation.as_deref().and_then(|said| said.split(' ').next_back()).filter(|token| token.len() >= 16);
        let says = |secret: &str| {
            contains(&told.body, secret.as_bytes())
                || told.headers.values().any(|value| contains(value.as_bytes(), secret.as_bytes()))
        };
        let is_repeated = self.secrets.iter().map(String::as_str).chain(own).any(says);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.answers += 1;
        if told.status >= 500 {
            entries.server_errors += 1;
            if entries.first_errors.len() < KEPT {
                entries.first_errors.push(format!("{}: {}", ask.words(), told.words()));
            }
        }
        if is_repeated {
            entries.repeated.push(format!("{}: {}", ask.words(), told.status));
        }
    }

    /// How many answers there were.
    pub fn answers(&self) -> u64 {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).answers
    }

    /// Answers with a status of 500 or more: how many, and the first of them.
    pub fn server_errors(&self) -> (u64, Vec<String>) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.server_errors, entries.first_errors.clone())
    }

    /// Answers that repeat a secret.
    pub fn repeated(&self) -> Vec<String> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).repeated.clone()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// One connection after the other, as they are needed.
pub struct Caller {
    address: Address,
    client: Option<Client>,
    book: Arc<Book>,
}

impl Caller {
    /// Asks the API there; what it answers goes into `book`.
    pub fn new(address: Address, book: Arc<Book>) -> Self {
        Self { address, client: None, book }
    }

    /// Connects, if that has not been done.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(&mut self) -> Result<()> {
        if !self.client.as_ref().is_some_and(Client::is_open) {
            let connected = Client::connect(&self.address).await;
            self.client = Some(connected.map_err(|why| {
                Error::inconclusive(format!("nobody answers at {}", self.address)).because(why).cure("dbstress serve")
            })?);
        }
        Ok(())
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Inconclusive, when none came: it is not known then whether the request was counted.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Told> {
        self.connect().await?;
        let Some(client) = self.client.as_mut() else { return Err(Error::inconclusive("nobody was asked")) };
        let request = ask.request(&self.address)?;
        let sent = Instant::now();
        match client.send(request).await {
            Ok(answer) => {
                let told =
                    Told { status: answer.status, headers: answer.headers, body: answer.body, sent, answered: Instant::now() };
                self.book.keep(ask, &told);
                Ok(told)
            }
            Err(broken) => {
                self.client = None;
                Err(Error::inconclusive(format!("{} was not answered", ask.words())).because(broken))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &'static str) -> Told {
        let now = Instant::now();
        Told { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()), sent: now, answered: now }
    }

    #[test]
    fn whatever_repeats_a_secret_or_is_the_servers_fault_is_remembered() {
        let book = Book::new(vec!["the-password".into()]);
        book.keep(&Ask::get("/v1/x").with("abcdefghijklmnopqrstuvw"), &told(200, "all is well"));
        assert_eq!((book.answers(), book.server_errors().0, book.repeated().len()), (1, 0, 0));
        book.keep(&Ask::get("/v1/x"), &told(401, "the-password is wrong"));
        book.keep(&Ask::get("/v1/y").with("abcdefghijklmnopqrstuvw"), &told(401, "abcdefghijklmnopqrstuvw is not trusted"));
        book.keep(&Ask::post("/v1/z", Value::Null), &told(500, r#"{"code":"INTERNAL","message":"oops"}"#));
        assert_eq!(book.repeated(), ["GET /v1/x: 401", "GET /v1/y: 401"]);
        assert_eq!(book.server_errors(), (1, vec!["POST /v1/z: 500 INTERNAL".into()]));
    }

    #[test]
    fn an_answer_that_is_no_problem_has_no_code() {
        assert_eq!(told(429, r#"{"code":"RATE_LIMITED","message":""}"#).code(), Some(Code::RateLimited));
        assert_eq!((told(502, "<html>").code(), told(502, "<html>").json()), (None, Value::Null));
    }
}
