//! What is wrong with the test, or with the answers that it gets? Either way nothing is proved.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::Error;
use crate::contract::Code;
use crate::metrics::grouped;
use crate::outcome::Abort;

/// What the virtual users of all threads have to complain of.
#[derive(Default)]
pub(super) struct Grievances(Mutex<Heard>);

/// What was heard: how often, and the first in words.
#[derive(Debug, Default)]
struct Heard {
    /// Attempts that were turned away for a reason that is none of the tested.
    turned_away: BTreeMap<Abort, (u64, String)>,
    /// Answers that are none to what was asked.
    wrong: Option<(u64, String)>,
}

impl Grievances {
    /// An attempt was turned away: an [`Abort::is_of_the_test`].
    pub fn turned_away(&self, abort: Abort, words: impl FnOnce() -> String) {
        if let Ok(mut heard) = self.0.lock() {
            heard.turned_away.entry(abort).or_insert_with(|| (0, words())).0 += 1;
        }
    }

    /// An answer is none to what was asked.
    pub fn wrong_answer(&self, words: String) {
        if let Ok(mut heard) = self.0.lock() {
            heard.wrong.get_or_insert((0, words)).0 += 1;
        }
    }

    /// Why nothing is proved, if attempts were turned away; with the likely cause of each.
    pub fn failure(&self, api: &str, likely: Likely) -> Option<Error> {
        let heard = self.0.lock().ok()?;
        let said: Vec<String> =
            heard.turned_away.iter().map(|(abort, (n, words))| format!("{} × {} ({words})", grouped(*n), abort.words())).collect();
        let causes: Vec<String> = heard.turned_away.iter().map(|(abort, (_, words))| likely(*abort, words).to_owned()).collect();
        (!said.is_empty()).then(|| {
            let why = format!("{api} turned requests away that it was to perform, and the load was ended: {}", said.join("; "));
            Error::inconclusive(why).cure(causes.join("\n"))
        })
    }

    /// What is said of answers that are none, if there were any.
    pub fn wrong(&self) -> Option<String> {
        let heard = self.0.lock().ok()?;
        heard.wrong.as_ref().map(|(n, words)| match n {
            1 => format!("an answer was none to what was asked: {words}"),
            n => format!("{} answers were none to what was asked; the first: {words}", grouped(*n)),
        })
    }
}

/// Says what most likely is the cause, and its cure.
pub(super) type Likely = fn(Abort, &str) -> &'static str;

/// As [`likely`], of an API that anybody may have written.
pub(super) fn likely_anywhere(abort: Abort, words: &str) -> &'static str {
    match abort {
        Abort::NotLetIn if words.contains(" 401") => "the token is not good there, or not any more: look at [http.auth]",
        Abort::NotLetIn => {
            "this account may not do that: say whose operation it is (roles), pair the rows with their organisation (pair in [data]); or if it is \
             an answer, outcomes = { 403 = \"refused\" }"
        }
        Abort::NotThere => {
            "the path leads nowhere, or the row is gone: correct the path, or the table of values; or if it is an answer, \
             outcomes = { 404 = \"refused\" }"
        }
        Abort::RateLimited => {
            "fewer --vus, a lower --rate, or a limit that is raised for the test; or if the limit is what is tested, \
             outcomes = { 429 = \"rate-limited\" }"
        }
        _ => {
            "the API does not understand the request, does not want it, or sends it elsewhere (redirects are not followed): correct it; or if it is \
             an answer, say what the status means in outcomes"
        }
    }
}

/// What most likely is the cause of an attempt that was turned away, and its cure; `words` are those of the answer.
pub(super) fn likely(abort: Abort, words: &str) -> &'static str {
    let says = |code: Code| serde_json::to_string(&code).is_ok_and(|code| words.contains(code.trim_matches('"')));
    match abort {
        Abort::NotLetIn if says(Code::TokenExpired) => {
            "the tokens had expired: the clocks of this machine and the server's differ, or something between keeps answers"
        }
        Abort::NotLetIn if says(Code::InvalidToken) || says(Code::InvalidCredentials) => {
            "the server trusts another secret, or the dataset was seeded anew since it was started: restart it; give both the same --state-dir, \
             or the same DBSTRESS_API_SECRET"
        }
        Abort::NotLetIn if says(Code::NoToken) => "something between takes the header Authorization away: name the server itself",
        Abort::NotLetIn if says(Code::WrongOrganisation) => {
            "the server takes tokens for those of another organisation: restart it, if the dataset was seeded anew since it was started"
        }
        Abort::NotLetIn => {
            "the server does not let this role do that, or does not know the grant of this run: is it of the same version?"
        }
        Abort::NotThere => {
            "the server has another dataset, or another path: restart it if the dataset was seeded anew, or correct --target"
        }
        Abort::RateLimited => {
            "the server lets too few requests through: serve it without --limits and --limit, or lower --vus and --rate; what is left of a \
             window has to be waited for"
        }
        _ => "the server does not understand this dbstress: let both be of the same version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once_and_counted() {
        let grievances = Grievances::default();
        assert!(grievances.failure("the API", likely).is_none() && grievances.wrong().is_none());
        for _ in 0..1_234 {
            grievances.turned_away(Abort::RateLimited, || "429 RATE_LIMITED: wait".into());
        }
        grievances.turned_away(Abort::NotLetIn, || "401 TOKEN_EXPIRED: late".into());
        grievances.wrong_answer("answered 200 with INSUFFICIENT_UNITS: no".into());
        let failure = grievances.failure("the API", likely).unwrap().to_string();
        assert!(failure.contains("1,234 × 429 rate limited (429 RATE_LIMITED: wait)"), "{failure}");
        assert!(failure.contains("1 × 401 or 403, not let in (401 TOKEN_EXPIRED: late)"), "{failure}");
        assert!(grievances.wrong().unwrap().ends_with("answered 200 with INSUFFICIENT_UNITS: no"));
    }

    #[test]
    fn the_likely_cause_follows_from_the_answer() {
        let causes =
            ["401 TOKEN_EXPIRED: x", "401 INVALID_TOKEN: x", "401 NO_TOKEN: x", "403 WRONG_ORGANISATION: x", "403 ROLE: x"];
        let causes: std::collections::BTreeSet<_> = causes.map(|words| likely(Abort::NotLetIn, words)).into();
        assert_eq!(causes.len(), 5);
    }
}
