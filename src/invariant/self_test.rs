//! Can every check fail? Each one's `breaks` is applied in a transaction that is rolled back, and the check must then find more.

use std::time::Duration;

use serde::Serialize;

use super::run::{breaches, look, settings};
use super::{DEFAULT_SEARCH_PATH, Invariant};
use crate::pg::admin::{Session, SqlError};
use crate::verdict::Verdict;

/// Takes every rule of the schema away that would refuse the breakage before the check can see it; the transaction puts them back.
/// Foreign keys go first, since they depend on the keys that they refer to.
const DROP_CONSTRAINTS: &str = "DO $drop$
DECLARE c record;
BEGIN
    FOR c IN SELECT conrelid::regclass AS relation, conname FROM pg_constraint
             WHERE connamespace = 'dbstress'::regnamespace AND conrelid <> 0 AND contype IN ('c', 'f', 'u', 'x', 'p')
             ORDER BY contype <> 'f'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.relation, c.conname);
    END LOOP;
    FOR c IN SELECT i.indexrelid::regclass AS relation FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid
             WHERE r.relnamespace = 'dbstress'::regnamespace AND i.indisunique
    LOOP
        EXECUTE format('DROP INDEX %s', c.relation);
    END LOOP;
    FOR c IN SELECT a.attrelid::regclass AS relation, a.attname FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
             WHERE r.relnamespace = 'dbstress'::regnamespace AND r.relkind = 'r' AND a.attnum > 0 AND a.attnotnull
               AND NOT a.attisdropped AND a.attidentity = ''
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', c.relation, c.attname);
    END LOOP;
END
$drop$";

/// How one check answered when its rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "snake_case")]
pub enum Outcome {
    /// It found more breaches than before.
    Fired {
        /// Breaches before.
        before: i64,
        /// Breaches after.
        after: i64,
        /// Whether the constraints of the schema had to be out of the way.
        constraints_dropped: bool,
    },
    /// It found no more than before: it cannot be relied on.
    Silent {
        /// Breaches before.
        before: i64,
        /// Breaches after.
        after: i64,
    },
    /// It could not be tried; the message says why.
    Errored(String),
}

/// One check that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Name of the invariant.
    pub name: String,
    /// Its number in the catalogue.
    pub id: Option<String>,
    /// How it answered.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Tries every one of `invariants` on a database of ours. The caller holds the lease, and `session` is in no transaction.
/// Each is tried in a transaction of its own, which is rolled back: nothing is left behind.
pub async fn try_all(session: &mut Session, invariants: &[Invariant], statement_timeout: Duration) -> Vec<Tried> {
    let mut tried = Vec::new();
    for invariant in invariants {
        let outcome = try_one(session, invariant, statement_timeout).await.unwrap_or_else(|e| Outcome::Errored(e.to_string()));
        // Also after an error, when the transaction is still open; a lost connection shows in the next one.
        let _ = session.execute("ROLLBACK").await;
        tried.push(Tried { name: invariant.name.clone(), id: invariant.id.clone(), outcome });
    }
    tried
}

/// The verdict on a self-test: pass when all fired; a check that cannot fail proves nothing.
pub fn judge(tried: &[Tried]) -> (Verdict, Vec<String>) {
    let reasons: Vec<String> = tried
        .iter()
        .filter_map(|t| match &t.outcome {
            Outcome::Fired { .. } => None,
            Outcome::Silent { .. } => Some(format!("{} did not fire when its rule was broken", t.name)),
            Outcome::Errored(why) => Some(format!("{} could not be tried: {why}", t.name)),
        })
        .collect();
    match (tried.is_empty(), reasons.is_empty()) {
        (true, _) => (Verdict::Inconclusive, vec!["nothing was tried".into()]),
        (false, false) => (Verdict::Inconclusive, reasons),
        (false, true) => (Verdict::Pass, vec![format!("every check fired when its rule was broken ({})", tried.len())]),
    }
}

async fn try_one(session: &mut Session, invariant: &Invariant, timeout: Duration) -> Result<Outcome, SqlError> {
    session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    session.execute(&settings(&DEFAULT_SEARCH_PATH, timeout)).await?;
    session.execute("SET LOCAL lock_timeout = '10s'").await?;
    let transaction = session.text("SELECT txid_current()::text").await?;
    // Also makes sure that it can be asked at all, with the right columns and in one statement.
    look(session, invariant).await?;
    let (before, _) = breaches(session, invariant).await?;
    session.execute("SAVEPOINT breaks").await?;
    let mut constraints_dropped = false;
    if let Err(refused) = session.execute(&invariant.breaks).await {
        if !refused.code.as_deref().is_some_and(|c| c.starts_with("23")) {
            return Err(refused);
        }
        session.execute("ROLLBACK TO SAVEPOINT breaks").await?;
        session.execute(DROP_CONSTRAINTS).await?;
        session.execute(&invariant.breaks).await?;
        constraints_dropped = true;
    }
    let (after, _) = breaches(session, invariant).await?;
    if session.text("SELECT txid_current_if_assigned()::text").await? != transaction {
        return Err(SqlError {
            code: None,
            message: "its `breaks` ended the transaction that was to be rolled back".into(),
            position: None,
        });
    }
    Ok(if after > before { Outcome::Fired { before, after, constraints_dropped } } else { Outcome::Silent { before, after } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_check_spoils_the_self_test() {
        let tried = |name: &str, outcome| Tried { name: name.into(), id: None, outcome };
        let fired = || tried("a", Outcome::Fired { before: 0, after: 1, constraints_dropped: false });
        assert_eq!(judge(&[fired()]).0, Verdict::Pass);
        assert_eq!(judge(&[]).0, Verdict::Inconclusive);
        let (verdict, reasons) =
            judge(&[fired(), tried("b", Outcome::Silent { before: 2, after: 2 }), tried("c", Outcome::Errored("x".into()))]);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
    }
}
