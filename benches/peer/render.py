"""Times our renderer beside others on this machine, in turn, by CPU time.

    python3 benches/peer/render.py target/release/examples/time_views [--rounds N] [--framing sphere]

Needs numpy, and whichever peers are to be timed: moderngl (with an EGL driver), open3d, and pyrender with OSMesa (libosmesa6,
trimesh, and PyOpenGL 3.1.7 laid over the version that pyrender asks for); with --peers moderngl,open3d,tap_views also ours
through its Python package. Each draws the same twelve
224 x 224 views of the same three meshes with the same matrices, flat normals and a light at the eye, one sample a pixel;
the cost of an object is its set-up (buffers or a search tree) and its twelve views, read back as bytes. Ours is also timed
with four samples and with all channels, which no peer is. The peers are given the cameras; ours finds the framing of each
view, but with --framing sphere, which needs no look at the mesh, so that both begin where the cameras are known.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile

import numpy as np

SIZE = 224
# Triangles: 5.8 k, 69 k, 496 k.
SIDES = {"light": 38, "medium": 131, "heavy": 352}


def bumpy(n):
    """A bumpy ellipsoid of 4 n^2 triangles: vertices, triangles."""
    s, t = np.meshgrid(np.arange(2 * n + 1) / (2 * n), np.arange(n + 1) / n)
    rise, run = np.sin(np.pi * t), np.cos(np.pi * t)
    bumps = 1 + 0.2 * np.sin(6 * np.pi * s) * rise**2 + 0.1 * np.cos(9 * np.pi * t) * rise
    points = np.stack([1.4 * rise * np.sin(2 * np.pi * s), 0.8 * run, rise * np.cos(2 * np.pi * s)], -1)
    points = (points * bumps[..., None]).reshape(-1, 3).astype(np.float32)
    corner = np.add.outer(np.arange(n) * (2 * n + 1), np.arange(2 * n)).ravel()
    right, below = corner + 1, corner + 2 * n + 1
    first = np.stack([corner, below, right], -1)
    second = np.stack([right, below, below + 1], -1)
    return points, np.concatenate([first, second], 1).reshape(-1, 3).astype(np.uint32)


def write_obj(path, points, triangles):
    with open(path, "w") as file:
        file.writelines("v %.7g %.7g %.7g\n" % tuple(point) for point in points)
        file.writelines("f %d %d %d\n" % tuple(triangle) for triangle in triangles + 1)


def ours(program, mesh, backend, samples, channels, framing, repeats):
    """CPU seconds of the process, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [program, mesh, backend, str(samples), channels, framing, str(repeats)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, json.loads(output)


def cpu_seconds():
    times = os.times()
    return times.user + times.system


class Moderngl:
    name = "moderngl"

    def __init__(self):
        import moderngl

        self.context = moderngl.create_context(standalone=True, backend="egl")
        self.context.enable(moderngl.DEPTH_TEST)
        self.program = self.context.program(
            vertex_shader="""#version 330
                uniform mat4 clip_from_object; uniform vec3 eye; in vec3 point; out vec3 to_eye;
                void main() { to_eye = eye - point; gl_Position = clip_from_object * vec4(point, 1.0); }""",
            fragment_shader="""#version 330
                in vec3 to_eye; out float gray;
                void main() {
                    vec3 normal = normalize(cross(dFdx(to_eye), dFdy(to_eye)));
                    gray = 0.3 + 0.6 * abs(dot(normal, normalize(to_eye)));
                }""",
        )
        color = self.context.renderbuffer((SIZE, SIZE), 1)
        self.target = self.context.framebuffer([color], self.context.depth_renderbuffer((SIZE, SIZE)))
        self.target.use()
        self.driver = self.context.info["GL_RENDERER"]

    def draw(self, points, triangles, views):
        vertices, indices = self.context.buffer(points.tobytes()), self.context.buffer(triangles.tobytes())
        array = self.context.vertex_array(self.program, [(vertices, "3f", "point")], indices)
        pictures = []
        for clip_from_object, eye in views:
            # OpenGL's depth runs from -1 to 1.
            gl = clip_from_object.copy()
            gl[2] = 2 * gl[2] - gl[3]
            self.target.clear(1.0, 1.0, 1.0, 1.0)
            self.program["clip_from_object"].write(gl.T.astype("f4").tobytes())
            self.program["eye"].write(eye.astype("f4").tobytes())
            array.render()
            pictures.append(np.frombuffer(self.target.read(components=1), np.uint8).reshape(SIZE, SIZE)[::-1])
        array.release(), vertices.release(), indices.release()
        return pictures


class Open3D:
    name = "Open3D"

    def __init__(self):
        import open3d

        self.open3d = open3d
        self.driver = f"{open3d.__version__}, Embree"

    def draw(self, points, triangles, views):
        core = self.open3d.core
        scene = self.open3d.t.geometry.RaycastingScene()
        scene.add_triangles(core.Tensor(points), core.Tensor(triangles))
        pictures = []
        middle = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
        x, y = np.meshgrid(middle, -middle)
        for clip_from_object, eye in views:
            far = np.stack([x, y, np.ones_like(x), np.ones_like(x)], -1) @ np.linalg.inv(clip_from_object).T
            ray = far[..., :3] / far[..., 3:] - eye
            ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
            rays = np.concatenate([np.broadcast_to(eye, ray.shape), ray], -1).astype(np.float32)
            hit = scene.cast_rays(core.Tensor(rays))
            cosine = np.abs((hit["primitive_normals"].numpy() * ray).sum(-1))
            gray = np.where(np.isfinite(hit["t_hit"].numpy()), 0.3 + 0.6 * cosine, 1.0)
            pictures.append((gray * 255 + 0.5).astype(np.uint8))
        return pictures


class TapViews:
    """Ours through its Python package, which makes and checks a mesh of the arrays, and finds the framing: `pip install ./python`."""

    name = "tap_views, 1 sample"

    def __init__(self, framing):
        import tap_views

        self.renderer = tap_views.Renderer(
            samples=1, channels="color", framing=framing, backend="cpu", threads=1
        )
        self.driver = f"{tap_views.__version__}, {self.renderer.adapter}"

    def draw(self, points, triangles, views):
        return list(self.renderer.render(points, triangles).color)


class Pyrender:
    name = "pyrender"

    def __init__(self):
        os.environ["PYOPENGL_PLATFORM"] = "osmesa"
        import pyrender
        import trimesh
        from OpenGL import GL

        class Camera(pyrender.Camera):
            """A camera of any projection."""

            def get_projection_matrix(self, width=None, height=None):
                return self.matrix

        self.pyrender, self.trimesh, self.camera = pyrender, trimesh, Camera()
        self.renderer = pyrender.OffscreenRenderer(SIZE, SIZE)
        self.renderer._platform.make_current()
        self.driver = f"{pyrender.__version__} on OSMesa, {GL.glGetString(GL.GL_RENDERER).decode()}"

    def draw(self, points, triangles, views):
        mesh = self.trimesh.Trimesh(points, triangles, process=False)
        scene = self.pyrender.Scene(bg_color=[1.0, 1.0, 1.0, 1.0], ambient_light=[0.3] * 3)
        node = scene.add(self.pyrender.Mesh.from_trimesh(mesh, smooth=False))
        camera = scene.add(self.camera)
        light = scene.add(self.pyrender.DirectionalLight(intensity=2.0))
        pictures = []
        for clip_from_object, eye in views:
            pose = pose_of(clip_from_object, eye)
            self.camera.matrix = clip_from_object @ pose
            self.camera.matrix[2] = 2 * self.camera.matrix[2] - self.camera.matrix[3]
            scene.set_pose(camera, pose)
            scene.set_pose(light, pose)
            color, _ = self.renderer.render(scene, self.pyrender.RenderFlags.SKIP_CULL_FACES)
            pictures.append(color[..., 0])
        scene.remove_node(node)
        return pictures


def pose_of(clip_from_object, eye):
    """Where a camera is: object from view, +z towards the viewer."""
    back = -clip_from_object[3, :3] / np.linalg.norm(clip_from_object[3, :3])
    right = clip_from_object[0, :3] - (clip_from_object[0, :3] @ back) * back
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], -1)
    return pose


def eye_of(clip_from_object):
    """Where all rays of a perspective view meet: what has no place in the picture."""
    rows = clip_from_object[[0, 1, 3]]
    return np.linalg.solve(rows[:, :3], -rows[:, 3])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--framing", default="mvcnn", choices=["mvcnn", "box", "sphere"])
    parser.add_argument(
        "--peers",
        default="moderngl,open3d",
        help="pyrender's and moderngl's contexts cannot live in one process: --peers pyrender is a run of its own",
    )
    arguments = parser.parse_args()
    # All on one core: time on two that share their caches is not the same.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peers = []
    known = {"moderngl": Moderngl, "open3d": Open3D, "pyrender": Pyrender, "tap_views": TapViews}
    for make in [known[name] for name in arguments.peers.split(",")]:
        try:
            peers.append(make(arguments.framing) if make is TapViews else make())
        except Exception as error:
            print(f"{make.name} is left out: {error}")
    print("\n".join(f"{peer.name}: {peer.driver}" for peer in peers))
    settings = {
        "cpu, 1 sample": ("cpu", 1, "color"),
        "cpu, 4 samples": ("cpu", 4, "color"),
        "cpu, 4 samples, all channels": ("cpu", 4, "color,mask,depth,normal,albedo,part,material"),
        "wgpu, 1 sample": ("wgpu", 1, "color"),
        "wgpu, 4 samples": ("wgpu", 4, "color"),
    }
    print("CPU ms an object (set-up and 12 views), median of", arguments.rounds)
    for name, side in SIDES.items():
        points, triangles = bumpy(side)
        repeats = max(10, 300_000 // len(triangles))  # CPU time is counted in steps of 10 ms
        with tempfile.TemporaryDirectory() as folder:
            mesh = os.path.join(folder, "mesh.obj")
            write_obj(mesh, points, triangles)
            costs, pictures = {}, {}
            for _ in range(arguments.rounds):
                for setting, values in settings.items():
                    idle, description = ours(arguments.program, mesh, *values, arguments.framing, 0)
                    busy, _ = ours(arguments.program, mesh, *values, arguments.framing, repeats)
                    costs.setdefault(setting, []).append((busy - idle) / repeats)
                object_from_mesh = np.array(description["object_from_mesh"]).reshape(4, 4)
                in_object = (points @ object_from_mesh[:3, :3].T + object_from_mesh[:3, 3]).astype(np.float32)
                matrices = [np.array(matrix).reshape(4, 4) for matrix in description["clip_from_object"]]
                views = [(matrix, eye_of(matrix)) for matrix in matrices]
                for peer in peers:
                    peer.draw(in_object, triangles, views)
                    start = cpu_seconds()
                    for _ in range(repeats):
                        pictures[peer.name] = peer.draw(in_object, triangles, views)
                    costs.setdefault(peer.name, []).append((cpu_seconds() - start) / repeats)
        print(f"\n{name}, {len(triangles)} triangles")
        medians = {what: statistics.median(values) * 1e3 for what, values in costs.items()}
        best = min((medians[peer.name] for peer in peers if peer.name != TapViews.name), default=None)
        for what, cost in medians.items():
            ratio = "" if best is None else f"   best peer / this: {best / cost:5.2f}"
            print(f"  {what:30} {cost:8.2f}{ratio}")
        if len(pictures) == 2:
            first, second = pictures.values()
            off = np.mean([np.mean(np.abs(a.astype(int) - b) > 2) for a, b in zip(first, second)])
            print(f"  peers agree on {100 * (1 - off):.1f} % of pixels")


main()
