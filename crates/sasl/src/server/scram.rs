use super::{Identity, Step};
use crate::scram::{Key, attribute, decode, encode, is_nonce, unescape};
use crate::{SaslError, ScramKeys};

/// SCRAM-SHA-256 without channel binding (RFC 5802 §5).
#[derive(Debug)]
pub(super) enum Scram {
    /// `client-first-message` comes next.
    Start { nonce: String },
    /// The caller looks up the keys.
    Keys(ClientFirst),
    /// `client-final-message` comes next.
    Challenged {
        first: ClientFirst,
        keys: ScramKeys,
        server_first: String,
    },
}

/// What the client's first message said.
#[derive(Debug)]
pub(super) struct ClientFirst {
    gs2_header: String,
    bare: String,
    /// The client's nonce and ours.
    nonce: String,
}

impl Scram {
    pub(super) fn new(nonce: String) -> Self {
        Self::Start { nonce }
    }

    pub(super) fn handle_response(self, message: &[u8]) -> Result<(Option<Self>, Step), SaslError> {
        let message = str::from_utf8(message).map_err(|_| SaslError::Syntax)?;
        match self {
            Self::Start { nonce } => {
                let (first, identity) = client_first(message, &nonce)?;
                Ok((Some(Self::Keys(first)), Step::NeedKeys(identity)))
            }
            Self::Keys(_) => Err(SaslError::Unexpected),
            Self::Challenged {
                first,
                keys,
                server_first,
            } => Ok((None, client_final(message, &first, &keys, &server_first)?)),
        }
    }

    pub(super) fn handle_keys(self, keys: ScramKeys) -> Result<(Self, Vec<u8>), SaslError> {
        let Self::Keys(first) = self else {
            return Err(SaslError::Unexpected);
        };
        let server_first = format!(
            "r={},s={},i={}",
            first.nonce,
            encode(&keys.salt),
            keys.iterations
        );
        let challenge = server_first.clone().into_bytes();
        let next = Self::Challenged {
            first,
            keys,
            server_first,
        };
        Ok((next, challenge))
    }
}

/// ```text
/// client-first-message      = gs2-header client-first-message-bare
/// gs2-header                = gs2-cbind-flag "," [ authzid ] ","
/// client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
/// ```
fn client_first(message: &str, nonce: &str) -> Result<(ClientFirst, Identity), SaslError> {
    let (flag, rest) = message.split_once(',').ok_or(SaslError::Syntax)?;
    match flag {
        // "y": the client could bind the channel and thinks that we cannot, which is so.
        "n" | "y" => {}
        _ if flag.starts_with("p=") => return Err(SaslError::ChannelBinding),
        _ => return Err(SaslError::Syntax),
    }
    let (authzid, bare) = rest.split_once(',').ok_or(SaslError::Syntax)?;
    let authorization = match authzid.strip_prefix("a=") {
        Some(name) => Some(unescape(name)?),
        None if authzid.is_empty() => None,
        None => return Err(SaslError::Syntax),
    };
    if bare.starts_with("m=") {
        return Err(SaslError::Extension);
    }
    let (name, rest) = attribute(bare, 'n')?;
    let (client_nonce, _extensions) = attribute(rest, 'r')?;
    if !is_nonce(client_nonce) {
        return Err(SaslError::Syntax);
    }
    let identity = Identity {
        authentication: unescape(name)?,
        authorization,
    };
    let first = ClientFirst {
        gs2_header: format!("{flag},{authzid},"),
        bare: bare.to_owned(),
        nonce: format!("{client_nonce}{nonce}"),
    };
    Ok((first, identity))
}

/// ```text
/// client-final-message-without-proof = channel-binding "," nonce ["," extensions]
/// client-final-message               = client-final-message-without-proof "," proof
/// ```
fn client_final(
    message: &str,
    first: &ClientFirst,
    keys: &ScramKeys,
    server_first: &str,
) -> Result<Step, SaslError> {
    let (without_proof, proof) = message.rsplit_once(",p=").ok_or(SaslError::Syntax)?;
    let proof: Key = decode(proof)?.try_into().map_err(|_| SaslError::Syntax)?;
    let (binding, rest) = attribute(without_proof, 'c')?;
    if decode(binding)? != first.gs2_header.as_bytes() {
        return Err(SaslError::ChannelBinding);
    }
    let (nonce, _extensions) = attribute(rest, 'r')?;
    if nonce != first.nonce {
        return Err(SaslError::Syntax);
    }
    let auth_message = format!("{},{server_first},{without_proof}", first.bare);
    if !keys.accept(auth_message.as_bytes(), &proof) {
        return Ok(Step::Failed);
    }
    let signature = keys.server_signature(auth_message.as_bytes());
    Ok(Step::Proved(
        format!("v={}", encode(&signature)).into_bytes(),
    ))
}
