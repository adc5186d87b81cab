//! `dbstress schema`: what may stand in a scenario file, for editors?

use crate::report::screen::Screen;
use crate::scenario::file;
use crate::verdict::Exit;
use crate::{Error, Result};

/// Prints the JSON Schema of scenario files.
///
/// # Errors
/// None that can be expected.
pub fn run(screen: Screen) -> Result<Exit> {
    let json = serde_json::to_string_pretty(&file::schema());
    screen.out(&json.map_err(|e| Error::inconclusive("the schema cannot be written as JSON").because(e))?);
    Ok(Exit::Pass)
}
