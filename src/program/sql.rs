//! What in an SQL text is a name, and what is only text?
//!
//! Quotes, dollar quotes and comments are told apart as psql does; the rest is left to the server.

use std::ops::Range;

use super::scope::{Complaint, Scope, Sigil, begins_name, name_at};
use super::{Fragment, Slot, StatementKind};

/// A statement as it is sent.
#[derive(Debug)]
pub(super) struct Sql {
    pub sql: String,
    pub parameters: Vec<Slot>,
    pub kind: StatementKind,
    pub label: String,
    /// Its first byte.
    pub at: usize,
    /// As it is written, in pieces between its variables; of a script only.
    pub fragments: Vec<Fragment>,
    /// Where variables stand in it that can only be substituted as text; of a script only.
    pub textual: Vec<Textual>,
}

/// A variable where PostgreSQL takes no parameter.
#[derive(Debug)]
pub(super) struct Textual {
    pub slot: Slot,
    /// Whether the variable has a value there whatever columns `\gset` finds.
    pub is_sure: bool,
    pub complaint: Complaint,
}

/// A piece of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// White space or a comment.
    Gap,
    /// A literal or a quoted identifier.
    Quoted,
    /// A keyword, an identifier, a number.
    Word,
    /// `$1`.
    Positional,
    /// Any other character.
    Symbol(char),
}

/// Reads a statement that begins somewhere after byte `from`. It ends with a `;` outside parentheses, which is consumed, with the end of the
/// text or, in scripts, before a backslash. Returns the byte behind it too; no statement if there are only gaps.
pub(super) fn read(text: &str, from: usize, scope: &mut Scope) -> Result<(Option<Sql>, usize), Complaint> {
    if let Some(zero) = text.find('\0') {
        return Err(Complaint::new(zero, "there is a zero byte here, which PostgreSQL takes in no statement", "remove it"));
    }
    let mut sql = String::new();
    let mut parameters = Vec::new();
    let mut fragments = Vec::new();
    let mut textual = Vec::new();
    let (mut start, mut positional) = (None, None);
    let mut depth = 0u32;
    let mut at = from;
    // The end of a word, which what follows it at once belongs to.
    let mut word_end = None;
    let end = loop {
        let Some((piece, mut next)) = piece(text, at)? else { break at };
        match piece {
            // What comes before the statement is not sent, what is within it may be a hint.
            Piece::Gap if start.is_none() => {
                at = next;
                continue;
            }
            Piece::Symbol(';') if depth == 0 => break next,
            Piece::Symbol('\\') if scope.sigil == Sigil::Colon => match text[next..].chars().next() {
                Some(';') => {
                    return Err(Complaint::new(
                        at,
                        "`\\;` combines statements into one message, which prepared statements cannot",
                        "end each statement with `;` alone",
                    ));
                }
                Some(':') => at = next,
                _ => break at,
            },
            Piece::Symbol('(') => depth += 1,
            Piece::Symbol(')') => depth = depth.saturating_sub(1),
            Piece::Positional => positional = positional.or(Some(at)),
            Piece::Word if scope.sigil == Sigil::Dollar => only_text(text, at..next, "part of a word", scope)?,
            Piece::Quoted if scope.sigil == Sigil::Dollar => only_text(text, at..next, "within quotes", scope)?,
            _ => {}
        }
        start = start.or(Some(at));
        match piece {
            Piece::Symbol('\\') => next = at + 1,
            // `::` is a cast, whatever follows.
            Piece::Symbol(':') => next = text[at..].find(|c| c != ':').map_or(text.len(), |colons| at + colons),
            _ => {}
        }
        if let Some((name, after)) = variable(text, at, next, scope.sigil, piece)? {
            let slot = scope.find(name, at)?;
            // As in pgbench a variable of a script is another parameter at each place, where it may have another type.
            let known = parameters.iter().position(|known| *known == slot).filter(|_| scope.sigil == Sigil::Dollar);
            let index = known.unwrap_or_else(|| {
                parameters.push(slot);
                parameters.len() - 1
            });
            sql.push_str(&format!("${}", index + 1));
            if scope.sigil == Sigil::Colon {
                fragments.push(Fragment::Variable(slot));
                if word_end == Some(at) {
                    textual.push(Textual { slot, is_sure: true, complaint: no_parameter(name, at, "part of a word", scope.sigil) });
                }
            }
            next = after;
        } else {
            sql.push_str(&text[at..next]);
            match (scope.sigil, piece) {
                (Sigil::Colon, Piece::Quoted | Piece::Gap) => {
                    let is_quoted = piece == Piece::Quoted;
                    for (slot, is_sure, name, place) in substituted(text, at..next, scope, &mut fragments) {
                        let complaint = no_parameter(name, place, "within quotes", scope.sigil);
                        textual.extend(is_quoted.then_some(Textual { slot, is_sure, complaint }));
                    }
                }
                (Sigil::Colon, _) => push_text(&mut fragments, &text[at..next]),
                (Sigil::Dollar, _) => {}
            }
        }
        word_end = (piece == Piece::Word && text[at..].starts_with(begins_name)).then_some(next);
        at = next;
    };
    let Some(start) = start else { return Ok((None, end)) };
    if let Some(positional) = positional.filter(|_| !parameters.is_empty()) {
        return Err(Complaint::new(positional, "numbered and named parameters are mixed", "names for all of them"));
    }
    let words = words(&text[start..at])?;
    sql.truncate(sql.trim_end().len());
    Ok((Some(Sql { sql, parameters, kind: kind(&words, start)?, label: label(&words), at: start, fragments, textual }), end))
}

fn push_text(fragments: &mut Vec<Fragment>, text: &str) {
    match fragments.last_mut() {
        Some(Fragment::Text(before)) => before.push_str(text),
        _ => fragments.push(Fragment::Text(text.to_owned())),
    }
}

/// Takes a literal or a comment apart at the variables in it, as pgbench's simple protocol does: they are substituted there too. What is no variable
/// is left alone. Returns each variable, whether it has a value for sure, its name and its byte.
fn substituted<'t>(
    text: &'t str,
    range: Range<usize>,
    scope: &mut Scope,
    fragments: &mut Vec<Fragment>,
) -> Vec<(Slot, bool, &'t str, usize)> {
    let mut found = Vec::new();
    let mut at = range.start;
    while let Some(colon) = text[at..range.end].find(':').map(|offset| at + offset) {
        let name = name_at(&text[colon + 1..range.end]);
        let end = if name.is_empty() {
            text[colon..range.end].find(|c| c != ':').map_or(range.end, |colons| colon + colons)
        } else {
            colon + 1 + name.len()
        };
        match scope.perhaps(name) {
            Some((slot, is_sure)) => {
                push_text(fragments, &text[at..colon]);
                fragments.push(Fragment::Variable(slot));
                found.push((slot, is_sure, name, colon));
            }
            None => push_text(fragments, &text[at..end]),
        }
        at = end;
    }
    push_text(fragments, &text[at..range.end]);
    found
}

/// The piece at byte `at` and the byte behind it; none at the end of the text.
fn piece(text: &str, at: usize) -> Result<Option<(Piece, usize)>, Complaint> {
    let rest = &text[at..];
    let Some(first) = rest.chars().next() else { return Ok(None) };
    let unless = |stop: fn(char) -> bool| rest.find(stop).unwrap_or(rest.len());
    let (piece, length) = if first.is_whitespace() {
        (Piece::Gap, unless(|c| !c.is_whitespace()))
    } else if rest.starts_with("--") {
        (Piece::Gap, unless(|c| c == '\n'))
    } else if rest.starts_with("/*") {
        (Piece::Gap, closed(comment(rest), at, "comment", "*/")?)
    } else if first == '\'' {
        (Piece::Quoted, closed(quoted(rest, '\'', false), at, "literal", "'")?)
    } else if rest.starts_with("e'") || rest.starts_with("E'") {
        (Piece::Quoted, closed(quoted(&rest[1..], '\'', true).map(|length| length + 1), at, "literal", "'")?)
    } else if first == '"' {
        (Piece::Quoted, closed(quoted(rest, '"', false), at, "quoted identifier", "\"")?)
    } else if let Some(tag) = dollar_tag(rest) {
        let length = rest[tag.len()..].find(tag).map(|body| body + 2 * tag.len());
        (Piece::Quoted, closed(length, at, "dollar-quoted literal", tag)?)
    } else if first == '$' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
        (Piece::Positional, rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |digits| digits + 1))
    } else if begins_name(first) {
        (Piece::Word, unless(|c| !(begins_name(c) || c.is_ascii_digit() || c == '$')))
    } else if first.is_ascii_digit() {
        (Piece::Word, unless(|c| !(begins_name(c) || c.is_ascii_digit() || c == '.')))
    } else {
        (Piece::Symbol(first), first.len_utf8())
    };
    Ok(Some((piece, at + length)))
}

/// The length of something that has to be closed.
fn closed(length: Option<usize>, at: usize, what: &str, with: &str) -> Result<usize, Complaint> {
    length.ok_or_else(|| Complaint::new(at, format!("the {what} that begins here does not end"), format!("close it with {with}")))
}

/// The length of a comment; comments nest.
fn comment(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let next = at + text[at..].find(['/', '*'])?;
        (depth, at) = match text.get(next..next + 2) {
            Some("/*") => (depth + 1, next + 2),
            Some("*/") if depth == 1 => return Some(next + 2),
            Some("*/") => (depth - 1, next + 2),
            _ => (depth, next + 1),
        };
    }
}

/// The length of what is between two of `quote`; doubled ones, and escaped ones where a backslash escapes, are part of it.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
        if escapes && c == '\\' {
            chars.next();
        }
    }
    None
}

/// `$$` or `$tag$`, if the text begins so.
fn dollar_tag(text: &str) -> Option<&str> {
    let name = name_at(text.strip_prefix('$')?);
    text[1 + name.len()..].starts_with('$').then(|| &text[..name.len() + 2])
}

/// The variable that the piece from `at` to `next` begins, and the byte behind it.
fn variable(text: &str, at: usize, next: usize, sigil: Sigil, piece: Piece) -> Result<Option<(&str, usize)>, Complaint> {
    if piece != Piece::Symbol(sigil.char()) || next != at + 1 {
        return Ok(None);
    }
    let name = name_at(&text[next..]);
    if !name.is_empty() {
        return Ok(Some((name, next + name.len())));
    }
    if sigil == Sigil::Dollar && text[next..].starts_with('{') {
        let name = name_at(&text[next + 1..]);
        let end = next + 1 + name.len();
        return match !name.is_empty() && text[end..].starts_with('}') {
            true => Ok(Some((name, end + 1))),
            false => Err(Complaint::new(at, "`${` begins no name", "write it as in ${account}")),
        };
    }
    Ok(None)
}

/// Refuses the name of a variable where it would be sent as it is, which is hardly what was meant.
fn only_text(text: &str, range: Range<usize>, place: &str, scope: &Scope) -> Result<(), Complaint> {
    let sigil = scope.sigil.char();
    for (index, _) in text[range.clone()].match_indices(sigil) {
        let rest = &text[range.start + index + 1..];
        let name = name_at(rest.strip_prefix('{').unwrap_or(rest));
        if scope.knows(name) && !text[range.start..range.start + index].ends_with(sigil) {
            return Err(no_parameter(name, range.start + index, place, scope.sigil));
        }
    }
    Ok(())
}

/// The variable of that name stands where PostgreSQL takes no parameter.
fn no_parameter(name: &str, at: usize, place: &str, sigil: Sigil) -> Complaint {
    let c = sigil.char();
    let outside = match place {
        "within quotes" => format!("write it outside, as in '…' || {c}{name}"),
        _ => "write the name out".to_owned(),
    };
    let cure = match sigil {
        Sigil::Colon => format!("{outside}; or --protocol simple, which substitutes it as text, as pgbench -M simple does"),
        Sigil::Dollar => format!("{outside}; or rename the parameter, if the text is meant"),
    };
    Complaint::new(at, format!("`{c}{name}` is {place}, where PostgreSQL takes no parameter"), cure)
}

/// Where `$1` and the like stand in a statement, outside of quotes and comments: their bytes and their numbers. `None` if something in it does not end.
pub fn positional(text: &str) -> Option<Vec<(Range<usize>, usize)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((piece, next)) = piece(text, at).ok()? {
        if piece == Piece::Positional {
            found.push((at..next, text[at + 1..next].parse().ok()?));
        }
        at = next;
    }
    Some(found)
}

/// What a statement leaves in its session, or needs of what was left there, beyond the transaction that it is in: the word that says so. `None` if
/// none does; what a function of the user's own does is not known.
pub fn outlives_transaction(text: &str) -> Option<String> {
    const KEEPERS: [&str; 10] = [
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
        "currval",
        "lastval",
        "hold",
    ];
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some((piece, next)) = piece(text, at).ok()? {
        if piece == Piece::Word {
            words.push(text[at..next].to_lowercase());
        }
        at = next;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let keeps = match words[..] {
        ["set", "local" | "transaction" | "constraints", ..] | ["prepare", "transaction", ..] => false,
        ["set" | "reset" | "prepare" | "execute" | "deallocate" | "listen" | "unlisten" | "discard" | "load", ..] => true,
        ["create", ref rest @ ..] => {
            rest.iter().take(3).any(|word| matches!(*word, "temp" | "temporary"))
                && !words.windows(3).any(|three| three == ["on", "commit", "drop"])
        }
        _ => false,
    };
    if keeps {
        return Some(words.iter().take(2).map(|word| word.to_uppercase()).collect::<Vec<_>>().join(" "));
    }
    let is_kept = |word: &str| KEEPERS.contains(&word) || word == "set_config" && words.contains(&"false");
    let is_cursor = words.first() == Some(&"declare");
    words.iter().find(|word| is_kept(word) && (**word != "hold" || is_cursor)).map(|word| (*word).to_owned())
}

/// Where the statements of a text begin, those that have an end; nothing is looked for behind a quote that does not end.
pub fn statement_starts(text: &str) -> Vec<usize> {
    let (mut starts, mut at, mut depth, mut is_within) = (Vec::new(), 0, 0u32, false);
    while let Ok(Some((piece, next))) = piece(text, at) {
        if piece == Piece::Symbol(';') && depth == 0 {
            is_within = false;
        } else if piece != Piece::Gap && !is_within {
            is_within = true;
            starts.push(at);
        }
        match piece {
            Piece::Symbol('(') => depth += 1,
            Piece::Symbol(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = next;
    }
    starts
}

/// What a statement may change although the server answers it as a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hidden {
    /// Rows, in a `WITH` or with `INTO`.
    Writes,
    /// Whatever the functions do that it calls, by name.
    Calls(Vec<String>),
}

/// See [`Hidden`]; what is in views, operators and types is not looked at.
pub fn hidden_changes(text: &str) -> Hidden {
    let mut words: Vec<(String, bool)> = Vec::new();
    let mut at = 0;
    let mut may_be_called = false;
    while let Ok(Some((piece, next))) = piece(text, at) {
        match piece {
            Piece::Gap => {}
            Piece::Word => words.push((text[at..next].to_lowercase(), false)),
            Piece::Quoted if text[at..].starts_with('"') => words.push((text[at + 1..next - 1].replace("\"\"", "\""), false)),
            Piece::Symbol('(') if may_be_called => {
                if let Some((_, is_called)) = words.last_mut() {
                    *is_called = true;
                }
            }
            _ => {}
        }
        may_be_called = match piece {
            Piece::Gap => may_be_called,
            Piece::Word => true,
            Piece::Quoted => text[at..].starts_with('"'),
            _ => false,
        };
        at = next;
    }
    let before = |n: usize| n.checked_sub(1).map(|n| words[n].0.as_str());
    let is_write = |n: usize, word: &str| match word {
        "insert" | "delete" | "merge" | "into" => true,
        // Not FOR UPDATE, nor FOR NO KEY UPDATE.
        "update" => !matches!(before(n), Some("for" | "key")),
        "create" => n == 0,
        _ => false,
    };
    if words.iter().enumerate().any(|(n, (word, is_called))| !is_called && is_write(n, word)) {
        return Hidden::Writes;
    }
    Hidden::Calls(words.into_iter().filter(|(_, is_called)| *is_called).map(|(word, _)| word).collect())
}

/// What stands between the gaps.
fn words(text: &str) -> Result<Vec<String>, Complaint> {
    let mut words = vec![String::new()];
    let mut at = 0;
    while let Some((piece, next)) = piece(text, at)? {
        match (piece, words.last_mut()) {
            (Piece::Gap, _) => words.push(String::new()),
            (_, Some(word)) => word.push_str(&text[at..next]),
            _ => {}
        }
        at = next;
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

fn label(words: &[String]) -> String {
    /// Enough to tell which one it is.
    const WORDS: usize = 4;
    const CHARACTERS: usize = 60;
    let first = words.iter().take(WORDS).map(String::as_str).collect::<Vec<_>>().join(" ");
    let whole = words.len() <= WORDS && first.chars().count() <= CHARACTERS;
    first.chars().take(CHARACTERS).chain((!whole).then_some('…')).collect()
}

/// What the statement at byte `at` does to the transaction.
fn kind(words: &[String], at: usize) -> Result<StatementKind, Complaint> {
    let is_stream = |word: &String| ["stdin", "stdout"].iter().any(|stream| word.to_lowercase().starts_with(stream));
    if words.first().is_some_and(|word| word.eq_ignore_ascii_case("copy")) && words.iter().any(is_stream) {
        let cure = "INSERT or SELECT; or COPY with a file of the server's";
        return Err(Complaint::new(
            at,
            "COPY with STDIN or STDOUT moves rows beside the statement, which nobody gives or takes here",
            cure,
        ));
    }
    let lower: Vec<String> = words.iter().take(5).map(|word| word.to_lowercase()).collect();
    let words: Vec<&str> = lower.iter().map(String::as_str).filter(|word| !matches!(*word, "work" | "transaction")).collect();
    Ok(match words[..] {
        ["discard", "all", ..] | ["deallocate", "all", ..] | ["deallocate", "prepare", "all", ..] => {
            return Err(Complaint::new(
                at,
                "it makes the session forget the prepared statements by which everything here is sent",
                "RESET ALL, DISCARD TEMP or DISCARD SEQUENCES clear away the rest",
            ));
        }
        ["commit" | "end" | "rollback" | "abort", "and", "chain", ..] => {
            return Err(Complaint::new(
                at,
                "AND CHAIN begins a transaction in the statement that ends one, which cannot be timed apart",
                "write COMMIT; BEGIN;",
            ));
        }
        ["commit" | "rollback", "prepared", ..] => StatementKind::Other,
        ["savepoint", ..] => StatementKind::Savepoint,
        ["rollback" | "abort", "to", ..] => StatementKind::RollbackTo,
        ["begin", ..] => StatementKind::Begin,
        // Its second word is TRANSACTION.
        ["start", ..] => StatementKind::Begin,
        ["commit" | "end", ..] => StatementKind::Commit,
        ["rollback" | "abort", ..] => StatementKind::Rollback,
        _ => StatementKind::Other,
    })
}
