//! How is a file written, wherever its name leads? Every file of ours, but for those that grow: histories and logs.
//!
//! A regular file is replaced as a whole, behind whatever symbolic links lead to it. Anything else is not ours to replace: a device, a pipe or
//! `/dev/stdout` is opened and written to as it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IntoInnerError, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, access};

/// Mode of a new file, before the umask.
const USUAL: u32 = 0o666;
/// The same of one that only its owner may read.
const SECRET: u32 = 0o600;

/// Writes `contents` to where `path` leads; `-` is standard output. A regular file has either what it had before or all of `contents`.
///
/// # Errors
/// When it cannot be written, or not to its end. That nobody reads standard output any more is none.
pub fn write(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    write_as(path, USUAL, contents)
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// As [`write()`].
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    write_as(path, SECRET, |out| out.write_all(text.as_bytes()))
}

/// Whether something could be written there, as far as that can be told without changing it.
///
/// # Errors
/// When it could not.
pub fn check(path: &Path) -> io::Result<()> {
    match Outlet::to(path)? {
        Outlet::Stdout | Outlet::AsItIs => Ok(()),
        Outlet::File(file) => match Temporary::beside(&file, SECRET) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && file.exists() => Ok(()),
            tried => tried.map(drop),
        },
    }
}

/// Whether `path` stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Standard output without a buffer, and without the leniency that the standard library has for it.
///
/// # Errors
/// When the system has no descriptor left.
pub fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Where a name leads.
enum Outlet {
    /// To what results are written to.
    Stdout,
    /// To a regular file, or to where one can be made: its own name, without links.
    File(PathBuf),
    /// To something else.
    AsItIs,
}

impl Outlet {
    fn to(path: &Path) -> io::Result<Self> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        let there = match fs::metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => return behind_links(path).map(Self::File),
            Err(error) => return Err(error),
        };
        let same = |other: Metadata| (other.dev(), other.ino()) == (there.dev(), there.ino());
        if there.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        // `/dev/stdout` may be a regular file, and what else is written there must not be overwritten.
        if stdout().and_then(|stdout| stdout.metadata()).is_ok_and(same) {
            return Ok(Self::Stdout);
        }
        // What may not be written to may not be replaced either, though its directory would allow it.
        access(path, AccessFlags::W_OK)?;
        match behind_links(path) {
            Ok(file) if there.is_file() && fs::metadata(&file).is_ok_and(same) => Ok(Self::File(file)),
            // A descriptor's name leads to no other name.
            _ => Ok(Self::AsItIs),
        }
    }
}

/// The name at the end of all symbolic links, whether or not there is anything.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&name) {
            Ok(target) => name = directory(&name).join(target),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => return Ok(name),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ELOOP.into())
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_as(path: &Path, mode: u32, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    match Outlet::to(path)? {
        Outlet::Stdout => match fill(stdout()?, contents) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        },
        Outlet::AsItIs => fill(open(path)?, contents).map(drop),
        Outlet::File(file) => replace(&file, mode, contents),
    }
}

fn fill(file: File, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut out = BufWriter::new(file);
    contents(&mut out)?;
    out.into_inner().map_err(IntoInnerError::into_error)
}

/// Opens what is there. A pipe that nobody reads is an error: to wait for a reader might be to wait for ever.
fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::ENXIO as i32 && fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) => {
            io::Error::new(ErrorKind::NotConnected, "nobody reads from this pipe")
        }
        _ => error,
    })?;
    // From here on a slow reader is waited for.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// Another file takes the name when everything is in it. Where that cannot be, it is written over what is there.
fn replace(path: &Path, mode: u32, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let there = fs::metadata(path).ok();
    let over = || OpenOptions::new().write(true).truncate(true).open(path);
    let (temporary, file) = match Temporary::beside(path, mode) {
        Ok(new) => new,
        // The file may be written to, and its directory may not.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && there.is_some() => return fill(over()?, contents)?.sync_all(),
        Err(error) => return Err(error),
    };
    let mut file = fill(file, contents)?;
    if let Some(there) = &there {
        // Best effort: only root can give files away.
        let _ = fchown(&file, Some(there.uid()), Some(there.gid()));
        file.set_permissions(there.permissions())?;
    }
    file.sync_all()?;
    match fs::rename(&temporary.0, path) {
        // It is mounted, or somebody else's in a directory such as /tmp.
        Err(error) if matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::PermissionDenied) && there.is_some() => {
            let mut whole = File::open(&temporary.0)?;
            file = over()?;
            io::copy(&mut whole, &mut file)?;
            file.sync_all()
        }
        renamed => renamed,
    }
}

/// A file that is gone afterwards, unless it has taken another name.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(file: &Path, mode: u32) -> io::Result<(Self, File)> {
        if file.file_name().is_none() {
            return Err(ErrorKind::InvalidFilename.into());
        }
        let path = directory(file).join(format!(".dbstress-{:016x}", rand::random::<u64>()));
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        Ok((Self(path), made))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory of one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("dbstress-files-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn put(path: &Path, text: &str) -> io::Result<()> {
        write(path, |out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_has_what_it_had_or_all_of_what_is_written() {
        let folder = Folder::new("whole");
        let file = folder.0.join("r.json");
        put(&file, "first").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let failed = write(&file, |out| {
            out.write_all(&vec![b'x'; 1 << 20])?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!((&*fs::read_to_string(&file).unwrap(), folder.entries()), ("first", 1));
        put(&file, "second").unwrap();
        assert_eq!((&*fs::read_to_string(&file).unwrap(), folder.entries()), ("second", 1));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640, "the mode is the one that it had");
        check(&file).unwrap();
        assert_eq!((&*fs::read_to_string(&file).unwrap(), folder.entries()), ("second", 1), "a look changes nothing");
    }

    #[test]
    fn what_a_link_leads_to_is_written_and_the_link_stays() {
        let folder = Folder::new("links");
        let [file, link, link_of_link, dangling] = ["file", "link", "link2", "dangling"].map(|name| folder.0.join(name));
        fs::write(&file, "before").unwrap();
        symlink("file", &link).unwrap();
        symlink(&link, &link_of_link).unwrap();
        symlink("new", &dangling).unwrap();
        put(&link_of_link, "after").unwrap();
        put(&dangling, "made").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert_eq!(fs::read_to_string(folder.0.join("new")).unwrap(), "made");
        for link in [&link, &link_of_link, &dangling] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "{}", link.display());
        }
        assert!(!fs::symlink_metadata(&file).unwrap().is_symlink());
        symlink("round", folder.0.join("round")).unwrap();
        assert!(put(&folder.0.join("round"), "x").is_err());
    }

    #[test]
    fn a_pipe_stays_a_pipe_and_one_that_nobody_reads_is_not_waited_for() {
        let folder = Folder::new("pipe");
        let pipe = folder.0.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(&pipe).unwrap();
        assert!(put(&pipe, "x").unwrap_err().to_string().contains("nobody reads"));
        // More than a pipe holds: the reader is waited for.
        let text = "x".repeat(1 << 20);
        let reading = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        while let Err(error) = put(&pipe, &text) {
            assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
            std::thread::yield_now();
        }
        assert_eq!(reading.join().unwrap(), text);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        check(full).unwrap();
        assert_eq!(put(full, "x").unwrap_err().kind(), ErrorKind::StorageFull);
        put(Path::new("/dev/null"), "x").unwrap();
        for device in ["/dev/full", "/dev/null"] {
            assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_known_beforehand() {
        let folder = Folder::new("refused");
        for refused in [folder.0.clone(), folder.0.join("none/r.json"), PathBuf::new(), PathBuf::from("/dev/null/r.json")] {
            assert!(check(&refused).is_err() && put(&refused, "x").is_err(), "{}", refused.display());
        }
        let locked = folder.0.join("locked");
        fs::write(&locked, "before").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o444)).unwrap();
        if !nix::unistd::Uid::effective().is_root() {
            assert!(check(&locked).is_err() && put(&locked, "x").is_err(), "its directory would let it be replaced");
        }
        let secret = folder.0.join("secret");
        write_secret(&secret, "s").unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
