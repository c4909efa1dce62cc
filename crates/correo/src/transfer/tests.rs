//! What is written is read again.

use std::path::Path;

use mail_rpc::pb::mailbox::v1 as pb;
use proptest::prelude::*;

use super::{Mail, Sink, Target, maildir, mbox};
use crate::failure::Failure;

/// A mailbox and its mail.
type Mailboxes = Vec<(pb::MailboxFacts, Vec<Mail>)>;

#[derive(Default)]
struct Read {
    mailboxes: Mailboxes,
    skipped: Vec<String>,
}

impl Target for Read {
    fn mailbox(&mut self, facts: pb::MailboxFacts) -> Result<(), Failure> {
        // The second word on a mailbox has its UIDNEXT.
        let known = self
            .mailboxes
            .last_mut()
            .filter(|(old, _)| old.name == facts.name);
        match known {
            Some((old, _)) => old.uid_next = facts.uid_next,
            None => self.mailboxes.push((facts, Vec::new())),
        }
        Ok(())
    }

    fn mail(&mut self, mail: Mail) -> Result<(), Failure> {
        self.mailboxes.last_mut().unwrap().1.push(mail);
        Ok(())
    }

    fn skipped(&mut self, what: String) {
        self.skipped.push(what);
    }

    fn progress(&mut self, _: u64) {}
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("From the beginning".to_owned()),
        Just(">From here".to_owned()),
        Just(">>From".to_owned()),
        Just("From a@b Sat Nov 18 12:13:20 2023".to_owned()),
        Just("Status: own".to_owned()),
        Just("X-Kept-Status: y".to_owned()),
        Just("x-uid: 77".to_owned()),
        Just("Subject: Grüße".to_owned()),
        Just(" folded".to_owned()),
        Just(String::new()),
        "[ -~]{0,20}",
    ];
    let lines = prop::collection::vec(line, 0..12);
    lines.prop_map(|lines| {
        let mut text = "Subject: s\r\n".to_owned();
        for line in lines {
            text.push_str(&line);
            text.push_str("\r\n");
        }
        text.into_bytes()
    })
}

fn mailbox(name: &'static str) -> impl Strategy<Value = (pb::MailboxFacts, Vec<Mail>)> {
    let keywords = || prop::sample::subsequence(vec!["$Todo", "Later", "x"], 0..=3);
    let mail = (
        text(),
        0..32_u64,
        keywords(),
        0..2_000_000_000_i64,
        -12..12_i32,
    );
    let mails = prop::collection::vec((mail, 1..50_u32), 1..6);
    (mails, 1..u32::MAX, any::<bool>()).prop_map(move |(mails, uid_validity, subscribed)| {
        let mut uid = 0;
        let mut all = Vec::new();
        for ((content, system, keywords, date, hours), step) in mails {
            uid += step;
            all.push(Mail {
                uid,
                system,
                keywords: keywords.into_iter().map(str::to_owned).collect(),
                date,
                offset: hours * 60,
                content,
                key: Vec::new(),
                name: String::new(),
            });
        }
        let facts = pb::MailboxFacts {
            name: name.to_owned(),
            uid_validity,
            uid_next: uid + 3,
            subscribed,
            exists: true,
            keywords: vec!["$Todo".to_owned(), "Later".to_owned()],
            ..pb::MailboxFacts::default()
        };
        (facts, all)
    })
}

fn write(sink: &mut dyn Sink, mailboxes: &Mailboxes) {
    for (facts, mails) in mailboxes {
        sink.mailbox(facts).unwrap();
        for mail in mails {
            sink.mail(mail).unwrap();
        }
    }
    assert_eq!(sink.finish().unwrap(), Vec::<String>::new());
}

fn read(with: impl Fn(&Path, &mut dyn Target) -> Result<(), Failure>, path: &Path) -> Mailboxes {
    let mut target = Read::default();
    with(path, &mut target).unwrap();
    assert_eq!(target.skipped, Vec::<String>::new());
    let mut keys: Vec<_> = target
        .mailboxes
        .iter()
        .flat_map(|(_, mails)| mails.iter().map(|mail| mail.key.clone()))
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "keys are not each one message's");
    target.mailboxes
}

/// Without what is only for one way: keys, names, the keyword table.
fn plain(mut mailboxes: Mailboxes, with_offset: bool) -> Mailboxes {
    mailboxes.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    for (facts, mails) in &mut mailboxes {
        facts.keywords.clear();
        for mail in mails {
            mail.keywords.sort();
            mail.key.clear();
            mail.name.clear();
            if !with_offset {
                mail.offset = 0;
            }
        }
    }
    mailboxes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_and_back(inbox in mailbox("INBOX"), work in mailbox("Work/Ünï.x"), above in mailbox("Work")) {
        let mailboxes = vec![inbox, work, above];
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("maildir"), folder.path().join("mbox"));
        write(&mut maildir::Writer::new(&one), &mailboxes);
        prop_assert_eq!(plain(read(maildir::read, &one), false), plain(mailboxes.clone(), false));
        write(&mut mbox::Writer::new(&other), &mailboxes);
        prop_assert_eq!(plain(read(mbox::read, &other), true), plain(mailboxes, true));
    }
}

#[test]
fn an_mbox_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mbox");
    let text = "From MAILER-DAEMON Sat Nov 18 12:13:20 2023\n\
        Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1700000000 0000000009\n\
        Status: RO\n\nThis text is part of the internal format.\n\n\
        From a@b  Sat Nov 18 12:13:20 2023\nSubject: one\nStatus: RO\nX-Status: AF\n\nHello\n\
        From here on it is text.\n\nFrom me to you.\n\n\
        From c@d  Sat Nov 18 12:13:21 2023\nSubject: two\n\n>From quoted\n";
    std::fs::write(&path, text).unwrap();
    let found = read(mbox::read, &path);
    let [(facts, mails)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (&*facts.name, facts.uid_validity, facts.uid_next),
        ("INBOX", 1_700_000_000, 10)
    );
    let [one, two] = &mails[..] else {
        panic!("{mails:?}")
    };
    let text = "Subject: one\r\n\r\nHello\r\nFrom here on it is text.\r\n\r\nFrom me to you.\r\n";
    assert_eq!(String::from_utf8_lossy(&one.content), text);
    assert_eq!((one.system, one.date), (0b111, 1_700_309_600));
    assert_eq!(two.content, b"Subject: two\r\n\r\nFrom quoted\r\n");
}
