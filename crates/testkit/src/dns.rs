use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{Host, Process, wait_until};

/// A zone: its name, and records in the form of zone files without SOA and NS.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    /// Such as `aula.test`.
    pub name: &'a str,
    /// Lines such as `@ MX 10 mx`.
    pub records: &'a str,
}

/// Knot DNS on a host, port 53, with zones of the test's own.
#[derive(Debug)]
pub struct DnsServer {
    process: Process,
}

impl DnsServer {
    /// Starts it and waits until it answers. `dir` is for its files.
    pub fn start(host: &Host, dir: &Path, zones: &[Zone<'_>]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let ip = host.ip();
        let place = dir.display();
        let mut config = format!(
            "server:\n  listen: [ {ip}@53 ]\n  rundir: {place}\n  user: root:root\n  pidfile: \
             {place}/knot.pid\ndatabase:\n  storage: {place}\nlog:\n  - target: stderr\n    any: \
             info\ntemplate:\n  - id: default\n    storage: {place}\n    zonefile-sync: -1\n\
             zone:\n"
        );
        for zone in zones {
            let name = zone.name;
            config.push_str("  - domain: ");
            config.push_str(name);
            config.push_str("\n    file: ");
            config.push_str(name);
            config.push_str(".zone\n");
            fs::write(
                dir.join(format!("{name}.zone")),
                format!(
                    "$ORIGIN {name}.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\n\
                     ns A {ip}\n{}\n",
                    zone.records
                ),
            )?;
        }
        let file = dir.join("knot.conf");
        fs::write(&file, config)?;
        let config = file.display().to_string();
        let process = host.start("knotd", &["-c", &config], &dir.join("knot.log"))?;
        let mut server = Self { process };
        let first = zones.first().context("no zone")?.name;
        wait_until("the name server answers", || {
            anyhow::ensure!(
                server.process.ended()?.is_none(),
                "{}",
                server.process.log()
            );
            let asked = host
                .tool("kdig")
                .args([
                    &format!("@{ip}"),
                    "+short",
                    "+timeout=1",
                    "+retry=0",
                    first,
                    "SOA",
                ])
                .output()?;
            Ok(asked.text().contains("hostmaster").then_some(()))
        })?;
        Ok(server)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// PTR records of a reverse zone: the last number of each address and its name.
pub fn reverse_records(hosts: &[(u8, &str)]) -> String {
    let lines = hosts
        .iter()
        .map(|(number, name)| format!("{number} PTR {name}."));
    lines.collect::<Vec<_>>().join("\n")
}
