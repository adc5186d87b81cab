//! What does the server say when it begins, and when it stops? Who may log in?

use super::text::{finish, grid, grouped, wrap};
use crate::api::{Mistake, Summary};
use crate::contract::About;
use crate::http::Address;
use crate::pace::duration_text;

/// Columns of everything that is said in words.
const NARROW: u16 = 80;

/// The one line when it listens.
pub fn listening(address: &Address, about: &About, mistake: Option<Mistake>) -> String {
    let limits = match about.limits.len() {
        0 => "no limits".into(),
        1 => "1 limit".into(),
        n => format!("{n} limits"),
    };
    let sessions = format!("{} sessions", about.pool_size);
    let mut said = format!("listening on {address} · {} · {} · {sessions} · {limits}", about.dataset, about.strategy);
    if let Some(mistake) = mistake {
        said.push_str(&format!(" · with a mistake: {mistake}"));
    }
    said
}

/// What it did.
pub fn stopped(summary: &Summary) -> String {
    let Summary { answers, panics, audited, audit_lost, lasted } = summary;
    let mut said = format!(
        "stopped after {}: {} requests done, {} refused, {} failed; {} entries in the audit trail",
        duration_text(std::time::Duration::from_secs(lasted.as_secs().max(1))),
        grouped(answers.done),
        grouped(answers.refused),
        grouped(answers.failed),
        grouped(*audited),
    );
    if *panics > 0 {
        said.push_str(&format!("; {} handlers broke down", grouped(*panics)));
    }
    if *audit_lost > 0 {
        said.push_str(&format!("; {} entries are lost: the database was away to the end", grouped(*audit_lost)));
    }
    wrap(&said, NARROW, "")
}

/// Who may log in.
pub fn accounts(rows: &[(String, String, Option<i64>)], width: u16, colour: bool) -> String {
    let mut table = grid(&["login", "role", "organisation or programme"], width.min(NARROW), colour);
    for (login, role, organisation) in rows {
        table.add_row([login.clone(), role.clone(), organisation.map_or_else(|| "all".into(), |id| id.to_string())]);
    }
    finish(&table)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::Answers;
    use crate::contract::{Database, SERVICE};

    fn about() -> About {
        About {
            service: SERVICE.into(),
            version: "0".into(),
            database: Database { system_identifier: "7".into(), oid: 5 },
            dataset: "clinic".into(),
            strategy: "serializable".into(),
            sessions: "dbstress/serve-1".into(),
            pool_size: 20,
            retry_deadline_ms: 5_000,
            in_flight: "refuse".into(),
            key_lifetime_s: 1,
            token_lifetime_s: 1,
            limits: Vec::new(),
        }
    }

    #[test]
    fn the_first_line_says_where_and_how_and_what_is_wrong_on_purpose() {
        let address = Address::parse("http://127.0.0.1:8971").unwrap();
        let said = listening(&address, &about(), None);
        assert_eq!(said, "listening on http://127.0.0.1:8971 · clinic · serializable · 20 sessions · no limits");
        assert!(listening(&address, &about(), Some(Mistake::ForgetsKey)).ends_with("with a mistake: forgets-key"));
    }

    #[test]
    fn the_last_one_says_what_was_answered_and_what_was_lost() {
        let answers = Answers { done: 12_345, refused: 6, failed: 0 };
        let mut summary = Summary { answers, panics: 0, audited: 7, audit_lost: 0, lasted: Duration::from_millis(90_400) };
        let words = |summary: &Summary| stopped(summary).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&summary), "stopped after 1m30s: 12,345 requests done, 6 refused, 0 failed; 7 entries in the audit trail");
        summary.audit_lost = 3;
        summary.panics = 1;
        assert!(words(&summary).contains("1 handlers broke down; 3 entries are lost"));
        assert!(stopped(&summary).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn accounts_are_listed() {
        let rows = [("a@example.com".to_owned(), "admin".to_owned(), None), ("b".to_owned(), "viewer".to_owned(), Some(7))];
        let said = accounts(&rows, 100, false);
        assert!(said.contains("a@example.com") && said.contains("all") && said.contains('7'), "{said}");
    }
}
