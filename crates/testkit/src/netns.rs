use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::{Process, Tool};

/// Hosts of their own in network namespaces, joined by a bridge. Needs root. Everything is taken
/// away when this is dropped.
#[derive(Debug)]
pub struct Network {
    /// Namespaces have names like `correo-1234-0-a`.
    prefix: String,
    hosts: Vec<Host>,
}

/// One host: a namespace with an address in 198.18.0.0/15, the range for tests (RFC 2544).
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    ip: Ipv4Addr,
}

impl Network {
    /// Makes a host with the number n for each name, with the address `198.18.X.n`. All of them
    /// ask the first one for names.
    pub fn new(names: &[&str]) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("correo-{}-{number}", std::process::id());
        let mut network = Self {
            prefix,
            hosts: Vec::new(),
        };
        let bridge = network.bridge();
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for (at, name) in names.iter().enumerate() {
            let host = Host {
                namespace: format!("{}-{name}", network.prefix),
                ip: Ipv4Addr::new(198, 18, number, u8::try_from(at + 1)?),
            };
            network.hosts.push(host.clone());
            let first = network.hosts.first().map_or(host.ip, |first| first.ip);
            host.set_up(&bridge, at, first)?;
        }
        Ok(network)
    }

    /// The n-th host.
    pub fn host(&self, number: usize) -> Result<&Host> {
        self.hosts.get(number).context("no such host")
    }

    fn bridge(&self) -> String {
        format!("{}-br", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was not made is not there to be removed.
        for host in &self.hosts {
            let _ = ip(&["netns", "del", &host.namespace]);
            let _ = fs::remove_dir_all(host.etc());
        }
        let _ = ip(&["netns", "del", &self.bridge()]);
    }
}

impl Host {
    /// The host's address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        command.arg(program.as_ref());
        command
    }

    /// Runs a tool on this host.
    pub fn tool(&self, program: &str) -> Tool {
        Tool::new("ip").args(["netns", "exec", &self.namespace, program])
    }

    /// Starts a process on this host.
    pub fn start(&self, program: &str, args: &[&str], log: &Path) -> Result<Process> {
        Process::start(self.command(program).args(args), log)
    }

    /// `ip netns exec` puts the files in this folder in the place of those in /etc.
    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.namespace)
    }

    fn set_up(&self, bridge: &str, at: usize, resolver: Ipv4Addr) -> Result<()> {
        let namespace = self.namespace.as_str();
        let port = format!("v{at}");
        fs::create_dir_all(self.etc())?;
        fs::write(
            self.etc().join("resolv.conf"),
            format!("nameserver {resolver}\noptions timeout:1 attempts:2\n"),
        )?;
        ip(&["netns", "add", namespace])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        ip(&[
            "-n", bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            namespace,
        ])?;
        ip(&["-n", bridge, "link", "set", &port, "master", "br0", "up"])?;
        let address = format!("{}/24", self.ip);
        ip(&["-n", namespace, "addr", "add", &address, "dev", "eth0"])?;
        ip(&["-n", namespace, "link", "set", "eth0", "up"])
    }
}

fn ip(args: &[&str]) -> Result<()> {
    Tool::new("ip").args(args).run().map(|_| ())
}
