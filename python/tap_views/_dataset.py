"""`Dataset`: rows of shards by index, and as an iterable that loaders of PyTorch share among their workers."""

from __future__ import annotations

import importlib
import json
import operator
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional, Union

from . import _native

Path = Union[str, "os.PathLike[str]"]
Sample = dict


class Dataset:
    """Samples of a data set as dicts of arrays: images decoded, masks unpacked.

    path: a folder of shards, or an address (s3://...) where the package was built with object stores. Several, as a list, are
        read as one; as a dict of path and weight they are mixed: a weight is a data set's share of the samples.
    split: train, val or test.
    where: a condition of SQL on the small columns, such as "category = 'chair' and coverage_min > 0.02".
    columns: which ones; without, id, category, label, points, normals, part_labels (of data sets with parts), images, masks,
        view_from_object, clip_from_view, object_from_mesh, as far as the data set has them. No other is read.
    views: all; numbers of views, in this order; or how many are drawn anew each epoch, by seed, epoch and id.
    images: the name of an image set, to have those in place of the rows' own.
    shuffle, seed: a new order of all rows each epoch, a function of (seed, epoch). Without shuffle, that of the shards. With
        shuffle="blocks", blocks of block_rows neighbors are shuffled, and then the rows of each window_blocks blocks that
        follow each other: for disks and stores that are slow to seek, since each row group is read about once an epoch.
    rank, world_size: of the processes that share an epoch. drop_uneven leaves out up to world_size - 1 samples of an epoch,
        so that all ranks have as many.
    threads: read and decode ahead; 0 for one per core. read_ahead_bytes: bound on what waits to be taken.
    transform: called with each sample.

    By index (`dataset[i]`, `len(dataset)`) the rows come in the order of the shards, whatever rank and shuffle say.

    Iterating gives the samples of this rank's share of an epoch, each exactly once. The next iteration is the next epoch; one
    that was broken off begins again. `set_epoch`, `state_dict` and `load_state_dict` choose where the next one begins.

    To PyTorch's DataLoader it is an IterableDataset, if torch was imported before it was made: workers take shares of a
    rank's share. Since threads read ahead here, none are needed. A DataLoader copies the data set to its workers, so with
    workers call `set_epoch` before each epoch, and have torchdata's StatefulDataLoader keep the state. For a sampler of one's
    own, `dataset.by_index()` is not iterable.

    Shapes, with N points, V views, and H = W pixels: points and normals float32 [N, 3], part_labels uint8 [N], images uint8
    [V, H, W] or [V, H, W, 3], masks bool [V, H, W], view_from_object and clip_from_view float32 [V, 4, 4], object_from_mesh
    float32 [4, 4], gbuffer_normals float32 [V, H, W, 3], gbuffer_depth float64 [V, H, W], gbuffer_albedo uint8 [V, H, W, 3];
    the others are numbers and texts, or None.
    """

    def __init__(
        self,
        path: Union[Path, Iterable[Path], Mapping[Path, float]],
        split: str = "train",
        *,
        where: Optional[str] = None,
        columns: Optional[Iterable[str]] = None,
        views: Union[None, int, Iterable[int]] = None,
        images: Optional[str] = None,
        shuffle: Union[bool, str] = True,
        seed: int = 0,
        block_rows: int = 64,
        window_blocks: int = 16,
        rank: int = 0,
        world_size: int = 1,
        drop_uneven: bool = False,
        threads: int = 0,
        read_ahead_bytes: int = 64 << 20,
        transform: Optional[Callable[[Sample], Any]] = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}: ranks are counted from 0")
        if shuffle not in (True, False, "blocks"):
            raise ValueError(f"shuffle={shuffle!r}: expected True, False or 'blocks'")
        if not 0 < block_rows < 1 << 32 or not 0 < window_blocks < 1 << 32:
            raise ValueError(f"block_rows={block_rows}, window_blocks={window_blocks}: at least 1, and below 2^32")
        self._sets = _sets(path)
        self._arguments = dict(
            split=split,
            condition=where,
            columns=None if columns is None else _texts(columns),
            views=views if views is None else _views(views),
            images=images,
            seed=seed,
        )
        self.shuffle = shuffle
        self._blocks = (operator.index(block_rows), operator.index(window_blocks))
        self.rank, self.world_size, self.drop_uneven = rank, world_size, drop_uneven
        self.threads, self.read_ahead_bytes = threads, read_ahead_bytes
        self.transform = transform
        self._epoch = 0
        self._resumed: Optional[str] = None
        self._stream: Optional[_native.RowStream] = None
        self._idle: Optional[_native.RowStream] = None
        self._rows = _native.Rows(self._sets, **self._arguments)
        _as_torch_has_it(self)

    @property
    def columns(self) -> list:
        """Names of the columns that are read."""
        return self._rows.columns

    @property
    def classes(self) -> list:
        """Class names; `label` is an index into them."""
        return self._rows.classes

    @property
    def parts(self) -> list:
        """Pairs of category and name; `part_labels` are indices into them."""
        return self._rows.parts

    @property
    def epoch(self) -> int:
        """The epoch that is iterated over, or that comes next."""
        return self._epoch if self._stream is None else json.loads(self._stream.state())["epoch"]

    def __len__(self) -> int:
        """Rows of which the condition is true, of all ranks together."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        index = operator.index(index)
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._made(self._rows.row(place, self._epoch))

    def __iter__(self) -> Iterator[Any]:
        worker, num_workers = _worker_of_torch()
        stream = self._open(self.rank * num_workers + worker, self.world_size * num_workers, self._resumed)
        self._stream, self._resumed = stream, None
        return self._iterate(stream)

    def _iterate(self, stream: _native.RowStream) -> Iterator[Any]:
        for sample in stream:
            yield self._made(sample)
        if self._stream is stream:
            self._epoch = stream.epoch + 1
            self._stream, self._idle = None, stream

    def _open(self, rank: int, num_ranks: int, state: Optional[str]) -> _native.RowStream:
        """A stream at a state, or else at the beginning of the next epoch. One that is not in use any more is taken again."""
        stream, self._idle = self._idle, None
        if stream is None or not stream.is_of(rank, num_ranks):
            stream = self._rows.stream(
                is_shuffled=bool(self.shuffle),
                blocks=self._blocks if self.shuffle == "blocks" else None,
                rank=rank,
                num_ranks=num_ranks,
                is_even=self.drop_uneven,
                threads=self.threads,
                read_ahead_bytes=self.read_ahead_bytes,
            )
        stream.go_to(self._epoch, state)
        return stream

    def _made(self, sample: Sample) -> Any:
        return sample if self.transform is None else self.transform(sample)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its first sample."""
        self._epoch, self._resumed, self._stream = operator.index(epoch), None, None

    def state_dict(self) -> dict:
        """Where the iteration is, between two samples. All ranks that have taken as many samples have the same state, and any
        number of ranks and workers goes on from it, no sample twice and none left out."""
        return json.loads(self._state())

    def load_state_dict(self, state: Mapping) -> None:
        """The next iteration goes on from a state. ValueError where it is of other data, another condition or seed."""
        resumed = json.dumps(dict(state))
        stream = self._open(self.rank, self.world_size, resumed)
        self._epoch, self._resumed = stream.epoch, resumed
        self._stream, self._idle = None, stream

    def _state(self) -> str:
        if self._stream is not None:
            return self._stream.state()
        if self._resumed is not None:
            return self._resumed
        self._idle = self._open(self.rank, self.world_size, None)
        return self._idle.state()

    def by_index(self) -> "IndexedDataset":
        """The same rows without an order of their own, for a DataLoader with a sampler or shuffle=True."""
        return IndexedDataset(self)

    def __getstate__(self) -> dict:
        state = {**self.__dict__, "_resumed": self._state() if self._is_amid() else None}
        del state["_rows"], state["_stream"], state["_idle"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _stream=None, _idle=None)
        self._rows = _native.Rows(self._sets, **self._arguments)
        _as_torch_has_it(self)

    def _is_amid(self) -> bool:
        return self._stream is not None or self._resumed is not None

    def __repr__(self) -> str:
        paths = ", ".join(str(path) for path, _ in self._sets)
        return f"<Dataset: {len(self)} rows of {self._arguments['split']}, {paths}>"


class IndexedDataset:
    """Rows by index: what PyTorch calls a map-style data set."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]


def _sets(path) -> list:
    if isinstance(path, Mapping):
        return [(os.fspath(one), float(weight)) for one, weight in path.items()]
    if isinstance(path, (str, os.PathLike)):
        return [(os.fspath(path), None)]
    return [(os.fspath(one), None) for one in path]


def _texts(columns: Iterable[str]) -> list:
    return [columns] if isinstance(columns, str) else list(columns)


def _views(views):
    try:
        return operator.index(views)
    except TypeError:
        return [operator.index(view) for view in views]


def _worker_of_torch() -> tuple:
    """Number of this worker of a DataLoader, and how many there are. Without PyTorch there are none."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (info.id, info.num_workers)


def _as_torch_has_it(dataset: Dataset) -> None:
    """To a DataLoader, `Dataset` is an IterableDataset. PyTorch is not imported for that: whoever makes a loader has it."""
    if "torch.utils.data" not in sys.modules:
        return
    if type(dataset) is Dataset:
        dataset.__class__ = __getattr__("TorchDataset")
        return
    iterable = sys.modules["torch.utils.data"].IterableDataset
    # Of a class that somebody else derived; not every PyTorch can be told.
    if not isinstance(dataset, iterable) and hasattr(iterable, "register"):
        iterable.register(type(dataset))


def __getattr__(name: str) -> Any:
    """`TorchDataset`, made when it is asked for, here or in a worker that is sent one."""
    if name != "TorchDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in globals():
        iterable = importlib.import_module("torch.utils.data").IterableDataset

        class TorchDataset(Dataset, iterable):
            __doc__ = Dataset.__doc__

        TorchDataset.__qualname__ = name
        globals()[name] = TorchDataset
    return globals()[name]
