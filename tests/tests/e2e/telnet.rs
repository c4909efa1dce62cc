//! The classic session, typed by hand.

use anyhow::Result;
use testkit::{Dialogue, Suite};

use crate::support::{User, queue_id, wait_mail};

#[test]
fn a_session_as_people_type_it() -> Result<()> {
    let suite = Suite::of("aula.test")
        .account("anton", "anton-secret")
        .start()?;
    let mut telnet = Dialogue::connect(suite.at(suite.ports().smtp))?;
    telnet.expect("220 ")?;
    telnet.command("HELO", "250 ")?;
    telnet.command("MAIL FROM: root", "250 2.1.0")?;
    telnet.command("RCPT TO: anton", "250 2.1.5")?;
    telnet.command("DATA", "354 ")?;
    telnet.send("SUBJECT: a classic")?;
    let reply = telnet.command(".", "250 2.0.0")?;
    queue_id(&reply)?;
    telnet.command("quit", "221 2.0.0")?;
    assert!(telnet.rest()?.is_empty());

    let anton = User {
        address: "anton@aula.test".to_owned(),
        password: "anton-secret".to_owned(),
    };
    let mail = wait_mail(&suite, &anton, "SUBJECT: a classic\r\n")?;
    for field in [
        "Return-Path: <root@aula.test>\r\n",
        "\nDate: ",
        "\nFrom: ",
        "\nMessage-ID: <",
    ] {
        assert!(mail.contains(field), "{field} is missing in:\n{mail}");
    }
    Ok(())
}
