//! Mail on disk that is damaged: found, named, and all else brought back.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testkit::{Daemon, Dialogue, Suite, wait_until};

use crate::support::{User, imap};

/// A suite with one account, its mail, and where that lies.
pub(crate) struct Filled {
    pub(crate) suite: Suite,
    pub(crate) ana: User,
    pub(crate) folder: PathBuf,
}

/// Puts a message into a mailbox.
pub(crate) fn append(imap: &mut Dialogue, mailbox: &str, flags: &str, text: &str) -> Result<()> {
    let size = text.len();
    imap.send(&format!(
        "a APPEND {mailbox} ({flags}) \"18-Nov-2023 12:13:20 +0000\" {{{size}}}"
    ))?;
    let ready = imap.line()?.context("the server closed the connection")?;
    ensure!(ready.starts_with('+'), "{ready}");
    imap.send_raw(format!("{text}\r\n").as_bytes())?;
    let lines = imap.until_tagged("a")?;
    let ok = lines.last().is_some_and(|line| line.starts_with("a OK"));
    ensure!(ok, "{lines:?}");
    Ok(())
}

/// Mail in three mailboxes, with flags, keywords, copies and gaps.
pub(crate) fn filled(domain: &str) -> Result<Filled> {
    let suite = Suite::of(domain).account("ana", "secret").start()?;
    let ana = User {
        address: suite.address("ana"),
        password: "secret".to_owned(),
    };
    let mut session = imap(&suite, &ana, "INBOX")?;
    session.imap("c", "CREATE Work")?;
    session.imap("c", "CREATE Work/&ANw-n&AO8-")?;
    session.imap("c", "SUBSCRIBE Work")?;
    for n in 0..12 {
        let text = format!(
            "From: <x@{domain}>\r\nSubject: number {n}\r\n\r\nbody {n}\r\nFrom here.\r\n.\r\n"
        );
        let flags = ["", "\\Seen", "\\Flagged $Todo", "\\Answered \\Seen Later"];
        let flags = flags.get(n % 4).copied().unwrap_or_default();
        append(&mut session, "INBOX", flags, &text)?;
    }
    session.imap("c", "UID COPY 2:4 Work")?;
    session.imap("c", "UID COPY 3 Work/&ANw-n&AO8-")?;
    session.imap("c", "UID STORE 6:8 +FLAGS (\\Deleted)")?;
    session.imap("c", "UID EXPUNGE 7")?;
    session.imap("c", "UID STORE 5 +FLAGS (\\Draft $Later)")?;
    session.imap("q", "LOGOUT")?;
    let mut folders = fs::read_dir(suite.home().join("mail"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join("segments").is_dir());
    let folder = folders.next().context("no account's folder")?;
    Ok(Filled { suite, ana, folder })
}

/// A daemon's sockets are there a moment after its start.
fn wait_for_store(suite: &Suite) -> Result<()> {
    wait_until("localdeliver answers", || {
        let said = suite.cli(&["store", "check", "0000000000000"]).output()?;
        Ok(said.success.then_some(()))
    })
}

/// All that a client sees of an account.
pub(crate) fn state(suite: &Suite, user: &User, with_modseq: bool) -> Result<Vec<String>> {
    let mut session = imap(suite, user, "INBOX")?;
    let mut all = session.imap("s", "LSUB \"\" *")?;
    let mut names = Vec::new();
    for line in session.imap("l", "LIST \"\" *")? {
        if let Some((_, name)) = line.split_once(" \"/\" ") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let (status, fetch) = if with_modseq {
        (
            "UIDVALIDITY UIDNEXT MESSAGES HIGHESTMODSEQ",
            "UID FLAGS INTERNALDATE BODY[] MODSEQ",
        )
    } else {
        (
            "UIDVALIDITY UIDNEXT MESSAGES",
            "UID FLAGS INTERNALDATE BODY[]",
        )
    };
    let fetch = fetch.replace("BODY", "BODY.PEEK");
    for name in names {
        all.extend(session.imap("t", &format!("STATUS {name} ({status})"))?);
        session.imap("x", &format!("EXAMINE {name}"))?;
        all.extend(session.imap("f", &format!("UID FETCH 1:* ({fetch})"))?);
    }
    // What the tagged lines say of time is another matter.
    all.retain(|line| line.get(1..2) != Some(" "));
    Ok(all)
}

#[test]
fn a_lost_index_is_made_anew() -> Result<()> {
    let Filled { suite, ana, folder } = filled("rebuild.test")?;
    let before = state(&suite, &ana, true)?;
    suite.correo(&["store", "check", &ana.address])?;
    let said = suite.correo(&["store", "check", "--all"])?;
    ensure!(said.text().contains("all is well"), "{}", said.all());
    suite.terminate(Daemon::Localdeliver)?;
    fs::remove_file(folder.join("index.redb"))?;
    suite.start(Daemon::Localdeliver)?;
    wait_for_store(&suite)?;
    let said = suite.cli(&["store", "check", &ana.address]).output()?;
    ensure!(said.code == Some(1), "{}", said.all());
    ensure!(said.text().contains("index is missing"), "{}", said.all());
    let said = suite.correo(&["store", "rebuild", &ana.address])?;
    ensure!(said.text().contains("all is well"), "{}", said.all());
    let after = state(&suite, &ana, true)?;
    ensure!(before == after, "{before:#?}\n{after:#?}");
    suite.correo(&["store", "check", &ana.address])?;
    // The index that is there now is taken, and nothing is lost.
    suite.correo(&["store", "rebuild", &ana.address])?;
    suite.correo(&["store", "rebuild", &ana.address, "--ignore-index"])?;
    let after = state(&suite, &ana, true)?;
    ensure!(before == after, "{before:#?}\n{after:#?}");
    Ok(())
}

#[test]
fn damage_costs_one_message_and_is_named() -> Result<()> {
    let Filled { suite, ana, folder } = filled("damage.test")?;
    suite.terminate(Daemon::Localdeliver)?;
    let segment = folder.join("segments/00000001.seg");
    let mut octets = fs::read(&segment)?;
    let mark = b"body 9\r\n";
    let at = octets.windows(mark.len()).position(|part| part == mark);
    let at = at.context("the message is not in the segment")?;
    if let Some(octet) = octets.get_mut(at) {
        *octet ^= 1;
    }
    fs::write(&segment, &octets)?;
    suite.start(Daemon::Localdeliver)?;
    wait_for_store(&suite)?;
    let check = || suite.cli(&["store", "check", &ana.address]).output();
    let said = check()?;
    ensure!(said.code == Some(1), "{}", said.all());
    let wrong: Vec<String> = said
        .text()
        .lines()
        .filter(|line| line.contains(": wrong: "))
        .map(str::to_owned)
        .collect();
    ensure!(
        wrong.len() == 1 && wrong.iter().all(|line| line.contains("UID 10 of INBOX")),
        "{wrong:?}"
    );
    // An export names it and has all others.
    let target = tempfile::tempdir()?;
    let place = target.path().join("out").display().to_string();
    let export = [
        "account",
        "export",
        &ana.address,
        "--format",
        "maildir",
        &place,
    ];
    let said = suite.cli(&export).output()?;
    ensure!(said.code == Some(1), "{}", said.all());
    ensure!(said.text().contains("UID 10 of INBOX"), "{}", said.all());
    ensure!(fs::read_dir(target.path().join("out/cur"))?.count() == 10);
    let said = suite.cli(&["store", "repair", &ana.address]).output()?;
    ensure!(said.code == Some(1), "{}", said.all());
    let said = suite
        .cli(&["store", "repair", &ana.address, "--drop-damaged"])
        .output()?;
    ensure!(
        said.text().contains("lost: UID 10 of INBOX"),
        "{}",
        said.all()
    );
    suite.correo(&["store", "check", &ana.address])?;
    let mut session = imap(&suite, &ana, "INBOX")?;
    let found = session.imap("f", "UID FETCH 1:* (UID)")?;
    ensure!(found.len() == 11, "{found:?}");
    Ok(())
}
