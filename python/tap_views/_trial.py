"""`python -m tap_views._trial ARGUMENTS` tries the objects that its standard input names, for `_isolate`."""

import json
import signal
import sys

from . import _native

if __name__ == "__main__":
    # Ctrl-C reaches both processes; the other one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, settings = json.loads(sys.argv[1])
    _native.try_unit(folder, **settings)
