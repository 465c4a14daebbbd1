//! All that is drawn: results on standard output, progress and notes on standard error. No bar where that is no terminal.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the only file that prints"
)]

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tap_train::event::{Record, TrainEvent};

/// Steps between two lines of progress where there is no terminal.
const LINE_EVERY: u64 = 200;

/// Prints an error with its causes, on one line.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Prints a note.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints a line of the result.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Prints the result as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Draws the progress of one run.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    is_quiet: bool,
}

impl Progress {
    /// `is_quiet` shows nothing at all.
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self { bar: None, is_quiet }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &TrainEvent) {
        if self.is_quiet {
            return;
        }
        match event {
            TrainEvent::Started {
                num_steps,
                first_step,
                num_weights,
                num_samples,
                device,
            } => {
                let from = if *first_step > 0 {
                    format!(", resumed at step {first_step}")
                } else {
                    String::new()
                };
                note(&format!(
                    "{num_steps} steps over {num_samples} objects, {num_weights} weights, on {device}{from}"
                ));
                if std::io::stderr().is_terminal() {
                    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left")
                        .unwrap_or_else(|_| ProgressStyle::default_bar());
                    let bar = ProgressBar::new(*num_steps)
                        .with_position(*first_step)
                        .with_style(style);
                    bar.enable_steady_tick(Duration::from_millis(250));
                    self.bar = Some(bar);
                }
            }
            TrainEvent::Recorded(Record::Step(step)) => {
                let text = format!("loss {:.4}, {:.0} samples/s", step.loss, step.samples_per_s);
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(step.step);
                        bar.set_message(text);
                    }
                    None if step.step.is_multiple_of(LINE_EVERY) => {
                        note(&format!("step {}: {text}", step.step));
                    }
                    None => {}
                }
            }
            TrainEvent::Recorded(Record::Validation(validation)) => {
                self.say(&format!(
                    "step {}: validation loss {:.4}",
                    validation.step, validation.loss
                ));
            }
            TrainEvent::Recorded(Record::Evaluation(evaluation)) => {
                self.say(&format!(
                    "step {}: accuracy {:.1} %",
                    evaluation.step,
                    100.0 * evaluation.accuracy
                ));
            }
            TrainEvent::Recorded(Record::Segmentation(segmentation)) => {
                self.say(&format!(
                    "step {}: mean IoU over objects {:.1} %, over classes {:.1} %",
                    segmentation.step,
                    100.0 * segmentation.instance_miou,
                    100.0 * segmentation.class_miou
                ));
            }
            TrainEvent::Note(text) => self.say(text),
            TrainEvent::Interrupted { step } => {
                self.finish();
                note(&format!(
                    "interrupted after step {step}; the checkpoint is complete, continue with --resume"
                ));
            }
            TrainEvent::Finished { .. } => self.finish(),
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
