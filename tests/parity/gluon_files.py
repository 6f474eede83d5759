"""Write ``.params`` files with GluonCV itself; run by the parity tests in a process of its own.

python gluon_files.py FOLDER NAME: NAME.params, of a model of the catalog. Without a name: ten-classes.params,
fresh.params, kinds.params (every dense type and some odd shapes) with kinds.npz beside it, prefix.params and
export-0000.params.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from converter import catalog
from converter.reference.gluon_child import import_frameworks

SEED = 2026
# None at its default, none alike: a fresh BatchNorm has gamma 1 (or 0), beta 0, mean 0, variance 1.
BATCHNORM = {
    "gamma": (0.4, 0.9),
    "beta": (-0.2, 0.2),
    "running_mean": (-0.2, 0.2),
    "running_var": (0.7, 1.4),
}
CLASSES = 10


def main(folder: Path, *names: str) -> None:
    numpy, mxnet, gluoncv = import_frameworks()
    mxnet.random.seed(SEED)
    generator = numpy.random.RandomState(SEED)

    def network(gluon: str, *, trained: bool = True, **options: object) -> Any:  # noqa: ANN401
        net = gluoncv.model_zoo.get_model(gluon, pretrained=False, **options)
        net.initialize(mxnet.init.MSRAPrelu())
        net(mxnet.nd.zeros((1, 3, 32, 32)))
        for name, parameter in net._collect_params_with_prefix().items() if trained else ():
            limits = BATCHNORM.get(name.rpartition(".")[2])
            if limits is not None:
                parameter.set_data(mxnet.nd.array(generator.uniform(*limits, parameter.shape)))
        return net

    for name in names:
        network(catalog.find(name).entry.gluon).save_parameters(str(folder / f"{name}.params"))
    if names:
        return
    network("resnext50_32x4d", classes=CLASSES).save_parameters(str(folder / "ten-classes.params"))
    network("resnext50_32x4d", trained=False).save_parameters(str(folder / "fresh.params"))
    small = network("resnext50_32x4d", classes=CLASSES)
    small.collect_params().save(str(folder / "prefix.params"))
    small.hybridize()
    small(mxnet.nd.zeros((1, 3, 32, 32)))
    small.export(str(folder / "export"))

    arrays = {
        f"{dtype}.{'x'.join(map(str, shape))}": numpy.arange(numpy.prod(shape)).reshape(shape).astype(dtype)
        for dtype in ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
        for shape in ((1,), (5,), (2, 3), (3, 1, 2, 2))
    }
    lists = {name: mxnet.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    mxnet.nd.save(str(folder / "kinds.params"), lists)
    numpy.savez(folder / "kinds.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
