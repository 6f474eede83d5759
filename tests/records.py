"""NDArray lists as MXNet of every age wrote them, byte by byte; ours writes the newest records alone."""

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


def listed(arrays: dict[str, bytes]) -> bytes:
    header = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return header + b"".join(arrays.values()) + named(*(name.encode() for name in arrays))


def named(*names: bytes) -> bytes:
    return struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)


WHOLE = {kind: listed({"a.b": record(kind)}) for kind in KINDS}
MIXED = listed({kind: record(kind) for kind in KINDS})
