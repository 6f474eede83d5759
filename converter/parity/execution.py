"""Run the module under test, from a checkpoint or from the user, with a hook on each compared layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import ParityError
from converter.formats import checkpoint, torch_file
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

# Errors that a module's forward, or torch within it, raises if it cannot continue.
FORWARD_ERRORS = (
    *(RuntimeError, ValueError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, AssertionError),
)


@dataclass(frozen=True, slots=True)
class HookedModule:
    """A module and its compared layers, by name."""

    module: nn.Module
    layers: dict[str, nn.Module]

    def run(self, probe: Probe, visit: Visit) -> str:
        """Run the module in the probe's precision and call ``visit`` with each layer's output.

        ``visit`` must not keep the output: the next layer may overwrite it.

        Returns:
            Why the module stopped, or an empty string.
        """
        import torch  # noqa: PLC0415 - takes over a second, and only a comparison needs it

        self.module.to(getattr(torch, probe.dtype))
        last_outputs: list[Tensor] = []
        *_, last = self.layers
        handles = [
            layer.register_forward_hook(_output_hook(name, visit, settings.of_layer(layer)))
            for name, layer in self.layers.items()
        ]
        # Cloned: later operations may overwrite the output.
        handles.append(
            self.layers[last].register_forward_hook(lambda _, __, output: last_outputs.append(output.clone()))
        )
        try:
            with torch.inference_mode():
                result = self.module(torch.from_numpy(probe.input()))
            # Values that are not finite are equated here: the layer's row reports them.
            # Without a head, the last layer is a pool, whose output the module flattens.
            same = last_outputs and isinstance(result, torch.Tensor)
            if not (same and torch.equal(result.nan_to_num(), last_outputs[-1].flatten(1).nan_to_num())):
                return f"the module does not return the output of its last layer, {last}"
        except FORWARD_ERRORS as error:
            return f"the module failed: {error or type(error).__name__}"
        finally:
            for handle in handles:
                handle.remove()
        return ""


def load(path: Path, config: Config) -> nn.Module:
    """Build a ResNeXt whose weights stay in a safetensors file: see ``stream``."""
    return stream(checkpoint.read(path), config)


def stream(state: Arrays, config: Config) -> nn.Module:
    """Build a ResNeXt on the meta device, each of whose layers reads its arrays when it runs.

    Raises:
        RuntimeError: if names or shapes are not those of the network.
    """
    from converter.parity import layer_weights  # noqa: PLC0415 - imports torch

    module = _empty(config)
    layer_weights.attach(module, state)
    return module


def logits(module: nn.Module, probe: Probe) -> Array:
    """Return a module's logits for a probe, or its pooled features, in the probe's precision.

    Shape:
        (1, classes), or (1, features) without a head
    """
    import torch  # noqa: PLC0415 - as in HookedModule.run

    module.eval().to(getattr(torch, probe.dtype))
    with torch.inference_mode():
        output: Array = module(torch.from_numpy(probe.input())).numpy()
    return output


def build(state: Arrays, config: Config) -> nn.Module:
    """Build a ResNeXt from a copy of these arrays.

    Raises:
        RuntimeError: as ``stream``.
    """
    module = _empty(config)
    tensors = {name: torch_file.tensor(array) for name, array in state.items()}
    module.load_state_dict(tensors, strict=True, assign=True)
    return module


def arrays(module: nn.Module) -> dict[str, Array]:
    """Return a module's state dict as arrays; bfloat16, which numpy lacks, becomes float32.

    Raises:
        ParityError: if tensors are on the meta device.
    """
    import torch  # noqa: PLC0415 - as in HookedModule.run

    state = module.state_dict()
    if empty := [name for name, tensor in state.items() if tensor.is_meta]:
        raise ParityError(
            "\n  ".join(
                ["these tensors of the module are on the meta device, without values", *names.collapse(empty)]
            )
        )
    tensors = {name: tensor.detach().cpu() for name, tensor in state.items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in tensors.items()
    }


def _empty(config: Config) -> nn.Module:
    """Build a ResNeXt without memory for its weights."""
    import torch  # noqa: PLC0415 - as in HookedModule.run

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        return ResNeXt(config)


def hook_layers(module: nn.Module, mapping: Mapping) -> HookedModule:
    """Prepare a module for comparison: switch it to inference and select the mapping's layers.

    Other authors' modules are accepted if their layers have these names. Layers without weights may be
    missing.

    Raises:
        ParityError: if layers with weights are missing.
    """
    modules = dict(module.named_modules())
    weighted = {tensor.layer.target for tensor in mapping.tensors}
    if missing := weighted - modules.keys():
        raise ParityError(
            "\n  ".join(["the module has no layers with these names", *names.collapse(sorted(missing))])
        )
    layers = {layer.target: modules[layer.target] for layer in mapping.layers if layer.target in modules}
    return HookedModule(module.eval(), layers)


def _output_hook(name: str, visit: Visit, settings: Settings) -> Any:  # noqa: ANN401 - a hook
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        visit(name, output.numpy(), settings)

    return hook
