//! How is an expression written? The grammar of pgbench, by precedence climbing.

use super::scope::{Complaint, Scope, begins_name, name_at};
use super::{Expression, Function, Value};
use crate::error::nearest;

/// The functions: name, function, how many arguments at least and at most.
const FUNCTIONS: [(&str, Function, usize, usize); 21] = [
    ("abs", Function::Abs, 1, 1),
    ("debug", Function::Debug, 1, 1),
    ("double", Function::Double, 1, 1),
    ("exp", Function::Exp, 1, 1),
    ("greatest", Function::Greatest, 1, usize::MAX),
    ("hash", Function::HashMurmur2, 1, 2),
    ("hash_fnv1a", Function::HashFnv1a, 1, 2),
    ("hash_murmur2", Function::HashMurmur2, 1, 2),
    ("int", Function::Int, 1, 1),
    ("least", Function::Least, 1, usize::MAX),
    ("ln", Function::Ln, 1, 1),
    ("mod", Function::Modulo, 2, 2),
    ("permute", Function::Permute, 2, 3),
    ("pi", Function::Pi, 0, 0),
    ("pow", Function::Power, 2, 2),
    ("power", Function::Power, 2, 2),
    ("random", Function::Random, 2, 2),
    ("random_exponential", Function::RandomExponential, 3, 3),
    ("random_gaussian", Function::RandomGaussian, 3, 3),
    ("random_zipfian", Function::RandomZipfian, 3, 3),
    ("sqrt", Function::Sqrt, 1, 1),
];

/// How tightly operators bind, as in pgbench's grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
    Is,
    Comparison,
    Bits,
    Sum,
    Product,
    Sign,
}

/// The smallest number that is too large for an integer, unless a minus is before it.
const TOO_LARGE: &str = "9223372036854775808";

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    Constant(Value),
    TooLarge,
    Variable(&'a str),
    /// A keyword or the name of a function, in lower case.
    Word(String),
    Symbol(&'static str),
    End,
}

/// Longer ones first: `<=` is not `<` and `=`.
const SYMBOLS: [&str; 21] =
    ["<>", "!=", "<=", ">=", "<<", ">>", "+", "-", "*", "/", "%", "(", ")", ",", "=", "<", ">", "&", "|", "#", "~"];

/// Parses the expression that `text` has from byte `from` up to `to`.
pub(super) fn parse(text: &str, from: usize, to: usize, scope: &mut Scope) -> Result<Expression, Complaint> {
    let mut parser = Parser { text: &text[..to], next: from, at: from, token: Token::End, scope };
    parser.advance()?;
    let expression = parser.expression(Binding::Or)?;
    match parser.token {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("an operator or the end of the line")),
    }
}

struct Parser<'a, 's> {
    text: &'a str,
    /// The current token, where it begins, and where the next one does.
    token: Token<'a>,
    at: usize,
    next: usize,
    scope: &'s mut Scope,
}

impl<'a> Parser<'a, '_> {
    /// Goes on to the next token.
    fn advance(&mut self) -> Result<(), Complaint> {
        let text = self.text;
        let mut rest = text[self.next..].trim_start();
        // A backslash at the end of a line continues the expression on the next.
        while let Some(continued) = rest.strip_prefix("\\\n").or_else(|| rest.strip_prefix("\\\r\n")) {
            rest = continued.trim_start();
        }
        self.at = text.len() - rest.len();
        let (token, length) = self.token(rest)?;
        self.token = token;
        self.next = self.at + length;
        Ok(())
    }

    fn token(&self, rest: &'a str) -> Result<(Token<'a>, usize), Complaint> {
        let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
        if first == ':' && !name_at(&rest[1..]).is_empty() {
            let name = name_at(&rest[1..]);
            return Ok((Token::Variable(name), name.len() + 1));
        }
        if first.is_ascii_digit() || first == '.' {
            return self.number(rest);
        }
        if begins_name(first) {
            let word = name_at(rest);
            return Ok((Token::Word(word.to_lowercase()), word.len()));
        }
        match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Some(symbol) => Ok((Token::Symbol(symbol), symbol.len())),
            None => Err(Complaint::new(self.at, format!("unexpected character `{first}`"), OPERATORS)),
        }
    }

    fn number(&self, rest: &'a str) -> Result<(Token<'a>, usize), Complaint> {
        let digits = |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| from + n);
        let whole = digits(0);
        let mut end = whole;
        if rest[end..].starts_with('.') {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        let number = &rest[..end];
        let token = match end == whole {
            true if number == TOO_LARGE => Token::TooLarge,
            true => Token::Constant(Value::Integer(number.parse().map_err(|_| self.out_of_range(number))?)),
            false => match number.parse::<f64>() {
                Ok(double) if double.is_finite() => Token::Constant(Value::Double(double)),
                _ => return Err(self.out_of_range(number)),
            },
        };
        Ok((token, end))
    }

    fn out_of_range(&self, number: &str) -> Complaint {
        Complaint::new(
            self.at,
            format!("`{number}` is no bigint and no double"),
            "integers are at most 9223372036854775807, doubles 1.79e308",
        )
    }

    fn unexpected(&self, expected: &str) -> Complaint {
        let found = match &self.token {
            Token::Constant(_) | Token::TooLarge => "a constant".to_owned(),
            Token::Variable(name) => format!("`:{name}`"),
            Token::Word(word) => format!("`{word}`"),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::End => "the end of the expression".to_owned(),
        };
        Complaint::new(self.at, format!("unexpected {found}"), format!("here should be {expected}"))
    }

    /// Consumes the token if it is this word.
    fn word(&mut self, word: &str) -> Result<bool, Complaint> {
        let is = matches!(&self.token, Token::Word(w) if w == word);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn symbol(&mut self, symbol: &str) -> Result<bool, Complaint> {
        let is = matches!(self.token, Token::Symbol(s) if s == symbol);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn required_word(&mut self, word: &str) -> Result<(), Complaint> {
        if self.word(word)? { Ok(()) } else { Err(self.unexpected(&word.to_uppercase())) }
    }

    fn required_symbol(&mut self, symbol: &str) -> Result<(), Complaint> {
        if self.symbol(symbol)? { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: Binding) -> Result<Expression, Complaint> {
        let mut left = self.operand()?;
        let mut compared = false;
        while let Some((binding, operator)) = self.operator() {
            if binding < least {
                break;
            }
            if binding == Binding::Comparison && compared {
                return Err(self.unexpected("parentheses around one of the comparisons"));
            }
            compared = binding == Binding::Comparison;
            self.advance()?;
            left = match operator {
                Operator::IsNull(negated) => is(left, Value::Null, negated),
                Operator::Is => {
                    let negated = self.word("not")?;
                    let value = match &self.token {
                        Token::Word(word) => constant(word),
                        _ => None,
                    };
                    let Some(value) = value else { return Err(self.unexpected("NULL, TRUE or FALSE")) };
                    self.advance()?;
                    is(left, value, negated)
                }
                Operator::Binary(function, swapped) => {
                    // All are left associative: what follows binds more tightly.
                    let right = self.expression(binding.tighter())?;
                    let arguments = if swapped { [right, left] } else { [left, right] };
                    Expression::Call(function, arguments.into())
                }
            };
        }
        Ok(left)
    }

    /// The operator that the current token is, between or behind operands.
    fn operator(&self) -> Option<(Binding, Operator)> {
        use Operator::Binary;
        Some(match &self.token {
            Token::Word(word) => match word.as_str() {
                "or" => (Binding::Or, Binary(Function::Or, false)),
                "and" => (Binding::And, Binary(Function::And, false)),
                "is" => (Binding::Is, Operator::Is),
                "isnull" => (Binding::Is, Operator::IsNull(false)),
                "notnull" => (Binding::Is, Operator::IsNull(true)),
                _ => return None,
            },
            Token::Symbol(symbol) => match *symbol {
                "=" => (Binding::Comparison, Binary(Function::Equal, false)),
                "<>" | "!=" => (Binding::Comparison, Binary(Function::NotEqual, false)),
                "<" => (Binding::Comparison, Binary(Function::Less, false)),
                "<=" => (Binding::Comparison, Binary(Function::LessOrEqual, false)),
                ">" => (Binding::Comparison, Binary(Function::Less, true)),
                ">=" => (Binding::Comparison, Binary(Function::LessOrEqual, true)),
                "&" => (Binding::Bits, Binary(Function::BitAnd, false)),
                "|" => (Binding::Bits, Binary(Function::BitOr, false)),
                "#" => (Binding::Bits, Binary(Function::BitXor, false)),
                "<<" => (Binding::Bits, Binary(Function::ShiftLeft, false)),
                ">>" => (Binding::Bits, Binary(Function::ShiftRight, false)),
                "+" => (Binding::Sum, Binary(Function::Add, false)),
                "-" => (Binding::Sum, Binary(Function::Subtract, false)),
                "*" => (Binding::Product, Binary(Function::Multiply, false)),
                "/" => (Binding::Product, Binary(Function::Divide, false)),
                "%" => (Binding::Product, Binary(Function::Modulo, false)),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// What stands between operators, with what stands before it.
    fn operand(&mut self) -> Result<Expression, Complaint> {
        let at = self.at;
        match self.token.clone() {
            Token::Constant(value) => {
                self.advance()?;
                Ok(Expression::Constant(value))
            }
            Token::Variable(name) => {
                let slot = self.scope.find(name, at)?;
                self.advance()?;
                Ok(Expression::Variable(slot))
            }
            Token::Symbol("(") => {
                self.advance()?;
                let inner = self.expression(Binding::Or)?;
                self.required_symbol(")")?;
                Ok(inner)
            }
            Token::Symbol("+") => {
                self.advance()?;
                self.expression(Binding::Sign)
            }
            Token::Symbol("-") => {
                self.advance()?;
                if self.token == Token::TooLarge {
                    self.advance()?;
                    return Ok(Expression::Constant(Value::Integer(i64::MIN)));
                }
                Ok(Expression::Call(Function::Subtract, [integer(0), self.expression(Binding::Sign)?].into()))
            }
            Token::Symbol("~") => {
                self.advance()?;
                Ok(Expression::Call(Function::BitXor, [integer(-1), self.expression(Binding::Bits.tighter())?].into()))
            }
            Token::TooLarge => Err(self.out_of_range(TOO_LARGE)),
            Token::Word(word) => match word.as_str() {
                "not" => {
                    self.advance()?;
                    Ok(Expression::Call(Function::Not, [self.expression(Binding::Not.tighter())?].into()))
                }
                "case" => {
                    self.advance()?;
                    self.case()
                }
                "and" | "or" | "is" | "isnull" | "notnull" | "when" | "then" | "else" | "end" => Err(self.unexpected("an operand")),
                word => match constant(word) {
                    Some(value) => {
                        self.advance()?;
                        Ok(Expression::Constant(value))
                    }
                    None => self.function(word),
                },
            },
            Token::Symbol(_) | Token::End => Err(self.unexpected("an operand")),
        }
    }

    /// What follows CASE.
    fn case(&mut self) -> Result<Expression, Complaint> {
        let mut branches = Vec::new();
        self.required_word("when")?;
        loop {
            let condition = self.expression(Binding::Or)?;
            self.required_word("then")?;
            branches.push((condition, self.expression(Binding::Or)?));
            if !self.word("when")? {
                break;
            }
        }
        let otherwise = if self.word("else")? { self.expression(Binding::Or)? } else { Expression::Constant(Value::Null) };
        self.required_word("end")?;
        Ok(Expression::Case { branches: branches.into(), otherwise: otherwise.into() })
    }

    /// The function that the current token names.
    fn function(&mut self, name: &str) -> Result<Expression, Complaint> {
        let at = self.at;
        let Some((_, function, least, most)) = FUNCTIONS.into_iter().find(|(known, ..)| *known == name) else {
            let hint = nearest(name, FUNCTIONS.map(|(known, ..)| known))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let known = FUNCTIONS.map(|(known, ..)| known).join(", ");
            return Err(Complaint::new(
                at,
                format!("there is no function `{name}`{hint}"),
                format!("a variable is written :{name}; functions are {known}"),
            ));
        };
        self.advance()?;
        self.required_symbol("(")?;
        let mut arguments = Vec::new();
        if !self.symbol(")")? {
            loop {
                arguments.push(self.expression(Binding::Or)?);
                if !self.symbol(",")? {
                    break;
                }
            }
            self.required_symbol(")")?;
        }
        let given = arguments.len();
        if !(least..=most).contains(&given) {
            let takes = match (least, most) {
                (_, usize::MAX) => format!("{least} or more"),
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(Complaint::new(at, format!("`{name}` has {given} arguments"), format!("it takes {takes}")));
        }
        // Of hashes and permutations the last argument is the seed.
        if given < most && most != usize::MAX {
            arguments.push(Expression::Variable(self.scope.find("default_seed", at)?));
        }
        Ok(Expression::Call(function, arguments.into()))
    }
}

const OPERATORS: &str = "operators are + - * / % = <> < <= > >= & | # ~ << >> and AND, OR, NOT, IS, CASE";

#[derive(Debug, Clone, Copy)]
enum Operator {
    /// A function of both sides, perhaps with the right one first.
    Binary(Function, bool),
    /// `IS [NOT] NULL`, TRUE or FALSE.
    Is,
    /// `ISNULL`, or negated `NOTNULL`.
    IsNull(bool),
}

impl Binding {
    /// The next one.
    fn tighter(self) -> Self {
        match self {
            Self::Or => Self::And,
            Self::And => Self::Not,
            Self::Not => Self::Is,
            Self::Is => Self::Comparison,
            Self::Comparison => Self::Bits,
            Self::Bits => Self::Sum,
            Self::Sum => Self::Product,
            Self::Product | Self::Sign => Self::Sign,
        }
    }
}

/// The constant that a word is.
fn constant(word: &str) -> Option<Value> {
    match word {
        "null" => Some(Value::Null),
        "true" => Some(Value::Boolean(true)),
        "false" => Some(Value::Boolean(false)),
        _ => None,
    }
}

fn integer(value: i64) -> Expression {
    Expression::Constant(Value::Integer(value))
}

fn is(left: Expression, value: Value, negated: bool) -> Expression {
    let is = Expression::Call(Function::Is, [left, Expression::Constant(value)].into());
    if negated { Expression::Call(Function::Not, [is].into()) } else { is }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::scope::Sigil;
    use crate::random::Random;

    fn scope() -> Scope {
        let mut scope = Scope::new(Sigil::Colon);
        for (name, value) in [
            ("n", Value::Null),
            ("t", Value::Boolean(true)),
            ("i", Value::Integer(7)),
            ("d", Value::Double(2.5)),
            ("text", Value::Text("12".into())),
            ("bad", Value::Text("trueXXX".into())),
            ("default_seed", Value::Integer(5432)),
        ] {
            scope.define(name, value);
        }
        scope
    }

    /// The value of an expression as text, or what is wrong with it.
    fn value(text: &str) -> String {
        let mut scope = scope();
        let expression = match parse(text, 0, text.len(), &mut scope) {
            Ok(expression) => expression,
            Err(complaint) => return format!("{}: {}", complaint.at, complaint.message),
        };
        match expression.evaluate(&scope.initial, &mut Random::of(1, 2, 3)) {
            Ok(Value::Null) => "null".into(),
            Ok(value @ Value::Double(_)) => {
                let mut written = String::new();
                value.write_text(&mut written).unwrap();
                format!("double {written}")
            }
            Ok(value) => {
                let mut written = String::new();
                value.write_text(&mut written).unwrap();
                written
            }
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn operators_bind_as_in_pgbench() {
        for (text, expected) in [
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("10 - 4 - 3", "3"),
            ("100 / 7 / 2", "7"),
            ("-2 * -3", "6"),
            ("- - 5", "5"),
            ("+5 - +3", "2"),
            ("2 + 3 << 1", "10"),
            ("1 | 6 & 3", "3"),
            ("6 # 3 | 8", "13"),
            ("~0", "-1"),
            ("~1 + 2", "-4"),
            ("~1 & 3", "2"),
            ("2 * ~3 + 1", "-10"),
            ("NOT 1 = 2", "true"),
            ("NOT FALSE AND FALSE", "false"),
            ("not not true", "true"),
            ("TRUE OR TRUE AND FALSE", "true"),
            ("1 < 2 AND 3 >= 3 AND 2 <> 3 AND 2 != 3 AND 2 <= 2 AND 3 > 2", "true"),
            ("1 = 1 IS TRUE", "true"),
            ("1 = NULL IS NULL", "true"),
            ("NOT :n IS NOT NULL", "true"),
            (":n ISNULL AND :i NOTNULL", "true"),
            ("0 IS FALSE", "false"),
            ("1 + :i * 2", "15"),
            ("10 + mod(13 * 7 + 12, 13) - mod(-19 * 11 - 17, 19)", "39"),
            ("-7 % 3", "-1"),
            ("1 + \\\n 2 + \\\r\n 3", "6"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn values_are_those_of_pgbench() {
        for (text, expected) in [
            ("17", "17"),
            ("1.5e1", "double 15"),
            (".5", "double 0.5"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-(-9223372036854775807)", "9223372036854775807"),
            ("-9223372036854775808 % -1", "0"),
            ("1 / 2.0", "double 0.5"),
            ("1.0 / 0", "double Infinity"),
            ("abs(-3) + abs(-2.5)", "double 5.5"),
            ("int(3.5) + int(-2.5)", "2"),
            ("double(5432)", "double 5432"),
            ("greatest(3, 1, 2) - least(3, 1, 2)", "2"),
            ("least(2, 1.5)", "double 1.5"),
            ("least(1, NULL)", "null"),
            ("sqrt(16) + ln(exp(2)) + power(2, 3) + pow(2, -1)", "double 14.5"),
            ("pi()", "double 3.141592653589793"),
            ("hash(10)", "-5817877081768721676"),
            ("hash(10) = hash_murmur2(10, :default_seed)", "true"),
            ("HASH_FNV1A(10)", "-7793829335365542153"),
            ("permute(0, 1)", "0"),
            ("permute(0, 3) + permute(1, 3) + permute(2, 3)", "3"),
            ("debug(:d)", "double 2.5"),
            ("NULL + NULL * exp(NULL)", "null"),
            ("NULL AND (1 / 0 = 1)", "null"),
            ("FALSE AND (1 / 0 = 1)", "false"),
            ("TRUE OR (1 / 0 = 1)", "true"),
            ("FALSE OR NULL", "null"),
            ("CASE WHEN 0 < 1 THEN 32 ELSE 1 / 0 END", "32"),
            ("case when false then 1 when 1 = 1 then 13 + 19 + 2.0 end", "double 34"),
            ("CASE WHEN NULL THEN 1 END", "null"),
            ("CASE WHEN 0.5 THEN 1 END", "1"),
            (":text + 1", "13"),
            ("random(5, 5) + random_zipfian(3, 3, 2) + random_gaussian(2, 2, 2.5) + random_exponential(1, 1, 10)", "11"),
            ("random(NULL, 1)", "null"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn faults_say_what_is_wrong() {
        for (text, expected) in [
            ("1 / 0", "division by zero"),
            ("1 % 0", "division by zero"),
            ("9223372036854775807 + 1", "bigint add out of range"),
            ("0 - (1 << 62) - (1 << 62) - (1 << 62)", "bigint sub out of range"),
            ("2 * (1 << 62)", "bigint mul out of range"),
            ("-9223372036854775808 / -1", "bigint div out of range"),
            ("abs(-9223372036854775808)", "bigint abs out of range"),
            ("int(1E32)", "double to int overflow for 1e32"),
            ("1 << 64", "cannot shift by 64 bits, only by 0 to 63"),
            ("NOT 0.0", "cannot coerce double to boolean"),
            ("TRUE + 2", "cannot coerce boolean to int"),
            ("ln(TRUE)", "cannot coerce boolean to double"),
            ("TRUE = TRUE", "cannot coerce boolean to int"),
            ("least(TRUE)", "cannot coerce boolean to int"),
            ("TRUE AND 1", "cannot coerce int to boolean"),
            (":bad OR TRUE", "`trueXXX` is neither a number nor a truth value"),
            ("random(5, 3)", "the range from 5 to 3 is empty"),
            (
                "random(-9223372036854775808, 9223372036854775807)",
                "the range from -9223372036854775808 to 9223372036854775807 is too large",
            ),
            ("random(FALSE, TRUE)", "cannot coerce boolean to int"),
            ("random_gaussian(0, 10, 1.0)", "the gaussian parameter must be at least 2, not 1"),
            ("random_exponential(0, 10, 0.0)", "the exponential parameter must be greater than 0, not 0"),
            ("random_zipfian(0, 10, 1)", "the zipfian parameter must be from 1.001 to 1000, not 1"),
            ("permute(0, 0)", "the size to permute must be greater than 0, not 0"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_refused_where_it_is() {
        for (text, expected) in [
            ("", "0: unexpected the end of the expression"),
            ("1 +", "3: unexpected the end of the expression"),
            ("1 2", "2: unexpected a constant"),
            ("(1", "2: unexpected the end of the expression"),
            ("1)", "1: unexpected `)`"),
            ("1 < 2 < 3", "6: unexpected `<`"),
            ("1 ; 2", "2: unexpected character `;`"),
            ("1 + 'a'", "4: unexpected character `'`"),
            ("CASE TRUE WHEN 1 THEN 2 END", "5: unexpected `true`"),
            ("CASE WHEN 1 THEN 2", "18: unexpected the end of the expression"),
            ("1 IS 2", "5: unexpected a constant"),
            ("and", "0: unexpected `and`"),
            ("9223372036854775808", "0: `9223372036854775808` is no bigint and no double"),
            ("1e999", "0: `1e999` is no bigint and no double"),
            ("ln(1.0, 2.0)", "0: `ln` has 2 arguments"),
            ("greatest()", "0: `greatest` has 0 arguments"),
            ("randon(1, 2)", "0: there is no function `randon`; did you mean `random`?"),
            ("1 + :txet", "4: there is no variable `:txet`; did you mean `:text`?"),
            ("i", "0: there is no function `i`; did you mean `int`?"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
