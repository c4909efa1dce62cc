//! Reports to senders (RFC 3464), and none where none may be.

use anyhow::{Result, ensure};
use testkit::{Suite, Tool, have};

use crate::support::{message, new_user, submit, wait_mail};

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
