use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A number under /proc/sys that is put back when this is dropped.
#[derive(Debug)]
pub(crate) struct KernelSetting {
    file: PathBuf,
    before: String,
}

impl KernelSetting {
    /// Makes a setting at least so large; needs root if it is not already.
    pub(crate) fn at_least(name: &str, least: u64) -> Result<Self> {
        let file = PathBuf::from("/proc/sys").join(name);
        let before = fs::read_to_string(&file)?.trim().to_owned();
        if before.parse::<u64>()? < least {
            fs::write(&file, least.to_string())
                .with_context(|| format!("setting {name} to {least}"))?;
        }
        Ok(Self { file, before })
    }
}

impl Drop for KernelSetting {
    fn drop(&mut self) {
        // A larger limit than before harms nobody, if this should fail.
        let _ = fs::write(&self.file, &self.before);
    }
}
