"""Records the graphs of GluonCV's networks: ``python record_graphs.py FOLDER [NAME ...]``.

Writes FOLDER/NAME.json.xz for each network that GluonCV builds without a download, and FOLDER/index.json,
with the reason for each network that is missing. Each is built in a process of its own, so that Gluon numbers
its layers from 0.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import lzma
import multiprocessing
import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.graphs import pruning, reader, support
from converter.networks import recorded_graphs, recorded_index
from converter.references import gluon_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MODELS = Path(__file__).parents[2] / "mappings/gluoncv/models.toml"
COMPRESSION = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22}]

# {pattern of names: why a network is not recorded}
REFUSED = {
    r".*_int8": "has int8 weights, which are not supported",
    r".*custom.*": "built for your own classes: export your graph, and convert GRAPH OUT",
    r"hrnet_.*_cls": "published weights of the network whose name ends in _c: convert that",
    r"smot_ssd_bifpn_mobilenet|vgg16_atrous": "weights of a part of a network only",
    r"resnet[0-9]+_v1b_gn": "GluonCV calls GroupNorm in a way that MXNet 1.9.1 refuses",
    r"monodepth2_.*_posenet_.*|siamrpn_.*": "takes several images, which recorded graphs do not support",
}
SEGMENTATION = ("danet", "deeplab", "fastscnn", "fcn", "icnet", "psp")
INITIALIZER = "__init__"  # an attribute of variables
ADDRESS = re.compile(r"Constant_|0x")
Shape = tuple[int, ...]
Result = tuple[str, dict[str, Any] | str]  # a network, and its entry in the index or why there is none
# The inputs on which GluonCV evaluates a network, (n, channels, [frames,] h, w); the first to fit.
INPUTS: dict[str, tuple[Shape, ...]] = {
    r"cifar.*": ((1, 3, 32, 32),),
    r"inceptionv3.*|xception.*": ((1, 3, 299, 299),),
    r"nasnet.*": ((1, 3, 331, 331), (1, 3, 224, 224)),
    r"resnest101": ((1, 3, 256, 256),),
    r"resnest200": ((1, 3, 320, 320),),
    r"resnest269": ((1, 3, 416, 416),),
    r"hrnet.*_s": ((1, 3, 480, 480),),
    r"(fastscnn|icnet|danet|deeplab|psp).*_citys": ((1, 3, 1024, 1024), (1, 3, 768, 768)),
    rf"({'|'.join(SEGMENTATION)}).*": ((1, 3, 480, 480),),
    r"ssd_300.*": ((1, 3, 300, 300),),
    r"(ssd_512|center_net).*": ((1, 3, 512, 512),),
    r"yolo3.*": ((1, 3, 416, 416),),
    r".*rcnn.*": ((1, 3, 600, 800),),
    r"(simple|mobile)_pose.*": ((1, 3, 256, 192),),
    r"alpha_pose.*": ((1, 3, 320, 256),),
    r"c3d.*": ((1, 3, 16, 112, 112),),
    r"r2plus1d.*": ((1, 3, 16, 112, 112),),
    r"p3d.*": ((1, 3, 16, 160, 160), (1, 3, 16, 224, 224)),
    r"i3d.*": ((1, 3, 32, 224, 224), (1, 3, 16, 224, 224)),
    r"slowfast_4x16.*": ((1, 3, 36, 224, 224),),
    r"slowfast_8x8.*": ((1, 3, 40, 224, 224),),
    r"slowfast_16x8.*": ((1, 3, 48, 224, 224), (1, 3, 80, 224, 224)),
}
PROBES = ((65, 95), (97, 129), (96, 128), (128, 160), (256, 192))  # (h, w) in pixels
IMAGE = ((1, 3, 224, 224),)


def main(folder: Path, names: list[str]) -> None:
    """Record networks, by default all, and write the index; the entries of others are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / recorded_index.INDEX
    earlier = json.loads(index.read_text("utf-8")) if names and index.exists() else {}
    entries: dict[str, dict[str, Any]] = earlier.get("graphs", {})
    missing: dict[str, str] = earlier.get("missing", {})
    names = names or [*tomllib.loads(MODELS.read_text("utf-8"))]
    entries = {name: entry for name, entry in entries.items() if name not in names}
    gluon_child.import_frameworks()  # before the forks
    for pretrained in (True, False):  # few networks can be built in one of these ways only
        remaining = [name for name in names if name not in entries]
        for name, result in _results(remaining, functools.partial(record, folder, pretrained=pretrained)):
            print(name, result, flush=True)  # noqa: T201 - progress
            if isinstance(result, str):
                missing[name] = result
            else:
                entries[name] = result
    missing = {name: reason for name, reason in missing.items() if name not in entries}
    versions = {name: metadata.version(name) for name in ("mxnet", "gluoncv")}
    _write_index(index, versions=versions, missing=missing, graphs=entries)


def _results(names: list[str], work: Callable[[str], Result]) -> Iterator[Result]:
    """Yield the result of each network; several are built in processes of their own."""
    if len(names) < 2:
        yield from map(work, names)
        return
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as workers:
        yield from workers.imap(work, names, chunksize=1)


def record(folder: Path, name: str, *, pretrained: bool) -> Result:
    """Write the graph of a network; return its name, and its entry in the index or why there is none."""
    if refusal := next((reason for pattern, reason in REFUSED.items() if re.fullmatch(pattern, name)), None):
        return name, refusal
    frameworks = gluon_child.import_frameworks()
    requested = _without_downloads(frameworks)
    inputs = next((each for pattern, each in INPUTS.items() if re.fullmatch(pattern, name)), IMAGE)
    size = {"crop_size": inputs[0][-1]} if name.startswith(SEGMENTATION) else {}
    try:
        net = frameworks.gluoncv.model_zoo.get_model(name, pretrained=pretrained, **size)
        symbol = frameworks.mxnet.sym.Group([*_flat(net(frameworks.mxnet.sym.var("data")))])
        shape, outputs, shapes = _shapes(symbol, inputs)
    except Exception as error:  # noqa: BLE001 - GluonCV raises anything
        return name, f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}"[:150]
    parameters = [
        [structural, parameter.name, shapes.get(parameter.name, parameter.shape)]
        for structural, parameter in net._collect_params_with_prefix().items()
    ]
    graph = _without_addresses(symbol.tojson())
    content = json.dumps({"parameters": parameters, "graph": json.loads(graph)}, separators=(",", ":"))
    packed = lzma.compress(content.encode(), format=lzma.FORMAT_XZ, filters=COMPRESSION)
    (folder / f"{name}{recorded_graphs.SUFFIX}").write_bytes(packed)
    return name, {
        "input": [*shape],
        "outputs": [[*each] for each in outputs],
        "probe": [*_probe(symbol, shape, shapes)],
        "counts": [len(parameters), len({variable for _, variable, _ in parameters}), len(shapes)],
        **_unsupported(graph.encode(), name),
        **_published(frameworks, name, requested),
        "sha256": hashlib.sha256(packed).hexdigest(),
    }


def _without_addresses(graph: str) -> str:
    """Return a graph without the initializers of variables that contain addresses in memory."""
    document = json.loads(graph)
    for node in document["nodes"]:
        attributes = node.get("attrs", {})
        if ADDRESS.search(attributes.get(INITIALIZER, "")):
            del attributes[INITIALIZER]
    return json.dumps(document)


def _shapes(symbol: Any, inputs: Sequence[Shape]) -> tuple[Shape, list[Shape], dict[str, Shape]]:  # noqa: ANN401
    """Return the first input that fits a symbol, and the shapes of its outputs and its parameters.

    Raises:
        Exception: MXNet's, if none fits.
    """
    for shape in inputs[:-1]:
        with contextlib.suppress(Exception):
            return _shapes(symbol, [shape])
    arguments, outputs, states = symbol.infer_shape(data=inputs[-1])
    shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    shapes |= zip(symbol.list_auxiliary_states(), states, strict=True)
    del shapes["data"]
    return inputs[-1], outputs, shapes


def _probe(symbol: Any, natural: Shape, parameters: dict[str, Shape]) -> Shape:  # noqa: ANN401
    """Return the first small input that fits the parameters, or the natural one."""
    for size in PROBES:
        with contextlib.suppress(Exception):  # MXNet's
            shape, _, shapes = _shapes(symbol, [(*natural[:-2], *size)])
            if shapes == parameters:
                return shape
    return natural


def _without_downloads(frameworks: gluon_child.Frameworks) -> list[str]:
    """Make GluonCV build networks without their published parameters; return a list of the files it asks for.

    The process builds one network only, so nothing is restored.
    """
    requested: list[str] = []

    def get_model_file(name: str, **_: object) -> str:
        requested.append(name)
        return name

    def ignore(*_: object, **__: object) -> None:
        """Do not load parameters, and do not move them to a device."""

    frameworks.gluoncv.model_zoo.model_store.get_model_file = get_model_file
    frameworks.mxnet.gluon.Block.load_parameters = ignore
    frameworks.mxnet.gluon.Parameter.reset_ctx = ignore
    vars(frameworks.numpy).update({"float": float, "int": int})  # GluonCV calls what NumPy 1.24 has removed
    return requested


def _published(frameworks: gluon_child.Frameworks, name: str, requested: list[str]) -> dict[str, str]:
    """Return the published file of a network and its SHA-1, if it has another name than the network."""
    if not requested:
        with contextlib.suppress(Exception):  # a network that was never published
            frameworks.gluoncv.model_zoo.get_model(name, pretrained=True)
    file = requested[-1] if requested else name
    sha1 = frameworks.gluoncv.model_zoo.model_store._model_sha1.get(file)
    if sha1 is None or file in frameworks.gluoncv.model_zoo.get_model_list():  # its own, or another network's
        return {}
    return {"file": f"{file}-{sha1[:8]}.params", "sha1": sha1}


def _unsupported(graph: bytes, name: str) -> dict[str, list[str]]:
    """Return the operators of a graph that cannot be converted, if there are any."""
    parsed = reader.parse(graph, file=name, name=name)
    operators = sorted({operator for operator, _ in support.unsupported(pruning.prune(parsed).graph)})
    return {"unsupported": operators} if operators else {}


def _flat(outputs: Any) -> Iterator[Any]:  # noqa: ANN401 - symbols, nested
    if isinstance(outputs, list | tuple):
        for each in outputs:
            yield from _flat(each)
    else:
        yield outputs


def _write_index(path: Path, **tables: dict[str, Any]) -> None:
    """Write the index, with a line for each entry."""
    parts = []
    for title, table in tables.items():
        lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(table.items()))
        parts.append(f" {json.dumps(title)}: {{\n" + ",\n".join(lines) + "\n }")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    os._exit(0)  # skips MXNet's shutdown
