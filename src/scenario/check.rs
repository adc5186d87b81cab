//! Can it be run as it is written?

use std::path::Path;

use super::Scenario;
use crate::{Error, Result};

/// Reads and checks.
pub fn read(label: &str, _text: &str, _base: Option<&Path>) -> Result<Scenario> {
    Err(Error::usage(label.to_owned()))
}
