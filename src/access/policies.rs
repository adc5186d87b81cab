//! Does row-level security keep organisations apart, and is nothing left of one when its session is lent to the next?
//!
//! On scratch tables, as a role that neither owns them nor bypasses policies, and as their owner, upon whom they are forced. No server is asked.

use std::sync::Arc;

use super::ground::{Extent, Ground};
use super::judge::Seen;
use super::mistake::Mistake;
use crate::outcome::Abort;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError};
use crate::pg::load::{Connection, Failure, Isolation};
use crate::pg::pool::{Open, Pool, PoolSettings, Pooled, Recycle};
use crate::{Error, Result};

/// The criterion of what is seen.
pub const VISIBLE: &str = "rows of others seen";
/// The criterion of the owner of the tables.
pub const OWNER: &str = "rows of others seen by the owner of the table";
/// The criterion of what SET LOCAL leaves.
pub const AFTER_LOCAL: &str = "errors and rows after a transaction with SET LOCAL";
/// The criterion of what a session hands on.
pub const HANDED_ON: &str = "sessions handed on with an organisation";
/// The criterion of who has no organisation.
pub const WITHOUT_CONTEXT: &str = "requests of no organisation that saw rows or failed";

/// The schema of the scratch tables; whatever is in it goes away.
pub const SCHEMA: &str = "dbstress_access";
/// The setting that says for whom a session works.
const SETTING: &str = "dbstress.organisation";
/// Organisations on the scratch table, and rows of each.
const ORGANISATIONS: i64 = 3;
const ROWS: i64 = 5;
/// SQLSTATE insufficient_privilege: what a policy says to a row that may not be written.
const REFUSED: &str = "42501";

/// The roles of a database: the cluster's, so that they are called after it.
fn roles(oid: i64) -> [String; 2] {
    [format!("dbstress_owner_{oid}"), format!("dbstress_tenant_{oid}")]
}

/// Takes schema and roles away.
///
/// # Errors
/// When the server refuses.
pub async fn clear(admin: &mut Session, oid: i64) -> Result<()> {
    admin.execute("RESET ROLE").await?;
    admin.execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
    // Who may not drop roles may not even ask for one that is not there.
    for role in roles(oid) {
        if admin.integer(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await? > 0 {
            admin.execute(&format!("DROP ROLE {role}")).await?;
        }
    }
    Ok(())
}

/// Makes roles and tables, with policies, or with one of the mistakes that people make with them.
async fn set_up(ground: &mut Ground, mistake: Option<Mistake>) -> Result<[String; 2]> {
    let [owner, tenant] = roles(ground.oid);
    clear(&mut ground.admin, ground.oid).await?;
    let roles = format!(
        "CREATE ROLE {owner} NOLOGIN NOSUPERUSER NOBYPASSRLS; CREATE ROLE {tenant} NOLOGIN NOSUPERUSER NOBYPASSRLS; \
         GRANT {owner}, {tenant} TO CURRENT_USER"
    );
    ground.admin.execute(&roles).await.map_err(|why| not_run(&why))?;
    let organisation = match mistake {
        Some(Mistake::NullifForgotten) => format!("current_setting('{SETTING}', true)::bigint"),
        _ => format!("NULLIF(current_setting('{SETTING}', true), '')::bigint"),
    };
    let security = match mistake {
        Some(Mistake::PolicyMissing) => String::new(),
        Some(Mistake::OwnerExempt) => format!("ALTER TABLE {SCHEMA}.document ENABLE ROW LEVEL SECURITY;"),
        _ => format!("ALTER TABLE {SCHEMA}.document ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"),
    };
    let tables = format!(
        "CREATE SCHEMA {SCHEMA}; \
         CREATE TABLE {SCHEMA}.document (id bigint PRIMARY KEY, organisation_id bigint NOT NULL, body text NOT NULL); \
         INSERT INTO {SCHEMA}.document SELECT o * 100 + n, o, 'of ' || o FROM generate_series(1, {ORGANISATIONS}) o, generate_series(1, {ROWS}) n; \
         CREATE POLICY of_its_organisation ON {SCHEMA}.document \
           USING (organisation_id = {organisation}) WITH CHECK (organisation_id = {organisation}); \
         {security} \
         GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {owner}; GRANT USAGE ON SCHEMA {SCHEMA} TO {tenant}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON {SCHEMA}.document TO {tenant}; \
         ALTER TABLE {SCHEMA}.document OWNER TO {owner}"
    );
    ground.admin.execute(&tables).await.map_err(|why| not_run(&why))?;
    Ok([owner, tenant])
}

fn not_run(why: &SqlError) -> Error {
    Error::inconclusive(format!("not run: roles and tables cannot be made here ({why})"))
        .cure("connect as a role with CREATEROLE that may create schemas, as on the private server: --managed")
}

/// What a statement came to.
type Done = Result<Vec<Vec<Option<String>>>, SqlError>;

/// One transaction as `role`, for an organisation or for none; nothing of it is kept.
async fn as_role(session: &mut Session, role: &str, organisation: Option<i64>, sql: &str) -> Result<Done> {
    session.execute("BEGIN").await?;
    session.execute(&format!("SET LOCAL ROLE {role}")).await?;
    if let Some(organisation) = organisation {
        session.execute(&format!("SET LOCAL {SETTING} = '{organisation}'")).await?;
    }
    let done = session.rows(sql).await;
    session.execute("ROLLBACK").await?;
    Ok(done)
}

fn number(done: &Done) -> Option<i64> {
    done.as_ref().ok()?.first()?.first()?.as_deref()?.parse().ok()
}

/// What a question came to, in words.
fn said(done: &Done) -> String {
    match done {
        Ok(_) => number(done).map_or("nothing".into(), |n| format!("{n} rows")),
        Err(why) => why.to_string(),
    }
}

/// Everybody for himself, nobody for nobody, and writes for others.
pub async fn row_security(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    let [owner, tenant] = set_up(ground, mistake).await?;
    let mut seen = Seen::new(extent.pace);
    let admin = &mut ground.admin;
    let bypasses = format!("SELECT count(*) FROM pg_roles WHERE rolname IN ('{owner}', '{tenant}') AND (rolsuper OR rolbypassrls)");
    seen.count("roles that bypass policies", 0, admin.integer(&bypasses).await?.unsigned_abs());
    // A session of its own: in this one the setting has never been there, which is another case than one that was.
    let mut fresh = Session::connect(&ground.options, "access").await?;
    let all = format!("SELECT count(*) FROM {SCHEMA}.document");
    let never = as_role(&mut fresh, &tenant, None, &all).await?;
    seen.holds("rows seen without an organisation", "0 rows", said(&never), number(&never) == Some(0));
    let (mut hidden, mut shown, mut by_owner) = (Vec::new(), Vec::new(), Vec::new());
    for organisation in 1..=ORGANISATIONS {
        let counts = |whose: &str| format!("SELECT count(*) FROM {SCHEMA}.document WHERE organisation_id {whose} {organisation}");
        let own = as_role(&mut fresh, &tenant, Some(organisation), &counts("=")).await?;
        if number(&own) != Some(ROWS) {
            hidden.push(format!("organisation {organisation}: {}", said(&own)));
        }
        for (role, offenders) in [(&tenant, &mut shown), (&owner, &mut by_owner)] {
            let others = as_role(&mut fresh, role, Some(organisation), &counts("<>")).await?;
            if number(&others) != Some(0) {
                offenders.push(format!("organisation {organisation}: {}", said(&others)));
            }
        }
    }
    let among = ORGANISATIONS.unsigned_abs();
    seen.none("organisations that do not see their own rows", among, hidden);
    seen.none(VISIBLE, among, shown);
    seen.none(OWNER, among, by_owner);
    // The transactions before have left the empty text in the setting.
    let mut after = Vec::new();
    for role in [&tenant, &owner] {
        let none = as_role(&mut fresh, role, None, &all).await?;
        // That the owner is exempt is found above.
        let is_wrong = none.is_err() || role == &tenant && number(&none) != Some(0);
        if is_wrong {
            after.push(format!("{role}: {}", said(&none)));
        }
    }
    seen.none(AFTER_LOCAL, 2, after);
    let (wrote, tried) = writes(&mut fresh, &tenant).await?;
    seen.none("writes for others that were not refused", tried, wrote);
    fresh.close().await;
    clear(&mut ground.admin, ground.oid).await?;
    Ok(seen)
}

/// Writes for organisation 2 in the name of organisation 1: those that were not refused, and how many were tried.
async fn writes(session: &mut Session, tenant: &str) -> Result<(Vec<String>, u64)> {
    let refused = [
        ("INSERT for another", format!("INSERT INTO {SCHEMA}.document VALUES (9999, 2, 'foreign') RETURNING 1")),
        ("UPDATE that gives a row away", format!("UPDATE {SCHEMA}.document SET organisation_id = 2 WHERE id = 101 RETURNING 1")),
    ];
    let without_effect = [
        ("UPDATE of a row of another", format!("UPDATE {SCHEMA}.document SET body = 'changed' WHERE id = 201 RETURNING 1")),
        ("DELETE of a row of another", format!("DELETE FROM {SCHEMA}.document WHERE id = 201 RETURNING 1")),
    ];
    let mut wrote = Vec::new();
    for (what, sql) in &refused {
        let done = as_role(session, tenant, Some(1), sql).await?;
        if done.as_ref().err().and_then(|why| why.code.as_deref()) != Some(REFUSED) {
            wrote.push(format!("{what}: {}", said(&done)));
        }
    }
    for (what, sql) in &without_effect {
        let done = as_role(session, tenant, Some(1), sql).await?;
        if !done.as_ref().is_ok_and(Vec::is_empty) {
            wrote.push(format!("{what}: {}", said(&done)));
        }
    }
    // It can write at all.
    let own =
        as_role(session, tenant, Some(1), &format!("UPDATE {SCHEMA}.document SET body = 'changed' WHERE id = 101 RETURNING 1"))
            .await?;
    if number(&own) != Some(1) {
        wrote.push(format!("UPDATE of its own row, which is allowed: {}", said(&own)));
    }
    Ok((wrote, (refused.len() + without_effect.len()) as u64 + 1))
}

/// Opens sessions that work as one role.
#[derive(Clone)]
struct Door {
    options: ConnectOptions,
    role: String,
}

struct Lent(Connection);

impl Open for Door {
    type Item = Lent;

    async fn open(&self) -> Result<Lent> {
        let mut connection = Connection::open(&self.options, "dbstress/access", &[Isolation::ReadCommitted]).await?;
        connection.ask(&format!("SET ROLE {}", self.role)).await?;
        Ok(Lent(connection))
    }
}

impl Pooled for Lent {
    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    async fn answers(&mut self) -> bool {
        self.0.ask("SELECT 1").await.is_ok()
    }
}

/// Requests of several organisations, and of none, through a pool of two sessions.
pub async fn session_state(ground: &mut Ground, extent: &Extent, mistake: Option<Mistake>) -> Result<Seen> {
    const SESSIONS: u32 = 2;
    const REQUESTS: u32 = 60;
    let [_, role] = set_up(ground, mistake).await?;
    let mut seen = Seen::new(extent.pace);
    let door = Door { options: ground.options.clone(), role };
    let settings = PoolSettings { size: SESSIONS, timeout: None, recycle: Recycle::Fast };
    let pool = Arc::new(Pool::new(settings, door)?);
    let (mut handed_on, mut without, mut others, mut anonymous) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for who in 1..=REQUESTS {
        let mut lent = pool.checkout(who).await.map_err(|why| Error::inconclusive("no session could be had").because(why))?;
        let left = lent.0.query(&format!("SELECT coalesce(current_setting('{SETTING}', true), '')")).await.map_err(failed)?;
        if left.as_deref().is_some_and(|left| !left.is_empty()) {
            handed_on.push(format!("request {who} was given a session of organisation {}", left.unwrap_or_default()));
        }
        // Every fourth has logged in nowhere.
        let organisation = (who % 4 != 0).then(|| i64::from(who) % ORGANISATIONS + 1);
        let seen_by = request(&mut lent.0, organisation, mistake).await;
        match (organisation, seen_by) {
            (None, Ok((0, _))) => anonymous += 1,
            (None, seen_by) => {
                anonymous += 1;
                let saw = seen_by.map_or_else(|why| words(&why), |(rows, _)| format!("{rows} rows"));
                without.push(format!("request {who}: {saw}"));
            }
            (Some(_), Ok((ROWS, 0))) => {}
            (Some(organisation), Ok((rows, foreign))) => {
                others.push(format!("request {who} of organisation {organisation}: {rows} rows, {foreign} of them of others"));
            }
            (Some(organisation), Err(why)) => others.push(format!("request {who} of organisation {organisation}: {}", words(&why))),
        }
    }
    let books = pool.books();
    seen.none(HANDED_ON, REQUESTS.into(), handed_on);
    seen.none(WITHOUT_CONTEXT, anonymous, without);
    seen.none("requests that did not see just their own rows", u64::from(REQUESTS) - anonymous, others);
    if books.reused == 0 {
        seen.open(HANDED_ON, "no session was handed on");
    }
    seen.figure(format!("{REQUESTS} requests, {} of them on a session that another had before", books.reused));
    pool.empty();
    drop(pool);
    clear(&mut ground.admin, ground.oid).await?;
    Ok(seen)
}

/// A request: its organisation is set, and it counts all rows that it sees, and those of others.
async fn request(connection: &mut Connection, organisation: Option<i64>, mistake: Option<Mistake>) -> Result<(i64, i64), Failure> {
    connection.begin(Isolation::ReadCommitted).await?;
    let counted = async {
        if let Some(organisation) = organisation {
            let how = if mistake == Some(Mistake::SessionLevelSet) { "SET" } else { "SET LOCAL" };
            connection.query(&format!("{how} {SETTING} = '{organisation}'")).await?;
        }
        let mut counts = [0; 2];
        for (count, condition) in
            counts.iter_mut().zip(["true".into(), format!("organisation_id <> {}", organisation.unwrap_or(0))])
        {
            let sql = format!("SELECT count(*) FROM {SCHEMA}.document WHERE {condition}");
            *count = connection.query(&sql).await?.and_then(|n| n.parse().ok()).ok_or(Failure::local(Abort::Other))?;
        }
        Ok((counts[0], counts[1]))
    };
    let counted: Result<(i64, i64), Failure> = counted.await;
    match &counted {
        Ok(_) => {
            connection.commit().await;
        }
        Err(_) => connection.roll_back().await,
    }
    counted
}

fn words(failure: &Failure) -> String {
    failure
        .server
        .as_ref()
        .map_or_else(|| failure.abort.words().into(), |said| format!("{}: {}", String::from_utf8_lossy(&said.code.0), said.message))
}

fn failed(failure: Failure) -> Error {
    Error::inconclusive(format!("a session of the pool could not be asked: {}", words(&failure)))
}
