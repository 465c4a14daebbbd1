//! Charts as inline SVG: lines over steps, with their deviation, and pairs of scores.
//!
//! Their classes are colored by the page's style sheet: `grid`, `tick`, `level`, `band`, and those of the lines.

use std::fmt::Write;

use crate::page::escape;

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
pub struct Line<'a> {
    /// Text at its end.
    pub label: &'a str,
    /// Its class in the style sheet.
    pub class: &'a str,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Half the height of a band around each point; empty for no band.
    pub band: Vec<f64>,
}

/// A reference level.
#[derive(Debug)]
pub struct Level<'a> {
    /// Text at its end.
    pub label: &'a str,
    /// y.
    pub value: f64,
}

/// Of the y axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are; what is not above 0 is not drawn.
    Logarithmic,
}

/// The y axis: what it shows, and where.
#[derive(Debug, Clone, Copy)]
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// One that shows all values with a margin; none where nothing can be shown.
    fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let values = values.filter(|&y| scale.shows(y));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| {
            (low.min(y), high.max(y))
        });
        let (low, high) = match scale {
            Scale::Logarithmic => (low / 1.08, high * 1.08),
            Scale::Linear => {
                let margin = 0.05 * (high - low).max(1e-3);
                (low - margin, high + margin)
            }
        };
        (low < high && high.is_finite()).then_some(Self { scale, low, high })
    }

    fn y_px(self, y: f64) -> f64 {
        let from_top = match self.scale {
            // A band may reach below 0, which has no place on this axis.
            Scale::Logarithmic => (self.high / y.max(self.low)).ln() / (self.high / self.low).ln(),
            Scale::Linear => (self.high - y) / (self.high - self.low),
        };
        TOP + from_top.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    /// Round numbers on it.
    fn ticks(self) -> Vec<f64> {
        match self.scale {
            Scale::Logarithmic => logarithmic_ticks(self.low, self.high),
            Scale::Linear => linear_ticks(self.low, self.high),
        }
    }
}

impl Scale {
    fn shows(self, y: f64) -> bool {
        y.is_finite() && (self == Self::Linear || y > 0.0)
    }
}

/// Lines over a linear x axis, with levels across.
#[must_use]
pub fn lines(x_label: &str, scale: Scale, lines: &[Line<'_>], levels: &[Level<'_>]) -> String {
    let drawn: Vec<Vec<Place>> = lines.iter().map(|line| line.thinned(scale)).collect();
    let places = || drawn.iter().flatten();
    let x_max = places().map(|place| place.x).fold(1.0, f64::max);
    let ends = places().flat_map(|place| [place.y - place.band, place.y, place.y + place.band]);
    let Some(axis) = Axis::around(scale, ends.chain(levels.iter().map(|level| level.value))) else {
        return String::from("<p>There is nothing to draw.</p>");
    };
    let x_px = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - RIGHT);

    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>");
    draw_axes(&mut svg, x_label, x_max, axis);
    let mut labels = Vec::new();
    for level in levels.iter().filter(|level| scale.shows(level.value)) {
        let y = axis.y_px(level.value);
        let _ = write!(
            svg,
            "<line class='level' x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}'/>",
            WIDTH - RIGHT
        );
        labels.push((y, format!("{} {}", level.label, short(level.value)), "level"));
    }
    for (line, places) in lines.iter().zip(&drawn) {
        let Some(last) = places.last() else { continue };
        if !line.band.is_empty() {
            let edge = |sign: f64| {
                let at = move |place: &Place| (x_px(place.x), axis.y_px(place.y + sign * place.band));
                places.iter().map(at)
            };
            let outline = path(edge(1.0).chain(edge(-1.0).rev()));
            let _ = write!(svg, "<polygon class='band {}' points='{outline}'/>", line.class);
        }
        let along = path(places.iter().map(|place| (x_px(place.x), axis.y_px(place.y))));
        let _ = write!(svg, "<polyline class='{}' points='{along}'/>", line.class);
        if let [only] = places.as_slice() {
            let (x, y) = (x_px(only.x), axis.y_px(only.y));
            let _ = write!(
                svg,
                "<circle class='{}' cx='{x:.1}' cy='{y:.1}' r='3'/>",
                line.class
            );
        }
        labels.push((
            axis.y_px(last.y),
            format!("{} {}", line.label, short(last.y)),
            line.class,
        ));
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

fn draw_axes(svg: &mut String, x_label: &str, x_max: f64, axis: Axis) {
    for tick in axis.ticks() {
        let y = axis.y_px(tick);
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
        let part = f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<text class='tick mid' x='{:.1}' y='{:.1}'>{:.0}</text>",
            LEFT + part * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM + 16.0,
            x_max * part
        );
    }
    let _ = write!(
        svg,
        "<text class='tick mid' x='{:.1}' y='{:.1}'>{}</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(x_label)
    );
}

/// The points of a polygon or polyline.
fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

/// Three digits behind the point, or as many that count where a value is small.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}

/// One slope a pair, from the first score to the second; scores are fractions.
#[must_use]
pub fn pairs(first_label: &str, second_label: &str, pairs: &[(f64, f64)]) -> String {
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

/// A point of a line that is drawn.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    band: f64,
}

impl Line<'_> {
    /// At most [`MAX_POINTS`] points that can be shown, each the mean of its neighbors.
    fn thinned(&self, scale: Scale) -> Vec<Place> {
        let bands = self.band.iter().copied().chain(std::iter::repeat(0.0));
        let places = self.points.iter().zip(bands);
        let places = places.map(|(&(x, y), band)| Place { x, y, band });
        let places: Vec<Place> = places
            .filter(|place| place.x.is_finite() && scale.shows(place.y) && place.band.is_finite())
            .collect();
        let per_point = places.len().div_ceil(MAX_POINTS).max(1);
        let mean = |chunk: &[Place]| {
            let of = |value: fn(&Place) -> f64| chunk.iter().map(value).sum::<f64>() / chunk.len() as f64;
            Place {
                x: of(|place| place.x),
                y: of(|place| place.y),
                band: of(|place| place.band),
            }
        };
        places.chunks(per_point).map(mean).collect()
    }
}

/// Round numbers between two values of a logarithmic axis.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let digits: &[f64] = if high / low > 1e3 {
        &[1.0]
    } else {
        &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]
    };
    let round = |decade: i32| {
        digits
            .iter()
            .map(move |digit| rounded(digit * 10f64.powi(decade)))
    };
    decades
        .flat_map(round)
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// Round numbers between two values of a linear axis, four to eight of them.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let decade = 10f64.powf(((high - low) / 4.0).log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|digit| digit * decade);
    let step = steps.into_iter().find(|step| (high - low) / step >= 4.0);
    let step = step.unwrap_or(decade);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|tick| rounded(tick as f64 * step)).collect()
}

/// Without the last digits, which sums leave behind.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
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

    fn line(points: Vec<(f64, f64)>) -> Line<'static> {
        Line {
            label: "training",
            class: "train",
            points,
            band: Vec::new(),
        }
    }

    #[test]
    fn a_chart_draws_every_line_and_level() {
        let curve = line((1..1000).map(|i| (f64::from(i), 1.0 / f64::from(i))).collect());
        let level = Level {
            label: "mean <image>",
            value: 0.288,
        };
        let svg = lines("step", Scale::Logarithmic, &[curve], &[level]);
        assert_eq!(svg.matches("<polyline").count(), 1, "one line");
        assert!(
            svg.contains("mean &lt;image&gt; 0.288"),
            "the level is named, and is no HTML"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_said() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            assert!(lines("step", scale, &[], &[]).contains("nothing"), "no line");
            let svg = lines(
                "step",
                scale,
                &[line(vec![(1.0, f64::NAN), (2.0, 0.5), (3.0, 0.4)])],
                &[],
            );
            assert!(!svg.contains("NaN"), "a loss that is not a number is left out");
        }
    }

    #[test]
    fn a_band_is_drawn_around_its_line() {
        let with_band = Line {
            band: vec![0.1, 0.2],
            ..line(vec![(1.0, 0.5), (2.0, 0.6)])
        };
        let svg = lines("step", Scale::Linear, &[with_band], &[]);
        assert_eq!(svg.matches("<polygon class='band train'").count(), 1, "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
        let below_0 = Line {
            band: vec![0.1, 0.9],
            ..line(vec![(1.0, 0.5), (2.0, 0.6)])
        };
        let svg = lines("step", Scale::Logarithmic, &[below_0], &[]);
        assert!(
            svg.contains("class='band train'") && !svg.contains("NaN"),
            "{svg}"
        );
    }

    #[test]
    fn long_curves_are_thinned() {
        let long = line((0..10_000).map(|i| (f64::from(i), 1.0)).collect());
        assert!(
            long.thinned(Scale::Logarithmic).len() <= MAX_POINTS,
            "not more points than can be seen"
        );
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(logarithmic_ticks(0.18, 0.95), [0.2, 0.3, 0.5, 0.7]);
        assert_eq!(linear_ticks(0.18, 0.95), [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
        assert_eq!(
            linear_ticks(-0.02, 0.11),
            [-0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
        );
    }
}
