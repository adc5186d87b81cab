//! In which of PostgreSQL's protocols does the load speak?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How statements are sent, as `pgbench -M` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Parsed once, by a name; then bound and executed
    #[default]
    Prepared,
    /// Parsed without a name, bound and executed, each time
    Extended,
    /// One text, the parameters as literals in it
    Simple,
}

impl Protocol {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Extended => "extended",
            Self::Simple => "simple",
        }
    }
}
