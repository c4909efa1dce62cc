use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::User;
use testkit::{Process, wait_until};

use super::PASSWORD;
use crate::usage::Tree;

/// Dovecot's IMAP, POP3 and LMTP over mdbox, durable.
#[derive(Debug)]
pub(crate) struct Dovecot {
    process: Option<Process>,
    place: std::path::PathBuf,
    owner: User,
    pub(crate) imap: SocketAddr,
    pub(crate) pop3: SocketAddr,
    pub(crate) lmtp: SocketAddr,
}

impl Dovecot {
    /// Starts it under a folder, on three ports from `port` on.
    pub(crate) fn start(place: &Path, port: u16) -> Result<Self> {
        let place = place.join("dovecot");
        for folder in ["run", "mail", "state"] {
            fs::create_dir_all(place.join(folder))?;
        }
        let owner = User::from_name("mail")?.context("there is no user mail")?;
        nix::unistd::chown(&place.join("mail"), Some(owner.uid), Some(owner.gid))?;
        let at = |offset| SocketAddr::from(([127, 0, 0, 1], port + offset));
        let mut dovecot = Self {
            process: None,
            place,
            owner,
            imap: at(0),
            pop3: at(1),
            lmtp: at(2),
        };
        dovecot.up(false)?;
        Ok(dovecot)
    }

    /// Stops and starts it. If `hibernates`, idle sessions are put to sleep behind two seconds: best
    /// for memory, but a change in the last half second of these is not told before the next one.
    pub(crate) fn restart(&mut self, hibernates: bool) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            let all = Tree::of(&[process.id()])?;
            process.terminate()?;
            // What serves many sessions lasts longer than the master, and keeps its sockets.
            wait_until("Dovecot's processes end", || {
                Ok((!all.is_running()).then_some(()))
            })?;
        }
        self.up(hibernates)
    }

    fn up(&mut self, hibernates: bool) -> Result<()> {
        let text = configuration(&self.place, self.imap.port(), &self.owner, hibernates);
        fs::write(self.place.join("dovecot.conf"), text)?;
        let mut command = Command::new("dovecot");
        command
            .arg("-F")
            .arg("-c")
            .arg(self.place.join("dovecot.conf"));
        let mut process = Process::start(&mut command, &self.place.join("out"))?;
        wait_until("Dovecot answers", || {
            if process.ended()?.is_some() {
                bail!("Dovecot ended: {}", process.log());
            }
            let open = |at: SocketAddr| TcpStream::connect(at).is_ok();
            Ok([self.imap, self.pop3, self.lmtp]
                .into_iter()
                .all(open)
                .then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// The master.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("Dovecot does not run")?.id())
    }

    /// Its log's end.
    pub(crate) fn log(&self) -> String {
        super::tail(&self.place.join("log"))
    }
}

fn configuration(place: &Path, port: u16, owner: &User, hibernates: bool) -> String {
    let base = place.display();
    let (uid, gid) = (owner.uid, owner.gid);
    let asleep = if hibernates { "2s" } else { "0" };
    let (pop3, lmtp) = (port + 1, port + 2);
    format!(
        "protocols = imap pop3 lmtp\nbase_dir = {base}/run\nstate_dir = {base}/state\n\
         log_path = {base}/log\nlisten = 127.0.0.1\nssl = no\ndisable_plaintext_auth = no\n\
         default_internal_user = dovecot\ndefault_login_user = dovenull\n\
         default_process_limit = 2000\ndefault_client_limit = 20000\ndefault_idle_kill = 5s\n\
         first_valid_uid = 1\nmail_uid = {uid}\nmail_gid = {gid}\n\
         mail_location = mdbox:{base}/mail/%u\nmail_fsync = always\n\
         mail_max_userip_connections = 20000\nimap_hibernate_timeout = {asleep}\n\
         auth_cache_size = 4M\n\
         passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
         userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={base}/mail/%u\n}}\n\
         service imap-login {{\n  service_count = 0\n  client_limit = 10000\n  process_min_avail = 2\n\
         \x20 inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service pop3-login {{\n  service_count = 0\n  client_limit = 10000\n  process_min_avail = 2\n\
         \x20 inet_listener pop3 {{\n    port = {pop3}\n  }}\n  inet_listener pop3s {{\n    port = 0\n  }}\n}}\n\
         service imap {{\n  service_count = 256\n  process_min_avail = 4\n  process_limit = 12000\n\
         \x20 unix_listener imap-master {{\n    user = dovecot\n  }}\n}}\n\
         service imap-hibernate {{\n  unix_listener imap-hibernate {{\n    mode = 0666\n  }}\n}}\n\
         service pop3 {{\n  service_count = 256\n  process_min_avail = 4\n}}\n\
         service lmtp {{\n  process_min_avail = 20\n  unix_listener lmtp {{\n    mode = 0666\n  }}\n\
         \x20 inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {lmtp}\n  }}\n}}\n\
         service anvil {{\n  client_limit = 30000\n}}\n"
    )
}
