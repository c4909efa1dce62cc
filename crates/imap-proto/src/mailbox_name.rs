use std::fmt;

use base64::Engine as _;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// A mailbox name: UTF-8 here, modified UTF-7 on the wire (RFC 3501 §5.1.3). `INBOX` in any case
/// is spelled so. `Display` prints the UTF-8 form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(String);

/// Octets that are no mailbox name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mailbox name in modified UTF-7 or UTF-8")]
pub struct MailboxNameError;

impl MailboxName {
    /// Takes the name as it comes from a client. UTF-8 is understood besides modified UTF-7, since
    /// clients send it.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MailboxNameError> {
        decode(bytes).map(Self::from_utf8)
    }

    /// Takes the UTF-8 form.
    pub fn from_utf8(name: String) -> Self {
        if name.eq_ignore_ascii_case("INBOX") {
            Self(String::from("INBOX"))
        } else {
            Self(name)
        }
    }

    /// The UTF-8 form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The UTF-8 form.
    pub fn into_string(self) -> String {
        self.0
    }

    /// True for INBOX.
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// BASE64 with "," for "/" and without padding.
fn engine() -> Option<GeneralPurpose> {
    let alphabet =
        Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").ok()?;
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    Some(GeneralPurpose::new(&alphabet, config))
}

/// Modified UTF-7 to UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, MailboxNameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| MailboxNameError)?;
    if text.chars().any(char::is_control) {
        return Err(MailboxNameError);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, shifted)) = rest.split_once('&') {
        out.push_str(plain);
        let (encoded, behind) = shifted.split_once('-').ok_or(MailboxNameError)?;
        if encoded.is_empty() {
            out.push('&');
        } else {
            decode_shifted(encoded, &mut out)?;
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn decode_shifted(encoded: &str, out: &mut String) -> Result<(), MailboxNameError> {
    let engine = engine().ok_or(MailboxNameError)?;
    let bytes = engine.decode(encoded).map_err(|_| MailboxNameError)?;
    if bytes.len() % 2 != 0 {
        return Err(MailboxNameError);
    }
    let units = bytes
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0_u16, |unit, b| unit << 8 | u16::from(*b)));
    for decoded in char::decode_utf16(units) {
        let decoded = decoded.map_err(|_| MailboxNameError)?;
        if decoded.is_control() {
            return Err(MailboxNameError);
        }
        out.push(decoded);
    }
    Ok(())
}

/// UTF-8 to modified UTF-7.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut units: Vec<u8> = Vec::new();
    for c in name.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            shift_out(&mut units, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut pair = [0; 2];
            for unit in c.encode_utf16(&mut pair) {
                units.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    shift_out(&mut units, &mut out);
    out
}

fn shift_out(units: &mut Vec<u8>, out: &mut String) {
    if units.is_empty() {
        return;
    }
    out.push('&');
    if let Some(engine) = engine() {
        engine.encode_string(&*units, out);
    }
    out.push('-');
    units.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The examples of RFC 3501 §5.1.3.
    #[test]
    fn examples() {
        let wire = "~peter/mail/&U,BTFw-/&ZeVnLIqe-";
        assert_eq!(decode(wire.as_bytes()).unwrap(), "~peter/mail/台北/日本語");
        assert_eq!(encode("~peter/mail/台北/日本語"), wire);
        assert_eq!(decode(b"a&-b").unwrap(), "a&b");
        assert_eq!(encode("a&b"), "a&-b");
        assert_eq!(encode("Entwürfe"), "Entw&APw-rfe");
        assert!(MailboxName::from_wire(b"iNbOx").unwrap().is_inbox());
        assert_eq!(decode("Entwürfe".as_bytes()).unwrap(), "Entwürfe");
    }

    #[test]
    fn not_names() {
        for bad in [
            &b"&"[..],
            b"a&b",
            b"&A-",
            b"&AAA-",
            b"a\0b",
            b"\xff",
            b"&2AA-",
        ] {
            assert_eq!(decode(bad), Err(MailboxNameError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(name in "[^\\p{C}]{0,20}") {
            prop_assert_eq!(decode(encode(&name).as_bytes()).unwrap(), name);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            if let Ok(name) = decode(&bytes) {
                prop_assert_eq!(decode(encode(&name).as_bytes()).unwrap(), name);
            }
        }
    }
}
