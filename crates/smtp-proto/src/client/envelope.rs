use std::io::Write;

use mail_types::{EmailAddress, ReversePath};

use super::Extensions;
use crate::server::{BodyType, DsnReturn, Notify};

/// What MAIL and RCPT have to say about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who gets reports.
    pub reverse_path: ReversePath,
    /// At least one.
    pub recipients: Vec<Recipient>,
    /// The content's octets, as they will be handed in.
    pub size: u64,
    /// What the content is like (RFC 6152 §2, RFC 3030 §3).
    pub body: BodyType,
    /// The message needs SMTPUTF8 (RFC 6531 §3.4): an address or its header is not ASCII.
    pub smtputf8: bool,
    /// ENVID (RFC 3461 §4.4), decoded.
    pub envelope_id: Option<String>,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: Option<DsnReturn>,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub address: EmailAddress,
    /// ORCPT (RFC 3461 §4.2) as it came: `addr-type ";" xtext`.
    pub original: Option<String>,
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<Notify>,
}

impl Envelope {
    /// True if only a server with SMTPUTF8 can take it.
    pub(super) fn needs_smtputf8(&self) -> bool {
        let sender = self.reverse_path.address();
        self.smtputf8
            || sender.is_some_and(|address| !address.is_ascii())
            || self.recipients.iter().any(|r| !r.address.is_ascii())
    }

    /// `"MAIL FROM:" Reverse-path [SP Mail-parameters]` (RFC 5321 §4.1.1.2).
    ///
    /// A message of 8-bit lines goes to a server without 8BITMIME as it is, only without BODY:
    /// nearly every such server is transparent, and recoding would break signatures.
    pub(super) fn write_mail(&self, offered: &Extensions, out: &mut Vec<u8>) {
        push(out, format_args!("MAIL FROM:{}", self.reverse_path));
        if offered.size.is_some() {
            push(out, format_args!(" SIZE={}", self.size));
        }
        let utf8 = self.needs_smtputf8() && offered.smtputf8;
        match self.body {
            BodyType::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
            BodyType::EightBitMime if offered.eight_bit_mime => {
                out.extend_from_slice(b" BODY=8BITMIME");
            }
            // RFC 6531 §3.4: a header in UTF-8 is 8-bit content too.
            BodyType::SevenBit if utf8 && offered.eight_bit_mime => {
                out.extend_from_slice(b" BODY=8BITMIME");
            }
            BodyType::EightBitMime | BodyType::SevenBit => {}
        }
        if utf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if offered.dsn {
            match self.dsn_return {
                Some(DsnReturn::Full) => out.extend_from_slice(b" RET=FULL"),
                Some(DsnReturn::Headers) => out.extend_from_slice(b" RET=HDRS"),
                None => {}
            }
            if let Some(id) = self.envelope_id.as_deref().filter(|id| !id.is_empty()) {
                out.extend_from_slice(b" ENVID=");
                push_xtext(out, id);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Recipient {
    /// `"RCPT TO:" Forward-path [SP Rcpt-parameters]` (RFC 5321 §4.1.1.3).
    pub(super) fn write_rcpt(&self, offered: &Extensions, out: &mut Vec<u8>) {
        push(out, format_args!("RCPT TO:<{}>", self.address));
        if offered.dsn {
            match self.notify {
                Some(Notify::Never) => out.extend_from_slice(b" NOTIFY=NEVER"),
                Some(Notify::On {
                    success,
                    failure,
                    delay,
                }) => push_notify(out, [success, failure, delay]),
                None => {}
            }
            let original = self.original.as_deref();
            if let Some(original) = original.filter(|o| is_parameter(o, offered.smtputf8)) {
                push(out, format_args!(" ORCPT={original}"));
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn push_notify(out: &mut Vec<u8>, wanted: [bool; 3]) {
    let mut separator = " NOTIFY=";
    for (name, wanted) in ["SUCCESS", "FAILURE", "DELAY"].iter().zip(wanted) {
        if wanted {
            push(out, format_args!("{separator}{name}"));
            separator = ",";
        }
    }
}

/// `esmtp-value` (RFC 5321 §4.1.2) but for "=", which ORCPT's xtext escapes anyway: what came in
/// must not bring a line end or a parameter of its own.
fn is_parameter(value: &str, utf8: bool) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_graphic() || (utf8 && !c.is_ascii() && !c.is_control()))
}

/// `xtext` (RFC 3461 §4).
fn push_xtext(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'+' && byte != b'=' {
            out.push(byte);
        } else {
            push(out, format_args!("+{byte:02X}"));
        }
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            reverse_path: "<ana@aula.test>".parse().unwrap(),
            recipients: vec![Recipient {
                address: "\"lo is\"@aulabuntu.test".parse().unwrap(),
                original: Some("rfc822;a+2Bb@x.test".into()),
                notify: Some(Notify::On {
                    success: true,
                    failure: false,
                    delay: true,
                }),
            }],
            size: 12,
            body: BodyType::EightBitMime,
            smtputf8: false,
            envelope_id: Some("a b+=é".into()),
            dsn_return: Some(DsnReturn::Headers),
        }
    }

    fn mail(envelope: &Envelope, offered: &Extensions) -> String {
        let mut out = Vec::new();
        envelope.write_mail(offered, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn rcpt(envelope: &Envelope, offered: &Extensions) -> String {
        let mut out = Vec::new();
        envelope.recipients[0].write_rcpt(offered, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parameters_only_where_offered() {
        let plain = Extensions::default();
        assert_eq!(mail(&envelope(), &plain), "MAIL FROM:<ana@aula.test>\r\n");
        assert_eq!(
            rcpt(&envelope(), &plain),
            "RCPT TO:<\"lo is\"@aulabuntu.test>\r\n"
        );
        let rich = Extensions {
            eight_bit_mime: true,
            dsn: true,
            size: Some(None),
            smtputf8: true,
            ..Extensions::default()
        };
        assert_eq!(
            mail(&envelope(), &rich),
            "MAIL FROM:<ana@aula.test> SIZE=12 BODY=8BITMIME RET=HDRS ENVID=a+20b+2B+3D+C3+A9\r\n"
        );
        assert_eq!(
            rcpt(&envelope(), &rich),
            "RCPT TO:<\"lo is\"@aulabuntu.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@x.test\r\n"
        );
    }

    #[test]
    fn utf8_is_announced() {
        let rich = Extensions {
            eight_bit_mime: true,
            smtputf8: true,
            ..Extensions::default()
        };
        let utf8 = Envelope {
            reverse_path: "<josé@aula.test>".parse().unwrap(),
            body: BodyType::SevenBit,
            ..envelope()
        };
        assert_eq!(
            mail(&utf8, &rich),
            "MAIL FROM:<josé@aula.test> BODY=8BITMIME SMTPUTF8\r\n"
        );
    }

    #[test]
    fn nothing_can_be_smuggled_in_a_parameter() {
        let rich = Extensions {
            dsn: true,
            ..Extensions::default()
        };
        let mut bad = envelope();
        for original in ["rfc822;a b", "rfc822;a\r\nDATA", "", "utf-8;é"] {
            bad.recipients[0].original = Some(original.to_owned());
            bad.recipients[0].notify = None;
            assert_eq!(rcpt(&bad, &rich), "RCPT TO:<\"lo is\"@aulabuntu.test>\r\n");
        }
    }
}
