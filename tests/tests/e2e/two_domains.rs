//! Two suites on hosts of their own, with a real name server between them.

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{DnsServer, Network, Suite, Tool, Zone, has_root, have, reverse_records, wait_until};

use crate::support::{User, message, unique};

struct World {
    ana: User,
    lois: User,
    aula: Suite,
    aulabuntu: Suite,
    _dns: DnsServer,
    _dir: TempDir,
    network: Network,
}

fn world() -> Result<World> {
    let network = Network::new(&["dns", "aula", "aulabuntu"])?;
    let (dns, a, b) = (network.host(0)?, network.host(1)?, network.host(2)?);
    let dir = tempfile::tempdir()?;
    let net = a.ip().octets()[2];
    let reverse = format!("{net}.18.198.in-addr.arpa");
    let silent = format!("198.18.{net}.99");
    // The best exchanger of aulabuntu.test does not answer: the next one has to be taken.
    let (ip_a, ip_b) = (a.ip(), b.ip());
    let aula = format!("@ MX 10 mx\nmx A {ip_a}");
    let aulabuntu = format!("@ MX 5 silent\n@ MX 10 mx\nsilent A {silent}\nmx A {ip_b}");
    let no_mx = format!("@ A {ip_b}");
    let unreachable = format!("@ MX 10 silent\nsilent A {silent}");
    let pointers = reverse_records(&[(2, "mx.aula.test"), (3, "mx.aulabuntu.test")]);
    let zone = |name, records| Zone { name, records };
    let zones = [
        zone("test", "x TXT x"),
        zone("aula.test", &aula),
        zone("aulabuntu.test", &aulabuntu),
        zone("nomx.test", &no_mx),
        zone("nullmx.test", "@ MX 0 ."),
        zone("badmx.test", "@ MX 10 gone"),
        zone("unreachable.test", &unreachable),
        zone(&reverse, &pointers),
    ];
    let server = DnsServer::start(dns, dir.path(), &zones)?;
    let user = |address: &str, password: &str| User {
        address: address.to_owned(),
        password: password.to_owned(),
    };
    Ok(World {
        ana: user("ana@aula.test", "ana-secret"),
        lois: user("lois@aulabuntu.test", "lois-secret"),
        aula: Suite::of("aula.test")
            .on(a)
            .account("ana", "ana-secret")
            .start()?,
        aulabuntu: Suite::of("aulabuntu.test")
            .on(b)
            .account("lois", "lois-secret")
            .start()?,
        _dns: server,
        _dir: dir,
        network,
    })
}

impl World {
    fn python(&self, host: usize, script: &str) -> Result<Tool> {
        Ok(self
            .network
            .host(host)?
            .tool("python3")
            .args(["-c", script]))
    }

    fn submit(
        &self,
        from: &User,
        suite: &Suite,
        host: usize,
        to: &str,
        subject: &str,
    ) -> Result<()> {
        let script = include_str!("../../clients/submit.py");
        self.python(host, script)?
            .args([
                suite.ports().ip.to_string(),
                suite.ports().submission.to_string(),
            ])
            .args([&from.address, &from.password])
            .arg(suite.certificate())
            .arg(to)
            .input(message(&from.address, to, subject))
            .run()?;
        Ok(())
    }

    fn read(&self, user: &User, suite: &Suite, host: usize) -> Result<String> {
        let script = include_str!("../../clients/read_imaps.py");
        let read = self
            .python(host, script)?
            .args([
                suite.ports().ip.to_string(),
                suite.ports().imaps.to_string(),
            ])
            .args([&user.address, &user.password])
            .arg(suite.certificate())
            .run()?;
        Ok(read.text())
    }

    fn wait(&self, user: &User, suite: &Suite, host: usize, text: &str) -> Result<String> {
        wait_until(&format!("{} gets {text}", user.address), || {
            let read = self.read(user, suite, host)?;
            Ok(read.contains(text).then_some(read))
        })
        .with_context(|| {
            format!(
                "{}{}",
                self.aula.recent_logs(),
                self.aulabuntu.recent_logs()
            )
        })
    }
}

#[test]
fn mail_goes_from_domain_to_domain_and_each_failure_is_told_rightly() -> Result<()> {
    if !have(&["ip", "knotd", "kdig", "python3", "bash"]) || !has_root() {
        return Ok(());
    }
    let world = world()?;
    let (ana, lois) = (&world.ana, &world.lois);

    let there = unique("across ");
    world.submit(ana, &world.aula, 1, &lois.address, &there)?;
    let got = world.wait(lois, &world.aulabuntu, 2, &there)?;
    ensure!(got.contains("by mx.aulabuntu.test"), "{got}");
    let back = unique("back ");
    world.submit(lois, &world.aulabuntu, 2, &ana.address, &back)?;
    world.wait(ana, &world.aula, 1, &back)?;

    // Without MX the address itself is the exchanger (RFC 5321 §5.1); that host relays for nobody.
    world.submit(ana, &world.aula, 1, "someone@nomx.test", "to nomx")?;
    let report = world.wait(ana, &world.aula, 1, "someone@nomx.test\r\nAction: failed")?;
    ensure!(report.contains("Remote-MTA: dns; "), "{report}");
    // RFC 7505 §4.2, and a domain that is not there.
    for (address, status) in [("a@nullmx.test", "5.1.10"), ("b@nosuch.test", "5.1.2")] {
        world.submit(ana, &world.aula, 1, address, "will bounce")?;
        let fields = format!("{address}\r\nAction: failed\r\nStatus: {status}\r\n");
        world.wait(ana, &world.aula, 1, &fields)?;
    }
    // An exchanger without address is the domain's fault and final (RFC 5321 §5.1).
    world.submit(ana, &world.aula, 1, "c@badmx.test", "will bounce")?;
    world.wait(
        ana,
        &world.aula,
        1,
        "c@badmx.test\r\nAction: failed\r\nStatus: 5.",
    )?;

    // A host that does not answer and a name server that will not tell are tried again.
    for address in ["d@unreachable.test", "e@refused.example"] {
        world.submit(ana, &world.aula, 1, address, "will wait")?;
        wait_until(&format!("mail for {address} is deferred"), || {
            let listed = world.aula.correo(&["queue", "list", "--json"])?.text();
            let lines = listed.split("queue_id");
            let deferred =
                |entry: &str| entry.contains(address) && entry.to_lowercase().contains("deferred");
            Ok(lines.into_iter().any(deferred).then_some(()))
        })
        .with_context(|| world.aula.recent_logs())?;
    }

    // A redirected account of the other domain.
    let redirected = "ana@aulabuntu.test";
    world
        .aulabuntu
        .correo(&["alias", "add", redirected, &ana.address])?;
    let subject = unique("round ");
    world.submit(ana, &world.aula, 1, redirected, &subject)?;
    world.wait(ana, &world.aula, 1, &subject)?;
    two_servers_in_a_circle(&world)?;
    plaintext_logins_need_tls(&world)
}

/// Aliases of two servers that lead to each other: caught by counting hops, and told.
fn two_servers_in_a_circle(world: &World) -> Result<()> {
    world
        .aula
        .correo(&["alias", "add", "circle@aula.test", "circle@aulabuntu.test"])?;
    world
        .aulabuntu
        .correo(&["alias", "add", "circle@aulabuntu.test", "circle@aula.test"])?;
    world.submit(
        &world.ana,
        &world.aula,
        1,
        "circle@aula.test",
        "in a circle",
    )?;
    world.wait(&world.ana, &world.aula, 1, "5.4.6")?;
    Ok(())
}

fn plaintext_logins_need_tls(world: &World) -> Result<()> {
    let script = include_str!("../../clients/plaintext_login.py");
    let ports = world.aula.ports();
    world
        .python(2, script)?
        .arg(ports.ip.to_string())
        .args([ports.submission, ports.pop3, ports.imap].map(|port| port.to_string()))
        .args([&world.ana.address, &world.ana.password])
        .run()?;
    Ok(())
}
