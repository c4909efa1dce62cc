//! SIGTERM lets sessions and deliveries come to a good end; SIGHUP reloads.

use anyhow::{Context, Result, ensure};
use testkit::{Daemon, Dialogue, Suite, wait_until};

use crate::support::{imap, message, new_user, submission, submit, wait_mail};

#[test]
fn sessions_hear_of_the_end() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let user = new_user(&suite, "ana")?;
    let mut smtp = submission(&suite, &user)?;
    let mut session = imap(&suite, &user, "INBOX")?;
    session.send("i IDLE")?;
    session.line()?;
    for daemon in [Daemon::Smtpd, Daemon::Imapd, Daemon::Pop3d] {
        let status = suite.terminate(daemon)?;
        ensure!(
            status.success(),
            "{daemon:?}: {status}\n{}",
            suite.log(daemon)
        );
    }
    let line = smtp.line()?.context("closed without a word")?;
    ensure!(line.starts_with("421 4.3.2"), "{line}");
    let rest = String::from_utf8_lossy(&session.rest()?).into_owned();
    ensure!(rest.contains("* BYE"), "{rest}");
    for daemon in [
        Daemon::Remotedeliver,
        Daemon::Localdeliver,
        Daemon::Queued,
        Daemon::Directoryd,
    ] {
        let status = suite.terminate(daemon)?;
        ensure!(
            status.success(),
            "{daemon:?}: {status}\n{}",
            suite.log(daemon)
        );
    }
    for daemon in Daemon::ALL {
        suite.start(daemon)?;
    }
    suite.wait_ready()?;
    submit(
        &suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", "after the restart"),
    )?;
    wait_mail(&suite, &user, "after the restart")?;
    Ok(())
}

#[test]
fn a_new_certificate_counts_after_sighup() -> Result<()> {
    if !testkit::have(&["openssl"]) {
        return Ok(());
    }
    let suite = Suite::of("aula.test").start()?;
    let other = Suite::of("other.test").write()?;
    let shown = |suite: &Suite| {
        testkit::Tool::new("openssl")
            .args([
                "s_client",
                "-connect",
                &suite.at(suite.ports().imaps).to_string(),
            ])
            .output()
            .map(|output| output.text())
    };
    let before = shown(&suite)?;
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(other.home().join(file), suite.home().join(file))?;
    }
    suite.signal(Daemon::Imapd, nix::sys::signal::Signal::SIGHUP)?;
    let certificate = |text: &str| {
        let start = text.find("-----BEGIN CERTIFICATE").unwrap_or(0);
        let end = text.find("-----END CERTIFICATE").unwrap_or(0);
        text.get(start..end).unwrap_or_default().to_owned()
    };
    ensure!(!certificate(&before).is_empty(), "{before}");
    wait_until("the new certificate is shown", || {
        Ok((certificate(&shown(&suite)?) != certificate(&before)).then_some(()))
    })?;
    let mut imap = Dialogue::connect(suite.at(suite.ports().imap))?;
    ensure!(imap.line()?.is_some_and(|line| line.starts_with("* OK")));
    Ok(())
}
