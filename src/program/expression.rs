//! What is a value computed from?

use std::borrow::Cow;
use std::fmt;

use super::{Distribution, Slot, Value};
use crate::random::Random;

/// An expression, compiled: names are slots, constants are values.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value.
    Constant(Value),
    /// The value of a variable.
    Variable(Slot),
    /// A function or an operator, of as many arguments as it takes.
    Call(Function, Box<[Expression]>),
    /// `CASE WHEN … THEN … ELSE … END`.
    Case {
        /// Conditions and results.
        branches: Box<[(Expression, Expression)]>,
        /// What it is if no condition holds.
        otherwise: Box<Expression>,
    },
    /// A value of a parameter.
    Draw {
        /// What it is drawn from.
        distribution: Distribution,
        /// What a sequence is counted by; `None` for any other distribution.
        counters: Option<Counters>,
    },
}

/// Where the numbers are that make the values of a sequence unique in a run: the n-th is `iteration` × `vus` + `vu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// `$vu`: the number of the VU, from 0.
    pub vu: Slot,
    /// `$vus`: how many VUs there are.
    pub vus: Slot,
    /// `$iteration`: the number of the VU's iteration, from 0.
    pub iteration: Slot,
}

/// The functions and operators of pgbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `+`
    Add,
}

/// Why an expression has no value: a short message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(Cow<'static, str>);

impl Fault {
    /// With this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl Expression {
    /// Its value, by the rules of pgbench.
    ///
    /// # Errors
    /// Division by zero, overflow, operands of the wrong type, bounds that cannot be drawn from.
    pub fn evaluate(&self, variables: &[Value], rng: &mut Random) -> Result<Value, Fault> {
        let _ = (variables, rng);
        todo!()
    }
}
