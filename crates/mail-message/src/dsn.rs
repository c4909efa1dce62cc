//! Delivery status notifications (RFC 3464 in a multipart/report of RFC 6522; RFC 6533 for
//! addresses beyond ASCII).

use mail_types::{Action, Domain, EmailAddress, Outcome};

use crate::date::MailDate;
use crate::header::{HeaderFields, header_len};

mod text;

/// A recipient that the report is about.
#[derive(Debug, Clone)]
pub struct DsnRecipient<'a> {
    /// ORCPT as the sender gave it (RFC 3461 §4.2), `type;xtext`.
    pub original: Option<&'a str>,
    /// Whom the message was for in the end.
    pub address: &'a EmailAddress,
    /// What became of it.
    pub outcome: &'a Outcome,
    /// When it was last tried.
    pub last_attempt: Option<MailDate>,
    /// When the queue gives up, for delays.
    pub will_retry_until: Option<MailDate>,
}

/// How much of the message goes back (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnedContent {
    /// All of it, up to so many octets; a longer one goes back as its header.
    Full {
        /// In octets.
        limit: usize,
    },
    /// Its header.
    Headers,
}

/// All that a report says.
#[derive(Debug, Clone)]
pub struct Dsn<'a> {
    /// Whom it goes to: the message's reverse-path.
    pub to: &'a EmailAddress,
    /// The MTA that reports.
    pub reporting_mta: &'a Domain,
    /// ENVID as the sender gave it, decoded (RFC 3461 §4.4).
    pub envelope_id: Option<&'a str>,
    /// When the message came in.
    pub arrived: MailDate,
    /// When the report is written.
    pub now: MailDate,
    /// The left side of its message id and its boundary, never used before; letters and digits.
    pub unique: &'a str,
    /// At least one.
    pub recipients: &'a [DsnRecipient<'a>],
    /// How much of the message goes back.
    pub content: ReturnedContent,
}

/// Longer headers are cut at the end of a line.
const MAX_RETURNED_HEADER: usize = 64 * 1024;
/// The longest diagnostic that is repeated, in octets.
const MAX_DIAGNOSTIC: usize = 2_000;

impl Dsn<'_> {
    /// The report, with CRLF line ends, to go out from the null reverse-path. `message` is the one
    /// reported about, or as much of it as there is.
    pub fn render(&self, message: &[u8]) -> Vec<u8> {
        let header = message.get(..header_len(message)).unwrap_or(message);
        let full = match self.content {
            ReturnedContent::Full { limit } => message.len() <= limit,
            ReturnedContent::Headers => false,
        };
        let returned = if full { message } else { cut_header(header) };
        let utf8 = self.needs_utf8(returned);
        let boundary = format!("=_correo-{}", self.unique);
        let mut out = Vec::with_capacity(returned.len() + 4096);
        let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
        push(&self.header(header, &boundary));
        push(&format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n{}\r\n",
            text::for_people(self)
        ));
        let status_type = if utf8 {
            "global-delivery-status"
        } else {
            "delivery-status"
        };
        push(&format!(
            "--{boundary}\r\nContent-Type: message/{status_type}\r\n\r\n"
        ));
        push(&self.per_message());
        for recipient in self.recipients {
            push(&per_recipient(recipient));
        }
        let returned_type = match (full, utf8) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        push(&format!(
            "\r\n--{boundary}\r\nContent-Type: {returned_type}\r\n"
        ));
        if !returned.is_ascii() {
            push("Content-Transfer-Encoding: 8bit\r\n");
        }
        push("\r\n");
        out.extend_from_slice(returned);
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    /// The strongest action of all recipients: it gives the report its subject.
    fn action(&self) -> Action {
        let any = |action| self.recipients.iter().any(|r| r.outcome.action == action);
        if any(Action::Failed) {
            Action::Failed
        } else if any(Action::Delayed) {
            Action::Delayed
        } else {
            Action::Delivered
        }
    }

    fn needs_utf8(&self, returned: &[u8]) -> bool {
        let header = returned.get(..header_len(returned)).unwrap_or(returned);
        let addresses = self
            .recipients
            .iter()
            .any(|r| !r.address.is_ascii() || !r.original.unwrap_or_default().is_ascii());
        addresses || !header.is_ascii()
    }

    fn header(&self, original: &[u8], boundary: &str) -> String {
        let subject = match self.action() {
            Action::Failed => "Undelivered mail returned to sender",
            Action::Delayed => "Delayed mail, still being tried",
            Action::Delivered | Action::Expanded | Action::Relayed => "Delivery report",
        };
        let mta = self.reporting_mta;
        let mut header = format!(
            "Date: {}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{mta}>\r\nTo: <{}>\r\n\
             Subject: {subject}\r\nMessage-ID: <{}@{mta}>\r\n",
            self.now, self.to, self.unique,
        );
        if let Some(id) = message_id(original) {
            header.push_str(&format!("In-Reply-To: <{id}>\r\nReferences: <{id}>\r\n"));
        }
        header.push_str(&format!(
            "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n\r\n\
             This is a delivery status notification in MIME format.\r\n\r\n"
        ));
        header
    }

    /// RFC 3464 §2.2.
    fn per_message(&self) -> String {
        let mut fields = format!("Reporting-MTA: dns; {}\r\n", self.reporting_mta);
        if let Some(id) = self.envelope_id {
            fields.push_str(&format!("Original-Envelope-Id: {}\r\n", one_line(id)));
        }
        fields.push_str(&format!("Arrival-Date: {}\r\n", self.arrived));
        fields
    }
}

/// RFC 3464 §2.3.
fn per_recipient(recipient: &DsnRecipient<'_>) -> String {
    let outcome = recipient.outcome;
    let mut fields = String::from("\r\n");
    if let Some(original) = recipient.original {
        let (kind, address) = original.split_once(';').unwrap_or(("rfc822", original));
        let (kind, address) = (one_line(kind), one_line(&decode_xtext(address)));
        fields.push_str(&format!("Original-Recipient: {kind}; {address}\r\n"));
    }
    let kind = if recipient.address.is_ascii() {
        "rfc822"
    } else {
        "utf-8"
    };
    let action = match outcome.action {
        Action::Delayed => "delayed",
        Action::Delivered => "delivered",
        Action::Expanded => "expanded",
        Action::Failed => "failed",
        Action::Relayed => "relayed",
    };
    fields.push_str(&format!(
        "Final-Recipient: {kind}; {}\r\nAction: {action}\r\nStatus: {}\r\n",
        recipient.address, outcome.status,
    ));
    if let Some(mta) = &outcome.remote_mta {
        fields.push_str(&format!("Remote-MTA: dns; {mta}\r\n"));
    }
    if !outcome.diagnostic.is_empty() {
        // Only a peer's reply is of type smtp; our own words are not (RFC 3464 §2.3.6).
        let kind = if outcome.remote_mta.is_some() {
            "smtp"
        } else {
            "x-correo"
        };
        fields.push_str(&fold_words(&format!(
            "Diagnostic-Code: {kind}; {}",
            one_line(&outcome.diagnostic)
        )));
    }
    if let Some(at) = recipient.last_attempt {
        fields.push_str(&format!("Last-Attempt-Date: {at}\r\n"));
    }
    if let Some(until) = recipient
        .will_retry_until
        .filter(|_| outcome.action == Action::Delayed)
    {
        fields.push_str(&format!("Will-Retry-Until: {until}\r\n"));
    }
    fields
}

/// What a peer or sender gave, as one line of bounded length.
fn one_line(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        if out.len() + c.len_utf8() > MAX_DIAGNOSTIC {
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// Folds a field at its spaces so that lines stay near 78 characters (RFC 5322 §2.1.1).
fn fold_words(field: &str) -> String {
    let mut out = String::with_capacity(field.len() + 16);
    let mut width = 0;
    for word in field.split(' ').filter(|word| !word.is_empty()) {
        if width > 0 && width + word.len() >= 77 {
            out.push_str("\r\n\t");
            width = 8;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
    }
    out.push_str("\r\n");
    out
}

/// `xtext` (RFC 3461 §4): `+` and two upper-case hexadecimal digits stand for an octet.
fn decode_xtext(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(octet) if *byte == b'+' => {
                out.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn message_id(header: &[u8]) -> Option<String> {
    let field = HeaderFields::new(header).find(|field| field.is("message-id"))?;
    let value = field.unfolded();
    let id = value.strip_prefix(b"<")?.strip_suffix(b">")?;
    let visible = id
        .iter()
        .all(|byte| (b'!'..=b'~').contains(byte) && !b"<>".contains(byte));
    (visible && !id.is_empty() && id.len() < 900).then(|| String::from_utf8_lossy(id).into_owned())
}

fn cut_header(header: &[u8]) -> &[u8] {
    let Some(cut) = header
        .get(..MAX_RETURNED_HEADER)
        .filter(|cut| cut.len() < header.len())
    else {
        return header;
    };
    let end = memchr::memrchr(b'\n', cut).map_or(0, |at| at + 1);
    cut.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::EnhancedCode;

    const MESSAGE: &[u8] = b"Message-ID: <1@aula.test>\r\nSubject: s\r\n\r\nbody\r\n";

    fn render(
        address: &str,
        outcome: &Outcome,
        content: ReturnedContent,
        message: &[u8],
    ) -> String {
        let address = address.parse().unwrap();
        let recipients = [DsnRecipient {
            original: Some("rfc822;Lois+2BLane@aula.test"),
            address: &address,
            outcome,
            last_attempt: Some(MailDate::utc(60)),
            will_retry_until: Some(MailDate::utc(600)),
        }];
        let dsn = Dsn {
            to: &"ana@aula.test".parse().unwrap(),
            reporting_mta: &"mx.aula.test".parse().unwrap(),
            envelope_id: Some("QQ\r\n314"),
            arrived: MailDate::utc(0),
            now: MailDate::utc(120),
            unique: "0123",
            recipients: &recipients,
            content,
        };
        String::from_utf8(dsn.render(message)).unwrap()
    }

    fn failure() -> Outcome {
        Outcome {
            action: Action::Failed,
            status: EnhancedCode::NULL_MX,
            diagnostic: format!("550 5.1.10 no\r\nmail {}", "here ".repeat(40)),
            remote_mta: Some("mx.example.org".parse().unwrap()),
        }
    }

    #[test]
    fn a_failure_is_a_report_of_three_parts() {
        let full = ReturnedContent::Full { limit: 1000 };
        let report = render("lois@example.org", &failure(), full, MESSAGE);
        let parsed = mailparse::parse_mail(report.as_bytes()).unwrap();
        assert_eq!(parsed.ctype.mimetype, "multipart/report");
        let types: Vec<_> = parsed
            .subparts
            .iter()
            .map(|p| p.ctype.mimetype.as_str())
            .collect();
        assert_eq!(
            types,
            ["text/plain", "message/delivery-status", "message/rfc822"]
        );
        assert_eq!(parsed.subparts[2].get_body().unwrap().as_bytes(), MESSAGE);
        let status = parsed.subparts[1].get_body().unwrap();
        for field in [
            "Reporting-MTA: dns; mx.aula.test\r\nOriginal-Envelope-Id: QQ  314\r\n",
            "Original-Recipient: rfc822; Lois+Lane@aula.test\r\nFinal-Recipient: rfc822; lois@example.org\r\n\
             Action: failed\r\nStatus: 5.1.10\r\nRemote-MTA: dns; mx.example.org\r\nDiagnostic-Code: smtp; 550 5.1.10 no mail",
            "Last-Attempt-Date: Thu, 1 Jan 1970 00:01:00 +0000\r\n",
        ] {
            assert!(status.contains(field), "{field} in {status}");
        }
        assert!(!status.contains("Will-Retry-Until"));
        assert!(report.contains("In-Reply-To: <1@aula.test>\r\n"));
        assert!(report.lines().all(|line| line.len() < 120));
        assert_eq!(report.matches('\n').count(), report.matches("\r\n").count());
    }

    #[test]
    fn delays_and_headers() {
        let outcome = Outcome::local(EnhancedCode::NO_ANSWER, "no answer");
        let report = render(
            "lois@example.org",
            &outcome,
            ReturnedContent::Headers,
            MESSAGE,
        );
        assert!(report.contains(
            "Action: delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: x-correo; no answer\r\n"
        ));
        assert!(report.contains("Will-Retry-Until: Thu, 1 Jan 1970 00:10:00 +0000\r\n"));
        assert!(report.contains(
            "text/rfc822-headers\r\n\r\nMessage-ID: <1@aula.test>\r\nSubject: s\r\n\r\n"
        ));
        assert!(!report.contains("body\r\n--"));
        // A message over the limit goes back as its header.
        let report = render(
            "l@x.org",
            &failure(),
            ReturnedContent::Full { limit: 10 },
            MESSAGE,
        );
        assert!(report.contains("text/rfc822-headers"));
    }

    // RFC 6533 §3 and §4.
    #[test]
    fn addresses_beyond_ascii() {
        let full = ReturnedContent::Full { limit: 1000 };
        let report = render("jos\u{e9}@example.org", &failure(), full, MESSAGE);
        assert!(report.contains("Content-Type: message/global-delivery-status\r\n"));
        assert!(report.contains("Final-Recipient: utf-8; jos\u{e9}@example.org\r\n"));
        assert!(report.contains("Content-Type: message/global\r\n"));
    }

    #[test]
    fn long_headers_are_cut_at_a_line() {
        let header = "X: y\r\n".repeat(20_000);
        let cut = cut_header(header.as_bytes());
        assert!(cut.len() <= MAX_RETURNED_HEADER && cut.ends_with(b"\n"));
    }
}
