"""The module under test: loaded from a checkpoint or the user's own, and watched layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import ParityError
from converter.formats import torch_file
from converter.networks import settings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Settings
    from converter.networks.mapping import Mapping
    from converter.parity.comparison import Visit
    from converter.references.probes import Probe
    from resnext_torch import Config

# What a module's forward, or torch within it, raises where it cannot go on.
FORWARD_ERRORS = (
    *(RuntimeError, ValueError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, AssertionError),
)


@dataclass(frozen=True, slots=True)
class HookedModule:
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
            layer.register_forward_hook(_shower(name, visit, settings.of_layer(layer)))
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
        except FORWARD_ERRORS as error:
            return f"the module stops: {error or type(error).__name__}"
        finally:
            for handle in handles:
                handle.remove()
        return ""


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
    return _build({name: torch_file.tensor(array) for name, array in state.items()}, config)


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


def hook_layers(module: nn.Module, mapping: Mapping) -> HookedModule:
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
    return HookedModule(module.eval(), layers)


def _shower(name: str, visit: Visit, settings: Settings) -> Any:  # noqa: ANN401 - a hook
    def show(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        visit(name, output.numpy(), settings)

    return show
