use mail_types::Secret;

use super::{Identity, Login, Step};
use crate::SaslError;

/// RFC 4616: one message, `[authzid] NUL authcid NUL passwd`.
#[derive(Debug)]
pub(super) struct Plain;

impl Plain {
    #[expect(clippy::unused_self, reason = "taken, so that the state is used up")]
    pub(super) fn handle_response(self, message: &[u8]) -> Result<Step, SaslError> {
        let mut parts = message.split(|octet| *octet == 0);
        let (Some(authzid), Some(authcid), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SaslError::Syntax);
        };
        // Both are 1*SAFE (RFC 4616 §2).
        if authcid.is_empty() || password.is_empty() {
            return Err(SaslError::Syntax);
        }
        let text =
            |octets: &[u8]| String::from_utf8(octets.to_vec()).map_err(|_| SaslError::Syntax);
        let authorization = (!authzid.is_empty()).then(|| text(authzid)).transpose()?;
        let identity = Identity {
            authentication: text(authcid)?,
            authorization,
        };
        let password = Secret::new(password.to_vec());
        Ok(Step::CheckPassword(Login { identity, password }))
    }
}
