use std::fmt::Write as _;

use super::Report;
use super::plot::{Bar, times};
use crate::result::{Row, Values};

/// All rows, a table for each heading.
pub(super) fn rows(text: &mut String, report: &Report<'_>) {
    let mut group = "";
    for row in &report.rows {
        if row.group != group {
            group = row.group;
            heading(text, report, group);
        }
        line(text, report, row);
    }
}

/// Some rows without their heading.
pub(super) fn lines(report: &Report<'_>, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        line(&mut text, report, row);
    }
    text
}

/// Two sides of each row, as ratios.
pub(super) fn bars(report: &Report<'_>) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in &report.rows {
        let values = report.results.get(row.id).map_or(&[][..], |v| v);
        let [Some(ours), Some(theirs)] = [0, 1].map(|at| values.get(at).and_then(Values::median))
        else {
            continue;
        };
        bars.push(Bar {
            label: row.title.to_owned(),
            group: row.group.to_owned(),
            ratio: row.unit.ratio(ours, theirs),
            values: format!("{} | {}", row.unit.show(ours), row.unit.show(theirs)),
            reach: Some(row.reach),
        });
    }
    bars
}

fn heading(text: &mut String, report: &Report<'_>, group: &str) {
    let _ = write!(text, "\n## {group}\n\n| |");
    for name in &report.names {
        let _ = write!(text, " {name} |");
    }
    text.push_str(if report.names.len() > 1 {
        " times better |\n|---|"
    } else {
        "\n|---|"
    });
    text.push_str(&"---|".repeat(report.names.len()));
    text.push_str(if report.names.len() > 1 {
        "---|\n"
    } else {
        "\n"
    });
}

fn line(text: &mut String, report: &Report<'_>, row: &Row) {
    let values = report.results.get(row.id).map_or(&[][..], |v| v);
    let _ = write!(text, "| {} |", row.title);
    for at in 0..report.names.len() {
        let _ = write!(
            text,
            " {} |",
            values
                .get(at)
                .map_or_else(|| "–".to_owned(), |v| cell(row, v))
        );
    }
    if report.names.len() > 1 {
        let medians = [0, 1].map(|at| values.get(at).and_then(Values::median));
        let ratio = match medians {
            [Some(ours), Some(theirs)] => times(row.unit.ratio(ours, theirs)),
            _ => "–".to_owned(),
        };
        let _ = write!(text, " {ratio} |");
    }
    text.push('\n');
}

fn cell(row: &Row, values: &Values) -> String {
    if let Some(failure) = &values.failure {
        // All of it is in the results.
        let start: String = failure.chars().take(150).collect();
        return format!("failed: {}", start.replace(['|', '\n'], " "));
    }
    let Some(median) = values.median() else {
        return "–".to_owned();
    };
    let mut text = row.unit.show(median);
    if let Some((least, most)) = values.spread()
        && values.runs.len() > 1
    {
        let _ = write!(text, " ({}–{})", row.unit.show(least), row.unit.show(most));
    }
    if let Some(cpu) = values.cpu() {
        let _ = write!(text, ", {cpu:.2} ms CPU");
    }
    if let Some(note) = &values.note {
        let _ = write!(text, ", {note}");
    }
    text
}

/// Calls that make data durable, a line for each side.
pub(super) fn syncs(text: &mut String, report: &Report<'_>) {
    text.push_str("| | calls | all |\n|---|---|---:|\n");
    for (name, counts) in report.names.iter().zip(&report.extras.syncs) {
        let calls: Vec<String> = counts
            .iter()
            .map(|(call, count)| format!("{count} {call}"))
            .collect();
        if calls.is_empty() {
            let _ = writeln!(text, "| {name} | not counted | – |");
        } else {
            let all: u64 = counts.values().sum();
            let _ = writeln!(text, "| {name} | {} | {all} |", calls.join(", "));
        }
    }
}
