//! How much load is wanted at which time? A curve of straight lines, for VUs (closed loop) or arrivals per second (open loop).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{duration_text, parse_duration};
use crate::{Error, Result};

/// One nanosecond: the grain of all times here.
const GRAIN: Duration = Duration::from_nanos(1);

/// A straight piece of a [`Ramp`], written `30s:50`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stage {
    /// How long the way to the target takes; none is a jump.
    pub duration: Duration,
    /// Where it ends: VUs (closed loop) or arrivals per second (open loop). Finite and not negative.
    pub target: f64,
}

/// Exactly what [`Stage::from_str`] reads: `1m30s:50`.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", duration_text(self.duration), self.target)
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |what: String| Error::usage(format!("`{text}` is not a stage: {what}")).cure("write DURATION:TARGET, such as 30s:50");
        let (duration, target) = text.split_once(':').ok_or_else(|| wrong("there is no colon".into()))?;
        let duration = parse_duration(duration).map_err(|e| wrong(e.message().into()))?;
        let number = target.trim().parse().map_err(|_| wrong(format!("`{target}` is not a number")))?;
        let target = level(number).ok_or_else(|| wrong(format!("a target of {target} cannot be reached; 0 is the least")))?;
        Ok(Self { duration, target })
    }
}

impl TryFrom<String> for Stage {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Stage> for String {
    fn from(stage: Stage) -> Self {
        stage.to_string()
    }
}

/// A number that can be a level of load. Adding zero makes `-0` print as `0`.
fn level(number: f64) -> Option<f64> {
    (number.is_finite() && number >= 0.0).then_some(number + 0.0)
}

fn start<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    level(number).ok_or_else(|| serde::de::Error::custom(format!("a start of {number} is no level of load; 0 is the least")))
}

/// A curve of straight lines: it begins at `start`, and each stage leads to its target; one without duration jumps there. At the moment
/// of a jump it is where the jump leads. After [`Ramp::duration`] it stays at the last target, but the load is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// VUs or arrivals per second at time 0. Finite and not negative.
    #[serde(deserialize_with = "start")]
    pub start: f64,
    /// The pieces, in order.
    pub stages: Vec<Stage>,
}

impl Ramp {
    /// The same all the time.
    pub fn constant(target: f64, duration: Duration) -> Self {
        Self { start: target, stages: vec![Stage { duration, target }] }
    }

    /// When the load is over.
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.duration).sum()
    }

    /// The value at a time: VUs or arrivals per second.
    pub fn at(&self, t: Duration) -> f64 {
        match self.segments().find(|segment| t < segment.end) {
            Some(segment) => segment.at(t),
            None => self.stages.last().map_or(self.start, |stage| stage.target),
        }
    }

    /// The highest value while the load lasts, or what a line comes arbitrarily near to.
    pub fn peak(&self) -> f64 {
        self.segments().map(|segment| segment.from.max(segment.to)).fold(0.0, f64::max)
    }

    /// VUs wanted at a time: [`Ramp::at`] rounded to the nearest, halves upwards.
    pub fn vus_at(&self, t: Duration) -> u32 {
        vus(self.at(t))
    }

    /// The earliest time from `t` on at which VU number `vu` (from 0) is wanted; `None` if it is not again before the load is over.
    pub fn wanted(&self, vu: u32, t: Duration) -> Option<Duration> {
        self.first(t, |wanted| wanted > vu)
    }

    /// The end of the time, without a break, that VU number `vu` is wanted from `t` on: the first moment at which it is not, at most the
    /// end of the load. `None` if it is not wanted at `t`.
    pub fn wanted_until(&self, vu: u32, t: Duration) -> Option<Duration> {
        (self.wanted(vu, t)? == t).then(|| self.first(t, |wanted| wanted <= vu).unwrap_or_else(|| self.duration()))
    }

    /// The first time from `t` on, before the end, at which the number of VUs is as asked. The question must be a comparison with a
    /// constant: along a straight line it then changes its answer at most once.
    fn first(&self, t: Duration, is: impl Fn(u32) -> bool) -> Option<Duration> {
        self.segments().filter(|segment| t < segment.end).find_map(|segment| {
            let holds = |t: Duration| is(vus(segment.at(t)));
            let (mut before, mut found) = (segment.begin.max(t), segment.end - GRAIN);
            if holds(before) {
                return Some(before);
            }
            if !holds(found) {
                return None;
            }
            // Bisection instead of a formula: the answer agrees with `vus_at` to the nanosecond.
            while found - before > GRAIN {
                let middle = before + (found - before) / 2;
                if holds(middle) { found = middle } else { before = middle }
            }
            Some(found)
        })
    }

    /// Arrivals expected in [0, t]: the area below the curve. Nothing comes after the end.
    pub fn integral(&self, t: Duration) -> f64 {
        self.segments().take_while(|segment| segment.begin < t).map(|segment| segment.area(t.min(segment.end))).sum()
    }

    /// The first time at which so many arrivals are expected, to the nearest nanosecond: the inverse of [`Ramp::integral`]. `None` if
    /// that is never.
    pub fn when(&self, count: f64) -> Option<Duration> {
        if count <= 0.0 {
            return Some(Duration::ZERO);
        }
        let mut passed = 0.0;
        self.segments().find_map(|segment| {
            let before = passed;
            passed += segment.whole();
            (count <= passed).then(|| segment.reaches(count - before))
        })
    }

    /// The straight pieces that take time, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> {
        let mut begin = Duration::ZERO;
        let mut from = self.start;
        self.stages.iter().filter_map(move |stage| {
            let segment = Segment { begin, end: begin + stage.duration, from, to: stage.target };
            (begin, from) = (segment.end, segment.to);
            (!stage.duration.is_zero()).then_some(segment)
        })
    }
}

/// Halves upwards; more than u32 holds is u32::MAX.
fn vus(value: f64) -> u32 {
    value.round() as u32
}

/// A straight piece that takes time: [begin, end).
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    begin: Duration,
    pub(super) end: Duration,
    from: f64,
    to: f64,
}

impl Segment {
    fn length(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }

    /// The value at a time of the segment.
    fn at(&self, t: Duration) -> f64 {
        self.from + (self.to - self.from) * ((t - self.begin).as_secs_f64() / self.length())
    }

    /// The area from the beginning to a time of the segment.
    fn area(&self, t: Duration) -> f64 {
        (self.from + self.at(t)) / 2.0 * (t - self.begin).as_secs_f64()
    }

    /// The area of the whole.
    pub(super) fn whole(&self) -> f64 {
        self.area(self.end)
    }

    /// The first time at which the area from the beginning is `area`, to the nearest nanosecond; the end, if the segment has less.
    pub(super) fn reaches(&self, area: f64) -> Duration {
        if area <= 0.0 {
            return self.begin;
        }
        // from·x + slope·x²/2 = area, solved in the form that neither subtracts nearly equal numbers nor divides by a slope of zero
        // (Press et al., Numerical Recipes, 5.6).
        let slope = (self.to - self.from) / self.length();
        let root = (self.from * self.from + 2.0 * slope * area).max(0.0).sqrt();
        let seconds = (2.0 * area / (self.from + root)).min(self.length());
        (self.begin + Duration::from_secs_f64(seconds)).min(self.end)
    }
}

/// Curves with figures such as people type: tenths of seconds, halves of VUs, and jumps.
#[cfg(test)]
pub(super) fn examples() -> impl proptest::strategy::Strategy<Value = Ramp> {
    use proptest::prelude::*;
    let target = (0_u32..80).prop_map(|halves| f64::from(halves) / 2.0);
    let duration = prop_oneof![Just(0), 1_u64..100].prop_map(|tenths| Duration::from_millis(tenths * 100));
    let stage = (duration, target.clone()).prop_map(|(duration, target)| Stage { duration, target });
    (target, prop::collection::vec(stage, 0..6)).prop_map(|(start, stages)| Ramp { start, stages })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(start: f64, stages: &str) -> Ramp {
        Ramp { start, stages: stages.split_whitespace().map(|stage| stage.parse().unwrap()).collect() }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_stage_is_read_and_printed() {
        let stage: Stage = "1m30s:50".parse().unwrap();
        assert_eq!(stage, Stage { duration: seconds(90.0), target: 50.0 });
        assert_eq!("90s:12.50".parse::<Stage>().unwrap().to_string(), "1m30s:12.5");
        assert_eq!("0s:-0".parse::<Stage>().unwrap().to_string(), "0s:0");
        assert_eq!(serde_json::to_string(&stage).unwrap(), "\"1m30s:50\"");
        assert_eq!(serde_json::from_str::<Stage>("\"1m30s:50\"").unwrap(), stage);
        for (text, said) in [
            ("30s", "no colon"),
            ("30:50", "did you mean `30s`?"),
            ("30s:many", "`many` is not a number"),
            ("30s:-1", "a target of -1"),
            ("30s:NaN", "a target of NaN"),
            ("30s:inf", "a target of inf"),
        ] {
            let error = text.parse::<Stage>().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("30s:50"), "{error}");
        }
        assert!(serde_json::from_str::<Ramp>(r#"{"start":-1.0,"stages":[]}"#).is_err());
    }

    #[test]
    fn the_curve_ramps_jumps_and_holds() {
        let ramp = ramp(0.0, "10s:100 0s:20 10s:20 10s:0");
        assert_eq!(ramp.duration(), seconds(30.0));
        assert_eq!(ramp.peak(), 100.0);
        for (t, value) in [(0.0, 0.0), (5.0, 50.0), (9.9, 99.0), (10.0, 20.0), (15.0, 20.0), (25.0, 10.0), (30.0, 0.0), (99.0, 0.0)]
        {
            assert!((ramp.at(seconds(t)) - value).abs() < 1e-9, "{t}: {}", ramp.at(seconds(t)));
        }
        assert_eq!(Ramp::constant(7.0, seconds(1.0)).at(seconds(5.0)), 7.0, "the last target is held");
        assert_eq!(Ramp { start: 0.0, stages: Vec::new() }.duration(), Duration::ZERO);
    }

    #[test]
    fn a_vu_is_wanted_from_a_half_upwards() {
        let ramp = ramp(0.0, "10s:10 10s:0");
        assert_eq!(ramp.wanted(0, Duration::ZERO), Some(seconds(0.5)));
        assert_eq!(ramp.wanted_until(0, seconds(0.5)).map(|t| t.as_millis()), Some(19_500));
        assert_eq!(ramp.wanted_until(0, seconds(0.4)), None, "not yet wanted");
        assert_eq!(ramp.wanted(0, seconds(3.0)), Some(seconds(3.0)));
        assert_eq!(ramp.wanted(9, Duration::ZERO), Some(seconds(9.5)));
        assert_eq!(ramp.wanted(10, Duration::ZERO), None);
        assert_eq!(ramp.wanted(0, seconds(19.8)), None, "the load is nearly over");
        let constant = Ramp::constant(3.0, seconds(5.0));
        assert_eq!(constant.wanted(2, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(constant.wanted_until(2, Duration::ZERO), Some(seconds(5.0)));
        assert_eq!(constant.wanted(2, seconds(5.0)), None, "it holds its target, but the load is over");
        assert_eq!(constant.wanted(3, Duration::ZERO), None);
    }

    #[test]
    fn areas_and_their_inverse() {
        let ramp = ramp(0.0, "10s:100 0s:0 5s:0 0s:10 10s:10");
        for (t, area) in
            [(0.0, 0.0), (5.0, 125.0), (10.0, 500.0), (12.0, 500.0), (15.0, 500.0), (20.0, 550.0), (25.0, 600.0), (60.0, 600.0)]
        {
            assert!((ramp.integral(seconds(t)) - area).abs() < 1e-9, "{t}");
        }
        assert_eq!(ramp.when(0.0), Some(Duration::ZERO));
        assert_eq!(ramp.when(125.0), Some(seconds(5.0)));
        assert_eq!(ramp.when(500.0), Some(seconds(10.0)), "the first such time");
        assert_eq!(ramp.when(501.0), Some(seconds(15.1)));
        assert_eq!(ramp.when(600.0), Some(seconds(25.0)));
        assert_eq!(ramp.when(600.1), None);
    }

    proptest! {
        #[test]
        fn stages_read_back(nanos in any::<u64>(), target in 0.0..f64::MAX) {
            let stage = Stage { duration: Duration::from_nanos(nanos), target };
            prop_assert_eq!(stage.to_string().parse::<Stage>().unwrap(), stage);
        }

        #[test]
        fn wanted_agrees_with_vus_at(ramp in examples(), vu in 0_u32..40, from in 0.0..1.0_f64) {
            let t = ramp.duration().mul_f64(from);
            let samples = || (0..=1000_u32).map(|i| t + (ramp.duration() - t) * i / 1000).filter(|s| *s < ramp.duration());
            match ramp.wanted(vu, t) {
                None => prop_assert!(samples().all(|s| ramp.vus_at(s) <= vu)),
                Some(found) => {
                    prop_assert!(t <= found && found < ramp.duration() && ramp.vus_at(found) > vu);
                    prop_assert!(found == t || ramp.vus_at(found - GRAIN) <= vu);
                    prop_assert!(samples().filter(|s| *s < found).all(|s| ramp.vus_at(s) <= vu));
                    let until = ramp.wanted_until(vu, found).unwrap();
                    prop_assert!(until > found && ramp.vus_at(until - GRAIN) > vu);
                    prop_assert!(until == ramp.duration() || ramp.vus_at(until) <= vu);
                    prop_assert!(samples().filter(|s| found <= *s && *s < until).all(|s| ramp.vus_at(s) > vu));
                }
            }
        }

        #[test]
        fn when_inverts_the_integral(ramp in examples(), share in 0.0..1.0_f64) {
            let count = ramp.integral(ramp.duration()) * share;
            let t = ramp.when(count).unwrap();
            prop_assert!((ramp.integral(t) - count).abs() <= 1e-6);
            // A little earlier there is less, unless it is nothing.
            let earlier = t.saturating_sub(Duration::from_millis(1));
            prop_assert!(earlier.is_zero() || ramp.integral(earlier) < count);
        }
    }
}
