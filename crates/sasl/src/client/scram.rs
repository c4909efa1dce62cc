use mail_types::Secret;
use subtle::ConstantTimeEq;

use crate::scram::{
    Key, MAX_ITERATIONS, attribute, client_proof, decode, encode, escape, hmac, salted_password,
};
use crate::{MIN_ITERATIONS, SaslError};

/// The gs2-header "n,,": no channel binding, no authorisation identity.
const GS2_HEADER: &str = "n,,";

/// SCRAM-SHA-256 without channel binding (RFC 5802 §5).
#[derive(Debug)]
pub(super) enum Scram {
    /// We send `client-first-message`.
    Start { nonce: String },
    /// `server-first-message` comes next.
    First { nonce: String, bare: String },
    /// `server-final-message` comes next, as a challenge or with the success.
    Final { signature: Key },
    /// The server has proved itself.
    Proved,
}

impl Scram {
    pub(super) fn handle_challenge(
        self,
        username: &str,
        password: &Secret<Vec<u8>>,
        challenge: &[u8],
    ) -> Result<(Self, Vec<u8>), SaslError> {
        match self {
            Self::Start { nonce } => {
                let bare = format!("n={},r={nonce}", escape(username));
                let message = format!("{GS2_HEADER}{bare}").into_bytes();
                Ok((Self::First { nonce, bare }, message))
            }
            Self::First { nonce, bare } => answer(&nonce, &bare, password, challenge),
            Self::Final { signature } => {
                check(&signature, challenge)?;
                Ok((Self::Proved, Vec::new()))
            }
            Self::Proved => Err(SaslError::Unexpected),
        }
    }

    pub(super) fn handle_success(self, data: Option<&[u8]>) -> Result<(), SaslError> {
        match self {
            Self::Final { signature } => check(&signature, data.unwrap_or_default()),
            Self::Proved => Ok(()),
            Self::Start { .. } | Self::First { .. } => Err(SaslError::ServerSignature),
        }
    }
}

fn answer(
    nonce: &str,
    bare: &str,
    password: &Secret<Vec<u8>>,
    challenge: &[u8],
) -> Result<(Scram, Vec<u8>), SaslError> {
    let server_first = str::from_utf8(challenge).map_err(|_| SaslError::Syntax)?;
    if server_first.starts_with("m=") {
        return Err(SaslError::Extension);
    }
    let (full_nonce, rest) = attribute(server_first, 'r')?;
    let (salt, rest) = attribute(rest, 's')?;
    let (iterations, _extensions) = attribute(rest, 'i')?;
    // The server must have added its own part (RFC 5802 §5.1, attribute r).
    if !full_nonce.starts_with(nonce) || full_nonce.len() == nonce.len() {
        return Err(SaslError::Syntax);
    }
    let iterations: u32 = iterations.parse().map_err(|_| SaslError::Syntax)?;
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
        return Err(SaslError::Iterations);
    }
    let salted = salted_password(password, &decode(salt)?, iterations);
    let without_proof = format!("c={},r={full_nonce}", encode(GS2_HEADER.as_bytes()));
    let auth_message = format!("{bare},{server_first},{without_proof}");
    let proof = client_proof(&salted, auth_message.as_bytes());
    let server_key = hmac(&salted, b"Server Key");
    let signature = hmac(&server_key, auth_message.as_bytes());
    let message = format!("{without_proof},p={}", encode(&proof));
    Ok((Scram::Final { signature }, message.into_bytes()))
}

fn check(signature: &Key, server_final: &[u8]) -> Result<(), SaslError> {
    let text = str::from_utf8(server_final).map_err(|_| SaslError::Syntax)?;
    if text.starts_with("e=") {
        return Err(SaslError::Refused);
    }
    let Ok((verifier, _extensions)) = attribute(text, 'v') else {
        return Err(SaslError::ServerSignature);
    };
    if bool::from(decode(verifier)?.ct_eq(signature)) {
        Ok(())
    } else {
        Err(SaslError::ServerSignature)
    }
}
