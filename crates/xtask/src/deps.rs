//! Arrows between crates go only downwards (ARCHITECTURE.md), and each is in `deps.toml`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::run::{cargo, output, root};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    /// Each of our crates with those of our crates that it may depend on.
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// Crates that must have none of these in their whole tree.
    pure: Pure,
    /// Foreign crates that only these of ours may depend on directly.
    only: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pure {
    crates: BTreeSet<String>,
    without: BTreeSet<String>,
}

struct Package {
    name: String,
    ours: bool,
    dependencies: BTreeSet<String>,
}

/// Compares `cargo metadata` with the rules.
pub(crate) fn run() -> anyhow::Result<()> {
    let rules = std::fs::read_to_string(root()?.join("crates/xtask/deps.toml"))?;
    let rules: Rules = toml::from_str(&rules).context("crates/xtask/deps.toml")?;
    let packages = packages()?;
    let mut wrong = Vec::new();
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter(|p| p.ours)
        .map(|p| &*p.name)
        .collect();
    for package in packages.iter().filter(|package| package.ours) {
        let name = &package.name;
        let Some(allowed) = rules.allowed.get(name) else {
            wrong.push(format!("{name} is not in deps.toml"));
            continue;
        };
        for dependency in &package.dependencies {
            if ours.contains(dependency.as_str()) && !allowed.contains(dependency) {
                wrong.push(format!("{name} must not depend on {dependency}"));
            }
            if rules
                .only
                .get(dependency)
                .is_some_and(|only| !only.contains(name))
            {
                wrong.push(format!("{name} must not depend on {dependency} directly"));
            }
        }
        if rules.pure.crates.contains(name) {
            let tree = tree(name, &packages);
            let impure = tree.intersection(&rules.pure.without);
            wrong.extend(impure.map(|found| format!("{name} must not have {found} in its tree")));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn packages() -> anyhow::Result<Vec<Package>> {
    let metadata = output(cargo()?.args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("no packages in the metadata")?;
    let members = metadata
        .get("workspace_members")
        .and_then(Value::as_array)
        .context("no members")?;
    let read = |package: &Value| {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // Tests may use what they like.
        let normal = dependencies.filter(|dependency| dependency["kind"] != "dev");
        Package {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            ours: members.contains(&package["id"]),
            dependencies: normal
                .filter(|dependency| dependency["optional"] != true)
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect(),
        }
    };
    Ok(packages.iter().map(read).collect())
}

/// All that a crate needs, directly or not.
fn tree(name: &str, packages: &[Package]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        for package in packages.iter().filter(|package| package.name == name) {
            for dependency in &package.dependencies {
                if found.insert(dependency.clone()) {
                    next.push(dependency.clone());
                }
            }
        }
    }
    found
}
