//! The limit of open files: an open data set holds one for each of its shards.

/// Raises the soft limit of this process to the hard one, which is as high as a program may go by itself. Its children
/// inherit it.
pub fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // A system that grants less than it states (macOS, where the hard limit is infinite) keeps the limit it has.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// What to do about an error message that says that too many files are open.
pub(crate) fn way_out(message: &str) -> Option<&'static str> {
    message
        .contains("Too many open files")
        .then_some("raise the limit with `ulimit -n`, or build the data set with more rows_per_shard")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let lower = limit.current.map_or(256, |current| current.min(256));
        let lowered = Rlimit {
            current: Some(lower),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, lowered).expect("a limit can be lowered");
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }

    #[test]
    fn the_error_of_the_system_has_a_way_out() {
        const EMFILE: i32 = 24;
        let error =
            anyhow::Error::new(io::Error::from_raw_os_error(EMFILE)).context("could not open the shard");
        let message = format!("{error:#}");
        assert!(
            way_out(&message).is_some_and(|way_out| way_out.contains("ulimit -n")),
            "{message}"
        );
        assert_eq!(way_out("could not open the shard"), None);
    }
}
