"""`build(..., engine="ray")`: units of a few shards as tasks of a Ray cluster, straight into the folder or bucket.

Ray starts a task again, a few times, when its process or its node dies; an exception is the answer, and is not tried again. A
unit that died each time is started once more with its objects isolated, so that a mesh that ends the process is skipped by name.
What is finished stays, so the same call goes on. Ray listens on all interfaces and asks nobody for a password unless
`RAY_AUTH_MODE=token` is set, here and on each node: set it, or keep the cluster in a private network.
"""

from __future__ import annotations

from . import _isolate, _native

MAX_RETRIES = 3
"""How often a unit whose process or node died is started again."""


def _unit(dir: str, shards: str, keywords: dict) -> dict:
    return _isolate.build_unit(dir, shards=shards, **keywords)


def _numbers(shards: str) -> list[int]:
    """The numbers of "0-3,7"."""
    ranges = [part.partition("-") for part in shards.split(",") if part]
    return [shard for first, _, last in ranges for shard in range(int(first), int(last or first) + 1)]


def build(src, out, *, progress=None, source=None, shards_per_unit=4, threads=0, isolate=False, **keywords) -> dict:
    """As `tap_views.build`, by the machines of a cluster, each of which reaches `out`, and the meshes by the path of `src` or
    of `source`."""
    try:
        import ray
    except ImportError as error:
        raise ImportError('engine="ray" needs Ray: pip install ray') from error

    status = _native.begin_build(src, out, **keywords)
    missing = _numbers(status["missing"])
    if progress:
        progress({"kind": "started", "total": status["num_shards"], "adapter": None})
        progress({"kind": "resumed", "objects": status["num_finished"]})
    if not ray.is_initialized():
        ray.init()
    of_run = _isolate.given(keywords, _isolate.DEVICE) | {"threads": threads or 1, "source": source}
    task = ray.remote(max_retries=MAX_RETRIES, retry_exceptions=False, num_cpus=threads or 1)(_unit)
    units = [missing[start : start + shards_per_unit] for start in range(0, len(missing), shards_per_unit)]
    running = {}

    def start(unit, isolate):
        started = task.remote(str(out), ",".join(map(str, unit)), of_run | {"isolate": isolate})
        running[started] = unit, isolate

    for unit in units:
        start(unit, isolate)
    failures = []
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        unit, is_isolated = running.pop(done)
        try:
            built = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            failures.append(f"shards {unit[0]} to {unit[-1]}: {error.cause}")
        except ray.exceptions.RayError as error:
            if not is_isolated:
                start(unit, isolate=True)
                continue
            tries = f"died {MAX_RETRIES + 1} times, with its objects isolated too"
            failures.append(f"shards {unit[0]} to {unit[-1]} {tries}: {type(error).__name__}")
        else:
            if progress:
                progress({"kind": "unit", "shards": len(unit), "rows": built["num_rows"]})
    if failures:
        more = f", and {len(failures) - 1} more units" if len(failures) > 1 else ""
        raise _native.DatasetError(f"{failures[0]}{more}; what is finished stays, the same call goes on: {out}")
    return _native.finish_build(out)
