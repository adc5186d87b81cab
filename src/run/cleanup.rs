//! Are the expired keys gone when a clean-up has run beside the load, and none of the others?
//!
//! Before the load so many expired keys are put there, and a tenth as many that are alive. While the load runs, expired ones are deleted in
//! batches, each passing over what somebody has locked; what is left when the load is over is deleted then. Counted is what is in the table
//! at the end, not what the statements said.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::Result;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError};
use crate::record::Cleanup;
use crate::workload::booking::Place;
use crate::workload::keyed::Keys;

/// Keys deleted at once.
const BATCH: u64 = 1_000;
/// The pause between two batches beside the load.
const PAUSE: Duration = Duration::from_millis(50);
/// What the keys were asked with: whoever only looked had no effect that they would have to lead to.
const ENDPOINT: &str = "browse";

/// The batches that were deleted beside the load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Swept {
    batches: u64,
    took: Duration,
}

/// Puts expired keys there, and a tenth as many that are alive.
///
/// # Errors
/// The server's answer.
pub(super) async fn plant(session: &mut Session, place: &Place, keys: Keys) -> Result<()> {
    let (Place { schema, run, .. }, now, lifetime) = (place, place.now(None), keys.lifetime.as_secs());
    let insert = |count: u32, word: &str, from: String| {
        format!(
            "INSERT INTO {schema}.idempotency_key \
               (organisation_id, endpoint, key, fingerprint, state, response, run_id, created_at, expires_at) \
             SELECT o.id, '{ENDPOINT}', '{run}-{word}-' || n, '{word}', 'completed', ARRAY[0, 0, 0, 0], {run}, {from}, {from} + interval '{lifetime} seconds' \
             FROM generate_series(1, {count}) n, (SELECT min(id) AS id FROM dbstress.organisation) o"
        )
    };
    let expired = insert(keys.cleanup, "expired", format!("{now} - interval '{} seconds'", lifetime + 1));
    let alive = insert(alive(keys), "alive", now.clone());
    session.execute(&format!("{expired}; {alive}")).await?;
    Ok(())
}

fn alive(keys: Keys) -> u32 {
    keys.cleanup.div_ceil(10)
}

/// Deletes what an earlier run, which did not come to its end, left behind.
///
/// # Errors
/// The server's answer.
pub(super) async fn sweep_leftovers(session: &mut Session) -> Result<()> {
    session.execute("DELETE FROM dbstress.idempotency_key k USING dbstress.meta m WHERE k.expires_at <= m.as_of").await?;
    Ok(())
}

/// Deletes batch after batch, until `stop` turns true or nothing is left.
///
/// # Errors
/// The server's answer: what is left then is deleted later.
pub(super) async fn sweep(options: &ConnectOptions, place: &Place, mut stop: watch::Receiver<bool>) -> Result<Swept> {
    let mut session = Session::connect(options, "clean-up").await?;
    let mut swept = Swept::default();
    while !*stop.borrow() && batch(&mut session, place, &mut swept).await? > 0 {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    session.close().await;
    Ok(swept)
}

/// Deletes one batch; how many keys that were.
async fn batch(session: &mut Session, place: &Place, swept: &mut Swept) -> Result<i64, SqlError> {
    let (Place { schema, .. }, now) = (place, place.now(None));
    let began = Instant::now();
    let deleted = session
        .integer(&format!(
            "WITH batch AS ( \
               SELECT organisation_id, endpoint, key FROM {schema}.idempotency_key WHERE expires_at <= {now} \
               LIMIT {BATCH} FOR UPDATE SKIP LOCKED \
             ), deleted AS ( \
               DELETE FROM {schema}.idempotency_key k USING batch b \
               WHERE (k.organisation_id, k.endpoint, k.key) = (b.organisation_id, b.endpoint, b.key) RETURNING 1 \
             ) SELECT count(*) FROM deleted"
        ))
        .await?;
    if deleted > 0 {
        swept.batches += 1;
        swept.took += began.elapsed();
    }
    Ok(deleted)
}

/// Deletes what is left, and counts.
///
/// # Errors
/// The server's answer.
pub(super) async fn finish(session: &mut Session, place: &Place, keys: Keys, beside: Swept) -> Result<Cleanup> {
    let mut swept = beside;
    while batch(session, place, &mut swept).await? > 0 {}
    let (Place { schema, run, .. }, now) = (place, place.now(None));
    // Whoever looks from now on sees what it has not done.
    session
        .execute(&format!("UPDATE {schema}.idempotency_key SET fingerprint = 'left' WHERE run_id = {run} AND endpoint = '{ENDPOINT}' AND expires_at <= {now}"))
        .await?;
    let left =
        format!("SELECT count(*) FROM {schema}.idempotency_key WHERE run_id = {run} AND endpoint = '{ENDPOINT}' AND expires_at");
    let count = |n: i64| n.unsigned_abs();
    Ok(Cleanup {
        expired: keys.cleanup.into(),
        alive: alive(keys).into(),
        expired_left: count(session.integer(&format!("{left} <= {now}")).await?),
        alive_left: count(session.integer(&format!("{left} > {now}")).await?),
        batches: swept.batches,
        batches_beside: beside.batches,
        seconds: swept.took.as_secs_f64(),
    })
}
