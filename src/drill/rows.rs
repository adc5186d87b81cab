//! What do transactions on connections of one pool do to each other's rows?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use super::desk::{Answer, Answers, Asked, Desk, Setup, Trouble, answers};
use super::ground::{Ground, SCHEMA, glance};
use super::judge::{Culprit, Seen};
use super::mistake::Mistake;
use crate::pg::pool::Recycle;
use crate::{Error, Result};

/// Connections of the pools.
const SIZE: u32 = 10;
/// What every account begins with.
const BALANCE: i64 = 100;
/// Those who update one row.
const UPDATERS: u32 = 3;

/// Three add to one row what they have read, with a pause in between: nothing of it is lost.
pub async fn row_lock(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    let mut seen = Seen::default();
    let (desk, updated) = update_together(ground, mistake, mistake != Some(Mistake::NoLock)).await?;
    seen.count("in the row", BALANCE + all_bits(), updated.balance);
    seen.count("lost", 0, updated.lost.len() as i64);
    seen.count("failed", 0, updated.answers.troubles.len() as i64);
    seen.needs(updated.have_met, "the updaters did not meet: nothing was in danger");
    desk.settle(ground, &mut seen).await?;
    seen.blame(updated.lost.iter().map(|who| Culprit {
        request: Some(*who),
        session: desk.session_of(*who),
        seconds: None,
        what: "committed an update that is not in the row".into(),
    }));
    desk.unserved(&updated.answers, &mut seen);
    if mistake.is_none() {
        ground.clear().await?;
        let (desk, unlocked) = update_together(ground, None, false).await?;
        desk.unserved(&unlocked.answers, &mut seen);
        let lost = unlocked.lost.len();
        seen.needs(lost > 0, "nothing was lost without the lock: nothing was in danger");
        seen.figure(format!("control: without the lock {lost} of {UPDATERS} updates are lost"));
    }
    Ok(seen)
}

/// What came of three updates.
struct Updated {
    answers: Answers,
    balance: i64,
    /// Whose update was committed and is not in the row.
    lost: Vec<u32>,
    /// All had read, or waited to, before the first one wrote.
    have_met: bool,
}

/// What a request adds: a bit of its own, so that the sum says whose is missing.
fn bit(who: u32) -> i64 {
    1 << (who - 1)
}

fn all_bits() -> i64 {
    (1..=UPDATERS).map(bit).sum()
}

async fn update_together(ground: &mut Ground, mistake: Option<Mistake>, locks: bool) -> Result<(Arc<Desk>, Updated)> {
    let desk = ground.desk(Setup { size: SIZE, wait: None, recycle: Recycle::Fast, requests: UPDATERS }, mistake)?;
    let (have_read, have_failed) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let (met, is_met) = watch::channel(false);
    let mut asked: Asked = JoinSet::new();
    for who in 1..=UPDATERS {
        let (desk, mut is_met) = (desk.clone(), is_met.clone());
        let (have_read, have_failed) = (have_read.clone(), have_failed.clone());
        asked.spawn(async move {
            let answer = async {
                let mut lent = desk.checkout(who).await?;
                let transaction = async {
                    lent.begin().await?;
                    let lock = if locks { " FOR UPDATE" } else { "" };
                    let read = lent.integer(&format!("SELECT balance FROM {SCHEMA}.account WHERE id = 1{lock}")).await?;
                    have_read.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let _ = is_met.wait_for(|met| *met).await;
                    lent.query(&format!("UPDATE {SCHEMA}.account SET balance = {} WHERE id = 1", read + bit(who))).await?;
                    lent.commit().await?;
                    Ok(())
                };
                let answer = transaction.await;
                desk.ended(&mut lent, answer).await
            };
            let answer = answer.await;
            have_failed.fetch_add(answer.is_err().into(), Ordering::Relaxed);
            vec![(who, answer)]
        });
    }
    // Nobody writes before everybody has read, or stands in line to: seen by the server, not guessed from the time.
    let have_met = loop {
        if have_read.load(Ordering::Relaxed) + ground.lock_waits().await? >= i64::from(UPDATERS) {
            break true;
        }
        if have_failed.load(Ordering::Relaxed) > 0 {
            break false;
        }
        glance().await;
    };
    met.send_replace(true);
    let answers = answers(asked).await?;
    let balance = ground.integer(&format!("SELECT balance FROM {SCHEMA}.account WHERE id = 1")).await?;
    let is_lost = |who: &u32| (balance - BALANCE) & bit(*who) == 0;
    let lost = answers.served.iter().map(|(who, ())| *who).filter(is_lost).collect();
    Ok((desk, Updated { answers, balance, lost, have_met }))
}

/// A reader beside an update: before COMMIT it sees what was there, after it what is new.
pub async fn read_committed(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const NEW: i64 = 200;
    const WRITER: u32 = 1;
    const READER: u32 = 2;
    let desk = ground.desk(Setup { size: SIZE, wait: None, recycle: Recycle::Fast, requests: 2 }, mistake)?;
    let read = format!("SELECT balance FROM {SCHEMA}.account WHERE id = 1");
    let mut writer = desk.checkout(WRITER).await.map_err(could_not)?;
    let both = async {
        writer.begin().await?;
        writer.query(&format!("UPDATE {SCHEMA}.account SET balance = {NEW} WHERE id = 1")).await?;
        let (before, after) = if desk.makes(Mistake::SharedConnection) {
            let before = writer.integer(&read).await?;
            writer.commit().await?;
            (before, writer.integer(&read).await?)
        } else {
            let mut reader = desk.checkout(READER).await?;
            let before = reader.integer(&read).await?;
            writer.commit().await?;
            (before, reader.integer(&read).await?)
        };
        Answer::Ok((before, after))
    };
    let both = both.await;
    let (before, after) = desk.ended(&mut writer, both).await.map_err(could_not)?;
    drop(writer);
    let mut seen = Seen::default();
    seen.count("before", BALANCE, before);
    seen.count("after", NEW, after);
    desk.settle(ground, &mut seen).await?;
    if before != BALANCE {
        seen.blame([Culprit {
            request: Some(READER),
            session: desk.session_of(if desk.makes(Mistake::SharedConnection) { WRITER } else { READER }),
            seconds: None,
            what: format!("read {before} before it was committed"),
        }]);
    }
    Ok(seen)
}

/// Two lock two rows in opposite order: one of them is ended with 40P01, and its retry succeeds.
pub async fn deadlock_retry(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const CYCLES: u32 = 3;
    let desk = ground.desk(Setup { size: SIZE, wait: None, recycle: Recycle::Fast, requests: 2 * CYCLES }, mistake)?;
    let mut asked: Asked<u32> = JoinSet::new();
    // Each on two rows of its own, all at once: the server lets them wait for a second before it looks.
    for cycle in 0..CYCLES {
        let both = Arc::new(Barrier::new(2));
        let (one, other) = (2 * cycle + 1, 2 * cycle + 2);
        for (who, rows) in [(one, [one, other]), (other, [other, one])] {
            let (desk, both) = (desk.clone(), both.clone());
            asked.spawn(async move { vec![(who, transfer(&desk, who, rows, &both).await)] });
        }
    }
    let answers = answers(asked).await?;
    let is_victim = |trouble: &Trouble| matches!(trouble, Trouble::Failed { code: Some(code), .. } if code == DEADLOCK);
    let retried: u32 = answers.served.iter().map(|(_, deadlocks)| *deadlocks).sum();
    let given_up = answers.troubles.iter().filter(|(_, trouble)| is_victim(trouble)).count();
    let mut seen = Seen::default();
    seen.count("deadlocks", CYCLES.into(), i64::from(retried) + given_up as i64);
    seen.count("retried", CYCLES.into(), retried.into());
    seen.count("failed", 0, answers.troubles.len() as i64);
    let sum = format!("SELECT sum(balance)::bigint FROM {SCHEMA}.account");
    // Each of the two adds 1 to both rows.
    let rows = i64::from(2 * CYCLES);
    seen.count("sum of the rows", rows * (BALANCE + 2), ground.integer(&sum).await?);
    desk.settle(ground, &mut seen).await?;
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}

/// SQLSTATE deadlock_detected.
const DEADLOCK: &str = "40P01";

/// Adds 1 to both rows, after both have locked their first; how often it was ended for a deadlock before that.
async fn transfer(desk: &Desk, who: u32, rows: [u32; 2], both: &Barrier) -> Answer<u32> {
    let mut deadlocks = 0;
    loop {
        let attempt = add_to_both(desk, who, rows, (deadlocks == 0).then_some(both)).await;
        if deadlocks == 0 {
            // A retry that begins before the other has ended can take the row from under him, and block him again.
            both.wait().await;
        }
        match attempt {
            Ok(()) => return Ok(deadlocks),
            Err(Trouble::Failed { code: Some(code), .. }) if code == DEADLOCK && !desk.makes(Mistake::NoRetry) => deadlocks += 1,
            Err(trouble) => return Err(trouble),
        }
    }
}

/// One attempt; if there is a barrier, both get to it with their first row in hand, or without any.
async fn add_to_both(desk: &Desk, who: u32, rows: [u32; 2], both: Option<&Barrier>) -> Answer {
    let mut lent = desk.checkout(who).await;
    let first = async {
        let lent = lent.as_mut().map_err(|trouble| trouble.clone())?;
        lent.begin().await?;
        add(lent, rows[0]).await
    };
    let first = first.await;
    if let Some(both) = both {
        both.wait().await;
    }
    let mut lent = lent?;
    let second = async {
        first?;
        add(&mut lent, rows[1]).await?;
        lent.commit().await?;
        Ok(())
    };
    let answer = second.await;
    desk.ended(&mut lent, answer).await
}

async fn add(session: &mut super::ground::Session, row: u32) -> Answer {
    session.query(&format!("UPDATE {SCHEMA}.account SET balance = balance + 1 WHERE id = {row}")).await?;
    Ok(())
}

fn could_not(trouble: Trouble) -> Error {
    Error::inconclusive(trouble.surroundings().unwrap_or_else(|| trouble.to_string()))
}
