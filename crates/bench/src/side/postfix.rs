use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::{POSTFIX_SERVICES, Process, wait_until};

use super::{DOMAIN, RELAY_DOMAIN, run};

/// Postfix that hands mail to Dovecot by LMTP.
#[derive(Debug)]
pub(crate) struct Postfix {
    process: Option<Process>,
    place: PathBuf,
    pub(crate) smtp: SocketAddr,
}

impl Postfix {
    /// Starts it under a folder.
    pub(crate) fn start(place: &Path, port: u16, lmtp: &Path, sink: SocketAddr) -> Result<Self> {
        let place = place.join("postfix");
        for folder in ["spool", "data", "etc"] {
            fs::create_dir_all(place.join(folder))?;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        let owner = nix::unistd::User::from_name("postfix")?.context("there is no user postfix")?;
        nix::unistd::chown(&place.join("data"), Some(owner.uid), Some(owner.gid))?;
        fs::write(place.join("etc/main.cf"), main_cf(&place, lmtp, sink))?;
        let own = format!("127.0.0.1:{port} inet n - n - 1500 smtpd\nlmtp unix - - n - 40 lmtp\n");
        let master = own + POSTFIX_SERVICES;
        fs::write(place.join("etc/master.cf"), master)?;
        let mut postfix = Self {
            process: None,
            place,
            smtp: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        postfix.up()?;
        Ok(postfix)
    }

    /// Starts it where it is stopped.
    pub(crate) fn up(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new("postfix");
        command
            .arg("-c")
            .arg(self.place.join("etc"))
            .arg("start-fg");
        let mut process = Process::start(&mut command, &self.place.join("out"))?;
        wait_until("Postfix answers", || {
            if process.ended()?.is_some() {
                bail!("Postfix ended: {}{}", process.log(), self.log());
            }
            Ok(TcpStream::connect(self.smtp).is_ok().then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it.
    pub(crate) fn down(&mut self) -> Result<()> {
        let stopped = run(&mut self.tool("postfix", &["stop"]));
        if let Some(mut process) = self.process.take() {
            wait_until("Postfix ends", || process.ended())?;
        }
        stopped
    }

    /// From now on mail goes to the queue "hold", or not any more.
    pub(crate) fn set_hold(&self, hold: bool) -> Result<()> {
        self.set_restriction(if hold {
            "check_client_access static:HOLD"
        } else {
            ""
        })?;
        run(&mut self.tool("postfix", &["reload"]))?;
        // Daemons that know the old configuration end by and by.
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok(())
    }

    /// Changes the configuration, which counts from the next reload or start.
    pub(crate) fn set_restriction(&self, value: &str) -> Result<()> {
        let setting = format!("smtpd_data_restrictions={value}");
        run(&mut self.tool("postconf", &["-e", &setting]))
    }

    /// One of its commands, for this instance.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(name);
        command
            .arg("-c")
            .arg(self.place.join("etc"))
            .args(arguments);
        command
    }

    /// The master.
    pub(crate) fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.place.join("spool/pid/master.pid"))?;
        Ok(text.trim().parse()?)
    }

    /// Its log's end.
    pub(crate) fn log(&self) -> String {
        super::tail(&self.place.join("data/log"))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if self.process.is_some() {
            // What does not stop is killed with its process.
            let _ = self.down();
        }
    }
}

fn main_cf(place: &Path, lmtp: &Path, sink: SocketAddr) -> String {
    let base = place.display();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {base}/spool\ndata_directory = {base}/data\n\
         mail_owner = postfix\nsetgid_group = postdrop\nmyhostname = mx.{DOMAIN}\nmydomain = {DOMAIN}\n\
         mydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
         virtual_mailbox_domains = {DOMAIN}\nvirtual_mailbox_maps = static:yes\n\
         virtual_transport = lmtp:unix:{lmtp}\nlmtp_destination_concurrency_limit = 40\n\
         lmtp_destination_recipient_limit = 1\nlmtp_connection_cache_on_demand = yes\n\
         lmtp_connection_cache_destinations = static:all\n\
         transport_maps = inline:{{{RELAY_DOMAIN}=relay:[{ip}]:{port}}}\n\
         relay_destination_concurrency_limit = 40\nsmtp_connection_cache_destinations = [{ip}]:{port}\n\
         smtp_dns_support_level = disabled\nsmtp_tls_security_level = none\n\
         alias_maps =\nalias_database =\nlocal_recipient_maps =\n\
         maillog_file = {base}/data/log\nmaillog_file_prefixes = {base}\n\
         default_process_limit = 1500\nmax_idle = 5s\nin_flow_delay = 0\nsmtpd_peername_lookup = no\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n\
         smtpd_client_message_rate_limit = 0\nsmtpd_relay_restrictions = permit_mynetworks, \
         reject_unauth_destination\nmessage_size_limit = 52428800\nmailbox_size_limit = 0\n\
         virtual_mailbox_limit = 0\nqmgr_message_active_limit = 20000\n\
         enable_long_queue_ids = yes\nimport_environment = MAIL_CONFIG\n",
        lmtp = lmtp.display(),
        ip = sink.ip(),
        port = sink.port(),
    )
}
