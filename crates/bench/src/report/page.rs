//! docs/performance.md.

use std::fmt::Write as _;

use super::kept;

/// What a run gave, as Markdown where it is text.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The table of all rows.
    pub(crate) results: String,
    /// The table of flushes, if they were counted.
    pub(crate) syncs: Option<String>,
    /// Where the time goes, if that was recorded.
    pub(crate) flame: Option<String>,
    /// The machine, line by line.
    pub(crate) machine: Vec<(&'static str, String)>,
    /// The peers' versions.
    pub(crate) peers: Vec<(&'static str, String)>,
    /// Counted runs of each row.
    pub(crate) runs: usize,
}

const FIRST: &str = "## Limits\n\nNothing has been written here yet.";

/// The page; what people wrote in the old one stays.
pub(crate) fn page(old: Option<&str>, parts: &Parts) -> String {
    let mut before = String::from(
        "# Performance\n\nMade by `cargo xtask bench --vs postfix-dovecot --flame --write-docs`. \
         Absolute values differ from machine to machine and from day to day; what counts is the \
         ratio of two values of one run.\n\n## Results\n\n",
    );
    before.push_str(&parts.results);
    before.push_str("\n![How many times better each row is](performance.svg)\n\n");
    if let Some(flame) = &parts.flame {
        before.push_str(
            "## Where the time goes\n\n[![Flame graph of the end-to-end \
             row](flame-end-to-end.svg)](flame-end-to-end.svg)\n\nSamples of the daemons' CPU time \
             in the end-to-end row, in percent: a system call counts for all that the kernel does \
             in it, everything else for the crate whose function ran.\n\n",
        );
        before.push_str(flame);
        before.push('\n');
    }
    let mut behind = String::new();
    if let Some(syncs) = &parts.syncs {
        behind.push_str("## The same durability\n\n");
        behind.push_str(SYNCS);
        behind.push_str(syncs);
        behind.push('\n');
    }
    behind.push_str("## Machine\n\n| what | value |\n|---|---|\n");
    for (what, value) in parts.machine.iter().chain(&parts.peers) {
        let _ = writeln!(behind, "| {what} | {value} |");
    }
    behind.push_str("\n## Method\n\n");
    let _ = writeln!(
        behind,
        "- Each row: one run on both sides that does not count, then {} that do, in turn: \
         Correo, the peer, Correo, … The table shows medians; ± is half the distance between the \
         lowest and the highest. Rows that take minutes run once.",
        parts.runs
    );
    behind.push_str(METHOD);
    kept::page(old, &before, FIRST, &behind)
}

const SYNCS: &str = "\
A 250 means on disk on both sides: Dovecot runs with `mail_fsync = always`, Postfix flushes as it \
always does. Calls for each 1,000 messages of the end-to-end row, seen by `strace -f` in a run of its \
own that is not timed. Correo makes fewer since one flush carries all messages that wait at that \
moment.

";

const METHOD: &str = "\
- Both sides run at once, and the one that is not measured is idle. Load clients run on the same \
machine, so that they take from both sides alike; they are threads of `correo-bench`, check each \
answer, and take messages from memory.
- CPU is user and system time of all processes of a side, from `/proc/PID/stat`, those that ended \
included. Memory is `Pss` from `smaps_rollup` over all processes of a side, so that shared pages count \
once; the kernel's memory for sockets is not in it, on either side.
- \"Until all are in mailboxes\" ends when `STATUS` of the last of the 100 mailboxes has the number it \
should have; more than that is an error, since each message has to come exactly once.
- \"Accepted\" holds back delivery: in Correo localdeliver is stopped, in Postfix mail goes to the \
queue `hold`, which is less work for it than deferring.
- \"Delivery into the store\" is LMTP over 20 sessions straight to Dovecot. Correo has no such door: \
there the queue is filled while localdeliver is stopped, and the clock runs from localdeliver's \
start until all is in mailboxes, queued's part included.
- Postfix: LMTP over a Unix socket, 40 deliveries at once over cached connections, `in_flow_delay = 0`, \
no lookups, no chroot, process limits out of the way. Dovecot: mdbox (faster than Maildir here), \
login processes that serve many clients, 20 LMTP processes ready, reused IMAP processes, \
`imap-hibernate`, an authentication cache. Correo: its defaults, but for limits of connections.
- No TLS on either side. Logins are not timed in rows about something else.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_parts_and_keeps_what_people_wrote() {
        let parts = Parts {
            results: "| what |\n|---|\n| a |\n".to_owned(),
            machine: vec![("memory", "4 GiB".to_owned())],
            runs: 3,
            ..Parts::default()
        };
        let first = page(None, &parts);
        assert!(first.contains("| memory | 4 GiB |") && !first.contains("flame"));
        let edited = first.replace("Nothing has been written here yet.", "By hand.");
        assert!(page(Some(&edited), &parts).contains("By hand."));
    }
}
