//! IMAP (RFC 3501 and what clients rely on beside it).

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Daemon, Dialogue, Suite, Tool, have, wait_until};

use crate::support::{imap, message, new_user, shared, submit, wait_mail};

#[test]
fn python_goes_through_all_commands() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "imap")?;
    let said = Tool::python(include_str!("../../clients/imap_walk.py"))
        .args([suite.ports().ip.to_string(), suite.ports().imap.to_string()])
        .args([&user.address, &user.password])
        .arg(suite.certificate())
        .run()?;
    assert!(said.text().contains("all done"), "{}", said.all());
    Ok(())
}

#[test]
fn several_messages_in_one_append() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "multi")?;
    let said = Tool::python(include_str!("../../clients/imap_multiappend.py"))
        .args([suite.ports().ip.to_string(), suite.ports().imap.to_string()])
        .args([&user.address, &user.password])
        .run()?;
    assert!(said.text().contains("all done"), "{}", said.all());
    Ok(())
}

#[test]
fn two_clients_see_what_the_other_does() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "shared")?;
    for number in 0..3 {
        let subject = format!("number {number}.");
        submit(
            &suite,
            &user,
            &[&user.address],
            &message(&user.address, "x", &subject),
        )?;
        wait_mail(&suite, &user, &subject)?;
    }
    let mut one = imap(&suite, &user, "INBOX")?;
    let mut two = imap(&suite, &user, "INBOX")?;
    one.imap("a", "STORE 2 +FLAGS (\\Flagged $Later)")?;
    wait_until("the other client hears of the flags", || {
        let lines = two.imap("b", "NOOP")?;
        let told = |l: &String| {
            l.starts_with("* 2 FETCH") && l.contains("\\Flagged") && l.contains("$Later")
        };
        Ok(lines.iter().any(told).then_some(()))
    })?;
    // Silence is of what one asks for, not of what others have changed (RFC 3501 §6.4.6).
    let lines = two.imap("s", "STORE 2 -FLAGS.SILENT (\\Flagged)")?;
    assert!(lines.iter().all(|l| !l.contains("FETCH")), "{lines:?}");
    one.imap("t", "STORE 3 +FLAGS (\\Answered)")?;
    let lines = two.imap("u", "STORE 3 +FLAGS.SILENT (\\Draft)")?;
    let told = |l: &String| {
        l.starts_with("* 3 FETCH") && l.contains("\\Answered") && l.contains("\\Draft")
    };
    assert!(lines.iter().any(told), "{lines:?}");
    one.imap("c", "STORE 1 +FLAGS.SILENT (\\Deleted)")?;
    one.imap("d", "EXPUNGE")?;
    // No EXPUNGE may be told while FETCH, STORE or SEARCH by numbers go on (RFC 3501 §7.4.1).
    let lines = two.imap("e", "FETCH 1:3 (FLAGS)")?;
    assert!(
        lines.iter().all(|line| !line.contains("EXPUNGE")),
        "{lines:?}"
    );
    wait_until("the other client hears of the removal", || {
        let lines = two.imap("f", "NOOP")?;
        Ok(lines.iter().any(|line| line == "* 1 EXPUNGE").then_some(()))
    })?;
    let lines = two.imap("g", "FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")?;
    assert!(
        lines.iter().any(|line| line == "Subject: number 1."),
        "{lines:?}"
    );
    submit(
        &suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", "late"),
    )?;
    wait_until("both hear of the new one", || {
        let lines = two.imap("h", "NOOP")?;
        Ok(lines.iter().any(|line| line == "* 3 EXISTS").then_some(()))
    })?;
    Ok(())
}

#[test]
fn errors_are_told_and_the_session_goes_on() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "imap")?;
    let mut session = imap(&suite, &user, "INBOX")?;
    for (bad, answer) in [
        ("FETCH", "BAD"),
        ("FETCH 1:* (NOSUCH)", "BAD"),
        ("NOSUCH", "BAD"),
        ("CREATE INBOX", "NO"),
        ("COPY 1 INBOX", ""),
        ("UID", "BAD"),
        ("SEARCH CHARSET NOSUCH ALL", "NO"),
        // After a failure nothing is selected (RFC 3501 §6.3.1).
        ("SELECT nosuch", "NO"),
        ("FETCH 1 (FLAGS)", "BAD"),
    ] {
        session.send(&format!("x {bad}"))?;
        let lines = session.until_tagged("x")?;
        let last = lines.last().map(String::as_str).unwrap_or_default();
        ensure!(last.starts_with(&format!("x {answer}")), "{bad}: {last}");
    }
    session.imap("y", "NOOP")?;
    Ok(())
}

#[test]
fn many_clients_in_one_mailbox_agree() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "stress")?;
    let said = Tool::python(include_str!("../../clients/imap_stress.py"))
        .args([suite.ports().ip.to_string(), suite.ports().imap.to_string()])
        .args([&user.address, &user.password, "5"])
        .run()?;
    assert!(said.text().contains("all agree"), "{}", said.all());
    Ok(())
}

#[test]
fn a_mailbox_is_renamed_and_deleted_under_a_session() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "under")?;
    let mut one = imap(&suite, &user, "INBOX")?;
    one.imap("a", "CREATE Old")?;
    let mut two = imap(&suite, &user, "Old")?;
    one.imap("b", "RENAME Old New")?;
    one.imap("c", "CREATE Old")?;
    append(&mut one, "d", "New")?;
    wait_until("the other hears of the message", || {
        let lines = two.imap("e", "NOOP")?;
        Ok(lines.iter().any(|line| line == "* 1 EXISTS").then_some(()))
    })?;
    // The name means another mailbox now, whoever has looked at the first one.
    let lines = one.imap("f", "SELECT Old")?;
    ensure!(lines.iter().any(|line| line == "* 0 EXISTS"), "{lines:?}");
    let lines = one.imap("g", "SELECT New")?;
    ensure!(lines.iter().any(|line| line == "* 1 EXISTS"), "{lines:?}");
    one.imap("h", "SELECT INBOX")?;
    one.imap("i", "DELETE New")?;
    two.send("j NOOP")?;
    let line = two.line()?.unwrap_or_default();
    ensure!(line.starts_with("* BYE"), "{line}");
    one.imap("k", "CREATE New")?;
    let lines = one.imap("l", "SELECT New")?;
    ensure!(lines.iter().any(|line| line == "* 0 EXISTS"), "{lines:?}");
    Ok(())
}

#[test]
fn a_mailbox_that_was_left_is_seen_as_it_is_now() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "again")?;
    let mut one = imap(&suite, &user, "INBOX")?;
    one.imap("a", "CREATE Box")?;
    for (round, count) in (1..6).enumerate() {
        append(&mut one, "b", "Box")?;
        // Once with nobody there, then beside another session.
        let beside = (round % 2 == 1)
            .then(|| imap(&suite, &user, "Box"))
            .transpose()?;
        for _ in 0..2 {
            let lines = one.imap("c", "SELECT Box")?;
            let exists = format!("* {count} EXISTS");
            ensure!(lines.contains(&exists), "{count}: {lines:?}");
            let lines = one.imap("d", "FETCH 1:* (UID FLAGS)")?;
            let all = lines.iter().filter(|line| line.contains(" FETCH ("));
            ensure!(all.count() == count, "{lines:?}");
            one.imap("e", "UNSELECT")?;
        }
        drop(beside);
        if count == 3 {
            let mut other = imap(&suite, &user, "Box")?;
            other.imap("f", "STORE 2 +FLAGS (\\Flagged)")?;
            other.imap("g", "LOGOUT")?;
            let lines = one.imap("h", "SELECT Box")?;
            ensure!(lines.iter().any(|line| line == "* 3 EXISTS"), "{lines:?}");
            let lines = one.imap("i", "FETCH 2 FLAGS")?;
            ensure!(
                lines.iter().any(|line| line.contains("Flagged")),
                "{lines:?}"
            );
            one.imap("j", "UNSELECT")?;
        }
    }
    Ok(())
}

#[test]
fn examine_takes_recent_from_nobody() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "recent")?;
    let mut one = imap(&suite, &user, "INBOX")?;
    one.imap("a", "CREATE Box")?;
    let mut reader = imap(&suite, &user, "INBOX")?;
    let mut other = imap(&suite, &user, "INBOX")?;
    let mut count = 0;
    for round in 0..6 {
        // Who may have it looks at it first, and leaves it to who may not.
        one.imap("b", "SELECT Box")?;
        reader.imap("c", "EXAMINE Box")?;
        one.imap("d", "UNSELECT")?;
        if round > 3 {
            // By now nothing is claimed any more.
            std::thread::sleep(Duration::from_millis(1500));
        }
        for _ in 0..=round {
            append(&mut other, "e", "Box")?;
            count += 1;
        }
        let exists = format!("* {count} EXISTS");
        wait_until("the reader hears of them", || {
            let lines = reader.imap("f", "NOOP")?;
            Ok(lines.contains(&exists).then_some(()))
        })?;
        // Once with nobody there between, once beside the reader.
        if round % 2 == 0 {
            reader.imap("g", "UNSELECT")?;
        }
        let lines = one.imap("h", "SELECT Box")?;
        let recent = format!("* {} RECENT", round + 1);
        ensure!(lines.contains(&recent), "{round}: {lines:?}");
        let lines = other.imap("i", "SELECT Box")?;
        ensure!(lines.iter().any(|line| line == "* 0 RECENT"), "{lines:?}");
        other.imap("j", "UNSELECT")?;
        one.imap("k", "UNSELECT")?;
        reader.imap("l", "SELECT INBOX")?;
    }
    Ok(())
}

#[test]
fn sessions_outlive_localdeliver() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let user = new_user(&suite, "outlives")?;
    let mut one = imap(&suite, &user, "INBOX")?;
    append(&mut one, "a", "INBOX")?;
    append(&mut one, "b", "INBOX")?;
    let mut two = imap(&suite, &user, "INBOX")?;
    let mut idler = imap(&suite, &user, "INBOX")?;
    idler.send("i IDLE")?;
    idler.line()?;
    for round in 3..6 {
        suite.kill(Daemon::Localdeliver)?;
        suite.start(Daemon::Localdeliver)?;
        wait_until("commands work again", || {
            one.send("c STORE 1 +FLAGS (\\Seen)")?;
            let lines = one.until_tagged("c")?;
            Ok(lines
                .last()
                .is_some_and(|line| line.starts_with("c OK"))
                .then_some(()))
        })?;
        append(&mut one, "d", "INBOX")?;
        let exists = format!("* {round} EXISTS");
        while idler.line()?.is_some_and(|line| line != exists) {}
        let lines = two.imap("e", "NOOP")?;
        ensure!(lines.contains(&exists), "{lines:?}");
        let lines = two.imap("f", "FETCH 1:* (FLAGS)")?;
        let all = lines.iter().filter(|line| line.contains(" FETCH ("));
        ensure!(all.count() == round, "{lines:?}");
        let mut fresh = imap(&suite, &user, "INBOX")?;
        let lines = fresh.imap("g", "FETCH 1 (FLAGS)")?;
        ensure!(
            lines.iter().any(|line| line.contains("\\Seen")),
            "{lines:?}"
        );
    }
    Ok(())
}

/// The store may have done it, and a client that hears NO does it again.
#[test]
fn what_may_be_done_is_not_answered_no() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let user = new_user(&suite, "unknown")?;
    let mut copier = imap(&suite, &user, "INBOX")?;
    append(&mut copier, "a", "INBOX")?;
    let mut appender = imap(&suite, &user, "INBOX")?;
    append(&mut appender, "b", "INBOX")?;
    suite.signal(Daemon::Localdeliver, nix::sys::signal::Signal::SIGSTOP)?;
    copier.send("c COPY 1 INBOX")?;
    appender.send("d APPEND INBOX {3+}\r\nx\r\n")?;
    // Both are with the store, which does not say so.
    std::thread::sleep(Duration::from_secs(1));
    suite.kill(Daemon::Localdeliver)?;
    for session in [&mut copier, &mut appender] {
        let line = session.line()?.unwrap_or_default();
        ensure!(line.starts_with("* BYE"), "{line}");
    }
    Ok(())
}

/// APPEND of a small message.
fn append(session: &mut Dialogue, tag: &str, mailbox: &str) -> Result<()> {
    let message = "Subject: small\r\n\r\nx\r\n";
    session.send(&format!(
        "{tag} APPEND {mailbox} {{{}+}}\r\n{message}",
        message.len()
    ))?;
    let lines = session.until_tagged(tag)?;
    let last = lines.last().cloned().unwrap_or_default();
    ensure!(last.starts_with(&format!("{tag} OK")), "{last}");
    Ok(())
}
