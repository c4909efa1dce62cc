//! POP3.

use anyhow::Result;

use super::{Group, World, rate};
use crate::load::imap::Imap;
use crate::load::message::message;
use crate::load::pop3::RetrLoad;
use crate::result::{Row, Unit};
use crate::side::{PASSWORD, POP_USERS, addresses};

const fn row(id: &'static str, title: &'static str, reach: f64) -> Row {
    Row {
        id,
        group: "POP3",
        title,
        unit: Unit::PerSecond,
        reach,
    }
}

/// Fetching whole mailboxes.
pub(super) const GROUP: Group = Group {
    name: "pop3",
    rows: &[
        row("retr-20", "RETR, 4 KiB, 8 sessions, 20 under way", 1.0),
        row("retr-1", "the same, one after the other", 1.0),
    ],
    prepare,
    run: |world| {
        let mut readings = Vec::new();
        for (id, depth) in [("retr-20", 20), ("retr-1", 1)] {
            let messages = world.scale.some;
            let (sample, cpu) = world.with_cpu(messages * POP_USERS, |world| {
                RetrLoad {
                    server: world.side.pop3(),
                    logins: addresses("pop", POP_USERS),
                    password: PASSWORD.to_owned(),
                    depth,
                    messages,
                }
                .run()
            })?;
            readings.push(rate(id, &sample, cpu));
        }
        Ok(readings)
    },
    once: false,
    alone: false,
};

fn prepare(world: &mut World<'_>) -> Result<()> {
    for login in addresses("pop", POP_USERS) {
        let mut imap = Imap::login(world.side.imap(), &login, PASSWORD)?;
        let numbers = 0..u64::try_from(world.scale.some)?;
        let mails: Vec<_> = numbers.map(|number| message(number, 4096)).collect();
        imap.put("INBOX", &mails)?;
    }
    Ok(())
}
