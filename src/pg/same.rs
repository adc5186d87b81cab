//! Does the server that was tested still answer at its address, and with the same database?
//!
//! An address can lead elsewhere from one connection to the next: a server is stopped and another started on its port, a standby is promoted, a
//! proxy chooses anew. So each new connection asks who answers, and nothing else is asked of, or written to, a server that is another.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};

/// Asked of each new connection, the most telling first: the data directory, the database in it, and the timeline of its log. Who may not ask
/// that, or asks something that is not quite PostgreSQL, asks the next.
const QUESTIONS: [&str; 2] = [
    "SELECT pg_catalog.concat_ws('/', d.oid, s.system_identifier, CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' \
     ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END) \
     FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
    "SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
];

/// The server that the first connection met, shared by all connections that are to meet the same. It is no part of where a server is: any two are
/// equal.
#[derive(Clone, Default)]
pub struct SameServer(Arc<Met>);

#[derive(Default)]
struct Met {
    /// The question that was answered first, and its answer.
    first: OnceLock<(usize, String)>,
    /// Who answered later, in words, if that was another.
    another: OnceLock<String>,
}

impl SameServer {
    /// What a new connection asks, until one of them is answered.
    pub fn questions(&self) -> &'static [&'static str] {
        match self.0.first.get() {
            Some((known, _)) => &QUESTIONS[*known..=*known],
            None => &QUESTIONS,
        }
    }

    /// Takes note of the first answer; compares every later one with it. `at` says where was asked.
    ///
    /// # Errors
    /// Inconclusive: it is another server, or another database.
    pub fn compare(&self, question: &str, answer: &str, at: &dyn fmt::Display) -> Result<()> {
        let number = QUESTIONS.iter().position(|known| *known == question).unwrap_or_default();
        let (known, first) = self.0.first.get_or_init(|| (number, answer.to_owned()));
        // Two that connected at the same time may have been answered different questions: both tell the database.
        let (first, now) = match *known == number {
            true => (&**first, answer),
            false => (database(first), database(answer)),
        };
        if first == now {
            return Ok(());
        }
        let words = self.0.another.get_or_init(|| format!("another server answers now at {at}: {}", difference(first, now)));
        Err(said(words))
    }

    /// That another server has answered meanwhile, if one has: nothing that was found out since is about the tested one.
    pub fn another(&self) -> Option<Error> {
        self.0.another.get().map(|words| said(words))
    }
}

fn said(words: &str) -> Error {
    Error::inconclusive(words).cure("let the address lead to the tested server again, and run anew")
}

fn database(answer: &str) -> &str {
    answer.split('/').next().unwrap_or_default()
}

/// In what they differ, the weightiest first.
fn difference(first: &str, now: &str) -> String {
    let part = |answer: &str, n: usize| answer.split('/').nth(n).unwrap_or("?").to_owned();
    let differs = |n: usize| part(first, n) != part(now, n);
    if differs(1) {
        return format!("its system identifier is {}, that of the tested server is {}", part(now, 1), part(first, 1));
    }
    if differs(0) {
        return format!("the database has the OID {}, the tested one has {}: it was made anew", part(now, 0), part(first, 0));
    }
    match (&*part(now, 2), &*part(first, 2)) {
        ("standby", _) => "it is a standby of the tested server".to_owned(),
        (_, "standby") => "the tested server was a standby, and this one is not: it was promoted".to_owned(),
        (now, first) => {
            format!("it is on timeline {now}, the tested server was on {first}: a standby was promoted, or a backup restored")
        }
    }
}

impl fmt::Debug for SameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SameServer")
    }
}

impl PartialEq for SameServer {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SameServer {}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "16384/7580000000000000001/00000001";

    fn said_of(later: &str) -> Option<String> {
        let same = SameServer::default();
        same.compare(QUESTIONS[0], FIRST, &"here").unwrap();
        let error = same.compare(QUESTIONS[0], later, &"here").err().map(|error| error.message().to_owned());
        assert_eq!(error, same.another().map(|error| error.message().to_owned()), "it is known from then on");
        error
    }

    #[test]
    fn another_server_is_told_by_what_it_differs_in() {
        assert_eq!(said_of(FIRST), None);
        for (later, words) in [
            ("16384/7580000000000000002/00000001", "its system identifier is 7580000000000000002"),
            ("16999/7580000000000000001/00000001", "the database has the OID 16999"),
            ("16384/7580000000000000001/00000002", "it is on timeline 00000002"),
            ("16384/7580000000000000001/standby", "it is a standby"),
        ] {
            let said = said_of(later).unwrap();
            assert!(said.starts_with("another server answers now at here: ") && said.contains(words), "{said}");
        }
    }

    #[test]
    fn who_may_not_ask_for_the_server_still_knows_the_database() {
        let same = SameServer::default();
        assert_eq!(same.questions().len(), 2);
        same.compare(QUESTIONS[1], "16384", &"here").unwrap();
        assert_eq!(same.questions(), [QUESTIONS[1]], "what was refused once is not asked again");
        same.compare(QUESTIONS[0], FIRST, &"here").unwrap();
        assert!(same.compare(QUESTIONS[1], "16999", &"here").is_err());
    }
}
