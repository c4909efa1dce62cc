//! Passwords do not get into logs, in whatever way they come.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use testkit::{Dialogue, Suite};

use crate::support::{User, imap, inbox, message, plain, submit, wait_mail};

#[test]
fn passwords_are_not_logged() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("log", "filter = \"trace\"")
        .start()?;
    let password = "Hunter2-Passw0rd";
    let user = User {
        address: suite.address("ana"),
        password: password.to_owned(),
    };
    suite.add_account(&user.address, password)?;
    submit(
        &suite,
        &user,
        &[&user.address],
        &message(&user.address, "x", "body-of-a-mail-7351"),
    )?;
    wait_mail(&suite, &user, "body-of-a-mail-7351")?;
    inbox(&suite, &user)?;
    // Typed where it does not belong.
    let mut smtp = Dialogue::connect(suite.at(suite.ports().submission))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    smtp.command("AUTH LOGIN", "334")?;
    smtp.command(&BASE64.encode(&user.address), "334")?;
    smtp.command(&BASE64.encode(format!("{password}-wrong")), "535")?;
    let mut pop = Dialogue::connect(suite.at(suite.ports().pop3))?;
    pop.line()?;
    pop.send(&format!("USER {}", user.address))?;
    pop.line()?;
    pop.send(&format!("PASS {password}-wrong"))?;
    pop.line()?;
    let mut session = imap(&suite, &user, "INBOX")?;
    session.send("a LOGOUT")?;
    let mut session = Dialogue::connect(suite.at(suite.ports().imap))?;
    session.line()?;
    session.send(&format!("a LOGIN {} {password}-wrong", user.address))?;
    session.until_tagged("a")?;
    let initial = plain(&user);
    session.send(&format!("b AUTHENTICATE PLAIN {initial}"))?;
    session.until_tagged("b")?;
    let logs = suite.logs();
    ensure!(
        logs.contains("login"),
        "the log does not tell of logins:\n{logs}"
    );
    for secret in [password.to_owned(), BASE64.encode(password), initial] {
        let line = logs.lines().find(|line| line.contains(&secret));
        ensure!(line.is_none(), "a secret is in the log: {line:?}");
    }
    let line = suite
        .logs()
        .lines()
        .find(|line| line.contains("body-of-a-mail-7351"))
        .map(str::to_owned);
    ensure!(
        line.is_none(),
        "a message's content is in the log: {line:?}"
    );
    Ok(())
}
