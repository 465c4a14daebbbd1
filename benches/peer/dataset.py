#!/usr/bin/env python3
"""Our build of a data set beside a Python pipeline of the usual parts, in turn, by wall and CPU time.

Usage: dataset.py TAP MESHES [--num 60] [--workers 2] [--rounds 1] [--size 224] [--samples 1]

TAP is the built program; MESHES is a folder of <category>/<mesh>. Both make the same columns of the same meshes (every
n-th of the folder): points by Poisson disks, twelve gray PNG views with masks and matrices, the scalars, the hash. The peer
is trimesh (reading), pyrender on OSMesa (drawing), Open3D (points, initial factor 4), Pillow (PNG) and pyarrow (Parquet),
one process a worker; ours is `tap dataset build --backend cpu`. The peer centres and scales an object by its box, and
leaves framing, findings and checks aside; ours does all of them.

Needs: pip install trimesh pyrender open3d pyarrow pillow "PyOpenGL>=3.1.7"; apt-get install libosmesa6
"""

import argparse
import hashlib
import io
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_POINTS = 1024
NUM_VIEWS = 12
ELEVATION = math.radians(30)
DISTANCE = 3.0
FIELD_OF_VIEW = math.radians(40)
MESHES = {".obj", ".off", ".ply", ".stl", ".glb"}


def look_at(azimuth, np):
    """The camera's pose in the object's frame: +y up, the eye on a ring."""
    eye = np.array([math.sin(azimuth) * math.cos(ELEVATION), math.sin(ELEVATION), math.cos(azimuth) * math.cos(ELEVATION)])
    right = np.cross([0.0, 1.0, 0.0], eye)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(eye, right), eye, eye * DISTANCE
    return pose


class Peer:
    """One worker: an object file to a row."""

    def __init__(self, size):
        os.environ["PYOPENGL_PLATFORM"] = "osmesa"
        import numpy as np
        import open3d as o3d
        import pyrender
        import trimesh
        from PIL import Image

        self.np, self.o3d, self.pyrender, self.trimesh, self.image = np, o3d, pyrender, trimesh, Image
        o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
        self.size = size
        self.renderer = pyrender.OffscreenRenderer(size, size)
        self.camera = pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, aspectRatio=1.0, znear=0.1, zfar=10.0)
        self.poses = [look_at(2 * math.pi * view / NUM_VIEWS, np) for view in range(NUM_VIEWS)]

    def row(self, path):
        np = self.np
        content = path.read_bytes()
        mesh = self.trimesh.load(io.BytesIO(content), file_type=path.suffix[1:], force="mesh", process=False)
        triangles = self.o3d.geometry.TriangleMesh(
            self.o3d.utility.Vector3dVector(mesh.vertices), self.o3d.utility.Vector3iVector(mesh.faces)
        )
        triangles.compute_triangle_normals()
        cloud = triangles.sample_points_poisson_disk(NUM_POINTS, init_factor=4, use_triangle_normal=True)
        points, normals = np.asarray(cloud.points), np.asarray(cloud.normals)
        centre = points.mean(axis=0)
        scale = 1.0 / np.linalg.norm(points - centre, axis=1).max()
        object_from_mesh = np.eye(4)
        object_from_mesh[:3, :3] *= scale
        object_from_mesh[:3, 3] = -scale * centre
        mesh.apply_transform(object_from_mesh)

        mesh.visual = self.trimesh.visual.ColorVisuals(mesh)
        scene = self.pyrender.Scene(bg_color=[1.0, 1.0, 1.0, 0.0], ambient_light=[0.3, 0.3, 0.3])
        scene.add(self.pyrender.Mesh.from_trimesh(mesh, smooth=False))
        camera, light = scene.add(self.camera), scene.add(self.pyrender.DirectionalLight(intensity=2.0))
        images, masks, views = [], [], []
        for pose in self.poses:
            scene.set_pose(camera, pose)
            scene.set_pose(light, pose)
            color, depth = self.renderer.render(scene, flags=self.pyrender.RenderFlags.SKIP_CULL_FACES)
            covered = depth > 0
            png = io.BytesIO()
            self.image.fromarray(color[:, :, 0]).save(png, "PNG")
            images.append(png.getvalue())
            masks.append(np.packbits(covered).tobytes())
            views.append((np.linalg.inv(pose), covered.mean()))
        projection = self.camera.get_projection_matrix(self.size, self.size)
        return {
            "id": f"{path.parent.name}/{path.stem}",
            "category": path.parent.name,
            "points": ((points - centre) * scale).astype(np.float32).tolist(),
            "normals": normals.astype(np.float32).tolist(),
            "images": images,
            "masks": masks,
            "view_from_object": [view.astype(np.float32).ravel().tolist() for view, _ in views],
            "clip_from_view": [projection.astype(np.float32).ravel().tolist()] * NUM_VIEWS,
            "object_from_mesh": object_from_mesh.astype(np.float32).ravel().tolist(),
            "num_triangles": len(mesh.faces),
            "surface_area": float(mesh.area),
            "is_watertight": bool(mesh.is_watertight),
            "coverage_min": float(min(coverage for _, coverage in views)),
            "source_sha256": hashlib.sha256(content).hexdigest(),
        }


PEER = None


def begin(size):
    global PEER
    PEER = Peer(size)


def make_row(path):
    try:
        return PEER.row(path)
    except Exception as error:  # as a night's script would: name it and go on
        print(f"skipped {path}: {error}", file=sys.stderr)
        return None


def run_peer(folder, out, workers, size):
    import multiprocessing

    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path for path in folder.glob("*/*") if path.suffix in MESHES)
    vector = lambda length: pa.list_(pa.list_(pa.float32(), length))
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("category", pa.string()),
            ("points", vector(3)),
            ("normals", vector(3)),
            ("images", pa.list_(pa.binary())),
            ("masks", pa.list_(pa.binary())),
            ("view_from_object", vector(16)),
            ("clip_from_view", vector(16)),
            ("object_from_mesh", pa.list_(pa.float32(), 16)),
            ("num_triangles", pa.int64()),
            ("surface_area", pa.float64()),
            ("is_watertight", pa.bool_()),
            ("coverage_min", pa.float32()),
            ("source_sha256", pa.string()),
        ]
    )
    num_rows = 0
    with (
        multiprocessing.get_context("spawn").Pool(workers, begin, (size,)) as pool,
        pq.ParquetWriter(out, schema, compression="none", use_dictionary=False) as writer,
    ):
        batch = []
        for row in pool.imap(make_row, files):
            if row is not None:
                batch.append(row)
                num_rows += 1
            if len(batch) == 64:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))
    print(json.dumps({"rows": num_rows}))


def measure(command, environment=None):
    """Seconds on the wall and of all processes' CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tap")
    parser.add_argument("meshes", type=Path)
    parser.add_argument("--num", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--samples", type=int, default=1, choices=[1, 4], help="of ours; the peer has one")
    parser.add_argument("--peer-out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer_out:
        return run_peer(arguments.meshes, arguments.peer_out, arguments.workers, arguments.size)

    files = sorted(path for path in arguments.meshes.glob("*/*") if path.suffix in MESHES)
    step = max(1, len(files) // arguments.num)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        chosen = files[::step][: arguments.num]
        for path in chosen:
            (scratch / "meshes" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, scratch / "meshes" / path.parent.name / path.name)
        common = ["--size", str(arguments.size), "--workers", str(arguments.workers)]
        times = {"ours": [], "peer": []}
        for round_idx in range(arguments.rounds):
            out = scratch / f"ours-{round_idx}"
            ours = [arguments.tap, "dataset", "build", scratch / "meshes", "--layout", "folders", "--out", out]
            ours += ["--backend", "cpu", "--samples", str(arguments.samples), "--max-skipped", str(len(chosen)), "--json"]
            *seconds, done = measure([*ours, *common])
            times["ours"].append(seconds)
            our_rows = json.loads(done.stdout)["num_rows"]
            peer = [sys.executable, __file__, arguments.tap, scratch / "meshes"]
            peer += ["--peer-out", scratch / f"peer-{round_idx}.parquet", *common]
            # One thread a process, or Open3D's threads would fight each other.
            environment = {**os.environ, "PYOPENGL_PLATFORM": "osmesa", "OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}
            *seconds, done = measure([str(word) for word in peer], environment)
            times["peer"].append(seconds)
            peer_rows = json.loads(done.stdout.strip().splitlines()[-1])["rows"]
        print(f"{len(chosen)} meshes, {arguments.workers} workers, {arguments.size} pixels, median of {arguments.rounds}")
        print("          rows   wall s   CPU s   CPU ms an object")
        middle = {who: [statistics.median(column) for column in zip(*rows)] for who, rows in times.items()}
        for who, rows in (("ours", our_rows), ("peer", peer_rows)):
            wall, cpu = middle[who]
            print(f"  {who:<6} {rows:6}  {wall:7.2f} {cpu:7.2f}   {1000 * cpu / max(rows, 1):9.1f}")
        ratios = [peer / ours for ours, peer in zip(middle["ours"], middle["peer"])]
        print(f"  peer / ours: {ratios[0]:.1f} by the wall, {ratios[1]:.1f} by CPU")


if __name__ == "__main__":
    main()
