//! Which word and which status stand for what was not done?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::outcome::Refusal;

/// What programs look at in a [`super::Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the refusals of `outcome`, by their names")]
pub enum Code {
    InsufficientUnits,
    NotScheduled,
    Inactive,
    Expired,
    WrongOrganisation,
    NotFound,
    Declared,
    KeyMismatch,
    NoSeat,
    Unsupervised,
    DutyHours,
    TooLittleRest,
    DoubleBooked,
    NotHeld,
    AlreadySo,
    /// Another request with the same key is under way.
    KeyInFlight,
    /// The appointment has been cancelled or completed already.
    NotLive,
    /// No token.
    NoToken,
    /// A token that is not trusted.
    InvalidToken,
    /// A token that was good.
    TokenExpired,
    /// Login or password is wrong; which of them is not said.
    InvalidCredentials,
    /// The role may not do this.
    Role,
    /// More requests than are let through.
    RateLimited,
    /// No JSON, or not of the right shape.
    Malformed,
    /// Of the right shape, and impossible.
    Invalid,
    /// The body is too long.
    TooLarge,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// There is no such route.
    NoSuchRoute,
    /// There is such a route, with another method.
    MethodNotAllowed,
    /// The dataset that is there has no such thing.
    DatasetNotHere,
    /// It was tried again and again, and was not done.
    RetriesSpent,
    /// The database cannot be reached, or has no connection to spare; it was not done.
    Unavailable,
    /// It may have been done, or not.
    UnknownOutcome,
    /// A mistake of the server's.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::InsufficientUnits,
        Self::NotScheduled,
        Self::Inactive,
        Self::Expired,
        Self::WrongOrganisation,
        Self::NotFound,
        Self::Declared,
        Self::KeyMismatch,
        Self::NoSeat,
        Self::Unsupervised,
        Self::DutyHours,
        Self::TooLittleRest,
        Self::DoubleBooked,
        Self::NotHeld,
        Self::AlreadySo,
        Self::KeyInFlight,
        Self::NotLive,
        Self::NoToken,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::InvalidCredentials,
        Self::Role,
        Self::RateLimited,
        Self::Malformed,
        Self::Invalid,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::DatasetNotHere,
        Self::RetriesSpent,
        Self::Unavailable,
        Self::UnknownOutcome,
        Self::Internal,
    ];

    /// The status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NoToken | Self::InvalidToken | Self::TokenExpired | Self::InvalidCredentials => 401,
            Self::WrongOrganisation | Self::Role => 403,
            Self::NotFound | Self::NoSuchRoute | Self::DatasetNotHere => 404,
            Self::MethodNotAllowed => 405,
            Self::InsufficientUnits
            | Self::NotScheduled
            | Self::Inactive
            | Self::Expired
            | Self::Declared
            | Self::NoSeat
            | Self::Unsupervised
            | Self::DutyHours
            | Self::TooLittleRest
            | Self::DoubleBooked
            | Self::NotHeld
            | Self::AlreadySo
            | Self::KeyInFlight
            | Self::NotLive => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::KeyMismatch | Self::Invalid => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::RetriesSpent | Self::Unavailable => 503,
            Self::UnknownOutcome => 504,
        }
    }

    /// The refusal that it stands for, if it stands for one.
    pub fn refusal(self) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| Self::from(*refusal) == self)
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InsufficientUnits => Self::InsufficientUnits,
            Refusal::NotScheduled => Self::NotScheduled,
            Refusal::Inactive => Self::Inactive,
            Refusal::Expired => Self::Expired,
            Refusal::WrongOrganisation => Self::WrongOrganisation,
            Refusal::NotFound => Self::NotFound,
            Refusal::Declared => Self::Declared,
            Refusal::KeyMismatch => Self::KeyMismatch,
            Refusal::NoSeat => Self::NoSeat,
            Refusal::Unsupervised => Self::Unsupervised,
            Refusal::DutyHours => Self::DutyHours,
            Refusal::TooLittleRest => Self::TooLittleRest,
            Refusal::DoubleBooked => Self::DoubleBooked,
            Refusal::NotHeld => Self::NotHeld,
            Refusal::AlreadySo => Self::AlreadySo,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own_and_is_read_again() {
        let words: BTreeSet<String> = Code::ALL.iter().map(|code| serde_json::to_string(code).unwrap()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.contains("\"INSUFFICIENT_UNITS\"") && words.contains("\"RETRIES_SPENT\""));
        for word in words {
            assert!(Code::ALL.contains(&serde_json::from_str::<Code>(&word).unwrap()), "{word}");
        }
    }

    #[test]
    fn every_refusal_has_a_code_that_leads_back() {
        for refusal in Refusal::ALL {
            let code = Code::from(refusal);
            assert_eq!(code.refusal(), Some(refusal));
            assert!((400..500).contains(&code.status()));
        }
        assert_eq!(Code::KeyInFlight.refusal(), None);
    }
}
