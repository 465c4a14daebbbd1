//! The page: curves, scores, what differs, pictures. A single file that loads nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;
use tap_cli::chart::{self, Line, Scale};
use tap_cli::page::{ALONE, COLORS, base64, escape, head_of};
use tap_dataset::sha256;
use tap_train::metric::Summary;
use tap_train::run::event::Record;

use super::gallery_page::{SCRIPT, inspectors, views};
use super::{Drawn, Group, Run, differences, text_of};

/// Names the program in a page's head.
const GENERATOR: &str = "<meta name='generator' content='tap-train report'>";
const STYLE: &str = include_str!("style.css");
/// Series that have a color of their own.
const NUM_COLORS: usize = 8;
/// Scalars of training steps that are no loss, and whose charts are folded away.
const OF_STEPS: [(&str, Scale); 4] = [
    ("learning_rate", Scale::Logarithmic),
    ("gradient_norm", Scale::Logarithmic),
    ("samples_per_s", Scale::Linear),
    ("data_wait", Scale::Linear),
];
/// What every number depends on, in this order, where a run has it.
const PROVENANCE: [&str; 7] = [
    "task",
    "seed",
    "data_sha256",
    "init_sha256",
    "selection",
    "evaluation_split",
    "votes",
];

/// Whether a file is a page that [`html`] gave.
pub(crate) fn is_report(file: &Path) -> bool {
    head_of(file).contains(GENERATOR)
}

/// The page.
pub(crate) fn html(runs: &[Run], drawn: &Drawn) -> String {
    let groups = Group::of(runs);
    let title = if let [run] = runs {
        run.name.clone()
    } else {
        format!("{} runs compared", runs.len())
    };
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>{GENERATOR}\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\
         {ALONE}<title>{0}</title><style>{COLORS}{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    section(&mut page, "Results", &results(runs));
    section(&mut page, "Means over seeds", &means(&groups));
    if groups.len() > 1 {
        section(&mut page, "What differs", &differing(&groups));
    }
    section(&mut page, "Curves", &curves(&groups));
    section(&mut page, "Generated views beside the true ones", &views(drawn));
    let inspectors = inspectors(drawn);
    section(&mut page, "What a patch looks at", &inspectors);
    section(&mut page, "Pictures", &pictures(&groups, drawn));
    section(&mut page, "Settings", &settings(&groups));
    if !inspectors.is_empty() {
        let _ = writeln!(page, "<script>{SCRIPT}</script>");
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, heading: &str, body: &str) {
    if !body.is_empty() {
        let _ = writeln!(page, "<section><h2>{heading}</h2>\n{body}</section>");
    }
}

/// A table with a column a run: what its numbers depend on, and the numbers.
fn results(runs: &[Run]) -> String {
    let provenance = PROVENANCE.iter().copied();
    let provenance = provenance.filter(|name| runs.iter().any(|run| fact(run, name).is_some()));
    let mut html = String::from("<div class='wide'><table><thead><tr><th>run</th>");
    for run in runs {
        let _ = write!(html, "<th>{}</th>", escape(&run.name));
    }
    html.push_str("</tr></thead><tbody>");
    for name in provenance {
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        for run in runs {
            let text = fact(run, name).unwrap_or_default();
            let shown = shortened(name, &text);
            let _ = write!(html, "<td title='{}'>{}</td>", escape(&text), escape(shown));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody><tbody>");
    for name in numbers_of(runs) {
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        for run in runs {
            let number = run.result.get(name).and_then(Json::as_f64);
            let _ = write!(html, "<td>{}</td>", number.map(decimal).unwrap_or_default());
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    if runs.iter().any(|run| run.result.is_empty()) {
        html.push_str("<p class='faint'>A run without numbers is not finished.</p>");
    }
    html
}

/// Names of all numbers of results but those that numbers depend on.
fn numbers_of(runs: &[Run]) -> BTreeSet<&str> {
    let all = runs.iter().flat_map(|run| &run.result);
    all.filter(|(name, value)| value.is_number() && !PROVENANCE.contains(&name.as_str()))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// A table with a column a group, where there is one of several seeds.
fn means(groups: &[Group<'_>]) -> String {
    if groups.iter().all(|group| group.runs.len() < 2) {
        return String::new();
    }
    let names: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| &group.runs)
        .flat_map(|run| numbers_of(std::slice::from_ref(*run)))
        .collect();
    let mut html = String::from("<div class='wide'><table><thead><tr><th>mean ± deviation</th>");
    for group in groups {
        let _ = write!(html, "<th>{}</th>", escape(&group.label()));
    }
    html.push_str("</tr></thead><tbody>");
    for name in names {
        let of_groups: Vec<Option<Summary>> = groups.iter().map(|group| group.number(name)).collect();
        if of_groups.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        for summary in of_groups {
            let text = summary.map(|summary| {
                if summary.std > 0.0 {
                    format!("{} ± {}", decimal(summary.mean), decimal(summary.std))
                } else {
                    decimal(summary.mean)
                }
            });
            let _ = write!(html, "<td>{}</td>", text.unwrap_or_default());
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// Something that a run's numbers depend on, from its result or its settings.
fn fact(run: &Run, name: &str) -> Option<String> {
    let of_result = run.result.get(name).map(text_of);
    of_result.or_else(|| run.settings.get(name).cloned())
}

/// A table with a column a group; what its runs do not have in common are several values.
fn differing(groups: &[Group<'_>]) -> String {
    let differences = differences(groups);
    if differences.is_empty() {
        return String::from("<p>Nothing: all settings are the same.</p>");
    }
    let mut html = String::from("<div class='wide'><table><thead><tr><th>setting</th>");
    for group in groups {
        let _ = write!(html, "<th>{}</th>", escape(&group.label()));
    }
    html.push_str("</tr></thead><tbody>");
    for (name, of_groups) in differences {
        let _ = write!(html, "<tr><th><code>{}</code></th>", escape(name));
        for values in of_groups {
            let shown: Vec<&str> = values.iter().map(|value| shortened(name, value)).collect();
            let [whole, shown] =
                [values.into_iter().collect(), shown].map(|values: Vec<&str>| values.join(", "));
            let _ = write!(html, "<td title='{}'>{}</td>", escape(&whole), escape(&shown));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// The beginning of a hash; anything else as it is.
fn shortened<'a>(name: &str, value: &'a str) -> &'a str {
    if name.ends_with("sha256") {
        sha256::short(value)
    } else {
        value
    }
}

/// Charts of all scalars: those that tell how good a run is, and the rest folded away.
fn curves(groups: &[Group<'_>]) -> String {
    let of_runs = groups.iter().flat_map(|group| &group.runs);
    let keys: BTreeSet<&(String, String)> = of_runs.flat_map(|run| run.curves.keys()).collect();
    let is_step = |kind: &str| kind == Record::STEP;
    let scale = |scalar: &str| {
        let is_loss = scalar.starts_with("loss") || scalar.contains("chamfer");
        if is_loss {
            Scale::Logarithmic
        } else {
            Scale::Linear
        }
    };
    let mut html = String::from("<div class='charts'>");
    for (kind, scalar) in &keys {
        let is_shown = if is_step(kind) {
            scalar == "loss"
        } else {
            kind != Record::CONTINUATION
        };
        if is_shown {
            html.push_str(&chart_of(groups, kind, scalar, scale(scalar)));
        }
    }
    html.push_str("</div><details><summary>Parts of the loss, learning rate, gradient, speed</summary><div class='charts'>");
    for (kind, scalar) in keys.iter().filter(|(kind, _)| is_step(kind)) {
        if scalar != "loss" && scalar.starts_with("loss") {
            html.push_str(&chart_of(groups, kind, scalar, Scale::Logarithmic));
        }
    }
    for (scalar, scale) in OF_STEPS {
        html.push_str(&chart_of(groups, Record::STEP, scalar, scale));
    }
    html.push_str("</div></details>");
    if groups.iter().any(|group| group.runs.len() > 1) {
        html.push_str("<p class='faint'>Runs that differ by their seed alone are one line, their mean; the band is one deviation to either side.</p>");
    }
    html
}

fn chart_of(groups: &[Group<'_>], kind: &str, scalar: &str, scale: Scale) -> String {
    let labels: Vec<String> = groups.iter().map(Group::label).collect();
    let classes: Vec<String> = (0..groups.len())
        .map(|place| format!("s{}", place % NUM_COLORS))
        .collect();
    let lines = groups
        .iter()
        .zip(labels.iter().zip(&classes))
        .map(|(group, (label, class))| {
            let curve = group.curve(kind, scalar);
            let band = |(_, summary): &(u64, Summary)| summary.std;
            Line {
                label,
                class,
                points: curve
                    .iter()
                    .map(|(step, summary)| (*step as f64, summary.mean))
                    .collect(),
                band: if group.runs.len() > 1 {
                    curve.iter().map(band).collect()
                } else {
                    Vec::new()
                },
            }
        });
    let lines: Vec<Line<'_>> = lines.filter(|line| !line.points.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "<figure><figcaption>{}: {}</figcaption>{}</figure>",
        escape(kind),
        escape(scalar),
        chart::lines("step", scale, &lines, &[])
    )
}

/// The newest pictures of runs of which no view is drawn, nor of another seed.
fn pictures(groups: &[Group<'_>], drawn: &Drawn) -> String {
    let artists: BTreeSet<&str> = drawn
        .galleries
        .iter()
        .flat_map(|gallery| &gallery.artists)
        .map(|artist| artist.name.as_str())
        .collect();
    let draws = |group: &&Group<'_>| group.runs.iter().any(|run| artists.contains(run.name.as_str()));
    let mut html = String::new();
    for run in groups
        .iter()
        .filter(|group| !draws(group))
        .flat_map(|group| &group.runs)
    {
        if let Some(png) = &run.picture {
            let _ = write!(
                html,
                "<h3>{0}</h3><figure class='picture'><img alt='pictures of {0}' src='data:image/png;base64,{1}'></figure>",
                escape(&run.name),
                base64(png)
            );
        }
    }
    if !html.is_empty() {
        html.push_str(
            "<p class='faint'>As the run drew them last. Rows alternate: what was generated or reconstructed, above what is true.</p>",
        );
    }
    html
}

/// Every setting of each group's first run, folded away.
fn settings(groups: &[Group<'_>]) -> String {
    let mut html = String::new();
    for group in groups {
        let _ = write!(
            html,
            "<details><summary>{}</summary><div class='wide'><table>",
            escape(&group.label())
        );
        for (name, value) in &group.runs[0].settings {
            let _ = write!(
                html,
                "<tr><th><code>{}</code></th><td class='text'>{}</td></tr>",
                escape(name),
                escape(value)
            );
        }
        html.push_str("</table></div></details>");
    }
    html
}

/// Four digits that count.
pub(super) fn decimal(number: f64) -> String {
    if number == 0.0 || number.fract() == 0.0 && number.abs() < 1e15 {
        return format!("{number}");
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    format!("{number:.*}", digits.clamp(0, 12) as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::report::tests::run;

    #[test]
    fn the_page_stands_alone_and_compares() {
        let runs = [
            run("two-seed0", "2", 0, 0.4),
            run("two-seed1", "2", 1, 0.6),
            run("four <b>", "4", 0, 0.9),
        ];
        let page = html(&runs, &Drawn::default());
        for part in [
            "3 runs compared",
            "two (2 seeds)",
            "four &lt;b&gt;",
            "photograph.num_blocks",
            "0123456789ab<",
            "data:image/png;base64,AQID",
            "<polygon class='band s0'",
            "0.1333",
            "<td>0.1667 ± 0.04714</td>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        for part in ["http:", "https:", "<link", "<script", "<b>", "NaN"] {
            assert!(!page.contains(part), "{part} in the page");
        }
    }

    #[test]
    fn the_program_knows_its_pages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.html");
        std::fs::write(&path, html(&[run("a", "2", 0, 0.4)], &Drawn::default())).unwrap();
        assert!(is_report(&path));
        std::fs::write(&path, "<!doctype html><title>mine</title>").unwrap();
        assert!(!is_report(&path));
    }

    #[test]
    fn numbers_have_four_digits_that_count() {
        let shown = [0.123_456, 1234.5678, 0.000_012_345, 3.0, 0.0].map(decimal);
        assert_eq!(shown, ["0.1235", "1235", "0.00001234", "3", "0"]);
    }
}
