//! What is a value computed from?

use std::borrow::Cow;
use std::fmt;

use super::distribution::{self, Distribution};
use super::{Slot, Value, scatter};
use crate::random::Random;

/// An expression, compiled: names are slots, constants are values.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value.
    Constant(Value),
    /// The value of a variable.
    Variable(Slot),
    /// A function or an operator with its arguments.
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
        /// What a sequence is counted by.
        counters: Counters,
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
#[expect(missing_docs, reason = "named for what they compute")]
pub enum Function {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Not,
    /// `IS`: of the same type and the same; never NULL.
    Is,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    Abs,
    /// Its argument. What pgbench would print with it nobody could read under load.
    Debug,
    Double,
    Exp,
    Greatest,
    HashFnv1a,
    HashMurmur2,
    Int,
    Least,
    Ln,
    Permute,
    Pi,
    Power,
    Random,
    RandomExponential,
    RandomGaussian,
    RandomZipfian,
    Sqrt,
}

/// Why an expression has no value: a short message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miscalculation(Cow<'static, str>);

impl Miscalculation {
    /// With this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Miscalculation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Miscalculation {}

impl Expression {
    /// Its value, by the rules of pgbench: of NULL every function but IS makes NULL; AND, OR and CASE compute no more than they need.
    ///
    /// # Errors
    /// Division by zero, overflow, operands of the wrong type, bounds that cannot be drawn from.
    pub fn evaluate(&self, variables: &[Value], rng: &mut Random) -> Result<Value, Miscalculation> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Variable(slot) => variables[*slot].scalar(),
            Self::Call(function, arguments) => call(*function, arguments, variables, rng),
            Self::Case { branches, otherwise } => {
                for (condition, result) in branches {
                    if condition.evaluate(variables, rng)?.truth()? {
                        return result.evaluate(variables, rng);
                    }
                }
                otherwise.evaluate(variables, rng)
            }
            Self::Draw { distribution, counters } => {
                let sequence = if distribution.is_sequence() { counters.count(variables)? } else { 0 };
                distribution.draw(rng, sequence)
            }
        }
    }
}

impl Counters {
    /// How many values of a sequence come before this one.
    fn count(self, variables: &[Value]) -> Result<u64, Miscalculation> {
        let number = |slot: Slot| variables[slot].as_integer().map(i128::from);
        let count = number(self.iteration)? * number(self.vus)? + number(self.vu)?;
        u64::try_from(count).map_err(|_| Miscalculation::new(format!("a sequence has no value number {count}")))
    }
}

fn call(function: Function, arguments: &[Expression], variables: &[Value], rng: &mut Random) -> Result<Value, Miscalculation> {
    match (function, arguments) {
        (Function::And, [left, right]) => logical(false, left, right, variables, rng),
        (Function::Or, [left, right]) => logical(true, left, right, variables, rng),
        (Function::Least | Function::Greatest, [first, others @ ..]) => {
            let first = first.evaluate(variables, rng)?;
            let mut extreme = apply(function, &[first.clone(), first], rng)?;
            for other in others {
                extreme = apply(function, &[extreme, other.evaluate(variables, rng)?], rng)?;
            }
            Ok(extreme)
        }
        _ => {
            let mut values = [Value::Null, Value::Null, Value::Null];
            let values = values.get_mut(..arguments.len()).ok_or_else(|| wrong_number(function))?;
            for (value, argument) in values.iter_mut().zip(arguments) {
                *value = argument.evaluate(variables, rng)?;
            }
            apply(function, values, rng)
        }
    }
}

/// AND and OR; `decisive` is the value on the left that makes the right one unnecessary.
fn logical(
    decisive: bool,
    left: &Expression,
    right: &Expression,
    variables: &[Value],
    rng: &mut Random,
) -> Result<Value, Miscalculation> {
    let left = left.evaluate(variables, rng)?;
    if left.is_null() || left.as_boolean()? == decisive {
        return Ok(left);
    }
    match right.evaluate(variables, rng)? {
        Value::Null => Ok(Value::Null),
        right => right.as_boolean().map(Value::Boolean),
    }
}

/// A function of values; of LEAST and GREATEST always two.
fn apply(function: Function, values: &[Value], rng: &mut Random) -> Result<Value, Miscalculation> {
    use Function as F;
    match (function, values) {
        (F::Is, [left, right]) => return Ok(Value::Boolean(left == right)),
        (F::Debug, [value]) => return Ok(value.clone()),
        _ if values.iter().any(Value::is_null) => return Ok(Value::Null),
        _ => {}
    }
    let double = |value: f64| Ok(Value::Double(value));
    let integer = |value: i64| Ok(Value::Integer(value));
    match (function, values) {
        (F::Add, [a, b]) => arithmetic(a, b, i64::checked_add, |a, b| a + b, "add"),
        (F::Subtract, [a, b]) => arithmetic(a, b, i64::checked_sub, |a, b| a - b, "sub"),
        (F::Multiply, [a, b]) => arithmetic(a, b, i64::checked_mul, |a, b| a * b, "mul"),
        (F::Divide, [a, b]) => {
            if !is_double(a, b) {
                not_zero(b.as_integer()?)?;
            }
            arithmetic(a, b, i64::checked_div, |a, b| a / b, "div")
        }
        // By −1 nothing is left over, also of the number that cannot be divided by it.
        (F::Modulo, [a, b]) => integer(a.as_integer()?.wrapping_rem(not_zero(b.as_integer()?)?)),
        (F::Equal, [a, b]) => compare(a, b, |a, b| a == b, |a, b| a == b),
        (F::NotEqual, [a, b]) => compare(a, b, |a, b| a != b, |a, b| a != b),
        (F::Less, [a, b]) => compare(a, b, |a, b| a < b, |a, b| a < b),
        (F::LessOrEqual, [a, b]) => compare(a, b, |a, b| a <= b, |a, b| a <= b),
        (F::Least, [a, b]) => arithmetic(a, b, |a, b| Some(a.min(b)), f64::min, "least"),
        (F::Greatest, [a, b]) => arithmetic(a, b, |a, b| Some(a.max(b)), f64::max, "greatest"),
        (F::Not, [a]) => Ok(Value::Boolean(!a.as_boolean()?)),
        (F::BitAnd, [a, b]) => integer(a.as_integer()? & b.as_integer()?),
        (F::BitOr, [a, b]) => integer(a.as_integer()? | b.as_integer()?),
        (F::BitXor, [a, b]) => integer(a.as_integer()? ^ b.as_integer()?),
        (F::ShiftLeft, [a, b]) => integer(a.as_integer()? << shift(b)?),
        (F::ShiftRight, [a, b]) => integer(a.as_integer()? >> shift(b)?),
        (F::Abs, [Value::Double(a)]) => double(a.abs()),
        (F::Abs, [a]) => a.as_integer()?.checked_abs().map(Value::Integer).ok_or(Miscalculation::new("bigint abs out of range")),
        (F::Double, [a]) => double(a.as_double()?),
        (F::Int, [a]) => integer(a.as_integer()?),
        (F::Exp, [a]) => double(a.as_double()?.exp()),
        (F::Ln, [a]) => double(a.as_double()?.ln()),
        (F::Sqrt, [a]) => double(a.as_double()?.sqrt()),
        (F::Power, [a, b]) => double(a.as_double()?.powf(b.as_double()?)),
        (F::Pi, []) => double(std::f64::consts::PI),
        (F::HashMurmur2, [a, seed]) => integer(scatter::murmur2(a.as_integer()?, seed.as_integer()?)),
        (F::HashFnv1a, [a, seed]) => integer(scatter::fnv1a(a.as_integer()?, seed.as_integer()?)),
        (F::Permute, [a, size, seed]) => match size.as_integer()? {
            size @ 1.. => integer(scatter::permute(a.as_integer()?, size, seed.as_integer()?)),
            size => Err(Miscalculation::new(format!("the size to permute must be greater than 0, not {size}"))),
        },
        (F::Random, [from, to]) => {
            let (from, to) = bounds(from, to)?;
            integer(distribution::uniform(rng, from, to))
        }
        (F::RandomExponential | F::RandomGaussian | F::RandomZipfian, [from, to, parameter]) => {
            let (from, to) = bounds(from, to)?;
            let parameter = parameter.as_double()?;
            integer(match function {
                F::RandomExponential => distribution::exponential(rng, from, to, parameter)?,
                F::RandomGaussian => distribution::gaussian(rng, from, to, parameter)?,
                _ => distribution::zipfian(rng, from, to, parameter)?,
            })
        }
        _ => Err(wrong_number(function)),
    }
}

fn wrong_number(function: Function) -> Miscalculation {
    Miscalculation::new(format!("{function:?} has the wrong number of arguments"))
}

fn is_double(a: &Value, b: &Value) -> bool {
    matches!(a, Value::Double(_)) || matches!(b, Value::Double(_))
}

fn not_zero(divisor: i64) -> Result<i64, Miscalculation> {
    if divisor == 0 { Err(Miscalculation::new("division by zero")) } else { Ok(divisor) }
}

/// In doubles if either is one, otherwise in integers, which must not overflow.
fn arithmetic(
    a: &Value,
    b: &Value,
    integers: impl Fn(i64, i64) -> Option<i64>,
    doubles: impl Fn(f64, f64) -> f64,
    name: &str,
) -> Result<Value, Miscalculation> {
    if is_double(a, b) {
        return Ok(Value::Double(doubles(a.as_double()?, b.as_double()?)));
    }
    let result = integers(a.as_integer()?, b.as_integer()?);
    result.map(Value::Integer).ok_or_else(|| Miscalculation::new(format!("bigint {name} out of range")))
}

fn compare(
    a: &Value,
    b: &Value,
    integers: impl Fn(i64, i64) -> bool,
    doubles: impl Fn(f64, f64) -> bool,
) -> Result<Value, Miscalculation> {
    Ok(Value::Boolean(match is_double(a, b) {
        true => doubles(a.as_double()?, b.as_double()?),
        false => integers(a.as_integer()?, b.as_integer()?),
    }))
}

fn shift(by: &Value) -> Result<u32, Miscalculation> {
    let by = by.as_integer()?;
    u32::try_from(by)
        .ok()
        .filter(|by| *by < 64)
        .ok_or_else(|| Miscalculation::new(format!("cannot shift by {by} bits, only by 0 to 63")))
}

/// The bounds of a range to draw from; its size must be a bigint too.
fn bounds(from: &Value, to: &Value) -> Result<(i64, i64), Miscalculation> {
    let (from, to) = (from.as_integer()?, to.as_integer()?);
    if from > to {
        return Err(Miscalculation::new(format!("the range from {from} to {to} is empty")));
    }
    match to.checked_sub(from).and_then(|span| span.checked_add(1)) {
        Some(_) => Ok((from, to)),
        None => Err(Miscalculation::new(format!("the range from {from} to {to} is too large"))),
    }
}
