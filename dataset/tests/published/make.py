"""Writes the small files of this folder, in the layouts of published sets: `pip install numpy h5py; python make.py`.

Shapes are made up: points on a sphere, stretched by class and number. Other variations (text, wrong files) are written by
tests/import_sets.rs itself; what stands here has to come from h5py and pickle.
"""

import os
import pickle
import shutil

import h5py
import numpy as np

NUM_POINTS = 16


def cloud(label, number, num_points=NUM_POINTS):
    """Points on an ellipsoid away from the origin, and their normals."""
    rng = np.random.default_rng(100 * label + number)
    normals = rng.normal(size=(num_points, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = normals * [1 + 0.1 * label, 1, 1 + 0.05 * number] + [label, 0, number]
    return points.astype("f4"), normals.astype("f4")


def clouds(labels):
    pairs = [cloud(label, number) for number, label in enumerate(labels)]
    return np.stack([points for points, _ in pairs]), np.stack([normals for _, normals in pairs])


def write(path, arrays, libver=None, **options):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with h5py.File(path, "w", libver=libver) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)


def scanobjectnn():
    folder = "scanobjectnn/h5_files"
    for split, labels in [("training", [4, 0, 14, 4, 9]), ("test", [4, 9, 1])]:
        points, _ = clouds(labels)
        labels = np.array(labels)
        # Contiguous; a mask beside.
        arrays = {"data": points, "label": labels.astype("i4"), "mask": np.zeros((len(labels), NUM_POINTS), "i4")}
        write(f"{folder}/main_split/{split}_objectdataset.h5", arrays)
        # Chunks across all sides, gzip and shuffle, doubles, labels in a column.
        arrays = {"data": points.astype("f8") + 0.5, "label": labels[:, None].astype("i8")}
        name = f"{folder}/main_split/{split}_objectdataset_augmentedrot_scale75.h5"
        write(name, arrays, compression="gzip", shuffle=True)
        # The newest file format, big-endian.
        arrays = {"data": points.astype(">f4"), "label": labels.astype(">u2")}
        write(f"{folder}/main_split_nobg/{split}_objectdataset.h5", arrays, libver="latest", chunks=True)


def modelnet40():
    folder = "modelnet40_ply_hdf5_2048"
    for name, labels in [("train0", [0, 8]), ("train1", [39, 8]), ("test0", [8, 0])]:
        points, normals = clouds(labels)
        arrays = {
            "data": points,
            "normal": normals,
            "label": np.array(labels, "u1")[:, None],
            "faceId": np.zeros((len(labels), NUM_POINTS), "i4"),
        }
        write(f"{folder}/ply_data_{name}.h5", arrays, compression="gzip", compression_opts=4)


def shapenetpart():
    for name, labels in [("train0", [0, 4]), ("val0", [4]), ("test0", [15, 0])]:
        points, _ = clouds(labels)
        first = {0: 0, 4: 12, 15: 47}
        parts = np.array([[first[label] + i % 3 for i in range(NUM_POINTS)] for label in labels], "u1")
        arrays = {"data": points, "label": np.array(labels, "u1")[:, None], "pid": parts}
        write(f"hdf5_data/ply_data_{name}.h5", arrays, compression="gzip")


def dump(path, value, protocol, is_old=False):
    """`is_old` names the functions as numpy did before version 2; as long as protocol 2 names them in lines of text."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = pickle.dumps(value, protocol=protocol)
    if is_old:
        assert protocol <= 3
        data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    with open(path, "wb") as file:
        file.write(data)


def pickles():
    labels = {"train": [0, 8, 39, 8], "test": [8, 0]}

    def lists(split):
        # More than 4 KiB, which are left in the file until they are read.
        rows = [np.hstack(cloud(label, number, 176)) for number, label in enumerate(labels[split])]
        return [rows, [np.array([label], "i4") for label in labels[split]]]

    name = "modelnet40_{}_8192pts_fps.dat"
    for protocol, is_old in [(2, True), (3, True), (4, False), (5, False)]:
        for split in labels:
            dump(f"dat{protocol}/" + name.format(split), lists(split), protocol, is_old)

    def samples(split):
        rows, _ = lists(split)
        return [(points, new, label) for points, new, label in zip(rows, range(9), labels[split])]

    episode = {split: samples(split) for split in labels}
    dump("fewshot/5way10shot/0.pkl", episode, 3, True)
    dump("fewshot/5way10shot/1.pkl", episode, 4)

    class Hostile:
        def __reduce__(self):
            return os.system, ("touch executed",)

    train = lists("train")
    train[0][2] = Hostile()
    dump("hostile/" + name.format("train"), train, 4)


for folder in ["scanobjectnn", "modelnet40_ply_hdf5_2048", "hdf5_data", "dat2", "dat3", "dat4", "dat5", "fewshot", "hostile"]:
    shutil.rmtree(folder, ignore_errors=True)
scanobjectnn()
modelnet40()
shapenetpart()
pickles()
