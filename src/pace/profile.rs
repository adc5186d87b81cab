//! Which shape does the load have? The usual ones, for any scenario.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Stage;

/// A shape of load. Its figures are VUs, or arrivals per second where the loop is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// 5 for a minute: does it work at all?
    Smoke,
    /// Up to 100 in 2 minutes, 5 minutes there, down in 2: an ordinary day
    Load,
    /// 100, 200, 300, 400: 2 minutes up to each and 5 there, then 10 minutes down: what bends first?
    Stress,
    /// 10 seconds up to 100, a minute there, 10 seconds up to 2,000, 3 minutes there, back to 100 for 3 minutes, down: does it recover?
    Spike,
    /// Up to 400 in 5 minutes, 4 hours there, down in 5: what grows that should not?
    Soak,
    /// 1,000, 2,000, 3,000, 4,000, 5,000, each for 5 minutes: where does it break?
    BreakingPoint,
}

impl Profile {
    /// All shapes, the lightest first.
    pub const ALL: [Self; 6] = [Self::Smoke, Self::Load, Self::Stress, Self::Spike, Self::Soak, Self::BreakingPoint];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Load => "load",
            Self::Stress => "stress",
            Self::Spike => "spike",
            Self::Soak => "soak",
            Self::BreakingPoint => "breaking-point",
        }
    }

    /// What it asks, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Smoke => "little and short: does it work at all?",
            Self::Load => "up, level, down: an ordinary day",
            Self::Stress => "four levels, each higher: what bends first?",
            Self::Spike => "twenty times the load at once: does it recover?",
            Self::Soak => "level for hours: what grows that should not?",
            Self::BreakingPoint => "five steps upwards without relief: where does it break?",
        }
    }

    /// The stages, from a start of 0. With `peak`, all targets are scaled so that the highest becomes `peak`; all durations are
    /// multiplied by `time_scale`.
    ///
    /// # Panics
    /// When `time_scale` is negative or not a number, or the durations do not fit.
    pub fn stages(self, peak: Option<u32>, time_scale: f64) -> Vec<Stage> {
        let figures = self.figures();
        let highest = figures.iter().map(|(_, target)| *target).max().unwrap_or(0);
        let peak = peak.unwrap_or(highest);
        figures
            .iter()
            .map(|(seconds, target)| Stage {
                duration: Duration::from_secs(*seconds).mul_f64(time_scale),
                // Multiplied first: the highest is then exactly the peak.
                target: f64::from(*target) * f64::from(peak) / f64::from(highest),
            })
            .collect()
    }

    /// Seconds and targets; a level begins with a jump where nothing else leads to it.
    fn figures(self) -> &'static [(u64, u32)] {
        match self {
            Self::Smoke => &[(0, 5), (60, 5)],
            Self::Load => &[(120, 100), (300, 100), (120, 0)],
            Self::Stress => {
                &[(120, 100), (300, 100), (120, 200), (300, 200), (120, 300), (300, 300), (120, 400), (300, 400), (600, 0)]
            }
            Self::Spike => &[(10, 100), (60, 100), (10, 2000), (180, 2000), (10, 100), (180, 100), (10, 0)],
            Self::Soak => &[(300, 400), (14_400, 400), (300, 0)],
            Self::BreakingPoint => &[
                (0, 1000),
                (300, 1000),
                (0, 2000),
                (300, 2000),
                (0, 3000),
                (300, 3000),
                (0, 4000),
                (300, 4000),
                (0, 5000),
                (300, 5000),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Ramp;

    fn text(stages: &[Stage]) -> String {
        stages.iter().map(Stage::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_shapes_are_the_documented_ones() {
        let minutes = |profile: Profile| {
            let ramp = Ramp { start: 0.0, stages: profile.stages(None, 1.0) };
            (ramp.duration().as_secs_f64() / 60.0, ramp.peak())
        };
        assert_eq!(text(&Profile::Smoke.stages(None, 1.0)), "0s:5 1m:5");
        assert_eq!(text(&Profile::Load.stages(None, 1.0)), "2m:100 5m:100 2m:0");
        assert_eq!(text(&Profile::Spike.stages(None, 1.0)), "10s:100 1m:100 10s:2000 3m:2000 10s:100 3m:100 10s:0");
        assert_eq!(minutes(Profile::Stress), (38.0, 400.0));
        assert_eq!(minutes(Profile::Soak), (250.0, 400.0));
        assert_eq!(minutes(Profile::BreakingPoint), (25.0, 5000.0));
        assert_eq!(Ramp { start: 0.0, stages: Profile::BreakingPoint.stages(None, 1.0) }.vus_at(Duration::ZERO), 1000);
    }

    #[test]
    fn peak_and_time_can_be_scaled() {
        assert_eq!(text(&Profile::Load.stages(Some(50), 0.1)), "12s:50 30s:50 12s:0");
        for profile in Profile::ALL {
            let ramp = Ramp { start: 0.0, stages: profile.stages(Some(37), 0.01) };
            assert_eq!(ramp.peak(), 37.0, "{}", profile.name());
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_possible_value().unwrap().get_name(), profile.name());
            assert_eq!(serde_json::to_string(&profile).unwrap(), format!("\"{}\"", profile.name()));
        }
        assert_eq!(Profile::ALL, Profile::value_variants());
    }
}
