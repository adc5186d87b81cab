//! Is there anything that can be sent to the API which it breaks down at, or answers otherwise than it says? Some thousands of requests, most of them
//! nearly right, some of them no HTTP at all. The same hunt must find mistakes that are made on purpose.

mod common;
#[path = "common/api.rs"]
mod served;

use std::time::Duration;

use dbstress::api::Mistake;
use dbstress::api::route::{Class, Route};
use dbstress::pg::ConnectOptions;
use dbstress::random::Random;
use dbstress::seed::Dataset;
use dbstress::token;
use served::{Described, Served};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What everything is chosen from. A failure says which request it was: the same number makes the same one.
const RNG_SEED: u64 = 20_260_601;
/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request, and how it was meant.
struct Sent {
    method: String,
    path: String,
    bytes: Vec<u8>,
    /// It is HTTP, so that it has an answer of the API's and not only of whoever reads HTTP.
    is_http: bool,
}

/// Makes requests.
struct Maker<'s> {
    served: &'s Served,
    dataset: Dataset,
    /// Of the dataset: tokens that are good for something.
    tokens: Vec<String>,
    choices: Random,
}

impl<'s> Maker<'s> {
    fn new(served: &'s Served, dataset: Dataset) -> Self {
        let roles: &[(&str, Option<i64>, Option<i64>)] = match dataset {
            Dataset::Clinic => &[("admin", None, None), ("practitioner", Some(1), Some(1)), ("viewer", Some(2), None)],
            Dataset::Residency => &[("admin", None, None), ("coordinator", Some(1), None), ("resident", Some(1), Some(1))],
        };
        let until = token::now() + 3_600;
        let tokens = roles.iter().map(|(role, org, actor)| served.token_until(role, *org, *actor, until)).collect();
        Self { served, dataset, tokens, choices: Random::of(RNG_SEED, 0, 0) }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.choices.below(n)
    }

    /// Whether it is one of `of`.
    fn now_and_then(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn noise(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// A number as people and machines write them, and some that do not fit.
    fn number(&mut self) -> String {
        let small = self.below(50).to_string();
        let odd = [
            "0",
            "-1",
            "2147483647",
            "-2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "99999999999999999999",
            "1e400",
            "1.5",
        ];
        if self.now_and_then(3) { self.one(&odd).to_owned() } else { small }
    }

    fn path(&mut self, route: Route) -> String {
        let id = match self.below(12) {
            0 => self.noise(12).iter().map(|byte| format!("%{byte:02X}")).collect(),
            1 => "x".repeat(self.below(3_000) as usize),
            2 => self.one(&["..", ".", "%2e%2e", "%00", "é", "{id}", "1;2", "'", "+1", "01"]).to_owned(),
            _ => self.number(),
        };
        let id: String = id.chars().map(|c| if c.is_ascii() { c.to_string() } else { "%C3%A9".into() }).collect();
        let mut path = route.path().replace("{id}", if id.is_empty() { "0" } else { &id });
        if self.now_and_then(15) {
            path.push_str(self.one(&["/", "//", "/..", "x", "%"]));
        }
        if route.class() == Class::Read && !self.now_and_then(3) || self.now_and_then(10) {
            path.push('?');
            for _ in 0..self.below(3) {
                let name = self.one(&["limit", "after", "from", "to", "person", "kind", "other", "%ff", ""]);
                let value = match self.below(5) {
                    0 => {
                        self.one(&["me", "resident", "2026-06-01", "2026-02-30", "9999-12-31", "%00", "%ff%fe", "+", ""]).to_owned()
                    }
                    1 => self.noise(6).iter().map(|byte| format!("%{byte:02x}")).collect(),
                    _ => self.number(),
                };
                path.push_str(&format!("{name}={value}&"));
            }
        }
        path
    }

    fn body(&mut self, route: Route) -> Vec<u8> {
        let fields: &[&str] = match route {
            Route::Login => &["login", "password"],
            Route::Reserve | Route::Release | Route::Consume => &["units"],
            Route::Appoint => &["authorisation", "starts_at", "ends_at"],
            Route::Assign => &["programme", "person", "block", "template"],
            Route::CancelAssignment => &["programme", "person", "block"],
            Route::Call => &["programme", "person", "night", "kind"],
            Route::Swap => &["programme", "from", "to", "source", "target"],
            _ => &[],
        };
        let mut parts = Vec::new();
        for field in fields {
            let right = match *field {
                "login" => "\"admin@example.com\"".to_owned(),
                "password" => "\"wrong\"".to_owned(),
                "starts_at" => "\"2026-06-01T09:00:00Z\"".to_owned(),
                "ends_at" => "\"2026-06-01T10:00:00Z\"".to_owned(),
                "kind" => "\"overnight\"".to_owned(),
                "programme" => "1".to_owned(),
                _ => self.number(),
            };
            let odd = [
                "null",
                "true",
                "\"\"",
                "\"\\u0000\"",
                "[]",
                "{}",
                "\"\\ud800\"",
                "-0",
                "\"1\"",
                "1.0",
                "\"9999-12-31T23:59:60Z\"",
            ];
            let value = if self.now_and_then(8) { self.one(&odd).to_owned() } else { right };
            if !self.now_and_then(25) {
                parts.push(format!("\"{field}\":{value}"));
            }
            if self.now_and_then(40) {
                parts.push(format!("\"{field}\":1,\"more\":[]"));
            }
        }
        let mut body = format!("{{{}}}", parts.join(",")).into_bytes();
        match self.below(20) {
            0 => body.truncate(self.below(body.len() as u64 + 1) as usize),
            1 => body = self.noise(64),
            2 => body = b"[".repeat(self.below(4_000) as usize),
            3 => body.resize((64 << 10) + self.below(9_000) as usize, b' '),
            4 => {
                let at = self.below(body.len() as u64) as usize;
                body[at] = self.below(256) as u8;
            }
            _ => {}
        }
        body
    }

    fn token(&mut self) -> Vec<u8> {
        let good = self.one(&self.tokens.clone());
        match self.below(16) {
            0 => return Vec::new(),
            1 => self.noise(40),
            2 => b"garbage".to_vec(),
            3 => {
                let mut broken = good.into_bytes();
                let at = self.below(broken.len() as u64) as usize;
                broken[at] = self.one(b"aZ.-_=0 ");
                broken
            }
            4 => b"x.".repeat(self.below(3_000) as usize),
            5 => self.served.token_until("admin", None, None, token::now() - 5).into_bytes(),
            _ => good.into_bytes(),
        }
    }

    /// The request of this number.
    fn make(&mut self, number: u64) -> Sent {
        self.choices = Random::of(RNG_SEED, 1, number);
        if self.now_and_then(12) {
            return self.garbage();
        }
        let here: Vec<Route> =
            Route::ALL.iter().copied().filter(|route| route.dataset().is_none_or(|of| of == self.dataset)).collect();
        let route = if self.now_and_then(15) { self.one(Route::ALL) } else { self.one(&here) };
        let odd = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "HEAD", "BREW"];
        let method = if self.now_and_then(12) { self.one(&odd) } else { route.method() }.to_owned();
        let path = self.path(route);
        let body = if method == "POST" { self.body(route) } else { Vec::new() };
        let mut headers: Vec<(&str, Vec<u8>)> = Vec::new();
        let token = self.token();
        if !token.is_empty() {
            let scheme = if self.now_and_then(20) { self.one(&["bearer ", "Basic ", "Bearer", "Bearer  ", ""]) } else { "Bearer " };
            headers.push(("Authorization", [scheme.as_bytes(), &token].concat()));
        }
        if !body.is_empty() || self.now_and_then(2) {
            let odd: [&[u8]; 5] = [b"text/plain", b"", b"\xff", b"application/json;", b"multipart/form-data"];
            let kind = if self.now_and_then(15) { self.one(&odd).to_vec() } else { b"application/json".to_vec() };
            headers.push(("Content-Type", kind));
        }
        for name in [
            "Idempotency-Key",
            "Dbstress-Run",
            "Dbstress-Operation",
            "Dbstress-Attempt",
            "Dbstress-Later",
            "X-Load-Test",
            "Accept",
            "X",
        ] {
            if self.now_and_then(if name == "Idempotency-Key" { 3 } else { 20 }) {
                let value = match self.below(4) {
                    0 => self.noise(300),
                    1 => self.number().into_bytes(),
                    _ => format!("key-{}", self.below(40)).into_bytes(),
                };
                headers.push((name, value));
            }
        }
        if !headers.is_empty() && self.now_and_then(12) {
            headers.push(self.one(&headers.clone()));
        }
        let mut bytes =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for (name, mut value) in headers {
            // What ends a line or is not allowed in one would make it no HTTP, which is tried elsewhere.
            value.retain(|byte| (*byte >= 32 && *byte != 127) || *byte == b'\t');
            bytes.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&body);
        // Whoever is sent a target that is none says so before the API is asked.
        let is_http = path.parse::<hyper::Uri>().is_ok();
        Sent { method, path, bytes, is_http }
    }

    /// No HTTP, or a request that ends in the middle.
    fn garbage(&mut self) -> Sent {
        let mut bytes = match self.below(5) {
            0 => self.noise(500),
            1 => b"GET /v1/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            2 => b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"login\""
                .to_vec(),
            3 => format!("GET /v1/health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(self.below(400) as usize)).into_bytes(),
            _ => b"GET /v1/authorisations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n".to_vec(),
        };
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() as u64 + 1) as usize;
            let byte = self.below(256) as u8;
            bytes.insert(at, byte);
        }
        Sent { method: "GET".into(), path: String::new(), bytes, is_http: false }
    }
}

/// The status and the body of what came back; `None`: nothing did.
async fn exchange(address: &dbstress::http::Address, sent: &Sent) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((address.host(), address.port())).await.unwrap();
    // Whoever has answered already may have closed it.
    let _ = stream.write_all(&sent.bytes).await;
    if !sent.is_http {
        // Nothing more comes, whatever was begun. Of a request that is one, it would mean that nobody waits for the answer.
        let _ = stream.shutdown().await;
    }
    let mut came = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("an answer, or the end");
    let end = came.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&came[..end]).expect("a head is text");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let body = &came[end + 4..];
    Some((status, body[..length.unwrap_or(0).min(body.len())].to_vec()))
}

/// What is wrong with what came back.
fn fault(described: &Described, sent: &Sent, came: Option<(u16, Vec<u8>)>) -> Option<String> {
    match came {
        None if sent.is_http => Some("no answer".into()),
        None => None,
        Some((status, _)) if status >= 500 => Some(format!("{status}")),
        // Whoever reads HTTP refuses it in its own words.
        Some((400 | 414 | 431, body)) if body.is_empty() => None,
        Some((status, body)) if sent.is_http => described.check(&sent.method, &sent.path, status, &body).err(),
        Some(_) => None,
    }
}

/// Sends so many requests; what was wrong with the answers.
async fn hunt(served: &Served, dataset: Dataset, requests: u64) -> Vec<String> {
    let (address, described) = (served.server.address(), served.described.clone());
    let mut maker = Maker::new(served, dataset);
    let mut faults = Vec::new();
    let mut answered = 0;
    for number in 0..requests {
        let sent = maker.make(number);
        let came = exchange(&address, &sent).await;
        answered += u64::from(sent.is_http && came.is_some());
        if let Some(fault) = fault(&described, &sent, came) {
            let shown = String::from_utf8_lossy(&sent.bytes[..sent.bytes.len().min(600)]).into_owned();
            faults.push(format!("request {number}: {fault}\n{shown}\n"));
        }
    }
    assert!(answered * 4 > requests * 3, "{answered} of {requests} were understood");
    faults
}

async fn serve(options: &ConnectOptions, mistake: Option<Mistake>) -> Served {
    Served::start(options, |settings| settings.mistake = mistake).await
}

#[tokio::test]
async fn nothing_that_is_sent_breaks_it_down_or_is_answered_otherwise_than_it_says() {
    let clinic = common::seeded().await;
    let residency = common::residency(None).await;
    for (database, dataset, requests) in [(&clinic, Dataset::Clinic, 2_500), (&residency, Dataset::Residency, 1_500)] {
        let served = serve(&database.options, None).await;
        let faults = hunt(&served, dataset, requests).await;
        assert!(faults.is_empty(), "{} of {requests}, seed {RNG_SEED}, {dataset:?}:\n{}", faults.len(), faults[0]);
        let summary = served.stop().await;
        assert_eq!((summary.panics, summary.answers.failed), (0, 0));
        let answers = summary.answers;
        assert!(answers.done > requests / 20 && answers.refused > requests / 4, "{answers:?}");
    }
}

#[tokio::test]
async fn the_same_hunt_finds_what_is_wrong_on_purpose() {
    let database = common::seeded().await;
    for (mistake, word) in [(Mistake::GarbageIs500, "500"), (Mistake::ErrorAsSuccess, "not as described")] {
        let served = serve(&database.options, Some(mistake)).await;
        let faults = hunt(&served, Dataset::Clinic, 400).await;
        assert!(faults.iter().any(|fault| fault.contains(word)), "{mistake}: {faults:?}");
        let summary = served.stop().await;
        assert_eq!(summary.panics > 0, mistake == Mistake::GarbageIs500);
    }
}
