"""`isolate=True`: objects that end the whole process, by a fault or by memory, are found by processes of their own."""

from __future__ import annotations

import json
import os
import sys

from . import _native

_SETTINGS = ("shards", "unit", "source", "threads", "backend", "adapter")


def build_unit(dir, *, isolate=False, **keywords) -> dict:
    """As `_native.build_unit`, where `isolate` asks for it with processes of `_trial`."""
    if isolate:
        settings = {name: keywords[name] for name in _SETTINGS if keywords.get(name) is not None}
        arguments = json.dumps([os.fspath(dir), settings], default=os.fspath)
        keywords["trial"] = [sys.executable, "-m", "tap_views._trial", arguments]
    return _native.build_unit(dir, **keywords)


def build(src, out, *, progress=None, threads=0, **keywords) -> dict:
    """As `_native.build`, as the one unit of a build."""
    if keywords.pop("part", None) is not None:
        raise ValueError("part: a part is not isolated; begin_build and build_unit share a build")
    begun = _native.begin_build(src, out, **keywords)
    of_run = {name: keywords[name] for name in ("backend", "adapter") if name in keywords}
    if begun["missing"]:
        build_unit(
            out, isolate=True, shards=begun["missing"], source=src, threads=threads, progress=progress, **of_run
        )
    return _native.finish_build(out)
