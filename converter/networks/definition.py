"""GluonCV's residual networks, defined by the names and shapes of their parameters.

A network has a deep stem, a pooled shortcut, squeeze-excitation or a head if the parameters of that part
exist. Only its output stride is not shown by them.
``GluonNetwork.run`` is generic over its values: ``references.numpy`` computes with arrays,
``networks.expressions`` records expressions. This definition shares no code with ``resnext_torch``.

Source: gluoncv/model_zoo/{resnext,senet,resnetv1b,cifarresnext}.py, dmlc/gluon-cv 56777561. There only
``resnetv1b`` can be dilated, to the output stride 8; others are dilated here by the same rule.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from converter.graphs import operators
from converter.graphs.graph import Operation

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from converter.graphs.graph import Settings
    from resnext_torch.config import Shape

T = TypeVar("T")

BN_EPS = 1e-5  # of all BatchNorms in GluonCV
UNDILATED = 32  # output stride

ADD = Operation(kind=operators.ADD, data_inputs=2)
MULTIPLY = Operation(kind=operators.MULTIPLY, data_inputs=2)
RELU = Operation(kind=operators.RELU)
SIGMOID = Operation(kind=operators.SIGMOID)
BATCH_NORM = Operation(
    kind=operators.BATCH_NORM,
    roles=("gamma", "beta", "running_mean", "running_var"),
    settings={"eps": BN_EPS, "axis": 1},
)


class Operators(Protocol[T]):
    """Applies operations to values."""

    def apply(self, operation: Operation, inputs: tuple[T, ...], layer: str) -> T:
        """Return the output of an operation.

        Args:
            operation: the operation to compute.
            inputs: its data inputs.
            layer: the structural name of the layer whose parameters it takes, "" if it takes none.
        """


@dataclass(frozen=True, slots=True)
class DefinedLayer(Generic[T]):
    """The structural name, output and hyper-parameters of a layer."""

    layer: str
    value: T
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The structural names of a network's layers.

    Attributes:
        stem: pairs of a convolution and its BatchNorm.
        pool: the max pool, None if the network has none.
        stages: the stages.
        body: pairs as in ``stem``, relative to a block; a basic block has fewer.
        mean: the global average pool.
        head: the dense layer.
    """

    stem: list[tuple[str, str]]
    pool: str | None
    stages: list[str]
    body: list[tuple[str, str]]
    mean: str
    head: str


class GluonNetwork(Generic[T]):
    """A GluonCV network that runs on given operators.

    Args:
        shapes: the shapes of its parameters by structural name.
        run: applies the operations.
        output_stride: the image's size divided by that of the last stage's output; once it is reached,
            stages are dilated.
    """

    def __init__(self, shapes: Mapping[str, Shape], run: Operators[T], output_stride: int) -> None:
        self.shapes = shapes
        self.operators = run
        self.output_stride = output_stride
        self.names = _sequential(shapes) if "features.0.weight" in shapes else _named(shapes)

    def run(self, x: T) -> Generator[DefinedLayer[T], None, T]:
        """Compute the network layer by layer and return the logits, or without a head the pooled features.

        Shape:
            (n, channels, h, w) → (n, classes), or (n, features, 1, 1) without a head
        """
        names = self.names
        for number, (conv, norm) in enumerate(names.stem):
            # A stem with a pool halves the image twice; CIFAR's stem has none and keeps the size.
            x = yield from self._convolution(conv, x, stride=2 if number == 0 and names.pool else 1)
            x = self._apply(RELU, (yield from self._batch_norm(norm, x)))
        if names.pool:
            x = yield from self._max_pool(names.pool, x)
        reduction, dilation = 4 if names.pool else 1, 1
        for number, stage in enumerate(names.stages):
            stride, dilations = 2 if number > 0 else 1, (dilation, dilation)
            if number > 0 and reduction >= self.output_stride:
                stride, dilations = 1, (dilation, 2 * dilation)
            reduction, dilation = reduction * stride, dilations[1]
            for index in range(self._depth(stage)):
                x = yield from self._block(f"{stage}.{index}", x, stride, dilations)
                stride, dilations = 1, (dilation, dilation)
        x = self._apply(operators.GLOBAL_AVERAGE, x)
        yield DefinedLayer(names.mean, x, operators.GLOBAL_AVERAGE.settings)
        return (yield from self._dense(names.head, x)) if f"{names.head}.weight" in self.shapes else x

    def _block(
        self, block: str, x: T, stride: int, dilations: tuple[int, int]
    ) -> Generator[DefinedLayer[T], None, T]:
        """Compute a basic or bottleneck block.

        The first convolution wider than 1×1 has the stride and the first dilation, others the second.
        """
        shortcut, channels = x, 0
        remaining, dilation = stride, dilations[0]
        body = [pair for pair in self.names.body if f"{block}.{pair[0]}.weight" in self.shapes]
        for number, (conv, norm) in enumerate(body):
            outputs, group_inputs, kernel, _ = self.shapes[f"{block}.{conv}.weight"]
            x = yield from self._convolution(
                f"{block}.{conv}",
                x,
                stride=remaining if kernel > 1 else 1,
                dilation=dilation,
                groups=channels // group_inputs if number else 1,
            )
            x = yield from self._batch_norm(f"{block}.{norm}", x)
            channels = outputs
            if kernel > 1:
                remaining, dilation = 1, dilations[1]
            x = x if number == len(body) - 1 else self._apply(RELU, x)
        if f"{block}.se.0.weight" in self.shapes:
            x = yield from self._squeeze_excite(f"{block}.se", x)
        shortcut = yield from self._shortcut(f"{block}.downsample", shortcut, stride, dilations[0])
        x = self._apply(RELU, self._apply(ADD, x, shortcut))
        yield DefinedLayer(block, x, {})
        return x

    def _shortcut(self, name: str, x: T, stride: int, dilation: int) -> Generator[DefinedLayer[T], None, T]:
        """Compute a projection, with an average pool first if the block has one, or return ``x``."""
        if f"{name}.1.weight" in self.shapes:
            x = yield from self._average_pool(f"{name}.0", x, stride)
            x = yield from self._convolution(f"{name}.1", x)
            return (yield from self._batch_norm(f"{name}.2", x))
        if f"{name}.0.weight" in self.shapes:
            x = yield from self._convolution(f"{name}.0", x, stride=stride, dilation=dilation)
            return (yield from self._batch_norm(f"{name}.1", x))
        return x

    def _squeeze_excite(self, name: str, x: T) -> Generator[DefinedLayer[T], None, T]:
        """Scale the channels; the shape (n, c, h, w) is unchanged."""
        weights = self._apply(operators.GLOBAL_AVERAGE, x)
        weights = self._apply(RELU, (yield from self._convolution(f"{name}.0", weights)))
        weights = self._apply(SIGMOID, (yield from self._convolution(f"{name}.2", weights)))
        return self._apply(MULTIPLY, x, weights)

    def _convolution(
        self, name: str, x: T, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> Generator[DefinedLayer[T], None, T]:
        """Compute a convolution padded to keep the size, and with a bias if the layer has one."""
        filters, _, kernel, _ = self.shapes[f"{name}.weight"]
        dilation = dilation if kernel > 1 else 1
        roles = ("weight", "bias") if f"{name}.bias" in self.shapes else ("weight",)
        settings: Settings = {
            "kernel": kernel,
            "stride": stride,
            "padding": dilation * (kernel // 2),
            "dilation": dilation,
            "groups": groups,
            "filters": filters,
            "layout": "NCHW",
        }
        return (
            yield from self._layer(
                name, x, Operation(kind=operators.CONVOLUTION, roles=roles, settings=settings)
            )
        )

    def _batch_norm(self, name: str, x: T) -> Generator[DefinedLayer[T], None, T]:
        return (yield from self._layer(name, x, BATCH_NORM))

    def _max_pool(self, name: str, x: T) -> Generator[DefinedLayer[T], None, T]:
        """Compute the stem's pool. SENet's, detected by its narrow 1×1, rounds up and is not padded."""
        first = f"{self.names.stages[0]}.0"
        widths = [self.shapes[f"{first}.{conv}.weight"][0] for conv, _ in self.names.body[:2]]
        ceil = widths[1] == 2 * widths[0]
        settings = _pool("max", kernel=3, stride=2, padding=0 if ceil else 1, ceil=ceil)
        return (yield from self._layer(name, x, Operation(kind=operators.POOLING, settings=settings)))

    def _average_pool(self, name: str, x: T, stride: int) -> Generator[DefinedLayer[T], None, T]:
        settings = _pool("avg", kernel=stride, stride=stride, padding=0, ceil=True)
        return (yield from self._layer(name, x, Operation(kind=operators.POOLING, settings=settings)))

    def _dense(self, name: str, x: T) -> Generator[DefinedLayer[T], None, T]:
        settings: Settings = {"outputs": self.shapes[f"{name}.weight"][0]}
        operation = Operation(kind=operators.DENSE, roles=("weight", "bias"), settings=settings)
        return (yield from self._layer(name, x, operation))

    def _layer(self, name: str, x: T, operation: Operation) -> Generator[DefinedLayer[T], None, T]:
        x = self.operators.apply(operation, (x,), name)
        yield DefinedLayer(name, x, operation.settings)
        return x

    def _apply(self, operation: Operation, *inputs: T) -> T:
        return self.operators.apply(operation, inputs, "")

    def _depth(self, stage: str) -> int:
        first = self.names.body[0][0]
        return next(
            index for index in itertools.count() if f"{stage}.{index}.{first}.weight" not in self.shapes
        )


def _pool(kind: str, *, kernel: int, stride: int, padding: int, ceil: bool) -> Settings:
    return {
        "global": False,
        "pool": kind,
        "layout": "NCHW",
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil,
        **({"count_include_pad": False} if kind == "avg" else {}),
    }


def _sequential(shapes: Mapping[str, Shape]) -> _Names:
    """Return the names of ResNeXt and SENet: all but the head are numbered, ReLUs included."""
    number, stem = 0, []
    while f"features.{number}.weight" in shapes:
        stem.append((f"features.{number}", f"features.{number + 1}"))
        number += 3
    pool = None
    if f"features.{number}.0.body.0.weight" not in shapes:
        pool = f"features.{number}"
        number += 1
    stages = list(
        itertools.takewhile(
            lambda stage: f"{stage}.0.body.0.weight" in shapes,
            (f"features.{index}" for index in itertools.count(number)),
        )
    )
    body = [("body.0", "body.1"), ("body.3", "body.4"), ("body.6", "body.7")]
    return _Names(
        stem=stem, pool=pool, stages=stages, body=body, mean=f"features.{number + len(stages)}", head="output"
    )


def _named(shapes: Mapping[str, Shape]) -> _Names:
    """Return the names of ResNet v1b, v1c, v1d, v1e and v1s, which are those of PyTorch."""
    deep = [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")]
    return _Names(
        stem=[("conv1", "bn1")] if "conv1.weight" in shapes else deep,
        pool="maxpool",
        stages=[f"layer{number}" for number in range(1, 5)],
        body=[("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
        mean="avgpool",
        head="fc",
    )
