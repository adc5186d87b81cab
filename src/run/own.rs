//! How is an operation of the user's own performed? Its program step by step, in one transaction or in those that it opens itself.

use std::collections::HashMap;

use super::work::{Attempt, Intention, Weights, What, Who};
use crate::history::Applied;
use crate::outcome::{Abort, Refusal};
use crate::pg::admin::literal;
use crate::pg::load::{Connection, Ending, Failure, Isolation, Parameters, Phase, Reply, Statement, Transaction};
use crate::program::{Capture, Else, Program, Slot, StatementKind, Step, Value};
use crate::random::Random;
use crate::scenario::{Meaning, Sql, SqlOperation};
use crate::{Error, Result};

/// Operations of the user's own, on a schema of the user's own.
pub struct OwnWork {
    /// Where unqualified names are looked for.
    search_path: Option<String>,
    operations: Vec<OwnOperation>,
    weights: Weights,
    /// Virtual users in all.
    vus: u32,
}

struct OwnOperation {
    plan: SqlOperation,
    builtin: Builtin,
    /// Several statements that do not say where their transaction begins are one.
    is_wrapped: bool,
}

/// Variables that the tool fills.
struct Builtin {
    vu: Vec<Slot>,
    vus: Option<Slot>,
    iteration: Option<Slot>,
    op_id: Option<Slot>,
}

/// What was prepared of one operation.
pub struct Prepared {
    /// By step.
    statements: Vec<Option<PreparedStatement>>,
    /// One statement alone, where the server's default level is the one that the scenario names.
    is_alone: bool,
}

struct PreparedStatement {
    statement: Statement,
    /// Which value of a row goes where.
    captures: Vec<(usize, Slot)>,
}

/// The variables of one virtual user, by operation: they keep their values from one iteration to the next.
#[derive(Default)]
pub struct Scratch {
    variables: Vec<Vec<Value>>,
    /// As they were when the iteration began: a retry begins with the same.
    before: Vec<Value>,
}

impl OwnWork {
    /// Of a scenario's operations; `search_path` as PostgreSQL reads it, `None` to leave the session's own.
    pub fn new(sql: &Sql, search_path: Option<String>, vus: u32) -> Self {
        let operations = sql.operations.iter().map(|plan| {
            let program = &plan.program;
            let builtin = Builtin {
                vu: ["vu", "client_id"].iter().filter_map(|name| program.slot(name)).collect(),
                vus: program.slot("vus"),
                iteration: program.slot("iteration"),
                op_id: program.slot("op_id"),
            };
            let is_wrapped = plan.is_one_transaction && !program.begins_transaction();
            OwnOperation { plan: plan.clone(), builtin, is_wrapped }
        });
        Self { search_path, operations: operations.collect(), weights: Weights::new(sql.operations.iter().map(|o| o.weight)), vus }
    }

    pub(super) fn levels(&self) -> Vec<Isolation> {
        let mut levels: Vec<Isolation> = self.operations.iter().filter(|o| o.is_wrapped).map(|o| o.plan.isolation).collect();
        levels.sort_unstable_by_key(|level| *level as u8);
        levels.dedup();
        levels
    }

    /// What is done next.
    pub fn propose(&self, random: &mut Random) -> Intention {
        Intention { operation: self.weights.choose(random), what: What::Own(random.clone()) }
    }

    pub(super) async fn prepare(&self, connection: &mut Connection) -> Result<Vec<Prepared>> {
        if let Some(path) = &self.search_path {
            connection.ask(&format!("SELECT set_config('search_path', {}, false)", literal(path))).await?;
        }
        let default = connection.ask("SHOW default_transaction_isolation").await?.unwrap_or_default();
        let mut all = Vec::new();
        for operation in &self.operations {
            let mut statements = Vec::new();
            for step in &operation.plan.program.steps {
                statements.push(match step {
                    Step::Statement(step) => Some(prepare(connection, &operation.plan.program, step).await?),
                    _ => None,
                });
            }
            let one = operation.plan.program.statements().count() == 1;
            all.push(Prepared { statements, is_alone: one && default == operation.plan.isolation.setting() });
        }
        Ok(all)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is another's: the connection's, the plan's, the virtual user's, the attempt's"
    )]
    pub(super) async fn perform(
        &self,
        connection: &mut Connection,
        number: usize,
        prepared: &[Prepared],
        who: Who,
        mut random: Random,
        scratch: &mut Scratch,
        phase: &Phase,
    ) -> Attempt {
        let (operation, prepared) = (&self.operations[number], &prepared[number]);
        let variables = scratch.begin(self, number, who);
        self.fill(operation, variables, who);
        let is_wrapped = operation.is_wrapped && !prepared.is_alone;
        if is_wrapped && let Err(failure) = connection.begin(operation.plan.isolation).await {
            return Attempt::Failed(failure);
        }
        let mut run = Run { operation, connection, phase, has_committed: false, has_written: false };
        let ended = run.steps(prepared, variables, &mut random).await;
        let ended = match ended {
            Ok(()) if is_wrapped => run.commit().await,
            Ok(()) => Attempt::Committed(Applied::default()),
            Err(ended) => ended,
        };
        run.leave(ended).await
    }

    fn fill(&self, operation: &OwnOperation, variables: &mut [Value], who: Who) {
        let Builtin { vu, vus, iteration, op_id } = &operation.builtin;
        let mut set = |slot: &Slot, value: i64| {
            if let Some(variable) = variables.get_mut(*slot) {
                *variable = Value::Integer(value);
            }
        };
        vu.iter().for_each(|slot| set(slot, i64::from(who.op_id.vu())));
        vus.iter().for_each(|slot| set(slot, i64::from(self.vus)));
        iteration.iter().for_each(|slot| set(slot, i64::from(who.op_id.n())));
        op_id.iter().for_each(|slot| set(slot, who.op_id.0));
    }
}

impl Scratch {
    /// The variables of an operation as an attempt finds them.
    fn begin(&mut self, work: &OwnWork, number: usize, who: Who) -> &mut Vec<Value> {
        if self.variables.is_empty() {
            self.variables = work.operations.iter().map(|o| o.plan.program.initial.clone()).collect();
        }
        let variables = &mut self.variables[number];
        if who.attempt == 1 {
            self.before.clone_from(variables);
        } else {
            variables.clone_from(&self.before);
        }
        variables
    }
}

async fn prepare(connection: &mut Connection, program: &Program, step: &crate::program::Statement) -> Result<PreparedStatement> {
    let statement = connection
        .prepare(&step.sql)
        .await
        .map_err(|error| Error::usage(format!("{}, statement in line {}", program.name, step.line)).because(error))?;
    let columns: HashMap<&str, usize> = statement.columns().iter().enumerate().map(|(i, name)| (&**name, i)).collect();
    let captures = match &step.capture {
        Capture::Nothing => Vec::new(),
        Capture::Columns(wanted) => wanted
            .iter()
            .map(|(name, slot)| match columns.get(name.as_str()) {
                Some(i) => Ok((*i, *slot)),
                None => Err(Error::usage(format!("{}: `{}` returns no column `{name}`", program.name, step.label))
                    .cure("capture a column that it returns, or name one so: SELECT … AS name")),
            })
            .collect::<Result<_>>()?,
        Capture::Prefix { slots, .. } => {
            slots.iter().filter_map(|(name, slot)| columns.get(name.as_str()).map(|i| (*i, *slot))).collect()
        }
    };
    Ok(PreparedStatement { statement, captures })
}

/// One attempt under way.
struct Run<'r> {
    operation: &'r OwnOperation,
    connection: &'r mut Connection,
    phase: &'r Phase,
    /// Something of this attempt has been committed: it cannot be taken back, and not be tried again.
    has_committed: bool,
    /// The transaction under way has written.
    has_written: bool,
}

impl Run<'_> {
    async fn steps(&mut self, prepared: &Prepared, variables: &mut [Value], random: &mut Random) -> Result<(), Attempt> {
        let steps = &self.operation.plan.program.steps;
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            match step {
                Step::Set { slot, expression } => {
                    variables[*slot] = expression.evaluate(variables, random).map_err(fault)?;
                }
                Step::JumpUnless { condition, to } => {
                    if !condition.evaluate(variables, random).and_then(|v| v.truth()).map_err(fault)? {
                        at = *to;
                    }
                }
                Step::Jump { to } => at = *to,
                Step::Sleep(microseconds) => {
                    let wait = microseconds.evaluate(variables, random).and_then(|v| v.as_integer()).map_err(fault)?;
                    tokio::time::sleep(std::time::Duration::from_micros(wait.max(0).unsigned_abs())).await;
                }
                Step::Statement(step) => {
                    let Some(prepared) = &prepared.statements[at - 1] else { continue };
                    self.statement(step, prepared, variables).await?;
                }
            }
        }
        Ok(())
    }

    async fn statement(
        &mut self,
        step: &crate::program::Statement,
        prepared: &PreparedStatement,
        variables: &mut [Value],
    ) -> Result<(), Attempt> {
        let statement = &prepared.statement;
        let fill = |parameters: &mut Parameters<'_>| step.parameters.iter().for_each(|slot| put(parameters, &variables[*slot]));
        let reply = match (step.kind, self.connection.transaction()) {
            (StatementKind::Commit, _) => {
                self.phase.commits();
                match self.connection.commit_with(statement).await {
                    Ending::Committed => {
                        self.has_committed = true;
                        self.has_written = false;
                        self.phase.settled();
                        return Ok(());
                    }
                    Ending::NotCommitted(failure) => return Err(self.failed(failure)),
                    Ending::Unknown => return Err(Attempt::Unknown),
                }
            }
            // A statement outside a block is a transaction of its own.
            (StatementKind::Other, Transaction::Idle) => {
                self.phase.commits();
                match self.connection.execute_alone(statement, fill).await {
                    Ok(reply) => {
                        self.has_committed |= reply.is_write;
                        self.phase.settled();
                        reply
                    }
                    Err(Ending::NotCommitted(failure)) => return Err(self.failed(failure)),
                    Err(_) => return Err(Attempt::Unknown),
                }
            }
            _ => {
                let reply = self.connection.execute(statement, fill).await.map_err(|failure| self.failed(failure))?;
                self.has_written |= reply.is_write;
                reply
            }
        };
        self.keep(step, prepared, reply, variables)?;
        self.guard(step, reply).await
    }

    /// Keeps the values that later steps use.
    fn keep(
        &self,
        step: &crate::program::Statement,
        prepared: &PreparedStatement,
        reply: Reply,
        variables: &mut [Value],
    ) -> Result<(), Attempt> {
        if prepared.captures.is_empty() {
            return Ok(());
        }
        // A guard may want no row; what it says comes first.
        let Some(row) = self.connection.row().filter(|_| reply.rows == 1) else {
            if step.guards.iter().any(|guard| (guard.or == Else::Refuse) == guard.rows.meets(reply.rows)) {
                return Ok(());
            }
            return Err(expectation(format!("{}: one row to keep values of, and there are {}", step.label, reply.rows)));
        };
        for (i, value) in row.values().enumerate() {
            for (_, slot) in prepared.captures.iter().filter(|(column, _)| *column == i) {
                variables[*slot] = value.map_or(Value::Null, |text| Value::Text(text.into()));
            }
        }
        Ok(())
    }

    async fn guard(&mut self, step: &crate::program::Statement, reply: Reply) -> Result<(), Attempt> {
        for guard in &step.guards {
            match (guard.or, guard.rows.meets(reply.rows)) {
                (Else::Refuse, true) => return Err(self.refused().await),
                (Else::Abort, false) => {
                    return Err(expectation(format!("{}: expected {}, met {}", step.label, guard.rows, reply.rows)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A rule said no. What was only read must be committed to count: at SERIALIZABLE, a reader that is rolled back may have seen a state that
    /// never was. What was written is taken back.
    async fn refused(&mut self) -> Attempt {
        if self.connection.transaction() == Transaction::Open && !self.has_written {
            return match self.connection.commit().await {
                Ending::Committed => Attempt::Refused(Refusal::Declared),
                Ending::NotCommitted(failure) => self.failed(failure),
                Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
            };
        }
        Attempt::Refused(Refusal::Declared)
    }

    async fn commit(&mut self) -> Attempt {
        self.phase.commits();
        match self.connection.commit().await {
            Ending::Committed => Attempt::Committed(Applied::default()),
            Ending::NotCommitted(failure) => self.failed(failure),
            Ending::Unknown => Attempt::Unknown,
        }
    }

    /// What an error of the server means here.
    fn failed(&self, failure: Failure) -> Attempt {
        let meaning = failure.server.as_ref().and_then(|e| self.operation.plan.outcomes.get(&e.code));
        match meaning {
            Some(Meaning::Refused) => Attempt::Refused(Refusal::Declared),
            Some(Meaning::Aborted) => Attempt::GivenUp(failure, None),
            Some(Meaning::Retry) if !self.has_committed => Attempt::Again(failure),
            _ if self.has_committed => Attempt::GivenUp(
                failure,
                Some("a transaction of the same iteration had been committed, so that it was not tried again".into()),
            ),
            _ if !self.operation.plan.retry => Attempt::GivenUp(failure, None),
            _ => Attempt::Failed(failure),
        }
    }

    /// Leaves no transaction behind.
    async fn leave(self, ended: Attempt) -> Attempt {
        if self.connection.is_open() && self.connection.transaction() != Transaction::Idle {
            self.connection.roll_back().await;
        }
        ended
    }
}

fn put(parameters: &mut Parameters<'_>, value: &Value) {
    match value {
        Value::Null => parameters.null(),
        Value::Integer(i) => parameters.integer(*i),
        Value::Text(text) => parameters.text(text),
        // Writing to memory does not fail.
        other => parameters.written(|out| {
            let _ = other.write_text(out);
        }),
    }
}

fn fault(fault: crate::program::Fault) -> Attempt {
    Attempt::GivenUp(Failure::local(Abort::Other), Some(fault.to_string()))
}

fn expectation(words: String) -> Attempt {
    Attempt::GivenUp(Failure::local(Abort::Expectation), Some(words))
}
