//! Which settings has a scenario, and who decided each? Which scenarios are there?

use super::text::{finish, grid};
use crate::scenario::{Origin, Scenario};

/// Every setting with its value and who decided it.
pub fn text(origins: &[Origin], width: u16, colour: bool) -> String {
    let mut table = grid(&["setting", "value", "source"], width, colour);
    for Origin { key, value, source } in origins {
        table.add_row(vec![key, value, source.word()]);
    }
    finish(&table)
}

/// Scenarios with their tags and summaries.
pub fn list_text(scenarios: &[Scenario], width: u16, colour: bool) -> String {
    let mut table = grid(&["scenario", "tags", "what it shows"], width, colour);
    for scenario in scenarios {
        table.add_row(vec![&scenario.name, &scenario.tags.join(", "), &scenario.summary]);
    }
    finish(&table)
}
