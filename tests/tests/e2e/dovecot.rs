//! Dovecot's IMAP server on files of ours, in its form without a login. Needs root, to become the user
//! that owns the files.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use testkit::Tool;

/// What Dovecot says to commands, one a line, on mail at a place such as `maildir:/x`. The files
/// become those of the user that it runs as: it reads no mail as root.
pub(crate) fn imap(location: &str, folder: &Path, commands: &str) -> Result<Vec<String>> {
    let home = tempfile::tempdir()?;
    let place = home.path().display();
    let config = format!(
        "base_dir = {place}/base\nlog_path = {place}/log\nmail_location = {location}\n\
         mail_uid = nobody\nmail_gid = nogroup\nmailbox_list_index = no\n\
         namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n"
    );
    let file = home.path().join("dovecot.conf");
    fs::write(&file, config)?;
    for path in [home.path(), folder] {
        let owner = Tool::new("chown").args(["-R", "nobody:nogroup"]);
        owner.arg(path).run()?;
    }
    let said = Tool::new("/usr/lib/dovecot/imap")
        .arg("-c")
        .arg(&file)
        .env("TZ", "UTC")
        .env("USER", "nobody")
        .env("HOME", home.path())
        .input(commands)
        .run()?;
    let text = said.text();
    ensure!(text.contains("PREAUTH"), "{}", said.all());
    Ok(text.lines().map(str::to_owned).collect())
}
