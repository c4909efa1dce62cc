//! The report's first part: what happened, in words.

use mail_types::Action;

use super::{Dsn, one_line};

/// The text, with CRLF line ends.
pub(super) fn for_people(dsn: &Dsn<'_>) -> String {
    let mut text = format!("This is the mail system at {}.\r\n", dsn.reporting_mta);
    for (action, words) in [
        (
            Action::Failed,
            "Your message could not be delivered to the recipients below, and will not be tried \
             again. If the reason is a wrong address, correct it and send the message anew.",
        ),
        (
            Action::Delayed,
            "Your message could not be delivered yet to the recipients below. You need not send it \
             again: it will be tried further, and you are told if that fails.",
        ),
        (
            Action::Delivered,
            "Your message was delivered to these recipients:",
        ),
        (
            Action::Relayed,
            "Your message was handed to a mail server that may not report delivery to these \
             recipients:",
        ),
        (
            Action::Expanded,
            "Your message was passed on to the members of these addresses:",
        ),
    ] {
        let mut recipients = dsn
            .recipients
            .iter()
            .filter(|recipient| recipient.outcome.action == action)
            .peekable();
        if recipients.peek().is_none() {
            continue;
        }
        text.push_str("\r\n");
        text.push_str(&wrapped(words, ""));
        for recipient in recipients {
            text.push_str(&format!("\r\n  <{}>\r\n", recipient.address));
            let outcome = recipient.outcome;
            if matches!(action, Action::Failed | Action::Delayed) {
                let said = match &outcome.remote_mta {
                    Some(mta) => format!("{mta} said: {}", one_line(&outcome.diagnostic)),
                    None => one_line(&outcome.diagnostic),
                };
                text.push_str(&wrapped(&format!("{said} ({})", outcome.status), "    "));
            }
            if let Some(until) = recipient
                .will_retry_until
                .filter(|_| action == Action::Delayed)
            {
                text.push_str(&format!("    It will be tried until {until}.\r\n"));
            }
        }
    }
    text
}

fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if width == 0 {
            out.push_str(indent);
        } else if width + word.len() >= 76 {
            out.push_str("\r\n");
            out.push_str(indent);
            width = 0;
        } else {
            out.push(' ');
        }
        out.push_str(word);
        width += word.len() + 1;
    }
    out.push_str("\r\n");
    out
}
