//! Reports to senders (RFC 3464), and none where none may be.

use anyhow::{Context, Result, ensure};
use testkit::{Suite, Tool, have, wait_until};

use crate::support::{inbox, message, new_user, submit, transaction, wait_mail};

#[test]
fn a_bounce_is_a_report_that_programs_can_read() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let ana = new_user(&suite, "ana")?;
    let gone = suite.address("gone");
    suite.add_account(&gone, "x-secret")?;
    // It is there at RCPT and gone at delivery, so the queue has to bounce.
    let alias = suite.address("alias");
    suite.correo(&["alias", "add", &alias, "someone@nothing.invalid"])?;
    submit(
        &suite,
        &ana,
        &[&alias],
        &message(&ana.address, &alias, "will bounce"),
    )?;
    let report = wait_mail(&suite, &ana, "multipart/report")?;
    for text in [
        "Return-Path: <>\r\n",
        "report-type=delivery-status",
        "message/delivery-status",
        "Action: failed\r\n",
        "Final-Recipient: rfc822; someone@nothing.invalid\r\n",
        "Auto-Submitted: auto-replied",
        "Subject: will bounce\r\n",
    ] {
        ensure!(report.contains(text), "{text} is missing in:\n{report}");
    }
    if have(&["python3"]) {
        let script = "import email, sys\n\
            m = email.message_from_bytes(sys.stdin.buffer.read())\n\
            assert m.get_content_type() == 'multipart/report'\n\
            parts = m.get_payload()\n\
            kinds = [p.get_content_type() for p in parts]\n\
            assert kinds[:2] == ['text/plain', 'message/delivery-status'], kinds\n\
            fields = parts[1].get_payload()\n\
            assert fields[0]['Reporting-MTA'].endswith('mx.aula.test'), fields[0]\n\
            assert fields[1]['Action'] == 'failed' and fields[1]['Status'].startswith('5.')\n";
        Tool::python(script).input(report).run()?;
    }
    Ok(())
}

#[test]
fn delays_and_the_end_of_patience_are_told() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("queued", "retry_min = \"1s\"")
        .option("queued", "retry_max = \"1s\"")
        .option("queued", "delay_warning = \"1s\"")
        .option("queued", "lifetime = \"6s\"")
        .option("queued", "min_attempts = 2")
        .start()?;
    let ana = new_user(&suite, "ana")?;
    // Nobody listens there.
    let to = "someone@[127.0.0.77]";
    submit(&suite, &ana, &[to], &message(&ana.address, to, "will wait"))?;
    let delay = wait_mail(&suite, &ana, "Action: delayed\r\n")?;
    ensure!(delay.contains("\r\nStatus: 4."), "{delay}");
    ensure!(delay.contains("\r\nWill-Retry-Until: "), "{delay}");
    let end = wait_mail(&suite, &ana, "Action: failed\r\n")?;
    ensure!(
        end.contains("Final-Recipient: rfc822; someone@[127.0.0.77]\r\n"),
        "{end}"
    );
    Ok(())
}

/// A report that cannot be delivered is not reported, and neither is other mail from `<>`.
#[test]
fn nothing_is_reported_to_the_null_sender() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let ana = new_user(&suite, "ana")?;
    let alias = suite.address("alias");
    suite.correo(&["alias", "add", &alias, "someone@nothing.invalid"])?;
    let mut smtp = testkit::Dialogue::connect(suite.at(suite.ports().smtp))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    let text = message(&ana.address, &alias, "from nobody");
    transaction(&mut smtp, "", &[&alias], &text)?;
    wait_until("the queue is empty", || {
        let listed = suite.correo(&["queue", "list", "--json"])?.text();
        Ok((!listed.contains("nothing.invalid")).then_some(()))
    })
    .with_context(|| suite.recent_logs())?;
    ensure!(inbox(&suite, &ana)?.is_empty());
    Ok(())
}
