//! Which server, as whom, into which database? One answer that feeds both drivers.

use std::path::{Path, PathBuf};

use super::same::SameServer;
use super::tally::Counted;
use crate::state::Env;
use crate::{Error, Result};

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or an address.
    Tcp(String),
    /// The directory that holds the Unix socket.
    Socket(PathBuf),
}

/// An address, as `HOST:PORT` or `/socket/directory:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it listens.
    pub host: Host,
    /// Port; for a socket, the number in its name.
    pub port: u16,
}

impl std::str::FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::usage(format!("`{text}` is no address")).cure("HOST:PORT as localhost:6432, or /DIRECTORY:PORT of a socket");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |host: &str| !host.is_empty() && !host.contains(['/', '@', '[', ']', ' ']);
        let host = match bare {
            Some(host) if is_name(host) => Host::Tcp(host.into()),
            None if host.starts_with('/') => Host::Socket(host.into()),
            None if is_name(host) && !host.contains(':') => Host::Tcp(host.into()),
            _ => return Err(bad()),
        };
        Ok(Self { host, port })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Host::Tcp(host) => write!(f, "{host}:{}", self.port),
            Host::Socket(directory) => write!(f, "{}:{}", directory.display(), self.port),
        }
    }
}

/// How a connection is encrypted, as in libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Always, whoever answers.
    Require,
    /// Always, and the certificate must lead to a trusted authority.
    VerifyCa,
    /// Always, and the certificate must also name this host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(Error::usage(format!("unknown sslmode `{other}`"))
                    .cure("one of disable, prefer, require, verify-ca, verify-full"));
            }
        })
    }
}

/// Everything needed to connect. Built once, from a URL, the `PG*` variables or the managed cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where the server listens.
    pub host: Host,
    /// Port; for a socket, the number in its name.
    pub port: u16,
    /// Role to connect as.
    pub user: String,
    /// Password, if one is known.
    pub password: Option<String>,
    /// Database to connect to.
    pub database: String,
    /// Encryption.
    pub ssl_mode: SslMode,
    /// Certificate authorities to trust, in PEM; `None` = the system's.
    pub ssl_root_cert: Option<PathBuf>,
    /// Where its connections tell how many transactions they made.
    pub counted: Counted,
    /// The server and the database that all its connections must meet.
    pub same: SameServer,
}

/// Stands for the host that a URL leaves out.
const NO_HOST: &str = "host.invalid";

impl ConnectOptions {
    /// Parses `postgres://user:password@host:port/database?sslmode=…`; what it leaves out comes from the `PG*` variables,
    /// a missing password from the password file.
    ///
    /// # Errors
    /// Usage errors name the part that could not be read; the URL itself is never repeated, since it may hold a password.
    pub fn from_url(text: &str, env: Env) -> Result<Self> {
        let bad = |what: &str| {
            Error::usage(format!("the database URL is not usable: {what}")).cure(
                "postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=prefer, or for a socket postgres:///DATABASE?host=/directory",
            )
        };
        // libpq allows a user without a host (`postgres://bob@/db?host=/run`), the URL standard does not.
        let text = text.replacen("@/", &format!("@{NO_HOST}/"), 1);
        let url = url::Url::parse(&text).map_err(|e| bad(&e.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(bad(&format!("its scheme is `{}`, not `postgres`", url.scheme())));
        }
        let mut options = Self::from_env_without_password(env)?;
        let decode = |s: &str| percent_decode(s).ok_or_else(|| bad("a percent-encoded part is not UTF-8"));
        if let Some(host) = url.host_str().filter(|h| !h.is_empty() && *h != NO_HOST) {
            let host = decode(host)?;
            options.host = if host.starts_with('/') { Host::Socket(host.into()) } else { Host::Tcp(host) };
        }
        if let Some(port) = url.port() {
            options.port = port;
        }
        if !url.username().is_empty() {
            options.user = decode(url.username())?;
            options.database = env("PGDATABASE").unwrap_or_else(|| options.user.clone());
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() {
            options.database = decode(database)?;
        }
        let mut password = url.password().map(decode).transpose()?;
        for (key, value) in url.query_pairs() {
            match &*key {
                "host" | "hostaddr" => {
                    options.host =
                        if value.starts_with('/') { Host::Socket(PathBuf::from(&*value)) } else { Host::Tcp(value.into_owned()) }
                }
                "port" => options.port = value.parse().map_err(|_| bad("its port is not a number"))?,
                "user" => options.user = value.into_owned(),
                "dbname" => options.database = value.into_owned(),
                "password" => password = Some(value.into_owned()),
                "sslmode" => options.ssl_mode = SslMode::parse(&value)?,
                "sslrootcert" => options.ssl_root_cert = Some(PathBuf::from(&*value)),
                // Both drivers set their own; accepted so that a URL copied from an application works.
                "application_name" | "connect_timeout" | "channel_binding" | "gssencmode" | "target_session_attrs" => {}
                other => return Err(bad(&format!("its parameter `{other}` is not known"))),
            }
        }
        options.password = password;
        options.find_password(env);
        Ok(options)
    }

    /// The server that `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGSSLMODE` and the password file name.
    ///
    /// # Errors
    /// When a variable cannot be read.
    pub fn from_env(env: Env) -> Result<Self> {
        let mut options = Self::from_env_without_password(env)?;
        options.find_password(env);
        Ok(options)
    }

    /// Whether the environment names a server at all: `PGHOST`, `PGHOSTADDR`, `PGPORT` or `PGDATABASE` is set.
    pub fn env_names_a_server(env: Env) -> bool {
        ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE"].iter().any(|name| env(name).is_some())
    }

    fn from_env_without_password(env: Env) -> Result<Self> {
        let host = env("PGHOSTADDR").or_else(|| env("PGHOST")).unwrap_or_else(|| "localhost".into());
        let port = match env("PGPORT") {
            None => 5432,
            Some(text) => text.parse().map_err(|_| Error::usage(format!("PGPORT is `{text}`, which is not a port")))?,
        };
        let user = env("PGUSER").or_else(|| env("USER")).unwrap_or_else(|| "postgres".into());
        Ok(Self {
            host: if host.starts_with('/') { Host::Socket(host.into()) } else { Host::Tcp(host) },
            port,
            database: env("PGDATABASE").unwrap_or_else(|| user.clone()),
            user,
            password: None,
            ssl_mode: env("PGSSLMODE").map_or(Ok(SslMode::Prefer), |m| SslMode::parse(&m))?,
            ssl_root_cert: env("PGSSLROOTCERT").map(PathBuf::from),
            counted: Counted::default(),
            same: SameServer::default(),
        })
    }

    fn find_password(&mut self, env: Env) {
        if self.password.is_some() {
            return;
        }
        self.password = env("PGPASSWORD").or_else(|| {
            let file = env("PGPASSFILE").map(PathBuf::from).or_else(|| env("HOME").map(|home| Path::new(&home).join(".pgpass")))?;
            let text = std::fs::read_to_string(file).ok()?;
            let host = match &self.host {
                Host::Tcp(host) => host.clone(),
                Host::Socket(_) => "localhost".into(),
            };
            pgpass_lookup(&text, &host, self.port, &self.database, &self.user)
        });
    }

    /// Where it leads.
    pub fn place(&self) -> Place {
        Place { host: self.host.clone(), port: self.port }
    }

    /// The same role and database, by another way.
    pub fn through(&self, place: &Place) -> Self {
        Self { host: place.host.clone(), port: place.port, ..self.clone() }
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.into(), same: SameServer::default(), ..self.clone() }
    }

    /// A URL that other tools understand. With `secret`, it includes the password.
    pub fn url(&self, secret: bool) -> String {
        let encode = |s: &str| url::form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>().replace('+', "%20");
        let mut user = encode(&self.user);
        if let Some(password) = self.password.as_deref().filter(|_| secret) {
            user = format!("{user}:{}", encode(password));
        }
        let database = encode(&self.database);
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("postgres://{user}@[{host}]:{}/{database}", self.port),
            Host::Tcp(host) => format!("postgres://{user}@{host}:{}/{database}", self.port),
            Host::Socket(dir) => {
                format!(
                    "postgres://{user}@/{database}?host={}&port={}",
                    encode(&dir.to_string_lossy()).replace("%2F", "/"),
                    self.port
                )
            }
        }
    }
}

/// Never shows the password.
impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url(false))
    }
}

/// `host:port/database`, for messages.
impl std::fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Tcp(host) => write!(f, "{host}:{}/{}", self.port, self.database),
            Host::Socket(dir) => write!(f, "{}:{}/{}", dir.display(), self.port, self.database),
        }
    }
}

fn percent_decode(text: &str) -> Option<String> {
    // `form_urlencoded` decodes `+` as a space; in a URL's authority and path a plus is a plus.
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B").replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.contains('\u{fffd}'))
}

/// The first line of a password file that matches; fields are separated by `:`, `*` matches anything, `\` escapes.
/// <https://www.postgresql.org/docs/current/libpq-pgpass.html>
fn pgpass_lookup(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut characters = line.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' => fields.last_mut()?.extend(characters.next()),
                ':' if fields.len() < 5 => fields.push(String::new()),
                c => fields.last_mut()?.push(c),
            }
        }
        let [h, p, d, u, password] = fields.try_into().ok()?;
        let matches = [(h, host), (p, &port), (d, database), (u, user)].iter().all(|(field, want)| field == "*" || field == want);
        matches.then_some(password)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_url_is_taken_apart_and_put_together() {
        let options = ConnectOptions::from_url("postgres://al%40ice:p%2Fw@db.example:6543/app?sslmode=require", &none).unwrap();
        assert_eq!(options.host, Host::Tcp("db.example".into()));
        assert_eq!((options.port, &*options.user, &*options.database), (6543, "al@ice", "app"));
        assert_eq!(options.password.as_deref(), Some("p/w"));
        assert_eq!(options.ssl_mode, SslMode::Require);
        assert_eq!(options.url(true), "postgres://al%40ice:p%2Fw@db.example:6543/app");
        assert!(!options.url(false).contains("p%2Fw") && !format!("{options:?}").contains("p%2Fw"));
    }

    #[test]
    fn an_address_is_read_and_written_alike() {
        for text in ["pooler.example:6432", "127.0.0.1:6432", "[::1]:6432", "/run/pooler:6432"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in
            ["", "6432", "pooler", ":6432", "pooler:", "pooler:0", "pooler:70000", "::1:6432", "[]:1", "u@h:1", "postgres://h:1"]
        {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_directory_is_a_host() {
        let options = ConnectOptions::from_url("postgres:///app?host=/run/pg&port=6000&user=bob", &none).unwrap();
        assert_eq!(options.host, Host::Socket("/run/pg".into()));
        assert_eq!(ConnectOptions::from_url(&options.url(true), &none).unwrap(), options);
    }

    #[test]
    fn what_the_url_leaves_out_comes_from_the_environment() {
        let env = |name: &str| match name {
            "PGHOST" => Some("h".to_owned()),
            "PGPORT" => Some("7000".to_owned()),
            "PGPASSWORD" => Some("secret".to_owned()),
            _ => None,
        };
        let options = ConnectOptions::from_url("postgres:///app", &env).unwrap();
        assert_eq!((options.host, options.port), (Host::Tcp("h".into()), 7000));
        assert_eq!(options.password.as_deref(), Some("secret"));
        assert!(ConnectOptions::env_names_a_server(&env) && !ConnectOptions::env_names_a_server(&none));
    }

    #[test]
    fn bad_urls_are_refused_without_repeating_the_password() {
        for url in ["mysql://a:hunter2@h/d", "postgres://a:hunter2@h/d?shiny=1", "postgres://a:hunter2@h/d?sslmode=maybe"] {
            let error = ConnectOptions::from_url(url, &none).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_password_file_is_read_as_libpq_reads_it() {
        let file = "# comment\nother:*:*:*:no\nh:5432:*:bob:a\\:b\n*:*:*:*:last";
        assert_eq!(pgpass_lookup(file, "h", 5432, "d", "bob").as_deref(), Some("a:b"));
        assert_eq!(pgpass_lookup(file, "x", 1, "d", "u").as_deref(), Some("last"));
    }
}
