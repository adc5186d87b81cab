//! Do rows, their parents and those who changed them belong to one organisation, wherever they came from?

use std::time::Duration;

use serde_json::json;

use super::call::Ask;
use super::ground::{Extent, Ground};
use super::judge::Seen;
use super::mistake::Mistake;
use super::roles::appointed;
use crate::invariant::self_test::{Outcome, try_all};
use crate::invariant::{self, DEFAULT_SEARCH_PATH, Finding, Invariant, When, run_all};
use crate::{Error, Result};

/// The criterion of the rules.
pub const RULES: &str = "rows that belong to two organisations";

/// How long a question may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Beside those about tenants in the catalogue: whose a key is.
const OF_KEYS: &str = "key-of-its-organisation";
/// Tables whose rows may belong to nobody in particular, or to everybody.
const MAY_BE_NULL: &str = "'service_code', 'account', 'audit_entry'";

fn rules() -> Result<Vec<Invariant>> {
    let is_about_tenants = |rule: &Invariant| rule.id.as_deref().is_some_and(|id| id.starts_with("INV-T")) || rule.name == OF_KEYS;
    Ok(invariant::built_in()?.into_iter().filter(|rule| is_about_tenants(rule) && rule.is_about("clinic")).collect())
}

/// Each organisation has something done with a key, and an appointment that takes place; then all rules about tenants are asked. With the mistake each rule is broken, in a transaction
/// that is rolled back, and must notice.
pub async fn structure(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let rules = rules()?;
    if mistake == Some(Mistake::ForeignRow) {
        return broken(ground, extent, &rules).await;
    }
    let tenants = ground.tenants.clone();
    let examined = ground.examined(Vec::new(), None).await?;
    let done = async {
        let mut caller = examined.caller();
        for tenant in &tenants {
            let path = format!("/v1/authorisations/{}/reserve", tenant.authorisation);
            let token = examined.token(&tenant.practitioner())?;
            let told =
                caller.ask(&Ask::post(path, json!({"units": 1})).with(&token).keyed(&format!("structure-{}", tenant.id))).await?;
            if !told.is_ok() {
                return Err(Error::inconclusive(format!("organisation {} cannot reserve: {}", tenant.id, told.words())));
            }
            let appointment = appointed(tenant, &mut caller, &token).await?;
            let complete = Ask::post(format!("/v1/appointments/{appointment}/complete"), json!(null)).with(&token);
            let told = caller.ask(&complete).await?;
            if !told.is_ok() {
                let why = format!("organisation {} cannot complete its appointment: {}", tenant.id, told.words());
                return Err(Error::inconclusive(why));
            }
        }
        Ok(Seen::new(extent.pace))
    };
    let done = done.await;
    let mut seen = examined.ended(done).await?;
    for checked in run_all(&mut ground.admin, &rules, &DEFAULT_SEARCH_PATH, When::Quiesced, TIMEOUT).await {
        seen.about(Some(checked.label()));
        match checked.finding {
            Finding::Holds { examined } => seen.none(RULES, examined.unsigned_abs(), Vec::new()),
            Finding::Violated { examined, total, rows } => {
                let said = |text: Option<String>| text.unwrap_or("NULL".into());
                let mut offenders: Vec<String> = rows
                    .into_iter()
                    .map(|row| format!("{}: {} instead of {}", said(row.subject), said(row.actual), said(row.expected)))
                    .collect();
                offenders.resize(usize::try_from(total).unwrap_or(offenders.len()), "another".into());
                seen.none(RULES, examined.unsigned_abs(), offenders);
            }
            Finding::Vacuous => seen.open(RULES, "there is no row that it is about"),
            Finding::Errored(why) => seen.open(RULES, why),
        }
    }
    without_owner(ground, &mut seen).await?;
    Ok(seen)
}

/// Rows of tables that belong to organisations, and themselves to none.
async fn without_owner(ground: &mut Ground, seen: &mut Seen) -> Result<()> {
    let tables = ground
        .admin
        .rows(&format!(
            "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE c.relnamespace = 'dbstress'::regnamespace AND c.relkind = 'r' AND a.attname = 'organisation_id' \
               AND c.relname NOT IN ({MAY_BE_NULL}) ORDER BY c.relname"
        ))
        .await?;
    for table in tables.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        seen.about(Some(table.clone()));
        let counts = format!("SELECT count(*)::text || ' ' || count(*) - count(organisation_id) FROM dbstress.{table}");
        let counts = ground.admin.text(&counts).await?.unwrap_or_default();
        let mut counts = counts.split(' ').map(|count| count.parse::<u64>().unwrap_or_default());
        let (rows, without) = (counts.next().unwrap_or_default(), counts.next().unwrap_or_default());
        // An empty table has no row without an owner; what had to be there is asked for by the rules above.
        seen.count("rows of no organisation", 0, without);
        seen.figure(format!("{table}: {rows} rows, {without} of them of no organisation"));
    }
    seen.about(None);
    Ok(())
}

async fn broken(ground: &mut Ground, extent: &Extent, rules: &[Invariant]) -> Result<Seen> {
    let mut seen = Seen::new(extent.pace);
    let tried = try_all(&mut ground.admin, rules, TIMEOUT).await;
    let (mut noticed, mut silent) = (Vec::new(), Vec::new());
    for tried in &tried {
        match &tried.outcome {
            Outcome::Fired { before, after, .. } => noticed.push(format!("{}: {} more than before", tried.name, after - before)),
            Outcome::Silent { .. } => silent.push(format!("{} did not notice", tried.name)),
            Outcome::Errored(why) => silent.push(format!("{} could not be tried: {why}", tried.name)),
        }
    }
    // Each of them must have noticed, or nothing is said by those that did.
    if silent.is_empty() {
        seen.none(RULES, tried.len() as u64, noticed);
    } else {
        seen.open(RULES, silent.join("; "));
    }
    Ok(seen)
}
