//! How is an operation of the user's own performed? Its program step by step, in one transaction or in those that it opens itself.

use std::collections::HashMap;

use super::foreign::asking::Notes;
use super::work::{Intention, Weights, What};
use crate::history::{Applied, OpId};
use crate::outcome::{Abort, Refusal};
use crate::pg::admin::{identifier, literal};
use crate::pg::load::{
    Between, Connection, Ending, Failure, Isolation, Parameters, Phase, Protocol, Reply, Statement, Transaction,
};
use crate::program::{self, Capture, Else, Fragment, Given, Hidden, Program, Slot, StatementKind, Step, Value};
use crate::random::Random;
use crate::scenario::{Meaning, Sql, SqlOperation};
use crate::target::{Attempt, Who};
use crate::{Error, Result};

/// Stream of the seed of hashes.
const DEFAULT_SEED: u64 = 5 << 32;

/// Operations of the user's own, on a schema of the user's own.
pub struct OwnWork {
    /// Where unqualified names are looked for; `None` to leave it as the server has it.
    schema: Option<String>,
    operations: Vec<OwnOperation>,
    weights: Weights,
    /// Virtual users in all.
    vus: u32,
    rng_seed: u64,
}

struct OwnOperation {
    plan: SqlOperation,
    /// Several statements that do not say where their transaction begins are one.
    is_wrapped: bool,
    /// The variables that its program writes.
    written: Vec<Slot>,
}

/// What was prepared of one operation.
pub struct Prepared {
    /// Says in each transaction where unqualified names are looked for, if nothing that is told to a session stays with it.
    path: Option<Statement>,
    /// By step.
    statements: Vec<Option<PreparedStatement>>,
    /// One statement that is a transaction by itself, at the level that the scenario names.
    is_alone: bool,
}

struct PreparedStatement {
    statement: Statement,
    /// Which value of a row goes where.
    captures: Vec<(usize, Slot)>,
    /// It may write although its answer is that of a query.
    may_write: bool,
    /// Its variables are substituted as text. Which columns it returns is known when it has.
    is_substituted: bool,
}

/// The variables of one virtual user, by operation: they keep their values from one iteration to the next.
#[derive(Default)]
pub struct Scratch {
    variables: Vec<Vec<Value>>,
    /// Those that the program writes, as they were when the iteration began: a retry begins with the same.
    before: Vec<Value>,
    /// Whose iteration it is. The first attempt may never have got as far as this, if nobody let it in.
    of: Option<OpId>,
    /// What the last attempt at an API had to say besides.
    pub(super) notes: Notes,
}

impl OwnWork {
    /// Of a scenario's operations, on the tables of `schema`; an empty one leaves the sessions as the server makes them. `rng_seed` is what all
    /// choices are made from.
    pub fn new(sql: &Sql, schema: &str, vus: u32, rng_seed: u64) -> Self {
        let operations = sql.operations.iter().map(|plan| OwnOperation {
            plan: plan.clone(),
            is_wrapped: plan.is_one_transaction && !plan.program.begins_transaction(),
            written: plan.program.written(),
        });
        Self {
            schema: Some(schema.to_owned()).filter(|schema| !schema.is_empty()),
            operations: operations.collect(),
            weights: Weights::new(sql.operations.iter().map(|o| o.weight)),
            vus,
            rng_seed,
        }
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

    pub(super) async fn prepare(&self, connection: &mut Connection, between: Between) -> Result<Vec<Prepared>> {
        let Some(schema) = &self.schema else { return self.prepare_there(connection, between, None).await };
        let there = |is_local: bool| format!("SELECT set_config('search_path', {}, {is_local})", literal(&identifier(schema)));
        if !between.shares_sessions() {
            connection.ask(&there(false)).await?;
            return self.prepare_there(connection, between, None).await;
        }
        let usual = format!("SELECT current_schemas(false) = ARRAY[{}::name]", literal(schema));
        if connection.ask(&usual).await?.as_deref() == Some("t") {
            return self.prepare_there(connection, between, None).await;
        }
        if let Some(operation) = self.operations.iter().find(|operation| !operation.is_wrapped) {
            let name = &operation.plan.name;
            return Err(Error::usage(format!(
                "`{name}` begins and ends transactions by itself, and a pooler does not let a session keep where its tables are"
            ))
            .cure(format!(
                "ALTER ROLE … SET search_path = {}; or leave BEGIN and COMMIT to dbstress (sql or statements); or leave out --via",
                identifier(schema)
            )));
        }
        // What is prepared looks for its names where it will be run.
        connection.ask("BEGIN").await?;
        connection.ask(&there(true)).await?;
        let prepared = self.prepare_there(connection, between, Some(&there(true))).await?;
        connection.ask("COMMIT").await?;
        Ok(prepared)
    }

    /// Prepares, where names are looked for as they are to be, or will be with `path`.
    async fn prepare_there(&self, connection: &mut Connection, between: Between, path: Option<&str>) -> Result<Vec<Prepared>> {
        let default = connection.ask("SHOW default_transaction_isolation").await?.unwrap_or_default();
        let mut all = Vec::new();
        for operation in &self.operations {
            let program = &operation.plan.program;
            let mut statements = Vec::new();
            for step in &program.steps {
                statements.push(match step {
                    Step::Statement(step) => Some(prepare(connection, program, step).await?),
                    _ => None,
                });
            }
            let columns: Vec<Vec<&str>> =
                statements.iter().flatten().map(|p| p.statement.columns().iter().map(|name| &**name).collect()).collect();
            if !statements.iter().flatten().any(|prepared| prepared.is_substituted) {
                program.validate_captures(&columns)?;
            }
            let mut sent = program.statements().zip(statements.iter().flatten());
            let is_alone = match (sent.next(), sent.next()) {
                (Some((only, prepared)), None) => {
                    // Of a pooler's sessions each may have another default.
                    !between.shares_sessions()
                        && default == operation.plan.isolation.setting()
                        && can_stand_alone(only, prepared.may_write)
                }
                _ => false,
            };
            let path = match path {
                Some(sql) => Some(connection.prepare(sql).await?),
                None => None,
            };
            all.push(Prepared { path, statements, is_alone });
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
        let is_wrapped = operation.is_wrapped && !prepared.is_alone;
        if is_wrapped && let Err(failure) = connection.begin(operation.plan.isolation).await {
            return Attempt::Failed(failure);
        }
        if let Some(path) = &prepared.path
            && let Err(failure) = connection.execute(path, |_| {}).await
        {
            connection.roll_back().await;
            return Attempt::Failed(failure);
        }
        let mut run = Run { operation, connection, phase, has_committed: false, has_written: false, ends: Ends::default() };
        let ended = run.steps(prepared, variables, &mut random).await;
        let ended = match ended {
            Ok(()) if is_wrapped => run.commit().await,
            // Whatever is in the block has not been committed, and will not be.
            Ok(()) if run.connection.transaction() != Transaction::Idle => {
                expectation(format!("{}: the iteration ended inside a transaction block", operation.plan.name))
            }
            Ok(()) => run.ends.attempt(),
            Err(ended) => ended,
        };
        run.leave(ended).await
    }

    /// The value of what a program does not know by itself.
    fn give(&self, given: Given, who: Who) -> i64 {
        match given {
            Given::Vu => i64::from(who.op_id.vu()),
            Given::Vus => i64::from(self.vus),
            Given::Iteration => i64::from(who.op_id.n()),
            Given::OpId => who.op_id.0,
            Given::RandomSeed => self.rng_seed.cast_signed(),
            Given::DefaultSeed => Random::of(self.rng_seed, DEFAULT_SEED, 0).bits().cast_signed(),
        }
    }
}

impl Scratch {
    /// The variables of an operation as an attempt finds them.
    fn begin(&mut self, work: &OwnWork, number: usize, who: Who) -> &mut [Value] {
        if self.variables.is_empty() {
            self.variables = work.operations.iter().map(|o| o.plan.program.initial.clone()).collect();
            for (variables, operation) in self.variables.iter_mut().zip(&work.operations) {
                for (given, slot) in &operation.plan.program.given {
                    variables[*slot] = Value::Integer(work.give(*given, who));
                }
            }
        }
        let variables = &mut self.variables[number];
        let written = &work.operations[number].written;
        if self.of.replace(who.op_id) == Some(who.op_id) {
            for (slot, value) in written.iter().zip(&self.before) {
                variables[*slot].clone_from(value);
            }
            return variables;
        }
        // The others stay as they are, or as the script has set them.
        let changing = |given: &&(Given, Slot)| matches!(given.0, Given::Iteration | Given::OpId);
        for (given, slot) in work.operations[number].plan.program.given.iter().filter(changing) {
            variables[*slot] = Value::Integer(work.give(*given, who));
        }
        self.before.clear();
        self.before.extend(written.iter().map(|slot| variables[*slot].clone()));
        variables
    }
}

/// Whether nothing that it meets would have to be taken back: a statement that is its own transaction is committed when its answer comes.
fn can_stand_alone(statement: &program::Statement, may_write: bool) -> bool {
    let guards = &statement.guards;
    let is_harmless = guards.is_empty() || !may_write && guards.iter().all(|guard| guard.fires_without_rows_only());
    is_harmless && statement.capture == Capture::Nothing
}

async fn prepare(connection: &mut Connection, program: &Program, step: &program::Statement) -> Result<PreparedStatement> {
    let may_write = may_write(connection, &step.sql).await?;
    if connection.protocol() == Protocol::Simple && !step.fragments.is_empty() {
        let statement = Statement::substituting(&step.fragments);
        return Ok(PreparedStatement { statement, captures: Vec::new(), may_write, is_substituted: true });
    }
    let statement = match connection.prepare(&step.sql).await {
        Ok(statement) => statement,
        // The server went away: it did not say anything about the statement.
        Err(error) if !connection.is_open() => return Err(error),
        Err(error) => {
            let place = format!("{}:{}: `{}` cannot be prepared", program.name, step.line, step.label);
            return Err(Error::usage(place)
                .because(error)
                .cure("correct it; the tables that it names must be there before the load begins"));
        }
    };
    let (taken, named) = (statement.parameters(), step.parameters.len());
    if taken != named {
        let place = format!(
            "{}:{}: `{}` names {named} parameters, and PostgreSQL takes {taken} there",
            program.name, step.line, step.label
        );
        let cure = "a parameter is a value in SELECT, INSERT, UPDATE, DELETE, MERGE or VALUES; other commands take none, and no name has one in it";
        let simple = match step.fragments.is_empty() {
            true => "",
            false => "\n--protocol simple substitutes variables as text, as pgbench -M simple does",
        };
        return Err(Error::usage(place).cure(format!("{cure}{simple}")));
    }
    let columns: HashMap<&str, usize> = statement.columns().iter().enumerate().map(|(i, name)| (&**name, i)).collect();
    let wanted = match &step.capture {
        Capture::Nothing => &[],
        Capture::Columns(slots) | Capture::Prefix { slots, .. } => &slots[..],
    };
    let captures = wanted.iter().filter_map(|(name, slot)| Some((*columns.get(name.as_str())?, *slot))).collect();
    Ok(PreparedStatement { statement, captures, may_write, is_substituted: false })
}

/// Whether a statement may write although its answer is that of a query: by itself, or by what it calls. What a function does nobody knows; of those
/// that are VOLATILE, which is what they are unless they say otherwise, and no part of PostgreSQL or of an extension, it is taken that they write.
async fn may_write(connection: &mut Connection, sql: &str) -> Result<bool> {
    let calls = match program::hidden_changes(sql) {
        Hidden::Writes => return Ok(true),
        Hidden::Calls(calls) => calls,
    };
    if calls.is_empty() {
        return Ok(false);
    }
    let names: Vec<String> = calls.iter().map(|name| literal(name)).collect();
    let volatile = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.proname IN ({}) AND p.provolatile = 'v' \
         AND p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
         WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'))",
        names.join(", ")
    );
    Ok(connection.ask(&volatile).await?.as_deref() == Some("t"))
}

/// One attempt under way.
struct Run<'r> {
    operation: &'r OwnOperation,
    connection: &'r mut Connection,
    phase: &'r Phase,
    /// Something of this attempt has been committed: it cannot be taken back, and not be tried again.
    has_committed: bool,
    /// The transaction under way may have written.
    has_written: bool,
    ends: Ends,
}

/// How the transactions of one attempt ended, as the server told.
#[derive(Debug, Default)]
struct Ends {
    /// One was committed that changed something.
    changed: bool,
    /// One was rolled back.
    rolled_back: bool,
    /// The one under way has changed something.
    changing: bool,
    /// Whether it had at its first savepoint.
    at_savepoint: Option<bool>,
}

impl Ends {
    /// A statement was answered. `before` and `after` it the session was so; `committed` is whether the answer had the tag COMMIT.
    fn follow(&mut self, kind: StatementKind, (before, after): (Transaction, Transaction), committed: bool, changes: bool) {
        match (before, after) {
            (Transaction::Idle, Transaction::Idle) => self.changed |= changes,
            (_, Transaction::Idle) => {
                self.changed |= committed && self.changing;
                self.rolled_back |= !committed;
                (self.changing, self.at_savepoint) = (false, None);
            }
            _ if kind == StatementKind::Savepoint => {
                self.at_savepoint.get_or_insert(self.changing);
            }
            // To which of its savepoints is not looked at: what was changed since the first does not count.
            _ if kind == StatementKind::RollbackTo => self.changing = self.at_savepoint.unwrap_or(false),
            _ => self.changing |= changes,
        }
    }

    /// What an attempt came to that was done to its end.
    fn attempt(&self) -> Attempt {
        match (self.changed, self.rolled_back) {
            (true, _) => Attempt::Committed(Applied::default()),
            (false, true) => Attempt::RolledBack,
            (false, false) => Attempt::Unchanged,
        }
    }
}

impl Run<'_> {
    async fn steps(&mut self, prepared: &Prepared, variables: &mut [Value], random: &mut Random) -> Result<(), Attempt> {
        let steps = &self.operation.plan.program.steps;
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            at += 1;
            match step {
                Step::Set { slot, expression } => {
                    variables[*slot] = expression.evaluate(variables, random).map_err(miscalculated)?;
                }
                Step::JumpUnless { condition, to } => {
                    if !condition.evaluate(variables, random).and_then(|v| v.truth()).map_err(miscalculated)? {
                        at = *to;
                    }
                }
                Step::Jump { to } => at = *to,
                Step::Sleep(microseconds) => {
                    let wait = microseconds.evaluate(variables, random).and_then(|v| v.as_integer()).map_err(miscalculated)?;
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
        step: &program::Statement,
        prepared: &PreparedStatement,
        variables: &mut [Value],
    ) -> Result<(), Attempt> {
        let statement = &prepared.statement;
        let fill = |parameters: &mut Parameters<'_>| {
            let mut value = |slot: Slot| put(parameters, &variables[slot]);
            if prepared.is_substituted {
                step.fragments.iter().for_each(|fragment| {
                    if let Fragment::Variable(slot) = fragment {
                        value(*slot);
                    }
                });
            } else {
                step.parameters.iter().for_each(|slot| value(*slot));
            }
        };
        let before = self.connection.transaction();
        let reply = match (step.kind, before) {
            (StatementKind::Commit, _) => {
                self.phase.commits();
                match self.connection.commit_with(statement, fill).await {
                    Ending::Committed => {
                        self.has_committed = true;
                        self.has_written = false;
                        self.ends.follow(step.kind, (before, self.connection.transaction()), true, false);
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
                        self.has_committed |= reply.is_write || prepared.may_write;
                        self.phase.settled();
                        reply
                    }
                    Err(Ending::NotCommitted(failure)) => return Err(self.failed(failure)),
                    Err(_) => return Err(Attempt::Unknown),
                }
            }
            _ => {
                let reply = self.connection.execute(statement, fill).await.map_err(|failure| self.failed(failure))?;
                self.has_written |= reply.is_write || prepared.may_write;
                reply
            }
        };
        let after = self.connection.transaction();
        self.has_written &= after != Transaction::Idle;
        let changes = reply.changes || prepared.may_write && reply.rows > 0;
        self.ends.follow(step.kind, (before, after), self.connection.has_committed(), changes);
        self.keep(step, prepared, reply, variables)?;
        self.guard(step, reply).await
    }

    /// Keeps the values that later steps use.
    fn keep(
        &self,
        step: &program::Statement,
        prepared: &PreparedStatement,
        reply: Reply,
        variables: &mut [Value],
    ) -> Result<(), Attempt> {
        // A guard may want no row; what it says comes first.
        if step.capture == Capture::Nothing || step.guards.iter().any(|guard| guard.fires(reply.rows)) {
            return Ok(());
        }
        let Some(row) = self.connection.row().filter(|_| reply.rows == 1) else {
            return Err(expectation(format!("{}: one row to keep values of, and there are {}", step.label, reply.rows)));
        };
        if prepared.is_substituted {
            let Capture::Prefix { slots, .. } = &step.capture else { return Ok(()) };
            for (name, value) in self.connection.column_names().zip(row.values()) {
                for (_, slot) in slots.iter().filter(|(column, _)| column.as_bytes() == name) {
                    variables[*slot] = value.map_or(Value::Null, |text| Value::Text(text.into()));
                }
            }
            return Ok(());
        }
        for (i, value) in row.values().enumerate() {
            for (_, slot) in prepared.captures.iter().filter(|(column, _)| *column == i) {
                variables[*slot] = value.map_or(Value::Null, |text| Value::Text(text.into()));
            }
        }
        Ok(())
    }

    async fn guard(&mut self, step: &program::Statement, reply: Reply) -> Result<(), Attempt> {
        match step.guards.iter().find(|guard| guard.fires(reply.rows)) {
            None => Ok(()),
            Some(guard) if guard.or == Else::Refuse => Err(self.refused().await),
            Some(guard) => Err(expectation(format!("{}: expected {}, met {}", step.label, guard.rows, reply.rows))),
        }
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
            Ending::Committed => {
                self.ends.follow(StatementKind::Commit, (Transaction::Open, Transaction::Idle), true, false);
                self.ends.attempt()
            }
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
            _ if self.has_committed => {
                let why = "not tried again: a transaction of the same iteration had been committed";
                let words = failure.abort.is_retryable().then(|| why.to_owned());
                Attempt::GivenUp(failure, words)
            }
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

fn miscalculated(miscalculation: program::Miscalculation) -> Attempt {
    Attempt::GivenUp(Failure::local(Abort::Other), Some(miscalculation.to_string()))
}

fn expectation(words: String) -> Attempt {
    Attempt::GivenUp(Failure::local(Abort::Expectation), Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, Workload};

    /// A session that cannot be opened costs the first attempt before it has begun: the second is then the first of its iteration here.
    #[test]
    fn an_iteration_never_begins_with_the_values_of_the_one_before() {
        let text = "summary = \"a test\"\nworkload = \"sql\"\n[[operation]]\nname = \"mark\"\nsql = \"INSERT INTO marker VALUES ($op_id)\"\n";
        let scenario = Scenario::from_toml("mine.toml", text, None).unwrap();
        let Workload::Sql(sql) = &scenario.workload else { panic!("it is SQL") };
        let work = OwnWork::new(sql, "public", 1, 42);
        let mut scratch = Scratch::default();
        let mut op_id = |n: u32, attempt: u16| {
            let who = Who { op_id: OpId::new(1, 0, n), attempt, unanswered: 0 };
            let variables = scratch.begin(&work, 0, who);
            variables.iter().any(|value| matches!(value, Value::Integer(i) if *i == who.op_id.0))
        };
        assert!(op_id(0, 1) && op_id(0, 2) && op_id(1, 1));
        assert!(op_id(2, 2), "its first attempt was not let in");
        assert!(op_id(2, 3));
    }
}
