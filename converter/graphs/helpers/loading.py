"""Reads safetensors with torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


def read_safetensors(path: str, names: list[str]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, those of 16 bits as float32.

    Args:
        path: the file.
        names: the names of the tensors that it may contain.
    """
    types = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
    }
    state = {}
    with open(path, "rb") as file:  # noqa: PTH123 - generated modules import torch alone
        header = file.read(int.from_bytes(file.read(8), "little")).decode()
        start = file.tell()
        for name in names:
            entry = header.partition(f'"{name}":{{')[2].partition("}")[0]
            if not entry:
                continue
            dtype, shape, offsets = (
                entry.partition(f'"{key}":')[2].lstrip('["').partition(end)[0]
                for key, end in (("dtype", '"'), ("shape", "]"), ("data_offsets", "]"))
            )
            begin, end = map(int, offsets.split(","))
            file.seek(start + begin)
            data = bytearray(file.read(end - begin))
            flat = torch.frombuffer(data, dtype=types[dtype])
            flat = flat.float() if dtype in {"F16", "BF16"} else flat
            sizes = [int(size) for size in shape.split(",") if size]
            state[name] = flat.reshape(sizes)
    if header.count('"data_offsets":') != len(state):
        raise ValueError(f"{path}: tensors of another network")
    return state
