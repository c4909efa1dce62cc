//! POP3 (RFC 1939, 2449, 2595, 5034).

use anyhow::{Context, Result, ensure};
use testkit::{Dialogue, Suite, Tool, have};

use crate::support::{User, inbox, message, new_user, plain, shared, submit, wait_mail};

fn filled(suite: &Suite, count: usize) -> Result<User> {
    let user = new_user(suite, "pop")?;
    for number in 0..count {
        let subject = format!("number {number}.");
        submit(
            suite,
            &user,
            &[&user.address],
            &message(&user.address, "x", &subject),
        )?;
        wait_mail(suite, &user, &subject)?;
    }
    Ok(user)
}

fn ok(pop: &mut Dialogue, command: &str) -> Result<String> {
    pop.send(command)?;
    let line = pop.line()?.context("closed")?;
    ensure!(line.starts_with("+OK"), "{command}: {line}");
    Ok(line)
}

fn many(pop: &mut Dialogue, command: &str) -> Result<Vec<String>> {
    ok(pop, command)?;
    let mut lines = Vec::new();
    loop {
        let line = pop.line()?.context("closed")?;
        if line == "." {
            return Ok(lines);
        }
        lines.push(line);
    }
}

fn login(suite: &Suite, user: &User) -> Result<Dialogue> {
    let mut pop = Dialogue::connect(suite.at(suite.ports().pop3))?;
    ensure!(pop.line()?.context("closed")?.starts_with("+OK"));
    ok(&mut pop, &format!("USER {}", user.address))?;
    ok(&mut pop, &format!("PASS {}", user.password))?;
    Ok(pop)
}

#[test]
fn scram_and_other_logins_by_mpop() -> Result<()> {
    if !have(&["mpop"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = filled(&suite, 2)?;
    for (port, starttls) in [(suite.ports().pop3, "on"), (suite.ports().pop3s, "off")] {
        for method in ["scram-sha-256", "plain", "login", "user"] {
            let folder = tempfile::tempdir()?;
            for name in ["new", "cur", "tmp"] {
                std::fs::create_dir(folder.path().join(name))?;
            }
            Tool::new("mpop")
                .args(["--file=/dev/null", "--host=localhost", "--tls=on"])
                .args(["--keep=on", "--quiet"])
                .arg(format!("--port={port}"))
                .arg(format!("--tls-starttls={starttls}"))
                .arg(format!(
                    "--tls-trust-file={}",
                    suite.certificate().display()
                ))
                .arg(format!("--auth={method}"))
                .arg(format!("--user={}", user.address))
                .arg(format!("--passwordeval=echo {}", user.password))
                .arg(format!("--delivery=maildir,{}", folder.path().display()))
                .arg(format!(
                    "--uidls-file={}",
                    folder.path().join("uidls").display()
                ))
                .run()?;
            let mut mails = Vec::new();
            for entry in std::fs::read_dir(folder.path().join("new"))? {
                mails.push(std::fs::read_to_string(entry?.path())?);
            }
            mails.sort_by_key(|mail| mail.contains("number 1."));
            let found = mails.iter().enumerate();
            let right = found.filter(|(at, mail)| mail.contains(&format!("number {at}.")));
            ensure!(
                right.count() == 2 && mails.len() == 2,
                "{method}: {mails:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn messages_go_only_at_quit() -> Result<()> {
    let suite = shared()?;
    let user = filled(&suite, 3)?;
    let mut pop = login(&suite, &user)?;
    assert!(ok(&mut pop, "STAT")?.starts_with("+OK 3 "));
    let ids = many(&mut pop, "UIDL")?;
    assert_eq!(many(&mut pop, "LIST")?.len(), 3);
    let whole = many(&mut pop, "RETR 2")?;
    assert!(
        whole.contains(&"Subject: number 1.".to_owned()),
        "{whole:?}"
    );
    let top = many(&mut pop, "TOP 2 0")?;
    assert_eq!(top.last().map(String::as_str), Some(""));
    ok(&mut pop, "DELE 2")?;
    pop.send("RETR 2")?;
    assert!(pop.line()?.context("closed")?.starts_with("-ERR"));
    assert!(ok(&mut pop, "STAT")?.starts_with("+OK 2 "));
    ok(&mut pop, "RSET")?;
    assert!(ok(&mut pop, "STAT")?.starts_with("+OK 3 "));
    ok(&mut pop, "DELE 1")?;
    // Without QUIT nothing goes.
    drop(pop);
    let mut pop = testkit::wait_until("the maildrop is free again", || {
        Ok(login(&suite, &user).ok())
    })?;
    assert_eq!(many(&mut pop, "UIDL")?, ids);
    ok(&mut pop, "DELE 2")?;
    ok(&mut pop, "NOOP")?;
    ok(&mut pop, "QUIT")?;
    assert_eq!(inbox(&suite, &user)?.len(), 2);
    let mut pop = testkit::wait_until("the maildrop is free again", || {
        Ok(login(&suite, &user).ok())
    })?;
    let left: Vec<_> = many(&mut pop, "UIDL")?
        .iter()
        .filter_map(|l| l.split(' ').nth(1).map(str::to_owned))
        .collect();
    let expected: Vec<_> = [&ids[0], &ids[2]]
        .iter()
        .filter_map(|l| l.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(left, expected);
    Ok(())
}

#[test]
fn phases_and_capabilities() -> Result<()> {
    let suite = shared()?;
    let user = filled(&suite, 1)?;
    let mut pop = Dialogue::connect(suite.at(suite.ports().pop3))?;
    pop.line()?;
    let capabilities = many(&mut pop, "CAPA")?.join("\n");
    for capability in [
        "USER",
        "TOP",
        "UIDL",
        "PIPELINING",
        "STLS",
        "SASL ",
        "RESP-CODES",
    ] {
        assert!(
            capabilities.contains(capability),
            "{capability} in {capabilities}"
        );
    }
    for early in [
        "STAT", "LIST", "RETR 1", "DELE 1", "UIDL", "TOP 1 1", "RSET",
    ] {
        pop.send(early)?;
        assert!(
            pop.line()?.context("closed")?.starts_with("-ERR"),
            "{early}"
        );
    }
    // All in one packet.
    let auth = format!(
        "AUTH PLAIN {}\r\nSTAT\r\nRETR 1\r\nNOSUCH\r\nQUIT\r\n",
        plain(&user)
    );
    pop.send_raw(auth.as_bytes())?;
    let answers = String::from_utf8_lossy(&pop.rest()?).into_owned();
    let starts: Vec<_> = answers
        .lines()
        .filter(|l| l.starts_with("+OK") || l.starts_with("-ERR"))
        .map(|l| &l[..3])
        .collect();
    assert_eq!(starts, ["+OK", "+OK", "+OK", "-ER", "+OK"], "{answers}");
    Ok(())
}

#[test]
fn python_over_stls_and_a_wrong_password() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    let user = filled(&suite, 2)?;
    let said = Tool::python(include_str!("../../clients/pop3_stls.py"))
        .args([suite.ports().ip.to_string(), suite.ports().pop3.to_string()])
        .args([&user.address, &user.password])
        .arg(suite.certificate())
        .run()?;
    assert!(said.text().contains("2 messages"), "{}", said.all());
    Ok(())
}
