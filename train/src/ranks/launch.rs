//! What starters of processes say of them in the environment: `torchrun`, Slurm's `srun`, indexed jobs of Kubernetes, or
//! whoever sets the same variables by hand (`docs/training.md`, "Several machines").

use std::str::FromStr;

use crate::error::TrainError;

/// Where rank 0 listens unless `MASTER_PORT` says otherwise: torch's default too.
const DEFAULT_PORT: u16 = 29500;

/// The place of this process among those that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// From 0 on.
    pub rank: usize,
    /// Number of ranks, two or more.
    pub world_size: usize,
    /// Which of the ranks of its machine it is.
    pub local_rank: usize,
    /// Ranks of this machine, where that is said.
    pub local_world_size: Option<usize>,
    /// The host of rank 0, or of the store by which ranks find each other.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the starter serves the store; rank 0 does otherwise.
    pub is_served: bool,
}

impl Launch {
    /// What the environment of this process says; none where it is alone.
    ///
    /// # Errors
    /// Where a variable is missing, is no number, or contradicts another.
    pub fn from_env() -> Result<Option<Self>, TrainError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same of given variables.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TrainError> {
        let variables = Variables(variable);
        let Some((world_size, rank, local_rank)) = variables.place()? else {
            return Ok(None);
        };
        if rank >= world_size {
            return Err(wrong(format!(
                "rank {rank} of {world_size}: ranks are counted from 0"
            )));
        }
        let host = variables.text("MASTER_ADDR").or_else(|| variables.slurm_host());
        let host = host.ok_or_else(|| {
            wrong(format!(
                "{world_size} processes are to train together, and nothing says where rank 0 is; set MASTER_ADDR to its host name or address"
            ))
        })?;
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            local_world_size: variables.number("LOCAL_WORLD_SIZE")?,
            host,
            port: variables.number("MASTER_PORT")?.unwrap_or(DEFAULT_PORT),
            is_served: variables
                .text("TORCHELASTIC_USE_AGENT_STORE")
                .is_some_and(|value| value == "True"),
        }))
    }
}

fn wrong(reason: String) -> TrainError {
    TrainError::Launch { reason }
}

struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, TrainError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(format!("{name}={text} is no such number"))),
        }
    }

    /// World size, rank and local rank; none for a process alone.
    fn place(&self) -> Result<Option<(usize, usize, usize)>, TrainError> {
        if let Some(world_size) = self.number("WORLD_SIZE")? {
            if world_size < 2 {
                return Ok(None);
            }
            let rank = match self.number("RANK")? {
                Some(rank) => Some(rank),
                // Of an indexed job of Kubernetes.
                None => self.number("JOB_COMPLETION_INDEX")?,
            };
            let rank =
                rank.ok_or_else(|| wrong(format!("WORLD_SIZE={world_size} without RANK; set RANK too")))?;
            return Ok(Some((world_size, rank, self.number("LOCAL_RANK")?.unwrap_or(0))));
        }
        // The script of a Slurm job has these variables too, but is one process; `srun` starts steps.
        if self.text("SLURM_JOB_ID").is_some() && self.text("SLURM_STEP_ID").is_none() {
            return Ok(None);
        }
        let of_step = self.number("SLURM_STEP_NUM_TASKS")?;
        let world_size = match of_step {
            Some(tasks) => Some(tasks),
            None => self.number("SLURM_NTASKS")?,
        };
        let (Some(world_size), Some(rank)) = (world_size, self.number("SLURM_PROCID")?) else {
            return Ok(None);
        };
        let local_rank = self.number("SLURM_LOCALID")?.unwrap_or(0);
        Ok((world_size > 1).then_some((world_size, rank, local_rank)))
    }

    /// Where task 0 of a Slurm step runs: on the first of its nodes.
    fn slurm_host(&self) -> Option<String> {
        let nodes = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"];
        nodes
            .iter()
            .find_map(|name| self.text(name))
            .and_then(|list| first_host(&list))
    }
}

/// The first of a list of hosts as Slurm writes it: `gpu[03-05,09],login1`.
fn first_host(list: &str) -> Option<String> {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    let host = match rest.strip_prefix('[') {
        None => name.to_owned(),
        Some(range) => {
            let number = range.split([',', '-', ']']).next()?;
            let suffix = range.split_once(']').map_or("", |(_, suffix)| suffix);
            let suffix = suffix.split(',').next().unwrap_or_default();
            format!("{name}{number}{suffix}")
        }
    };
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Option<Launch>, TrainError> {
        Launch::from_variables(|name| {
            let found = variables.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn expected(rank: usize, world_size: usize, local_rank: usize, host: &str) -> Launch {
        Launch {
            rank,
            world_size,
            local_rank,
            local_world_size: None,
            host: host.to_owned(),
            port: DEFAULT_PORT,
            is_served: false,
        }
    }

    #[test]
    fn every_starter_says_where_a_process_stands() {
        let torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "4711"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ];
        let of_torchrun = Launch {
            local_world_size: Some(4),
            port: 4711,
            is_served: true,
            ..expected(5, 8, 1, "node0")
        };
        assert_eq!(launch(&torchrun).unwrap(), Some(of_torchrun));
        let slurm = [
            ("SLURM_JOB_ID", "77"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_JOB_NODELIST", "gpu[03-05,09]"),
        ];
        assert_eq!(launch(&slurm).unwrap(), Some(expected(3, 4, 1, "gpu03")));
        let kubernetes = [
            ("WORLD_SIZE", "2"),
            ("JOB_COMPLETION_INDEX", "1"),
            ("MASTER_ADDR", "train-0.train"),
        ];
        assert_eq!(
            launch(&kubernetes).unwrap(),
            Some(expected(1, 2, 0, "train-0.train"))
        );
    }

    #[test]
    fn a_process_alone_is_no_rank() {
        assert_eq!(launch(&[]).unwrap(), None, "nothing is said");
        assert_eq!(
            launch(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(),
            None,
            "one"
        );
        let script = [
            ("SLURM_JOB_ID", "77"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "4"),
        ];
        assert_eq!(launch(&script).unwrap(), None, "the script of a job");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (variables, named) in [
            (&[("WORLD_SIZE", "2")][..], "set RANK"),
            (&[("WORLD_SIZE", "two")], "WORLD_SIZE=two"),
            (&[("WORLD_SIZE", "2"), ("RANK", "0")], "MASTER_ADDR"),
            (
                &[("WORLD_SIZE", "2"), ("RANK", "2"), ("MASTER_ADDR", "a")],
                "rank 2 of 2",
            ),
            (
                &[
                    ("WORLD_SIZE", "2"),
                    ("RANK", "1"),
                    ("MASTER_ADDR", "a"),
                    ("MASTER_PORT", "70000"),
                ],
                "MASTER_PORT=70000",
            ),
        ] {
            let error = launch(variables).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_first_host_of_a_list_is_found() {
        for (list, first) in [
            ("node7", "node7"),
            ("a,b", "a"),
            ("gpu[1,3-4]", "gpu1"),
            ("gpu[03-05,09],login1", "gpu03"),
            ("rack[2-3]-ib,x", "rack2-ib"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(first), "{list}");
        }
        assert_eq!(first_host(""), None);
    }
}
