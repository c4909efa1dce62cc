use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Stacks;
use crate::report::xml::escape;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const MARGIN: f64 = 10.0;
const HEAD: f64 = 58.0;

/// Frames narrower than this many pixels are left out: nobody can see them, and they make most of
/// the file.
const NARROWEST: f64 = 0.8;

/// The width of a letter of the monospaced font, in pixels.
const LETTER: f64 = 6.3;

/// The legend: class of the style sheet, and what it means.
const KINDS: [(&str, &str); 5] = [
    ("own", "Correo"),
    ("rpc", "gRPC (tonic, h2, prost, hyper)"),
    ("db", "sled, redb"),
    ("lib", "other libraries and the runtime"),
    ("kern", "kernel"),
];

const STYLE: &str = "\
text{font:11px ui-monospace,monospace;fill:#1c1c1c;pointer-events:none}\
.h{font:600 15px system-ui,sans-serif;fill:#222}.n{font:12px system-ui,sans-serif;fill:#222}\
rect{stroke:#fff;stroke-width:.5}rect:hover{stroke:#000;stroke-width:1.2}\
.own{fill:#f2a65a}.rpc{fill:#8fb8de}.db{fill:#b7a4d6}.lib{fill:#d8d2c4}.kern{fill:#9ccb9a}\
.proc{fill:#efe3a8}\
@media(prefers-color-scheme:dark){.h,.n{fill:#ddd}rect{stroke:#16181c}}";

/// A frame with all that it called.
#[derive(Debug, Default)]
struct Node {
    count: u64,
    callees: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, stack: &[String], count: u64) {
        self.count += count;
        if let Some((first, rest)) = stack.split_first() {
            self.callees
                .entry(first.clone())
                .or_default()
                .add(rest, count);
        }
    }
}

struct Picture {
    text: String,
    scale: f64,
    bottom: f64,
    total: u64,
}

pub(super) fn svg(stacks: &Stacks, title: &str) -> String {
    let mut root = Node::default();
    for (stack, count) in stacks.counts() {
        root.add(stack, *count);
    }
    let scale = (WIDTH - 2.0 * MARGIN) / number(root.count.max(1));
    let levels = depth(&root, scale);
    let height = HEAD + number(levels as u64) * ROW + 2.0 * MARGIN;
    let mut picture = Picture {
        text: String::new(),
        scale,
        bottom: height - MARGIN - ROW,
        total: root.count.max(1),
    };
    let _ = write!(
        picture.text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\"><style>{STYLE}</style><title>{title}</title><text class=\"h\" x=\"{MARGIN}\" \
         y=\"22\">{title}</text>",
        title = escape(title)
    );
    picture.legend();
    let mut x = MARGIN;
    for (name, node) in &root.callees {
        picture.frame(name, node, x, 0, true);
        x += number(node.count) * scale;
    }
    picture.text.push_str("</svg>\n");
    picture.text
}

impl Picture {
    fn legend(&mut self) {
        let mut x = MARGIN;
        for (class, meaning) in KINDS {
            let _ = write!(
                self.text,
                "<rect class=\"{class}\" x=\"{x}\" y=\"34\" width=\"12\" height=\"12\"/>\
                 <text class=\"n\" x=\"{}\" y=\"44\">{meaning}</text>",
                x + 17.0
            );
            x += 40.0 + number(meaning.len() as u64) * 6.6;
        }
    }

    fn frame(&mut self, name: &str, node: &Node, x: f64, level: u64, process: bool) {
        let width = number(node.count) * self.scale;
        if width < NARROWEST {
            return;
        }
        let y = self.bottom - number(level) * ROW;
        let class = if process { "proc" } else { kind(name) };
        let share = number(node.count) * 100.0 / number(self.total);
        let _ = write!(
            self.text,
            "<g><title>{} ({share:.1} %)</title><rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" \
             width=\"{width:.1}\" height=\"{}\"/>",
            escape(name),
            ROW - 1.0
        );
        if let Some(label) = fit(name, width) {
            let _ = write!(
                self.text,
                "<text x=\"{:.1}\" y=\"{}\">{}</text>",
                x + 3.0,
                y + 12.0,
                escape(&label)
            );
        }
        self.text.push_str("</g>\n");
        let mut x = x;
        for (name, callee) in &node.callees {
            self.frame(name, callee, x, level + 1, false);
            x += number(callee.count) * self.scale;
        }
    }
}

/// Levels that have a frame wide enough to be drawn.
fn depth(node: &Node, scale: f64) -> usize {
    let seen = node
        .callees
        .values()
        .filter(|n| number(n.count) * scale >= NARROWEST);
    seen.map(|n| 1 + depth(n, scale)).max().unwrap_or(0)
}

/// What of a name fits in; its end says more than its beginning.
fn fit(name: &str, width: f64) -> Option<String> {
    let room = (0..200_u64)
        .take_while(|n| number(n + 1) * LETTER <= width - 6.0)
        .count();
    let length = name.chars().count();
    if room >= length {
        return Some(name.to_owned());
    }
    let last = name.rsplit("::").next().unwrap_or(name);
    if last.chars().count() <= room {
        // As many of the modules before it as have room.
        let mut best = last;
        for (at, _) in name.match_indices("::") {
            let tail = name.get(at + 2..).unwrap_or(last);
            if tail.chars().count() <= room {
                best = tail;
                break;
            }
        }
        return Some(best.to_owned());
    }
    (room >= 4).then(|| last.chars().take(room - 1).chain(['…']).collect())
}

fn kind(name: &str) -> &'static str {
    const OWN: [&str; 20] = [
        "correo",
        "daemon_kit",
        "directoryd",
        "imap_proto",
        "imapd",
        "localdeliver",
        "mail_config",
        "mail_message",
        "mail_rpc",
        "mail_types",
        "mailbox_store",
        "pop3_proto",
        "pop3d",
        "queue_store",
        "queued",
        "remotedeliver",
        "sasl",
        "segment_log",
        "smtp_proto",
        "smtpd",
    ];
    let module = name
        .trim_start_matches(['<', '&'])
        .split("::")
        .next()
        .unwrap_or(name);
    match module {
        _ if name.ends_with("[k]") => "kern",
        "tonic" | "h2" | "prost" | "hyper" | "hyper_util" | "tower" | "http" => "rpc",
        "sled" | "redb" | "pagecache" => "db",
        _ if OWN.contains(&module) => "own",
        _ => "lib",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sample counts are far below 2^52"
)]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap as Map;

    #[test]
    fn a_graph_is_well_formed_and_has_its_frames() {
        let script =
            "7\n\t1 a::b<c>::d (/x)\n\t1 smtpd::run (/x)\n\n7\n\t1 vfs_write ([kernel])\n\n";
        let stacks = Stacks::parse(script, &Map::from([(7, "smtpd".to_owned())]));
        let svg = svg(&stacks, "a < b");
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("smtpd::run (50.0 %)"));
        assert!(svg.contains("class=\"kern\""));
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn labels_keep_the_end_of_a_name() {
        assert_eq!(
            fit("queued::scheduler::take", 1000.0).as_deref(),
            Some("queued::scheduler::take")
        );
        assert_eq!(
            fit("queued::scheduler::take", 110.0).as_deref(),
            Some("scheduler::take")
        );
        assert_eq!(
            fit("queued::scheduler::take", 60.0).as_deref(),
            Some("take")
        );
        assert_eq!(fit("queued::scheduler::take", 12.0), None);
    }
}
