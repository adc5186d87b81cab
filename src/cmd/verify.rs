//! `dbstress verify`: do the rules hold in this database, and could the checks have found out if they did not?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::invariant::evidence::{self, Operations, Runs};
use crate::invariant::run::{Snapshot, analyze, each_second};
use crate::invariant::self_test::{self, Outcome, Tried};
use crate::invariant::{self, Allowance, CHECK_TIMEOUT, Checked, DEFAULT_SEARCH_PATH, Finding, Invariant, Subject, parse};
use crate::pace::{duration_text, parse_duration};
use crate::pg::ConnectOptions;
use crate::pg::admin::{self, Loaded, Session, SqlError};
use crate::report::progress::{Checks, Style};
use crate::report::screen::Screen;
use crate::report::verify::{self as report, Check, Dataset, SCHEMA_VERSION, Verification};
use crate::run::witness;
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// Subjects of one check whose operations are shown.
const SUBJECTS_SHOWN: usize = 3;

/// Flags of `verify`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// The whole report as JSON
    #[arg(long)]
    pub json: bool,
    /// Break each rule in a transaction that is rolled back, and require its check to fire
    #[arg(long, conflicts_with_all = ["list", "show"])]
    pub self_test: bool,
    /// Also use the *.sql files in this directory
    #[arg(long, value_name = "DIR")]
    pub invariants: Option<PathBuf>,
    /// Only this invariant, by name or number; repeatable
    #[arg(long = "invariant", value_name = "NAME")]
    pub only: Vec<String>,
    /// List the invariants (needs no database)
    #[arg(long, conflicts_with = "show")]
    pub list: bool,
    /// Print the file of an invariant (needs no database)
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
    /// How long the check of a rule may take before it counts as one that could not be made [default: 5m]
    #[arg(long, value_name = "TIME", env = "DBSTRESS_CHECK_TIMEOUT", value_parser = parse_duration)]
    pub check_timeout: Option<Duration>,
    /// The command that does this again, where it is another one.
    #[arg(skip)]
    pub again: Option<String>,
    /// What that command must add to lead to the same database.
    #[arg(skip)]
    pub flags: String,
    /// The state directory, which has the histories of runs in it.
    #[arg(skip)]
    pub state: PathBuf,
}

/// What can be answered without a database: `--list` and `--show`; `None` when one is needed. Also refuses what the user mistyped.
///
/// # Errors
/// Usage: an unknown invariant, a malformed file.
pub fn offline(args: &Args, screen: Screen) -> Result<Option<Exit>> {
    let chosen = chosen(args)?;
    if let Some(name) = &args.show {
        screen.out(&invariant::find(&known(args)?, name)?.source);
        return Ok(Some(Exit::Pass));
    }
    if args.list {
        if args.json {
            let list: Vec<_> = chosen
                .iter()
                .map(|i| json!({ "name": i.name, "id": i.id, "dataset": i.dataset, "when": i.when, "title": i.title }))
                .collect();
            screen.out(&pretty(&json!({ "schema_version": SCHEMA_VERSION, "invariants": list }))?);
        } else {
            screen.out(&report::list_text(&chosen, screen.width, screen.colour));
        }
        return Ok(Some(Exit::Pass));
    }
    Ok(None)
}

/// Runs `verify` on the database of `options`.
///
/// # Errors
/// Usage: an unknown invariant, a malformed file, a database that is not ours or not loaded. Inconclusive: no connection.
pub async fn run(args: &Args, options: &ConnectOptions, screen: Screen) -> Result<Exit> {
    let chosen = chosen(args)?;
    let mut session = Session::connect(options, "verify").await?;
    let (_, loaded) = admin::require_loaded(&mut session, options).await?;
    let (here, elsewhere): (Vec<Invariant>, Vec<Invariant>) = chosen.into_iter().partition(|i| i.is_about(&loaded.dataset));
    let exit = if args.self_test {
        try_out(args, options, &mut session, &loaded, &here, &elsewhere, screen).await
    } else {
        let allowance = Allowance::of_flag(args.check_timeout.unwrap_or(CHECK_TIMEOUT));
        let (under_way, limit) = (allowance.under_way.subscribe(), allowance.limit);
        let mut checks = Checks::new(Style::Auto, screen);
        let verified = tokio::select! {
            verified = verify(args, options, &mut session, loaded, (&here, &elsewhere), allowance) => verified,
            never = each_second(under_way, |rule, elapsed| checks.show(rule, elapsed, limit)) => match never {},
        };
        checks.end();
        verified.and_then(|verification| show(args, &verification, screen))
    };
    session.close().await;
    exit
}

async fn try_out(
    args: &Args,
    options: &ConnectOptions,
    session: &mut Session,
    loaded: &Loaded,
    here: &[Invariant],
    elsewhere: &[Invariant],
    screen: Screen,
) -> Result<Exit> {
    let mut lease = admin::Lease::take(options, "verify --self-test").await?;
    let limit = args.check_timeout.unwrap_or(CHECK_TIMEOUT);
    let mut tried = self_test::try_all(session, here, limit).await;
    for invariant in asked_for(args, elsewhere) {
        let outcome = Outcome::Errored(is_elsewhere(invariant, &loaded.dataset));
        tried.push(Tried { name: invariant.name.clone(), id: invariant.id.clone(), outcome });
    }
    if args.only.is_empty() {
        let mut snapshot = Snapshot::begin(session, &DEFAULT_SEARCH_PATH, Allowance::of_flag(limit)).await?;
        let runs = evidence::runs(&mut snapshot).await;
        snapshot.end().await;
        tried.extend(witness::self_test(session, &args.state, &loaded.load, &runs?.recorded).await);
    }
    lease.release().await;
    let (verdict, reasons) = self_test::judge(&tried);
    if args.json {
        let code = verdict.exit().code();
        screen.out(&pretty(&json!({
            "schema_version": SCHEMA_VERSION, "verdict": verdict, "exit_code": code, "reasons": reasons, "self_test": tried,
        }))?);
    } else {
        screen.out(&report::self_test_text(&tried, verdict, &reasons, screen.width, screen.colour));
    }
    Ok(verdict.exit())
}

async fn verify(
    args: &Args,
    options: &ConnectOptions,
    session: &mut Session,
    loaded: Loaded,
    (here, elsewhere): (&[Invariant], &[Invariant]),
    allowance: Allowance,
) -> Result<Verification> {
    let (lease, busy) = evidence::quiesced(session, options, "verify").await?;
    analyze(session, &DEFAULT_SEARCH_PATH, &allowance).await;
    let mut snapshot = Snapshot::begin(session, &DEFAULT_SEARCH_PATH, allowance).await?;
    // What cannot be read leaves the question open, but must not keep a breach from being found.
    let runs = evidence::runs(&mut snapshot)
        .await
        .unwrap_or_else(|error| Runs { stale: vec![format!("the recorded runs could not be read: {error}")], ..Runs::default() });
    let mut notes = runs.notes.clone();
    let mut not_compared = Vec::new();
    let witness = match (args.only.is_empty(), busy.is_empty()) {
        (true, true) => {
            let compared = snapshot
                .aside(async |session: &mut Session| witness::compare(session, &args.state, &loaded.load, &runs.recorded).await)
                .await;
            compared.map_err(|error| not_compared.push(format!("the histories of the runs could not be compared: {error}"))).ok()
        }
        (true, false) => {
            notes.push("the histories of the runs were not compared, since the database is not at rest".into());
            None
        }
        (false, _) => None,
    };
    let recorded: Vec<String> = runs.claims.iter().chain(witness.iter().flat_map(|w| &w.claims)).cloned().collect();
    let mut claimed = claims(args, &recorded, &loaded.dataset, here, elsewhere);
    let mut checks = Vec::new();
    let mut known = BTreeMap::new();
    let mut made: Vec<Checked> = witness.iter().map(|w| w.checked.clone()).filter(|c| c.finding != Finding::Vacuous).collect();
    for invariant in here {
        made.push(snapshot.check(invariant).await);
    }
    made.extend(asked_for(args, elsewhere).map(|invariant| Checked {
        name: invariant.name.clone(),
        id: invariant.id.clone(),
        title: invariant.title.clone(),
        subject: invariant.subject,
        finding: Finding::Errored(is_elsewhere(invariant, &loaded.dataset)),
        elapsed: Duration::ZERO,
    }));
    let silent = runs.recorded.iter().filter(|run| run.claims.is_empty()).count();
    if silent > 0 && args.only.is_empty() {
        // What it left is examined all the same, and must hold.
        let names = here.iter().map(|i| &i.name);
        let examined = names.filter(|name| made.iter().any(|c| c.name == **name && matches!(c.finding, Finding::Holds { .. })));
        claimed.extend(examined.cloned());
        claimed.sort();
        claimed.dedup();
        notes.push(format!(
            "{} nothing of the rules: every rule that has something to examine counts as claimed",
            if silent == 1 { "1 recorded run claims".to_owned() } else { format!("{silent} recorded runs claim") }
        ));
    }
    for checked in made {
        let (operations, subjects_left_out) = match history(&mut snapshot, &checked, &mut known).await {
            Ok(found) => found,
            Err(error) => {
                notes.push(format!("the operations behind {} could not be read: {error}", checked.label()));
                (Vec::new(), 0)
            }
        };
        checks.push(Check { claimed: claimed.contains(&checked.name), checked, operations, subjects_left_out });
    }
    notes.extend(evidence::unfinished(&mut snapshot).await.unwrap_or_default());
    snapshot.end().await;
    if let Some(mut lease) = lease {
        lease.release().await;
    }
    let checked: Vec<Checked> = checks.iter().map(|c| c.checked.clone()).collect();
    let (mut verdict, mut reasons) = invariant::judge(&checked, &claimed);
    let mut open = runs.stale;
    open.append(&mut not_compared);
    open.extend(witness.iter().flat_map(|w| w.open.clone()));
    open.extend(busy.into_iter().map(|why| format!("the database is not at rest: {why}")));
    if !open.is_empty() {
        // What was reason enough for a pass no longer is one.
        if verdict == Verdict::Pass {
            reasons.clear();
        }
        verdict = Verdict::worst([verdict, Verdict::Inconclusive]);
        reasons.append(&mut open);
    }
    if !args.only.is_empty() {
        notes.push(format!("only {} asked, as --invariant says", plural(here.len(), "invariant was", "invariants were")));
    } else if runs.recorded.is_empty() {
        notes.push("no run is recorded here yet: only what a bare seed can keep or break is claimed".into());
    }
    notes.extend(witness.into_iter().flat_map(|w| w.notes));
    notes.extend(left_out(args, elsewhere));
    Ok(Verification {
        schema_version: SCHEMA_VERSION,
        verdict,
        exit_code: verdict.exit().code(),
        reasons,
        database: options.to_string(),
        dataset: Dataset {
            name: loaded.dataset,
            rng_seed: loaded.rng_seed,
            scale: loaded.scale,
            as_of: loaded.as_of,
            data_hash: loaded.data_hash,
        },
        claimed,
        checks,
        notes,
        again: args.again.clone().unwrap_or_else(|| again(args)),
    })
}

fn show(args: &Args, verification: &Verification, screen: Screen) -> Result<Exit> {
    if args.json {
        let value = serde_json::to_value(verification).map_err(unprintable)?;
        screen.out(&pretty(&value)?);
    } else {
        screen.out(&report::text(verification, screen.width, screen.colour));
    }
    Ok(verification.verdict.exit())
}

/// Those of the rules about another dataset that the user named or brought along: what was asked for and cannot be found out is never left out.
fn asked_for<'a>(args: &Args, elsewhere: &'a [Invariant]) -> impl Iterator<Item = &'a Invariant> {
    let are_named = !args.only.is_empty();
    elsewhere.iter().filter(move |invariant| are_named || invariant.file.is_some())
}

/// Why a rule about another dataset cannot be asked.
fn is_elsewhere(invariant: &Invariant, dataset: &str) -> String {
    let about = invariant.dataset.as_deref().unwrap_or_default();
    format!("it is about the dataset {about}, and the database holds the {dataset}")
}

/// The rules of ours that are about another dataset than the one that is here, in a word.
fn left_out(args: &Args, elsewhere: &[Invariant]) -> Vec<String> {
    if !args.only.is_empty() {
        return Vec::new();
    }
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for invariant in elsewhere.iter().filter(|invariant| invariant.file.is_none()) {
        *others.entry(invariant.dataset.as_deref().unwrap_or_default()).or_default() += 1;
    }
    others.into_iter().map(|(other, n)| format!("{} about the dataset {other} left out", plural(n, "rule", "rules"))).collect()
}

/// The names that must be shown: what the user named; else what the recorded runs claimed, or after a bare seed the structural checks, and
/// whatever the user brought along.
fn claims(args: &Args, recorded: &[String], dataset: &str, here: &[Invariant], elsewhere: &[Invariant]) -> Vec<String> {
    let all = || here.iter().chain(elsewhere);
    if !args.only.is_empty() {
        return all().map(|i| i.name.clone()).collect();
    }
    let recorded: Vec<&str> = match recorded.is_empty() {
        true => invariant::structural(dataset).to_vec(),
        false => recorded.iter().map(|c| &**c).collect(),
    };
    // A claim that nothing here is called by stays as it is, and ends up as claimed and not checked.
    let name = |claim: &str| all().find(|i| i.is_called(claim)).map_or_else(|| claim.to_owned(), |i| i.name.clone());
    let mut claimed: Vec<String> = recorded.into_iter().map(name).collect();
    claimed.extend(all().filter(|i| i.file.is_some()).map(|i| i.name.clone()));
    claimed.sort();
    claimed.dedup();
    claimed
}

/// The operations on the first subjects of a broken rule, and how many more subjects there are among the rows kept.
/// `known` are those that were asked for before: a subject often breaks several rules.
async fn history(
    snapshot: &mut Snapshot<'_>,
    checked: &Checked,
    known: &mut BTreeMap<(Subject, String), Option<Operations>>,
) -> Result<(Vec<Operations>, usize), SqlError> {
    let (Some(about), Finding::Violated { rows, .. }) = (checked.subject, &checked.finding) else {
        return Ok((Vec::new(), 0));
    };
    let mut subjects: Vec<&str> = Vec::new();
    for subject in rows.iter().filter_map(|row| row.subject.as_deref()) {
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    let mut shown = Vec::new();
    for subject in subjects.iter().take(SUBJECTS_SHOWN) {
        let key = (about, (*subject).to_owned());
        if !known.contains_key(&key) {
            let operations = evidence::operations(snapshot, about, subject).await?;
            known.insert(key.clone(), operations);
        }
        shown.extend(known.get(&key).cloned().flatten());
    }
    Ok((shown, subjects.len().saturating_sub(SUBJECTS_SHOWN)))
}

fn known(args: &Args) -> Result<Vec<Invariant>> {
    let mut known = invariant::built_in()?;
    if let Some(directory) = &args.invariants {
        parse::load_directory(directory, &mut known)?;
    }
    Ok(known)
}

fn chosen(args: &Args) -> Result<Vec<Invariant>> {
    let known = known(args)?;
    if args.only.is_empty() {
        return Ok(known);
    }
    let mut names = Vec::new();
    for text in &args.only {
        names.push(invariant::find(&known, text)?.name.clone());
    }
    Ok(known.into_iter().filter(|i| names.contains(&i.name)).collect())
}

fn again(args: &Args) -> String {
    let mut command = "dbstress verify".to_owned();
    if let Some(directory) = &args.invariants {
        command.push_str(&format!(" --invariants '{}'", directory.display().to_string().replace('\'', "'\\''")));
    }
    for name in &args.only {
        command.push_str(&format!(" --invariant {name}"));
    }
    if let Some(limit) = args.check_timeout {
        command.push_str(&format!(" --check-timeout {}", duration_text(limit)));
    }
    command + &args.flags
}

fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn pretty(value: &serde_json::Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(unprintable)
}

fn unprintable(error: serde_json::Error) -> Error {
    Error::inconclusive("the report could not be written as JSON").because(error)
}
