"""Small valid files of every kind that is read, made by our own writers where possible."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from operator_cases import CASES
from records import ENCODED, MIXED, ndarray_list, record

from converter.dtypes import BFLOAT16
from converter.formats import artifact
from converter.formats.params import write_params
from converter.graphs import operators
from converter.sources.partial import ResumeInfo

ARRAYS = {
    "features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "features.1.gamma": np.ones(2, np.float16),
    "features.1.running_var": np.ones(1, np.float64),
}
STATE = {
    "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn1.weight": np.ones(2).astype(BFLOAT16),
    "bn1.num_batches_tracked": np.zeros((), np.int64),
}
MAPPINGS = sorted((Path(__file__).parents[2] / "mappings").glob("*.toml"))
TABLE = b"""
[kinds.conv]
weight = "weight"
[kinds.batchnorm]
gamma = "weight"
[target_only]
batchnorm = ["num_batches_tracked"]
[prefix_names]
block = "stage"
shortcut = "down"
kinds = { conv = "conv", batchnorm = "batchnorm" }
[parts.stem]
"features.0" = ["conv1", "conv"]
[parts.block]
"body.0" = ["conv1", "conv"]
"body.1" = ["bn1", "batchnorm"]
[layouts.plain]
before = ["stem"]
stages = [["features.4", "layer1", ""], ["features.5", "layer2", ""]]
block = ["block"]
after = []
[models.gluon_resnet18_v1b]
gluon = "resnet18_v1b"
layout = "plain"
top1 = 70.1
"""
SYMBOL = {
    "nodes": [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "features.0.weight", "inputs": []},
        {
            "op": "Convolution",
            "name": "conv0",
            "attrs": {"kernel": "(3, 3)", "stride": "[1,1]", "num_filter": "64", "no_bias": "True"},
            "inputs": [[0, 0, 0], [1, 0, 0]],
        },
        {"op": "Activation", "name": "relu0", "attr": {"act_type": "relu"}, "inputs": [[2, 0, 0]]},
        {"op": "Pooling", "name": "pool0", "param": {"kernel": "(3L, 3L)"}, "inputs": [[3, 0]]},
        {"op": "null", "name": "features.1.gamma", "inputs": []},
        {"op": "null", "name": "features.1.beta", "inputs": []},
        {"op": "null", "name": "features.1.running_mean", "inputs": []},
        {"op": "null", "name": "features.1.running_var", "inputs": []},
        {
            "op": "BatchNorm",
            "name": "bn",
            "attrs": {"eps": "1e-05"},
            "inputs": [[4, 0, 0], [5, 0, 0], [6, 0, 0], [7, 0, 1], [8, 0, 1]],
        },
        {"op": "Flatten", "name": "flat", "inputs": [[9, 0, 0]]},
    ],
    "arg_nodes": [0, 1, 5, 6],
    "heads": [[10, 0, 0]],
}


def lists() -> list[bytes]:
    """Return NDArray lists with every kind of record and of name."""
    counted = ndarray_list(
        {f"resnext0_{name}": record() for name in ("conv0_weight", "stage1_batchnorm0_gamma", "dense0_bias")}
    )
    exported = ndarray_list(
        {"arg:conv0_weight": record(), "aux:batchnorm0_running_var": record(type_number=1)[:-24]}
    )
    return [
        *ENCODED.values(),
        MIXED,
        params_bytes(ARRAYS),
        params_bytes({"scalar": np.zeros((), np.float32)}),
        counted,
        exported,
    ]


def params_bytes(arrays: dict[str, Any]) -> bytes:
    """Return the ``.params`` that we write."""
    stream = io.BytesIO()
    write_params(stream, arrays)
    return stream.getvalue()


def npzs() -> list[bytes]:
    """Return files of MXNet 2, stored and deflated."""
    return [numpy_file(np.savez), numpy_file(np.savez_compressed)]


def numpy_file(save: Any) -> bytes:  # noqa: ANN401 - numpy's two writers have different types
    """Return the output of one of numpy's writers."""
    stream = io.BytesIO()
    save(stream, **ARRAYS, fortran=np.asfortranarray(np.eye(3, 2)))
    return stream.getvalue()


def gzips() -> list[bytes]:
    """Return a compressed list, in one gzip member and in two."""
    content = params_bytes(ARRAYS)
    return [
        gzip.compress(content, mtime=0),
        gzip.compress(content[:50], mtime=0) + gzip.compress(content[50:], mtime=0),
    ]


def zips() -> list[bytes]:
    """Return a ``.params`` stored and deflated, alone and among other members."""
    contents = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("holiday.params", params_bytes(ARRAYS))
            archive.writestr("README", b"of a model")
        contents.append(stream.getvalue())
    return contents


def tars() -> list[bytes]:
    """Return tars of a ``.params`` and a graph, in the three formats."""
    contents = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            for name, content in (
                ("holiday.params", params_bytes(ARRAYS)),
                ("é-symbol.json", b'{"nodes": []}'),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        contents.append(stream.getvalue())
    return contents


def packed_tars() -> list[bytes]:
    """Return the same tars, compressed."""
    return [gzip.compress(content, mtime=0) for content in tars()]


def safetensors() -> list[bytes]:
    """Return a canonical file."""
    header, order = artifact.layout(STATE)
    return [header + b"".join(STATE[name].tobytes() for name in order)]


def pths() -> list[bytes]:
    """Return files of torch's current format and that before 1.6, bare and wrapped by a training script."""
    import torch  # noqa: PLC0415 - takes more than a second, and few targets need it

    shared = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    state = {"conv1.weight": torch.ones(2, 3), "bn1.weight": shared, "bn1.bias": shared.t()}
    contents = []
    for content in (state, {"epoch": 3, "state_dict": state, "optimizer": {"betas": (0.9, 0.999)}}):
        for is_zip in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
            contents.append(stream.getvalue())
    return contents


def every_kind() -> list[bytes]:
    """Return files of the kinds that are read, and pickles and documents that are only named."""
    texts = [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<?xml version='1.0'?><Error>"]
    pickles = [pickle.dumps(ARRAYS, protocol) for protocol in (2, 4)]
    states = b"\x80\x04}K\0\x8c\x0fmxnet.optimizer\x94\x8c\x03SGD\x94\x93)\x81s."
    return [*lists(), *npzs(), *zips(), *tars(), *safetensors(), *symbols(), *texts, *pickles, states]


def symbols() -> list[bytes]:
    """Return a graph with every supported operator."""
    return [json.dumps(SYMBOL).encode()]


@functools.cache
def graphs() -> list[bytes]:
    """Return a graph of each operator; the key ``shapes`` has the shapes of its parameters."""
    contents = [json.dumps(SYMBOL | {"shapes": {"features.0.weight": [64, 3, 3, 3]}}).encode()]
    for case in CASES:
        operation = operators.parse(case.operator, case.attributes)
        data = len(case.shapes) - len(operation.roles)
        variables = [{"op": "null", "name": f"x{at}", "inputs": []} for at in range(len(case.shapes))]
        inputs = [[at, 0, 0] for at in range(len(variables))]
        node = {"op": case.operator, "name": "stage1_y", "attrs": case.attributes, "inputs": inputs}
        document = {
            "nodes": [*variables, node],
            "heads": [[len(variables), output, 0] for output in range(operation.outputs)],
            "attrs": {"mxnet_version": ["int", 10901]},
            "shapes": {f"x{at}": shape for at, shape in enumerate(case.shapes) if at >= data},
        }
        contents.append(json.dumps(document).encode())
    return contents


def tables() -> list[bytes]:
    """Return a small mapping file, and all of ours."""
    return [TABLE, *(path.read_bytes() for path in MAPPINGS)]


def line_labels() -> list[bytes]:
    """Return three classes, one per line."""
    return ["cat\ndog\nKäuzchen\n".encode()]


def json_labels() -> list[bytes]:
    """Return three classes, as a list and as a numbered object."""
    return [b'["cat", "dog", "owl"]', b'{"0": "cat", "1": "dog", "2": "owl"}']


def manifests() -> list[bytes]:
    """Return the manifests of ``safetensors``' file, as converted and as trained."""
    (weights,) = safetensors()
    sha256 = hashlib.sha256(weights).hexdigest()
    worst = {"layer": "fc", "relative": 1e-14, "limit": 1e-12}
    size = {"dtype": "float64", "size": "65x95", "layers": 3, "max_abs": 1e-14, "relative": 1e-14}
    document = {
        "model": "gluon_resnext50_32x4d",
        "source": {"file": "my.params", "sha1": "0" * 40, "official": False},
        "mapping": {"file": "resnext.toml", "sha256": "0" * 64},
        "artifact": {
            "file": "weights.safetensors",
            "sha256": sha256,
            "bytes": len(weights),
            "dtypes": ["float32", "bfloat16"],
            "tensors": len(STATE),
            "parameters": 8,
            "pth": {"file": "weights.pth", "sha256": sha256, "bytes": 1},
        },
        "parity": {
            "proven": True,
            "reference": "numpy",
            "versions": {"numpy": "2"},
            "checks": [{**size, "worst": worst}],
        },
        "labels": ["cat", "dog"],
        "narrowing": {"dtype": "bfloat16"},
        "version": "0",
    }
    base = {"model": document["model"], "file": "a.safetensors", "sha256": sha256, "source_sha1": "0" * 40}
    trained = {
        **{key: document[key] for key in ("model", "artifact", "labels", "version")},
        "kind": "trained",
        "training": {
            "base": {**base, "official": True, "proven": True, "random": False, "trained": False},
            "classes": 2,
            "metrics": {"epoch": 1, "loss": 0.5, "top1": 50.0, "top5": 100.0, "images": 4},
            "versions": {"torch": "2"},
            "preprocessing": {"mean": [0.5], "std": [0.5]},
            "size": 64,
        },
    }
    return [json.dumps(each).encode() for each in (document, trained)]


def notes() -> list[bytes]:
    """Return the resume info of an incomplete download."""
    return [msgspec.json.encode(ResumeInfo('"5ac1"', 1 << 20))]
