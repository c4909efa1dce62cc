//! Mechanisms, with and without TLS, with and without an initial response.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use testkit::{Dialogue, Suite, Tool, have};

use crate::support::{User, message, new_user, plain, shared, submission, unique, wait_mail};

fn greeted(suite: &Suite) -> Result<Dialogue> {
    let mut smtp = Dialogue::connect(suite.at(suite.ports().submission))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    Ok(smtp)
}

#[test]
fn plain_and_login() -> Result<()> {
    let suite = shared()?;
    let ana = new_user(&suite, "ana")?;
    let (name, password) = (BASE64.encode(&ana.address), BASE64.encode(&ana.password));

    submission(&suite, &ana)?;
    let mut smtp = greeted(&suite)?;
    smtp.command("AUTH PLAIN", "334 ")?;
    smtp.command(&plain(&ana), "235 2.7.0")?;
    smtp.command("AUTH PLAIN", "503 5.5.1")?;

    let mut smtp = greeted(&suite)?;
    smtp.command("AUTH LOGIN", "334 ")?;
    smtp.command(&name, "334 ")?;
    smtp.command(&password, "235 2.7.0")?;

    let mut smtp = greeted(&suite)?;
    smtp.command(&format!("AUTH LOGIN {name}"), "334 ")?;
    smtp.command(&password, "235 2.7.0")?;
    Ok(())
}

#[test]
fn failures() -> Result<()> {
    let suite = shared()?;
    let ana = new_user(&suite, "ana")?;
    let mut smtp = greeted(&suite)?;
    let wrong = User {
        password: "wrong".to_owned(),
        ..ana.clone()
    };
    smtp.command(&format!("AUTH PLAIN {}", plain(&wrong)), "535 5.7.8")?;
    let nobody = User {
        address: suite.address("nobody-at-all"),
        ..ana.clone()
    };
    smtp.command(&format!("AUTH PLAIN {}", plain(&nobody)), "535 5.7.8")?;
    smtp.command("AUTH PLAIN", "334")?;
    smtp.command("*", "501 5.")?;
    smtp.command("AUTH PLAIN !!!", "501 5.5.2")?;
    smtp.command("AUTH NOSUCH", "504 5.5.4")?;
    // The session is none the worse.
    smtp.command(&format!("AUTH PLAIN {}", plain(&ana)), "235")?;
    Ok(())
}

#[test]
fn scram_by_msmtp_over_starttls_and_tls() -> Result<()> {
    if !have(&["msmtp"]) {
        return Ok(());
    }
    let suite = shared()?;
    let ana = new_user(&suite, "ana")?;
    for (port, starttls) in [
        (suite.ports().submission, "on"),
        (suite.ports().submissions, "off"),
    ] {
        for method in ["scram-sha-256", "plain", "login"] {
            let subject = unique("by msmtp ");
            Tool::new("msmtp")
                .args(["--file=/dev/null", "--host=localhost", "--tls=on"])
                .args([
                    format!("--port={port}"),
                    format!("--tls-starttls={starttls}"),
                ])
                .arg(format!(
                    "--tls-trust-file={}",
                    suite.certificate().display()
                ))
                .args([
                    format!("--auth={method}"),
                    format!("--user={}", ana.address),
                ])
                .args([format!("--passwordeval=echo {}", ana.password)])
                .args([format!("--from={}", ana.address), ana.address.clone()])
                .input(message(&ana.address, &ana.address, &subject))
                .run()?;
            wait_mail(&suite, &ana, &subject)?;
        }
    }
    Ok(())
}

/// What was typed before STARTTLS must not count behind it.
#[test]
fn nothing_survives_starttls() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let suite = shared()?;
    Tool::python(include_str!("../../clients/starttls_injection.py"))
        .args([
            suite.ports().ip.to_string(),
            suite.ports().submission.to_string(),
        ])
        .run()?;
    Ok(())
}
