"""A build by a Ray cluster whose processes are killed: a worker, a node and the driver, one after the other, and the same call
again. Run by `package.rs` in a folder with meshes, in a network of its own: Ray listens on all interfaces.

The cluster is a head without cores and two nodes with one core each, as processes of this machine."""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import ray
import tap_views
from ray.cluster_utils import Cluster

RECIPE = dict(
    size=96, samples=4, num_points=1024, gbuffer=True, rows_per_shard=2, split_fractions=(0.75, 0.25), backend="cpu"
)
NUM_SHARDS = 12
LIMIT_S = 240
SHARDS = pathlib.Path("by-ray")

DRIVER = f"""
import pathlib, ray, sys, tap_views
ray.init(address=sys.argv[1], log_to_driver=False)
report = tap_views.build(pathlib.Path("meshes").resolve(), pathlib.Path("{SHARDS}").resolve(), engine="ray",
                         shards_per_unit=2, **{RECIPE!r})
print(report["num_rows"], flush=True)
"""


def sha256_of_files(folder):
    files = sorted(path for path in pathlib.Path(folder).iterdir() if path.name != ".lock")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finished():
    return len(list(SHARDS.glob("*.parquet")))


def wait_until(what, condition):
    begin = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - begin < LIMIT_S, what
        time.sleep(0.01)
    return found


def units_at_work():
    """Processes of Ray that build a unit, by the title that Ray gives them."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.joinpath("cmdline").read_bytes().startswith(b"ray::_unit"):
                    found.append(int(folder.name))
            except OSError:
                pass  # It has ended meanwhile.
    return found


def drive(address):
    return subprocess.Popen([sys.executable, "-c", DRIVER, address], stdout=subprocess.PIPE, text=True)


def main():
    expected = tap_views.build("meshes", "one", **RECIPE)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        driver = drive(cluster.address)

        wait_until("no shard", finished)
        os.kill(wait_until("nobody is at work", units_at_work)[0], signal.SIGKILL)
        at = finished()
        wait_until("nothing goes on without a worker", lambda: finished() > at)
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        at = finished()
        wait_until("nothing goes on without a node", lambda: finished() > at)
        print(f"a worker was killed, and a node at {at} of {NUM_SHARDS} shards")

        assert driver.poll() is None, "the driver has ended; is the machine too quick for this test?"
        driver.kill()
        driver.wait()
        assert finished() < NUM_SHARDS, "nothing is left to build"
        print(f"the driver was killed at {finished()} of {NUM_SHARDS} shards")

        nodes.append(cluster.add_node(num_cpus=1))
        again = drive(cluster.address)
        said, _ = again.communicate(timeout=LIMIT_S)
        # Ray says there what has become of the node.
        assert (again.returncode, said.split()[-1:]) == (0, [str(expected["num_rows"])]), said
    finally:
        cluster.shutdown()
    of_ray, of_one = sha256_of_files(SHARDS), sha256_of_files("one")
    assert len(of_one) == NUM_SHARDS + 1, sorted(of_one)
    assert of_ray == of_one, sorted(set(of_ray.items()) ^ set(of_one.items()))
    print(f"{len(of_ray)} files have the bytes of one machine, with Ray {ray.__version__}")


if __name__ == "__main__":
    main()
