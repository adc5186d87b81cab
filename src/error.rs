//! Why did a command stop before it reached a verdict, and what cures it?

use std::fmt;

/// What kind of failure this is; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something the user typed or named: flags, files, unknown names, an unsuitable database. Exit code 2.
    Usage,
    /// The tool could not find out: no connection, no permission, the server went away. Exit code 3.
    Inconclusive,
    /// The user interrupted. Exit code 130.
    Interrupted,
}

/// A failure for the user to read: what went wrong, why, and what to do about it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    cure: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result type of everything that a user may have to read about.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of what the user typed or named.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), cure: None, source: None }
    }

    /// A failure that leaves the question open.
    pub fn inconclusive(message: impl Into<String>) -> Self {
        Self { kind: Kind::Inconclusive, ..Self::usage(message) }
    }

    /// The user asked to stop.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { kind: Kind::Interrupted, ..Self::usage(message) }
    }

    /// Adds what the user can do about it: a command, a flag, a place.
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Adds what the user can do about it, unless that is said already.
    pub fn or_cure(self, cure: impl Into<String>) -> Self {
        if self.cure.is_some() { self } else { self.cure(cure) }
    }

    /// Adds the error underneath.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message alone, without cause and cure.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Error {
    /// What went wrong and why, without the cure.
    pub fn in_a_line(&self) -> String {
        let first = self.source.as_deref().map(|error| error as &(dyn std::error::Error + 'static));
        std::iter::successors(first, |error| error.source()).fold(self.message.clone(), |said, cause| format!("{said}: {cause}"))
    }
}

/// Prints the message, then the causes and the cure, each on a line of its own.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause: Option<&(dyn std::error::Error + 'static)> =
            self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        let mut said = self.message.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // Drivers repeat the inner error in the outer one; say each thing once.
            if !said.contains(&text) {
                write!(f, "\n  cause: {text}")?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        if let Some(cure) = &self.cure {
            write!(f, "\n  cure:  {}", cure.replace('\n', "\n         "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The name among `known` that is nearest to what was typed, when it is near enough to be what was meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&typed.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_cause_once_and_the_cure_last() {
        let inner = std::io::Error::other("disk full");
        let error = Error::usage("cannot write /x").because(inner).cure("free some space");
        assert_eq!(error.to_string(), "cannot write /x\n  cause: disk full\n  cure:  free some space");
        let repeated = Error::usage("cannot write: disk full").because(std::io::Error::other("disk full"));
        assert_eq!(repeated.to_string(), "cannot write: disk full");
    }

    #[test]
    fn nearest_name_is_offered_only_when_it_is_near() {
        let known = ["naive", "serializable", "for-update"];
        assert_eq!(nearest("serialisable", known), Some("serializable"));
        assert_eq!(nearest("forupdate", known), Some("for-update"));
        assert_eq!(nearest("xyz", known), None);
    }
}
