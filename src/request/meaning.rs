//! What does an answer mean?

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Seen;
use super::answer::{find, pointer};
use super::text_of;
use crate::outcome::{Abort, Outcome, Refusal};
use crate::{Error, Result};

/// What the answer to a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// It was done.
    Committed,
    /// A business rule said no.
    Refused,
    /// Who asks is not let in: the test is wrong.
    NotLetIn,
    /// Nothing is there: the test is wrong.
    NotThere,
    /// No more is let through.
    RateLimited,
    /// The request is not understood, or not wanted: the test is wrong.
    Rejected,
    /// It could not be done just now, certainly was not, and is tried again.
    Unavailable,
    /// It failed, and certainly was not done.
    Aborted,
    /// It may have been done or not.
    Unknown,
}

impl Meaning {
    /// What a status means unless a scenario says otherwise; of a request that `only_reads` nothing can have been done. That nothing was done is
    /// what 4xx and 503 say, and no other status: a redirect may be the answer to what was done, and what HTTP does not know says nothing.
    pub fn usual(status: u16, only_reads: bool) -> Self {
        match status {
            200..=299 => Self::Committed,
            401 | 403 => Self::NotLetIn,
            404 => Self::NotThere,
            409 => Self::Refused,
            429 => Self::RateLimited,
            503 => Self::Unavailable,
            400..=499 => Self::Rejected,
            300..=399 if only_reads => Self::Rejected,
            _ if only_reads => Self::Aborted,
            _ => Self::Unknown,
        }
    }

    /// The outcome of an operation that ends with it.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Committed => Outcome::Committed,
            Self::Refused => Outcome::Refused(Refusal::Declared),
            Self::NotLetIn => Outcome::Aborted(Abort::NotLetIn),
            Self::NotThere => Outcome::Aborted(Abort::NotThere),
            Self::RateLimited => Outcome::Aborted(Abort::RateLimited),
            Self::Rejected => Outcome::Aborted(Abort::Rejected),
            Self::Unavailable => Outcome::Aborted(Abort::Unavailable),
            Self::Aborted => Outcome::Aborted(Abort::Other),
            Self::Unknown => Outcome::Unknown,
        }
    }
}

/// What statuses, and codes in the body, mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meanings {
    statuses: Vec<(RangeInclusive<u16>, Meaning)>,
    /// Where the code is, and what codes mean.
    codes: Option<(Vec<String>, BTreeMap<String, Meaning>)>,
}

impl Meanings {
    /// Of keys as a scenario has them: `409`, `200-299`, or, with a pointer to where it is, a code of the body.
    ///
    /// # Errors
    /// Usage, with the key.
    pub fn new<'k>(
        code: Option<&str>,
        keys: impl IntoIterator<Item = (&'k str, Meaning)>,
    ) -> Result<Self, (Option<String>, Error)> {
        let mut codes = code.map(pointer).transpose().map_err(|error| (None, error))?.map(|keys| (keys, BTreeMap::new()));
        let mut statuses = Vec::new();
        for (key, meaning) in keys {
            let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=999).contains(status));
            let range = match key.split_once('-') {
                Some((from, to)) => status(from).zip(status(to)).filter(|(from, to)| from <= to),
                None => status(key).map(|status| (status, status)),
            };
            match (range, &mut codes) {
                (Some((from, to)), _) => statuses.push((from..=to, meaning)),
                (None, Some((_, codes))) => {
                    codes.insert(key.to_owned(), meaning);
                }
                (None, None) => {
                    let error = Error::usage(format!("`{key}` is no status"))
                        .cure("409, or \"500-599\"; for a code of the body also code = \"/error/code\", where it is");
                    return Err((Some(key.to_owned()), error));
                }
            }
        }
        // The narrowest says most.
        statuses.sort_by_key(|(range, _)| range.end() - range.start());
        Ok(Self { statuses, codes })
    }

    /// These, and where they say nothing, `others`.
    #[must_use]
    pub fn over(mut self, others: &Self) -> Self {
        self.statuses.extend(others.statuses.iter().cloned());
        self.codes = match (self.codes, &others.codes) {
            (None, theirs) => theirs.clone(),
            (Some((keys, ours)), Some((theirs_at, theirs))) if keys == *theirs_at => {
                let mut all = theirs.clone();
                all.extend(ours);
                Some((keys, all))
            }
            (ours, _) => ours,
        };
        self
    }

    /// What an answer means, and whether the scenario says so: what it does not say is a surprise where it is no answer to a good request.
    pub fn of(&self, seen: &Seen<'_>, only_reads: bool) -> (Meaning, bool) {
        let by_code = self.codes.as_ref().and_then(|(keys, codes)| {
            let code = text_of(find(seen.json()?, keys, |_| 0)?);
            codes.get(&code).copied()
        });
        let by_status = || self.statuses.iter().find(|(range, _)| range.contains(&seen.status)).map(|(_, meaning)| *meaning);
        match by_code.or_else(by_status) {
            Some(meaning) => (meaning, true),
            None => (Meaning::usual(seen.status, only_reads), false),
        }
    }

    /// The code that the body gives, if the scenario says where it is.
    pub fn code(&self, seen: &Seen<'_>) -> Option<String> {
        let (keys, _) = self.codes.as_ref()?;
        Some(text_of(find(seen.json()?, keys, |_| 0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(meanings: &Meanings, status: u16, body: &str) -> (Meaning, bool) {
        meanings.of(&Seen::new(status, body.as_bytes(), |_| None), false)
    }

    #[test]
    fn what_nothing_is_said_of_means_what_it_usually_does() {
        use Meaning::*;
        let none = Meanings::default();
        for (status, means) in [
            (200, Committed),
            (204, Committed),
            (400, Rejected),
            (401, NotLetIn),
            (403, NotLetIn),
            (404, NotThere),
            (409, Refused),
            (422, Rejected),
            (429, RateLimited),
            (500, Unknown),
            (502, Unknown),
            (503, Unavailable),
            (504, Unknown),
        ] {
            assert_eq!(of(&none, status, ""), (means, false), "{status}");
        }
        assert_eq!(Meaning::usual(500, true), Aborted, "who only reads has done nothing");
    }

    #[test]
    fn only_an_answer_that_says_so_means_that_nothing_was_done() {
        use Meaning::*;
        let none = Meanings::default();
        for status in (100..200).chain(300..400).chain(600..1000) {
            assert_eq!(of(&none, status, ""), (Unknown, false), "{status}");
            let read = if (300..400).contains(&status) { Rejected } else { Aborted };
            assert_eq!(Meaning::usual(status, true), read, "{status}: who only reads has done nothing");
        }
        let said = Meanings::new(None, [("303", Committed), ("600-999", Aborted)]).unwrap();
        assert_eq!((of(&said, 303, ""), of(&said, 720, "")), ((Committed, true), (Aborted, true)));
        assert_eq!(of(&said, 302, ""), (Unknown, false));
    }

    #[test]
    fn a_code_says_more_than_a_status_and_a_narrow_range_more_than_a_wide_one() {
        use Meaning::*;
        let keys = [("400-499", Aborted), ("422", Refused), ("SOLD_OUT", Refused), ("BROKEN", Unknown)];
        let meanings = Meanings::new(Some("/error/code"), keys).unwrap();
        assert_eq!(of(&meanings, 422, "{}"), (Refused, true));
        assert_eq!(of(&meanings, 404, "{}"), (Aborted, true));
        assert_eq!(of(&meanings, 400, r#"{"error": {"code": "SOLD_OUT"}}"#), (Refused, true));
        assert_eq!(of(&meanings, 200, r#"{"error": {"code": "BROKEN"}}"#), (Unknown, true));
        assert_eq!(of(&meanings, 400, r#"{"error": {"code": "OTHER"}}"#), (Aborted, true));
        assert_eq!(of(&meanings, 503, "no JSON"), (Unavailable, false));
        let more = Meanings::new(None, [("404", Refused)]).unwrap().over(&meanings);
        assert_eq!(of(&more, 404, "{}"), (Refused, true), "those of the request go before those of all");
        assert_eq!(of(&more, 400, r#"{"error": {"code": "SOLD_OUT"}}"#), (Refused, true));
        assert_eq!(Meanings::new(None, [("SOLD_OUT", Refused)]).unwrap_err().0.as_deref(), Some("SOLD_OUT"));
        assert!(Meanings::new(None, [("299-200", Refused)]).is_err() && Meanings::new(None, [("99", Refused)]).is_err());
    }
}
