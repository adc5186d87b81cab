//! What does an answer of the reference server mean? Pure.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::contract::{self, Booked, Changed, Code, Problem};
use crate::history::Applied;
use crate::http::Answer;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::Failure;
use crate::target::Attempt;

/// So many characters of an answer are shown to a person.
const SHOWN: usize = 120;

/// What an answer says besides how the attempt ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// How many attempts the server made; 0: it did not say.
    pub attempts: u16,
    /// How those failed that it made again.
    pub failed: Vec<FailedThere>,
    /// When the transaction of the last of them began, microseconds of the database server's clock.
    pub began: Option<i64>,
    /// How long to wait before asking again.
    pub retry_after: Option<Duration>,
    /// An answer that is none to what was asked: what it was.
    pub wrong: Option<String>,
}

/// Attempts of the server that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedThere {
    /// How.
    pub abort: Abort,
    /// The routine of the database server that said so, where it is told.
    pub routine: Option<String>,
    /// How often.
    pub times: u32,
}

/// What the answer is to be to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Units were booked.
    Booked {
        /// Of which authorisation.
        authorisation: i64,
        /// By somebody who must not.
        is_attack: bool,
    },
    /// A schedule was changed.
    Changed {
        /// Of which programme.
        programme: i64,
    },
    /// Something was looked at.
    Seen,
}

/// How the attempt ended; what is told besides goes into `told`.
pub(super) fn attempt(answer: &Answer, expected: Expected, told: &mut Told) -> Attempt {
    read_headers(answer, told);
    let problem = || serde_json::from_slice::<Problem>(&answer.body).ok();
    match answer.status {
        200 | 201 => match applied(answer, expected) {
            Some(applied) if answer.header(contract::REPLAYED) == Some("true") => {
                Attempt::Replayed { applied, met: answer.header(contract::MET) == Some("true") }
            }
            Some(applied) => Attempt::Committed(applied),
            None => wrong(answer, told),
        },
        // It may have been done.
        504 | 500 => Attempt::Unknown,
        // It was not, and the server says so.
        503 if problem().is_some_and(|problem| matches!(problem.code, Code::RetriesSpent | Code::Unavailable)) => {
            Attempt::Failed(Failure::local(Abort::Unavailable))
        }
        400..=499 => match problem().filter(|problem| problem.code.status() == answer.status) {
            Some(problem) => said_no(answer, &problem, expected),
            None => of_the_test(answer),
        },
        // Somebody between answers for a server that may be at it; or nobody knows what it is.
        502 | 503 => Attempt::Unknown,
        _ => wrong(answer, told),
    }
}

/// An answer that is none: whatever it says, it does not say what became of it.
fn wrong(answer: &Answer, told: &mut Told) -> Attempt {
    told.wrong = Some(format!("answered {}", words(answer)));
    Attempt::Unknown
}

fn applied(answer: &Answer, expected: Expected) -> Option<Applied> {
    fn read<T: DeserializeOwned>(answer: &Answer) -> Option<T> {
        serde_json::from_slice(&answer.body).ok()
    }
    match expected {
        Expected::Booked { authorisation, .. } => {
            read::<Booked>(answer).filter(|booked| booked.authorisation == authorisation).map(Booked::applied)
        }
        Expected::Changed { programme } => {
            read::<Changed>(answer).filter(|changed| changed.programme == programme).map(|_| Applied::default())
        }
        Expected::Seen => read::<serde_json::Map<String, serde_json::Value>>(answer)
            .filter(|seen| seen.contains_key("id") && !seen.contains_key("code"))
            .map(|_| Applied::default()),
    }
}

fn said_no(answer: &Answer, problem: &Problem, expected: Expected) -> Attempt {
    match problem.code {
        Code::KeyInFlight => Attempt::Failed(Failure::local(Abort::KeyInFlight)),
        // Only who does not belong there is to be told so; anybody else has the wrong token.
        Code::WrongOrganisation if !matches!(expected, Expected::Booked { is_attack: true, .. }) => of_the_test(answer),
        // Whatever is asked for is there.
        Code::NotFound => of_the_test(answer),
        code => match code.refusal() {
            Some(refusal) if refusal != Refusal::Declared => Attempt::Refused(refusal),
            _ => of_the_test(answer),
        },
    }
}

/// Not done, for a reason that is none of the tested: a token, a limit, an address.
fn of_the_test(answer: &Answer) -> Attempt {
    Attempt::GivenUp(Failure::local(abort_of(answer.status)), Some(words(answer)))
}

/// What a status says against the test, where nobody looked for it.
pub fn abort_of(status: u16) -> Abort {
    match status {
        401 | 403 => Abort::NotLetIn,
        404 => Abort::NotThere,
        429 => Abort::RateLimited,
        _ => Abort::Rejected,
    }
}

/// An answer as a person reads it: `401 TOKEN_EXPIRED: the token has expired`; `200 with {"items":[]}`.
pub fn words(answer: &Answer) -> String {
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => {
            let code = serde_json::to_string(&problem.code).unwrap_or_default();
            let with = if answer.status < 400 { "with " } else { "" };
            format!("{} {with}{}: {}", answer.status, code.trim_matches('"'), shown(&problem.message))
        }
        Err(_) if answer.body.is_empty() => format!("{} with nothing", answer.status),
        Err(_) => format!("{} with {}", answer.status, shown(&String::from_utf8_lossy(&answer.body))),
    }
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn read_headers(answer: &Answer, told: &mut Told) {
    let number = |name: &str| answer.header(name).and_then(|text| text.trim().parse::<i64>().ok());
    told.attempts = number(contract::ATTEMPTS).and_then(|n| u16::try_from(n).ok()).unwrap_or_default();
    told.began = number(contract::BEGAN).filter(|began| *began > 0);
    told.retry_after = number("retry-after").and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs);
    told.failed = answer.header(contract::FAILED).map(failed).unwrap_or_default();
}

/// `40001/PreCommit_CheckForSerializationFailure*3,version*1`.
fn failed(text: &str) -> Vec<FailedThere> {
    let one = |item: &str| {
        let (how, times) = item.trim().rsplit_once('*')?;
        let (short, routine) = how.split_once('/').map_or((how, None), |(short, routine)| (short, Some(routine.to_owned())));
        let abort = Abort::ALL.into_iter().find(|abort| abort.short() == short)?;
        Some(FailedThere { abort, routine, times: times.parse().ok()? })
    };
    text.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderMap, HeaderName, HeaderValue};

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Answer { status, headers: map, body: body.to_owned().into() }
    }

    const BOOKED: Expected = Expected::Booked { authorisation: 7, is_attack: false };
    const ATTACK: Expected = Expected::Booked { authorisation: 7, is_attack: true };
    const DONE: &str = r#"{"authorisation":7,"version":3,"total":50,"used":0,"scheduled":30}"#;

    fn problem(code: Code) -> String {
        serde_json::to_string(&Problem { code, message: "no".into(), idempotency_key: None }).unwrap()
    }

    /// In a word.
    fn meaning(status: u16, body: &str, expected: Expected) -> String {
        let mut told = Told::default();
        let ended = match attempt(&answer(status, &[], body), expected, &mut told) {
            Attempt::Committed(applied) => format!("committed {}", applied.version),
            Attempt::Replayed { .. } => "replayed".into(),
            Attempt::Refused(refusal) => format!("refused: {}", refusal.words()),
            Attempt::Failed(failure) => format!("failed: {}", failure.abort.short()),
            Attempt::Again(_) => "again".into(),
            Attempt::GivenUp(failure, words) => format!("given up: {}: {}", failure.abort.short(), words.unwrap_or_default()),
            Attempt::Unknown => "unknown".into(),
            Attempt::Unchanged => "unchanged".into(),
            Attempt::RolledBack => "rolled back".into(),
        };
        told.wrong.map_or(ended.clone(), |wrong| format!("{ended}, {wrong}"))
    }

    #[test]
    fn an_acknowledgement_is_one_of_what_was_asked_for_and_of_nothing_else() {
        assert_eq!(meaning(201, DONE, BOOKED), "committed 3");
        assert_eq!(meaning(200, DONE, BOOKED), "committed 3");
        assert_eq!(meaning(200, r#"{"programme":4}"#, Expected::Changed { programme: 4 }), "committed 0");
        assert_eq!(meaning(200, r#"{"id":4,"total":5}"#, Expected::Seen), "committed 0");
        for (status, body, expected) in [
            (200, problem(Code::InsufficientUnits), BOOKED),
            (200, problem(Code::InsufficientUnits), Expected::Seen),
            (201, String::new(), BOOKED),
            (201, "<html>".into(), BOOKED),
            (201, DONE.replace('7', "8"), BOOKED),
            (200, r#"{"programme":5}"#.into(), Expected::Changed { programme: 4 }),
            (202, DONE.into(), BOOKED),
            (204, String::new(), BOOKED),
            (302, String::new(), BOOKED),
        ] {
            let said = meaning(status, &body, expected);
            assert!(said.starts_with(&format!("unknown, answered {status} with ")), "{status} {body}: {said}");
        }
    }

    #[test]
    fn a_refusal_is_one_only_with_its_own_status() {
        assert_eq!(meaning(409, &problem(Code::InsufficientUnits), BOOKED), "refused: insufficient units");
        assert_eq!(meaning(422, &problem(Code::KeyMismatch), BOOKED), "refused: the key is another body's");
        assert_eq!(meaning(403, &problem(Code::WrongOrganisation), ATTACK), "refused: wrong organisation");
        assert_eq!(meaning(409, &problem(Code::KeyInFlight), BOOKED), "failed: key");
        for (status, body, abort) in [
            (400, problem(Code::InsufficientUnits), "another"),
            (409, "full".into(), "another"),
            (403, problem(Code::WrongOrganisation), "401"),
            (403, problem(Code::Role), "401"),
            (401, problem(Code::TokenExpired), "401"),
            (404, problem(Code::NotFound), "404"),
            (404, "nothing here".into(), "404"),
            (429, problem(Code::RateLimited), "429"),
            (422, problem(Code::Invalid), "another"),
        ] {
            let said = meaning(status, &body, BOOKED);
            assert!(said.starts_with(&format!("given up: {abort}: {status} ")), "{status} {body}: {said}");
        }
    }

    #[test]
    fn not_done_is_what_the_server_itself_says_is_not_done() {
        assert_eq!(meaning(503, &problem(Code::RetriesSpent), BOOKED), "failed: 503");
        assert_eq!(meaning(503, &problem(Code::Unavailable), BOOKED), "failed: 503");
        assert_eq!(meaning(503, "upstream connect error", BOOKED), "unknown", "somebody between says so");
        for status in [500, 502, 504] {
            assert_eq!(meaning(status, &problem(Code::UnknownOutcome), BOOKED), "unknown");
        }
    }

    #[test]
    fn what_goes_with_an_answer_is_read() {
        let headers = [
            ("dbstress-attempts", "4"),
            ("dbstress-failed", "40001/OnConflict_CheckForSerializationFailure*2,version*1,nonsense,nothing*1"),
            ("dbstress-began", "812345678901234"),
            ("retry-after", "2"),
            ("idempotency-replayed", "true"),
            ("dbstress-met", "true"),
        ];
        let mut told = Told::default();
        let ended = attempt(&answer(201, &headers, DONE), BOOKED, &mut told);
        assert!(matches!(ended, Attempt::Replayed { met: true, applied: Applied { version: 3, .. } }));
        assert_eq!((told.attempts, told.began), (4, Some(812_345_678_901_234)));
        assert_eq!(told.retry_after, Some(Duration::from_secs(2)));
        let routine = Some("OnConflict_CheckForSerializationFailure".to_owned());
        let failed = [
            FailedThere { abort: Abort::SerializationFailure, routine, times: 2 },
            FailedThere { abort: Abort::VersionConflict, routine: None, times: 1 },
        ];
        assert_eq!(told.failed, failed);
    }

    #[test]
    fn an_answer_is_shown_in_short_and_on_one_line() {
        assert_eq!(words(&answer(401, &[], &problem(Code::TokenExpired))), "401 TOKEN_EXPIRED: no");
        assert_eq!(words(&answer(502, &[], "bad\ngateway")), "502 with bad gateway");
        assert_eq!(words(&answer(200, &[], &"x".repeat(500))).chars().count(), "200 with ".len() + SHOWN + 1);
        assert_eq!(words(&answer(201, &[], "")), "201 with nothing");
    }
}
