//! Who may log in at all?
//!
//! Everybody of the dataset whom tests may want to be, all with one password, which is as synthetic as they are.

use crate::Result;
use crate::pg::admin::{Session, literal};
use crate::seed::Dataset;

/// Organisations, or programmes, that get accounts: the first so many.
const ORGANISATIONS: u32 = 64;
/// People of a kind in each of them who get one: the first so many.
const PEOPLE: u32 = 200;

/// Makes the accounts of a dataset, and gives those that are there this password; how many there are.
///
/// # Errors
/// The server's answer.
pub async fn ensure(session: &mut Session, dataset: Dataset, password_hash: &str) -> Result<u64> {
    let hash = literal(password_hash);
    let accounts = match dataset {
        Dataset::Clinic => clinic(),
        Dataset::Residency => residency(),
    };
    let sql = format!(
        "INSERT INTO dbstress.account (login, password_hash, role, organisation_id, actor_id) \
         SELECT login, {hash}, role, organisation, actor FROM ( \
           SELECT 'admin@example.com' AS login, 'admin' AS role, NULL::bigint AS organisation, NULL::bigint AS actor UNION ALL {accounts} \
         ) a ON CONFLICT (login) DO UPDATE SET password_hash = EXCLUDED.password_hash"
    );
    Ok(session.execute(&sql).await?)
}

fn clinic() -> String {
    format!(
        "SELECT role || '@org-' || o.id || '.example.com', role, o.id, NULL \
         FROM (SELECT id FROM dbstress.organisation ORDER BY id LIMIT {ORGANISATIONS}) o \
           CROSS JOIN (VALUES ('admin'), ('viewer')) AS r (role) \
         UNION ALL \
         SELECT 'practitioner-' || p.id || '@org-' || o.id || '.example.com', 'practitioner', o.id, p.id \
         FROM (SELECT id FROM dbstress.organisation ORDER BY id LIMIT {ORGANISATIONS}) o \
           CROSS JOIN LATERAL (SELECT id FROM dbstress.practitioner WHERE organisation_id = o.id ORDER BY id LIMIT {PEOPLE}) p"
    )
}

/// Of the seeded programmes: those of runs come and go.
fn residency() -> String {
    format!(
        "SELECT 'coordinator@programme-' || o.id || '.example.com', 'coordinator', o.id, NULL \
         FROM (SELECT id FROM dbstress.programme WHERE run_id IS NULL ORDER BY id LIMIT {ORGANISATIONS}) o \
         UNION ALL \
         SELECT kind || '-' || p.id || '@programme-' || o.id || '.example.com', kind, o.id, p.id \
         FROM (SELECT id FROM dbstress.programme WHERE run_id IS NULL ORDER BY id LIMIT {ORGANISATIONS}) o \
           CROSS JOIN (VALUES ('faculty'), ('resident')) AS k (kind) \
           CROSS JOIN LATERAL (SELECT id FROM dbstress.person WHERE programme_id = o.id AND person.kind = k.kind \
             ORDER BY id LIMIT {PEOPLE}) p"
    )
}
