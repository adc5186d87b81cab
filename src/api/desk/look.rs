//! What has to be looked up, in one statement that changes nothing?

use std::sync::Arc;
use std::time::Duration;

use super::floor::{OWN_SCHEMA, Session};
use super::{Account, Grant, Settings};
use crate::bug::Bug;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Parameters};
use crate::strategy::Strategy;
use crate::target::view::Form;
use crate::workload::contest::{Change, Proposal};
use crate::workload::keyed::{InFlight, Keys};

/// A statement, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// What somebody wants to see.
    View(Form),
    /// The grant with a secret of this digest.
    Grant,
    /// The account that logs in so.
    Account,
    /// Whose an authorisation is, in a schema.
    OfAuthorisation(&'static str),
    /// Whose an appointment is.
    OfAppointment,
    /// Whether the rows of a change of a schedule are there, and of its programme.
    Assign(&'static str),
    Cancel(&'static str),
    Call(&'static str),
    Swap(&'static str),
}

impl Look {
    /// Its statement.
    pub fn sql(self) -> String {
        match self {
            Self::View(form) => form.sql(),
            Self::Grant => "SELECT run_id, schema_name, strategy, bug, hold_ms, in_flight, lifetime_s FROM dbstress.run_grant \
                            WHERE secret_hash = $1::text"
                .into(),
            Self::Account => {
                "SELECT password_hash, role, organisation_id, actor_id FROM dbstress.account WHERE login = $1::text".into()
            }
            Self::OfAuthorisation(schema) => format!("SELECT organisation_id FROM {schema}.authorisation WHERE id = $1::bigint"),
            Self::OfAppointment => "SELECT organisation_id FROM dbstress.appointment WHERE id = $1::bigint".into(),
            Self::Assign(schema) => of_programme(&[person(schema, 2), block(schema, 3), template(schema, 4)], ""),
            Self::Cancel(schema) => of_programme(
                &[person(schema, 2), block(schema, 3)],
                &format!(
                    // One that is not there is the scheduler's business, unless it is there under another number.
                    " WHEN (SELECT a.person_id <> $2::bigint OR a.block_id <> $3::bigint FROM {schema}.assignment a WHERE a.id = $4::bigint) \
                       THEN 'not held' \
                     WHEN NOT EXISTS (SELECT FROM {schema}.assignment WHERE id = $4::bigint) \
                       AND EXISTS (SELECT FROM {schema}.assignment WHERE block_id = $3::bigint AND person_id = $2::bigint) THEN 'missing'"
                ),
            ),
            Self::Call(schema) => of_programme(&[person(schema, 2)], ""),
            Self::Swap(schema) => {
                // For nothing: then it is the same that is looked at twice.
                let given = format!("coalesce({}, CASE WHEN $5::bigint IS NULL THEN $1::bigint END)", assignment(schema, 5));
                of_programme(&[person(schema, 2), person(schema, 3), assignment(schema, 4), given], "")
            }
        }
    }
}

/// What is wrong with the rows of a change, whose programmes are `rows`: parameter 1 is the one that they should be of.
fn of_programme(rows: &[String], besides: &str) -> String {
    let is = |what: &str| rows.iter().map(|row| format!("{row} {what}")).collect::<Vec<_>>().join(" OR ");
    format!(
        "SELECT CASE WHEN {} THEN 'foreign' WHEN {} THEN 'missing'{besides} ELSE 'right' END",
        is("<> $1::bigint"),
        is("IS NULL")
    )
}

fn person(schema: &str, k: u8) -> String {
    format!("(SELECT programme_id FROM {schema}.person WHERE id = ${k}::bigint)")
}

fn block(schema: &str, k: u8) -> String {
    format!("(SELECT programme_id FROM {schema}.block WHERE id = ${k}::bigint)")
}

fn template(schema: &str, k: u8) -> String {
    format!("(SELECT programme_id FROM {schema}.rotation_template WHERE id = ${k}::bigint)")
}

fn assignment(schema: &str, k: u8) -> String {
    format!(
        "(SELECT b.programme_id FROM {schema}.assignment a JOIN {schema}.block b ON b.id = a.block_id WHERE a.id = ${k}::bigint)"
    )
}

/// What is wrong with the rows that a change is about, before anything is decided: none of it ever changes, but whose a half day is.
pub(super) async fn check(session: &mut Session, schema: &'static str, proposal: &Proposal) -> Result<Option<Refusal>, Failure> {
    let (look, ids): (Look, [Option<i64>; 4]) = match proposal.change {
        Change::Assign { person, block, template } => (Look::Assign(schema), [Some(person), Some(block), Some(template), None]),
        Change::Cancel { person, block, assignment } => (Look::Cancel(schema), [Some(person), Some(block), Some(assignment), None]),
        Change::Call { person, .. } => (Look::Call(schema), [Some(person), None, None, None]),
        Change::Swap { from, to, source, target } => (Look::Swap(schema), [Some(from), Some(to), Some(source), target]),
    };
    let count = match look {
        Look::Swap(_) => 4,
        Look::Call(_) => 1,
        _ => 3,
    };
    let fill = |p: &mut Parameters<'_>| {
        p.integer(proposal.programme);
        for id in ids.into_iter().take(count) {
            match id {
                Some(id) => p.integer(id),
                None => p.null(),
            }
        }
    };
    let found = session
        .look(look, fill, |values| match values.next().flatten() {
            Some("foreign") => Some(Refusal::WrongOrganisation),
            Some("missing") => Some(Refusal::NotFound),
            Some("not held") => Some(Refusal::NotHeld),
            _ => None,
        })
        .await?;
    Ok(found.flatten())
}

/// The grant with a secret of this digest, if there is one.
pub(super) async fn grant(session: &mut Session, settings: &Settings, digest: &str) -> Result<Option<Arc<Grant>>, Failure> {
    let found = session.look(Look::Grant, |p| p.text(digest), |values| read_grant(settings, values)).await?;
    // One that cannot be read grants nothing, and is no answer either.
    found.map(|grant| grant.map(Arc::new).ok_or(Failure::local(Abort::Other))).transpose()
}

fn read_grant(settings: &Settings, values: &mut dyn Iterator<Item = Option<&str>>) -> Option<Grant> {
    let run = values.next()??.parse().ok()?;
    let schema = match values.next()?? {
        OWN_SCHEMA => OWN_SCHEMA,
        CONTROL_SCHEMA => CONTROL_SCHEMA,
        _ => return None,
    };
    let strategy = match values.next()? {
        Some(name) => Some(Strategy::from_name(name)?),
        None => None,
    };
    let bug = match values.next()? {
        Some(name) => Some(Bug::from_name(name)?),
        None => None,
    };
    let hold = Duration::from_millis(values.next()??.parse().ok()?);
    let in_flight = match values.next()? {
        Some("refuse") => Some(InFlight::Refuse),
        Some("wait") => Some(InFlight::Wait),
        Some(_) => return None,
        None => None,
    };
    let lifetime = match values.next()? {
        Some(seconds) => Some(Duration::from_secs(seconds.parse().ok()?)),
        None => None,
    };
    let keys = (in_flight.is_some() || lifetime.is_some()).then(|| Keys {
        in_flight: in_flight.unwrap_or(settings.keys.in_flight),
        lifetime: lifetime.unwrap_or(settings.keys.lifetime),
        cleanup: settings.keys.cleanup,
    });
    Some(Grant { run, schema, strategy, bug, hold, keys })
}

/// Where controls have their rows.
const CONTROL_SCHEMA: &str = "dbstress_control";

/// The account that logs in so, if there is one.
pub(super) async fn account(session: &mut Session, login: &str) -> Result<Option<Account>, Failure> {
    // The server knows no text with a zero byte in it, and so nobody who is called so.
    if login.contains('\0') {
        return Ok(None);
    }
    let read = |values: &mut dyn Iterator<Item = Option<&str>>| {
        Some(Account {
            login: login.to_owned(),
            password_hash: values.next()??.to_owned(),
            role: values.next()??.to_owned(),
            organisation: values.next()?.map(str::parse).transpose().ok()?,
            actor: values.next()?.map(str::parse).transpose().ok()?,
        })
    };
    let found = session.look(Look::Account, |p| p.text(login), read).await?;
    found.map(|account| account.ok_or(Failure::local(Abort::Other))).transpose()
}

/// The number in the first column of the first row, if there is one.
pub(super) async fn number(session: &mut Session, look: Look, id: i64) -> Result<Option<i64>, Failure> {
    let found = session.look(look, |p| p.integer(id), |values| values.next().flatten()?.parse().ok()).await?;
    Ok(found.flatten())
}
