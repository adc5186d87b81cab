//! `dbstress seed`: puts a dataset into a database, or says why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::{export, interruptible};
use crate::error::Kind;
use crate::pg::ConnectOptions;
use crate::report::screen::Screen;
use crate::report::text::{grouped, wrap};
use crate::seed::fixture::Draft;
use crate::seed::residency::{RESIDENTS_MAX, Residency};
use crate::seed::{self, Dataset, Figures, Fill, Generator, Progress, Request, Seeded};
use crate::verdict::Exit;
use crate::{Error, Result};

/// Columns that a summary keeps to.
const WIDTH: u16 = 80;

/// The flags of `dbstress seed`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to put in: clinic, or residency
    #[arg(long, value_name = "NAME", default_value = "clinic")]
    pub dataset: String,
    /// How many times the base size: 1 is 3 organisations with 55 authorisations, or a programme of 100 residents
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub scale: u64,
    /// The number that all rows are made from
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = clap::value_parser!(i64).range(0..))]
    pub rng_seed: i64,
    /// Residency: how many days are scheduled [default: 28]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(7..=3650))]
    pub days: Option<u32>,
    /// Residency: how many residents a programme has [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(RESIDENTS_MAX)))]
    pub residents: Option<u32>,
    /// Residency: how much of the schedule is there [default: full]
    #[arg(long)]
    pub fill: Option<Fill>,
    /// Residency: cases that rules of duty hours must find, or must not; `all`, or names with numbers: PL-1:10,PL-7
    #[arg(long, value_name = "CASES")]
    pub plant: Option<String>,
    /// Remove what an earlier seed and its runs left, and start over
    #[arg(long)]
    pub reset: bool,
    /// Use this database although it holds tables of others; its name must match
    #[arg(long, value_name = "DATABASE")]
    pub disposable: Option<String>,
    /// Connections that load at the same time [default: two per processor, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: Option<u16>,
    /// Where to write the fixture [default: fixture.json in the state directory]
    #[arg(long, value_name = "FILE")]
    pub fixture: Option<PathBuf>,
}

impl Default for Args {
    /// What the flags are when none is given.
    fn default() -> Self {
        Self {
            dataset: Dataset::Clinic.name().into(),
            scale: 1,
            rng_seed: 42,
            days: None,
            residents: None,
            fill: None,
            plant: None,
            reset: false,
            disposable: None,
            connections: None,
            fixture: None,
        }
    }
}

/// Seeds and shows what is there afterwards.
///
/// # Errors
/// As [`load`].
pub async fn run(args: Args, options: &ConnectOptions, state_dir: &Path, screen: Screen) -> Result<Exit> {
    let screen = export::beside(args.fixture.as_deref(), screen);
    screen.out(&load(args, options, state_dir, screen).await?);
    Ok(Exit::Pass)
}

/// Seeds, and says what is there afterwards.
///
/// # Errors
/// As [`seed::seed`], and when the fixture cannot be written.
pub async fn load(args: Args, options: &ConnectOptions, state_dir: &Path, screen: Screen) -> Result<String> {
    let figures = Figures { days: args.days, residents: args.residents, fill: args.fill, plant: args.plant };
    let generator = Arc::new(Generator::new(Dataset::named(&args.dataset)?, args.rng_seed, args.scale, &figures)?);
    let fixture = args.fixture.unwrap_or_else(|| state_dir.join("fixture.json"));
    let draft = Draft::create(&fixture)?;
    let request = Request {
        reset: args.reset,
        disposable: args.disposable,
        connections: args.connections.map_or_else(default_connections, usize::from),
    };
    let bar = screen.bar("seed", generator.rows_in_all());
    let began = Instant::now();
    let report = |step| show(&bar, step, began.elapsed());
    let seeded = interruptible(seed::seed(options, &generator, &request, &report)).await.map_err(|error| match error.kind() {
        Kind::Interrupted => Error::interrupted("interrupted; what was loaded stays marked as incomplete")
            .cure(options.command(&format!("seed --reset {}", seed::wanted(&generator).flags()))),
        _ => error,
    });
    bar.finish_and_clear();
    let seeded = seeded?;
    draft.write(&options.database, &seeded.meta, &seeded.loaded, &generator)?;
    if seeded.took.is_none() {
        screen.note("already seeded; nothing was changed");
        if seeded.runs > 0 {
            let (runs, s) = (seeded.runs, if seeded.runs == 1 { "" } else { "s" });
            let fresh = options.command(&format!("seed --reset {}", seeded.loaded.flags()));
            screen.note(&format!("{runs} run{s} used this data since; `{fresh}` makes it fresh"));
        }
    }
    Ok(summary(options, &generator, &seeded, &fixture))
}

fn default_connections() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2).min(4)
}

fn show(bar: &ProgressBar, step: Progress, elapsed: Duration) {
    match step {
        Progress::Rows(done, total) => {
            bar.set_position(done);
            bar.set_message(format!("{} of {} rows, {}/s", grouped(done), grouped(total), grouped(rate(done, elapsed))));
        }
        Progress::Constraints(done, total) => bar.set_message(format!("keys and indexes: {done} of {total}")),
        Progress::Statistics => bar.set_message("statistics"),
    }
}

/// What is in the database, in at most 80 columns but for long names.
fn summary(options: &ConnectOptions, generator: &Generator, seeded: &Seeded, fixture: &Path) -> String {
    let loaded = &seeded.loaded;
    let mut lines = vec![
        format!("dataset        {}, scale {}, rng_seed {}", loaded.dataset, loaded.scale, loaded.rng_seed),
        format!("database       {options}"),
    ];
    if let Some(residency) = generator.residency() {
        let shape = residency.shape();
        lines.push(format!(
            "schedule       {}, {} days; each programme has {} residents and {} faculty",
            shape.fill.name(),
            shape.days,
            grouped(shape.residents.into()),
            grouped(shape.faculty.into())
        ));
    }
    let width = generator.tables().iter().map(|t| t.name().len()).max().unwrap_or(0).max(14);
    let count = |name: &str, rows: u64| format!("{name:<width$} {:>13} rows", grouped(rows));
    lines.extend(generator.tables().iter().map(|t| count(t.name(), generator.rows(*t))));
    let total = generator.rows_in_all();
    lines.push(match seeded.took {
        None => format!("{}, already there", count("total", total)),
        Some(took) => {
            let all = took.total();
            format!("{} in {:.2} s, {} rows/s", count("total", total), all.as_secs_f64(), grouped(rate(total, all)))
        }
    });
    if let Some(took) = seeded.took {
        lines.push(format!(
            "time           rows {:.2} s, keys and indexes {:.2} s, statistics {:.2} s",
            took.rows.as_secs_f64(),
            took.constraints.as_secs_f64(),
            took.statistics.as_secs_f64()
        ));
    }
    if let Some(residency) = generator.residency() {
        lines.push(planted(residency));
    }
    lines.push(format!("data hash      {}", loaded.data_hash));
    lines.push(format!("fixture        {}", fixture.display()));
    lines.join("\n")
}

/// The cases, each with its number if it is not one.
fn planted(residency: &Residency) -> String {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for planted in residency.planted() {
        match counts.iter_mut().find(|(name, _)| *name == planted.case.name) {
            Some((_, count)) => *count += 1,
            None => counts.push((planted.case.name, 1)),
        }
    }
    let text = |(name, count): &(&str, u64)| if *count == 1 { (*name).to_owned() } else { format!("{name}:{count}") };
    let cases = if counts.is_empty() { "nothing".into() } else { counts.iter().map(text).collect::<Vec<_>>().join(", ") };
    format!("{:<15}{}", "planted", wrap(&cases, WIDTH, &" ".repeat(15)).trim_start())
}

fn rate(rows: u64, elapsed: Duration) -> u64 {
    (rows as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}
