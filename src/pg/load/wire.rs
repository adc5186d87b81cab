//! What goes over a measured connection, byte by byte? One exchange at a time: messages out, answers in until the server is ready again.
//!
//! A proof needs what drivers hide: the tag of every COMMIT, the status of the transaction, and whether an error was followed by
//! ReadyForQuery. A measurement needs one write and one read per statement, and nothing allocated in between. Values travel as text, as
//! `pgbench -M prepared` sends them. <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::{Buf, BufMut, BytesMut};
use postgres_protocol::message::frontend;

use super::Protocol;
use super::handshake::Stream;
use super::spelled::Spelled;
use crate::outcome::{Abort, Sqlstate};
use crate::pg::tally::{Answer, Counted, Follower};
use crate::program::Fragment;

/// Room for answers. A larger one makes it grow.
const INPUT_BYTES: usize = 2048;
/// Room for a statement with its parameters.
const OUTPUT_BYTES: usize = 512;

/// An attempt that failed before COMMIT was sent: certainly not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub abort: Abort,
    /// What the server said, when it was the server that said no.
    pub server: Option<Box<ServerError>>,
}

impl Failure {
    /// A failure that no server reported.
    pub fn local(abort: Abort) -> Self {
        Self { abort, server: None }
    }
}

/// An error as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// Five characters that programs go by.
    pub code: Sqlstate,
    /// The routine in the server's source that reported it.
    pub routine: String,
    /// The words for people.
    pub message: String,
    /// The session is over.
    pub is_fatal: bool,
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self { abort: Abort::from_sqlstate(error.code), server: Some(Box::new(error)) }
    }
}

/// A statement that was prepared: on the server or, in the protocols that know no names, here.
#[derive(Debug, Clone)]
pub struct Statement {
    form: Form,
    parameters: usize,
    /// Names of the columns that it returns.
    columns: Box<[Box<str>]>,
}

impl Statement {
    /// The columns that it returns, in order.
    pub fn columns(&self) -> &[Box<str>] {
        &self.columns
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// One whose variables are substituted as text. The server has not seen it, so that its columns are not known.
    pub fn substituting(fragments: &[Fragment]) -> Self {
        let (spelled, parameters) = Spelled::of_fragments(fragments);
        Self { form: Form::Text(spelled), parameters, columns: Box::default() }
    }
}

/// How a statement is sent.
#[derive(Debug, Clone)]
enum Form {
    /// Messages before the parameters; from byte `bind` on it is Bind, the length of the message still open.
    Messages { head: Box<[u8]>, bind: usize },
    /// One Query.
    Text(Spelled),
}

/// Whether the session is in a transaction, as ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// None.
    Idle,
    /// In a block.
    Open,
    /// In a block that has failed and can only be rolled back.
    Failed,
}

/// How the server answered a statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reply {
    /// Rows returned or affected.
    pub rows: u64,
    /// The command may have changed something: its tag is not that of a query.
    pub is_write: bool,
    /// The command has changed something, as far as its tag tells: rows of a table, if only of one that will not stay, or the tables themselves.
    pub changes: bool,
}

/// Parameters on their way into a message, in the order of their numbers.
pub struct Parameters<'b> {
    out: &'b mut BytesMut,
    count: usize,
}

impl Parameters<'_> {
    /// An integer.
    pub fn integer(&mut self, value: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        self.text(digits.format(value));
    }

    /// Text, or anything in its textual form.
    pub fn text(&mut self, value: &str) {
        self.out.put_i32(value.len() as i32);
        self.out.put_slice(value.as_bytes());
        self.count += 1;
    }

    /// NULL.
    pub fn null(&mut self) {
        self.out.put_i32(-1);
        self.count += 1;
    }

    /// Text that is written straight into the message.
    pub fn written(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let at = self.out.len();
        self.out.put_i32(0);
        write(self.out);
        let length = (self.out.len() - at - 4) as i32;
        self.out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
    }
}

/// The first row of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r>(&'r [u8]);

impl<'r> Row<'r> {
    /// Its values in order, as text; `None` for NULL.
    pub fn values(self) -> impl Iterator<Item = Option<&'r str>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let length = i32::from_be_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                rest = after;
                return Some(None);
            };
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            Some(std::str::from_utf8(value).ok())
        })
    }
}

/// The bytes of a connection and the state of what was said.
pub(super) struct Wire {
    stream: Stream,
    protocol: Protocol,
    input: BytesMut,
    output: BytesMut,
    /// Parameters on their way into a text.
    values: BytesMut,
    /// Values of the first row of the last answer.
    row: Vec<u8>,
    has_row: bool,
    /// The last RowDescription; only the simple protocol gives one with each answer.
    description: Vec<u8>,
    /// What is asked for is what a statement is like: its answer is kept below.
    is_describing: bool,
    columns: Vec<Box<str>>,
    /// Object identifiers of the parameters' types.
    parameters: Vec<u32>,
    /// Types by their object identifiers, as they are spelled.
    types: Vec<(u32, Box<str>)>,
    transaction: Transaction,
    /// The last answer had the tag COMMIT.
    has_committed: bool,
    /// Something was sent and its answer is not complete, or the stream has ended.
    is_broken: bool,
    /// It was closed here, between two commands.
    is_closed: bool,
    follower: Follower,
    prepared: u32,
}

impl Wire {
    pub fn new(stream: Stream, protocol: Protocol, counted: Counted) -> Self {
        Self {
            stream,
            protocol,
            is_closed: false,
            follower: Follower::new(counted),
            input: BytesMut::with_capacity(INPUT_BYTES),
            output: BytesMut::with_capacity(OUTPUT_BYTES),
            values: BytesMut::new(),
            row: Vec::new(),
            has_row: false,
            description: Vec::new(),
            is_describing: false,
            columns: Vec::new(),
            parameters: Vec::new(),
            types: Vec::new(),
            transaction: Transaction::Idle,
            has_committed: false,
            is_broken: false,
            prepared: 0,
        }
    }

    /// Whether another statement can be sent.
    pub fn is_open(&self) -> bool {
        !self.is_broken
    }

    /// Whether the last answer said COMMIT, even if nothing else came after that.
    pub fn has_committed(&self) -> bool {
        self.has_committed
    }

    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// The first row of the last answer.
    pub fn row(&self) -> Option<Row<'_>> {
        self.has_row.then_some(Row(&self.row))
    }

    /// The names of the columns of the last answer, in the simple protocol.
    pub fn column_names(&self) -> impl Iterator<Item = &[u8]> {
        names(&self.description)
    }

    /// Which protocol it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Runs SQL without parameters, as one simple query.
    pub async fn query(&mut self, sql: &str) -> Result<Reply, Failure> {
        self.output.clear();
        if frontend::query(sql, &mut self.output).is_err() {
            return Err(Failure::local(Abort::Other));
        }
        self.exchange().await
    }

    /// Prepares a statement, whose parameters' types the server infers. Only one of the protocols keeps it on the server by a name; in the
    /// others the server says what it is like, and forgets it.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        let mut name = String::new();
        if self.protocol == Protocol::Prepared {
            name = format!("s{}", self.prepared);
            self.prepared += 1;
        }
        self.output.clear();
        self.columns.clear();
        self.parameters.clear();
        let out = &mut self.output;
        if frontend::parse(&name, sql, [], out).is_err() {
            // A zero byte: it cannot be said in this protocol.
            return Err(Failure::local(Abort::Other));
        }
        let parse = if self.protocol == Protocol::Extended { out.to_vec() } else { Vec::new() };
        if frontend::describe(b'S', &name, out).is_err() {
            return Err(Failure::local(Abort::Other));
        }
        frontend::sync(out);
        self.is_describing = true;
        let described = self.exchange().await;
        self.is_describing = false;
        described?;
        let columns = std::mem::take(&mut self.columns).into();
        let parameters = self.parameters.len();
        // As many as a message can have: the server takes no more.
        let Ok(count) = u16::try_from(parameters) else { return Err(Failure::local(Abort::Other)) };
        let form = match self.protocol {
            Protocol::Prepared | Protocol::Extended => {
                let bind = parse.len();
                let mut head = parse;
                head.extend([b'B', 0, 0, 0, 0, 0]);
                head.extend(name.as_bytes());
                // Portal unnamed, statement by name, every parameter as text.
                head.extend([0, 0, 0]);
                head.extend(count.to_be_bytes());
                Form::Messages { head: head.into(), bind }
            }
            Protocol::Simple => {
                let types = self.parameter_types().await?;
                // Of parameters that the server does not take there is nothing to send: who compares the numbers tells it.
                Form::Text(Spelled::of(sql, &types).unwrap_or_else(|| Spelled::of_fragments(&[]).0))
            }
        };
        Ok(Statement { form, parameters, columns })
    }

    /// How the types of the parameters are spelled that were described last.
    async fn parameter_types(&mut self) -> Result<Vec<Box<str>>, Failure> {
        let parameters = std::mem::take(&mut self.parameters);
        for oid in &parameters {
            if self.types.iter().any(|(known, _)| known == oid) {
                continue;
            }
            // Without a modifier, so that a `character` is not taken for one of length 1.
            self.query(&format!("SELECT pg_catalog.format_type({oid}, -1)")).await?;
            let spelled = self.row().and_then(|row| row.values().next().flatten().map(Into::into));
            self.types.push((*oid, spelled.ok_or(Failure::local(Abort::Other))?));
        }
        let spelled = |oid| self.types.iter().find(|(known, _)| known == oid).map(|(_, spelled)| spelled.clone());
        Ok(parameters.iter().filter_map(spelled).collect())
    }

    /// Runs a prepared statement; `fill` gives its parameters.
    pub async fn execute(&mut self, statement: &Statement, fill: impl FnOnce(&mut Parameters<'_>)) -> Result<Reply, Failure> {
        self.put(statement, fill);
        self.exchange().await
    }

    /// Sends a prepared statement without parameters and closes the connection, whatever the answer will be.
    pub async fn send_and_close(&mut self, statement: &Statement) {
        if self.is_broken {
            return;
        }
        self.put(statement, |_| {});
        self.is_broken = true;
        // If it does not arrive, it was lost on the way: nobody here can tell.
        let _ = self.stream.write(&self.output).await;
        self.stream.close().await;
    }

    /// Writes a prepared statement with its parameters into the output.
    fn put(&mut self, statement: &Statement, fill: impl FnOnce(&mut Parameters<'_>)) {
        let filled = |out: &mut BytesMut| {
            let mut parameters = Parameters { out, count: 0 };
            fill(&mut parameters);
            debug_assert_eq!(parameters.count, statement.parameters, "as many parameters as the statement has");
        };
        let out = &mut self.output;
        out.clear();
        match &statement.form {
            Form::Messages { head, bind } => {
                out.put_slice(head);
                filled(out);
                // Every result as text.
                out.put_u16(0);
                let length = (out.len() - bind - 1) as i32;
                out[bind + 1..bind + 5].copy_from_slice(&length.to_be_bytes());
                // Execute the unnamed portal without a limit, then Sync.
                out.put_slice(b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
            }
            Form::Text(spelled) => {
                self.values.clear();
                filled(&mut self.values);
                spelled.put(&self.values, out);
            }
        }
    }

    /// Says goodbye; nobody answers.
    pub fn terminate(&mut self) {
        if self.is_open() {
            self.is_broken = true;
            self.is_closed = true;
            self.follower.closed(self.transaction);
            self.stream.write_now(b"X\0\0\0\x04");
        }
    }

    /// Sends what is in `output` and reads until the server is ready again. Given up halfway, the connection cannot be used again.
    async fn exchange(&mut self) -> Result<Reply, Failure> {
        if self.is_broken {
            return Err(Failure::local(Abort::ConnectionLost));
        }
        self.is_broken = true;
        self.has_row = false;
        self.description.clear();
        self.has_committed = false;
        if self.stream.write(&self.output).await.is_err() {
            // What the server said before it left is worth more than that it left.
            let last_words = self.answer().await;
            return Err(last_words.err().filter(|f| f.server.is_some()).unwrap_or(Failure::local(Abort::ConnectionLost)));
        }
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Reply, Failure> {
        let mut reply = Reply::default();
        let mut returned: u64 = 0;
        let mut error: Option<ServerError> = None;
        let mut rolled_back = false;
        loop {
            while let Some(header) = self.input.first_chunk::<5>() {
                let kind = header[0];
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                if length < 4 {
                    return Err(Failure::local(Abort::ConnectionLost));
                }
                let Some(body) = self.input.get(5..=length) else {
                    self.input.reserve(length + 1 - self.input.len());
                    break;
                };
                match kind {
                    b'D' => {
                        returned += 1;
                        if !self.has_row {
                            self.has_row = true;
                            self.row.clear();
                            self.row.extend_from_slice(body.get(2..).unwrap_or_default());
                        }
                    }
                    b'C' => {
                        let tag = body.strip_suffix(&[0]).unwrap_or(body);
                        self.has_committed = tag == b"COMMIT";
                        rolled_back = tag == b"ROLLBACK";
                        reply.is_write = !tag.starts_with(b"SELECT") && !tag.starts_with(b"BEGIN") && !tag.starts_with(b"SHOW");
                        reply.rows = returned.max(count_in(tag));
                        reply.changes |= changes(tag);
                    }
                    b'E' => error = error.or(Some(server_error(body))),
                    b't' if self.is_describing => {
                        let oids = body.get(2..).unwrap_or_default().as_chunks().0;
                        self.parameters.extend(oids.iter().map(|oid| u32::from_be_bytes(*oid)));
                    }
                    b'T' if self.is_describing => self.columns = names(body).map(|n| String::from_utf8_lossy(n).into()).collect(),
                    b'T' => {
                        self.description.clear();
                        self.description.extend_from_slice(body);
                    }
                    b'Z' => {
                        let before = self.transaction;
                        self.transaction = match body.first() {
                            Some(b'T') => Transaction::Open,
                            Some(b'E') => Transaction::Failed,
                            _ => Transaction::Idle,
                        };
                        let was_deadlock = error.as_ref().is_some_and(|e| Abort::from_sqlstate(e.code) == Abort::Deadlock);
                        let answer = Answer { rolled_back, failed: error.is_some(), was_deadlock };
                        self.follower.answered(before, self.transaction, answer);
                        self.input.advance(length + 1);
                        self.is_broken = false;
                        return error.map_or(Ok(reply), |e| Err(e.into()));
                    }
                    // A COPY would wait for data that nobody has.
                    b'G' | b'H' | b'W' => return Err(Failure::local(Abort::Other)),
                    // Notices, settings that changed, completion of Parse and Bind, no data.
                    _ => {}
                }
                self.input.advance(length + 1);
            }
            if self.input.is_empty() {
                // Room at the front again, without moving anything.
                self.input.clear();
            }
            match self.stream.read(&mut self.input).await {
                Ok(1..) => {}
                // What was said last is why it ended.
                _ => return Err(error.map_or(Failure::local(Abort::ConnectionLost), Into::into)),
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.terminate();
        if !self.is_closed {
            self.follower.lost();
        }
    }
}

/// The number of rows that a command tag ends with: `UPDATE 1`, `INSERT 0 1`, `SELECT 3`; 0 if it has none.
fn count_in(tag: &[u8]) -> u64 {
    let digits = tag.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    tag[tag.len() - digits..].iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError { code: Sqlstate::new(""), routine: "unknown".into(), message: String::new(), is_fatal: false };
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, value)) = field.split_first() else { continue };
        let value = String::from_utf8_lossy(value);
        match kind {
            b'V' => error.is_fatal = value == "FATAL" || value == "PANIC",
            b'C' => error.code = Sqlstate::new(&value),
            b'M' => error.message = value.into_owned(),
            b'R' => error.routine = value.into_owned(),
            _ => {}
        }
    }
    error
}

/// Whether a command with this tag has changed rows, or what holds them. CALL and DO may have, and do not say; whose rows they are is not said either.
fn changes(tag: &[u8]) -> bool {
    let first = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
    match first {
        b"UPDATE" | b"INSERT" | b"DELETE" | b"MERGE" | b"COPY" => count_in(tag) > 0,
        b"COMMIT" => tag == b"COMMIT PREPARED",
        b"CALL" | b"DO" | b"TRUNCATE" | b"ALTER" | b"DROP" => true,
        // CREATE TABLE … AS has the tag of a query.
        _ => false,
    }
}

/// Names out of a RowDescription: each is followed by 18 bytes about its type.
fn names(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = &rest[..end];
        rest = rest.get(end + 19..).unwrap_or_default();
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_end_with_a_count_or_not() {
        for (tag, rows) in [("UPDATE 1", 1), ("INSERT 0 12", 12), ("SELECT 0", 0), ("BEGIN", 0), ("COMMIT", 0)] {
            assert_eq!(count_in(tag.as_bytes()), rows, "{tag}");
        }
    }

    #[test]
    fn only_what_changed_something_says_so() {
        for tag in [
            "UPDATE 0",
            "INSERT 0 0",
            "SELECT 7",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SET",
            "FETCH 3",
            "LOCK TABLE",
            "ROLLBACK PREPARED",
            "COMMENT",
            "CREATE TABLE",
            "VACUUM",
        ] {
            assert!(!changes(tag.as_bytes()), "{tag}");
        }
        for tag in
            ["UPDATE 1", "INSERT 0 12", "DELETE 3", "MERGE 1", "COPY 2", "DROP TABLE", "TRUNCATE TABLE", "COMMIT PREPARED", "CALL"]
        {
            assert!(changes(tag.as_bytes()), "{tag}");
        }
    }

    #[test]
    fn an_error_is_read_field_by_field() {
        let error = server_error(b"SERROR\0VERROR\0C40001\0Mcould not serialize\0Fnodes.c\0L12\0RExecUpdate\0\0");
        assert_eq!((error.code.as_str(), &*error.routine, &*error.message), ("40001", "ExecUpdate", "could not serialize"));
        assert!(!error.is_fatal && server_error(b"VFATAL\0C57P01\0\0").is_fatal);
    }

    #[test]
    fn a_row_is_read_value_by_value() {
        let row = Row(b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(row.values().collect::<Vec<_>>(), [Some("ab"), None, Some("")]);
        assert_eq!(Row(b"\0\0\0\x09ab").values().count(), 0, "a value that is cut off is none");
    }
}
