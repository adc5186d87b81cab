//! `dbstress rate-limit`, `auth`, `tenants`: does an API let in whom it should, as often as it said, and nobody else? Drills with a known right answer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::run::quoted;
use super::{Global, export, interrupt, interruptible, serve, target};
use crate::access::{self, AccessRecord, Drill, Extent, Ground, Kind, Mistake, Pace, SCHEMA_VERSION, Subject};
use crate::http::Address;
use crate::report::access as report;
use crate::report::screen::Screen;
use crate::verdict::{Exit, Verdict};
use crate::{Error, Result};

/// Flags of all three.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Examine the server of `dbstress serve` there, as it is: http://HOST:PORT (else one of our own for each drill)
    #[arg(long, value_name = "URL", value_parser = Address::parse)]
    pub target: Option<Address>,
    /// Only these drills; several with commas
    #[arg(long = "drill", value_name = "NAME,…", value_delimiter = ',')]
    pub drills: Vec<Drill>,
    /// Make a known mistake on purpose, in the drills that it makes fail: they must find it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["self_test", "target"])]
    pub bug: Option<Mistake>,
    /// Make each mistake in each drill that must find it, and require all of them to fail
    #[arg(long, conflicts_with = "target")]
    pub self_test: bool,
    /// List the drills: name, the mistakes that make it fail, the question it answers (needs no database)
    #[arg(long, conflicts_with_all = ["drills", "bug", "self_test", "target"])]
    pub list: bool,
    /// How many requests the tiers' limits let through, from the lowest tier; of a target, the most that are tried
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "100,1000,10000", value_parser = clap::value_parser!(u64).range(2..))]
    pub requests: Vec<u64>,
    /// How long a load goes on: of right tokens, of logins, of a flood; each phase beside a noisy neighbour
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = crate::pace::parse_duration)]
    pub duration: Duration,
    /// Connections of a load
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Pairs of a wrong password and an unknown account that are compared in a round
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(8..))]
    pub pairs: u16,
    /// Wait so long for the end of a target's window
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = crate::pace::parse_duration)]
    pub patience: Duration,
    /// By how many times the others' p95 may grow beside one who floods
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = factor)]
    pub tolerance: f64,
    /// Widen every limit of time by this factor
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub slack: f64,
    /// Show times, and do not judge them
    #[arg(long, conflicts_with = "slack")]
    pub untimed: bool,
    /// Print the whole record as JSON instead of tables
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// The whole record as JSON, into this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub summary_export: Option<PathBuf>,
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor: &f64| factor.is_finite() && *factor >= 1.0)
        .ok_or_else(|| "a factor is a number, 1 at least".into())
}

/// Runs one of them.
///
/// # Errors
/// Usage: a drill of another command, a mistake that the named drills cannot make, a database without a clinic, a target that cannot be examined.
pub fn run(subject: Subject, args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    if args.list {
        screen.out(&report::list_text(subject, screen.width, screen.colour));
        return Ok(Exit::Pass);
    }
    global.refuse_via("the drills ask an API, which goes")?;
    let trials = trials(subject, args)?;
    export::check(args.summary_export.as_deref())?;
    super::block_on(drills(subject, args, trials, global, screen))
}

/// What is done: each drill, with the mistake that is made in it.
type Trials = Vec<(Drill, Option<Mistake>)>;

fn trials(subject: Subject, args: &Args) -> Result<Trials> {
    if let Some(other) = args.drills.iter().find(|drill| drill.subject() != subject) {
        let command = other.subject().name();
        return Err(Error::usage(format!("`{other}` is no drill of `dbstress {}`", subject.name()))
            .cure(format!("dbstress {command} --drill {other}")));
    }
    let chosen: Vec<Drill> = subject.drills().filter(|drill| args.drills.is_empty() || args.drills.contains(drill)).collect();
    if args.self_test {
        return Ok(with_mistakes(&chosen));
    }
    let Some(mistake) = args.bug else { return Ok(chosen.into_iter().map(|drill| (drill, None)).collect()) };
    let touched: Trials =
        mistake.drills(subject).filter(|drill| chosen.contains(drill)).map(|drill| (drill, Some(mistake))).collect();
    if touched.is_empty() {
        let of = |subject: Subject| mistake.drills(subject).map(Drill::name).collect::<Vec<_>>().join(",");
        let places = Subject::ALL.into_iter().filter(|subject| !of(*subject).is_empty());
        let cures: Vec<String> =
            places.map(|subject| format!("dbstress {} --bug {mistake} --drill {}", subject.name(), of(subject))).collect();
        return Err(Error::usage(format!("none of these drills would find {mistake}")).cure(cures.join("\n")));
    }
    Ok(touched)
}

fn with_mistakes(drills: &[Drill]) -> Trials {
    drills.iter().flat_map(|drill| drill.mistakes().iter().map(|(mistake, _)| (*drill, Some(*mistake)))).collect()
}

fn extent(args: &Args) -> Extent {
    Extent {
        requests: args.requests.clone(),
        duration: args.duration,
        connections: args.connections.into(),
        pairs: args.pairs.into(),
        patience: args.patience,
        tolerance: args.tolerance,
        pace: Pace { is_judged: !args.untimed, slack: args.slack },
    }
}

async fn drills(subject: Subject, args: &Args, trials: Trials, global: &Global, screen: Screen) -> Result<Exit> {
    let began = Instant::now();
    let screen = export::beside(args.summary_export.as_deref(), screen);
    let chosen = interruptible(target::existing(global, screen)).await?;
    // The one that a server here has: whoever starts with another gives the accounts another password.
    let secret = serve::secret(global)?;
    let mut ground = interruptible(Ground::take(&chosen.options, subject.name(), args.target.clone(), secret)).await?;
    let kind = match (args.self_test, args.bug) {
        (true, _) => Kind::SelfTest,
        (false, Some(_)) => Kind::Bug,
        (false, None) => Kind::Drills,
    };
    let mut record = AccessRecord {
        schema_version: SCHEMA_VERSION,
        subject,
        verdict: Verdict::Inconclusive,
        exit_code: 0,
        reasons: Vec::new(),
        kind,
        interrupted: false,
        dbstress: env!("CARGO_PKG_VERSION").into(),
        database: ground.address(),
        target: ground.target().map(|target| target.address.to_string()),
        controls: Vec::new(),
        drills: Vec::new(),
        seconds: 0.0,
        again: again(subject, args, global),
    };
    let ended = interruptible(all(&mut ground, &trials, &extent(args), &mut record, screen)).await;
    let left = ground.leave().await;
    let mut open = Vec::new();
    if let Err(error) = ended {
        record.interrupted = interrupt::is_interruption(&error);
        if !record.interrupted {
            return Err(error);
        }
        open.push(format!("{error}: {} of {} drills were done", record.drills.len(), trials.len()));
    }
    open.extend(left.err().map(|error| error.to_string()));
    record.seconds = began.elapsed().as_secs_f64();
    record.conclude(open);
    let json = || {
        serde_json::to_string_pretty(&record).map_err(|e| Error::inconclusive("the record could not be written as JSON").because(e))
    };
    screen.out(&if args.json { json()? } else { report::text(&record, screen.width, screen.colour) });
    export::keep(&record, args.summary_export.as_deref(), screen);
    Ok(record.exit())
}

/// Before each drill its controls, which must fail; then the drill itself.
async fn all(ground: &mut Ground, trials: &Trials, extent: &Extent, record: &mut AccessRecord, screen: Screen) -> Result<()> {
    for (n, (drill, mistake)) in trials.iter().enumerate() {
        if record.kind == Kind::Drills {
            for (_, mistake) in with_mistakes(&[*drill]) {
                let control = access::perform(ground, *drill, &extent.control(), mistake).await;
                let word = if control.is_caught() { "caught" } else { "NOT caught" };
                let made = mistake.map_or("", Mistake::name);
                screen.note(&format!("control of {drill}: {made} {word} in {:.1} s: {}", control.seconds, control.finding()));
                record.controls.push(control);
            }
        }
        let extent = if record.kind == Kind::Drills { extent.clone() } else { extent.control() };
        let done = access::perform(ground, *drill, &extent, *mistake).await;
        let with = mistake.map_or(String::new(), |mistake| format!(" with {mistake}"));
        screen.note(&format!("{:>2}/{} {drill}{with}: {} ({:.1} s)", n + 1, trials.len(), done.verdict.word(), done.seconds));
        record.drills.push(done);
    }
    Ok(())
}

fn again(subject: Subject, args: &Args, global: &Global) -> String {
    let mut command = format!("dbstress {}", subject.name());
    if let Some(target) = &args.target {
        command += &format!(" --target {}", quoted(&target.to_string()));
    }
    if !args.drills.is_empty() {
        command += &format!(" --drill {}", args.drills.iter().map(|drill| drill.name()).collect::<Vec<_>>().join(","));
    }
    if let Some(mistake) = args.bug {
        command += &format!(" --bug {mistake}");
    }
    if args.self_test {
        command += " --self-test";
    }
    let numbers: Vec<String> = args.requests.iter().map(u64::to_string).collect();
    let duration = |duration: Duration| humantime::format_duration(duration).to_string().replace(' ', "");
    for (flag, value, usual) in [
        ("--requests", numbers.join(","), "100,1000,10000".to_owned()),
        ("--duration", duration(args.duration), "4s".into()),
        ("--connections", args.connections.to_string(), "8".into()),
        ("--pairs", args.pairs.to_string(), "40".into()),
        ("--patience", duration(args.patience), "2m".into()),
        ("--tolerance", args.tolerance.to_string(), "2".into()),
        ("--slack", args.slack.to_string(), "1".into()),
    ] {
        if value != usual {
            command += &format!(" {flag} {value}");
        }
    }
    if args.untimed {
        command += " --untimed";
    }
    command + &global.again()
}
