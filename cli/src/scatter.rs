//! Points of a plane in the colors of their groups, as an SVG that stands alone.

use std::fmt::Write;

use crate::page::escape;

/// Side of the square of points.
const SIDE: f64 = 640.0;
const MARGIN: f64 = 14.0;
const TITLE_HEIGHT: f64 = 30.0;
const LEGEND_WIDTH: f64 = 170.0;
const LEGEND_LINE: f64 = 17.0;
const FONT: &str = "font-family='system-ui, sans-serif'";
/// Neighboring groups are so many degrees of hue apart: the golden angle, with which no two of few hues are near each other.
const HUE_STEP_DEG: f64 = 137.5;
const FIRST_HUE_DEG: f64 = 205.0;
/// Groups that have shapes of one kind.
const GROUPS_PER_SHAPE: usize = 16;

/// Points of one group.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its name in the legend.
    pub label: &'a str,
    /// x and y; y points up.
    pub points: Vec<[f64; 2]>,
}

/// A square of points with a legend. `notes` say what it is, for people and programs, and are not drawn.
///
/// Groups have hues of their own; every 16 have another shape.
#[must_use]
pub fn scatter(title: &str, notes: &str, groups: &[Group<'_>]) -> String {
    let points = || {
        let all = groups.iter().flat_map(|group| &group.points);
        all.filter(|[x, y]| x.is_finite() && y.is_finite())
    };
    let range = |axis: usize| {
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
            (low.min(point[axis]), high.max(point[axis]))
        })
    };
    let (x, y) = (range(0), range(1));
    let extent = (x.1 - x.0).max(y.1 - y.0).max(f64::EPSILON);
    let scale = (SIDE - 2.0 * MARGIN) / extent;
    let middle = [x.0.midpoint(x.1), y.0.midpoint(y.1)];
    let place = |point: &[f64; 2]| {
        [
            SIDE / 2.0 + scale * (point[0] - middle[0]),
            TITLE_HEIGHT + SIDE / 2.0 - scale * (point[1] - middle[1]),
        ]
    };
    let lines_per_column = ((SIDE - 2.0 * MARGIN) / LEGEND_LINE) as usize;
    let num_columns = groups.len().div_ceil(lines_per_column).max(1);
    let (width, height) = (SIDE + num_columns as f64 * LEGEND_WIDTH, SIDE + TITLE_HEIGHT);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img'>\
         <title>{title}</title><desc>{}</desc><rect width='100%' height='100%' fill='white'/>\
         <text x='{MARGIN}' y='21' {FONT} font-size='16' fill='#1c2733'>{title}</text>\n",
        escape(notes),
        title = escape(title)
    );
    for (number, group) in groups.iter().enumerate() {
        let _ = write!(svg, "<g fill='{}' fill-opacity='0.78'>", color(number));
        for point in &group.points {
            if point.iter().all(|x| x.is_finite()) {
                mark(&mut svg, number, place(point), 3.2);
            }
        }
        svg.push_str("</g>\n");
    }
    for (number, group) in groups.iter().enumerate() {
        let left = SIDE + (number / lines_per_column) as f64 * LEGEND_WIDTH;
        let top = TITLE_HEIGHT + MARGIN + (number % lines_per_column) as f64 * LEGEND_LINE;
        let _ = write!(svg, "<g fill='{}'>", color(number));
        mark(&mut svg, number, [left + 6.0, top], 5.0);
        let _ = writeln!(
            svg,
            "</g><text x='{}' y='{:.1}' {FONT} font-size='12' fill='#1c2733'>{} ({})</text>",
            left + 18.0,
            top + 4.0,
            escape(group.label),
            group.points.len()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn color(group: usize) -> String {
    let hue = (FIRST_HUE_DEG + HUE_STEP_DEG * group as f64) % 360.0;
    let lightness = [46, 60][group % 2];
    format!("hsl({hue:.0},65%,{lightness}%)")
}

/// A circle, a square, a triangle or a diamond.
fn mark(svg: &mut String, group: usize, [x, y]: [f64; 2], radius: f64) {
    let corners: &[[f64; 2]] = match group / GROUPS_PER_SHAPE % 4 {
        0 => {
            let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='{radius}'/>");
            return;
        }
        1 => &[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
        2 => &[[0.0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
        _ => &[[0.0, -1.2], [1.2, 0.0], [0.0, 1.2], [-1.2, 0.0]],
    };
    let corners = corners
        .iter()
        .map(|[dx, dy]| format!("{:.1},{:.1}", x + radius * dx, y + radius * dy));
    let _ = write!(
        svg,
        "<polygon points='{}'/>",
        corners.collect::<Vec<_>>().join(" ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_in_its_group_and_names_are_no_markup() {
        let groups = [
            Group {
                label: "chair",
                points: vec![[0.0, 0.0], [1.0, 2.0], [f64::NAN, 0.0]],
            },
            Group {
                label: "<b>lamp",
                points: vec![[-3.0, 1.0]],
            },
        ];
        let svg = scatter("features", "seed 0", &groups);
        assert_eq!(
            svg.matches("<circle").count(),
            3 + groups.len(),
            "points and legend: {svg}"
        );
        assert!(svg.contains("&lt;b&gt;lamp (1)") && !svg.contains("<b>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("<desc>seed 0</desc>"), "{svg}");
    }

    #[test]
    fn one_point_and_none_are_drawn_too() {
        let one = Group {
            label: "a",
            points: vec![[5.0, 5.0]],
        };
        for groups in [vec![one], Vec::new()] {
            let svg = scatter("", "", &groups);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn many_groups_have_several_shapes_and_columns() {
        let labels: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let groups: Vec<Group<'_>> = labels
            .iter()
            .map(|label| Group {
                label,
                points: vec![[0.0, 0.0]],
            })
            .collect();
        let svg = scatter("", "", &groups);
        assert_eq!(svg.matches("<polygon").count(), 2 * 24, "squares and triangles");
        assert!(svg.contains("viewBox='0 0 980 670'"), "two columns of names");
    }
}
