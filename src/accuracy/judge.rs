//! What follows from what the validators saw? Pure: counts in, a verdict and its reasons out.

use serde::{Deserialize, Serialize};

use super::compare::{Compared, Hits, Mistake, RuleRecord, Subjects};
use super::mutant::Mutant;
use crate::acgme::{Finding, Rule};
use crate::metrics::{Percentiles, grouped};
use crate::pace::duration_text;
use crate::verdict::{Exit, Verdict};

/// Version of [`AccuracyRecord`]; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// With fewer validations in a phase, or fewer changes committed during one, nothing is shown.
pub const LEAST: u64 = 10;

/// Mistakes that are kept in full.
pub const KEPT: usize = 50;

/// What seeds planted cases.
pub const PLANT: &str = "dbstress seed --reset --dataset residency --plant all";

/// What is asked of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Whether they are right while the schedule changes.
    Check,
    /// Whether they are right while nobody else is there, and what they cost.
    Measure,
    /// Whether wrong ones are found out.
    SelfTest,
}

/// A part of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nobody else is there.
    Before,
    /// Writers change what the validators are not about.
    Unrelated,
    /// Writers mend and plant the cases.
    Toggling,
    /// Everything is planted again, and nobody else is there.
    After,
}

impl Phase {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Unrelated => "unrelated",
            Self::Toggling => "toggling",
            Self::After => "after",
        }
    }

    fn has_writers(self) -> bool {
        matches!(self, Self::Unrelated | Self::Toggling)
    }
}

/// What is validated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// How many there are of what rules are about.
    #[serde(flatten)]
    pub subjects: Subjects,
    /// Days of the programmes.
    pub days: u64,
    /// Half days that somebody is put down for.
    pub assignments: u64,
    /// Calls, extra hours and absences.
    pub others: u64,
    /// Planted cases.
    pub cases: u64,
}

/// What validations took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From asking for a snapshot to having the findings.
    pub wall: Percentiles,
    /// Processor time of one, ours alone, in milliseconds: the mean.
    pub cpu_ms: f64,
    /// Of this, for the rules alone; the rest is reading.
    pub rules_cpu_ms: f64,
}

/// A phase, and what was seen in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// Validations of all sets of rules.
    pub validations: u64,
    /// Of these, such during which a writer's COMMIT was sent and answered.
    pub overlapped: u64,
    /// Transactions that writers committed.
    pub commits: u64,
    /// Of these, sent and answered while a validation was reading.
    pub commits_during: u64,
    /// Planted cases that were mended and planted again at least once.
    pub cases_toggled: u64,
    /// Writers that the server chose to end a deadlock.
    pub deadlocks: u64,
    /// Writers' other failures.
    pub errors: u64,
    /// What was said first.
    pub first_error: Option<String>,
    /// What validations took.
    pub cost: Cost,
    /// What the same took as SQL, for all sets, in milliseconds: the mean; `None` where it was not asked.
    pub sql_ms: Option<f64>,
    /// How long it took.
    pub seconds: f64,
}

/// Validators that read without a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Validations.
    pub validations: u64,
    /// Of these, such that found what was true neither before nor after, or missed what was true both times.
    pub disagreed: u64,
    /// The first such.
    pub example: Option<(String, Mistake)>,
    /// What it ended with, if it was not let go on.
    pub error: Option<String>,
}

/// Who was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Witness {
    /// The rules.
    Rules,
    /// The same as SQL.
    Sql,
    /// One of the two, or both: they find the same, and differ about window or limit.
    Both,
}

/// A mistake, and its circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// In which phase.
    pub phase: Phase,
    /// Under which rules.
    pub rules: String,
    /// Who was wrong.
    pub witness: Witness,
    /// What was wrong.
    #[serde(flatten)]
    pub mistake: Mistake,
    /// What the other one found, if they differ in window or limit.
    pub other: Option<Finding>,
    /// The snapshot, as the server prints it.
    pub snapshot: String,
    /// Planted cases that were mended in it.
    pub mended: Vec<String>,
    /// Milliseconds into the phase.
    pub at_ms: u64,
}

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRecord {
    /// Its name.
    pub name: String,
    /// Its rules, and any other that something was planted for.
    pub rows: Vec<RuleRecord>,
}

impl RulesRecord {
    /// Its rules that nothing was planted for: that they found nothing is all that is known.
    pub fn untested(&self) -> impl Iterator<Item = Rule> {
        self.rows.iter().filter(|row| row.planted.all() == 0).map(|row| row.rule)
    }

    /// Adds a validation; what is found by a rule that is not of this set gets a row of its own.
    pub fn add(&mut self, compared: &Compared, subjects: &Subjects) {
        for rule in compared.mistakes.iter().map(|mistake| mistake.about().0) {
            if self.rows.iter().all(|row| row.rule != rule) {
                self.rows.push(RuleRecord::new(rule, Hits::default()));
            }
        }
        self.rows.iter_mut().for_each(|row| row.add(compared, subjects));
    }
}

/// What was found, for who wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Under which rules.
    pub rules: String,
    /// What.
    #[serde(flatten)]
    pub finding: Finding,
    /// The planted case that makes it so.
    pub label: Option<String>,
}

/// A validator that is wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutantRecord {
    /// Which mistake it makes.
    pub mutant: Mutant,
    /// Under which rules.
    pub rules: String,
    /// Mistakes that were found.
    pub mistakes: u64,
    /// The planted case that found it out; `None` = none did, though the schedule around them may have.
    pub caught_by: Option<String>,
    /// By what; `None` = it was not found out.
    pub example: Option<Mistake>,
}

/// What is kept of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// The number that the shell sees.
    pub exit_code: u8,
    /// Why; what decided it comes first.
    pub reasons: Vec<String>,
    /// What was asked.
    pub mode: Mode,
    /// The user stopped it.
    pub interrupted: bool,
    /// Version of dbstress.
    pub dbstress: String,
    /// `host:port/database`.
    pub database: String,
    /// What the server says it is.
    pub server: String,
    /// What is validated.
    pub schedule: Schedule,
    /// Validators at once.
    pub validators: u32,
    /// Writers at once.
    pub writers: u32,
    /// What an earlier command had left, and was put right first.
    pub restored: Vec<String>,
    /// The sets of rules.
    pub rules: Vec<RulesRecord>,
    /// What was done, in order.
    pub phases: Vec<PhaseRecord>,
    /// Validators without a snapshot.
    pub control: Option<ControlRecord>,
    /// The first mistakes.
    pub wrong: Vec<Wrong>,
    /// Mistakes in all.
    pub wrong_in_all: u64,
    /// Validators that are wrong on purpose.
    pub mutants: Vec<MutantRecord>,
    /// What was found before, if that was asked for.
    pub findings: Option<Vec<Listed>>,
    /// What 95 % of validations had to be done within, in milliseconds.
    pub budget_ms: Option<f64>,
    /// How long it took, everything included.
    pub seconds: f64,
    /// The command that does it again.
    pub again: String,
}

impl AccuracyRecord {
    /// Judges the whole; `open` is what else leaves it open.
    pub fn conclude(&mut self, open: Vec<String>) {
        let (verdict, reasons) = match self.mode {
            Mode::SelfTest => self.judge_mutants(open),
            Mode::Check | Mode::Measure => self.judge_rules(open),
        };
        (self.verdict, self.reasons) = (verdict, reasons);
        self.exit_code = self.exit().code();
    }

    /// How its end is told to the shell.
    pub fn exit(&self) -> Exit {
        match self.verdict.exit() {
            Exit::Inconclusive if self.interrupted => Exit::Interrupted,
            exit => exit,
        }
    }

    /// A mistake is a mistake however little else was seen; without mistakes a pass needs evidence, and only then does time matter.
    fn judge_rules(&self, mut open: Vec<String>) -> (Verdict, Vec<String>) {
        if self.wrong_in_all > 0 {
            let found = self.sum(|row| row.false_positives);
            let missed = self.sum(|row| row.false_negatives);
            let (found, missed, all) = (grouped(found), grouped(missed), grouped(self.wrong_in_all));
            let mut reasons = vec![if self.is_the_schedule() {
                format!(
                    "{found} findings that nobody planted, {missed} planted ones that are not there: the rules and the SQL say the same, so it \
                     is the schedule that is not as it was seeded\ncure: dbstress verify shows the rows; {PLANT} makes it anew"
                )
            } else {
                format!(
                    "{all} mistakes: {found} findings of the rules that are not true, {missed} that they missed; the rest is the SQL's"
                )
            }];
            reasons.extend(self.wrong.first().map(Wrong::to_string));
            reasons.append(&mut open);
            return (Verdict::Violated, reasons);
        }
        if !self.interrupted {
            open.extend(self.lacking());
        }
        if !open.is_empty() {
            return (Verdict::Inconclusive, open);
        }
        let late: Vec<String> = self.phases.iter().filter_map(|phase| self.late(phase)).collect();
        if !late.is_empty() {
            return (Verdict::Missed, late);
        }
        (Verdict::Pass, vec![self.praise()])
    }

    /// Whether both implementations say the same, and it is not what was planted: then somebody changed the rows, or what is said to be true.
    fn is_the_schedule(&self) -> bool {
        let by = |witness: Witness| self.wrong.iter().filter(move |wrong| wrong.witness == witness);
        let is_same = |a: &Wrong, b: &Wrong| (&a.rules, &a.mistake, &a.snapshot) == (&b.rules, &b.mistake, &b.snapshot);
        self.wrong.len() as u64 == self.wrong_in_all
            && self.wrong.iter().all(|wrong| wrong.witness != Witness::Both)
            && by(Witness::Rules).count() == by(Witness::Sql).count()
            && by(Witness::Rules).all(|a| by(Witness::Sql).any(|b| is_same(a, b)))
    }

    /// What a pass would lack.
    fn lacking(&self) -> Vec<String> {
        let mut open = Vec::new();
        if self.schedule.cases == 0 {
            open.push(format!("nothing is planted, so that nothing could have been missed\ncure: {PLANT}"));
            return open;
        }
        for rules in &self.rules {
            let silent = rules.rows.iter().filter(|row| row.planted.all() > 0 && row.hits.all() == 0);
            open.extend(silent.map(|row| format!("{} {}: planted, and never there to be found", rules.name, row.rule.id())));
            if rules.rows.iter().all(|row| row.planted.violations == 0) {
                open.push(format!("nothing is planted that {} forbids\ncure: {PLANT}", rules.name));
            }
        }
        if !open.is_empty() {
            // What else is missing may be missing because of it.
            return open;
        }
        if self.mode == Mode::Measure {
            return open;
        }
        for phase in self.phases.iter().filter(|phase| phase.phase.has_writers()) {
            let word = phase.phase.word();
            let mut needs = |n: u64, least: u64, what: &str| {
                if n < least {
                    open.push(format!("{word}: {} {what}; {} are needed", grouped(n), grouped(least)));
                }
            };
            needs(phase.validations, LEAST, "validations");
            needs(phase.commits_during, LEAST, "changes were committed while a validation was reading");
            if phase.phase == Phase::Toggling {
                needs(phase.cases_toggled, self.schedule.cases, "planted cases were mended and planted again");
            }
            if phase.deadlocks > 0 {
                open.push(format!("{word}: {} writers were ended by a deadlock", grouped(phase.deadlocks)));
            }
            if phase.errors > 0 {
                let first = phase.first_error.as_deref().unwrap_or_default();
                open.push(format!("{word}: {} changes failed: {first}", grouped(phase.errors)));
            }
        }
        match &self.control {
            Some(control) if control.disagreed > 0 => {}
            Some(ControlRecord { error: Some(error), .. }) => open.push(format!("the control ended: {error}")),
            Some(control) => open.push(format!(
                "the control was not caught: {} validations without a snapshot were right all the same; the writers were too slow to be seen\n\
                 cure: a longer --duration, or more --writers",
                grouped(control.validations)
            )),
            None => open.push("the control was not tried".into()),
        }
        open
    }

    /// Whether a phase exceeded the budget. Where too few samples stand behind a percentile, the slowest has to keep it.
    fn late(&self, phase: &PhaseRecord) -> Option<String> {
        let budget = self.budget_ms?;
        let (name, ms) = match (phase.cost.wall.p95, phase.cost.wall.max) {
            (Some(p95), _) => ("p95", p95),
            (None, Some(max)) => ("the slowest", max),
            (None, None) => return None,
        };
        let promised = duration_text(std::time::Duration::from_secs_f64(budget / 1000.0));
        (ms > budget).then(|| {
            format!("{}: {name} of {} validations {ms:.0} ms, not within {promised}", phase.phase.word(), phase.validations)
        })
    }

    fn praise(&self) -> String {
        let hits = self.sum(|row| row.hits.all());
        let (validations, during) = (self.counted(|phase| phase.validations), self.counted(|phase| phase.commits_during));
        let all = format!(
            "{} findings in {} validations, each as it should be: none missed, none invented",
            grouped(hits),
            grouped(validations)
        );
        match self.mode {
            Mode::Check => format!("{all}; {} changes were committed while one was reading", grouped(during)),
            Mode::Measure | Mode::SelfTest => format!("{all}; nobody changed anything meanwhile"),
        }
    }

    fn judge_mutants(&self, open: Vec<String>) -> (Verdict, Vec<String>) {
        let mut reasons = open;
        if self.wrong_in_all > 0 {
            reasons.extend(self.wrong.first().map(Wrong::to_string));
            return (Verdict::Violated, reasons);
        }
        reasons.extend(self.mutants.iter().filter(|mutant| mutant.caught_by.is_none()).map(MutantRecord::to_string));
        if !reasons.is_empty() {
            reasons.push(format!("cure: {PLANT}"));
        }
        if self.mutants.is_empty() {
            reasons.push("no mistake was made".into());
        }
        if !reasons.is_empty() {
            return (Verdict::Inconclusive, reasons);
        }
        let caught = self.mutants.len();
        (Verdict::Pass, vec![format!("every mistake was found out by a planted case ({caught} of {caught})")])
    }

    fn sum(&self, count: impl Fn(&RuleRecord) -> u64) -> u64 {
        self.rules.iter().flat_map(|rules| &rules.rows).map(count).sum()
    }

    fn counted(&self, count: impl Fn(&PhaseRecord) -> u64) -> u64 {
        self.phases.iter().map(count).sum()
    }

    /// Keeps a mistake, if there is still room.
    pub fn blame(&mut self, wrong: Wrong) {
        self.wrong_in_all += 1;
        if self.wrong.len() < KEPT {
            self.wrong.push(wrong);
        }
    }
}
