//! The page itself.

use std::fmt::Write;

use super::{Report, table};
use tap_cli::chart::{self, Level, Line, Scale};
use tap_cli::page::{ALONE, COLORS, base64, escape};
use tap_cli::ui;
use tap_dataset::sha256;

const STYLE: &str = "
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p.faint, figcaption { color: var(--faint); font-size: .92rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } img { max-width: 100%; image-rendering: pixelated; }
svg { width: 100%; height: auto; } svg.pairs { width: 15rem; }
line.grid { stroke: var(--line); } line.level { stroke: var(--faint); stroke-dasharray: 5 4; }
polyline { fill: none; stroke-width: 1.8; }
polyline.train { stroke: var(--other); } polyline.validation { stroke: var(--tap); }
circle.train { fill: var(--other); } circle.validation { fill: var(--tap); }
text { font-size: 12px; fill: var(--ink); } .tick, text.level { fill: var(--faint); }
text.train { fill: var(--other); } text.validation { fill: var(--tap); }
.end { text-anchor: end; } .mid { text-anchor: middle; }
line.up { stroke: var(--tap); } line.down { stroke: var(--other); stroke-dasharray: 3 3; }
circle.scratch { fill: var(--other); } circle.tap { fill: var(--tap); }
.side { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.confusion { font-size: .72rem; } .confusion td, .confusion th { padding: .12rem .3rem; border: 0; text-align: center; }
.confusion th.row { text-align: right; font-weight: normal; } .confusion th.column { font-weight: normal;
  writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
";

/// The report as a single HTML file.
pub(crate) fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width, initial-scale=1'>\
         {ALONE}<title>TAP, the main job</title><style>{COLORS}{STYLE}</style></head><body>\n\
         <h1>Take-A-Photo, from meshes to a score</h1>\n<p class='faint'>{}. Rendered by {}. Data {}.</p>\n",
        escape(&report.data),
        escape(&report.adapter),
        escape(sha256::short(&report.pretraining.data_sha256))
    );
    section(&mut page, "What was found", &claims(report));
    section(&mut page, "Stages", &stages(report));
    section(&mut page, "Loss", &losses(report));
    section(
        &mut page,
        "Generated views beside the true ones",
        &samples(report),
    );
    section(&mut page, "Fine-tuning, seed by seed", &comparison(report));
    section(&mut page, "Frozen features", &probe(report));
    section(&mut page, "Where the classifiers err", &confusion(report));
    section(&mut page, "What this is, and is not", LIMITS);
    page.push_str("</body></html>\n");
    page
}

const LIMITS: &str = "\
<p>The photograph module here has one part that the paper does not: a <em>ray bias</em>, which adds to the \
cross-attention's logits a term that grows with the distance of a token from the query's optical line. It is our \
extension, named as such, and off in the settings of the paper and of its released code. Without it a run of minutes \
learns no view dependence.</p>\
<p>The encoder is a small PointNet++ on 512 points, the views are 64 pixels wide, and the shapes are synthetic. Both \
arms of the comparison get the same labels, seeds, steps and learning rate; the last step is what counts, with no \
selection and no voting. The TAP arm has had more: the views of the training meshes, without labels, and the time of \
pre-training. Nothing is claimed about longer budgets, larger sets or other encoders.</p>\
<p>'No difference shown' means that the mean difference over the paired seeds is under two standard errors.</p>";

fn section(page: &mut String, heading: &str, body: &str) {
    let _ = writeln!(page, "<h2>{}</h2>\n{body}", escape(heading));
}

fn claims(report: &Report) -> String {
    let items: Vec<String> = table::claims(report).iter().map(|claim| escape(claim)).collect();
    format!("<ul><li>{}</li></ul>", items.join("</li><li>"))
}

fn stages(report: &Report) -> String {
    let mut html = "<table><tr><th>stage</th><th>time</th><th>views/s</th></tr>".to_owned();
    for stage in &report.stages {
        let rate = stage
            .num_views
            .map(|num_views| format!("{:.0}", num_views / stage.elapsed_s.max(1e-3)));
        let _ = write!(
            html,
            "<tr><td>{}: {}</td><td>{}</td><td>{}</td></tr>",
            escape(stage.name),
            escape(&stage.what),
            ui::seconds(stage.elapsed_s),
            rate.unwrap_or_default()
        );
    }
    html.push_str("</table>");
    html
}

fn losses(report: &Report) -> String {
    let pretraining = &report.pretraining;
    let chart = chart::lines(
        "step",
        Scale::Logarithmic,
        &[
            Line {
                label: "training",
                class: "train",
                points: report.curve.training.clone(),
                band: Vec::new(),
            },
            Line {
                label: "validation",
                class: "validation",
                points: report.curve.validation.clone(),
                band: Vec::new(),
            },
        ],
        &[
            Level {
                label: "best image a view",
                value: pretraining.weighted_mean_image_loss,
            },
            Level {
                label: "true mask, one gray",
                value: pretraining.true_mask_gray_loss,
            },
        ],
    );
    format!(
        "<figure>{chart}<figcaption>Weighted squared error of the views (20 for the object, 1 for the background), \
         {} steps. To beat the upper dashed line takes more than the mean image of each view.</figcaption></figure>",
        pretraining.num_steps
    )
}

fn samples(report: &Report) -> String {
    format!(
        "<figure><img alt='generated and true views' src='data:image/png;base64,{}'><figcaption>Rows alternate: what \
         the network paints from the points alone, then the true views. Pre-training never saw these objects.</figcaption></figure>",
        base64(&report.samples_png)
    )
}

fn comparison(report: &Report) -> String {
    let mut html = "<div class='side'>".to_owned();
    for setting in &report.comparison.settings {
        let pairs: Vec<(f64, f64)> = setting
            .scratch
            .iter()
            .copied()
            .zip(setting.tap.iter().copied())
            .collect();
        let _ = write!(
            html,
            "<figure>{}<figcaption>{} labels a class, {} seeds: {}</figcaption></figure>",
            chart::pairs("from scratch", "from TAP", &pairs),
            escape(&setting.labels()),
            setting.seeds.len(),
            escape(&report.comparison.verdict(setting))
        );
    }
    html.push_str("</div>");
    html
}

fn probe(report: &Report) -> String {
    let labels = report.probe.labels();
    let mut html = "<table><tr><th>linear SVM on frozen features</th>".to_owned();
    for label in &labels {
        let _ = write!(html, "<th>{} labels a class</th>", escape(label));
    }
    html.push_str("</tr>");
    for arm in &report.probe.arms {
        let _ = write!(html, "<tr><td>{}</td>", escape(&arm.name));
        for label in &labels {
            let cell = arm
                .svm
                .get(label)
                .map(|score| super::percent(score.mean, score.std));
            let _ = write!(html, "<td>{}</td>", cell.unwrap_or_default());
        }
        html.push_str("</tr>");
    }
    html.push_str("</table><p class='faint'>Mean and deviation over draws of labels.</p>");
    html
}

fn confusion(report: &Report) -> String {
    let confusion = &report.comparison.confusion;
    let matrix = |title: &str, counts: &[Vec<f64>]| {
        let mut html =
            format!("<figure><figcaption>{title}</figcaption><table class='confusion'><tr><th></th>");
        for class in &confusion.classes {
            let _ = write!(html, "<th class='column'>{}</th>", escape(class));
        }
        html.push_str("</tr>");
        for (class, row) in confusion.classes.iter().zip(counts) {
            let total = row.iter().sum::<f64>().max(1.0);
            let _ = write!(html, "<tr><th class='row'>{}</th>", escape(class));
            for count in row {
                let part = (100.0 * count / total).round();
                let text = if *count > 0.0 {
                    format!("{part:.0}")
                } else {
                    String::new()
                };
                let _ = write!(
                    html,
                    "<td style='background: color-mix(in srgb, var(--tap) {:.0}%, transparent)'>{text}</td>",
                    0.8 * part
                );
            }
            html.push_str("</tr>");
        }
        html.push_str("</table></figure>");
        html
    };
    format!(
        "<div class='side'>{}{}</div><p class='faint'>Rows are true classes, columns what the classifier said, in \
         percent of the row, over all seeds.</p>",
        matrix("From scratch", &confusion.scratch),
        matrix("From TAP", &confusion.tap)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_page_stands_alone() {
        let page = html(&example());
        for part in [
            "data:image/png;base64,AQID",
            "<polyline",
            "best image a view 0.288",
            "tap better by 10.0 points",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for part in ["http:", "https:", "<link", "<script", "<b>", "NaN"] {
            assert!(!page.contains(part), "{part} in the page");
        }
        assert!(page.contains("&lt;b&gt;"), "a class name is text");
        assert!(
            page.contains("0123456789ab") && !page.contains("0123456789abc"),
            "the data's hash is named"
        );
    }
}
