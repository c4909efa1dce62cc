//! What a submitted message lacks, and the fields that supply it (RFC 6409 §8).

use mail_types::{Domain, EmailAddress};

use crate::date::MailDate;
use crate::header::HeaderFields;

/// The fields that every message must have (RFC 5322 §3.6) and `Message-ID`, as far as a message
/// lacks them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct MissingFields {
    /// No `Date`.
    pub date: bool,
    /// No `From`.
    pub from: bool,
    /// No `Message-ID`.
    pub message_id: bool,
    /// The message does not begin with a header field: an empty line has to go before its text.
    pub header: bool,
}

/// What the missing fields are made of.
#[derive(Debug, Clone, Copy)]
pub struct Supplement<'a> {
    /// The time of submission.
    pub now: MailDate,
    /// The submitter.
    pub from: Option<&'a EmailAddress>,
    /// This server's name: the right side of the message id.
    pub host: &'a Domain,
    /// The left side of the message id, never used before; characters of an atom.
    pub unique: &'a str,
}

impl MissingFields {
    /// Looks through a header; a message will do.
    pub fn of(header: &[u8]) -> Self {
        let begins = begins_with_header(header);
        // What stands behind the empty line that is put in front of a text is no field of it.
        let has = |name: &str| begins && HeaderFields::new(header).any(|field| field.is(name));
        Self {
            date: !has("date"),
            from: !has("from"),
            message_id: !has("message-id"),
            header: !begins,
        }
    }

    /// True if the message lacks nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The fields to put in front of the message.
    pub fn render(self, supplement: &Supplement<'_>) -> String {
        let mut fields = String::new();
        if self.date {
            fields.push_str(&format!("Date: {}\r\n", supplement.now));
        }
        if let Some(from) = supplement.from.filter(|_| self.from) {
            fields.push_str(&format!("From: <{from}>\r\n"));
        }
        if self.message_id {
            let (unique, host) = (supplement.unique, supplement.host);
            fields.push_str(&format!("Message-ID: <{unique}@{host}>\r\n"));
        }
        if self.header {
            fields.push_str("\r\n");
        }
        fields
    }
}

/// True for an empty message, an empty line or a field in the first line.
fn begins_with_header(message: &[u8]) -> bool {
    HeaderFields::new(message)
        .next()
        .is_none_or(|field| is_field_name(field.name()))
}

/// `field-name` of RFC 5322 §3.6.8.
fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supplied(message: &str) -> String {
        let supplement = Supplement {
            now: MailDate::utc(0),
            from: Some(&"root@aula.test".parse().unwrap()),
            host: &"mx.aula.test".parse().unwrap(),
            unique: "0123",
        };
        MissingFields::of(message.as_bytes()).render(&supplement)
    }

    #[test]
    fn only_what_is_missing() {
        let all = "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nFrom: <root@aula.test>\r\n\
                   Message-ID: <0123@mx.aula.test>\r\n";
        assert_eq!(supplied("SUBJECT: hi\r\n"), all);
        assert_eq!(
            supplied("hello,\r\nno header: here\r\n"),
            format!("{all}\r\n")
        );
        assert_eq!(supplied("hello,\r\nDate: it is\r\n"), format!("{all}\r\n"));
        assert_eq!(supplied("\r\nbody"), all);
        assert_eq!(supplied(""), all);
        assert_eq!(supplied("date: x\r\nFROM: y\r\nmessage-id: z\r\n\r\n"), "");
        // What is in the body does not count.
        assert_eq!(
            supplied("date: x\r\nFROM: y\r\n\r\nmessage-id: z\r\n"),
            "Message-ID: <0123@mx.aula.test>\r\n"
        );
    }
}
