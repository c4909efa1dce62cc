//! Every RFC that the code cites is in `rfc/index.tsv`, what the index calls done is cited, and a
//! section that is cited exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::{output, root};

mod sections;

struct Entry {
    title: String,
    status: String,
}

/// Compares and prints the coverage. With the RFCs' texts the list of their sections is made anew.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
pub(crate) fn run(texts: Option<&Path>) -> anyhow::Result<()> {
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
    let mut wrong = wrong_sections(&root, files.lines(), texts)?;
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

/// Citations of sections that are not there.
fn wrong_sections<'a>(
    root: &Path,
    files: impl Iterator<Item = &'a str>,
    texts: Option<&Path>,
) -> anyhow::Result<Vec<String>> {
    let mut cited: BTreeMap<(u32, String), BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        for citation in citations(&text) {
            cited.entry(citation).or_default().insert(file);
        }
    }
    let list = root.join("rfc/sections.tsv");
    if let Some(texts) = texts {
        let numbers: BTreeSet<u32> = cited.keys().map(|(number, _)| *number).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        sections::write(&numbers, texts, &list)?;
    }
    let known = sections::read(&fs::read_to_string(list)?)?;
    let mut wrong = Vec::new();
    for ((number, section), files) in &cited {
        match known.get(number) {
            None => wrong.push(format!(
                "RFC {number} is not in rfc/sections.tsv (cargo xtask rfc --texts FOLDER), cited in {files:?}"
            )),
            Some(sections) if sections.contains(sections::UNKNOWN) => {}
            Some(sections) if !sections.contains(section) => {
                wrong.push(format!("RFC {number} has no §{section}, cited in {files:?}"));
            }
            Some(_) => {}
        }
    }
    Ok(wrong)
}

/// RFCs with the sections that are cited of them: `RFC 5321 §4.1 and §4.2`, over line ends in
/// comments too.
fn citations(text: &str) -> Vec<(u32, String)> {
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !word.bytes().all(|b| b"/!#*".contains(&b)))
        .collect();
    let mut found = Vec::new();
    let mut number = None;
    let mut before = "";
    for word in words {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        if before.ends_with("RFC") && !digits.is_empty() {
            number = digits.parse().ok().filter(|_| digits.len() == word.len());
        } else if let Some((_, section)) = word.split_once('§') {
            let end = section.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let whole = section
                .get(..end.unwrap_or(section.len()))
                .unwrap_or_default();
            let section = whole.trim_end_matches('.');
            if let Some(number) = number.filter(|_| sections::is_section(section)) {
                found.push((number, section.to_owned()));
            }
            // Behind a bracket's or sentence's end another RFC may be meant.
            if word.ends_with([')', '.', ':', ';']) {
                number = None;
            }
        } else if !matches!(word, "and" | "or" | "to") {
            number = None;
        }
        before = word;
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_are_cited() {
        let text =
            "/// (RFC 5321\n/// §4.1.1.4, §4.2 and §B.1). Not §9. RFC 3501 says; RFC 2045 §6.";
        let cited = citations(text);
        let cited: Vec<_> = cited.iter().map(|(n, s)| (*n, s.as_str())).collect();
        assert_eq!(
            cited,
            [(5321, "4.1.1.4"), (5321, "4.2"), (5321, "B.1"), (2045, "6")]
        );
    }
}
