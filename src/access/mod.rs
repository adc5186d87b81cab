//! Does an API let in whom it should, as often as it said, and nobody else? Drills with a known right answer, and the mistakes that make each fail.
//!
//! What is examined is the reference server, in this process or where somebody has started it; row-level security and what a session keeps are tried
//! on scratch tables, without a server.

mod attacks;
mod call;
mod ground;
mod isolation;
mod judge;
mod limits;
mod logins;
mod mistake;
mod neighbour;
mod policies;
mod roles;
mod structure;
mod tokens;
mod valid;
mod window;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use ground::{Extent, Ground, Target};
pub use judge::{AccessRecord, Criterion, DrillRecord, Kind, Pace, SCHEMA_VERSION, Seen, judge};
pub use mistake::Mistake;

use crate::{Error, Result};

/// After this long a drill will not come to an end any more, unless it was told to wait longer for a window to pass.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked about: a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Limits of requests.
    RateLimit,
    /// Tokens, passwords, roles.
    Auth,
    /// Organisations that must not see each other.
    Tenants,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RateLimit, Self::Auth, Self::Tenants];

    /// The name of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate-limit",
            Self::Auth => "auth",
            Self::Tenants => "tenants",
        }
    }

    /// Its drills, in the order in which they are done.
    pub fn drills(self) -> impl Iterator<Item = Drill> {
        Drill::ALL.into_iter().filter(move |drill| drill.subject() == self)
    }
}

/// An exercise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drill {
    /// As many requests as are let through, and fifty more.
    Exact,
    /// Requests until the window has passed.
    Recovery,
    /// One organisation has used up what it has; what of the others?
    Apart,
    /// Many connections at once.
    AtOnce,
    /// Wrong tokens beside right ones.
    Storm,
    /// Wrong passwords, one after the other.
    BruteForce,
    /// As many requests as one can send.
    Flood,
    /// Right tokens under load.
    ValidTokens,
    /// Everything that is no right token.
    InvalidTokens,
    /// A token that expires.
    Expiry,
    /// The same token again and again.
    Replay,
    /// Right and wrong passwords, and accounts that there are not.
    Logins,
    /// Each role at each route.
    Roles,
    /// Each organisation's token at the rows of every other.
    Isolation,
    /// The same idempotency key, asked with by two organisations.
    Keys,
    /// Steady tenants beside one who floods.
    Neighbour,
    /// Row-level security.
    RowSecurity,
    /// What a pooled session keeps of the tenant before.
    SessionState,
    /// Rows and their owners.
    Structure,
}

impl Drill {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Exact,
        Self::Recovery,
        Self::Apart,
        Self::AtOnce,
        Self::Storm,
        Self::BruteForce,
        Self::Flood,
        Self::ValidTokens,
        Self::InvalidTokens,
        Self::Expiry,
        Self::Replay,
        Self::Logins,
        Self::Roles,
        Self::Isolation,
        Self::Keys,
        Self::Neighbour,
        Self::RowSecurity,
        Self::SessionState,
        Self::Structure,
    ];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Recovery => "recovery",
            Self::Apart => "apart",
            Self::AtOnce => "at-once",
            Self::Storm => "storm",
            Self::BruteForce => "brute-force",
            Self::Flood => "flood",
            Self::ValidTokens => "valid-tokens",
            Self::InvalidTokens => "invalid-tokens",
            Self::Expiry => "expiry",
            Self::Replay => "replay",
            Self::Logins => "logins",
            Self::Roles => "roles",
            Self::Isolation => "isolation",
            Self::Keys => "keys",
            Self::Neighbour => "neighbour",
            Self::RowSecurity => "row-security",
            Self::SessionState => "session-state",
            Self::Structure => "structure",
        }
    }

    /// The command that does it.
    pub fn subject(self) -> Subject {
        match self {
            Self::Exact | Self::Recovery | Self::Apart | Self::AtOnce | Self::Storm | Self::BruteForce | Self::Flood => {
                Subject::RateLimit
            }
            Self::ValidTokens | Self::InvalidTokens | Self::Expiry | Self::Replay | Self::Logins | Self::Roles => Subject::Auth,
            Self::Isolation | Self::Keys | Self::Neighbour | Self::RowSecurity | Self::SessionState | Self::Structure => {
                Subject::Tenants
            }
        }
    }

    /// The question it answers.
    pub fn question(self) -> &'static str {
        match self {
            Self::Exact => "are exactly as many let through as each tier's limit says, and counted down?",
            Self::Recovery => "is the next one let through right after the window, and not before?",
            Self::Apart => "has every organisation a limit of its own?",
            Self::AtOnce => "does the limit hold when fifty connections ask at once?",
            Self::Storm => "do wrong tokens use nothing up, and open nothing?",
            Self::BruteForce => "is guessing of passwords stopped, and the rightful owner let in afterwards?",
            Self::Flood => "is a flood kept out, quickly, and nobody else with it?",
            Self::ValidTokens => "is every right token let in, to its own rows, and how fast?",
            Self::InvalidTokens => "is everything that is no right token answered with 401?",
            Self::Expiry => "is a token good until it expires, and not a moment longer?",
            Self::Replay => "is the same question with the same token answered with the same?",
            Self::Logins => "are right passwords let in, and do wrong ones and unknown accounts look and cost the same?",
            Self::Roles => "may each role do what it may, and nothing else?",
            Self::Isolation => "is every organisation refused the rows of every other, on every route?",
            Self::Keys => "does a key of one organisation mean nothing to another?",
            Self::Neighbour => "do others not feel it when one organisation floods?",
            Self::RowSecurity => "does a role that neither owns nor bypasses see and write the rows of its organisation only?",
            Self::SessionState => "is nothing left of a tenant when its connection is lent to the next?",
            Self::Structure => "do rows, their parents and those who changed them belong to one organisation?",
        }
    }

    /// The mistakes that make it fail, and the criterion by which each must be found.
    pub fn mistakes(self) -> &'static [(Mistake, &'static str)] {
        match self {
            Self::Exact => &[
                (Mistake::LimitOffByOne, limits::FIRST_REJECTION),
                (Mistake::LimitFailsOpen, limits::REJECTED),
                (Mistake::LimitWithoutHeaders, limits::HEADERS),
            ],
            Self::Recovery => &[(Mistake::LimitNeverResets, limits::RECOVERED)],
            Self::Apart => &[(Mistake::LimitShared, limits::UNTOUCHED)],
            Self::AtOnce => &[(Mistake::LimitOffByOne, limits::LET_THROUGH), (Mistake::LimitFailsOpen, limits::LET_THROUGH)],
            Self::Storm => &[(Mistake::LimitFailsOpen, limits::LET_THROUGH), (Mistake::GarbageIs500, limits::WRONG_TOKENS)],
            Self::BruteForce => {
                &[(Mistake::LimitOffByOne, attacks::GUESSES), (Mistake::LimitNeverResets, attacks::OWNER_AFTERWARDS)]
            }
            Self::Flood => &[(Mistake::LimitFailsOpen, attacks::AT_MOST), (Mistake::LimitShared, attacks::LEGITIMATE)],
            Self::ValidTokens => &[(Mistake::TenantLeftBehind, valid::OWN_ROWS)],
            Self::InvalidTokens => &[
                (Mistake::AcceptsExpired, tokens::REFUSED),
                (Mistake::AcceptsUnsigned, tokens::REFUSED),
                (Mistake::AnySignature, tokens::REFUSED),
                (Mistake::GarbageIs500, tokens::REFUSED),
            ],
            Self::Expiry => &[(Mistake::AcceptsExpired, tokens::AFTERWARDS)],
            Self::Replay => &[(Mistake::TenantLeftBehind, valid::THE_SAME)],
            Self::Logins => &[(Mistake::TellsAccountsApart, logins::COST)],
            Self::Roles => &[(Mistake::RoleIgnored, roles::FORBIDDEN)],
            Self::Isolation => &[(Mistake::NoTenantCheck, isolation::REFUSED), (Mistake::TenantLeftBehind, isolation::LISTS)],
            Self::Keys => &[(Mistake::UnscopedKey, isolation::OWN_EFFECT)],
            Self::Neighbour => &[(Mistake::LimitShared, neighbour::REJECTED)],
            Self::RowSecurity => &[
                (Mistake::PolicyMissing, policies::VISIBLE),
                (Mistake::OwnerExempt, policies::OWNER),
                (Mistake::NullifForgotten, policies::AFTER_LOCAL),
            ],
            Self::SessionState => {
                &[(Mistake::SessionLevelSet, policies::HANDED_ON), (Mistake::NullifForgotten, policies::WITHOUT_CONTEXT)]
            }
            Self::Structure => &[(Mistake::ForeignRow, structure::RULES)],
        }
    }

    /// The criterion by which a mistake must be found; `None`: this drill need not find it.
    pub fn caught_by(self, mistake: Mistake) -> Option<&'static str> {
        self.mistakes().iter().find(|(made, _)| *made == mistake).map(|(_, by)| *by)
    }

    async fn try_out(self, ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
        match self {
            Self::Exact => limits::exact(ground, extent, mistake).await,
            Self::Recovery => limits::recovery(ground, extent, mistake).await,
            Self::Apart => limits::apart(ground, extent, mistake).await,
            Self::AtOnce => limits::at_once(ground, extent, mistake).await,
            Self::Storm => limits::storm(ground, extent, mistake).await,
            Self::BruteForce => attacks::brute_force(ground, extent, mistake).await,
            Self::Flood => attacks::flood(ground, extent, mistake).await,
            Self::ValidTokens => valid::valid_tokens(ground, extent, mistake).await,
            Self::InvalidTokens => tokens::invalid_tokens(ground, extent, mistake).await,
            Self::Expiry => tokens::expiry(ground, extent, mistake).await,
            Self::Replay => valid::replay(ground, extent, mistake).await,
            Self::Logins => logins::logins(ground, extent, mistake).await,
            Self::Roles => roles::roles(ground, extent, mistake).await,
            Self::Isolation => isolation::isolation(ground, extent, mistake).await,
            Self::Keys => isolation::keys(ground, extent, mistake).await,
            Self::Neighbour => neighbour::neighbour(ground, extent, mistake).await,
            Self::RowSecurity => policies::row_security(ground, extent, mistake).await,
            Self::SessionState => policies::session_state(ground, extent, mistake).await,
            Self::Structure => structure::structure(ground, extent, mistake).await,
        }
    }
}

impl std::str::FromStr for Drill {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|drill| drill.name() == name).ok_or_else(|| unknown("drill", name, &Self::ALL.map(Self::name)))
    }
}

impl std::fmt::Display for Drill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn unknown(what: &str, name: &str, names: &[&'static str]) -> Error {
    let hint = crate::error::nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
    Error::usage(format!("there is no {what} `{name}`")).cure(format!("{hint}`--list` shows them"))
}

/// Does a drill, with a mistake or without, judges it, and takes away what it left in the tables. What kept it from being done leaves it open.
pub async fn perform(ground: &mut Ground, drill: Drill, extent: &Extent, mistake: Option<Mistake>) -> DrillRecord {
    let began = Instant::now();
    let tried = tokio::time::timeout(PATIENCE + extent.patience * 4, drill.try_out(ground, extent, mistake)).await;
    let open = |why: String| {
        let mut seen = Seen::new(extent.pace);
        seen.open("it could be done", why);
        seen
    };
    let mut seen = match tried {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => open(error.to_string()),
        Err(_) => open(format!("not done after {} s", began.elapsed().as_secs())),
    };
    if let Err(error) = ground.sweep().await {
        seen.open("the tables are as before", error.to_string());
    }
    DrillRecord::of(drill, mistake, seen, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_can_fail_and_every_mistake_makes_one_fail() {
        for drill in Drill::ALL {
            assert!(!drill.mistakes().is_empty(), "{drill}");
            assert_eq!(drill.name().parse::<Drill>().unwrap(), drill);
            assert_eq!(serde_json::to_value(drill).unwrap(), drill.name());
            assert!(drill.question().ends_with('?'), "{drill}");
        }
        for mistake in Mistake::ALL {
            assert!(Subject::ALL.iter().any(|subject| mistake.drills(*subject).next().is_some()), "{mistake} makes none fail");
            assert_eq!(mistake.name().parse::<Mistake>().unwrap(), mistake);
            assert_eq!(serde_json::to_value(mistake).unwrap(), mistake.name());
        }
    }

    #[test]
    fn what_was_mistyped_is_guessed() {
        let of_drill = "brute-froce".parse::<Drill>().unwrap_err().to_string();
        assert!(of_drill.contains("did you mean `brute-force`?"), "{of_drill}");
        let of_mistake = "limit-off-by-1".parse::<Mistake>().unwrap_err().to_string();
        assert!(of_mistake.contains("did you mean `limit-off-by-one`?"), "{of_mistake}");
    }
}
