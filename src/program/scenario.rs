//! How do the named statements of a scenario become a program?

use std::collections::{BTreeMap, BTreeSet};

use super::scope::{Scope, Sigil};
use super::{Capture, Counters, Distribution, Else, Expression, Given, Guard, Program, Slot, Statement, Step, Value, sql};
use crate::{Error, Result};

/// One statement of an operation, as a scenario file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementSpec {
    /// Its text; `$name` or `${name}` is a parameter, a captured value or a built-in name.
    pub sql: String,
    /// How many rows it must meet, or the iteration aborts: `1 row`, `at least 1 row`.
    pub expect: Option<String>,
    /// How many rows mean that a business rule said no: `0 rows`. It counts before `expect`.
    pub refused: Option<String>,
    /// The columns whose values later statements use.
    pub capture: Vec<String>,
}

/// The names that need no parameter.
const BUILT_IN: [&str; 4] = ["vu", "vus", "iteration", "op_id"];

/// Compiles the statements of an operation. Every parameter that they use is drawn once, at the start of the iteration and in the order of names.
/// Who runs the program gives `vu`, `vus`, `iteration` and `op_id`, which are always there, their values.
///
/// # Errors
/// Usage, with the number of the statement, for names that nothing defines or two things do, guards that cannot be read, quotes that do not end.
pub fn statements(name: &str, specs: &[StatementSpec], parameters: &BTreeMap<String, Distribution>) -> Result<Program> {
    let mut scope = Scope::new(Sigil::Dollar);
    let [vu, vus, iteration, op_id] = BUILT_IN.map(|name| scope.define(name, Value::Integer(0)));
    for parameter in parameters.keys() {
        if BUILT_IN.contains(&parameter.as_str()) {
            return Err(Error::usage(format!("{name}: a parameter cannot be called `{parameter}`, which dbstress counts itself"))
                .cure("another name"));
        }
        scope.assign(parameter);
    }
    let mut steps = Vec::new();
    for (number, spec) in (1..).zip(specs) {
        steps.push(statement(&format!("{name}, statement {number}"), number, spec, parameters, &mut scope)?);
    }
    if steps.is_empty() {
        return Err(Error::usage(format!("{name}: it has no statements")).cure("at least one"));
    }
    let used: BTreeSet<Slot> = steps.iter().flat_map(|statement| &statement.parameters).copied().collect();
    let counters = Counters { vu, vus, iteration };
    let draws = parameters.iter().filter_map(|(parameter, distribution)| {
        let slot = scope.slots.iter().position(|slot| slot == parameter).filter(|slot| used.contains(slot))?;
        Some(Step::Set { slot, expression: Expression::Draw { distribution: distribution.clone(), counters } })
    });
    let steps = draws.chain(steps.into_iter().map(Step::Statement)).collect();
    let given = vec![(Given::Vu, vu), (Given::Vus, vus), (Given::Iteration, iteration), (Given::OpId, op_id)];
    Ok(Program { name: name.to_owned(), steps, slots: scope.slots, initial: scope.initial, given, mentioned: BTreeSet::new() })
}

/// One of them; `place` is what errors call it.
fn statement(
    place: &str,
    number: usize,
    spec: &StatementSpec,
    parameters: &BTreeMap<String, Distribution>,
    scope: &mut Scope,
) -> Result<Statement> {
    let read =
        |from, scope: &mut Scope| sql::read(&spec.sql, from, scope).map_err(|complaint| complaint.into_error(place, &spec.sql));
    let (sql, end) = read(0, scope)?;
    let Some(sql) = sql else { return Err(Error::usage(format!("{place}: it is empty")).cure("write it, or remove it")) };
    if let (Some(second), _) = read(end, scope)? {
        return Err(Error::usage(format!("{place}: `{}` is another statement", second.label)).cure("make it an entry of its own"));
    }
    let guard = |text: &Option<String>, key: &str, or| match text {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(rows) => Ok(Some(Guard { rows, or })),
            Err(error) => Err(Error::usage(format!("{place}: `{key}` cannot be read")).because(error)),
        },
    };
    let guards = [guard(&spec.refused, "refused", Else::Refuse)?, guard(&spec.expect, "expect", Else::Abort)?];
    let mut captured: Vec<(String, Slot)> = Vec::new();
    for column in &spec.capture {
        if BUILT_IN.contains(&column.as_str()) || parameters.contains_key(column) {
            return Err(Error::usage(format!("{place}: `{column}` cannot be captured, ${column} has another meaning"))
                .cure("another name for the column, as in SELECT id AS found"));
        }
        if captured.iter().any(|(known, _)| known == column) {
            return Err(Error::usage(format!("{place}: `{column}` is captured twice")).cure("once is enough"));
        }
        captured.push((column.clone(), scope.assign(column)));
    }
    Ok(Statement {
        sql: sql.sql,
        parameters: sql.parameters,
        kind: sql.kind,
        capture: if captured.is_empty() { Capture::Nothing } else { Capture::Columns(captured) },
        guards: guards.into_iter().flatten().collect(),
        line: number,
        label: sql.label,
        fragments: Vec::new(),
        textual: Vec::new(),
    })
}
