"""Write ``.params`` files with GluonCV itself; run by the parity tests in a separate process.

python gluon_files.py FOLDER NAME: NAME.params, of a model of the catalog. Without a name: ten-classes.params,
fresh.params, prefix.params and export-0000.params; in dilated/ and four-channels/ net.params and its export;
for the reader kinds.params (every dense dtype, unusual shapes), legacy, v1, bfloat16, np-shape and np-array,
each with an npz of the arrays that MXNet reads, and row_sparse, csr, unnamed, none and empty.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import random_networks

from converter.networks import catalog
from converter.references.gluon_child import import_frameworks

SEED = 2026
# Non-default, varied values: a fresh BatchNorm has gamma 1 (or 0), beta 0, mean 0, variance 1.
BATCHNORM = {
    "gamma": (0.4, 0.9),
    "beta": (-0.2, 0.2),
    "running_mean": (-0.2, 0.2),
    "running_var": (0.7, 1.4),
}
CLASSES, SIZE = 10, 64
# MXNet 1's type numbers, by name.
DTYPES = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "uint8": 3,
    "int32": 4,
    "int8": 5,
    "int64": 6,
    "bool": 7,
}


def main(folder: Path, *names: str) -> None:
    numpy, mxnet, gluoncv = import_frameworks()
    generator = numpy.random.Generator(numpy.random.PCG64(SEED))

    def network(gluon: str, *, channels: int = 3, randomized: bool = True, **options: object) -> Any:  # noqa: ANN401
        net = gluoncv.model_zoo.get_model(gluon, pretrained=False, **options)
        random_networks.initialize(net, mxnet, (1, channels, SIZE, SIZE))
        random_networks.draw_weights(net, mxnet, generator)
        for name, parameter in net._collect_params_with_prefix().items() if randomized else ():
            limits = BATCHNORM.get(name.rpartition(".")[2])
            if limits is not None:
                parameter.set_data(mxnet.nd.array(generator.uniform(*limits, parameter.shape)))
        return net

    def export(net: Any, name: str, channels: int = 3) -> None:  # noqa: ANN401 - MXNet is untyped
        net.hybridize()
        net(mxnet.nd.zeros((1, channels, SIZE, SIZE)))
        net.export(str(folder / name))

    for name in names:
        network(catalog.find(name).entry.gluon).save_parameters(str(folder / f"{name}.params"))
    if names:
        return
    network("resnext50_32x4d", classes=CLASSES).save_parameters(str(folder / "ten-classes.params"))
    network("resnext50_32x4d", randomized=False).save_parameters(str(folder / "fresh.params"))
    small = network("resnext50_32x4d", classes=CLASSES)
    small.collect_params().save(str(folder / "prefix.params"))
    export(small, "export")

    replaced = network("resnet18_v1b", classes=CLASSES)
    with replaced.layer1.name_scope():  # the new BatchNorm continues the numbering and gets the last index
        replaced.layer1[0].bn1 = mxnet.gluon.nn.BatchNorm(in_channels=64)
    replaced.layer1[0].bn1.initialize()
    for name, parameter in replaced.layer1[0].bn1._collect_params_with_prefix().items():
        parameter.set_data(mxnet.nd.array(generator.uniform(*BATCHNORM[name], parameter.shape)))
    replaced.save_parameters(str(folder / "replaced-structural.params"))
    replaced.collect_params().save(str(folder / "replaced-prefix.params"))
    export(replaced, "replaced")

    for kind, options in (("dilated", {"dilated": True}), ("four-channels", {})):
        (folder / kind).mkdir()
        channels = 3 if options else 4
        net = network("resnet18_v1b", channels=channels, classes=CLASSES, **options)
        net.save_parameters(str(folder / kind / "net.params"))
        export(net, f"{kind}/net", channels)

    write_kinds(folder, numpy, mxnet)


def write_kinds(folder: Path, numpy: Any, mxnet: Any) -> None:  # noqa: ANN401 - MXNet is untyped
    """Write every kind of file that MXNet writes or reads, each with an npz of the arrays that it reads."""
    arrays = {
        f"{dtype}.{'x'.join(map(str, shape))}": numpy.arange(numpy.prod(shape)).reshape(shape).astype(dtype)
        for dtype in DTYPES
        for shape in ((1,), (5,), (2, 3), (3, 1, 2, 2))
    }
    lists = {name: mxnet.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    weight = lists["float32.2x3"]
    mxnet.nd.save(str(folder / "kinds.params"), lists)
    mxnet.nd.save(str(folder / "row_sparse.params"), {"w": weight.tostype("row_sparse")})
    mxnet.nd.save(str(folder / "csr.params"), {"w": weight.tostype("csr")})
    mxnet.nd.save(str(folder / "unnamed.params"), list(lists.values()))
    mxnet.nd.save(str(folder / "none.params"), {"w": mxnet.nd.array(numpy.array(3.5))})
    for kind in ("legacy", "v1"):  # MXNet 1.9 reads these but no longer writes them
        (folder / f"{kind}.params").write_bytes(old_list(arrays, kind))
    for kind in ("kinds", "legacy", "v1"):
        save_read(folder, kind, numpy, mxnet.nd)
    halves = mxnet.nd.amp_cast(weight / 3, dtype=numpy.dtype([("bfloat16", numpy.uint16)]))
    mxnet.nd.save(str(folder / "bfloat16.params"), {"w": halves})
    back = mxnet.nd.load(str(folder / "bfloat16.params"))["w"]
    values = mxnet.nd.amp_cast(back, dtype="float32").asnumpy()
    numpy.savez(folder / "bfloat16.npz", bits=back.asnumpy().view(numpy.uint16), values=values)
    with mxnet.util.np_shape(True):  # noqa: FBT003 - MXNet's interface
        mxnet.nd.save(str(folder / "empty.params"), {"w": mxnet.nd.zeros((0, 3))})
        scalars = {f"scalar.{name}": mxnet.nd.array(numpy.array(7, name), dtype=name) for name in DTYPES}
        mxnet.nd.save(str(folder / "np-shape.params"), {**lists, **scalars})
        save_read(folder, "np-shape", numpy, mxnet.nd)
        with mxnet.util.np_array(True):  # noqa: FBT003 - as above
            ours = {name: mxnet.np.array(array, dtype=array.dtype) for name, array in arrays.items()}
            mxnet.npx.save(str(folder / "np-array.params"), {**ours, "scalar": mxnet.np.array(3.5)})
            save_read(folder, "np-array", numpy, mxnet.npx)


def save_read(folder: Path, name: str, numpy: Any, module: Any) -> None:  # noqa: ANN401 - as above
    """Write NAME.npz: the arrays that MXNet reads from NAME.params."""
    result = module.load(str(folder / f"{name}.params"))
    numpy.savez(folder / f"{name}.npz", **{key: array.asnumpy() for key, array in result.items()})


def old_list(arrays: dict[str, Any], kind: str) -> bytes:
    """Return a list as written before MXNet 0.12: legacy records, or those of version 1."""
    content = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if kind == "legacy":
            content += struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
        else:
            content += struct.pack(f"<II{array.ndim}q", 0xF993FAC8, array.ndim, *array.shape)
        content += struct.pack("<iii", 1, 0, DTYPES[array.dtype.name]) + array.tobytes()
    content += struct.pack("<Q", len(arrays))
    return content + b"".join(struct.pack("<Q", len(name)) + name.encode() for name in arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
