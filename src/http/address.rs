//! Where is the API? A URL without secrets in it.

use std::fmt;

use url::Url;

use crate::{Error, Result};

/// Where an API listens, and below which path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    is_tls: bool,
    host: String,
    port: u16,
    /// What is said in the `Host` header of every request.
    authority: String,
    /// Without a slash at its end; empty at the root.
    base: String,
}

impl Address {
    /// Reads `http://host:port/base`.
    ///
    /// # Errors
    /// Usage: no URL, another scheme, a password or a query in it.
    pub fn parse(text: &str) -> Result<Self> {
        let usage = |said: String| Error::usage(said).cure("http://HOST:PORT, or https://HOST/BASE");
        let url = Url::parse(text).map_err(|why| usage(format!("`{text}` is no URL")).because(why))?;
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(usage(format!("`{other}://` is not spoken here"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            // The URL itself is not repeated: it has a password in it.
            return Err(usage("the URL of an API has a user or a password in it, which would be seen in every record".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(usage(format!("`{text}` has a query or a fragment, which no operation could be asked below")));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| usage(format!("`{text}` names no host")))?;
        let port = url.port_or_known_default().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self::new(is_tls, host.to_owned(), port, url.path().trim_end_matches('/').to_owned()))
    }

    /// Of a server on this machine that speaks in the clear.
    pub fn of(address: std::net::SocketAddr) -> Self {
        let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        Self::new(false, host, address.port(), String::new())
    }

    fn new(is_tls: bool, host: String, port: u16, base: String) -> Self {
        let usual = if is_tls { 443 } else { 80 };
        let authority = if port == usual { host.clone() } else { format!("{host}:{port}") };
        Self { is_tls, host, port, authority, base }
    }

    /// Whether it is spoken to in secret.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host, as TCP wants it: an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is said in the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of `path`, which begins with a slash, below the base.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_tls { "https" } else { "http" }, self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_said_again() {
        for (text, said, host, port, path) in [
            ("http://127.0.0.1:8971", "http://127.0.0.1:8971", "127.0.0.1", 8971, "/v1/health"),
            ("http://localhost/", "http://localhost", "localhost", 80, "/v1/health"),
            ("https://api.example.com/base/", "https://api.example.com/base", "api.example.com", 443, "/base/v1/health"),
            ("http://[::1]:80", "http://[::1]", "::1", 80, "/v1/health"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), said);
            assert_eq!((address.host(), address.port(), address.path("/v1/health").as_str()), (host, port, path));
        }
    }

    #[test]
    fn what_cannot_be_asked_or_would_give_a_secret_away_is_refused() {
        for text in ["127.0.0.1:8971", "ftp://x", "http://", "http://x/?a=b", "http://x/#a"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        let refused = Address::parse("http://me:secret@x/").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
