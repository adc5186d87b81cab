//! Which mistakes can the API make on purpose, so that who looks for such mistakes can be shown to find them?

use crate::bug::Bug;
use crate::{Error, Result};

/// A mistake that people make in an API, made on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// Rows are not protected at all, whatever strategy it says that it has.
    CheckThenAct,
    /// Says that it was done, and then rolls back, one time in sixteen.
    OkBeforeCommit,
    /// The key of a request is not looked at.
    ForgetsKey,
    /// What a rule refuses is answered with 200, and the problem in the body.
    ErrorAsSuccess,
    /// Whoever asks is taken to belong where the rows belong.
    NoTenantCheck,
    /// A token is good for ever.
    AcceptsExpired,
    /// A token that says that it is not signed is believed.
    AcceptsUnsigned,
    /// A token is believed whoever has signed it.
    AnySignature,
    /// Everybody may do everything.
    RoleIgnored,
    /// Who has no account is told so sooner than who has the wrong password.
    TellsAccountsApart,
    /// One more is let through than the limit says.
    LimitOffByOne,
    /// Once twenty were rejected in a window, everybody is let through.
    LimitFailsOpen,
    /// All are counted together.
    LimitShared,
    /// A window does not end.
    LimitNeverResets,
    /// Nobody is told of limits before the 429, nor then until when.
    LimitWithoutHeaders,
    /// A session of the database is left with the tenant of the one before.
    TenantLeftBehind,
    /// A token that is none is answered with 500.
    GarbageIs500,
    /// One of bookings, by those who perform them.
    Booking(Bug),
}

impl Mistake {
    /// Those of the API itself.
    pub const OWN: [Self; 17] = [
        Self::CheckThenAct,
        Self::OkBeforeCommit,
        Self::ForgetsKey,
        Self::ErrorAsSuccess,
        Self::NoTenantCheck,
        Self::AcceptsExpired,
        Self::AcceptsUnsigned,
        Self::AnySignature,
        Self::RoleIgnored,
        Self::TellsAccountsApart,
        Self::LimitOffByOne,
        Self::LimitFailsOpen,
        Self::LimitShared,
        Self::LimitNeverResets,
        Self::LimitWithoutHeaders,
        Self::TenantLeftBehind,
        Self::GarbageIs500,
    ];

    /// All of them. A bug of bookings that is called as one of the API's is meant by nobody.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = |bug: &Bug| Self::OWN.iter().any(|mistake| mistake.name() == bug.name());
        Self::OWN.into_iter().chain(Bug::ALL.into_iter().filter(move |bug| !own(bug)).map(Self::Booking))
    }

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckThenAct => "check-then-act",
            Self::OkBeforeCommit => "ok-before-commit",
            Self::ForgetsKey => "forgets-key",
            Self::ErrorAsSuccess => "error-as-success",
            Self::NoTenantCheck => "no-tenant-check",
            Self::AcceptsExpired => "accepts-expired",
            Self::AcceptsUnsigned => "accepts-unsigned",
            Self::AnySignature => "any-signature",
            Self::RoleIgnored => "role-ignored",
            Self::TellsAccountsApart => "tells-accounts-apart",
            Self::LimitOffByOne => "limit-off-by-one",
            Self::LimitFailsOpen => "limit-fails-open",
            Self::LimitShared => "limit-shared",
            Self::LimitNeverResets => "limit-never-resets",
            Self::LimitWithoutHeaders => "limit-without-headers",
            Self::TenantLeftBehind => "tenant-left-behind",
            Self::GarbageIs500 => "garbage-is-500",
            Self::Booking(bug) => bug.name(),
        }
    }

    /// What is done wrong, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::CheckThenAct => "rows are not protected, whatever it says",
            Self::OkBeforeCommit => "answers that it is done, and rolls back one in sixteen",
            Self::ForgetsKey => "does not look at Idempotency-Key",
            Self::ErrorAsSuccess => "answers 200 with the refusal in the body",
            Self::NoTenantCheck => "serves whoever asks from any organisation",
            Self::AcceptsExpired => "takes tokens that have expired",
            Self::AcceptsUnsigned => "takes tokens with the algorithm none",
            Self::AnySignature => "takes tokens whoever has signed them",
            Self::RoleIgnored => "lets every role do everything",
            Self::TellsAccountsApart => "an unknown account is answered sooner than a wrong password",
            Self::LimitOffByOne => "lets one request too many through",
            Self::LimitFailsOpen => "lets all through once twenty were rejected",
            Self::LimitShared => "counts all organisations together",
            Self::LimitNeverResets => "never begins a new window",
            Self::LimitWithoutHeaders => "does not say what the limit is, nor when to come back",
            Self::TenantLeftBehind => "lists now and then for the organisation of the request before",
            Self::GarbageIs500 => "breaks down at a token that is none",
            Self::Booking(bug) => bug.entry().summary,
        }
    }

    /// The mistake called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|mistake| mistake.name() == name)
    }

    /// The one of those who perform bookings, if it is theirs.
    pub fn of_bookings(self) -> Option<Bug> {
        match self {
            Self::Booking(bug) => Some(bug),
            _ => None,
        }
    }
}

impl std::str::FromStr for Mistake {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name).ok_or_else(|| {
            let near = crate::error::nearest(name, Self::all().map(Self::name));
            let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
            let names: Vec<&str> = Self::OWN.into_iter().map(Self::name).collect();
            Error::usage(format!("the API has no bug `{name}`"))
                .cure(format!("{hint}one of: {}; or one of `dbstress bugs list`", names.join(", ")))
        })
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mistake_has_a_name_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = Mistake::all().map(Mistake::name).collect();
        assert_eq!(names.len(), Mistake::all().count());
        for mistake in Mistake::all() {
            assert_eq!(mistake.name().parse::<Mistake>().unwrap(), mistake);
            assert!(!mistake.summary().is_empty());
        }
        assert_eq!(Mistake::from_name("check-then-act"), Some(Mistake::CheckThenAct));
        assert_eq!(Mistake::from_name("lock-and-read").and_then(Mistake::of_bookings), Some(Bug::LockAndRead));
    }

    #[test]
    fn a_name_that_is_nearly_one_leads_to_it() {
        let refused = "limit-of-by-one".parse::<Mistake>().unwrap_err().to_string();
        assert!(refused.contains("did you mean `limit-off-by-one`?"), "{refused}");
    }
}
