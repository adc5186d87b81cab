//! What was sent, and can it be used? The body, the query, the number in the path, the key.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{HeaderMap, Uri};
use serde::de::DeserializeOwned;

use super::problem::Refused;
use crate::contract::{Code, IDEMPOTENCY_KEY};

/// The longest body.
pub const MOST_BODY: usize = 64 << 10;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// The longest key.
const MOST_KEY: usize = 255;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const DAY_S: i64 = 86_400;

/// The JSON in a body.
///
/// # Errors
/// It is said to be something else, is too long, does not arrive, or is none of the right shape. What was sent is never repeated.
pub async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refused> {
    if !is_json(headers) {
        return Err(Refused::plain(Code::UnsupportedMediaType));
    }
    let said = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|length| length > MOST_BODY as u64) {
        return Err(Refused::plain(Code::TooLarge));
    }
    let whole = match tokio::time::timeout(BODY_TIME, Limited::new(body, MOST_BODY).collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(why)) if is_too_long(&*why) => return Err(Refused::plain(Code::TooLarge)),
        Ok(Err(_)) => return Err(Refused::new(Code::Malformed, "the body ended in the middle")),
        Err(_) => return Err(Refused::new(Code::Malformed, "the body did not arrive in time")),
    };
    serde_json::from_slice(&whole).map_err(|why| {
        let (line, column) = (why.line(), why.column());
        Refused::new(Code::Malformed, format!("the body is no JSON of the right shape: see line {line}, column {column}"))
    })
}

fn is_too_long(why: &(dyn std::error::Error + 'static)) -> bool {
    let mut why = Some(why);
    while let Some(cause) = why {
        if cause.is::<LengthLimitError>() {
            return true;
        }
        why = cause.source();
    }
    false
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(said), None) = (types.next(), types.next()) else { return false };
    let media = said.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case("application/json")
}

/// The number in a path such as `/v1/authorisations/{id}/reserve`.
///
/// # Errors
/// It is none.
pub fn id(uri: &Uri) -> Result<i64, Refused> {
    let part = uri.path().split('/').nth(3).unwrap_or_default();
    let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
    let number = part.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| Refused::new(Code::Invalid, "what stands for a number in the path is none"))
}

/// The key that a request carries, if it carries one.
///
/// # Errors
/// It is too long, has characters that keys do not have, or there are several.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut sent = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = sent.next() else { return Ok(None) };
    let is_key = |key: &&[u8]| (1..=MOST_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    let text = Some(key.as_bytes()).filter(is_key).and_then(|key| std::str::from_utf8(key).ok());
    match (text, sent.next()) {
        (Some(text), None) => Ok(Some(text)),
        _ => Err(Refused::new(Code::Invalid, "Idempotency-Key is not one text of 1 to 255 visible ASCII characters")),
    }
}

/// What stands behind the question mark.
pub struct Query<'u>(Vec<(Cow<'u, str>, Cow<'u, str>)>);

impl<'u> Query<'u> {
    /// Of this request.
    pub fn of(uri: &'u Uri) -> Self {
        Self(url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect())
    }

    /// The value of `name`, which is not looked at again.
    ///
    /// # Errors
    /// There are several.
    pub fn take(&mut self, name: &str) -> Result<Option<Cow<'u, str>>, Refused> {
        let Some(at) = self.0.iter().position(|(is, _)| is == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(is, _)| is == name) {
            return Err(Refused::new(Code::Invalid, format!("`{name}` is asked twice")));
        }
        Ok(Some(value))
    }

    /// The number called `name`.
    ///
    /// # Errors
    /// There are several, or it is none from `least` to `most`.
    pub fn number(&mut self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refused> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| Refused::new(Code::Invalid, format!("`{name}` is no number from {least} to {most}")))
    }

    /// The day called `name`, as `2026-06-01`, in days since 2000-01-01.
    ///
    /// # Errors
    /// There are several, or it is none.
    pub fn day(&mut self, name: &str) -> Result<Option<i32>, Refused> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let seconds = if value.len() == 10 { instant(&format!("{value}T00:00:00Z")) } else { None };
        let day = seconds.and_then(|seconds| i32::try_from(seconds / DAY_S - EPOCH_DAYS).ok());
        day.map(Some).ok_or_else(|| Refused::new(Code::Invalid, format!("`{name}` is no day such as 2026-06-01")))
    }

    /// Nothing else was asked.
    ///
    /// # Errors
    /// Something was.
    pub fn end(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused::new(Code::Invalid, "this route has no such parameter")) }
    }
}

/// Seconds since 1970 of an instant such as `2026-06-01T09:00:00Z`, up to the year 2200.
pub fn instant(text: &str) -> Option<i64> {
    const LAST: i64 = 7_258_118_400;
    let time = humantime::parse_rfc3339(text).ok()?;
    let seconds = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().filter(|seconds| *seconds < LAST)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_query_has_each_name_once_and_no_other_ones() {
        let uri: Uri = "/v1/people?kind=resident&limit=7&from=2026-06-01".parse().unwrap();
        let mut query = Query::of(&uri);
        assert_eq!(query.number("limit", 1, 500).unwrap(), Some(7));
        assert_eq!(query.number("after", 0, 9).unwrap(), None);
        assert_eq!(query.day("from").unwrap(), Some(9_648));
        assert_eq!(query.take("kind").unwrap().as_deref(), Some("resident"));
        query.end().unwrap();
        for bad in ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "limit=99999999999999999999", "other=1", "=&="] {
            let uri: Uri = format!("/?{bad}").parse().unwrap();
            let mut query = Query::of(&uri);
            assert!(query.number("limit", 1, 500).is_err() || query.end().is_err(), "{bad}");
        }
        for bad in ["2026-02-30", "1", "2026-6-1", "9999-01-01", "%00", "2026-06-0é"] {
            let uri: Uri = format!("/?from={bad}").parse::<Uri>().unwrap_or_default();
            assert!(uri.query().is_none() || Query::of(&uri).day("from").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_in_a_path_is_digits() {
        let id = |path: &str| id(&path.parse().unwrap()).ok();
        assert_eq!(id("/v1/people/12"), Some(12));
        for path in
            ["/v1/people/", "/v1/people/-1", "/v1/people/+1", "/v1/people/1x", "/v1/people/9223372036854775808", "/v1/people/%31"]
        {
            assert_eq!(id(path), None, "{path}");
        }
    }

    #[test]
    fn a_key_is_visible_ascii_and_not_too_long() {
        let key = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers).map(|key| key.map(str::to_owned)).map_err(|refused| refused.code)
        };
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&[b"a-1"]), Ok(Some("a-1".into())));
        assert_eq!(key(&[&[b'k'; 255]]).map(|key| key.map(|key| key.len())), Ok(Some(255)));
        for bad in [[b"".as_slice()].as_slice(), &[b"a b"], &[b"\xff"], &[&[b'k'; 256]], &[b"a", b"a"]] {
            assert_eq!(key(bad), Err(Code::Invalid), "{bad:?}");
        }
    }
}
