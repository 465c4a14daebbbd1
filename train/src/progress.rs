//! Draws the progress of a run: a bar where stderr is a terminal, a line now and then where it is not.

use tap_cli::ui::{self, Bar};
use tap_train::run::event::{Record, TrainEvent};

/// Steps between two lines of progress where there is no terminal.
const LINE_EVERY: u64 = 200;

/// Draws the progress of one run.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Option<Bar>,
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
                num_parameters,
                num_samples,
                device,
            } => {
                let from = if *first_step > 0 {
                    format!(", resumed at step {first_step}")
                } else {
                    String::new()
                };
                ui::note(format_args!(
                    "{num_steps} steps over {num_samples} objects, {num_parameters} weights, on {device}{from}"
                ));
                let bar = Bar::new("training", *num_steps);
                bar.skip(*first_step);
                self.bar = (!bar.is_hidden()).then_some(bar);
            }
            TrainEvent::Recorded(Record::Step(step)) => {
                let text = format!("loss {:.4}, {:.0} samples/s", step.loss, step.samples_per_s);
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(step.step);
                        bar.message(text);
                    }
                    None if step.step.is_multiple_of(LINE_EVERY) => {
                        ui::note(format_args!("step {}: {text}", step.step));
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
                ui::note(format_args!(
                    "interrupted after step {step}; the checkpoint is complete, continue with --resume"
                ));
            }
            TrainEvent::Finished { .. } => self.finish(),
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.note(text),
            None => ui::note(text),
        }
    }

    fn finish(&mut self) {
        self.bar = None;
    }
}
