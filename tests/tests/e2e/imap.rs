//! IMAP (RFC 3501 and what clients rely on beside it).

use anyhow::{Result, ensure};
use testkit::{Tool, have, wait_until};

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
