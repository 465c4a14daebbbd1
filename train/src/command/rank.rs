//! What commands know of processes that train together (`tap_train::ranks`): the flags of those that train, the errors of
//! all but the first, and the refusal of commands that are one process.

use std::time::Duration;

use clap::Args;
use tap_train::ranks::{Launch, RankOptions, Ranks};

/// Flags of commands that several processes can run together.
#[derive(Debug, Args)]
pub(crate) struct RankArgs {
    /// Of several processes that train together, as torchrun, Slurm or variables like RANK say: seconds that each waits for
    /// another before it gives up.
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout_s: u64,
    /// Of several processes that train together: sum gradients while the backward pass still computes others, which pays
    /// where the network is slow beside the computing. On a CPU.
    #[arg(long)]
    overlap: bool,
}

impl RankArgs {
    /// Joins the others, if there are any, and runs `train`. Errors of all but the first name their rank.
    pub(super) fn with_ranks<T>(&self, train: impl FnOnce(Ranks) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let rank = Launch::from_env()?.map_or(0, |launch| launch.rank);
        let options = RankOptions {
            timeout: Duration::from_secs(self.timeout_s),
            overlap: self.overlap,
        };
        let trained = Ranks::join(options).map_err(anyhow::Error::new).and_then(train);
        match rank {
            0 => trained,
            rank => trained.map_err(|error| error.context(format!("rank {rank}"))),
        }
    }
}

/// Refuses to be one of several processes.
pub(super) fn refuse_several() -> anyhow::Result<()> {
    if let Some(launch) = Launch::from_env()? {
        anyhow::bail!(
            "the environment says that this is one of {} processes that train together (WORLD_SIZE or SLURM_NTASKS), which `pretrain` and `finetune` alone can be; start this command once, without torchrun or srun",
            launch.world_size
        );
    }
    Ok(())
}
