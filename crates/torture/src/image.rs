//! A file system of its own for the suite's home, that can be filled up.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::statvfs::statvfs;
use testkit::{Tool, has_root, have};

/// Octets of the image; it is sparse.
const SIZE: &str = "12G";

/// An ext4 image, mounted. It is unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct Image {
    mounted: PathBuf,
}

impl Image {
    /// Makes it below a folder, or nothing where one may not mount.
    pub(crate) fn make(folder: &Path) -> Result<Option<Self>> {
        if !has_root() || !have(&["mkfs.ext4", "mount", "umount", "truncate", "fallocate"]) {
            return Ok(None);
        }
        let (file, mounted) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::create_dir_all(&mounted)?;
        Tool::new("truncate").args(["-s", SIZE]).arg(&file).run()?;
        let mkfs = Tool::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]);
        mkfs.arg(&file).run()?;
        let mount = Tool::new("mount").args(["-o", "loop"]).arg(&file);
        let output = mount.arg(&mounted).output()?;
        if !output.success {
            crate::say(&format!("no image can be mounted: {}", output.all()));
            return Ok(None);
        }
        Ok(Some(Self { mounted }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.mounted
    }

    /// Takes all room but for `left` octets.
    pub(crate) fn fill(&self, left: u64) -> Result<()> {
        let room = statvfs(&self.mounted)?;
        let free = room.blocks_available() * room.fragment_size();
        let size = free.saturating_sub(left).to_string();
        // The suite takes room meanwhile, so it may not fit; then it is full already.
        let fill = Tool::new("fallocate").args(["-l", &size]);
        fill.arg(self.filler()).output().map(|_| ())
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) -> Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // The namespace ends soon, and the mount with it.
        let _ = Tool::new("umount").arg("-l").arg(&self.mounted).output();
    }
}
