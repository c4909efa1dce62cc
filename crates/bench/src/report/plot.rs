//! The ratios as a bar chart, on a logarithmic scale.

use std::fmt::Write as _;

use super::xml::escape;

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// What was measured.
    pub(crate) label: String,
    /// The heading it goes under; bars with the same one stand together.
    pub(crate) group: String,
    /// How many times better than the peer; below 1 is worse.
    pub(crate) ratio: f64,
    /// Both values, as text.
    pub(crate) values: String,
    /// The ratio that it should reach, for a mark.
    pub(crate) reach: Option<f64>,
}

const WIDTH: f64 = 980.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 190.0;
const HEAD: f64 = 84.0;
const ROW: f64 = 24.0;
const GROUP: f64 = 30.0;

const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}\
.h{font-size:17px;font-weight:600}.g{font-weight:600}.s{font-size:12px;fill:#6a737d}\
.e{text-anchor:end}.m{text-anchor:middle}.l{stroke:#d8dee4}.o{stroke:#24292f;stroke-width:1.4}\
.good{fill:#2f7d5b}.bad{fill:#c0563f}.k{stroke:#b58105;stroke-width:2.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.l{stroke:#343b44}\
.o{stroke:#e6edf3}.good{fill:#56b68b}.bad{fill:#e5836d}.k{stroke:#e3b341}}";

/// The chart as an SVG file.
pub(crate) fn svg(title: &str, note: &str, bars: &[Bar]) -> String {
    let scale = Scale::of(bars);
    let height = HEAD + body(bars) + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\"><title>{title}</title><style>{STYLE}</style>\n<text class=\"h\" x=\"12\" \
         y=\"26\">{title}</text><text class=\"s\" x=\"12\" y=\"46\">{}</text>\n",
        escape(note),
        title = escape(title),
    );
    scale.draw(&mut text, height - 26.0);
    let mut y = HEAD;
    let mut group = "";
    for bar in bars {
        if bar.group != group {
            group = &bar.group;
            y += GROUP;
            let _ = writeln!(
                text,
                "<text class=\"g\" x=\"12\" y=\"{}\">{}</text>",
                y - 9.0,
                escape(group)
            );
        }
        draw(&mut text, &scale, bar, y);
        y += ROW;
    }
    text.push_str("</svg>\n");
    text
}

fn body(bars: &[Bar]) -> f64 {
    let mut height = 0.0;
    let mut group = "";
    for bar in bars {
        if bar.group != group {
            group = &bar.group;
            height += GROUP;
        }
        height += ROW;
    }
    height
}

fn draw(text: &mut String, scale: &Scale, bar: &Bar, y: f64) {
    let (one, end) = (scale.x(1.0), scale.x(bar.ratio));
    let class = if bar.ratio >= 1.0 { "good" } else { "bad" };
    let _ = write!(
        text,
        "<text class=\"e\" x=\"{}\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"{:.1}\" \
         y=\"{}\" width=\"{:.1}\" height=\"15\" rx=\"2\"><title>{}</title></rect>",
        LEFT - 10.0,
        y + 13.0,
        escape(&bar.label),
        one.min(end),
        y + 1.0,
        (end - one).abs().max(1.0),
        escape(&bar.values),
    );
    if let Some(reach) = bar.reach {
        let x = scale.x(reach);
        let _ = write!(
            text,
            "<line class=\"k\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>",
            y - 1.0,
            y + 18.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{}\">{}<tspan class=\"s\" dx=\"8\">{}</tspan></text>",
        one.max(end).max(bar.reach.map_or(0.0, |r| scale.x(r))) + 6.0,
        y + 13.0,
        times(bar.ratio),
        escape(&bar.values)
    );
}

/// A ratio with two digits that count.
pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        r if !r.is_finite() => "–".to_owned(),
        r if r >= 9.95 => format!("{r:.0}×"),
        r if r >= 0.95 => format!("{r:.1}×"),
        r => format!("{r:.2}×"),
    }
}

/// From ratios to pixels, over whole powers of ten.
struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    fn of(bars: &[Bar]) -> Self {
        let mut scale = Self { low: 0, high: 1 };
        let all = bars.iter().flat_map(|bar| [Some(bar.ratio), bar.reach]);
        for ratio in all.flatten().filter(|r| r.is_finite() && *r > 0.0) {
            while 10_f64.powi(scale.high) < ratio && scale.high < 9 {
                scale.high += 1;
            }
            while 10_f64.powi(scale.low) > ratio && scale.low > -9 {
                scale.low -= 1;
            }
        }
        scale
    }

    fn x(&self, ratio: f64) -> f64 {
        let span = f64::from(self.high - self.low);
        let share = (ratio.max(1e-9).log10() - f64::from(self.low)) / span;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn draw(&self, text: &mut String, bottom: f64) {
        // Labels need room.
        let steps: &[f64] = match self.high - self.low {
            ..=2 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 3.0],
        };
        for power in self.low..=self.high {
            for step in steps {
                let ratio = 10_f64.powi(power) * step;
                if *step > 1.0 && power == self.high {
                    break;
                }
                let (x, class) = (
                    self.x(ratio),
                    if power == 0 && *step < 2.0 { "o" } else { "l" },
                );
                let _ = writeln!(
                    text,
                    "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" \
                     y2=\"{bottom}\"/><text class=\"s m\" x=\"{x:.1}\" y=\"{}\">{}×</text>",
                    HEAD - 8.0,
                    HEAD - 14.0,
                    (ratio * 1000.0).round() / 1000.0
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, group: &str, ratio: f64) -> Bar {
        Bar {
            label: label.to_owned(),
            group: group.to_owned(),
            ratio,
            values: "1/s, 2/s".to_owned(),
            reach: Some(8.0),
        }
    }

    #[test]
    fn bars_go_right_for_better_and_left_for_worse() {
        let bars = [bar("a & b", "SMTP", 20.0), bar("c", "IMAP", 0.5)];
        let svg = svg("Ratios", "log scale", &bars);
        assert!(svg.contains("a &amp; b"));
        assert_eq!(svg.matches("class=\"good\"").count(), 1);
        assert_eq!(svg.matches("class=\"bad\"").count(), 1);
        assert!(svg.contains(">20×<") && svg.contains(">0.50×<"));
    }

    #[test]
    fn the_scale_covers_all_bars() {
        let scale = Scale::of(&[bar("", "", 0.02), bar("", "", 140.0)]);
        assert_eq!((scale.low, scale.high), (-2, 3));
        assert!(scale.x(1.0) > scale.x(0.5) && scale.x(1.0) < scale.x(2.0));
    }
}
