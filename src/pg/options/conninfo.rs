//! What was said about a connection, by whom? A connection string first, then the service that it names, then the environment: as libpq has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keyword::{self, KEYWORDS, Support};
use crate::error::nearest;
use crate::state::Env;
use crate::{Error, Result};

/// The parameters of a connection, as they were written.
#[derive(Debug, Clone, Default)]
pub struct Conninfo(BTreeMap<&'static str, Written>);

#[derive(Debug, Clone)]
struct Written {
    value: String,
    place: WrittenIn,
}

/// Where a parameter was written.
#[derive(Debug, Clone)]
enum WrittenIn {
    ConnectionString,
    Service { name: String, file: PathBuf },
    Environment,
}

/// Never repeated, neither in a message nor in a command.
const SECRETS: [&str; 5] = ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

/// Where the service file of the system is when PGSYSCONFDIR does not say: as Debian and Red Hat build libpq, and as it is built from source.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

impl Conninfo {
    /// Reads a connection string: a URL, or keywords as `host=… port=… dbname=…`.
    ///
    /// # Errors
    /// Usage. The string itself is never repeated, since it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let scheme = ["postgres://", "postgresql://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
        let pairs = match scheme {
            Some(rest) => url_pairs(rest)?,
            None => match text.split_once("://") {
                Some((other, _)) if !other.contains(['=', ' ']) => {
                    return Err(unusable(&format!("its scheme is `{other}`, not `postgres`")));
                }
                _ if text.contains('=') => keyword_pairs(text)?,
                _ => return Err(unusable("it is no URL, and has no keywords")),
            },
        };
        let mut given = Self::default();
        for (name, value) in pairs {
            // As JDBC and libpq of old wrote it.
            let (name, value) = match (&*name, &*value) {
                ("ssl", "true") | ("requiressl", "1") => ("sslmode".to_owned(), "require".to_owned()),
                ("requiressl", _) => ("sslmode".to_owned(), "prefer".to_owned()),
                _ => (name, value),
            };
            given.write(&name, value, WrittenIn::ConnectionString)?;
        }
        Ok(given)
    }

    /// With what the service adds, and then the environment.
    ///
    /// # Errors
    /// Usage: a service that there is not, or a parameter that cannot be obeyed.
    pub fn complete(mut self, env: Env) -> Result<Self> {
        if let Some(service) = self.get("service").map(str::to_owned).or_else(|| set(env, "PGSERVICE")) {
            self.add_service(&service, env)?;
        }
        for known in KEYWORDS {
            if let Some(value) = known.variable.and_then(|variable| set(env, variable)) {
                self.add(known.name, value, WrittenIn::Environment);
            }
        }
        if set(env, "PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
            self.add("sslmode", "require".to_owned(), WrittenIn::Environment);
        }
        self.check()?;
        Ok(self)
    }

    /// What was said; nothing and an empty value are the same.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|written| &*written.value).filter(|value| !value.is_empty())
    }

    /// The error for a parameter whose value cannot be used; `why` goes on from its name.
    pub fn bad(&self, name: &'static str, why: &str) -> Error {
        let (known_as, without) = self.known_as(name);
        Error::usage(format!("{known_as} {why}")).cure(format!("correct it, or {without}"))
    }

    /// A URL that says the same, without any secret.
    pub fn url(&self) -> String {
        url(self.0.iter().filter(|(name, _)| !SECRETS.contains(name)).map(|(name, written)| (*name, written.value.clone())))
    }

    fn write(&mut self, name: &str, value: String, place: WrittenIn) -> Result<()> {
        let Some(known) = keyword::find(name) else {
            let like = nearest(name, KEYWORDS.iter().map(|known| known.name));
            let cure = like.map_or("leave it out".to_owned(), |like| format!("did you mean `{like}`?"));
            let place = match place {
                WrittenIn::Service { name, file } => format!("service `{name}` in {}", file.display()),
                _ => "the connection string".to_owned(),
            };
            return Err(Error::usage(format!("{place} has a parameter `{name}`, which libpq does not have")).cure(cure));
        };
        match place {
            WrittenIn::ConnectionString => {
                self.0.insert(known.name, Written { value, place });
            }
            _ => self.add(known.name, value, place),
        }
        Ok(())
    }

    /// Unless somebody who comes before has said something.
    fn add(&mut self, name: &'static str, value: String, place: WrittenIn) {
        self.0.entry(name).or_insert(Written { value, place });
    }

    fn add_service(&mut self, service: &str, env: Env) -> Result<()> {
        let named = self.get("servicefile").map(str::to_owned).or_else(|| set(env, "PGSERVICEFILE")).map(PathBuf::from);
        let own = set(env, "HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
        let system: Vec<PathBuf> = match set(env, "PGSYSCONFDIR") {
            Some(directory) => vec![directory.into()],
            None => SYSTEM_DIRECTORIES.map(PathBuf::from).to_vec(),
        };
        if let Some(file) = named.as_ref().filter(|file| !file.is_file()) {
            return Err(Error::usage(format!("the service file {} is not there", file.display()))
                .cure("correct servicefile or PGSERVICEFILE, or name a server without a service"));
        }
        let files = named.or(own).into_iter().chain(system.into_iter().map(|directory| directory.join("pg_service.conf")));
        let files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
        for file in &files {
            let unreadable = |error| Error::usage(format!("the service file {} cannot be read", file.display())).because(error);
            let text = std::fs::read_to_string(file).map_err(unreadable)?;
            if let Some(pairs) = service_pairs(&text, service, file)? {
                for (name, value) in pairs {
                    self.write(&name, value, WrittenIn::Service { name: service.to_owned(), file: file.clone() })?;
                }
                return Ok(());
            }
        }
        let looked = match &files[..] {
            [] => "no service file was found".to_owned(),
            files => format!("it is not in {}", files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")),
        };
        Err(Error::usage(format!("there is no service `{service}`: {looked}"))
            .cure("a section [NAME] in ~/.pg_service.conf, or in the file that PGSERVICEFILE names; or unset PGSERVICE"))
    }

    fn check(&self) -> Result<()> {
        for (name, written) in &self.0 {
            let Some(Support::Only { values, why, instead }) = keyword::find(name).map(|known| &known.support) else { continue };
            if written.value.is_empty() || values.iter().any(|value| value.eq_ignore_ascii_case(&written.value)) {
                continue;
            }
            let (known_as, without) = self.known_as(name);
            let said = if values.is_empty() { String::new() } else { format!("={}", written.value) };
            let mut cure = match values {
                [] => without,
                values => format!("{without}, or say {name}={}", values.join(" or ")),
            };
            if !instead.is_empty() {
                cure += &format!("\n{instead}");
            }
            return Err(Error::usage(format!("{known_as}{said} cannot be obeyed: {why}")).cure(cure));
        }
        Ok(())
    }

    /// What a parameter is called where it was written, and how to do without it.
    fn known_as(&self, name: &'static str) -> (String, String) {
        match self.0.get(name).map(|written| &written.place) {
            Some(WrittenIn::Environment) => {
                let variable = keyword::find(name).and_then(|known| known.variable).unwrap_or(name);
                (variable.to_owned(), format!("unset {variable}"))
            }
            Some(WrittenIn::Service { name: service, file }) => {
                (format!("{name} of service `{service}` ({})", file.display()), format!("leave {name} out of the service"))
            }
            _ => (format!("{name} in the connection string"), format!("leave {name} out")),
        }
    }
}

/// The value of a variable; an empty one is none.
pub(super) fn set(env: Env, variable: &str) -> Option<String> {
    env(variable).filter(|value| !value.is_empty())
}

/// A URL with these parameters, each in the place that is usual for it.
pub(super) fn url(parameters: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut parameters: BTreeMap<&str, String> = parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let mut text = "postgres://".to_owned();
    if let Some(user) = parameters.remove("user") {
        text += &encode(&user);
        if let Some(password) = parameters.remove("password") {
            text += &format!(":{}", encode(&password));
        }
        text.push('@');
    }
    // Several hosts, or a directory, are easier to read behind the question mark.
    if let Some(host) = parameters.get("host").filter(|host| !host.contains([',', '/'])) {
        text += &if host.contains(':') { format!("[{host}]") } else { encode(host) };
        parameters.remove("host");
        if let Some(port) = parameters.remove("port") {
            text += &format!(":{port}");
        }
    }
    text += &format!("/{}", encode(&parameters.remove("dbname").unwrap_or_default()));
    for (n, (name, value)) in parameters.iter().enumerate() {
        let separator = if n == 0 { '?' } else { '&' };
        text += &format!("{separator}{name}={}", encode(value).replace("%2F", "/").replace("%2C", ","));
    }
    text
}

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn unusable(what: &str) -> Error {
    Error::usage(format!("the connection string is not usable: {what}")).cure(
        "postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=prefer, for a socket postgres:///DATABASE?host=/directory,\n\
         or 'host=HOST port=PORT dbname=DATABASE user=USER'",
    )
}

/// The parameters of a URL, without its scheme.
fn url_pairs(text: &str) -> Result<Vec<(String, String)>> {
    let decode = |text: &str| percent_decode(text).ok_or_else(|| unusable("a percent-encoded part is not UTF-8"));
    let mut pairs = Vec::new();
    let mut pair = |name: &str, value: String| pairs.push((name.to_owned(), value));
    let (authority, rest) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    if let Some(user) = user {
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        if !user.is_empty() {
            pair("user", decode(user)?);
        }
        if let Some(password) = password {
            pair("password", decode(password)?);
        }
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (name, after) = bracketed.split_once(']').ok_or_else(|| unusable("an IPv6 address has no closing `]`"))?;
                let port = after.strip_prefix(':').or(after.is_empty().then_some(""));
                (name, port.ok_or_else(|| unusable("what follows an IPv6 address is no port"))?)
            }
            None if host.matches(':').count() > 1 => return Err(unusable("an IPv6 address is written in brackets, [::1]:5432")),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name)?);
        ports.push(port.to_owned());
    }
    if names.iter().any(|name| !name.is_empty()) {
        pair("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pair("port", ports.join(","));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let database = path.trim_start_matches('/');
    if !database.is_empty() {
        pair("dbname", decode(database)?);
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or_else(|| unusable("a parameter behind the `?` has no `=`"))?;
        pair(&decode(name)?, decode(value)?);
    }
    Ok(pairs)
}

fn percent_decode(text: &str) -> Option<String> {
    // `form_urlencoded` decodes `+` as a space; here a plus is a plus.
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B").replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.contains('\u{fffd}'))
}

/// The parameters of a keyword string: `name = value`, a value with spaces in single quotes, `\` before a quote or another `\`.
fn keyword_pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| unusable("a keyword has no `=` behind it"))?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(unusable("a keyword has no `=` behind it"));
        }
        let after = after.trim_start();
        let (quoted, body) = after.strip_prefix('\'').map_or((false, after), |body| (true, body));
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in body.char_indices() {
            match c {
                c if escaped => {
                    escaped = false;
                    value.push(c);
                }
                '\\' => escaped = true,
                '\'' if quoted => end = Some(at + 1),
                c if !quoted && c.is_whitespace() => end = Some(at),
                c => value.push(c),
            }
            if end.is_some() {
                break;
            }
        }
        if quoted && end.is_none() {
            return Err(unusable("a quoted value has no closing quote"));
        }
        pairs.push((name.to_owned(), value));
        rest = body[end.unwrap_or(body.len())..].trim_start();
    }
    Ok(pairs)
}

/// What a section of a service file says; `None` if there is no such section.
/// <https://www.postgresql.org/docs/current/libpq-pgservice.html>
fn service_pairs(text: &str, service: &str, file: &Path) -> Result<Option<Vec<(String, String)>>> {
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    if !lines.any(|(_, line)| line.strip_prefix('[').and_then(|line| line.split_once(']')).is_some_and(|(name, _)| name == service))
    {
        return Ok(None);
    }
    let section = lines.take_while(|(_, line)| !line.starts_with('['));
    let pairs = section.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(n, line)| {
        let wrong = |what: &str| Error::usage(format!("{}:{n}: {what}", file.display())).cure("a line NAME=VALUE");
        match line.split_once('=') {
            _ if line.starts_with("ldap:") || line.starts_with("ldap") && line.contains("://") => {
                Err(wrong("a service cannot be looked up in LDAP here"))
            }
            Some(("service" | "servicefile", _)) => Err(wrong("a service cannot name another one")),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(wrong("this is no parameter")),
        }
    });
    pairs.collect::<Result<Vec<_>>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(&'static str, String)> {
        Conninfo::parse(text).unwrap().0.into_iter().map(|(name, written)| (name, written.value)).collect()
    }

    fn said(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    #[test]
    fn a_connection_string_is_read_as_libpq_reads_it() {
        for (text, expected) in [
            ("postgres://", &[][..]),
            ("postgresql://h", &[("host", "h")]),
            ("postgres:///db", &[("dbname", "db")]),
            ("postgres://u:p@h:1/db", &[("dbname", "db"), ("host", "h"), ("password", "p"), ("port", "1"), ("user", "u")]),
            ("postgres://me@[::1]:5432/x", &[("dbname", "x"), ("host", "::1"), ("port", "5432"), ("user", "me")]),
            ("postgres://a:1,[fe80::1],c:3/", &[("host", "a,fe80::1,c"), ("port", "1,,3")]),
            ("postgres://u@/db?host=/run/pg", &[("dbname", "db"), ("host", "/run/pg"), ("user", "u")]),
            ("postgres://%2Frun%2Fpg/db", &[("dbname", "db"), ("host", "/run/pg")]),
            ("postgres://h/?ssl=true&options=-c%20a%3Db+c", &[("host", "h"), ("options", "-c a=b+c"), ("sslmode", "require")]),
            (
                "host=h port = 1 dbname='my db' user=o\\'neil",
                &[("dbname", "my db"), ("host", "h"), ("port", "1"), ("user", "o'neil")],
            ),
            ("password='a\\\\b\\'c' host=''", &[("host", ""), ("password", "a\\b'c")]),
        ] {
            assert_eq!(pairs(text), said(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_repeating_the_password() {
        for text in [
            "mysql://a:hunter2@h/d",
            "postgres://a:hunter2@h/d?shiny=1",
            "postgres://a:hunter2@[::1/d",
            "postgres://a:hunter2@::1/d",
            "postgres://a:hunter2@h/d?sslmode",
            "hunter2",
            "password=hunter2 host",
            "password='hunter2",
            "password=hunter2 shiny=1",
        ] {
            let error = Conninfo::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2") && error.to_string().contains("cure:"), "{error}");
        }
    }

    #[test]
    fn what_is_said_again_leads_to_the_same_place_without_the_password() {
        for (text, again) in [
            ("postgres://me:pw@[::1]:5432/x?sslmode=require", "postgres://me@[::1]:5432/x?sslmode=require"),
            ("host=a,b port=1,2 password=pw dbname='my db'", "postgres:///my%20db?host=a,b&port=1,2"),
            (
                "postgres://u@/db?host=/run/pg&port=6000&options=-c%20x%3D1",
                "postgres://u@/db?host=/run/pg&options=-c%20x%3D1&port=6000",
            ),
            ("service=prod password=pw", "postgres:///?service=prod"),
        ] {
            let url = Conninfo::parse(text).unwrap().url();
            assert_eq!(url, again);
            let without: Vec<_> = pairs(text).into_iter().filter(|(name, _)| *name != "password").collect();
            assert_eq!(pairs(&url), without, "{url}");
        }
    }

    #[test]
    fn a_section_of_a_service_file_is_found_and_only_that() {
        let text = "# mine\n[one]\nhost=a\n\n[two]\n # why\n  host=b\nport=7 \n[three]\nhost=c";
        let two = service_pairs(text, "two", Path::new("f")).unwrap().unwrap();
        assert_eq!(two, [("host".to_owned(), "b".to_owned()), ("port".into(), "7".into())]);
        assert!(service_pairs(text, "four", Path::new("f")).unwrap().is_none());
        for wrong in ["[s]\nservice=t", "[s]\nldap://h/x", "[s]\nhost"] {
            let error = service_pairs(wrong, "s", Path::new("/f")).unwrap_err().to_string();
            assert!(error.starts_with("/f:2: "), "{error}");
        }
    }
}
