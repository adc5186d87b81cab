//! Which settings of a scenario may the command line and the environment change, and what wins?
//!
//! A flag wins over its variable, a variable over the file, the file over the default. How long the load is and which shape it has is
//! one setting: who says anything of it says all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use crate::bug::Bug;
use crate::fault::Planned;
use crate::history::OperationKind;
use crate::http::Address;
use crate::pace::{Arrival, Profile, Stage, Think, parse_duration};
use crate::pg::load::Protocol;
use crate::pg::pool::Recycle;
use crate::pg::retry::Backoff;
use crate::probe;
use crate::scenario::{Control, Evidence, Extent, Load, Mistake, Origin, Scenario, Source, Workload, strategies, together};
use crate::strategy::{Hazard, Strategy};
use crate::threshold::Threshold;
use crate::{Error, Result};

use super::run::quoted;

/// Flags that change a scenario, each also a variable of the environment.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Virtual users; with a rate, the most that work at once
    #[arg(short = 'u', long, value_name = "N", env = "DBSTRESS_VUS", help_heading = LOAD)]
    pub vus: Option<u32>,
    /// How long the load lasts, as 30s or 1m30s
    #[arg(short, long, value_name = "TIME", env = "DBSTRESS_DURATION", value_parser = parse_duration, help_heading = LOAD)]
    pub duration: Option<Duration>,
    /// Iterations in all, shared by the VUs
    #[arg(short, long, value_name = "N", env = "DBSTRESS_ITERATIONS", help_heading = LOAD)]
    pub iterations: Option<u64>,
    /// Rounds, in a scenario whose VUs meet in rounds
    #[arg(long, value_name = "N", env = "DBSTRESS_ROUNDS", help_heading = LOAD)]
    pub rounds: Option<u64>,
    /// Ramps, as 30s:50: within 30 s to 50 VUs, or arrivals per second if there is a rate; several in order
    #[arg(
        short,
        long = "stage",
        value_name = "TIME:N,…",
        env = "DBSTRESS_STAGES",
        value_delimiter = ',',
        value_parser = parse::<Stage>,
        help_heading = LOAD
    )]
    pub stages: Vec<Stage>,
    /// Arrivals per second, answered or not: an open loop
    #[arg(long, value_name = "N", env = "DBSTRESS_RATE", help_heading = LOAD)]
    pub rate: Option<f64>,
    /// How arrivals are spaced
    #[arg(long, value_enum, env = "DBSTRESS_ARRIVAL", help_heading = LOAD)]
    pub arrival: Option<Arrival>,
    /// Arrivals that may wait for a free VU; more are dropped, and counted
    #[arg(long, value_name = "N", env = "DBSTRESS_BACKLOG", help_heading = LOAD)]
    pub backlog: Option<u32>,
    /// The pause between two iterations, as 1s or 1s..3s
    #[arg(long, value_name = "TIME", env = "DBSTRESS_THINK", value_parser = parse::<Think>, help_heading = LOAD)]
    pub think: Option<Think>,
    /// How long the load runs before the figures count
    #[arg(long, value_name = "TIME", env = "DBSTRESS_WARM_UP", value_parser = parse_duration, help_heading = LOAD)]
    pub warm_up: Option<Duration>,
    /// How long iterations under way may go on after the end
    #[arg(long, value_name = "TIME", env = "DBSTRESS_GRACEFUL_STOP", value_parser = parse_duration, help_heading = LOAD)]
    pub graceful_stop: Option<Duration>,
    /// Threads that make the load [default: half of the processors]
    #[arg(long, value_name = "N", env = "DBSTRESS_THREADS", help_heading = LOAD)]
    pub threads: Option<u16>,
    /// Connections of one pool that all VUs share; without it, each VU has its own
    #[arg(long, value_name = "N", env = "DBSTRESS_POOL_SIZE", help_heading = LOAD)]
    pub pool_size: Option<u32>,
    /// How long the pool lets a VU wait for a connection before its iteration is aborted [default: as long as the iteration may go on]
    #[arg(long, value_name = "TIME", env = "DBSTRESS_POOL_TIMEOUT", value_parser = parse_duration, help_heading = LOAD)]
    pub pool_timeout: Option<Duration>,
    /// What the pool does before it lends a connection again [default: fast]
    #[arg(long, value_enum, env = "DBSTRESS_POOL_RECYCLE", help_heading = LOAD)]
    pub pool_recycle: Option<Recycle>,
    /// How statements are sent, as pgbench -M has it
    #[arg(long, value_enum, value_name = "HOW", env = "DBSTRESS_PROTOCOL", help_heading = LOAD)]
    pub protocol: Option<Protocol>,
    /// What random choices are made from
    #[arg(long, value_name = "N", env = "DBSTRESS_RNG_SEED", help_heading = LOAD)]
    pub rng_seed: Option<u64>,
    /// A usual shape of load; its peak is --vus, or --rate in an open loop
    #[arg(long, value_enum, env = "DBSTRESS_PROFILE", help_heading = LOAD)]
    pub profile: Option<Profile>,
    /// What all times of the profile are multiplied by
    #[arg(long, value_name = "FACTOR", env = "DBSTRESS_TIME_SCALE", value_parser = time_scale, help_heading = LOAD)]
    pub time_scale: Option<f64>,
    /// No attempt begins later than this after its iteration did
    #[arg(long, value_name = "TIME", env = "DBSTRESS_RETRY_DEADLINE", value_parser = parse_duration, help_heading = RETRY)]
    pub retry_deadline: Option<Duration>,
    /// At most so many attempts; 1 means no retry
    #[arg(long, value_name = "N", env = "DBSTRESS_RETRY_ATTEMPTS", help_heading = RETRY)]
    pub retry_attempts: Option<u16>,
    /// The pause before the next attempt
    #[arg(long, value_enum, value_name = "HOW", env = "DBSTRESS_RETRY_BACKOFF", help_heading = RETRY)]
    pub retry_backoff: Option<Backoff>,
    /// Strategies, separated by commas; `all` = those that claim to be safe
    #[arg(long, value_name = "NAME,…", env = "DBSTRESS_STRATEGY", value_delimiter = ',', help_heading = BOOKING)]
    pub strategy: Vec<String>,
    /// Units that every operation asks for
    #[arg(long, value_name = "N", env = "DBSTRESS_UNITS", help_heading = BOOKING)]
    pub units: Option<i32>,
    /// Units that each authorisation has
    #[arg(long, value_name = "N", env = "DBSTRESS_TOTAL", help_heading = BOOKING)]
    pub total: Option<i32>,
    /// The application's pause between reading and writing
    #[arg(long, value_name = "TIME", env = "DBSTRESS_HOLD", value_parser = parse_duration, help_heading = BOOKING)]
    pub hold: Option<Duration>,
    /// A known mistake that the operations make on purpose: `dbstress bugs list` shows them
    #[arg(long, value_name = "NAME", env = "DBSTRESS_BUG", value_parser = parse::<Bug>, help_heading = BOOKING)]
    pub bug: Option<Bug>,
    /// What goes wrong, as crash@15s or terminate@5s..25s/500ms; repeatable; `dbstress faults list` shows them
    #[arg(
        long = "fault",
        value_name = "NAME@TIME,…",
        env = "DBSTRESS_FAULTS",
        value_delimiter = ',',
        value_parser = parse::<Planned>,
        help_heading = FAULTS
    )]
    pub faults: Vec<Planned>,
    /// The API that is asked, as http://127.0.0.1:8080; bookings and schedules ask the reference server, which `dbstress serve` starts
    #[arg(long, value_name = "URL", env = "DBSTRESS_TARGET", value_parser = Address::parse, help_heading = API)]
    pub target: Option<Address>,
    /// Send nothing but GET and HEAD, whatever the scenario says: a scenario that does more is refused
    #[arg(long, env = "DBSTRESS_READ_ONLY", value_parser = FalseyValueParser::new(), help_heading = API)]
    pub read_only: bool,
    /// A threshold besides the scenario's, as 'aborted.rate<0.01'; several with ; between
    #[arg(
        long = "threshold",
        value_name = "TEXT",
        env = "DBSTRESS_THRESHOLDS",
        value_delimiter = ';',
        value_parser = parse::<Threshold>,
        help_heading = RESULT
    )]
    pub thresholds: Vec<Threshold>,
    /// Without the scenario's thresholds
    #[arg(long, env = "DBSTRESS_NO_THRESHOLDS", value_parser = FalseyValueParser::new(), help_heading = RESULT)]
    pub no_thresholds: bool,
    /// How often the server is asked what it does, from 50ms to 1s; 0 for not at all
    #[arg(long, value_name = "TIME", env = "DBSTRESS_PROBE_INTERVAL", value_parser = parse_duration, help_heading = RESULT)]
    pub probe_interval: Option<Duration>,
    /// Directory with further questions to the server, one .sql file each
    #[arg(long, value_name = "DIR", env = "DBSTRESS_PROBES", help_heading = RESULT)]
    pub probes: Option<PathBuf>,
    /// How long the check of a rule may take before and after the load [default: 5m]
    #[arg(long, value_name = "TIME", env = "DBSTRESS_CHECK_TIMEOUT", value_parser = parse_duration, help_heading = RESULT)]
    pub check_timeout: Option<Duration>,
    /// A word for the record, as commit=1a2b3c; several with commas between
    #[arg(
        long = "tag",
        value_name = "KEY=VALUE,…",
        env = "DBSTRESS_TAGS",
        value_delimiter = ',',
        value_parser = parse::<Tag>,
        help_heading = RESULT
    )]
    pub tags: Vec<Tag>,
    /// Also write the record, as JSON
    #[arg(long, value_name = "FILE", env = "DBSTRESS_SUMMARY_EXPORT", help_heading = RESULT)]
    pub summary_export: Option<PathBuf>,
}

/// The settings that say how long a load is and which shape it has.
const SHAPES: [&str; 5] = ["profile", "stages", "rounds", "duration", "iterations"];

const LOAD: &str = "Load";
const RETRY: &str = "Retry";
const BOOKING: &str = "Booking";
const FAULTS: &str = "Faults";
const API: &str = "API";
const RESULT: &str = "Result";

/// A word for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it is about.
    pub key: String,
    /// What it says.
    pub value: String,
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self { key: key.trim().into(), value: value.trim().into() }),
            _ => Err(Error::usage(format!("`{text}` is no tag")).cure("write KEY=VALUE, such as commit=1a2b3c")),
        }
    }
}

fn parse<T: FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.trim().parse()
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if scale.is_finite() && scale > 0.0 { Ok(scale) } else { Err("it must be more than 0".into()) }
}

impl Settings {
    /// Changes what flags and variables say, and tells of every setting who said so. `matches` are those of the subcommand.
    ///
    /// # Errors
    /// Usage, with the flag or the variable: what does not apply to the scenario, what contradicts, what cannot be run.
    pub fn lay_over(&self, scenario: &mut Scenario, matches: &ArgMatches) -> Result<Vec<Origin>> {
        let mut over = Over { settings: self, matches, changed: BTreeMap::new(), mistakes: Vec::new() };
        let in_rounds = scenario.is_in_rounds();
        over.shape(&mut scenario.load, in_rounds);
        over.load(&mut scenario.load);
        over.workload(scenario);
        over.put("faults", "faults", Some(&self.faults), &mut scenario.faults);
        if self.profile == Some(Profile::Smoke) && over.source("profile").is_some() {
            // A few virtual users show whether it works, not how fast it is.
            scenario.without_speed_thresholds();
            over.changed("thresholds", "profile");
        }
        over.thresholds(&mut scenario.thresholds);
        over.evidence(&mut scenario.evidence);
        let Over { changed, mut mistakes, .. } = over;
        if mistakes.is_empty() {
            let place = |at: &str| match changed.iter().find(|(key, _)| at.starts_with(&**key)) {
                Some((_, (id, source))) => spelled(id, *source),
                None => format!("{}: {at}", scenario.name),
            };
            mistakes = scenario.mistakes().into_iter().map(|Mistake { at, error }| (place(&at), error)).collect();
        }
        if !mistakes.is_empty() {
            return Err(together(mistakes));
        }
        scenario.validate_parameters()?;
        Ok(scenario.origins(&changed.into_iter().map(|(key, (_, source))| (key, source)).collect()))
    }
}

impl Settings {
    /// What was said of the settings, as one types it again: flags, and what variables said as flags too.
    pub fn again(&self, matches: &ArgMatches) -> String {
        let command = Self::augment_args(Command::new("settings"));
        // A shape that a flag gives has replaced the one of the environment.
        let has_shape = SHAPES.iter().any(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
        let mut again = String::new();
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            let (Some(long), Some(source)) = (argument.get_long(), source(matches, id)) else { continue };
            // Where the record goes is no part of what is run: what is there must not be written over.
            if id == "summary_export" || has_shape && source == Source::Environment && SHAPES.contains(&id) {
                continue;
            }
            if !argument.get_action().takes_values() {
                if matches.get_flag(id) {
                    again.push_str(&format!(" --{long}"));
                }
                continue;
            }
            let values: Vec<String> =
                matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect();
            let delimiter = argument.get_value_delimiter().unwrap_or(',').to_string();
            again.push_str(&format!(" --{long} {}", quoted(&values.join(&delimiter))));
        }
        again
    }
}

/// Refuses whatever is said of the settings `ids`, because `why`.
///
/// # Errors
/// Usage, with the flag or the variable.
pub fn refuse(ids: &[&str], matches: &ArgMatches, why: &str, cure: &str) -> Result<()> {
    let mistakes: Vec<(String, Error)> =
        ids.iter().filter_map(|id| Some((spelled(id, source(matches, id)?), Error::usage(why).cure(cure)))).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(together(mistakes)) }
}

/// Refuses what the server at `target` decides, whoever says it.
///
/// # Errors
/// Usage, with the flags or the variables.
pub fn refuse_what_a_server_decides(target: &Address, matches: &ArgMatches) -> Result<()> {
    refuse(
        &["strategy", "hold", "bug", "pool_size", "pool_timeout", "pool_recycle", "protocol"],
        matches,
        &format!("the server at {target} decides that"),
        "give it to dbstress serve; or leave out --target, and unset DBSTRESS_TARGET",
    )
}

/// Where anything is said of the setting.
fn source(matches: &ArgMatches, id: &str) -> Option<Source> {
    match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Source::Flag),
        ValueSource::EnvVariable => Some(Source::Environment),
        _ => None,
    }
}

/// How the setting is spelled on the command line, or in the environment.
fn spelled(id: &str, source: Source) -> String {
    let command = Settings::augment_args(Command::new("settings"));
    let argument = command.get_arguments().find(|a| a.get_id() == id);
    let name = argument.and_then(|a| match source {
        Source::Environment => a.get_env().map(|name| name.to_string_lossy().into_owned()),
        Source::Flag | Source::File | Source::Default => a.get_long().map(|name| format!("--{name}")),
    });
    name.unwrap_or_else(|| id.to_owned())
}

/// What is laid over a scenario, and what came of it.
struct Over<'s> {
    settings: &'s Settings,
    matches: &'s ArgMatches,
    /// By key: the setting that changed it, and where that was said.
    changed: BTreeMap<String, (&'static str, Source)>,
    /// By place.
    mistakes: Vec<(String, Error)>,
}

impl Over<'_> {
    fn source(&self, id: &str) -> Option<Source> {
        source(self.matches, id)
    }

    fn changed(&mut self, key: impl Into<String>, id: &'static str) {
        if let Some(source) = self.source(id) {
            self.changed.insert(key.into(), (id, source));
        }
    }

    fn wrong(&mut self, id: &str, message: &str, cure: &str) {
        if let Some(source) = self.source(id) {
            self.mistakes.push((spelled(id, source), Error::usage(message).cure(cure)));
        }
    }

    fn put<T: Clone>(&mut self, id: &'static str, key: &str, from: Option<&T>, into: &mut T) {
        if let Some(value) = from.filter(|_| self.source(id).is_some()) {
            *into = value.clone();
            self.changed(key, id);
        }
    }

    /// How long, how many, at which rate. What the scenario says of its length is replaced as a whole, and so is what variables say when a
    /// flag says anything.
    fn shape(&mut self, load: &mut Load, in_rounds: bool) {
        let settings = self.settings;
        let (was_open, peak) = (load.rate.is_some(), load.peak());
        let ramped_vus = matches!(load.extent, Extent::Stages(_)) && !was_open;
        let strongest =
            [Source::Flag, Source::Environment].into_iter().find(|s| SHAPES.iter().any(|id| self.source(id) == Some(*s)));
        let said: Vec<&'static str> = SHAPES.into_iter().filter(|id| strongest.is_some() && self.source(id) == strongest).collect();
        if let [first, .., last] = &*said
            && said != ["duration", "iterations"]
        {
            let message = format!("{} says already how long it is", spelled(first, strongest.unwrap_or(Source::Flag)));
            self.wrong(last, &message, "one of the two");
        }
        if settings.profile.is_none() {
            self.wrong("time_scale", "there is no profile whose times could be multiplied", "--profile NAME");
        }
        self.put("rate", "load.rate", Some(&settings.rate), &mut load.rate);
        let is_open = load.rate.is_some();
        let extent = match said.first() {
            // Everybody meets in every round: of a profile, rounds have the length alone.
            Some(&"profile") if in_rounds => settings.profile.map(|profile| {
                let stages = profile.stages(None, settings.time_scale.unwrap_or(1.0));
                Extent::Constant { duration: Some(stages.iter().map(|stage| stage.duration).sum()), iterations: None }
            }),
            Some(&"profile") => settings.profile.map(|profile| {
                // Of an open loop the profile is one of arrivals.
                let peak = if is_open { settings.rate.map(|rate| rate.ceil() as u32) } else { settings.vus };
                load.rate = load.rate.map(|_| 0.0);
                Extent::Stages(profile.stages(peak, settings.time_scale.unwrap_or(1.0)))
            }),
            Some(&"stages") => Some(Extent::Stages(settings.stages.clone())),
            Some(&"rounds") => settings.rounds.map(Extent::Rounds),
            Some(_) => Some(Extent::Constant {
                duration: settings.duration.filter(|_| said.contains(&"duration")),
                iterations: settings.iterations.filter(|_| said.contains(&"iterations")),
            }),
            // The stages of the scenario are of virtual users: they are no rates.
            None if is_open && ramped_vus => {
                load.ramp().map(|ramp| Extent::Constant { duration: Some(ramp.duration()), iterations: None })
            }
            None => None,
        };
        let decided = said.first().copied().unwrap_or("rate");
        let is_new = extent.is_some();
        if let Some(extent) = extent {
            load.extent = extent;
            for key in ["load.duration", "load.iterations", "load.rounds", "load.stages"] {
                self.changed(key, decided);
            }
        }
        let ramps_vus = matches!(load.extent, Extent::Stages(_)) && !is_open;
        if ramps_vus && !is_new {
            self.wrong(
                "vus",
                "the scenario's stages say how many virtual users there are",
                "--stage TIME:N,… instead; or --duration TIME besides",
            );
        } else if ramps_vus {
            // Ramps begin with nobody, unless somebody says otherwise.
            load.vus = 0;
            self.changed("load.vus", decided);
        } else if ramped_vus {
            load.vus = peak;
            self.changed("load.vus", decided);
        }
        if !(ramps_vus && decided == "profile") {
            self.put("vus", "load.vus", settings.vus.as_ref(), &mut load.vus);
        }
    }

    fn load(&mut self, load: &mut Load) {
        let settings = self.settings;
        if load.rate.is_none() {
            for id in ["arrival", "backlog"] {
                self.wrong(id, "nothing arrives without a rate", "--rate N");
            }
        }
        self.put("arrival", "load.arrival", settings.arrival.as_ref(), &mut load.arrival);
        self.put("backlog", "load.backlog", settings.backlog.as_ref(), &mut load.backlog);
        self.put("think", "load.think", settings.think.as_ref(), &mut load.think);
        self.put("warm_up", "load.warm_up", settings.warm_up.as_ref(), &mut load.warm_up);
        self.put("graceful_stop", "load.graceful_stop", settings.graceful_stop.as_ref(), &mut load.graceful_stop);
        self.put("threads", "load.threads", Some(&settings.threads), &mut load.threads);
        self.put("pool_size", "load.pool_size", Some(&settings.pool_size), &mut load.pool_size);
        self.put("pool_timeout", "load.pool_timeout", Some(&settings.pool_timeout), &mut load.pool_timeout);
        self.put("pool_recycle", "load.pool_recycle", settings.pool_recycle.as_ref(), &mut load.pool_recycle);
        self.put("protocol", "load.protocol", settings.protocol.as_ref(), &mut load.protocol);
        self.put("rng_seed", "load.rng_seed", settings.rng_seed.as_ref(), &mut load.rng_seed);
        self.put("retry_deadline", "load.retry.deadline", settings.retry_deadline.as_ref(), &mut load.retry.deadline);
        self.put("retry_attempts", "load.retry.attempts", Some(&settings.retry_attempts), &mut load.retry.attempts);
        self.put("retry_backoff", "load.retry.backoff", settings.retry_backoff.as_ref(), &mut load.retry.backoff);
    }

    fn workload(&mut self, scenario: &mut Scenario) {
        let settings = self.settings;
        let cure = "leave it out, or change the scenario's file";
        if !matches!(scenario.workload, Workload::Http(_)) {
            let message = format!("it is about scenarios that ask an API of anybody's, and `{}` is none", scenario.name);
            self.wrong("read_only", &message, cure);
        }
        let booking = match &mut scenario.workload {
            Workload::Booking(booking) => booking,
            Workload::Scheduling(scheduling) => {
                let message = format!("it is about bookings, and the scenario `{}` changes schedules", scenario.name);
                for id in ["units", "total", "bug"] {
                    self.wrong(id, &message, cure);
                }
                let hazard = scheduling.hazard();
                self.strategies(hazard, &mut scheduling.strategies);
                self.put("hold", "scheduling.hold", settings.hold.as_ref(), &mut scheduling.hold);
                return;
            }
            Workload::Http(http) => {
                let message = format!("it is about bookings, and the scenario `{}` asks an API", scenario.name);
                for id in ["strategy", "units", "total", "hold", "bug", "rounds"] {
                    self.wrong(id, &message, cure);
                }
                let target = settings.target.as_ref().map(|target| Some(target.to_string()));
                self.put("target", "http.target", target.as_ref(), &mut http.target);
                // Where the tested is asked, its twin is.
                if let Some(Control::Twin(twin)) = &mut http.control
                    && let Workload::Http(theirs) = &mut twin.workload
                {
                    self.put("target", "http.target", target.as_ref(), &mut theirs.target);
                }
                if settings.read_only {
                    http.read_only = true;
                    self.changed("http.read_only", "read_only");
                }
                return;
            }
            Workload::Sql(_) => {
                let message = format!("it is about bookings, and the scenario `{}` runs SQL of its own", scenario.name);
                for id in ["strategy", "units", "total", "hold", "bug", "rounds"] {
                    self.wrong(id, &message, cure);
                }
                return;
            }
        };
        self.strategies(Hazard::LostUpdate, &mut booking.strategies);
        for (n, operation) in booking.operations.iter_mut().enumerate().filter(|(_, o)| o.kind != OperationKind::Browse) {
            self.put("units", &format!("operation.{n}.units"), settings.units.as_ref(), &mut operation.units);
        }
        self.put("total", "booking.total", settings.total.as_ref(), &mut booking.total);
        self.put("hold", "booking.hold", settings.hold.as_ref(), &mut booking.hold);
        self.put("bug", "booking.bug", Some(&settings.bug), &mut booking.bug);
    }

    fn strategies(&mut self, hazard: Hazard, into: &mut Vec<Strategy>) {
        let Some(source) = self.source("strategy") else { return };
        let names = self.settings.strategy.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let (strategies, unknown) = strategies(names, hazard);
        *into = strategies;
        self.mistakes.extend(unknown.into_iter().map(|(_, error)| (spelled("strategy", source), error)));
        self.changed("strategy", "strategy");
    }

    fn evidence(&mut self, evidence: &mut Evidence) {
        let settings = self.settings;
        self.put("check_timeout", "evidence.check_timeout", settings.check_timeout.as_ref(), &mut evidence.check_timeout);
        self.put("probe_interval", "evidence.probe_interval", settings.probe_interval.as_ref(), &mut evidence.probe_interval);
        let Some((directory, source)) = settings.probes.as_ref().zip(self.source("probes")) else { return };
        match probe::parse::load_directory(directory) {
            Ok(probes) => self.put("probes", "evidence.probes", Some(&probes), &mut evidence.probes),
            Err(error) => self.mistakes.push((spelled("probes", source), error)),
        }
    }

    fn thresholds(&mut self, thresholds: &mut Vec<Threshold>) {
        let none = self.source("no_thresholds").filter(|_| self.settings.no_thresholds);
        let more = self.source("thresholds");
        if none.is_some() {
            thresholds.clear();
            self.changed("thresholds", "no_thresholds");
        }
        // A flag that wants none means those of the environment too.
        if more.is_some() && !(none == Some(Source::Flag) && more == Some(Source::Environment)) {
            thresholds.extend(self.settings.thresholds.iter().cloned());
            self.changed("thresholds", "thresholds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    const PLAIN: &str = "summary = \"a test\"\nworkload = \"booking\"\n";

    /// The scenario that becomes of `file` with these flags, and the origins; variables are tested where a process has its own.
    fn lay(file: &str, flags: &[&str]) -> Result<(Scenario, Vec<Origin>)> {
        let command = Settings::augment_args(Command::new("test").no_binary_name(true));
        let matches =
            command.mut_args(|a| a.env(None::<&str>)).try_get_matches_from(flags).map_err(|e| Error::usage(e.to_string()))?;
        let settings = Settings::from_arg_matches(&matches).unwrap();
        let mut scenario = Scenario::from_toml("mine.toml", &format!("{PLAIN}{file}"), None).unwrap();
        let origins = settings.lay_over(&mut scenario, &matches)?;
        Ok((scenario, origins))
    }

    fn load(file: &str, flags: &[&str]) -> Load {
        lay(file, flags).unwrap().0.load
    }

    fn refused(file: &str, flags: &[&str]) -> String {
        lay(file, flags).unwrap_err().to_string()
    }

    fn constant(seconds: u64) -> Extent {
        Extent::Constant { duration: Some(Duration::from_secs(seconds)), iterations: None }
    }

    #[test]
    fn the_definition_is_sound_and_every_setting_has_a_variable() {
        let command = Settings::augment_args(Command::new("test"));
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            let variable = argument.get_env().unwrap_or_else(|| panic!("{} has no variable", argument.get_id()));
            let expected = format!("DBSTRESS_{}", argument.get_id().as_str().to_uppercase());
            assert_eq!(variable.to_str(), Some(&*expected), "{}", argument.get_id());
        }
    }

    #[test]
    fn whoever_says_anything_of_the_length_says_all_of_it() {
        let stages = "[load]\nstages = [\"10s:50\", \"20s:30\"]\n";
        let shape = |file: &str, flags: &[&str]| {
            let load = load(file, flags);
            (load.vus, load.extent)
        };
        assert_eq!(shape(stages, &["--duration", "5s"]), (50, constant(5)));
        assert_eq!(shape(stages, &["--duration", "5s", "--vus", "7"]), (7, constant(5)));
        assert_eq!(
            shape("[load]\nduration = \"1m\"", &["-i", "100"]),
            (50, Extent::Constant { duration: None, iterations: Some(100) })
        );
        let both = Extent::Constant { duration: Some(Duration::from_secs(5)), iterations: Some(9) };
        assert_eq!(shape(stages, &["-i", "9", "-d", "5s"]), (50, both));
        let ramps = Extent::Stages(vec!["1s:5".parse().unwrap(), "2s:6".parse().unwrap()]);
        assert_eq!(shape("[load]\nvus = 9\niterations = 5", &["-s", "1s:5", "-s", "2s:6"]), (0, ramps.clone()));
        assert_eq!(shape("", &["--stage", "1s:5,2s:6", "--vus", "3"]), (3, ramps));
        assert!(refused("", &["-s", "1s:5", "-d", "1s"]).starts_with("--duration: --stage says already"), "one shape at a time");
        assert!(refused(stages, &["--vus", "7"]).starts_with("--vus: the scenario's stages say"));
    }

    #[test]
    fn a_rate_opens_the_loop_and_stages_of_virtual_users_do_not_become_rates() {
        let open = load("[load]\nstages = [\"10s:50\", \"20s:30\"]", &["--rate", "100"]);
        assert_eq!((open.rate, open.vus, open.extent), (Some(100.0), 50, constant(30)));
        let open = load("", &["--rate", "100", "--stage", "1s:200", "--arrival", "poisson"]);
        assert_eq!((open.vus, open.arrival, open.ramp().unwrap().peak()), (50, Arrival::Poisson, 200.0));
        assert!(refused("", &["--backlog", "5"]).starts_with("--backlog: nothing arrives"));
        assert!(refused("", &["--rate=-5"]).starts_with("--rate: "));
    }

    #[test]
    fn a_profile_is_a_shape_whose_peak_can_be_given() {
        let shape = |file: &str, flags: &[&str]| {
            let load = load(file, flags);
            (load.rate, load.ramp().unwrap().start, load.ramp().unwrap().peak(), load.ramp().unwrap().duration().as_secs())
        };
        assert_eq!(shape("", &["--profile", "load"]), (None, 0.0, 100.0, 540));
        assert_eq!(shape("", &["--profile", "load", "--vus", "10", "--time-scale", "0.1"]), (None, 0.0, 10.0, 54));
        let rounds = load("[booking]\ntargets = \"rounds\"", &["--profile", "smoke", "--time-scale", "0.1"]);
        assert_eq!((rounds.vus, rounds.extent), (50, constant(6)), "rounds need their crowd");
        assert_eq!(shape("", &["--profile", "load", "--rate", "40"]), (Some(0.0), 0.0, 40.0, 540));
        assert_eq!(shape("[load]\nrate = 5.0", &["--profile", "smoke", "--vus", "3"]), (Some(0.0), 0.0, 5.0, 60));
        assert!(refused("", &["--time-scale", "2"]).starts_with("--time-scale: there is no profile"));
    }

    #[test]
    fn thresholds_add_up_unless_none_are_wanted() {
        let file = "thresholds = [\"aborted.rate<0.01\"]";
        let count = |flags: &[&str]| lay(file, flags).unwrap().0.thresholds.len();
        assert_eq!(count(&["--threshold", "unknown.count==0"]), 2);
        assert_eq!(count(&["--threshold", "unknown.count==0;dropped.count==0"]), 3);
        assert_eq!((count(&["--no-thresholds"]), count(&["--no-thresholds", "--threshold", "unknown.count==0"])), (0, 1));
        assert!(refused("", &["--threshold", "buy.aborted.rate<0.01"]).starts_with("--threshold: there is no operation `buy`"));
    }

    #[test]
    fn smoke_is_no_measure_of_speed_unless_one_is_asked_for() {
        let file =
            "thresholds = [\"response:p(95)<150ms\", \"committed.rate>=100/s\", \"aborted.rate<0.01\"]\n[booking]\ntotal = 100000";
        let kept = |flags: &[&str]| lay(file, flags).unwrap().0.thresholds.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(kept(&["--profile", "smoke"]), ["aborted:rate<0.01"]);
        assert_eq!(kept(&["--profile", "load"]).len(), 3);
        assert_eq!(kept(&["--profile", "smoke", "--threshold", "response:p(95)<1s"]), ["aborted:rate<0.01", "response:p(95)<1s"]);
    }

    #[test]
    fn what_bookings_have_other_workloads_have_not() {
        let (scenario, _) = lay("[[operation]]\nkind = \"reserve\"\n[[operation]]\nkind = \"browse\"", &["--units", "3"]).unwrap();
        let units: Vec<i32> = scenario.booking().unwrap().operations.iter().map(|o| o.units).collect();
        assert_eq!(units, [3, 0]);
        assert!(refused("", &["--strategy", "serialisable"]).contains("did you mean `serializable`?"));
        assert!(refused("", &["--units", "2000"]).starts_with("--units: "));
        assert!(
            refused("", &["--total", "5"]).starts_with("mine: operation.0.units: "),
            "the scenario's units are too many for it"
        );
    }

    #[test]
    fn every_setting_says_where_it_comes_from() {
        let (_, origins) = lay("[load]\nvus = 5\nthink = \"1s\"", &["--think", "2s", "--retry-attempts", "3"]).unwrap();
        let find = |key: &str| origins.iter().find(|o| o.key == key).map(|o| (&*o.value, o.source)).unwrap();
        assert_eq!(find("load.vus"), ("5", Source::File));
        assert_eq!(find("load.think"), ("2s", Source::Flag));
        assert_eq!(find("load.retry.attempts"), ("3", Source::Flag));
        assert_eq!(find("load.duration"), ("30s", Source::Default));
        assert_eq!(find("workload"), ("booking", Source::File));
    }
}
