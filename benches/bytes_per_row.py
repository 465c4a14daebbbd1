"""Bytes of a row beside the least that its content takes. Needs pyarrow.

    python3 benches/bytes_per_row.py SHARDS...

The least: the PNGs as they are, four bytes a number of points, normals and matrices, and masks as they compress. What a
shard takes beyond it is ids, scalars, page headers and the footer.
"""

import pathlib
import sys

import pyarrow.parquet as pq

PNGS = ["images", "gbuffer_normals", "gbuffer_depth", "gbuffer_albedo"]
NUMBERS = ["points", "normals", "view_from_object", "clip_from_view", "object_from_mesh"]


def num_floats(column):
    """Of all rows together."""
    while hasattr(column, "flatten") and str(column.type).startswith(("fixed_size_list", "list")):
        column = column.combine_chunks().flatten() if hasattr(column, "combine_chunks") else column.flatten()
    return len(column)


def png_bytes(column):
    pngs = (png for row in column.to_pylist() for png in row)
    return sum(len(png["bytes"] if isinstance(png, dict) else png) for png in pngs)


def compressed_bytes(metadata, root):
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    chunks = (group.column(idx) for group in groups for idx in range(metadata.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] == root)


for folder in map(pathlib.Path, sys.argv[1:]):
    num_rows, found, parts = 0, 0, {}
    for shard in sorted(folder.glob("*.parquet")):
        table, metadata = pq.read_table(shard), pq.read_metadata(shard)
        num_rows += table.num_rows
        found += shard.stat().st_size
        for name in table.column_names:
            if name in PNGS:
                parts[name] = parts.get(name, 0) + png_bytes(table[name])
            elif name in NUMBERS:
                parts[name] = parts.get(name, 0) + 4 * num_floats(table[name])
            elif name == "masks":
                parts[name] = parts.get(name, 0) + compressed_bytes(metadata, name)
    least = sum(parts.values())
    print(f"{folder}: {num_rows} rows, {found / num_rows:.0f} bytes a row, least {least / num_rows:.0f}, {found / least:.4f}")
    for name, size in parts.items():
        print(f"    {name}: {size / num_rows:.0f}")
