"""`build`, `build_unit` and `relight` with a line of progress for `progress=True`."""

from __future__ import annotations

import functools
import sys
import time

from . import _isolate, _native

_INTERVAL_S = 0.1
"""A terminal is written to at most this often."""


class ProgressLine:
    """Counts objects on one line of stderr; where that is no terminal, only what has to be told is written."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.total = self.done = 0
        self.started = self.shown = time.monotonic()
        self.is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, event: dict) -> None:
        kind = event["kind"]
        if kind == "started":
            self.total = event["total"]
        elif kind == "resumed":
            self.done += event["objects"]
        elif kind == "done":
            self.done += 1
        elif kind == "unit":
            self.done += event["shards"]
        elif kind == "skipped" and event["is_failure"]:
            self.done += 1
            self._note(f"skipped {event['id']}, {event['reason']}: {event['message']}")
        self._draw(is_last=self.done == self.total)

    def _note(self, text: str) -> None:
        if sys.stderr is not None:
            clear = "\r\x1b[K" if self.is_terminal else ""
            # A name may hold what moves a terminal's cursor.
            print(clear + "".join(c if c.isprintable() else "?" for c in text), file=sys.stderr)

    def _draw(self, is_last: bool) -> None:
        now = time.monotonic()
        if not self.is_terminal or (now - self.shown < _INTERVAL_S and not is_last):
            return
        self.shown = now
        rate = self.done / max(now - self.started, 1e-9)
        line = f"\r\x1b[K{self.verb} {self.done}/{self.total}, {rate:.1f}/s"
        print(line, end="\n" if is_last else "", file=sys.stderr, flush=True)


def _with_line(verb: str):
    def decorate(function):
        @functools.wraps(function)
        def run(*arguments, progress=None, **keywords):
            if progress is True:
                progress = ProgressLine(verb)
            return function(*arguments, progress=progress or None, **keywords)

        return run

    return decorate


def _build(*arguments, engine=None, isolate=False, **keywords):
    if engine is None:
        build = _isolate.build if isolate else _native.build
        return build(*arguments, **keywords)
    if engine != "ray":
        raise ValueError(f"engine: unknown engine {engine!r}, expected 'ray' or None")
    from . import _ray

    return _ray.build(*arguments, isolate=isolate, **keywords)


build = _with_line("building")(functools.wraps(_native.build)(_build))
build_unit = _with_line("building")(functools.wraps(_native.build_unit)(_isolate.build_unit))
relight = _with_line("relighting")(_native.relight)
