//! Postfix as the other side, in both directions.

use anyhow::{Context, Result, ensure};
use testkit::{DnsServer, Network, Postfix, Suite, Zone, has_root, have, wait_until};

use crate::support::message;

#[test]
fn postfix_in_both_directions() -> Result<()> {
    if !have(&[
        "ip", "knotd", "kdig", "python3", "bash", "postfix", "sendmail",
    ]) || !has_root()
    {
        return Ok(());
    }
    let network = Network::new(&["dns", "aula", "foreign"])?;
    let (dns, a, f) = (network.host(0)?, network.host(1)?, network.host(2)?);
    let dir = tempfile::tempdir()?;
    let (ip_a, ip_f) = (a.ip(), f.ip());
    let (aula, foreign) = (
        format!("@ MX 10 mx\nmx A {ip_a}"),
        format!("@ MX 10 mx\nmx A {ip_f}"),
    );
    let zones = [
        Zone {
            name: "test",
            records: "x TXT x",
        },
        Zone {
            name: "aula.test",
            records: &aula,
        },
        Zone {
            name: "foreign.test",
            records: &foreign,
        },
    ];
    let _server = DnsServer::start(dns, dir.path(), &zones)?;
    let suite = Suite::of("aula.test")
        .on(a)
        .account("ana", "ana-secret")
        .start()?;
    let postfix = Postfix::start(f, "foreign.test")?;
    let logs = || format!("{}\n{}", suite.recent_logs(), postfix.log());
    let ports = suite.ports();
    let python = |script: &str, port: u16| {
        a.tool("python3")
            .args([
                "-c",
                script,
                &ports.ip.to_string(),
                &port.to_string(),
                "ana@aula.test",
                "ana-secret",
            ])
            .arg(suite.certificate())
    };

    // Larger than a packet and than what is sent inline, with lines that begin with dots.
    let mut text = message("ana@aula.test", "bob@foreign.test", "to Postfix");
    text.push_str(&".dots and 8 bit \u{e9}\r\n".repeat(10_000));
    python(include_str!("../../clients/submit.py"), ports.submission)
        .arg("bob@foreign.test")
        .input(text.as_bytes())
        .run()?;
    let got = wait_until("Postfix has the message", || {
        Ok(postfix
            .messages()?
            .into_iter()
            .find(|mail| mail.contains("Subject: to Postfix")))
    })
    .with_context(logs)?;
    let lf = text.replace("\r\n", "\n");
    let body = lf.split_once("\n\n").map_or("", |(_, body)| body);
    ensure!(got.ends_with(body), "the body is another one");

    postfix.send(
        "bob@foreign.test",
        "ana@aula.test",
        "Subject: from Postfix\n\n.hello\n",
    )?;
    let read = |text: &str| {
        wait_until(&format!("ana has {text}"), || {
            let read = python(include_str!("../../clients/read_imaps.py"), ports.imaps)
                .run()?
                .text();
            Ok(read.contains(text).then_some(read))
        })
        .with_context(logs)
    };
    let mail = read("Subject: from Postfix")?;
    ensure!(mail.contains("\r\n.hello\r\n"), "{mail}");

    // Postfix hears 550 for an unknown user and tells its sender.
    postfix.send(
        "bob@foreign.test",
        "nobody@aula.test",
        "Subject: to nobody\n\nhello\n",
    )?;
    wait_until("Postfix bounces", || {
        Ok(postfix
            .messages()?
            .into_iter()
            .find(|mail| mail.contains("5.1.1")))
    })
    .with_context(logs)?;
    Ok(())
}
