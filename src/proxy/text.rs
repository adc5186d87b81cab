//! What does an SQL text do, as far as somebody asks who looks for COMMITs of transactions that wrote?
//!
//! Names are told from text and comments as PostgreSQL does; the rest is left to the server's answer.

/// What a statement does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// It is BEGIN or START TRANSACTION, with or without characteristics, and nothing else.
    pub begins: bool,
    /// It is COMMIT or END, in any wording, and nothing else.
    pub commits: bool,
    /// It says INSERT, UPDATE, DELETE or MERGE, and not only `FOR UPDATE`. Whether it changed anything is for its tag to say.
    pub writes: bool,
    /// It is one statement that changes rows: outside a transaction it is its own COMMIT.
    pub is_change: bool,
}

/// What a text begins with whose INSERT is no effect by itself: somebody only claims, and may find that it was claimed before.
pub const CLAIMS: &str = "/* claims */ ";

impl Meaning {
    /// Reads a text. Of one that `is_whole` does not hold for, only the beginning is known.
    pub fn of(text: &[u8], is_whole: bool) -> Self {
        if text.starts_with(CLAIMS.as_bytes()) {
            return Self::default();
        }
        /// `COMMIT WORK AND NO CHAIN`, and one more to tell that there are more.
        const FIRST: usize = 6;
        let mut first: Vec<&[u8]> = Vec::with_capacity(FIRST);
        let mut previous: &[u8] = b"";
        let (mut writes, mut is_plain, mut has_ended, mut is_alone) = (false, true, false, is_whole);
        pieces(text, |piece| {
            let word = match piece {
                Piece::Word(word) => word,
                Piece::End => {
                    has_ended = true;
                    return;
                }
                Piece::Other => b"",
            };
            is_alone &= !has_ended;
            is_plain &= piece != Piece::Other;
            if first.len() < FIRST {
                first.push(word);
            }
            let is_lock = is(word, "update") && (is(previous, "for") || is(previous, "key"));
            writes |= ["insert", "update", "delete", "merge"].iter().any(|verb| is(word, verb)) && !is_lock;
            previous = word;
        });
        let changes = |word: &&[u8]| ["insert", "update", "delete", "merge", "with"].iter().any(|verb| is(word, verb));
        Self {
            begins: is_alone && is_begin(&first),
            commits: is_alone && is_plain && is_commit(&first),
            writes,
            is_change: is_alone && writes && first.first().is_some_and(changes),
        }
    }
}

/// BEGIN, or START TRANSACTION; what follows only says how.
fn is_begin(words: &[&[u8]]) -> bool {
    match words {
        [begin, ..] if is(begin, "begin") => true,
        [start, transaction, ..] => is(start, "start") && is(transaction, "transaction"),
        _ => false,
    }
}

/// COMMIT or END, then WORK or TRANSACTION, then AND CHAIN or AND NO CHAIN; all but the first may be missing.
fn is_commit(words: &[&[u8]]) -> bool {
    let Some((verb, rest)) = words.split_first() else { return false };
    let rest = match rest.split_first() {
        Some((noun, rest)) if is(noun, "work") || is(noun, "transaction") => rest,
        _ => rest,
    };
    let chain = match rest {
        [] => true,
        [and, chain] => is(and, "and") && is(chain, "chain"),
        [and, no, chain] => is(and, "and") && is(no, "no") && is(chain, "chain"),
        _ => false,
    };
    (is(verb, "commit") || is(verb, "end")) && chain
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'t> {
    /// A keyword or a name without quotes.
    Word(&'t [u8]),
    /// `;`
    End,
    /// Quoted text, a number, any other character.
    Other,
}

/// Calls `visit` for everything that is neither white space nor comment.
fn pieces<'t>(text: &'t [u8], mut visit: impl FnMut(Piece<'t>)) {
    let begins_name = |c: &u8| c.is_ascii_alphabetic() || *c == b'_' || !c.is_ascii();
    let goes_on = |c: &u8| begins_name(c) || c.is_ascii_digit() || *c == b'$';
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (piece, length) = match rest {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => (None, 1),
            [b'-', b'-', ..] => (None, rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len())),
            [b'/', b'*', ..] => (None, comment(rest)),
            [b';', ..] => (Some(Piece::End), 1),
            [b'e' | b'E', b'\'', ..] => (Some(Piece::Other), 1 + quote(&rest[1..], true)),
            [b'\'' | b'"', ..] => (Some(Piece::Other), quote(rest, false)),
            [b'$', ..] => (Some(Piece::Other), dollar_quote(rest)),
            [c, ..] if begins_name(c) => {
                let length = rest.iter().position(|c| !goes_on(c)).unwrap_or(rest.len());
                (Some(Piece::Word(&rest[..length])), length)
            }
            [c, ..] if c.is_ascii_digit() => (Some(Piece::Other), rest.iter().position(|c| !goes_on(c)).unwrap_or(rest.len())),
            _ => (Some(Piece::Other), 1),
        };
        if let Some(piece) = piece {
            visit(piece);
        }
        at += length;
    }
}

/// The length of a comment; comments nest. One that does not end goes on to the end.
fn comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of what is between quotes; doubled ones, and escaped ones where a backslash escapes, are part of it.
fn quote(text: &[u8], escapes: bool) -> usize {
    let mark = text[0];
    let mut at = 1;
    while let Some(c) = text.get(at) {
        at += 1;
        if (*c == mark && text.get(at) == Some(&mark)) || (escapes && *c == b'\\') {
            at += 1;
        } else if *c == mark {
            return at;
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`; 1 if a tag does not begin here.
fn dollar_quote(text: &[u8]) -> usize {
    let inner = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_' || !c.is_ascii();
    let name = text[1..].iter().take_while(|c| inner(c)).count();
    if text.get(1 + name) != Some(&b'$') || text[1].is_ascii_digit() {
        return 1;
    }
    let (tag, body) = text.split_at(name + 2);
    body.windows(tag.len()).position(|window| window == tag).map_or(text.len(), |end| end + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Meaning {
        Meaning::of(text.as_bytes(), true)
    }

    #[test]
    fn a_commit_is_known_in_any_wording() {
        for text in [
            "COMMIT",
            "commit;",
            "  End ;\n",
            "COMMIT WORK",
            "END TRANSACTION;",
            "/* op 7 /* nested */ */ COMMIT -- now",
            "COMMIT AND NO CHAIN",
            "COMMIT TRANSACTION AND CHAIN",
        ] {
            assert_eq!(whole(text), Meaning { commits: true, ..Meaning::default() }, "{text}");
        }
        for text in [
            "",
            ";",
            "ROLLBACK",
            "COMMIT PREPARED 'x'",
            "COMMITTED",
            "COMMIT; SELECT 1",
            "SELECT 1; COMMIT",
            "BEGIN; UPDATE t SET a = 1; COMMIT",
            "\"commit\"",
            "'COMMIT'",
            "COMMIT WORK WORK",
            "COMMIT AND",
            "SELECT $$COMMIT$$",
        ] {
            assert!(!whole(text).commits, "{text}");
        }
    }

    #[test]
    fn a_word_that_writes_is_told_from_text_and_locks() {
        for text in [
            "INSERT INTO t VALUES (1)",
            "WITH changed AS (UPDATE a SET x = $1 RETURNING id), entry AS (INSERT INTO l SELECT 1) SELECT 1 FROM changed",
            "update t set a = 1",
            "DELETE FROM t;",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN DO NOTHING",
            "INSERT INTO t VALUES ('it''s', E'\\'', $$;$$, $1) ON CONFLICT DO UPDATE SET a = 1",
        ] {
            assert_eq!(whole(text), Meaning { writes: true, is_change: true, ..Meaning::default() }, "{text}");
        }
        for text in [
            "SELECT * FROM t FOR UPDATE",
            "select 1 from t for no key update of t",
            "SELECT 'INSERT', \"update\", $x$DELETE$x$, E'\\' MERGE ' /* INSERT */ -- UPDATE",
            "SELECT updated, insert_at FROM t",
        ] {
            assert_eq!(whole(text), Meaning::default(), "{text}");
        }
    }

    #[test]
    fn a_statement_that_only_begins_is_told_from_others() {
        for text in ["BEGIN", "begin;", "/* a */ BEGIN ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION READ ONLY", "Begin Work"] {
            assert_eq!(whole(text), Meaning { begins: true, ..Meaning::default() }, "{text}");
        }
        for text in ["BEGIN; SELECT 1", "START", "SELECT 'BEGIN'", "\"begin\"", "SAVEPOINT begin", "COMMIT AND CHAIN"] {
            assert!(!whole(text).begins, "{text}");
        }
    }

    #[test]
    fn only_one_whole_statement_is_its_own_commit() {
        for text in ["INSERT INTO t VALUES (1); ROLLBACK", "EXPLAIN DELETE FROM t", "PREPARE p AS INSERT INTO t VALUES (1)"] {
            assert_eq!(whole(text), Meaning { writes: true, ..Meaning::default() }, "{text}");
        }
        assert!(Meaning::of(b"INSERT INTO t VALUES (1", false).writes);
        assert!(!Meaning::of(b"INSERT INTO t VALUES (1)", false).is_change);
        assert!(!Meaning::of(b"COMMIT", false).commits);
    }

    #[test]
    fn any_text_comes_to_an_end() {
        let text = b"/*/**/ $a$ ' \\ \" $1 -- $ \xc3\xa9 1e5 E'\\";
        for start in 0..text.len() {
            for end in start..=text.len() {
                Meaning::of(&text[start..end], true);
            }
        }
    }
}
