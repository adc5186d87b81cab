//! As whom is the reference server asked? As everybody in turn, each with a token of their own.

use std::collections::HashMap;

use crate::http::HeaderValue;
use crate::token::{Claims, Key, now};
use crate::workload::booking::Actor;

/// So many tokens are carried at the most.
const MOST: usize = 2_048;

/// Makes tokens, as the server's login would.
#[derive(Clone)]
pub struct Mint {
    /// What the server trusts.
    key: Key,
    /// For how many seconds each is good.
    lifetime: i64,
}

/// The tokens that one user carries, each until it has to be renewed.
#[derive(Default)]
pub struct Purse(HashMap<Whom, (HeaderValue, i64)>);

/// As whom something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whom {
    /// A practitioner, of an organisation.
    Practitioner(Actor),
    /// Who makes the schedules of a programme.
    Coordinator(i64),
}

impl Whom {
    /// As which account.
    pub fn login(&self) -> String {
        match self {
            Self::Practitioner(Actor { id, organisation }) => format!("practitioner-{id}@org-{organisation}.example.com"),
            Self::Coordinator(programme) => format!("coordinator@programme-{programme}.example.com"),
        }
    }

    /// In which role.
    pub fn role(&self) -> &'static str {
        match self {
            Self::Practitioner(_) => "practitioner",
            Self::Coordinator(_) => "coordinator",
        }
    }

    fn claims(&self, issued: i64, expires: i64) -> Claims {
        let (org, actor) = match self {
            Self::Practitioner(Actor { id, organisation }) => (*organisation, Some(*id)),
            Self::Coordinator(programme) => (*programme, None),
        };
        Claims { sub: self.login(), role: self.role().into(), org: Some(org), actor, iat: issued, exp: expires }
    }
}

impl Mint {
    /// Makes tokens that are good for so many seconds.
    pub fn new(key: Key, lifetime: i64) -> Self {
        Self { key, lifetime }
    }

    /// What goes into `Authorization`: the token that is carried, or a new one where there is none, or little is left of it. `None` if it cannot
    /// be signed.
    pub fn bearer(&self, purse: &mut Purse, whom: &Whom) -> Option<HeaderValue> {
        self.bearer_at(purse, whom, now())
    }

    fn bearer_at(&self, Purse(tokens): &mut Purse, whom: &Whom, now: i64) -> Option<HeaderValue> {
        if let Some((token, renewed)) = tokens.get(whom)
            && now < *renewed
        {
            return Some(token.clone());
        }
        let token = self.key.sign(&whom.claims(now, now + self.lifetime)).ok()?;
        let mut token = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        token.set_sensitive(true);
        if tokens.len() >= MOST {
            tokens.clear();
        }
        // A quarter of its life is enough for the longest request, unless that life is no more than a few seconds.
        tokens.insert(*whom, (token.clone(), now + self.lifetime - self.lifetime.div_euclid(4).max(1)));
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(key: &Key, value: &HeaderValue) -> Claims {
        key.verify(value.to_str().unwrap().strip_prefix("Bearer ").unwrap()).unwrap()
    }

    #[test]
    fn everybody_has_a_token_of_their_own_until_a_quarter_of_its_life_is_left() {
        let key = Key::new(b"secret");
        let mint = Mint::new(key.clone(), 100);
        let (mut purse, now) = (Purse::default(), now());
        let one = Whom::Practitioner(Actor { id: 7, organisation: 3 });
        let first = mint.bearer_at(&mut purse, &one, now).unwrap();
        let said = claims(&key, &first);
        assert_eq!((said.sub.as_str(), said.role.as_str()), ("practitioner-7@org-3.example.com", "practitioner"));
        assert_eq!((said.org, said.actor, said.exp), (Some(3), Some(7), now + 100));
        assert!(first.is_sensitive());
        assert_eq!(mint.bearer_at(&mut purse, &one, now + 74).unwrap(), first);
        assert_eq!(claims(&key, &mint.bearer_at(&mut purse, &one, now + 75).unwrap()).exp, now + 175);
        let other = claims(&key, &mint.bearer_at(&mut purse, &Whom::Coordinator(9), now).unwrap());
        assert_eq!((other.sub.as_str(), other.org, other.actor), ("coordinator@programme-9.example.com", Some(9), None));
    }

    #[test]
    fn however_many_are_asked_as_few_tokens_are_carried() {
        let mint = Mint::new(Key::new(b"secret"), 100);
        let mut purse = Purse::default();
        for programme in 0..MOST as i64 + 10 {
            mint.bearer(&mut purse, &Whom::Coordinator(programme)).unwrap();
        }
        assert!(purse.0.len() <= MOST);
    }
}
