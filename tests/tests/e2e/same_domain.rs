//! ana@aula.test writes to lois@aula.test; Lois reads it over POP3S and IMAPS.

use anyhow::Result;
use testkit::{Tool, have, wait_until};

use crate::support::{body, message, new_user, shared, submit, unique, wait_mail};

#[test]
fn one_writes_and_the_other_reads() -> Result<()> {
    let suite = shared()?;
    let (ana, lois) = (new_user(&suite, "ana")?, new_user(&suite, "lois")?);
    let subject = unique("subject ");
    let sent = message(&ana.address, &lois.address, &subject);
    submit(&suite, &ana, &[&lois.address], &sent)?;
    let got = wait_mail(&suite, &lois, &subject)?;
    assert!(
        got.starts_with(&format!("Return-Path: <{}>\r\n", ana.address)),
        "{got}"
    );
    assert!(got.contains("\nReceived: from client.example "), "{got}");
    assert_eq!(body(&got), body(&sent));

    if !have(&["python3"]) {
        return Ok(());
    }
    let ports = suite.ports();
    let read = |script: &str, port: u16| {
        Tool::python(script)
            .args([
                &ports.ip.to_string(),
                &port.to_string(),
                &lois.address,
                &lois.password,
            ])
            .arg(suite.certificate())
            .run()
    };
    let by_pop = read(include_str!("../../clients/read_pop3s.py"), ports.pop3s)?.text();
    assert!(by_pop.contains(&subject), "{by_pop}");
    let by_imap = read(include_str!("../../clients/read_imaps.py"), ports.imaps)?.text();
    assert!(by_imap.contains(&subject), "{by_imap}");
    Ok(())
}

#[test]
fn a_message_to_several_arrives_once_each() -> Result<()> {
    let suite = shared()?;
    let users = [
        new_user(&suite, "one")?,
        new_user(&suite, "two")?,
        new_user(&suite, "three")?,
    ];
    let to: Vec<&str> = users.iter().map(|user| user.address.as_str()).collect();
    let subject = unique("several ");
    // The same recipient twice is one delivery.
    let to: Vec<&str> = to.iter().chain(to.first()).copied().collect();
    submit(
        &suite,
        &users[0],
        &to,
        &message(&users[0].address, "all", &subject),
    )?;
    for user in &users {
        wait_mail(&suite, user, &subject)?;
    }
    wait_until("the queue is empty", || {
        let count = suite.correo(&["queue", "list", "--json"])?.text();
        Ok(!count.contains(&users[0].address)).map(|done| done.then_some(()))
    })?;
    for user in &users {
        assert_eq!(
            crate::support::inbox(&suite, user)?.len(),
            1,
            "{}",
            user.address
        );
    }
    Ok(())
}
