#!/usr/bin/env bash
# Builds a data set as a Slurm array: each task builds one of N equal shares of the shards. Before and after, on any node:
#
#   tap dataset begin /data/meshes --backend cpu --out /shared/shards
#   sbatch --array=1-100%20 assets/slurm/units.sh /shared/shards          100 tasks, at most 20 at a time
#   tap dataset finish /shared/shards
#
# What follows the folder goes to `tap dataset unit`, such as `--source /scratch/meshes`. A task whose node was lost is
# queued again, and one that was interrupted goes on with what is missing; one that failed is not tried again, its log says
# why. Where a mesh ends the program, it is found and skipped. Shards that are left over are built by the same array once more, or by `tap dataset unit --shards` with what
# `tap dataset status` prints.
#SBATCH --job-name=tap-units
#SBATCH --array=1-100%20
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail

folder=${1:?name the folder or bucket in which the build was begun}
share=$((SLURM_ARRAY_TASK_ID - ${SLURM_ARRAY_TASK_MIN:-1} + 1))/$SLURM_ARRAY_TASK_COUNT
unit=(tap dataset unit "$folder" --unit "$share" --threads "${SLURM_CPUS_PER_TASK:-0}" "${@:2}")
code=0
"${unit[@]}" || code=$?
case $code in
    # Ended by a fault or for its memory, of which a mesh may be the reason. Once more, with each object tried in a process of
    # its own first, so that it is skipped by name.
    132 | 134 | 135 | 136 | 137 | 139) exec "${unit[@]}" --isolate ;;
    *) exit "$code" ;;
esac
