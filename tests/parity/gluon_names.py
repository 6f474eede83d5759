"""Write GluonCV's parameter names, and files that use them; run by the tests in a separate process.

python gluon_names.py names FOLDER: names.json, {model: {variant: {structural name: the other name}}}, for the
whole catalog.
python gluon_names.py files FOLDER: for each of MODELS, with random values and ten classes, in a folder of its
name, structural.params, prefix.params, stripped.params, export-0000.params, export-symbol.json; with a new
head of seven classes replaced.params, by prefix names, and replaced-structural.params.
python gluon_names.py graphs FOLDER: MODEL-symbol.json of each of GRAPHS; of resnext50_32x4d eps-symbol.json,
with another eps, and fixed-0000.params and fixed-symbol.json, with BatchNorms that do not scale.
"""

from __future__ import annotations

import json
import sys
import types
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import random_networks

from converter.networks import catalog
from converter.references.gluon_child import import_frameworks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODELS = ("resnext50_32x4d", "resnet50_v1c", "resnet50_v1d")
GRAPHS = (
    *("resnext50_32x4d", "resnet50_v1d", "se_resnext50_32x4d", "senet_154"),
    *("resnext101e_64x4d", "cifar_resnext29_32x4d"),
)
SEED, CLASSES, NEW_CLASSES = 2026, 10, 7
IMAGE = (1, 3, 32, 32)
BATCHNORM = {"gamma", "beta", "running_mean", "running_var"}
LIMITS = (0.4, 0.9)  # of the random values, which differ from those of a fresh network

numpy, mxnet, gluoncv = import_frameworks()
nn = mxnet.gluon.nn
generator = numpy.random.Generator(numpy.random.PCG64(SEED))
Net = Any  # MXNet is untyped
Names = dict[str, str]


def nested(make: Callable[[], Net]) -> Net:
    """Make a network inside another one."""
    outer = mxnet.gluon.nn.HybridSequential()
    with outer.name_scope():
        outer.add(make())
    return outer[0]


def network(gluon: str, **options: object) -> Net:
    return gluoncv.model_zoo.get_model(gluon, pretrained=False, **options)


def with_prefix(gluon: str, prefix: str) -> Net:
    """Make a network under a prefix, even if its factory sets another one."""
    factory = gluoncv.model_zoo.model_zoo._models[gluon]
    made = factory.__globals__.get("ResNetV1b")
    if made is None:
        return factory(prefix=prefix, pretrained=False)

    def fix(*arguments: object, name_prefix: str, **options: object) -> Net:
        del name_prefix
        return made(*arguments, name_prefix=prefix, **options)

    other_globals = {**factory.__globals__, "ResNetV1b": fix}
    return types.FunctionType(factory.__code__, other_globals, None, factory.__defaults__)(pretrained=False)


def replace_head(net: Net, *, in_scope: bool) -> Net:
    name = "fc" if hasattr(net, "fc") else "output"
    if in_scope:
        with net.name_scope():
            setattr(net, name, nn.Dense(NEW_CLASSES))
    else:
        setattr(net, name, nn.Dense(NEW_CLASSES))
    return net


def names_of(net: Net) -> Names:
    return {key: parameter.name for key, parameter in net._collect_params_with_prefix().items()}


def stripped(net: Net) -> Names:
    """Return the names in ``net.collect_params().save(file, strip_prefix=net.prefix)``."""
    return {key: name.removeprefix(net.prefix) for key, name in names_of(net).items()}


def exported(net: Net) -> Names:
    """Return the names in ``net.export``, which takes auxiliary states from the graph."""
    auxiliary = set(net(mxnet.sym.var("data")).list_auxiliary_states())
    return {key: f"aux:{name}" if name in auxiliary else f"arg:{name}" for key, name in names_of(net).items()}


def variants(gluon: str) -> Iterator[tuple[str, Names]]:
    """Yield the names of each variant; several are the names of one network, as building takes long."""
    make = partial(network, gluon)
    yield "first", names_of(make())
    second = make()
    yield "second", names_of(second)
    yield "stripped", stripped(second)
    yield "exported", exported(second)
    yield "named", names_of(with_prefix(gluon, "foo_"))
    yield "without prefix", names_of(with_prefix(gluon, ""))
    yield "nested", names_of(nested(make))
    norm = {"norm_layer": mxnet.gluon.contrib.nn.SyncBatchNorm, "norm_kwargs": {"num_devices": 2}}
    yield "synchronised", names_of(make(**norm))
    with_new_head = replace_head(make(), in_scope=True)
    yield "head replaced", names_of(with_new_head)
    yield "stripped, head replaced", stripped(with_new_head)
    yield "head from outside", names_of(replace_head(second, in_scope=False))


def write_names(folder: Path) -> None:
    result = {name: dict(variants(model.entry.gluon)) for name, model in catalog.models().items()}
    (folder / "names.json").write_text(json.dumps(result), encoding="utf-8")


def randomized(net: Net) -> Net:
    """Fill a network with random values, its BatchNorms too, unlike a fresh network's."""
    random_networks.initialize(net, mxnet, IMAGE)
    random_networks.draw_weights(net, mxnet, generator)
    for name, parameter in net._collect_params_with_prefix().items():
        if name.rpartition(".")[2] in BATCHNORM:
            parameter.set_data(mxnet.nd.array(generator.uniform(*LIMITS, parameter.shape)))
    return net


def write_files(folder: Path) -> None:
    for gluon in MODELS:
        place = folder / gluon
        place.mkdir()
        net = randomized(network(gluon, classes=CLASSES))
        net.save_parameters(str(place / "structural.params"))
        net.collect_params().save(str(place / "prefix.params"))
        net.collect_params().save(str(place / "stripped.params"), strip_prefix=net.prefix)
        export(net, place / "export")
        replaced = randomized(replace_head(network(gluon), in_scope=False))
        replaced.save_parameters(str(place / "replaced-structural.params"))
        replaced.collect_params().save(str(place / "replaced.params"))


def write_graphs(folder: Path) -> None:
    for gluon in GRAPHS:
        save_graph(network(gluon, classes=CLASSES), folder / f"{gluon}-symbol.json")
    eps, fixed = (
        network("resnext50_32x4d", classes=CLASSES, norm_kwargs=options)
        for options in ({"epsilon": 1e-3}, {"scale": False})
    )
    save_graph(eps, folder / "eps-symbol.json")
    export(randomized(fixed), folder / "fixed")


def export(net: Net, path: Path) -> None:
    net.hybridize()
    net(mxnet.nd.zeros(IMAGE))
    net.export(str(path))


def save_graph(net: Net, path: Path) -> None:
    """Write the graph that ``net.export`` writes, without initializing and writing the parameters."""
    net.hybridize()
    net.infer_shape(mxnet.nd.zeros(IMAGE))
    net._cached_graph[1].save(str(path))


if __name__ == "__main__":
    {"names": write_names, "files": write_files, "graphs": write_graphs}[sys.argv[1]](Path(sys.argv[2]))
