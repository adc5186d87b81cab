//! How long does a virtual user pause between two iterations?

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{duration_text, parse_duration};
use crate::{Error, Result};

/// A pause, written `1s`, or uniformly at random between two bounds, written `1s..3s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Think {
    /// The shortest pause.
    pub from: Duration,
    /// The longest; at least the shortest.
    pub to: Duration,
}

impl Think {
    /// One pause; every length between the bounds, both included, is equally likely.
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        rng.random_range(self.from..=self.to.max(self.from))
    }

    /// Whether there is never a pause.
    pub fn is_zero(&self) -> bool {
        self.to.max(self.from).is_zero()
    }

    /// The mean of many.
    pub fn mean(&self) -> Duration {
        (self.from + self.to.max(self.from)) / 2
    }
}

/// Exactly what [`Think::from_str`] reads: `1s` or `1s..3s`.
impl fmt::Display for Think {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.from))?;
        if self.to > self.from { write!(f, "..{}", duration_text(self.to)) } else { Ok(()) }
    }
}

impl FromStr for Think {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |what: &str| Error::usage(format!("`{text}` is not a pause: {what}")).cure("write 500ms, or 1s..3s for a random one");
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let read = |bound| parse_duration(bound).map_err(|e| wrong(e.message()));
        let think = Self { from: read(from)?, to: read(to)? };
        if think.from > think.to { Err(wrong("it begins above its end")) } else { Ok(think) }
    }
}

impl TryFrom<String> for Think {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Think> for String {
    fn from(think: Think) -> Self {
        think.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    use super::*;

    #[test]
    fn one_length_or_two_bounds() {
        let think: Think = "1s..3s".parse().unwrap();
        assert_eq!((think.from, think.to, think.mean()), (Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(2)));
        assert_eq!("1500ms".parse::<Think>().unwrap().to_string(), "1s500ms");
        assert_eq!("2s..2s".parse::<Think>().unwrap().to_string(), "2s");
        assert!("0s".parse::<Think>().unwrap().is_zero() && Think::default().is_zero() && !think.is_zero());
        assert_eq!(serde_json::to_string(&think).unwrap(), "\"1s..3s\"");
        for (text, said) in [("3s..1s", "begins above its end"), ("1..3s", "did you mean `1s`?"), ("", "empty"), ("1s..", "empty")]
        {
            let error = text.parse::<Think>().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("1s..3s"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn draws_stay_within_and_the_text_reads_back(a in any::<u64>(), b in any::<u64>(), rng_seed in any::<u64>()) {
            let think = Think { from: Duration::from_nanos(a.min(b)), to: Duration::from_nanos(a.max(b)) };
            let drawn = think.draw(&mut ChaCha8Rng::seed_from_u64(rng_seed));
            prop_assert!(think.from <= drawn && drawn <= think.to);
            prop_assert_eq!(think.to_string().parse::<Think>().unwrap(), think);
        }
    }
}
