//! reset, half-open, delay, request-lost, response-lost: the wire between the load and the server breaks. Only the load's own wire, so that it
//! can be done before any server.

use std::time::Duration;

use tokio::sync::watch;

use super::arena::Arena;
use super::{Effect, Fault, Planned};
use crate::audit::Truth;
use crate::proxy::{self, Disturbance};
use crate::{Error, Result};

/// How long a fault that is not repeated waits for its occasion.
const PATIENCE: Duration = Duration::from_secs(5);

/// Breaks it, and waits until what is held is over.
///
/// # Errors
/// Where there is no proxy.
pub(super) async fn strike(arena: &Arena, planned: Planned, mut over: watch::Receiver<bool>) -> Result<Effect> {
    let Planned { fault, hold, by, every, until, .. } = planned;
    let what = match fault {
        Fault::Reset => Disturbance::Reset,
        Fault::HalfOpen => Disturbance::HalfOpen { hold },
        Fault::Delay => Disturbance::Delay { by, hold },
        Fault::RequestLost => Disturbance::RequestLost,
        _ => Disturbance::ResponseLost,
    };
    let proxy =
        arena.proxy().ok_or_else(|| Error::inconclusive("there is no proxy to break the wire at: this is a bug in dbstress"))?;
    // The next time has its own occasion.
    let patience = if until.is_some() { every } else { PATIENCE };
    let struck = tokio::select! {
        struck = proxy.disturb(what, &arena.prefix, patience) => struck,
        _ = over.wait_for(|over| *over) => return Ok(Effect::none("the load was over")),
    };
    let Some(strike) = struck else { return Ok(Effect::none("no occasion came")) };
    if !hold.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(hold) => {}
            _ = over.wait_for(|over| *over) => {}
        }
    }
    let truth = match strike.truth {
        proxy::Truth::NeverSent => Some(Truth::NeverSent),
        proxy::Truth::Committed => Some(Truth::Committed),
        proxy::Truth::NotCommitted => Some(Truth::NotCommitted),
        proxy::Truth::Unanswered => Some(Truth::Unanswered),
        proxy::Truth::Elsewhere => None,
    };
    Ok(Effect { at: strike.at, effective: strike.at, what: Ok(strike.application_name), truth })
}
