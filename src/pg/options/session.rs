//! What is every session begun with, whichever driver opens it?

use std::time::Duration;

use super::conninfo::{Conninfo, set};
use super::keyword::SETTINGS;
use crate::state::Env;
use crate::{Error, Result};

/// How long a connection attempt may take where nobody says.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which kind of server is wanted, as in libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Any.
    #[default]
    Any,
    /// One that lets sessions write.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby of those that were named, or else any.
    PreferStandby,
}

impl TargetSessionAttrs {
    const ALL: [Self; 6] = [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby];

    /// As libpq writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    /// What a new session is asked; the server is the right one if it answers `true`.
    pub fn question(self) -> Option<&'static str> {
        match self {
            Self::Any | Self::PreferStandby => None,
            Self::ReadWrite => Some("SELECT (current_setting('transaction_read_only') = 'off')::text"),
            Self::ReadOnly => Some("SELECT (current_setting('transaction_read_only') = 'on')::text"),
            Self::Primary => Some("SELECT (NOT pg_is_in_recovery())::text"),
            Self::Standby => Some("SELECT pg_is_in_recovery()::text"),
        }
    }

    /// What is said of a server that is another kind.
    pub fn not_at(self, place: &dyn std::fmt::Display) -> Error {
        let (is, cure) = match self {
            Self::Any | Self::PreferStandby => ("is not what was asked for", "leave out target_session_attrs"),
            Self::ReadWrite => ("is read-only", "name the primary, or several hosts to choose from"),
            Self::ReadOnly => ("is not read-only", "name a standby, or leave out target_session_attrs"),
            Self::Primary => ("is a standby", "name the primary, or several hosts to choose from"),
            Self::Standby => ("is no standby", "name a standby, or leave out target_session_attrs"),
        };
        Error::inconclusive(format!("PostgreSQL at {place} {is}, and target_session_attrs={} was asked for", self.name()))
            .cure(cure)
    }
}

/// What every session is begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Settings of the session, by name: what `options` says, and the variables that stand for one.
    pub settings: Vec<(String, String)>,
    /// How long a connection attempt may take; [`Duration::MAX`] is as long as it takes.
    pub connect_timeout: Duration,
    /// The kind of server that is wanted.
    pub target: TargetSessionAttrs,
    /// Whether authentication may be bound to the channel where that is possible.
    pub binds_channel: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let (settings, connect_timeout, target) = (Vec::new(), CONNECT_TIMEOUT, TargetSessionAttrs::Any);
        Self { settings, connect_timeout, target, binds_channel: true }
    }
}

impl SessionOptions {
    pub(super) fn of(given: &Conninfo, env: Env) -> Result<Self> {
        let read = |text: &str| settings(text).map_err(|why| given.bad("options", &why));
        let mut settings = given.get("options").map(read).transpose()?.unwrap_or_default();
        // The driver of the administrative sessions reads this variable whatever it is told.
        if let Some(text) = set(env, "PGOPTIONS")
            && given.get("options") != Some(&text)
        {
            return Err(Error::usage("options are given, and PGOPTIONS says other ones: only one of them can be obeyed")
                .cure("unset PGOPTIONS, or leave options out"));
        }
        settings.extend(SETTINGS.iter().filter_map(|(variable, name)| Some(((*name).to_owned(), set(env, variable)?))));
        for (name, value) in &settings {
            let why = match &*name.to_lowercase() {
                "datestyle" if !value.to_lowercase().starts_with("iso") => {
                    "every session of dbstress reads dates as ISO writes them"
                }
                "client_encoding" if !["utf8", "utf-8"].contains(&&*value.to_lowercase()) => {
                    "every session of dbstress speaks UTF8"
                }
                "application_name" => "dbstress names its sessions itself, and finds them by these names",
                _ => continue,
            };
            let variable = SETTINGS
                .iter()
                .find(|(_, setting)| setting == name)
                .and_then(|(variable, _)| set(env, variable).and(Some(*variable)));
            return Err(match variable {
                Some(variable) => {
                    Error::usage(format!("{variable}={value} cannot be obeyed: {why}")).cure(format!("unset {variable}"))
                }
                None => given.bad("options", &format!("sets {name}, which cannot be obeyed: {why}")),
            });
        }
        let connect_timeout = match given.get("connect_timeout").map(|text| text.parse::<i32>()) {
            None => CONNECT_TIMEOUT,
            Some(Ok(seconds)) if seconds > 0 => Duration::from_secs(u64::from(seconds.unsigned_abs())),
            Some(Ok(_)) => Duration::MAX,
            Some(Err(_)) => return Err(given.bad("connect_timeout", "is not a number of seconds")),
        };
        let target = match given.get("target_session_attrs") {
            None => TargetSessionAttrs::Any,
            Some(text) => TargetSessionAttrs::ALL.into_iter().find(|target| target.name() == text).ok_or_else(|| {
                let all = TargetSessionAttrs::ALL.map(TargetSessionAttrs::name).join(", ");
                given.bad("target_session_attrs", &format!("is `{text}`, not one of {all}"))
            })?,
        };
        let binds_channel = !given.get("channel_binding").is_some_and(|text| text.eq_ignore_ascii_case("disable"));
        Ok(Self { settings, connect_timeout, target, binds_channel })
    }

    /// The settings as the server is told them when a session begins; `None` if there are none.
    pub fn startup(&self) -> Option<String> {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(' ', "\\ ");
        let all: Vec<String> = self.settings.iter().map(|(name, value)| format!("-c {name}={}", escaped(value))).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// What a connection string says of it.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters: Vec<_> = self.startup().map(|options| ("options", options)).into_iter().collect();
        if self.connect_timeout != CONNECT_TIMEOUT {
            let seconds = if self.connect_timeout == Duration::MAX { 0 } else { self.connect_timeout.as_secs() };
            parameters.push(("connect_timeout", seconds.to_string()));
        }
        if self.target != TargetSessionAttrs::Any {
            parameters.push(("target_session_attrs", self.target.name().to_owned()));
        }
        if !self.binds_channel {
            parameters.push(("channel_binding", "disable".to_owned()));
        }
        parameters
    }

    /// What is said when nobody has answered in time.
    pub fn no_answer(&self, place: &dyn std::fmt::Display) -> Error {
        Error::inconclusive(format!("no answer from PostgreSQL at {place} within {} s", self.connect_timeout.as_secs()))
            .cure("check host, port and firewall, or allow more time with connect_timeout")
    }
}

/// The settings in `-c name=value` and `--name=value`, which spaces divide unless a `\` is before them.
fn settings(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => words.last_mut().into_iter().for_each(|word| word.extend(characters.next())),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    let mut words = words.into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") if word == "-c" => words.next(),
            other => other.map(str::to_owned),
        };
        let (name, value) = setting
            .as_deref()
            .and_then(|setting| setting.split_once('='))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("has `{word}`: only -c NAME=VALUE and --NAME=VALUE are understood"))?;
        // The server takes one for the other.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let read =
            |text| settings(text).map(|all| all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>());
        assert_eq!(read("-c geqo=off").unwrap(), ["geqo=off"]);
        assert_eq!(read("  -cwork_mem=4MB --statement-timeout=5min ").unwrap(), ["work_mem=4MB", "statement_timeout=5min"]);
        assert_eq!(read(r"-c search_path=a,\ b\\c").unwrap(), [r"search_path=a, b\c"]);
        for wrong in ["-c", "-c geqo", "-B 10", "geqo=off", "-c =1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let session = SessionOptions { settings: settings(r"-c a=b\ c\\d -c e=f").unwrap(), ..SessionOptions::default() };
        assert_eq!(settings(&session.startup().unwrap()).unwrap(), session.settings);
    }
}
