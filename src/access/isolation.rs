//! Is every organisation refused the rows of every other, on every route; and does a key of one mean nothing to another?

use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Ask, Caller, Told};
use super::ground::{Examined, Extent, Ground, Tenant};
use super::judge::Seen;
use super::mistake::Mistake;
use super::roles::{appoint, appointed};
use super::valid::{foreign, list};
use crate::Result;
use crate::contract::Code;
use crate::pg::admin::Session;
use crate::token::Claims;

/// The criterion of rows of others.
pub const REFUSED: &str = "rows of others, and not refused";
/// The criterion of lists.
pub const LISTS: &str = "lists that show rows of others, or none";
/// The criterion of a key that another organisation has used.
pub const OWN_EFFECT: &str = "keys of others that were in the way";

/// Others whose rows an organisation asks for: with more than these nothing is learnt besides.
const MOST_OTHERS: usize = 8;
/// How often each organisation's own rows are listed.
const LISTED: usize = 8;
/// How long the audit trail may take: nobody waits for it.
const TRAIL: Duration = Duration::from_secs(5);

/// Every organisation's tokens at the rows of the others, and at its own.
pub async fn isolation(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let mut examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let attacked = attack(&mut seen, &examined, &tenants).await;
        // Whoever leaves entries in the audit trail has left them then.
        examined.stop().await;
        let own = attacked?;
        left(&mut seen, &mut ground.admin, own).await?;
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}

/// What was done rightfully: ledger lines, and entries of the audit trail about authorisations.
#[derive(Default)]
struct Own {
    lines: i64,
    entries: i64,
}

async fn attack(seen: &mut Seen, examined: &Examined, tenants: &[Tenant]) -> Result<Own> {
    let mut caller = examined.caller();
    let mut own = Own::default();
    let (mut kept_out, mut asked_own, mut appointments) = (Vec::new(), 0, Vec::new());
    for tenant in tenants {
        let token = examined.token(&tenant.practitioner())?;
        // What is refused to others is there, and its owner can have it.
        let path = format!("/v1/authorisations/{}", tenant.authorisation);
        for (route, units) in [("reserve", 3), ("release", 1), ("consume", 1)] {
            let told = caller.ask(&Ask::post(format!("{path}/{route}"), json!({"units": units})).with(&token)).await?;
            asked_own += 1;
            if told.is_ok() {
                own.lines += 1;
                own.entries += 1;
            } else {
                kept_out.push(format!("organisation {}: {route} {}", tenant.id, told.words()));
            }
        }
        appointments.push(appointed(tenant, &mut caller, &token).await?);
        own.lines += 1;
        for ask in [tenant.look(), Ask::get(format!("/v1/appointments/{}", appointments[appointments.len() - 1]))] {
            let told = caller.ask(&ask.clone().with(&token)).await?;
            asked_own += 1;
            if !told.is_ok() {
                kept_out.push(format!("organisation {}: {} {}", tenant.id, ask.words(), told.words()));
            }
        }
    }
    let (mut let_in, mut asked) = (Vec::new(), 0);
    for (n, attacker) in tenants.iter().enumerate() {
        for step in 1..tenants.len().min(MOST_OTHERS + 1) {
            let victim = (n + step) % tenants.len();
            // Who makes appointments is somebody: without an actor it would be refused for that.
            let admin = Claims { actor: Some(attacker.practitioner), ..attacker.admin() };
            for (role, claims) in [("practitioner", attacker.practitioner()), ("admin", admin)] {
                let token = examined.token(&claims)?;
                for ask in attacks(&tenants[victim], appointments[victim]) {
                    let told = caller.ask(&ask.clone().with(&token)).await?;
                    asked += 1;
                    if !is_refused(&told) {
                        let (a, b) = (attacker.id, tenants[victim].id);
                        let_in.push(format!("{role} of organisation {a} at organisation {b}: {} {}", ask.words(), told.words()));
                    }
                }
            }
        }
    }
    let (shown, listed) = lists(&mut caller, examined, tenants).await?;
    seen.none("own rows, and refused", asked_own, kept_out);
    seen.none(REFUSED, asked, let_in);
    seen.none(LISTS, listed, shown);
    Ok(own)
}

/// Everything that can be asked of an authorisation, and of an appointment.
fn attacks(victim: &Tenant, appointment: i64) -> Vec<Ask> {
    let path = format!("/v1/authorisations/{}", victim.authorisation);
    let mut asks = vec![Ask::get(&path), Ask::get(format!("{path}/availability"))];
    asks.extend(["reserve", "release", "consume"].map(|route| Ask::post(format!("{path}/{route}"), json!({"units": 1}))));
    asks.push(appoint(victim.authorisation));
    asks.push(Ask::get(format!("/v1/appointments/{appointment}")));
    asks.extend(["cancel", "complete"].map(|route| Ask::post(format!("/v1/appointments/{appointment}/{route}"), Value::Null)));
    asks
}

/// Whether nothing was done, and nothing shown: that there is such a row may be kept back too.
fn is_refused(told: &Told) -> bool {
    matches!(told.code(), Some(Code::WrongOrganisation | Code::NotFound)) && matches!(told.status, 403 | 404)
}

/// What was wrong with lists, those of all organisations in turn on one connection; and how many there were.
async fn lists(caller: &mut Caller, examined: &Examined, tenants: &[Tenant]) -> Result<(Vec<String>, u64)> {
    let (mut wrong, mut listed) = (Vec::new(), 0);
    for _ in 0..LISTED {
        for tenant in tenants {
            let told = caller.ask(&list().with(&examined.token(&tenant.viewer())?)).await?;
            listed += 1;
            wrong.extend(foreign(&told, tenant.id));
        }
    }
    Ok((wrong, listed))
}

/// What is left of it in ledger and audit trail: what was done rightfully, and nothing else.
async fn left(seen: &mut Seen, admin: &mut Session, own: Own) -> Result<()> {
    let ours = "SELECT id, organisation_id FROM dbstress.authorisation WHERE number LIKE 'ACCESS-%'";
    let lines = admin
        .rows(&format!(
            "SELECT count(*), count(*) FILTER (WHERE l.organisation_id IS DISTINCT FROM a.organisation_id \
               OR p.organisation_id IS DISTINCT FROM a.organisation_id) \
             FROM dbstress.unit_ledger l JOIN ({ours}) a ON a.id = l.authorisation_id \
             LEFT JOIN dbstress.practitioner p ON p.id = l.actor_id WHERE l.kind <> 'fence'"
        ))
        .await?;
    let number = |rows: &[crate::pg::admin::TextRow], i: usize| {
        rows.first().and_then(|row| row.get(i)?.as_deref()?.parse::<i64>().ok()).unwrap_or_default()
    };
    seen.count("lines in the ledger", own.lines.unsigned_abs(), number(&lines, 0).unsigned_abs());
    seen.count("lines in the ledger by others", 0, number(&lines, 1).unsigned_abs());
    let entries = format!(
        "SELECT count(*), count(*) FILTER (WHERE e.organisation_id IS DISTINCT FROM a.organisation_id) \
         FROM dbstress.audit_entry e JOIN ({ours}) a ON a.id = e.resource_id \
         WHERE e.resource = 'authorisation' AND e.status < 400"
    );
    let began = std::time::Instant::now();
    let mut rows = admin.rows(&entries).await?;
    while number(&rows, 0) < own.entries && began.elapsed() < TRAIL {
        tokio::time::sleep(TRAIL / 50).await;
        rows = admin.rows(&entries).await?;
    }
    if number(&rows, 0) == 0 {
        seen.open("entries of others in the audit trail", "there is none at all; `dbstress serve` without --no-audit keeps one");
        return Ok(());
    }
    seen.count("entries in the audit trail", own.entries.unsigned_abs(), number(&rows, 0).unsigned_abs());
    seen.count("entries of others in the audit trail", 0, number(&rows, 1).unsigned_abs());
    Ok(())
}

/// The same key, asked with by each organisation about its own authorisation: with the same body, and with another.
pub async fn keys(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let tenants = ground.tenants.clone();
    let mut seen = Seen::new(extent.pace);
    let examined = ground.examined(Vec::new(), mistake).await?;
    let done = async {
        let mut caller = examined.caller();
        let key = format!("access-{}-{}", std::process::id(), crate::token::now());
        let (mut in_the_way, mut forgotten, mut asked) = (Vec::new(), Vec::new(), 0);
        for (n, tenant) in tenants.iter().enumerate() {
            let token = examined.token(&tenant.practitioner())?;
            let reserve = |key: &str, units: usize| {
                let path = format!("/v1/authorisations/{}/reserve", tenant.authorisation);
                Ask::post(path, json!({"units": units})).with(&token).keyed(key)
            };
            for (key, units) in [(format!("{key}-same"), 1), (format!("{key}-other"), n + 1)] {
                let told = caller.ask(&reserve(&key, units)).await?;
                asked += 1;
                let of = told.json().get("authorisation").and_then(Value::as_i64);
                if told.status != 201 || told.is_replayed() || of != Some(tenant.authorisation) {
                    let replayed = if told.is_replayed() { ", the answer to another" } else { "" };
                    in_the_way.push(format!("organisation {}: {}{replayed}", tenant.id, told.words()));
                    continue;
                }
                let again = caller.ask(&reserve(&key, units)).await?;
                if !again.is_replayed() || again.body() != told.body() {
                    forgotten.push(format!("organisation {}: {}", tenant.id, again.words()));
                }
            }
        }
        seen.none(OWN_EFFECT, asked, in_the_way);
        // Without which it would only be seen that no key means anything to anybody.
        seen.none("own keys that were forgotten", asked, forgotten);
        Ok(seen)
    };
    let done = done.await;
    examined.ended(done).await
}
