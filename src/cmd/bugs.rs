//! `dbstress bugs`: would it find the mistakes that people make? A catalogue of them, and a run of each on the private server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand};

use super::target::{self, Target};
use super::{Global, env, interrupt, interruptible, run, seed};
use crate::bug::Bug;
use crate::invariant::{self, Finding};
use crate::pg::admin::{Session, identifier};
use crate::pg::cluster::Running;
use crate::plan::Plan;
use crate::record::RunRecord;
use crate::report::bugs as report;
use crate::report::bugs::Row;
use crate::report::progress::Style;
use crate::report::screen::Screen;
use crate::scenario::{Scenario, typed_for_bug};
use crate::verdict::Exit;
use crate::{Error, Result};

/// A database of its own; nothing of the user's is in it.
const DATABASE: &str = "dbstress_bugs";

/// Arguments of `dbstress bugs`.
#[derive(Debug, Args)]
pub struct Bugs {
    /// What to do with them.
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show those that are known: name, what must catch it, what is done wrong
    #[command(after_help = "Example:\n  dbstress bugs list | grep -i lost")]
    List,
    /// Make each of them for a few seconds on the private server; each must be caught by the check that is meant for it
    ///
    /// And the same without them, of which nothing may be found. Exit code 0 only if everything is as it must be.
    #[command(after_help = "Example:\n  dbstress bugs run check-then-act lock-and-read")]
    Run {
        /// Only these
        #[arg(value_name = "NAME")]
        names: Vec<Bug>,
    },
}

/// Runs the command.
///
/// # Errors
/// Usage: a bug that is not run by itself; what kept one from being run.
pub fn run(bugs: &Bugs, global: &Global, screen: Screen) -> Result<Exit> {
    match &bugs.action {
        Action::List => {
            screen.out(&report::list_text(&Bug::ALL));
            Ok(Exit::Pass)
        }
        Action::Run { names } => {
            let named: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| names.contains(bug)).collect();
            let chosen = if named.is_empty() { Bug::ALL.to_vec() } else { named };
            super::block_on(matrix(&chosen, global, screen))
        }
    }
}

/// What is run for one row of the matrix.
struct Trial {
    bug: Option<Bug>,
    scenario: Scenario,
}

async fn matrix(bugs: &[Bug], global: &Global, screen: Screen) -> Result<Exit> {
    let mut trials = Vec::new();
    for scenario in Scenario::without_bugs(bugs)? {
        trials.push(Trial { bug: None, scenario });
    }
    for bug in bugs {
        trials.push(Trial { bug: Some(*bug), scenario: Scenario::of_bug(*bug)? });
    }
    global.refuse_another_database("the catalogue is run", screen)?;
    let running = Arc::new(interruptible(target::private(global, screen)).await?);
    let tried = try_all(trials, global, &running, screen).await;
    // Not worth failing for: the next time starts over anyway.
    let _ = remove(&running).await;
    if let Some(running) = Arc::into_inner(running).filter(|running| running.started_here)
        && running.stop_if_unused().await?
    {
        screen.note("stopped the private PostgreSQL");
    }
    let rows = tried?;
    screen.out(&report::text(&rows, &invariant::built_in()?, screen.width, screen.colour));
    Ok(if rows.iter().all(Row::is_right) { Exit::Pass } else { Exit::Violated })
}

async fn try_all(trials: Vec<Trial>, global: &Global, running: &Arc<Running>, screen: Screen) -> Result<Vec<Row>> {
    let all = trials.len();
    let mut rows = Vec::new();
    for (n, trial) in trials.into_iter().enumerate() {
        let name = trial.bug.map_or_else(|| format!("(none) {}", trial.scenario.name), |bug| bug.name().to_owned());
        let began = Instant::now();
        let (fired, open) = match attempt(&trial, global, running, screen).await {
            Ok(record) if record.interrupted => return Err(Error::interrupted("interrupted")),
            Ok(record) => (record.turns.iter().flat_map(|turn| turn.fired()).collect(), open(&record)),
            Err(error) if interrupt::is_interruption(&error) => return Err(error),
            Err(error) => (BTreeSet::new(), Some(error.to_string())),
        };
        let again = match trial.bug {
            Some(bug) => vec![format!("dbstress bugs run {bug}{}", global.again()), format!("{} --managed", typed_for_bug(bug))],
            None => vec![format!("dbstress bugs run{}", global.again())],
        };
        let row = Row { bug: trial.bug, name, fired, open, again };
        screen.note(&format!("{:>2}/{all} {}: {} ({:.1} s)", n + 1, row.name, row.words(), began.elapsed().as_secs_f64()));
        rows.push(row);
    }
    Ok(rows)
}

/// Seeds anew, since the one before has left its breaches, and runs.
async fn attempt(trial: &Trial, global: &Global, running: &Arc<Running>, screen: Screen) -> Result<RunRecord> {
    let quiet = Screen { quiet: true, ..screen };
    let state = global.cluster()?.state;
    let options = interruptible(async {
        let options = running.ensure_database(DATABASE).await?.in_environment(&env)?;
        let seed = seed::Args { reset: true, fixture: Some(state.join("bugs-fixture.json")), ..seed::Args::default() };
        seed::load(seed, &options, &state, quiet).await?;
        Ok(options)
    })
    .await?;
    let again = format!("dbstress bugs run {}", trial.bug.map_or("", Bug::name));
    let verify = format!("dbstress verify --managed --database {DATABASE}");
    let commands = run::Commands { name: "bugs", again, verify };
    let plan = Plan::of(&trial.scenario, BTreeMap::new());
    let prepared = run::Prepared { plan, api: None, commands, disposable: None, accepts_uncontrolled: false };
    let target = Target { options, via: None, private: Some(running.clone()) };
    let record = run::execute(prepared, &target, &state, Style::Auto, quiet).await?;
    run::keep(&record, &state, None).say(screen);
    Ok(record)
}

/// Why nothing can be said of a run: something that should have been looked at was not.
fn open(record: &RunRecord) -> Option<String> {
    if record.turns.is_empty() || !record.not_run.is_empty() && record.turns.iter().all(|turn| turn.fired().is_empty()) {
        return Some(record.reasons.join("; "));
    }
    record.turns.iter().find_map(|turn| {
        let errored = turn.invariants.iter().find_map(|checked| match &checked.finding {
            Finding::Errored(why) => Some(format!("{} could not be checked: {why}", checked.name)),
            Finding::Holds { .. } | Finding::Violated { .. } | Finding::Vacuous => None,
        });
        let unchecked = turn.invariants.is_empty().then(|| turn.reasons.join("; "));
        errored.or(unchecked).or_else(|| turn.audit.incomplete.first().cloned())
    })
}

async fn remove(running: &Running) -> Result<()> {
    let mut session = Session::connect(&running.options, "bugs").await?;
    session.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(DATABASE))).await?;
    session.close().await;
    Ok(())
}
