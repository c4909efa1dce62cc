//! Behind a restart, and with nothing in the page cache.

use super::{fetch, fill, login, push, row};
use crate::rows::Group;
use crate::usage;

/// Opening the large mailbox, and reading what clients read first.
pub(in crate::rows) const GROUP: Group = Group {
    name: "imap-cold",
    rows: &[
        row("cold-select", "cold: SELECT", 1.0),
        row("cold-flags", "cold: FETCH FLAGS of all", 1.0),
        row(
            "cold-structure",
            "cold: FETCH ENVELOPE BODYSTRUCTURE of all",
            1.0,
        ),
    ],
    prepare: fill,
    run: |world| {
        let mut readings = Vec::new();
        for (row, items) in [
            ("cold-flags", "FLAGS"),
            ("cold-structure", "(ENVELOPE BODYSTRUCTURE)"),
        ] {
            world.side.restart_store()?;
            usage::drop_caches()?;
            let mut imap = login(world)?;
            let (_, select) = imap.timed("SELECT INBOX")?;
            if row == "cold-flags" {
                push(&mut readings, "cold-select", select);
            }
            push(
                &mut readings,
                row,
                fetch(&mut imap, world.scale.mailbox, items)?.1,
            );
        }
        Ok(readings)
    },
    once: false,
    alone: false,
};
