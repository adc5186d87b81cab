//! Which mistakes do APIs make about whom they let in? Each is made on purpose, so that a drill can show that it would find it.

use serde::{Deserialize, Serialize};

use super::{Drill, Subject, unknown};

/// A mistake of a server, or of the SQL behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mistake {
    /// One request more is let through than the limit says.
    LimitOffByOne,
    /// Once many were rejected all are let through.
    LimitFailsOpen,
    /// All organisations are counted together.
    LimitShared,
    /// Whoever was rejected once is rejected for ever.
    LimitNeverResets,
    /// Answers do not say how much is left, or when to come back.
    LimitWithoutHeaders,
    /// A token that has expired is still good.
    AcceptsExpired,
    /// A token that nobody has signed is good.
    AcceptsUnsigned,
    /// The signature of a token is not verified.
    AnySignature,
    /// Whoever has a token may do everything.
    RoleIgnored,
    /// An unknown account is answered without hashing.
    TellsAccountsApart,
    /// A token that is none is answered with 500.
    #[serde(rename = "garbage-is-500")]
    GarbageIs500,
    /// Nobody asks whose the authorisation is.
    NoTenantCheck,
    /// A session goes on as the organisation that it was used for before.
    TenantLeftBehind,
    /// Idempotency keys are not those of an organisation.
    UnscopedKey,
    /// There is no row-level security on the table.
    PolicyMissing,
    /// Row-level security is not forced upon the owner.
    OwnerExempt,
    /// The policy takes the empty text that is left of SET LOCAL for an organisation.
    NullifForgotten,
    /// The organisation is set for the session and not for the transaction.
    SessionLevelSet,
    /// A row refers to what belongs to another organisation.
    ForeignRow,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::LimitOffByOne,
        Self::LimitFailsOpen,
        Self::LimitShared,
        Self::LimitNeverResets,
        Self::LimitWithoutHeaders,
        Self::AcceptsExpired,
        Self::AcceptsUnsigned,
        Self::AnySignature,
        Self::RoleIgnored,
        Self::TellsAccountsApart,
        Self::GarbageIs500,
        Self::NoTenantCheck,
        Self::TenantLeftBehind,
        Self::UnscopedKey,
        Self::PolicyMissing,
        Self::OwnerExempt,
        Self::NullifForgotten,
        Self::SessionLevelSet,
        Self::ForeignRow,
    ];

    /// The name that users type; of a mistake of the server, the one that `dbstress serve --bug` knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::LimitOffByOne => "limit-off-by-one",
            Self::LimitFailsOpen => "limit-fails-open",
            Self::LimitShared => "limit-shared",
            Self::LimitNeverResets => "limit-never-resets",
            Self::LimitWithoutHeaders => "limit-without-headers",
            Self::AcceptsExpired => "accepts-expired",
            Self::AcceptsUnsigned => "accepts-unsigned",
            Self::AnySignature => "any-signature",
            Self::RoleIgnored => "role-ignored",
            Self::TellsAccountsApart => "tells-accounts-apart",
            Self::GarbageIs500 => "garbage-is-500",
            Self::NoTenantCheck => "no-tenant-check",
            Self::TenantLeftBehind => "tenant-left-behind",
            Self::UnscopedKey => "unscoped-key",
            Self::PolicyMissing => "policy-missing",
            Self::OwnerExempt => "owner-exempt",
            Self::NullifForgotten => "nullif-forgotten",
            Self::SessionLevelSet => "session-level-set",
            Self::ForeignRow => "foreign-row",
        }
    }

    /// What is done wrong.
    pub fn summary(self) -> &'static str {
        match self {
            Self::LimitOffByOne => "one request more is let through than the limit says",
            Self::LimitFailsOpen => "once 20 were rejected in a window, all are let through",
            Self::LimitShared => "all organisations are counted together",
            Self::LimitNeverResets => "whoever has used up a limit is never let through again",
            Self::LimitWithoutHeaders => "answers do not say how much is left, or when to come back",
            Self::AcceptsExpired => "a token that has expired is still good",
            Self::AcceptsUnsigned => "a token that nobody has signed is good",
            Self::AnySignature => "the signature of a token is not verified",
            Self::RoleIgnored => "whoever has a token may do everything",
            Self::TellsAccountsApart => "an unknown account is answered without hashing, in less time",
            Self::GarbageIs500 => "a token that is none is answered with 500",
            Self::NoTenantCheck => "nobody asks whose the authorisation is",
            Self::TenantLeftBehind => "a session goes on as the organisation that it was used for before",
            Self::UnscopedKey => "idempotency keys are not kept apart by organisation",
            Self::PolicyMissing => "there is no row-level security on the table",
            Self::OwnerExempt => "row-level security is not forced upon the owner of the table",
            Self::NullifForgotten => "the policy takes the empty text that is left of SET LOCAL for an organisation",
            Self::SessionLevelSet => "the organisation is set for the session, and not for the transaction",
            Self::ForeignRow => "a row refers to what belongs to another organisation",
        }
    }

    /// Whether it is made by the reference server, and not by SQL of the drill.
    pub fn is_of_the_server(self) -> bool {
        !matches!(self, Self::PolicyMissing | Self::OwnerExempt | Self::NullifForgotten | Self::SessionLevelSet | Self::ForeignRow)
    }

    /// The drills about `subject` that it makes fail.
    pub fn drills(self, subject: Subject) -> impl Iterator<Item = Drill> {
        subject.drills().filter(move |drill| drill.caught_by(self).is_some())
    }
}

impl std::str::FromStr for Mistake {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| unknown("mistake", name, &Self::ALL.map(Self::name)))
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
