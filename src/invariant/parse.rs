//! What does the file of an invariant say, and if it is malformed, where and what is missing?

use std::path::Path;

use super::{Invariant, Subject, When};
use crate::annotated::{Annotated, Header, is_name, sql_files};
use crate::error::nearest;
use crate::seed::Dataset;
use crate::{Error, Result};

/// The keys of a header.
const KEYS: [&str; 6] = ["id", "dataset", "when", "examines", "breaks", "subject"];

/// Statements that would end the transaction in which `breaks` is rolled back.
const TRANSACTION_CONTROL: [&str; 12] =
    ["abort", "begin", "commit", "end", "prepare", "release", "rollback", "savepoint", "start", "call", "discard", "vacuum"];

/// Reads the text of an invariant called `name`. `file` is where it came from; `None` = built in.
///
/// # Errors
/// Usage: file, line, what is wrong and the cure.
pub fn parse(name: &str, text: &str, file: Option<&Path>) -> Result<Invariant> {
    let place = file.map_or_else(|| format!("sql/invariants/{name}.sql"), |f| f.display().to_string());
    let mut read = Annotated::read(place, text, &KEYS)?;
    if !is_name(name) {
        return Err(read
            .bad(1, format!("`{name}` cannot be the name of an invariant"))
            .cure("name the file in lower case with hyphens, like units-within-total.sql"));
    }
    let [id, dataset, when, examines, breaks, subject] = KEYS.map(|key| read.take(key));
    let bad = |line: usize, what: String| read.bad(line, what);
    let required = |header: Option<Header>, key: &str, cure: &str| match header {
        Some(header) if !header.value.is_empty() => Ok(header),
        Some(header) => Err(bad(header.line, format!("`{key}` is empty")).cure(cure)),
        None => Err(bad(read.end_of_headers, format!("there is no `-- {key}:`")).cure(cure)),
    };
    let examines = required(
        examines,
        "examines",
        "-- examines: SELECT count(*) FROM …   (how many rows the check looks at; 0 means that it shows nothing)",
    )?;
    let breaks = required(
        breaks,
        "breaks",
        "-- breaks: UPDATE …   (what makes the check fire, tried in a transaction that is rolled back: a check that cannot fail proves nothing)",
    )?;
    let when = required(when, "when", "-- when: always   or   -- when: quiesced")?;
    let when_value = match &*when.value {
        "always" => When::Always,
        "quiesced" => When::Quiesced,
        other => {
            return Err(bad(when.line, format!("unknown `when`: `{other}`"))
                .cure("always (true in any snapshot, so also during load) or quiesced (only after the load has been drained)"));
        }
    };
    let subject = match subject {
        None => None,
        Some(header) => {
            let words = Subject::ALL.map(Subject::word).join(", ");
            Some(Subject::ALL.into_iter().find(|subject| subject.word() == header.value).ok_or_else(|| {
                bad(header.line, format!("unknown `subject`: `{}`", header.value))
                    .cure(format!("one of {words}, or leave the line out: it says what the subject column is an id of"))
            })?)
        }
    };
    if let Some(header) = dataset.as_ref().filter(|header| !header.value.is_empty()) {
        let names = Dataset::ALL.map(Dataset::name);
        if !names.contains(&&*header.value) {
            let hint = nearest(&header.value, names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            return Err(bad(header.line, format!("unknown `dataset`: `{}`{hint}", header.value))
                .cure(format!("one of {}, or leave the line out: the rule is then about whatever is there", names.join(", "))));
        }
    }
    if let Some(word) = statements(&breaks.value).iter().find_map(|s| ends_the_transaction(s)) {
        return Err(bad(breaks.line, format!("`breaks` may not contain {}", word.to_uppercase()))
            .cure("leave only the statements that break the rule: they run in a transaction that is rolled back"));
    }
    let (examines_line, query_line) = (examines.line, read.query_line);
    let (title, query) =
        read.title_and_query("what holds", "SELECT … AS subject, … AS expected, … AS actual FROM …: one row per breach")?;
    let value = |header: Option<Header>| header.map(|h| h.value).filter(|v| !v.is_empty());
    Ok(Invariant {
        name: name.into(),
        id: value(id),
        dataset: value(dataset),
        when: when_value,
        subject,
        title,
        examines: examines.value.trim_end_matches(';').to_owned(),
        breaks: breaks.value,
        query,
        source: text.trim_end().to_owned(),
        examines_line,
        query_line,
        file: file.map(Path::to_owned),
    })
}

/// Adds the invariants in the `*.sql` files of `directory` to `known`, in the order of their names.
///
/// # Errors
/// Usage: a directory that cannot be read or holds none, a malformed file, a name or number that is taken.
pub fn load_directory(directory: &Path, known: &mut Vec<Invariant>) -> Result<()> {
    let example = "`dbstress verify --show units-within-total` prints one to start from";
    for (name, path, text) in sql_files(directory, "--invariants", example)? {
        let invariant = parse(&name, &text, Some(&path))?;
        let same = |other: &&Invariant| other.is_called(&name) || invariant.id.as_deref().is_some_and(|id| other.is_called(id));
        if let Some(other) = known.iter().find(same) {
            let whose = other.file.as_ref().map_or("built in".to_owned(), |f| f.display().to_string());
            return Err(Error::usage(format!("{}:1: there already is an invariant {} ({whose})", path.display(), other.name))
                .cure("give the file another name, or its header another id"));
        }
        known.push(invariant);
    }
    Ok(())
}

/// The first word of `statement`, if that statement would end or divide the transaction around it.
fn ends_the_transaction(statement: &str) -> Option<&'static str> {
    let first: String = statement.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    TRANSACTION_CONTROL.into_iter().find(|word| first.eq_ignore_ascii_case(word))
}

/// `sql` cut at its semicolons, but not at those inside quotes, dollar quotes or comments; comments in front of a statement are dropped.
fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let skip_to = |from: usize, end: &str| sql[from..].find(end).map_or(sql.len(), |i| from + i + end.len());
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let comment_begins = sql[start..at].trim().is_empty();
        at = match bytes[at] {
            b';' => {
                found.push(&sql[start..at]);
                start = at + 1;
                at + 1
            }
            b'\'' => skip_to(at + 1, "'"),
            b'"' => skip_to(at + 1, "\""),
            b'$' => match sql[at + 1..].find('$').map(|i| &sql[at..at + i + 2]) {
                Some(tag) if tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_') => skip_to(at + tag.len(), tag),
                _ => at + 1,
            },
            b'-' if sql[at..].starts_with("--") => {
                let end = skip_to(at, "\n");
                start = if comment_begins { end } else { start };
                end
            }
            b'/' if sql[at..].starts_with("/*") => {
                let end = skip_to(at + 2, "*/");
                start = if comment_begins { end } else { start };
                end
            }
            // Only ASCII bytes are looked for, and no byte of a longer character is one: stepping by bytes is safe here.
            _ => at + 1,
        };
        while at < sql.len() && !sql.is_char_boundary(at) {
            at += 1;
        }
    }
    found.push(&sql[start.min(sql.len())..]);
    found.into_iter().map(str::trim).filter(|s| !s.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- id: INV-X1\n-- dataset: clinic\n-- when: always\n-- examines: SELECT count(*)\n--   FROM t\n-- breaks: UPDATE t\n--     SET x = 1;\n--     DELETE FROM u\n--\n-- Title of it.\n-- More prose: with a colon.\nSELECT 1 AS subject,\n  -- inside\n  2 AS expected, 3 AS actual;\n";

    #[test]
    fn a_file_is_taken_apart() {
        let i = parse("my-rule", GOOD, None).unwrap();
        assert_eq!((i.name.as_str(), i.id.as_deref(), i.dataset.as_deref()), ("my-rule", Some("INV-X1"), Some("clinic")));
        assert_eq!((i.when, i.subject), (When::Always, None));
        assert_eq!(i.examines, "SELECT count(*)\nFROM t");
        assert_eq!(i.breaks, "UPDATE t\nSET x = 1;\nDELETE FROM u");
        assert_eq!(i.title, "Title of it.");
        assert_eq!(i.query, "SELECT 1 AS subject,\n  -- inside\n  2 AS expected, 3 AS actual");
        assert_eq!(i.source, GOOD.trim_end());
        assert_eq!((i.examines_line, i.query_line), (4, 12));
    }

    #[test]
    fn what_a_user_may_leave_out() {
        let text = GOOD.replace("-- id: INV-X1\n", "").replace("-- dataset: clinic\n", "");
        let i = parse("mine", &text, Some(Path::new("/x/mine.sql"))).unwrap();
        assert_eq!((i.id, i.dataset), (None, None));
    }

    #[test]
    fn every_error_says_where_and_what_helps() {
        let without = |line: &str| GOOD.lines().filter(|l| !l.contains(line)).collect::<Vec<_>>().join("\n");
        let cases = [
            (without("examines").replace("--   FROM t\n", ""), "no `-- examines:`", 7),
            (without("breaks").replace("--     SET x = 1;\n--     DELETE FROM u\n", ""), "no `-- breaks:`", 6),
            (without("when"), "no `-- when:`", 8),
            (GOOD.replace("always", "sometimes"), "unknown `when`: `sometimes`", 3),
            (GOOD.replace("-- examines", "-- examine"), "did you mean `examines`", 4),
            (GOOD.replace("-- dataset: clinic", "-- when: always"), "given twice", 3),
            (GOOD.replace("-- dataset: clinic", "-- subject: patient"), "unknown `subject`", 2),
            (GOOD.replace("clinic", "klinik"), "unknown `dataset`: `klinik`; did you mean `clinic`?", 2),
            (GOOD.replace("-- dataset: clinic", "-- clinic"), "is not `key: value`", 2),
            (GOOD.split("SELECT 1").next().unwrap().to_owned(), "no query", 11),
            (GOOD.replace("-- Title of it.\n-- More prose: with a colon.\n", ""), "no title", 9),
            (GOOD.replace("DELETE FROM u", "COMMIT"), "may not contain COMMIT", 6),
            (String::new(), "no `-- examines:`", 1),
        ];
        for (text, what, line) in cases {
            let error = parse("mine", &text, Some(Path::new("/x/mine.sql"))).unwrap_err();
            let shown = error.to_string();
            assert_eq!(error.kind(), crate::error::Kind::Usage);
            assert!(shown.contains(what), "{what}: {shown}");
            assert!(shown.starts_with(&format!("/x/mine.sql:{line}:")), "line {line}: {shown}");
            assert!(shown.contains("cure:"), "{shown}");
        }
        assert!(parse("My_Rule", GOOD, None).unwrap_err().to_string().contains("cannot be the name"));
    }

    #[test]
    fn transaction_control_is_seen_where_it_is_and_only_there() {
        let control = |sql: &str| statements(sql).iter().find_map(|s| ends_the_transaction(s));
        assert_eq!(control("UPDATE t SET x = 1; commit"), Some("commit"));
        assert_eq!(control("UPDATE t SET x = 1; -- and\n /* then */ Rollback;"), Some("rollback"));
        assert_eq!(control("END"), Some("end"));
        assert_eq!(control("DO $$ BEGIN DELETE FROM t; END $$; SELECT 1"), None);
        assert_eq!(control("DO $body$ BEGIN; COMMIT; $body$"), None);
        assert_eq!(control("UPDATE t SET x = 'a; COMMIT' || \"b; COMMIT\""), None);
        assert_eq!(control("UPDATE t SET x = $1; /* é; COMMIT */ SELECT 'ü'"), None);
    }

    #[test]
    fn a_directory_may_not_repeat_a_name_or_a_number() {
        let directory = std::env::temp_dir().join(format!("dbstress-parse-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut known = vec![parse("first", GOOD, None).unwrap()];
        assert!(load_directory(&directory, &mut known).unwrap_err().to_string().contains("no *.sql file"));
        std::fs::write(directory.join("second.sql"), GOOD).unwrap();
        assert!(load_directory(&directory, &mut known).unwrap_err().to_string().contains("already is an invariant first"));
        std::fs::write(directory.join("second.sql"), GOOD.replace("INV-X1", "INV-X2")).unwrap();
        load_directory(&directory, &mut known).unwrap();
        assert_eq!(known[1].file.as_deref(), Some(&*directory.join("second.sql")));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
