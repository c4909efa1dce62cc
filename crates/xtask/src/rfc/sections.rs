//! Which sections an RFC has: `rfc/sections.tsv`, made from the RFCs' texts, which are not here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// The sections of each RFC that is cited with one.
pub(super) type Sections = BTreeMap<u32, BTreeSet<String>>;

/// In the place of sections: there was no text to take them from.
pub(super) const UNKNOWN: &str = "?";
const HEAD: &str = "# The sections of the RFCs that are cited: number, then its sections.\n\
    # Made by `cargo xtask rfc --texts FOLDER` from their texts; a citation of another one is wrong.\n";

/// Reads `sections.tsv`.
pub(super) fn read(text: &str) -> anyhow::Result<Sections> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (number, sections) = line.split_once('\t').context("no tab in sections.tsv")?;
            let sections = sections.split(' ').map(str::to_owned).collect();
            Ok((number.parse()?, sections))
        })
        .collect()
}

/// Writes `sections.tsv` for these RFCs; the folder has texts named `rfc5321.txt`.
pub(super) fn write(numbers: &[u32], texts: &Path, to: &Path) -> anyhow::Result<()> {
    let mut out = String::from(HEAD);
    for number in numbers {
        let path = texts.join(format!("rfc{number}.txt"));
        if !path.exists() {
            writeln!(out, "{number}\t{UNKNOWN}")?;
            continue;
        }
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let sections = of_text(&String::from_utf8_lossy(&text));
        if sections.is_empty() {
            bail!("{}: no sections were found", path.display());
        }
        let sections: Vec<_> = sections.into_iter().collect();
        writeln!(out, "{number}\t{}", sections.join(" "))?;
    }
    fs::write(to, out)?;
    Ok(())
}

/// Numbers at the beginning of headings, in the contents or the text: `4.1.2.  Title`,
/// `Appendix B`, `B.2`.
fn of_text(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("Appendix ").unwrap_or(line);
        let line = line.strip_prefix("APPENDIX ").unwrap_or(line);
        let Some(word) = line.split([' ', ':']).next() else {
            continue;
        };
        let has_title = line.len() > word.len();
        let word = word.strip_suffix('.').unwrap_or(word);
        if is_section(word) && has_title {
            found.insert(word.to_owned());
        }
    }
    found
}

/// `4.1.2`, `B`, `B.2`.
pub(super) fn is_section(word: &str) -> bool {
    let mut parts = word.split('.');
    let first = parts.next().unwrap_or_default();
    let number =
        |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let letter = first.len() == 1 && first.bytes().all(|b| b.is_ascii_uppercase());
    (number(first) || letter) && parts.all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings() {
        let text = "Contents\n   1. Intro ....... 1\n     4.1.2.  Deep\n\
                    Appendix B.  More\nB.2 Yet\nnot 5.1 here\n7.\n";
        let found: Vec<_> = of_text(text).into_iter().collect();
        assert_eq!(found, ["1", "4.1.2", "B", "B.2"]);
    }
}
