"""Reads samples of twelve views out of our shards and out of other programs' formats, in turn, one thread each.

    tap dataset build MESHES --layout folders --out SHARDS
    cargo build --release --workspace --features object-store --locked --example time_reading
    python3 benches/peer/reading.py SHARDS [--rounds 3] [--readers tap_views,pyarrow,...] [--program target/release/examples/time_reading]

Needs numpy, pyarrow and tap_views (`pip install ./python`), and whichever peers are to be timed: opencv-python-headless (with
pyarrow, and for its codec alone), pillow (loose files), datasets, mosaicml-streaming, webdataset, litdata; what is missing is left
out. With --program the Rust reader and its decoder alone are timed too. Each holds the same PNGs of the same rows, but for the loose
JPEGs, which TAP's published loader reads. Each reads the rows in order and gives uint8 arrays [12, H, W] in gray. CPU-seconds count,
the time to open included; imports and the first pass, which fills the page cache, do not.
"""

import argparse
import io
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

READERS = {}
# Of the example time_reading, with its arguments.
PROGRAMS = {"tap-dataset, from Rust": [], "our decoder alone": ["memory"]}


def reader(name, write=None):
    """A reader takes SHARDS and the folder that `write` filled from them, and yields arrays."""

    def add(read):
        READERS[name] = (write, read)
        return read

    return add


def rows(shards):
    """Ids and PNGs of all rows, in order."""
    import pyarrow.parquet as pq

    for path in sorted(Path(shards).glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(64, columns=["id", "images"]):
            for row in batch.to_pylist():
                yield row["id"], [image["bytes"] for image in row["images"]]


def decode(png):
    import cv2

    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)


@reader("tap_views")
def tap_views(shards, _):
    import tap_views

    for split in ("train", "val", "test"):
        rows = tap_views.Dataset(shards, split, columns=["images"], shuffle=False, threads=1)
        if len(rows) > 0:
            yield from (sample["images"] for sample in rows)


@reader("pyarrow and cv2")
def pyarrow(shards, _):
    for _, images in rows(shards):
        yield np.stack([decode(image) for image in images])


def write_pngs(shards, folder):
    (folder / "pngs").write_bytes(pickle.dumps([images for _, images in rows(shards)]))


@reader("cv2 alone", write_pngs)
def codec(_, folder):
    """What decoding takes by itself: the peer's codec."""
    for images in pickle.loads((folder / "pngs").read_bytes()):
        yield np.stack([decode(image) for image in images])


@reader("datasets")
def datasets(shards, _):
    import datasets

    files = [str(path) for path in sorted(Path(shards).glob("*.parquet"))]
    for row in datasets.load_dataset("parquet", data_files=files, split="train", streaming=True, columns=["images"]):
        yield np.stack([np.asarray(image) for image in row["images"]])


def write_streaming(shards, folder):
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={f"{i}.png": "bytes" for i in range(12)}) as writer:
        for _, images in rows(shards):
            writer.write({f"{i}.png": image for i, image in enumerate(images)})


@reader("mosaicml-streaming and cv2", write_streaming)
def streaming(_, folder):
    from streaming import StreamingDataset

    for row in StreamingDataset(local=str(folder), shuffle=False, batch_size=1):
        yield np.stack([decode(row[f"{i}.png"]) for i in range(12)])


def write_webdataset(shards, folder):
    from webdataset import TarWriter

    with TarWriter(str(folder / "views.tar")) as writer:
        for i, (_, images) in enumerate(rows(shards)):
            writer.write({"__key__": f"{i:06}", **{f"{view}.png": image for view, image in enumerate(images)}})


@reader("webdataset and cv2", write_webdataset)
def webdataset(_, folder):
    from webdataset import WebDataset

    for row in WebDataset(str(folder / "views.tar"), shardshuffle=False):
        yield np.stack([decode(row[f"{i}.png"]) for i in range(12)])


def write_litdata(shards, folder):
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for i, (_, images) in enumerate(rows(shards)):
        writer.add_item(i, {f"{view}": image for view, image in enumerate(images)})
    writer.done()
    writer.merge()


@reader("litdata and cv2", write_litdata)
def litdata(_, folder):
    from litdata import StreamingDataset

    for row in StreamingDataset(str(folder), shuffle=False):
        yield np.stack([decode(row[f"{i}"]) for i in range(12)])


def write_jpegs(shards, folder):
    from PIL import Image

    for place, (_, images) in enumerate(rows(shards)):
        for view, image in enumerate(images):
            Image.open(io.BytesIO(image)).save(folder / f"{place:06}_{view:02}.jpg", quality=95)


@reader("loose JPEGs and Pillow", write_jpegs)
def jpegs(_, folder):
    from PIL import Image

    paths = sorted(folder.glob("*.jpg"))
    for start in range(0, len(paths), 12):
        yield np.stack([np.asarray(Image.open(path)) for path in paths[start : start + 12]])


def measure_program(program, shards, more):
    """CPU-seconds of a pass: those of a process with two passes, less those of one with one."""
    taken = []
    for passes in ("1", "2"):
        before = os.times()
        found = json.loads(subprocess.run([program, shards, passes, *more], check=True, stdout=subprocess.PIPE, text=True).stdout)
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        taken.append((cpu_s, after.elapsed - before.elapsed))
    cpu_s, wall_s = (second - first for first, second in zip(*taken))
    return {"cpu_s": cpu_s, "wall_s": wall_s, **found}


def measure(shards, name, folder):
    """Reads all rows twice; prints CPU-seconds of the second time, rows and a checksum."""
    for _ in range(2):
        before = os.times()
        count, total = 0, 0
        for images in READERS[name][1](shards, folder):
            assert images.shape[0] == 12 and images.dtype == np.uint8, images.shape
            count, total = count + 1, total + int(images[0, images.shape[1] // 2].sum())
    after = os.times()
    cpu_s = after.user + after.system - before.user - before.system
    print(json.dumps({"cpu_s": cpu_s, "wall_s": after.elapsed - before.elapsed, "rows": count, "sum": total}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--program", help="the example time_reading")
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, folder = arguments.measure
        measure(arguments.shards, name, Path(folder))
        return
    scratch = Path(tempfile.mkdtemp())
    times = {}
    try:
        for name in arguments.readers.split(","):
            folder = scratch / name.replace(" ", "-")
            folder.mkdir()
            write = READERS[name][0]
            try:
                if write:
                    write(arguments.shards, folder)
                run(arguments.shards, name, folder)
            except (ImportError, subprocess.CalledProcessError) as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            times[name] = []
        if arguments.program:
            times.update({name: [] for name in PROGRAMS})
        for _ in range(arguments.rounds):
            for name, results in times.items():
                if name in PROGRAMS:
                    results.append(measure_program(arguments.program, arguments.shards, PROGRAMS[name]))
                else:
                    results.append(run(arguments.shards, name, scratch / name.replace(" ", "-")))
    finally:
        shutil.rmtree(scratch)
    ours = statistics.median(result["cpu_s"] for result in times["tap_views"]) if "tap_views" in times else None
    print("reader | rows | rows/s of a core | CPU s | wall s | over ours")
    for name, results in times.items():
        cpu_s, wall_s = (statistics.median(result[key] for result in results) for key in ("cpu_s", "wall_s"))
        ratio = f"{cpu_s / ours:.2f}" if ours else ""
        print(f"{name} | {results[0]['rows']} | {results[0]['rows'] / cpu_s:.0f} | {cpu_s:.2f} | {wall_s:.2f} | {ratio}")


def run(shards, name, folder):
    command = [sys.executable, __file__, str(shards), "--measure", name, str(folder)]
    # One thread each, as far as they let themselves be told.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
