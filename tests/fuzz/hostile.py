"""Files that declare far more than they hold, or are expensive to read: all must be refused."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING

import numpy as np
from fuzz import seeds
from records import HEADER, MAGICS, encode_names, ndarray_list, record

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 10_000
HUGE = 1 << 40
ZEROS = bytes(100 << 20)
CENTRAL = b"PK\x01\x02"


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def with_declared_sizes(archive: bytes, size: int) -> bytes:
    """Return a zip whose last member declares another size, packed and unpacked."""
    place = archive.rindex(CENTRAL) + 20
    return archive[:place] + struct.pack("<II", size, size) + archive[place + 8 :]


def npy(shape: str, data: bytes = bytes(24)) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def pth(pickled: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    return zipped(("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/version", b"3\n"), method=method)


def legacy(pickled: bytes) -> bytes:
    """Return a checkpoint by torch before 1.6, whose first pickle is a number that marks it."""
    return b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}." + pickled


def two_directories(followed: bytes, counted: bytes) -> bytes:
    """Return a zip with two directories: one found by the offset, one by the size."""
    end = followed.rindex(b"PK\x05\x06")
    return followed[:end] + counted[:-6] + followed[-6:]


def doubled(count: int) -> bytes:
    """Return a pickle of a dictionary whose key nests doubled tuples, and so grows exponentially."""
    return b"\x80\x02]K\x01\x85q\x01a" + b"h\x01h\x01\x86q\x01a" * count + b"}h\x01K\x00s."


def nested(count: int) -> bytes:
    """Return a pickle of a dictionary whose key is a deeply nested tuple."""
    return b"\x80\x02}K\x01" + b"\x85" * count + b"K\x00s."


def legacy_storage() -> bytes:
    """Return a file in torch's format before 1.6, whose tensor of 7 numbers declares 2^40."""
    import torch  # noqa: PLC0415 - as in seeds

    stream = io.BytesIO()
    torch.save({"w": torch.zeros(7)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue().replace(b"K\x07", b"\x8a\x06" + HUGE.to_bytes(6, "little"))


def packed_storage() -> bytes:
    """Return a ``.pth`` whose storage is compressed a thousandfold."""
    with zipfile.ZipFile(io.BytesIO(seeds.pths()[0])) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    return zipped(
        *((name, ZEROS if name.endswith("/data/0") else content) for name, content in members),
        method=zipfile.ZIP_DEFLATED,
    )


def overlapping() -> bytes:
    """Return a ``.pth`` whose directory lists one member a thousand times."""
    content = zipped(("a/data.pkl", bytes(1 << 16)))
    begin = content.index(CENTRAL)
    entry = content[begin : content.rindex(b"PK\x05\x06")]
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1000, 1000, 1000 * len(entry), begin, 0)
    return content[:begin] + entry * 1000 + end


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def graph(attributes: int, inputs: int) -> bytes:
    """Return a graph with a node of many attributes that another node reads many times."""
    node = {"op": "Activation", "name": "r", "attrs": {str(i): "" for i in range(attributes)}, "inputs": []}
    nodes = [node, {"op": "Convolution", "name": "c", "inputs": [[0, 0, 0]] * inputs}]
    return json.dumps({"nodes": nodes, "heads": [[0, 0, 0]] * inputs}).encode()


def operator(name: str, inputs: int = 1, **attributes: str) -> bytes:
    """Return a graph of one operator, all inputs of which are the same."""
    node = {"op": name, "name": "y", "attrs": attributes, "inputs": [[0, 0, 0]] * inputs}
    data = {"op": "null", "name": "x", "inputs": []}
    return json.dumps({"nodes": [data, node], "heads": [[1, 0, 0]]}).encode()


def chain(count: int) -> bytes:
    """Return a chain of operators, the last of which is unknown."""
    nodes: list[dict[str, object]] = [{"op": "null", "name": "x", "inputs": []}]
    nodes += [{"op": "relu", "name": "x", "inputs": [[at, 0]]} for at in range(count)]
    nodes.append({"op": "Custom", "name": "x", "inputs": [[count, 0]]})
    return json.dumps({"nodes": nodes, "heads": [[count + 1, 0]]}).encode()


def arrays(name: Callable[[int], str], count: int = MANY) -> bytes:
    one = np.ones(1, np.float32)
    return seeds.params_bytes({name(number): one for number in range(count)})


def table(before: int, lines: int, roles: int) -> bytes:
    """Return a mapping that expands to ``before`` × ``lines`` layers of ``roles`` tensors each."""
    text = seeds.TABLE.replace(b'["stem"]', b"[" + b'"stem",' * before + b"]")
    text = text.replace(
        b"[kinds.batchnorm]", b"".join(b'r%d = "r%d"\n' % (i, i) for i in range(roles)) + b"[kinds.batchnorm]"
    )
    stem = b"".join(b'"x%d" = ["y%d", "conv"]\n' % (i, i) for i in range(lines))
    return text.replace(b"[parts.block]", stem + b"[parts.block]")


LISTS = b"[" + b"[]," * 1_000_000 + b"[]]"
HOSTILE: dict[str, dict[str, Callable[[], bytes]]] = {
    "ndarray-list": {
        "count": lambda: struct.pack("<QQQ", 0x112, 0, HUGE),
        "count that just could be": lambda: struct.pack("<QQQ", 0x112, 0, 99_999) + bytes(21 * 99_999),
        "shape": lambda: ndarray_list({"a": record(shape=(HUGE, HUGE))}),
        "shape of 32 dimensions": lambda: ndarray_list({"a": record(shape=(2**62,) * 32)}),
        "dimensions": lambda: HEADER + struct.pack("<Iii", MAGICS["V2"], 0, 2**31 - 1),
        "length of a name": lambda: ndarray_list({"a": record()})[:-9] + struct.pack("<Q", HUGE) + b"a",
        "count of names": lambda: HEADER + record() + struct.pack("<Q", HUGE) + encode_names(b"a")[8:],
    },
    "npz": {
        "shape": lambda: zipped(("w.npy", npy(f"({HUGE}, {HUGE})"))),
        "shape of many digits": lambda: zipped(("w.npy", npy(f"(0x{'f' * 5000},)"))),
        "size": lambda: with_declared_sizes(zipped(("w.npy", npy("(6,)"))), 2**32 - 2),
        "size of what is deflated": lambda: with_declared_sizes(
            zipped(("w.npy", npy("(6,)")), method=zipfile.ZIP_DEFLATED), 2**32 - 2
        ),
        "bomb": lambda: zipped(("w.npy", npy("(26214400,)", ZEROS)), method=zipfile.ZIP_DEFLATED),
        "bomb that says less": lambda: with_declared_sizes(
            zipped(("w.npy", ZEROS), method=zipfile.ZIP_DEFLATED), 1 << 16
        ),
    },
    "gzip": {
        "bomb": lambda: gzip.compress(ZEROS, 1),
        "bomb of bombs": lambda: gzip.compress(gzip.compress(ZEROS)),
    },
    "zip": {
        "bomb": lambda: zipped(("a.params", ZEROS), method=zipfile.ZIP_DEFLATED),
        "bomb that says less": lambda: with_declared_sizes(
            zipped(("a.params", ZEROS), method=zipfile.ZIP_DEFLATED), 1 << 16
        ),
        "size": lambda: with_declared_sizes(zipped(("a.params", b"")), 2**32 - 2),
        "an npz": lambda: zipped(("a.params", seeds.npzs()[0]), ("b.params", b"")),
    },
    "safetensors": {
        "length": lambda: header(b"{}", 2**63),
        "length that just could be": lambda: header(b"{}", 99_999_999),
        "shape": lambda: header(
            b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
        ),
        "shape of nothing": lambda: header(
            b'{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'
        ),
        "depth": lambda: header(b'{"a":' * 100_000),
    },
    "pth": {
        "tuples doubled": lambda: pth(doubled(100)),
        "tuples doubled, legacy": lambda: doubled(100),
        "tuples nested": lambda: pth(nested(1_000_000)),
        "storage": legacy_storage,
        "storage compressed": packed_storage,
        "one member many times": overlapping,
        "text": lambda: b"\x80\x02X\xff\xff\xff\xffa.",
        "size": lambda: with_declared_sizes(seeds.pths()[0], 2**32 - 2),
    },
    "symbol": {
        "depth": lambda: b'{"nodes":' + b"[" * 1_000_000,
        "lists": lambda: b'{"nodes":' + LISTS + b"}",
        "attributes times inputs": lambda: graph(20_000, 20_000),
        "number": lambda: b'{"nodes":[{"op":' + b"9" * 100_000 + b"}]}",
    },
    "code": {
        "outputs": lambda: operator("SliceChannel", num_outputs="200000000"),
        "negative outputs": lambda: operator("SliceChannel", num_outputs="-200000000"),
        "axis": lambda: operator("slice_axis", axis="200000000", begin="0", end="1"),
        "axes": lambda: operator("slice_like", inputs=2, axes="(0, 200000000)"),
        "size": lambda: operator("tile", reps="(1000000, 1000000)"),
        "terms": lambda: operator("add_n", inputs=300_000),
        "depth": lambda: chain(10_000),
        "joins": lambda: graph(0, 20_000),
    },
    "mapping": {
        "depth": lambda: b"a=" + b"[" * 60_000,
        "dotted": lambda: b"a" + b".a" * 20_000 + b"=1",
        "layers": lambda: table(before=2000, lines=1000, roles=0),
        "tensors": lambda: table(before=90, lines=1000, roles=1000),
        "size": lambda: b"#" * (1 << 24),
    },
    "catalog": {"depth": lambda: b"a=" + b"[" * 60_000, "size": lambda: b"#" * (1 << 24)},
    "labels": {"size": lambda: b"a\n" * (1 << 22), "lines": lambda: b"a\n" * (1 << 20)},
    "labels-json": {"depth": lambda: b"[" * 1_000_000, "lists": lambda: LISTS},
    "manifest": {
        "depth": lambda: b'{"narrowing":' + b'{"a":' * 500_000,
        "lists": lambda: b'{"narrowing":{"a":' + LISTS + b"}}",
    },
    "stages": {
        "names on a diagonal": lambda: arrays(lambda number: f"a.{number}.{number}.b", 4 * MANY),
        "names that count": lambda: arrays(lambda number: f"conv{number}_weight"),
        "names in scopes": lambda: arrays(lambda number: f"stage{number}_conv0_weight"),
        "names of 500 characters": lambda: arrays(lambda number: f"{number}.".ljust(500, "x")),
        "names of all but dots": lambda: arrays(lambda number: f"{number}_" + "conv0_" * 30),
        "names of other writing": lambda: arrays(lambda number: f"\u202e\n{number}\U0001f525.\0"),
    },
}
