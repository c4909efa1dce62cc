//! Mailbox names as file names: modified UTF-7 (RFC 3501 §5.1.3), one level at a time, with `\2e` for
//! a dot, as Dovecot's listescape plugin writes it.

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Base 64 of RFC 3501: `,` instead of `/`, without padding.
fn engine() -> Option<GeneralPurpose> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = Alphabet::new(digits).ok()?;
    Some(GeneralPurpose::new(&alphabet, config))
}

/// Text in modified UTF-7.
pub(crate) fn to_utf7(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, out: &mut String| {
        if let (false, Some(engine)) = (wide.is_empty(), engine()) {
            out.push('&');
            engine.encode_string(&*wide, out);
            out.push('-');
        }
        wide.clear();
    };
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut wide, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                wide.extend(unit.to_be_bytes());
            }
        }
    }
    flush(&mut wide, &mut out);
    out
}

/// The text, or `None` if it is none. Eight-bit names are taken as they are: some servers write
/// UTF-8.
pub(crate) fn from_utf7(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, coded)) = rest.split_once('&') {
        out.push_str(plain);
        let (coded, behind) = coded.split_once('-')?;
        rest = behind;
        if coded.is_empty() {
            out.push('&');
            continue;
        }
        let octets = engine()?.decode(coded).ok()?;
        let pairs = octets.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        let units = pairs.map(|pair| {
            pair.iter()
                .fold(0_u16, |all, one| (all << 8) | u16::from(*one))
        });
        out.push_str(&String::from_utf16(&units.collect::<Vec<_>>()).ok()?);
    }
    out.push_str(rest);
    Some(out)
}

/// One level as a part of a file name.
pub(crate) fn level_to_file(level: &str) -> String {
    to_utf7(level).replace('\\', "\\5c").replace('.', "\\2e")
}

/// The other way; `None` if it is no name.
pub(crate) fn level_from_file(text: &str) -> Option<String> {
    let mut plain = text.replace("\\2e", ".").replace("\\2E", ".");
    plain = plain.replace("\\2f", "_").replace("\\5c", "\\");
    from_utf7(&plain)
}

/// A mailbox as its Maildir++ folder, without the first dot.
pub(crate) fn to_maildir(name: &str) -> String {
    let levels: Vec<String> = name.split('/').map(level_to_file).collect();
    levels.join(".")
}

/// The other way.
pub(crate) fn from_maildir(text: &str) -> Option<String> {
    let levels: Option<Vec<String>> = text.split('.').map(level_from_file).collect();
    levels.map(|levels| levels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others() {
        // RFC 3501 §5.1.3
        assert_eq!(
            to_utf7("~peter/mail/台北/日本語"),
            "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
        );
        assert_eq!(to_utf7("Entwürfe & mehr"), "Entw&APw-rfe &- mehr");
        for name in ["INBOX", "Ärger/x.y/\\z", "&", "a&b", "😀/台北", "Work/Ünï"] {
            assert_eq!(from_maildir(&to_maildir(name)).unwrap(), name);
        }
        assert_eq!(to_maildir("a.b/c"), "a\\2eb.c");
        assert_eq!(from_utf7("&"), None);
        assert_eq!(from_utf7("&A-"), None);
        assert_eq!(from_utf7("Entwürfe").unwrap(), "Entwürfe");
    }
}
