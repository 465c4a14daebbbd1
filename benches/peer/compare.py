#!/usr/bin/env python3
"""Our training step beside plain PyTorch's, in turn, so that whoever else uses the machine disturbs both alike.

Usage: compare.py OURS [--python PYTHON] [--models mini,point-net2] [--rounds 5] [--threads 2]

OURS is the built example `time_step`; PYTHON has torch 2.11.0 (the libtorch that OURS is linked to) and numpy.
Prints, for each model, the median over all steps of both, wall time and CPU time, the ratios (above 1: ours is faster),
and the peak memory. `torch` computes neighbours with torch's own operators and repeats the memory for each view, as
published; `remembered` is told the neighbours (ours still searches), so that only the networks are compared; `shared`
does not repeat the memory either (masked autoencoders have none); `allocator` is `shared` with an allocator that keeps what is freed, as ours does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).with_name("step.py")
# Threads that spin for milliseconds while they wait count as work; both sides sleep after a tenth of one.
ENVIRONMENT = {**os.environ, "GOMP_SPINCOUNT": "20000"}
KEEP_FREED = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def measure(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--models", default="mini,point-net2,dgcnn,point-mlp,transformer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default="torch,remembered,shared,allocator")
    arguments = parser.parse_args()
    print("model        peer         ours ms  peer ms  wall x | ours cpu  peer cpu   cpu x | ours MiB  peer MiB")
    for model in arguments.models.split(","):
        steps = arguments.steps or (20 if model == "mini" else 2)
        common = ["--model", model, "--steps", str(steps), "--threads", str(arguments.threads)]
        common += ["--batch", str(arguments.batch)]
        peer = [arguments.python, str(STEP), *common]
        runs = {"ours": ([arguments.ours, *common], ENVIRONMENT)}
        choices = {
            "torch": (peer, ENVIRONMENT),
            "remembered": ([*peer, "--remember"], ENVIRONMENT),
            "shared": ([*peer, "--remember", "--share"], ENVIRONMENT),
            "allocator": ([*peer, "--remember", "--share"], {**ENVIRONMENT, **KEEP_FREED}),
        }
        runs.update((name, choices[name]) for name in arguments.peers.split(","))
        results = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, (command, environment) in runs.items():
                results[name].append(measure(command, environment))
        middle = lambda name, key: 1000 * statistics.median(s for run in results[name] for s in run[key])
        peak = lambda name: statistics.median(run["peak_mib"] for run in results[name])
        wall, cpu = middle("ours", "wall_s"), middle("ours", "cpu_s")
        for name in list(runs)[1:]:
            peer_wall, peer_cpu = middle(name, "wall_s"), middle(name, "cpu_s")
            print(
                f"{model:<12} {name:<12} {wall:7.1f}  {peer_wall:7.1f}  {peer_wall / wall:6.2f} |"
                f" {cpu:8.1f}  {peer_cpu:8.1f}  {peer_cpu / cpu:6.2f} | {peak('ours'):8.0f}  {peak(name):8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
