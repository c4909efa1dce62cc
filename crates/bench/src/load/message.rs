use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Of a hundred messages one has it.
pub(crate) const RARE_WORD: &str = "quokka";

const WORDS: [&str; 32] = [
    "report", "meeting", "the", "of", "invoice", "please", "budget", "and", "quarter", "draft",
    "to", "server", "release", "review", "a", "team", "monday", "figures", "we", "contract", "in",
    "summary", "with", "customer", "is", "travel", "plan", "that", "update", "for", "project",
    "question",
];

/// Numbers that look random and are the same in every run (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 16) % limit).unwrap_or(0)
    }
}

/// A message of about `size` octets, with a header as clients write it: of ten, seven are plain
/// text, two have HTML as well, and one an attachment. No line begins with a dot.
pub(crate) fn message(number: u64, size: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(number + 1);
    let mut text = header(number, &mut numbers);
    match number % 10 {
        0 => mixed(&mut text, number, size, &mut numbers),
        1 | 2 => alternative(&mut text, number, size, &mut numbers),
        _ => {
            text.push_str("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
            words(&mut text, number, size, &mut numbers);
        }
    }
    text.into_bytes()
}

fn header(number: u64, numbers: &mut Numbers) -> String {
    let mut text = String::with_capacity(1024);
    let (day, hour, minute) = (1 + number % 28, number % 24, number % 60);
    let mut word = || {
        WORDS
            .get(numbers.below(WORDS.len()))
            .copied()
            .unwrap_or("x")
    };
    let subject = [word(), word(), word(), word(), word()].join(" ");
    // Writing into a string does not fail.
    let _ = write!(
        text,
        "Received: from client{}.example.net (client{}.example.net [192.0.2.{}])\r\n\
         \tby relay.example.net with ESMTPS id {number:012x}\r\n\
         \tfor <user@example.org>; Mon, {day} Jun 2026 {hour:02}:{minute:02}:07 +0200\r\n\
         From: \"Sender {}\" <sender{}@example.net>\r\nTo: \"A Reader\" <reader@example.org>\r\n\
         Cc: list{}@example.com\r\nSubject: {subject} {number}\r\n\
         Date: Mon, {day} Jun 2026 {hour:02}:{minute:02}:00 +0200\r\n\
         Message-ID: <{number:016x}.bench@example.net>\r\n\
         In-Reply-To: <{:016x}.bench@example.net>\r\nUser-Agent: bench/1.0\r\nMIME-Version: 1.0\r\n",
        number % 97,
        number % 97,
        number % 250,
        number % 53,
        number % 53,
        number % 7,
        number / 3,
    );
    text
}

fn mixed(text: &mut String, number: u64, size: usize, numbers: &mut Numbers) {
    text.push_str("Content-Type: multipart/mixed; boundary=\"outer-b\"\r\n\r\n--outer-b\r\n");
    text.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    let half = text.len() + size.saturating_sub(text.len()) / 2;
    words(text, number, half, numbers);
    text.push_str(
        "--outer-b\r\nContent-Type: application/pdf; name=\"report.pdf\"\r\n\
         Content-Disposition: attachment; filename=\"report.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
    );
    while text.len() + 100 < size {
        let mut octets = [0; 57];
        octets.fill_with(|| numbers.next().to_le_bytes()[0]);
        STANDARD.encode_string(octets, text);
        text.push_str("\r\n");
    }
    text.push_str("--outer-b--\r\n");
}

fn alternative(text: &mut String, number: u64, size: usize, numbers: &mut Numbers) {
    text.push_str("Content-Type: multipart/alternative; boundary=\"inner-b\"\r\n\r\n--inner-b\r\n");
    text.push_str("Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    let half = text.len() + size.saturating_sub(text.len()) / 2;
    words(text, number, half, numbers);
    text.push_str("--inner-b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>\r\n");
    words(text, number, size.saturating_sub(60), numbers);
    text.push_str("</p></body></html>\r\n--inner-b--\r\n");
}

/// Lines of words until the text has its size.
fn words(text: &mut String, number: u64, size: usize, numbers: &mut Numbers) {
    if number % 100 == 50 {
        text.push_str("here is a ");
        text.push_str(RARE_WORD);
        text.push_str("\r\n");
    }
    while text.len() + 80 < size {
        let line = text.len() + 66;
        while text.len() < line {
            text.push_str(
                WORDS
                    .get(numbers.below(WORDS.len()))
                    .copied()
                    .unwrap_or("x"),
            );
            text.push(' ');
        }
        text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_size_and_no_dots_to_stuff() {
        for number in 0..200 {
            for size in [4096, 65536] {
                let message = message(number, size);
                assert!(message.len().abs_diff(size) < 160, "{}", message.len());
                let text = String::from_utf8(message).unwrap();
                assert!(text.ends_with("\r\n") && !text.contains("\n."));
                assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
                assert_eq!(text.contains(RARE_WORD), number % 100 == 50);
            }
        }
    }
}
