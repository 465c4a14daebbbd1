//! Draws the progress of a run: a progress bar on a terminal, otherwise a line every so many steps.

use tap_cli::ui::{self, Bar};
use tap_train::run::event::{ActiveSetting, ActiveSettings, Record, TrainEvent};

/// Steps between two lines of progress where there is no terminal.
const LINE_EVERY: u64 = 200;

/// A score as text; one of an unknown kind as a list of its scalars.
fn score(record: &Record) -> String {
    let percent = |name| 100.0 * record.get(name);
    match record.kind.as_str() {
        Record::VALIDATION => format!("validation loss {:.4}", record.get("loss")),
        Record::CONTINUATION => format!(
            "goes on to step {}, at a learning rate of {:.2e}",
            record.get("num_steps"),
            record.get("learning_rate")
        ),
        "evaluation" => format!("accuracy {:.1} %", percent("accuracy")),
        "segmentation" => format!(
            "mean IoU over objects {:.1} %, over classes {:.1} %",
            percent("instance_miou"),
            percent("class_miou")
        ),
        kind => {
            let scalars = record.scalars.iter();
            let scalars: Vec<String> = scalars
                .map(|(name, value)| format!("{name} {value:.4}"))
                .collect();
            format!("{kind} {}", scalars.join(", "))
        }
    }
}

/// Columns in front of a table's settings.
const SETTINGS_INDENT: usize = 14;

/// Prints the settings that act, a list a table.
fn show_settings(ActiveSettings { preset, seed, tables }: &ActiveSettings) {
    let base = match preset {
        Some(preset) => format!("preset {preset} (* differs from it)"),
        None => String::from("no preset (* differs from the default)"),
    };
    ui::note(format_args!("settings: seed {seed}, {base}"));
    for (table, settings) in tables {
        let item = |ActiveSetting { text, is_changed }: &ActiveSetting| {
            format!("{text}{}", if *is_changed { "*" } else { "" })
        };
        let items: Vec<String> = settings.iter().map(item).collect();
        ui::list_note(&format!("  {table}"), &items, SETTINGS_INDENT);
    }
}

/// Draws the progress of one run.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Option<Bar>,
    is_quiet: bool,
    finished_before: bool,
}

impl Progress {
    /// `is_quiet` shows nothing at all.
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            ..Self::default()
        }
    }

    /// Whether the run was finished before, so that nothing was done.
    pub(crate) fn finished_before(&self) -> bool {
        self.finished_before
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &TrainEvent) {
        self.finished_before |= matches!(event, TrainEvent::FinishedBefore { .. });
        if self.is_quiet {
            return;
        }
        match event {
            TrainEvent::Settings(settings) => show_settings(settings),
            TrainEvent::Started {
                num_steps,
                first_step,
                num_parameters,
                num_samples,
                device,
                num_threads,
                num_ranks,
            } => {
                let from = if *first_step > 0 {
                    format!(", resumed at step {first_step}")
                } else {
                    String::new()
                };
                let threads = match num_threads {
                    1 => String::from("1 thread"),
                    _ => format!("{num_threads} threads"),
                };
                let ranks = match num_ranks {
                    1 => String::new(),
                    _ => format!("{num_ranks} ranks, each "),
                };
                let repeated = if device == "cpu" && *first_step == 0 {
                    format!("; --threads {num_threads} repeats its losses bit for bit")
                } else {
                    String::new()
                };
                ui::note(format_args!(
                    "{num_steps} steps over {num_samples} objects, {num_parameters} parameters, on {ranks}{device} with {threads}{from}{repeated}"
                ));
                let bar = Bar::new("training", *num_steps);
                bar.skip(*first_step);
                self.bar = (!bar.is_hidden()).then_some(bar);
            }
            TrainEvent::Recorded(record) if record.is_step() => {
                let text = format!(
                    "loss {:.4}, {:.0} samples/s, data wait {:.1} %",
                    record.get("loss"),
                    record.get("samples_per_s"),
                    100.0 * record.get("data_wait")
                );
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(record.step);
                        bar.message(text);
                    }
                    None if record.step.is_multiple_of(LINE_EVERY) => {
                        ui::note(format_args!("step {}: {text}", record.step));
                    }
                    None => {}
                }
            }
            TrainEvent::Recorded(record) => self.say(&format!("step {}: {}", record.step, score(record))),
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
