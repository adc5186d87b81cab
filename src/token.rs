//! Who is asking, and until when? JSON web tokens, signed with HS256 and nothing else.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// HMAC with SHA-256: the one algorithm that is accepted, so that no backend with others has to be built.
struct Hs256(Hmac<Sha256>);

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let mut hmac = self.0.clone();
        hmac.update(message);
        Ok(hmac.finalize().into_bytes().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let mut hmac = self.0.clone();
        hmac.update(message);
        hmac.verify_slice(signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

fn hs256(key: &[u8]) -> JwtResult<Hs256> {
    Hmac::new_from_slice(key).map(Hs256).map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(hs256(key.as_bytes())?)),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(hs256(key.try_get_as_bytes()?)?)),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// The library has no default, and panics without one.
fn provide() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// What the reference server's tokens say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The account, as it logs in.
    pub sub: String,
    /// What it may do.
    pub role: String,
    /// The organisation, or the programme, that it belongs to; `None`: it may look at all of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub org: Option<i64>,
    /// The practitioner, or the person, that it acts as.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<i64>,
    /// When it was issued, seconds since 1970.
    pub iat: i64,
    /// When it expires, seconds since 1970.
    pub exp: i64,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// It was good, and is no longer.
    Expired,
    /// It is none of ours, or none at all.
    Untrusted,
}

/// Signs and verifies.
#[derive(Clone)]
pub struct Key {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Key {
    /// Never what it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Of a secret that both sides know.
    pub fn new(secret: &[u8]) -> Self {
        provide();
        let mut validation = Validation::new(Algorithm::HS256);
        // The clocks of this machine agree with each other.
        validation.leeway = 0;
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), validation }
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|why| Error::usage("a token cannot be signed").because(why))
    }

    /// What a token claims, if it is one of ours and has not expired.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, Invalid> {
        match jsonwebtoken::decode::<C>(token, &self.decoding, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(why) if matches!(why.kind(), ErrorKind::ExpiredSignature) => Err(Invalid::Expired),
            Err(_) => Err(Invalid::Untrusted),
        }
    }
}

/// What a server and those who test it on this machine both know: the secret that tokens are signed with. Never shown, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    /// Never what it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Fewer characters are no secret.
const LEAST_SECRET: usize = 16;

impl Secret {
    /// Of a text that somebody chose.
    ///
    /// # Errors
    /// Usage, when it is too short.
    pub fn chosen(text: &str) -> Result<Self> {
        match text.trim() {
            text if text.len() >= LEAST_SECRET => Ok(Self(text.as_bytes().to_vec())),
            _ => Err(Error::usage(format!("the secret of the tokens has fewer than {LEAST_SECRET} characters"))
                .cure("openssl rand -hex 32 makes one; without any, the server makes its own")),
        }
    }

    /// One that nobody knows.
    pub fn random() -> Self {
        Self(hexadecimal(&rand::random::<[u8; 32]>()).into_bytes())
    }

    /// The one that is kept in a state directory; `None` if no server has made one there.
    ///
    /// # Errors
    /// Usage, when it is there and cannot be read.
    pub fn kept(state: &Path) -> Result<Option<Self>> {
        let path = Self::path(state);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::chosen(&text).map(Some),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(Error::usage(format!("the secret of the tokens cannot be read from {}", path.display()))
                .because(why)
                .cure("run as who started the server, or give both the same DBSTRESS_API_SECRET")),
        }
    }

    /// The one that is kept in a state directory, made if there is none; only its owner can read it.
    ///
    /// # Errors
    /// Usage, when it can neither be read nor made.
    pub fn ensure(state: &Path) -> Result<Self> {
        if let Some(kept) = Self::kept(state)? {
            return Ok(kept);
        }
        let (path, secret) = (Self::path(state), Self::random());
        let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let whole = |mut file: std::fs::File| {
            // Ours, and of no use to anybody.
            file.write_all(&secret.0).inspect_err(|_| {
                let _ = std::fs::remove_file(&path);
            })
        };
        match written.and_then(whole) {
            Ok(()) => Ok(secret),
            // Somebody else was first.
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::kept(state)?.ok_or_else(|| Error::usage("the secret of the tokens comes and goes"))
            }
            Err(why) => Err(Error::usage(format!("the secret of the tokens cannot be kept in {}", path.display()))
                .because(why)
                .cure("make the state directory writable, or choose another with --state-dir")),
        }
    }

    fn path(state: &Path) -> PathBuf {
        state.join("api.secret")
    }

    /// What signs and verifies tokens.
    pub fn key(&self) -> Key {
        Key::new(&self.0)
    }

    /// The password of the synthetic accounts: it follows from the secret, so that who knows the one knows the other.
    pub fn password(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"password of the synthetic accounts ");
        hash.update(&self.0);
        URL_SAFE_NO_PAD.encode(&hash.finalize()[..18])
    }
}

/// The SHA-256 of a text, hexadecimal.
pub fn digest(text: &str) -> String {
    hexadecimal(&Sha256::digest(text.as_bytes()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a token says of itself, whoever has signed it: nothing is verified. `None` if it is no web token.
pub fn peek(token: &str) -> Option<serde_json::Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// When a token says that it expires, seconds since 1970.
pub fn expires(token: &str) -> Option<i64> {
    peek(token)?.get("exp")?.as_f64().map(|seconds| seconds as i64)
}

/// Seconds since 1970, as tokens count.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: i64) -> Claims {
        Claims { sub: "a@example.com".into(), role: "practitioner".into(), org: Some(1), actor: Some(2), iat: now(), exp }
    }

    #[test]
    fn what_was_signed_is_read_until_it_expires() {
        let key = Key::new(b"secret");
        let good = claims(now() + 60);
        let token = key.sign(&good).unwrap();
        assert_eq!(key.verify::<Claims>(&token), Ok(good));
        assert_eq!(expires(&token), Some(now() + 60));
        let late = key.sign(&claims(now() - 1)).unwrap();
        assert_eq!(key.verify::<Claims>(&late), Err(Invalid::Expired));
    }

    #[test]
    fn a_secret_is_made_once_and_read_by_its_owner_alone() {
        let state = std::env::temp_dir().join(format!("dbstress-secret-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        assert_eq!(Secret::kept(&state).unwrap(), None);
        let made = Secret::ensure(&state).unwrap();
        assert_eq!(Secret::ensure(&state).unwrap(), made);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(Secret::path(&state)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(made.password(), Secret::random().password());
        assert!(Secret::chosen("short").is_err());
        assert_eq!(format!("{made:?}"), "Secret");
        std::fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn what_others_signed_or_nobody_is_not_trusted() {
        let key = Key::new(b"secret");
        let token = Key::new(b"another").sign(&claims(now() + 60)).unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        let (body, signature) = rest.rsplit_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        for bad in [token.as_str(), "", "garbage", "a.b.c", &format!("{none}.{body}."), &format!("{none}.{body}.{signature}")] {
            assert_eq!(key.verify::<Claims>(bad), Err(Invalid::Untrusted), "{bad}");
        }
    }
}
