//! What becomes of each connection parameter of libpq: is it obeyed, or refused with what to do instead?
//!
//! The parameters and variables of PostgreSQL 15 to 18:
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>,
//! <https://www.postgresql.org/docs/current/libpq-envars.html>.

/// A parameter of libpq.
#[derive(Debug)]
pub struct Keyword {
    /// As it is written in a connection string and in a service file.
    pub name: &'static str,
    /// The environment variable that says the same, if there is one.
    pub variable: Option<&'static str>,
    /// What becomes of it.
    pub support: Support,
}

/// What becomes of a parameter.
#[derive(Debug)]
pub enum Support {
    /// Every session obeys it.
    Honoured,
    /// It makes no difference here, whatever it says.
    Moot,
    /// Accepted where it asks for what is done anyway; everything else is refused.
    Only {
        /// The values that are accepted, upper or lower case.
        values: &'static [&'static str],
        /// Why others cannot be obeyed.
        why: &'static str,
        /// What to do besides leaving it out; may be empty.
        instead: &'static str,
    },
}

use Support::{Honoured, Moot, Only};

const fn keyword(name: &'static str, variable: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: Some(variable), support }
}

const fn unnamed(name: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: None, support }
}

const fn only(values: &'static [&'static str], why: &'static str, instead: &'static str) -> Support {
    Only { values, why, instead }
}

const GSSAPI: &str = "dbstress does not speak GSSAPI";
const KEEPALIVE: &str = "the connections of dbstress have the TCP settings of the system";
const REVOKED: &str = "dbstress does not read lists of revoked certificates";
const SCRAM_KEYS: &str = "dbstress derives the keys of SCRAM from a password";
const OAUTH: &str = "dbstress does not authenticate with OAuth";
const SYSTEM: &str = "set it for the system with sysctl, net.ipv4.tcp_keepalive_time and so on";
const PASSWORD: &str = "give a password, in ~/.pgpass for instance";

/// All of them.
pub const KEYWORDS: &[Keyword] = &[
    keyword("service", "PGSERVICE", Honoured),
    keyword("servicefile", "PGSERVICEFILE", Honoured),
    keyword("host", "PGHOST", Honoured),
    keyword("hostaddr", "PGHOSTADDR", Honoured),
    keyword("port", "PGPORT", Honoured),
    keyword("dbname", "PGDATABASE", Honoured),
    keyword("user", "PGUSER", Honoured),
    keyword("password", "PGPASSWORD", Honoured),
    keyword("passfile", "PGPASSFILE", Honoured),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Honoured),
    keyword("options", "PGOPTIONS", Honoured),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Honoured),
    keyword("sslmode", "PGSSLMODE", Honoured),
    keyword("sslrootcert", "PGSSLROOTCERT", Honoured),
    keyword("sslcert", "PGSSLCERT", Honoured),
    keyword("sslkey", "PGSSLKEY", Honoured),
    unnamed("fallback_application_name", Moot),
    keyword(
        "application_name",
        "PGAPPNAME",
        only(&[], "dbstress names its sessions itself, dbstress/…, and finds them by these names in pg_stat_activity", ""),
    ),
    keyword(
        "channel_binding",
        "PGCHANNELBINDING",
        only(
            &["disable", "prefer"],
            "the administrative sessions of dbstress cannot bind their authentication to the channel",
            "sslmode=verify-full proves which server answers",
        ),
    ),
    keyword(
        "require_auth",
        "PGREQUIREAUTH",
        only(&[], "dbstress authenticates in whichever way the server asks for", "pg_hba.conf of the server decides which that is"),
    ),
    keyword(
        "client_encoding",
        "PGCLIENTENCODING",
        only(&["utf8", "utf-8", "unicode"], "every session of dbstress speaks UTF8", ""),
    ),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", only(&["disable"], "all sessions of a run go to one server", "")),
    unnamed("replication", only(&["false", "off", "no", "0"], "dbstress has no replication sessions", "")),
    unnamed("keepalives", only(&["0"], KEEPALIVE, SYSTEM)),
    unnamed("keepalives_idle", only(&["0"], KEEPALIVE, SYSTEM)),
    unnamed("keepalives_interval", only(&["0"], KEEPALIVE, SYSTEM)),
    unnamed("keepalives_count", only(&["0"], KEEPALIVE, SYSTEM)),
    unnamed("tcp_user_timeout", only(&["0"], KEEPALIVE, SYSTEM)),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", only(&["postgres"], "dbstress asks the server before it begins TLS", "")),
    keyword("sslcompression", "PGSSLCOMPRESSION", only(&["0"], "dbstress does not compress TLS", "")),
    keyword("sslcertmode", "PGSSLCERTMODE", only(&["allow"], "dbstress sends its certificate when the server asks for one", "")),
    unnamed("sslpassword", only(&[], "dbstress reads keys without a passphrase only", "name a key without one in sslkey")),
    keyword("sslcrl", "PGSSLCRL", only(&[], REVOKED, "")),
    keyword("sslcrldir", "PGSSLCRLDIR", only(&[], REVOKED, "")),
    keyword(
        "sslsni",
        "PGSSLSNI",
        only(&["1"], "dbstress always sends the name of the host in TLS", "name the host by its address"),
    ),
    unnamed("sslkeylogfile", only(&[], "dbstress does not write down the keys of TLS", "")),
    keyword(
        "requirepeer",
        "PGREQUIREPEER",
        only(&[], "dbstress does not ask which user owns the server's socket", "name a directory that only this user can write to"),
    ),
    keyword(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        only(&["TLSv1", "TLSv1.1", "TLSv1.2"], "dbstress speaks TLSv1.2 and TLSv1.3", "set ssl_min_protocol_version on the server"),
    ),
    keyword(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        only(&["TLSv1.3"], "dbstress speaks TLSv1.2 and TLSv1.3", "set ssl_max_protocol_version on the server"),
    ),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION", only(&["3.0"], "dbstress speaks version 3.0 of the protocol", "")),
    keyword(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        only(&["3.0", "3.2", "latest"], "dbstress speaks version 3.0 of the protocol", ""),
    ),
    keyword("gssencmode", "PGGSSENCMODE", only(&["disable", "prefer"], GSSAPI, "sslmode=require encrypts with TLS")),
    keyword("krbsrvname", "PGKRBSRVNAME", only(&["postgres"], GSSAPI, PASSWORD)),
    keyword("gsslib", "PGGSSLIB", only(&["gssapi"], GSSAPI, PASSWORD)),
    keyword("gssdelegation", "PGGSSDELEGATION", only(&["0"], GSSAPI, PASSWORD)),
    unnamed("scram_client_key", only(&[], SCRAM_KEYS, PASSWORD)),
    unnamed("scram_server_key", only(&[], SCRAM_KEYS, PASSWORD)),
    unnamed("oauth_issuer", only(&[], OAUTH, PASSWORD)),
    unnamed("oauth_client_id", only(&[], OAUTH, PASSWORD)),
    unnamed("oauth_client_secret", only(&[], OAUTH, PASSWORD)),
    unnamed("oauth_scope", only(&[], OAUTH, PASSWORD)),
];

/// What libpq tells the server besides, from the environment alone: (variable, setting of the session).
pub const SETTINGS: [(&str, &str); 3] = [("PGDATESTYLE", "datestyle"), ("PGTZ", "timezone"), ("PGGEQO", "geqo")];

/// What names a server: where one of these is set, the private one is not meant.
const NAMES_A_SERVER: [&str; 5] = ["service", "host", "hostaddr", "port", "dbname"];

/// What describes a connection to a server of the user's own, and cannot be obeyed on the private one.
const NOT_ON_THE_PRIVATE_SERVER: [&str; 3] = ["user", "password", "sslmode"];

/// The parameter of this name.
pub fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// The variables that say which server is meant.
pub fn naming_a_server() -> impl Iterator<Item = &'static str> {
    NAMES_A_SERVER.into_iter().filter_map(|name| find(name)?.variable)
}

/// The variables that say how to connect, though not where to.
pub fn describing_a_connection() -> impl Iterator<Item = &'static str> {
    NOT_ON_THE_PRIVATE_SERVER.into_iter().filter_map(|name| find(name)?.variable)
}
