"""Reads the exports of `tests/export.rs` as the programs do that the layouts are of, and compares all with the shards."""

import glob
import io
import os
import re

import h5py
import numpy as np
import pyarrow.parquet as pq
import webdataset
from PIL import Image

SIZE, NUM_VIEWS = 32, 12
ROWS = {row["id"]: row for row in pq.read_table("shards").to_pylist()}
SPLITS = {}
for path in glob.glob("shards/*.parquet"):
    split = os.path.basename(path).split("-")[0]
    SPLITS.update({row["id"]: split for row in pq.read_table(path, columns=["id"]).to_pylist()})


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def mask(row, view):
    return np.unpackbits(np.frombuffer(row["masks"][view], "u1"))[: SIZE * SIZE].reshape(SIZE, SIZE).astype(bool)


def read_ply(path):
    header, body = open(path, "rb").read().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"], lines
    names = [line.split()[-1] for line in lines if line.startswith("property float ")]
    return names, np.frombuffer(body, "<f4").reshape(-1, len(names))


def check_mvcnn():
    """As TAP's `ShapeNet` data set: clouds are listed, and their views found by replacing parts of their paths."""
    objects = dict(line.split(",")[:2] for line in open("mvcnn/objects.csv").read().splitlines()[1:])
    seen = 0
    for subsets in [["train", "val"], ["test"]]:
        for subset in subsets:
            folder = os.path.join("mvcnn", "pointclouds", subset)
            for cloud in sorted(os.listdir(folder)):
                sample_path = os.path.join(folder, cloud)
                row = ROWS[objects[cloud.removesuffix(".ply")]]
                assert SPLITS[row["id"]] == subset
                names, points = read_ply(sample_path)
                assert names == ["x", "y", "z", "nx", "ny", "nz"]
                np.testing.assert_array_equal(points, np.hstack([row["points"], row["normals"]]).astype("f4"))
                for v in range(NUM_VIEWS):
                    image_path = sample_path.replace("pointclouds", "shapenet55v1").replace(".ply", f"_{v + 1:03}.jpg")
                    image = Image.open(image_path)
                    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))
                    gray = np.asarray(image)[..., 0].astype(int)
                    assert np.abs(gray - pixels(row["images"][v]["bytes"])).mean() < 3
                    assert (gray[mask(row, v)] < 255).mean() > 0.97
                seen += 1
    print("mvcnn:", seen)


def check_mvcnn_pytorch():
    """As its data set of several views: each class and split, sorted, twelve files an object."""
    objects = [line.split(",") for line in open("mvcnn-pytorch/objects.csv").read().splitlines()[1:]]
    seen = 0
    for category in sorted({row["category"] for row in ROWS.values()}):
        for split in ["train", "val", "test"]:
            files = sorted(glob.glob(f"mvcnn-pytorch/{category}/{split}/*.png"))
            ids = [id for _, id, its, where in objects if (its, where) == (category, split)]
            assert len(files) == NUM_VIEWS * len(ids)
            for i, id in enumerate(ids):
                for view, path in enumerate(files[NUM_VIEWS * i : NUM_VIEWS * (i + 1)]):
                    assert open(path, "rb").read() == ROWS[id]["images"][view]["bytes"]
                seen += 1
    print("mvcnn-pytorch:", seen)


def check_npy():
    """As `ShapeNet` of Point-BERT, Point-MAE and I2P-MAE: a list of files, whose names say synset and model."""
    seen = 0
    for subset in ["train", "val", "test"]:
        for line in open(f"npy/ShapeNet-55/{subset}.txt").readlines():
            line = line.strip()
            taxonomy_id, model_id = line.split("-")[0], line.split("-")[1].split(".")[0]
            data = np.load(os.path.join("npy/shapenet_pc", line)).astype(np.float32)
            row = ROWS[f"{taxonomy_id}/{model_id}"]
            assert SPLITS[row["id"]] == subset
            np.testing.assert_array_equal(data, np.array(row["points"], "f4"))
            seen += 1
    print("npy:", seen)


def check_webdataset():
    seen = 0
    for split in ["train", "val", "test"]:
        files = sorted(glob.glob(f"webdataset/{split}-*.tar"))
        assert [os.path.basename(file) for file in files] == [f"{split}-{i:06}.tar" for i in range(len(files))]
        samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("pil"))
        assert len({sample["__key__"] for sample in samples}) == len(samples)
        for sample in samples:
            about = sample["json"]
            row = ROWS[about["id"]]
            assert SPLITS[row["id"]] == split == about["split"]
            assert sample["cls"] == row["label"] == about["label"]
            for name in ["points", "normals"]:
                np.testing.assert_array_equal(sample[f"{name}.npy"], np.array(row[name], "f4"))
            np.testing.assert_array_equal(sample["part_labels.npy"], np.array(row["part_labels"], "u1"))
            for name in ["view_from_object", "clip_from_view"]:
                expected = np.array(row[name], "f4").reshape(NUM_VIEWS, 4, 4)
                np.testing.assert_array_equal(sample[f"{name}.npy"], expected)
            views = [name for name in sample if re.fullmatch(r"view_\d+\.png", name)]
            assert len(views) == NUM_VIEWS
            for v in range(NUM_VIEWS):
                view, covered = sample[f"view_{v + 1:03}.png"], sample[f"mask_{v + 1:03}.png"]
                np.testing.assert_array_equal(np.asarray(view.convert("L")), pixels(row["images"][v]["bytes"]))
                np.testing.assert_array_equal(np.asarray(covered.convert("L")) == 255, mask(row, v))
            seen += 1
    print("webdataset:", seen)


def objects_of(folder):
    """Ids of the rows of each file."""
    ids = {}
    for line in open(f"{folder}/objects.csv").read().splitlines()[1:]:
        file, row, id, _, split = line.split(",")
        assert SPLITS[id] == split and len(ids.setdefault(file, [])) == int(row)
        ids[file].append(id)
    return ids


def check_h5():
    """As DGCNN's ModelNet40 and ShapeNetPart, and PointNet++'s: files by pattern or list, whole arrays of them."""
    classes = open("h5/shape_names.txt").read().splitlines()
    ids, seen = objects_of("h5"), 0
    for partition in ["train", "val", "test"]:
        files = sorted(glob.glob(os.path.join("h5", f"*{partition}*.h5")))
        assert [os.path.basename(file) for file in files] == open(f"h5/{partition}_files.txt").read().split()
        for path in files:
            with h5py.File(path, "r") as f:
                assert sorted(f) == ["data", "label", "normal", "pid"]
                data, label = f["data"][:].astype("float32"), f["label"][:].astype("int64")
                normal, seg = f["normal"][:], f["pid"][:].astype("int64")
                assert (f["data"].dtype, f["label"].dtype, f["pid"].dtype) == (np.float32, np.uint8, np.uint8)
            rows = [ROWS[id] for id in ids[os.path.basename(path)]]
            assert label.shape == (len(rows), 1)
            np.testing.assert_array_equal(data, np.array([row["points"] for row in rows], "f4"))
            np.testing.assert_array_equal(normal, np.array([row["normals"] for row in rows], "f4"))
            np.testing.assert_array_equal(seg, np.array([row["part_labels"] for row in rows]))
            assert [classes[i] for i in label[:, 0]] == [row["category"] for row in rows]
            seen += len(rows)
    print("h5:", seen)


def check_scanobjectnn():
    """As Point-MAE's ScanObjectNN, which reads a file per subset."""
    ids, seen = objects_of("h5-scanobjectnn"), 0
    for subset in ["training", "validation", "test"]:
        path = f"main_split/{subset}_objectdataset.h5"
        h5 = h5py.File(os.path.join("h5-scanobjectnn", path), "r")
        points, labels = np.array(h5["data"]).astype(np.float32), np.array(h5["label"]).astype(int)
        h5.close()
        rows = [ROWS[id] for id in ids[path]]
        np.testing.assert_array_equal(points, np.array([row["points"] for row in rows], "f4"))
        assert labels.tolist() == [row["label"] for row in rows]
        seen += len(rows)
    print("h5-scanobjectnn:", seen)


check_mvcnn()
check_mvcnn_pytorch()
check_npy()
check_webdataset()
check_h5()
check_scanobjectnn()
