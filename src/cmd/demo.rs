//! `dbstress demo`: the whole idea in a minute, on a private server, in a database of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::target::{self, Target};
use super::{Global, env, interruptible, run, seed, verify};
use crate::Result;
use crate::pace::duration_text;
use crate::pg::admin::{Session, identifier};
use crate::pg::cluster::Running;
use crate::plan::{HAZARD, Plan};
use crate::report::progress::Style;
use crate::report::run as report;
use crate::report::screen::Screen;
use crate::run::control;
use crate::scenario::{Extent, Scenario, Workload};
use crate::strategy::Strategy;
use crate::verdict::Exit;

/// The demo's own database; nothing of the user's is in it.
const DATABASE: &str = "dbstress_demo";

/// Flags of `demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Virtual users
    #[arg(short = 'u', long, value_name = "N", default_value_t = 50)]
    pub vus: u32,
    /// How long each strategy has
    #[arg(short, long, value_name = "TIME", default_value = "6s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
}

/// Runs the tour, and stops the private server if it was started for it.
///
/// # Errors
/// What kept it from reaching a verdict.
pub async fn run(args: Args, global: &Global, screen: Screen) -> Result<Exit> {
    let plan = plan(&args)?;
    // Whatever DATABASE_URL says: a tour has no business there.
    global.refuse_another_database("demo works", screen)?;
    let running = interruptible(target::private(global, screen)).await?;
    let toured = tour(plan, &args, global, &running, screen).await;
    let passed = toured.as_ref().is_ok_and(|exit| *exit == Exit::Pass);
    let started_here = running.started_here;
    if passed {
        // Not worth failing for: the next demo starts over anyway.
        let _ = remove(&running).await;
    } else {
        screen.note(&format!("kept for a closer look: dbstress verify --managed --database {DATABASE}"));
    }
    if started_here && running.stop_if_unused().await? {
        screen.note("stopped the private PostgreSQL");
    }
    toured
}

/// The scenario `contention`, of every strategy that claims to be safe.
fn plan(args: &Args) -> Result<Plan> {
    let mut scenario = Scenario::built_in("contention")?;
    scenario.load.vus = args.vus;
    scenario.load.extent = Extent::Constant { duration: Some(args.duration), iterations: None };
    if let Workload::Booking(booking) = &mut scenario.workload {
        booking.strategies = Strategy::safe(HAZARD).collect();
    }
    match scenario.mistakes().into_iter().next() {
        Some(mistake) => Err(mistake.error),
        None => Ok(Plan::of(&scenario, BTreeMap::new())),
    }
}

async fn tour(plan: Plan, args: &Args, global: &Global, running: &Running, screen: Screen) -> Result<Exit> {
    let state = global.cluster()?.state;
    let options = interruptible(async {
        let options = running.ensure_database(DATABASE).await?.in_environment(&env)?;
        screen.note("seeding three clinics: 20 patients, 10 practitioners, 55 authorisations");
        let seed = seed::Args { reset: true, fixture: Some(state.join("demo-fixture.json")), ..seed::Args::default() };
        seed::load(seed, &options, &state, Screen { quiet: true, ..screen }).await?;
        Ok(options)
    })
    .await?;
    screen.note(&format!(
        "{} VUs will reserve 10 units each from authorisations of 50: five can win a round.\n\
         First {}, which checks and then writes: it must overbook, or this machine proves nothing.",
        args.vus,
        control::twins(&plan)[0].name()
    ));
    let mut command = format!("dbstress demo --duration {}", duration_text(args.duration));
    if args.vus != 50 {
        command += &format!(" --vus {}", args.vus);
    }
    let target = Target { options, via: None, private: None };
    let verify = format!("dbstress verify --managed --database {DATABASE}");
    let commands = run::Commands { name: "demo", again: command, verify };
    let prepared = run::Prepared { plan, api: None, commands, disposable: None, accepts_uncontrolled: false };
    let record = run::execute(prepared, &target, &state, Style::Auto, screen).await?;
    let archived = run::keep(&record, &state, None);
    screen.out(&report::results(&record, screen.width, screen.colour));
    let exit = run::exit(&record);
    let verified = if exit == Exit::Interrupted {
        exit
    } else {
        screen.out("\nverify:");
        let args = verify::Args { again: Some(record.command.clone()), state, ..Default::default() };
        interruptible(verify::run(&args, &target.options, screen)).await?
    };
    screen.out("\nthe run:");
    screen.out(&report::verdict(&record, archived.place.as_deref(), screen.width, screen.colour));
    archived.say(screen);
    Ok(if exit == Exit::Pass { verified } else { exit })
}

async fn remove(running: &Running) -> Result<()> {
    let mut session = Session::connect(&running.options, "demo").await?;
    session.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(DATABASE))).await?;
    session.close().await;
    Ok(())
}
