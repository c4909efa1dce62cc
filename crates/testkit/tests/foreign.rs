//! The rig without any of our daemons: two Postfixes find each other through the name server.

use anyhow::{Context, Result};
use testkit::{DnsServer, Network, Postfix, Zone, has_root, have, wait_until};

#[test]
fn two_postfixes_exchange_mail() -> Result<()> {
    if !have(&["ip", "knotd", "kdig", "bash", "postfix", "sendmail"]) || !has_root() {
        return Ok(());
    }
    let network = Network::new(&["dns", "one", "two"])?;
    let dir = tempfile::tempdir()?;
    let (one, two) = (network.host(1)?, network.host(2)?);
    let records = format!("@ MX 10 mx\nmx A {}", two.ip());
    let zones = [Zone {
        name: "two.test",
        records: &records,
    }];
    let _server = DnsServer::start(network.host(0)?, dir.path(), &zones)?;
    let sender = Postfix::start(one, "one.test")?;
    let receiver = Postfix::start(two, "two.test")?;
    sender.send("a@one.test", "b@two.test", "Subject: hello\n\nbody\n")?;
    wait_until("the other has the message", || {
        Ok(receiver
            .messages()?
            .into_iter()
            .find(|mail| mail.contains("Subject: hello")))
    })
    .with_context(|| format!("{}\n{}", sender.log(), receiver.log()))?;
    Ok(())
}
