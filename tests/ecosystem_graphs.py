"""Graphs of networks that torchvision and timm have, too, as GluonCV builds them."""

from __future__ import annotations

from graph_building import Network

CLASSES = 7


def squeezenet() -> tuple[Network, str]:
    """Return SqueezeNet 1.1 with seven classes."""
    network = Network()
    x = _conv(network, "conv0", "data", 3, 64, kernel=3, stride=2)
    channels = 64
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in {0, 2, 4}:
            x = network.apply(
                "Pooling", f"pool{number}", x, kernel="(3, 3)", stride="(2, 2)", pooling_convention="full"
            )
        x = _conv(network, f"fire{number}_squeeze", x, channels, squeeze)
        parts = [
            _conv(network, f"fire{number}_{name}", x, squeeze, 4 * squeeze, kernel=kernel, pad=kernel // 2)
            for name, kernel in (("left", 1), ("right", 3))
        ]
        x, channels = network.apply("Concat", f"fire{number}", *parts, num_args="2"), 8 * squeeze
    x = _conv(network, "output", x, channels, CLASSES)
    x = network.apply("Pooling", "pool", x, kernel="(1, 1)", global_pool="True", pool_type="avg")
    return network, network.apply("Flatten", "flatten", x)


def mobilenet() -> tuple[Network, str]:
    """Return MobileNet 1.0 with seven classes."""
    network = Network()
    x = _with_norm(network, "conv0", "data", 3, 32, kernel=3, stride=2, pad=1)
    channels = 32
    widths = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    for number, (width, stride) in enumerate(
        zip(widths, (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), strict=True)
    ):
        x = _with_norm(
            network, f"dw{number}", x, channels, channels, kernel=3, stride=stride, pad=1, groups=channels
        )
        x, channels = _with_norm(network, f"pw{number}", x, channels, width), width
    x = network.apply("Pooling", "pool", x, kernel="(1, 1)", global_pool="True", pool_type="avg")
    return network, network.dense("output", x, channels, CLASSES)


def _conv(network: Network, name: str, source: str, inputs: int, outputs: int, **options: int) -> str:
    """Add a convolution with a bias and a ReLU."""
    network.convolution(name, source, inputs, outputs, bias=True, **options)
    return network.apply("Activation", f"{name}_relu", name, act_type="relu")


def _with_norm(network: Network, name: str, source: str, inputs: int, outputs: int, **options: int) -> str:
    """Add a convolution, a BatchNorm and a ReLU."""
    network.convolution(name, source, inputs, outputs, bias=False, **options)
    x = network.norm(f"{name}_bn", name, outputs, fix_gamma="False", eps="1e-05")
    return network.apply("Activation", f"{name}_relu", x, act_type="relu")
