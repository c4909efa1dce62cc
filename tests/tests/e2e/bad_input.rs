//! Octets that no client sends: a clear error or the end of the session, and others unharmed.

use anyhow::{Result, ensure};
use testkit::{Daemon, Dialogue, Suite};

use crate::support::{imap, message, new_user, shared, submission, submit, unique, wait_mail};

/// A reproducible stream of octets (xorshift), so that a failure can be repeated.
fn noise(mut seed: u64, count: usize) -> Vec<u8> {
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..count.div_ceil(8))
        .flat_map(|_| next().to_be_bytes())
        .collect()
}

/// Nothing ended, and mail still flows.
fn is_well(suite: &Suite) -> Result<()> {
    for daemon in Daemon::ALL {
        ensure!(
            suite.ended(daemon)?.is_none(),
            "{daemon:?} ended:\n{}",
            suite.log(daemon)
        );
    }
    ensure!(
        !suite.logs().contains("panicked"),
        "{}",
        suite.recent_logs()
    );
    let user = new_user(suite, "well")?;
    let subject = unique("well ");
    submit(
        suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", &subject),
    )?;
    wait_mail(suite, &user, &subject)?;
    Ok(())
}

#[test]
fn random_octets_to_every_port() -> Result<()> {
    let suite = shared()?;
    for (number, port) in suite.ports().all().into_iter().enumerate() {
        for round in 0..5 {
            let mut session = Dialogue::connect(suite.at(port))?;
            let seed = u64::try_from(number * 100 + round + 1)?;
            // The server may have closed the connection already.
            let _ = session.send_raw(&noise(seed, 20_000));
            let _ = session.send_raw(b"\r\nQUIT\r\nx LOGOUT\r\n");
            drop(session);
        }
    }
    is_well(&suite)
}

#[test]
fn lines_without_an_end() -> Result<()> {
    let suite = shared()?;
    let ports = suite.ports();
    for port in [ports.smtp, ports.submission, ports.pop3, ports.imap] {
        let mut session = Dialogue::connect(suite.at(port))?;
        session.line()?;
        let megabyte = vec![b'a'; 1 << 20];
        for _ in 0..8 {
            if session.send_raw(&megabyte).is_err() {
                break;
            }
        }
        let _ = session.send_raw(b"\r\n");
        // An error in words or the end of the connection, but no silence.
        if let Ok(Some(line)) = session.line() {
            let refused = line.starts_with('5')
                || line.starts_with("-ERR")
                || line.contains("BAD")
                || line.contains("BYE");
            ensure!(refused, "{line}");
        }
    }
    for daemon in [Daemon::Smtpd, Daemon::Pop3d, Daemon::Imapd] {
        let memory = suite.memory(daemon)?;
        ensure!(memory < 300_000, "{daemon:?} takes {memory} KiB");
    }
    is_well(&suite)
}

#[test]
fn literals_that_do_not_end() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "literal")?;
    let mut session = Dialogue::connect(suite.at(suite.ports().imap))?;
    session.line()?;
    // Before the login nobody gets to send much.
    session.send("a LOGIN {4000000000}")?;
    let line = session.line()?.unwrap_or_default();
    ensure!(!line.starts_with('+'), "{line}");
    for literal in [
        "{18446744073709551616}",
        "{-1}",
        "{}",
        "{1",
        "{99999999999999999999+}",
    ] {
        let mut session = imap(&suite, &user, "INBOX")?;
        session.send(&format!("b APPEND INBOX {literal}"))?;
        let line = session.line()?.unwrap_or_default();
        ensure!(
            line.contains("BAD") || line.contains("NO") || line.contains("BYE"),
            "{literal}: {line}"
        );
    }
    // Begun and left.
    let mut session = imap(&suite, &user, "INBOX")?;
    session.send("c APPEND INBOX {100000}")?;
    ensure!(session.line()?.is_some_and(|line| line.starts_with('+')));
    session.send_raw(b"only a little")?;
    drop(session);
    let mut session = imap(&suite, &user, "INBOX")?;
    let lines = session.imap("d", "STATUS INBOX (MESSAGES)")?;
    ensure!(
        lines.iter().any(|line| line.contains("MESSAGES 0")),
        "{lines:?}"
    );
    is_well(&suite)
}

#[test]
fn ten_thousand_recipients() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "many")?;
    let mut smtp = submission(&suite, &user)?;
    smtp.command(&format!("MAIL FROM:<{}>", user.address), "250")?;
    let (mut taken, mut refused) = (0, 0);
    for block in 0..100 {
        let command = |number| format!("RCPT TO:<r{}@[127.0.0.77]>\r\n", block * 100 + number);
        let commands: Vec<String> = (0..100).map(command).collect();
        smtp.send_raw(commands.concat().as_bytes())?;
        for _ in 0..100 {
            let reply = smtp.expect("")?;
            match reply.get(..3) {
                Some("250") => taken += 1,
                Some("452") => refused += 1,
                _ => ensure!(reply.starts_with("421"), "{reply}"),
            }
            if reply.starts_with("421") {
                // Enough is enough is an answer too.
                return is_well(&suite);
            }
        }
    }
    ensure!(
        (100..=1000).contains(&taken) && taken + refused == 10_000,
        "{taken} {refused}"
    );
    smtp.command("RSET", "250")?;
    is_well(&suite)
}
