//! Generates `crates/mail-rpc/src/gen` from `proto/` with protox, so that nobody needs protoc.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::run::root;

const FILES: [&str; 4] = [
    "correo/common/v1/common.proto",
    "correo/directory/v1/directory.proto",
    "correo/queue/v1/queue.proto",
    "correo/mailbox/v1/mailbox.proto",
];

/// Writes the generated code, or with `check` only compares it.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = root()?;
    let target = root.join("crates/mail-rpc/src/gen");
    let fresh = root.join("target/proto-gen");
    fs::create_dir_all(&fresh)?;
    generate(&root.join("proto"), &fresh)?;
    let mut stale = Vec::new();
    for file in FILES {
        let package = file
            .rsplit_once('/')
            .map_or(file, |(folder, _)| folder)
            .replace('/', ".");
        let name = format!("{package}.rs");
        let new = fs::read_to_string(fresh.join(&name)).with_context(|| name.clone())?;
        if fs::read_to_string(target.join(&name)).ok().as_ref() != Some(&new) {
            stale.push((name, new));
        }
    }
    if check && !stale.is_empty() {
        let names: Vec<&str> = stale.iter().map(|(name, _)| name.as_str()).collect();
        bail!(
            "generated code is stale: {}; run `cargo xtask proto`",
            names.join(", ")
        );
    }
    fs::create_dir_all(&target)?;
    for (name, new) in stale {
        fs::write(target.join(name), new)?;
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> anyhow::Result<()> {
    let descriptors = protox::compile(FILES, [protos])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SmallCodec")
        .build_transport(true)
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
