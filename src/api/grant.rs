//! May this request speak for a run? Who sends the run's secret may, and only then is the rest looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::desk::Grant;
use super::problem::Refused;
use crate::contract::{ATTEMPT, Code, LATER, MOST_TRIES, OPERATION, RUN};
use crate::history::OpId;

/// A grant that was taken back is known for so long at most.
const FRESH: Duration = Duration::from_secs(10);
/// So many are known at once.
const MOST_GRANTS: usize = 256;
/// A request is later than the dataset by ten years at most.
const LATEST: i64 = 10 * 366 * 86_400;

/// What is granted, and when that was looked up.
type Looked = (Arc<Grant>, Instant);

/// The grants that were asked for lately, by their secrets.
#[derive(Default)]
pub struct Grants {
    known: Mutex<HashMap<Box<str>, Looked>>,
}

impl Grants {
    /// The one of this secret, if it was asked for lately.
    pub fn known(&self, secret: &str, now: Instant) -> Option<Arc<Grant>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(secret).filter(|(_, since)| now.duration_since(*since) < FRESH).map(|(grant, _)| grant.clone())
    }

    /// Remembers what the database has said.
    pub fn keep(&self, secret: &str, grant: &Arc<Grant>, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_GRANTS {
            known.clear();
        }
        known.insert(secret.into(), (grant.clone(), now));
    }
}

/// The secret that a request carries, if it carries one.
///
/// # Errors
/// Something that can be no secret: not text, or several.
pub fn secret(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut sent = headers.get_all(RUN).iter();
    let Some(secret) = sent.next() else { return Ok(None) };
    match (secret.to_str(), sent.next()) {
        (Ok(secret), None) => Ok(Some(secret)),
        _ => Err(unknown()),
    }
}

/// Nobody has granted that.
pub fn unknown() -> Refused {
    Refused::new(Code::Role, "no run has this secret")
}

/// What a run says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// Which operation it is, and which attempt of the client at it.
    pub operation: Option<(OpId, u16)>,
    /// By how many seconds it is later than the dataset.
    pub later: i64,
}

/// What `grant`'s run says of a request.
///
/// # Errors
/// An operation of another run, or what is no number or impossible.
pub fn said(headers: &HeaderMap, grant: &Grant) -> Result<Said, Refused> {
    let attempt = number(headers, ATTEMPT, 1, i64::from(MOST_TRIES))?.unwrap_or(1);
    let attempt = u16::try_from(attempt).unwrap_or(MOST_TRIES);
    let operation = number(headers, OPERATION, 0, i64::MAX)?.map(OpId);
    if operation.is_some_and(|operation| operation.run() != grant.run) {
        return Err(Refused::new(Code::Role, "the operation is another run's"));
    }
    let later = number(headers, LATER, 0, LATEST)?.unwrap_or(0);
    Ok(Said { operation: operation.map(|operation| (operation, attempt)), later })
}

fn number(headers: &HeaderMap, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refused> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = |value: &HeaderValue| value.to_str().ok()?.parse::<i64>().ok();
    match number(value).filter(|number| (least..=most).contains(number)) {
        Some(number) if headers.get_all(name).iter().count() == 1 => Ok(Some(number)),
        _ => Err(Refused::new(Code::Invalid, format!("{name} is no number from {least} to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant { run: 7, schema: "dbstress", strategy: None, bug: None, hold: Duration::ZERO, keys: None }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_run_names_its_own_operations_and_nobody_elses() {
        let own = OpId::new(7, 3, 5);
        let sent = headers(&[(OPERATION, &own.0.to_string()), (ATTEMPT, "2"), (LATER, "60")]);
        assert_eq!(said(&sent, &grant()).unwrap(), Said { operation: Some((own, 2)), later: 60 });
        assert_eq!(said(&headers(&[]), &grant()).unwrap(), Said::default());
        let others = OpId::new(8, 3, 5).0.to_string();
        assert_eq!(said(&headers(&[(OPERATION, &others)]), &grant()).unwrap_err().code, Code::Role);
    }

    #[test]
    fn what_is_impossible_is_refused() {
        let most = (MOST_TRIES + 1).to_string();
        for pairs in [
            [(OPERATION, "-1")].as_slice(),
            &[(OPERATION, "x")],
            &[(OPERATION, "1"), (OPERATION, "1")],
            &[(ATTEMPT, "0")],
            &[(ATTEMPT, &most)],
            &[(LATER, "-1")],
            &[(LATER, "99999999999")],
            &[(LATER, "99999999999999999999")],
        ] {
            assert_eq!(said(&headers(pairs), &grant()).unwrap_err().code, Code::Invalid, "{pairs:?}");
        }
    }

    #[test]
    fn a_grant_is_known_for_a_while() {
        let (grants, now) = (Grants::default(), Instant::now());
        grants.keep("secret", &Arc::new(grant()), now);
        assert!(grants.known("secret", now + FRESH / 2).is_some());
        assert!(grants.known("secret", now + FRESH).is_none());
        assert!(grants.known("another", now).is_none());
    }
}
