//! What both sides of SCRAM-SHA-256 share: keys, proofs and attributes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use mail_types::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::SaslError;

/// The fewest iterations that are taken (RFC 7677 §4).
pub const MIN_ITERATIONS: u32 = 4096;
/// Iterations for new passwords: the floor, since the client pays for each at every login.
pub const DEFAULT_ITERATIONS: u32 = MIN_ITERATIONS;
/// What a client is willing to spend: a server that asks for more wants to wear it down.
pub(crate) const MAX_ITERATIONS: u32 = 1_000_000;
pub(crate) type Key = [u8; 32];

/// What the server keeps of a password (RFC 5802 §3): it can check with it, and prove that it
/// knows the password, but not log in.
#[derive(Clone, Debug)]
pub struct ScramKeys {
    /// Random, of this password alone.
    pub salt: Vec<u8>,
    /// Rounds of the hash.
    pub iterations: u32,
    /// `StoredKey`
    pub stored_key: Secret<[u8; 32]>,
    /// `ServerKey`
    pub server_key: Secret<[u8; 32]>,
}

impl ScramKeys {
    /// Makes the keys of a prepared password with a random salt. Costs `iterations` hashes.
    pub fn derive(password: &Secret<Vec<u8>>, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = salted_password(password, &salt, iterations);
        let client_key = Zeroizing::new(hmac(&salted, b"Client Key"));
        Self {
            salt,
            iterations,
            stored_key: Secret::new(hash(&client_key)),
            server_key: Secret::new(hmac(&salted, b"Server Key")),
        }
    }

    /// True if whoever made the proof knows the password (RFC 5802 §3).
    pub(crate) fn accept(&self, auth_message: &[u8], proof: &Key) -> bool {
        let signature = hmac(self.stored_key.expose(), auth_message);
        let client_key = Zeroizing::new(xor(proof, &signature));
        hash(&client_key).ct_eq(self.stored_key.expose()).into()
    }

    /// What proves to the client that the server knows the password.
    pub(crate) fn server_signature(&self, auth_message: &[u8]) -> Key {
        hmac(self.server_key.expose(), auth_message)
    }
}

/// `Hi(Normalize(password), salt, i)`
pub(crate) fn salted_password(
    password: &Secret<Vec<u8>>,
    salt: &[u8],
    iterations: u32,
) -> Zeroizing<Key> {
    Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
        password.expose(),
        salt,
        iterations,
    ))
}

pub(crate) fn client_proof(salted: &Key, auth_message: &[u8]) -> Key {
    let client_key = Zeroizing::new(hmac(salted, b"Client Key"));
    let signature = hmac(&hash(&client_key), auth_message);
    xor(&client_key, &signature)
}

pub(crate) fn hmac(key: &Key, data: &[u8]) -> Key {
    // The block size is 64 octets, so a key of 32 is zero-padded as RFC 2104 §2 says, which is what
    // the constructor for fixed blocks wants; unlike the one for any length it cannot fail.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into());
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn hash(data: &Key) -> Key {
    Sha256::digest(data).into()
}

fn xor(a: &Key, b: &Key) -> Key {
    let mut out = *a;
    out.iter_mut().zip(b).for_each(|(to, from)| *to ^= from);
    out
}

/// Takes `NAME=value` off a message: the value, and what is behind the comma.
pub(crate) fn attribute(text: &str, name: char) -> Result<(&str, &str), SaslError> {
    let value = text
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='))
        .ok_or(SaslError::Syntax)?;
    Ok(value.split_once(',').unwrap_or((value, "")))
}

pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, SaslError> {
    STANDARD.decode(text).map_err(|_| SaslError::Syntax)
}

/// Printable ASCII without the comma (RFC 5802 §7 `printable`).
pub(crate) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// Undoes the escapes of `saslname` (RFC 5802 §5.1).
pub(crate) fn unescape(name: &str) -> Result<String, SaslError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            out.push(',');
            out.push_str(rest);
        } else if let Some(rest) = part.strip_prefix("3D") {
            out.push('=');
            out.push_str(rest);
        } else {
            return Err(SaslError::Syntax);
        }
    }
    if out.is_empty() || out.contains('\0') {
        return Err(SaslError::Syntax);
    }
    Ok(out)
}

pub(crate) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(unescape(&escape("a=b,c")).unwrap(), "a=b,c");
        for bad in ["", "a=", "a=2", "a=2c", "a=41"] {
            assert_eq!(unescape(bad), Err(SaslError::Syntax), "{bad}");
        }
    }

    // Tests RFC 4231 §4.3 (the key padded as for any HMAC).
    #[test]
    fn hmac_agrees_with_the_general_one() {
        let key = [0x0b; 32];
        let mut general = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
        general.update(b"Hi There");
        assert_eq!(
            hmac(&key, b"Hi There"),
            <Key>::from(general.finalize().into_bytes())
        );
    }
}
