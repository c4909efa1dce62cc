//! Mail in files of others: what Dovecot and Python see of an export, and what comes back.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use testkit::{Suite, Tool, has_root, have};

use crate::dovecot;
use crate::store::{Filled, filled, state};
use crate::support::{User, imap};

const COMMANDS: &str = "a EXAMINE INBOX\nb UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)\n";

/// UIDVALIDITY, UIDNEXT, and each message's UID, flags, date and size, in one form.
fn facts(lines: &[String]) -> Vec<String> {
    let mut facts = Vec::new();
    for line in lines {
        if line.contains("[UIDVALIDITY") || line.contains("[UIDNEXT") {
            let code = line.split(['[', ']']).nth(1);
            facts.extend(code.map(str::to_owned));
        }
        let Some((_, rest)) = line.split_once("FETCH (") else {
            continue;
        };
        let (before, flags) = rest.split_once("FLAGS (").unwrap_or((rest, ""));
        let (flags, behind) = flags.split_once(')').unwrap_or((flags, ""));
        let mut flags: Vec<&str> = flags
            .split_ascii_whitespace()
            .filter(|flag| *flag != "\\Recent")
            .collect();
        flags.sort_unstable();
        // Servers answer in an order of their own.
        let date = behind.split('"').nth(1).unwrap_or_default();
        let size = behind
            .split_once("RFC822.SIZE ")
            .map_or("", |(_, size)| size);
        let size = size.split([' ', ')']).next().unwrap_or_default();
        facts.push(format!("{before}{flags:?} {date} {size}"));
    }
    facts.sort();
    facts
}

fn ours(suite: &Suite, user: &User, mailbox: &str) -> Result<Vec<String>> {
    let mut session = imap(suite, user, "INBOX")?;
    let mut lines = session.imap("x", &format!("EXAMINE {mailbox}"))?;
    let fetch = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
    lines.extend(session.imap("f", fetch)?);
    Ok(facts(&lines))
}

fn export(suite: &Suite, user: &User, format: &str, place: &Path) -> Result<()> {
    let place = place.display().to_string();
    suite.correo(&[
        "account",
        "export",
        &user.address,
        "--format",
        format,
        &place,
    ])?;
    Ok(())
}

fn import(suite: &Suite, user: &User, format: &str, place: &Path) -> Result<String> {
    let place = place.display().to_string();
    let said = suite.correo(&[
        "account",
        "import",
        &user.address,
        "--format",
        format,
        &place,
    ])?;
    Ok(said.text())
}

#[test]
fn dovecot_reads_what_is_exported() -> Result<()> {
    if !have(&["dovecot", "python3"]) || !has_root() {
        return Ok(());
    }
    let Filled { suite, ana, .. } = filled("export.test")?;
    let folder = tempfile::tempdir()?;
    let (maildir, mbox) = (folder.path().join("maildir"), folder.path().join("mbox"));
    export(&suite, &ana, "maildir", &maildir)?;
    export(&suite, &ana, "mbox", &mbox)?;
    let children = maildir.join(".Work.&ANw-n&AO8-/cur");
    ensure!(fs::read_dir(children)?.count() == 1);
    let inbox = ours(&suite, &ana, "INBOX")?;
    let (at, box_at) = (maildir.display().to_string(), mbox.display().to_string());
    let seen = dovecot::imap(&format!("maildir:{at}"), folder.path(), COMMANDS)?;
    ensure!(facts(&seen) == inbox, "{inbox:#?}\n{seen:#?}");
    let work = COMMANDS.replace("INBOX", "Work");
    let seen = dovecot::imap(&format!("maildir:{at}"), folder.path(), &work)?;
    ensure!(facts(&seen) == ours(&suite, &ana, "Work")?, "{seen:#?}");
    let location = format!("mbox:{box_at}:INBOX={box_at}/INBOX");
    let seen = dovecot::imap(&location, folder.path(), COMMANDS)?;
    // Dovecot leaves the `>` in front of "From " where it is.
    let unsized_facts = |facts: Vec<String>| -> Vec<String> {
        let bare = |fact: String| {
            let shown = fact.rsplit_once(' ').filter(|_| fact.contains(':'));
            shown.map_or(fact.clone(), |(fact, _)| fact.to_owned())
        };
        facts.into_iter().map(bare).collect()
    };
    let (theirs, ours) = (unsized_facts(facts(&seen)), unsized_facts(inbox));
    ensure!(theirs == ours, "{ours:#?}\n{seen:#?}");
    // Another reader of mbox has to see as many messages.
    let script = "import mailbox, sys; print(len(mailbox.mbox(sys.argv[1])))";
    let count = Tool::python(script).arg(mbox.join("INBOX")).run()?.text();
    ensure!(count.trim() == "11", "Python sees {count} messages");
    Ok(())
}

#[test]
fn what_is_exported_is_imported_once() -> Result<()> {
    let Filled { suite, ana, .. } = filled("import.test")?;
    let folder = tempfile::tempdir()?;
    let before = state(&suite, &ana, false)?;
    for format in ["maildir", "mbox"] {
        let other = User {
            address: suite.address(format),
            password: "secret".to_owned(),
        };
        suite.add_account(&other.address, &other.password)?;
        let (first, second) = (
            folder.path().join(format),
            folder.path().join(format!("{format}2")),
        );
        export(&suite, &ana, format, &first)?;
        let said = import(&suite, &other, format, &first)?;
        ensure!(said.contains("15 messages are imported"), "{said}");
        let after = state(&suite, &other, false)?;
        ensure!(before == after, "{before:#?}\n{after:#?}");
        let said = import(&suite, &other, format, &first)?;
        ensure!(
            said.contains("0 messages are imported") && said.contains("15 were before"),
            "{said}"
        );
        export(&suite, &other, format, &second)?;
        let (first, second) = (first.display().to_string(), second.display().to_string());
        Tool::new("diff").args(["-r", &first, &second]).run()?;
    }
    Ok(())
}

#[test]
fn a_maildir_of_dovecot_is_imported() -> Result<()> {
    if !have(&["dovecot"]) || !has_root() {
        return Ok(());
    }
    let suite = Suite::of("migration.test")
        .account("ana", "secret")
        .start()?;
    let ana = User {
        address: suite.address("ana"),
        password: "secret".to_owned(),
    };
    let folder = tempfile::tempdir()?;
    let maildir = folder.path().join("maildir");
    fs::create_dir(&maildir)?;
    let mut commands = "c CREATE Alt/&ANw-n\n".to_owned();
    for (mailbox, flags) in [
        ("INBOX", "\\Seen"),
        ("INBOX", "$Todo \\Flagged"),
        ("INBOX", ""),
        ("Alt/&ANw-n", "Later \\Answered"),
    ] {
        // Writing into a string does not fail.
        let _ = writeln!(
            commands,
            "a APPEND {mailbox} ({flags}) \"18-Nov-2023 12:13:20 +0000\" {{21+}}\nSubject: x\r\n\r\nhello\r\n"
        );
    }
    commands.push_str("s SELECT INBOX\nd UID STORE 1 +FLAGS (\\Deleted)\ne EXPUNGE\n");
    commands.push_str("l SUBSCRIBE Alt/&ANw-n\n");
    let location = format!("maildir:{}", maildir.display());
    dovecot::imap(&location, folder.path(), &commands)?;
    let said = import(&suite, &ana, "maildir", &maildir)?;
    ensure!(said.contains("3 messages are imported"), "{said}");
    for mailbox in ["INBOX", "Alt/&ANw-n"] {
        let commands = COMMANDS.replace("INBOX", mailbox);
        let theirs = facts(&dovecot::imap(&location, folder.path(), &commands)?);
        let ours = ours(&suite, &ana, mailbox)?;
        ensure!(theirs == ours && !ours.is_empty(), "{theirs:#?}\n{ours:#?}");
    }
    let mut session = imap(&suite, &ana, "INBOX")?;
    let subscribed = session.imap("l", "LSUB \"\" *")?;
    ensure!(
        subscribed.iter().any(|line| line.contains("Alt/")),
        "{subscribed:?}"
    );
    let said = import(&suite, &ana, "maildir", &maildir)?;
    ensure!(said.contains("0 messages are imported"), "{said}");
    Ok(())
}
