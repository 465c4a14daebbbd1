"""Types of the compiled half of the package. Shapes: V views, H = W pixels, N points or vertices, M faces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Optional, Union, overload

import numpy as np
import numpy.typing as npt

__version__: str

Path = Union[str, PathLike[str]]
Mesh = Any
"""A path; (vertices, faces); points; or an object with `vertices` and `faces` or `triangles`, or with `points`."""
Rig = Union[str, PathLike[str], Sequence[Union[Sequence[float], Mapping[str, float]]]]
"""A name, a JSON file, or poses: (azimuth, elevation) or (azimuth, elevation, roll) in degrees."""
Lighting = Union[str, Mapping[str, Any]]
Progress = Union[None, bool, Callable[[dict[str, Any]], object]]

class MeshError(ValueError):
    """A mesh that can't be rendered."""

    reason: str
    """A code, one of docs/formats.md, "Skip reasons"."""

class RenderError(RuntimeError):
    """No device can render, or it has failed."""

class DatasetError(ValueError):
    """A data set that is damaged or incomplete, or has not what is asked for; a folder that can't become one."""

class Views:
    """Views of a mesh, all of the same size. Channels that were not asked for are None."""

    @property
    def color(self) -> Optional[npt.NDArray[np.uint8]]:
        """[V, H, W] where the lighting is gray, [V, H, W, 3] where it has colors or with rgb=True."""
    @property
    def mask(self) -> Optional[npt.NDArray[np.bool_]]:
        """[V, H, W]."""
    @property
    def depth(self) -> Optional[npt.NDArray[np.float32]]:
        """[V, H, W], -z in view space; infinite outside of the mask."""
    @property
    def normal(self) -> Optional[npt.NDArray[np.float32]]:
        """[V, H, W, 3], in view space; zero outside of the mask."""
    @property
    def albedo(self) -> Optional[npt.NDArray[np.uint8]]:
        """[V, H, W, 3]."""
    @property
    def part(self) -> Optional[npt.NDArray[np.uint16]]:
        """[V, H, W], indices into `parts`; 65535 outside of the mask."""
    @property
    def material(self) -> Optional[npt.NDArray[np.uint16]]:
        """[V, H, W], indices into `materials`; 65535 outside of the mask."""
    @property
    def view_from_object(self) -> npt.NDArray[np.float32]:
        """[V, 4, 4], rigid; view space is +x right, +y up, +z toward the viewer."""
    @property
    def clip_from_view(self) -> npt.NDArray[np.float32]:
        """[V, 4, 4], projection with framing; depth from 0 (near) to 1."""
    @property
    def object_from_mesh(self) -> npt.NDArray[np.float64]:
        """[4, 4], from the mesh's coordinates."""
    @property
    def angles_deg(self) -> npt.NDArray[np.float64]:
        """[V, 3]: azimuth, elevation, roll."""
    @property
    def parts(self) -> list[str]: ...
    @property
    def materials(self) -> list[str]: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def adapter(self) -> str: ...
    @property
    def num_views(self) -> int: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...

def render(
    mesh: Mesh,
    faces: Optional[npt.ArrayLike] = None,
    *,
    vertex_colors: Optional[npt.ArrayLike] = None,
    face_colors: Optional[npt.ArrayLike] = None,
    rig: Rig = "mvcnn12",
    lighting: Lighting = "mvcnn",
    framing: Literal["mvcnn", "box", "sphere"] = "mvcnn",
    projection: str = "perspective",
    size: int = 224,
    samples: Literal[1, 4, 16, 64] = 4,
    channels: Union[str, Sequence[str]] = ("color", "mask"),
    up: Literal["y", "z"] = "y",
    rgb: bool = False,
    backend: Literal["auto", "cpu", "wgpu"] = "auto",
    adapter: str = "auto",
    threads: int = 0,
) -> Views:
    """Renders the views of a mesh, headless."""

class Renderer:
    """Draws the views of meshes and keeps its buffers between them. Several threads may use one."""

    def __init__(
        self,
        *,
        rig: Rig = "mvcnn12",
        lighting: Lighting = "mvcnn",
        framing: Literal["mvcnn", "box", "sphere"] = "mvcnn",
        projection: str = "perspective",
        size: int = 224,
        samples: Literal[1, 4, 16, 64] = 4,
        channels: Union[str, Sequence[str]] = ("color", "mask"),
        up: Literal["y", "z"] = "y",
        rgb: bool = False,
        backend: Literal["auto", "cpu", "wgpu"] = "auto",
        adapter: str = "auto",
        threads: int = 0,
    ) -> None: ...
    def render(
        self,
        mesh: Mesh,
        faces: Optional[npt.ArrayLike] = None,
        *,
        vertex_colors: Optional[npt.ArrayLike] = None,
        face_colors: Optional[npt.ArrayLike] = None,
    ) -> Views: ...
    @property
    def adapter(self) -> str: ...

def adapters() -> list[str]:
    """What can render on this machine, in the order in which backend="auto" prefers it."""

def build(
    src: Path,
    out: Path,
    *,
    layout: str = "auto",
    splits: Optional[Path] = None,
    split_fractions: Optional[Sequence[float]] = None,
    split_seed: int = 0,
    render: Optional[Mapping[str, Any]] = None,
    rig: Rig = "mvcnn12",
    lighting: Lighting = "mvcnn",
    framing: Literal["mvcnn", "box", "sphere"] = "mvcnn",
    projection: str = "perspective",
    size: int = 224,
    samples: Literal[1, 4, 16, 64] = 4,
    views: bool = True,
    normals: bool = True,
    mesh_stats: bool = True,
    gbuffer: bool = False,
    num_points: int = 1024,
    sampler: Literal["poisson", "uniform", "fps"] = "poisson",
    seed: int = 0,
    up: Literal["y", "z"] = "y",
    normalization: Literal["points", "bounding-box", "surface"] = "points",
    rows_per_shard: int = 128,
    max_objects_in_manifest: int = 65536,
    min_coverage: float = 0.0,
    threads: int = 0,
    backend: Literal["auto", "cpu", "wgpu"] = "auto",
    adapter: str = "auto",
    part: Optional[str] = None,
    force: bool = False,
    progress: Progress = None,
) -> dict[str, Any]:
    """Builds a data set from meshes, as `tap dataset build` does."""

def begin_build(src: Path, out: Path, **keywords: Any) -> dict[str, Any]:
    """Begins a build that several machines share, with the arguments of `build`, as `tap dataset begin` does."""

def build_unit(
    dir: Path,
    *,
    shards: Optional[str] = None,
    unit: Optional[str] = None,
    source: Optional[Path] = None,
    threads: int = 0,
    backend: Literal["auto", "cpu", "wgpu"] = "auto",
    adapter: str = "auto",
    trial: Optional[Sequence[str]] = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Builds some shards of a build that was begun, as `tap dataset unit` does."""

def try_unit(dir: Path, **keywords: Any) -> None:
    """Tries the objects that standard input names."""

def build_status(dir: Path) -> dict[str, Any]:
    """How far a build is, as `tap dataset status` says."""

def finish_build(dir: Path) -> dict[str, Any]:
    """Writes the manifest of a build whose shards are all there, as `tap dataset finish` does."""

@overload
def relight(
    dir: Path,
    lighting: Lighting,
    out: Path,
    *,
    meshes: Optional[Path] = None,
    threads: int = 0,
    backend: Literal["auto", "cpu", "wgpu"] = "auto",
    adapter: str = "auto",
    force: bool = False,
    progress: Progress = None,
) -> dict[str, Any]:
    """Relights a data set, as `tap dataset relight` does."""

@overload
def relight(
    dir: Path, lighting: Lighting, *, add: str, threads: int = 0, force: bool = False, progress: Progress = None
) -> dict[str, Any]:
    """Adds an image set under another lighting."""

class Rows:
    def __init__(
        self,
        sets: Sequence[tuple[Path, Optional[float]]],
        split: str,
        condition: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        views: Union[None, int, Sequence[int]] = None,
        images: Optional[str] = None,
        seed: int = 0,
    ) -> None: ...
    def __len__(self) -> int: ...
    def row(self, place: int, epoch: int) -> dict[str, Any]: ...
    def stream(
        self,
        *,
        is_shuffled: bool,
        blocks: Optional[tuple[int, int]],
        rank: int,
        num_ranks: int,
        is_even: bool,
        threads: int,
        read_ahead_bytes: int,
    ) -> RowStream: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def parts(self) -> list[tuple[str, str]]: ...

class RowStream(Iterator[dict[str, Any]]):
    def __next__(self) -> dict[str, Any]: ...
    def is_of(self, rank: int, num_ranks: int) -> bool: ...
    def go_to(self, epoch: int, state: Optional[str] = None) -> None: ...
    @property
    def epoch(self) -> int: ...
    def state(self) -> str: ...
