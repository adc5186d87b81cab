//! Which server, as whom, into which database? One answer that feeds both drivers.

mod conninfo;
mod keyword;
mod session;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use self::conninfo::Conninfo;
use self::conninfo::set;
pub use self::keyword::{KEYWORDS, Keyword, Support, describing_a_connection};
pub use self::session::{SessionOptions, TargetSessionAttrs};
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
    /// As libpq writes it; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull].into_iter().find(|mode| mode.name() == text)
    }

    /// As libpq writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What a client shows a server that asks who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those above it, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM, without a passphrase.
    pub key: PathBuf,
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
    /// What is shown to a server that asks for a certificate.
    pub ssl_client: Option<ClientCertificate>,
    /// What every session is begun with.
    pub session: SessionOptions,
    /// Other hosts that were named, in their order; [`super::admin::choose`] decides between them once.
    pub alternatives: Vec<ConnectOptions>,
    /// Where its connections tell how many transactions they made.
    pub counted: Counted,
    /// The server and the database that all its connections must meet.
    pub same: SameServer,
    /// What a command must add to lead here, as the user typed it: ` --database NAME`.
    pub flags: String,
}

impl ConnectOptions {
    /// A server that is reached without encryption, and nothing else that anybody asked for.
    pub fn plain(host: Host, port: u16, user: &str, password: Option<String>, database: &str) -> Self {
        Self {
            host,
            port,
            user: user.into(),
            password,
            database: database.into(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            ssl_client: None,
            session: SessionOptions::default(),
            alternatives: Vec::new(),
            counted: Counted::default(),
            same: SameServer::default(),
            flags: String::new(),
        }
    }

    /// Reads a connection string, a URL or keywords; what it leaves out comes from the service that it names, from the `PG*` variables, and a
    /// missing password from the password file.
    ///
    /// # Errors
    /// Usage errors name the parameter that cannot be obeyed; the string itself is never repeated, since it may hold a password.
    pub fn from_url(text: &str, env: Env) -> Result<Self> {
        Self::of(&Conninfo::parse(text)?.complete(env)?, env)
    }

    /// The server that the `PG*` variables, the service that they name, and the password file name.
    ///
    /// # Errors
    /// When a variable cannot be obeyed.
    pub fn from_env(env: Env) -> Result<Self> {
        Self::of(&Conninfo::default().complete(env)?, env)
    }

    /// Whether the environment names a server at all: `PGHOST`, `PGHOSTADDR`, `PGPORT`, `PGDATABASE` or `PGSERVICE` is set.
    pub fn env_names_a_server(env: Env) -> bool {
        keyword::naming_a_server().any(|variable| set(env, variable).is_some())
    }

    fn of(given: &Conninfo, env: Env) -> Result<Self> {
        let user = given.get("user").map(str::to_owned).unwrap_or_else(|| os_user(env));
        let database = given.get("dbname").unwrap_or(&user).to_owned();
        let (ssl_mode, ssl_root_cert) = trust(given, env)?;
        let in_home = |file: &str| set(env, "HOME").map(|home| Path::new(&home).join(".postgresql").join(file));
        let certificate =
            given.get("sslcert").map(PathBuf::from).or_else(|| in_home("postgresql.crt").filter(|file| file.is_file()));
        let key = given.get("sslkey").map(PathBuf::from).or_else(|| in_home("postgresql.key"));
        let ssl_client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (Some(_), None) => return Err(given.bad("sslcert", "has no key: sslkey names it")),
            (None, _) if given.get("sslkey").is_some() => {
                return Err(given.bad("sslkey", "has no certificate: sslcert names it"));
            }
            (None, _) => None,
        };
        let session = SessionOptions::of(given, env)?;
        let mut places = places(given, ssl_mode)?.into_iter().map(|(place, name)| {
            let password = given.get("password").map(str::to_owned);
            let password = password.or_else(|| in_password_file(given, env, &name, place.port, &database, &user));
            let (ssl_root_cert, ssl_client, session) = (ssl_root_cert.clone(), ssl_client.clone(), session.clone());
            let plain = Self::plain(place.host, place.port, &user, password, &database);
            Self { ssl_mode, ssl_root_cert, ssl_client, session, ..plain }
        });
        let first = places.next().ok_or_else(|| given.bad("host", "names no host"))?;
        Ok(Self { alternatives: places.collect(), ..first })
    }

    /// How sessions are encrypted there: what never leaves the machine is not, and servers do not offer it.
    pub fn encryption(&self) -> SslMode {
        if matches!(self.host, Host::Socket(_)) { SslMode::Disable } else { self.ssl_mode }
    }

    /// Where it leads.
    pub fn place(&self) -> Place {
        Place { host: self.host.clone(), port: self.port }
    }

    /// The same role and database, by another way. Whether it leads to the same server has to be proved.
    pub fn through(&self, place: &Place) -> Self {
        Self { host: place.host.clone(), port: place.port, same: SameServer::default(), ..self.clone() }
    }

    /// `dbstress` with these words, for the same database: a cure that is typed as it is printed must not strike another one.
    pub fn command(&self, words: &str) -> String {
        format!("dbstress {words}{}", self.flags)
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.into(), same: SameServer::default(), ..self.clone() }
    }

    /// The same place, in sessions that are begun as the environment says: what is true of every server.
    ///
    /// # Errors
    /// Usage: a variable that cannot be obeyed, or one that is about another server.
    pub fn in_environment(self, env: Env) -> Result<Self> {
        Ok(Self { session: SessionOptions::of(&Conninfo::default().complete(env)?, env)?, ..self })
    }

    /// A URL that other tools understand. With `secret`, it includes the password.
    pub fn url(&self, secret: bool) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut parameters = vec![
            ("user", self.user.clone()),
            (
                "host",
                match &self.host {
                    Host::Tcp(host) => host.clone(),
                    Host::Socket(directory) => path(directory),
                },
            ),
            ("port", self.port.to_string()),
            ("dbname", self.database.clone()),
        ];
        if secret {
            parameters.extend(self.password.clone().map(|password| ("password", password)));
        }
        if !matches!(self.ssl_mode, SslMode::Disable | SslMode::Prefer) {
            parameters.push(("sslmode", self.ssl_mode.name().to_owned()));
        }
        parameters.extend(self.ssl_root_cert.as_deref().map(|file| ("sslrootcert", path(file))));
        if let Some(ClientCertificate { certificate, key }) = &self.ssl_client {
            parameters.extend([("sslcert", path(certificate)), ("sslkey", path(key))]);
        }
        parameters.extend(self.session.parameters());
        conninfo::url(parameters)
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
        write!(f, "{}/{}", self.place(), self.database)
    }
}

/// The name of whoever runs the program.
fn os_user(env: Env) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten().map(|user| user.name);
    user.or_else(|| set(env, "USER")).unwrap_or_else(|| "postgres".into())
}

/// How a connection is encrypted, and whom it trusts.
fn trust(given: &Conninfo, env: Env) -> Result<(SslMode, Option<PathBuf>)> {
    let known = |text| {
        SslMode::parse(text).ok_or_else(|| {
            given.bad("sslmode", &format!("is `{text}`, not one of disable, prefer, require, verify-ca, verify-full"))
        })
    };
    let mode = given.get("sslmode").map(known).transpose()?;
    let root = match given.get("sslrootcert") {
        Some("system") => {
            return match mode {
                None | Some(SslMode::VerifyFull) => Ok((SslMode::VerifyFull, None)),
                Some(weaker) => Err(given.bad("sslmode", &format!("is {}: sslrootcert=system needs verify-full", weaker.name()))),
            };
        }
        Some(file) => Some(PathBuf::from(file)),
        None => set(env, "HOME").map(|home| Path::new(&home).join(".postgresql/root.crt")).filter(|file| file.is_file()),
    };
    Ok(match (mode.unwrap_or(SslMode::Prefer), root) {
        // Whoever names an authority wants it asked: so does libpq.
        (SslMode::Require, Some(root)) => (SslMode::VerifyCa, Some(root)),
        (mode @ (SslMode::VerifyCa | SslMode::VerifyFull), root) => (mode, root),
        (mode, _) => (mode, None),
    })
}

/// Where the hosts are, each with the name that a password file knows it by.
fn places(given: &Conninfo, ssl_mode: SslMode) -> Result<Vec<(Place, String)>> {
    let list = |name| given.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (hosts, addresses) = (list("host"), list("hostaddr"));
    let ports = list("port").unwrap_or_else(|| vec![""]);
    let count = addresses.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
    if hosts.as_ref().is_some_and(|hosts| hosts.len() != count) {
        return Err(given.bad("hostaddr", "has not as many addresses as there are hosts"));
    }
    if ports.len() != 1 && ports.len() != count {
        return Err(given.bad("port", &format!("has {} ports for {count} hosts", ports.len())));
    }
    if hosts.is_some() && addresses.is_some() && ssl_mode == SslMode::VerifyFull {
        return Err(given.bad("hostaddr", "hides the host that sslmode=verify-full has to find in the certificate"));
    }
    (0..count)
        .map(|n| {
            let of = |list: &Option<Vec<&str>>| list.as_ref().map(|list| list[n].to_owned()).filter(|text| !text.is_empty());
            let name = of(&hosts);
            let address = of(&addresses);
            if let Some(address) = address.as_ref().filter(|address| address.parse::<IpAddr>().is_err()) {
                return Err(given.bad("hostaddr", &format!("is `{address}`, which is no address")));
            }
            let text = address.or(name.clone()).unwrap_or_else(|| "localhost".into());
            let port = match ports[if ports.len() == 1 { 0 } else { n }] {
                "" => 5432,
                port => match port.parse() {
                    Ok(port) if port > 0 => port,
                    _ => return Err(given.bad("port", &format!("is `{port}`, which is not a port"))),
                },
            };
            let host = if text.starts_with('/') { Host::Socket(text.into()) } else { Host::Tcp(text) };
            let name = match &host {
                Host::Tcp(address) => name.unwrap_or_else(|| address.clone()),
                Host::Socket(_) => "localhost".into(),
            };
            Ok((Place { host, port }, name))
        })
        .collect()
}

/// What the password file says for one host.
fn in_password_file(given: &Conninfo, env: Env, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let file =
        given.get("passfile").map(PathBuf::from).or_else(|| set(env, "HOME").map(|home| Path::new(&home).join(".pgpass")))?;
    pgpass_lookup(&std::fs::read_to_string(file).ok()?, host, port, database, user)
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
mod keyword_tests;

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
        assert_eq!(options.url(true), "postgres://al%40ice:p%2Fw@db.example:6543/app?sslmode=require");
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
    fn an_ipv6_address_is_a_host_without_its_brackets() {
        let options = ConnectOptions::from_url("postgres://me@[::1]:5432/x", &none).unwrap();
        assert_eq!((&options.host, options.port), (&Host::Tcp("::1".into()), 5432));
        assert_eq!((options.url(false), options.to_string()), ("postgres://me@[::1]:5432/x".into(), "[::1]:5432/x".into()));
    }

    #[test]
    fn several_hosts_are_several_servers_each_with_its_port() {
        let places = |text: &str| {
            let options = ConnectOptions::from_url(text, &none)?;
            Ok::<_, Error>(
                std::iter::once(&options).chain(&options.alternatives).map(|o| o.place().to_string()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(places("postgres://me@a:1,b/x").unwrap(), ["a:1", "b:5432"]);
        assert_eq!(places("host=a,/run/pg port=7").unwrap(), ["a:7", "/run/pg:7"]);
        assert_eq!(places("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2").unwrap(), ["10.0.0.1:1", "10.0.0.2:2"]);
        for wrong in [
            "host=a,b,c port=1,2",
            "host=a,b hostaddr=10.0.0.1",
            "hostaddr=db.example",
            "host=a hostaddr=10.0.0.1 sslmode=verify-full",
            "host=a port=0",
        ] {
            let error = places(wrong).unwrap_err().to_string();
            assert!(error.contains("in the connection string") && error.contains("cure:"), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_authority_that_is_named_is_asked() {
        let trust = |text: &str| ConnectOptions::from_url(text, &none).map(|o| (o.ssl_mode, o.ssl_root_cert.is_some()));
        assert_eq!(trust("sslmode=require sslrootcert=/a.pem").unwrap(), (SslMode::VerifyCa, true));
        assert_eq!(trust("sslmode=verify-full sslrootcert=/a.pem").unwrap(), (SslMode::VerifyFull, true));
        assert_eq!(trust("sslrootcert=system").unwrap(), (SslMode::VerifyFull, false));
        assert!(trust("sslrootcert=system sslmode=require").unwrap_err().to_string().contains("verify-full"));
        assert!(trust("sslcert=/c.pem").is_err() && trust("sslkey=/k.pem").is_err() && trust("sslmode=allow").is_err());
    }

    #[test]
    fn the_password_file_is_read_as_libpq_reads_it() {
        let file = "# comment\nother:*:*:*:no\nh:5432:*:bob:a\\:b\n*:*:*:*:last";
        assert_eq!(pgpass_lookup(file, "h", 5432, "d", "bob").as_deref(), Some("a:b"));
        assert_eq!(pgpass_lookup(file, "x", 1, "d", "u").as_deref(), Some("last"));
    }
}
