//! Which transactions of a broken round overlapped? Asked of the ledger, for the first rounds that were found.

use crate::Result;
use crate::audit::{Audit, Breach, Line, skewed};
use crate::pg::admin::Session;

/// Puts the two transactions of a write skew beside the findings of rounds with more winners than room.
///
/// # Errors
/// When the server cannot be asked.
pub async fn show(session: &mut Session, schema: &str, run: i32, audit: &mut Audit) -> Result<()> {
    for finding in audit.findings.iter_mut().filter(|finding| finding.breach == Breach::TooManyWinners) {
        let rows = session
            .rows(&format!(
                "SELECT (op_id >> 47) || '.' || ((op_id >> 32) & 32767) || '.' || (op_id & 4294967295), l.vu, l.kind, \
                   concat_ws(', ', 'person ' || l.person_id, 'with person ' || l.with_person_id, \
                     'half day ' || l.block_id || ' (' || b.date || ' ' || b.half || ')', 'night of ' || l.night), \
                   (extract(epoch FROM began) * 1000000)::bigint, (extract(epoch FROM wrote) * 1000000)::bigint, p.room \
                 FROM {schema}.schedule_ledger l JOIN {schema}.programme p ON p.id = l.programme_id \
                   LEFT JOIN {schema}.block b ON b.id = l.block_id \
                 WHERE l.run_id = {run} AND l.programme_id = {} AND l.kind <> 'fence'",
                finding.authorisation
            ))
            .await?;
        let mut room = 0;
        let lines = rows
            .iter()
            .filter_map(|row| {
                let text = |at: usize| row.get(at)?.clone();
                room = text(6)?.parse().ok()?;
                Some(Line {
                    op: text(0)?,
                    vu: text(1)?.parse().ok()?,
                    kind: text(2)?,
                    what: text(3)?,
                    began: text(4)?.parse().ok()?,
                    wrote: text(5)?.parse().ok()?,
                })
            })
            .collect();
        finding.skew = skewed(lines, room);
    }
    Ok(())
}
