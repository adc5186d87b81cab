//! How is the server asked while the load runs, so that a stuck question is one that is missed and nothing worse?
//!
//! One connection outside the load and its pool; each question is a statement of its own with a limit to its time, and none of them writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::blockers::Tally;
use super::chains::{Graph, Lock, RowAt};
use super::counted::Counted;
use super::series::{Samples, rounded};
use super::watched::{Asked, Sessions, Watched};
use super::{Kind, Probe, RUN, SESSIONS, STATEMENTS, WAITS};
use crate::Result;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError, identifier, literal};

/// How long the server may take to answer a question.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is asked at first: a load that is soon over must have been seen too.
const AT_FIRST: Duration = Duration::from_millis(50);
/// How long that is.
const FIRST: Duration = Duration::from_secs(1);
/// How much longer an answer is waited for, where not even its end arrives.
const GRACE: Duration = Duration::from_millis(500);
/// A question that took too long is set aside for so many times as long: it may have a tenth of the time.
const ASIDE: u32 = 10;
/// How often the name of a row is asked for, of each table: as often as one was found, and as often as none was.
const LOOK_UPS: [u32; 2] = [20, 100];
/// How long the sessions of the run may take to be gone before counters are read for the last time.
const SETTLE: Duration = Duration::from_secs(2);
/// How often that is looked at.
const SETTLE_BEAT: Duration = Duration::from_millis(20);
/// How old the statistics may be that a server before PostgreSQL 15 tells: its collector writes them down every half second.
const STALE: Duration = Duration::from_millis(600);
/// Keys of a counter that are kept.
const KEYS_KEPT: usize = 10;

/// Its session in `pg_stat_activity`, after `dbstress/`.
const ROLE: &str = "probe";

/// What is to be watched.
pub struct Watch {
    /// The server, and the database.
    pub options: ConnectOptions,
    /// What the names of the run's sessions begin with: `dbstress/run5/`.
    pub prefix: String,
    /// How often.
    pub interval: Duration,
    /// What is asked.
    pub probes: Vec<Probe>,
    /// The sessions stay when the load is over, because a pooler keeps them: nobody waits for their end.
    pub stay: bool,
    /// When the load began; over when nobody can say so any more.
    pub began: watch::Receiver<Option<Instant>>,
}

/// Watches from the beginning of the load to its end. Never fails: what could not be seen is in what it returns.
pub async fn watch(watch: Watch) -> (Sessions, Watched) {
    let Watch { options, prefix, interval, probes, stay, mut began } = watch;
    let mut sampler = Sampler::new(options, prefix, interval, probes);
    if let Err(error) = sampler.prepare().await {
        sampler.watched.failure = Some(error.to_string());
        return sampler.finish(None);
    }
    let beginning = began.wait_for(Option::is_some).await.ok().and_then(|began| *began);
    let Some(beginning) = beginning else { return sampler.finish(None) };
    sampler.last_seen = beginning;
    let mut ticks = every(beginning, interval.min(AT_FIRST));
    let mut is_first = true;
    let mut before = None;
    loop {
        if is_first && beginning.elapsed() >= FIRST {
            is_first = false;
            // A question that held everything up beyond the first second has left out others.
            sampler.watched.late += ((beginning.elapsed() - FIRST).as_secs_f64() / interval.as_secs_f64()) as u64;
            ticks = every(Instant::now() + interval, interval);
            before = None;
        }
        let due = tokio::select! {
            biased;
            () = over(&mut began) => break,
            due = ticks.tick() => due,
        };
        let skipped = before.replace(due).map_or(0.0, |before| (due - before).as_secs_f64() / interval.as_secs_f64() - 1.0);
        // What is asked more often than was wanted may come late.
        sampler.watched.late += if is_first { 0 } else { skipped.round().max(0.0) as u64 };
        tokio::select! {
            biased;
            () = over(&mut began), if sampler.session.is_none() => break,
            () = sampler.sample(beginning) => {}
        }
    }
    let ended = Instant::now();
    sampler.last_counters(stay).await;
    sampler.finish(Some((beginning, ended)))
}

fn every(period_from: Instant, period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(period_from.into(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// What is known when the watching itself did not come to its end.
pub fn unseen(interval: Duration) -> (Sessions, Watched) {
    let failure = Some("the probes did not come to their end".to_owned());
    let watched = Watched { interval_ms: interval.as_millis() as u64, failure, ..Watched::default() };
    (Sessions::default(), watched)
}

/// Waits until the load is over.
async fn over(began: &mut watch::Receiver<Option<Instant>>) {
    while began.changed().await.is_ok() {}
}

/// One question.
struct Question {
    probe: Probe,
    sql: String,
    /// The present connection has it by its name: reading and planning it anew each time would cost more than answering it.
    is_prepared: bool,
    /// Not before then.
    due: Option<Instant>,
    /// It will not be answered.
    is_given_up: bool,
    asked: Asked,
}

/// Why there is no answer.
enum Missed {
    /// It took too long, or there is no connection any more.
    Late(String),
    /// The server, or we, cannot make anything of it.
    Wrong(String),
}

struct Sampler {
    options: ConnectOptions,
    prefix: String,
    /// Major version of the server.
    major: u32,
    session: Option<Session>,
    questions: Vec<Question>,
    last_seen: Instant,
    /// In the last sample, of the run's sessions for a lock.
    is_somebody_waiting: bool,
    samples: Samples,
    counted: BTreeMap<String, Counted>,
    tally: Tally,
    /// By table: names of rows that were found, and that were not.
    looked_up: BTreeMap<String, [u32; 2]>,
    sessions: Sessions,
    watched: Watched,
}

impl Sampler {
    fn new(options: ConnectOptions, prefix: String, interval: Duration, probes: Vec<Probe>) -> Self {
        let question = |probe: Probe| {
            // On lines of its own, since the query may end in a comment.
            let sql = format!("SELECT row_to_json(answer) FROM (\n{}\n) AS answer", probe.query.replace(RUN, &literal(&prefix)));
            Question { probe, sql, is_prepared: false, due: None, is_given_up: false, asked: Asked::default() }
        };
        Self {
            questions: probes.into_iter().map(question).collect(),
            options,
            prefix,
            major: 0,
            session: None,
            last_seen: Instant::now(),
            is_somebody_waiting: false,
            samples: Samples::default(),
            counted: BTreeMap::new(),
            tally: Tally::default(),
            looked_up: BTreeMap::new(),
            sessions: Sessions::default(),
            watched: Watched { interval_ms: interval.as_millis() as u64, ..Watched::default() },
        }
    }

    /// Connects and leaves out what this server cannot be asked.
    async fn prepare(&mut self) -> Result<()> {
        let mut session = connect(&self.options).await?;
        self.major =
            u32::try_from(session.integer("SELECT current_setting('server_version_num')::integer / 10000").await?).unwrap_or(0);
        self.questions.retain(|question| question.probe.is_for(self.major));
        for question in &mut self.questions {
            let Some(needed) = &question.probe.needs else { continue };
            let there = session.text(&format!("SELECT to_regclass({})::text", literal(needed))).await?;
            if there.is_none() {
                question.is_given_up = true;
                question.asked.skipped = Some(format!("there is no {needed} in this database"));
            }
        }
        self.session = Some(session);
        Ok(())
    }

    /// Asks everything that is due.
    async fn sample(&mut self, beginning: Instant) {
        self.reconnect().await;
        for at in 0..self.questions.len() {
            let question = &self.questions[at];
            let now = Instant::now();
            if !question.is_given_up && question.due.is_none_or(|due| now >= due) {
                let every = question.probe.every;
                self.questions[at].due = (!every.is_zero()).then(|| now + every);
                self.ask(at, (now - beginning).as_secs_f64()).await;
            }
        }
    }

    async fn reconnect(&mut self) {
        if self.session.is_none() {
            self.session = connect(&self.options).await.ok();
            self.questions.iter_mut().for_each(|question| question.is_prepared = false);
        }
    }

    async fn ask(&mut self, at: usize, second: f64) {
        let asked = Instant::now();
        let taken = match (self.prepared(at).await, self.questions[at].probe.kind) {
            (Err(missed), _) => Err(missed),
            (Ok(execute), Kind::Chains) => self.chains(&execute, second).await,
            (Ok(execute), _) => match self.rows(&execute).await {
                Ok(rows) => self.take(at, second, &rows),
                Err(missed) => Err(missed),
            },
        };
        let took = asked.elapsed();
        let is_sessions = self.questions[at].probe.name == SESSIONS;
        let question = &mut self.questions[at];
        question.asked.cost_ms += took.as_secs_f64() * 1e3;
        match taken {
            Ok(()) => {
                question.asked.answered += 1;
                if is_sessions {
                    self.watched.samples += 1;
                    self.seen(Instant::now());
                }
            }
            Err(missed) => {
                question.asked.missed += 1;
                self.watched.missed += u64::from(is_sessions);
                let why = match missed {
                    Missed::Late(why) => {
                        if took >= TIMEOUT {
                            question.due = Some(Instant::now() + took * ASIDE);
                        }
                        why
                    }
                    Missed::Wrong(why) => {
                        // What has been answered before may be again; what never was, never will.
                        question.is_given_up = question.asked.answered == 0;
                        why
                    }
                };
                question.asked.error.get_or_insert(why);
            }
        }
    }

    /// The run's sessions were looked at, or it is over.
    fn seen(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last_seen).as_secs_f64() * 1e3;
        self.watched.longest_gap_ms = rounded(self.watched.longest_gap_ms.max(gap));
        self.last_seen = now;
    }

    /// How a question is asked on the present connection.
    async fn prepared(&mut self, at: usize) -> Result<String, Missed> {
        let Question { probe, sql, is_prepared, .. } = &self.questions[at];
        let name = identifier(&probe.name);
        if !is_prepared {
            self.texts(&format!("PREPARE {name} AS {sql}")).await?;
            self.questions[at].is_prepared = true;
        }
        Ok(format!("EXECUTE {name}"))
    }

    /// The rows of a question; a connection that does not answer is given up.
    async fn rows(&mut self, sql: &str) -> Result<Vec<Map<String, Value>>, Missed> {
        let texts = self.texts(sql).await?;
        let read = |text: Option<String>| serde_json::from_str(&text.unwrap_or_default()).map_err(|e| Missed::Wrong(e.to_string()));
        texts.into_iter().map(read).collect()
    }

    /// The first column of the rows.
    async fn texts(&mut self, sql: &str) -> Result<Vec<Option<String>>, Missed> {
        let Some(session) = &mut self.session else { return Err(Missed::Late("there was no connection".into())) };
        match tokio::time::timeout(TIMEOUT + GRACE, session.rows(sql)).await {
            Ok(Ok(rows)) => Ok(rows.into_iter().map(|row| row.into_iter().next().flatten()).collect()),
            Ok(Err(error)) => Err(self.missed(&error)),
            Err(_) => {
                self.session.take().into_iter().for_each(Session::abandon);
                Err(Missed::Late("the server did not answer".into()))
            }
        }
    }

    fn missed(&mut self, error: &SqlError) -> Missed {
        if error.code.as_deref() == Some("57014") {
            return Missed::Late(format!("it did not finish within {}", humantime::format_duration(TIMEOUT)));
        }
        if error.is_lost_connection() {
            // Whoever ended the load's sessions may have ended this one too.
            self.session = None;
            return Missed::Late(error.to_string());
        }
        Missed::Wrong(error.to_string())
    }

    /// Takes an answer in.
    fn take(&mut self, at: usize, second: f64, rows: &[Map<String, Value>]) -> Result<(), Missed> {
        let probe = &self.questions[at].probe;
        match probe.kind {
            Kind::Gauge => {
                let [row] = rows else {
                    return Err(Missed::Wrong(format!("a gauge has one row; it had {}", rows.len())));
                };
                for (column, value) in row {
                    if let Some(value) = value.as_f64() {
                        self.samples.gauge(second, &format!("{}.{column}", probe.name), value);
                    }
                }
                if probe.name == SESSIONS {
                    self.sessions(row);
                }
            }
            Kind::Keyed => {
                let mut values = BTreeMap::new();
                for row in rows {
                    let (Some(Value::String(key)), Some(value)) = (row.get("key"), row.get("value").and_then(Value::as_f64)) else {
                        return Err(Missed::Wrong("its columns must be a text `key` and a number `value`".into()));
                    };
                    *values.entry(key.clone()).or_insert(0.0) += value;
                }
                self.samples.keyed(second, &probe.name, &values);
                if probe.name == WAITS {
                    for (lock, n) in values.iter().filter_map(|(key, n)| Some((key.strip_prefix("Lock:")?, *n as u64))) {
                        *self.sessions.lock_waits.entry(lock.to_owned()).or_default() += n;
                    }
                }
            }
            Kind::Counter => self.counted.entry(probe.name.clone()).or_default().take(rows),
            Kind::Chains => {}
        }
        Ok(())
    }

    fn sessions(&mut self, row: &Map<String, Value>) {
        let number = |column: &str| row.get(column).and_then(Value::as_u64).unwrap_or(0);
        let waiting = number("waiting_for_locks");
        self.is_somebody_waiting = waiting > 0;
        self.sessions.with_lock_waits += u64::from(waiting > 0);
        self.sessions.most_waiting = self.sessions.most_waiting.max(waiting);
        self.sessions.most_in_transaction = self.sessions.most_in_transaction.max(number("active") + number("idle_in_transaction"));
    }

    /// Reads the locks; while sessions of the run wait, in a transaction whose snapshot is older than the reading: the version of a row that a
    /// lock names is the one that the snapshot sees, also when it has been replaced since.
    async fn chains(&mut self, sql: &str, second: f64) -> Result<(), Missed> {
        let is_worth_it = self.is_somebody_waiting;
        let begin = if is_worth_it { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n" } else { "" };
        let texts = self.texts(&format!("{begin}{sql}")).await;
        let read = texts.and_then(|texts| {
            let lock = |text: Option<String>| serde_json::from_str(&text.unwrap_or_default());
            texts.into_iter().map(lock).collect::<Result<Vec<Lock>, _>>().map_err(|e| Missed::Wrong(e.to_string()))
        });
        let mut graph = Graph::default();
        let mut named = None;
        if let Ok(locks) = &read {
            graph = Graph::of(locks);
            let root = graph.chains().first().and_then(|chain| Some(chain.way.first()?.pid));
            if is_worth_it && let Some((pid, row)) = root.and_then(|pid| Some((pid, graph.row_behind(pid)?.clone()))) {
                named = self.name(&row).await.map(|name| (pid, name));
            }
        }
        if is_worth_it {
            // However it ended; a connection that is lost is noticed by the next question. What has only read is not rolled back: somebody
            // counts those.
            let _ = self.texts("COMMIT").await;
        }
        read?;
        self.tally.take(second, &graph, |pid| named.as_ref().filter(|(root, _)| *root == pid).map(|(_, name)| name.clone()));
        Ok(())
    }

    /// What the row is called: its table and its first column, `authorisation 1234`.
    async fn name(&mut self, row: &RowAt) -> Option<String> {
        let [found, not_found] = self.looked_up.get(&row.relation).copied().unwrap_or_default();
        if found >= LOOK_UPS[0] || not_found >= LOOK_UPS[1] {
            return None;
        }
        let RowAt { relation, page, tuple } = row;
        // The name is the server's own, quoted where it has to be.
        let sql = format!("SELECT left(it::text, 200) FROM ONLY {relation} AS it WHERE ctid = '({page},{tuple})'");
        let field = self.texts(&sql).await.ok().and_then(|texts| first_field(texts.first()?.as_deref()?));
        self.looked_up.entry(relation.clone()).or_default()[usize::from(field.is_none())] += 1;
        field.map(|field| format!("{} {field}", row.table()))
    }

    /// Reads the counters for the last time, when the sessions of the run have reported what they did: they do when they end.
    async fn last_counters(&mut self, stay: bool) {
        let _ = tokio::time::timeout(SETTLE, self.reconnect()).await;
        let left = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, {})",
            literal(&self.prefix)
        );
        let settling = Instant::now();
        while !stay
            && settling.elapsed() < SETTLE
            && matches!(self.texts(&left).await, Ok(texts) if texts.first().is_some_and(|n| n.as_deref() != Some("0")))
        {
            tokio::time::sleep(SETTLE_BEAT).await;
        }
        if self.major < 15 {
            tokio::time::sleep(STALE).await;
        }
        for at in 0..self.questions.len() {
            let question = &self.questions[at];
            if question.probe.kind == Kind::Counter && !question.is_given_up {
                self.ask(at, 0.0).await;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Everything that was seen, between the beginning and the end of the load.
    fn finish(mut self, load: Option<(Instant, Instant)>) -> (Sessions, Watched) {
        if let Some((began, ended)) = load {
            self.seen(ended);
            self.watched.seconds = rounded((ended - began).as_secs_f64());
        }
        let Self { questions, samples, counted, tally, mut sessions, mut watched, .. } = self;
        let by = |probe: &str| if probe == STATEMENTS { "total_exec_ms" } else { "calls" };
        watched.cost_ms = rounded(questions.iter().map(|question| question.asked.cost_ms).sum());
        watched.series = samples.series();
        watched.keyed = samples.totals();
        watched.counters =
            counted.iter().filter_map(|(name, counted)| Some((name.clone(), counted.growth(by(name), KEYS_KEPT)?))).collect();
        watched.blockers = tally.blockers();
        watched.worst = tally.worst().clone();
        let (deadlocks, seen) = tally.deadlocks();
        watched.deadlocks = deadlocks.to_vec();
        watched.deadlocks_seen = seen;
        watched.probes = questions
            .into_iter()
            .map(|Question { probe, asked, .. }| (probe.name, Asked { cost_ms: rounded(asked.cost_ms), ..asked }))
            .collect();
        sessions.samples = watched.samples;
        sessions.missed = watched.missed;
        sessions.cost_ms = watched.cost_ms;
        (sessions, watched)
    }
}

/// A connection on which no question takes long, waits for a lock, or writes.
async fn connect(options: &ConnectOptions) -> Result<Session> {
    let mut session = Session::connect_for_questions(options, ROLE).await?;
    let settings = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; SET default_transaction_read_only = on; SET jit = off",
        TIMEOUT.as_millis(),
        (TIMEOUT / 2).as_millis()
    );
    session.execute(&settings).await?;
    Ok(session)
}

/// The first field of a row as PostgreSQL writes one: `(1234,"a, b",)`; `None` for NULL.
fn first_field(row: &str) -> Option<String> {
    let inside = row.strip_prefix('(')?;
    let Some(quoted) = inside.strip_prefix('"') else {
        let field = inside.split([',', ')']).next()?;
        return (!field.is_empty()).then(|| field.to_owned());
    };
    let mut field = String::new();
    let mut characters = quoted.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => break,
            '\\' => field.extend(characters.next()),
            c => field.push(c),
        }
    }
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_row_is_its_name() {
        let field = |row: &str| first_field(row);
        assert_eq!(field("(1234,5,foo)").as_deref(), Some("1234"));
        assert_eq!(field("(7)").as_deref(), Some("7"));
        assert_eq!(field(r#"("a, ""b"" \\ c",5)"#).as_deref(), Some(r#"a, "b" \ c"#));
        assert_eq!(field("(,5)"), None);
        assert_eq!(field("()"), None);
        assert_eq!(field(""), None);
    }
}
