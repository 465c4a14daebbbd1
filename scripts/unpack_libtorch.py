"""Lays the part of PyTorch's wheels that a CPU needs as a libtorch folder: unpack_libtorch.py WHEELS OUT."""

from __future__ import annotations

import pathlib
import shutil
import sys
import zipfile

LIBRARIES = {"libc10.so", "libgomp.so.1", "libtorch_cpu.so", "libcudart.so.13", "libcupti.so.13"}
# The wheel's own libtorch.so would ask for every CUDA library; the linker reads this in its place.
LIBTORCH_SO = "/* GNU ld script: a CPU needs libtorch_cpu alone. */\nINPUT(libtorch_cpu.so)\n"


def place(member: str) -> pathlib.PurePosixPath | None:
    """Where a wheel's member goes, if it is wanted."""
    path = pathlib.PurePosixPath(member)
    if path.parts[:2] == ("torch", "include"):
        return pathlib.PurePosixPath(*path.parts[1:])
    if path.parent.name == "lib" and path.name in LIBRARIES:
        return pathlib.PurePosixPath("lib", path.name)
    return None


def main(wheels: pathlib.Path, out: pathlib.Path) -> None:
    missing = set(LIBRARIES)
    version = None
    for wheel in sorted(wheels.glob("*.whl")):
        if wheel.name.startswith("torch-"):
            version = wheel.name.split("-")[1].split("+")[0]
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                target = place(member.filename)
                if target is None or member.is_dir():
                    continue
                missing.discard(target.name)
                path = out.joinpath(target)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as destination:
                    shutil.copyfileobj(source, destination, 1 << 20)
    if missing or version is None:
        sys.exit(f"the wheels lack {', '.join(sorted(missing)) or 'torch'}")
    (out / "lib" / "libtorch.so").write_text(LIBTORCH_SO)
    (out / "build-version").write_text(version + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
