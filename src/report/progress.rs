//! What does somebody see while a load runs? One line that lives, or one line every so often, or one object per second for programs.

use std::time::Duration;

use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;

use super::screen::Screen;
use super::text::grouped;
use crate::metrics::{SoFar, Tick};
use crate::plan::Load;
use crate::record::Rules;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// A bar on a terminal, a plain line every ten seconds elsewhere
    #[default]
    Auto,
    /// One line, always up to date
    Bar,
    /// A line every second
    Plain,
    /// A JSON object every second, on stderr
    Json,
    /// Nothing
    None,
}

/// Seconds between two plain lines where nobody asked for lines.
const SELDOM: u64 = 10;

/// The line of a turn under way.
pub struct Live {
    style: Style,
    screen: Screen,
    load: Load,
    bar: Option<ProgressBar>,
    checks: Checks,
}

/// The line of a check that takes long; gone when this is.
pub struct Checks {
    style: Style,
    screen: Screen,
    bar: Option<ProgressBar>,
}

impl Checks {
    /// For checks that nobody has begun.
    pub fn new(style: Style, screen: Screen) -> Self {
        Self { style, screen, bar: None }
    }

    /// The check of `rule` has taken `elapsed` of the time that it may take; once a second.
    pub fn show(&mut self, rule: &str, elapsed: Duration, limit: Duration) {
        let seconds = elapsed.as_secs();
        let limit = (limit, crate::pace::duration_text(limit));
        if self.style.is_bar(self.screen) {
            let bar = self.bar.get_or_insert_with(|| self.screen.bar("checks", limit.0.as_millis() as u64));
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(format!("{rule}, {seconds} s of {}", limit.1));
        } else if self.style == Style::Plain || self.style == Style::Auto && seconds.is_multiple_of(SELDOM) {
            self.screen.note(&format!("checking rules: {rule}, {seconds} s (at most {}: --check-timeout)", limit.1));
        }
    }

    /// Whatever was checked has been.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.end();
    }
}

impl Style {
    fn is_bar(self, screen: Screen) -> bool {
        self == Self::Bar || self == Self::Auto && screen.interactive
    }
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(flatten)]
    tick: &'a Tick,
    committed_so_far: u64,
    replayed_so_far: u64,
    refused_so_far: u64,
    failed_so_far: u64,
    rolled_back_so_far: u64,
    faults_so_far: u64,
    rules: Option<&'a Rules>,
}

impl Live {
    /// For turns of this load.
    pub fn new(style: Style, screen: Screen, load: Load) -> Self {
        Self { style, screen, load, bar: None, checks: Checks::new(style, screen) }
    }

    /// The line for checks that take long.
    pub fn checks(&mut self) -> &mut Checks {
        &mut self.checks
    }

    /// A turn begins.
    pub fn begin(&mut self, name: &str) {
        if self.style.is_bar(self.screen) {
            let length = self.load.duration().map_or(1, |d| d.as_millis() as u64);
            self.bar = Some(self.screen.bar(name, length.max(1)));
        } else if self.style != Style::None {
            self.screen.note(&format!("{name} …"));
        }
    }

    /// A second of it is over; `so_far` is what has ended from the beginning on.
    pub fn tick(&self, name: &str, tick: &Tick, so_far: SoFar, rules: Option<&Rules>) {
        if let Some(bar) = &self.bar {
            bar.set_position((tick.second * 1e3) as u64);
            bar.set_message(self.words(tick, so_far, rules));
            return;
        }
        match self.style {
            Style::Json => {
                let SoFar { committed, replayed, refused, failed, rolled_back, faults } = so_far;
                let line = Line {
                    name,
                    tick,
                    committed_so_far: committed,
                    replayed_so_far: replayed,
                    refused_so_far: refused,
                    failed_so_far: failed,
                    rolled_back_so_far: rolled_back,
                    faults_so_far: faults,
                    rules,
                };
                if let Ok(json) = serde_json::to_string(&line) {
                    self.screen.line(&json);
                }
            }
            Style::Plain => self.screen.note(&format!("{name}: {}", self.words(tick, so_far, rules))),
            Style::Auto if (tick.second.round() as u64).is_multiple_of(SELDOM) => {
                self.screen.note(&format!("{name}: {}", self.words(tick, so_far, rules)));
            }
            Style::Auto | Style::Bar | Style::None => {}
        }
    }

    /// The turn is over.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// `12s/30s, 50 VUs, 4,012 done, 331/s, p95 14 ms, 12 refused, rules hold (12 checks)`.
    fn words(&self, tick: &Tick, so_far: SoFar, rules: Option<&Rules>) -> String {
        let SoFar { committed, replayed, refused, failed, rolled_back, faults } = so_far;
        let elapsed = crate::pace::duration_text(Duration::from_secs(tick.second.round() as u64));
        let of = self.load.duration().map_or(String::new(), |d| format!("/{}", crate::pace::duration_text(d)));
        let p95 = tick.response.p95.map_or(String::new(), |ms| format!(", p95 {} ms", super::run::milliseconds(ms)));
        let more = [
            ("replayed", replayed),
            ("refused", refused),
            ("failed", failed),
            ("rolled back", rolled_back),
            ("dropped", tick.dropped),
            ("faults", faults),
        ];
        let more: String = more.into_iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!(", {} {word}", grouped(n))).collect();
        let rules = match rules {
            Some(Rules { broken: Some(name), .. }) => format!(", {name} BROKEN"),
            Some(Rules { checked, .. }) if *checked > 0 => format!(", rules hold ({checked}×)"),
            _ => String::new(),
        };
        let rate = tick.committed;
        format!("{elapsed}{of}, {} VUs, {} done, {}/s{p95}{more}{rules}", tick.vus, grouped(committed), grouped(rate))
    }
}
