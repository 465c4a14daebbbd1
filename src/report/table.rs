//! The table that the demo prints: time, views per second, loss and accuracy of each stage.

use super::{Report, Score, mean_and_deviation, percent};
use tap_cli::ui;

/// The table, and the conclusions under it.
pub(crate) fn summary(report: &Report) -> String {
    let mut rows = vec![
        [
            "stage",
            "time",
            "views/s",
            "loss",
            "random or scratch",
            "with TAP",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for stage in &report.stages {
        let rate = match stage.num_views {
            Some(num_views) => format!("{:.0}", num_views / stage.elapsed_s.max(1e-3)),
            None => String::new(),
        };
        let loss = match stage.name {
            "pre-train" => format!("{:.3}", report.pretraining.validation_loss),
            _ => String::new(),
        };
        let name = format!("{}: {}", stage.name, stage.what);
        rows.push(vec![
            name,
            ui::seconds(stage.elapsed_s),
            rate,
            loss,
            String::new(),
            String::new(),
        ]);
        match stage.name {
            "probe" => rows.extend(probe_rows(report)),
            "compare" => rows.extend(comparison_rows(report)),
            _ => {}
        }
    }
    let total_s: f64 = report.stages.iter().map(|stage| stage.elapsed_s).sum();
    rows.push(vec!["all".to_owned(), ui::seconds(total_s)]);
    let mut text = ui::table(&rows);
    text.push_str("\n\n");
    text.push_str(&claims(report).join("\n"));
    text
}

/// Conclusions in sentences, for the report and the terminal.
pub(super) fn claims(report: &Report) -> Vec<String> {
    let pretraining = &report.pretraining;
    let mut claims = vec![format!(
        "Loss on objects that pre-training never saw: {:.3}. The best single image for each view would get {:.3}, \
         the true mask filled with the mean gray {:.3}.",
        pretraining.validation_loss, pretraining.weighted_mean_image_loss, pretraining.true_mask_gray_loss
    )];
    for setting in &report.comparison.settings {
        claims.push(format!(
            "Fine-tuning with {} labels a class, {} paired seeds: difference {:+.1} points, standard error {:.1}: {}.",
            setting.labels(),
            setting.seeds.len(),
            100.0 * setting.paired_mean,
            100.0 * setting.paired_standard_error,
            report.comparison.verdict(setting)
        ));
    }
    for labels in report.probe.labels() {
        let Some(tap) = report.probe.tap().and_then(|arm| arm.svm.get(&labels)) else {
            continue;
        };
        let random: Vec<f64> = report
            .probe
            .random()
            .filter_map(|arm| arm.svm.get(&labels))
            .map(|score| score.mean)
            .collect();
        let beaten = random.iter().filter(|&&mean| tap.mean > mean).count();
        claims.push(format!(
            "Linear SVM on frozen features, {labels} labels a class: TAP's are better than {beaten} of {} random \
             initializations.",
            random.len()
        ));
    }
    claims
}

fn probe_rows(report: &Report) -> Vec<Vec<String>> {
    let cells = |labels: String| {
        let tap = report.probe.tap()?.svm.get(&labels)?;
        let random: Vec<&Score> = report
            .probe
            .random()
            .filter_map(|arm| arm.svm.get(&labels))
            .collect();
        let count = random.len().max(1) as f64;
        let mean = random.iter().map(|score| score.mean).sum::<f64>() / count;
        let deviation = random.iter().map(|score| score.std).sum::<f64>() / count;
        Some(accuracy_row(
            "frozen SVM",
            &labels,
            percent(mean, deviation),
            percent(tap.mean, tap.std),
        ))
    };
    report.probe.labels().into_iter().filter_map(cells).collect()
}

fn comparison_rows(report: &Report) -> Vec<Vec<String>> {
    let accuracy = |values: &[f64]| {
        let (mean, deviation) = mean_and_deviation(values);
        percent(mean, deviation)
    };
    let settings = report.comparison.settings.iter();
    settings
        .map(|setting| {
            accuracy_row(
                "fine-tuned",
                &setting.labels(),
                accuracy(&setting.scratch),
                accuracy(&setting.tap),
            )
        })
        .collect()
}

fn accuracy_row(what: &str, labels: &str, without: String, with: String) -> Vec<String> {
    let name = format!("  {what}, {labels} labels a class");
    vec![name, String::new(), String::new(), String::new(), without, with]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_table_says_what_was_measured() {
        let text = summary(&example());
        for part in [
            "build: 24 objects",
            "29",
            "44.0 ± 4.0 %",
            "54.0 ± 5.3 %",
            "+10.0 points",
            "2 of 2 random",
            "1 min 40 s",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
