"""The module under test: loaded from a checkpoint or the user's own, and watched layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import names
from converter.dtypes import BFLOAT16
from converter.errors import ParityError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.dtypes import Array
    from converter.files.stored import AnyArray, Arrays
    from converter.models.catalog import Model
    from converter.models.mapping import Mapping
    from converter.proof.parity import Visit
    from converter.proof.verdict import Probe
    from converter.reference import Settings
    from resnext_torch import Config

# What torch calls the hyper-parameters that decide a layer's output at inference, and what we call them.
SETTINGS = {
    "kernel_size": "kernel",
    "stride": "stride",
    "padding": "padding",
    "dilation": "dilation",
    "groups": "groups",
    "eps": "eps",
    "ceil_mode": "ceil_mode",
}
# What a module's forward, or torch within it, raises where it cannot go on.
STOPS = (
    *(RuntimeError, ValueError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, AssertionError),
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A module and those of its layers that are compared, by their names."""

    module: nn.Module
    layers: dict[str, nn.Module]

    def run(self, probe: Probe, visit: Visit) -> str:
        """Send a probe through it, in the probe's precision, and show each layer to ``visit``.

        The output must not be kept: the next layer may write over it. Return the error it stopped with.
        """
        import torch  # noqa: PLC0415 - takes more than a second, and only a proof needs it

        self.module.to("cpu", getattr(torch, probe.dtype))
        shown: list[Tensor] = []  # the last layer's
        *_, last = self.layers
        handles = [
            layer.register_forward_hook(_shower(name, visit, _settings(layer)))
            for name, layer in self.layers.items()
        ]
        # A copy: what follows may write over the output.
        handles.append(
            self.layers[last].register_forward_hook(lambda _, __, output: shown.append(output.clone()))
        )
        try:
            with torch.inference_mode():
                returned = self.module(torch.from_numpy(probe.input()))
            # Where one of them is not finite, that layer's row says so.
            same = shown and isinstance(returned, torch.Tensor)
            if not (same and torch.equal(returned.nan_to_num(), shown[-1].nan_to_num())):
                return f"the module returns something else than its last layer, {last}, gives"
        except STOPS as error:
            return f"the module stops: {error or type(error).__name__}"
        finally:
            for handle in handles:
                handle.remove()
        return ""


def hyper_parameters(model: Model) -> dict[str, Settings]:
    """Return how every layer of our module is set, by its name: whatever MXNet's graph says of one too."""
    import torch  # noqa: PLC0415 - as in Watched.run

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        module = ResNeXt(model.config)
    return {layer.target: _set(module.get_submodule(layer.target)) for layer in model.mapping.layers}


def load(path: Path, config: Config) -> nn.Module:
    """Build our module with the tensors of a safetensors file, loaded strictly."""
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch

    return _build(load_file(path), config)


def logits(module: nn.Module, probe: Probe) -> Array:
    """Return what a module gives for a probe, in the probe's precision: (1, classes)."""
    import torch  # noqa: PLC0415 - as in Watched.run

    module.eval().to("cpu", getattr(torch, probe.dtype))
    with torch.inference_mode():
        found: Array = module(torch.from_numpy(probe.input())).numpy()
    return found


def build(state: Arrays, config: Config) -> nn.Module:
    """Build our module with a copy of these arrays."""
    return _build({name: tensor(array) for name, array in state.items()}, config)


def arrays(module: nn.Module) -> dict[str, Array]:
    """Return a module's state; what numpy has no type for, in float32."""
    import torch  # noqa: PLC0415 - as in Watched.run

    state = module.state_dict()
    if empty := [name for name, tensor in state.items() if tensor.is_meta]:
        raise ParityError("\n  ".join(["the module has no weights yet", *names.collapse(empty)]))
    tensors = {name: tensor.detach().cpu() for name, tensor in state.items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in tensors.items()
    }


def _build(state: dict[str, Tensor], config: Config) -> nn.Module:
    """Build our module around tensors, which are not copied."""
    import torch  # noqa: PLC0415 - as in Watched.run

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        module = ResNeXt(config)
    module.load_state_dict(state, strict=True, assign=True)
    return module


def watch(module: nn.Module, mapping: Mapping) -> Watched:
    """Prepare a module for being compared: for inference, on the layers that the mapping names.

    It may be another author's, if its layers have these names; it may lack those without weights.
    Errors: ``ParityError`` with the layers that it lacks.
    """
    found = dict(module.named_modules())
    weighted = {tensor.layer.target for tensor in mapping.tensors}
    if missing := weighted - found.keys():
        raise ParityError(
            "\n  ".join(["the module has no layer of these names", *names.collapse(sorted(missing))])
        )
    layers = {layer.target: found[layer.target] for layer in mapping.layers if layer.target in found}
    return Watched(module.eval(), layers)


def tensor(array: AnyArray) -> Tensor:
    """Return a copy of an array."""
    import torch  # noqa: PLC0415 - as in Watched.run

    numbers = np.array(array)
    if numbers.dtype == BFLOAT16:  # which torch does not know from numpy
        return torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(numbers)


def _shower(name: str, visit: Visit, settings: Settings) -> Any:  # noqa: ANN401 - a hook
    def show(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        visit(name, output.numpy(), settings)

    return show


def _settings(layer: nn.Module) -> Settings:
    found = {ours: getattr(layer, theirs) for theirs, ours in SETTINGS.items() if hasattr(layer, theirs)}
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


def _set(layer: nn.Module) -> Settings:
    """Return how a layer is set, in MXNet's terms: its momentum is what is kept, not what is taken."""
    from torch import nn  # noqa: PLC0415 - as in Watched.run

    found = _settings(layer)
    if isinstance(layer, nn.BatchNorm2d):
        return {**found, "momentum": 1 - (layer.momentum or 0.0)}
    if isinstance(layer, nn.MaxPool2d):
        return {**found, "global": False, "pool": "max"}
    if isinstance(layer, nn.AvgPool2d):
        return {**found, "global": False, "pool": "avg", "count_include_pad": layer.count_include_pad}
    return {"global": True, "pool": "avg"} if isinstance(layer, nn.AdaptiveAvgPool2d) else found
