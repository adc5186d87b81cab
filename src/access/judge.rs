//! What was seen of a drill, was it right, and what does all of it come to?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Drill, Mistake, Subject};
use crate::metrics::grouped;
use crate::verdict::{Exit, Verdict};

/// Version of the shape of [`AccessRecord`]; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Offenders that are named of a criterion; the others are counted.
const NAMED: usize = 10;

/// Something that was measured, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// What.
    pub what: String,
    /// Of which of several: a limit, a tier.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of: Option<String>,
    /// What it was.
    pub measured: String,
    /// What it must be.
    pub needed: String,
    /// Pass, violated, missed where only time is at stake, inconclusive where it could not be measured.
    pub verdict: Verdict,
    /// Who is to blame: the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub offenders: Vec<String>,
}

impl Criterion {
    /// In a sentence.
    pub fn words(&self) -> String {
        let of = self.of.as_ref().map_or(String::new(), |of| format!(" ({of})"));
        match self.verdict {
            Verdict::Inconclusive => format!("{}{of}: {}", self.what, self.measured),
            _ => format!("{}{of}: {}, needed {}", self.what, self.measured, self.needed),
        }
    }
}

/// How strictly times are judged; what is right and wrong is judged in one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Whether limits of time are judged at all.
    pub is_judged: bool,
    /// By how much they are widened.
    pub slack: f64,
}

/// What was seen of a drill.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    criteria: Vec<Criterion>,
    figures: Vec<String>,
    of: Option<String>,
    pace: Pace,
}

impl Seen {
    /// Of a drill whose times are judged like this.
    pub fn new(pace: Pace) -> Self {
        Self { criteria: Vec::new(), figures: Vec::new(), of: None, pace }
    }

    /// What follows is about this one of several; `None`: about all of them.
    pub fn about(&mut self, of: Option<String>) {
        self.of = of;
    }

    fn add(&mut self, what: &str, measured: String, needed: String, verdict: Verdict) -> &mut Criterion {
        self.criteria.push(Criterion { what: what.into(), of: self.of.clone(), measured, needed, verdict, offenders: Vec::new() });
        let last = self.criteria.len() - 1;
        &mut self.criteria[last]
    }

    /// A number that has one right value.
    pub fn count(&mut self, what: &str, needed: u64, measured: u64) {
        self.holds(what, &grouped(needed), grouped(measured), needed == measured);
    }

    /// Something that is right or wrong.
    pub fn holds(&mut self, what: &str, needed: &str, measured: String, is_so: bool) {
        self.add(what, measured, needed.into(), if is_so { Verdict::Pass } else { Verdict::Violated });
    }

    /// Of so many none may be an offender.
    pub fn none(&mut self, what: &str, among: u64, offenders: Vec<String>) {
        let measured = format!("{} of {}", grouped(offenders.len() as u64), grouped(among));
        let verdict = match (offenders.is_empty(), among) {
            (false, _) => Verdict::Violated,
            // Nothing was looked at.
            (true, 0) => Verdict::Inconclusive,
            (true, _) => Verdict::Pass,
        };
        self.add(what, measured, "0".into(), verdict).offenders = offenders.into_iter().take(NAMED).collect();
    }

    /// A time, or another figure of speed, that must be less; `None`: there are too few samples for it.
    pub fn less(&mut self, what: &str, limit: f64, unit: &str, measured: Option<f64>) {
        let limit = limit * self.pace.slack;
        let number = |value: f64| if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.0} {unit}") };
        if !self.pace.is_judged {
            self.figure(format!("{what}: {}", measured.map_or("too few samples".into(), number)));
            return;
        }
        let verdict = match measured {
            Some(measured) if measured < limit => Verdict::Pass,
            Some(_) => Verdict::Missed,
            None => Verdict::Inconclusive,
        };
        self.add(what, measured.map_or("too few samples".into(), number), format!("less than {}", number(limit)), verdict);
    }

    /// Something that could not be found out.
    pub fn open(&mut self, what: &str, why: impl Into<String>) {
        self.add(what, why.into(), "to be known".into(), Verdict::Inconclusive);
    }

    /// Something that is worth knowing, and neither right nor wrong.
    pub fn figure(&mut self, text: String) {
        self.figures.push(text);
    }

    /// Whether a criterion of this name is violated.
    pub fn is_violated(&self, what: &str) -> bool {
        self.criteria.iter().any(|criterion| criterion.what == what && criterion.verdict == Verdict::Violated)
    }
}

/// A drill, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// Which.
    pub drill: Drill,
    /// The mistake that was made on purpose.
    pub mistake: Option<Mistake>,
    /// How it ended: as the worst of its criteria.
    pub verdict: Verdict,
    /// Everything that was measured and judged.
    pub criteria: Vec<Criterion>,
    /// What is worth knowing besides.
    pub figures: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl DrillRecord {
    /// Judges what was seen.
    pub fn of(drill: Drill, mistake: Option<Mistake>, seen: Seen, took: Duration) -> Self {
        let verdict = Verdict::worst(seen.criteria.iter().map(|criterion| criterion.verdict));
        Self { drill, mistake, verdict, criteria: seen.criteria, figures: seen.figures, seconds: took.as_secs_f64() }
    }

    /// Whether the mistake was found by what it must be found by, and not by something that went wrong besides.
    pub fn is_caught(&self) -> bool {
        self.mistake.is_some_and(|mistake| {
            let by = self.drill.caught_by(mistake);
            self.criteria.iter().any(|c| Some(&*c.what) == by && c.verdict == Verdict::Violated)
        })
    }

    /// The criteria that did not pass, the worst first.
    pub fn failed(&self) -> Vec<&Criterion> {
        let mut failed: Vec<&Criterion> = self.criteria.iter().filter(|criterion| criterion.verdict != Verdict::Pass).collect();
        failed.sort_by_key(|criterion| std::cmp::Reverse(criterion.verdict));
        failed
    }

    /// By what a mistake was found, or what was found instead.
    pub fn finding(&self) -> String {
        let by = self.mistake.and_then(|mistake| self.drill.caught_by(mistake));
        let expected = self.criteria.iter().find(|c| Some(&*c.what) == by && c.verdict == Verdict::Violated);
        expected.or_else(|| self.failed().first().copied()).map_or("nothing was found".into(), Criterion::words)
    }
}

/// What kind of run it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The drills, as they should be.
    Drills,
    /// With a mistake that was asked for.
    Bug,
    /// Each with each of its mistakes: all must fail.
    SelfTest,
}

/// What is kept of a run of drills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// Version of this shape.
    pub schema_version: u32,
    /// What was asked about.
    pub subject: Subject,
    /// How it ended.
    pub verdict: Verdict,
    /// The number that the shell sees.
    pub exit_code: u8,
    /// Why; what decided it comes first.
    pub reasons: Vec<String>,
    /// What kind of run it was.
    pub kind: Kind,
    /// The user stopped it.
    pub interrupted: bool,
    /// Version of dbstress.
    pub dbstress: String,
    /// `host:port/database`.
    pub database: String,
    /// The API that was examined; `None`: one of our own, in this process.
    pub target: Option<String>,
    /// The drills with a mistake, which had to fail first.
    pub controls: Vec<DrillRecord>,
    /// The drills, in the order in which they were done.
    pub drills: Vec<DrillRecord>,
    /// How long it took, everything included.
    pub seconds: f64,
    /// The command that does it again.
    pub again: String,
}

impl AccessRecord {
    /// Judges the whole; `open` is what else leaves it open.
    pub fn conclude(&mut self, open: Vec<String>) {
        let (verdict, reasons) = judge(self.kind, &self.drills, &self.controls, open);
        self.verdict = verdict;
        self.reasons = reasons;
        self.exit_code = self.exit().code();
    }

    /// How its end is told to the shell.
    pub fn exit(&self) -> Exit {
        match self.verdict.exit() {
            Exit::Inconclusive if self.interrupted => Exit::Interrupted,
            exit => exit,
        }
    }
}

/// The verdict on a run of drills, and why: the worst of them, and no pass if a mistake was not caught by its drill. A self-test passes if every
/// drill failed, each by what it must fail by.
pub fn judge(kind: Kind, drills: &[DrillRecord], controls: &[DrillRecord], open: Vec<String>) -> (Verdict, Vec<String>) {
    let uncaught = |tried: &&DrillRecord| !tried.is_caught();
    let with = |drill: &DrillRecord| drill.mistake.map_or(String::new(), |mistake| format!(" with {mistake}"));
    if kind == Kind::SelfTest {
        let mut reasons = open;
        let missed = drills.iter().filter(uncaught);
        reasons.extend(missed.map(|drill| format!("{}{} could not have failed: {}", drill.drill, with(drill), drill.finding())));
        if !drills.is_empty() && reasons.is_empty() {
            let all = drills.len();
            return (Verdict::Pass, vec![format!("every mistake was caught by its drill ({all} of {all})")]);
        }
        return (Verdict::Inconclusive, reasons);
    }
    let mut reasons = Vec::new();
    if let (Kind::Bug, Some(mistake)) = (kind, drills.iter().find_map(|drill| drill.mistake)) {
        reasons.push(format!("a known mistake was made on purpose: {mistake}"));
        reasons.extend(drills.iter().filter(uncaught).map(|drill| format!("{} did not catch it", drill.drill)));
        if drills.iter().all(|drill| !drill.is_caught()) {
            return (Verdict::Inconclusive, reasons);
        }
    }
    let verdicts = drills.iter().map(|drill| drill.verdict);
    let left_open = open.iter().map(|_| Verdict::Inconclusive);
    let verdict = Verdict::worst(verdicts.chain(left_open).chain(controls.iter().filter(uncaught).map(|_| Verdict::Inconclusive)));
    let mut failed: Vec<&DrillRecord> = drills.iter().filter(|drill| drill.verdict != Verdict::Pass).collect();
    failed.sort_by_key(|drill| std::cmp::Reverse(drill.verdict));
    reasons.extend(failed.iter().flat_map(|drill| {
        let why = drill.failed().into_iter().take(3).map(|criterion| format!("{}: {}", drill.drill, criterion.words()));
        if drill.criteria.is_empty() { vec![format!("{}: nothing was looked at", drill.drill)] } else { why.collect() }
    }));
    let missed = controls.iter().filter(uncaught);
    reasons.extend(missed.map(|control| {
        format!("{} could not have failed: the mistake{} was not caught ({})", control.drill, with(control), control.finding())
    }));
    reasons.extend(open);
    if verdict == Verdict::Pass {
        let criteria: usize = drills.iter().map(|drill| drill.criteria.len()).sum();
        reasons.push(format!("{criteria} criteria of {} drills were met, and each drill was seen to fail", drills.len()));
    }
    (verdict, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Pace = Pace { is_judged: true, slack: 1.0 };

    fn record(mistake: Option<Mistake>, see: impl FnOnce(&mut Seen)) -> DrillRecord {
        let mut seen = Seen::new(STRICT);
        see(&mut seen);
        DrillRecord::of(Drill::Exact, mistake, seen, Duration::ZERO)
    }

    #[test]
    fn what_is_wrong_is_violated_what_is_slow_is_missed_and_what_is_not_known_is_open() {
        assert_eq!(record(None, |seen| seen.count("let through", 100, 100)).verdict, Verdict::Pass);
        assert_eq!(record(None, |seen| seen.count("let through", 100, 101)).verdict, Verdict::Violated);
        assert_eq!(record(None, |seen| seen.less("p95", 50.0, "ms", Some(50.0))).verdict, Verdict::Missed);
        assert_eq!(record(None, |seen| seen.less("p95", 50.0, "ms", None)).verdict, Verdict::Inconclusive);
        assert_eq!(
            record(None, |seen| seen.none("server errors", 0, vec![])).verdict,
            Verdict::Inconclusive,
            "nothing was looked at"
        );
        assert_eq!(record(None, |seen| seen.none("server errors", 3, vec!["x".into()])).verdict, Verdict::Violated);
        assert_eq!(record(None, |_| ()).verdict, Verdict::Inconclusive, "nothing was looked at");
        let both = record(None, |seen| {
            seen.open("recovery", "nobody waited for it");
            seen.count("let through", 100, 101);
        });
        assert_eq!(both.verdict, Verdict::Violated);
        assert_eq!(both.failed()[0].words(), "let through: 101, needed 100");
    }

    #[test]
    fn times_can_be_widened_and_left_out_and_nothing_else_can() {
        for (pace, verdict) in [
            (STRICT, Verdict::Missed),
            (Pace { is_judged: true, slack: 10.0 }, Verdict::Pass),
            (Pace { is_judged: false, slack: 1.0 }, Verdict::Pass),
        ] {
            let mut seen = Seen::new(pace);
            seen.count("let through", 1, 1);
            seen.less("p95", 50.0, "ms", Some(60.0));
            assert_eq!(DrillRecord::of(Drill::Exact, None, seen, Duration::ZERO).verdict, verdict);
        }
    }

    fn caught() -> DrillRecord {
        record(Some(Mistake::LimitOffByOne), |seen| seen.count("first rejection, request", 21, 22))
    }

    fn elsewhere() -> DrillRecord {
        record(Some(Mistake::LimitOffByOne), |seen| seen.none("server errors", 9, vec!["500".into()]))
    }

    #[test]
    fn a_mistake_counts_as_caught_only_by_what_it_must_be_caught_by() {
        assert!(caught().is_caught());
        assert!(!elsewhere().is_caught(), "something else went wrong");
        assert!(!record(None, |seen| seen.count("let through", 20, 21)).is_caught(), "no mistake was made");
    }

    #[test]
    fn no_pass_without_a_control_and_no_self_test_passes_by_accident() {
        let right = record(None, |seen| seen.count("let through", 100, 100));
        let (verdict, reasons) = judge(Kind::Drills, std::slice::from_ref(&right), &[caught()], vec![]);
        assert_eq!((verdict, &*reasons[0]), (Verdict::Pass, "1 criteria of 1 drills were met, and each drill was seen to fail"));
        let (verdict, reasons) = judge(Kind::Drills, std::slice::from_ref(&right), &[elsewhere()], vec![]);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reasons[0].starts_with("exact could not have failed"), "{reasons:?}");
        assert_eq!(judge(Kind::Drills, &[right], &[caught()], vec!["the lease was lost".into()]).0, Verdict::Inconclusive);
        assert_eq!(judge(Kind::SelfTest, &[caught()], &[], vec![]).0, Verdict::Pass);
        assert_eq!(judge(Kind::SelfTest, &[caught(), elsewhere()], &[], vec![]).0, Verdict::Inconclusive);
        assert_eq!(judge(Kind::SelfTest, &[], &[], vec![]).0, Verdict::Inconclusive);
        assert_eq!(judge(Kind::Bug, &[caught()], &[], vec![]).0, Verdict::Violated);
        assert_eq!(judge(Kind::Bug, &[elsewhere()], &[], vec![]).0, Verdict::Inconclusive, "it was not found");
    }
}
