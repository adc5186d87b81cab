//! Who is asking? A token is verified once, and known from then on until it expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::mistakes::Mistake;
use super::problem::Refused;
use super::route::Role;
use crate::contract::Code;
use crate::token::{self, Claims, Invalid, Key};

/// So many tokens are known at once.
const MOST_TOKENS: usize = 1 << 13;
/// A longer one is verified each time, so that nobody fills the memory with it.
const LONGEST_TOKEN: usize = 1 << 10;

/// Who asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// As it logs in.
    pub login: String,
    /// What it may do; `None`: a role that is not known here, which may do nothing.
    pub role: Option<Role>,
    /// Of which organisation, or programme; `None`: of all of them.
    pub organisation: Option<i64>,
    /// The practitioner, or person.
    pub actor: Option<i64>,
    /// From then on it is nobody, seconds since 1970.
    expires: i64,
}

/// Tells who asks.
pub struct Tokens {
    key: Key,
    known: Mutex<HashMap<Box<str>, Arc<Caller>>>,
    mistake: Option<Mistake>,
}

impl Tokens {
    /// Trusts what `key` has signed.
    pub fn new(key: Key, mistake: Option<Mistake>) -> Self {
        Self { key, known: Mutex::default(), mistake }
    }

    /// Signs.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Who sends these headers, at `now`, seconds since 1970.
    ///
    /// # Errors
    /// There is no token, or none that is trusted.
    pub fn caller(&self, headers: &HeaderMap, now: i64) -> Result<Arc<Caller>, Refused> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let header = sent.next().ok_or_else(|| Refused::plain(Code::NoToken))?;
        if sent.next().is_some() {
            return Err(Refused::new(Code::InvalidToken, "there is more than one Authorization header"));
        }
        let Ok(text) = header.to_str() else { return Err(Refused::plain(Code::InvalidToken)) };
        let (scheme, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::plain(Code::NoToken));
        }
        self.known_as(token.trim(), now)
    }

    fn known_as(&self, token: &str, now: i64) -> Result<Arc<Caller>, Refused> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(caller) = known.get(token).filter(|caller| now < caller.expires) {
                return Ok(caller.clone());
            }
        }
        let claims = self.verified(token, now).map_err(|why| match why {
            Invalid::Expired => Refused::plain(Code::TokenExpired),
            Invalid::Untrusted => Refused::plain(Code::InvalidToken),
        })?;
        let expires = if self.mistake == Some(Mistake::AcceptsExpired) { i64::MAX } else { claims.exp };
        let caller = Arc::new(Caller {
            login: claims.sub,
            role: Role::from_name(&claims.role),
            organisation: claims.org,
            actor: claims.actor,
            expires,
        });
        if token.len() <= LONGEST_TOKEN {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST_TOKENS {
                known.retain(|_, caller| now < caller.expires);
            }
            if known.len() >= MOST_TOKENS {
                known.clear();
            }
            known.insert(token.into(), caller.clone());
        }
        Ok(caller)
    }

    /// What a token claims, if it is trusted. At the second in which it expires it is not: RFC 7519, 4.1.4.
    fn verified(&self, token: &str, now: i64) -> Result<Claims, Invalid> {
        let claims = match (self.key.verify::<Claims>(token), self.mistake) {
            (Err(Invalid::Expired), Some(Mistake::AcceptsExpired)) => said(token),
            (Err(Invalid::Untrusted), Some(Mistake::AnySignature)) => said(token),
            (Err(Invalid::Untrusted), Some(Mistake::AcceptsUnsigned)) if is_unsigned(token) => said(token),
            (Err(Invalid::Untrusted), Some(Mistake::GarbageIs500)) if token::peek(token).is_none() => {
                // As a handler that takes three parts for granted, without the noise.
                std::panic::resume_unwind(Box::new("a token that is none"));
            }
            (verified, _) => verified,
        }?;
        if claims.exp <= now && self.mistake != Some(Mistake::AcceptsExpired) {
            return Err(Invalid::Expired);
        }
        Ok(claims)
    }
}

fn said(token: &str) -> Result<Claims, Invalid> {
    let claims = token::peek(token).ok_or(Invalid::Untrusted)?;
    serde_json::from_value(claims).map_err(|_| Invalid::Untrusted)
}

/// Whether its head says that nobody signed it. `peek` reads the second of three parts: here that is the head.
fn is_unsigned(token: &str) -> bool {
    let head = token::peek(&format!(".{}.", token.split('.').next().unwrap_or_default()));
    head.and_then(|head| head.get("alg").and_then(|alg| alg.as_str().map(|alg| alg.eq_ignore_ascii_case("none")))).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hyper::header::HeaderValue;

    fn claims(exp: i64) -> Claims {
        Claims { sub: "a@example.com".into(), role: "viewer".into(), org: Some(3), actor: None, iat: 0, exp }
    }

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn code(tokens: &Tokens, values: &[&[u8]], now: i64) -> Code {
        tokens.caller(&headers(values), now).map_or_else(|refused| refused.code, |_| panic!("let in"))
    }

    fn bearer(token: &str) -> Vec<u8> {
        format!("Bearer {token}").into_bytes()
    }

    #[test]
    fn a_token_is_good_until_the_second_in_which_it_expires_also_when_it_is_known() {
        let now = token::now();
        let tokens = Tokens::new(Key::new(b"secret"), None);
        let good = bearer(&tokens.key().sign(&claims(now + 60)).unwrap());
        let caller = tokens.caller(&headers(&[&good]), now).unwrap();
        assert_eq!((caller.role, caller.organisation, &*caller.login), (Some(Role::Viewer), Some(3), "a@example.com"));
        assert!(Arc::ptr_eq(&caller, &tokens.caller(&headers(&[&good]), now + 59).unwrap()), "it is known");
        assert_eq!(code(&tokens, &[&good], now + 60), Code::TokenExpired);
    }

    #[test]
    fn whatever_else_is_sent_lets_nobody_in() {
        let now = token::now();
        let tokens = Tokens::new(Key::new(b"secret"), None);
        let good = bearer(&tokens.key().sign(&claims(now + 60)).unwrap());
        let late = bearer(&tokens.key().sign(&claims(now - 60)).unwrap());
        let others = bearer(&Key::new(b"another").sign(&claims(now + 60)).unwrap());
        assert_eq!(code(&tokens, &[], now), Code::NoToken);
        assert_eq!(code(&tokens, &[b"Basic YTpi"], now), Code::NoToken);
        assert_eq!(code(&tokens, &[b"Bearer"], now), Code::InvalidToken);
        assert_eq!(code(&tokens, &[b"Bearer \xff\xfe"], now), Code::InvalidToken);
        assert_eq!(code(&tokens, &[&good, &good], now), Code::InvalidToken);
        assert_eq!(code(&tokens, &[&late], now), Code::TokenExpired);
        assert_eq!(code(&tokens, &[&others], now), Code::InvalidToken);
    }

    #[test]
    fn each_mistake_lets_in_what_it_says_and_nothing_else() {
        let now = token::now();
        let key = Key::new(b"secret");
        let late = key.sign(&claims(now - 60)).unwrap();
        let others = Key::new(b"another").sign(&claims(now + 60)).unwrap();
        let body = others.split('.').nth(1).unwrap();
        let unsigned = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#));
        let lets_in = |mistake, token: &str| Tokens::new(key.clone(), mistake).caller(&headers(&[&bearer(token)]), now).is_ok();
        for (mistake, lets) in [
            (None, [false, false, false]),
            (Some(Mistake::AcceptsExpired), [true, false, false]),
            (Some(Mistake::AcceptsUnsigned), [false, true, false]),
            (Some(Mistake::AnySignature), [false, true, true]),
        ] {
            assert_eq!([&late, &unsigned, &others].map(|token| lets_in(mistake, token)), lets, "{mistake:?}");
        }
    }

    #[test]
    fn however_many_tokens_come_few_are_known() {
        let now = token::now();
        let tokens = Tokens::new(Key::new(b"secret"), None);
        for n in 0..MOST_TOKENS as i64 + 10 {
            let sent = bearer(&tokens.key().sign(&claims(now + 60 + n)).unwrap());
            assert!(tokens.caller(&headers(&[&sent]), now).is_ok());
        }
        assert!(tokens.known.lock().unwrap().len() <= MOST_TOKENS);
    }
}
