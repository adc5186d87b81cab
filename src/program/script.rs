//! How is a pgbench script read? <https://www.postgresql.org/docs/17/pgbench.html>

use std::collections::BTreeMap;

use super::scope::{Assigned, Complaint, Scope, Sigil, line_of, name_at};
use super::{Capture, Expression, Function, Given, Program, Statement, Step, Textual, Value, grammar, sql};
use crate::error::nearest;
use crate::{Error, Result};

/// The variables that every script has. Unless -D does it, who runs it gives them their values; `scale` is 1.
pub const BUILT_IN: [&str; 4] = ["client_id", "default_seed", "random_seed", "scale"];

/// The commands, without the backslash.
const COMMANDS: [&str; 7] = ["set", "if", "elif", "else", "endif", "sleep", "gset"];
/// Commands of pgbench that are not supported: why, and what to do.
const REFUSED: [(&str, &str, &str); 6] = [
    ("aset", "it is for combined statements, which cannot be prepared", "use \\gset after a statement that returns one row"),
    ("shell", "scripts run nothing but SQL", "run the command before, not under load"),
    ("setshell", "scripts run nothing but SQL", "compute the value before and give it with -D NAME=VALUE"),
    ("startpipeline", "statements are sent one by one, so that each is timed", "remove \\startpipeline and \\endpipeline"),
    ("endpipeline", "statements are sent one by one, so that each is timed", "remove \\startpipeline and \\endpipeline"),
    (
        "syncpipeline",
        "statements are sent one by one, so that each is timed",
        "remove \\startpipeline, \\syncpipeline and \\endpipeline",
    ),
];

/// Compiles a pgbench script, unchanged, as `pgbench -f file -D name=value` would run it. Refused is also a variable that may have no value where it is
/// used, with which pgbench would fail only when it came to it; see [`Program::validate_parameters`] for one where no parameter can stand.
///
/// # Errors
/// Usage, with file, line and column, for what pgbench would not accept and for the few commands that are not supported.
pub fn script(file: &str, text: &str, defines: &BTreeMap<String, String>) -> Result<Program> {
    let mut scope = Scope::new(Sigil::Colon);
    let [client_id, default_seed, random_seed, _] =
        BUILT_IN.map(|name| scope.define(name, Value::Integer(i64::from(name == "scale"))));
    let given = [(Given::Vu, client_id), (Given::DefaultSeed, default_seed), (Given::RandomSeed, random_seed)];
    for (name, value) in defines {
        if name.is_empty() || name_at(name) != name {
            return Err(Error::usage(format!("-D {name}={value}: `{name}` is no name of a variable"))
                .cure("letters, digits and _, no digit first"));
        }
        scope.define(name, Value::read(value));
    }
    let mut compiler = Compiler { file, text, at: 0, scope, steps: Vec::new(), blocks: Vec::new(), follows_statement: false };
    compiler.run().map_err(|complaint| complaint.into_error(file, text))?;
    let Compiler { scope: Scope { slots, initial, mentioned, .. }, mut steps, .. } = compiler;
    for step in &mut steps {
        if let Step::Statement(Statement { capture: Capture::Prefix { prefix, slots: captured }, .. }) = step {
            let column = |name: &String| name.strip_prefix(prefix.as_str()).filter(|column| !column.is_empty()).map(str::to_owned);
            *captured = slots.iter().enumerate().filter_map(|(slot, name)| Some((column(name)?, slot))).collect();
        }
    }
    if !steps.iter().any(|step| matches!(step, Step::Statement(_))) {
        return Err(
            Error::usage(format!("{file}: there is no SQL statement in it")).cure("a script measures what it sends to the server")
        );
    }
    let given = given.into_iter().filter(|(_, slot)| !defines.contains_key(&slots[*slot])).collect();
    Ok(Program { name: file.to_owned(), steps, slots, initial, given, mentioned })
}

struct Compiler<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    scope: Scope,
    steps: Vec<Step>,
    /// The `\if`s that are open.
    blocks: Vec<Block>,
    /// Whether `\gset` may follow.
    follows_statement: bool,
}

/// An open `\if`.
struct Block {
    /// Its first byte.
    at: usize,
    /// The jump over the branch that is being read; none in `\else`.
    skip: Option<usize>,
    /// The jumps from the ends of the other branches behind the `\endif`.
    ends: Vec<usize>,
    /// What had a value before it.
    before: Assigned,
    /// What has a value after every branch that is complete.
    after: Option<Assigned>,
}

impl Compiler<'_> {
    fn run(&mut self) -> Result<(), Complaint> {
        while self.at < self.text.len() {
            let (statement, end) = sql::read(self.text, self.at, &mut self.scope)?;
            self.at = end;
            if let Some(sql) = statement {
                self.follows_statement = true;
                let textual = sql.textual.into_iter().map(|textual| Textual {
                    slot: textual.slot,
                    is_sure: textual.is_sure,
                    message: format!("{}: {}", textual.complaint.place(self.file, self.text), textual.complaint.message),
                    cure: textual.complaint.cure,
                });
                self.steps.push(Step::Statement(Statement {
                    line: line_of(self.text, sql.at),
                    sql: sql.sql,
                    parameters: sql.parameters,
                    kind: sql.kind,
                    capture: Capture::Nothing,
                    guards: Vec::new(),
                    label: sql.label,
                    fragments: sql.fragments,
                    textual: textual.collect(),
                }));
            } else if self.text[end..].starts_with('\\') {
                self.command()?;
            }
        }
        match self.blocks.pop() {
            Some(block) => Err(Complaint::new(block.at, "this \\if has no \\endif", "close it with \\endif")),
            None => Ok(()),
        }
    }

    /// The command that begins here, to the end of the line.
    fn command(&mut self) -> Result<(), Complaint> {
        let at = self.at;
        let end = line_end(self.text, at);
        self.at = end;
        let words = words(self.text, at + 1, end);
        let Some((&(begin, name), arguments)) = words.split_first() else {
            return Err(Complaint::new(at, "a backslash without a command", format!("one of \\{}", COMMANDS.join(", \\"))));
        };
        let command = name.to_lowercase();
        let rest = begin + name.len();
        let no_more = |given: &[(usize, &str)]| match given.first() {
            Some((at, word)) => Err(Complaint::new(*at, format!("`{word}` is too much for \\{command}"), "remove it")),
            None => Ok(()),
        };
        let follows_statement = std::mem::take(&mut self.follows_statement);
        match command.as_str() {
            "set" => {
                let [(begin, name), ..] = *arguments else {
                    return Err(Complaint::new(
                        at,
                        "\\set needs a variable and an expression",
                        "as in \\set aid random(1, 100000)",
                    ));
                };
                if name_at(name) != name {
                    return Err(Complaint::new(
                        begin,
                        format!("`{name}` is no name of a variable"),
                        "letters, digits and _, no digit first",
                    ));
                }
                let expression = grammar::parse(self.text, begin + name.len(), end, &mut self.scope)?;
                let slot = self.scope.assign(name);
                self.steps.push(Step::Set { slot, expression });
            }
            "if" => {
                let condition = grammar::parse(self.text, rest, end, &mut self.scope)?;
                let before = self.scope.assigned.clone();
                self.blocks.push(Block { at, skip: Some(self.steps.len()), ends: Vec::new(), before, after: None });
                self.steps.push(Step::JumpUnless { condition, to: 0 });
            }
            "elif" => {
                self.end_branch(at, "elif")?;
                let condition = grammar::parse(self.text, rest, end, &mut self.scope)?;
                if let Some(block) = self.blocks.last_mut() {
                    block.skip = Some(self.steps.len());
                }
                self.steps.push(Step::JumpUnless { condition, to: 0 });
            }
            "else" => {
                no_more(arguments)?;
                self.end_branch(at, "else")?;
            }
            "endif" => {
                no_more(arguments)?;
                self.end_block(at)?;
            }
            "sleep" => {
                let expression = self.sleep(at, arguments)?;
                self.steps.push(Step::Sleep(expression));
            }
            "gset" => {
                no_more(arguments.get(1..).unwrap_or_default())?;
                let (prefix_at, prefix) = arguments.first().copied().unwrap_or((at, ""));
                if name_at(prefix) != prefix {
                    return Err(Complaint::new(
                        prefix_at,
                        format!("no variable can begin with `{prefix}`"),
                        "letters, digits and _, no digit first",
                    ));
                }
                match self.steps.last_mut().filter(|_| follows_statement) {
                    Some(Step::Statement(statement)) => {
                        statement.capture = Capture::Prefix { prefix: prefix.to_owned(), slots: Vec::new() };
                        self.scope.capture(prefix);
                    }
                    _ => return Err(Complaint::new(at, "\\gset must follow a statement", "right after it, in place of its `;`")),
                }
            }
            _ => return Err(unknown(at, &command)),
        }
        Ok(())
    }

    /// A branch ends and another of the same `\if` begins.
    fn end_branch(&mut self, at: usize, command: &str) -> Result<(), Complaint> {
        let after = self.steps.len() + 1;
        let Some(block) = self.blocks.last_mut() else { return Err(without_if(at, command)) };
        let Some(skip) = block.skip.take() else {
            return Err(Complaint::new(at, format!("\\{command} after \\else"), "\\else comes last, before \\endif"));
        };
        block.ends.push(self.steps.len());
        block.leave(&self.scope.assigned);
        self.scope.assigned = block.before.clone();
        self.steps.push(Step::Jump { to: 0 });
        land(&mut self.steps[skip], after);
        Ok(())
    }

    fn end_block(&mut self, at: usize) -> Result<(), Complaint> {
        let Some(mut block) = self.blocks.pop() else { return Err(without_if(at, "endif")) };
        block.leave(&self.scope.assigned);
        if block.skip.is_some() {
            // Without \else there is a way past all branches.
            let before = block.before.clone();
            block.leave(&before);
        }
        let behind = self.steps.len();
        for jump in block.ends.into_iter().chain(block.skip) {
            land(&mut self.steps[jump], behind);
        }
        self.scope.assigned = block.after.unwrap_or(block.before);
        Ok(())
    }

    /// `\sleep 10 ms`, `\sleep 10ms`, `\sleep :n ms`; seconds where no unit is given. In microseconds.
    fn sleep(&mut self, at: usize, arguments: &[(usize, &str)]) -> Result<Expression, Complaint> {
        let cure = "as in \\sleep 10 ms; units are us, ms and s";
        let (number_at, number, unit_at, unit) = match *arguments {
            [(at, joined)] => {
                let digits =
                    joined.find(|c: char| !c.is_ascii_digit()).filter(|_| !joined.starts_with(':')).unwrap_or(joined.len());
                (at, &joined[..digits], at + digits, &joined[digits..])
            }
            [(at, number), (unit_at, unit)] => (at, number, unit_at, unit),
            [] => return Err(Complaint::new(at, "\\sleep needs a time", cure)),
            [_, _, (at, word), ..] => return Err(Complaint::new(at, format!("`{word}` is too much for \\sleep"), cure)),
        };
        let microseconds = match unit.to_lowercase().as_str() {
            "us" => 1,
            "ms" => 1_000,
            "s" | "" => 1_000_000,
            _ => return Err(Complaint::new(unit_at, format!("`{unit}` is no unit of time"), cure)),
        };
        if let Some(name) = number.strip_prefix(':').filter(|name| name_at(name) == *name) {
            let variable = Expression::Variable(self.scope.find(name, number_at)?);
            return Ok(Expression::Call(Function::Multiply, [variable, Expression::Constant(Value::Integer(microseconds))].into()));
        }
        match number.parse::<u32>() {
            Ok(number) => Ok(Expression::Constant(Value::Integer(i64::from(number) * microseconds))),
            Err(_) => Err(Complaint::new(number_at, format!("`{number}` is no time"), cure)),
        }
    }
}

impl Block {
    /// A way out of the block: only what every way has given a value has one behind it.
    fn leave(&mut self, assigned: &Assigned) {
        match &mut self.after {
            Some(after) => after.intersect(assigned),
            None => self.after = Some(assigned.clone()),
        }
    }
}

/// Sets where a jump goes.
fn land(step: &mut Step, target: usize) {
    if let Step::Jump { to } | Step::JumpUnless { to, .. } = step {
        *to = target;
    }
}

fn without_if(at: usize, command: &str) -> Complaint {
    Complaint::new(at, format!("\\{command} without \\if"), "begin with \\if and a condition")
}

fn unknown(at: usize, command: &str) -> Complaint {
    if let Some((_, why, cure)) = REFUSED.into_iter().find(|(name, ..)| *name == command) {
        return Complaint::new(at, format!("\\{command} is not supported: {why}"), cure);
    }
    let hint = nearest(command, COMMANDS).map(|near| format!("; did you mean \\{near}?")).unwrap_or_default();
    Complaint::new(at, format!("there is no command \\{command}{hint}"), format!("one of \\{}", COMMANDS.join(", \\")))
}

/// The end of the line, which goes on behind a newline that follows a backslash.
fn line_end(text: &str, from: usize) -> usize {
    let newlines = text[from..].match_indices('\n').map(|(at, _)| from + at);
    let continued = |at: &usize| text[from..*at].trim_end_matches('\r').ends_with('\\');
    newlines.into_iter().find(|at| !continued(at)).unwrap_or(text.len())
}

/// The words of a command and where they begin; a backslash before a newline is none of them.
fn words(text: &str, from: usize, to: usize) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut at = from;
    while let Some(begin) = text[at..to].find(|c: char| !c.is_whitespace()).map(|gap| at + gap) {
        let end = text[begin..to].find(char::is_whitespace).map_or(to, |length| begin + length);
        let continues = text[end..to].trim_start_matches('\r').starts_with('\n');
        let word = text[begin..end].strip_suffix('\\').filter(|_| continues).unwrap_or(&text[begin..end]);
        if !word.is_empty() {
            words.push((begin, word));
        }
        at = end;
    }
    words
}
