"""The package from a user's side. Run by `package.rs` in a folder with meshes, their views by the Rust crates, a data set, and the
hashes of its rows."""

import filecmp
import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import sys
import threading
import types
import unittest
import unittest.mock

import numpy as np
from PIL import Image

import tap_views

SIZE = 48
MESHES = sorted(pathlib.Path("meshes").glob("*/*/*.obj"))
VIEWS = sorted(path.parent for path in pathlib.Path("views").glob("**/views.json"))
EXPECTED = json.loads(pathlib.Path("expected.json").read_text())
CUBE = (
    np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float),
    np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7],
         [1, 7, 3]]
    ),
)


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def read_obj(path):
    vertices, faces = [], []
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) - 1 for word in words[1:]]
            faces.extend([corners[0], b, c] for b, c in zip(corners[1:], corners[2:]))
    return np.array(vertices), np.array(faces)


def mesh_of(folder):
    views = json.loads((folder / "views.json").read_text())
    return next(mesh for mesh in MESHES if hashlib.sha256(mesh.read_bytes()).hexdigest() == views["source_sha256"])


def in_child(work, timeout_s=120):
    """What `work` returns in a forked process, as an exit code; a process that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            signal.alarm(timeout_s)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Render(unittest.TestCase):
    def test_views_are_those_of_the_program_bit_for_bit(self):
        self.assertEqual(len(VIEWS), 3)
        renderer = tap_views.Renderer(
            size=SIZE,
            lighting="three-point",
            channels="color,mask,depth,normal,albedo,part,material",
            backend="cpu",
        )
        for folder in VIEWS:
            written = json.loads((folder / "views.json").read_text())
            views = renderer.render(mesh_of(folder))
            self.assertEqual(len(views), len(written["views"]))
            self.assertEqual((views.num_views, views.size), (len(views), SIZE))
            self.assertEqual(views.object_from_mesh.ravel().tolist(), written["object_from_mesh"])
            self.assertEqual(views.parts, written["parts"])
            for k, view in enumerate(written["views"]):
                picture = lambda key: np.asarray(Image.open(folder / view[key]))
                np.testing.assert_array_equal(views.color[k], picture("file"))
                np.testing.assert_array_equal(views.mask[k], picture("mask_file") == 255)
                np.testing.assert_array_equal(views.depth[k], np.load(folder / view["depth_file"]))
                np.testing.assert_array_equal(views.albedo[k], picture("albedo_file"))
                for labels, key in [(views.part, "part_file"), (views.material, "material_file")]:
                    np.testing.assert_array_equal(labels[k] + np.uint16(1), picture(key))
                np.testing.assert_array_equal(views.view_from_object[k].ravel(), np.float32(view["view_from_object"]))
                np.testing.assert_array_equal(views.clip_from_view[k].ravel(), np.float32(view["clip_from_view"]))
                self.assertEqual(views.angles_deg[k].tolist(), [view["azimuth_deg"], view["elevation_deg"], view["roll_deg"]])
                length = np.linalg.norm(views.normal[k], axis=-1)
                np.testing.assert_allclose(length[views.mask[k]], 1, atol=1e-5)
                self.assertFalse(length[~views.mask[k]].any())

    def test_a_file_its_arrays_and_objects_give_the_same_views(self):
        vertices, faces = read_obj(MESHES[0])
        of_file = tap_views.render(str(MESHES[0]), size=SIZE)
        self.assertEqual((of_file.color.dtype, of_file.color.shape), (np.uint8, (12, SIZE, SIZE)))

        class Trimesh:
            pass

        mesh = Trimesh()
        mesh.vertices, mesh.faces = vertices, faces.astype(np.uint32)
        for given in [(vertices, faces), (vertices.tolist(), faces.tolist()), mesh]:
            np.testing.assert_array_equal(tap_views.render(given, size=SIZE).color, of_file.color)
        np.testing.assert_array_equal(tap_views.render(vertices, faces, size=SIZE).mask, of_file.mask)
        order = np.asfortranarray(vertices)
        np.testing.assert_array_equal(tap_views.render(order, faces, size=SIZE).mask, of_file.mask)

    def test_settings_are_those_of_a_recipe(self):
        poses = [(0, 30), (30, 30, 0), {"azimuth_deg": 60, "elevation_deg": 30, "roll_deg": 0}]
        few = tap_views.render(CUBE, rig=poses, size=SIZE)
        twelve = tap_views.render(CUBE, size=SIZE)
        np.testing.assert_array_equal(few.color, twelve.color[:3])
        np.testing.assert_array_equal(tap_views.render(CUBE, rig=np.array([[0.0, 30.0]]), size=SIZE).color, twelve.color[:1])
        rgb = tap_views.render(CUBE, size=SIZE, rgb=True, channels=["color"])
        np.testing.assert_array_equal(rgb.color, np.repeat(twelve.color[..., None], 3, -1))
        self.assertIsNone(rgb.mask)
        dark = tap_views.render(CUBE, size=SIZE, lighting={"ambient": 0.0, "diffuse": 0.25, "background": [0, 0, 0]})
        self.assertLessEqual(dark.color.max(), 64)
        self.assertEqual(tap_views.render(CUBE, rig="turntable:5", projection="parallel", size=16).angles_deg[1, 0], 72)
        self.assertIn("cpu", repr(tap_views.Renderer(backend="cpu", size=8)).lower() + "cpu")
        self.assertTrue(tap_views.adapters())

    def test_colors_are_seen_under_lightings_of_own_colors(self):
        white = dict(size=SIZE, channels="albedo,mask")
        red = np.tile([255, 0, 0], (8, 1))
        for colors in [red.astype(np.uint8), red / 255.0]:
            views = tap_views.render(CUBE, vertex_colors=colors, lighting="textured", **white)
            self.assertEqual(np.unique(views.albedo[views.mask], axis=0).tolist(), [[255, 0, 0]])
        faces = np.zeros((12, 3), np.uint8)
        faces[:, 1] = 200
        views = tap_views.render(*CUBE, face_colors=faces, lighting="textured", **white)
        self.assertEqual(np.unique(views.albedo[views.mask], axis=0).tolist(), [[0, 200, 0]])

    def test_points_alone_have_views(self):
        points = np.random.default_rng(0).normal(size=(2000, 3))
        views = tap_views.render(points / np.linalg.norm(points, axis=1, keepdims=True), size=SIZE)
        self.assertGreater(views.mask[0].mean(), 0.2)

    def test_errors_are_pythons_with_our_words(self):
        nan = CUBE[0].copy()
        nan[3, 1] = np.nan
        pathlib.Path("empty.off").write_text("OFF\n0 0 0\n")
        pathlib.Path("notes.txt.docx").write_text("no mesh")
        for error, words, call in [
            (FileNotFoundError, "absent.obj", lambda: tap_views.render("absent.obj")),
            (tap_views.MeshError, "not a mesh format", lambda: tap_views.render("notes.txt.docx")),
            (tap_views.MeshError, "empty.off", lambda: tap_views.render("empty.off")),
            (tap_views.MeshError, "", lambda: tap_views.render(nan, CUBE[1])),
            (tap_views.MeshError, "", lambda: tap_views.render(CUBE[0], CUBE[1] + 1)),
            (ValueError, "not an index", lambda: tap_views.render(CUBE[0], CUBE[1] - 1)),
            (TypeError, "whole numbers", lambda: tap_views.render(CUBE[0], CUBE[1] + 0.5)),
            (ValueError, "(N, 3)", lambda: tap_views.render(CUBE[0][:, :2], CUBE[1])),
            (ValueError, "unknown rig 'mvcnn13'", lambda: tap_views.render(CUBE, rig="mvcnn13")),
            (ValueError, "three-point", lambda: tap_views.render(CUBE, lighting="disco")),
            (ValueError, "size", lambda: tap_views.render(CUBE, size=0)),
            (ValueError, "samples", lambda: tap_views.render(CUBE, samples=3)),
            (ValueError, "colour", lambda: tap_views.render(CUBE, channels="colour")),
            (ValueError, "backend", lambda: tap_views.render(CUBE, backend="cuda")),
            (ValueError, "12 colors", lambda: tap_views.render(CUBE, vertex_colors=np.zeros((12, 3)))),
            (TypeError, "unexpected keyword argument 'sise'", lambda: tap_views.render(CUBE, sise=3)),
            (TypeError, "", lambda: tap_views.render("a.obj", vertex_colors=np.zeros((8, 3)))),
        ]:
            with self.subTest(words=words), self.assertRaises(error) as caught:
                call()
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(tap_views.MeshError) as caught:
            tap_views.render(nan, CUBE[1])
        self.assertEqual(caught.exception.reason, "non_finite")
        self.assertTrue(issubclass(tap_views.MeshError, ValueError))

    def test_other_threads_run_while_one_renders(self):
        done = threading.Event()

        def work():
            tap_views.render(str(MESHES[0]), rig="sphere:40", threads=1)
            done.set()

        thread = threading.Thread(target=work)
        counted = 0
        thread.start()
        while not done.is_set():
            counted += 1
        thread.join()
        # With the lock held, this thread would have had no more than the few turns around the call.
        self.assertGreater(counted, 10_000)

    def test_threads_share_a_renderer(self):
        renderer = tap_views.Renderer(size=SIZE, threads=1)
        expected = [renderer.render(mesh).color for mesh in MESHES[:4]]
        found = {}

        def work(which):
            for i in range(4):
                found[which, i] = renderer.render(MESHES[i]).color

        threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 16)
        for (_, i), color in found.items():
            np.testing.assert_array_equal(color, expected[i])
        np.testing.assert_array_equal(tap_views.render(MESHES[0], size=SIZE, threads=2).color, expected[0])

    def test_a_forked_process_renders(self):
        expected = tap_views.render(CUBE, size=SIZE, backend="cpu").color
        work = lambda: 0 if (tap_views.render(CUBE, size=SIZE, backend="cpu").color == expected).all() else 1
        self.assertEqual(in_child(work), 0)


class Build(unittest.TestCase):
    RECIPE = dict(
        size=SIZE, num_points=64, gbuffer=True, rows_per_shard=5, split_fractions=(0.75, 0.25), backend="cpu"
    )

    def assert_same_folders(self, a, b, at_least=5):
        names = sorted(path.name for path in pathlib.Path(a).iterdir() if path.is_file() and path.name != ".lock")
        self.assertGreaterEqual(len(names), at_least)
        _, differing, failed = filecmp.cmpfiles(a, b, names, shallow=False)
        self.assertEqual((differing, failed), ([], []))

    def test_bytes_are_those_of_the_program(self):
        events = []
        report = tap_views.build("meshes", "built", progress=events.append, **self.RECIPE)
        self.assertEqual((report["num_rows"], report["num_lost"]), (24, 0))
        self.assertEqual(len(report["sha256"]), 64)
        self.assert_same_folders("shards", "built")
        self.assertEqual(events[0]["kind"], "started")
        self.assertEqual((events[0]["total"], sum(event["kind"] == "done" for event in events)), (24, 24))

    def test_units_make_the_bytes_of_one_build(self):
        began = tap_views.begin_build("meshes", "shared", **self.RECIPE)
        self.assertTrue(began["is_begun"], began)
        first = tap_views.build_unit("shared", shards="0", threads=1)
        self.assertEqual(first["num_shards"], 1)
        with self.assertRaisesRegex(tap_views.DatasetError, "shards are missing"):
            tap_views.finish_build("shared")
        self.assertEqual(tap_views.build_status("shared")["num_finished"], 1)
        tap_views.build_unit("shared", unit="1/1", source="meshes")
        self.assertEqual(tap_views.finish_build("shared")["num_rows"], 24)
        self.assertEqual(len(list(pathlib.Path("shared").iterdir())), began["num_shards"] + 1)
        self.assert_same_folders("shards", "shared")
        for arguments in [{}, {"shards": "0", "unit": "1/1"}, {"shards": "1-0"}]:
            with self.assertRaises(ValueError):
                tap_views.build_unit("shared", **arguments)

    def test_an_engine_builds_units(self):
        with self.assertRaisesRegex(ValueError, "unknown engine 'dask'"):
            tap_views.build("meshes", "never", engine="dask", **self.RECIPE)
        dies, survives_isolated, events = ["3"], [], []

        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            def __init__(self, cause):
                self.cause = cause

        class Unit:
            def __init__(self, task, arguments):
                self.task, self.arguments = task, arguments

        class Ray:
            """What `_ray` uses of Ray 2, in this process."""

            exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

            @staticmethod
            def is_initialized():
                return True

            @staticmethod
            def remote(max_retries, retry_exceptions, num_cpus):
                self.assertEqual((max_retries > 0, retry_exceptions), (True, False))
                return lambda task: types.SimpleNamespace(remote=lambda *arguments: Unit(task, arguments))

            @staticmethod
            def wait(running, num_returns):
                return running[-num_returns:], running[:-num_returns]

            @staticmethod
            def get(unit):
                _, shards, settings = unit.arguments
                if dies and dies[0] in shards and not (survives_isolated and settings["isolate"]):
                    raise RayError
                try:
                    return unit.task(*unit.arguments)
                except Exception as error:
                    raise RayTaskError(error) from error

        build = lambda out, **more: tap_views.build(
            "meshes", out, engine="ray", shards_per_unit=2, progress=events.append, **self.RECIPE, **more
        )
        with unittest.mock.patch.dict(sys.modules, ray=Ray):
            with self.assertRaisesRegex(tap_views.DatasetError, "shards 2 to 3 died 4 times, .* isolated too: RayError"):
                build("by-engine")
            survives_isolated.append(True)
            self.assertEqual(build("by-engine")["num_rows"], 24, "what died is tried isolated")
            dies.clear()
            with self.assertRaisesRegex(tap_views.DatasetError, "nowhere, and 2 more units"):
                build("by-others", source="nowhere")
        self.assert_same_folders("shards", "by-engine")
        self.assertEqual(sum(event.get("shards", 0) for event in events if event["kind"] == "unit"), 6)
        with unittest.mock.patch.dict(sys.modules, ray=None), self.assertRaisesRegex(ImportError, "pip install ray"):
            build("by-none")

    def test_a_mesh_that_ends_the_process_is_named(self):
        recipe = dict(size=16, num_points=32, samples=1, backend="cpu", threads=1)
        folder = pathlib.Path("fatal/box")
        folder.mkdir(parents=True)
        for name in "abc":
            shutil.copy(MESHES[0], folder / f"{name}.obj")
        # Hands on what it is asked, and dies of the third object.
        python = pathlib.Path("dying-python").resolve()
        python.write_text(f"""#!{sys.executable}
import os, signal, subprocess, sys
trial = subprocess.Popen([{sys.executable!r}, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for line in sys.stdin.buffer:
    if line.strip() == b"2":
        os.kill(os.getpid(), signal.SIGKILL)
    trial.stdin.write(line)
    trial.stdin.flush()
    sys.stdout.buffer.write(trial.stdout.readline())
    sys.stdout.flush()
""")
        python.chmod(0o755)
        with unittest.mock.patch.object(sys, "executable", str(python)):
            report = tap_views.build("fatal", "isolated", isolate=True, **recipe)
        self.assertEqual([(skip["id"], skip["reason"]) for skip in report["skipped"]], [("box/c", "crashed")])
        self.assertEqual((report["num_rows"], report["num_lost"]), (2, 1))
        with self.assertRaisesRegex(ValueError, "part"):
            tap_views.build("fatal", "never", isolate=True, part="1/2", **recipe)
        tap_views.build("fatal", "whole", **recipe)
        tap_views.build("fatal", "tried", isolate=True, **recipe)
        self.assert_same_folders("whole", "tried", at_least=2)

    def test_a_build_that_was_interrupted_goes_on(self):
        class Stop(Exception):
            pass

        def stop(event):
            if event["kind"] == "shard_written":
                raise Stop

        with self.assertRaises(Stop):
            tap_views.build("meshes", "stopped", progress=stop, threads=1, **self.RECIPE)
        with self.assertRaises(tap_views.DatasetError):
            tap_views.Dataset("stopped")
        resumed = []
        tap_views.build("meshes", "stopped", progress=resumed.append, **self.RECIPE)
        self.assertIn("resumed", [event["kind"] for event in resumed])
        self.assert_same_folders("shards", "stopped")

    def test_ctrl_c_interrupts(self):
        begun = threading.Event()

        def press():
            begun.wait()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        # A shell may start programs in the background without it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        presser = threading.Thread(target=press)
        presser.start()
        try:
            with self.assertRaises(KeyboardInterrupt):
                tap_views.build(
                    "meshes",
                    "interrupted",
                    size=512,
                    rig="sphere:80",
                    backend="cpu",
                    threads=1,
                    progress=lambda event: begun.set() if event["kind"] == "done" else None,
                )
        finally:
            begun.set()
            presser.join()
            signal.signal(signal.SIGINT, before)

    def test_progress_is_told_on_stderr(self):
        said, sys.stderr = sys.stderr, io.StringIO()
        try:
            pathlib.Path("bad/chair").mkdir(parents=True)
            pathlib.Path("bad/chair/nothing.off").write_text("OFF\n0 0 0\n")
            pathlib.Path("bad/chair/good.obj").write_text(MESHES[0].read_text())
            report = tap_views.build("bad", "bad-shards", size=16, num_points=16, progress=True)
            told = sys.stderr.getvalue()
        finally:
            sys.stderr = said
        self.assertEqual(report["num_lost"], 1)
        self.assertEqual(report["skipped"][0]["id"], "chair/nothing")
        self.assertIn("skipped chair/nothing, empty", told)

    def test_settings_that_make_no_sense_are_named(self):
        for error, words, keywords in [
            (ValueError, "num_points", dict(num_points=0)),
            (ValueError, "num_pints", dict(num_pints=3)),
            (ValueError, "sampler", dict(sampler="dice")),
            (ValueError, "layout", dict(layout="heap")),
            (ValueError, "ratios", dict(split_fractions=(0.5, 0.1))),
            (TypeError, "render", dict(render=3)),
        ]:
            with self.subTest(words=words), self.assertRaises(error) as caught:
                tap_views.build("meshes", "never", **keywords)
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(OSError):
            tap_views.build("absent", "never")
        self.assertFalse(pathlib.Path("never").exists())

    def test_relighting_adds_images(self):
        tap_views.build("meshes", "lit", **self.RECIPE)
        report = tap_views.relight("lit", "hemisphere", add="sky")
        self.assertEqual((report["num_rows"], report["num_shards"]), (24, report["num_shards"]))
        own = tap_views.Dataset("lit", shuffle=False)
        sky = tap_views.Dataset("lit", shuffle=False, images="sky")
        self.assertFalse((own[0]["images"] == sky[0]["images"]).all())
        np.testing.assert_array_equal(own[0]["masks"], sky[0]["masks"])
        tap_views.relight("lit", "hemisphere", "lit-again")
        np.testing.assert_array_equal(tap_views.Dataset("lit-again", shuffle=False)[0]["images"], sky[0]["images"])
        with self.assertRaises(TypeError):
            tap_views.relight("lit", "hemisphere")
        with self.assertRaises(ValueError):
            tap_views.relight("lit", "disco", "never")


class Rows(unittest.TestCase):
    ALL = ["id", "label", "points", "normals", "images", "masks", "view_from_object", "clip_from_view", "object_from_mesh",
           "gbuffer_normals", "num_triangles", "source_sha256"]

    def ids(self, *arguments, **keywords):
        return [sample["id"] for sample in tap_views.Dataset("shards", *arguments, columns=["id"], **keywords)]

    def test_rows_are_those_of_the_rust_reader(self):
        dataset = tap_views.Dataset("shards", columns=self.ALL, shuffle=False)
        self.assertEqual(dataset.classes, EXPECTED["classes"])
        self.assertEqual(len(dataset), len(EXPECTED["ids"]))
        for samples in [dataset, [dataset[i] for i in range(len(dataset))]]:
            samples = list(samples)
            self.assertEqual([sample["id"] for sample in samples], EXPECTED["ids"])
            for sample in samples:
                for name, expected in EXPECTED["rows"][sample["id"]].items():
                    found = sample[name]
                    self.assertEqual(sha256(found) if isinstance(found, np.ndarray) else found, expected, name)
        sample = dataset[-1]
        self.assertEqual((sample["images"].dtype, sample["images"].shape), (np.uint8, (12, SIZE, SIZE)))
        self.assertEqual((sample["masks"].dtype, sample["masks"].shape), (bool, (12, SIZE, SIZE)))
        self.assertEqual(sample["points"].shape, (64, 3))
        for index in [len(dataset), -len(dataset) - 1]:
            with self.assertRaises(IndexError):
                dataset[index]
        with self.assertRaises(TypeError):
            dataset["first"]

    def test_an_epoch_has_each_row_once_in_an_order_of_its_own(self):
        dataset = tap_views.Dataset("shards", columns=["id"], seed=3)
        epochs = [[sample["id"] for sample in dataset] for _ in range(3)]
        for epoch in epochs:
            self.assertEqual(sorted(epoch), EXPECTED["ids"])
        self.assertNotEqual(epochs[0], epochs[1])
        self.assertEqual(dataset.epoch, 3)
        dataset.set_epoch(1)
        self.assertEqual([sample["id"] for sample in dataset], epochs[1])
        self.assertEqual(self.ids(seed=3, threads=1), epochs[0])
        self.assertNotEqual(self.ids(seed=4), epochs[0])
        broken_off = tap_views.Dataset("shards", columns=["id"], seed=3)
        next(iter(broken_off))
        self.assertEqual([sample["id"] for sample in broken_off], epochs[0])

    def test_blocks_of_neighbors_come_together(self):
        keywords = dict(shuffle="blocks", block_rows=4, window_blocks=1, seed=3)
        place = {id: i for i, id in enumerate(EXPECTED["ids"])}
        dataset = tap_views.Dataset("shards", columns=["id"], **keywords)
        epochs = [[place[sample["id"]] for sample in dataset] for _ in range(2)]
        for epoch in epochs:
            self.assertEqual(sorted(epoch), list(range(len(place))))
            blocks = [row // 4 for row in epoch]
            changes = sum(a != b for a, b in zip(blocks, blocks[1:]))
            self.assertEqual(changes, len(set(blocks)) - 1, "each block is left once")
        self.assertNotEqual(epochs[0], epochs[1])
        shares = [self.ids(rank=rank, world_size=2, **keywords) for rank in range(2)]
        whole = self.ids(**keywords)
        self.assertEqual(shares, [whole[rank::2] for rank in range(2)])
        for wrong in [dict(shuffle="rows"), dict(shuffle="blocks", block_rows=0)]:
            with self.assertRaises(ValueError):
                tap_views.Dataset("shards", **wrong)

    def test_ranks_share_an_epoch(self):
        whole = self.ids(seed=5)
        shares = [self.ids(seed=5, rank=rank, world_size=4) for rank in range(4)]
        self.assertEqual(shares, [whole[rank::4] for rank in range(4)])
        even = [self.ids(seed=5, rank=rank, world_size=4, drop_uneven=True) for rank in range(4)]
        self.assertEqual({len(share) for share in even}, {len(whole) // 4})
        with self.assertRaises(ValueError):
            self.ids(rank=4, world_size=4)

    def test_a_state_goes_on_exactly(self):
        names = ["id", "images", "points"]
        make = lambda **keywords: tap_views.Dataset("shards", columns=names, views=3, seed=7, **keywords)
        unbroken = make()
        expected = [sample for _ in range(2) for sample in unbroken]
        for taken in [0, 1, 5, len(expected) // 2 - 1, len(expected) // 2, len(expected) - 2]:
            dataset = make(threads=2)
            found = []
            while len(found) < taken:
                for sample in dataset:
                    found.append(sample)
                    if len(found) == taken:
                        break
            state = json.loads(json.dumps(dataset.state_dict()))
            resumed = make(threads=1)
            resumed.load_state_dict(state)
            self.assertEqual(resumed.state_dict(), state)
            resumed = pickle.loads(pickle.dumps(resumed))
            while len(found) < len(expected):
                found.extend(resumed)
            self.assertEqual(len(found), len(expected), taken)
            for a, b in zip(found, expected):
                self.assertEqual(a["id"], b["id"])
                np.testing.assert_array_equal(a["images"], b["images"])
        two = [make(rank=rank, world_size=2) for rank in range(2)]
        taken = [next(iterator)["id"] for dataset in two for iterator in [iter(dataset)]]
        self.assertEqual(two[0].state_dict(), two[1].state_dict())
        three = [make(rank=rank, world_size=3) for rank in range(3)]
        for dataset in three:
            dataset.load_state_dict(two[0].state_dict())
        rest = [sample["id"] for dataset in three for sample in dataset]
        self.assertEqual(sorted(taken + rest), EXPECTED["ids"])
        other = tap_views.Dataset("shards", columns=names, seed=8)
        for state in [two[0].state_dict(), {"epoch": 0}, {}]:
            with self.assertRaises((ValueError, KeyError)):
                other.load_state_dict(state)

    def test_columns_and_conditions(self):
        dataset = tap_views.Dataset("shards", where="category = 'chair' and coverage_min > 0", columns=["label", "masks"])
        self.assertEqual(dataset.columns, ["label", "masks"])
        self.assertEqual(set(dataset[0]), {"label", "masks"})
        self.assertTrue(all(dataset.classes[sample["label"]] == "chair" for sample in dataset))
        self.assertEqual(len(list(dataset)), len(dataset))
        usual = tap_views.Dataset("shards", split="test")[0]
        self.assertNotIn("gbuffer_depth", usual)
        self.assertIn("part_labels", usual)
        depth = tap_views.Dataset("shards", columns=["gbuffer_depth"], views=[2])[0]["gbuffer_depth"]
        self.assertEqual(depth.shape, (1, SIZE, SIZE))
        for error, words, keywords in [
            (ValueError, "no column \"color\"", dict(columns=["color"])),
            (ValueError, "no column \"volume\"", dict(where="volume > 3")),
            (ValueError, "at character", dict(where="category =")),
            (ValueError, "views", dict(views=[12])),
            (ValueError, "views", dict(views=13)),
            (ValueError, "split", dict(split="holdout")),
            (ValueError, "sunset", dict(images="sunset")),
        ]:
            with self.subTest(words=words), self.assertRaises((error, OSError)) as caught:
                tap_views.Dataset("shards", **keywords)
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(tap_views.DatasetError) as caught:
            tap_views.Dataset("absent")
        self.assertIn("absent", str(caught.exception))

    def test_views_are_chosen_or_drawn(self):
        whole = tap_views.Dataset("shards", columns=["images", "view_from_object"])
        some = tap_views.Dataset("shards", columns=["images", "view_from_object"], views=[7, 0])
        np.testing.assert_array_equal(some[3]["images"], whole[3]["images"][[7, 0]])
        drawn = tap_views.Dataset("shards", columns=["id", "images", "view_from_object"], views=6, seed=1)
        draws = []
        for epoch in range(2):
            drawn.set_epoch(epoch)
            sample = next(sample for sample in drawn if sample["id"] == EXPECTED["ids"][0])
            drawn.set_epoch(epoch)
            np.testing.assert_array_equal(drawn[0]["images"], sample["images"])
            order = [int(np.argmin(np.abs(whole[0]["view_from_object"] - view).sum((1, 2)))) for view in sample["view_from_object"]]
            np.testing.assert_array_equal(sample["images"], whole[0]["images"][order])
            self.assertEqual(len(set(order)), 6)
            draws.append(order)
        self.assertNotEqual(*draws)

    def test_several_are_read_as_one_or_mixed(self):
        tap_views.build("meshes", "other", size=SIZE, num_points=64, split_fractions=(0.25, 0.75), backend="cpu")
        both = tap_views.Dataset(["shards", "other"], columns=["id"])
        self.assertEqual(len(both), len(EXPECTED["ids"]) + 6)
        self.assertEqual(len(list(both)), len(both))
        self.assertEqual(both[len(EXPECTED["ids"])]["id"], tap_views.Dataset("other", columns=["id"])[0]["id"])
        mixed = tap_views.Dataset({"shards": 1, "other": 1}, columns=["id"])
        others = {sample["id"] for sample in tap_views.Dataset("other", columns=["id"])}
        self.assertGreaterEqual(sum(sample["id"] in others for sample in mixed), len(both) // 2 - 1)

    def test_a_forked_process_reads_on(self):
        dataset = tap_views.Dataset("shards", columns=["id", "images"], seed=2)
        iterator = iter(dataset)
        next(iterator)
        expected = [sample["id"] for sample in tap_views.Dataset("shards", columns=["id"], seed=2)]
        work = lambda: 0 if [sample["id"] for sample in dataset] == expected else 1
        self.assertEqual(in_child(work), 0)
        self.assertEqual([sample["id"] for sample in iterator], expected[1:])

    def test_a_transform_is_applied(self):
        labels = tap_views.Dataset("shards", columns=["label"], transform=lambda sample: sample["label"] + 100)
        self.assertTrue(all(label >= 100 for label in labels))
        self.assertGreaterEqual(labels[0], 100)


class Pages(unittest.TestCase):
    """The examples of the pages, as they stand there."""

    def run_blocks(self, page, at_least):
        here = os.getcwd()
        os.makedirs("pages", exist_ok=True)
        os.chdir("pages")
        try:
            pathlib.Path("chair.obj").write_bytes((pathlib.Path(here) / MESHES[0]).read_bytes())
            if not os.path.exists("meshes"):
                os.symlink(pathlib.Path(here) / "meshes", "meshes")
            blocks = re.findall(r"```python\n(.*?)```", (pathlib.Path(os.environ["TAP_ROOT"]) / page).read_text(), re.S)
            ours = [block for block in blocks if "import tap_views" in block]
            self.assertGreaterEqual(len(ours), at_least)
            names = {}
            for block in ours:
                with self.subTest(block=block):
                    exec(block, names)
        finally:
            os.chdir(here)

    def test_the_readme_of_the_package(self):
        self.run_blocks("python/README.md", 1)

    def test_the_page_for_whoever_comes_from_another_renderer(self):
        self.run_blocks("docs/from-other-renderers.md", 8)


class Loader(unittest.TestCase):
    """With PyTorch itself where it is installed, else with a module that has what a worker of a DataLoader sees."""

    def test_workers_share_an_epoch(self):
        try:
            import torch.utils.data as data
        except ImportError:
            self.share_with(StandIn)
            return
        dataset = tap_views.Dataset("shards", columns=["id", "images", "masks", "points", "label"], seed=1)
        for num_workers in [0, 2]:
            loader = data.DataLoader(dataset, batch_size=4, num_workers=num_workers)
            ids = [one for batch in loader for one in batch["id"]]
            self.assertEqual(sorted(ids), EXPECTED["ids"])
        batch = next(iter(data.DataLoader(dataset.by_index(), batch_size=4, shuffle=True)))
        self.assertEqual(tuple(batch["images"].shape), (4, 12, SIZE, SIZE))

    def share_with(self, stand_in):
        sys.modules["torch.utils.data"] = stand_in
        try:
            dataset = tap_views.Dataset("shards", columns=["id"], seed=1)
            self.assertIsInstance(dataset, stand_in.IterableDataset)
            whole = [sample["id"] for sample in tap_views.Dataset("shards", columns=["id"], seed=1)]
            for worker in range(3):
                stand_in.worker = (worker, 3)
                self.assertEqual([sample["id"] for sample in pickle.loads(pickle.dumps(dataset))], whole[worker::3])
        finally:
            del sys.modules["torch.utils.data"]


class StandIn:
    import abc

    worker = None

    class IterableDataset(abc.ABC):
        pass

    @classmethod
    def get_worker_info(cls):
        import types

        return cls.worker and types.SimpleNamespace(id=cls.worker[0], num_workers=cls.worker[1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
