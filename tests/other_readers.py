"""Reads a data set folder with everybody else's Parquet readers: `other_readers.py FOLDER IMAGE_SET PAGE`, where PAGE is docs/datasets.md.

Prints one line a reader, `NAME: ROWS`; tests/other_readers.rs holds what they say.
"""

import os
import sys
import tempfile

os.environ["HF_HOME"] = tempfile.mkdtemp()
os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import duckdb
import numpy
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet as pq

folder, image_set = os.path.abspath(sys.argv[1]), sys.argv[2]


def say(reader, rows):
    print(f"{reader}: {rows}")


def rows_by_split(shards):
    return sum(shards[split].num_rows for split in shards)


say("pyarrow table", pq.read_table(folder).num_rows)
say("pyarrow dataset", pyarrow.dataset.dataset(folder).count_rows())
say("pandas", len(pandas.read_parquet(folder)))
for pattern in ["*.parquet", "**/*.parquet"]:
    say(f"polars {pattern}", polars.scan_parquet(f"{folder}/{pattern}").select("points").collect().height)
    say(f"duckdb {pattern}", duckdb.sql(f"SELECT count(points) FROM '{folder}/{pattern}'").fetchall()[0][0])
say("datasets", rows_by_split(datasets.load_dataset(folder)))
say("datasets parquet", rows_by_split(datasets.load_dataset("parquet", data_dir=folder)))
streamed = datasets.load_dataset(folder, streaming=True)
say("datasets streaming", sum(1 for split in streamed for _ in streamed[split]))

train = datasets.load_dataset(folder)["train"]
say("size of a view", train[0]["images"][3].size)
say("class names", train.features["label"].names)

# The page's lines of NumPy, as they stand there, in the folder that holds "shards".
page = open(sys.argv[3]).read().split("## Columns in NumPy")[1]
names = {}
os.chdir(os.path.dirname(folder))
exec(page.split("```python")[1].split("```")[0], names)
say("points in NumPy", (names["points"].shape, names["all_points"].shape[1:]))
say("images in NumPy", (names["images"].shape, str(names["images"].dtype)))
covered = names["images"] < 255
say("masks in NumPy", (names["masks"].shape, bool((names["masks"] == covered).all())))
clip = numpy.einsum("vij,nj->vni", numpy.array(names["row"]["clip_from_view"], "f4").reshape(-1, 4, 4)
    @ names["view_from_object"], numpy.hstack([names["points"], numpy.ones((len(names["points"]), 1))]))
x, y = ((clip[..., i] / clip[..., 3] * sign / 2 + 0.5) * names["S"] for i, sign in [(0, 1), (1, -1)])
views = numpy.arange(len(clip))[:, None]
say("points in masks", bool(names["masks"][views, y.astype(int).clip(0, names["S"] - 1), x.astype(int)].mean() > 0.9))
say("parts in NumPy", names["parts"].shape)

images = f"{folder}/__images/{image_set}"
say("image set, pyarrow", pq.read_table(images).num_rows)
say("image set, polars", polars.read_parquet(f"{images}/*.pq").height)
say("image set, datasets", datasets.load_dataset("parquet", data_files=f"{images}/*.pq")["train"].num_rows)

# The same page's neighbor about the lists of objects.
formats = open(os.path.join(os.path.dirname(sys.argv[3]), "formats.md")).read().split("### Lists of objects")[1]
exec(formats.split("```python")[1].split("```")[0], names)
say("objects listed", (names["objects"].num_rows, names["objects"].column_names[:2]))
