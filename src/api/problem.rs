//! How is it said that something was not done?

use std::borrow::Cow;

use axum::response::Response;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::contract::{Code, Problem};

/// What is answered: a status, JSON or nothing, and headers.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What is in the body; JSON, unless the headers say otherwise.
    pub body: Cow<'static, [u8]>,
    /// What goes with it.
    pub headers: HeaderMap,
}

impl Answer {
    /// This JSON.
    pub fn json(status: StatusCode, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { status, body: body.into(), headers: HeaderMap::new() }
    }

    /// With a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// For the wire.
    pub fn response(self) -> Response {
        let body = match self.body {
            Cow::Borrowed(body) => axum::body::Body::from(body),
            Cow::Owned(body) => axum::body::Body::from(body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        response
    }
}

/// Why something was not done.
#[derive(Debug)]
pub struct Refused {
    /// For programs.
    pub code: Code,
    /// For people. Never anything that was sent: it may be a secret.
    pub message: Cow<'static, str>,
    /// The key to ask again with.
    pub key: Option<String>,
}

impl Refused {
    /// For this reason.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), key: None }
    }

    /// In the words of the code, where nobody has better ones.
    pub fn plain(code: Code) -> Self {
        Self::new(code, words(code))
    }

    /// For the wire.
    pub fn answer(self) -> Answer {
        let code = self.code;
        let problem = Problem { code, message: self.message.into_owned(), idempotency_key: self.key };
        // A word and two texts: it can be written.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = Answer::json(status, body);
        match code {
            Code::NoToken | Code::InvalidToken | Code::TokenExpired | Code::InvalidCredentials => {
                answer.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Code::RetriesSpent | Code::Unavailable => answer.with(header::RETRY_AFTER, HeaderValue::from_static("1")),
            // What is under way takes milliseconds.
            Code::KeyInFlight => answer.with(header::RETRY_AFTER, HeaderValue::from_static("0")),
            _ => answer,
        }
    }
}

fn words(code: Code) -> &'static str {
    match code {
        Code::NoToken => "a token is needed: Authorization: Bearer TOKEN",
        Code::InvalidToken => "the token is not one of this server's",
        Code::TokenExpired => "the token has expired",
        Code::InvalidCredentials => "the login or the password is wrong",
        Code::Role => "this role may not do that",
        Code::RateLimited => "more requests than are let through: wait for Retry-After",
        Code::KeyInFlight => "another request with the same key is under way",
        Code::NotLive => "the appointment has been cancelled or completed already",
        Code::TooLarge => "the body is too long",
        Code::UnsupportedMediaType => "the body must be said to be application/json",
        Code::NoSuchRoute => "there is no such route: GET /v1/openapi.json lists them",
        Code::MethodNotAllowed => "there is such a route, with another method",
        Code::DatasetNotHere => "the dataset that is here has no such thing",
        Code::RetriesSpent => "it met others again and again, and was not done",
        Code::Unavailable => "the database cannot be reached or has no connection to spare; it was not done",
        Code::UnknownOutcome => "it may have been done, or not: ask again with the same key, if there was one",
        Code::Malformed => "the body is no JSON of the right shape",
        Code::Invalid => "something in it is impossible",
        Code::Internal => "a mistake of the server's",
        refused => refused.refusal().map_or("refused", crate::outcome::Refusal::words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_answered_with_its_status_and_what_must_go_with_it() {
        for code in Code::ALL {
            let answer = Refused::plain(code).answer();
            assert_eq!(answer.status.as_u16(), code.status());
            let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(problem.code, code);
            assert!(problem.message.len() > 3, "{code:?}");
            assert_eq!(answer.headers.contains_key(header::WWW_AUTHENTICATE), code.status() == 401, "{code:?}");
            let comes_back = code.status() == 503 || code == Code::KeyInFlight;
            assert_eq!(answer.headers.contains_key(header::RETRY_AFTER), comes_back, "{code:?}");
        }
    }
}
