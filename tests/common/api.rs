//! How do tests start the API, ask it, and compare what it answers with its own description?

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::sync::Arc;

use dbstress::api::{Server, Settings, Summary, description};
use dbstress::contract::Code;
use dbstress::http::{Address, Answer, Body, Client, Request};
use dbstress::pg::ConnectOptions;
use dbstress::token::{self, Claims, Secret};
use jsonschema::Validator;
use serde_json::{Value, json};

/// A server in this process.
pub struct Served {
    pub server: Server,
    pub secret: Secret,
    pub described: Arc<Described>,
}

impl Served {
    /// On the database of `options`: one thread, few sessions, and nobody is given up on a busy machine.
    pub async fn start(options: &ConnectOptions, change: impl FnOnce(&mut Settings)) -> Self {
        let secret = Secret::random();
        let mut settings = Settings::new(options.clone(), secret.clone());
        settings.threads = 1;
        settings.pool_size = 4;
        settings.retry_deadline = std::time::Duration::from_secs(60);
        change(&mut settings);
        let server = Server::start(settings).await.unwrap();
        Self { server, secret, described: Arc::new(Described::new()) }
    }

    /// A token with these claims, good for a minute.
    pub fn token(&self, role: &str, org: Option<i64>, actor: Option<i64>) -> String {
        self.token_until(role, org, actor, token::now() + 60)
    }

    pub fn token_until(&self, role: &str, org: Option<i64>, actor: Option<i64>, exp: i64) -> String {
        let sub = format!("{role}@example.com");
        self.secret.key().sign(&Claims { sub, role: role.into(), org, actor, iat: token::now(), exp }).unwrap()
    }

    /// Somebody who asks, without a token.
    pub async fn anybody(&self) -> Asker {
        let address = self.server.address();
        let client = Client::connect(&address).await.unwrap();
        Asker { client, address, headers: Vec::new(), described: self.described.clone() }
    }

    /// Somebody who asks with a token of these claims.
    pub async fn asker(&self, role: &str, org: Option<i64>, actor: Option<i64>) -> Asker {
        let token = self.token(role, org, actor);
        self.anybody().await.with("authorization", &format!("Bearer {token}"))
    }

    pub async fn stop(self) -> Summary {
        self.server.stop().await
    }
}

/// A connection, and what is sent with every request on it.
pub struct Asker {
    client: Client,
    address: Address,
    headers: Vec<(String, String)>,
    described: Arc<Described>,
}

impl Asker {
    /// With a header, in the place of any of that name.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(is, _)| is != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(is, _)| is != name);
        self
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, Some(body)).await
    }

    /// Asks, and compares the answer with the description.
    pub async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.send(method, path, body.as_ref().map(|body| serde_json::to_vec(body).unwrap())).await;
        if let Err(why) = self.described.check(method, path, answer.status, &answer.body) {
            panic!("{method} {path}: {why}");
        }
        answer
    }

    /// Asks, whatever comes back.
    pub async fn send(&mut self, method: &str, path: &str, body: Option<Vec<u8>>) -> Answer {
        let mut request = Request::builder().method(method).uri(self.address.path(path)).header("host", self.address.authority());
        let is_typed = self.headers.iter().any(|(name, _)| name == "content-type");
        if body.is_some() && !is_typed {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::new(body.unwrap_or_default().into())).unwrap();
        self.client.send(request).await.unwrap()
    }

    /// The code of a refusal.
    pub async fn refused(&mut self, method: &str, path: &str, body: Option<Value>) -> Code {
        code(&self.ask(method, path, body).await)
    }
}

/// The code in a problem, whose status is the code's.
pub fn code(answer: &Answer) -> Code {
    let problem: dbstress::contract::Problem =
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}: {}", answer.status, text(answer)));
    assert_eq!(problem.code.status(), answer.status, "{problem:?}");
    problem.code
}

pub fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}: {}", answer.status, text(answer)))
}

pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Method, path in parts, and by status what the body must be; `None`: no JSON.
type Known = (String, Vec<String>, HashMap<u16, Option<Validator>>);

/// What the API says of itself, ready to be compared with what it does.
pub struct Described {
    routes: Vec<Known>,
    problem: Validator,
}

impl Described {
    pub fn new() -> Self {
        let document = description::document();
        let build = |schema: &Value| {
            let mut schema = schema.clone();
            schema["components"] = document["components"].clone();
            jsonschema::validator_for(&schema).unwrap()
        };
        let mut routes = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap().iter();
                let statuses = responses.map(|(status, response)| {
                    let schema = response["content"].get("application/json").map(|content| &content["schema"]);
                    (status.parse().unwrap(), schema.map(build))
                });
                let parts = path.split('/').map(str::to_owned).collect();
                routes.push((method.to_ascii_uppercase(), parts, statuses.collect()));
            }
        }
        let problem = build(&json!({ "$ref": "#/components/schemas/Problem" }));
        Self { routes, problem }
    }

    /// Whether the description has this answer to `method` of `path`, which may have a query.
    pub fn check(&self, method: &str, path: &str, status: u16, body: &[u8]) -> Result<(), String> {
        let path = path.split('?').next().unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        let is_at = |template: &[String]| {
            let fits = |(part, is): (&String, &&str)| part == is || part.starts_with('{') && !is.is_empty();
            template.len() == parts.len() && template.iter().zip(&parts).all(fits)
        };
        let said = |why: &str| Err(format!("{why}: {status} {}", String::from_utf8_lossy(&body[..body.len().min(400)])));
        let json = || serde_json::from_slice::<Value>(body).ok();
        let of_path: Vec<_> = self.routes.iter().filter(|(_, template, _)| is_at(template)).collect();
        // A GET can be asked for its head alone.
        let asked = if method == "HEAD" { "GET" } else { method };
        let Some((_, _, statuses)) = of_path.iter().find(|(is, _, _)| is == asked) else {
            let expected = if of_path.is_empty() { 404 } else { 405 };
            return match json() {
                _ if status != expected => said("there is no such route"),
                _ if method == "HEAD" => Ok(()),
                Some(body) if self.problem.is_valid(&body) => Ok(()),
                _ => said("no problem"),
            };
        };
        match statuses.get(&status) {
            None => said("the description has no such answer"),
            Some(_) if method == "HEAD" => Ok(()),
            Some(None) => Ok(()),
            Some(Some(validator)) => match json() {
                None => said("no JSON"),
                Some(body) => validator.validate(&body).or_else(|why| said(&format!("not as described, {why}"))),
            },
        }
    }
}
