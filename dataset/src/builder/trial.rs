//! Objects that end the whole process: by a fault of this program or of a driver that no panic is, or by memory that is not
//! there. Nothing can catch that from within, so a build can have each object tried first by other processes of its
//! program ([`TrialCommand`]); what ends one of them is skipped, by name.
//!
//! The two speak through the standard streams of the other process: the number of an object in the source goes in, a line each;
//! the same number comes out when the object was tried, and nothing of it is kept. A process whose input has ended, since
//! its parent did, ends too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::error::{BuildError, DatasetError, Result, ThreadError};

/// Exit codes by which a program says by itself that it failed.
const OWN_FAILURES: [i32; 3] = [0, 1, 2];
/// What the skip list says; the same on every machine.
pub(super) const MESSAGE: &str = "it ends the program: a process that tried it alone died";

/// A command that tries objects of the same source by the same recipe: [`try_build`](super::try_build) or
/// [`try_unit`](super::try_unit) on its standard streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The objects, of these, that end a process which tries them. So many processes are at work at a time.
///
/// # Errors
/// When the command cannot be started, or fails for a reason of its own, which it says on standard error.
pub(super) fn crashing(
    command: &TrialCommand,
    objects: &[usize],
    num_processes: usize,
    cancel: &AtomicBool,
) -> Result<BTreeSet<usize>> {
    let share = objects.len().div_ceil(num_processes.max(1)).max(1);
    thread::scope(|scope| {
        let start = |share| {
            thread::Builder::new()
                .spawn_scoped(scope, move || try_each(command, share, cancel))
                .map_err(|source| ThreadError { requested: 1, source })
        };
        let threads = objects.chunks(share).map(start).collect::<Result<Vec<_>, _>>()?;
        let mut crashing = BTreeSet::new();
        for thread in threads {
            crashing.extend(thread.join().expect("trying does not panic")?);
        }
        Ok(crashing)
    })
}

/// The same of some objects, one after the other.
fn try_each(command: &TrialCommand, objects: &[usize], cancel: &AtomicBool) -> Result<Vec<usize>> {
    let mut crashing = Vec::new();
    let mut process: Option<Process> = None;
    for &object in objects {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        let mut at_work = match process.take() {
            Some(process) => process,
            None => Process::start(command).map_err(failed)?,
        };
        if at_work.tries(object) {
            process = Some(at_work);
            continue;
        }
        let status = at_work.end().map_err(failed)?;
        // Of a build that is stopped, the processes may be stopped with it.
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        if status.code().is_some_and(|code| OWN_FAILURES.contains(&code)) {
            return Err(failed(io::Error::other(format!("it ended with {status}"))));
        }
        crashing.push(object);
    }
    if let Some(process) = process {
        process.end().map_err(failed)?;
    }
    Ok(crashing)
}

fn failed(source: io::Error) -> DatasetError {
    DatasetError::Build(BuildError::Trial { source })
}

/// A process that tries objects.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(command: &TrialCommand) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            unreachable!("both are piped");
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Whether the process lives to say that it has tried an object.
    fn tries(&mut self, object: usize) -> bool {
        let mut answer = String::new();
        writeln!(self.input, "{object}").is_ok()
            && self.output.read_line(&mut answer).is_ok()
            && answer.trim() == object.to_string()
    }

    fn end(self) -> io::Result<ExitStatus> {
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait()
    }
}

/// The other side: tries each object whose number comes in.
///
/// # Errors
/// When a line is no number of an object, the streams fail, or trying does.
pub(super) fn answer(
    input: impl BufRead,
    mut output: impl Write,
    num_objects: usize,
    mut try_object: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    for line in input.lines() {
        let line = line.map_err(failed)?;
        let object = line.trim().parse().ok().filter(|object| *object < num_objects);
        let object =
            object.ok_or_else(|| failed(io::Error::other(format!("'{line}' is no object of the source"))))?;
        try_object(object)?;
        writeln!(output, "{object}")
            .and_then(|()| output.flush())
            .map_err(failed)?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// A shell that tries objects: 3 and 7 end it.
    fn shell(more: &str) -> TrialCommand {
        let script = format!(
            "while read object; do case $object in 3|7) kill -ABRT $$;; {more} *) echo $object;; esac; done"
        );
        TrialCommand {
            program: PathBuf::from("/bin/sh"),
            arguments: ["-c", &script].map(OsString::from).to_vec(),
        }
    }

    #[test]
    fn what_ends_a_process_is_named_and_the_others_are_tried() {
        let never = AtomicBool::new(false);
        let objects: Vec<usize> = (1..9).collect();
        for num_processes in [1, 3, 20] {
            let found = crashing(&shell(""), &objects, num_processes, &never).unwrap();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [3, 7], "{num_processes}");
        }
    }

    #[test]
    fn a_command_that_fails_by_itself_is_an_error() {
        let never = AtomicBool::new(false);
        let error = crashing(&shell("5) exit 1;;"), &[4, 5, 6], 1, &never).unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
        let absent = TrialCommand {
            program: PathBuf::from("/nowhere/tap"),
            arguments: Vec::new(),
        };
        crashing(&absent, &[1], 1, &never).unwrap_err();
    }

    #[test]
    fn each_number_is_answered_when_its_object_was_tried() {
        let (mut tried, mut said) = (Vec::new(), Vec::new());
        answer(&b"2\n0\n"[..], &mut said, 3, |object| {
            tried.push(object);
            Ok(())
        })
        .unwrap();
        assert_eq!((tried, &said[..]), (vec![2, 0], &b"2\n0\n"[..]));
        for wrong in [&b"3\n"[..], b"one\n"] {
            answer(wrong, io::sink(), 3, |_| Ok(())).unwrap_err();
        }
    }
}
