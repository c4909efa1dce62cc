//! Addresses, domains, names and numbers: what was read and is printed, reads as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use imap_proto::{Date, DateTime, SequenceSet};
use mail_types::{Domain, EmailAddress, EmailId, EnhancedCode, LocalPart, QueueId, ReversePath};

/// The input is the text, as whatever it can be.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    round_trip::<Domain>(&text);
    round_trip::<EmailAddress>(&text);
    round_trip::<EmailId>(&text);
    round_trip::<EnhancedCode>(&text);
    round_trip::<LocalPart>(&text);
    round_trip::<QueueId>(&text);
    round_trip::<ReversePath>(&text);
    round_trip::<mailbox_store::MailboxName>(&text);
    if let Ok(domain) = text.parse::<Domain>() {
        assert_eq!(domain.to_unicode().parse::<Domain>().as_ref(), Ok(&domain));
    }
    if let Ok(local) = LocalPart::from_decoded(&text) {
        assert_eq!(local.as_str(), text);
        assert_eq!(local.to_string().parse().as_ref(), Ok(&local));
    }
    if let Some(set) = SequenceSet::parse(data) {
        assert_eq!(SequenceSet::parse(set.to_string().as_bytes()), Some(set));
    }
    if let Some(time) = DateTime::parse(data) {
        assert_eq!(DateTime::parse(time.to_string().as_bytes()), Some(time));
    }
    Date::parse(data);
    if let Ok(name) = imap_proto::MailboxName::from_wire(data) {
        let again = imap_proto::MailboxName::from_utf8(name.as_str().to_owned());
        assert_eq!(again, name);
    }
}

fn round_trip<T>(text: &str)
where
    T: FromStr<Err: Debug + PartialEq> + Display + Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(!printed.contains(['\r', '\n']), "{printed:?}");
        assert_eq!(printed.parse::<T>(), Ok(value), "{text:?} {printed:?}");
    }
}
