"""Write networks in wrappings with GluonCV itself; run by the parity tests in a separate process.

python gluon_wrappings.py FOLDER: writes NAME/net.params, or an export, NAME/net-0000.params and its graph.
All parameters are random, every BatchNorm array included.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import random_networks

from converter.references.gluon_child import import_frameworks

SEED = 2026
IMAGE = (1, 3, 64, 64)
CLASSES = 10
NAME, FEATURES = "cifar_resnext29_32x4d", 1024


RANGES = {  # of the values of each role
    "gamma": (0.5, 1.5),
    "beta": (-0.3, 0.3),
    "bias": (-0.3, 0.3),
    "running_mean": (-0.3, 0.3),
    "running_var": (0.5, 2),
}


class Writer:
    """Writes random networks to the folders of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numpy, self.mxnet, gluoncv = import_frameworks()
        self.numpy.float = float  # GluonCV's detectors use the name, which NumPy 1.24 removed
        self.nn, self.zoo, self.utils = self.mxnet.gluon.nn, gluoncv.model_zoo, gluoncv.utils
        self.generator = self.numpy.random.Generator(self.numpy.random.PCG64(SEED))

    def write(self) -> None:
        self.wrappers()
        self.heads()
        self.inputs()
        self.detectors()
        self.graphs()

    def wrappers(self) -> None:
        """Write one network within others."""
        nn, resnext = self.nn, self.randomized(self.zoo.get_model(NAME, classes=CLASSES))
        resnext.features.save_parameters(self.path("features"))
        self.save(self.wrapped(backbone=resnext), "outer")
        listed = nn.HybridSequential()
        listed.add(resnext.features, self.dense(5))
        self.save(listed, "listed")
        self.save(self.wrapped(backbone=resnext.features, head=self.dense(5)), "attribute")
        self.export(resnext, "export")
        export = self.folder / "export"
        block = nn.HybridSequential()
        symbol, params = str(export / "net-symbol.json"), str(export / "net-0000.params")
        block.add(self.mxnet.gluon.SymbolBlock.imports(symbol, ["data"], params))
        block.save_parameters(self.path("symbolblock"))

    def heads(self) -> None:
        """Write networks with other heads."""
        nn = self.nn
        unbiased = self.zoo.get_model(NAME, classes=CLASSES)
        unbiased.output = nn.Dense(CLASSES, use_bias=False, in_units=FEATURES)
        self.save(self.randomized(unbiased), "unbiased")
        self.export(unbiased, "unbiased-export")
        heads = {
            "dropout": [nn.Dropout(0.5), nn.Dense(CLASSES, in_units=FEATURES)],
            "perceptron": [nn.Dense(16, "relu", in_units=FEATURES), nn.Dense(CLASSES, in_units=16)],
        }
        for name, layers in heads.items():
            output = nn.HybridSequential()
            output.add(*layers)
            net = self.wrapped(features=self.zoo.get_model(NAME).features, output=output)
            self.save(self.randomized(net), name)
        second = self.zoo.get_model("resnet18_v1b")
        with second.name_scope():
            second.output = self.dense(CLASSES, 512)
        self.save(self.randomized(second), "second-head")

    def inputs(self) -> None:
        """Write networks with other numbers of input channels, and a dilated one."""
        for channels in (1, 4):
            net = self.zoo.get_model("resnet18_v1b", classes=CLASSES)
            with net.name_scope():
                net.conv1 = self.nn.Conv2D(64, 7, 2, 3, use_bias=False, in_channels=channels)
            shape = (1, channels, *IMAGE[2:])
            self.save(self.randomized(net, shape), f"channels{channels}")
            self.export(net, f"channels{channels}-export", shape)
        dilated = self.zoo.resnetv1b.resnet50_v1d(classes=CLASSES, dilated=True)
        self.export(self.randomized(dilated), "dilated-export")

    def detectors(self) -> None:
        """Write a segmentation network, detectors and a pose network."""
        sizes = {"crop_size": 64, "base_size": 64}
        fcn = self.zoo.get_fcn(
            dataset="pascal_voc", backbone="resnet50", pretrained_base=False, aux=False, **sizes
        )
        self.save(self.randomized(fcn), "fcn")
        self.export(fcn, "fcn-export")
        options = {"classes": ["a", "b"], "pretrained_base": False}
        for name, model, size in (
            ("rcnn", "faster_rcnn_resnet50_v1b_custom", 128),
            ("ssd", "ssd_300_resnet34_v1b_custom", 300),
        ):
            net = self.zoo.get_model(model, **options)
            self.save(self.randomized(net, (1, 3, size, size)), name)
        fpn = self.zoo.get_model("faster_rcnn_fpn_resnet50_v1b_coco", pretrained_base=False)
        self.save(self.randomized(fpn, (1, 3, 128, 128)), "fpn")
        self.save(self.randomized(self.zoo.get_model("simple_pose_resnet18_v1b")), "pose")

    def graphs(self) -> None:
        """Write exports with a preprocessing or with casts, and their parameters under other names."""
        from mxnet.contrib import amp  # noqa: PLC0415 - MXNet needs the shims of import_frameworks

        mxnet, small = self.mxnet, self.randomized(self.zoo.get_model("resnet18_v1b", classes=CLASSES))
        prefix = self.path("preprocessed", "net")
        self.utils.export_block(prefix, small, data_shape=(64, 64, 3), layout="HWC")
        self.run(prefix)
        small = self.randomized(self.zoo.get_model("resnet18_v1b", classes=CLASSES))
        self.export(small, "plain")
        symbol, params = (
            mxnet.sym.load(self.path("plain", "net-symbol.json")),
            self.path("plain", "net-0000.params"),
        )
        mixed = amp.convert_symbol(symbol, target_dtype="float16")
        mixed.save(self.path("mixed", "net-symbol.json"), remove_amp_cast=False)
        arrays = mxnet.nd.load(params)
        mxnet.nd.save(self.path("mixed", "net-0000.params"), arrays)
        data = mxnet.sym.Cast(mxnet.sym.var("data"), dtype="float16")
        half = mxnet.sym.SoftmaxOutput(mxnet.sym.Cast(small(data), dtype="float32"), name="softmax")
        half.save(self.path("half", "net-symbol.json"))
        halves = {
            name: array.astype("float16") if name.startswith("arg:") else array
            for name, array in arrays.items()
        }
        mxnet.nd.save(self.path("half", "net-0000.params"), halves)
        twins = {f"arg:{name[4:]}": array for name, array in arrays.items() if name.startswith("aux:")}
        mxnet.nd.save(self.path("twins"), arrays | twins)
        moving = {name.replace("running_", "moving_"): array for name, array in arrays.items()}
        mxnet.nd.save(self.path("moving"), moving)

    def run(self, prefix: str) -> None:
        """Write images and the logits that MXNet computes for them."""
        symbol, arguments, auxiliary = self.mxnet.model.load_checkpoint(prefix, 0)
        images = self.generator.integers(0, 256, (1, 64, 64, 3)).astype("float32")
        arguments["data"] = self.mxnet.nd.array(images)
        executor = symbol.bind(self.mxnet.cpu(), arguments, aux_states=auxiliary, grad_req="null")
        self.numpy.savez(f"{prefix}.npz", images=images, logits=executor.forward()[0].asnumpy())

    def randomized(self, net: Any, shape: tuple[int, ...] = IMAGE) -> Any:  # noqa: ANN401 - MXNet is untyped
        random_networks.initialize(net, self.mxnet, shape)
        random_networks.draw_weights(net, self.mxnet, self.generator)
        for name, parameter in net.collect_params().items():
            role = next((role for role in RANGES if name.endswith(role)), None)
            if role:
                values = self.generator.uniform(*RANGES[role], parameter.shape)
                parameter.set_data(self.mxnet.nd.array(values))
        return net

    def dense(self, classes: int, features: int = FEATURES) -> Any:  # noqa: ANN401 - as above
        layer = self.nn.Dense(classes, in_units=features)
        layer.initialize(self.mxnet.init.Normal(0.1))
        return layer

    def wrapped(self, **children: Any) -> Any:  # noqa: ANN401 - as above
        """Return a user's network that runs its children one after the other."""

        class Network(self.mxnet.gluon.HybridBlock):  # type: ignore[misc, name-defined]  # as above
            def __init__(self) -> None:
                super().__init__()
                for name, child in children.items():
                    setattr(self, name, child)

            def hybrid_forward(self, _: Any, x: Any) -> Any:  # noqa: ANN401 - as above
                for name in children:
                    x = getattr(self, name)(x)
                return x

        return Network()

    def path(self, name: str, file: str = "net.params") -> str:
        (self.folder / name).mkdir(exist_ok=True)
        return str(self.folder / name / file)

    def save(self, net: Any, name: str) -> None:  # noqa: ANN401 - as above
        net.save_parameters(self.path(name))
        net.collect_params().save(self.path(f"{name}-prefix"))

    def export(self, net: Any, name: str, shape: tuple[int, ...] = IMAGE) -> None:  # noqa: ANN401 - as above
        net.hybridize()
        net(self.mxnet.nd.zeros(shape))
        net.export(self.path(name, "net"))


if __name__ == "__main__":
    Writer(Path(sys.argv[1])).write()
