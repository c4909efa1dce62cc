//! Delivery status notifications about whatever a peer said and sent.

use mail_message::dsn::{Dsn, DsnRecipient, ReturnedContent};
use mail_message::{MailDate, PartIndex, Section};
use mail_types::{Action, EmailAddress, EnhancedCode, Outcome};

use crate::control;

/// Control: options. Then lines: ENVID, ORCPT, the recipient, the diagnostic; the rest is the
/// message.
pub fn run(data: &[u8]) {
    let ([options], rest) = control(data);
    let mut lines = rest.splitn(5, |byte| *byte == b'|');
    let mut text = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (envelope_id, original, address, diagnostic) = (text(), text(), text(), text());
    let message = lines.next().unwrap_or_default();
    let address: EmailAddress = address
        .parse()
        .unwrap_or_else(|_| "lois@aula.test".parse().unwrap());
    let (action, status) = match options & 3 {
        0 | 1 => (Action::Failed, EnhancedCode::NULL_MX),
        2 => (Action::Delayed, EnhancedCode::NO_ANSWER),
        _ => (Action::Relayed, "2.0.0".parse().unwrap()),
    };
    let outcome = Outcome {
        action,
        status,
        diagnostic,
        remote_mta: (options & 4 == 0).then(|| "mx.example.org".parse().unwrap()),
    };
    let recipient = DsnRecipient {
        original: Some(&original)
            .filter(|_| options & 8 == 0)
            .map(String::as_str),
        address: &address,
        outcome: &outcome,
        last_attempt: Some(MailDate::utc(60)),
        will_retry_until: Some(MailDate::utc(600)),
    };
    let recipients = [recipient.clone(), recipient];
    let dsn = Dsn {
        to: &address,
        reporting_mta: &"mx.aula.test".parse().unwrap(),
        envelope_id: (options & 16 == 0).then_some(&envelope_id),
        arrived: MailDate::utc(0),
        now: MailDate::utc(120),
        unique: "XrH5cVbQ0pLm",
        recipients: &recipients,
        content: match options & 32 {
            0 => ReturnedContent::Full { limit: 2000 },
            _ => ReturnedContent::Headers,
        },
    };
    // The boundary was never used before.
    if !message
        .windows(dsn.unique.len())
        .any(|w| w == dsn.unique.as_bytes())
    {
        check(&dsn.render(message));
    }
}

fn check(report: &[u8]) {
    let index = PartIndex::of_message(report);
    let part = |number| {
        let range = index.locate(&[number], Section::Whole)?;
        Some(&report[range.start as usize..range.end as usize])
    };
    let (Some(words), Some(status), Some(_), None) = (part(1), part(2), part(3), part(4)) else {
        panic!("not three parts: {}", report.escape_ascii());
    };
    let header = index.locate(&[], Section::Header).expect("a header");
    for ours in [&report[..header.end as usize], words, status] {
        let text = std::str::from_utf8(ours).expect("our own words are UTF-8");
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
    }
    // RFC 3464 §2.1: groups of fields, parted by empty lines: the message's and two recipients'.
    let status = std::str::from_utf8(status).expect("UTF-8");
    let groups: Vec<_> = status.trim_end().split("\r\n\r\n").collect();
    assert_eq!(groups.len(), 3, "{status:?}");
    for line in groups.iter().flat_map(|group| group.split("\r\n")) {
        let is_field = line
            .split_once(": ")
            .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        assert!(is_field || line.starts_with(['\t', ' ']), "{line:?}");
    }
}
