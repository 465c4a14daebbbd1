//! Failures of libtorch as one line. tch panics where an operation fails, and its message holds the stack of C++.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use tch::TchError;

/// How libtorch's own message begins within that of tch's panic, in which line breaks are escaped.
const OF_TORCH: &str = "Torch(\"";

/// Runs the program; a failure of libtorch becomes an error of one line. Any other panic is a bug, and goes on.
pub(crate) fn catch(run: impl FnOnce() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if reason(panic.payload()).is_none() {
            print(panic);
        }
    }));
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(without_stack),
        Err(panic) => match reason(panic.as_ref()) {
            Some(reason) => Err(anyhow::anyhow!("libtorch failed: {reason}")),
            None => panic::resume_unwind(panic),
        },
    }
}

/// The first line of libtorch's message, if the panic is one of tch.
fn reason(panic: &(dyn Any + Send)) -> Option<String> {
    let message = panic.downcast_ref::<String>()?;
    let (_, message) = message.split_once(OF_TORCH)?;
    let line = message.split("\\n").next()?;
    Some(
        line.trim_end_matches("\")")
            .replace("\\\"", "\"")
            .replace("\\'", "'"),
    )
}

/// An error that libtorch returned, without the stack.
fn without_stack(error: anyhow::Error) -> anyhow::Error {
    let is_of_torch = error
        .chain()
        .any(|cause| cause.downcast_ref::<TchError>().is_some());
    if !is_of_torch {
        return error;
    }
    let message = format!("{error:#}");
    anyhow::Error::msg(message.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use anyhow::Context as _;
    use tch::Tensor;

    use super::*;

    #[test]
    fn what_libtorch_refuses_is_one_line() {
        let wrong = || Tensor::from_slice(&[1.0_f32, 2.0]).f_view([3]);
        let panicked = catch(|| {
            let _ = wrong().unwrap();
            Ok(ExitCode::SUCCESS)
        });
        let returned = catch(|| {
            let _ = wrong().context("could not view")?;
            Ok(ExitCode::SUCCESS)
        });
        for (outcome, start) in [(panicked, "libtorch failed: "), (returned, "could not view: ")] {
            let message = format!("{:#}", outcome.unwrap_err());
            assert!(message.starts_with(start), "{message}");
            assert!(
                message.contains("shape '[3]' is invalid for input of size 2"),
                "{message}"
            );
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn an_error_of_ours_stays_whole() {
        let outcome = catch(|| Err(anyhow::anyhow!("two\nlines")));
        assert_eq!(outcome.unwrap_err().to_string(), "two\nlines");
    }
}
