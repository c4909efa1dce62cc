use mail_types::Secret;
use zeroize::Zeroize;

/// A name or password that no account can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// Nothing at all, or nothing that is left.
    #[error("it is empty")]
    Empty,
    /// A character that SASLprep forbids, such as a control character.
    #[error("it holds a character that is not allowed (RFC 4013)")]
    Forbidden,
    /// Longer than 1,024 octets.
    #[error("it is longer than {MAX_LEN} octets")]
    TooLong,
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Utf8,
}

/// The longest name or password in octets: more only makes the check dearer.
const MAX_LEN: usize = 1024;

/// Brings a password into the form that is hashed and compared (SASLprep, RFC 4013), so that it is
/// the same from any keyboard.
pub fn prepare_password(password: &[u8]) -> Result<Secret<Vec<u8>>, PrepareError> {
    prepare(password).map(|text| Secret::new(text.into_bytes()))
}

/// Brings a user name into the form that is compared (SASLprep, RFC 4013).
pub fn prepare_username(name: &[u8]) -> Result<String, PrepareError> {
    prepare(name)
}

fn prepare(octets: &[u8]) -> Result<String, PrepareError> {
    if octets.len() > MAX_LEN {
        return Err(PrepareError::TooLong);
    }
    let text = str::from_utf8(octets).map_err(|_| PrepareError::Utf8)?;
    let mut prepared = stringprep::saslprep(text)
        .map_err(|_| PrepareError::Forbidden)?
        .into_owned();
    if prepared.is_empty() {
        prepared.zeroize();
        return Err(PrepareError::Empty);
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tests RFC 4013 §3.
    #[test]
    fn examples_of_the_rfc() {
        for (octets, prepared) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
        ] {
            assert_eq!(prepare_username(octets.as_bytes()).unwrap(), prepared);
        }
        assert_eq!(prepare_username(b"\x07"), Err(PrepareError::Forbidden));
        assert_eq!(prepare_username(b""), Err(PrepareError::Empty));
        assert_eq!(prepare_username(b"\xff"), Err(PrepareError::Utf8));
        assert_eq!(prepare_username(&[b'a'; 1025]), Err(PrepareError::TooLong));
    }
}
