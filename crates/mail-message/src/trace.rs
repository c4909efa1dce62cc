//! Trace fields (RFC 5321 §4.4).

use std::net::IpAddr;

use mail_types::{Domain, EmailAddress, ReversePath};

use crate::date::MailDate;
use crate::header::HeaderFields;

/// How a message came in: the `with` clause (RFC 3848, RFC 6531 §4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Protocol {
    /// The client said EHLO.
    pub extended: bool,
    /// Over TLS.
    pub tls: bool,
    /// The client authenticated.
    pub authenticated: bool,
    /// The transaction used SMTPUTF8.
    pub utf8: bool,
}

impl Protocol {
    /// The registered name.
    pub fn keyword(self) -> &'static str {
        match (self.utf8, self.extended, self.tls, self.authenticated) {
            (true, _, false, false) => "UTF8SMTP",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, true, true) => "UTF8SMTPSA",
            (false, false, false, false) => "SMTP",
            (false, true, false, false) => "ESMTP",
            (false, _, true, false) => "ESMTPS",
            (false, _, false, true) => "ESMTPA",
            (false, _, true, true) => "ESMTPSA",
        }
    }
}

/// What a `Received` field says.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// The client's address; `None` for mail of our own.
    pub peer: Option<IpAddr>,
    /// The name that the client's address has in the DNS, if it was looked up and verified.
    pub peer_name: Option<&'a Domain>,
    /// What the client called itself, as sent.
    pub helo: &'a str,
    /// This server's name.
    pub by: &'a Domain,
    /// How it came in.
    pub protocol: Protocol,
    /// TLS version and cipher, for a comment.
    pub cipher: Option<&'a str>,
    /// The queue's or the session's id: what finds the message in the log.
    pub id: Option<&'a str>,
    /// Named if the message has a single recipient, so that no other one is told.
    pub recipient: Option<&'a EmailAddress>,
    /// When.
    pub at: MailDate,
}

/// The longest HELO name that a trace line repeats: a domain's limit.
const MAX_HELO: usize = Domain::MAX_LEN;

impl Received<'_> {
    /// The field with its folds and line end.
    pub fn render(&self) -> String {
        let mut field = String::from("Received: ");
        let helo = printable(self.helo);
        if let Some(peer) = self.peer {
            field.push_str("from ");
            field.push_str(if helo.is_empty() { "unknown" } else { &helo });
            field.push_str(" (");
            if let Some(name) = self.peer_name {
                field.push_str(&format!("{name} "));
            }
            field.push_str(&format!("{})\r\n\t", Domain::from(peer)));
        }
        field.push_str(&format!(
            "by {} (Correo) with {}",
            self.by,
            self.protocol.keyword()
        ));
        if let Some(cipher) = self.cipher {
            field.push_str(&format!("\r\n\t({cipher})"));
        }
        if let Some(id) = self.id {
            field.push_str(&format!(" id {id}"));
        }
        if let Some(recipient) = self.recipient {
            field.push_str(&format!("\r\n\tfor <{recipient}>"));
        }
        field.push_str(&format!(";\r\n\t{}\r\n", self.at));
        field
    }
}

/// The client's words must not break the field: what is no visible character, and what would
/// open or close a comment, becomes a question mark.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let bad = c.is_control() || c.is_whitespace() || "()\\\";<>,".contains(c);
        if out.len() + c.len_utf8() > MAX_HELO {
            break;
        }
        out.push(if bad { '?' } else { c });
    }
    out
}

/// `Return-Path`, which the server of final delivery puts in front (RFC 5321 §4.4).
pub fn return_path(path: &ReversePath) -> String {
    format!("Return-Path: {path}\r\n")
}

/// How many `Received` fields a header has: too many are a loop (RFC 5321 §6.3).
pub fn count_received(header: &[u8]) -> usize {
    HeaderFields::new(header)
        .filter(|field| field.is("received"))
        .count()
}

/// `Delivered-To`, by which a delivery agent knows its own mail again.
pub fn delivered_to(recipient: &EmailAddress) -> String {
    format!("Delivered-To: {recipient}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_fields() {
        let received = Received {
            peer: Some("192.0.2.1".parse().unwrap()),
            peer_name: None,
            helo: "a b\r\nX: y",
            by: &"mx.aula.test".parse().unwrap(),
            protocol: Protocol {
                extended: true,
                tls: true,
                authenticated: true,
                utf8: false,
            },
            cipher: Some("TLSv1.3 X"),
            id: Some("0000000000001"),
            recipient: Some(&"ana@aula.test".parse().unwrap()),
            at: MailDate::utc(0),
        };
        assert_eq!(
            received.render(),
            "Received: from a?b??X:?y ([192.0.2.1])\r\n\tby mx.aula.test (Correo) with ESMTPSA\r\n\t(TLSv1.3 X) id \
             0000000000001\r\n\tfor <ana@aula.test>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
        assert_eq!(
            count_received((received.render().repeat(3) + "\r\nReceived: x").as_bytes()),
            3
        );
    }

    #[test]
    fn return_paths() {
        assert_eq!(return_path(&ReversePath::Null), "Return-Path: <>\r\n");
    }
}
