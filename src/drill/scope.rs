//! Does the end of a task decide what becomes of its transaction?

use std::sync::Arc;

use super::desk::{Answer, Desk, Setup};
use super::ground::{Ground, SCHEMA, Session};
use super::judge::{Culprit, Seen};
use super::mistake::Mistake;
use crate::Result;
use crate::pg::load::Failure;
use crate::pg::pool::Recycle;

/// How many tasks, and on how many workers.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Tasks, each of which writes a row.
    pub tasks: u32,
    /// Workers, and connections.
    pub workers: u32,
}

/// Twenty tasks on five workers.
pub const TASKS: Extent = Extent { tasks: 20, workers: 5 };

/// A task writes a row in a transaction, and ends well or in an error of its own, which no server knows of.
async fn task(desk: &Desk, who: u32, ends_well: bool) -> Answer {
    let mut lent = desk.checkout(who).await?;
    let work = async {
        lent.begin().await?;
        lent.query(&format!("INSERT INTO {SCHEMA}.entry VALUES ({who})")).await?;
        Ok(leave(desk, &mut lent, ends_well).await?)
    };
    let answer = work.await;
    desk.ended(&mut lent, answer).await
}

/// The end of the scope: its result decides.
async fn leave(desk: &Desk, session: &mut Session, ended_well: bool) -> Result<(), Failure> {
    if ended_well && desk.makes(Mistake::NoCommit) || !ended_well && desk.makes(Mistake::NoRollback) {
        return Ok(());
    }
    if ended_well || desk.makes(Mistake::CommitOnError) {
        return session.commit().await;
    }
    session.roll_back().await;
    Ok(())
}

/// A task that ends well has written its row.
pub async fn commit_on_exit(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    one(ground, mistake, true).await
}

/// Of a task that ends in an error nothing is left.
pub async fn rollback_on_error(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    one(ground, mistake, false).await
}

async fn one(ground: &mut Ground, mistake: Option<Mistake>, ends_well: bool) -> Result<Seen> {
    let desk = ground.desk(Setup { size: 1, wait: None, recycle: Recycle::Fast, requests: 1 }, mistake)?;
    let answers = desk.work(1, move |desk: Arc<Desk>, who| async move { task(&desk, who, ends_well).await }).await?;
    let rows = ground.entries().await?;
    let mut seen = Seen::default();
    seen.count("written", ends_well.into(), rows);
    // The second of the row; `settle` adds what there is.
    seen.count("unended", 0, 0);
    desk.settle(ground, &mut seen).await?;
    seen.count("failed", 0, answers.troubles.len() as i64);
    if !ends_well && rows != 0 {
        let what = "ended in an error, and its row is committed".into();
        seen.blame([Culprit { request: Some(1), session: desk.session_of(1), seconds: None, what }]);
    }
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}

/// Each of many tasks on few workers has written its row, once.
pub async fn many_tasks(ground: &mut Ground, mistake: Option<Mistake>, extent: Extent) -> Result<Seen> {
    let Extent { tasks, workers } = extent;
    let desk = ground.desk(Setup { size: workers, wait: None, recycle: Recycle::Fast, requests: tasks }, mistake)?;
    let answers = desk.work(workers, |desk: Arc<Desk>, who| async move { task(&desk, who, true).await }).await?;
    let mut seen = Seen::default();
    seen.count("written", tasks.into(), ground.entries().await?);
    let distinct = format!("SELECT count(DISTINCT request) FROM {SCHEMA}.entry");
    seen.count("different", tasks.into(), ground.integer(&distinct).await?);
    desk.settle(ground, &mut seen).await?;
    seen.count("failed", 0, answers.troubles.len() as i64);
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}
