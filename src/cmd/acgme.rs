//! `dbstress acgme`: are the checks of duty hours right while the schedule changes, and what do they cost?

use std::time::Duration;

use super::{Global, interrupt, interruptible, target};
use crate::accuracy::{self, Mode, Request};
use crate::acgme::rules::RuleSet;
use crate::pace::{duration_text, parse_duration};
use crate::report::accuracy as report;
use crate::report::screen::Screen;
use crate::verdict::Exit;
use crate::{Error, Result};

/// Every set of rules.
const ALL: &str = "all";

/// Flags of `acgme`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Rules to apply: cpr, rs-dec25, rs-head, or all [default: cpr; all with --self-test]
    #[arg(long, value_name = "NAME")]
    pub rules: Option<String>,
    /// Validators at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub validators: u32,
    /// Writers at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub writers: u32,
    /// How long writers change what is not validated, and then again what is; up to 30s longer until enough was seen
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = some_time)]
    pub duration: Duration,
    /// What 95 % of the validations must be done within: 2s
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub p95: Option<Duration>,
    /// Only validate, so many times one after the other, without writers: what is found, and what it costs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub measure: Option<u32>,
    /// Make the mistakes that validators make, and require a planted case to find each of them out
    #[arg(long, conflicts_with = "measure")]
    pub self_test: bool,
    /// List the mistakes of --self-test (needs no database)
    #[arg(long, conflicts_with_all = ["measure", "self_test"])]
    pub list: bool,
    /// List what is found before anything changes
    #[arg(long, help_heading = "Output")]
    pub findings: bool,
    /// The whole record as JSON
    #[arg(long, help_heading = "Output", conflicts_with = "list")]
    pub json: bool,
}

/// A duration in which something can happen.
fn some_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("in no time nothing can be done: 10s, 500ms".into()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

impl Args {
    fn mode(&self) -> Mode {
        match (self.self_test, self.measure) {
            (true, _) => Mode::SelfTest,
            (false, Some(_)) => Mode::Measure,
            (false, None) => Mode::Check,
        }
    }

    /// The sets of rules that are meant.
    ///
    /// # Errors
    /// Usage: a set that there is not.
    fn sets(&self) -> Result<Vec<RuleSet>> {
        match self.rules.as_deref() {
            Some(ALL) => RuleSet::NAMES.into_iter().map(RuleSet::named).collect(),
            None if self.self_test => RuleSet::NAMES.into_iter().map(RuleSet::named).collect(),
            named => Ok(vec![RuleSet::named(named.unwrap_or(RuleSet::NAMES[0]))?]),
        }
    }

    /// The command that does the same again; what is as usual is left out.
    fn again(&self, global: &Global) -> String {
        let mut command = "dbstress acgme".to_owned();
        if let Some(rules) = &self.rules {
            command += &format!(" --rules {rules}");
        }
        match self.mode() {
            Mode::Check => {
                let duration = duration_text(self.duration);
                command += &format!(" --validators {} --writers {} --duration {duration}", self.validators, self.writers);
            }
            Mode::Measure => command += &format!(" --measure {}", self.measure.unwrap_or(1)),
            Mode::SelfTest => command += " --self-test",
        }
        if let Some(budget) = self.p95 {
            command += &format!(" --p95 {}", duration_text(budget));
        }
        if self.findings {
            command += " --findings";
        }
        command + &global.again()
    }
}

/// Runs the command.
///
/// # Errors
/// Usage: rules that there are not, a database without the residency dataset. Inconclusive, if the server was lost.
pub async fn run(args: &Args, global: &Global, screen: Screen) -> Result<Exit> {
    if args.list {
        screen.out(&report::list_text(screen.width, screen.colour));
        return Ok(Exit::Pass);
    }
    global.refuse_via("validators go")?;
    let sets = args.sets()?;
    let target = interruptible(target::existing(global, screen)).await?;
    let record = interrupt::graceful(screen, |stop| {
        let request = Request {
            options: target.options.clone(),
            sets,
            mode: args.mode(),
            times: args.measure.unwrap_or(1),
            validators: args.validators,
            writers: args.writers,
            duration: args.duration,
            budget: args.p95,
            list: args.findings,
            again: args.again(global),
            interrupt: stop,
        };
        accuracy::run(request, |what| screen.note(what))
    })
    .await?;
    if args.json {
        let json = serde_json::to_string_pretty(&record)
            .map_err(|error| Error::inconclusive("the record cannot be written as JSON").because(error))?;
        screen.out(&json);
    } else {
        screen.out(&report::text(&record, screen.width, screen.colour));
    }
    Ok(record.exit())
}
