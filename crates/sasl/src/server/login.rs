use mail_types::Secret;

use super::{Identity, Step};
use crate::SaslError;

/// What asks for the name; clients compare these texts or ignore them.
pub(super) const USERNAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

/// LOGIN: the name, then the password. An initial response is the name.
#[derive(Debug)]
pub(super) enum Login {
    /// The name comes next.
    Username,
    /// The password comes next.
    Password(String),
}

impl Login {
    pub(super) fn handle_response(self, message: &[u8]) -> Result<(Option<Self>, Step), SaslError> {
        if message.is_empty() || message.contains(&0) {
            return Err(SaslError::Syntax);
        }
        match self {
            Self::Username => {
                let name = String::from_utf8(message.to_vec()).map_err(|_| SaslError::Syntax)?;
                Ok((
                    Some(Self::Password(name)),
                    Step::Challenge(PASSWORD.to_vec()),
                ))
            }
            Self::Password(authentication) => {
                let identity = Identity {
                    authentication,
                    authorization: None,
                };
                let password = Secret::new(message.to_vec());
                Ok((
                    None,
                    Step::CheckPassword(super::Login { identity, password }),
                ))
            }
        }
    }
}
