"""`isolate=True`: objects that end the whole process, by a fault or by memory, are found by processes of their own."""

from __future__ import annotations

import json
import os
import sys

from . import _native

DEVICE = ("backend", "adapter")
"""Settings of a run that `build` and `build_unit` share."""


def given(keywords: dict, names: tuple) -> dict:
    """Those of the settings that are given."""
    return {name: keywords[name] for name in names if keywords.get(name) is not None}


def build_unit(dir, *, isolate=False, **keywords) -> dict:
    """As `_native.build_unit`, where `isolate` asks for it with processes of `_trial`."""
    if isolate:
        settings = given(keywords, ("shards", "unit", "source", "threads", *DEVICE))
        arguments = json.dumps([os.fspath(dir), settings], default=os.fspath)
        keywords["trial"] = [sys.executable, "-m", "tap_views._trial", arguments]
    return _native.build_unit(dir, **keywords)


def build(src, out, *, progress=None, threads=0, **keywords) -> dict:
    """As `_native.build`, as the one unit of a build."""
    if keywords.pop("part", None) is not None:
        raise ValueError("part: a part is not isolated; begin_build and build_unit share a build")
    begun = _native.begin_build(src, out, **keywords)
    if begun["missing"]:
        of_run = given(keywords, DEVICE) | {"source": src, "threads": threads, "progress": progress}
        build_unit(out, isolate=True, shards=begun["missing"], **of_run)
    return _native.finish_build(out)
