"""NDArray lists as written by every MXNet version, byte by byte; our writer uses the newest records only."""

from __future__ import annotations

import struct

import numpy as np

MAGICS = {"V1": 0xF993FAC8, "V2": 0xF993FAC9, "V3": 0xF993FACA}
KINDS = ("legacy", *MAGICS)
VALUES = np.arange(6, dtype="<f4").reshape(2, 3)
HEADER = struct.pack("<QQQ", 0x112, 0, 1)


def record(
    kind: str = "V2",
    shape: tuple[int, ...] = VALUES.shape,
    *,
    type_number: int = 0,
    storage: int = 0,
    data: bytes = VALUES.tobytes(),
) -> bytes:
    if kind == "legacy":
        begin = struct.pack(f"<I{len(shape)}I", len(shape), *shape)
    elif kind == "V1":
        begin = struct.pack(f"<II{len(shape)}q", MAGICS[kind], len(shape), *shape)
    else:
        begin = struct.pack(f"<Iii{len(shape)}q", MAGICS[kind], storage, len(shape), *shape)
    return begin + struct.pack("<iii", 1, 0, type_number) + data


def ndarray_list(arrays: dict[str, bytes]) -> bytes:
    header = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return header + b"".join(arrays.values()) + encode_names(*(name.encode() for name in arrays))


def encode_names(*names: bytes) -> bytes:
    return struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)


ENCODED = {kind: ndarray_list({"a.b": record(kind)}) for kind in KINDS}
MIXED = ndarray_list({kind: record(kind) for kind in KINDS})
