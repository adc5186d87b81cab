//! Does every connection come back, and as it was, however often it is lent?

use std::time::{Duration, Instant};

use super::desk::{Answer, Setup, Trouble};
use super::ground::{Ground, SCHEMA};
use super::judge::Seen;
use super::mistake::Mistake;
use crate::Result;
use crate::metrics::grouped;
use crate::pg::pool::{Pooled, Recycle};

/// How many ask a pool, of how many connections, for how much.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Connections at most.
    pub size: u32,
    /// Queries.
    pub requests: u32,
    /// Workers that share them.
    pub workers: u32,
}

/// A thousand queries.
pub const THOUSAND: Extent = Extent { size: 20, requests: 1_000, workers: 10 };

/// Workers ask one query after the other: afterwards as many connections have come back as were lent.
pub async fn leak_detection(ground: &mut Ground, mistake: Option<Mistake>, extent: Extent) -> Result<Seen> {
    let Extent { size, requests, workers } = extent;
    let desk = ground.desk(Setup { size, wait: None, recycle: Recycle::Fast, requests }, mistake)?;
    let serve = |desk: std::sync::Arc<super::desk::Desk>, who| async move {
        desk.checkout(who).await?.query("SELECT 1").await?;
        Ok(())
    };
    let answers = desk.work(workers, serve).await?;
    let mut seen = Seen::default();
    seen.count("served", requests.into(), answers.served());
    desk.settle(ground, &mut seen).await?;
    seen.count("checked out", requests.into(), desk.pool.books().checkouts as i64);
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}

/// Fifty transactions fail: each is rolled back, and gives back a connection that the next one can use.
pub async fn rollback_returns(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const WORKERS: u32 = 5;
    const REQUESTS: u32 = 50;
    /// Overdrawn: the CHECK of the account.
    const EXPECTED: &str = "23514";
    let desk = ground.desk(Setup { size: WORKERS, wait: None, recycle: Recycle::Fast, requests: REQUESTS }, mistake)?;
    let serve = |desk: std::sync::Arc<super::desk::Desk>, who: u32| async move {
        let mut lent = desk.checkout(who).await?;
        let transfer = async {
            lent.begin().await?;
            lent.query(&format!("INSERT INTO {SCHEMA}.entry VALUES ({who})")).await?;
            lent.query(&format!("UPDATE {SCHEMA}.account SET balance = balance - 1000 WHERE id = 1")).await?;
            lent.commit().await?;
            Answer::Ok(())
        };
        match transfer.await {
            Err(Trouble::Failed { code: Some(code), .. }) if code == EXPECTED => {}
            other => return desk.ended(&mut lent, other.map(|()| false)).await,
        }
        if !desk.makes(Mistake::NoRollback) {
            lent.roll_back().await;
            if !lent.is_open() {
                return Err(Trouble::Lost);
            }
        }
        Ok(lent.is_idle())
    };
    let answers = desk.work(WORKERS, serve).await?;
    let rolled_back = answers.served.iter().filter(|(_, is_rolled_back)| *is_rolled_back).count();
    let mut seen = Seen::default();
    seen.count("rolled back", REQUESTS.into(), rolled_back as i64);
    // The second of the row; `settle` adds what there is.
    seen.count("unended", 0, 0);
    desk.settle(ground, &mut seen).await?;
    seen.count("given back", REQUESTS.into(), desk.pool.books().checkins as i64);
    seen.count("failed otherwise", 0, answers.troubles.len() as i64);
    seen.count("rows", 0, ground.entries().await?);
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}

/// A hundred operations by ten workers: how long does a checkout take, and how many are done in a second?
pub async fn metrics(ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
    const WORKERS: u32 = 10;
    const REQUESTS: u32 = 100;
    const CHECKOUT_MS: f64 = 100.0;
    const PER_SECOND: f64 = 50.0;
    let desk = ground.desk(Setup { size: WORKERS, wait: None, recycle: Recycle::Fast, requests: REQUESTS }, mistake)?;
    desk.pool.fill().await?;
    let began = Instant::now();
    let serve = |desk: std::sync::Arc<super::desk::Desk>, who: u32| async move {
        let asked = Instant::now();
        let mut lent = desk.checkout(who).await?;
        let waited = asked.elapsed();
        let transaction = async {
            lent.begin().await?;
            lent.query(&format!("INSERT INTO {SCHEMA}.entry VALUES ({who})")).await?;
            lent.commit().await?;
            Ok((waited, asked.elapsed() - waited))
        };
        let answer = transaction.await;
        desk.ended(&mut lent, answer).await
    };
    let answers = desk.work(WORKERS, serve).await?;
    let seconds = began.elapsed().as_secs_f64();
    let books = desk.pool.books();
    let mean = |time: fn(&(Duration, Duration)) -> Duration| {
        let sum: Duration = answers.served.iter().map(|(_, times)| time(times)).sum();
        sum.as_secs_f64() * 1e3 / answers.served.len() as f64
    };
    let mut seen = Seen::default();
    seen.count("served", REQUESTS.into(), answers.served());
    desk.settle(ground, &mut seen).await?;
    seen.count("checked out", REQUESTS.into(), books.checkouts as i64);
    seen.count("checked in", REQUESTS.into(), books.checkins as i64);
    seen.count("rows", REQUESTS.into(), ground.entries().await?);
    if !answers.served.is_empty() {
        let (checkout, work) = (mean(|times| times.0), mean(|times| times.1));
        let per_second = answers.served.len() as f64 / seconds;
        seen.less("mean checkout, ms", CHECKOUT_MS, checkout);
        seen.more("operations/s", PER_SECOND, per_second);
        seen.figure(format!(
            "{} operations, {}/s; checkout {checkout:.3} ms, work {work:.1} ms on average; {} checked out, {} in",
            answers.served.len(),
            grouped(per_second.round() as u64),
            books.checkouts,
            books.checkins
        ));
    }
    desk.unserved(&answers, &mut seen);
    Ok(seen)
}
