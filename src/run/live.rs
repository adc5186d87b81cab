//! Do the rules hold while the load runs? Checked in snapshots, now and then, without holding the hot rows up for long.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::Result;
use crate::invariant::{Finding, Invariant, When, run_all};
use crate::pg::ConnectOptions;
use crate::pg::admin::Session;
use crate::record::{Live, Rules};

/// How often. A snapshot that is held keeps versions of hot rows alive, which slows them down.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one statement may take; longer is a gap, not a finding.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Its session in `pg_stat_activity`.
const ROLE: &str = "live invariants";

/// Checks those of `invariants` that hold in any snapshot, on the tables of `search_path`, until `stop` turns true; tells `so_far` after each.
///
/// # Errors
/// When the connection cannot be made; a check that fails later is a gap.
pub async fn watch(
    options: &ConnectOptions,
    invariants: &[Invariant],
    search_path: &[String],
    so_far: watch::Sender<Rules>,
    mut stop: watch::Receiver<bool>,
) -> Result<Live> {
    let search_path: Vec<&str> = search_path.iter().map(String::as_str).collect();
    let mut session = Session::connect(options, ROLE).await?;
    let mut live = Live::default();
    let began = Instant::now();
    let mut held = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let mut complete = true;
        for checked in run_all(&mut session, invariants, &search_path, When::Always, TIMEOUT).await {
            match &checked.finding {
                Finding::Errored(why) => {
                    complete = false;
                    live.hindrance.get_or_insert_with(|| format!("{}: {why}", checked.name));
                }
                Finding::Violated { .. } if live.first_breach.is_none() => {
                    live.first_breach = Some((began.elapsed().as_secs_f64(), checked.name.clone()));
                    live.broken = Some(checked);
                }
                _ => {}
            }
        }
        match complete {
            true => live.samples += 1,
            false => {
                live.missed += 1;
                // The server may have ended the session; then the next snapshot needs another.
                if session.integer("SELECT 1").await.is_err()
                    && let Ok(again) = Session::connect(options, ROLE).await
                {
                    session = again;
                }
            }
        }
        so_far.send_replace(Rules { checked: live.samples, broken: live.first_breach.as_ref().map(|(_, name)| name.clone()) });
        held += asked.elapsed();
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    live.duty_cycle = held.as_secs_f64() / began.elapsed().as_secs_f64().max(f64::EPSILON);
    session.close().await;
    Ok(live)
}
