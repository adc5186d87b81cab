//! When does a fault strike, how often, and for how long? `crash@15s`, `terminate@5s..25s/500ms`, `delay=20ms@5s+3s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::error::nearest;
use crate::pace::{duration_text, parse_duration};
use crate::{Error, Result};

/// A fault and its times, from the beginning of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Planned {
    /// What goes wrong.
    pub fault: Fault,
    /// When for the first time.
    pub from: Duration,
    /// Until when it is repeated; `None` = once.
    pub until: Option<Duration>,
    /// The distance between two times.
    pub every: Duration,
    /// How long it goes on each time; zero for what is over at once.
    pub hold: Duration,
    /// How much later messages arrive; zero for all but a delay.
    pub by: Duration,
}

/// How a repeated fault is spaced unless something else is said.
const EVERY: Duration = Duration::from_secs(1);
/// How long a fault that is held goes on unless something else is said.
const HOLD: Duration = Duration::from_secs(2);
/// How much later messages arrive unless something else is said.
const BY: Duration = Duration::from_millis(50);
/// Nothing is asked for more often.
const LEAST_EVERY: Duration = Duration::from_millis(10);

const CURE: &str = "write NAME@TIME, NAME@FROM..UNTIL or NAME@FROM..UNTIL/EVERY, such as crash@15s or terminate@5s..25s/500ms; \
                    +TIME is how long it goes on (freeze@5s+1s), delay=20ms@5s+3s how much later everything comes";

impl Planned {
    /// The times at which it strikes.
    pub fn occasions(&self) -> impl Iterator<Item = Duration> + use<> {
        let Self { from, until, every, .. } = *self;
        let last = until.unwrap_or(from);
        std::iter::successors(Some(from), move |at| Some(*at + every)).take_while(move |at| *at <= last)
    }

    /// The last moment of it.
    pub fn ends(&self) -> Duration {
        self.occasions().last().unwrap_or(self.from) + self.hold
    }
}

impl FromStr for Planned {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let wrong = |what: String| Error::usage(format!("`{text}` is no fault: {what}")).cure(CURE);
        let time = |part: &str| parse_duration(part).map_err(|e| wrong(e.message().into()));
        let (what, when) = text.split_once('@').ok_or_else(|| wrong("it does not say when (@5s)".into()))?;
        let (name, value) = what.split_once('=').map_or((what, None), |(name, value)| (name, Some(value)));
        let fault = Fault::from_name(name.trim()).ok_or_else(|| {
            let names = Fault::ALL.map(Fault::name);
            let hint = nearest(name, names).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
            Error::usage(format!("there is no fault `{name}`")).cure(format!("{hint}one of: {}", names.join(", ")))
        })?;
        let (when, hold) = when.split_once('+').map_or((when, None), |(when, hold)| (when, Some(hold)));
        if hold.is_some() && !fault.is_held() {
            return Err(wrong(format!("a {name} is over at once, it cannot be held")));
        }
        if value.is_some() && fault != Fault::Delay {
            return Err(wrong(format!("a {name} has no value")));
        }
        let (from, rest) = when.split_once("..").map_or((when, None), |(from, rest)| (from, Some(rest)));
        let (until, every) = match rest.map(|rest| rest.split_once('/').map_or((rest, None), |(until, every)| (until, Some(every))))
        {
            Some((until, every)) => (Some(time(until)?), every.map(time).transpose()?),
            None => (None, None),
        };
        let planned = Self {
            fault,
            from: time(from)?,
            until,
            every: every.unwrap_or(EVERY),
            hold: hold.map(time).transpose()?.unwrap_or(if fault.is_held() { HOLD } else { Duration::ZERO }),
            by: value.map(time).transpose()?.unwrap_or(if fault == Fault::Delay { BY } else { Duration::ZERO }),
        };
        if until.is_some_and(|until| until < planned.from) {
            return Err(wrong("it is over before it begins".into()));
        }
        if planned.every < LEAST_EVERY {
            return Err(wrong(format!("every {} is more often than it can be done", duration_text(planned.every))));
        }
        if fault.is_held() && (planned.hold.is_zero() || fault == Fault::Delay && planned.by.is_zero()) {
            return Err(wrong("for no time at all it would do nothing".into()));
        }
        Ok(planned)
    }
}

/// Exactly what [`Planned::from_str`] reads.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault.name())?;
        if !self.by.is_zero() {
            write!(f, "={}", duration_text(self.by))?;
        }
        write!(f, "@{}", duration_text(self.from))?;
        if let Some(until) = self.until {
            write!(f, "..{}/{}", duration_text(until), duration_text(self.every))?;
        }
        if !self.hold.is_zero() {
            write!(f, "+{}", duration_text(self.hold))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Planned {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Planned> for String {
    fn from(planned: Planned) -> Self {
        planned.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occasions(text: &str) -> Vec<u128> {
        text.parse::<Planned>().unwrap().occasions().map(|at| at.as_millis()).collect()
    }

    #[test]
    fn once_or_from_until_every() {
        assert_eq!(occasions("crash@15s"), [15_000]);
        assert_eq!(occasions("terminate@5s..6s/500ms"), [5_000, 5_500, 6_000]);
        assert_eq!(occasions("reset@1s..3500ms"), [1_000, 2_000, 3_000], "every second unless it says otherwise");
        let freeze: Planned = "freeze@5s+500ms".parse().unwrap();
        assert_eq!((freeze.hold.as_millis(), freeze.ends().as_millis()), (500, 5_500));
        let delay: Planned = "delay=20ms@1s..9s/4s+3s".parse().unwrap();
        assert_eq!((delay.by.as_millis(), delay.ends().as_millis()), (20, 12_000));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["crash@15s", "terminate@5s..25s/500ms", "freeze@5s+2s", "delay=50ms@5s+2s", "half-open@1s..2s/1s+300ms"] {
            assert_eq!(text.parse::<Planned>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("crash", "when"),
            ("crsh@5s", "no fault `crsh`"),
            ("crash@5", "not a duration"),
            ("crash@5s+1s", "cannot be held"),
            ("crash=1s@5s", "no value"),
            ("terminate@5s..1s", "over before it begins"),
            ("terminate@1s..5s/1ms", "more often"),
            ("freeze@1s+0s", "no time at all"),
        ];
        for (text, what) in cases {
            let error = text.parse::<Planned>().unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
