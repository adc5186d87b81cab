//! terminate, cancel: what an administrator does to a session, by a statement. Only to sessions of the run; so it can be done on any server.

use super::arena::Arena;
use super::{Effect, Fault};

/// Strikes one session: who is in a transaction first, waiting ones and long ones before the others.
pub(super) async fn strike(arena: &Arena, fault: Fault) -> Effect {
    let (act, only) = match fault {
        Fault::Cancel => ("pg_cancel_backend(pid)", " AND state = 'active'"),
        _ => ("pg_terminate_backend(pid)", ""),
    };
    let sql = format!(
        "SELECT pid, application_name, {act} FROM (SELECT pid, application_name {}{only} \
         ORDER BY state = 'idle', wait_event_type IS DISTINCT FROM 'Lock', random() LIMIT 1) chosen",
        arena.sessions()
    );
    let Some(rows) = arena.ask(&sql).await else { return Effect::none("the server did not answer") };
    match rows.first().map(Vec::as_slice) {
        Some([Some(pid), Some(name), Some(done)]) if done == "t" => Effect::on(format!("session {pid}, {name}")),
        Some(_) => Effect::none("the session had gone"),
        None => Effect::none("there was no session to strike"),
    }
}
