//! What does one iteration of a user's operation do, step by step?
//!
//! Compiled once, from a pgbench script ([`script()`]) or from the named statements of a scenario ([`statements`]); then run as often as there are
//! iterations. Pure: who runs a program sends its statements and fills its slots.

mod distribution;
mod expression;
mod grammar;
mod guard;
mod scatter;
mod scenario;
mod scope;
mod script;
mod sql;
mod statement;
mod value;

pub use distribution::Distribution;
pub use expression::{Counters, Expression, Function, Miscalculation};
pub use guard::{Else, Guard, Rows};
pub use scenario::{StatementSpec, statements};
pub use script::{BUILT_IN, script};
pub use sql::{Hidden, hidden_changes, outlives_transaction, positional, statement_starts};
pub use statement::{Capture, Fragment, Statement, StatementKind, Textual};
pub use value::Value;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::nearest;
use crate::{Error, Result};

/// Where a variable is: an index into the variables of a VU.
pub type Slot = usize;

/// The steps of an iteration and the variables that they share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    /// What errors call it: the file or the operation.
    pub name: String,
    /// What is done, in this order but for jumps. One that jumps behind the last ends the iteration, as the last one does.
    pub steps: Vec<Step>,
    /// The names of the variables, by slot.
    pub slots: Vec<String>,
    /// What the variables hold before the first iteration, by slot. As in pgbench they keep their values from one iteration to the next; a retry
    /// begins with what its iteration began with.
    pub initial: Vec<Value>,
    /// The variables that whoever runs the program gives a value, besides.
    pub given: Vec<(Given, Slot)>,
    /// The variables that a script names only where they may as well be plain text: whether they are any depends on the columns that `\gset` finds.
    pub mentioned: BTreeSet<Slot>,
}

/// What only those know who run a program. All are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// `$vu`, `:client_id`: the number of the VU, from 0.
    Vu,
    /// `$vus`: how many VUs there are.
    Vus,
    /// `$iteration`: the number of the VU's iteration, from 0; another before each.
    Iteration,
    /// `$op_id`: what names the iteration among all of all runs; another before each.
    OpId,
    /// `:random_seed`: what random choices are made from.
    RandomSeed,
    /// `:default_seed`: what hashes are made with.
    DefaultSeed,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Assigns to a variable.
    Set {
        /// Which variable.
        slot: Slot,
        /// Its new value.
        expression: Expression,
    },
    /// Sends a statement.
    Statement(Statement),
    /// Goes on elsewhere if the condition does not hold, see [`Value::truth`].
    JumpUnless {
        /// What is asked.
        condition: Expression,
        /// The next step, an index; the number of steps means the end.
        to: usize,
    },
    /// Goes on elsewhere.
    Jump {
        /// The next step, an index; the number of steps means the end.
        to: usize,
    },
    /// Waits so many microseconds.
    Sleep(Expression),
}

impl Program {
    /// Where the variable of that name is, without `:` or `$`; `None` if the program has none.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.slots.iter().position(|slot| slot == name)
    }

    /// The statements, in the order of the text.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.steps.iter().filter_map(|step| match step {
            Step::Statement(statement) => Some(statement),
            _ => None,
        })
    }

    /// The variables that its steps write, each once.
    pub fn written(&self) -> Vec<Slot> {
        let mut written: Vec<Slot> = self
            .steps
            .iter()
            .flat_map(|step| match step {
                Step::Set { slot, .. } => vec![*slot],
                Step::Statement(statement) => match &statement.capture {
                    Capture::Nothing => Vec::new(),
                    Capture::Columns(columns) | Capture::Prefix { slots: columns, .. } => {
                        columns.iter().map(|(_, slot)| *slot).collect()
                    }
                },
                Step::JumpUnless { .. } | Step::Jump { .. } | Step::Sleep(_) => Vec::new(),
            })
            .collect();
        written.sort_unstable();
        written.dedup();
        written
    }

    /// Whether it opens transaction blocks of its own.
    pub fn begins_transaction(&self) -> bool {
        self.statements().any(|s| s.kind == StatementKind::Begin)
    }

    /// How many COMMITs there are in it, whichever of them an iteration reaches.
    pub fn transactions(&self) -> usize {
        self.statements().filter(|s| s.kind == StatementKind::Commit).count()
    }

    /// Checks that an iteration does not end inside a transaction block. Conditions are not evaluated: only a program that ends inside a block
    /// whichever way it goes is refused.
    ///
    /// # Errors
    /// Usage, with the line of the BEGIN.
    pub fn validate_blocks(&self) -> Result<()> {
        // The blocks that may be open before each step, by the step that opens them; `None` is none.
        let mut before = vec![BTreeSet::new(); self.steps.len() + 1];
        let mut todo = vec![(0, None)];
        while let Some((at, open)) = todo.pop() {
            if !before[at].insert(open) {
                continue;
            }
            match self.steps.get(at) {
                None => {}
                Some(Step::Jump { to }) => todo.push((*to, open)),
                Some(Step::JumpUnless { to, .. }) => todo.extend([(*to, open), (at + 1, open)]),
                Some(Step::Statement(Statement { kind: StatementKind::Begin, .. })) => todo.push((at + 1, open.or(Some(at)))),
                Some(Step::Statement(Statement { kind: StatementKind::Commit | StatementKind::Rollback, .. })) => {
                    todo.push((at + 1, None))
                }
                Some(_) => todo.push((at + 1, open)),
            }
        }
        let ends = &before[self.steps.len()];
        match ends.iter().flatten().next().map(|begin| &self.steps[*begin]) {
            Some(Step::Statement(begin)) if !ends.contains(&None) => {
                Err(Error::usage(format!("{}:{}: the transaction block of `{}` does not end", self.name, begin.line, begin.label))
                    .cure("end it with COMMIT or ROLLBACK"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every variable of a script stands where PostgreSQL takes a parameter; of those that `\gset` may find, [`Self::validate_captures`]
    /// knows more.
    ///
    /// # Errors
    /// Usage, with file, line and column.
    pub fn validate_parameters(&self) -> Result<()> {
        match self.statements().flat_map(|statement| &statement.textual).find(|textual| textual.is_sure) {
            Some(textual) => Err(textual.error()),
            None => Ok(()),
        }
    }

    /// Checks that every value which is to be captured exists, once the server has told the columns of each statement, by name and in the order of
    /// [`Self::statements`].
    ///
    /// # Errors
    /// Usage, with the nearest of the columns.
    pub fn validate_captures(&self, columns: &[Vec<&str>]) -> Result<()> {
        let mut returned = BTreeSet::new();
        let mut wanted = BTreeMap::new();
        let missing = |statement: &Statement, column: &str, columns: &[&str]| {
            let hint = nearest(column, columns.iter().copied()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let (name, line, label) = (&self.name, statement.line, &statement.label);
            Err(Error::usage(format!("{name}:{line}: `{label}` returns no column `{column}`{hint}")).cure(match columns {
                [] => "it returns no columns at all; INSERT, UPDATE and DELETE do with RETURNING".to_owned(),
                columns => format!("its columns are: {}", columns.join(", ")),
            }))
        };
        for (statement, columns) in self.statements().zip(columns) {
            match &statement.capture {
                Capture::Nothing => {}
                Capture::Columns(captured) => {
                    for (column, _) in captured {
                        if !columns.contains(&column.as_str()) {
                            return missing(statement, column, columns);
                        }
                    }
                }
                Capture::Prefix { slots, .. } => {
                    for (column, slot) in slots {
                        if columns.contains(&column.as_str()) {
                            returned.insert(*slot);
                        } else if !self.has_other_value(*slot) && !self.mentioned.contains(slot) {
                            // Of several that could give it the one with the longest prefix is meant.
                            let found = wanted.entry(*slot).or_insert((statement, column, columns));
                            if column.len() < found.1.len() {
                                *found = (statement, column, columns);
                            }
                        }
                    }
                }
            }
        }
        if let Some(textual) = self.statements().flat_map(|statement| &statement.textual).find(|t| returned.contains(&t.slot)) {
            return Err(textual.error());
        }
        match wanted.into_iter().find(|(slot, _)| !returned.contains(slot)) {
            Some((_, (statement, column, columns))) => missing(statement, column, columns),
            None => Ok(()),
        }
    }

    /// Whether something else than `\gset` gives the variable a value.
    fn has_other_value(&self, slot: Slot) -> bool {
        BUILT_IN.contains(&self.slots[slot].as_str())
            || !self.initial[slot].is_null() && self.initial[slot] != scope::own_name(&self.slots[slot])
            || self.steps.iter().any(|step| matches!(step, Step::Set { slot: set, .. } if *set == slot))
    }
}

#[cfg(test)]
mod tests;
