//! Where does a record go that somebody asked for, and what if it cannot be kept?
//!
//! What was found out is said first, and stays; what could not be kept is said after it, and then nothing ends with exit code 0.

use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use crate::report::screen::Screen;
use crate::{Error, Result, files};

/// Makes sure that `path` could be written to, before anything is run for it.
///
/// # Errors
/// Usage, when it could not.
pub fn check(path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), files::check).map_err(|e| {
        let path = path.unwrap_or(Path::new("")).display();
        Error::usage(format!("cannot write {path}"))
            .because(e)
            .cure("name a file in a directory that you may write to; - is standard output")
    })
}

/// Where results are shown: elsewhere, if standard output is for the record alone.
pub fn beside(path: Option<&Path>, screen: Screen) -> Screen {
    Screen { aside: screen.aside || path.is_some_and(files::is_stdout), ..screen }
}

/// Writes a record as JSON.
///
/// # Errors
/// Inconclusive, when it could not be kept there.
pub fn write(record: &impl Serialize, path: &Path) -> Result<()> {
    let written = files::write(path, |out| {
        serde_json::to_writer_pretty(&mut *out, record)?;
        out.write_all(b"\n")
    });
    written.map_err(|e| {
        let cure = match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "free some space there, and run it again"
            }
            ErrorKind::NotConnected => "start what reads from the pipe first, and run it again",
            _ => "name another file, and run it again",
        };
        Error::inconclusive(format!("the record could not be kept in {}", path.display())).because(e).cure(cure)
    })
}

/// The same where nobody else has to know how that ended: it is said, and remembered for the exit code.
pub fn keep(record: &impl Serialize, path: Option<&Path>, screen: Screen) {
    if let Some(Err(error)) = path.map(|path| write(record, path)) {
        screen.lost(&error);
    }
}
