//! What does the pool do about connections whose sessions have ended, or that are to be replaced?

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::desk::{Answers, Desk, Lent, Setup, answers};
use super::ground::Ground;
use super::judge::{Culprit, Seen};
use super::mistake::Mistake;
use crate::pg::pool::Recycle;
use crate::{Error, Result};

/// Connections of the pools, and requests at once.
const SIZE: u32 = 10;

/// A pool with every connection open.
async fn filled(ground: &Ground, mistake: Option<Mistake>, recycle: Recycle) -> Result<Arc<Desk>> {
    let desk = ground.desk(Setup { size: SIZE, wait: None, recycle, requests: SIZE }, mistake)?;
    desk.pool.fill().await?;
    Ok(desk)
}

/// A query by every request, all at once, so that each has another connection; the number of the session that each had. Requests are counted
/// from `first` on.
async fn all_at_once(desk: &Arc<Desk>, first: u32) -> Result<Answers<u64>> {
    let all = Arc::new(Barrier::new(SIZE as usize));
    let mut asked = JoinSet::new();
    for who in first..first + SIZE {
        let (desk, all) = (desk.clone(), all.clone());
        asked.spawn(async move {
            let lent = desk.checkout(who).await;
            all.wait().await;
            let answer = async {
                let mut lent = lent?;
                lent.query("SELECT 1").await?;
                Ok(lent.number)
            };
            vec![(who, answer.await)]
        });
    }
    answers(asked).await
}

/// A connection for each of the first `n` requests.
async fn lend(desk: &Desk, n: u32) -> Result<Vec<(u32, Lent)>> {
    let mut lent = Vec::new();
    for who in 1..=n {
        let taken = desk.checkout(who).await.map_err(|trouble| {
            Error::inconclusive(trouble.surroundings().unwrap_or_else(|| format!("request {who}: {trouble}")))
        })?;
        lent.push((who, taken));
    }
    Ok(lent)
}

/// The server ends every session, those at work too: who is at work is told, and everybody after that is served.
pub async fn ended_sessions(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const AT_WORK: u32 = 5;
    let desk = filled(ground, mistake, Recycle::Verified).await?;
    let at_work = lend(&desk, AT_WORK).await?;
    let ended = ground.end_sessions().await?;
    let mut told = 0;
    for (_, mut lent) in at_work {
        if lent.query("SELECT 1").await.is_err() {
            told += 1;
        }
        lent.discard();
    }
    let answers = all_at_once(&desk, AT_WORK + 1).await?;
    let new = answers.served.iter().filter(|(_, number)| *number > SIZE.into()).count();
    let mut seen = Seen::default();
    seen.count("served", SIZE.into(), answers.served());
    seen.count("new", SIZE.into(), new as i64);
    seen.count("told at work", AT_WORK.into(), told);
    seen.needs(ended == i64::from(SIZE), "not every session of the pool was there to be ended");
    desk.settle(ground, &mut seen).await?;
    desk.unserved_after_the_end(&answers, &mut seen);
    Ok(seen)
}

/// The server ends idle sessions, and nobody tells the pool: it finds out before it lends one.
pub async fn fresh_connections(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    let mut seen = Seen::default();
    let desk = filled(ground, mistake, Recycle::Verified).await?;
    let ended = ground.end_sessions().await?;
    let answers = all_at_once(&desk, 1).await?;
    seen.count("served", SIZE.into(), answers.served());
    seen.count("failed", 0, answers.troubles.len() as i64);
    seen.count("found out", SIZE.into(), desk.pool.books().stale as i64);
    seen.needs(ended == i64::from(SIZE), "not every session of the pool was there to be ended");
    desk.settle(ground, &mut seen).await?;
    desk.unserved_after_the_end(&answers, &mut seen);
    if mistake.is_none() {
        let unasked = filled(ground, None, Recycle::Fast).await?;
        ground.end_sessions().await?;
        let unasked_answers = all_at_once(&unasked, 1).await?;
        unasked.unserved_after_the_end(&unasked_answers, &mut seen);
        let failed = unasked_answers.troubles.len();
        seen.needs(failed > 0, "nothing failed without asking the server first: nobody was in danger");
        seen.figure(format!("control: without asking the server first, {failed} of {SIZE} requests get an ended session"));
    }
    Ok(seen)
}

/// The pool is emptied when nobody has a connection: whoever comes next gets a new one.
pub async fn refill(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const OUT: u32 = 3;
    let desk = filled(ground, mistake, Recycle::Fast).await?;
    let out = if desk.makes(Mistake::EarlyEmpty) { lend(&desk, OUT).await? } else { Vec::new() };
    desk.pool.empty();
    drop(out);
    let answers = all_at_once(&desk, SIZE + 1).await?;
    let old: Vec<u32> = answers.served.iter().filter(|(_, number)| *number <= SIZE.into()).map(|(who, _)| *who).collect();
    let mut seen = Seen::default();
    seen.count("served", SIZE.into(), answers.served());
    seen.count("old", 0, old.len() as i64);
    desk.settle(ground, &mut seen).await?;
    let what = "was lent a connection from before the pool was emptied";
    seen.blame(old.iter().map(|who| Culprit {
        request: Some(*who),
        session: desk.session_of(*who),
        seconds: None,
        what: what.into(),
    }));
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}
