//! What does a text file of the user's say, whatever editor wrote it?

use std::io;
use std::path::Path;

/// What some editors begin a file with, to say that it is UTF-8.
const MARK: char = '\u{feff}';

/// Reads a text file, without the byte order mark that it may begin with.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).map(without_mark)
}

/// `text`, without the byte order mark that it may begin with.
pub fn without_mark(text: String) -> String {
    match text.strip_prefix(MARK) {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_left_out_where_it_stands_first_and_nowhere_else() {
        let path = std::env::temp_dir().join(format!("dbstress-text-file-{}", std::process::id()));
        for (text, read_as) in [("\u{feff}a\u{feff}", "a\u{feff}"), ("a", "a"), ("", ""), ("\u{feff}", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), read_as);
        }
        // UTF-16, which Windows may write: it has a mark of its own.
        std::fs::write(&path, [0xff, 0xfe, b'a', 0]).unwrap();
        assert!(read(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
