"""Views of meshes with exact poses, and data sets of them, as NumPy arrays. Headless, with a GPU or without one.

    import tap_views

    views = tap_views.render("chair.obj")            # or arrays, or a mesh of trimesh or Open3D
    views.color, views.mask, views.view_from_object  # uint8 [12, 224, 224], bool [12, 224, 224], float32 [12, 4, 4]

    tap_views.build("meshes", "shards", size=64, split_fractions=(0.8, 0.2))
    train = tap_views.Dataset("shards", split="train", where="coverage_min > 0.02", seed=1)
    for sample in train:                             # a dict of arrays, in a new order each epoch
        sample["images"], sample["points"], sample["label"]

Axes, matrices, depth: docs/conventions.md. Columns: docs/formats.md.
"""

import numpy as _numpy  # the compiled half makes its arrays, and would panic without it

from ._dataset import Dataset
from ._native import (
    DatasetError,
    MeshError,
    Renderer,
    RenderError,
    Views,
    __version__,
    adapters,
    begin_build,
    build_status,
    finish_build,
    render,
)
from ._progress import build, build_unit, relight

__all__ = [
    "Dataset",
    "DatasetError",
    "MeshError",
    "RenderError",
    "Renderer",
    "Views",
    "__version__",
    "adapters",
    "begin_build",
    "build",
    "build_status",
    "build_unit",
    "finish_build",
    "relight",
    "render",
]
