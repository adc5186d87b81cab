//! Are the checks of duty hours right while the schedule changes? Validators look at it again and again, writers change it beside them, and what is
//! found is compared with what was planted, in one and the same snapshot.

mod cases;
mod compare;
mod judge;
mod look;
mod mutant;
mod own;
mod stage;
pub mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::acgme::rules::RuleSet;
use crate::acgme::{Finding, Subject};
use crate::metrics::{Percentiles, histogram};
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Lease, Session};
use crate::roster::{self, Scope};
use crate::{Error, Result};

pub use compare::{Hits, Mistake, RuleRecord, Subjects};
pub use judge::{
    AccuracyRecord, ControlRecord, Cost, LEAST, Listed, Mode, MutantRecord, PLANT, Phase, PhaseRecord, RulesRecord, SCHEMA_VERSION,
    Schedule, Witness, Wrong,
};
pub use mutant::Mutant;

use compare::Truth;
use look::{Look, References, Snapshot};
use mutant::Mistaken;
use stage::{Against, Message, Seen, Stage};

/// What it is called in `pg_stat_activity`.
const ROLE: &str = "acgme";

/// Validations at once when everything is planted again.
const AT_ONCE: u32 = 10;

/// How much longer than asked for a phase may take to show what it must.
const EXTENSION: Duration = Duration::from_secs(30);

/// How often it is looked whether a phase is over.
const GLANCE: Duration = Duration::from_millis(20);

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// Where.
    pub options: ConnectOptions,
    /// Which sets of rules.
    pub sets: Vec<RuleSet>,
    /// What of them.
    pub mode: Mode,
    /// Validations one after the other, where there are no writers.
    pub times: u32,
    /// Validators at once.
    pub validators: u32,
    /// Writers at once.
    pub writers: u32,
    /// How long each of the two phases with writers takes.
    pub duration: Duration,
    /// What 95 % of the validations have to be done within.
    pub budget: Option<Duration>,
    /// Whether the findings are kept.
    pub list: bool,
    /// The command that does it again.
    pub again: String,
    /// Turns true when the user stops it.
    pub interrupt: watch::Receiver<bool>,
}

/// Does what is asked, and leaves the schedule as it was seeded. `show` hears what has been done.
///
/// # Errors
/// Usage: a database without the residency dataset. Inconclusive: another dbstress is at work on it, or the server is lost.
pub async fn run(request: Request, mut show: impl FnMut(&str)) -> Result<AccuracyRecord> {
    let began = Instant::now();
    let mut session = Session::connect(&request.options, ROLE).await?;
    let (_, loaded) = admin::require_loaded(&mut session, &request.options).await?;
    if loaded.dataset != "residency" {
        return Err(Error::usage(format!(
            "{} holds the dataset {}; duty hours are about residency",
            request.options, loaded.dataset
        ))
        .cure(
            request.options.command("seed --reset --dataset residency --plant all") + ", which removes it; or another database",
        ));
    }
    let mut lease = Lease::take(&request.options, ROLE).await?;
    let restored = cases::restore(&mut session).await?;
    restored.iter().for_each(|what| show(what));
    let mut check = Check::new(&request, &mut session, restored).await?;
    let ended = match request.mode {
        Mode::Check => check.check(&mut show).await,
        Mode::Measure => check.measure().await,
        Mode::SelfTest => check.self_test().await,
    };
    let Check { mut record, .. } = check;
    // What was given up in the middle of an answer is not fit to be asked anything else.
    let left = async {
        let mut session = Session::connect(&request.options, ROLE).await?;
        cases::restore(&mut session).await?;
        session.close().await;
        Ok::<_, Error>(())
    };
    let left = left.await;
    let is_held = lease.is_held().await;
    lease.release().await;
    left?;
    let mut open = Vec::new();
    match ended {
        // What was wrong until then is wrong.
        Err(error) if record.wrong_in_all > 0 => open.push(error.to_string()),
        ended => ended?,
    }
    record.seconds = began.elapsed().as_secs_f64();
    if record.interrupted {
        open.push("interrupted: not everything was done".to_owned());
    }
    if !is_held {
        open.push("the lease on the database was lost: somebody else may have worked on it".into());
    }
    record.conclude(open);
    Ok(record)
}

/// A check under way.
struct Check<'a> {
    request: &'a Request,
    session: &'a mut Session,
    cases: Vec<cases::Case>,
    labels: BTreeMap<Subject, String>,
    record: AccuracyRecord,
}

/// What is summed up over the validations of a phase.
struct Tally {
    began: Instant,
    validations: u64,
    overlapped: u64,
    wall: Histogram<u64>,
    cpu: Duration,
    rules_cpu: Duration,
    sql: Option<Duration>,
}

impl Tally {
    fn new() -> Self {
        let (cpu, rules_cpu) = (Duration::ZERO, Duration::ZERO);
        Self { began: Instant::now(), validations: 0, overlapped: 0, wall: histogram(), cpu, rules_cpu, sql: None }
    }

    fn add(&mut self, seen: &Seen) {
        self.validations += 1;
        self.wall.saturating_record(seen.look.wall.as_nanos() as u64);
        self.cpu += seen.look.cpu;
        self.rules_cpu += seen.look.rules_cpu;
        if let Some(sql) = seen.sql {
            self.sql = Some(self.sql.unwrap_or_default() + sql);
        }
    }

    fn record(&self, phase: Phase, deeds: stage::Deeds) -> PhaseRecord {
        let mean = |sum: Duration| sum.as_secs_f64() * 1e3 / self.validations.max(1) as f64;
        PhaseRecord {
            phase,
            validations: self.validations,
            overlapped: self.overlapped,
            commits: deeds.commits,
            commits_during: deeds.during,
            cases_toggled: deeds.toggled,
            deadlocks: deeds.deadlocks,
            errors: deeds.errors,
            first_error: deeds.first_error,
            cost: Cost { wall: Percentiles::of(&self.wall), cpu_ms: mean(self.cpu), rules_cpu_ms: mean(self.rules_cpu) },
            sql_ms: self.sql.map(mean),
            seconds: self.began.elapsed().as_secs_f64(),
        }
    }
}

impl<'a> Check<'a> {
    async fn new(request: &'a Request, session: &'a mut Session, restored: Vec<String>) -> Result<Self> {
        let cases = cases::all(session).await?;
        let labels = cases::labels(session).await?;
        let known = cases::count(session).await?;
        let schedule = schedule(session, known).await?;
        let mut rules = Vec::new();
        for set in &request.sets {
            rules.push(of_set(set, &cases::truth(session, set.name, &Scope::default()).await?));
        }
        let record = AccuracyRecord {
            schema_version: SCHEMA_VERSION,
            verdict: crate::verdict::Verdict::Inconclusive,
            exit_code: 0,
            reasons: Vec::new(),
            mode: request.mode,
            interrupted: false,
            dbstress: env!("CARGO_PKG_VERSION").into(),
            database: request.options.to_string(),
            server: session.text("SHOW server_version").await?.unwrap_or_default(),
            schedule,
            validators: request.validators,
            writers: request.writers,
            restored,
            rules,
            phases: Vec::new(),
            control: None,
            wrong: Vec::new(),
            wrong_in_all: 0,
            mutants: Vec::new(),
            findings: None,
            budget_ms: request.budget.map(|budget| budget.as_secs_f64() * 1e3),
            seconds: 0.0,
            again: request.again.clone(),
        };
        Ok(Self { request, session, cases, labels, record })
    }

    /// Before, beside writers of both kinds, and after. Where the truth is in doubt already, nothing more is done, and neither where there is none.
    async fn check(&mut self, show: &mut impl FnMut(&str)) -> Result<()> {
        let before = Arc::new(self.alone(Phase::Before, 1).await?);
        self.told(show);
        if self.record.wrong_in_all > 0 || self.cases.is_empty() {
            return Ok(());
        }
        let desks = own::make(self.session, self.request.writers).await?;
        let stage = Stage::new(&self.request.options, &self.request.sets);
        let mut writers = JoinSet::new();
        for (writer, desk) in (0..).zip(desks) {
            writers.spawn(Arc::clone(&stage).write_beside(writer, desk));
        }
        self.beside(Phase::Unrelated, &stage, writers, &Against::Fixed(Arc::clone(&before))).await?;
        self.told(show);
        own::remove(self.session).await?;
        if self.is_interrupted() {
            return Ok(());
        }
        let stage = Stage::new(&self.request.options, &self.request.sets);
        let mut writers = JoinSet::new();
        for (writer, cases) in (0..).zip(shares(&self.cases, self.request.writers as usize)) {
            writers.spawn(Arc::clone(&stage).toggle(writer, cases));
        }
        self.beside(Phase::Toggling, &stage, writers, &Against::SameSnapshot).await?;
        self.told(show);
        cases::restore(self.session).await?;
        if self.is_interrupted() {
            return Ok(());
        }
        let after = self.alone(Phase::After, 1).await?;
        self.at_once(&Arc::new(after)).await?;
        self.told(show);
        Ok(())
    }

    async fn measure(&mut self) -> Result<()> {
        self.alone(Phase::Before, self.request.times).await.map(|_| ())
    }

    fn told(&self, show: &mut impl FnMut(&str)) {
        if let Some(phase) = self.record.phases.last() {
            show(&format!(
                "{}: {} validations, {} changes committed, {} of them while one was reading; {} mistakes ({:.1} s)",
                phase.phase.word(),
                phase.validations,
                phase.commits,
                phase.commits_during,
                self.record.wrong_in_all,
                phase.seconds
            ));
        }
    }

    fn is_interrupted(&mut self) -> bool {
        self.record.interrupted |= *self.request.interrupt.borrow();
        self.record.interrupted
    }

    /// Validates so many times while nobody else is there; what was true then.
    async fn alone(&mut self, phase: Phase, times: u32) -> Result<References> {
        let mut tally = Tally::new();
        let mut last = References::default();
        for _ in 0..times {
            if self.is_interrupted() {
                break;
            }
            let sets = &self.request.sets;
            let mut snapshot = Snapshot::begin(self.session).await?;
            let look = Look::take(snapshot.session(), sets).await?;
            let when = (snapshot.visible.clone(), snapshot.since, Instant::now());
            last = References::ask(snapshot.session(), sets).await?;
            snapshot.end().await?;
            let seen = Seen::of(look, &last, Some(last.sql), when);
            if self.request.list && self.record.findings.is_none() {
                self.record.findings = Some(self.listed(seen.found()));
            }
            tally.add(&seen);
            self.examine(phase, tally.began, &seen);
        }
        self.record.phases.push(tally.record(phase, stage::Deeds::default()));
        Ok(last)
    }

    /// Validators and writers at the same time, until there is enough to be seen or no hope of it.
    async fn beside(
        &mut self,
        phase: Phase,
        stage: &Arc<Stage>,
        mut writers: JoinSet<Result<()>>,
        against: &Against,
    ) -> Result<()> {
        let mut tally = Tally::new();
        let (said, mut heard) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        for number in 1..=self.request.validators {
            threads.push(stage.validator(number, against.clone(), None, said.clone())?);
        }
        let mut control = None;
        if phase == Phase::Toggling {
            threads.push(stage.control(said.clone())?);
            control = Some(ControlRecord { validations: 0, disagreed: 0, example: None, error: None });
        }
        drop(said);
        let mut failed = None;
        let mut glances = tokio::time::interval(GLANCE);
        loop {
            tokio::select! {
                message = heard.recv() => match message {
                    None => break,
                    Some(Message::Seen(seen)) => {
                        tally.add(&seen);
                        tally.overlapped += u64::from(stage.meet(seen.since, seen.until));
                        self.examine(phase, stage.began, &seen);
                    }
                    Some(Message::Control(wrong)) => {
                        if let Some(control) = &mut control {
                            control.validations += 1;
                            control.disagreed += u64::from(wrong.is_some());
                            control.example = control.example.take().or(wrong);
                        }
                    }
                    Some(Message::Failed(error)) => {
                        failed = failed.or(Some(error));
                        stage.stop();
                    }
                },
                _ = glances.tick(), if !stage.is_over() => {
                    let is_caught = control.as_ref().is_none_or(|control| control.disagreed > 0);
                    if self.is_interrupted() || self.is_enough(phase, stage, &tally, is_caught) {
                        stage.stop();
                    }
                }
                Some(ended) = writers.join_next() => {
                    // Until everybody is told to stop, nobody ends but for a reason.
                    match ended {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => failed = failed.or(Some(error)),
                        Err(error) => failed = failed.or(Some(Error::inconclusive("a writer ended").because(error))),
                    }
                    if failed.is_some() {
                        stage.stop();
                    }
                }
            }
        }
        while let Some(ended) = writers.join_next().await {
            if let Ok(Err(error)) = ended {
                failed = failed.or(Some(error));
            }
        }
        let has_panicked = threads.into_iter().any(|thread| thread.join().is_err());
        self.record.control = control.or(self.record.control.take());
        self.record.phases.push(tally.record(phase, stage.deeds()));
        match failed {
            Some(error) => Err(error),
            None if has_panicked => Err(Error::inconclusive("a validator ended before its time")),
            None => Ok(()),
        }
    }

    /// Whether a phase may end: its time is over, and it has shown what it must, or will not any more.
    fn is_enough(&self, phase: Phase, stage: &Stage, tally: &Tally, is_caught: bool) -> bool {
        let elapsed = stage.began.elapsed();
        let deeds = stage.deeds();
        let everything = phase != Phase::Toggling || deeds.toggled >= self.cases.len() as u64;
        let has_shown = tally.validations >= LEAST && deeds.during >= LEAST && is_caught && everything;
        elapsed >= self.request.duration && (has_shown || elapsed >= self.request.duration + EXTENSION)
    }

    /// Ten validations at the same time, nobody else: they find the same.
    async fn at_once(&mut self, references: &Arc<References>) -> Result<()> {
        let stage = Stage::new(&self.request.options, &self.request.sets);
        let mut tally = Tally::new();
        let (said, mut heard) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        for number in 1..=AT_ONCE {
            threads.push(stage.validator(number, Against::Fixed(Arc::clone(references)), Some(1), said.clone())?);
        }
        drop(said);
        while let Some(message) = heard.recv().await {
            match message {
                Message::Seen(seen) => {
                    tally.add(&seen);
                    self.examine(Phase::After, stage.began, &seen);
                }
                Message::Control(_) => {}
                Message::Failed(error) => return Err(error),
            }
        }
        if threads.into_iter().any(|thread| thread.join().is_err()) {
            return Err(Error::inconclusive("a validator ended before its time"));
        }
        let alone = self.record.phases.pop();
        let mut all = tally.record(Phase::After, stage::Deeds::default());
        all.validations += alone.as_ref().map_or(0, |phase| phase.validations);
        all.sql_ms = alone.and_then(|phase| phase.sql_ms);
        self.record.phases.push(all);
        Ok(())
    }

    /// Counts what a validation got right, and blames it for what it did not.
    fn examine(&mut self, phase: Phase, began: Instant, seen: &Seen) {
        let subjects = self.record.schedule.subjects;
        for (n, examined) in seen.examined.iter().enumerate() {
            let Some(rules) = self.record.rules.get_mut(n) else { continue };
            rules.add(&examined.compared, &subjects);
            let name = rules.name.clone();
            for (witness, mistake, other) in &examined.wrong {
                self.record.blame(Wrong {
                    phase,
                    rules: name.clone(),
                    witness: *witness,
                    mistake: mistake.clone(),
                    other: *other,
                    snapshot: seen.visible.clone(),
                    mended: seen.mended.clone(),
                    at_ms: seen.since.saturating_duration_since(began).as_millis() as u64,
                });
            }
        }
    }

    fn listed(&self, found: &[Vec<Finding>]) -> Vec<Listed> {
        let sets = self.request.sets.iter().zip(found);
        let all = sets.flat_map(|(set, found)| found.iter().map(|finding| (set.name.to_owned(), *finding)));
        all.map(|(rules, finding)| Listed { rules, finding, label: self.labels.get(&finding.subject).cloned() }).collect()
    }

    /// Each mistake that validators make, under each set of rules that it gets wrong, on the schedule as it is.
    async fn self_test(&mut self) -> Result<()> {
        let references = self.alone(Phase::Before, 1).await?;
        if self.record.wrong_in_all > 0 {
            return Ok(());
        }
        let mut tried = Vec::new();
        for (set, reference) in self.request.sets.iter().zip(&references.of) {
            let mutants = Mutant::ALL.into_iter().filter(|mutant| mutant.sets().contains(&set.name));
            tried.extend(mutants.map(|mutant| (mutant, set.name, Mistaken::new(mutant, set.clone()), &reference.truth)));
        }
        let mut snapshot = Snapshot::begin(self.session).await?;
        let visit = |person: &crate::acgme::evaluate::Roster<'_>| {
            tried.iter_mut().for_each(|(_, _, mistaken, _)| mistaken.person(person));
        };
        roster::read(snapshot.session(), &Scope::default(), visit).await?;
        snapshot.end().await?;
        for (mutant, rules, mistaken, truth) in tried {
            let compared = truth.compare(&mistaken.finish());
            let label = |mistake: &Mistake| {
                let expected = mistake.expected.as_ref().map(|line| line.label.clone());
                expected.or_else(|| self.labels.get(&mistake.about().1).cloned())
            };
            // A planted case says more than the schedule around it.
            let by_case = compared.mistakes.iter().find_map(|mistake| Some((label(mistake)?, mistake.clone())));
            let (caught_by, example) = match by_case {
                Some((label, mistake)) => (Some(label), Some(mistake)),
                None => (None, compared.mistakes.first().cloned()),
            };
            let mistakes = compared.mistakes.len() as u64;
            self.record.mutants.push(MutantRecord { mutant, rules: rules.to_owned(), mistakes, caught_by, example });
        }
        Ok(())
    }
}

/// The rules of a set, with what there is to be found.
fn of_set(set: &RuleSet, truth: &Truth) -> RulesRecord {
    let mut rows: Vec<RuleRecord> = set.rules().into_iter().map(|rule| RuleRecord::new(rule, Hits::default())).collect();
    for line in truth.lines() {
        match rows.iter_mut().find(|row| row.rule == line.rule) {
            Some(row) => row.planted.add(line.severity),
            None => {
                let mut row = RuleRecord::new(line.rule, Hits::default());
                row.planted.add(line.severity);
                rows.push(row);
            }
        }
    }
    RulesRecord { name: set.name.to_owned(), rows }
}

/// The cases, dealt out so that nobody has what somebody else has.
fn shares(cases: &[cases::Case], writers: usize) -> Vec<Vec<cases::Case>> {
    let mut shares = vec![Vec::new(); writers.min(cases.len())];
    let hands = shares.len();
    for (n, case) in cases.iter().enumerate() {
        shares[n % hands].push(case.clone());
    }
    shares
}

/// How large the seeded schedule is.
async fn schedule(session: &mut Session, cases: u64) -> Result<Schedule> {
    let rows = session
        .rows(
            "WITH seeded AS (SELECT id FROM programme WHERE run_id IS NULL), people AS (SELECT id, kind FROM person WHERE programme_id IN (TABLE seeded)), \
             put_down AS (SELECT block_id, rotation_template_id FROM assignment WHERE person_id IN (SELECT id FROM people) \
               UNION ALL SELECT block_id, rotation_template_id FROM assignment_unguarded WHERE person_id IN (SELECT id FROM people)) \
             SELECT (SELECT count(*) FROM people WHERE kind = 'resident'), (SELECT count(*) FROM people), \
               (SELECT count(*) FROM block WHERE programme_id IN (TABLE seeded)), (SELECT count(*) FROM (SELECT DISTINCT * FROM put_down) AS place), \
               (SELECT count(DISTINCT date) FROM block WHERE programme_id IN (TABLE seeded)), (SELECT count(*) FROM put_down), \
               (SELECT count(*) FROM call_assignment WHERE person_id IN (SELECT id FROM people)) \
                 + (SELECT count(*) FROM extra_duty WHERE person_id IN (SELECT id FROM people)) \
                 + (SELECT count(*) FROM absence WHERE person_id IN (SELECT id FROM people))",
        )
        .await?;
    let row = rows.first().cloned().unwrap_or_default();
    let count = |column: usize| Ok::<u64, Error>(cases::number(&row, column)?.unsigned_abs());
    Ok(Schedule {
        subjects: Subjects { residents: count(0)?, people: count(1)?, blocks: count(2)?, places: count(3)? },
        days: count(4)?,
        assignments: count(5)?,
        others: count(6)?,
        cases,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_case_is_dealt_to_two_writers_and_none_is_left_out() {
        let cases: Vec<cases::Case> = (0..7).map(cases::Case::numbered).collect();
        for writers in [1, 3, 7, 20] {
            let shares = shares(&cases, writers);
            assert_eq!(shares.len(), writers.min(7));
            let mut dealt: Vec<i64> = shares.iter().flatten().map(|case| case.plant).collect();
            dealt.sort_unstable();
            assert_eq!(dealt, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert!(shares(&[], 3).is_empty());
    }
}
