//! Many clients at once, and slow ones.

use anyhow::{Result, ensure};
use testkit::{Daemon, Dialogue, Suite};

use crate::support::{message, new_user, submit, wait_mail};

#[test]
fn a_thousand_connections() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let user = new_user(&suite, "ana")?;
    let ports = suite.ports();
    let mut open = Vec::new();
    for (daemon, port) in [(Daemon::Smtpd, ports.smtp), (Daemon::Imapd, ports.imap)] {
        for _ in 0..500 {
            let mut session = Dialogue::connect(suite.at(port))?;
            ensure!(session.line()?.is_some(), "closed without a greeting");
            open.push(session);
        }
        let memory = suite.memory(daemon)?;
        ensure!(memory < 400_000, "{daemon:?} takes {memory} KiB");
    }
    // The others are served.
    submit(
        &suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", "in the crowd"),
    )?;
    wait_mail(&suite, &user, "in the crowd")?;
    // And each of the thousand still is.
    for (number, session) in open.iter_mut().enumerate() {
        session.send(if number < 500 { "NOOP" } else { "a NOOP" })?;
    }
    for session in &mut open {
        ensure!(session.line()?.is_some(), "closed");
    }
    Ok(())
}

#[test]
fn past_the_limit_is_told_and_passes() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("smtpd", "max_connections = 10")
        .start()?;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut session = Dialogue::connect(suite.at(suite.ports().smtp))?;
        session.expect("220")?;
        open.push(session);
    }
    let mut one_more = Dialogue::connect(suite.at(suite.ports().smtp))?;
    // A refusal in words, or it waits for a place; but no other answer.
    one_more.send("QUIT")?;
    open.clear();
    let line = one_more.line()?.unwrap_or_default();
    ensure!(
        line.is_empty() || line.starts_with("421") || line.starts_with("220"),
        "{line}"
    );
    testkit::wait_until("there is room again", || {
        let mut session = Dialogue::connect(suite.at(suite.ports().smtp))?;
        Ok(session.expect("220").is_ok().then_some(()))
    })?;
    Ok(())
}

#[test]
fn slow_clients_time_out() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("smtpd", "command_timeout = \"2s\"")
        .option("smtpd", "data_timeout = \"2s\"")
        .start()?;
    let user = new_user(&suite, "ana")?;
    // One octet at a time does not keep a session alive for ever.
    let mut slow = Dialogue::connect(suite.at(suite.ports().smtp))?;
    slow.expect("220")?;
    let mut silent = Dialogue::connect(suite.at(suite.ports().smtp))?;
    silent.expect("220")?;
    testkit::wait_until("the slow session ends", || {
        Ok(slow.send_raw(b"E").is_err().then_some(()))
    })?;
    let line = silent.line()?.unwrap_or_default();
    ensure!(line.starts_with("421 4.4.2"), "{line}");
    submit(
        &suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", "quick"),
    )?;
    wait_mail(&suite, &user, "quick")?;
    Ok(())
}
