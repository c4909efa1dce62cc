use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use crate::{Host, Process, wait_until};

/// Postfix on a host of a test network: a foreign MTA with a domain of its own.
#[derive(Debug)]
pub struct Postfix {
    dir: TempDir,
    host: Host,
    process: Process,
}

/// Lines of master.cf for what every Postfix needs, without a listener.
pub const POSTFIX_SERVICES: &str = "\
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// What this one has beside them.
const MASTER: &str = "\
smtp      inet  n - n - - smtpd
tlsmgr    unix  - - n 1000? 1 tlsmgr
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
";

impl Postfix {
    /// Starts it; all mail for `domain` goes to one Maildir.
    pub fn start(host: &Host, domain: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("correo-postfix-")
            .tempdir()?;
        let place = dir.path();
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
        for folder in ["spool", "data", "mail", "etc"] {
            fs::create_dir(place.join(folder))?;
        }
        let owner = nix::unistd::User::from_name("postfix")?;
        let Some(owner) = owner else {
            bail!("there is no user postfix");
        };
        for folder in ["data", "mail"] {
            nix::unistd::chown(&place.join(folder), Some(owner.uid), Some(owner.gid))?;
        }
        let (uid, gid, base) = (owner.uid, owner.gid, place.display());
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {base}/spool\ndata_directory = \
             {base}/data\nmail_owner = postfix\nsetgid_group = postdrop\nmyhostname = \
             mx.{domain}\nmydomain = {domain}\nmydestination =\ninet_interfaces = all\n\
             inet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nvirtual_mailbox_domains = \
             {domain}\nvirtual_mailbox_base = {base}/mail\nvirtual_mailbox_maps = static:box/\n\
             virtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\n\
             virtual_minimum_uid = 1\nalias_maps =\nalias_database =\nlocal_recipient_maps =\n\
             maillog_file = {base}/data/log\nmaillog_file_prefixes = {base}\nsmtp_tls_security_level = \
             may\nminimal_backoff_time = 2s\nmaximal_backoff_time = 5s\nqueue_run_delay = 2s\n\
             disable_vrfy_command = yes\nsmtpd_relay_restrictions = permit_mynetworks, \
             reject_unauth_destination\nenable_long_queue_ids = yes\nimport_environment = \
             MAIL_CONFIG\n",
        );
        fs::write(place.join("etc/main.cf"), main)?;
        let master = format!("{MASTER}{POSTFIX_SERVICES}");
        fs::write(place.join("etc/master.cf"), master)?;
        let config = place.join("etc").display().to_string();
        let process = host.start("postfix", &["-c", &config, "start-fg"], &place.join("out"))?;
        let mut server = Self {
            host: host.clone(),
            process,
            dir,
        };
        wait_until("Postfix answers", || {
            let ended = server.process.ended()?;
            ensure!(ended.is_none(), "{}{}", server.process.log(), server.log());
            let probe = format!("exec 3<>/dev/tcp/{}/25", server.host.ip());
            let open = server.host.tool("bash").args(["-c", &probe]).output()?;
            Ok(open.success.then_some(()))
        })?;
        Ok(server)
    }

    /// All messages that were delivered here.
    pub fn messages(&self) -> Result<Vec<String>> {
        let new = self.dir.path().join("mail/box/new");
        if !new.is_dir() {
            return Ok(Vec::new());
        }
        let mut messages = Vec::new();
        for entry in fs::read_dir(new)? {
            let octets = fs::read(entry?.path())?;
            messages.push(String::from_utf8_lossy(&octets).into_owned());
        }
        Ok(messages)
    }

    /// Its log.
    pub fn log(&self) -> String {
        let octets = fs::read(self.dir.path().join("data/log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// Hands a message in on its own host, as a program there does.
    pub fn send(&self, from: &str, to: &str, message: &str) -> Result<()> {
        self.host
            .tool("sendmail")
            .arg("-C")
            .arg(self.config())
            .args(["-f", from, "--", to])
            .input(message)
            .run()
            .map(|_| ())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let config: &Path = &self.config();
        // If this fails, the process is killed below.
        let _ = self
            .host
            .tool("postfix")
            .arg("-c")
            .arg(config)
            .arg("stop")
            .output();
    }
}
