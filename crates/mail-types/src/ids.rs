use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 without I, L, O and U: safe to read out, to type and in a file name.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A text that is no id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct IdError;

fn encode(value: u128, digits: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for place in (0..digits).rev() {
        let digit = (value >> (place * 5)) & 31;
        let byte = DIGITS.get(digit as usize).copied().unwrap_or(b'0');
        fmt::Write::write_char(f, char::from(byte))?;
    }
    Ok(())
}

fn decode(text: &str, digits: usize, bits: u32) -> Result<u128, IdError> {
    if text.len() != digits {
        return Err(IdError);
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let upper = byte.to_ascii_uppercase();
        let digit = DIGITS.iter().position(|d| *d == upper).ok_or(IdError)?;
        if value.leading_zeros() < 5 {
            return Err(IdError);
        }
        value = (value << 5) | digit as u128;
    }
    if bits < 128 && value >> bits != 0 {
        Err(IdError)
    } else {
        Ok(value)
    }
}

macro_rules! id64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// The number behind the id.
            pub fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0.into(), 13, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text, 13, 64).and_then(|v| u64::try_from(v).map_err(|_| IdError)).map(Self)
            }
        }
    };
}

id64! {
    /// One message in the queue, for ever: no id is given out twice. Printed as 13 characters.
    QueueId
}
id64! {
    /// One account of the directory; survives a change of address. Printed as 13 characters, and
    /// the name of the account's folder in the mail store.
    AccountId
}
id64! {
    /// One mailbox, for ever, across renames (RFC 8474 §4 `MAILBOXID`). Printed as 13 characters.
    MailboxId
}

/// One message content, the same in each mailbox it is copied to (RFC 8474 §5.1 `EMAILID`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailId(u128);

impl EmailId {
    /// The bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl From<[u8; 16]> for EmailId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for EmailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(self.0, 26, f)
    }
}

impl fmt::Debug for EmailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EmailId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode(text, 26, 128).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rejects_what_no_id_prints() {
        for bad in [
            "",
            "0",
            "ZZZZZZZZZZZZZ",
            "000000000000I",
            "00000000000000",
            "../../etc/pas",
        ] {
            assert_eq!(bad.parse::<QueueId>(), Err(IdError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip(value: u64, wide: [u8; 16]) {
            let id = QueueId::from(value);
            prop_assert_eq!(id.to_string().parse::<QueueId>().unwrap(), id);
            prop_assert_eq!(id.to_string().to_lowercase().parse::<QueueId>().unwrap(), id);
            let id = EmailId::from(wide);
            prop_assert_eq!(id.to_string().parse::<EmailId>().unwrap(), id);
        }
    }
}
