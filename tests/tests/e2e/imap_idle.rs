//! New mail shows itself in IDLE (RFC 2177).

use anyhow::{Context, Result, ensure};

use crate::support::{imap, message, new_user, shared, submit};

#[test]
fn new_mail_appears_by_itself() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "idle")?;
    let mut session = imap(&suite, &user, "INBOX")?;
    session.send("i IDLE")?;
    let line = session.line()?.context("closed")?;
    ensure!(line.starts_with('+'), "{line}");
    for number in 1..=3 {
        submit(
            &suite,
            &user,
            &[&user.address],
            &message(&user.address, "x", "news"),
        )?;
        // The time-out of the socket is what ends a test in which nothing comes.
        loop {
            let line = session.line()?.context("closed")?;
            if line == format!("* {number} EXISTS") {
                break;
            }
            ensure!(line.starts_with("* "), "{line}");
        }
    }
    session.send("DONE")?;
    let lines = session.until_tagged("i")?;
    ensure!(
        lines.last().is_some_and(|line| line.starts_with("i OK")),
        "{lines:?}"
    );
    Ok(())
}
