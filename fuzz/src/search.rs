//! SEARCH finds what a plain search of the decoded text finds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::Encoding;
use mail_message::search::{Needle, body_contains, header_contains, text_contains};

use crate::control;

const CHARSETS: [&str; 8] = [
    "utf-8",
    "iso-8859-1",
    "iso-2022-jp",
    "shift_jis",
    "utf-16le",
    "gb18030",
    "koi8-r",
    "utf-7",
];

/// Control: charset and encoding, how often the body is repeated, the needle's length. Then the
/// needle and the body; the whole is also taken for a message.
pub fn run(data: &[u8]) {
    let ([kind, repeat, needle_len], rest) = control(data);
    let (needle, body) = rest.split_at(usize::from(needle_len % 32).min(rest.len()));
    let text = String::from_utf8_lossy(needle);
    let needle = Needle::new(&text);
    // No panic on any message, and TEXT finds what BODY finds.
    assert!(!body_contains(body, &needle) || text_contains(body, &needle));
    header_contains(body, "subject", &needle);
    // Enough that it comes in several pieces.
    let times = match repeat % 16 {
        15 => 1 + (20_000 / (body.len() + 1)).min(2000),
        few => 1 + usize::from(few) / 4,
    };
    let content = body.repeat(times);
    let charset = CHARSETS[usize::from(kind % 8)];
    let (encoding, encoded) = match kind >> 3 & 3 {
        0 | 1 => ("8bit", content.clone()),
        2 => ("base64", base64_lines(&content)),
        _ => ("quoted-printable", quoted_printable(&content)),
    };
    let mut message = format!(
        "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    .into_bytes();
    message.extend(encoded);
    let charset = Encoding::for_label(charset.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    let decoded = charset.decode_without_bom_handling(&content).0;
    let expected = fold(&decoded).contains(&fold(&text));
    assert_eq!(
        body_contains(&message, &needle),
        expected,
        "{text:?} in {encoding}"
    );
}

fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn base64_lines(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in STANDARD.encode(content).as_bytes().chunks(76) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn quoted_printable(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut width = 0;
    for byte in content {
        if width > 70 {
            out.extend_from_slice(b"=\r\n");
            width = 0;
        }
        if byte.is_ascii_graphic() && *byte != b'=' {
            out.push(*byte);
            width += 1;
        } else {
            out.extend_from_slice(format!("={byte:02X}").as_bytes());
            width += 3;
        }
    }
    out
}
