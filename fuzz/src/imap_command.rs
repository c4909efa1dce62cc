//! The command parser, with literals in place, and what is printed of what it read.

use imap_proto::encode::push_mailbox;
use imap_proto::{
    BodySection, Command, FetchItem, MailboxName, SearchKey, SequenceSet, parse_command,
};

use crate::imap_syntax::{self, Value};

/// The input is a command without its tag and line end.
pub fn run(data: &[u8]) {
    let Ok(command) = parse_command(data) else {
        return;
    };
    assert!(!command.name().is_empty());
    match &command {
        Command::Copy { set, mailbox, .. } | Command::Move { set, mailbox, .. } => {
            sequence_set(set);
            name(mailbox);
        }
        Command::Create { mailbox, .. }
        | Command::Delete(mailbox)
        | Command::Select { mailbox, .. }
        | Command::Status { mailbox, .. }
        | Command::Subscribe(mailbox)
        | Command::Unsubscribe(mailbox) => name(mailbox),
        Command::Rename { from, to } => {
            name(from);
            name(to);
        }
        Command::Expunge(Some(set)) | Command::Store { set, .. } => sequence_set(set),
        Command::Fetch { set, items, .. } => {
            sequence_set(set);
            items.iter().for_each(fetch_item);
        }
        Command::Search { key, .. } => search_key(key),
        _ => {}
    }
}

/// In one command, what is printed reads as the same.
fn sequence_set(set: &SequenceSet) {
    assert_eq!(
        SequenceSet::parse(set.to_string().as_bytes()).as_ref(),
        Some(set)
    );
    for largest in [0, 1, 100, u32::MAX] {
        for (low, high) in set.ranges(largest) {
            assert!(low <= high);
        }
    }
}

fn name(name: &MailboxName) {
    let mut wire = Vec::new();
    push_mailbox(&mut wire, name.as_str());
    let text = match wire.first() {
        Some(b'"' | b'{') => match imap_syntax::read(&wire) {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        },
        _ => wire,
    };
    assert_eq!(MailboxName::from_wire(&text).as_ref(), Ok(name));
}

fn fetch_item(item: &FetchItem) {
    item.sets_seen();
    if let FetchItem::BodySection(section) = item {
        section_name(section);
    }
}

/// `BODY[…]<n>`, and fetched again it is the same.
fn section_name(section: &BodySection) {
    let mut name = Vec::new();
    section.push_name(&mut name);
    let fetched = [b"FETCH 1 ", name.as_slice()].concat();
    // `<origin>` in an answer has no length, so that it is no item of a command.
    if !name.ends_with(b">") {
        assert!(
            parse_command(&fetched).is_ok(),
            "{}",
            fetched.escape_ascii()
        );
    }
}

fn search_key(key: &SearchKey) {
    key.asks_modseq();
}
