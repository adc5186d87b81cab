//! How is a load connection encrypted, and whom does it trust? As libpq does for the same `sslmode`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pg::{ClientCertificate, ConnectOptions, SslMode};
use crate::{Error, Result};

/// What encrypts the connections of these options.
///
/// # Errors
/// Usage, when the certificates to trust cannot be read.
pub fn connector(options: &ConnectOptions) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let trust: Arc<dyn ServerCertVerifier> = match options.ssl_mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            Arc::new(Lenient { provider: provider.clone(), authorities: None })
        }
        SslMode::VerifyCa => {
            let authorities = Some(authorities(options, &provider)?);
            Arc::new(Lenient { provider: provider.clone(), authorities })
        }
        SslMode::VerifyFull => authorities(options, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::inconclusive("TLS is not available").because(e))?
        .dangerous()
        .with_custom_certificate_verifier(trust);
    let config = match &options.ssl_client {
        Some(client) if options.ssl_mode != SslMode::Disable => {
            let (certificates, key) = (certificates(&client.certificate, "sslcert")?, key(client)?);
            config.with_client_auth_cert(certificates, key).map_err(|e| {
                Error::usage(format!("{} and {} do not fit together", client.certificate.display(), client.key.display()))
                    .because(e)
                    .cure("sslcert names a certificate, sslkey its key")
            })?
        }
        _ => config.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates in a file that `parameter` names.
fn certificates(path: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e| {
        Error::usage(format!("the certificates in {} cannot be read", path.display()))
            .because(e)
            .cure(format!("{parameter} names a PEM file"))
    };
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)
}

fn key(ClientCertificate { key, .. }: &ClientCertificate) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(key).map_err(|e| {
        Error::usage(format!("the key in {} cannot be read", key.display()))
            .because(e)
            .cure("sslkey names a PEM file without a passphrase")
    })
}

/// Trusts what the named file, or else the system, trusts.
fn authorities(options: &ConnectOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let roots = match &options.ssl_root_cert {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path, "sslrootcert")?);
            Arc::new(roots)
        }
        None => system_authorities(),
    };
    WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().map_err(|e| {
        Error::usage("no authority to trust was found").because(e).cure("name one: sslrootcert=FILE, or use sslmode=require")
    })
}

/// Read once: hundreds of connections ask for them.
fn system_authorities() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    SYSTEM.get_or_init(read).clone()
}

/// Encryption without asking for the host's name, and without asking who answers at all unless there are authorities to ask.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last: whatever else is wrong has been found by then.
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
