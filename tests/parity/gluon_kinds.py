"""Write what MXNet, GluonCV and numpy save besides parameters; run by the parity tests in a separate process.

python gluon_kinds.py FOLDER: net.params, trainer.states, module.states, arrays.pkl (of NDArrays), numpy.pkl,
numpy.npy, numpy.npz, estimator.pkl, net-symbol.json and net-0000.params.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from converter.references.gluon_child import import_frameworks

ESTIMATORS = "gluoncv.auto.estimators.image_classification.image_classification"


def main(folder: Path) -> None:
    numpy, mxnet, gluoncv = import_frameworks()
    net = gluoncv.model_zoo.get_model("cifar_resnext29_32x4d", pretrained=False)
    net.initialize()
    batch = mxnet.nd.zeros((1, 3, 32, 32))
    trainer = mxnet.gluon.Trainer(net.collect_params(), "nag", {"momentum": 0.9})
    with mxnet.autograd.record():
        loss = net(batch).sum()
    loss.backward()
    trainer.step(1)
    net.save_parameters(str(folder / "net.params"))
    trainer.save_states(str(folder / "trainer.states"))
    (folder / "module.states").write_bytes(trainer._updaters[0].get_states(dump_optimizer=False))

    arrays = {name: value.data() for name, value in net._collect_params_with_prefix().items()}
    ours: dict[str, Any] = {name: array.asnumpy() for name, array in arrays.items()}
    (folder / "arrays.pkl").write_bytes(pickle.dumps(arrays))
    (folder / "numpy.pkl").write_bytes(pickle.dumps(ours))
    numpy.save(folder / "numpy.npy", ours, allow_pickle=True)
    numpy.savez(folder / "numpy.npz", **ours)
    (folder / "estimator.pkl").write_bytes(estimator(folder))
    net.hybridize()
    net(batch)
    net.export(str(folder / "net"))


def estimator(folder: Path) -> bytes:
    """Return the pickle that GluonCV's ``BaseEstimator.__getstate__`` makes: files as bytes."""
    name = "ImageClassificationEstimator"  # the real one needs packages that do not install anymore
    made = type(name, (), {"__module__": ESTIMATORS})
    parts = ESTIMATORS.split(".")
    for count in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:count]), ModuleType(parts[count - 1]))
    setattr(sys.modules[ESTIMATORS], name, made)
    instance = made()
    for attribute, file in (("net", "net.params"), ("trainer", "trainer.states")):
        setattr(instance, attribute, (folder / file).read_bytes())
    return pickle.dumps(instance)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
