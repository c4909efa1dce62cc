//! The page of the documentation.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Report, flame, kept, machine, table};

const FIRST: &str = "## Limits\n\nNothing has been written here yet.";

const FLAME: &str = "\
## Where the time goes

[![Flame graph from SMTP to mailboxes](flame-end-to-end.svg)](flame-end-to-end.svg)

Samples of the daemons' CPU time while mail flows from SMTP to mailboxes, in percent. A system call
counts for all that the kernel does in it, everything else for the crate whose function ran.

";

const SYNCS: &str = "\
## The same durability

A 250 means on disk on both sides: Dovecot runs with `mail_fsync = always`, Postfix flushes as it
always does. Calls for 1,000 messages from SMTP to mailboxes over 20 sessions, seen by `strace -f` in
a run of its own that is not timed. Correo makes fewer since one flush carries all messages that wait
at that moment.

";

const METHOD: &str = "\
- Both sides run at once, and the one that is not measured is idle. The load clients run on the same
  machine and take from both sides alike. They are threads of `correo-bench`, check each answer, and
  take messages from memory.
- CPU is user and system time of all processes of a side, from `/proc/PID/stat`, those that ended
  included. Memory is `Pss` from `smaps_rollup` over all processes of a side, so that shared pages
  count once; the kernel's memory for sockets is not in it, on either side.
- End to end stops when `STATUS` of the last of the 100 mailboxes has the number that it should have.
  More is an error, since each message has to come exactly once.
- \"Accepted\" holds back delivery: in Correo localdeliver is stopped; in Postfix mail goes to the queue
  `hold`, which is less work for it than deferring.
  What was held is removed, so that mailboxes have the same content on both sides.
- \"Delivery into the store alone\" is LMTP straight to Dovecot. Correo has no such door: there the
  queue is filled while localdeliver is stopped, and the clock runs from localdeliver's start until
  all is in mailboxes, queued's part included.
- Mixed loads have a mailbox for each session, made anew with 100 messages before the clock starts.
- Memory of an idle connection is the growth from the first 200 of them to all, behind a restart: what
  a server loads for the first is not what each costs, and nothing is left to it by other loads. It is read when it has not fallen for eight seconds.
- \"Cold\" is behind a restart of what serves mailboxes and with the page cache dropped.
- Postfix: LMTP over a Unix socket, 40 deliveries at once over cached connections,
  `in_flow_delay = 0`, no lookups, no chroot, process limits out of the way. Dovecot: mdbox (faster
  than Maildir here), login processes that serve many clients, LMTP and IMAP processes that are
  ready and used again, an authentication cache, and where memory of idle sessions is measured `imap-hibernate` with
  enough inotify instances. News are timed without it, since a change that comes while Dovecot 2.3
  puts a session to sleep is not told before the next one, and again to a session that sleeps. Correo: its defaults, but for the limits of connections.
- No TLS on either side. Logins are not in the times of rows about something else.
";

/// What a run gave, without what is written by hand.
pub(super) fn summary(report: &Report<'_>) -> String {
    let mut text = String::from("# Performance\n\n");
    let command = if report.names.len() > 1 {
        "cargo xtask bench --vs postfix-dovecot"
    } else {
        "cargo xtask bench"
    };
    let _ = writeln!(
        text,
        "Measured by `{command}`. Absolute values differ from machine to machine and from day to \
         day; what counts is the ratio of two values of one run. Values are medians, with the least \
         and the most in parentheses and the CPU time of all the server's processes for one \
         operation.\n"
    );
    if !report.extras.is_complete {
        text.push_str("**The run has not come to its end: rows are missing.**\n");
    }
    table::rows(&mut text, report);
    text
}

/// The whole page; what people wrote in the old one stays.
pub(super) fn page(old: Option<&str>, report: &Report<'_>) -> Result<String> {
    let mut before = summary(report);
    if report.names.len() > 1 {
        before.push_str("\n![How many times better each row is](performance.svg)\n");
    }
    if let Some(stacks) = &report.extras.flames {
        before.push('\n');
        before.push_str(FLAME);
        before.push_str(&flame::table(stacks));
    }
    Ok(kept::page(old, &before, FIRST, &details(report)?))
}

/// What the figures rest on.
pub(super) fn details(report: &Report<'_>) -> Result<String> {
    let mut text = String::from(SYNCS);
    table::syncs(&mut text, report);
    text.push_str("\n## Machine\n\n| what | value |\n|---|---|\n");
    let peers = if report.names.len() > 1 {
        machine::peers()
    } else {
        Vec::new()
    };
    let described = machine::describe(&std::env::temp_dir())?;
    for (what, value) in described.into_iter().chain(peers) {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    let _ = writeln!(
        text,
        "\n## Method\n\n- Each row: one run on both sides that does not count, then {} that do, in \
         turn: Correo, the peer, Correo, … Where two that count took two minutes, there is no third. Rows \
         about idle sessions, a \
         million messages and a long queue run once.",
        report.runs
    );
    text.push_str(METHOD);
    Ok(text)
}
