//! What happens at the limit of a pool: more requests than connections, long ones beside short ones?

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::desk::{Answer, Desk, Setup, answers};
use super::ground::{Ground, SCHEMA};
use super::judge::{Culprit, Seen};
use super::mistake::Mistake;
use crate::Result;
use crate::pg::pool::Recycle;

/// Connections of the pools.
const SIZE: u32 = 10;
/// How long a request waits for a connection where that is the point.
const WAIT: Duration = Duration::from_secs(2);

/// Ten connections, fifteen requests that hold theirs: ten are served, five are told after two seconds that there is none.
pub async fn saturation(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const REQUESTS: u32 = 15;
    const HOLD: Duration = Duration::from_secs(3);
    let size = if mistake == Some(Mistake::LargerPool) { REQUESTS } else { SIZE };
    let desk = ground.desk(Setup { size, wait: Some(WAIT), recycle: Recycle::Fast, requests: REQUESTS }, mistake)?;
    let (early, mut early_told) = watch::channel(0);
    let (late, late_told) = watch::channel(0);
    let (early, late) = (Arc::new(early), Arc::new(late));
    let mut asked = JoinSet::new();
    for who in 1..=REQUESTS {
        // Only when all others have theirs does the wait of the late ones begin: it cannot be too short on a slow machine.
        if who == SIZE + 1 {
            let _ = early_told.wait_for(|told| *told == SIZE).await;
        }
        let (desk, told) = (desk.clone(), if who <= SIZE { early.clone() } else { late.clone() });
        let mut late_told = late_told.clone();
        asked.spawn(async move {
            let answer = async {
                let lent = desk.checkout(who).await;
                told.send_modify(|told| *told += 1);
                let mut lent = lent?;
                let hold = tokio::time::sleep(HOLD);
                let transaction = async {
                    lent.begin().await?;
                    lent.query("SELECT 1").await?;
                    // Nor can the hold be too short.
                    let _ = late_told.wait_for(|told| *told == REQUESTS - SIZE).await;
                    hold.await;
                    lent.commit().await?;
                    Ok(())
                };
                let answer = transaction.await;
                desk.ended(&mut lent, answer).await
            };
            vec![(who, answer.await)]
        });
    }
    let answers = answers(asked).await?;
    let mut seen = Seen::default();
    seen.count("served", SIZE.into(), answers.served());
    seen.count("timed out", (REQUESTS - SIZE).into(), answers.timed_out());
    seen.count("failed", 0, answers.failed());
    seen.count("open afterwards", SIZE.into(), desk.pool.status().size as i64);
    desk.settle(ground, &mut seen).await?;
    let beyond = answers.served.iter().map(|(who, ())| *who).skip(SIZE as usize);
    seen.blame(beyond.map(|who| Culprit {
        request: Some(who),
        session: desk.session_of(who),
        seconds: Some(HOLD.as_secs_f64()),
        what: "had a connection beyond the ten that there may be".into(),
    }));
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}

/// What one kind of request met.
#[derive(Default)]
struct Times {
    count: u32,
    waited: Duration,
    all: Duration,
}

impl Times {
    fn of(times: impl Iterator<Item = (Duration, Duration)>) -> Self {
        times.fold(Self::default(), |sum, (waited, all)| Self {
            count: sum.count + 1,
            waited: sum.waited + waited,
            all: sum.all + all,
        })
    }

    /// Mean wait and mean time, milliseconds; of nobody, none.
    fn means(&self) -> Option<(f64, f64)> {
        let mean = |sum: Duration| sum.as_secs_f64() * 1e3 / f64::from(self.count);
        (self.count > 0).then(|| (mean(self.waited), mean(self.all)))
    }
}

/// How many of whom use a pool together.
#[derive(Clone, Copy)]
struct Traffic {
    /// Workers that read, and how often each does.
    readers: u32,
    reads: u32,
    /// Tasks, each with a worker of its own.
    tasks: u32,
    /// Reads begin only when the tasks have every connection.
    is_burst: bool,
}

/// Short reads, as of an API, beside long tasks that write, as of a batch.
pub async fn shared_pool(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut figures = Vec::new();
    for (name, traffic) in [
        ("side by side", Traffic { readers: 5, reads: 4, tasks: 5, is_burst: false }),
        ("when tasks have them all", Traffic { readers: 10, reads: 1, tasks: 10, is_burst: true }),
    ] {
        let before = ground.entries().await?;
        let (reads, tasks) = beside(ground, mistake, traffic, &mut seen).await?;
        seen.count("rows", traffic.tasks.into(), ground.entries().await? - before);
        let (Some((waited, read)), Some((_, task))) = (reads.means(), tasks.means()) else { continue };
        figures.push(format!("{name} a read takes {read:.1} ms, {waited:.1} of them waiting; a task {task:.0} ms"));
        // Beside a burst of tasks a read waits for one of them: what that takes is told, and no fault of the pool.
        if !traffic.is_burst {
            seen.less("mean of a read, ms, beside tasks", task, read);
        }
    }
    if !figures.is_empty() {
        seen.figure(figures.join("; "));
    }
    Ok(seen)
}

async fn beside(ground: &mut Ground, mistake: Option<Mistake>, traffic: Traffic, seen: &mut Seen) -> Result<(Times, Times)> {
    let Traffic { readers, reads, tasks, is_burst } = traffic;
    let requests = tasks + readers * reads;
    let desk = ground.desk(Setup { size: SIZE, wait: None, recycle: Recycle::Fast, requests }, mistake)?;
    // So that nobody waits for one to be opened.
    desk.pool.fill().await?;
    let mut asked = JoinSet::new();
    for who in 1..=tasks {
        let desk = desk.clone();
        asked.spawn(async move { vec![(who, task(&desk, who).await)] });
    }
    if is_burst {
        desk.filled().await;
    }
    for reader in 0..readers {
        let desk = desk.clone();
        let first = tasks + reader * reads + 1;
        asked.spawn(async move {
            let mut answers = Vec::new();
            for who in first..first + reads {
                answers.push((who, read(&desk, who).await));
            }
            answers
        });
    }
    let answers = answers(asked).await?;
    let (of_tasks, of_reads): (Vec<_>, Vec<_>) = answers.served.iter().partition(|(who, _)| *who <= tasks);
    seen.count("reads", (readers * reads).into(), of_reads.len() as i64);
    seen.count("tasks", tasks.into(), of_tasks.len() as i64);
    desk.settle(ground, seen).await?;
    desk.unserved(&answers, seen);
    let times = |of: Vec<&(u32, (Duration, Duration))>| Times::of(of.into_iter().map(|(_, times)| *times));
    Ok((times(of_reads), times(of_tasks)))
}

/// A short read; how long it waited for its connection, and how long it took in all.
async fn read(desk: &Desk, who: u32) -> Answer<(Duration, Duration)> {
    let began = Instant::now();
    let mut lent = desk.checkout(who).await?;
    let waited = began.elapsed();
    lent.query(&format!("SELECT balance FROM {SCHEMA}.account WHERE id = 1")).await?;
    Ok((waited, began.elapsed()))
}

/// A task that takes 0.3 s, then writes; the same of it.
async fn task(desk: &Desk, who: u32) -> Answer<(Duration, Duration)> {
    let began = Instant::now();
    let mut lent = desk.checkout(who).await?;
    let waited = began.elapsed();
    lent.query("SELECT pg_sleep(0.3)").await?;
    lent.query(&format!("INSERT INTO {SCHEMA}.entry VALUES ({who})")).await?;
    Ok((waited, began.elapsed()))
}

/// Seven quick queries beside a transaction that takes a second, and goes on until they have all been answered.
pub async fn long_transaction(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const QUICK: u32 = 7;
    const LONG: Duration = Duration::from_secs(1);
    let size = if mistake == Some(Mistake::SmallerPool) { 1 } else { QUICK + 1 };
    let desk = ground.desk(Setup { size, wait: Some(WAIT), recycle: Recycle::Fast, requests: QUICK + 1 }, mistake)?;
    let (begun, mut has_begun) = watch::channel(false);
    let (answered, mut told) = watch::channel(0);
    let (answered, mut asked) = (Arc::new(answered), JoinSet::new());
    let long = desk.clone();
    asked.spawn(async move {
        let answer = async {
            let lent = long.checkout(1).await;
            begun.send_replace(true);
            let mut lent = lent?;
            let transaction = async {
                lent.begin().await?;
                lent.query(&format!("INSERT INTO {SCHEMA}.entry VALUES (1)")).await?;
                tokio::time::sleep(LONG).await;
                let _ = told.wait_for(|told| *told == QUICK).await;
                let holders = long.pool.holders();
                lent.commit().await?;
                Ok(holders)
            };
            let answer = transaction.await;
            long.ended(&mut lent, answer).await
        };
        vec![(1, answer.await)]
    });
    let _ = has_begun.wait_for(|begun| *begun).await;
    for who in 2..=QUICK + 1 {
        let (desk, answered) = (desk.clone(), answered.clone());
        asked.spawn(async move {
            let answer = async {
                let mut lent = desk.checkout(who).await?;
                lent.query("SELECT 1").await?;
                Ok(Vec::new())
            };
            let answer = answer.await;
            answered.send_modify(|answered| *answered += 1);
            vec![(who, answer)]
        });
    }
    let answers = answers(asked).await?;
    let quick = answers.served.iter().filter(|(who, _)| *who > 1).count();
    let mut seen = Seen::default();
    seen.count("committed", 1, ground.entries().await?);
    seen.count("served", QUICK.into(), quick as i64);
    seen.count("timed out", 0, answers.timed_out());
    seen.count("failed", 0, answers.failed());
    desk.settle(ground, &mut seen).await?;
    let held = answers.served.iter().flat_map(|(_, holders)| holders);
    seen.blame(held.map(|holder| desk.holding(holder, "had a connection while the others waited for one")));
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}
