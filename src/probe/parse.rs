//! What does the file of a probe say, and if it is malformed, where and what is missing?

use std::path::Path;
use std::time::Duration;

use super::{Kind, Probe};
use crate::annotated::{Annotated, Header, is_name, sql_files};
use crate::pace::parse_duration;
use crate::{Error, Result};

/// The keys of a header.
const KEYS: [&str; 5] = ["kind", "every", "since", "until", "needs"];

/// Reads the text of a probe called `name`. `file` is where it came from; `None` = built in.
///
/// # Errors
/// Usage: file, line, what is wrong and the cure.
pub fn parse(name: &str, text: &str, file: Option<&Path>) -> Result<Probe> {
    let place = file.map_or_else(|| format!("sql/probes/{name}.sql"), |f| f.display().to_string());
    let mut read = Annotated::read(place, text, &KEYS)?;
    if !is_name(name) {
        return Err(read
            .bad(1, format!("`{name}` cannot be the name of a probe"))
            .cure("name the file in lower case with hyphens, like oldest-lock.sql"));
    }
    let [kind, every, since, until, needs] = KEYS.map(|key| read.take(key));
    let kinds = "-- kind: gauge (one row of numbers), counter (numbers that only grow), keyed (rows of key and value) or chains";
    let kind = kind.ok_or_else(|| read.bad(read.end_of_headers, "there is no `-- kind:`").cure(kinds))?;
    let Some(of) = Kind::ALL.into_iter().find(|k| k.word() == kind.value) else {
        return Err(read.bad(kind.line, format!("unknown `kind`: `{}`", kind.value)).cure(kinds));
    };
    let every = match every {
        Some(header) => parse_duration(&header.value)
            .map_err(|error| read.bad(header.line, format!("`every`: {error}")).cure("-- every: 1s, or leave the line out"))?,
        None => Duration::ZERO,
    };
    let version = |header: Option<Header>, key: &str| -> Result<Option<u32>> {
        let Some(header) = header else { return Ok(None) };
        let major = header.value.parse().map_err(|_| {
            read.bad(header.line, format!("`{key}`: `{}` is no major version", header.value)).cure("a number such as 17")
        })?;
        Ok(Some(major))
    };
    let (since, until) = (version(since, "since")?, version(until, "until")?);
    let (title, query) = read.title_and_query("what it is about", "SELECT count(*) AS name FROM …")?;
    Ok(Probe {
        name: name.into(),
        title,
        kind: of,
        every,
        since,
        until,
        needs: needs.map(|h| h.value).filter(|v| !v.is_empty()),
        query,
        file: file.map(Path::to_owned),
    })
}

/// The probes in the `*.sql` files of `directory`, in the order of their names.
///
/// # Errors
/// Usage: a directory that cannot be read or holds none, a malformed file, a name that is taken by a built-in one.
pub fn load_directory(directory: &Path) -> Result<Vec<Probe>> {
    let built_in = super::built_in()?;
    let mut probes = Vec::new();
    for (name, path, text) in sql_files(directory, "--probes", "write one: sql/probes/sessions.sql in the sources is an example")? {
        if built_in.iter().any(|probe| probe.name == name) {
            return Err(Error::usage(format!("{}:1: there already is a built-in probe {name}", path.display()))
                .cure("give the file another name"));
        }
        probes.push(parse(&name, &text, Some(&path))?);
    }
    Ok(probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- kind: gauge\n-- every: 1s\n-- since: 15\n-- until: 17\n-- needs: pg_buffercache\n--\n-- Title of it.\n-- More.\nSELECT 1 AS one; \n";

    #[test]
    fn a_file_is_taken_apart() {
        let probe = parse("mine", GOOD, Some(Path::new("/x/mine.sql"))).unwrap();
        assert_eq!((probe.kind, probe.every, &*probe.title), (Kind::Gauge, Duration::from_secs(1), "Title of it."));
        assert_eq!((probe.since, probe.until, probe.needs.as_deref()), (Some(15), Some(17), Some("pg_buffercache")));
        assert_eq!(probe.query, "SELECT 1 AS one");
        assert_eq!([14, 15, 17, 18].map(|major| probe.is_for(major)), [false, true, true, false]);
        let least = parse("mine", "-- kind: keyed\n--\n-- Title.\nSELECT 1", None).unwrap();
        assert_eq!((least.every, least.since, least.until, least.needs.as_deref()), (Duration::ZERO, None, None, None));
        assert!(least.query == "SELECT 1" && [9, 99].into_iter().all(|major| least.is_for(major)));
    }

    #[test]
    fn every_error_says_where_and_what_helps() {
        let cases = [
            (GOOD.replace("-- kind: gauge\n", ""), "no `-- kind:`", 5),
            (GOOD.replace("gauge", "gage"), "unknown `kind`: `gage`", 1),
            (GOOD.replace("1s", "often"), "`every`", 2),
            (GOOD.replace("15", "new"), "`since`: `new` is no major version", 3),
            (GOOD.replace("-- needs", "-- need"), "did you mean `needs`", 5),
            (GOOD.replace("SELECT 1 AS one;", ""), "no query", 9),
            (GOOD.replace("-- Title of it.\n-- More.\n", ""), "no title", 6),
        ];
        for (text, what, line) in cases {
            let shown = parse("mine", &text, Some(Path::new("/x/mine.sql"))).unwrap_err().to_string();
            assert!(shown.contains(what), "{what}: {shown}");
            assert!(shown.starts_with(&format!("/x/mine.sql:{line}:")) && shown.contains("cure:"), "line {line}: {shown}");
        }
        assert!(parse("My_Probe", GOOD, None).unwrap_err().to_string().contains("cannot be the name"));
    }

    #[test]
    fn a_directory_may_not_repeat_a_name() {
        let directory = std::env::temp_dir().join(format!("dbstress-probes-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(load_directory(&directory).unwrap_err().to_string().contains("no *.sql file"));
        std::fs::write(directory.join("mine.sql"), GOOD).unwrap();
        assert_eq!(load_directory(&directory).unwrap()[0].file.as_deref(), Some(&*directory.join("mine.sql")));
        std::fs::write(directory.join("waits.sql"), GOOD).unwrap();
        assert!(load_directory(&directory).unwrap_err().to_string().contains("already is a built-in probe waits"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
