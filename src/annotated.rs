//! What do the comments at the head of an SQL file say, and where are they malformed?
//!
//! A header of `-- key: value` lines (a value goes on in comment lines indented by two more spaces), an empty `--`, a sentence, the query.

use std::path::{Path, PathBuf};

use crate::error::nearest;
use crate::{Error, Result, text_file};

/// One header: its value and the line it began on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What comes after the colon, lines joined by newlines.
    pub value: String,
    /// Where it began.
    pub line: usize,
}

/// A file, taken apart.
#[derive(Debug)]
pub struct Annotated {
    place: String,
    headers: Vec<(&'static str, Header)>,
    /// The last line of the headers.
    pub end_of_headers: usize,
    title: Option<String>,
    query: String,
    /// Where the query begins.
    pub query_line: usize,
    lines: usize,
}

impl Annotated {
    /// Takes `text` apart; `place` is what errors call it, `keys` are the headers that it may have.
    ///
    /// # Errors
    /// Usage: a line that is no header, an unknown key, one that is given twice.
    pub fn read(place: String, text: &str, keys: &[&'static str]) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let mut read = Self {
            place,
            headers: Vec::new(),
            end_of_headers: 1,
            title: None,
            query: String::new(),
            query_line: 1,
            lines: lines.len(),
        };
        let mut at = lines.iter().position(|l| !l.trim().is_empty()).unwrap_or(0);
        let mut closed = false;
        while let Some(comment) = lines.get(at).and_then(|l| l.strip_prefix("--")) {
            at += 1;
            if comment.trim().is_empty() {
                closed = true;
                break;
            }
            if let Some((_, header)) = read.headers.last_mut().filter(|_| comment.starts_with("   ")) {
                header.value.push('\n');
                header.value.push_str(comment.trim());
                continue;
            }
            let Some((key, value)) = comment.split_once(':').map(|(key, value)| (key.trim(), value.trim())) else {
                return Err(read
                    .bad(at, format!("`{}` is not `key: value`", comment.trim()))
                    .cure("the title comes after an empty `--`; a value goes on in lines indented by two more spaces"));
            };
            let Some(key) = keys.iter().find(|k| **k == key) else {
                let cure = nearest(key, keys.iter().copied())
                    .map_or_else(|| format!("one of {}", keys.join(", ")), |k| format!("did you mean `{k}`?"));
                return Err(read.bad(at, format!("unknown header `{key}`")).cure(cure));
            };
            if read.headers.iter().any(|(k, _)| k == key) {
                return Err(read.bad(at, format!("`{key}` is given twice")).cure("keep one of them"));
            }
            read.headers.push((key, Header { value: value.to_owned(), line: at }));
        }
        read.end_of_headers = at.max(1);
        while let Some(comment) = lines.get(at).and_then(|l| l.strip_prefix("--")) {
            at += 1;
            if read.title.is_none() && closed && !comment.trim().is_empty() {
                read.title = Some(comment.trim().to_owned());
            }
        }
        at += lines.iter().skip(at).take_while(|line| line.trim().is_empty()).count();
        read.query_line = at + 1;
        let query = lines[at.min(lines.len())..].join("\n");
        read.query = query.trim().trim_end_matches(';').trim_end().to_owned();
        Ok(read)
    }

    /// What is wrong in a line.
    pub fn bad(&self, line: usize, what: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}:{line}: {what}", self.place))
    }

    /// The header `key`, if it is there; only once.
    pub fn take(&mut self, key: &str) -> Option<Header> {
        self.headers.iter().position(|(k, _)| *k == key).map(|i| self.headers.swap_remove(i).1)
    }

    /// The sentence, and the query without its last semicolon.
    ///
    /// # Errors
    /// Usage, when one of them is missing; `says` is what the sentence says, `query` what a query looks like.
    pub fn title_and_query(&self, says: &str, query: &str) -> Result<(String, String)> {
        let Some(title) = &self.title else {
            return Err(self
                .bad(self.end_of_headers, "there is no title")
                .cure(format!("after the headers an empty `--`, then `-- ` and a sentence that says {says}")));
        };
        if self.query.lines().all(|l| l.trim().is_empty() || l.trim().starts_with("--")) {
            return Err(self.bad(self.lines.max(1), "there is no query").cure(query));
        }
        Ok((title.clone(), self.query.clone()))
    }
}

/// Whether a file may have this name: lower case with hyphens.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The `*.sql` files of a directory in the order of their names: stem, path, text. `flag` named it, `example` is how one gets a file to
/// start from.
///
/// # Errors
/// Usage: a directory that cannot be read or holds none, a file that is no text.
pub fn sql_files(directory: &Path, flag: &str, example: &str) -> Result<Vec<(String, PathBuf, String)>> {
    let unreadable = |e: std::io::Error| {
        Error::usage(format!("cannot read {}", directory.display()))
            .because(e)
            .cure(format!("{flag} names a directory with *.sql files"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "sql") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::usage(format!("there is no *.sql file in {}", directory.display())).cure(example));
    }
    let read = |path: PathBuf| {
        let text = text_file::read(&path)
            .map_err(|e| Error::usage(format!("cannot read {}", path.display())).because(e).cure("it must be UTF-8 text"))?;
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Ok((name, path, text))
    };
    files.into_iter().map(read).collect()
}
