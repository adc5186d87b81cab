//! Do both drivers mean the same by sslmode, and does it mean what libpq means?

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use common::Place;
use dbstress::pg::admin::Session;
use dbstress::pg::load::{self, Connection, Isolation};
use dbstress::pg::{ClientCertificate, ConnectOptions, Host, SslMode};

/// A private server that offers TLS with a certificate for `localhost` alone.
struct Server {
    tcp: ConnectOptions,
    certificate: PathBuf,
    /// Of the certificate, for whoever shows it to the server.
    key: PathBuf,
    _place: Place,
}

impl Server {
    async fn start() -> Self {
        let place = Place::new();
        let running = place.start().await;
        let data = running.data();
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = place.0.join("authority.pem");
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(data.join("server.crt"), cert.pem()).unwrap();
        let key = data.join("server.key");
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let owner = std::fs::metadata(&data).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
        chown(&key, Some(owner), None).unwrap();
        chown(data.join("server.crt"), Some(owner), None).unwrap();
        let own_key = place.0.join("client.key");
        std::fs::write(&own_key, signing_key.serialize_pem()).unwrap();
        let mut session = Session::connect(&running.options, "test").await.unwrap();
        session.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        // So that clients are asked who they are.
        session.execute("ALTER SYSTEM SET ssl_ca_file = 'server.crt'").await.unwrap();
        session.execute("SELECT pg_reload_conf()").await.unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while session.text("SHOW ssl").await.unwrap().as_deref() != Some("on") {
            assert!(std::time::Instant::now() < deadline, "the server does not offer TLS");
        }
        Self { tcp: running.tcp.clone(), certificate, key: own_key, _place: place }
    }

    fn options(&self, host: &str, ssl_mode: SslMode, trusting: bool) -> ConnectOptions {
        let ssl_root_cert = trusting.then(|| self.certificate.clone());
        ConnectOptions { host: Host::Tcp(host.into()), ssl_mode, ssl_root_cert, ..self.tcp.clone() }
    }
}

/// Whether each driver's connection is encrypted; `None` if it was refused.
async fn encrypted(options: &ConnectOptions) -> (Option<bool>, Option<bool>) {
    let question = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let admin = match Session::connect(options, "test").await {
        Ok(mut session) => Some(session.text(question).await.unwrap().as_deref() == Some("true")),
        Err(_) => None,
    };
    // What is measured, and what loads in bulk: opened by different hands, trusting the same.
    let load = match Connection::open(options, "test", &[Isolation::ReadCommitted]).await {
        Ok(mut connection) => Some(connection.ask(question).await.unwrap().as_deref() == Some("true")),
        Err(_) => None,
    };
    let bulk = match load::connect(options, "test").await {
        Ok(client) => Some(client.query_one(question, &[]).await.unwrap().get::<_, &str>(0) == "true"),
        Err(_) => None,
    };
    assert_eq!(load, bulk);
    (admin, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_drivers_encrypt_and_trust_as_sslmode_says() {
    let server = Server::start().await;
    let (yes, no, refused) = ((Some(true), Some(true)), (Some(false), Some(false)), (None, None));
    let table = [
        ("localhost", SslMode::Disable, false, no),
        ("localhost", SslMode::Prefer, false, yes),
        ("localhost", SslMode::Require, false, yes),
        ("localhost", SslMode::VerifyCa, false, refused),
        ("localhost", SslMode::VerifyCa, true, yes),
        ("127.0.0.1", SslMode::VerifyCa, true, yes),
        ("localhost", SslMode::VerifyFull, false, refused),
        ("localhost", SslMode::VerifyFull, true, yes),
        ("127.0.0.1", SslMode::VerifyFull, true, refused),
    ];
    for (host, mode, trusting, expected) in table {
        let options = server.options(host, mode, trusting);
        assert_eq!(encrypted(&options).await, expected, "{host}, {mode:?}, trusting: {trusting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_session_shows_its_certificate_to_a_server_that_asks_for_one() {
    let server = Server::start().await;
    let question = "SELECT client_dn IS NOT NULL FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for is_shown in [false, true] {
        let ssl_client = is_shown.then(|| ClientCertificate { certificate: server.certificate.clone(), key: server.key.clone() });
        let options = ConnectOptions { ssl_client, ..server.options("localhost", SslMode::VerifyFull, true) };
        let mut admin = Session::connect(&options, "test").await.unwrap();
        assert_eq!(admin.text(question).await.unwrap().as_deref(), Some(if is_shown { "t" } else { "f" }));
        let mut measured = Connection::open(&options, "test", &[]).await.unwrap();
        assert_eq!(measured.ask(question).await.unwrap().as_deref(), Some(if is_shown { "t" } else { "f" }));
        let bulk = load::connect(&options, "test").await.unwrap();
        assert_eq!(bulk.query_one(question, &[]).await.unwrap().get::<_, bool>(0), is_shown);
    }
    let key = server.certificate.clone();
    let options = ConnectOptions {
        ssl_client: Some(ClientCertificate { certificate: server.certificate.clone(), key }),
        ..server.options("localhost", SslMode::Require, false)
    };
    let error = Connection::open(&options, "test", &[]).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("authority.pem cannot be read") && error.contains("sslkey names a PEM file"), "{error}");
}
