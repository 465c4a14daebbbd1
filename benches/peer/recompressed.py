"""Decompresses the views of our shards as they are, and recompressed by zlib with other filters, levels and strategies.

    python3 benches/peer/recompressed.py SHARDS [--rows 68] [--rounds 5]

Needs numpy, pyarrow and deflate, which binds libdeflate, our decoder's library. Gray PNGs without a filter, as `tap dataset build` writes them. CPU microseconds a
view, the quickest of the rounds.
"""

import argparse
import itertools
import time
import zlib

import deflate
import numpy as np

from reading import rows

FILTERS = {"none": 0, "sub": 1, "up": 2}
STRATEGIES = {"default": zlib.Z_DEFAULT_STRATEGY, "runs": zlib.Z_RLE, "fixed codes": zlib.Z_FIXED}


def compressed_pixels(png):
    """What the IDAT chunks hold, and the width of the image."""
    data, place = b"", 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    return data, int.from_bytes(png[16:20], "big")


def filtered(pixels, width, name):
    """Rows of an image without a filter, in another."""
    rows = np.frombuffer(pixels, np.uint8).reshape(-1, width + 1)
    predicted = np.zeros_like(rows)
    if name == "up":
        predicted[1:] = rows[:-1]
    if name == "sub":
        predicted[:, 2:] = rows[:, 1:-1]
    result = rows - predicted
    result[:, 0] = FILTERS[name]
    return result.tobytes()


def recompressed(pixels, level, strategy):
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 9, STRATEGIES[strategy])
    return compressor.compress(pixels) + compressor.flush()


def microseconds(views, num_bytes, rounds):
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for view in views:
            deflate.zlib_decompress(view, num_bytes)
        best = min(best, time.process_time() - start)
    return best / len(views) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--rows", type=int, default=68)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    stored, widths = zip(
        *(compressed_pixels(png) for _, pngs in itertools.islice(rows(arguments.shards), arguments.rows) for png in pngs)
    )
    pixels = [zlib.decompress(view) for view in stored]
    num_bytes = len(pixels[0])

    def show(name, views):
        mean = sum(map(len, views)) / len(views)
        print(f"{name} | {mean:.0f} | {microseconds(views, num_bytes, arguments.rounds):.1f}", flush=True)

    print("PNG | bytes a view | µs to decompress")
    show("as stored", stored)
    for name, level, strategy in itertools.product(FILTERS, (1, 6, 9), STRATEGIES):
        views = [
            recompressed(filtered(view, width, name), level, strategy) for view, width in zip(pixels, widths, strict=True)
        ]
        show(f"filter {name}, level {level}, {strategy}", views)


if __name__ == "__main__":
    main()
