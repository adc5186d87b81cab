//! Is that the password? Found out in the same time whether or not there is such an account.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::{Error, Result};

/// Kibibytes of memory, and passes over it: a millisecond or a few. The accounts are synthetic; what is tested is the way there.
const MEMORY_KIB: u32 = 4096;
const PASSES: u32 = 1;

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(unusable)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn unusable(why: impl std::fmt::Display) -> Error {
    Error::inconclusive(format!("passwords cannot be hashed: {why}"))
}

/// What passwords are compared with.
pub struct Passwords {
    /// Of a password that nobody has.
    dummy: String,
}

impl Passwords {
    /// Ready to compare.
    ///
    /// # Errors
    /// When nothing can be hashed.
    pub fn new() -> Result<Self> {
        Ok(Self { dummy: hash(&crate::token::Secret::random().password())? })
    }

    /// Whether `password` is the one of `hash`; of no hash none is, which takes as long.
    pub async fn is_right(&self, password: String, hash: Option<String>) -> bool {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let compared = tokio::task::spawn_blocking(move || is_of(&password, &hash)).await;
        compared.unwrap_or(false) && is_known
    }
}

fn is_of(password: &str, hash: &str) -> bool {
    let Ok(argon2) = argon2() else { return false };
    PasswordHash::new(hash).is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
}

/// The hash of a password, argon2id in PHC's notation.
///
/// # Errors
/// When it cannot be hashed.
pub fn hash(password: &str) -> Result<String> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(unusable)?;
    Ok(argon2()?.hash_password(password.as_bytes(), &salt).map_err(unusable)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_password_is_right_and_of_no_account_none() {
        let passwords = Passwords::new().unwrap();
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=4096,t=1,p=1$"), "{hash}");
        assert!(passwords.is_right("correct horse".into(), Some(hash.clone())).await);
        assert!(!passwords.is_right("correct house".into(), Some(hash)).await);
        assert!(!passwords.is_right("correct horse".into(), None).await);
        assert!(!passwords.is_right("correct horse".into(), Some("no hash".into())).await);
    }
}
