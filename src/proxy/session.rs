//! What do the messages of a session mean: is it in a transaction, has that written something, and is this its COMMIT?
//!
//! Both directions are told in the order in which they pass, so that what is known is what the client could know.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Truth;
use super::frames::KEPT;
use super::text::Meaning;

/// What is known of one session.
#[derive(Debug, Default)]
pub(super) struct Session {
    statements: HashMap<Box<[u8]>, Meaning>,
    portals: HashMap<Box<[u8]>, Meaning>,
    /// What was sent and has not been answered.
    due: VecDeque<Due>,
    status: Option<Status>,
    /// The present transaction has changed a row.
    has_written: bool,
    /// How often a transaction was asked for, by this session and those that share the number.
    begun: Arc<AtomicU64>,
}

/// What ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Idle,
    Open,
    Failed,
}

/// An answer that is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// One tag, or an error that takes all up to the next Sync with it.
    Execution { writes: bool },
    /// Any number of tags, then ReadyForQuery.
    Query { writes: bool },
    /// ReadyForQuery.
    Sync,
}

/// A message that commits what has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// COMMIT of a transaction that changed a row.
    Transaction,
    /// A statement that changes rows, outside a transaction.
    Statement,
}

impl Session {
    /// One that counts what it begins there.
    pub fn counting(begun: &Arc<AtomicU64>) -> Self {
        Self { begun: begun.clone(), ..Self::default() }
    }

    /// Whether the server has been ready at least once.
    pub fn has_begun(&self) -> bool {
        self.status.is_some()
    }

    /// Whether the server has said that it is in a transaction that has not failed.
    pub fn is_open(&self) -> bool {
        self.status == Some(Status::Open)
    }

    /// The client says something. Whether that commits is known only while nothing else is on its way.
    pub fn asks(&mut self, kind: u8, body: &[u8]) -> Option<Commit> {
        match kind {
            b'P' => {
                let (name, rest) = word(body);
                remember(&mut self.statements, name, meaning(rest, body.len()));
            }
            b'B' => {
                let (portal, rest) = word(body);
                let meaning = self.statements.get(word(rest).0).copied().unwrap_or_default();
                remember(&mut self.portals, portal, meaning);
            }
            b'C' => {
                if let Some((b'S', name)) = body.split_first() {
                    self.statements.remove(word(name).0);
                }
            }
            b'E' => {
                let meaning = self.portals.get(word(body).0).copied().unwrap_or_default();
                let commit = self.commit(meaning);
                self.count(meaning);
                self.due.push_back(Due::Execution { writes: meaning.writes });
                return commit;
            }
            b'Q' => {
                let meaning = meaning(body, body.len());
                let commit = self.commit(meaning);
                self.count(meaning);
                self.due.push_back(Due::Query { writes: meaning.writes });
                return commit;
            }
            // A call of a function is answered like a query.
            b'F' => self.due.push_back(Due::Query { writes: false }),
            b'S' => self.due.push_back(Due::Sync),
            _ => {}
        }
        None
    }

    fn commit(&self, meaning: Meaning) -> Option<Commit> {
        match self.status {
            _ if !self.due.is_empty() => None,
            Some(Status::Open) if meaning.commits && self.has_written => Some(Commit::Transaction),
            Some(Status::Idle) if meaning.is_change => Some(Commit::Statement),
            _ => None,
        }
    }

    fn count(&self, meaning: Meaning) {
        if meaning.begins {
            self.begun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The server says something.
    pub fn answers(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'C' => {
                let tag = word(body).0;
                if matches!(self.due.front(), Some(Due::Execution { writes: true } | Due::Query { writes: true })) && counts(tag) {
                    self.has_written = true;
                }
                if tag == b"COMMIT" {
                    self.has_written = false;
                }
                self.executed();
            }
            // An empty query; a portal of which no more rows were asked for.
            b'I' | b's' => self.executed(),
            b'E' => {
                while let Some(Due::Execution { .. }) = self.due.front() {
                    self.due.pop_front();
                }
            }
            b'Z' => {
                while let Some(Due::Execution { .. }) = self.due.pop_front() {}
                self.status = Some(match body {
                    b"T" => Status::Open,
                    b"E" => Status::Failed,
                    _ => Status::Idle,
                });
                if self.status == Some(Status::Idle) {
                    self.has_written = false;
                    self.portals.clear();
                }
            }
            _ => {}
        }
    }

    fn executed(&mut self) {
        if let Some(Due::Execution { .. }) = self.due.front() {
            self.due.pop_front();
        }
    }
}

/// Whether this is the last message of a request, which the server answers with ReadyForQuery.
pub(super) fn ends_request(kind: u8) -> bool {
    matches!(kind, b'Q' | b'S' | b'F')
}

/// Whether an answer of the server says how a statement ended.
pub(super) fn is_verdict(kind: u8) -> bool {
    matches!(kind, b'C' | b'E' | b'Z')
}

/// The meaning of the text that a body ends with.
fn meaning(text: &[u8], body: usize) -> Meaning {
    let (text, rest) = word(text);
    // Only where something follows the zero, it is certainly there.
    Meaning::of(text, body < KEPT || !rest.is_empty())
}

/// What stands before the next zero, and what behind it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, b""),
    }
}

fn remember(known: &mut HashMap<Box<[u8]>, Meaning>, name: &[u8], meaning: Meaning) {
    match known.get_mut(name) {
        Some(place) => *place = meaning,
        None => {
            known.insert(name.into(), meaning);
        }
    }
}

/// Whether a tag ends with a number that is not 0: `UPDATE 1`, `INSERT 0 1`, `SELECT 3`.
fn counts(tag: &[u8]) -> bool {
    tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).any(|digit| *digit != b'0')
}

/// What the server answers to a COMMIT that is watched.
#[derive(Debug)]
pub(super) struct Answer {
    commit: Commit,
    has_committed: bool,
    has_failed: bool,
}

impl Answer {
    /// To this, which has been sent and nothing behind it.
    pub fn to(commit: Commit) -> Self {
        Self { commit, has_committed: false, has_failed: false }
    }

    /// The server says something. With ReadyForQuery the truth is known.
    pub fn hears(&mut self, kind: u8, body: &[u8]) -> Option<Truth> {
        match (kind, word(body).0) {
            (b'C', b"COMMIT") => self.has_committed |= self.commit == Commit::Transaction && !self.has_failed,
            (b'C', b"ROLLBACK") | (b'E', _) => self.has_failed = true,
            (b'Z', status) => {
                self.has_committed |= self.commit == Commit::Statement && !self.has_failed && status == b"I";
                return Some(if self.has_committed { Truth::Committed } else { Truth::NotCommitted });
            }
            _ => {}
        }
        None
    }

    /// The server will say nothing more. Its tag of a COMMIT is worth as much without ReadyForQuery; an error is not.
    pub fn ends(&self) -> Truth {
        if self.has_committed { Truth::Committed } else { Truth::Unanswered }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::Frames;
    use super::super::frames::tests::message;
    use super::*;

    /// A session and the messages of both directions, which come in pieces of any size.
    struct Dialogue {
        session: Session,
        up: Frames,
        down: Frames,
        size: usize,
    }

    impl Dialogue {
        fn new(size: usize) -> Self {
            let mut dialogue = Self { session: Session::default(), up: Frames::default(), down: Frames::default(), size };
            assert!(!dialogue.session.has_begun());
            dialogue.server(&[message(b'R', &[0; 4]), message(b'Z', b"I")]);
            assert!(dialogue.session.has_begun());
            dialogue
        }

        fn client(&mut self, messages: &[Vec<u8>]) -> Vec<Commit> {
            let mut commits = Vec::new();
            for piece in messages.concat().chunks(self.size) {
                self.up.read(piece, |m| commits.extend(self.session.asks(m.kind, m.body)));
            }
            commits
        }

        fn server(&mut self, messages: &[Vec<u8>]) {
            for piece in messages.concat().chunks(self.size) {
                self.down.read(piece, |m| self.session.answers(m.kind, m.body));
            }
        }

        /// Bind, Execute and Sync of a prepared statement, answered with a tag and a status.
        fn runs(&mut self, name: &str, tag: &str, status: &str) -> Vec<Commit> {
            let commits = self.client(&[bind("", name), execute(""), sync()]);
            self.server(&[message(b'2', b""), complete(tag), ready(status)]);
            commits
        }

        /// A simple query, answered with a tag and a status.
        fn says(&mut self, sql: &str, tag: &str, status: &str) -> Vec<Commit> {
            let commits = self.client(&[query(sql)]);
            self.server(&[complete(tag), ready(status)]);
            commits
        }
    }

    fn text(words: &[&str]) -> Vec<u8> {
        words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
    }

    fn query(sql: &str) -> Vec<u8> {
        message(b'Q', &text(&[sql]))
    }

    fn parse(name: &str, sql: &str) -> Vec<u8> {
        message(b'P', &[&text(&[name, sql])[..], b"\0\0"].concat())
    }

    fn bind(portal: &str, statement: &str) -> Vec<u8> {
        message(b'B', &[&text(&[portal, statement])[..], b"\0\0\0\0\0\0"].concat())
    }

    fn execute(portal: &str) -> Vec<u8> {
        message(b'E', &[&text(&[portal])[..], &[0; 4]].concat())
    }

    fn sync() -> Vec<u8> {
        message(b'S', b"")
    }

    fn complete(tag: &str) -> Vec<u8> {
        message(b'C', &text(&[tag]))
    }

    fn error() -> Vec<u8> {
        message(b'E', b"SERROR\0C23505\0\0")
    }

    fn ready(status: &str) -> Vec<u8> {
        message(b'Z', status.as_bytes())
    }

    const UPDATE: &str =
        "WITH changed AS (UPDATE t SET a = 1 RETURNING 1), entry AS (INSERT INTO l SELECT 1) SELECT 1 FROM changed";

    #[test]
    fn a_commit_counts_after_a_row_has_changed_however_the_bytes_are_cut() {
        for size in 1..80 {
            let mut dialogue = Dialogue::new(size);
            let names = [("s0", "COMMIT"), ("s1", "BEGIN"), ("s2", UPDATE), ("s3", "SELECT 1 FROM t FOR UPDATE")];
            for (name, sql) in names {
                assert_eq!(dialogue.client(&[parse(name, sql), message(b'D', b"Ss0\0"), sync()]), []);
                dialogue.server(&[message(b'1', b""), message(b't', b"\0\0"), message(b'n', b""), ready("I")]);
            }
            // Only read, then nothing changed, then something.
            for (tag, expected) in [("", vec![]), ("SELECT 0", vec![]), ("SELECT 1", vec![Commit::Transaction]), ("", vec![])] {
                assert_eq!(dialogue.runs("s1", "BEGIN", "T"), []);
                assert!(dialogue.session.is_open());
                assert_eq!(dialogue.runs("s3", "SELECT 1", "T"), []);
                if !tag.is_empty() {
                    assert_eq!(dialogue.runs("s2", tag, "T"), []);
                }
                assert_eq!(dialogue.runs("s0", "COMMIT", "I"), expected, "after {tag}, in pieces of {size}");
                assert!(!dialogue.session.is_open());
            }
        }
    }

    #[test]
    fn simple_queries_and_unnamed_statements_count_as_well() {
        let mut dialogue = Dialogue::new(usize::MAX);
        assert_eq!(dialogue.says("begin", "BEGIN", "T"), []);
        assert_eq!(dialogue.says("INSERT INTO t VALUES (1)", "INSERT 0 1", "T"), []);
        assert_eq!(dialogue.says("SAVEPOINT a", "SAVEPOINT", "T"), []);
        assert_eq!(dialogue.says("end;", "COMMIT", "I"), [Commit::Transaction]);
        assert_eq!(dialogue.says("begin", "BEGIN", "T"), []);
        assert_eq!(dialogue.says("DELETE FROM t", "DELETE 10", "T"), []);
        assert_eq!(dialogue.client(&[parse("", "COMMIT AND CHAIN"), bind("p", ""), execute("p"), sync()]), [Commit::Transaction]);
        dialogue.server(&[message(b'1', b""), message(b'2', b""), complete("COMMIT"), ready("T")]);
        assert_eq!(dialogue.says("COMMIT", "COMMIT", "I"), [], "the transaction that was chained has written nothing");
    }

    #[test]
    fn outside_a_transaction_a_change_is_its_own_commit() {
        let mut dialogue = Dialogue::new(usize::MAX);
        assert_eq!(dialogue.says("UPDATE t SET a = 1", "UPDATE 1", "I"), [Commit::Statement]);
        dialogue.client(&[parse("s", UPDATE), sync()]);
        dialogue.server(&[message(b'1', b""), ready("I")]);
        assert_eq!(dialogue.runs("s", "SELECT 1", "I"), [Commit::Statement]);
        assert_eq!(dialogue.says("SELECT 1", "SELECT 1", "I"), []);
        assert_eq!(dialogue.says("COMMIT", "COMMIT", "I"), []);
        dialogue.client(&[message(b'C', b"Ss\0"), sync()]);
        dialogue.server(&[message(b'3', b""), ready("I")]);
        assert_eq!(dialogue.runs("s", "SELECT 1", "I"), [], "nobody knows a statement that was closed");
    }

    #[test]
    fn what_a_transaction_wrote_ends_with_it() {
        let mut dialogue = Dialogue::new(usize::MAX);
        dialogue.says("BEGIN", "BEGIN", "T");
        dialogue.says("DELETE FROM t", "DELETE 1", "T");
        dialogue.says("ROLLBACK", "ROLLBACK", "I");
        dialogue.says("BEGIN", "BEGIN", "T");
        assert_eq!(dialogue.says("COMMIT", "COMMIT", "I"), []);
        dialogue.says("BEGIN", "BEGIN", "T");
        dialogue.says("DELETE FROM t", "DELETE 1", "T");
        dialogue.client(&[bind("", "?"), execute(""), sync()]);
        dialogue.server(&[error(), ready("E")]);
        assert!(!dialogue.session.is_open());
        assert_eq!(dialogue.says("COMMIT", "ROLLBACK", "I"), [], "a transaction that has failed commits nothing");
    }

    #[test]
    fn a_tag_belongs_to_the_statement_that_was_sent_for_it() {
        let mut dialogue = Dialogue::new(usize::MAX);
        dialogue.client(&[parse("w", UPDATE), parse("r", "SELECT 1"), sync()]);
        dialogue.server(&[message(b'1', b""), message(b'1', b""), ready("I")]);
        dialogue.says("BEGIN", "BEGIN", "T");
        // Both in one request: the write met no row, the read one.
        dialogue.client(&[bind("", "w"), execute(""), bind("", "r"), execute(""), sync()]);
        dialogue.server(&[complete("SELECT 0"), complete("SELECT 1"), ready("T")]);
        assert_eq!(dialogue.runs("r", "SELECT 1", "T"), []);
        assert!(!dialogue.session.has_written);
        // The first fails, so the second is not answered; the next request is.
        dialogue.client(&[bind("", "w"), execute(""), bind("", "w"), execute(""), sync(), query("ROLLBACK")]);
        dialogue.server(&[error(), ready("E"), complete("ROLLBACK"), ready("I")]);
        assert!(dialogue.session.due.is_empty());
        dialogue.client(&[bind("", "w"), execute(""), bind("", "r"), execute(""), sync()]);
        dialogue.server(&[message(b's', b""), message(b'I', b""), ready("I")]);
        assert!(dialogue.session.due.is_empty());
    }

    #[test]
    fn while_something_is_on_its_way_nothing_is_known_to_be_a_commit() {
        let mut dialogue = Dialogue::new(usize::MAX);
        assert_eq!(dialogue.client(&[query("SELECT 1"), query("DELETE FROM t")]), []);
        dialogue.server(&[complete("SELECT 1"), ready("I"), complete("DELETE 1"), ready("I")]);
        assert_eq!(dialogue.says("DELETE FROM t", "DELETE 1", "I"), [Commit::Statement]);
        dialogue.says("BEGIN", "BEGIN", "T");
        assert_eq!(dialogue.client(&[query("DELETE FROM t"), query("COMMIT")]), []);
    }

    #[test]
    fn a_text_that_is_cut_off_is_no_commit() {
        let mut dialogue = Dialogue::new(usize::MAX);
        let long = format!("INSERT INTO t VALUES ('{}')", "x".repeat(KEPT));
        assert_eq!(dialogue.says(&long, "INSERT 0 1", "I"), []);
        dialogue.says("BEGIN", "BEGIN", "T");
        dialogue.says(&long, "INSERT 0 1", "T");
        assert_eq!(dialogue.says(&format!("COMMIT{}", " ".repeat(KEPT)), "COMMIT", "T"), []);
        assert!(!dialogue.session.has_written, "its tag was believed");
        dialogue.says(&long, "INSERT 0 1", "T");
        assert_eq!(dialogue.says("COMMIT", "COMMIT", "I"), [Commit::Transaction]);
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_told() {
        for kind in 0..=u8::MAX {
            for body in [&b""[..], b"\0", b"S", b"abc", b"\0\0\0", &[0xff; 9]] {
                let mut session = Session::default();
                session.asks(kind, body);
                session.answers(kind, body);
                Answer::to(Commit::Statement).hears(kind, body);
            }
        }
    }

    #[test]
    fn an_answer_tells_the_truth() {
        let truth = |commit, messages: &[Vec<u8>]| {
            let (mut answer, mut frames, mut truth) = (Answer::to(commit), Frames::default(), None);
            frames.read(&messages.concat(), |m| truth = truth.or(answer.hears(m.kind, m.body)));
            truth.unwrap_or_else(|| answer.ends())
        };
        let (bound, notice) = (message(b'2', b""), message(b'N', b"SWARNING\0\0"));
        let of_transaction: [(&[Vec<u8>], Truth); 7] = [
            (&[bound.clone(), complete("COMMIT"), ready("I")], Truth::Committed),
            (&[notice.clone(), complete("COMMIT")], Truth::Committed),
            (&[complete("ROLLBACK"), ready("I")], Truth::NotCommitted),
            (&[bound.clone(), error(), ready("I")], Truth::NotCommitted),
            (&[bound.clone(), error()], Truth::Unanswered),
            (&[notice], Truth::Unanswered),
            (&[], Truth::Unanswered),
        ];
        for (messages, expected) in of_transaction {
            assert_eq!(truth(Commit::Transaction, messages), expected, "{messages:?}");
        }
        let row = message(b'D', b"\0\x01\0\0\0\x011");
        let of_statement: [(&[Vec<u8>], Truth); 6] = [
            (&[bound.clone(), row, complete("SELECT 1"), ready("I")], Truth::Committed),
            (&[bound.clone(), complete("UPDATE 1"), error(), ready("I")], Truth::NotCommitted),
            (&[complete("UPDATE 1"), complete("ROLLBACK"), ready("I")], Truth::NotCommitted),
            (&[complete("UPDATE 1"), ready("T")], Truth::NotCommitted),
            (&[bound, complete("UPDATE 1")], Truth::Unanswered),
            (&[], Truth::Unanswered),
        ];
        for (messages, expected) in of_statement {
            assert_eq!(truth(Commit::Statement, messages), expected, "{messages:?}");
        }
    }
}
