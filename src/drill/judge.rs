//! What was seen of a drill, was it right, and what does all of it come to?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Drill, Mistake};
use crate::metrics::grouped;
use crate::verdict::{Exit, Verdict};

/// Version of the shape of [`DrillsRecord`]; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Culprits that are kept of a drill; the others are counted.
const CULPRITS: usize = 60;
/// Counts that make the row of a drill.
const IN_ROW: usize = 2;

/// Something counted that has one right value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What.
    pub what: String,
    /// The right value.
    pub expected: i64,
    /// The value.
    pub seen: i64,
}

/// A figure with a limit, which is about speed and not about right and wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// What, with its unit.
    pub what: String,
    /// It must be less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub less_than: Option<f64>,
    /// It must be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_than: Option<f64>,
    /// The value.
    pub seen: f64,
}

impl Speed {
    fn is_met(&self) -> bool {
        self.less_than.is_none_or(|limit| self.seen < limit) && self.more_than.is_none_or(|limit| self.seen > limit)
    }

    fn words(&self) -> String {
        let limits = [("less", self.less_than), ("more", self.more_than)];
        let limit = limits.iter().filter_map(|(word, limit)| limit.map(|limit| format!("{word} than {limit:.1}")));
        format!("{}: {:.1}, expected {}", self.what, self.seen, limit.collect::<Vec<_>>().join(" and "))
    }
}

/// A request by which it can be seen what went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// Its number in the drill, from 1 on, if it is known.
    pub request: Option<u32>,
    /// The server's process for the session that it had, if it had one.
    pub session: Option<i64>,
    /// For how long, in seconds, it had held what it held.
    pub seconds: Option<f64>,
    /// What it did, or what was done to it.
    pub what: String,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let request = self.request.map_or("a request".to_owned(), |who| format!("request {who}"));
        write!(f, "{request}")?;
        if let Some(pid) = self.session {
            write!(f, ", session {pid}")?;
        }
        if let Some(seconds) = self.seconds {
            write!(f, ", {seconds:.3} s")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was seen of a drill.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    counts: Vec<Count>,
    speeds: Vec<Speed>,
    figures: Vec<String>,
    open: Vec<String>,
    disturbances: Vec<String>,
    diagnoses: Vec<String>,
    culprits: Vec<Culprit>,
}

impl Seen {
    /// Of a drill that could not be done.
    pub fn open(why: String) -> Self {
        Self { open: vec![why], ..Self::default() }
    }

    /// Counts something; what comes first is the essence of the drill.
    pub fn count(&mut self, what: &str, expected: i64, seen: i64) {
        match self.counts.iter_mut().find(|count| count.what == what) {
            // Two pools of one drill.
            Some(count) => (count.expected, count.seen) = (count.expected + expected, count.seen + seen),
            None => self.counts.push(Count { what: what.into(), expected, seen }),
        }
    }

    /// Measures something that is to be less.
    pub fn less(&mut self, what: &str, limit: f64, seen: f64) {
        self.speeds.push(Speed { what: what.into(), less_than: Some(limit), more_than: None, seen });
    }

    /// Measures something that is to be more.
    pub fn more(&mut self, what: &str, limit: f64, seen: f64) {
        self.speeds.push(Speed { what: what.into(), less_than: None, more_than: Some(limit), seen });
    }

    /// Says something that is worth knowing, and neither right nor wrong.
    pub fn figure(&mut self, text: String) {
        self.figures.push(text);
    }

    /// Something without which it would prove nothing.
    pub fn needs(&mut self, is_so: bool, otherwise: &str) {
        if !is_so {
            self.open.push(otherwise.into());
        }
    }

    /// The surroundings did something to it: whatever was counted, nobody knows what it says about the pool.
    pub fn disturbed(&mut self, why: String) {
        if !self.disturbances.contains(&why) {
            self.disturbances.push(why);
        }
    }

    /// Says what is behind what went wrong.
    pub fn diagnosis(&mut self, text: String) {
        if !self.diagnoses.contains(&text) {
            self.diagnoses.push(text);
        }
    }

    /// Names who did it, or to whom it was done.
    pub fn blame(&mut self, culprits: impl IntoIterator<Item = Culprit>) {
        self.culprits.extend(culprits);
    }
}

/// A drill, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// Which.
    pub drill: Drill,
    /// The mistake that was made on purpose.
    pub mistake: Option<Mistake>,
    /// What was expected, in short.
    pub expected: String,
    /// What was seen, in short.
    pub seen: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, if it did not pass; what decided it comes first.
    pub reasons: Vec<String>,
    /// Everything that was counted.
    pub counts: Vec<Count>,
    /// Everything that has a limit of speed.
    pub speeds: Vec<Speed>,
    /// What is worth knowing besides.
    pub figures: Vec<String>,
    /// By whom it can be seen what went wrong, if something did.
    pub culprits: Vec<Culprit>,
    /// Culprits that are not named.
    pub culprits_left_out: usize,
    /// How long it took.
    pub seconds: f64,
}

impl DrillRecord {
    /// Judges what was seen. A wrong count is a violation, whatever else could not be found out, unless the surroundings had a hand in it; a limit
    /// of speed that was not kept is none.
    pub fn of(drill: Drill, mistake: Option<Mistake>, seen: Seen, took: Duration) -> Self {
        let Seen { counts, speeds, figures, open, disturbances, diagnoses, mut culprits } = seen;
        let wrong: Vec<String> = counts
            .iter()
            .filter(|count| count.expected != count.seen)
            .map(|count| format!("{}: {} instead of {}", count.what, number(count.seen), number(count.expected)))
            .collect();
        let slow: Vec<String> = speeds.iter().filter(|speed| !speed.is_met()).map(Speed::words).collect();
        let verdict = match (wrong.is_empty(), open.is_empty(), slow.is_empty()) {
            _ if !disturbances.is_empty() => Verdict::Inconclusive,
            (false, ..) => Verdict::Violated,
            (true, false, _) => Verdict::Inconclusive,
            // Nothing was looked at.
            (true, true, _) if counts.is_empty() => Verdict::Inconclusive,
            (true, true, false) => Verdict::Missed,
            (true, true, true) => Verdict::Pass,
        };
        let is_violated = verdict == Verdict::Violated;
        if !is_violated {
            culprits.clear();
        }
        let culprits_left_out = culprits.len().saturating_sub(CULPRITS);
        culprits.truncate(CULPRITS);
        let row = |value: fn(&Count) -> i64| {
            let shown = in_row(&counts).into_iter().map(|count| format!("{} {}", number(value(count)), count.what));
            shown.collect::<Vec<_>>().join(", ")
        };
        Self {
            drill,
            mistake,
            expected: row(|count| count.expected),
            seen: row(|count| count.seen),
            verdict,
            reasons: match (is_violated, disturbances.is_empty()) {
                (true, _) => [diagnoses, wrong, open, slow].concat(),
                (false, true) => [open, slow].concat(),
                (false, false) => disturbances,
            },
            counts,
            speeds,
            figures,
            culprits,
            culprits_left_out,
            seconds: took.as_secs_f64(),
        }
    }
}

impl DrillRecord {
    /// Whether anything was looked at.
    pub fn is_tried(&self) -> bool {
        !self.counts.is_empty()
    }
}

/// What the row shows: the essence, unless that is right and something else is not.
fn in_row(counts: &[Count]) -> Vec<&Count> {
    let mut shown: Vec<&Count> = counts.iter().take(IN_ROW).collect();
    let is_wrong = |count: &&Count| count.expected != count.seen;
    if !shown.iter().any(is_wrong)
        && let Some(wrong) = counts.iter().find(is_wrong)
    {
        shown.truncate(IN_ROW - 1);
        shown.push(wrong);
    }
    shown
}

fn number(n: i64) -> String {
    if n < 0 { format!("-{}", grouped(n.unsigned_abs())) } else { grouped(n.unsigned_abs()) }
}

/// A quick drill with a mistake, done before the others: it must fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The mistake.
    pub mistake: Mistake,
    /// Whether the drill failed, and named who did it.
    pub is_caught: bool,
    /// By what.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
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
pub struct DrillsRecord {
    /// Version of this shape.
    pub schema_version: u32,
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
    /// What the server says it is.
    pub server: String,
    /// The mistakes that had to be caught first.
    pub controls: Vec<Control>,
    /// The drills, in the order in which they were done.
    pub drills: Vec<DrillRecord>,
    /// How long it took, everything included.
    pub seconds: f64,
    /// The command that does it again.
    pub again: String,
}

impl DrillsRecord {
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

/// The verdict on a run of drills, and why: the worst of them, and no pass if a control was not caught. A self-test passes if every drill failed.
pub fn judge(kind: Kind, drills: &[DrillRecord], controls: &[Control], open: Vec<String>) -> (Verdict, Vec<String>) {
    let mut verdicts: Vec<Verdict> = open.iter().map(|_| Verdict::Inconclusive).collect();
    let mut reasons = Vec::new();
    let with = |drill: &DrillRecord| drill.mistake.map_or(String::new(), |mistake| format!(" with {mistake}"));
    let is_caught = |drill: &DrillRecord| drill.verdict == Verdict::Violated;
    if kind == Kind::SelfTest {
        for drill in drills.iter().filter(|drill| !is_caught(drill)) {
            let why = drill.reasons.first().map_or(String::new(), |why| format!(" ({why})"));
            let what = match drill.verdict {
                Verdict::Inconclusive if drill.is_tried() => "was left open",
                Verdict::Inconclusive => "was not tried",
                Verdict::Pass | Verdict::Missed | Verdict::Violated => "did not fail",
            };
            reasons.push(format!("{}{} {what}{why}", drill.drill, with(drill)));
        }
        let all_fired = !drills.is_empty() && reasons.is_empty() && open.is_empty();
        if all_fired {
            reasons.push(format!("every drill failed when its mistake was made ({} of {})", drills.len(), drills.len()));
        }
        verdicts.push(if all_fired { Verdict::Pass } else { Verdict::Inconclusive });
        reasons.splice(0..0, open);
        return (Verdict::worst(verdicts), reasons);
    }
    verdicts.extend(drills.iter().map(|drill| drill.verdict));
    verdicts.extend(controls.iter().filter(|control| !control.is_caught).map(|_| Verdict::Inconclusive));
    let verdict = Verdict::worst(verdicts);
    if let (Kind::Bug, Some(mistake)) = (kind, drills.iter().find_map(|drill| drill.mistake)) {
        reasons.push(format!("a known mistake was made on purpose: {mistake}"));
        for drill in drills.iter().filter(|drill| !is_caught(drill)) {
            let what = if drill.verdict == Verdict::Inconclusive { "left it open" } else { "did not find it" };
            reasons.push(format!("{} {what}", drill.drill));
        }
        if !drills.iter().any(is_caught) {
            return (Verdict::Inconclusive, reasons);
        }
    }
    let mut failed: Vec<&DrillRecord> = drills.iter().filter(|drill| drill.verdict != Verdict::Pass).collect();
    failed.sort_by_key(|drill| std::cmp::Reverse(drill.verdict));
    reasons.extend(failed.iter().map(|drill| {
        let why = drill.reasons.first().map_or("", String::as_str);
        format!("{}: {why}", drill.drill)
    }));
    let missed = controls.iter().filter(|control| !control.is_caught);
    reasons.extend(missed.map(|control| format!("the control {} was not caught: {}", control.mistake, control.detail)));
    reasons.extend(open);
    if verdict == Verdict::Pass {
        reasons.push(format!("{} of {} drills came out as they must", drills.len(), drills.len()));
    }
    (verdict, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seen: Seen) -> DrillRecord {
        DrillRecord::of(Drill::Saturation, None, seen, Duration::ZERO)
    }

    fn right() -> Seen {
        let mut seen = Seen::default();
        seen.count("served", 10, 10);
        seen
    }

    fn wrong() -> Seen {
        let mut seen = right();
        seen.count("leaked", 0, 2);
        seen.blame([Culprit { request: Some(7), session: Some(123), seconds: Some(0.5), what: "has not given it back".into() }]);
        seen
    }

    #[test]
    fn a_wrong_count_is_a_violation_and_a_slow_figure_is_not() {
        assert_eq!(record(right()).verdict, Verdict::Pass);
        let mut slow = right();
        slow.less("mean checkout, ms", 100.0, 250.0);
        let slow = record(slow);
        assert_eq!(
            (slow.verdict, &*slow.reasons),
            (Verdict::Missed, &["mean checkout, ms: 250.0, expected less than 100.0".into()][..])
        );
        let mut open = right();
        open.needs(false, "they never met");
        open.more("operations/s", 50.0, 10.0);
        assert_eq!(record(open).verdict, Verdict::Inconclusive);
        let mut both = wrong();
        both.needs(false, "they never met");
        let both = record(both);
        assert_eq!(both.verdict, Verdict::Violated, "what was seen to be wrong is wrong, whatever else was not seen");
        assert_eq!(both.reasons[0], "leaked: 2 instead of 0");
        assert_eq!(both.culprits[0].to_string(), "request 7, session 123, 0.500 s: has not given it back");
        assert_eq!(record(Seen::default()).verdict, Verdict::Inconclusive, "nothing was looked at");
    }

    #[test]
    fn what_the_surroundings_did_is_nobodys_violation() {
        let mut disturbed = wrong();
        disturbed.disturbed("57014: a statement was cancelled".into());
        disturbed.disturbed("57014: a statement was cancelled".into());
        let disturbed = record(disturbed);
        assert_eq!((disturbed.verdict, disturbed.culprits.len()), (Verdict::Inconclusive, 0));
        assert_eq!(disturbed.reasons, ["57014: a statement was cancelled"]);
        let mut alone = right();
        alone.disturbed("57P01: somebody ended its sessions".into());
        assert_eq!(record(alone).verdict, Verdict::Inconclusive, "nor a pass");
    }

    #[test]
    fn the_row_shows_the_first_two_counts_and_both_pools_of_a_drill_together() {
        let mut seen = right();
        seen.count("served", 1_000, 999);
        seen.count("timed out", 5, 5);
        seen.count("failed", 0, 0);
        let record = record(seen);
        assert_eq!((&*record.expected, &*record.seen), ("1,010 served, 5 timed out", "1,009 served, 5 timed out"));
        let mut seen = right();
        seen.count("timed out", 5, 5);
        seen.count("leaked", 0, 2);
        let record = self::record(seen);
        assert_eq!(
            (&*record.expected, &*record.seen),
            ("10 served, 0 leaked", "10 served, 2 leaked"),
            "what is wrong is in the row"
        );
    }

    fn control(is_caught: bool) -> Control {
        Control { mistake: Mistake::Leak, is_caught, detail: "leaked: 4 instead of 0".into(), seconds: 0.1 }
    }

    #[test]
    fn nothing_passes_that_a_control_did_not_show_able_to_fail() {
        let passed = [record(right())];
        assert_eq!(judge(Kind::Drills, &passed, &[control(true)], Vec::new()).0, Verdict::Pass);
        let (verdict, reasons) = judge(Kind::Drills, &passed, &[control(true), control(false)], Vec::new());
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reasons[0].contains("control leak was not caught"), "{reasons:?}");
        assert_eq!(judge(Kind::Drills, &[], &[], Vec::new()).0, Verdict::Inconclusive);
        assert_eq!(judge(Kind::Drills, &passed, &[], vec!["interrupted".into()]).0, Verdict::Inconclusive);
        let (verdict, reasons) = judge(Kind::Drills, &[record(right()), record(wrong())], &[control(false)], Vec::new());
        assert_eq!((verdict, &*reasons[0]), (Verdict::Violated, "saturation: leaked: 2 instead of 0"));
    }

    #[test]
    fn a_mistake_that_is_not_found_is_inconclusive_and_never_a_pass() {
        let with = |seen| DrillRecord { mistake: Some(Mistake::Leak), ..record(seen) };
        let (verdict, reasons) = judge(Kind::Bug, &[with(wrong()), with(right())], &[], Vec::new());
        assert_eq!(verdict, Verdict::Violated);
        assert_eq!(reasons[..2], ["a known mistake was made on purpose: leak", "saturation did not find it"]);
        assert_eq!(judge(Kind::Bug, &[with(right())], &[], Vec::new()).0, Verdict::Inconclusive);
    }

    #[test]
    fn a_self_test_passes_if_all_fail() {
        let with = |seen| DrillRecord { mistake: Some(Mistake::Leak), ..record(seen) };
        assert_eq!(judge(Kind::SelfTest, &[with(wrong()), with(wrong())], &[], Vec::new()).0, Verdict::Pass);
        let (verdict, reasons) = judge(Kind::SelfTest, &[with(wrong()), with(right())], &[], Vec::new());
        assert_eq!((verdict, &*reasons), (Verdict::Inconclusive, &["saturation with leak did not fail".into()][..]));
        let untried = with(Seen::open("PostgreSQL went away".into()));
        let (verdict, reasons) = judge(Kind::SelfTest, &[untried], &[], Vec::new());
        assert_eq!(
            (verdict, &*reasons),
            (Verdict::Inconclusive, &["saturation with leak was not tried (PostgreSQL went away)".into()][..])
        );
        assert_eq!(judge(Kind::SelfTest, &[], &[], Vec::new()).0, Verdict::Inconclusive);
        assert_eq!(judge(Kind::SelfTest, &[with(wrong())], &[], vec!["interrupted".into()]).0, Verdict::Inconclusive);
    }
}
