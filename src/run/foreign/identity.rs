//! Who asks? Each virtual user is one account from beginning to end; its token is renewed before it expires, where that can be done.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value as Json;

use super::asking::{filled, said, seen, send};
use crate::http::{Address, Answer, Client};
use crate::pg::admin::{Session, literal};
use crate::random::Random;
use crate::request::{Body, Call, From, JsonTemplate, Names, Row, Scope, Template};
use crate::scenario::http::REFERENCE_COLUMNS;
use crate::scenario::{Credentials, Http};
use crate::token::{Key, Secret, expires, now};
use crate::{Error, Result};

/// A token is renewed when it has less than this left.
const RENEWED_BEFORE: i64 = 60;
/// Accounts of a role that log in at the reference server: each costs a hash on its side.
const MOST_OF_ROLE: usize = 16;

/// All who ask.
pub struct Identities {
    /// Nobody in particular has an entry too, without a row.
    all: Vec<Identity>,
    /// By virtual user, again and again.
    order: Vec<usize>,
    columns: Vec<String>,
}

struct Identity {
    row: Option<Row>,
    role: Option<String>,
    token: RwLock<Option<Arc<str>>>,
}

/// A role in an organisation: what is tried out before the load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The role, if accounts have one.
    pub role: Option<String>,
    /// The organisation, if accounts have one.
    pub organisation: Option<String>,
}

impl std::fmt::Display for Place {
    /// `viewer of organisation 2`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.role.as_deref().unwrap_or("an account"))?;
        self.organisation.as_ref().map_or(Ok(()), |organisation| write!(f, " of organisation {organisation}"))
    }
}

impl Identities {
    /// Of a scenario, for so many virtual users. Only who is needed has a place. `session` leads to the database of the reference server, `secret`
    /// is what its password follows from.
    ///
    /// # Errors
    /// Usage, when there are no accounts of a role.
    pub async fn new(plan: &Http, vus: u32, session: Option<&mut Session>, secret: Option<&Secret>) -> Result<Self> {
        let Some(auth) = &plan.auth else {
            let nobody = Identity { row: None, role: None, token: RwLock::default() };
            return Ok(Self { all: vec![nobody], order: vec![0], columns: Vec::new() });
        };
        let (columns, rows) = match (&auth.how, &auth.accounts) {
            (Credentials::Reference(roles), _) => {
                (REFERENCE_COLUMNS.map(str::to_owned).to_vec(), reference(roles, session, secret).await?)
            }
            (_, Some(table)) => (table.columns().to_vec(), table.rows().to_vec()),
            (_, None) => (Vec::new(), Vec::new()),
        };
        let column = |name: &str| columns.iter().position(|known| known == name);
        let (role, token) = (column("role"), column("token"));
        let text = |row: &Row, column: Option<usize>| match row.0.get(column?)? {
            Json::String(text) if !text.is_empty() => Some(text.clone()),
            Json::Null | Json::String(_) => None,
            other => Some(other.to_string()),
        };
        let wanted = |role: &Option<String>| match role {
            _ if auth.roles.is_empty() => true,
            Some(role) => auth.roles.get(role).is_some_and(|weight| *weight > 0.0),
            None => false,
        };
        let is_given = matches!(auth.how, Credentials::Given);
        let mut all: Vec<Identity> = Vec::new();
        for row in rows {
            let role = text(&row, role);
            if wanted(&role) {
                let given = text(&row, token).filter(|_| is_given).map(Arc::from);
                all.push(Identity { row: Some(row), role, token: RwLock::new(given) });
            }
        }
        if all.is_empty() {
            return Err(Error::usage("nobody can ask: there is no account of a role that is wanted").cure("look at [http.auth]"));
        }
        let order = order(&all, &auth.roles, vus);
        // Who is nobody's account need not log in.
        let mut used: Vec<usize> = order.clone();
        used.sort_unstable();
        used.dedup();
        let place: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let mut kept: Vec<Option<Identity>> = all.into_iter().map(Some).collect();
        let all = used.iter().filter_map(|old| kept.get_mut(*old)?.take()).collect();
        Ok(Self { all, order: order.iter().filter_map(|old| place.get(old).copied()).collect(), columns })
    }

    /// The identity of a virtual user.
    pub fn of(&self, vu: u16) -> usize {
        self.order[usize::from(vu) % self.order.len()]
    }

    /// The role of each.
    pub fn roles(&self) -> impl Iterator<Item = Option<&str>> {
        self.all.iter().map(|identity| identity.role.as_deref())
    }

    /// The account.
    pub fn row(&self, identity: usize) -> Option<&Row> {
        self.all[identity].row.as_ref()
    }

    /// A column of the account.
    pub fn value(&self, identity: usize, column: &str) -> Option<&Json> {
        let n = self.columns.iter().position(|known| known == column)?;
        self.row(identity)?.0.get(n)
    }

    /// The token, if it has one now.
    pub fn token(&self, identity: usize) -> Option<Arc<str>> {
        self.all[identity].token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, identity: usize, token: &str) {
        *self.all[identity].token.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(token));
    }

    /// One identity of each role and organisation.
    pub fn places(&self) -> BTreeMap<Place, usize> {
        let mut places = BTreeMap::new();
        for n in 0..self.count() {
            places.entry(self.place(n)).or_insert(n);
        }
        places
    }

    /// The role and the organisation of one.
    pub fn place(&self, identity: usize) -> Place {
        let organisation = self.value(identity, "organisation").filter(|value| !value.is_null());
        let organisation = organisation.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        Place { role: self.all[identity].role.clone(), organisation }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// In how many seconds the first of the tokens expires that have not yet, and that say so.
    pub fn first_expiry(&self) -> Option<i64> {
        (0..self.count()).filter_map(|n| Some(expires(&self.token(n)?)? - now())).filter(|left| *left > 0).min()
    }

    /// Gives everybody a token that has none, or one that expires before long; what went wrong, by identity.
    ///
    /// # Errors
    /// Usage, when the secret is not there.
    pub async fn renew(&self, plan: &Http, address: &Address) -> Result<Vec<(usize, String)>> {
        let Some(auth) = &plan.auth else { return Ok(Vec::new()) };
        let stale: Vec<usize> = (0..self.count())
            .filter(|n| self.token(*n).is_none_or(|token| expires(&token).is_some_and(|at| at - now() < RENEWED_BEFORE)))
            .collect();
        let mut failed = Vec::new();
        let reference = reference_login()?;
        let mut client = None;
        for n in stale {
            let made = match &auth.how {
                Credentials::Given => continue,
                Credentials::Minted { secret_env, claims, lifetime } => {
                    let key = Key::new(secret(secret_env)?.as_bytes());
                    self.mint(n, &key, claims, *lifetime)
                }
                Credentials::Reference(_) => self.log_in(n, plan, address, &reference, &mut client).await,
                Credentials::Login(call, from) => {
                    self.log_in(n, plan, address, &(call.as_ref().clone(), from.clone()), &mut client).await
                }
            };
            match made {
                Ok(token) => self.set(n, &token),
                Err(why) => failed.push((n, why)),
            }
        }
        Ok(failed)
    }

    fn mint(&self, identity: usize, key: &Key, claims: &JsonTemplate, lifetime: Duration) -> Result<String, String> {
        let mut claims = self.with_scope(identity, |scope| claims.fill(scope)).map_err(|missing| missing.0)?;
        let issued = now();
        if let Json::Object(claims) = &mut claims {
            claims.insert("iat".into(), issued.into());
            claims.insert("exp".into(), (issued + lifetime.as_secs().cast_signed()).into());
        }
        key.sign(&claims).map_err(|why| why.to_string())
    }

    async fn log_in(
        &self,
        identity: usize,
        plan: &Http,
        address: &Address,
        (call, from): &(Call, From),
        client: &mut Option<Client>,
    ) -> Result<String, String> {
        let answer = self.ask(identity, plan, address, call, client).await?;
        let seen = seen(&answer);
        if !(200..300).contains(&answer.status) {
            return Err(said(call, &answer, &seen));
        }
        let token = from.find(&seen, &mut Random::seeded(0));
        token
            .and_then(|token| token.as_str().map(str::to_owned))
            .ok_or_else(|| "the answer to the log-in has no token in it".to_owned())
    }

    /// Asks once as an identity, outside the load.
    pub async fn ask(
        &self,
        identity: usize,
        plan: &Http,
        address: &Address,
        call: &Call,
        client: &mut Option<Client>,
    ) -> Result<Answer, String> {
        let request = self.with_scope(identity, |scope| filled(call, plan, address, scope))?;
        let mut open = match client.take().filter(Client::is_open) {
            Some(open) => open,
            None => Client::connect(address).await.map_err(|broken| broken.why)?,
        };
        let answer = send(&mut open, request, plan.timeout).await.map_err(|lost| lost.why);
        *client = Some(open);
        answer
    }

    /// What placeholders of an account alone stand for.
    fn with_scope<T>(&self, identity: usize, with: impl FnOnce(&Scope<'_>) -> T) -> T {
        let token = self.token(identity);
        with(&Scope {
            vu: 0,
            vus: 0,
            iteration: 0,
            op_id: 0,
            uuid: "",
            // Who logs in has none yet.
            token: Some(token.as_deref().unwrap_or_default()),
            parameters: &[],
            rows: &[],
            account: self.row(identity),
            captured: &[],
        })
    }
}

/// Which identity each virtual user has: roles by their weights, the accounts of a role in turn.
fn order(all: &[Identity], roles: &BTreeMap<String, f64>, vus: u32) -> Vec<usize> {
    if roles.is_empty() {
        return (0..all.len().min(vus.max(1) as usize)).collect();
    }
    let sum: f64 = roles.values().sum();
    let of_role = |role: &str| (0..all.len()).filter(|n| all[*n].role.as_deref() == Some(role)).collect::<Vec<_>>();
    let mut groups: Vec<(f64, Vec<usize>, usize)> =
        roles.iter().map(|(role, weight)| (weight / sum, of_role(role), 0)).filter(|(_, of, _)| !of.is_empty()).collect();
    let mut order = Vec::new();
    for n in 1..=vus.max(1) {
        // Who has been left behind most is next.
        let behind = |(share, _, had): &(f64, Vec<usize>, usize)| share * f64::from(n) - *had as f64;
        let next = (0..groups.len()).max_by(|a, b| behind(&groups[*a]).total_cmp(&behind(&groups[*b])).then(b.cmp(a)));
        let Some((_, of, had)) = next.and_then(|next| groups.get_mut(next)) else { break };
        order.push(of[*had % of.len()]);
        *had += 1;
    }
    order
}

fn secret(name: &str) -> Result<String> {
    std::env::var(name).ok().filter(|secret| !secret.is_empty()).ok_or_else(|| {
        Error::usage(format!("the variable {name}, which has the secret that tokens are signed with, is not there"))
            .cure(format!("export {name}=…, or another way to come by tokens in [http.auth]"))
    })
}

/// How one logs in at the reference server, and where the token is.
fn reference_login() -> Result<(Call, From)> {
    let names = Names { account: Some(REFERENCE_COLUMNS.map(str::to_owned).to_vec()), ..Names::default() };
    let json = serde_json::json!({ "login": "${account.login}", "password": "${account.password}" });
    let body = Body::Json(JsonTemplate::parse(&json, &names)?);
    let call = Call { method: "POST".into(), body, ..Call::get(Template::parse("/v1/login", &names)?) };
    Ok((call, From::parse("/token")?))
}

/// The accounts of the reference server, from its database: of each role a few, over all organisations.
async fn reference(roles: &[String], session: Option<&mut Session>, secret: Option<&Secret>) -> Result<Vec<Row>> {
    let (Some(session), Some(secret)) = (session, secret) else {
        return Err(Error::usage("the accounts of the reference server are known only on its machine, with its database").cure(
            "run where `dbstress serve` runs, with the same --database-url and --state-dir; or accounts of your own in [http.auth]",
        ));
    };
    let names: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    let rows = session
        .rows(&format!(
            "SELECT login, role, organisation_id::text FROM (\
               SELECT *, row_number() OVER (PARTITION BY role ORDER BY n, organisation_id, login) AS of_role FROM (\
                 SELECT *, row_number() OVER (PARTITION BY role, organisation_id ORDER BY login) AS n FROM dbstress.account) AS spread\
             ) AS ranked WHERE role IN ({}) AND of_role <= {MOST_OF_ROLE} ORDER BY of_role, role",
            names.join(", ")
        ))
        .await?;
    let text = |value: &Option<String>| value.clone().map_or(Json::Null, Json::String);
    let password = Json::String(secret.password());
    let row = |row: &Vec<Option<String>>| {
        let organisation = row.get(2).and_then(|o| o.as_deref()?.parse::<i64>().ok()).map_or(Json::Null, Json::from);
        Row(vec![row.first().map_or(Json::Null, text), password.clone(), row.get(1).map_or(Json::Null, text), organisation])
    };
    Ok(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: &str) -> Identity {
        Identity { row: None, role: Some(role.into()), token: RwLock::default() }
    }

    #[test]
    fn roles_are_as_often_as_they_are_to_be_and_accounts_take_turns() {
        let all = [identity("admin"), identity("viewer"), identity("viewer")];
        let roles = BTreeMap::from([("admin".to_owned(), 1.0), ("viewer".to_owned(), 3.0)]);
        assert_eq!(order(&all, &roles, 8), [1, 0, 2, 1, 2, 0, 1, 2]);
        assert_eq!(order(&all, &BTreeMap::new(), 2), [0, 1]);
        assert_eq!(order(&all, &BTreeMap::new(), 9), [0, 1, 2]);
    }
}
