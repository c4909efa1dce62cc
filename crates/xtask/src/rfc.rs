//! Every RFC that the code cites is in `rfc/index.tsv`, and what the index calls done is cited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::{output, root};

struct Entry {
    title: String,
    status: String,
}

/// Compares and prints the coverage.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
pub(crate) fn run() -> anyhow::Result<()> {
    let root = root()?;
    let index = index(&fs::read_to_string(root.join("rfc/index.tsv"))?)?;
    let files = output(
        Command::new("git")
            .args(["ls-files", "*.rs", "*.proto", "*.toml"])
            .current_dir(&root),
    )?;
    let mut cited: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for file in files.lines() {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        let unit = file.split('/').take(2).collect::<Vec<_>>().join("/");
        for number in numbers(&text) {
            cited.entry(number).or_default().insert(unit.clone());
        }
    }
    let mut wrong = Vec::new();
    for (number, places) in &cited {
        if !index.contains_key(number) {
            wrong.push(format!(
                "RFC {number} is cited, but not in rfc/index.tsv ({places:?})"
            ));
        }
    }
    for (number, entry) in &index {
        let places = cited.get(number).map(|places| {
            places
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        });
        if places.is_none() && matches!(entry.status.as_str(), "yes" | "partial") {
            wrong.push(format!(
                "RFC {number} is {}, but no code cites it",
                entry.status
            ));
        }
        let places = places.unwrap_or_default();
        println!("{number}\t{}\t{}\t{places}", entry.status, entry.title);
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn index(text: &str) -> anyhow::Result<BTreeMap<u32, Entry>> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split('\t');
            let number = fields.next().and_then(|field| field.parse().ok());
            let (Some(number), Some(status), Some(title)) = (number, fields.next(), fields.next())
            else {
                bail!("rfc/index.tsv: {line:?} is not number, status, title");
            };
            if !["yes", "partial", "no"].contains(&status) {
                bail!("rfc/index.tsv: {status:?} is not yes, partial or no");
            }
            Ok((
                number,
                Entry {
                    title: title.to_owned(),
                    status: status.to_owned(),
                },
            ))
        })
        .collect()
}

/// The numbers behind "RFC ".
fn numbers(text: &str) -> BTreeSet<u32> {
    let pieces = text.split("RFC ").skip(1);
    pieces
        .filter_map(|piece| {
            let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}
