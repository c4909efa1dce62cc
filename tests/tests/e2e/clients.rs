//! The mail programs that people use, each with its own idea of the protocols.

use std::fs;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::{Suite, Tool, have};

use crate::support::{User, inbox, message, new_user, shared, submit, unique, wait_mail};

/// A file in a folder that only its owner can read, as clients demand of files with passwords.
fn private(folder: &TempDir, name: &str, content: &str) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.path().join(name);
    fs::write(&file, content)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn with_mail(suite: &Suite, subject: &str) -> Result<User> {
    let user = new_user(suite, "client")?;
    submit(
        suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", subject),
    )?;
    wait_mail(suite, &user, subject)?;
    Ok(user)
}

#[test]
fn swaks_sends() -> Result<()> {
    if !have(&["swaks"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "swaks")?;
    let ports = suite.ports();
    for (port, tls) in [
        (ports.submission, "--tls"),
        (ports.submissions, "--tls-on-connect"),
    ] {
        for auth in ["PLAIN", "LOGIN"] {
            let subject = unique("by swaks ");
            Tool::new("swaks")
                .args(["--server", &suite.at(port).to_string(), tls, "--auth", auth])
                .args([
                    "--auth-user",
                    &user.address,
                    "--auth-password",
                    &user.password,
                ])
                .args(["--from", &user.address, "--to", &user.address])
                .args(["--header", &format!("Subject: {subject}")])
                .run()?;
            wait_mail(&suite, &user, &subject)?;
        }
    }
    // As another server does, with pipelining.
    let subject = unique("by swaks ");
    Tool::new("swaks")
        .args([
            "--server",
            &suite.at(ports.smtp).to_string(),
            "--pipeline",
            "--tls-optional",
        ])
        .args(["--from", "someone@example.org", "--to", &user.address])
        .args(["--header", &format!("Subject: {subject}")])
        .run()?;
    wait_mail(&suite, &user, &subject)?;
    Ok(())
}

#[test]
fn s_nail_sends() -> Result<()> {
    if !have(&["s-nail"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "snail")?;
    let subject = unique("by s-nail ");
    let encoded = |text: &str| text.replace('@', "%40");
    let mta = format!(
        "submissions://{}:{}@localhost:{}",
        encoded(&user.address),
        encoded(&user.password),
        suite.ports().submissions
    );
    Tool::new("s-nail")
        .args(["-:/", "-Sv15-compat", "-Ssendwait", "-Ssmtp-auth=plain"])
        .arg(format!("-Stls-ca-file={}", suite.certificate().display()))
        .args([format!("-Sfrom={}", user.address), format!("-Smta={mta}")])
        .args(["-s", &subject, &user.address])
        .input("A line from s-nail.\n")
        .env("HOME", suite.home())
        .run()?;
    let mail = wait_mail(&suite, &user, &subject)?;
    ensure!(mail.contains("A line from s-nail."), "{mail}");
    Ok(())
}

#[test]
fn curl_sends_and_reads() -> Result<()> {
    if !have(&["curl"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "curl")?;
    let ports = suite.ports();
    let curl = || {
        Tool::new("curl")
            .args(["-sS", "--max-time", "90", "--cacert"])
            .arg(suite.certificate())
            .args(["--user", &format!("{}:{}", user.address, user.password)])
    };
    let subject = unique("by curl ");
    curl()
        .arg(format!("smtps://localhost:{}", ports.submissions))
        .args([
            "--mail-from",
            &user.address,
            "--mail-rcpt",
            &user.address,
            "-T",
            "-",
        ])
        .input(message(&user.address, &user.address, &subject))
        .run()?;
    wait_mail(&suite, &user, &subject)?;
    for url in [
        format!("imaps://localhost:{}/INBOX;MAILINDEX=1", ports.imaps),
        format!("pop3s://localhost:{}/1", ports.pop3s),
    ] {
        let read = curl().arg(&url).run()?.text();
        ensure!(read.contains(&subject), "{url}: {read}");
    }
    let part = format!(
        "imap://localhost:{}/INBOX;MAILINDEX=1;SECTION=TEXT",
        ports.imap
    );
    let read = curl().arg("--ssl-reqd").arg(part).run()?.text();
    ensure!(read.starts_with("Hello, "), "{read}");
    let listed = curl()
        .arg(format!("imaps://localhost:{}/", ports.imaps))
        .run()?
        .text();
    ensure!(listed.contains("INBOX"), "{listed}");
    Ok(())
}

#[test]
fn mutt_sends_and_reads() -> Result<()> {
    if !have(&["mutt", "python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = with_mail(&suite, "waiting for mutt")?;
    let folder = tempfile::tempdir()?;
    let config = format!(
        "set smtp_url = \"smtps://{0}@localhost:{1}\"\nset smtp_pass = \"{2}\"\nset imap_user = \
         \"{0}\"\nset imap_pass = \"{2}\"\nset from = \"{0}\"\nset use_from = yes\nset \
         ssl_force_tls = yes\nset certificate_file = \"{3}\"\nset ssl_verify_host = yes\nset \
         folder = \"imaps://localhost:{4}/\"\nset copy = no\nset move = no\nset sleep_time = 0\n",
        user.address,
        suite.ports().submissions,
        user.password,
        suite.certificate().display(),
        suite.ports().imaps,
    );
    let rc = private(&folder, "muttrc", &config)?;
    let mutt = || {
        Tool::new("mutt")
            .args(["-n", "-F"])
            .arg(&rc)
            .env("HOME", folder.path())
            .env("TERM", "xterm")
    };
    let subject = unique("by mutt ");
    mutt()
        .args(["-s", &subject, &user.address])
        .input("A line from mutt.\n")
        .run()?;
    wait_mail(&suite, &user, &subject)?;
    // Save all of INBOX to a local mailbox and quit; for that mutt wants a terminal.
    let saved = folder.path().join("saved");
    let keys = format!(
        "set confirmappend = no\nset confirmcreate = no\nset quit = yes\npush \
         \"<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>{}<enter><quit>\"\n",
        saved.display()
    );
    let rc = private(&folder, "reading", &format!("{config}{keys}"))?;
    Tool::python("import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)")
        .args(["mutt", "-n", "-F"])
        .arg(rc)
        .args([
            "-f",
            &format!("imaps://localhost:{}/INBOX", suite.ports().imaps),
        ])
        .env("HOME", folder.path())
        .env("TERM", "xterm")
        .run()?;
    let read = fs::read_to_string(saved)?;
    ensure!(
        read.contains("waiting for mutt") && read.contains(&subject),
        "{read}"
    );
    Ok(())
}

#[test]
fn fetchmail_fetches() -> Result<()> {
    if !have(&["fetchmail"]) {
        return Ok(());
    }
    let suite = shared()?;
    for (protocol, port) in [("pop3", suite.ports().pop3s), ("imap", suite.ports().imaps)] {
        let user = with_mail(&suite, "waiting for fetchmail")?;
        let folder = tempfile::tempdir()?;
        let got = folder.path().join("got");
        let config = format!(
            "poll localhost service {port} protocol {protocol}\n user \"{}\" password \"{}\"\n \
             ssl sslcertck sslcertfile \"{}\"\n mda \"/bin/cat >> {}\"\n no rewrite\n",
            user.address,
            user.password,
            suite.certificate().display(),
            got.display(),
        );
        let rc = private(&folder, "fetchmailrc", &config)?;
        Tool::new("fetchmail")
            .args(["--nosyslog", "-f"])
            .arg(rc)
            .arg("-i")
            .arg(folder.path().join("ids"))
            .env("HOME", folder.path())
            .env("FETCHMAILHOME", folder.path())
            .run()?;
        let read = fs::read_to_string(&got)?;
        ensure!(
            read.contains("Subject: waiting for fetchmail"),
            "{protocol}: {read}"
        );
        ensure!(
            inbox(&suite, &user)?.is_empty(),
            "fetchmail deletes what it has fetched"
        );
    }
    Ok(())
}

#[test]
fn mbsync_synchronises_both_ways() -> Result<()> {
    if !have(&["mbsync"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = with_mail(&suite, "waiting for mbsync")?;
    let folder = tempfile::tempdir()?;
    let mail = folder.path().join("mail");
    fs::create_dir(&mail)?;
    let config = format!(
        "IMAPAccount a\nHost localhost\nPort {}\nUser {}\nPass {}\nSSLType IMAPS\nCertificateFile \
         {}\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath {}/\nInbox {}/INBOX\nSubFolders \
         Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\n\
         SyncState *\n",
        suite.ports().imaps,
        user.address,
        user.password,
        suite.certificate().display(),
        mail.display(),
        mail.display(),
    );
    let rc = private(&folder, "mbsyncrc", &config)?;
    let sync = || {
        Tool::new("mbsync")
            .arg("-c")
            .arg(&rc)
            .arg("-a")
            .env("HOME", folder.path())
            .run()
    };
    sync()?;
    let new = mail.join("INBOX/new");
    let cur = mail.join("INBOX/cur");
    let files = || -> Result<Vec<std::path::PathBuf>> {
        let mut all = Vec::new();
        for folder in [&new, &cur] {
            for entry in fs::read_dir(folder)? {
                all.push(entry?.path());
            }
        }
        Ok(all)
    };
    let got = files()?;
    ensure!(got.len() == 1, "{got:?}");
    let text = fs::read_to_string(&got[0])?;
    ensure!(text.contains("waiting for mbsync"), "{text}");
    // One goes up, the other is removed here.
    fs::remove_file(&got[0])?;
    fs::write(new.join("1.up.host"), "Subject: from the maildir\n\nbody\n")?;
    sync()?;
    let there = inbox(&suite, &user)?;
    ensure!(
        there.len() == 1 && there[0].contains("from the maildir"),
        "{there:?}"
    );
    sync()?;
    ensure!(files()?.len() == 1);
    Ok(())
}

#[test]
fn python_smtplib_sends_with_options() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = new_user(&suite, "python")?;
    let subject = unique("by python ");
    Tool::python(include_str!("../../clients/smtplib_send.py"))
        .args([
            suite.ports().ip.to_string(),
            suite.ports().submission.to_string(),
        ])
        .args([&user.address, &user.password])
        .arg(suite.certificate())
        .arg(&subject)
        .run()?;
    let mail = wait_mail(&suite, &user, &subject)?;
    ensure!(mail.contains("\r\n.leading dot\r\n"), "{mail}");
    ensure!(mail.contains("ñandú"), "{mail}");
    Ok(())
}
