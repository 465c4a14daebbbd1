//! Charts as inline SVG: lines over steps, and pairs of scores.

use crate::page::escape;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Limit on the points of a line.
const MAX_POINTS: usize = 400;

/// A line of a chart.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) label: &'a str,
    /// Its class in the style sheet.
    pub(super) class: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A reference level.
#[derive(Debug)]
pub(super) struct Level<'a> {
    pub(super) label: &'a str,
    pub(super) value: f64,
}

/// Lines over a linear x axis and a logarithmic y axis, with levels across.
pub(super) fn lines(x_label: &str, lines: &[Line<'_>], levels: &[Level<'_>]) -> String {
    let points = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .copied()
            .filter(|(x, y)| x.is_finite() && *y > 0.0)
    };
    let x_max = points().map(|(x, _)| x).fold(1.0, f64::max);
    let values = || {
        points()
            .map(|(_, y)| y)
            .chain(levels.iter().map(|level| level.value).filter(|y| *y > 0.0))
    };
    let y_min = values().fold(f64::INFINITY, f64::min) / 1.08;
    let y_max = values().fold(0.0, f64::max) * 1.08;
    if y_max <= 0.0 {
        return "<p>There is nothing to draw.</p>".to_owned();
    }
    let x_px = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - RIGHT);
    let y_px = |y: f64| TOP + (y_max / y).ln() / (y_max / y_min).ln() * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>");
    for tick in ticks(y_min, y_max) {
        let y = y_px(tick);
        let _ = write!(
            svg,
            "<line class='grid' x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}'/>\
             <text class='tick end' x='{}' y='{:.1}'>{tick}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
    for part in 0..=4 {
        let x = x_max * f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<text class='tick mid' x='{:.1}' y='{:.1}'>{x:.0}</text>",
            x_px(x),
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ = write!(
        svg,
        "<text class='tick mid' x='{:.1}' y='{:.1}'>{}</text>",
        x_px(x_max / 2.0),
        HEIGHT - 6.0,
        escape(x_label)
    );
    for level in levels {
        let y = y_px(level.value);
        let _ = write!(
            svg,
            "<line class='level' x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}'/>",
            WIDTH - RIGHT
        );
    }
    let mut labels: Vec<(f64, String, &str)> = levels
        .iter()
        .map(|level| {
            (
                y_px(level.value),
                format!("{} {:.3}", level.label, level.value),
                "level",
            )
        })
        .collect();
    for line in lines {
        let drawn: Vec<(f64, f64)> = thin(&line.points)
            .into_iter()
            .filter(|(x, y)| x.is_finite() && *y > 0.0)
            .collect();
        let Some(&(_, last)) = drawn.last() else { continue };
        let path: Vec<String> = drawn
            .iter()
            .map(|&(x, y)| format!("{:.1},{:.1}", x_px(x), y_px(y)))
            .collect();
        let _ = write!(
            svg,
            "<polyline class='{}' points='{}'/>",
            line.class,
            path.join(" ")
        );
        if let [only] = path.as_slice() {
            let (x, y) = only.split_once(',').unwrap_or_default();
            let _ = write!(svg, "<circle class='{}' cx='{x}' cy='{y}' r='3'/>", line.class);
        }
        labels.push((y_px(last), format!("{} {last:.3}", line.label), line.class));
    }
    for (y, text, class) in spread(labels) {
        let _ = write!(
            svg,
            "<text class='label {class}' x='{}' y='{:.1}'>{}</text>",
            WIDTH - RIGHT + 8.0,
            y + 4.0,
            escape(&text)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// One slope a pair, from the first score to the second; scores are fractions.
pub(super) fn pairs(first_label: &str, second_label: &str, pairs: &[(f64, f64)]) -> String {
    const SIZE: f64 = 220.0;
    let values = || pairs.iter().flat_map(|&(first, second)| [first, second]);
    let low = (values().fold(1.0, f64::min) * 20.0).floor() / 20.0;
    let high = (values().fold(0.0, f64::max) * 20.0).ceil() / 20.0;
    let extent = (high - low).max(0.05);
    let y_px = |score: f64| 14.0 + (high - score) / extent * (SIZE - 44.0);
    let mut svg = format!("<svg class='pairs' viewBox='0 0 {SIZE} {SIZE}' role='img'>");
    for step in 0..=(extent / 0.05).round() as u32 {
        let score = low + 0.05 * f64::from(step);
        let y = y_px(score);
        let _ = write!(
            svg,
            "<line class='grid' x1='40' x2='200' y1='{y:.1}' y2='{y:.1}'/>\
             <text class='tick end' x='36' y='{:.1}'>{:.0} %</text>",
            y + 4.0,
            100.0 * score
        );
    }
    for &(first, second) in pairs {
        let class = if second > first { "up" } else { "down" };
        let (y1, y2) = (y_px(first), y_px(second));
        let _ = write!(
            svg,
            "<line class='{class}' x1='70' x2='170' y1='{y1:.1}' y2='{y2:.1}'/>\
             <circle class='scratch' cx='70' cy='{y1:.1}' r='4'/><circle class='tap' cx='170' cy='{y2:.1}' r='4'/>"
        );
    }
    let _ = write!(
        svg,
        "<text class='tick mid' x='70' y='{0}'>{1}</text><text class='tick mid' x='170' y='{0}'>{2}</text></svg>",
        SIZE - 8.0,
        escape(first_label),
        escape(second_label)
    );
    svg
}

/// At most [`MAX_POINTS`] points, each the mean of its neighbors.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let per_point = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        (
            chunk.iter().map(|(x, _)| x).sum::<f64>() / count,
            chunk.iter().map(|(_, y)| y).sum::<f64>() / count,
        )
    };
    points.chunks(per_point).map(mean).collect()
}

/// Round numbers between two values of a logarithmic axis.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let round = |decade: i32| {
        [1.0, 1.5, 2.0, 3.0, 5.0, 7.0].map(|digit| {
            let tick = digit * 10f64.powi(decade);
            (tick * 1e6).round() / 1e6
        })
    };
    decades
        .flat_map(round)
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// Moves overlapping labels apart.
fn spread(mut labels: Vec<(f64, String, &str)>) -> Vec<(f64, String, &str)> {
    const LINE_PX: f64 = 15.0;
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    for label_idx in 1..labels.len() {
        labels[label_idx].0 = labels[label_idx].0.max(labels[label_idx - 1].0 + LINE_PX);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_draws_every_line_and_level() {
        let line = Line {
            label: "training",
            class: "train",
            points: (1..1000).map(|i| (f64::from(i), 1.0 / f64::from(i))).collect(),
        };
        let svg = lines(
            "step",
            &[line],
            &[Level {
                label: "mean <image>",
                value: 0.288,
            }],
        );
        assert_eq!(svg.matches("<polyline").count(), 1, "one line");
        assert!(
            svg.contains("mean &lt;image&gt; 0.288"),
            "the level is named, and is no HTML"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_said() {
        assert!(lines("step", &[], &[]).contains("nothing"), "no line");
        let svg = lines(
            "step",
            &[Line {
                label: "a",
                class: "a",
                points: vec![(1.0, f64::NAN), (2.0, 0.5), (3.0, 0.4)],
            }],
            &[],
        );
        assert!(!svg.contains("NaN"), "a loss that is not a number is left out");
    }

    #[test]
    fn long_curves_are_thinned() {
        let points: Vec<_> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        assert!(
            thin(&points).len() <= MAX_POINTS,
            "not more points than can be seen"
        );
        assert_eq!(ticks(0.18, 0.95), [0.2, 0.3, 0.5, 0.7]);
    }
}
