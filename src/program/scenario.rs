//! How do the named statements of a scenario become a program?

use std::collections::BTreeMap;

use super::{Distribution, Program};
use crate::Result;

/// One statement of an operation, as a scenario file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementSpec {
    /// Its text; `$name` or `${name}` is a parameter, a captured value or a built-in name.
    pub sql: String,
    /// How many rows it must meet, or the iteration aborts: `1 row`, `at least 1 row`.
    pub expect: Option<String>,
    /// How many rows mean that a business rule said no: `0 rows`.
    pub refused: Option<String>,
    /// The columns whose values later statements use.
    pub capture: Vec<String>,
}

/// Compiles the statements of an operation. Every parameter that they use is drawn once, at the start of the iteration and in the order of names.
/// Who runs the program fills the slots `vu`, `vus`, `iteration` and `op_id` where it has them: integers, the first three from 0.
///
/// # Errors
/// Usage, with the number of the statement, for names that nothing defines, guards that cannot be read, text that does not end.
pub fn statements(name: &str, specs: &[StatementSpec], parameters: &BTreeMap<String, Distribution>) -> Result<Program> {
    let _ = (name, specs, parameters);
    todo!()
}
