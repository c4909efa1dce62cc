//! What is refused, and with which codes. Never an open relay.

use anyhow::Result;
use testkit::{Daemon, Dialogue, Suite};

use crate::support::{message, new_user, shared, submission, transaction};

fn mx(suite: &Suite) -> Result<Dialogue> {
    let mut smtp = Dialogue::connect(suite.at(suite.ports().smtp))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    Ok(smtp)
}

#[test]
fn unknown_users_and_relaying() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    let mut smtp = mx(&suite)?;
    smtp.command("MAIL FROM:<someone@example.org>", "250 2.1.0")?;
    smtp.command(&format!("RCPT TO:<nobody-{}>", lois.address), "550 5.1.1")?;
    smtp.command(&format!("RCPT TO:<{}>", lois.address), "250 2.1.5")?;
    for relayed in [
        "someone@example.com",
        "someone%example.com@aula.test",
        "\"someone@example.com\"@aula.test",
        "someone@[192.0.2.1]",
        "@aula.test:someone@example.com",
    ] {
        let command = format!("RCPT TO:<{relayed}>");
        let reply = smtp.command(&command, "5")?;
        assert!(
            reply.starts_with("550") || reply.starts_with("501"),
            "{relayed}: {reply}"
        );
    }
    smtp.command("RCPT TO:<someone@example.com>", "550 5.7.1")?;
    smtp.command("QUIT", "221 2.0.0")?;
    Ok(())
}

#[test]
fn a_local_sender_address_gives_no_right_to_relay() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    let mut smtp = mx(&suite)?;
    smtp.command(&format!("MAIL FROM:<{}>", lois.address), "250")?;
    smtp.command("RCPT TO:<someone@example.com>", "550 5.7.1")?;
    Ok(())
}

#[test]
fn order_and_syntax() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    let mut smtp = Dialogue::connect(suite.at(suite.ports().smtp))?;
    smtp.expect("220")?;
    smtp.command("RCPT TO:<a@aula.test>", "503 5.5.1")?;
    smtp.command("EHLO client.example", "250")?;
    smtp.command("DATA", "503 5.5.1")?;
    smtp.command("MAIL FROM:<a@b", "501 5.")?;
    smtp.command("MAIL FROM:<a@example.org> NOSUCH=1", "555 5.5.4")?;
    smtp.command("MAIL TO:<a@example.org>", "501 5.5.4")?;
    smtp.command("NOSUCHVERB", "500 5.5.")?;
    smtp.command("MAIL FROM:<a@example.org>", "250")?;
    smtp.command("MAIL FROM:<a@example.org>", "503 5.5.1")?;
    smtp.command("DATA", "503 5.5.1")?;
    smtp.command(&format!("RCPT TO:<{}>", lois.address), "250")?;
    smtp.command("RSET", "250")?;
    smtp.command("DATA", "503 5.5.1")?;
    smtp.command("NOOP", "250")?;
    smtp.command("HELP", "214")?;
    smtp.command("VRFY lois", "252")?;
    smtp.command("QUIT", "221 2.0.0")?;
    Ok(())
}

#[test]
fn too_large_is_told_early_and_late() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("smtpd", "max_message_size = \"64KiB\"")
        .start()?;
    let lois = new_user(&suite, "lois")?;
    let mut smtp = mx(&suite)?;
    smtp.command("MAIL FROM:<a@example.org> SIZE=1000000", "552 5.3.4")?;
    smtp.command("MAIL FROM:<a@example.org>", "250")?;
    smtp.command(&format!("RCPT TO:<{}>", lois.address), "250")?;
    smtp.command("DATA", "354")?;
    smtp.send_raw("0123456789\r\n".repeat(20_000).as_bytes())?;
    smtp.command(".", "552 5.3.4")?;
    // The session goes on.
    let small = message("a@example.org", &lois.address, "small");
    transaction(&mut smtp, "a@example.org", &[&lois.address], &small)?;
    Ok(())
}

#[test]
fn submission_needs_a_login() -> Result<()> {
    let suite = shared()?;
    let (ana, lois) = (new_user(&suite, "ana")?, new_user(&suite, "lois")?);
    let mut smtp = Dialogue::connect(suite.at(suite.ports().submission))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    smtp.command(&format!("MAIL FROM:<{}>", ana.address), "530 5.7.0")?;
    // And nobody writes as somebody else.
    let mut smtp = submission(&suite, &ana)?;
    let reply = smtp.command(&format!("MAIL FROM:<{}>", lois.address), "5")?;
    assert!(reply.contains(" 5.7.1 "), "{reply}");
    Ok(())
}

/// Only `<CRLF>.<CRLF>` ends a message: what smuggling relies on does not.
#[test]
fn no_other_end_of_data() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut smtp = mx(&suite)?;
        smtp.command("MAIL FROM:<a@example.org>", "250")?;
        smtp.command(&format!("RCPT TO:<{}>", lois.address), "250")?;
        smtp.command("DATA", "354")?;
        let smuggled = format!("Subject: outer\r\n\r\nx{end}MAIL FROM:<evil@example.org>\r\n");
        smtp.send_raw(smuggled.as_bytes())?;
        smtp.send(".")?;
        // One answer to the one message, then the answer to QUIT.
        smtp.expect("")?;
        smtp.send("QUIT")?;
        smtp.expect("221")?;
    }
    Ok(())
}

#[test]
fn a_queue_without_room_or_without_life_takes_nothing() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("queued", "min_free = \"999999999MiB\"")
        .start()?;
    let lois = new_user(&suite, "lois")?;
    let attempt = |suite: &Suite, start: &str| -> Result<()> {
        let mut smtp = mx(suite)?;
        smtp.send_raw(
            format!(
                "MAIL FROM:<a@example.org>\r\nRCPT TO:<{}>\r\nDATA\r\n",
                lois.address
            )
            .as_bytes(),
        )?;
        // Whichever of the steps says so, in the end there is no 250 for the message.
        for _ in 0..2 {
            let reply = smtp.expect("")?;
            if !reply.starts_with("250") {
                anyhow::ensure!(reply.starts_with(start), "{reply}");
                return Ok(());
            }
        }
        let reply = smtp.expect("")?;
        if reply.starts_with("354") {
            smtp.send("Subject: no room\r\n\r\nx")?;
            smtp.command(".", start)?;
        } else {
            anyhow::ensure!(reply.starts_with(start), "{reply}");
        }
        Ok(())
    };
    attempt(&suite, "452 4.3.1")?;
    suite.kill(Daemon::Queued)?;
    attempt(&suite, "45")?;
    Ok(())
}
