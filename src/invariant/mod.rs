//! Which rules does the data keep, and what does it mean when it does not? Each rule is a file in `sql/invariants`.
//!
//! [`parse`] reads the files, [`run`] runs them in one snapshot, [`evidence`] finds out what was claimed and which operations are to
//! blame, [`self_test`] shows that every check can fail.

pub mod evidence;
pub mod parse;
pub mod run;
pub mod self_test;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::nearest;
use crate::verdict::Verdict;
use crate::{Error, Result};

pub use run::{Allowance, CHECK_TIMEOUT, DEFAULT_SEARCH_PATH, run_all};

/// The files that come with the program: name and text. A test keeps the list equal to the directory.
const BUILT_IN: &[(&str, &str)] = &[
    ("units-within-total", include_str!("../../sql/invariants/units-within-total.sql")),
    ("counters-in-range", include_str!("../../sql/invariants/counters-in-range.sql")),
    ("counters-match-ledger", include_str!("../../sql/invariants/counters-match-ledger.sql")),
    ("ledger-replays", include_str!("../../sql/invariants/ledger-replays.sql")),
    ("status-matches-counters", include_str!("../../sql/invariants/status-matches-counters.sql")),
    ("applied-once", include_str!("../../sql/invariants/applied-once.sql")),
    ("organisation-of-parent", include_str!("../../sql/invariants/organisation-of-parent.sql")),
    ("organisation-of-actor", include_str!("../../sql/invariants/organisation-of-actor.sql")),
    ("constraints-in-place", include_str!("../../sql/invariants/constraints-in-place.sql")),
    ("no-missing-values", include_str!("../../sql/invariants/no-missing-values.sql")),
    ("no-orphans", include_str!("../../sql/invariants/no-orphans.sql")),
    ("one-effect-per-key", include_str!("../../sql/invariants/one-effect-per-key.sql")),
    ("one-record-per-key", include_str!("../../sql/invariants/one-record-per-key.sql")),
    ("key-has-result", include_str!("../../sql/invariants/key-has-result.sql")),
    ("no-stale-claim", include_str!("../../sql/invariants/no-stale-claim.sql")),
    ("no-unkeyed-duplicate", include_str!("../../sql/invariants/no-unkeyed-duplicate.sql")),
    ("no-expired-keys", include_str!("../../sql/invariants/no-expired-keys.sql")),
    ("key-of-its-organisation", include_str!("../../sql/invariants/key-of-its-organisation.sql")),
    ("appointments-are-promised", include_str!("../../sql/invariants/appointments-are-promised.sql")),
    ("appointments-in-ledger", include_str!("../../sql/invariants/appointments-in-ledger.sql")),
    ("one-session-per-completion", include_str!("../../sql/invariants/one-session-per-completion.sql")),
    ("organisation-of-appointment", include_str!("../../sql/invariants/organisation-of-appointment.sql")),
    ("one-assignment-per-block", include_str!("../../sql/invariants/one-assignment-per-block.sql")),
    ("nobody-in-two-places", include_str!("../../sql/invariants/nobody-in-two-places.sql")),
    ("within-capacity", include_str!("../../sql/invariants/within-capacity.sql")),
    ("supervised", include_str!("../../sql/invariants/supervised.sql")),
    ("nobody-works-while-absent", include_str!("../../sql/invariants/nobody-works-while-absent.sql")),
    ("schedule-without-orphans", include_str!("../../sql/invariants/schedule-without-orphans.sql")),
    ("calendar-is-whole", include_str!("../../sql/invariants/calendar-is-whole.sql")),
    ("schedule-runs-consistent", include_str!("../../sql/invariants/schedule-runs-consistent.sql")),
    ("planted-are-found", include_str!("../../sql/invariants/planted-are-found.sql")),
    ("swaps-exchanged", include_str!("../../sql/invariants/swaps-exchanged.sql")),
    ("assignment-versions", include_str!("../../sql/invariants/assignment-versions.sql")),
    ("residents-have-a-year", include_str!("../../sql/invariants/residents-have-a-year.sql")),
    ("hours-kept", include_str!("../../sql/invariants/hours-kept.sql")),
    ("rest-kept", include_str!("../../sql/invariants/rest-kept.sql")),
    ("scheduled-once", include_str!("../../sql/invariants/scheduled-once.sql")),
    ("changes-in-place", include_str!("../../sql/invariants/changes-in-place.sql")),
];

/// What `verify` claims when no run has claimed anything: the rules that a bare seed of the dataset can keep or break.
pub fn structural(dataset: &str) -> &'static [&'static str] {
    match dataset {
        "residency" => &[
            "constraints-in-place",
            "no-missing-values",
            "one-assignment-per-block",
            "nobody-in-two-places",
            "within-capacity",
            "supervised",
            "nobody-works-while-absent",
            "schedule-without-orphans",
            "calendar-is-whole",
            "schedule-runs-consistent",
            "planted-are-found",
            "assignment-versions",
            "residents-have-a-year",
            "hours-kept",
            "rest-kept",
        ],
        _ => &[
            "units-within-total",
            "counters-in-range",
            "organisation-of-parent",
            "constraints-in-place",
            "no-missing-values",
            "no-orphans",
        ],
    }
}

/// When a check may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// True in any snapshot, and cheap: it also runs during load.
    Always,
    /// Only once the load has been drained.
    Quiesced,
}

impl When {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            When::Always => "always",
            When::Quiesced => "quiesced",
        }
    }
}

/// What the subject column of a check is an id of, where its history can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A row of `authorisation`: its ledger tells which operations touched it.
    Authorisation,
    /// A row of `person`; the ledger of the schedule has the operations on all of these.
    Person,
    /// A row of `block`, or a template in it: `block/template`.
    Block,
    /// A row of `programme`.
    Programme,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Authorisation, Self::Person, Self::Block, Self::Programme];

    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Authorisation => "authorisation",
            Self::Person => "person",
            Self::Block => "block",
            Self::Programme => "programme",
        }
    }
}

/// One rule, as its file states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invariant {
    /// The stem of its file, in kebab-case: `units-within-total`.
    pub name: String,
    /// Its number in the catalogue, `INV-U1`; a user's own may have none.
    pub id: Option<String>,
    /// The dataset it is about; `None` = whatever is there.
    pub dataset: Option<String>,
    /// When it may be asked.
    pub when: When,
    /// What its subjects are, where that is known.
    pub subject: Option<Subject>,
    /// One sentence: what holds.
    pub title: String,
    /// A query for one integer: how many rows the check looks at. 0 = it shows nothing.
    pub examines: String,
    /// Statements that break the rule, for the self-test.
    pub breaks: String,
    /// The check: one row per breach, columns `subject, expected, actual`.
    pub query: String,
    /// The whole file.
    pub source: String,
    /// The line of the file that `examines` begins in.
    pub examines_line: usize,
    /// The line that the query begins in.
    pub query_line: usize,
    /// Where it came from; `None` = built in.
    pub file: Option<PathBuf>,
}

impl Invariant {
    /// Whether `text` means this one: its name, `INV-U1` or `U1`, in any case.
    pub fn is_called(&self, text: &str) -> bool {
        let same_id = |id: &str| {
            text.eq_ignore_ascii_case(id) || id.get(..4).is_some_and(|p| p == "INV-") && text.eq_ignore_ascii_case(&id[4..])
        };
        text.eq_ignore_ascii_case(&self.name) || self.id.as_deref().is_some_and(same_id)
    }

    /// A line of its file, for a message: `rules/mine.sql:3`.
    pub fn place(&self, line: usize) -> String {
        match &self.file {
            Some(file) => format!("{}:{line}", file.display()),
            None => format!("{}.sql:{line}", self.name),
        }
    }

    /// Whether it applies to `dataset`.
    pub fn is_about(&self, dataset: &str) -> bool {
        self.dataset.as_deref().is_none_or(|d| d == dataset)
    }
}

/// The invariants that come with the program.
///
/// # Errors
/// When a built-in file is malformed; a test keeps that from happening.
pub fn built_in() -> Result<Vec<Invariant>> {
    BUILT_IN.iter().map(|(name, text)| parse::parse(name, text, None)).collect()
}

/// The invariant called `text`.
///
/// # Errors
/// Usage, with the nearest name.
pub fn find<'a>(invariants: &'a [Invariant], text: &str) -> Result<&'a Invariant> {
    invariants.iter().find(|i| i.is_called(text)).ok_or_else(|| {
        let cure = match nearest(text, invariants.iter().map(|i| &*i.name)) {
            Some(name) => format!("did you mean `{name}`? `dbstress verify --list` shows them all"),
            None => "`dbstress verify --list` shows them all".into(),
        };
        Error::usage(format!("there is no invariant `{text}`")).cure(cure)
    })
}

/// One breach, as the check's query returned it; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// What broke the rule.
    pub subject: Option<String>,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there.
    pub actual: Option<String>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", content = "detail", rename_all = "lowercase")]
pub enum Finding {
    /// It looked, and the rule holds.
    Holds {
        /// How many rows it looked at.
        examined: i64,
    },
    /// The rule is broken.
    Violated {
        /// How many rows it looked at.
        examined: i64,
        /// How many breaches there are.
        total: i64,
        /// The first of them, at most [`run::ROWS_KEPT`].
        rows: Vec<Breach>,
    },
    /// There was nothing to look at.
    Vacuous,
    /// It could not be asked; the message says why. Never a pass.
    Errored(String),
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Name of the invariant.
    pub name: String,
    /// Its number in the catalogue.
    pub id: Option<String>,
    /// What it says.
    pub title: String,
    /// What its subjects are, where that is known.
    pub subject: Option<Subject>,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
    /// How long it took.
    #[serde(rename = "elapsed_ms", with = "crate::milliseconds")]
    pub elapsed: Duration,
}

impl Checked {
    /// Name and number, for a sentence.
    pub fn label(&self) -> String {
        match &self.id {
            Some(id) => format!("{} ({id})", self.name),
            None => self.name.clone(),
        }
    }
}

/// The verdict on `checked`, when the invariants named in `claimed` had to be shown, and why; the reason that decides comes first.
///
/// A breach decides, claimed or not. Short of one, everything that leaves the question open makes it inconclusive: a check that errored
/// (claimed or not), a claimed one that examined nothing or was not made, nothing claimed at all.
pub fn judge(checked: &[Checked], claimed: &[String]) -> (Verdict, Vec<String>) {
    let mut violated = Vec::new();
    let mut open = Vec::new();
    let is_claimed = |c: &Checked| claimed.contains(&c.name);
    for check in checked {
        match &check.finding {
            Finding::Violated { total, .. } => {
                violated.push(format!("{} is violated: {total} {}", check.label(), if *total == 1 { "row" } else { "rows" }))
            }
            Finding::Errored(why) => open.push(format!("{} could not be checked: {why}", check.label())),
            Finding::Vacuous if is_claimed(check) => open.push(format!("{} is claimed and examined nothing", check.label())),
            Finding::Vacuous | Finding::Holds { .. } => {}
        }
    }
    for name in claimed.iter().filter(|name| !checked.iter().any(|c| c.name == **name)) {
        open.push(format!("{name} is claimed and was not checked"));
    }
    let examined = |c: &Checked| matches!(c.finding, Finding::Holds { .. } | Finding::Violated { .. });
    if !checked.iter().any(examined) {
        open.push("nothing was examined".into());
    } else if claimed.is_empty() {
        open.push("nothing was claimed".into());
    }
    let verdict = match (violated.is_empty(), open.is_empty()) {
        (false, _) => Verdict::Violated,
        (true, false) => Verdict::Inconclusive,
        (true, true) => {
            return (Verdict::Pass, vec![format!("every claimed invariant was examined and holds ({})", claimed.len())]);
        }
    };
    violated.append(&mut open);
    (verdict, violated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, finding: Finding) -> Checked {
        let title = "it holds".into();
        Checked { name: name.into(), id: Some("INV-X1".into()), title, subject: None, finding, elapsed: Duration::from_millis(3) }
    }

    fn violated() -> Finding {
        let rows = vec![Breach { subject: Some("1".into()), expected: None, actual: Some("2".into()) }];
        Finding::Violated { examined: 10, total: 1, rows }
    }

    #[test]
    fn the_list_is_the_directory_and_every_file_parses() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/invariants");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "sql"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let invariants = built_in().unwrap();
        let mut listed: Vec<String> = invariants.iter().map(|i| i.name.clone()).collect();
        listed.sort();
        assert_eq!(listed, files, "BUILT_IN in src/invariant/mod.rs names each file of sql/invariants once");
        for invariant in &invariants {
            let name = &invariant.name;
            assert!(invariant.id.as_deref().is_some_and(|id| id.starts_with("INV-")), "{name} has an id");
            let is_about_all = ["constraints-in-place", "no-missing-values"].contains(&&**name);
            assert!(invariant.dataset.is_some() != is_about_all, "{name} names its dataset, or is about all");
            assert!(invariant.title.ends_with('.'), "the title of {name} is a sentence");
            // One of them lists the definitions of columns, which may well call it.
            assert!(!invariant.query.contains("now()") || name == "constraints-in-place", "{name} uses the clock of the dataset");
            assert!(!invariant.source.contains("dbstress."), "{name} leaves the schema to the search path");
        }
        for dataset in ["clinic", "residency"] {
            for name in structural(dataset) {
                assert!(find(&invariants, name).unwrap().is_about(dataset), "{name}");
            }
        }
    }

    #[test]
    fn an_invariant_is_found_by_name_or_number() {
        let invariants = built_in().unwrap();
        for text in ["units-within-total", "Units-Within-Total", "INV-U1", "inv-u1", "U1", "u1"] {
            assert_eq!(find(&invariants, text).unwrap().name, "units-within-total", "{text}");
        }
        let error = find(&invariants, "unit-within-totals").unwrap_err();
        assert!(error.to_string().contains("did you mean `units-within-total`"), "{error}");
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        assert!(find(&invariants, "1").is_err());
    }

    #[test]
    fn violated_beats_open_beats_pass() {
        let a = || checked("a", Finding::Holds { examined: 5 });
        let claimed = ["a".to_owned()];
        assert_eq!(judge(&[a()], &claimed).0, Verdict::Pass);
        assert_eq!(judge(&[a(), checked("b", Finding::Vacuous)], &claimed).0, Verdict::Pass, "vacuous and not claimed");
        assert_eq!(judge(&[checked("a", Finding::Vacuous)], &claimed).0, Verdict::Inconclusive);
        let (verdict, reasons) = judge(&[a(), checked("b", Finding::Errored("no such table".into()))], &claimed);
        assert_eq!(verdict, Verdict::Inconclusive, "an error is never a pass, claimed or not");
        assert!(reasons[0].contains("b (INV-X1)") && reasons[0].contains("no such table"), "{reasons:?}");
        let all = [checked("b", Finding::Errored("x".into())), checked("c", violated()), a()];
        let (verdict, reasons) = judge(&all, &claimed);
        assert_eq!(verdict, Verdict::Violated);
        assert!(reasons[0].contains("c (INV-X1) is violated: 1 row"), "the reason that decides comes first: {reasons:?}");
    }

    #[test]
    fn nothing_examined_or_claimed_is_nothing_shown() {
        assert_eq!(judge(&[], &[]).0, Verdict::Inconclusive);
        assert_eq!(judge(&[checked("a", Finding::Vacuous)], &[]).0, Verdict::Inconclusive);
        assert_eq!(judge(&[checked("a", Finding::Holds { examined: 1 })], &[]).0, Verdict::Inconclusive);
        assert_eq!(judge(&[checked("a", Finding::Holds { examined: 1 })], &["b".into()]).0, Verdict::Inconclusive);
    }

    #[test]
    fn what_was_checked_survives_json() {
        for finding in [Finding::Holds { examined: 1 }, violated(), Finding::Vacuous, Finding::Errored("why".into())] {
            let before = checked("a", finding);
            let json = serde_json::to_string(&before).unwrap();
            assert_eq!(serde_json::from_str::<Checked>(&json).unwrap(), before, "{json}");
        }
    }
}
